//! A real file system that is really full: it is small, and mounted for the test, which needs the rights to do so.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    io::{self, Write},
    path::Path,
    process::{Command, Stdio},
};

use bytes::Bytes;
use futures::executor::block_on;
use headwater_core::{
    BatchBuilder, Committed, Error, ErrorKind, GroupId, Headers, Log, Offset, Partition, Positions, Producer,
    ProducerName, Result, Timestamp, TopicConfig, TopicName, TopicPartition, TopicSpec,
};
use headwater_storage::log::{EmbeddedLog, LogOptions};
use tempfile::TempDir;

const MIB: usize = 1 << 20;
const CYCLES: u64 = 50;

/// A file system in memory, which is gone when this is dropped.
struct Small(TempDir);

impl Small {
    /// `None` when we may not mount.
    fn mount(bytes: usize) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "headwater-test"]).arg(folder.path());
        let mounted = mount.stdout(Stdio::null()).stderr(Stdio::null()).status();
        mounted.is_ok_and(|status| status.success()).then_some(Self(folder))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "still mounted: {}", self.0.path().display());
    }
}

fn partition(number: u32) -> TopicPartition {
    TopicPartition::new(TopicName::new("t").unwrap(), Partition(number))
}

fn open(folder: &Path) -> EmbeddedLog {
    let options = LogOptions {
        journal_segment_bytes: MIB as u64 / 4,
        checkpoint_bytes: MIB as u64 / 2,
        tail_bytes_max: MIB / 8,
        ..LogOptions::default()
    };
    EmbeddedLog::open_with(folder, options).unwrap()
}

fn producer(log: &EmbeddedLog) -> Box<dyn Producer> {
    block_on(log.producer(&ProducerName("p".into()))).unwrap()
}

/// Appends commit `number` to both partitions, and returns its position.
fn append(producer: &mut dyn Producer, number: u64) -> Positions {
    for number_of in [0, 1] {
        let mut batch = BatchBuilder::default();
        batch.push(Timestamp(7), Some(&number.to_be_bytes()), Some(&[7; 8000]), &Headers::new());
        producer.append(&partition(number_of), &mut batch).unwrap();
    }
    let committed = Committed { offset: Offset(number + 1), metadata: Bytes::new() };
    Positions::new(GroupId("g".into()), vec![(partition(0), committed)])
}

/// Commits from `number` on until there is no room; returns the number of the commit that is still held.
fn fill(producer: &mut dyn Producer, mut number: u64) -> (u64, Error) {
    loop {
        let positions = append(producer, number);
        match block_on(producer.commit(Some(&positions))) {
            Ok(_) => number += 1,
            Err(error) => return (number, error),
        }
    }
}

/// Reads everything: commits are dense, whole, and as many as their position says.
fn commits_in(log: &EmbeddedLog) -> Result<u64> {
    let mut counts = [0, 0];
    for (count, number) in counts.iter_mut().zip(0..) {
        loop {
            let fetched = block_on(log.read(&partition(number), Offset(*count), MIB))?;
            if fetched.batches.is_empty() {
                break;
            }
            for batch in fetched.batches {
                let mut cursor = batch.cursor();
                while let Some(record) = cursor.next() {
                    let record = record?;
                    assert_eq!(record.key, Some(&count.to_be_bytes()[..]));
                    assert_eq!(record.value, Some(&[7; 8000][..]));
                    *count += 1;
                }
            }
        }
    }
    let position = block_on(log.committed(&GroupId("g".into()), &partition(0)))?;
    let position = position.map_or(0, |committed| committed.offset.0);
    assert_eq!((counts[0], counts[1]), (position, position));
    Ok(position)
}

#[test]
fn a_full_file_system_is_said_so_and_goes_on_when_space_is_freed() {
    let Some(small) = Small::mount(24 * MIB) else {
        // Not through `println`, which is only shown when a test fails.
        let skipped =
            "SKIPPED: no right to mount a small file system: a disk that is really full was NOT tested";
        writeln!(io::stderr(), "{skipped}").unwrap();
        return;
    };
    let folder = small.0.path().join("log");
    let ballast = |number: u64| small.0.path().join(format!("ballast-{number}"));
    // Somebody else has taken nearly everything, in pieces.
    (0..CYCLES).for_each(|number| fs::write(ballast(number), vec![1; 320 << 10]).unwrap());
    let mut log = open(&folder);
    let config = TopicConfig { segment_bytes: MIB as u64, ..TopicConfig::default() };
    block_on(log.create_topic(&TopicSpec { config, ..TopicSpec::new("t", 2).unwrap() })).unwrap();
    let (mut acked, mut refused) = (0, 0);
    let mut p = producer(&log);
    for cycle in 0..CYCLES {
        let (held, error) = fill(&mut *p, acked);
        assert_eq!(error.kind(), ErrorKind::Full, "{error:?}");
        let text = error.report();
        assert!(text.contains("disk is full") && text.contains(folder.to_str().unwrap()), "{text}");
        assert_eq!(commits_in(&log).unwrap(), held, "cycle {cycle}");
        refused += 1;
        fs::remove_file(ballast(cycle)).unwrap();
        let position = Committed { offset: Offset(held + 1), metadata: Bytes::new() };
        let positions = Positions::new(GroupId("g".into()), vec![(partition(0), position)]);
        block_on(p.commit(Some(&positions))).unwrap();
        acked = held + 1;
        assert_eq!(commits_in(&log).unwrap(), acked, "cycle {cycle}");
        if cycle % 25 == 24 {
            drop(p);
            // With or without room for a checkpoint.
            let _ = block_on(log.close());
            log = open(&folder);
            assert_eq!(commits_in(&log).unwrap(), acked, "cycle {cycle}");
            p = producer(&log);
        }
    }
    println!("{refused} times full, {acked} commits");
}
