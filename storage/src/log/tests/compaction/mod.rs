//! Compaction of closed segments: what is left, and what is on disk.

mod crash;
mod life;
mod meanwhile;

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread,
};

use headwater_core::{Admin, Cleaned, CleanupPolicy, Clock, ManualClock, TopicChanges};
use proptest::prelude::*;

use super::{
    disk::{Disk, Op},
    *,
};
use crate::log::fs::Open;

const ENOSPC: i32 = 28;
const EIO: i32 = 5;

/// Offset, key, value, timestamp.
type Row = (u64, String, Option<String>, i64);

fn compacting(segment_bytes: u64) -> TopicConfig {
    TopicConfig {
        cleanup_policy: CleanupPolicy::Compact,
        min_cleanable_dirty_ratio: 0.0,
        segment_bytes,
        ..TopicConfig::default()
    }
}

fn create_compacted(log: &EmbeddedLog, partitions: u32, config: TopicConfig) {
    block_on(log.create_topic(&TopicSpec { config, ..TopicSpec::new("t", partitions).unwrap() })).unwrap();
}

/// A batch, committed.
fn put(producer: &mut dyn Producer, to: &TopicPartition, rows: &[(&str, Option<&str>)]) {
    let mut builder = BatchBuilder::default();
    for (key, value) in rows {
        let value = value.map(str::as_bytes);
        builder.push(Timestamp(7), Some(key.as_bytes()), value, &Headers::new());
    }
    producer.append(to, &mut builder).unwrap();
    block_on(producer.commit(None)).unwrap();
}

/// All that can be read from `from` on, so much at a time.
fn rows(log: &dyn Log, of: &TopicPartition, from: Offset, bytes_max: usize) -> Result<Vec<Row>> {
    let (mut next, mut rows) = (from, Vec::new());
    loop {
        let fetched = block_on(log.read(of, next, bytes_max))?;
        if fetched.batches.is_empty() {
            assert_eq!(next, fetched.end);
            return Ok(rows);
        }
        for (number, batch) in fetched.batches.into_iter().enumerate() {
            // The first may begin before: those behind the last read may have been compacted since.
            assert!(batch.base_offset() == next || number == 0 && batch.base_offset() < next);
            let mut records = batch.cursor();
            while let Some(record) = records.next().transpose()? {
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                let (key, value) = (text(record.key.unwrap()), record.value.map(text));
                if record.offset >= next {
                    rows.push((record.offset.0, key, value, record.timestamp.0));
                }
            }
            next = batch.next_offset();
        }
    }
}

fn all_rows(log: &dyn Log, of: &TopicPartition) -> Vec<Row> {
    let earliest = block_on(log.offsets(of)).unwrap().earliest;
    let all = rows(log, of, earliest, 0).unwrap();
    assert_eq!(rows(log, of, earliest, 1 << 20).unwrap(), all);
    all
}

/// The value of each key.
fn values_of(rows: &[Row]) -> BTreeMap<&str, &str> {
    let mut values = BTreeMap::new();
    for (_, key, value, _) in rows {
        match value {
            Some(value) => drop(values.insert(key.as_str(), value.as_str())),
            None => drop(values.remove(key.as_str())),
        }
    }
    values
}

fn partition_folder(folder: &Path, partition: u32) -> PathBuf {
    folder.join("topics/t").join(partition.to_string())
}

/// What swaps leave.
fn leftovers(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut left: Vec<_> =
        names.filter(|name| [".cleaned", ".swap", ".new"].iter().any(|end| name.ends_with(end))).collect();
    left.sort();
    left
}

/// Rounds of three keys, each record in a segment of its own.
fn fill(log: &EmbeddedLog, rounds: u64) {
    let mut p = producer(log, "p");
    for round in 0..rounds {
        for key in ["a", "b", "c"] {
            put(&mut *p, &tp("t", 0), &[(key, Some(&format!("{key}{round}{}", "-".repeat(60))))]);
        }
    }
}

/// Every batch and every index entry is what it should be.
fn check_files(folder: &Path) {
    let observed = ObservedLog::open(folder).unwrap();
    for topic in block_on(observed.topics()).unwrap() {
        for partition in topic.topic_partitions() {
            let verifier = Verifier::new(&observed);
            let found = block_on(verifier.partition(&partition, &mut |_, _| {})).unwrap().unwrap();
            assert_eq!(found.damages, []);
        }
    }
}

#[test]
fn segments_that_fit_become_one() {
    let folder = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(folder.path()).unwrap();
    create_compacted(&log, 1, compacting(450));
    fill(&log, 40);
    let before = all_rows(&log, &tp("t", 0));
    let cleaned = block_on(log.clean()).unwrap();
    assert!(cleaned.kept_bytes < cleaned.compacted_bytes / 2, "{cleaned:?}");
    let files = partition_folder(folder.path(), 0);
    let once = numbered(&files, "log");
    let after = all_rows(&log, &tp("t", 0));
    assert!(after.iter().all(|row| before.contains(row)));
    assert_eq!(values_of(&after), values_of(&before));
    // Now that they are small, more of them fit.
    put(&mut *producer(&log, "p"), &tp("t", 0), &[("d", Some(&"-".repeat(400)))]);
    block_on(log.clean()).unwrap();
    let bases = numbered(&files, "log");
    assert!(bases.len() < once.len(), "{bases:?}, {once:?}");
    assert_eq!((numbered(&files, "index"), numbered(&files, "timeindex")), (bases.clone(), bases));
    assert_eq!(leftovers(&files), Vec::<String>::new());
    check_files(folder.path());
    let after = all_rows(&log, &tp("t", 0));
    assert_eq!(after.len(), 4);
    // How far it was compacted is known after a restart too, and without the file that says so it is found out.
    for (remove, compacted) in [(false, false), (true, true)] {
        block_on(log.close()).unwrap();
        if remove {
            fs::remove_file(files.join("cleaner")).unwrap();
        }
        let log = EmbeddedLog::open(folder.path()).unwrap();
        assert_eq!(log.recovery(), &RecoveryReport::default());
        assert_eq!(all_rows(&log, &tp("t", 0)), after);
        assert_eq!(block_on(log.clean()).unwrap().compacted_bytes > 0, compacted);
        assert_eq!(all_rows(&log, &tp("t", 0)), after);
        block_on(log.close()).unwrap();
    }
}

#[test]
fn what_is_in_memory_does_not_hide_what_was_compacted() {
    let folder = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open_with(folder.path(), tiny()).unwrap();
    create_compacted(&log, 2, compacting(300));
    let mut p = producer(&log, "p");
    for round in 0..100 {
        for partition in [0, 1] {
            put(&mut *p, &tp("t", partition), &[("a", Some(&format!("{round}{}", "-".repeat(60))))]);
        }
        if round % 9 == 0 {
            block_on(log.clean()).unwrap();
        }
        let left = all_rows(&log, &tp("t", 1));
        assert_eq!(left.last().unwrap().0, round);
        assert!(left.len() < 20, "{}", left.len());
    }
}

#[test]
fn a_small_map_takes_several_passes() {
    let folder = tempfile::tempdir().unwrap();
    let options = LogOptions { cleaner_bytes_max: 0, ..LogOptions::default() };
    let log = EmbeddedLog::open_with(folder.path(), options).unwrap();
    create_compacted(&log, 1, compacting(700));
    let mut p = producer(&log, "p");
    for round in 0..3 {
        for key in 0..100 {
            put(&mut *p, &tp("t", 0), &[(&format!("key {key}"), Some(&round.to_string()))]);
        }
    }
    put(&mut *p, &tp("t", 0), &[("last", Some(&"-".repeat(700)))]);
    block_on(log.clean()).unwrap();
    let offsets: Vec<_> = all_rows(&log, &tp("t", 0)).iter().map(|(offset, ..)| *offset).collect();
    assert_eq!(offsets, (200..=300).collect::<Vec<_>>());
}

/// Tombstones that get a time grow.
#[test]
fn a_batch_may_become_larger_than_any_that_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(Timestamp(1 << 60)));
    let options = LogOptions { clock: Arc::<ManualClock>::clone(&clock), ..LogOptions::default() };
    let log = EmbeddedLog::open_with(folder.path(), options.clone()).unwrap();
    create_compacted(&log, 1, TopicConfig { delete_retention_ms: 10, ..compacting(1000) });
    let keys: Vec<_> = (0..20_000).map(|key| format!("{key:x}")).collect();
    let tombstones: Vec<_> = keys.iter().map(|key| (key.as_str(), None)).collect();
    let mut p = producer(&log, "p");
    put(&mut *p, &tp("t", 0), &tombstones);
    put(&mut *p, &tp("t", 0), &[("a", Some("a"))]);
    let before = all_rows(&log, &tp("t", 0));
    let cleaned = block_on(log.clean()).unwrap();
    assert!(cleaned.kept_bytes > cleaned.compacted_bytes, "{cleaned:?}");
    assert_eq!(all_rows(&log, &tp("t", 0)), before);
    block_on(log.close()).unwrap();
    let log = EmbeddedLog::open_with(folder.path(), options).unwrap();
    assert_eq!(all_rows(&log, &tp("t", 0)), before);
    clock.advance_ms(10);
    block_on(log.clean()).unwrap();
    assert_eq!(all_rows(&log, &tp("t", 0)).len(), 1);
}

#[test]
fn it_is_done_in_the_background() {
    let folder = tempfile::tempdir().unwrap();
    let options = LogOptions {
        retention_check: Duration::from_millis(1),
        checkpoint_bytes: 2000,
        ..LogOptions::default()
    };
    let log = EmbeddedLog::open_with(folder.path(), options).unwrap();
    create_compacted(&log, 1, compacting(300));
    let mut p = producer(&log, "p");
    for round in 0..50_000 {
        put(&mut *p, &tp("t", 0), &[("a", Some(&format!("{round}{}", "-".repeat(60))))]);
        // Once: it may change at any time.
        if rows(&log, &tp("t", 0), Offset(0), 0).unwrap().len() as u64 <= round / 2 {
            return;
        }
    }
    panic!("nobody compacts");
}

#[test]
fn a_full_disk_is_no_reason_to_stop() {
    for failing in ["log.cleaned", "swap", "cleaner.new"] {
        let folder = tempfile::tempdir().unwrap();
        let full = Arc::new(AtomicBool::new(true));
        let full_there = Arc::clone(&full);
        let disk = Disk::with(move |op, path| {
            let takes_room = matches!(op, Op::Write | Op::Open(Open::Truncate));
            if full_there.load(Ordering::SeqCst) && takes_room && path.to_str().unwrap().ends_with(failing) {
                return Err(io::Error::from_raw_os_error(ENOSPC));
            }
            Ok(())
        });
        let log = disk.open_log(folder.path(), LogOptions::default()).unwrap();
        create_compacted(&log, 1, compacting(300));
        fill(&log, 10);
        let before = all_rows(&log, &tp("t", 0));
        block_on(log.clean()).unwrap_err();
        let files = partition_folder(folder.path(), 0);
        let left = leftovers(&files);
        assert!(left.iter().all(|name| name == "cleaner.new"), "{failing}: {left:?}");
        assert_eq!(values_of(&all_rows(&log, &tp("t", 0))), values_of(&before));
        fill(&log, 1);
        full.store(false, Ordering::SeqCst);
        assert!(block_on(log.clean()).unwrap().compacted_bytes > 0);
        assert_eq!(leftovers(&files), Vec::<String>::new());
        assert!(all_rows(&log, &tp("t", 0)).len() < 8);
    }
}

#[test]
fn a_damaged_segment_is_left_alone_and_the_others_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let log =
        EmbeddedLog::open_with(folder.path(), LogOptions { tail_bytes_max: 0, ..LogOptions::default() })
            .unwrap();
    create_compacted(&log, 2, compacting(300));
    let mut p = producer(&log, "p");
    for round in 0..20 {
        for partition in [0, 1] {
            put(&mut *p, &tp("t", partition), &[("a", Some(&format!("{round}{}", "-".repeat(60))))]);
        }
    }
    block_on(log.checkpoint()).unwrap();
    let path = partition_folder(folder.path(), 0).join(format!("{:020}.log", 0));
    let mut bytes = fs::read(&path).unwrap();
    bytes[70] ^= 1;
    fs::write(&path, &bytes).unwrap();
    assert_eq!(block_on(log.clean()).unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(fs::read(&path).unwrap(), bytes);
    assert_eq!(leftovers(path.parent().unwrap()), Vec::<String>::new());
    assert!(all_rows(&log, &tp("t", 1)).len() < 4);
}

/// Whoever stands where compaction left nothing is not overtaken, whether it was now or before the log was opened.
#[test]
fn an_emptied_segment_has_no_age_of_its_own() {
    for reopened in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp(100)));
        let options = LogOptions { clock: Arc::<ManualClock>::clone(&clock), ..LogOptions::default() };
        let mut log = EmbeddedLog::open_with(folder.path(), options.clone()).unwrap();
        let cleanup_policy = CleanupPolicy::CompactDelete;
        create_compacted(&log, 1, TopicConfig { cleanup_policy, retention_ms: Some(1000), ..compacting(14) });
        let mut p = producer(&log, "p");
        for key in ["b", "a", "a", "c"] {
            put(&mut *p, &tp("t", 0), &[(key, Some("value"))]);
        }
        block_on(log.clean()).unwrap();
        block_on(log.delete_records(&tp("t", 0), Offset(1))).unwrap();
        if reopened {
            block_on(log.close()).unwrap();
            log = EmbeddedLog::open_with(folder.path(), options).unwrap();
        }
        for (ms, earliest) in [(900, 1), (8, 4)] {
            clock.advance_ms(ms);
            block_on(log.clean()).unwrap();
            assert_eq!(block_on(log.offsets(&tp("t", 0))).unwrap().earliest, Offset(earliest), "{reopened}");
        }
    }
}

/// What compaction did not change takes no room a second time.
#[test]
fn a_pass_leaves_no_second_copy_of_a_partition() {
    let folder = tempfile::tempdir().unwrap();
    let files = partition_folder(folder.path(), 0);
    let most = Arc::new(AtomicU64::new(0));
    let (files_there, most_there) = (files.clone(), Arc::clone(&most));
    let disk = Disk::with(move |op, path| {
        if op == Op::Open(Open::Truncate) && path.to_str().unwrap().ends_with(".log.cleaned") {
            most_there.fetch_max(leftovers(&files_there).len() as u64, Ordering::SeqCst);
        }
        Ok(())
    });
    let log = disk.open_log(folder.path(), LogOptions::default()).unwrap();
    create_compacted(&log, 1, compacting(300));
    let mut p = producer(&log, "p");
    for number in 0..20 {
        put(&mut *p, &tp("t", 0), &[(&format!("key {number}"), Some(&"-".repeat(200)))]);
    }
    let cleaned = block_on(log.clean()).unwrap();
    assert!(cleaned.compacted_bytes > 0 && cleaned.kept_bytes == cleaned.compacted_bytes, "{cleaned:?}");
    assert_eq!(most.load(Ordering::SeqCst), 0);
    assert_eq!(leftovers(&files), Vec::<String>::new());
}

/// Nothing that fails there has closed the log.
#[test]
fn a_compaction_that_panics_is_told_to_those_who_wait() {
    let folder = tempfile::tempdir().unwrap();
    let once = AtomicBool::new(true);
    let disk = Disk::with(move |op, path| {
        let begins = op == Op::Open(Open::Truncate) && path.to_str().unwrap().ends_with(".log.cleaned");
        assert!(!begins || !once.swap(false, Ordering::SeqCst), "a bug that the test wants");
        Ok(())
    });
    let log = disk.open_log(folder.path(), LogOptions::default()).unwrap();
    create_compacted(&log, 1, compacting(300));
    fill(&log, 20);
    let error = block_on(log.clean()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("compaction"), "{error}");
    assert!(block_on(log.clean()).unwrap().compacted_bytes > 0);
}
