//! A log that takes a share of the disk's time only: what it asks of the disk, and what becomes of an error there.

use std::{
    io,
    sync::atomic::{AtomicBool, Ordering},
};

use super::{
    disk::{self, Disk, Op},
    *,
};

/// A little less than a batch may have.
const MEGABYTE: usize = 1_000_000;

/// By itself it syncs nothing but checkpoints, which are far away.
fn shared() -> LogOptions {
    LogOptions { durability: Durability::Os, disk_share: DiskShare::new(0.9).unwrap(), ..lazy() }
}

fn commit_megabyte(log: &EmbeddedLog) -> Result<()> {
    create(log, "t", 1, 1 << 30);
    let mut producer = producer(log, "p");
    append(&mut *producer, &tp("t", 0), &["x".repeat(MEGABYTE)]);
    block_on(producer.commit(None)).map(drop)
}

fn is_journal(path: &Path) -> bool {
    path.parent().is_some_and(|folder| folder.ends_with("journal"))
}

#[test]
fn what_is_written_is_synced_in_slices_and_no_more_than_that() {
    for (options, least) in [(shared(), 7), (LogOptions { disk_share: DiskShare::ALL, ..shared() }, 0)] {
        let (disk, folder) = (Disk::default(), disk::folder());
        let log = disk.open_log(folder.path(), options).unwrap();
        let before = disk.done().len();
        commit_megabyte(&log).unwrap();
        let done = disk.done().split_off(before);
        let syncs = done.iter().filter(|(op, path)| *op == Op::SyncFile && is_journal(path)).count();
        assert!((least..=least * 4).contains(&syncs), "{syncs} syncs of a megabyte");
        assert!(!done.iter().any(|(op, _)| *op == Op::SyncAll), "others have files on that disk");
        block_on(log.close()).unwrap();
        drop(log);
        let log = disk.open_log(folder.path(), lazy()).unwrap();
        assert_eq!(values(&log, &tp("t", 0)), ["x".repeat(MEGABYTE)]);
    }
}

/// Nobody else is told of it. A disk that says to be full at a sync has lost something all the same.
#[test]
fn an_error_of_a_slice_stops_the_log() {
    for errno in [5, 28] {
        let fails = Arc::new(AtomicBool::new(false));
        let armed = Arc::clone(&fails);
        let disk = Disk::with(move |op, path| {
            let hit = op == Op::SyncFile && is_journal(path) && armed.swap(false, Ordering::SeqCst);
            if hit { Err(io::Error::from_raw_os_error(errno)) } else { Ok(()) }
        });
        let folder = disk::folder();
        let log = disk.open_log(folder.path(), shared()).unwrap();
        create(&log, "t", 1, 1 << 30);
        fails.store(true, Ordering::SeqCst);
        let error = commit_megabyte(&log).unwrap_err();
        assert_ne!(error.kind(), ErrorKind::Full, "it cannot be tried again: {}", error.report());
        let again = block_on(log.producer(&ProducerName("q".into()))).err().unwrap();
        assert_eq!(again.kind(), ErrorKind::Closed, "{}", again.report());
        drop(log);
        // What was not acknowledged is there whole or not at all.
        let log = disk.open_log(folder.path(), lazy()).unwrap();
        assert!(values(&log, &tp("t", 0)).len() <= 1);
    }
}
