//! What an application tells of itself while it runs, and how it ends.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{sync::Arc, time::Duration};

use headwater_core::{
    BatchBuilder, ErrorKind, Headers, Log, Partition, ProducerName, Timestamp, TopicName, TopicPartition,
    TopicSpec,
    memory::{MemoryBackend, MemoryLog},
};
use headwater_streams::{
    Emit, Settings, Streams, StreamsBuilder, TimeWindows, Topology, testing::TopologyTestDriver,
};

fn counting() -> Topology {
    let builder = StreamsBuilder::new();
    builder
        .stream::<String, u64>("in")
        .group_by_key()
        .windowed_by(TimeWindows::tumbling(Duration::from_millis(10)))
        .aggregate("counts", u64::default, |_, _, count| *count += 1)
        .to_stream()
        .select_key(|at, _| at.key.clone())
        .to("out");
    builder.build().unwrap()
}

fn input() -> TopicPartition {
    TopicPartition::new(TopicName::new("in").unwrap(), Partition(0))
}

#[test]
fn metrics_say_how_far_behind_how_late_and_how_large_it_is() {
    let settings = Settings { turn_records_max: 3, commit_interval: Duration::MAX, ..Settings::new("app") };
    let mut driver = TopologyTestDriver::with(counting(), settings, 1).unwrap();
    driver.advance_clock(Duration::from_millis(100)).unwrap();
    for at in 0..10 {
        driver.append("in", &at.to_string(), &1u64, Timestamp(4 * at)).unwrap();
    }
    driver.turn().unwrap();
    assert_eq!(driver.metrics().lags[&input()], 7);
    assert!(driver.metrics().latency_millis.is_empty(), "nothing is committed");
    driver.run().unwrap();
    let metrics = driver.metrics();
    assert_eq!(metrics.lags[&input()], 0);
    // Committed at 100, and the newest record is of 36.
    assert_eq!((metrics.latency_millis.len(), metrics.latency_millis.max()), (1, 64));
    assert!(metrics.total().state_bytes > 0);
    driver.crash().unwrap();
    let total = driver.metrics().total();
    assert_eq!((total.restored, total.to_restore, total.records), (10, 0, 0));
    assert!(total.opening > Duration::ZERO);
}

#[test]
fn a_commit_comes_after_so_many_records_whatever_the_turns_and_the_clock() {
    for turn_records_max in [1, 2, 3, 100] {
        let builder = StreamsBuilder::new();
        builder
            .stream::<String, u64>("in")
            .group_by_key()
            .windowed_by(TimeWindows::tumbling(Duration::from_secs(60)))
            .emit(Emit::OnCommit)
            .aggregate("counts", u64::default, |_, _, count| *count += 1)
            .to_stream()
            .select_key(|at, _| at.key.clone())
            .to("out");
        let settings = Settings {
            turn_records_max,
            commit_records_max: 3,
            commit_interval: Duration::MAX,
            ..Settings::new("app")
        };
        let mut driver = TopologyTestDriver::with(builder.build().unwrap(), settings, 1).unwrap();
        for at in 0..10 {
            driver.append("in", &"k".to_owned(), &1u64, Timestamp(at)).unwrap();
        }
        driver.run().unwrap();
        let counts: Vec<u64> =
            driver.read::<String, u64>("out").unwrap().into_iter().map(|record| record.value).collect();
        assert_eq!(counts, [3, 6, 9, 10], "{turn_records_max} in a turn");
    }
    let settings = Settings { commit_records_max: 0, ..Settings::new("app") };
    let error = TopologyTestDriver::with(counting(), settings, 1).err().unwrap();
    assert!(error.to_string().contains("one record per turn and commit"), "{error}");
}

async fn start(log: &MemoryLog) -> Streams {
    log.create_topic(&TopicSpec::new("in", 1).unwrap()).await.unwrap();
    let (shared, state) = (Arc::new(log.clone()), Arc::new(MemoryBackend::default()));
    Streams::start(counting(), Settings::new("app"), shared, state).await.unwrap()
}

async fn send(log: &MemoryLog, value: &[u8]) {
    let mut producer = log.producer(&ProducerName("test".into())).await.unwrap();
    let mut batch = BatchBuilder::default();
    batch.push(Timestamp(1), Some(b"k"), Some(value), &Headers::new());
    producer.append(&input(), &mut batch).unwrap();
    producer.commit(None).await.unwrap();
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

#[test]
fn an_application_runs_until_it_is_asked_to_stop_and_closes() {
    block_on(async {
        let log = MemoryLog::default();
        let streams = start(&log).await;
        send(&log, &7u64.to_be_bytes()).await;
        streams.caught_up().await.unwrap();
        assert_eq!(streams.run_until(async {}).await.unwrap().total().records, 1);
    });
}

#[test]
fn an_application_that_fails_is_not_waited_for() {
    block_on(async {
        let log = MemoryLog::default();
        let streams = start(&log).await;
        send(&log, b"no number").await;
        let error = streams.run_until(std::future::pending()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Processing);
    });
}
