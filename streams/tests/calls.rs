//! `map_async`: calls that take their time, fail, panic, and are open when the process ends.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::Poll,
};

use headwater_core::{Error, Result, Timestamp};
use headwater_streams::{
    Concurrency, ErrorPolicy, Settings, StreamsBuilder, Topology, testing::TopologyTestDriver,
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
