//! A disk without room: clear refusals, reads, and going on by itself.

use std::{
    collections::BTreeMap,
    io,
    sync::atomic::{AtomicBool, Ordering},
};

use futures::FutureExt;
use headwater_core::{Admin, TopicChanges};

use super::{
    disk::{self, Disk, Op},
    life::alter,
    *,
};
use crate::log::{
    fs::FileSystem,
    journal::{Journal, Kept},
};

const ENOSPC: i32 = 28;

fn small() -> LogOptions {
    LogOptions {
        journal_segment_bytes: 8 << 10,
        checkpoint_bytes: 16 << 10,
        tail_bytes_max: 8 << 10,
        ..LogOptions::default()
    }
}

/// Appends commit `number`, and returns the position that goes with it.
fn append_number(producer: &mut dyn Producer, number: u64) -> Positions {
    for partition in [0, 1] {
        append(producer, &tp("t", partition), &[format!("value {number}"), "x".repeat(300)]);
    }
    at("g", &tp("t", 0), number + 1)
}

/// Commits from `number` on until there is no room, and the log cannot make any; returns the number of the commit that
/// was refused, which the producer still holds.
fn fill(producer: &mut dyn Producer, mut number: u64) -> (u64, Error) {
    loop {
        let positions = append_number(producer, number);
        for last in [false, true] {
            match block_on(producer.commit(Some(&positions))) {
                Ok(_) => break,
                Err(error) if last => return (number, error),
                // It has tried to make room by a checkpoint.
                Err(error) => assert_eq!(error.kind(), ErrorKind::Full),
            }
        }
        number += 1;
    }
}

/// The extension of the file that a refusal speaks of.
fn refused_by(error: &Error) -> String {
    assert_eq!(error.kind(), ErrorKind::Full, "{error:?}");
    let text = error.report();
    for part in ["nothing was written, try again", "disk is full: free space", "file=/", "No space left"] {
        assert!(text.contains(part), "{text}");
    }
    let file = text.split("file=").nth(1).unwrap().split([',', ':']).next().unwrap();
    Path::new(file).extension().unwrap().to_str().unwrap().to_owned()
}

/// Room runs out at all kinds of moments, and comes back.
#[test]
fn a_disk_that_is_full_two_hundred_times_loses_nothing_and_needs_no_restart() {
    let mut refusals = BTreeMap::<String, u32>::new();
    for seed in 1..=4_u64 {
        let (folder, disk) = (disk::folder(), Disk::default());
        let (mut acked, mut random) = (0, seed);
        for life in 0..5 {
            let log = disk.open_log(folder.path(), small()).unwrap();
            create(&log, "t", 2, 12 << 10);
            assert_eq!(commits_in(&log), acked, "seed {seed}, life {life}");
            let mut p = producer(&log, "p");
            for cycle in 0..10 {
                random =
                    random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                disk.set_quota(Some(disk.used() + (random >> 40) % 20_000));
                let (held, refusal) = fill(&mut *p, acked);
                *refusals.entry(refused_by(&refusal)).or_default() += 1;
                let positions = at("g", &tp("t", 0), held + 1);
                assert_eq!(commits_in(&log), held, "seed {seed}, life {life}, cycle {cycle}");
                // Somebody frees some, and the same commit is tried again.
                disk.set_quota((cycle % 2 == 0).then(|| disk.used() + 60_000));
                block_on(p.commit(Some(&positions))).unwrap();
                acked = held + 1;
            }
            disk.set_quota(None);
            drop(p);
            if life % 2 == 0 { log.crash() } else { block_on(log.close()).unwrap() }
        }
        assert_eq!(commits_in(&disk.open_log(folder.path(), small()).unwrap()), acked);
    }
    println!("refused for want of room in: {refusals:?}");
    assert!(refusals.len() > 1, "the journal is not the only one: {refusals:?}");
}

/// A disk that has no room, while `armed`, for files whose names end in one of `names`.
fn without_room_for(names: &'static [&str]) -> (Disk, Arc<AtomicBool>) {
    let armed = Arc::new(AtomicBool::new(false));
    let disk = Disk::with({
        let armed = Arc::clone(&armed);
        move |op, path| {
            let path = path.to_str().unwrap();
            let hit = op.takes_room() && names.iter().any(|name| path.ends_with(name));
            if hit && armed.load(Ordering::SeqCst) {
                return Err(io::Error::from_raw_os_error(ENOSPC));
            }
            Ok(())
        }
    });
    (disk, armed)
}

/// Batches wait in memory, up to a limit, and are written when there is room.
#[test]
fn segments_wait_for_room_and_memory_is_bounded() {
    for names in [&[".log", ".index"][..], &[".index"], &["t/0", "t/1"]] {
        let folder = disk::folder();
        let (disk, armed) = without_room_for(names);
        let log = disk.open_log(folder.path(), small()).unwrap();
        create(&log, "t", 2, 12 << 10);
        let mut p = producer(&log, "p");
        armed.store(true, Ordering::SeqCst);
        let mut held = 0;
        for _ in 0..3 {
            let (refused, error) = fill(&mut *p, held);
            assert_eq!(error.kind(), ErrorKind::Full, "{error:?}");
            assert!(refused - held < 50, "memory is bounded: {held} {refused}");
            assert_eq!(commits_in(&log), refused);
            assert_eq!(block_on(log.checkpoint()).unwrap_err().kind(), ErrorKind::Full);
            armed.store(false, Ordering::SeqCst);
            block_on(p.commit(Some(&at("g", &tp("t", 0), refused + 1)))).unwrap();
            block_on(log.checkpoint()).unwrap();
            held = refused + 1;
            armed.store(true, Ordering::SeqCst);
        }
        armed.store(false, Ordering::SeqCst);
        log.crash();
        assert_eq!(commits_in(&disk.open_log(folder.path(), small()).unwrap()), held, "{names:?}");
    }
}

/// Without room for the journal nothing is decided: topics, producers and positions are refused as well.
#[test]
fn whatever_needs_room_is_refused_and_nothing_of_it_happens() {
    let (folder, disk) = (disk::folder(), Disk::default());
    let log = disk.open_log(folder.path(), small()).unwrap();
    create(&log, "t", 2, 12 << 10);
    let mut p = producer(&log, "p");
    disk.set_quota(Some(0));
    let (held, _) = fill(&mut *p, 0);
    // Small ones may still fit where a commit does not.
    let name = |number: u32| "n".repeat(200) + &number.to_string();
    let topic = |number| TopicSpec::new(name(number), 1).unwrap();
    let created = (0..).find(|number| block_on(log.create_topic(&topic(*number))).is_err()).unwrap();
    refused_by(&block_on(log.create_topic(&topic(created))).unwrap_err());
    refused_by(&block_on(log.producer(&ProducerName(name(0)))).err().unwrap());
    let positions = Positions { group: GroupId(name(0)), ..at("g", &tp("t", 0), 7) };
    refused_by(&block_on(log.commit_positions(&positions)).unwrap_err());
    assert_eq!(block_on(log.topics()).unwrap().len(), created as usize + 1);
    assert_eq!(position(&log, &name(0), &tp("t", 0)), None);
    disk.set_quota(None);
    block_on(log.create_topic(&topic(created))).unwrap();
    block_on(log.commit_positions(&positions)).unwrap();
    p.abort();
    let positions = append_number(&mut *p, held);
    block_on(p.commit(Some(&positions))).unwrap();
    assert_eq!(commits_in(&log), held + 1);
    log.crash();
    assert_eq!(commits_in(&disk.open_log(folder.path(), small()).unwrap()), held + 1);
}

/// What a commit held whose future was dropped is held again when it was refused, in front of what came later.
#[test]
fn a_refused_commit_that_nobody_waited_for_is_not_lost() {
    let (folder, disk) = (disk::folder(), Disk::default());
    let log = disk.open_log(folder.path(), small()).unwrap();
    create(&log, "t", 2, 12 << 10);
    let mut p = producer(&log, "p");
    disk.set_quota(Some(0));
    let (held, _) = fill(&mut *p, 0);
    assert!(p.commit(None).now_or_never().is_none_or(|refused| refused.is_err()));
    let positions = append_number(&mut *p, held + 1);
    refused_by(&block_on(p.commit(Some(&positions))).unwrap_err());
    disk.set_quota(None);
    let written = block_on(p.commit(Some(&positions))).unwrap();
    assert_eq!(written[0].next.0 - written[0].base.0, 4);
    assert_eq!(commits_in(&log), held + 2);
}

/// The end of a log needs no room that is not there.
#[test]
fn a_log_on_a_full_disk_is_closed_and_can_be_opened_later() {
    let (folder, disk) = (disk::folder(), Disk::default());
    let log = disk.open_log(folder.path(), lazy()).unwrap();
    create(&log, "t", 2, 12 << 10);
    let mut p = producer(&log, "p");
    commit_both(&mut *p, 0..5);
    disk.set_quota(Some(0));
    drop(p);
    let error = block_on(log.close()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Full);
    assert!(error.to_string().contains("opening it will read the journal"), "{error}");
    assert_eq!(block_on(log.topics()).unwrap_err().kind(), ErrorKind::Closed);
    let error = disk.open_log(folder.path(), lazy()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Full, "{error:?}");
    disk.set_quota(None);
    let log = disk.open_log(folder.path(), lazy()).unwrap();
    assert_eq!(commits_in(&log), 5);
    block_on(log.close()).unwrap();
    // What was closed as it should be can be opened, and read, without any room.
    disk.set_quota(Some(0));
    assert_eq!(commits_in(&disk.open_log(folder.path(), lazy()).unwrap()), 5);
}

/// What frees space gets through when nothing else does.
#[test]
fn some_room_in_the_journal_is_kept_for_groups_that_make_room() {
    let (folder, disk) = (disk::folder(), Disk::default());
    let layout = Layout::new(folder.path(), Arc::new(disk.clone()));
    layout.create_folder(&layout.journal()).unwrap();
    let mut journal = Journal::begin(&layout, 64 << 10, 1, 1).unwrap();
    journal.reserve(4096, Kept::Yes).unwrap();
    disk.set_quota(Some(0));
    let fits = (1..).find(|bytes| journal.reserve(bytes * 8, Kept::Yes).is_err()).unwrap() * 8;
    let refused = journal.reserve(fits, Kept::Yes).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Full);
    let position = journal.position();
    for bytes in [64, 4096, fits, fits + 4096] {
        journal.reserve(bytes, Kept::No).unwrap_or_else(|error| panic!("bytes={bytes}: {error:?}"));
        assert_eq!(journal.position(), position);
    }
    // A full segment is left only when the next one has its room.
    assert_eq!(journal.reserve(1 << 20, Kept::No).unwrap_err().kind(), ErrorKind::Full);
    assert_eq!(journal.position(), position);
    disk.set_quota(None);
    journal.reserve(1 << 20, Kept::Yes).unwrap();
    assert!(disk.size(&layout.journal_segment(1)).unwrap() > 1 << 20, "the first group takes any size");
}

/// Deleting records, groups and topics works when nothing else does, and the room that it makes is used at once.
#[test]
fn what_frees_space_is_not_refused() {
    let (folder, disk) = (disk::folder(), Disk::default());
    let log = disk.open_log(folder.path(), small()).unwrap();
    create(&log, "t", 2, 12 << 10);
    for old in ["old", "older"] {
        create(&log, old, 1, 4 << 10);
        let mut p = producer(&log, old);
        for _ in 0..40 {
            append(&mut *p, &tp(old, 0), &["z".repeat(1000)]);
            block_on(p.commit(None)).unwrap();
        }
    }
    block_on(log.commit_positions(&at("idle", &tp("t", 0), 0))).unwrap();
    let mut p = producer(&log, "p");
    block_on(log.checkpoint()).unwrap();
    disk.set_quota(Some(disk.used()));
    let (mut held, _) = fill(&mut *p, 0);
    let used = disk.used();
    block_on(log.delete_group(&GroupId("idle".into()))).unwrap();
    let refused = |p: &mut dyn Producer, held: u64| {
        refused_by(&block_on(p.commit(Some(&at("g", &tp("t", 0), held + 1)))).unwrap_err());
    };
    refused(&mut *p, held);
    // So much is freed by records that are deleted, by hand and by size, and by a topic that is.
    let by_size = || {
        let settings = vec![("retention.bytes".to_owned(), Some("4096".to_owned()))];
        let changes = TopicChanges { partitions: None, settings };
        block_on(log.alter_topic(&TopicName::new("older").unwrap(), &changes)).map(drop)
    };
    block_on(log.delete_records(&tp("old", 0), Offset(20))).unwrap();
    assert!(disk.used() < used - 10_000, "{} of {used}", disk.used());
    for free in 0..3 {
        let positions = at("g", &tp("t", 0), held + 1);
        block_on(p.commit(Some(&positions))).unwrap_or_else(|error| panic!("{free}: {error:?}"));
        match free {
            0 => by_size().unwrap(),
            _ => block_on(log.create_topic(&TopicSpec::new("new", 1).unwrap())).map(drop).unwrap(),
        }
        held = fill(&mut *p, held + 1).0;
        refused(&mut *p, held);
        let used = disk.used();
        match free {
            0 => assert!(block_on(log.clean()).unwrap().deleted_bytes > 20_000),
            1 => block_on(log.delete_topic(&TopicName::new("old").unwrap())).unwrap(),
            _ => break,
        }
        log.settle().unwrap();
        assert!(disk.used() < used - 10_000, "{free}: {} of {used}", disk.used());
    }
    assert_eq!(commits_in(&log), held);
    log.crash();
    disk.set_quota(None);
    let log = disk.open_log(folder.path(), small()).unwrap();
    assert_eq!(commits_in(&log), held);
    assert_eq!(block_on(log.topics()).unwrap().len(), 3);
}

#[test]
fn errors_of_a_sync_are_never_taken_for_a_full_disk() {
    let folder = disk::folder();
    let armed = Arc::new(AtomicBool::new(false));
    let disk = Disk::with({
        let armed = Arc::clone(&armed);
        move |op: Op, _: &Path| {
            let hit = op.is_sync() && armed.load(Ordering::SeqCst);
            if hit { Err(io::Error::from_raw_os_error(ENOSPC)) } else { Ok(()) }
        }
    });
    let log = disk.open_log(folder.path(), lazy()).unwrap();
    create(&log, "t", 2, 500);
    let mut p = producer(&log, "p");
    commit_both(&mut *p, 0..1);
    armed.store(true, Ordering::SeqCst);
    let positions = append_number(&mut *p, 1);
    assert_eq!(block_on(p.commit(Some(&positions))).unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(block_on(p.commit(None)).unwrap_err().kind(), ErrorKind::Closed);
}

/// In mode `os`, where what retention deletes waits for a checkpoint, and what somebody deletes does not.
#[test]
fn a_folder_that_could_not_be_moved_does_not_take_that_of_a_new_topic_with_it() {
    let folder = disk::folder();
    let armed = Arc::new(AtomicBool::new(false));
    let disk = Disk::with({
        let armed = Arc::clone(&armed);
        move |op, _| match op {
            Op::Rename if armed.load(Ordering::Relaxed) => Err(io::Error::from_raw_os_error(ENOSPC)),
            _ => Ok(()),
        }
    });
    let options = LogOptions { durability: Durability::Os, ..lazy() };
    let log = disk.open_log(folder.path(), options).unwrap();
    // A topic with a limit, so that old records are looked for.
    create(&log, "limited", 1, 1 << 20);
    alter(&log, "limited", None, &[("retention.bytes", "1000")]);
    create(&log, "t", 1, 1 << 20);
    let mut p = producer(&log, "p");
    append(&mut *p, &tp("t", 0), &["old".into()]);
    block_on(p.commit(None)).unwrap();
    block_on(log.checkpoint()).unwrap();
    armed.store(true, Ordering::Relaxed);
    block_on(log.delete_topic(&TopicName::new("t").unwrap())).unwrap();
    block_on(log.clean()).unwrap();
    armed.store(false, Ordering::Relaxed);
    create(&log, "t", 1, 1 << 20);
    append(&mut *p, &tp("t", 0), &["new".into()]);
    block_on(p.commit(None)).unwrap();
    block_on(log.checkpoint()).unwrap();
    drop(p);
    block_on(log.close()).unwrap();
    assert_eq!(values(&disk.open_log(folder.path(), lazy()).unwrap(), &tp("t", 0)), ["new"]);
}
