//! A process with a log under transactional load is killed with `kill -9`, hundreds of times, and nothing that it was
//! told to be written is lost, doubled or half there.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeMap,
    env,
    io::{BufRead, BufReader, Write},
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Command, Stdio},
    thread,
};

use futures::executor::block_on;
use headwater_core::{
    BatchBuilder, Committed, GroupId, Headers, Log, Offset, Partition, Positions, ProducerName, Timestamp,
    TopicConfig, TopicName, TopicPartition, TopicSpec,
};
use headwater_storage::log::{Durability, EmbeddedLog, LogOptions};

const CHILD: &str = "HEADWATER_TEST_LOG_OF_A_KILLED_PROCESS";
/// Set in a child that writes in mode `os`.
const OS: &str = "HEADWATER_TEST_LOG_IN_MODE_OS";
const PARTITIONS: u32 = 8;
const WRITERS: usize = 2;
const SEED: u64 = 0x4b49_4c4c;

/// Everything is small, so that segments roll, the journal is used again and checkpoints are made all the time.
fn options(durability: Durability) -> LogOptions {
    LogOptions {
        durability,
        journal_segment_bytes: 64 << 10,
        checkpoint_bytes: 128 << 10,
        filed_bytes_min: 100,
        tail_bytes_max: 64 << 10,
        ..LogOptions::default()
    }
}

fn open(folder: &Path, durability: Durability) -> EmbeddedLog {
    let log = EmbeddedLog::open_with(folder, options(durability)).unwrap();
    let config = TopicConfig { segment_bytes: 32 << 10, ..TopicConfig::default() };
    let spec = TopicSpec { config, ..TopicSpec::new("t", PARTITIONS).unwrap() };
    block_on(log.create_topic(&spec)).unwrap();
    log
}

fn partition(number: u32) -> TopicPartition {
    TopicPartition::new(TopicName::new("t").unwrap(), Partition(number))
}

fn group(writer: usize) -> GroupId {
    GroupId(format!("writer-{writer}"))
}

/// How many transactions of a writer are known to the log, by its positions.
fn committed(log: &EmbeddedLog, writer: usize) -> u64 {
    block_on(log.committed(&group(writer), &partition(0))).unwrap().map_or(0, |committed| committed.offset.0)
}

/// How many records transaction `number` has in each partition.
fn records(number: u64) -> u64 {
    1 + number % 3
}

/// What the child does until it is killed: transactions over all partitions, and a line after each.
fn child(folder: &Path) -> ! {
    let log = open(folder, if env::var_os(OS).is_some() { Durability::Os } else { Durability::Fsync });
    let writers = (0..WRITERS).map(|writer| {
        let log = log.clone();
        thread::spawn(move || write(&log, writer))
    });
    writers.collect::<Vec<_>>().into_iter().for_each(|writer| writer.join().unwrap());
    unreachable!("writers write until they are killed");
}

fn write(log: &EmbeddedLog, writer: usize) {
    let mut producer = block_on(log.producer(&ProducerName(format!("writer-{writer}")))).unwrap();
    let mut builder = BatchBuilder::default();
    for number in committed(log, writer).. {
        for at in 0..PARTITIONS {
            for record in 0..records(number) {
                let value = format!("{writer} {number} {record}");
                builder.push(Timestamp(0), None, Some(value.as_bytes()), &Headers::new());
            }
            producer.append(&partition(at), &mut builder).unwrap();
        }
        let at = Committed { offset: Offset(number + 1), metadata: Vec::new().into() };
        let positions = Positions::new(group(writer), vec![(partition(0), at)]);
        block_on(producer.commit(Some(&positions))).unwrap();
        let mut out = std::io::stdout().lock();
        writeln!(out, "\nacknowledged {writer} {}", number + 1).unwrap();
        out.flush().unwrap();
    }
}

/// Runs the child until so many transactions are acknowledged and a moment more, and kills it. `acknowledged` is kept up
/// to what it said, up to its death.
fn run_and_kill(
    (folder, durability): (&Path, Durability),
    transactions: u64,
    moment: u64,
    acknowledged: &mut [u64; WRITERS],
) {
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["--exact", "nothing_acknowledged_is_lost", "--nocapture", "--test-threads=1"])
        .env(CHILD, folder)
        .stdout(Stdio::piped());
    if durability == Durability::Os {
        command.env(OS, "1");
    }
    let mut process = command.spawn().unwrap();
    let output = BufReader::new(process.stdout.take().unwrap());
    let mut heard = 0;
    for line in output.lines().map_while(Result::ok) {
        let Some(said) = line.strip_prefix("acknowledged ") else { continue };
        let (writer, number) = said.split_once(' ').unwrap();
        // A line may be cut by the kill.
        let Ok(number) = number.parse::<u64>() else { continue };
        let known = &mut acknowledged[writer.parse::<usize>().unwrap()];
        assert!(number > *known || heard >= transactions, "a writer goes on where it was: {line}");
        *known = number.max(*known);
        heard += 1;
        if heard == transactions {
            // Work of varying length, so that the kill meets the next commit at another point each time.
            (0..moment).for_each(|at| {
                std::hint::black_box(at);
            });
            process.kill().unwrap();
        }
    }
    let status = process.wait().unwrap();
    assert!(heard >= transactions, "the child ended before it was killed: {status}");
    assert_eq!(status.signal(), Some(9), "it was the kill that ended it: {status}");
}

/// What is known to be good of each partition: up to which offset, and the next transaction of each writer there.
#[derive(Default)]
struct Checked {
    next: BTreeMap<u32, (Offset, [u64; WRITERS])>,
    records: u64,
}

impl Checked {
    /// Reads what is new, record for record; returns the transactions of each writer.
    fn check(&mut self, log: &EmbeddedLog) -> [u64; WRITERS] {
        let known: [u64; WRITERS] = std::array::from_fn(|writer| committed(log, writer));
        for number in 0..PARTITIONS {
            let (next, transactions) = self.next.entry(number).or_default();
            let mut record = [0; WRITERS];
            loop {
                let fetched = block_on(log.read(&partition(number), *next, 1 << 20)).unwrap();
                for batch in &fetched.batches {
                    assert_eq!(batch.base_offset(), *next, "offsets are dense");
                    let mut cursor = batch.cursor();
                    while let Some(found) = cursor.next() {
                        let value = String::from_utf8(found.unwrap().value.unwrap().to_vec()).unwrap();
                        let writer: usize = value[..1].parse().unwrap();
                        let expected = format!("{writer} {} {}", transactions[writer], record[writer]);
                        assert_eq!(value, expected, "partition {number}, offset {next}");
                        record[writer] += 1;
                        if record[writer] == records(transactions[writer]) {
                            transactions[writer] += 1;
                            record[writer] = 0;
                        }
                        self.records += 1;
                    }
                    *next = batch.next_offset();
                }
                if *next == fetched.end {
                    break;
                }
            }
            assert_eq!(record, [0; WRITERS], "a transaction is whole. partition={number}");
            assert_eq!(*transactions, known, "all partitions and the positions agree. partition={number}");
        }
        known
    }
}

#[test]
fn nothing_acknowledged_is_lost() {
    if let Some(folder) = env::var_os(CHILD) {
        child(Path::new(&folder));
    }
    kill_and_check(Durability::Fsync, 300);
}

/// Nothing is synced but by checkpoints, which hold nobody up: the memory of the system outlives the process.
#[test]
fn nothing_acknowledged_is_lost_in_mode_os() {
    kill_and_check(Durability::Os, 100);
}

fn kill_and_check(durability: Durability, kills: u64) {
    let mut seed = SEED;
    let mut random = move |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = [0; WRITERS];
    let mut checked = Checked::default();
    let (mut unheard, mut replayed) = (0, 0);
    for kill in 0..kills {
        run_and_kill((folder.path(), durability), 1 + random(40), random(2_000_000), &mut acknowledged);
        // Every other time the child recovers what the kill left, and is killed again.
        if random(2) == 0 && kill + 1 < kills {
            continue;
        }
        let log = open(folder.path(), durability);
        replayed += log.recovery().groups_replayed;
        let found = checked.check(&log);
        for (found, told) in found.into_iter().zip(acknowledged) {
            assert!(found >= told, "kill {kill}: told of {told} transactions, and {found} are there");
            unheard += found - told;
        }
        acknowledged = found;
    }
    let log = open(folder.path(), durability);
    let mut all = Checked::default();
    assert_eq!(all.check(&log), acknowledged);
    assert!(replayed > kills, "the kills left work to do: {replayed} groups were replayed");
    let transactions: u64 = acknowledged.iter().sum();
    let records = all.records;
    let mut out = std::io::stderr().lock();
    writeln!(
        out,
        "{durability:?}: {kills} kills (seed {SEED:#x}): {transactions} transactions over {PARTITIONS} partitions, {records} records, \
         0 lost, 0 doubled, 0 half; {unheard} were written and not told of, {replayed} journal groups replayed"
    )
    .unwrap();
}
