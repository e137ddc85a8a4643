//! A disk that fails: the n-th thing that is asked of it, for every n; a sync; every sync from some point on.

use std::{
    io,
    num::NonZeroU32,
    path::PathBuf,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use headwater_core::{
    Admin, ProducerStamp, RecordBatch, TopicChanges,
    ledger::{Commit, Incarnation, Place, TopicId},
};

use super::{
    crash::journal_file,
    disk::{self, Disk, Op},
    *,
};
use crate::log::queue::Outcome;

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// What goes wrong, and when.
#[derive(Debug, Clone, Copy)]
struct Fault {
    nth: u64,
    /// From then on, and not only once.
    sticky: bool,
    errno: i32,
}

/// What went wrong.
#[derive(Debug, Default)]
struct Faults {
    seen: AtomicU64,
    acked: AtomicU64,
    /// The first, and how many commits were acknowledged before.
    first: Mutex<Option<(Op, PathBuf, u64)>>,
    /// The next write ends what a short one began.
    short: AtomicBool,
}

impl Faults {
    fn disk(self: &Arc<Self>, fault: Fault) -> Disk {
        let this = Arc::clone(self);
        Disk::with_writes(move |op, path, bytes| {
            let number = this.seen.fetch_add(1, Ordering::SeqCst) + 1;
            let begun = this.short.swap(false, Ordering::SeqCst);
            let hit = begun || number == fault.nth || (fault.sticky && number > fault.nth);
            // A full disk still reads.
            let errno =
                if fault.errno == ENOSPC && !op.takes_room() && !op.is_sync() { EIO } else { fault.errno };
            if !hit || (errno != fault.errno && number != fault.nth) {
                return Ok(bytes);
            }
            let acked = this.acked.load(Ordering::SeqCst);
            this.first.lock().unwrap().get_or_insert_with(|| (op, path.to_owned(), acked));
            if op == Op::Write && !begun && bytes > 1 && number.is_multiple_of(2) {
                this.short.store(true, Ordering::SeqCst);
                return Ok(bytes / 2);
            }
            Err(io::Error::from_raw_os_error(errno))
        })
    }
}

/// Rolls, spills, checkpoints, recycled journals within a few commits.
fn small() -> LogOptions {
    LogOptions {
        journal_segment_bytes: 1500,
        checkpoint_bytes: 1800,
        tail_bytes_max: 900,
        open_files_max: 2,
        ..LogOptions::default()
    }
}

/// One commit of three is filed, where a checkpoint knows its topic.
fn small_in_mode_os() -> LogOptions {
    LogOptions { durability: Durability::Os, filed_bytes_min: 130, ..small() }
}

/// A log's user, who notes what was acknowledged.
struct User<'a> {
    options: LogOptions,
    disk: &'a Disk,
    folder: &'a Path,
    faults: &'a Faults,
    /// The last commit may be there or not.
    unknown: bool,
}

impl User<'_> {
    fn acked(&self) -> u64 {
        self.faults.acked.load(Ordering::SeqCst)
    }

    fn life(&mut self) -> Result<()> {
        self.commit_up_to(6, |log| block_on(log.close()))?;
        self.commit_up_to(10, |log| {
            Self::upkeep(log)?;
            log.crash();
            Ok(())
        })?;
        self.commit_up_to(12, |log| block_on(log.close()))
    }

    /// Another topic comes, changes and goes, and some of its records before it.
    fn upkeep(log: &EmbeddedLog) -> Result<()> {
        let (name, from) = (TopicName::new("u").unwrap(), tp("u", 0));
        let config = TopicConfig { segment_bytes: 300, ..TopicConfig::default() };
        block_on(log.create_topic(&TopicSpec { config, ..TopicSpec::new("u", 1).unwrap() }))?;
        let mut producer = block_on(log.producer(&ProducerName("q".into())))?;
        for _ in 0..6 {
            append(&mut *producer, &from, &["y".repeat(100)]);
            block_on(producer.commit(None))?;
            log.settle()?;
        }
        block_on(log.delete_records(&from, Offset(4)))?;
        log.settle()?;
        let settings = vec![("retention.bytes".to_owned(), Some("200".to_owned()))];
        let changes = TopicChanges { partitions: NonZeroU32::new(2), settings };
        block_on(log.alter_topic(&name, &changes))?;
        log.settle()?;
        block_on(log.clean())?;
        log.settle()?;
        block_on(log.delete_topic(&name))?;
        log.settle()
    }

    /// Opens the log, goes on until there are `count` commits, and ends it.
    fn commit_up_to(&mut self, count: u64, end: impl FnOnce(&EmbeddedLog) -> Result<()>) -> Result<()> {
        let log = self.disk.open_log(self.folder, self.options.clone())?;
        log.settle()?;
        let config = TopicConfig { segment_bytes: 500, ..TopicConfig::default() };
        block_on(log.create_topic(&TopicSpec { config, ..TopicSpec::new("t", 2).unwrap() }))?;
        let mut producer = block_on(log.producer(&ProducerName("p".into())))?;
        while self.acked() < count {
            self.commit(&mut *producer).inspect_err(|_| {
                // What was acknowledged can be read, unless the disk does not even do that.
                if let Ok(values) = try_values(&log, &tp("t", 0), 0) {
                    assert!(values.len() as u64 >= 2 * self.acked());
                }
            })?;
            log.settle()?;
            if self.acked().is_multiple_of(3) {
                let values = try_values(&log, &tp("t", 1), 100)?;
                assert_eq!(values.len() as u64, 2 * self.acked());
            }
            if self.acked() == 5 {
                block_on(log.checkpoint())?;
            }
        }
        drop(producer);
        end(&log)
    }

    fn commit(&mut self, producer: &mut dyn Producer) -> Result<()> {
        let number = self.acked();
        for partition in [0, 1] {
            append(
                producer,
                &tp("t", partition),
                &[format!("value {number}"), "x".repeat(if number % 3 == 2 { 60 } else { 20 })],
            );
        }
        let positions = at("g", &tp("t", 0), number + 1);
        let mut written = block_on(producer.commit(Some(&positions)));
        if written.as_ref().is_err_and(|error| error.kind() == ErrorKind::Full) {
            written = block_on(producer.commit(Some(&positions)));
        }
        if let Err(error) = written {
            self.unknown = error.kind() != ErrorKind::Full;
            return Err(error);
        }
        self.faults.acked.store(number + 1, Ordering::SeqCst);
        Ok(())
    }
}

/// Lives a life with `fault`; `false` when it was over before that.
fn live_with(fault: Fault, options: &LogOptions) -> bool {
    let folder = disk::folder();
    let faults = Arc::new(Faults::default());
    let disk = faults.disk(fault);
    let options = options.clone();
    let mut user = User {
        options: options.clone(),
        disk: &disk,
        folder: folder.path(),
        faults: &faults,
        unknown: false,
    };
    let lived = user.life();
    let (acked, unknown) = (user.acked(), user.unknown);
    let first = faults.first.lock().unwrap().clone();
    let Some((op, path, acked_before)) = first else {
        lived.unwrap_or_else(|error| panic!("{fault:?}: nothing failed, and yet: {error:?}"));
        return false;
    };
    let what = format!("{fault:?} {op:?} {}", path.display());
    if let Err(error) = &lived {
        let clean = matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Full | ErrorKind::Closed);
        assert!(clean && !error.report().contains("panicked"), "{what}: {error:?}");
    }
    if op.is_sync() {
        assert!(lived.is_err(), "{what}: nobody noticed");
        assert!(acked <= acked_before + 1, "{what}: acknowledged after a failed sync");
        let done = disk.done();
        let at = usize::try_from(fault.nth).unwrap();
        assert!(!done[at..].contains(&(op, path)), "{what}: tried again");
    }
    check_after((folder.path(), &options), acked, unknown, &what);
    true
}

/// A clean opening finds all that was acknowledged, whole, and nothing else.
fn check_after((folder, options): (&Path, &LogOptions), acked: u64, unknown: bool, what: &str) {
    let disk = Disk::default();
    let log = disk.open_log(folder, options.clone()).unwrap_or_else(|error| panic!("{what}: {error:?}"));
    create(&log, "t", 2, 500);
    let count = commits_in(&log);
    assert!((acked..=acked + u64::from(unknown)).contains(&count), "{what}: acked={acked}, found={count}");
    // What is left of it can be read.
    if let Ok(offsets) = block_on(log.offsets(&tp("u", 0))) {
        let read = block_on(log.read(&tp("u", 0), offsets.earliest, 1 << 20)).unwrap();
        assert_eq!(read.batches.is_empty(), offsets.earliest == offsets.end, "{what}");
    }
    if count > 0 {
        knows_duplicates(&log);
        assert_eq!(commits_in(&log), count, "{what}: a duplicate was written");
    }
    commit_both(&mut *producer(&log, "p"), count..count + 2);
    log.crash();
    let log = disk.open_log(folder, options.clone()).unwrap();
    assert_eq!(commits_in(&log), count + 2, "{what}");
}

/// The last commit, sent again by its producer, is answered with the same offsets, unless there is a newer producer.
fn knows_duplicates(log: &EmbeddedLog) {
    let last = |partition| {
        let end = block_on(log.offsets(&tp("t", partition))).unwrap().end;
        let fetched = block_on(log.read(&tp("t", partition), Offset(end.0 - 1), 0)).unwrap();
        (Place { topic: TopicId(0), partition: Partition(partition) }, fetched.batches[0].clone())
    };
    let batches: Vec<(Place, RecordBatch)> = vec![last(0), last(1)];
    let ProducerStamp { id, epoch, .. } = batches[0].1.stamp();
    let bases: Vec<_> = batches.iter().map(|(_, batch)| batch.base_offset()).collect();
    let commit = Commit { producer: Incarnation { id, epoch }, batches, positions: None };
    match block_on(log.ask(|to| Request::Commit(commit, None, to))) {
        Ok(Outcome::Written(written)) => {
            assert_eq!(written.iter().map(|written| written.base).collect::<Vec<_>>(), bases);
        }
        Err(error) if error.kind() == ErrorKind::Fenced => {}
        Err(error) | Ok(Outcome::Refused(_, error)) => panic!("{error:?}"),
    }
}

fn a_fault_at_every_point(sticky: bool, errno: i32) {
    let all_filed = LogOptions { filed_bytes_min: 0, ..small() };
    [small(), all_filed, small_in_mode_os()]
        .iter()
        .for_each(|options| fail_at_every_point(sticky, errno, options));
}

fn fail_at_every_point(sticky: bool, errno: i32, options: &LogOptions) {
    let begun = Instant::now();
    let mut nth = 1;
    while live_with(Fault { nth, sticky, errno }, options) {
        nth += 1;
    }
    println!(
        "{:?} sticky={sticky} errno={errno}: {} faults in {:?}",
        options.durability,
        nth - 1,
        begun.elapsed()
    );
    assert!(nth > 300, "the life is about many things: {nth}");
}

#[test]
fn any_one_error_of_the_disk_is_survived() {
    a_fault_at_every_point(false, EIO);
}

#[test]
fn a_disk_that_is_broken_from_any_point_on_is_survived() {
    a_fault_at_every_point(true, EIO);
}

#[test]
fn any_one_write_without_room_is_survived() {
    a_fault_at_every_point(false, ENOSPC);
}

#[test]
fn a_disk_that_is_full_from_any_point_on_is_survived() {
    a_fault_at_every_point(true, ENOSPC);
}

/// The tests above mean the same thing by the n-th in every run.
#[test]
fn a_life_asks_the_disk_for_the_same_things_each_time() {
    let lives = [(); 2].map(|()| {
        let folder = disk::folder();
        let faults = Arc::new(Faults::default());
        let disk = faults.disk(Fault { nth: u64::MAX, sticky: false, errno: EIO });
        User { options: small(), disk: &disk, folder: folder.path(), faults: &faults, unknown: false }
            .life()
            .unwrap();
        let place = |path: PathBuf| path.strip_prefix(folder.path()).map(Path::to_owned).ok();
        disk.done().into_iter().map(|(op, path)| (op, place(path))).collect::<Vec<_>>()
    });
    let same = lives[0].iter().zip(&lives[1]).take_while(|(one, other)| one == other).count();
    assert_eq!(lives[0].get(same), lives[1].get(same), "operation {same} of {}", lives[0].len());
    println!("{same} operations");
}

/// A disk on which `op` on a path that ends in `name` fails once, when it is armed.
fn failing_once(op: Op, name: &'static str) -> (Disk, Arc<AtomicBool>) {
    let armed = Arc::new(AtomicBool::new(false));
    let disk = Disk::with({
        let armed = Arc::clone(&armed);
        move |done, path| {
            let path = path.to_str().unwrap();
            if done == op && path.ends_with(name) && armed.swap(false, Ordering::SeqCst) {
                return Err(io::Error::from_raw_os_error(EIO));
            }
            Ok(())
        }
    });
    (disk, armed)
}

/// Nothing is written any more, everything that was durable can be read, and the folder is still owned for that.
fn is_poisoned(log: &EmbeddedLog, p: &mut dyn Producer, commits: u64) {
    for _ in 0..2 {
        let error = block_on(p.commit(Some(&at("g", &tp("t", 0), 99)))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed);
        assert!(error.to_string().contains("cannot sync"), "it names the cause: {error}");
    }
    assert_eq!(block_on(log.appended(LogVersion(1 << 40))).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(block_on(log.checkpoint()).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(block_on(log.close()).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(commits_in(log), commits);
    assert_eq!(EmbeddedLog::open(log.folder()).unwrap_err().kind(), ErrorKind::Unavailable, "still owned");
}

/// The system forgets what it could not write: the group is there until the machine starts again, or it is not.
#[test]
fn a_failed_sync_of_the_journal_poisons_the_log() {
    for forgotten in [false, true] {
        let folder = disk::folder();
        let (disk, armed) = failing_once(Op::SyncFile, ".journal");
        let log = disk.open_log(folder.path(), lazy()).unwrap();
        create(&log, "t", 2, 500);
        let mut p = producer(&log, "p");
        commit_both(&mut *p, 0..3);
        let durable = fs::read(journal_file(folder.path(), 1)).unwrap();
        armed.store(true, Ordering::SeqCst);
        append(&mut *p, &tp("t", 0), &["value 3".into(), "x".repeat(20)]);
        append(&mut *p, &tp("t", 1), &["value 3".into(), "x".repeat(20)]);
        let error = block_on(p.commit(Some(&at("g", &tp("t", 0), 4)))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().contains("not known whether it was written"), "{error}");
        let syncs = disk.done().iter().filter(|(op, _)| op.is_sync()).count();
        is_poisoned(&log, &mut *p, 3);
        drop((p, log));
        assert_eq!(
            disk.done().iter().filter(|(op, _)| op.is_sync()).count(),
            syncs,
            "nothing was synced again"
        );
        if forgotten {
            fs::write(journal_file(folder.path(), 1), durable).unwrap();
        }
        let log = disk.open_log(folder.path(), lazy()).unwrap();
        assert_eq!(commits_in(&log), if forgotten { 3 } else { 4 });
        commit_both(&mut *producer(&log, "p"), commits_in(&log)..6);
    }
}

/// Nobody has to commit for it to be noticed.
#[test]
fn a_failed_sync_of_a_checkpoint_poisons_the_log() {
    for (op, name) in [
        (Op::SyncFile, ".log"),
        (Op::SyncFolder, "topics"),
        (Op::SyncFolder, "t/0"),
        (Op::SyncFile, "checkpoint"),
        (Op::SyncFile, "checkpoint.copy"),
    ] {
        let folder = disk::folder();
        let (disk, armed) = failing_once(op, name);
        let options = LogOptions { checkpoint_bytes: 3000, ..LogOptions::default() };
        let log = disk.open_log(folder.path(), options.clone()).unwrap();
        create(&log, "t", 2, 500);
        let mut p = producer(&log, "p");
        armed.store(true, Ordering::SeqCst);
        let mut acked = 0;
        while armed.load(Ordering::SeqCst) {
            commit_both(&mut *p, acked..acked + 1);
            acked += 1;
            log.settle().ok();
        }
        assert_eq!(block_on(log.appended(LogVersion(1 << 40))).unwrap_err().kind(), ErrorKind::Closed);
        is_poisoned(&log, &mut *p, acked);
        drop((p, log));
        let log = disk.open_log(folder.path(), options).unwrap();
        assert_eq!(commits_in(&log), acked, "{name}");
    }
}

#[test]
fn a_failed_sync_of_a_folder_poisons_the_log() {
    let folder = disk::folder();
    let (disk, armed) = failing_once(Op::SyncFolder, "journal");
    let options = LogOptions { journal_segment_bytes: 3000, ..lazy() };
    let log = disk.open_log(folder.path(), options.clone()).unwrap();
    create(&log, "t", 2, 500);
    let mut p = producer(&log, "p");
    armed.store(true, Ordering::SeqCst);
    let mut acked = 0;
    let error = loop {
        append(&mut *p, &tp("t", 0), &[format!("value {acked}"), "x".repeat(20)]);
        append(&mut *p, &tp("t", 1), &[format!("value {acked}"), "x".repeat(20)]);
        match block_on(p.commit(Some(&at("g", &tp("t", 0), acked + 1)))) {
            Ok(_) => acked += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    is_poisoned(&log, &mut *p, acked);
    drop((p, log));
    assert_eq!(commits_in(&disk.open_log(folder.path(), options).unwrap()), acked);
}

/// A folder in the way of a new topic is moved, and that must be on disk.
#[test]
fn a_failed_sync_while_a_topic_is_made_poisons_the_log() {
    let folder = disk::folder();
    let (disk, armed) = failing_once(Op::SyncFolder, "topics");
    let log = disk.open_log(folder.path(), lazy()).unwrap();
    create(&log, "t", 2, 500);
    let mut p = producer(&log, "p");
    commit_both(&mut *p, 0..2);
    fs::create_dir(folder.path().join("topics/u")).unwrap();
    armed.store(true, Ordering::SeqCst);
    block_on(log.create_topic(&TopicSpec::new("u", 1).unwrap())).unwrap_err();
    is_poisoned(&log, &mut *p, 2);
    drop((p, log));
    let log = disk.open_log(folder.path(), lazy()).unwrap();
    assert_eq!(commits_in(&log), 2);
    create(&log, "u", 1, 500);
}
