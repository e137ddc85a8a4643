//! `map_async`: calls that take their time, fail, panic, and are open when the process ends.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    task::Poll,
    time::Duration,
};

use headwater_core::{
    BatchBuilder, Error, ErrorKind, Headers, Log, Partition, ProducerName, Result, Signal, Timestamp,
    TopicName, TopicPartition, TopicSpec,
    memory::{MemoryBackend, MemoryLog},
};
use headwater_streams::{
    Concurrency, Emit, ErrorPolicy, Settings, Streams, StreamsBuilder, TimeWindows, Topology,
    testing::TopologyTestDriver,
};

/// Not ready the first `turns` times that it is asked.
async fn after(turns: u64) {
    let mut left = turns;
    std::future::poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(());
        }
        left -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// How many calls are open, and how many were at most.
#[derive(Default)]
struct Open {
    now: AtomicUsize,
    most: AtomicUsize,
}

/// Doubles a number, the lower ones taking longer; 13 fails, 14 panics.
fn doubled(concurrency: Concurrency, open: &Arc<Open>) -> Topology {
    let (builder, open) = (StreamsBuilder::new(), Arc::clone(open));
    let call = move |_: String, n: u64| {
        let open = Arc::clone(&open);
        async move {
            let now = open.now.fetch_add(1, SeqCst) + 1;
            open.most.fetch_max(now, SeqCst);
            after(20u64.saturating_sub(n)).await;
            open.now.fetch_sub(1, SeqCst);
            assert_ne!(n, 14, "fourteen");
            if n == 13 { Err(Error::processing("thirteen")) } else { Ok(n * 2) }
        }
    };
    builder.stream::<String, u64>("in").map_async("doubled", concurrency, call).to("out");
    builder.build().unwrap()
}

fn append(driver: &mut TopologyTestDriver, numbers: impl IntoIterator<Item = u64>) {
    for n in numbers {
        driver.append("in", &format!("key-{}", n % 5), &n, Timestamp(n.try_into().unwrap())).unwrap();
    }
}

fn out(driver: &mut TopologyTestDriver) -> Vec<u64> {
    driver.read::<String, u64>("out").unwrap().into_iter().map(|r| r.value).collect()
}

#[test]
fn results_come_in_order_or_as_they_come_and_never_too_many_at_a_time() {
    for concurrency in [Concurrency::ordered(4), Concurrency::unordered(4), Concurrency::ordered(1)] {
        let open = Arc::<Open>::default();
        let mut driver = TopologyTestDriver::new(doubled(concurrency, &open)).unwrap();
        append(&mut driver, 0..12);
        driver.run().unwrap();
        let in_order: Vec<u64> = (0..12).map(|n| n * 2).collect();
        let mut seen = out(&mut driver);
        if concurrency == Concurrency::unordered(4) {
            assert_ne!(seen, in_order, "the lower numbers take longer");
            seen.sort_unstable();
        }
        assert_eq!(seen, in_order);
        let most = if concurrency == Concurrency::ordered(1) { 1 } else { 4 };
        assert_eq!(open.most.load(SeqCst), most, "{concurrency:?}");
    }
}

/// What was not committed is asked for again; what was committed is there once.
#[test]
fn each_record_counts_once_however_often_the_process_ends() {
    let mut driver = {
        let settings = Settings { turn_records_max: 5, ..Settings::new("calls") };
        TopologyTestDriver::with(doubled(Concurrency::ordered(3), &Arc::default()), settings, 2).unwrap()
    };
    append(&mut driver, (0..40).filter(|n| ![13, 14].contains(n)));
    for turns in 0..25 {
        for _ in 0..turns % 4 {
            driver.turn().unwrap();
        }
        driver.crash().unwrap();
    }
    driver.run().unwrap();
    let mut per_key = BTreeMap::<String, Vec<u64>>::new();
    for record in driver.read::<String, u64>("out").unwrap() {
        per_key.entry(record.key).or_default().push(record.value / 2);
    }
    let expected = |key: u64| (0..40).filter(|n| n % 5 == key && ![13, 14].contains(n)).collect::<Vec<_>>();
    assert_eq!(per_key, (0..5).map(|key| (format!("key-{key}"), expected(key))).collect());
}

/// Results, dead letters with the reason, and how many records were left out.
type Outcome = (Vec<u64>, Vec<(String, u64)>, u64);

#[test]
fn a_call_that_fails_or_panics_is_an_error_of_its_record() {
    let run = |on_error: ErrorPolicy| -> Result<Outcome> {
        let settings = Settings { on_error: on_error.clone(), ..Settings::new("failing") };
        let topology = doubled(Concurrency::ordered(8), &Arc::default());
        let mut driver = TopologyTestDriver::with(topology, settings, 1)?;
        append(&mut driver, 11..17);
        driver.run()?;
        let letters = match on_error {
            ErrorPolicy::DeadLetter(topic) => driver.read::<String, u64>(&topic)?,
            ErrorPolicy::Skip | ErrorPolicy::Fail => Vec::new(),
        };
        let why = |r: &headwater_core::Record<String, u64>| {
            let why = r.headers.last("__streams.errors.message").unwrap_or_default();
            (String::from_utf8_lossy(why).into_owned(), r.value)
        };
        let total = driver.metrics().total();
        Ok((out(&mut driver), letters.iter().map(why).collect(), total.skipped + total.dead_letters))
    };
    let (results, _, skipped) = run(ErrorPolicy::Skip).unwrap();
    assert_eq!((results, skipped), (vec![22, 24, 30, 32], 2));
    let (results, letters, count) = run(ErrorPolicy::DeadLetter("letters".to_owned())).unwrap();
    assert_eq!((results, count), (vec![22, 24, 30, 32], 2));
    assert!(letters[0].0.contains("thirteen") && letters[0].1 == 13, "{letters:?}");
    assert!(letters[1].0.contains("panicked") && letters[1].1 == 14, "{letters:?}");
    let error = run(ErrorPolicy::Fail).unwrap_err().report();
    assert!(error.contains("thirteen") && error.contains("task=0_0"), "{error}");
}

#[test]
fn at_least_one_call_at_a_time() {
    let builder = StreamsBuilder::new();
    let stream = builder.stream::<String, u64>("in");
    stream.map_async("none", Concurrency::ordered(0), |_, n| async move { Ok(n) }).to("out");
    assert!(builder.build().unwrap_err().to_string().contains("at least one call"));
}

/// They begin while the commit that must carry their results is made.
#[test]
fn results_of_calls_that_were_begun_before_a_commit_are_committed() {
    let builder = StreamsBuilder::new();
    builder
        .stream::<String, u64>("in")
        .group_by_key()
        .windowed_by(TimeWindows::tumbling(Duration::from_millis(10)))
        .emit(Emit::OnCommit)
        .count("counts")
        .to_stream()
        .map(|at, n| (at.key, n))
        .map_async("asked", Concurrency::ordered(4), |_, n| async move {
            after(3).await;
            Ok(n)
        })
        .to("out");
    let mut driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    append(&mut driver, [0]);
    driver.close_and_reopen().unwrap();
    driver.run().unwrap();
    append(&mut driver, [5]);
    driver.run().unwrap();
    driver.crash().unwrap();
    driver.run().unwrap();
    assert_eq!(out(&mut driver), [1, 2]);
}

/// Every record becomes a hundred, and each of these a call.
#[test]
fn never_more_calls_at_a_time_than_was_said_however_many_a_record_begins() {
    for concurrency in [Concurrency::ordered(2), Concurrency::unordered(2)] {
        let open = Arc::<Open>::default();
        let (builder, counted) = (StreamsBuilder::new(), Arc::clone(&open));
        builder
            .stream::<String, u64>("in")
            .flat_map_values(|_, n| 0..n)
            .map_async("asked", concurrency, move |_, n| {
                let open = Arc::clone(&counted);
                async move {
                    open.most.fetch_max(open.now.fetch_add(1, SeqCst) + 1, SeqCst);
                    after(1).await;
                    open.now.fetch_sub(1, SeqCst);
                    Ok(n)
                }
            })
            .to("out");
        let mut driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
        driver.pipe("in", &"k".to_owned(), &100u64, Timestamp(0)).unwrap();
        assert_eq!((out(&mut driver).len(), open.most.load(SeqCst)), (100, 2), "{concurrency:?}");
    }
}

/// Each ends when it is told to.
#[derive(Default)]
struct Told {
    begun: AtomicU64,
    may_end: Signal,
}

impl Told {
    /// The call of `n` ends when the signal was raised `n` times.
    async fn call(self: Arc<Self>, n: u64) -> Result<u64> {
        self.begun.fetch_add(1, SeqCst);
        self.may_end.after(n.saturating_sub(1)).await;
        Ok(n)
    }
}

/// Calls from `slow` to `slow-out`, and beside it a topology that has nothing to do with it, from `quick` to `quick-out`.
fn slow_and_quick(told: &Arc<Told>, at_quick: impl Fn() + Send + Sync + 'static) -> Topology {
    let (builder, told) = (StreamsBuilder::new(), Arc::clone(told));
    let call = move |_: String, n| Arc::clone(&told).call(n);
    builder.stream::<String, u64>("slow").map_async("asked", Concurrency::unordered(8), call).to("slow-out");
    builder.stream::<String, u64>("quick").peek(move |_, _| at_quick()).to("quick-out");
    builder.build().unwrap()
}

/// A commit is due all the time.
fn hasty() -> Settings {
    Settings { commit_interval: Duration::ZERO, ..Settings::new("hasty") }
}

fn values(driver: &mut TopologyTestDriver, topic: &str) -> Vec<u64> {
    driver.read::<String, u64>(topic).unwrap().into_iter().map(|r| r.value).collect()
}

#[test]
fn an_open_call_holds_nobody_else_up() {
    let told = Arc::<Told>::default();
    let mut driver = TopologyTestDriver::with(slow_and_quick(&told, || {}), hasty(), 1).unwrap();
    driver.append("slow", &"k".to_owned(), &1u64, Timestamp(0)).unwrap();
    for n in 1..=3u64 {
        driver.append("quick", &"k".to_owned(), &n, Timestamp(1)).unwrap();
        driver.turn().unwrap();
        assert_eq!(values(&mut driver, "quick-out"), [n], "committed beside a call");
    }
    assert_eq!((told.begun.load(SeqCst), values(&mut driver, "slow-out")), (1, vec![]));
    told.may_end.raise();
    driver.run().unwrap();
    assert_eq!(values(&mut driver, "slow-out"), [1]);
}

#[test]
fn a_call_may_wait_for_another_task_of_its_worker() {
    let told = Arc::<Told>::default();
    let free = Arc::clone(&told);
    let topology = slow_and_quick(&told, move || {
        free.may_end.raise();
    });
    let mut driver = TopologyTestDriver::with(topology, hasty(), 1).unwrap();
    driver.append("slow", &"k".to_owned(), &1u64, Timestamp(0)).unwrap();
    driver.turn().unwrap();
    assert_eq!(told.begun.load(SeqCst), 1);
    driver.append("quick", &"k".to_owned(), &1u64, Timestamp(0)).unwrap();
    driver.run().unwrap();
    assert_eq!(values(&mut driver, "slow-out"), [1]);
}

/// Records come one by one, and a commit is due at each; their calls are open together all the same, until the first is over:
/// then the others are waited for, and committed with it.
#[test]
fn records_that_come_slowly_do_not_wait_for_each_others_calls() {
    let told = Arc::<Told>::default();
    let mut driver = TopologyTestDriver::with(slow_and_quick(&told, || {}), hasty(), 1).unwrap();
    let one_more = |driver: &mut TopologyTestDriver, n: u64| {
        driver.append("slow", &"k".to_owned(), &n, Timestamp(0)).unwrap();
        driver.turn().unwrap();
        told.begun.load(SeqCst)
    };
    assert_eq!([1, 2, 3].map(|n| one_more(&mut driver, n)), [1, 2, 3]);
    told.may_end.raise();
    driver.turn().unwrap();
    assert_eq!(one_more(&mut driver, 4), 3, "first a commit");
    assert!(values(&mut driver, "slow-out").is_empty());
    told.may_end.raise();
    told.may_end.raise();
    for _ in 0..4 {
        driver.turn().unwrap();
    }
    assert_eq!((values(&mut driver, "slow-out"), told.begun.load(SeqCst)), (vec![1, 2, 3], 4));
}

/// Runs calls that say `answer` under `on_error`: what comes out, and the dead letters.
fn answered<F: Future<Output = Result<String>> + Send + 'static>(
    on_error: ErrorPolicy,
    answer: impl Fn(u64) -> F + Send + Sync + 'static,
) -> Result<(usize, Vec<headwater_core::Record<String, u64>>)> {
    let builder = StreamsBuilder::new();
    builder
        .stream::<String, u64>("in")
        .map_async("asked", Concurrency::ordered(2), move |_, n| answer(n))
        .to("out");
    let settings = Settings { on_error, ..Settings::new("answered") };
    let mut driver = TopologyTestDriver::with(builder.build()?, settings, 1)?;
    append(&mut driver, [0, 1]);
    driver.run()?;
    let total = driver.metrics().total();
    assert_eq!(total.skipped + total.dead_letters, 1);
    let letters = if total.skipped > 0 { Vec::new() } else { driver.read("letters")? };
    Ok((driver.read::<String, String>("out")?.len(), letters))
}

#[test]
fn an_answer_that_is_too_large_is_an_error_of_its_record() {
    let large_at_0 = |n| async move { Ok("x".repeat(if n == 0 { 2 << 20 } else { 1 })) };
    assert_eq!(answered(ErrorPolicy::Skip, large_at_0).unwrap().0, 1);
    let (results, letters) = answered(ErrorPolicy::DeadLetter("letters".to_owned()), large_at_0).unwrap();
    assert_eq!((results, letters.len(), letters[0].value), (1, 1, 0));
    assert!(letters[0].headers.last("__streams.errors.offset") == Some(b"0"));
    let error = answered(ErrorPolicy::Fail, large_at_0).unwrap_err().report();
    assert!(error.contains("too large"), "{error}");
}

#[test]
fn an_error_of_any_kind_is_one_of_the_record() {
    use ErrorKind::{Closed, Corrupt, Fenced, Full, Invalid, Processing, Unavailable};
    for kind in [Closed, Corrupt, Fenced, Full, Invalid, Processing, Unavailable] {
        let fails_at_0 = move |n| async move {
            if n == 0 { Err(Error::new(kind, "connection refused")) } else { Ok(String::new()) }
        };
        assert_eq!(answered(ErrorPolicy::Skip, fails_at_0).unwrap().0, 1, "{kind:?}");
        let error = answered(ErrorPolicy::Fail, fails_at_0).unwrap_err();
        assert_eq!(error.kind(), Processing);
        assert!(error.report().contains("connection refused"), "{}", error.report());
    }
}

// What follows needs workers.

async fn start_with_an_open_call(log: &MemoryLog, told: &Arc<Told>) -> Streams {
    for topic in ["slow", "quick"] {
        log.create_topic(&TopicSpec::new(topic, 1).unwrap()).await.unwrap();
    }
    let mut producer = log.producer(&ProducerName("input".into())).await.unwrap();
    let mut batch = BatchBuilder::default();
    batch.push(Timestamp(0), Some(b"k"), Some(&1u64.to_be_bytes()), &Headers::new());
    let slow = TopicPartition::new(TopicName::new("slow").unwrap(), Partition(0));
    producer.append(&slow, &mut batch).unwrap();
    producer.commit(None).await.unwrap();
    let (shared, state) = (Arc::new(log.clone()), Arc::new(MemoryBackend::default()));
    let streams =
        Streams::start(slow_and_quick(told, || {}), Settings::new("app"), shared, state).await.unwrap();
    while told.begun.load(SeqCst) == 0 {
        std::thread::yield_now();
    }
    streams
}

/// Runs `test` on a thread and a runtime of its own; whether it ended without that a call was told to end.
fn ends<F: Future<Output = ()>>(
    test: impl FnOnce(MemoryLog, Streams, Arc<Told>) -> F + Send + 'static,
) -> bool {
    let (told, (ended, wait)) = (Arc::<Told>::default(), mpsc::sync_channel(1));
    let free = Arc::clone(&told);
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let log = MemoryLog::default();
            let streams = start_with_an_open_call(&log, &told).await;
            test(log, streams, told).await;
        });
        ended.send(()).unwrap();
    });
    let by_itself = wait.recv_timeout(Duration::from_secs(10)).is_ok();
    free.may_end.raise();
    thread.join().unwrap();
    by_itself
}

#[test]
fn a_dropped_application_waits_for_no_call() {
    assert!(ends(|_, streams, _| async move { drop(streams) }));
}

#[test]
fn a_close_that_is_not_waited_for_waits_for_no_call() {
    assert!(ends(|_, streams, _| async move {
        let close = streams.close();
        let turns = async { tokio::task::yield_now().await };
        futures::future::select(std::pin::pin!(close), std::pin::pin!(turns)).await;
    }));
}

/// Whoever answers the call, a client's connection say, lives on the runtime of `main`.
#[test]
fn close_waits_for_calls_without_holding_the_runtime() {
    assert!(ends(|log, streams, told| async move {
        tokio::spawn(async move {
            tokio::task::yield_now().await;
            told.may_end.raise();
        });
        streams.close().await.unwrap();
        let asked = TopicPartition::new(TopicName::new("app-asked-repartition").unwrap(), Partition(0));
        assert_eq!(log.offsets(&asked).await.unwrap().end.0, 1, "what came of the call is committed");
    }));
}
