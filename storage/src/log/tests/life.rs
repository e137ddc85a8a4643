//! Topics that change and go, records that are deleted: over restarts, crashes at every step, and under readers.

use std::{
    collections::BTreeMap,
    num::NonZeroU32,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use headwater_core::{Admin, Cleaned, ManualClock, TopicChanges};

use super::{
    disk::{Disk, Op},
    *,
};

pub(super) fn alter(log: &EmbeddedLog, topic: &str, partitions: Option<u32>, settings: &[(&str, &str)]) {
    let settings = settings.iter().map(|(key, value)| ((*key).to_owned(), Some((*value).to_owned())));
    let partitions = partitions.and_then(NonZeroU32::new);
    let changes = TopicChanges { partitions, settings: settings.collect() };
    block_on(log.alter_topic(&TopicName::new(topic).unwrap(), &changes)).unwrap();
}

pub(super) fn delete_topic(log: &EmbeddedLog, topic: &str) -> Result<()> {
    block_on(log.delete_topic(&TopicName::new(topic).unwrap()))
}

pub(super) fn write(producer: &mut dyn Producer, to: &TopicPartition, records: &[(i64, &str)]) -> Result<()> {
    let mut builder = BatchBuilder::default();
    for (time, value) in records {
        builder.push(Timestamp(*time), Some(b"key"), Some(value.as_bytes()), &Headers::new());
    }
    producer.append(to, &mut builder)?;
    block_on(producer.commit(None)).map(drop)
}

fn earliest(log: &EmbeddedLog, partition: &TopicPartition) -> u64 {
    block_on(log.offsets(partition)).unwrap().earliest.0
}

fn bases(folder: &Path, topic: &str) -> Vec<u64> {
    numbered(&folder.join(format!("topics/{topic}/0")), "log")
}

/// What a log holds, as far as it can be asked.
#[derive(Debug, Clone, PartialEq)]
struct Contents {
    topics: Vec<TopicSpec>,
    partitions: BTreeMap<TopicPartition, (PartitionOffsets, Vec<String>)>,
    positions: Vec<(GroupId, Vec<(TopicPartition, Committed)>)>,
}

fn all_of(log: &EmbeddedLog) -> Contents {
    let topics = block_on(log.topics()).unwrap();
    let partitions = topics.iter().flat_map(TopicSpec::topic_partitions);
    let partitions = partitions.map(|partition| {
        let offsets = block_on(log.offsets(&partition)).unwrap();
        let values = values(log, &partition);
        (partition, (offsets, values))
    });
    let partitions = partitions.collect();
    let groups = block_on(log.groups()).unwrap().into_iter();
    let positions = groups.map(|group| (group.clone(), block_on(log.positions(&group)).unwrap()));
    Contents { topics, partitions, positions: positions.collect() }
}

/// Everything that can happen to a log; stops at the first error.
fn live(log: &EmbeddedLog, after: &mut dyn FnMut(&EmbeddedLog)) -> Result<()> {
    let t = tp("t", 0);
    let config = TopicConfig { segment_bytes: 400, ..TopicConfig::default() };
    let spec =
        |name, partitions| TopicSpec { config: config.clone(), ..TopicSpec::new(name, partitions).unwrap() };
    let write_some = |producer: &mut dyn Producer, to: &TopicPartition, name: &str| {
        (0..6).try_for_each(|number| write(producer, to, &[(number, &format!("{name} {number}")), (7, "-")]))
    };
    type Step<'a> = Box<dyn FnMut(&mut dyn Producer) -> Result<()> + 'a>;
    let steps: Vec<Step<'_>> = vec![
        Box::new(|_| block_on(log.create_topic(&spec("t", 1)))),
        Box::new(|p| write_some(p, &t, "first")),
        Box::new(|_| block_on(log.commit_positions(&at("g", &t, 1)))),
        Box::new(|_| block_on(log.checkpoint())),
        Box::new(|p| write_some(p, &t, "second")),
        Box::new(|_| block_on(log.delete_records(&t, Offset(9))).map(drop)),
        Box::new(|_| delete_topic(log, "t")),
        Box::new(|_| block_on(log.create_topic(&spec("t", 1)))),
        Box::new(|p| write_some(p, &t, "third")),
        Box::new(|_| block_on(log.delete_records(&t, Offset(12))).map(drop)),
        Box::new(|p| write(p, &t, &[(1, "fourth")])),
        Box::new(|_| block_on(log.checkpoint())),
        Box::new(|_| block_on(log.delete_records(&t, Offset(13))).map(drop)),
        Box::new(|_| block_on(log.checkpoint())),
        Box::new(|_| {
            let partitions = NonZeroU32::new(3);
            let changes =
                TopicChanges { partitions, settings: vec![("segment.bytes".into(), Some("150".into()))] };
            block_on(log.alter_topic(&t.topic, &changes)).map(drop)
        }),
        Box::new(|p| write_some(p, &tp("t", 2), "fifth")),
        Box::new(|p| write_some(p, &t, "sixth")),
        Box::new(|_| block_on(log.commit_positions(&at("h", &tp("t", 2), 1)))),
        Box::new(|_| {
            let changes = TopicChanges {
                partitions: None,
                settings: vec![("retention.bytes".into(), Some("300".into()))],
            };
            block_on(log.alter_topic(&t.topic, &changes)).map(drop)
        }),
        Box::new(|_| block_on(log.clean()).map(drop)),
        Box::new(|_| block_on(log.delete_group(&GroupId("h".into())))),
        Box::new(|_| delete_topic(log, "t")),
        Box::new(|_| block_on(log.checkpoint())),
        Box::new(|_| block_on(log.create_topic(&spec("t", 2)))),
        Box::new(|p| write_some(p, &tp("t", 1), "last")),
    ];
    let mut producer = block_on(log.producer(&ProducerName("p".into())))?;
    after(log);
    for mut step in steps {
        step(&mut *producer)?;
        after(log);
    }
    Ok(())
}

/// What the log holds after each step of [`live`].
fn states(options: &LogOptions) -> Vec<Contents> {
    let folder = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open_with(folder.path(), options.clone()).unwrap();
    let mut states = Vec::new();
    live(&log, &mut |log| states.push(all_of(log))).unwrap();
    states
}

#[test]
fn every_step_survives_a_restart_and_a_crash() {
    for options in [LogOptions::default(), tiny(), lazy()] {
        let states = states(&options);
        for (number, expected) in states.iter().enumerate() {
            for crash in [false, true] {
                let folder = tempfile::tempdir().unwrap();
                let log = EmbeddedLog::open_with(folder.path(), options.clone()).unwrap();
                let mut count = 0;
                // The steps behind it fail, because the log is gone.
                let _ = live(&log, &mut |log| {
                    count += 1;
                    if count == number + 1 {
                        if crash { log.crash() } else { block_on(log.close()).unwrap() }
                    }
                });
                drop(log);
                for _ in 0..2 {
                    let log = EmbeddedLog::open_with(folder.path(), options.clone()).unwrap();
                    assert_eq!(&all_of(&log), expected, "step {number}, crash={crash}, {options:?}");
                    log.crash();
                }
            }
        }
    }
}

/// A process that dies at any call of the file system, and dies once more in the middle of its recovery.
#[test]
fn dying_at_any_call_of_the_file_system_loses_nothing_that_was_answered() {
    for options in [tiny(), LogOptions { checkpoint_bytes: 1200, ..lazy() }] {
        let states = states(&options);
        let mut calls = 0;
        loop {
            let folder = tempfile::tempdir().unwrap();
            let mut answered = 0usize;
            let died = die_after(calls, |disk| {
                let log = disk.open_log(folder.path(), options.clone())?;
                live(&log, &mut |_| answered += 1)?;
                block_on(log.close())
            });
            let _ = die_after(calls % 61, |disk| disk.open_log(folder.path(), options.clone()).map(drop));
            let log = EmbeddedLog::open_with(folder.path(), options.clone());
            let log = log.unwrap_or_else(|error| panic!("calls={calls}: {error:?}"));
            let found = all_of(&log);
            let new = Contents { topics: vec![], partitions: BTreeMap::new(), positions: vec![] };
            let before = answered.checked_sub(1).map_or(&new, |last| &states[last]);
            let part_of_a_step = || is_between(&found, before, states.get(answered).unwrap_or(before));
            assert!(found == *before || part_of_a_step(), "calls={calls}, answered={answered}: {found:?}");
            if died.is_ok() {
                assert_eq!(answered, states.len());
                break;
            }
            calls += 1 + calls / 40;
        }
        assert!(calls > 200, "{calls}");
    }
}

/// Runs `what` on a disk that fails at call number `calls` and at all later ones.
fn die_after(calls: u64, what: impl FnOnce(&Disk) -> Result<()>) -> Result<()> {
    let left = AtomicU64::new(calls);
    let disk = Disk::with(move |_, _| {
        let alive = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        if alive { Ok(()) } else { Err(std::io::Error::other("died")) }
    });
    what(&disk)
}

/// A step that writes several times may have got half way.
fn is_between(found: &Contents, before: &Contents, after: &Contents) -> bool {
    if found == after {
        return true;
    }
    let grows = |(partition, (offsets, values)): (&TopicPartition, &(PartitionOffsets, Vec<String>))| {
        let (old, new) = (&before.partitions[partition], &after.partitions[partition]);
        offsets.earliest == old.0.earliest && values.starts_with(&old.1) && new.1.starts_with(values)
    };
    (&found.topics, &found.positions) == (&after.topics, &after.positions)
        && found.topics == before.topics
        && found.partitions.iter().all(grows)
}

#[test]
fn a_deleted_topics_files_go_and_a_crash_leaves_none_of_them() {
    for at in [Op::Rename, Op::RemoveFile, Op::RemoveFolder] {
        let folder = tempfile::tempdir().unwrap();
        let armed = Arc::new(AtomicBool::new(false));
        let disk = Disk::with({
            let armed = Arc::clone(&armed);
            move |op, path| {
                let deleted = path.to_string_lossy().contains("~deleted.");
                if armed.load(Ordering::SeqCst) && op == at && deleted {
                    return Err(std::io::Error::other("not now"));
                }
                Ok(())
            }
        });
        let log = disk.open_log(folder.path(), tiny()).unwrap();
        create(&log, "t", 2, 500);
        commit_both(&mut *producer(&log, "p"), 0..20);
        armed.store(true, Ordering::SeqCst);
        let deleted = delete_topic(&log, "t");
        // A folder in the way of a new topic stops the log; what is only left over does not.
        assert_eq!(deleted.is_err(), at == Op::Rename, "{at:?}: {deleted:?}");
        assert_eq!(block_on(log.checkpoint()).is_err(), at == Op::Rename);
        drop(log);
        armed.store(false, Ordering::SeqCst);
        let log = disk.open_log(folder.path(), tiny()).unwrap();
        assert!(block_on(log.topics()).unwrap().is_empty());
        wait_until_swept(folder.path());
        create(&log, "t", 2, 500);
        assert_eq!(commits_in(&log), 0);
        commit_both(&mut *producer(&log, "p"), 0..20);
        assert_eq!(commits_in(&log), 20);
    }
}

/// The journal thread does not wait for it, so we must.
pub(super) fn wait_until_swept(folder: &Path) {
    let begun = std::time::Instant::now();
    while fs::read_dir(folder.join("topics")).unwrap().count() > 0 {
        assert!(begun.elapsed() < Duration::from_secs(60), "deleted topics stay");
        thread::yield_now();
    }
}

#[test]
fn the_files_of_deleted_records_go() {
    let folder = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open_with(folder.path(), lazy()).unwrap();
    create(&log, "t", 1, 150);
    let (t, mut p) = (tp("t", 0), producer(&log, "p"));
    (0..10).for_each(|number| write(&mut *p, &t, &[(0, &format!("{number:050}"))]).unwrap());
    block_on(log.checkpoint()).unwrap();
    assert_eq!(bases(folder.path(), "t"), (0..10).collect::<Vec<_>>());
    block_on(log.delete_records(&t, Offset(4))).unwrap();
    assert_eq!(bases(folder.path(), "t"), (4..10).collect::<Vec<_>>());
    block_on(log.delete_records(&t, Offset(10))).unwrap();
    assert_eq!(fs::read_dir(folder.path().join("topics/t/0")).unwrap().count(), 0, "indexes too");
    log.crash();
    drop((p, log));
    let log = EmbeddedLog::open_with(folder.path(), lazy()).unwrap();
    assert_eq!((earliest(&log, &t), values(&log, &t)), (10, vec![]));
    let mut p = producer(&log, "p");
    write(&mut *p, &t, &[(0, "new")]).unwrap();
    block_on(log.close()).unwrap();
    assert_eq!(bases(folder.path(), "t"), [10]);
    let log = EmbeddedLog::open_with(folder.path(), lazy()).unwrap();
    assert_eq!((earliest(&log, &t), values(&log, &t)), (10, vec!["new".into()]));
}

/// Nothing was synced before, in this mode: a power cut must not take the entry and leave the hole.
#[test]
fn files_go_when_the_journal_is_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::default();
    let log = disk.open_log(folder.path(), LogOptions { durability: Durability::Os, ..lazy() }).unwrap();
    create(&log, "t", 1, 150);
    let (t, mut p) = (tp("t", 0), producer(&log, "p"));
    (0..4).for_each(|number| write(&mut *p, &t, &[(0, &format!("{number:050}"))]).unwrap());
    block_on(log.checkpoint()).unwrap();
    let before = disk.done().len();
    block_on(log.delete_records(&t, Offset(2))).unwrap();
    let done = disk.done().split_off(before);
    let when = |wanted: Op| done.iter().position(|(op, _)| *op == wanted).unwrap();
    assert!(when(Op::Write) < when(Op::SyncFile) && when(Op::SyncFile) < when(Op::RemoveFile), "{done:?}");
    // And when recovery finds the entry.
    log.crash();
    drop((p, log));
    let before = disk.done().len();
    drop(disk.open_log(folder.path(), lazy()).unwrap());
    let done = disk.done().split_off(before);
    let synced =
        done.iter().position(|(op, path)| *op == Op::SyncFile && path.to_string_lossy().ends_with("journal"));
    let removed = done.iter().position(|(op, _)| matches!(op, Op::RemoveFile | Op::SetLen));
    assert!(synced.is_some() && removed.is_none_or(|removed| synced.unwrap() < removed), "{done:?}");
}

/// Whoever reads while topics come and go sees records of one topic, or that they are not there.
#[test]
fn readers_never_see_damage_or_another_topics_records() {
    let folder = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open_with(folder.path(), LogOptions { tail_bytes_max: 0, ..tiny() }).unwrap();
    let (t, done) = (tp("t", 0), &AtomicBool::new(false));
    let (read, refused) = (&AtomicU64::new(0), &AtomicU64::new(0));
    thread::scope(|scope| {
        for reader in 0..2u64 {
            let (log, t) = (log.clone(), t.clone());
            scope.spawn(move || {
                let mut from = reader;
                while !done.load(Ordering::SeqCst) {
                    from = (from * 5 + 3) % 60;
                    match block_on(log.read(&t, Offset(from), 300)) {
                        Ok(fetched) => read.fetch_add(check_one_life(&fetched), Ordering::SeqCst),
                        Err(error) if error.kind() == ErrorKind::Invalid => {
                            refused.fetch_add(1, Ordering::SeqCst)
                        }
                        Err(error) => panic!("{error:?}"),
                    };
                    let time = i64::try_from(from).unwrap();
                    match block_on(log.offset_at(&t, Timestamp(time))) {
                        // Each record has its offset as its time.
                        Ok(Some(found)) => {
                            assert!(
                                found.timestamp.0 >= time
                                    && found.offset.to_string() == found.timestamp.0.to_string()
                            );
                        }
                        Ok(None) => {}
                        Err(error) => assert_eq!(error.kind(), ErrorKind::Invalid, "{error:?}"),
                    }
                }
            });
        }
        let mut p = producer(&log, "p");
        for life in 0..40 {
            create(&log, "t", 1, 300);
            for number in 0..20i64 {
                let records: Vec<_> =
                    (0..3).map(|n| (number * 3 + n, format!("{life}:{}", number * 3 + n))).collect();
                let records: Vec<_> = records.iter().map(|(time, value)| (*time, value.as_str())).collect();
                write(&mut *p, &t, &records).unwrap();
                if number % 5 == 4 {
                    block_on(log.delete_records(&t, Offset(u64::try_from(number).unwrap() * 2))).unwrap();
                }
            }
            delete_topic(&log, "t").unwrap();
        }
        done.store(true, Ordering::SeqCst);
    });
    let (read, refused) = (read.load(Ordering::SeqCst), refused.load(Ordering::SeqCst));
    assert!(read > 0 && refused > 0, "read={read}, refused={refused}");
}

/// All records are of one life of the topic, and are where they were written; how many there are.
fn check_one_life(fetched: &Fetched) -> u64 {
    let mut life = None;
    let mut count = 0;
    for batch in &fetched.batches {
        let mut cursor = batch.cursor();
        while let Some(record) = cursor.next() {
            let record = record.unwrap();
            let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
            let (of, offset) = value.split_once(':').unwrap();
            assert_eq!(offset, record.offset.to_string());
            assert_eq!(life.get_or_insert_with(|| of.to_owned()), of);
            count += 1;
        }
    }
    count
}

#[test]
fn segments_are_rolled_by_the_time_of_records_and_settings_hold_from_the_next_batch_on() {
    let folder = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open_with(folder.path(), lazy()).unwrap();
    create(&log, "t", 1, 1 << 20);
    let (t, mut p) = (tp("t", 0), producer(&log, "p"));
    alter(&log, "t", None, &[("segment.ms", "100")]);
    // From the highest time of a segment's first batch on; a batch goes by its own highest time.
    let mut write_all = |log: &EmbeddedLog, times: &[&[i64]]| {
        for times in times {
            let records: Vec<_> = times.iter().map(|time| (*time, "v")).collect();
            write(&mut *p, &t, &records).unwrap();
        }
        block_on(log.checkpoint()).unwrap();
    };
    write_all(&log, &[&[1000, 1050], &[1150], &[1151], &[900], &[1251, 1000], &[1252], &[5]]);
    assert_eq!(bases(folder.path(), "t"), [0, 3, 7]);
    alter(&log, "t", None, &[("segment.ms", "1000000"), ("segment.bytes", "100")]);
    write_all(&log, &[&[1252], &[1252]]);
    assert_eq!(bases(folder.path(), "t"), [0, 3, 7, 9, 10]);
    drop((p, log));
    // A restart does not make the clock of the active segment start again.
    let log = EmbeddedLog::open_with(folder.path(), lazy()).unwrap();
    alter(&log, "t", None, &[("segment.ms", "10"), ("segment.bytes", "100000")]);
    let mut p = producer(&log, "p");
    write(&mut *p, &t, &[(1262, "v")]).unwrap();
    write(&mut *p, &t, &[(1263, "v")]).unwrap();
    block_on(log.checkpoint()).unwrap();
    assert_eq!(bases(folder.path(), "t"), [0, 3, 7, 9, 10, 12]);
}

/// Ten closed segments and an active one, with a record each: times 100, 200 and so on.
fn aged(folder: &Path, clock: &Arc<ManualClock>) -> LogOptions {
    let options = LogOptions { clock: Arc::<ManualClock>::clone(clock), ..lazy() };
    let log = EmbeddedLog::open_with(folder, options.clone()).unwrap();
    create(&log, "t", 1, 150);
    let mut p = producer(&log, "p");
    for number in 1..=11 {
        write(&mut *p, &tp("t", 0), &[(number * 100, &format!("{number:050}"))]).unwrap();
    }
    block_on(log.close()).unwrap();
    options
}

#[test]
fn retention_knows_the_age_of_segments_that_it_did_not_write() {
    type Damage = fn(&Path);
    let damages: [Damage; 4] = [
        |_| {},
        |path| fs::remove_file(path).unwrap(),
        |path| fs::write(path, [0; 24]).unwrap(),
        |path| fs::write(path, []).unwrap(),
    ];
    for (number, damage) in damages.iter().enumerate() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp(1000)));
        let options = aged(folder.path(), &clock);
        for base in bases(folder.path(), "t") {
            damage(&folder.path().join(format!("topics/t/0/{base:020}.timeindex")));
        }
        let log = EmbeddedLog::open_with(folder.path(), options).unwrap();
        assert_eq!(block_on(log.clean()).unwrap(), Cleaned::default(), "nobody asked for it");
        alter(&log, "t", None, &[("retention.ms", "500")]);
        let cleaned = block_on(log.clean()).unwrap();
        assert_eq!(earliest(&log, &tp("t", 0)), 4, "damage {number}");
        assert_eq!(bases(folder.path(), "t"), (4..11).collect::<Vec<_>>());
        assert!(cleaned.deleted_bytes > 4 * 100, "{cleaned:?}");
        alter(&log, "t", None, &[("retention.ms", "-1"), ("retention.bytes", "250")]);
        block_on(log.clean()).unwrap();
        assert_eq!(earliest(&log, &tp("t", 0)), 8, "damage {number}");
        log.crash();
        drop(log);
        let log = EmbeddedLog::open(folder.path()).unwrap();
        assert_eq!(values(&log, &tp("t", 0)).len(), 3);
    }
}

#[test]
fn large_segments_go_too() {
    let folder = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(folder.path()).unwrap();
    create(&log, "t", 1, 1_500_000);
    let mut producer = producer(&log, "p");
    let value = "v".repeat(700_000);
    for _ in 0..8 {
        write(&mut *producer, &tp("t", 0), &[(1, &value)]).unwrap();
    }
    // What is in no file yet is removed from nowhere.
    block_on(log.checkpoint()).unwrap();
    block_on(log.delete_records(&tp("t", 0), Offset(5))).unwrap();
    assert_eq!(bases(folder.path(), "t"), [4, 6]);
    block_on(log.close()).unwrap();
    assert_eq!(bases(folder.path(), "t"), [4, 6]);
}

#[test]
fn retention_goes_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(Timestamp(1000)));
    let options = LogOptions { retention_check: Duration::from_millis(1), ..aged(folder.path(), &clock) };
    let log = EmbeddedLog::open_with(folder.path(), options).unwrap();
    alter(&log, "t", None, &[("retention.ms", "500")]);
    let mut seen = LogVersion::default();
    while earliest(&log, &tp("t", 0)) < 4 {
        seen = block_on(log.appended(seen)).unwrap();
    }
    clock.advance_ms(100_000);
    while earliest(&log, &tp("t", 0)) < 11 {
        seen = block_on(log.appended(seen)).unwrap();
    }
    assert!(values(&log, &tp("t", 0)).is_empty());
}

/// As many batches as an index has entries for, with times that go up and down.
fn timed(folder: &Path) -> Vec<i64> {
    let log = EmbeddedLog::open_with(folder, lazy()).unwrap();
    create(&log, "t", 1, 60_000);
    let (mut p, mut times, mut random) = (producer(&log, "p"), Vec::new(), 0x5eed_u32);
    for number in 0..200 {
        let mut builder = BatchBuilder::default();
        for _ in 0..2 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let time = number * 10 + i64::from(random >> 25);
            builder.push(Timestamp(time), None, Some(&[b'v'; 500]), &Headers::new());
            times.push(time);
        }
        p.append(&tp("t", 0), &mut builder).unwrap();
    }
    block_on(p.commit(None)).unwrap();
    times
}

#[test]
fn records_are_found_by_time_whatever_became_of_the_indexes() {
    let folder = tempfile::tempdir().unwrap();
    let times = timed(folder.path());
    let check = |log: &EmbeddedLog, what: &str| {
        for time in (-120..2200).step_by(7) {
            let first = times.iter().position(|at| *at >= time);
            let found = block_on(log.offset_at(&tp("t", 0), Timestamp(time))).unwrap();
            let expected =
                first.map(|at| TimedOffset { offset: Offset(at as u64), timestamp: Timestamp(times[at]) });
            assert_eq!(found, expected, "time {time}, {what}");
        }
    };
    let partition = folder.path().join("topics/t/0");
    let files: Vec<_> = ["timeindex", "index"]
        .into_iter()
        .flat_map(|extension| numbered(&partition, extension).into_iter().map(move |base| (base, extension)))
        .map(|(base, extension)| partition.join(format!("{base:020}.{extension}")))
        .map(|path| (fs::read(&path).unwrap(), path))
        .collect();
    assert!(files.len() >= 6 && files.iter().all(|(bytes, _)| bytes.len() > 50), "{files:?}");
    type Damage = fn(&[u8]) -> Option<Vec<u8>>;
    let damages: [(&str, Damage); 8] = [
        ("good", |good| Some(good.to_vec())),
        ("missing", |_| None),
        ("empty", |_| Some(vec![])),
        ("zeros", |good| Some(vec![0; good.len()])),
        ("ones", |good| Some(vec![0xff; good.len()])),
        ("cut", |good| Some(good[..good.len() / 2].to_vec())),
        ("longer", |good| Some([good, &[1; 30]].concat())),
        ("twisted", |good| Some(good.iter().map(|byte| byte ^ 3).collect())),
    ];
    for (what, damage) in damages {
        for only in ["timeindex", "index"] {
            for (good, path) in files.iter().filter(|(_, path)| path.extension().unwrap() == only) {
                damage(good).map_or_else(|| fs::remove_file(path), |bytes| fs::write(path, bytes)).unwrap();
            }
            let log = EmbeddedLog::open(folder.path()).unwrap();
            check(&log, what);
            if what != "cut" && what != "longer" {
                let made_again = files.iter().all(|(good, path)| fs::read(path).unwrap() == *good);
                assert!(made_again, "{only} {what}");
            }
            drop(log);
            check(&EmbeddedLog::open(folder.path()).unwrap(), what);
            files.iter().for_each(|(good, path)| fs::write(path, good).unwrap());
        }
    }
}
