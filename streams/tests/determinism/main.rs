//! What comes out of a bounded input is a function of that input, record for record: whatever the number of workers, the records
//! per turn, the commits, the memory, the speed of tasks and the crashes. For topologies that nobody thought of.
//!
//! `HEADWATER_CASES` sets how many cases are tried; proptest prints the one that fails, made small, and its seed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod plan;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{FutureExt as _, executor::block_on};
use headwater_core::{
    BatchBuilder, Headers, Log, LogVersion, Offset, ProducerName, Result, Timestamp, TopicName,
    TopicPartition, TopicSpec,
    memory::{MemoryBackend, MemoryLog},
    partition_for_key,
};
use headwater_streams::{InputOrder, Settings, Streams, testing::TopologyTestDriver};
use proptest::{prelude::*, strategy::ValueTree as _, test_runner::TestRunner};

use self::plan::{Compared, Kind, Op, Plan, SOURCES, Sent as Emitted, WRITER, plans};

/// Source, key, value, timestamp, and whether a batch ends with it.
type Sent = (usize, &'static str, u64, i64, bool);

#[derive(Debug, Clone)]
struct Input {
    partitions: u32,
    records: Vec<Sent>,
}

fn inputs() -> impl Strategy<Value = Input> {
    let key = prop::sample::select(vec!["a", "ab", "b", "c", "d"]);
    let one = (0..SOURCES.len(), key, 0..100u64, (0..8i64, 0..30i64, 0..6u8), prop::bool::weighted(0.4));
    (1..=3u32, prop::collection::vec(one, 1..60)).prop_map(|(partitions, records)| {
        // Time moves on, and records lie around it.
        let mut time = 0;
        let records = records.into_iter().map(|(source, key, value, (step, back, far), ends)| {
            time += step;
            (source, key, value, (time - if far == 0 { back } else { back % 9 }).max(0), ends)
        });
        Input { partitions, records: records.collect() }
    })
}

impl Input {
    /// A log that holds it.
    fn log(&self) -> MemoryLog {
        let log = MemoryLog::default();
        block_on(async {
            for topic in SOURCES {
                log.create_topic(&TopicSpec::new(topic, self.partitions).unwrap()).await.unwrap();
            }
            let mut producer = log.producer(&ProducerName("input".into())).await.unwrap();
            let mut open: BTreeMap<TopicPartition, BatchBuilder> = BTreeMap::new();
            for (source, key, value, at, ends) in &self.records {
                let number = partition_for_key(key.as_bytes(), self.partitions.try_into().unwrap());
                let partition = TopicPartition::new(TopicName::new(SOURCES[*source]).unwrap(), number);
                let batch = open.entry(partition.clone()).or_default();
                let headers = Headers::new().with("from", value.to_string());
                batch.push(Timestamp(*at), Some(key.as_bytes()), Some(&value.to_be_bytes()), &headers);
                if *ends {
                    producer.append(&partition, batch).unwrap();
                }
            }
            for (partition, batch) in open.iter_mut().filter(|(_, batch)| !batch.is_empty()) {
                producer.append(partition, batch).unwrap();
            }
            producer.commit(None).await.unwrap();
        });
        log
    }
}

type Bytes = Option<Vec<u8>>;
/// Key, value, timestamp, headers.
type Contents = (Bytes, Bytes, i64, Vec<(String, Bytes)>);

/// What a run left behind.
#[derive(Debug, Default, PartialEq, Eq)]
struct Results {
    /// The records of each partition of an output by the task that wrote them, in their order.
    outputs: BTreeMap<(String, String), Vec<Contents>>,
    /// The rows of each changelog, and of what is sent once per commit: value and timestamp.
    rows: BTreeMap<(String, Vec<u8>), (Vec<u8>, i64)>,
}

impl Results {
    /// The first difference to others.
    fn difference(&self, other: &Self) -> Option<String> {
        let writers = self.outputs.keys().chain(other.outputs.keys());
        for writer in writers {
            let none = Vec::new();
            let [a, b] = [self, other].map(|results| results.outputs.get(writer).unwrap_or(&none));
            if a != b {
                let at = a.iter().zip(b).take_while(|(a, b)| a == b).count();
                let (partition, task) = writer;
                return Some(format!(
                    "{partition} by task {task}, record {at} of {} and {}: {:?} is not {:?}",
                    a.len(),
                    b.len(),
                    a.get(at),
                    b.get(at)
                ));
            }
        }
        let keys = self.rows.keys().chain(other.rows.keys());
        let mut rows = keys.map(|key| (key, self.rows.get(key), other.rows.get(key)));
        rows.find(|(_, a, b)| a != b).map(|row| format!("a row and its changelog: {row:?}"))
    }
}

fn results(log: &MemoryLog) -> Results {
    let mut results = Results::default();
    for partition in block_on(log.topics()).unwrap().iter().flat_map(TopicSpec::topic_partitions) {
        let compared = Compared::of(partition.topic.as_str());
        if compared == Compared::NotAtAll {
            continue;
        }
        for record in read(log, &partition) {
            if compared == Compared::ByLastValue {
                let (key, value, at, _) = record;
                let row = (partition.to_string(), key.unwrap());
                match value {
                    Some(value) => drop(results.rows.insert(row, (value, at))),
                    None => drop(results.rows.remove(&row)),
                }
                continue;
            }
            let writer = record.3.iter().rfind(|(name, _)| name == WRITER);
            let writer = writer.and_then(|(_, value)| value.clone()).unwrap();
            let writer = (partition.to_string(), String::from_utf8(writer).unwrap());
            let records = results.outputs.entry(writer).or_default();
            records.push(record);
            if compared == Compared::AsASet {
                records.sort_unstable();
            }
        }
    }
    results
}

fn read(log: &MemoryLog, partition: &TopicPartition) -> Vec<Contents> {
    let (mut records, mut next) = (Vec::new(), Offset(0));
    loop {
        let fetched = block_on(log.read(partition, next, usize::MAX)).unwrap();
        let Some(last) = fetched.batches.last() else { return records };
        next = last.next_offset();
        for batch in &fetched.batches {
            let mut cursor = batch.cursor();
            while let Some(record) = cursor.next().transpose().unwrap() {
                let bytes = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
                let headers = record.headers.to_owned();
                let headers = headers.iter().map(|(name, value)| (name.to_owned(), bytes(value))).collect();
                records.push((bytes(record.key), bytes(record.value), record.timestamp.0, headers));
            }
        }
    }
}

/// How a topology is run.
#[derive(Debug, Clone, Copy)]
struct Way {
    /// 0: in the driver, turn by turn.
    workers: usize,
    turn_records_max: usize,
    commit_interval: Duration,
    memory_bytes: usize,
    /// In the driver: a crash after so many turns, and again. With workers: after so many appends of theirs.
    crash_every: usize,
    order: InputOrder,
    slow: fn(&str, u64) -> bool,
    /// Whether time ends behind the input.
    closes: bool,
}

/// The driver in one go.
const PLAIN: Way = Way {
    workers: 0,
    turn_records_max: 10_000,
    commit_interval: Duration::from_secs(3_600),
    memory_bytes: 1 << 20,
    crash_every: usize::MAX,
    order: InputOrder::Lanes,
    slow: |_, _| false,
    closes: false,
};

/// More crashes than this would only take time.
const CRASHES_MAX: usize = 20;

fn ways() -> [(&'static str, Way); 9] {
    let at_once = Way { commit_interval: Duration::ZERO, ..PLAIN };
    let workers = |workers| Way { workers, ..at_once };
    [
        ("turns of 1", Way { turn_records_max: 1, ..PLAIN }),
        ("turns of 7, a commit each", Way { turn_records_max: 7, ..at_once }),
        (
            "turns of 1, no memory, crashes",
            Way { turn_records_max: 1, memory_bytes: 1, crash_every: 5, ..at_once },
        ),
        ("turns of 7, rare commits, crashes", Way { turn_records_max: 7, crash_every: 4, ..PLAIN }),
        ("1 worker", workers(1)),
        ("2 workers, turns of 7, slow", Way { turn_records_max: 7, slow: |_, n| n % 3 == 0, ..workers(2) }),
        ("4 workers, turns of 1, slow", Way { turn_records_max: 1, slow: |key, _| key == "a", ..workers(4) }),
        ("4 workers, crashes", Way { crash_every: 3, ..workers(4) }),
        (
            "2 workers, turns of 1, no memory, crashes",
            Way { turn_records_max: 1, memory_bytes: 1, crash_every: 7, ..workers(2) },
        ),
    ]
}

fn run(plan: &Plan, input: &Input, way: Way) -> Results {
    let (log, state) = (input.log(), Arc::new(MemoryBackend::default()));
    let settings = Settings {
        workers: way.workers.max(1),
        turn_records_max: way.turn_records_max,
        commit_interval: way.commit_interval,
        memory_bytes: way.memory_bytes,
        input_order: way.order,
        ..Settings::new("app")
    };
    if way.workers == 0 {
        drive(plan, settings, (log.clone(), state), way);
    } else {
        let start = || {
            let topology = plan.topology(way.slow);
            let ports: (Arc<dyn Log>, _) = (Arc::new(log.clone()), Arc::clone(&state) as _);
            block_on(Streams::start(topology, settings.clone(), ports.0, ports.1)).unwrap()
        };
        let crashes = if way.crash_every == usize::MAX { 0 } else { CRASHES_MAX };
        for _ in 0..crashes {
            let streams = start();
            if block_on(appends(&log, streams.caught_up(), way.crash_every)) {
                break;
            }
            drop(streams);
        }
        for _ in 0..if way.closes { crashes } else { 0 } {
            let streams = start();
            if block_on(appends(&log, streams.close_windows(), way.crash_every)) {
                break;
            }
            drop(streams);
        }
        let streams = start();
        if way.closes {
            block_on(streams.close_windows()).unwrap();
        } else {
            block_on(streams.caught_up()).unwrap();
        }
        block_on(streams.close()).unwrap();
    }
    results(&log)
}

/// Waits until something was appended `count` times; `true` when all is `done` before that.
async fn appends(log: &MemoryLog, done: impl Future<Output = Result<()>>, count: usize) -> bool {
    let mut done = std::pin::pin!(done.fuse());
    let mut seen = log.appended(LogVersion::default()).await.unwrap();
    for _ in 0..count {
        futures::select! {
            outcome = done => {
                outcome.unwrap();
                return true;
            }
            version = log.appended(seen).fuse() => seen = version.unwrap(),
        }
    }
    false
}

fn drive(plan: &Plan, settings: Settings, (log, state): (MemoryLog, Arc<MemoryBackend>), way: Way) {
    let topology = plan.topology(way.slow);
    let mut driver = TopologyTestDriver::on(topology, settings, 1, (Arc::new(log), state)).unwrap();
    if way.crash_every < usize::MAX {
        for turns in (1..=CRASHES_MAX).map(|crash| way.crash_every + crash) {
            (0..turns).for_each(|_| driver.turn().unwrap());
            driver.crash().unwrap();
        }
    }
    driver.run().unwrap();
    if !way.closes {
        return;
    }
    if way.crash_every < usize::MAX {
        // Every attempt has turns enough for one step more than the one before, at least.
        for turns in (1..=CRASHES_MAX).map(|crash| way.crash_every + crash) {
            driver.begin_to_close_windows().unwrap();
            (0..turns).for_each(|_| driver.turn().unwrap());
            driver.crash().unwrap();
        }
    }
    driver.close_windows().unwrap();
}

fn cases(default: u32) -> ProptestConfig {
    let cases = std::env::var("HEADWATER_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(default);
    ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 5_000, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(1_000))]

    #[test]
    fn the_same_input_gives_the_same_records_however_it_is_run(plan in plans(), input in inputs()) {
        check(&plan, &input, false)?;
    }

    #[test]
    fn the_same_input_closes_the_same_windows_however_it_is_run(plan in plans(), input in inputs()) {
        check(&plan, &input, true)?;
    }
}

fn check(plan: &Plan, input: &Input, closes: bool) -> std::result::Result<(), TestCaseError> {
    let expected = run(plan, input, Way { closes, ..PLAIN });
    for (name, way) in ways() {
        if let Some(difference) = expected.difference(&run(plan, input, Way { closes, ..way })) {
            return Err(TestCaseError::fail(format!("{name}: {difference}")));
        }
    }
    Ok(())
}

/// What is compared would show it: in the order of arrival, the size of turns alone changes what comes out.
#[test]
fn without_lanes_what_comes_out_depends_on_arrival() {
    let mut runner = TestRunner::deterministic();
    let cases = (plans(), inputs());
    let cases: Vec<_> = (0..100).map(|_| cases.new_tree(&mut runner).unwrap().current()).collect();
    let differs = |order| {
        let way = Way { order, ..PLAIN };
        let turns_of_1 = Way { turn_records_max: 1, commit_interval: Duration::ZERO, ..way };
        let differs = |(plan, input): &&(Plan, Input)| {
            run(plan, input, way).difference(&run(plan, input, turns_of_1)).is_some()
        };
        cases.iter().filter(differs).count()
    };
    let arrival = differs(InputOrder::Arrival);
    println!("in the order of arrival {arrival} of {} topologies differ, with lanes none", cases.len());
    assert!(arrival >= 5);
    assert_eq!(differs(InputOrder::Lanes), 0);
}

/// The driver came back while a task still waited for another one, which had told it that it may go on in a turn in which
/// nobody took anything.
#[test]
fn the_driver_is_done_when_nobody_waits_for_anybody() {
    let windows = Op::Windows { of: 0, size: 1, advance: 1, grace: 0, emit: Emitted::Close };
    let join = Op::Join { of: 3, with: 0, kind: Kind::Inner, before: 0, after: 0, grace: 0 };
    let ops = vec![Op::Merge(0, 0), Op::Reduce(0), windows, Op::Count(0), Op::Filter(0, 2), join];
    let plan = Plan { sources: 2, ops };
    let input = Input { partitions: 1, records: vec![(1, "a", 0, 0, false)] };
    let often = Way { turn_records_max: 7, commit_interval: Duration::ZERO, ..PLAIN };
    assert_eq!(run(&plan, &input, PLAIN).difference(&run(&plan, &input, often)), None);
}
