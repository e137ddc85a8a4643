//! User code that panics.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures::StreamExt;
use headwater_core::{
    BatchBuilder, DefaultSerde, ErrorKind, Headers, Log, Partition, ProducerName, Record, Result, Timestamp,
    TopicName, TopicPartition, TopicSpec,
    memory::{MemoryBackend, MemoryLog},
};
use headwater_streams::{
    Consumed, Emit, ErrorPolicy, KeyValueHandle, Metrics, Processor, ProcessorContext, Punctuate,
    Punctuation, Settings, Streams, StreamsBuilder, StreamsState, TimeWindows, Topology,
    testing::TopologyTestDriver,
};

type Context<'a> = ProcessorContext<'a, String, u64>;

/// Stores and forwards the number of records so far, and panics at a record of 13, when all that is done.
struct Superstitious(KeyValueHandle<String, u64>);

impl Processor<String, u64, String, u64> for Superstitious {
    fn process(&mut self, record: Record<String, u64>, cx: &mut Context<'_>) -> Result<()> {
        let bad = record.value == 13;
        let count = cx.store(&self.0).update(&record.key, record.timestamp, |count| {
            *count = Some(count.unwrap_or(0) + 1);
            count.unwrap_or(0)
        })?;
        cx.forward(record.with_value(count))?;
        assert!(!bad, "thirteen");
        Ok(())
    }
}

fn superstitious() -> Topology {
    let builder = StreamsBuilder::new();
    let store = builder.key_value_store::<String, u64>("counts");
    let handle = store.clone();
    let input = builder.stream::<String, u64>("in");
    // Behind a merge a processor is shared: it must be there after it panicked.
    input
        .filter(|_, n| n % 2 == 0)
        .merge(&input.filter(|_, n| n % 2 == 1))
        .process::<String, u64, _>(&[&store], move || Superstitious(handle.clone()))
        .to("out");
    builder.build().unwrap()
}

fn driver(on_error: ErrorPolicy, turn_records_max: usize) -> TopologyTestDriver {
    let settings = Settings { on_error, turn_records_max, ..Settings::new("app") };
    let mut driver = TopologyTestDriver::with(superstitious(), settings, 1).unwrap();
    for (at, value) in (0..).zip([1u64, 13, 2, 13, 13, 3]) {
        driver.append("in", &"k".to_owned(), &value, Timestamp(at)).unwrap();
    }
    driver
}

fn values(driver: &mut TopologyTestDriver) -> Vec<(u64, i64)> {
    driver.read::<String, u64>("out").unwrap().into_iter().map(|r| (r.value, r.timestamp.0)).collect()
}

#[test]
fn a_record_that_panics_leaves_nothing_behind_and_the_task_goes_on() {
    for turn_records_max in [1, 2, 100] {
        let mut driver = driver(ErrorPolicy::Skip, turn_records_max);
        driver.run().unwrap();
        assert_eq!(values(&mut driver), [(1, 0), (2, 2), (3, 5)]);
        let counted = driver.metrics().total();
        assert_eq!((counted.records, counted.skipped), (6, 3));
        driver.crash().unwrap();
        driver.pipe("in", &"k".to_owned(), &4u64, Timestamp(9)).unwrap();
        assert_eq!(values(&mut driver), [(4, 9)]);
    }
}

#[test]
fn a_record_that_panics_becomes_a_dead_letter() {
    let mut driver = driver(ErrorPolicy::DeadLetter("letters".into()), 100);
    driver.run().unwrap();
    assert_eq!(values(&mut driver), [(1, 0), (2, 2), (3, 5)]);
    let letters = driver.read::<String, u64>("letters").unwrap();
    assert_eq!(letters.iter().map(|letter| letter.value).collect::<Vec<_>>(), [13, 13, 13]);
    let message = letters[0].headers.last("__streams.errors.message").unwrap();
    assert_eq!(message, b"a processor panicked: thirteen");
    assert_eq!(driver.metrics().total().dead_letters, 3);
}

#[test]
fn under_the_policy_fail_a_record_that_panics_stops_the_application_and_is_named() {
    let mut driver = driver(ErrorPolicy::Fail, 100);
    let error = driver.run().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Processing);
    assert_eq!(error.to_string(), "task=0_0, topic=in-0, offset=1: a processor panicked: thirteen");
}

/// Panics in its first punctuations by stream time.
struct Nervous(u32);

impl Processor<String, u64, String, u64> for Nervous {
    fn init(&mut self, cx: &mut Context<'_>) -> Result<()> {
        cx.schedule(Duration::from_millis(10), Punctuate::StreamTime).map(drop)
    }

    fn process(&mut self, _: Record<String, u64>, _: &mut Context<'_>) -> Result<()> {
        Ok(())
    }

    fn punctuate(&mut self, _: Punctuation, time: Timestamp, cx: &mut Context<'_>) -> Result<()> {
        self.0 += 1;
        cx.forward(Record::new("tick".to_owned(), 0, time))?;
        assert!(self.0 > 2, "too early");
        Ok(())
    }
}

#[test]
fn a_punctuation_that_panics_is_left_out() {
    let builder = StreamsBuilder::new();
    builder.stream::<String, u64>("in").process::<String, u64, _>(&[], || Nervous(0)).to("out");
    let settings = Settings { on_error: ErrorPolicy::Skip, ..Settings::new("app") };
    let mut driver = TopologyTestDriver::with(builder.build().unwrap(), settings, 1).unwrap();
    for at in [0, 10, 20, 30] {
        driver.append("in", &"k".to_owned(), &1u64, Timestamp(at)).unwrap();
    }
    driver.run().unwrap();
    assert_eq!(values(&mut driver), [(0, 20), (0, 30)]);
    assert_eq!(driver.metrics().total().skipped, 2);
}

/// Panics where no record can be left out, as often as it is told to.
struct Fragile(Arc<AtomicU32>);

impl Processor<String, u64, String, u64> for Fragile {
    fn process(&mut self, record: Record<String, u64>, cx: &mut Context<'_>) -> Result<()> {
        cx.forward(record)
    }

    fn flush(&mut self, _: &mut Context<'_>) -> Result<()> {
        let more = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        assert!(more.is_err(), "fragile");
        Ok(())
    }
}

/// Runs over a hundred records with so many panics between records; the states it was in.
async fn run_fragile(panics: u32, on_error: ErrorPolicy) -> (Result<Metrics>, Vec<StreamsState>, u64) {
    let log = MemoryLog::default();
    log.create_topic(&TopicSpec::new("in", 1).unwrap()).await.unwrap();
    let mut producer = log.producer(&ProducerName("test".into())).await.unwrap();
    let mut batch = BatchBuilder::default();
    for n in 0..100u64 {
        batch.push(Timestamp(n.cast_signed()), Some(b"k"), Some(&n.to_be_bytes()), &Headers::new());
    }
    let partition = |name| TopicPartition::new(TopicName::new(name).unwrap(), Partition(0));
    producer.append(&partition("in"), &mut batch).unwrap();
    producer.commit(None).await.unwrap();
    let left = Arc::new(AtomicU32::new(panics));
    let builder = StreamsBuilder::new();
    let supplier = move || Fragile(Arc::clone(&left));
    builder.stream::<String, u64>("in").process::<String, u64, _>(&[], supplier).to("out");
    let settings =
        Settings { on_error, turn_records_max: 7, restart_backoff: Duration::ZERO, ..Settings::new("app") };
    let (shared, state) = (Arc::new(log.clone()), Arc::new(MemoryBackend::default()));
    let streams = Streams::start(builder.build().unwrap(), settings, shared, state).await.unwrap();
    let states = streams.states();
    // An error is told by `close`, too.
    let _ = streams.caught_up().await;
    let outcome = streams.close().await;
    let written = log.offsets(&partition("out")).await.unwrap().end.0;
    (outcome, states.collect().await, written)
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

#[test]
fn a_worker_that_panics_between_records_is_replaced_and_nothing_counts_twice() {
    let (outcome, states, written) = block_on(run_fragile(5, ErrorPolicy::Skip));
    let metrics = outcome.unwrap();
    assert_eq!((written, metrics.total().records, metrics.replaced_workers), (100, 100, 5));
    use StreamsState::{Closed, Closing, Running};
    assert!(states.ends_with(&[Running, Closing, Closed]), "{states:?}");
}

#[test]
fn a_worker_that_panics_again_and_again_stops_the_application() {
    let (outcome, states, _) = block_on(run_fragile(6, ErrorPolicy::Skip));
    let error = outcome.unwrap_err();
    assert!(error.to_string().contains("fragile"), "{error}");
    assert_eq!(states.last(), Some(&StreamsState::Failed));
}

#[test]
fn under_the_policy_fail_the_first_panic_stops_the_application() {
    let (outcome, states, written) = block_on(run_fragile(1, ErrorPolicy::Fail));
    assert!(outcome.unwrap_err().to_string().contains("fragile"));
    assert_eq!((states.last(), written), (Some(&StreamsState::Failed), 0));
}

/// What panics at a row that a closed window sends is that row's error.
#[test]
fn a_panic_behind_a_closed_window_is_left_out() {
    let builder = StreamsBuilder::new();
    builder
        .stream::<String, u64>("in")
        .group_by_key()
        .windowed_by(TimeWindows::tumbling(Duration::from_millis(10)))
        .emit(Emit::OnClose)
        .reduce("sums", |a, b| a + b)
        .to_stream()
        .map(|at, n| {
            assert_ne!(n, 13, "thirteen");
            (at.key, n)
        })
        .to("out");
    let mut driver = TopologyTestDriver::with(builder.build().unwrap(), skipping(), 1).unwrap();
    driver.append("in", &"k".to_owned(), &13u64, Timestamp(0)).unwrap();
    driver.append("in", &"k".to_owned(), &1u64, Timestamp(10)).unwrap();
    driver.append("in", &"k".to_owned(), &1u64, Timestamp(20)).unwrap();
    driver.run().unwrap();
    assert_eq!(driver.read::<String, u64>("out").unwrap().len(), 1);
}

/// What panics while it looks for a timestamp has found none.
#[test]
fn a_panic_of_a_timestamp_extractor_is_left_out() {
    let builder = StreamsBuilder::new();
    let consumed = Consumed::with(String::default_serde(), u64::default_serde()).timestamps(|record, _| {
        assert_ne!(record.value, 13, "thirteen");
        Some(record.timestamp)
    });
    builder.stream_with("in", consumed).to("out");
    let mut driver = TopologyTestDriver::with(builder.build().unwrap(), skipping(), 1).unwrap();
    for (at, n) in [(0, 1u64), (1, 13), (2, 2)] {
        driver.append("in", &"k".to_owned(), &n, Timestamp(at)).unwrap();
    }
    driver.run().unwrap();
    assert_eq!(driver.read::<String, u64>("out").unwrap().len(), 2);
}

fn skipping() -> Settings {
    Settings { on_error: ErrorPolicy::Skip, ..Settings::new("skips") }
}
