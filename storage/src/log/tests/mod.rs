//! The embedded log against the contract of [`Log`], crashes, damage, threads and a model.

mod bodies;
mod compaction;
mod crash;
mod damage;
mod disk;
mod faults;
mod filed;
mod flips;
mod full;
mod kept;
mod life;
mod many;
mod model;
mod observed;
mod power;
mod producers;
mod rules;
mod running;
mod share;

use std::{cell::RefCell, fs, path::Path, time::Duration};

use bytes::Bytes;
use futures::executor::block_on;
use headwater_core::{
    BatchBuilder, ErrorKind, Headers, Partition, Positions, Timestamp, TopicConfig, TopicName, contract,
};
use tempfile::TempDir;

use super::{layout::Layout, *};

/// So small that everything happens often: segments, spills, checkpoints, recycled journals.
fn tiny() -> LogOptions {
    LogOptions {
        journal_segment_bytes: 2048,
        checkpoint_bytes: 4096,
        filed_bytes_min: 150,
        tail_bytes_max: 2000,
        open_files_max: 2,
        ..LogOptions::default()
    }
}

/// Everything stays in the journal until a checkpoint is asked for.
fn lazy() -> LogOptions {
    LogOptions { checkpoint_bytes: u64::MAX, ..LogOptions::default() }
}

fn tp(topic: &str, partition: u32) -> TopicPartition {
    TopicPartition::new(TopicName::new(topic).unwrap(), Partition(partition))
}

fn create(log: &EmbeddedLog, topic: &str, partitions: u32, segment_bytes: u64) {
    let config = TopicConfig { segment_bytes, ..TopicConfig::default() };
    block_on(log.create_topic(&TopicSpec { config, ..TopicSpec::new(topic, partitions).unwrap() })).unwrap();
}

fn producer(log: &EmbeddedLog, name: &str) -> Box<dyn Producer> {
    block_on(log.producer(&ProducerName(name.into()))).unwrap()
}

fn append(producer: &mut dyn Producer, to: &TopicPartition, values: &[String]) {
    let mut builder = BatchBuilder::default();
    for value in values {
        builder.push(Timestamp(7), Some(b"key"), Some(value.as_bytes()), &Headers::new());
    }
    producer.append(to, &mut builder).unwrap();
}

fn at(group: &str, partition: &TopicPartition, offset: u64) -> Positions {
    let committed = Committed { offset: Offset(offset), metadata: Bytes::from(format!("at {offset}")) };
    Positions::new(GroupId(group.into()), vec![(partition.clone(), committed)])
}

/// Reads what is left of a partition, `bytes_max` at a time.
fn try_values(log: &dyn Log, from: &TopicPartition, bytes_max: usize) -> Result<Vec<String>> {
    let earliest = block_on(log.offsets(from))?.earliest;
    let mut next = earliest;
    let mut values = Vec::new();
    loop {
        let fetched = block_on(log.read(from, next, bytes_max))?;
        if fetched.batches.is_empty() {
            assert_eq!(fetched.end, next);
            return Ok(values);
        }
        for batch in &fetched.batches {
            assert!(batch.base_offset() == next || (next == earliest && batch.base_offset() < next));
            let mut cursor = batch.cursor();
            while let Some(record) = cursor.next() {
                let record = record?;
                if record.offset >= earliest {
                    values.push(String::from_utf8(record.value.unwrap().to_vec()).unwrap());
                }
            }
            next = batch.next_offset();
        }
    }
}

fn values(log: &dyn Log, from: &TopicPartition) -> Vec<String> {
    let values = try_values(log, from, 0).unwrap();
    assert_eq!(try_values(log, from, 1 << 20).unwrap(), values);
    values
}

fn position(log: &dyn Log, group: &str, partition: &TopicPartition) -> Option<u64> {
    let committed = block_on(log.committed(&GroupId(group.into()), partition)).unwrap()?;
    assert_eq!(committed.metadata, format!("at {}", committed.offset));
    Some(committed.offset.0)
}

/// Commits `numbers`, each as one batch in each of two partitions and a position: all or nothing can be seen.
fn commit_both(producer: &mut dyn Producer, numbers: impl Iterator<Item = u64>) {
    for number in numbers {
        for partition in [0, 1] {
            append(producer, &tp("t", partition), &[format!("value {number}"), "x".repeat(20)]);
        }
        block_on(producer.commit(Some(&at("g", &tp("t", 0), number + 1)))).unwrap();
    }
}

/// How many commits of [`commit_both`] are there; panics when one is there in part.
fn commits_in(log: &dyn Log) -> u64 {
    let (zero, one) = (values(log, &tp("t", 0)), values(log, &tp("t", 1)));
    assert_eq!(zero, one, "a commit is all or nothing");
    for (number, pair) in zero.chunks(2).enumerate() {
        assert_eq!(pair[0], format!("value {number}"));
    }
    let count = zero.len() as u64 / 2;
    assert_eq!(position(log, "g", &tp("t", 0)).unwrap_or(0), count);
    count
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn layout(folder: &Path) -> Layout {
    Layout::new(folder, Arc::new(RealFs))
}

/// The numbers of the files in `folder` with this extension.
fn numbered(folder: &Path, extension: &str) -> Vec<u64> {
    layout(folder).numbered(folder, extension).unwrap()
}

/// All files but LOCK, with their bytes.
fn contents(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(contents(&path));
        } else if !path.ends_with("LOCK") {
            files.push((path.display().to_string(), fs::read(&path).unwrap()));
        }
    }
    files.sort();
    files
}

fn keeps_the_contract(options: &LogOptions) {
    let folders = RefCell::new(Vec::<TempDir>::new());
    contract::log::all(|| {
        let folder = tempfile::tempdir().unwrap();
        let log = EmbeddedLog::open_with(folder.path(), options.clone()).unwrap();
        folders.borrow_mut().push(folder);
        Arc::new(log)
    });
    contract::log::admin(|clock| {
        let folder = tempfile::tempdir().unwrap();
        let log = EmbeddedLog::open_with(folder.path(), LogOptions { clock, ..options.clone() }).unwrap();
        folders.borrow_mut().push(folder);
        Arc::new(log)
    });
}

#[test]
fn keeps_the_contract_with_default_settings() {
    keeps_the_contract(&LogOptions::default());
}

#[test]
fn keeps_the_contract_from_files() {
    keeps_the_contract(&tiny());
}

#[test]
fn keeps_the_contract_without_a_sync_per_commit() {
    keeps_the_contract(&LogOptions { durability: Durability::Os, ..tiny() });
    keeps_the_contract(&LogOptions { durability: Durability::Interval(Duration::from_millis(1)), ..tiny() });
}

#[test]
fn keeps_the_contract_with_a_share_of_the_disk() {
    let disk_share = DiskShare::new(0.5).unwrap();
    keeps_the_contract(&LogOptions { disk_share, ..tiny() });
}

#[test]
fn a_reopened_log_is_the_same() {
    let shared = LogOptions { disk_share: DiskShare::new(0.5).unwrap(), ..tiny() };
    for options in [LogOptions::default(), tiny(), lazy(), shared] {
        let folder = tempfile::tempdir().unwrap();
        let log = EmbeddedLog::open_with(folder.path(), options.clone()).unwrap();
        create(&log, "t", 2, 500);
        create(&log, "empty", 3, 500);
        commit_both(&mut *producer(&log, "p"), 0..30);
        let topics = block_on(log.topics()).unwrap();
        block_on(log.close()).unwrap();
        block_on(log.close()).unwrap();
        assert_eq!(block_on(log.topics()).unwrap_err().kind(), ErrorKind::Closed);
        let kind = block_on(log.producer(&ProducerName("p".into()))).err().unwrap().kind();
        assert_eq!(kind, ErrorKind::Closed);

        let log = EmbeddedLog::open_with(folder.path(), options.clone()).unwrap();
        assert_eq!(log.recovery(), &RecoveryReport::default(), "a clean close leaves nothing to do");
        assert_eq!(block_on(log.topics()).unwrap(), topics);
        assert_eq!(commits_in(&log), 30);
        assert!(values(&log, &tp("empty", 2)).is_empty());
        let mut again = producer(&log, "p");
        commit_both(&mut *again, 30..40);
        log.crash();
        drop((again, log));

        let log = EmbeddedLog::open_with(folder.path(), options.clone()).unwrap();
        assert_eq!(commits_in(&log), 40);
        commit_both(&mut *producer(&log, "p"), 40..50);
        drop(log);
        let log = EmbeddedLog::open_with(folder.path(), options).unwrap();
        assert_eq!(log.recovery(), &RecoveryReport::default(), "dropping it closes it");
        assert_eq!(commits_in(&log), 50);
    }
}
