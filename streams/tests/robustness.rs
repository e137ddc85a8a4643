//! What once went wrong, found in review: each case is a rule now.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use headwater_core::{
    BatchBuilder, Error, Headers, Log, Partition, ProducerName, Record, Result, Timestamp, TopicName,
    TopicPartition, TopicSpec,
    memory::{MemoryBackend, MemoryLog},
};
use headwater_streams::{
    Emit, ErrorPolicy, InputOrder, KeyValueHandle, Processor, ProcessorContext, Settings, Streams,
    StreamsBuilder, TimeWindows, Topology, testing::TopologyTestDriver,
};

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// A log and a state that several runs of an application share.
#[derive(Clone, Default)]
struct World {
    log: MemoryLog,
    state: MemoryBackend,
}

impl World {
    fn with_topic(self, name: &str, partitions: u32) -> Self {
        block_on(self.log.create_topic(&TopicSpec::new(name, partitions).unwrap())).unwrap();
        self
    }

    async fn put(&self, topic: &str, partition: u32, value: &[u8], timestamp: i64) {
        let mut producer = self.log.producer(&ProducerName(format!("to-{topic}"))).await.unwrap();
        let mut batch = BatchBuilder::default();
        batch.push(Timestamp(timestamp), Some(b"k"), Some(value), &Headers::new());
        let partition = TopicPartition::new(TopicName::new(topic).unwrap(), Partition(partition));
        producer.append(&partition, &mut batch).unwrap();
        producer.commit(None).await.unwrap();
    }

    async fn count(&self, topic: &str) -> u64 {
        let spec = TopicSpec::new(topic, 1).unwrap();
        let partitions = self.log.topics().await.unwrap().into_iter().find(|t| t.name == spec.name).unwrap();
        let mut count = 0;
        for partition in partitions.topic_partitions() {
            count += self.log.offsets(&partition).await.unwrap().end.0;
        }
        count
    }

    async fn start(&self, topology: Topology, settings: Settings) -> Result<Streams> {
        Streams::start(topology, settings, Arc::new(self.log.clone()), Arc::new(self.state.clone())).await
    }

    /// Runs until everything is done; how many records were late.
    async fn run(&self, topology: Topology, settings: Settings) -> u64 {
        let streams = self.start(topology, settings).await.unwrap();
        streams.caught_up().await.unwrap();
        streams.close().await.unwrap().total().late
    }
}

fn skip() -> Settings {
    Settings { on_error: ErrorPolicy::Skip, ..Settings::new("app") }
}

/// Counts per window on close; a row with the key `bad` fails behind the aggregate.
fn closing_counts(grace: u64) -> Topology {
    let builder = StreamsBuilder::new();
    builder
        .stream::<String, u64>("in")
        .group_by_key()
        .windowed_by(TimeWindows::tumbling(ms(10)).grace(ms(grace)))
        .emit(Emit::OnClose)
        .aggregate("counts", u64::default, |_, _, count| *count += 1)
        .to_stream()
        .try_map_values(|at, n| if at.key == "bad" { Err(Error::processing("a bad row")) } else { Ok(n) })
        .select_key(|at, _| at.key.clone())
        .to("out");
    builder.build().unwrap()
}

fn repartitioning() -> Topology {
    let builder = StreamsBuilder::new();
    builder.stream::<String, u64>("in").select_key(|_, n| n.to_string()).repartition("r").to("out");
    builder.build().unwrap()
}

#[test]
fn a_record_may_send_more_than_fits_into_a_batch() {
    let mut driver = TopologyTestDriver::new(closing_counts(0)).unwrap();
    for i in 0..60_000u64 {
        driver.append("in", &format!("sensor-{i:08}"), &1u64, Timestamp(1)).unwrap();
    }
    driver.append("in", &"z".to_owned(), &1u64, Timestamp(100)).unwrap();
    driver.run().unwrap();
    assert_eq!(driver.read::<String, u64>("out").unwrap().len(), 60_000);
}

#[test]
fn a_record_that_fits_into_no_batch_is_its_own_error() {
    let builder = StreamsBuilder::new();
    let long = |_: &String, n: u64| "x".repeat(usize::try_from(n).unwrap());
    builder.stream::<String, u64>("in").map_values(long).to("out");
    let mut driver = TopologyTestDriver::with(builder.build().unwrap(), skip(), 1).unwrap();
    for n in [40_000u64, 1_040_000, 2_000_000, 3] {
        driver.append("in", &"k".to_owned(), &n, Timestamp(1)).unwrap();
    }
    driver.run().unwrap();
    let lengths: Vec<_> =
        driver.read::<String, String>("out").unwrap().iter().map(|r| r.value.len()).collect();
    assert_eq!((lengths, driver.metrics().total().skipped), (vec![40_000, 1_040_000, 3], 1));
}

#[test]
fn ten_thousand_dead_letters_in_a_row_do_no_harm() {
    let builder = StreamsBuilder::new();
    builder.stream::<String, u64>("in").to("out");
    let settings = Settings { on_error: ErrorPolicy::DeadLetter("letters".into()), ..Settings::new("app") };
    let mut driver = TopologyTestDriver::with(builder.build().unwrap(), settings, 1).unwrap();
    for i in 0..10_000 {
        driver.append_bytes("in", Some(b"k"), Some(b"garbage"), Timestamp(i)).unwrap();
    }
    driver.run().unwrap();
    assert_eq!(driver.read::<String, Vec<u8>>("letters").unwrap().len(), 10_000);
}

#[test]
fn a_row_that_fails_is_left_out_without_the_record_that_made_it_due() {
    let mut driver = TopologyTestDriver::with(closing_counts(0), skip(), 1).unwrap();
    for (key, at) in [("bad", 1), ("fine", 2), ("good", 20), ("good", 30), ("good", 40)] {
        driver.pipe("in", &key.to_owned(), &1u64, Timestamp(at)).unwrap();
    }
    let keys: Vec<_> = driver.read::<String, u64>("out").unwrap().into_iter().map(|r| r.key).collect();
    assert_eq!(
        (keys, driver.metrics().total().skipped),
        (vec!["fine".into(), "good".into(), "good".into()], 1)
    );
}

#[test]
fn the_time_of_a_record_that_is_left_out_does_not_count() {
    block_on(async {
        let world = World::default();
        world.log.create_topic(&TopicSpec::new("in", 2).unwrap()).await.unwrap();
        world.put("in", 0, b"garbage", i64::MAX).await;
        for i in 0..200 {
            world.put("in", i % 2, &7u64.to_be_bytes(), i64::from(i)).await;
        }
        let builder = StreamsBuilder::new();
        builder
            .stream::<String, u64>("in")
            .select_key(|_, n| n.to_string())
            .repartition("r")
            .group_by_key()
            .windowed_by(TimeWindows::tumbling(ms(10)))
            .aggregate("counts", u64::default, |_, _, count| *count += 1)
            .to_stream()
            .to("out");
        assert_eq!(world.run(builder.build().unwrap(), skip()).await, 0);
        assert_eq!(world.count("out").await, 200);
    });
}

#[test]
fn two_sinks_on_one_topic_keep_the_order_of_a_key() {
    for turn_records_max in [1, 100] {
        let builder = StreamsBuilder::new();
        let split = builder.stream::<String, u64>("in").split();
        split.branch(|_, n| n % 2 == 1).to("out");
        split.otherwise().to("out");
        let settings = Settings { turn_records_max, ..Settings::new("app") };
        let mut driver = TopologyTestDriver::with(builder.build().unwrap(), settings, 1).unwrap();
        for n in 1..=6u64 {
            driver.append("in", &"k".to_owned(), &n, Timestamp(n.cast_signed())).unwrap();
        }
        driver.run().unwrap();
        let values: Vec<_> =
            driver.read::<String, u64>("out").unwrap().into_iter().map(|r| r.value).collect();
        assert_eq!(values, [1, 2, 3, 4, 5, 6]);
    }
}

#[test]
fn caught_up_means_that_what_was_sent_before_is_there() {
    let world = World::default().with_topic("in", 1);
    block_on(async {
        let settings = Settings { workers: 2, ..Settings::new("app") };
        let streams = world.start(repartitioning(), settings).await.unwrap();
        for i in 0..200u64 {
            world.put("in", 0, &i.to_be_bytes(), i.cast_signed()).await;
            streams.caught_up().await.unwrap();
            assert_eq!(world.count("out").await, i + 1);
        }
        streams.close().await.unwrap();
    });
}

#[test]
fn everybody_who_asks_is_told_of_a_failure() {
    let world = World::default().with_topic("in", 1);
    block_on(async {
        world.put("in", 0, b"no number", 1).await;
        let streams = world.start(repartitioning(), Settings::new("app")).await.unwrap();
        let first = streams.caught_up().await.unwrap_err().to_string();
        assert_eq!(streams.caught_up().await.unwrap_err().to_string(), first);
        assert_eq!(streams.failed().await.to_string(), first);
        assert_eq!(streams.close().await.unwrap_err().to_string(), first);
    });
}

#[test]
fn a_repartition_topic_of_another_width_is_refused() {
    let world = World::default().with_topic("in", 1).with_topic("app-r-repartition", 4);
    let error = block_on(world.start(repartitioning(), Settings::new("app"))).err().unwrap();
    assert!(error.to_string().contains("another number of partitions"), "{error}");
}

#[test]
fn another_input_order_on_the_same_positions_is_refused() {
    let world = World::default().with_topic("in", 3);
    block_on(async {
        for i in 0..30 {
            world.put("in", i % 3, &u64::from(i).to_be_bytes(), i64::from(i)).await;
        }
        let arrival = Settings { input_order: InputOrder::Arrival, ..Settings::new("app") };
        world.run(repartitioning(), arrival).await;
        assert_eq!(world.count("out").await, 30);
        let streams = world.start(repartitioning(), Settings::new("app")).await.unwrap();
        let error = streams.failed().await.to_string();
        assert!(error.contains("input_order"), "{error}");
    });
}

#[test]
fn sub_topologies_of_two_widths_may_write_one_topic() {
    let world = World::default().with_topic("a", 2).with_topic("b", 3);
    let builder = StreamsBuilder::new();
    builder.stream::<String, u64>("a").to("out");
    builder.stream::<String, u64>("b").to("out");
    block_on(async {
        world.run(builder.build().unwrap(), Settings::new("app")).await;
        let out = world.log.topics().await.unwrap().into_iter().find(|t| t.name.as_str() == "out").unwrap();
        assert_eq!(out.partitions, NonZeroU32::new(3).unwrap());
    });
}

struct Keep(KeyValueHandle<String, u64>);

impl Processor<String, u64, String, u64> for Keep {
    fn process(
        &mut self,
        record: Record<String, u64>,
        cx: &mut ProcessorContext<'_, String, u64>,
    ) -> Result<()> {
        cx.store(&self.0).put(&record.key, record.value, record.timestamp)?;
        cx.forward(record)
    }
}

#[test]
fn a_sub_topology_that_would_wait_for_itself_is_refused() {
    let builder = StreamsBuilder::new();
    let store = builder.key_value_store::<String, u64>("shared");
    let input = builder.stream::<String, u64>("in");
    let behind = input.select_key(|key, _| key.clone()).repartition("r");
    for (stream, out) in [(input, "out-1"), (behind, "out-2")] {
        let store = store.clone();
        stream.process::<String, u64, _>(&[&store.clone()], move || Keep(store.clone())).to(out);
    }
    assert!(builder.build().unwrap_err().to_string().contains("would wait for itself"));
}

/// The same where no store is shared: a join that brings a stream together with its own repartition. Through a topic it may.
#[test]
fn a_stream_that_meets_its_own_repartition_is_told_to_go_through_a_topic() {
    let topology = |through_a_topic: bool| {
        let builder = StreamsBuilder::new();
        let input = builder.stream::<String, u64>("in");
        let by_value = input.select_key(|_, n| n.to_string());
        let by_value = if through_a_topic {
            by_value.to("by-value");
            builder.stream("by-value")
        } else {
            by_value.repartition("by-value")
        };
        let counts = by_value.group_by_key().count("counts");
        input.join_table(&counts, |_, n, count| n + count).to("out");
        builder.build()
    };
    let error = topology(false).unwrap_err().to_string();
    assert!(
        error.contains("together with its own repartition") && error.contains("write it there with `to`"),
        "{error}"
    );
    let mut driver = TopologyTestDriver::new(topology(true).unwrap()).unwrap();
    driver.pipe("in", &"7".to_owned(), &7u64, Timestamp(0)).unwrap();
    driver.pipe("in", &"7".to_owned(), &1u64, Timestamp(1)).unwrap();
    let last = driver.read::<String, u64>("out").unwrap().pop();
    assert_eq!(last.map(|r| r.value), Some(2));
}

#[test]
fn a_null_key_is_dropped_and_counted() {
    let builder = StreamsBuilder::new();
    builder
        .stream::<Option<String>, u64>("in")
        .group_by_key()
        .windowed_by(TimeWindows::tumbling(ms(10)))
        .aggregate("counts", u64::default, |_, _, count| *count += 1)
        .to_stream()
        .select_key(|at, _| at.key.clone())
        .to("out");
    let mut driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    for key in [None, Some(String::new())] {
        driver.pipe("in", &key, &1u64, Timestamp(1)).unwrap();
    }
    let counts: Vec<_> =
        driver.read::<Option<String>, u64>("out").unwrap().into_iter().map(|r| r.value).collect();
    assert_eq!((counts, driver.metrics().total().null_keys), (vec![1], 1));
}

struct Nothing(KeyValueHandle<String, Option<u64>>);

impl Processor<String, u64, String, u64> for Nothing {
    fn process(
        &mut self,
        record: Record<String, u64>,
        cx: &mut ProcessorContext<'_, String, u64>,
    ) -> Result<()> {
        let before = cx.store(&self.0).get(&record.key)?.copied().flatten();
        cx.store(&self.0).put(&record.key, None, record.timestamp)?;
        if before.is_none() { cx.forward(record) } else { Ok(()) }
    }
}

#[test]
fn none_in_a_store_survives_a_restart() {
    let builder = StreamsBuilder::new();
    let store = builder.key_value_store::<String, Option<u64>>("maybe");
    let handle = store.clone();
    builder.stream::<String, u64>("in").process(&[&store], move || Nothing(handle.clone())).to("out");
    let mut driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    for n in [1u64, 2, 3] {
        driver.pipe("in", &"k".to_owned(), &n, Timestamp(1)).unwrap();
        driver.crash().unwrap();
    }
    assert_eq!(driver.read::<String, u64>("out").unwrap().len(), 3);
}

#[test]
fn the_end_of_time_closes_no_window() {
    let mut driver = TopologyTestDriver::with(closing_counts(0), skip(), 1).unwrap();
    for at in [1, i64::MAX, 2, 1000] {
        driver.pipe("in", &"a".to_owned(), &1u64, Timestamp(at)).unwrap();
    }
    let sums: Vec<_> = driver.read::<String, u64>("out").unwrap().into_iter().map(|r| r.value).collect();
    assert_eq!((sums, driver.metrics().total().skipped), (vec![2], 1));
}

#[test]
fn less_grace_sends_the_windows_that_are_open_and_more_reopens_none() {
    let world = World::default().with_topic("in", 1);
    block_on(async {
        for (grace, timestamps, sent) in [(1000, [1, 500], 0), (0, [600, 700], 3), (5000, [600, 710], 3)] {
            for timestamp in timestamps {
                world.put("in", 0, &1u64.to_be_bytes(), timestamp).await;
            }
            let late = world.run(closing_counts(grace), Settings::new("app")).await;
            // Windows 0, 500 and 600 are sent when the grace is gone; the second reading at 600 is late then.
            assert_eq!((world.count("out").await, late), (sent, u64::from(grace == 5000)), "grace {grace}");
        }
    });
}

#[test]
fn operators_keep_their_time_when_the_topology_is_cut_differently() {
    let topology = |linked: bool| {
        let builder = StreamsBuilder::new();
        let store = builder.key_value_store::<String, u64>("link");
        for name in ["a", "b"] {
            let input = builder.stream::<String, u64>(name);
            input
                .group_by_key()
                .windowed_by(TimeWindows::tumbling(ms(10)))
                .emit(Emit::OnClose)
                .aggregate(&format!("windows-{name}"), u64::default, |_, _, count| *count += 1)
                .to_stream()
                .to(&format!("out-{name}"));
            if linked {
                let handle = store.clone();
                input.process::<String, u64, _>(&[&store], move || Keep(handle.clone())).to("kept");
            }
        }
        builder.build().unwrap()
    };
    let world = World::default().with_topic("a", 1).with_topic("b", 1);
    block_on(async {
        for topic in ["a", "b"] {
            for timestamp in [1, 100] {
                world.put(topic, 0, &1u64.to_be_bytes(), timestamp).await;
            }
        }
        assert_eq!(world.run(topology(false), Settings::new("app")).await, 0);
        for timestamp in [2, 200] {
            world.put("a", 0, &1u64.to_be_bytes(), timestamp).await;
        }
        assert_eq!(world.run(topology(true), Settings::new("app")).await, 1);
        assert_eq!(world.count("out-a").await, 2);
    });
}
