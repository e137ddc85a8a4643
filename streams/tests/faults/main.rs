//! A process that ends at any call to its log or its state, up to ten times in a row, and goes on: results are those of an
//! undisturbed run, record for record, and only the suffix of the changelogs is replayed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod behind;
mod ports;
mod sent_rows;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::executor::block_on;
use headwater_core::{
    BatchBuilder, Headers, Log, Offset, Partition, ProducerName, Record, Result, StateBackend, Timestamp,
    TopicName, TopicPartition, TopicSpec, memory::MemoryLog,
};
use headwater_streams::{
    Emit, JoinWindows, KeyValueHandle, Processor, ProcessorContext, Punctuate, Punctuation, SessionWindows,
    Settings, Streams, StreamsBuilder, TimeWindows, Topology, testing::TopologyTestDriver,
};

use self::ports::{Fault, FaultyBackend, FaultyLog, places};

const PARTITIONS: u32 = 2;
const RECORDS: u64 = 40;
/// No test needs more attempts than this, and none may try forever.
const ATTEMPTS_MAX: u32 = 100;

type Context<'a> = ProcessorContext<'a, String, u64>;

/// Numbers the records of each key, and says now and then how many there were.
struct Number(KeyValueHandle<String, u64>);

impl Processor<String, u64, String, u64> for Number {
    fn init(&mut self, cx: &mut Context<'_>) -> Result<()> {
        cx.schedule(Duration::from_millis(7), Punctuate::StreamTime).map(drop)
    }

    fn process(&mut self, record: Record<String, u64>, cx: &mut Context<'_>) -> Result<()> {
        let mut count = |key: &String| {
            cx.store(&self.0).update(key, record.timestamp, |count| {
                *count = Some(count.unwrap_or(0) + 1);
                count.unwrap_or(0)
            })
        };
        let number = count(&record.key)?;
        count(&"all".to_owned())?;
        cx.forward(record.with_value(number))
    }

    fn punctuate(&mut self, _: Punctuation, time: Timestamp, cx: &mut Context<'_>) -> Result<()> {
        let all = cx.store(&self.0).get(&"all".to_owned())?.copied();
        cx.forward(Record::new("all".to_owned(), all.unwrap_or(0), time))
    }
}

/// Two sub-topologies, three stores, a repartition, windows that close, and punctuations.
fn topology() -> Topology {
    let builder = StreamsBuilder::new();
    let store = builder.key_value_store::<String, u64>("numbers");
    let handle = store.clone();
    let numbered = builder
        .stream::<String, u64>("in")
        .process::<String, u64, _>(&[&store], move || Number(handle.clone()));
    numbered.to("numbered");
    numbered
        .select_key(|key, _| key[..1].to_owned())
        .repartition("by-letter")
        .group_by_key()
        .windowed_by(TimeWindows::tumbling(Duration::from_millis(10)))
        .aggregate("counts", u64::default, |_, _, count| *count += 1)
        .to_stream()
        .map(|at, n| (format!("{}@{}", at.key, at.window.start), n))
        .to("counted");
    builder.build().unwrap()
}

/// Nothing comes of it before time ends, and then windows, sessions and a join send to one another through topics.
fn at_the_end() -> Topology {
    let builder = StreamsBuilder::new();
    let by_letter = |key: &String, _: &u64| key[..1].to_owned();
    let hours = TimeWindows::tumbling(Duration::from_millis(10)).grace(Duration::from_millis(500));
    let counted = builder
        .stream::<String, u64>("in")
        .group_by_key()
        .windowed_by(hours)
        .emit(Emit::OnClose)
        .count("by-window")
        .to_stream()
        .map(|at, n| (at.key, n));
    let visits = counted
        .select_key(by_letter)
        .repartition("by-letter")
        .group_by_key()
        .windowed_by(SessionWindows::gap(Duration::from_millis(20)))
        .emit(Emit::OnClose)
        .count("by-session")
        .to_stream()
        .map(|at, n| (at.key, n.unwrap_or(0)))
        .repartition("visits");
    let within = JoinWindows::within(Duration::from_millis(5)).grace(Duration::from_millis(100));
    counted
        .select_key(by_letter)
        .repartition("windows")
        .outer_join(&visits, "met", within, |_, n, m| n.unwrap_or(&0) * 1_000 + m.unwrap_or(&0))
        .to("met");
    builder.build().unwrap()
}

fn settings(memory_bytes: usize) -> Settings {
    Settings {
        memory_bytes,
        // A commit every few records; without memory, each is followed by a write of state.
        commit_interval: Duration::ZERO,
        turn_records_max: 9,
        restart_backoff: Duration::ZERO,
        restarts_max: u32::MAX,
        ..Settings::new("app")
    }
}

type Ports = (Arc<dyn Log>, Arc<dyn StateBackend>);

/// A log and a state engine that fail as `fault` says; of the state so much is left as [`FaultyBackend::new`] is told.
fn ports(inner: MemoryLog, fault: &Fault, small_reads: bool, left_percent: usize) -> Ports {
    let log = FaultyLog { inner, fault: fault.clone(), small_reads, fails_at_start: false };
    (Arc::new(log), Arc::new(FaultyBackend::new(fault, left_percent)))
}

struct World {
    log: MemoryLog,
    fault: Fault,
    ports: Ports,
}

impl World {
    /// With all input in place.
    fn new(fault: Fault) -> Self {
        let log = MemoryLog::default();
        let ports = ports(log.clone(), &fault, true, 0);
        block_on(async {
            log.create_topic(&TopicSpec::new("in", PARTITIONS).unwrap()).await.unwrap();
            let mut producer = log.producer(&ProducerName("input".into())).await.unwrap();
            for at in 0..RECORDS {
                let mut batch = BatchBuilder::default();
                let key = ["ant", "bee", "cat", "ape", "bat"][(at % 5) as usize];
                let time = Timestamp(at.cast_signed());
                batch.push(time, Some(key.as_bytes()), Some(&at.to_be_bytes()), &Headers::new());
                let partition = Partition(u32::try_from(at % 2).unwrap());
                let topic = TopicName::new("in").unwrap();
                producer.append(&TopicPartition::new(topic, partition), &mut batch).unwrap();
            }
            producer.commit(None).await.unwrap();
        });
        Self { log, fault, ports }
    }

    /// All that the application wrote, changelogs and repartitions included.
    fn contents(&self) -> Vec<(TopicPartition, Vec<Contents>)> {
        let mut contents = Vec::new();
        for partition in block_on(self.log.topics()).unwrap().iter().flat_map(TopicSpec::topic_partitions) {
            let (mut records, mut next) = (Vec::new(), Offset(0));
            loop {
                let fetched = block_on(self.log.read(&partition, next, usize::MAX)).unwrap();
                let Some(last) = fetched.batches.last() else { break };
                next = last.next_offset();
                for batch in &fetched.batches {
                    let mut cursor = batch.cursor();
                    while let Some(record) = cursor.next().transpose().unwrap() {
                        records.push(Contents {
                            key: record.key.map(<[u8]>::to_vec),
                            value: record.value.map(<[u8]>::to_vec),
                            time: record.timestamp,
                        });
                    }
                }
            }
            contents.push((partition, records));
        }
        contents
    }

    /// Changelog records that the state lacks.
    fn missing(&self) -> u64 {
        let missing = |((task, store), position): ((headwater_core::TaskId, String), Offset)| {
            let topic = TopicName::new(format!("app-{store}-changelog")).unwrap();
            let end = block_on(self.log.offsets(&TopicPartition::new(topic, task.partition))).unwrap().end;
            end.0 - position.0
        };
        self.fault.positions().into_iter().map(missing).sum()
    }

    /// Runs to the end, however often the process ends; how many changelog records were replayed.
    fn run(&self, topology: Topology, memory_bytes: usize) -> u64 {
        let settings = settings(memory_bytes);
        self.fault.arm(false);
        let mut driver = TopologyTestDriver::on(topology, settings, PARTITIONS, self.ports.clone()).unwrap();
        let mut replayed = 0;
        self.fault.arm(true);
        // One end in the middle is planned, so that there is something to restore in each run.
        let mut failed = driver.crash().is_err() || (0..3).any(|_| driver.turn().is_err());
        failed = failed || driver.crash().is_err();
        for _ in 0..ATTEMPTS_MAX {
            if !failed && driver.close_windows().is_ok() {
                return replayed;
            }
            let missing = self.missing();
            failed = driver.crash().is_err();
            if !failed {
                assert_eq!(driver.metrics().total().restored, missing, "only the suffix is replayed");
                replayed += missing;
            }
        }
        panic!("no end after {ATTEMPTS_MAX} attempts");
    }
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Contents {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    time: Timestamp,
}

fn undisturbed() -> Vec<(TopicPartition, Vec<Contents>)> {
    let world = World::new(Fault::default());
    assert_eq!(world.run(topology(), 0), 0);
    let contents = world.contents();
    let count = |topic: &str| -> usize {
        contents.iter().filter(|(p, _)| p.topic.as_str() == topic).map(|(_, records)| records.len()).sum()
    };
    // 40 records, and a punctuation of each task at 0 or 1, 7, 14, 21, 28 and 35.
    assert_eq!((count("numbered"), count("counted")), (52, 52));
    contents
}

/// What is promised: the content of every topic but changelogs, which have one record per changed row and commit; in its
/// order where a partition has one writer.
fn results(contents: Vec<(TopicPartition, Vec<Contents>)>) -> BTreeMap<TopicPartition, Vec<Contents>> {
    let mut results: BTreeMap<_, _> =
        contents.into_iter().filter(|(p, _)| !p.topic.as_str().ends_with("-changelog")).collect();
    for (partition, records) in &mut results {
        if partition.topic.as_str() != "counted" {
            records.sort();
        }
    }
    results
}

#[test]
fn a_process_that_ends_at_any_step_changes_no_result() {
    let expected = results(undisturbed());
    let (mut places_seen, mut runs, mut replayed) = (BTreeSet::new(), 0, 0);
    for (times, memory_bytes) in [(1, 0), (2, 0), (10, 0), (1, 1 << 20), (3, 1 << 20)] {
        for at in 1.. {
            let world = World::new(Fault::new(at, times));
            replayed += world.run(topology(), memory_bytes);
            let fired = world.fault.fired();
            let Some(place) = fired.first() else { break };
            assert!(results(world.contents()) == expected, "call {at}, {place}, {times} times");
            places_seen.insert(*place);
            runs += 1;
        }
    }
    assert_eq!(places_seen, places());
    assert!(replayed > 0, "no run had a suffix to replay");
    eprintln!("{runs} runs, {} places, {replayed} changelog records replayed", places_seen.len());
}

/// As above, for what is closed when time ends.
#[test]
fn a_process_that_ends_at_any_step_closes_every_window_once() {
    let world = World::new(Fault::default());
    world.run(at_the_end(), 0);
    let expected = results(world.contents());
    let met = expected.iter().filter(|(partition, _)| partition.topic.as_str() == "met");
    assert!(met.map(|(_, records)| records.len()).sum::<usize>() > 20);
    let mut runs = 0;
    for (times, memory_bytes) in [(1, 0), (3, 1 << 20)] {
        for at in 1.. {
            let world = World::new(Fault::new(at, times));
            world.run(at_the_end(), memory_bytes);
            let fired = world.fault.fired();
            let Some(place) = fired.first() else { break };
            assert!(results(world.contents()) == expected, "call {at}, {place}, {times} times");
            runs += 1;
        }
    }
    eprintln!("{runs} runs");
}

/// The same with the workers of a running application, which replace themselves.
#[test]
fn a_worker_that_is_replaced_at_any_step_changes_no_result() {
    let expected = results(undisturbed());
    let (mut runs, mut replaced) = (0, 0);
    for at in (1..).step_by(5) {
        let world = World::new(Fault::new(at, 3));
        world.fault.arm(true);
        let (log, state) = world.ports.clone();
        let closed = block_on(async {
            let settings = Settings { workers: 2, ..settings(0) };
            let streams = Streams::start(topology(), settings, log, state).await.unwrap();
            streams.close_windows().await.unwrap();
            streams.close().await
        });
        let fired = world.fault.fired();
        if fired.is_empty() {
            break;
        }
        assert!(results(world.contents()) == expected, "call {at}, {fired:?}");
        runs += 1;
        // Whoever fails while the application is closed is not replaced, and `close` says so.
        let Ok(metrics) = closed else { continue };
        assert_eq!(metrics.replaced_workers, fired.len() as u64);
        // A worker that ends before it has the log's answer does not know that it had committed.
        let (counted, all) = (metrics.total().records, RECORDS + 52);
        let is_exact = !fired.contains(&"after the log's commit");
        assert!(counted == all || (!is_exact && counted < all), "{counted}, call {at}, {fired:?}");
        replaced += metrics.replaced_workers;
    }
    assert!(runs > 10 && replaced > runs, "{runs} runs, {replaced} replaced");
    eprintln!("{runs} runs, {replaced} workers replaced");
}

/// Rows of the tests below: so many and so large that they are not written to the engine at once.
const ROWS: u64 = 60;
const ROW_BYTES: usize = 200 << 10;

/// An application on ports that fail, with its rows committed, and where it is to fail.
fn with_rows(topology: Topology, left_percent: usize) -> (TopologyTestDriver, Ports, Fault) {
    let fault = Fault::default();
    let ports = ports(MemoryLog::default(), &fault, true, left_percent);
    let settings = Settings { commit_interval: Duration::ZERO, ..Settings::new("app") };
    let mut driver = TopologyTestDriver::on(topology, settings, 1, ports.clone()).unwrap();
    for n in 0..ROWS {
        driver.append("rows-in", &n.to_string(), &vec![7u8; ROW_BYTES], Timestamp(1)).unwrap();
    }
    driver.run().unwrap();
    (driver, ports, fault)
}

/// A store of large rows.
fn large_rows() -> Topology {
    let builder = StreamsBuilder::new();
    let store = builder.key_value_store::<String, Vec<u8>>("rows");
    let handle = store.clone();
    builder
        .stream::<String, Vec<u8>>("rows-in")
        .process::<String, u64, _>(&[&store], move || Count(handle.clone()))
        .to("out");
    builder.build().unwrap()
}

fn written(fault: &Fault) -> u64 {
    fault.positions().into_values().map(|position| position.0).sum()
}

/// Sessions are restored through the engine, a few mebibytes at a time: a restore that ends half way is gone on with.
#[test]
fn a_restore_that_ends_half_way_goes_on_where_it_was() {
    let topology = || {
        let builder = StreamsBuilder::new();
        builder
            .stream::<String, Vec<u8>>("rows-in")
            .group_by_key()
            .windowed_by(SessionWindows::gap(Duration::from_millis(20)))
            .reduce("rows", |_, new| new)
            .to_stream()
            .filter(|_, _| false)
            .map(|at, row| (at.key, row.unwrap_or_default()))
            .to("out");
        builder.build().unwrap()
    };
    // The fault is armed for the restore only, and hits its first writes.
    for at in [1, 2, 3] {
        let (mut driver, _, fault) = with_rows(topology(), 0);
        fault.arm_at("after a write of state", at);
        driver.crash().unwrap_err();
        let told = driver.metrics().total();
        assert_eq!(told.restored + told.to_restore, ROWS);
        assert!(told.to_restore > 0, "{told:?}");
        let restored = written(&fault);
        assert!(restored > 0 && (restored < ROWS || at == 3), "{restored} of {ROWS} after write {at}");
        driver.crash().unwrap();
        let told = driver.metrics().total();
        assert_eq!((told.restored, told.to_restore), (ROWS - restored, 0));
    }
}

/// Rows that are restored into memory and have no room there are written like those of a running task, also half way.
#[test]
fn what_has_no_room_in_memory_is_written_while_it_is_restored() {
    // Half of it is for rows: a third of what there are.
    let less = || Settings { memory_bytes: 8 << 20, ..Settings::new("app") };
    // They are written one by one, twenty and some each time; the position comes with the last.
    for (at, is_first_time) in [(1, true), (10, true), (25, false), (40, false)] {
        let (driver, ports, fault) = with_rows(large_rows(), 0);
        drop(driver);
        fault.arm_at("after a write of state", at);
        assert!(TopologyTestDriver::on(large_rows(), less(), 1, ports.clone()).is_err());
        let restored = written(&fault);
        assert_eq!(restored == 0, is_first_time, "{restored} of {ROWS} after write {at}");
        assert!(restored < ROWS);
        let mut driver = TopologyTestDriver::on(large_rows(), less(), 1, ports.clone()).unwrap();
        let told = driver.metrics().total();
        assert_eq!((told.restored, told.to_restore), (ROWS - restored, 0));
        // What is in memory yet is written behind, without a record that comes.
        assert!(written(&fault) < ROWS);
        driver.turn().unwrap();
        assert_eq!(written(&fault), ROWS);
        driver.crash().unwrap();
        assert_eq!(driver.metrics().total().restored, 0);
    }
}

/// Restored rows are written behind in parts. Others are changed and committed between two parts, and the process may end behind each.
#[test]
fn rows_may_change_while_others_are_written() {
    let mut parts = BTreeSet::new();
    for (turns, left_percent) in (0..6).flat_map(|turns| [0, 50, 100].map(|percent| (turns, percent))) {
        let (mut driver, _, fault) = with_rows(large_rows(), left_percent);
        let mut expected: BTreeMap<String, u64> = (0..ROWS).map(|n| (n.to_string(), 1)).collect();
        for round in 0..4 {
            driver.crash().unwrap();
            for turn in 0..turns {
                let key = ((7 * turn + round) % ROWS).to_string();
                driver.append("rows-in", &key, &vec![7u8; ROW_BYTES], Timestamp(1)).unwrap();
                *expected.get_mut(&key).unwrap() += 1;
                driver.turn().unwrap();
            }
            parts.insert(written(&fault));
        }
        driver.crash().unwrap();
        driver.read::<String, u64>("out").unwrap();
        for n in 0..ROWS {
            driver.append("rows-in", &n.to_string(), &vec![7u8; ROW_BYTES], Timestamp(1)).unwrap();
        }
        driver.run().unwrap();
        let counts: BTreeMap<String, u64> =
            driver.read::<String, u64>("out").unwrap().into_iter().map(|r| (r.key, r.value - 1)).collect();
        assert_eq!(counts, expected, "{turns} turns between two crashes, {left_percent} percent left");
    }
    assert!(parts.contains(&0) && parts.len() > 3, "positions of the engine: {parts:?}");
}

/// Counts the records of a key in the first bytes of a row that is large.
struct Count(KeyValueHandle<String, Vec<u8>>);

impl Processor<String, Vec<u8>, String, u64> for Count {
    fn process(
        &mut self,
        record: Record<String, Vec<u8>>,
        cx: &mut ProcessorContext<'_, String, u64>,
    ) -> Result<()> {
        let count = cx.store(&self.0).update(&record.key, record.timestamp, |row| {
            let row = row.get_or_insert_with(|| vec![0; ROW_BYTES]);
            let count = u64::from_be_bytes(*row.first_chunk().unwrap()) + 1;
            row[..8].copy_from_slice(&count.to_be_bytes());
            count
        })?;
        cx.forward(record.with_value(count))
    }
}
