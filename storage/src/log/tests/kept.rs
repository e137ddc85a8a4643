//! Room on the disk that is kept for what comes, and what need not come there.

use std::{collections::BTreeSet, io, os::unix::fs::MetadataExt};

use headwater_core::Admin;

use super::{
    disk::{Disk, Op},
    life::alter,
    *,
};
use crate::log::{
    fs::{FileSystem, Open, RealFs},
    layout::log_file,
};

fn os() -> LogOptions {
    LogOptions { durability: Durability::Os, filed_bytes_min: 1000, ..lazy() }
}

/// A log with a topic that a checkpoint knows.
fn open(disk: &Disk, folder: &Path, segment_bytes: u64) -> EmbeddedLog {
    let log = disk.open_log(folder, os()).unwrap();
    create(&log, "t", 1, segment_bytes);
    block_on(log.checkpoint()).unwrap();
    log
}

fn commit(producer: &mut dyn Producer, value: &str) {
    append(producer, &tp("t", 0), &[value.to_owned()]);
    block_on(producer.commit(None)).unwrap();
}

/// Bytes that the newest segment has on the disk, and its length.
fn newest(folder: &Path) -> (u64, u64) {
    let folder = folder.join("topics/t/0");
    let base = numbered(&folder, "log").into_iter().max().unwrap();
    let metadata = fs::metadata(log_file(&folder, Offset(base))).unwrap();
    (metadata.blocks() * 512, metadata.len())
}

#[test]
fn room_is_kept_for_large_writes_and_given_back() {
    let folder = disk::folder();
    let log = open(&Disk::default(), folder.path(), 4 << 20);
    let mut producer = producer(&log, "p");
    commit(&mut *producer, &"small ".repeat(400));
    let (on_disk, length) = newest(folder.path());
    assert!(on_disk < length + (64 << 10), "{on_disk} for {length} bytes");
    let large = "x".repeat(600 << 10);
    commit(&mut *producer, &large);
    let (on_disk, length) = newest(folder.path());
    assert!(on_disk > length + (1 << 20), "{on_disk} for {length} bytes");
    // Enough for another segment to be begun.
    (0..8).for_each(|_| commit(&mut *producer, &large));
    drop(producer);
    block_on(log.close()).unwrap();
    let mut segments = 0;
    for base in numbered(&folder.path().join("topics/t/0"), "log") {
        let metadata = fs::metadata(log_file(&folder.path().join("topics/t/0"), Offset(base))).unwrap();
        let on_disk = metadata.blocks() * 512;
        assert!(on_disk < metadata.len() + (64 << 10), "{on_disk} for {} bytes", metadata.len());
        segments += 1;
    }
    assert_eq!(segments, 2);
}

/// What closing the log writes is large enough for room to be kept, which nobody writes to then.
#[test]
fn what_closing_writes_keeps_no_room() {
    let folder = disk::folder();
    let options = LogOptions { filed_bytes_min: usize::MAX, ..os() };
    let log = Disk::default().open_log(folder.path(), options).unwrap();
    create(&log, "t", 1, 4 << 20);
    let mut producer = producer(&log, "p");
    (0..5).for_each(|_| commit(&mut *producer, &"x".repeat(60 << 10)));
    drop(producer);
    block_on(log.close()).unwrap();
    let (on_disk, length) = newest(folder.path());
    assert!(length > 300 << 10 && on_disk < length + (64 << 10), "{on_disk} for {length} bytes");
}

#[test]
fn a_disk_that_keeps_no_room_is_written_to_all_the_same() {
    let folder = disk::folder();
    let disk = Disk::with(|op, _| match op {
        Op::KeepRoom => Err(io::ErrorKind::Unsupported.into()),
        _ => Ok(()),
    });
    let log = open(&disk, folder.path(), 4 << 20);
    let (mut producer, large) = (producer(&log, "p"), "x".repeat(600 << 10));
    commit(&mut *producer, &large);
    assert!(disk.done().iter().any(|(op, _)| *op == Op::KeepRoom));
    assert_eq!(values(&log, &tp("t", 0)), [large]);
}

/// In mode `os` segments wait for a checkpoint to be deleted, and nobody for them to come to the disk.
#[test]
fn what_retention_deletes_is_not_synced_before() {
    let folder = disk::folder();
    let disk = Disk::default();
    let log = open(&disk, folder.path(), 7000);
    let mut producer = producer(&log, "p");
    (0..20).for_each(|number| commit(&mut *producer, &format!("{number} {}", "x".repeat(6000))));
    alter(&log, "t", None, &[("retention.bytes", "20000")]);
    let before = disk.done().len();
    block_on(log.clean()).unwrap();
    block_on(log.checkpoint()).unwrap();
    let done = disk.done().split_off(before);
    let paths = |wanted: Op| {
        let segments =
            done.iter().filter(|(op, path)| *op == wanted && path.extension() == Some("log".as_ref()));
        segments.map(|(_, path)| path.clone()).collect::<BTreeSet<_>>()
    };
    let (synced, removed) = (paths(Op::SyncFile), paths(Op::RemoveFile));
    assert!(removed.len() > 10 && !synced.is_empty(), "{removed:?} {synced:?}");
    assert!(synced.is_disjoint(&removed), "{synced:?}");
}

/// A power cut may leave the last segment of a partition, which was removed, and take the one that was begun behind it. What the journal
/// says of the former must hold then: the log must not end in front of the entry that is the reason for others to be gone.
#[test]
fn segments_that_somebody_deletes_are_synced_before_they_go() {
    let folder = disk::folder();
    let disk = Disk::default();
    let log = open(&disk, folder.path(), 1 << 20);
    let mut producer = producer(&log, "p");
    commit(&mut *producer, &"x".repeat(6000));
    let before = disk.done().len();
    block_on(log.delete_records(&tp("t", 0), Offset(1))).unwrap();
    let done = disk.done().split_off(before);
    let segment = log_file(&folder.path().join("topics/t/0"), Offset(0));
    let at = |wanted: Op| done.iter().position(|(op, path)| *op == wanted && *path == segment);
    let (synced, removed) = (at(Op::SyncFile), at(Op::RemoveFile));
    assert!(synced.is_some() && synced < removed, "{synced:?} {removed:?}");
}

/// ext4 keeps all the room that it finds, and says then that there was not enough.
#[test]
fn a_full_disk_gets_back_what_it_kept_in_part() {
    let folder = disk::folder();
    let disk = Disk::with(|op, path| match op {
        Op::KeepRoom => {
            RealFs.open(path, Open::Write)?.keep_room(0, 2 << 20)?;
            Err(io::ErrorKind::StorageFull.into())
        }
        _ => Ok(()),
    });
    let log = open(&disk, folder.path(), 4 << 20);
    let (mut producer, large) = (producer(&log, "p"), "x".repeat(600 << 10));
    commit(&mut *producer, "small");
    commit(&mut *producer, &large);
    assert!(disk.done().iter().any(|(op, _)| *op == Op::KeepRoom));
    let (on_disk, length) = newest(folder.path());
    assert!(length > 600 << 10 && on_disk < length + (64 << 10), "{on_disk} for {length} bytes");
    assert_eq!(values(&log, &tp("t", 0)), ["small", &large]);
}
