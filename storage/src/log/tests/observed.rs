//! What somebody sees who looks at a log that another owns.

mod running;

use std::{
    io,
    sync::{
        Condvar,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use futures::FutureExt;
use headwater_core::{Admin, Cleaned, Member, RecordBatch, Subscription, TopicChanges};

use super::{
    crash::{crashed, groups, journal_file},
    disk::{Disk, Op},
    *,
};
use crate::log::fs::Open;

/// Writes go to the owner, and everything that is read is read by an observer.
#[derive(Debug)]
struct Observed {
    owner: EmbeddedLog,
    observer: ObservedLog,
}

#[async_trait]
impl Log for Observed {
    async fn create_topic(&self, spec: &TopicSpec) -> Result<()> {
        self.owner.create_topic(spec).await
    }

    async fn topics(&self) -> Result<Vec<TopicSpec>> {
        self.observer.topics().await
    }

    async fn offsets(&self, partition: &TopicPartition) -> Result<PartitionOffsets> {
        self.observer.offsets(partition).await
    }

    async fn read(&self, partition: &TopicPartition, from: Offset, bytes_max: usize) -> Result<Fetched> {
        self.observer.read(partition, from, bytes_max).await
    }

    async fn offset_at(&self, partition: &TopicPartition, time: Timestamp) -> Result<Option<TimedOffset>> {
        self.observer.offset_at(partition, time).await
    }

    async fn producer(&self, name: &ProducerName) -> Result<Box<dyn Producer>> {
        self.owner.producer(name).await
    }

    async fn committed(&self, group: &GroupId, partition: &TopicPartition) -> Result<Option<Committed>> {
        self.observer.committed(group, partition).await
    }

    async fn commit_positions(&self, positions: &Positions) -> Result<()> {
        self.owner.commit_positions(positions).await
    }

    async fn join(&self, group: &GroupId, subscription: &Subscription) -> Result<Box<dyn Member>> {
        self.owner.join(group, subscription).await
    }

    async fn appended(&self, seen: LogVersion) -> Result<LogVersion> {
        self.observer.appended(seen).await
    }
}

#[async_trait]
impl Admin for Observed {
    async fn alter_topic(&self, topic: &TopicName, changes: &TopicChanges) -> Result<TopicSpec> {
        self.owner.alter_topic(topic, changes).await
    }

    async fn delete_topic(&self, topic: &TopicName) -> Result<()> {
        self.owner.delete_topic(topic).await
    }

    async fn delete_records(&self, partition: &TopicPartition, before: Offset) -> Result<Offset> {
        self.owner.delete_records(partition, before).await
    }

    async fn size(&self, partition: &TopicPartition) -> Result<u64> {
        let size = self.observer.size(partition).await?;
        assert_eq!(self.owner.size(partition).await?, size, "both see the same");
        Ok(size)
    }

    async fn groups(&self) -> Result<Vec<GroupId>> {
        self.observer.groups().await
    }

    async fn positions(&self, group: &GroupId) -> Result<Vec<(TopicPartition, Committed)>> {
        self.observer.positions(group).await
    }

    async fn delete_group(&self, group: &GroupId) -> Result<()> {
        self.owner.delete_group(group).await
    }

    async fn clean(&self) -> Result<Cleaned> {
        let cleaned = self.owner.clean().await?;
        // It goes on with what it knows of the journal, in which nothing is compacted.
        self.observer.look_anew();
        Ok(cleaned)
    }
}

#[test]
fn an_observer_reads_as_the_contract_says() {
    let modes = [Durability::Fsync, Durability::Os, Durability::Interval(Duration::from_millis(1))];
    let sizes = [LogOptions::default(), tiny(), lazy()];
    let settings = modes.iter().flat_map(|durability| {
        sizes.iter().map(|options| LogOptions { durability: *durability, ..options.clone() })
    });
    for options in settings {
        let folders = RefCell::new(Vec::<TempDir>::new());
        let open = |options| {
            let folder = tempfile::tempdir().unwrap();
            let owner = EmbeddedLog::open_with(folder.path(), options).unwrap();
            let observer = ObservedLog::open(folder.path()).unwrap();
            folders.borrow_mut().push(folder);
            Arc::new(Observed { owner, observer })
        };
        contract::log::all(|| open(options.clone()));
        contract::log::admin(|clock| open(LogOptions { clock, ..options.clone() }));
    }
}

/// A disk on which nothing can be changed.
fn read_only() -> Disk {
    Disk::with(|op, path| match op {
        Op::Open(Open::Read) | Op::Exists | Op::Size | Op::List | Op::Read | Op::Length => Ok(()),
        op => panic!("an observer writes. op={op:?}, path={}", path.display()),
    })
}

/// Somebody who looks at `folder` for the first time.
fn look(folder: &Path) -> ObservedLog {
    ObservedLog::open_on(Arc::new(read_only()), folder).unwrap()
}

#[test]
fn everything_committed_is_seen_whether_the_owner_runs_has_closed_or_was_killed() {
    for options in [LogOptions::default(), tiny(), lazy()] {
        let folder = tempfile::tempdir().unwrap();
        let log = EmbeddedLog::open_with(folder.path(), options.clone()).unwrap();
        let observer = look(folder.path());
        assert!(block_on(observer.topics()).unwrap().is_empty());
        create(&log, "t", 2, 500);
        create(&log, "empty", 3, 500);
        let mut p = producer(&log, "p");
        let topics = block_on(log.topics()).unwrap();
        let check = |commits: u64| {
            for observer in [&observer, &look(folder.path())] {
                assert_eq!(commits_in(observer), commits);
                assert_eq!(block_on(observer.topics()).unwrap(), topics);
                assert!(values(observer, &tp("empty", 2)).is_empty());
            }
        };
        for commits in [1, 2, 30] {
            commit_both(&mut *p, commits_in(&observer)..commits);
            check(commits);
        }
        append(&mut *p, &tp("t", 0), &["not committed".into()]);
        check(30);
        drop(p);
        block_on(log.close()).unwrap();
        check(30);
        let log = EmbeddedLog::open_with(folder.path(), options.clone()).unwrap();
        check(30);
        commit_both(&mut *producer(&log, "p"), 30..50);
        check(50);
        log.crash();
        check(50);
        drop(log);
        let log = EmbeddedLog::open_with(folder.path(), options).unwrap();
        check(50);
        commit_both(&mut *producer(&log, "p"), 50..60);
        check(60);
    }
}

/// Owner and observer find the same, and after a checkpoint it is what the segment files hold.
#[test]
fn a_partition_takes_what_its_segments_take() {
    let folder = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open_with(folder.path(), tiny()).unwrap();
    let observer = look(folder.path());
    create(&log, "t", 2, 1500);
    let partition = tp("t", 0);
    let in_files = || -> u64 {
        let segments = folder.path().join("topics/t/0");
        let size = |base| fs::metadata(layout::log_file(&segments, Offset(base))).unwrap().len();
        numbered(&segments, "log").into_iter().map(size).sum()
    };
    let check = |log: Option<&EmbeddedLog>| {
        let seen = block_on(observer.size(&partition)).unwrap();
        assert_eq!(block_on(look(folder.path()).size(&partition)).unwrap(), seen);
        assert!(log.is_none_or(|log| block_on(log.size(&partition)).unwrap() == seen));
        seen
    };
    let mut p = producer(&log, "p");
    for number in 0..100 {
        commit_both(&mut *p, number..number + 1);
        check(Some(&log));
    }
    block_on(log.checkpoint()).unwrap();
    let all = check(Some(&log));
    assert_eq!(all, in_files());
    // Only whole segments go.
    block_on(log.delete_records(&partition, Offset(101))).unwrap();
    block_on(log.checkpoint()).unwrap();
    observer.look_anew();
    let left = check(Some(&log));
    assert_eq!(left, in_files());
    assert!((all / 2..all).contains(&left) && numbered(&folder.path().join("topics/t/0"), "log")[0] < 101);
    drop(p);
    block_on(log.close()).unwrap();
    assert_eq!(check(None), left);
    let log = EmbeddedLog::open_with(folder.path(), tiny()).unwrap();
    assert_eq!(check(Some(&log)), left);
    block_on(log.delete_topic(&tp("t", 0).topic)).unwrap();
    for error in [block_on(log.size(&partition)), block_on(observer.size(&partition))] {
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Invalid);
    }
}

#[test]
fn segments_are_read_without_indexes_and_none_are_made() {
    let folder = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open_with(folder.path(), tiny()).unwrap();
    create(&log, "t", 2, 9000);
    commit_both(&mut *producer(&log, "p"), 0..200);
    block_on(log.close()).unwrap();
    for partition in ["0", "1"] {
        let partition = folder.path().join("topics/t").join(partition);
        for base in numbered(&partition, "index") {
            fs::remove_file(layout::index_file(&partition, Offset(base))).unwrap();
        }
    }
    assert_eq!(commits_in(&look(folder.path())), 200);
    assert!(numbered(&folder.path().join("topics/t/0"), "index").is_empty());
}

#[test]
fn what_changes_a_log_is_refused_and_says_who_may() {
    let folder = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(folder.path()).unwrap();
    create(&log, "t", 1, 500);
    let observer = look(folder.path());
    let (topic, t) = (TopicName::new("t").unwrap(), tp("t", 0));
    let refused = [
        block_on(observer.create_topic(&TopicSpec::new("u", 1).unwrap())),
        block_on(observer.producer(&ProducerName("p".into()))).map(drop),
        block_on(observer.commit_positions(&at("g", &t, 0))),
        block_on(observer.alter_topic(&topic, &TopicChanges::default())).map(drop),
        block_on(observer.delete_topic(&topic)),
        block_on(observer.delete_records(&t, Offset(0))).map(drop),
        block_on(observer.delete_group(&GroupId("g".into()))),
        block_on(observer.clean()).map(drop),
    ];
    for refused in refused {
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        let pid = format!("last_owner_pid={}", std::process::id());
        assert!(error.to_string().contains("read-only") && error.to_string().contains(&pid), "{error}");
    }
    let error = EmbeddedLog::open(folder.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("look at it read-only"), "{error}");
}

#[test]
fn groups_and_positions_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(folder.path()).unwrap();
    create(&log, "t", 2, 500);
    for (group, partition) in [("b", 1), ("a", 0), ("b", 0)] {
        block_on(log.commit_positions(&at(group, &tp("t", partition), 0))).unwrap();
    }
    let observer = look(folder.path());
    let names = ["a", "b"].map(|name| GroupId(name.into()));
    assert_eq!(block_on(observer.groups()).unwrap(), names);
    let positions = block_on(observer.positions(&names[1])).unwrap();
    let partitions: Vec<_> = positions.into_iter().map(|(partition, _)| partition).collect();
    assert_eq!(partitions, [tp("t", 0), tp("t", 1)]);
    assert!(block_on(observer.positions(&GroupId("c".into()))).unwrap().is_empty());
}

#[test]
fn no_log_and_another_version_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for missing in [folder.path().to_owned(), folder.path().join("nowhere")] {
        let error = ObservedLog::open(missing).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("there is no log here"), "{error}");
    }
    assert!(contents(folder.path()).is_empty(), "nothing was made");
    fs::write(folder.path().join("format"), "headwater-log 2\n").unwrap();
    let error = ObservedLog::open(folder.path()).unwrap_err();
    assert!(error.to_string().contains("another version"), "{error}");
}

/// A disk that can be made to hang or to fail when the journal is synced.
#[derive(Debug, Default)]
struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct GateState {
    /// `None`: open.
    shut: Option<Shut>,
    waiting: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shut {
    Hangs,
    Fails,
}

impl Gate {
    fn set(&self, shut: Option<Shut>) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).shut = shut;
        self.changed.notify_all();
    }

    fn pass(&self) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        while state.shut == Some(Shut::Hangs) {
            state.waiting = true;
            self.changed.notify_all();
            state = self.changed.wait(state).unwrap();
        }
        state.waiting = false;
        if state.shut == Some(Shut::Fails) { Err(io::Error::other("bad disk")) } else { Ok(()) }
    }

    fn wait_until_somebody_waits(&self) {
        let state = self.state.lock().unwrap();
        drop(self.changed.wait_while(state, |state| !state.waiting).unwrap());
    }

    fn disk(self: &Arc<Self>) -> Disk {
        let gate = Arc::clone(self);
        Disk::with(move |op, path| {
            let journal =
                path.extension().is_some_and(|extension| extension == "journal" || extension == "spare");
            if op == Op::SyncFile && journal { gate.pass() } else { Ok(()) }
        })
    }
}

#[test]
fn what_is_not_on_disk_is_not_seen() {
    let folder = tempfile::tempdir().unwrap();
    let gate = Arc::new(Gate::default());
    let log = gate.disk().open_log(folder.path(), lazy()).unwrap();
    create(&log, "t", 2, 500);
    let mut p = producer(&log, "p");
    commit_both(&mut *p, 0..3);
    let observer = look(folder.path());
    gate.set(Some(Shut::Hangs));
    thread::scope(|scope| {
        let committing = scope.spawn(|| commit_both(&mut *p, 3..4));
        gate.wait_until_somebody_waits();
        for observer in [&observer, &look(folder.path())] {
            assert_eq!(commits_in(observer), 3, "it is in the journal, but not on disk");
        }
        gate.set(None);
        committing.join().unwrap();
    });
    assert_eq!(commits_in(&observer), 4);
    gate.set(Some(Shut::Fails));
    append(&mut *p, &tp("t", 0), &["lost".into()]);
    assert!(block_on(p.commit(None)).is_err());
    for observer in [&observer, &look(folder.path())] {
        assert_eq!(commits_in(observer), 4);
    }
    drop((p, log));
    assert_eq!(commits_in(&observer), 4);
}

#[test]
fn without_sync_what_is_written_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let gate = Arc::new(Gate::default());
    let log =
        gate.disk().open_log(folder.path(), LogOptions { durability: Durability::Os, ..lazy() }).unwrap();
    create(&log, "t", 2, 500);
    gate.set(Some(Shut::Fails));
    commit_both(&mut *producer(&log, "p"), 0..3);
    assert_eq!(commits_in(&look(folder.path())), 3);
}

/// Changes the last group of the first journal file.
fn damage_last_group(folder: &Path, change: impl Fn(&mut [u8])) {
    let path = journal_file(folder, 1);
    let mut journal = fs::read(&path).unwrap();
    let (begin, end) = *groups(&journal).last().unwrap();
    change(&mut journal[begin..end]);
    fs::write(path, journal).unwrap();
}

#[test]
fn what_was_shown_and_lost_with_the_machine_is_not_seen() {
    let folder = crashed(2, 3);
    damage_last_group(folder.path(), |group| group.fill(0));
    let observer = look(folder.path());
    assert_eq!(commits_in(&observer), 4);
    let begun = Instant::now();
    assert_eq!(commits_in(&observer), 4);
    assert!(begun.elapsed() < Duration::from_millis(200), "it does not look for it again and again");
    let log = EmbeddedLog::open_with(folder.path(), lazy()).unwrap();
    assert_eq!(commits_in(&observer), 4);
    commit_both(&mut *producer(&log, "p"), 4..8);
    assert_eq!(commits_in(&observer), 8);
}

#[test]
fn without_the_owners_word_the_journal_vouches_for_all_but_the_newest() {
    let folder = crashed(2, 5);
    fs::remove_file(folder.path().join("published")).unwrap();
    assert_eq!(commits_in(&look(folder.path())), 6);
    fs::write(folder.path().join("published"), [7; 28]).unwrap();
    assert_eq!(commits_in(&look(folder.path())), 6);
    let log = EmbeddedLog::open_with(folder.path(), lazy()).unwrap();
    assert_eq!(commits_in(&look(folder.path())), 7);
    drop(log);
}

#[test]
fn an_owner_that_cannot_publish_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let failing = Arc::new(AtomicBool::new(false));
    let disk = Disk::with({
        let failing = Arc::clone(&failing);
        move |op, path| {
            let fails = op == Op::Write && path.ends_with("published") && failing.load(Ordering::Relaxed);
            if fails { Err(io::Error::other("bad block")) } else { Ok(()) }
        }
    });
    let log = disk.open_log(folder.path(), lazy()).unwrap();
    create(&log, "t", 2, 500);
    let mut p = producer(&log, "p");
    let observer = look(folder.path());
    commit_both(&mut *p, 0..3);
    failing.store(true, Ordering::Relaxed);
    commit_both(&mut *p, 3..9);
    for observer in [&observer, &look(folder.path())] {
        assert_eq!(commits_in(observer), 8, "all but the newest");
    }
}

#[test]
fn files_of_a_new_topic_are_not_taken_for_those_of_the_old_one() {
    let folder = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open_with(folder.path(), lazy()).unwrap();
    let (name, t) = (TopicName::new("t").unwrap(), tp("t", 0));
    let fill = |value: &str, batches: usize| {
        create(&log, "t", 1, 300);
        let mut p = producer(&log, "p");
        for _ in 0..batches {
            append(&mut *p, &t, &[value.repeat(100)]);
            block_on(p.commit(None)).unwrap();
        }
        block_on(log.checkpoint()).unwrap();
    };
    fill("a", 6);
    // Between its look at what is published and its look at the files, the owner makes another topic.
    let armed = Arc::new(AtomicBool::new(false));
    let (to, from) = std::sync::mpsc::sync_channel::<()>(0);
    let (back_to, back_from) = std::sync::mpsc::sync_channel::<()>(0);
    let (to, back_from) = (Mutex::new(to), Mutex::new(back_from));
    let disk = Disk::with({
        let armed = Arc::clone(&armed);
        move |op, path| {
            if op == Op::List && path.ends_with("topics/t/0") && armed.swap(false, Ordering::SeqCst) {
                to.lock().unwrap().send(()).unwrap();
                back_from.lock().unwrap().recv().unwrap();
            }
            Ok(())
        }
    });
    let observer = ObservedLog::open_on(Arc::new(disk), folder.path()).unwrap();
    assert_eq!(values(&observer, &t), vec!["a".repeat(100); 6]);
    armed.store(true, Ordering::SeqCst);
    thread::scope(|scope| {
        let reading = scope.spawn(|| block_on(observer.read(&t, Offset(2), 0)).unwrap());
        from.recv().unwrap();
        block_on(log.delete_topic(&name)).unwrap();
        fill("b", 12);
        back_to.send(()).unwrap();
        let fetched = reading.join().unwrap();
        let value = fetched.batches[0].cursor().next().unwrap().unwrap().value.unwrap().to_vec();
        assert_eq!(String::from_utf8(value).unwrap(), "b".repeat(100));
        assert_eq!(fetched.end, Offset(12), "records of the new topic go with its end");
    });
    assert_eq!(values(&observer, &t), vec!["b".repeat(100); 12]);
}

#[test]
fn records_that_are_deleted_while_they_are_read_are_out_of_range() {
    let folder = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open_with(folder.path(), tiny()).unwrap();
    create(&log, "t", 2, 300);
    commit_both(&mut *producer(&log, "p"), 0..40);
    let observer = look(folder.path());
    assert_eq!(commits_in(&observer), 40);
    let t = tp("t", 0);
    block_on(log.delete_records(&t, Offset(50))).unwrap();
    let error = block_on(observer.read(&t, Offset(3), 0)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("earliest=50, end=80"), "{error}");
    let found = block_on(observer.offset_at(&t, Timestamp(0))).unwrap().unwrap();
    assert_eq!(found.offset, Offset(50));
}

/// The old owner was killed between a sync and its word of it. Before the new one removes a file, readers can see why.
#[test]
fn recovery_says_what_is_gone_before_it_removes_it() {
    let folder = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open_with(folder.path(), lazy()).unwrap();
    create(&log, "t", 2, 300);
    commit_both(&mut *producer(&log, "p"), 0..40);
    block_on(log.checkpoint()).unwrap();
    let published = folder.path().join("published");
    let before = fs::read(&published).unwrap();
    let killed = tempfile::tempdir().unwrap();
    copy_folder(folder.path(), killed.path());
    block_on(log.delete_records(&tp("t", 0), Offset(50))).unwrap();
    block_on(log.delete_topic(&TopicName::new("t").unwrap())).unwrap();
    // The journal as it is now, the files as they were.
    fs::copy(journal_file(folder.path(), 1), journal_file(killed.path(), 1)).unwrap();
    fs::write(killed.path().join("published"), before).unwrap();
    let observer = look(killed.path());
    assert_eq!(commits_in(&observer), 40);
    let removed = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let disk = Disk::with({
        let (observer, removed) = (observer.clone(), Arc::clone(&removed));
        move |op, path| {
            let goes = matches!(op, Op::RemoveFile | Op::Rename)
                && path.starts_with(observer.folder().join("topics"));
            if goes {
                assert!(block_on(observer.topics()).unwrap().is_empty(), "{op:?} {}", path.display());
                removed.fetch_add(1, Ordering::SeqCst);
            }
            Ok(())
        }
    });
    let log = disk.open_log(killed.path(), lazy()).unwrap();
    assert!(removed.load(Ordering::SeqCst) > 0);
    assert!(block_on(log.topics()).unwrap().is_empty());
}

#[test]
fn damage_is_reported_and_not_read() {
    let folder = crashed(2, 3);
    let path = journal_file(folder.path(), 1);
    let good = fs::read(&path).unwrap();
    let found = groups(&good);
    let mut damaged = good.clone();
    // The first group behind the checkpoint; a later one says that it was on disk.
    damaged[found[4].0 + 40] ^= 1;
    fs::write(&path, &damaged).unwrap();
    let error = ObservedLog::open(folder.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    let place = format!("00000000000000000001.journal, byte={}", found[4].0);
    assert!(error.to_string().contains(&place), "{error}");
    fs::write(&path, good).unwrap();
    let observer = look(folder.path());
    assert_eq!(commits_in(&observer), 5);
    let segment = layout::log_file(&folder.path().join("topics/t/0"), Offset(0));
    let mut bytes = fs::read(&segment).unwrap();
    bytes[100] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let error = try_values(&observer, &tp("t", 0), 0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("partition=t-0, offset=0"), "{error}");
    assert_eq!(values(&observer, &tp("t", 1)).len(), 10, "the others can be read");
}

#[test]
fn who_waits_is_told_of_what_another_writes() {
    let folder = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open_with(folder.path(), tiny()).unwrap();
    create(&log, "t", 2, 500);
    let observer = look(folder.path());
    thread::scope(|scope| {
        let follower = scope.spawn(|| {
            let mut seen = LogVersion::default();
            // One partition: two reads are of two moments.
            while try_values(&observer, &tp("t", 0), 0).unwrap().len() < 40 {
                seen = block_on(observer.appended(seen)).unwrap();
            }
        });
        commit_both(&mut *producer(&log, "p"), 0..20);
        follower.join().unwrap();
    });
}

/// One who follows a log that is written all the time learns of many commits at once.
#[test]
fn who_follows_is_told_now_and_then() {
    let folder = disk::folder();
    let options = LogOptions { durability: Durability::Os, ..LogOptions::default() };
    let log = EmbeddedLog::open_with(folder.path(), options).unwrap();
    create(&log, "t", 2, 1 << 20);
    let observer = look(folder.path());
    let (commits, ended) = (std::sync::atomic::AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let writing = scope.spawn(|| {
            let mut p = producer(&log, "p");
            while !ended.load(Ordering::SeqCst) {
                let number = commits.load(Ordering::SeqCst);
                commit_both(&mut *p, number..number + 1);
                commits.store(number + 1, Ordering::SeqCst);
            }
        });
        let (mut seen, mut told, begun) = (LogVersion::default(), 0, Instant::now());
        let mut next = Offset(0);
        while next < Offset(2000) {
            let acknowledged = commits.load(Ordering::SeqCst);
            let fetched = block_on(observer.read(&tp("t", 0), next, 1 << 20)).unwrap();
            assert!(fetched.end >= Offset(2 * acknowledged), "a call sees what was acknowledged before it");
            next = fetched.batches.last().map_or(next, RecordBatch::next_offset);
            if next == fetched.end {
                seen = block_on(observer.appended(seen)).unwrap();
                told += 1;
            }
        }
        let pauses = begun.elapsed().as_millis() / observer::PAUSE.as_millis();
        ended.store(true, Ordering::SeqCst);
        writing.join().unwrap();
        println!("told {told} times in {pauses} pauses, of {commits:?} commits");
        assert!(told <= pauses + 2, "told {told} times in {pauses} pauses");
    });
}

/// What does not fit together is looked at again later, and meanwhile other tasks of the thread go on, and other callers look.
#[test]
fn a_call_that_waits_to_look_again_holds_up_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(folder.path()).unwrap();
    create(&log, "t", 1, 500);
    let fails = Arc::new(AtomicBool::new(false));
    let fails_there = Arc::clone(&fails);
    let disk = Disk::with(move |op, path| {
        let reads = matches!(op, Op::Open(_) | Op::Read) && path.to_str().unwrap().contains("journal");
        if reads && fails_there.load(Ordering::SeqCst) { Err(io::Error::other("a test")) } else { Ok(()) }
    });
    let observed = ObservedLog::open_on(Arc::new(disk), folder.path()).unwrap();
    create(&log, "new", 1, 500);
    fails.store(true, Ordering::SeqCst);
    let (t, new) = (tp("t", 0), tp("new", 0));
    let (mut first, mut second) = (observed.offsets(&t), observed.read(&new, Offset(0), 0));
    assert!((&mut first).now_or_never().is_none(), "it waits with the thread");
    assert!((&mut second).now_or_never().is_none());
    fails.store(false, Ordering::SeqCst);
    assert_eq!(block_on(second).unwrap().end, Offset(0));
    assert_eq!(block_on(first).unwrap().end, Offset(0));
    // What stays is an error, after a while.
    create(&log, "newer", 1, 500);
    fails.store(true, Ordering::SeqCst);
    assert_eq!(block_on(observed.topics()).unwrap_err().kind(), ErrorKind::Unavailable);
}
