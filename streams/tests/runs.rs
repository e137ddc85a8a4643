//! What comes of records does not depend on how they lie in the log, nor on how many a task takes together.
//!
//! Records that lie in one batch are taken in runs; those that lie alone are taken one by one. The same records are put into the
//! log both ways, and everything is compared: results, dead letters, counters. `HEADWATER_CASES` sets how many cases are tried.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{num::NonZeroU32, sync::Arc, task::Poll, time::Duration};

use futures::executor::block_on;
use headwater_core::{
    BatchBuilder, Compression, Error, Headers, Log, Partition, Producer, ProducerName, Record, Result,
    Timestamp, TopicName, TopicPartition, TopicSpec,
    memory::{MemoryBackend, MemoryLog},
    partition_for_key,
};
use headwater_streams::{
    Concurrency, Emit, ErrorPolicy, KStream, KeyValueHandle, Processor, ProcessorContext, Punctuate,
    Punctuation, Settings, StreamsBuilder, TaskMetrics, TimeWindows, Topology, testing::TopologyTestDriver,
};
use proptest::prelude::*;

type Context<'a> = ProcessorContext<'a, String, u64>;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// What becomes of a record: the last digit of its value says it.
const GARBAGE: u64 = 1;
const PANICS: u64 = 2;
const FAILS: u64 = 3;
const WAKES: u64 = 4;
const SCHEDULES: u64 = 5;
const IS_LARGE: u64 = 6;
const NO_KEY: u64 = 7;
const FAILS_IN_WINDOWS: u64 = 8;

/// Stores and forwards how many records there were so far, then does what the record says.
struct Moody {
    store: KeyValueHandle<String, u64>,
    awake: u64,
    extra: Option<Punctuation>,
}

impl Processor<String, u64, String, u64> for Moody {
    fn init(&mut self, cx: &mut Context<'_>) -> Result<()> {
        cx.schedule(ms(7), Punctuate::StreamTime).map(drop)
    }

    fn process(&mut self, record: Record<String, u64>, cx: &mut Context<'_>) -> Result<()> {
        let kind = record.value % 10;
        let count = cx.store(&self.store).update(&record.key, record.timestamp, |count| {
            *count = Some(count.unwrap_or(0) + 1);
            count.unwrap_or(0)
        })?;
        cx.forward(Record::new(record.key.clone(), count * 1000 + record.value, record.timestamp))?;
        match kind {
            WAKES => {
                self.awake += 1;
                cx.wake();
            }
            SCHEDULES => match self.extra.take() {
                Some(extra) => cx.cancel(extra),
                None => self.extra = Some(cx.schedule(ms(3), Punctuate::StreamTime)?),
            },
            PANICS => {
                cx.wake();
                panic!("two");
            }
            FAILS => return Err(Error::processing("three")),
            _ => {}
        }
        Ok(())
    }

    fn advance(&mut self, cx: &mut Context<'_>) -> Result<()> {
        for _ in 0..std::mem::take(&mut self.awake) {
            cx.forward(Record::new("awake".to_owned(), 0, Timestamp(cx.stream_time().0.max(0))))?;
        }
        Ok(())
    }

    fn punctuate(&mut self, _: Punctuation, time: Timestamp, cx: &mut Context<'_>) -> Result<()> {
        cx.forward(Record::new("tick".to_owned(), 0, time))
    }
}

/// Not ready the first `turns` times that it is asked.
async fn after(mut turns: u64) {
    std::future::poll_fn(|cx| match turns.checked_sub(1) {
        None => Poll::Ready(()),
        Some(left) => {
            turns = left;
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await;
}

fn counts(stream: &KStream<String, u64>, name: &str, windows: TimeWindows, emit: Emit, out: &str) {
    stream
        .group_by_key()
        .windowed_by(windows)
        .emit(emit)
        .aggregate(name, String::new, |_, n, all| {
            *all += &format!("{n} ");
            assert_ne!(n % 10, FAILS_IN_WINDOWS, "eight");
        })
        .to_stream()
        .map(|at, all| (format!("{} {}", at.key, at.window.start), all))
        .to(out);
}

/// What a topology has, of all for which a task has something to do between two records.
const MOODY: u8 = 1;
const WINDOWS: u8 = 2;
const HOPPING: u8 = 4;
const FURTHER: u8 = 8;
const LARGE: u8 = 16;
const CALLS: u8 = 32;

fn topology(kinds: u8) -> Topology {
    let builder = StreamsBuilder::new();
    let store = builder.key_value_store::<String, u64>("counts");
    let handle = store.clone();
    let plain = builder.stream::<String, u64>("a").merge(&builder.stream::<String, u64>("b"));
    let mut input = plain.clone();
    if kinds & MOODY != 0 {
        let moody = move || Moody { store: handle.clone(), awake: 0, extra: None };
        input = input.process::<String, u64, _>(&[&store], moody);
    }
    input.to("out");
    if kinds & WINDOWS != 0 {
        let tumbling = TimeWindows::tumbling(ms(10));
        counts(&plain, "updates", tumbling.grace(ms(4)), Emit::OnUpdate, "updates");
        counts(&plain, "closed", tumbling, Emit::OnClose, "closed");
    }
    if kinds & HOPPING != 0 {
        counts(&plain, "hopping", TimeWindows::hopping(ms(10), ms(4)), Emit::OnClose, "hopped");
    }
    if kinds & FURTHER != 0 {
        let by_value = input.select_key(|_, n| (n % 3).to_string()).repartition("r");
        counts(&by_value, "further", TimeWindows::hopping(ms(9), ms(3)).grace(ms(5)), Emit::OnChange, "far");
    }
    if kinds & LARGE != 0 {
        let large = |_: &String, n: u64| "x".repeat(if n % 10 == IS_LARGE { 30_000 } else { 3 });
        input.map_values(large).to("large");
    }
    if kinds & CALLS != 0 {
        let call = |_: String, n: u64| async move {
            after(n % 4).await;
            assert_ne!(n % 10, IS_LARGE, "six");
            Ok(n + 1)
        };
        input.map_async("calls", Concurrency::ordered(3), call).to("called");
    }
    builder.build().unwrap()
}

#[derive(Debug, Clone)]
struct Input {
    topic: &'static str,
    key: &'static str,
    value: u64,
    at: i64,
}

/// Records of two topics, more or less out of order, and more or less of them out of the ordinary.
fn inputs() -> impl Strategy<Value = Vec<Input>> {
    let topic = prop::sample::select(vec!["a", "a", "a", "b"]);
    let one = (topic, prop::sample::select(vec!["k", "kk", "l"]), 0..100u64, 0..4i64, 0..9i64);
    (prop::collection::vec(one, 1..200), 1..6i64, 1..20i64, 1..100u64).prop_map(
        |(records, slowness, order, trouble)| {
            let mut time = 8;
            let input = |(n, (topic, key, value, step, back)): (i64, _)| {
                time += if n % slowness == 0 { step } else { 0 };
                // No time at all, now and then.
                let back = if value == 99 { time + 1 } else { back };
                let at = time - if n % order == 0 { back } else { 0 };
                Input { topic, key, value: if value < trouble { value } else { value / 10 * 10 }, at }
            };
            (0..).zip(records).map(input).collect()
        },
    )
}

/// How records lie in the log, and how they are taken.
#[derive(Debug, Clone, Copy)]
struct Way {
    batch: usize,
    turn: usize,
    commit: usize,
    packed: bool,
}

fn write(producer: &mut dyn Producer, partition: &TopicPartition, records: &[&Input], packed: bool) {
    let mut batch = BatchBuilder::default();
    if packed {
        batch.set_compression(Compression::Lz4);
    }
    for Input { key, value, at, .. } in records {
        let bytes = value.to_be_bytes();
        let key = (value % 10 != NO_KEY).then_some(key.as_bytes());
        let value = if value % 10 == GARBAGE { &bytes[..3] } else { &bytes };
        batch.push(Timestamp(*at), key, Some(value), &Headers::new());
    }
    producer.append(partition, &mut batch).unwrap();
}

/// Key, value and timestamp of what came out.
type Output = Vec<(Option<Vec<u8>>, Option<Vec<u8>>, i64)>;

/// By topic what came out, the counters, and the error that stopped it.
type Outcome = (Vec<Output>, [u64; 5], Option<String>);

fn run(kinds: u8, on_error: &ErrorPolicy, (inputs, partitions): (&[Input], NonZeroU32), way: Way) -> Outcome {
    let log = MemoryLog::default();
    block_on(async {
        let mut producer = log.producer(&ProducerName("input".into())).await.unwrap();
        for topic in ["a", "b"] {
            log.create_topic(&TopicSpec::new(topic, partitions.get()).unwrap()).await.unwrap();
            for partition in (0..partitions.get()).map(Partition) {
                let is_there = |input: &&Input| {
                    input.topic == topic && partition_for_key(input.key.as_bytes(), partitions) == partition
                };
                let records: Vec<&Input> = inputs.iter().filter(is_there).collect();
                let partition = TopicPartition::new(TopicName::new(topic).unwrap(), partition);
                records
                    .chunks(way.batch)
                    .for_each(|records| write(&mut *producer, &partition, records, way.packed));
            }
        }
        producer.commit(None).await.unwrap();
    });
    let settings = Settings {
        on_error: on_error.clone(),
        turn_records_max: way.turn,
        commit_records_max: way.commit,
        ..Settings::new("app")
    };
    let ports = (Arc::new(log) as _, Arc::new(MemoryBackend::default()) as _);
    let mut driver = TopologyTestDriver::on(topology(kinds), settings, 1, ports).unwrap();
    if let Err(error) = driver.run() {
        // How much was committed before is the clock's.
        return (Vec::new(), [0; 5], Some(error.to_string()));
    }
    driver.close_windows().unwrap();
    let mut read = |topic: &str| -> Output {
        let records = match driver.read::<Option<Vec<u8>>, Option<Vec<u8>>>(topic) {
            Ok(records) => records,
            Err(error) if error.to_string().contains("no such topic") => Vec::new(),
            Err(error) => panic!("{error}"),
        };
        records.into_iter().map(|record| (record.key, record.value, record.timestamp.0)).collect()
    };
    let topics = ["out", "updates", "closed", "hopped", "far", "large", "called", "letters"];
    let mut outputs = topics.map(&mut read).to_vec();
    // The letter of a call comes when the call is over.
    outputs.last_mut().into_iter().for_each(|letters| letters.sort());
    // Several tasks write into one partition.
    outputs.iter_mut().filter(|_| partitions.get() > 1).for_each(|output| output.sort());
    let TaskMetrics { records, late, skipped, dead_letters, punctuations, .. } = driver.metrics().total();
    (outputs, [records, late, skipped, dead_letters, punctuations], None)
}

fn policies() -> impl Strategy<Value = ErrorPolicy> {
    let letters = ErrorPolicy::DeadLetter("letters".into());
    prop_oneof![1 => Just(ErrorPolicy::Fail), 2 => Just(ErrorPolicy::Skip), 2 => Just(letters)]
}

fn ways() -> impl Strategy<Value = Way> {
    let turns = prop_oneof![1..20usize, Just(10_000)];
    let commits = prop_oneof![1..20usize, Just(usize::MAX)];
    (2..100usize, turns, commits, any::<bool>()).prop_map(|(batch, turn, commit, packed)| Way {
        batch,
        turn,
        commit,
        packed,
    })
}

fn cases() -> ProptestConfig {
    let cases = std::env::var("HEADWATER_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(300);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases())]
    #[test]
    fn how_records_lie_and_are_taken_does_not_matter(
        kinds in 0u8..64,
        on_error in policies(),
        inputs in inputs(),
        way in ways(),
        partitions in 1..4u32,
    ) {
        let partitions = NonZeroU32::new(partitions).unwrap();
        // Which of several tasks fails first, or whether a call does, is a matter of turns.
        let (kinds, partitions) = match on_error {
            ErrorPolicy::Fail => (kinds & !(FURTHER | CALLS), NonZeroU32::MIN),
            _ => (kinds, partitions),
        };
        let inputs = (&inputs[..], partitions);
        let one_by_one = Way { batch: 1, turn: 10_000, commit: usize::MAX, packed: false };
        let expected = run(kinds, &on_error, inputs, one_by_one);
        prop_assert_eq!(run(kinds, &on_error, inputs, way), expected);
    }
}
