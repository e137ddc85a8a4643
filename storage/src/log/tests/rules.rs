//! What must hold in lives that go wrong: each rule was broken once.

use std::{
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{RecvTimeoutError, SyncSender, sync_channel},
    },
    task::{Context, Poll, Wake, Waker},
    thread::ThreadId,
};

use futures::future::BoxFuture;

use headwater_core::checksum::{crc32c, crc32c_append};

use super::{
    crash::{crashed, groups, journal_file},
    disk::{Disk, Op},
    *,
};
use crate::log::fs::Open;

/// A closed log with several segments in each of two partitions.
fn with_segments() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open_with(folder.path(), tiny()).unwrap();
    create(&log, "t", 2, 500);
    commit_both(&mut *producer(&log, "p"), 0..40);
    folder
}

fn commit_value(producer: &mut dyn Producer, value: &[u8]) {
    let mut batch = BatchBuilder::default();
    batch.push(Timestamp(0), None, Some(value), &Headers::new());
    producer.append(&tp("t", 0), &mut batch).unwrap();
    block_on(producer.commit(None)).unwrap();
}

#[test]
fn the_folder_is_not_given_free_while_a_checkpoint_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let options = LogOptions { checkpoint_bytes: 3000, journal_segment_bytes: 4096, ..LogOptions::default() };
    // The checkpoint's thread cannot go on before somebody lets it.
    let (release, held) = sync_channel::<()>(1);
    let (armed, held) = (Arc::new(AtomicBool::new(false)), Mutex::new(held));
    let disk = Disk::with({
        let armed = Arc::clone(&armed);
        move |op, path| {
            if armed.load(Ordering::SeqCst) && op == Op::Open(Open::Write) && path.ends_with("checkpoint") {
                held.lock().unwrap().recv().unwrap();
            }
            Ok(())
        }
    });
    let log = disk.open_log(folder.path(), options).unwrap();
    create(&log, "t", 2, 500);
    armed.store(true, Ordering::SeqCst);
    // The next journal file cannot be made.
    fs::create_dir(journal_file(folder.path(), 2)).unwrap();
    let mut p = producer(&log, "p");
    let mut number = 0;
    let error = loop {
        append(&mut *p, &tp("t", 0), &[format!("value {number}"), "x".repeat(20)]);
        number += 1;
        if let Err(error) = block_on(p.commit(None)) {
            break error;
        }
    };
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    let (released, (_open, never)) = (&AtomicBool::new(false), sync_channel::<()>(0));
    thread::scope(|scope| {
        scope.spawn(move || {
            assert_eq!(never.recv_timeout(Duration::from_millis(300)), Err(RecvTimeoutError::Timeout));
            released.store(true, Ordering::SeqCst);
            release.send(()).unwrap();
        });
        drop((p, log));
        assert!(released.load(Ordering::SeqCst), "the log was gone, and its checkpoint still to come");
    });
}

#[test]
fn what_recovery_read_is_on_disk_before_the_next_journal_file_is_begun() {
    let folder = crashed(2, 3);
    let disk = Disk::default();
    drop(disk.open_log(folder.path(), lazy()).unwrap());
    let done = disk.done();
    let when = |op, segment| {
        let path = journal_file(folder.path(), segment);
        done.iter().position(|done| *done == (op, path.clone())).unwrap_or_else(|| panic!("{done:?}"))
    };
    assert!(when(Op::SyncFile, 1) < when(Op::Rename, 2), "{done:?}");
}

#[test]
fn the_value_of_a_record_is_never_taken_for_a_group() {
    let folder = tempfile::tempdir().unwrap();
    let options = LogOptions { journal_segment_bytes: 32 << 10, ..lazy() };
    let log = EmbeddedLog::open_with(folder.path(), options.clone()).unwrap();
    create(&log, "t", 1, 1 << 20);
    let mut p = producer(&log, "p");
    // Groups for the next segments, in each alignment; without the salt their checksums hold.
    let mut value = vec![b'.'; 4096];
    for phase in 0..8 {
        value.resize(value.len().next_multiple_of(8) + phase, b'.');
        for (segment, number) in (2..8_u64).flat_map(|segment| [(segment, 9_u64), (segment, u64::MAX)]) {
            let mut forged = [&b"HWG2"[..], &[0; 12], &number.to_be_bytes(), &number.to_be_bytes()].concat();
            let crc = crc32c_append(crc32c(&segment.to_be_bytes()), &forged[8..]);
            forged[4..8].copy_from_slice(&crc.to_be_bytes());
            value.extend(forged);
        }
    }
    commit_value(&mut *p, &value);
    commit_value(&mut *p, &[b'x'; 30_000]);
    block_on(log.checkpoint()).unwrap();
    // This one goes into the file that held the forged groups, in front of them.
    commit_value(&mut *p, &[b'y'; 2800]);
    drop(p);
    block_on(log.close()).unwrap();
    let stale = fs::read(journal_file(folder.path(), 3)).unwrap();
    assert!(stale[3000..].windows(4).filter(|bytes| bytes == b"HWG2").count() > 50, "they are still there");
    let log = EmbeddedLog::open_with(folder.path(), options).unwrap();
    assert_eq!(log.recovery(), &RecoveryReport::default());
}

#[test]
fn the_entries_of_new_folders_are_on_disk() {
    let above = tempfile::tempdir().unwrap();
    let folder = above.path().join("a/b");
    let disk = Disk::default();
    drop(disk.open_log(&folder, LogOptions::default()).unwrap());
    let done = disk.done();
    for synced in [above.path(), &above.path().join("a")] {
        assert!(done.contains(&(Op::SyncFolder, synced.to_owned())), "{done:?}");
    }
}

#[test]
fn folders_that_the_log_does_not_know_are_left_alone() {
    let folder = with_segments();
    let copy = folder.path().join("topics/t.bak");
    copy_folder(&folder.path().join("topics/t"), &copy);
    let before: Vec<_> = contents(&copy).into_iter().map(|(_, bytes)| bytes).collect();
    let log = EmbeddedLog::open_with(folder.path(), tiny()).unwrap();
    assert_eq!(commits_in(&log), 40);
    log.crash();
    drop(log);
    let log = EmbeddedLog::open_with(folder.path(), tiny()).unwrap();
    assert_eq!(contents(&copy).len(), before.len(), "neither on a clean open nor after a crash");
    // Even a topic of that name does not touch it.
    create(&log, "t.bak", 2, 500);
    let mut q = producer(&log, "q");
    append(&mut *q, &tp("t.bak", 0), &["new".into()]);
    block_on(q.commit(None)).unwrap();
    log.crash();
    drop((q, log));
    let log = EmbeddedLog::open_with(folder.path(), tiny()).unwrap();
    assert_eq!(values(&log, &tp("t.bak", 0)), ["new"]);
    let aside = contents(&folder.path().join("topics/t.bak~1"));
    assert_eq!(aside.into_iter().map(|(_, bytes)| bytes).collect::<Vec<_>>(), before);
}

#[test]
fn nothing_is_written_in_front_of_a_group_that_was_cut() {
    let folder = tempfile::tempdir().unwrap();
    let os = LogOptions { durability: Durability::Os, ..lazy() };
    let log = EmbeddedLog::open_with(folder.path(), os).unwrap();
    create(&log, "t", 1, 500);
    block_on(log.checkpoint()).unwrap();
    let mut p = producer(&log, "p");
    append(&mut *p, &tp("t", 0), &["lost".into()]);
    block_on(p.commit(None)).unwrap();
    log.crash();
    drop((p, log));
    // A power cut: the disk has the second group, and not the first.
    let path = journal_file(folder.path(), 1);
    let mut journal = fs::read(&path).unwrap();
    let ((begin, end), stale) = {
        let all = groups(&journal);
        (all[all.len() - 2], all[all.len() - 1])
    };
    journal[begin..end].fill(0);
    fs::write(&path, journal).unwrap();
    let log = EmbeddedLog::open_with(folder.path(), lazy()).unwrap();
    assert!(log.recovery().torn_bytes_cut >= (stale.1 - end) as u64, "{:?}", log.recovery());
    let files = numbered(&folder.path().join("journal"), "journal");
    assert_eq!(files, [2], "the next group is in another file");
    // As long as the group that was lost.
    drop(producer(&log, "p"));
    log.crash();
    drop(log);
    let log = EmbeddedLog::open_with(folder.path(), lazy()).unwrap();
    assert!(values(&log, &tp("t", 0)).is_empty());
}

/// As in an executor that was shut down: waking a task drops it.
struct Task(Mutex<Option<BoxFuture<'static, ()>>>, SyncSender<ThreadId>);

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        drop(self.0.lock().unwrap().take());
        self.1.send(thread::current().id()).unwrap();
    }
}

#[test]
fn the_last_handle_may_be_dropped_by_the_journal_thread() {
    let folder = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open_with(folder.path(), lazy()).unwrap();
    create(&log, "t", 1, 500);
    let shared = Arc::clone(&log.0.shared);
    let mut p = producer(&log, "p");
    append(&mut *p, &tp("t", 0), &["v".into()]);
    let (sender, woken) = sync_channel(1);
    let task = Arc::new(Task(Mutex::new(None), sender));
    let mut commit: BoxFuture<'static, ()> = Box::pin(async move {
        let _ = p.commit(None).await;
    });
    let waker = Waker::from(Arc::clone(&task));
    {
        let mut slot = task.0.lock().unwrap();
        drop(log);
        assert!(commit.as_mut().poll(&mut Context::from_waker(&waker)).is_pending(), "the disk is slower");
        *slot = Some(commit);
    }
    assert_ne!(woken.recv_timeout(Duration::from_secs(20)).unwrap(), thread::current().id());
    // Closed as it should be, and not stopped by a panic.
    while block_on(shared.appended.after(u64::MAX)).is_some() {}
    assert_eq!(shared.check_readable().unwrap_err().kind(), ErrorKind::Closed);
    let log = EmbeddedLog::open_with(folder.path(), lazy()).unwrap();
    assert_eq!((values(&log, &tp("t", 0)), log.recovery()), (vec!["v".into()], &RecoveryReport::default()));
}

#[test]
fn a_first_offset_that_is_damaged_is_corrupt_and_no_panic() {
    for which in ["last", "second"] {
        let folder = with_segments();
        let partition = folder.path().join("topics/t/0");
        let bases = numbered(&partition, "log");
        let base = if which == "last" { *bases.last().unwrap() } else { bases[1] };
        let path = partition.join(format!("{base:020}.log"));
        let mut bytes = fs::read(&path).unwrap();
        bytes[..8].fill(0);
        fs::write(&path, bytes).unwrap();
        fs::write(path.with_extension("index"), [0; 8]).unwrap();
        let read = EmbeddedLog::open_with(folder.path(), tiny())
            .and_then(|log| block_on(log.read(&tp("t", 0), Offset(base), 100)));
        assert_eq!(read.unwrap_err().kind(), ErrorKind::Corrupt, "{which}");
    }
}

#[test]
fn files_that_are_not_the_logs_are_ignored() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("lost+found")).unwrap();
    let log = EmbeddedLog::open_with(folder.path(), tiny()).unwrap();
    create(&log, "t", 2, 500);
    commit_both(&mut *producer(&log, "p"), 0..40);
    drop(log);
    let foreign = ["topics/t/0/99999.log", "journal/7.journal"];
    for name in foreign {
        fs::write(folder.path().join(name), "x").unwrap();
    }
    assert_eq!(commits_in(&EmbeddedLog::open_with(folder.path(), tiny()).unwrap()), 40);
    assert!(foreign.iter().all(|name| folder.path().join(name).exists()));
}

#[test]
fn whoever_closes_second_waits_for_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open_with(folder.path(), lazy()).unwrap();
    create(&log, "t", 2, 500);
    commit_both(&mut *producer(&log, "p"), 0..40);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                block_on(log.close()).unwrap();
                assert_eq!(log.0.shared.check_readable().unwrap_err().kind(), ErrorKind::Closed);
            });
        }
    });
}

fn request() -> Request {
    Request::OpenProducer(ProducerName("p".into()), oneshot::channel().0)
}

#[test]
fn a_large_commit_is_not_overtaken_for_ever() {
    let queue = queue::Queue::new(1000);
    let context = &mut Context::from_waker(Waker::noop());
    assert!(block_on(queue.push(0, request)));
    let mut large = Box::pin(queue.push(2000, request));
    assert!(large.as_mut().poll(context).is_pending());
    let mut small = Box::pin(queue.push(100, request));
    assert!(small.as_mut().poll(context).is_pending(), "there would be room, and it is not its turn");
    assert_eq!(queue.take(1 << 20, None).len(), 1);
    assert!(small.as_mut().poll(context).is_pending());
    assert_eq!(large.as_mut().poll(context), Poll::Ready(true));
    assert_eq!(small.as_mut().poll(context), Poll::Ready(true));
    // Whoever gives up does not hold up the others.
    let mut large = Box::pin(queue.push(2000, request));
    assert!(large.as_mut().poll(context).is_pending());
    let mut small = Box::pin(queue.push(100, request));
    assert!(small.as_mut().poll(context).is_pending());
    drop(large);
    assert_eq!(small.as_mut().poll(context), Poll::Ready(true));
}

/// Comes back to the queue as soon as it is woken.
struct ComesBack(Arc<queue::Queue>, SyncSender<bool>);

impl Wake for ComesBack {
    fn wake(self: Arc<Self>) {
        self.1.send(self.0.push_last(request())).unwrap();
    }
}

#[test]
fn whoever_is_woken_may_come_back_to_the_queue_at_once() {
    for close in [true, false] {
        let queue = Arc::new(queue::Queue::new(100));
        let (sender, woken) = sync_channel(4);
        let waker = Waker::from(Arc::new(ComesBack(Arc::clone(&queue), sender)));
        assert!(block_on(queue.push(0, request)));
        let mut waiting = Box::pin(queue.push(200, request));
        for _ in 0..3 {
            assert!(waiting.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        }
        if close {
            assert!(queue.push_last(request()));
            assert_eq!(woken.try_iter().collect::<Vec<_>>(), [false], "woken once");
        } else {
            assert_eq!(queue.take(1 << 20, None).len(), 1);
            // Woken by the room, it closes the queue, which wakes it again.
            assert_eq!(woken.try_iter().collect::<Vec<_>>(), [false, true]);
        }
    }
}

#[test]
fn positions_and_names_have_a_limit() {
    let folder = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open_with(folder.path(), LogOptions { commit_bytes_max: 500, ..tiny() }).unwrap();
    create(&log, "t", 1, 5000);
    let mut p = producer(&log, "p");
    append(&mut *p, &tp("t", 0), &["v".into()]);
    let mut positions = at("g", &tp("t", 0), 1);
    positions.committed[0].1.metadata = Bytes::from(vec![b'm'; 500]);
    let error = block_on(p.commit(Some(&positions))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("commit_bytes_max=500"), "{error}");
    let long = "g".repeat(40_000);
    assert_eq!(block_on(p.commit(Some(&at(&long, &tp("t", 0), 1)))).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(block_on(log.producer(&ProducerName(long))).err().unwrap().kind(), ErrorKind::Invalid);
    block_on(p.commit(Some(&at("g", &tp("t", 0), 1)))).unwrap();
    assert_eq!(values(&log, &tp("t", 0)), ["v"], "what was refused does not spoil the rest");
}

/// Each mode had its own, and its own checksum.
#[test]
fn a_journal_of_the_versions_before_is_of_another_version() {
    let folder = crashed(2, 2);
    let path = journal_file(folder.path(), 1);
    let good = fs::read(&path).unwrap();
    for version in [1_u32, 2] {
        let mut journal = good.clone();
        journal[8..12].copy_from_slice(&version.to_be_bytes());
        let crc = match version {
            1 => crc32c(&journal[16..40]),
            _ => crc32c_append(crc32c(&journal[8..12]), &journal[16..40]),
        };
        journal[12..16].copy_from_slice(&crc.to_be_bytes());
        fs::write(&path, &journal).unwrap();
        let error = EmbeddedLog::open_with(folder.path(), lazy()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "version {version}: {error}");
    }
}
