//! Bodies of batches behind a front that is good: torn, of another use of the file, or replaced while somebody reads them.

use std::{
    ops::Range,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
};

use headwater_core::RecordBatch;

use super::{
    crash::{groups, journal_file},
    disk::{Disk, Op},
    *,
};
use crate::log::{Verifier, group::GroupHeader};

fn options(durability: Durability) -> LogOptions {
    LogOptions { durability, journal_segment_bytes: 16 << 10, ..lazy() }
}

/// A log whose owner was killed.
struct Killed {
    folder: TempDir,
    options: LogOptions,
    journal: Vec<u8>,
    /// Fronts and bodies of the four groups behind the checkpoint, each of one commit; there are two before it.
    groups: Vec<[Range<usize>; 2]>,
}

impl Killed {
    fn new(durability: Durability) -> Self {
        let folder = disk::folder();
        let options = options(durability);
        let log = EmbeddedLog::open_with(folder.path(), options.clone()).unwrap();
        create(&log, "t", 2, 500);
        let mut producer = producer(&log, "p");
        commit_both(&mut *producer, 0..2);
        block_on(log.checkpoint()).unwrap();
        commit_both(&mut *producer, 2..6);
        log.crash();
        let journal = fs::read(journal_file(folder.path(), 1)).unwrap();
        let part = |(begin, end): (usize, usize)| {
            let front = begin + GroupHeader::read(&journal[begin..]).unwrap().front_size();
            [begin..front, front..end]
        };
        let groups: Vec<_> = groups(&journal).into_iter().map(part).collect();
        let groups = groups[groups.len() - 4..].to_vec();
        Self { folder, options, journal, groups }
    }

    /// A copy with another journal.
    fn with(&self, journal: &[u8]) -> TempDir {
        let copy = disk::folder();
        copy_folder(self.folder.path(), copy.path());
        fs::write(journal_file(copy.path(), 1), journal).unwrap();
        copy
    }

    fn open(&self, copy: &TempDir) -> Result<EmbeddedLog> {
        EmbeddedLog::open_with(copy.path(), self.options.clone())
    }

    /// The journal with other bodies of one group.
    fn torn(&self, group: usize) -> Vec<u8> {
        let mut journal = self.journal.clone();
        journal[self.groups[group][1].clone()].fill(0);
        journal
    }
}

#[test]
fn a_newest_group_whose_bodies_are_torn_is_cut() {
    for durability in [Durability::Fsync, Durability::Os] {
        let killed = Killed::new(durability);
        let [_, body] = &killed.groups[3];
        let [_, other] = &killed.groups[2];
        assert_eq!(body.len(), other.len());
        let mut cut = 0;
        for at in body.clone() {
            let mut flipped = killed.journal.clone();
            flipped[at] ^= 4;
            // From here on, what stood there before: nothing, or the body of another batch.
            let (mut never, mut stale) = (killed.journal.clone(), killed.journal.clone());
            never[at..body.end].fill(0);
            let begun = at - body.start;
            stale[at..body.end].copy_from_slice(&killed.journal[other.start + begun..other.end]);
            for journal in [flipped, never, stale] {
                if journal == killed.journal {
                    continue;
                }
                let copy = killed.with(&journal);
                let log = killed.open(&copy).unwrap_or_else(|error| panic!("{durability:?} {at}: {error:?}"));
                assert_eq!(commits_in(&log), 5, "{durability:?} {at}");
                assert!(log.recovery().torn_bytes_cut > 0, "{durability:?} {at}");
                cut += 1;
                if cut % 40 == 0 {
                    commit_both(&mut *producer(&log, "p"), 5..8);
                    log.crash();
                    drop(log);
                    assert_eq!(commits_in(&killed.open(&copy).unwrap()), 8, "{durability:?} {at}");
                }
            }
        }
        assert!(cut > 100, "{cut}");
    }
}

/// Where a later group knew it to be on disk, it is damage. Where nobody knew, what follows is lost with it.
#[test]
fn bodies_that_are_bad_in_the_middle_are_damage_or_the_end() {
    for durability in [Durability::Fsync, Durability::Os] {
        let killed = Killed::new(durability);
        for (number, [front, body]) in (0..3).zip(&killed.groups) {
            for at in body.clone() {
                let mut journal = killed.journal.clone();
                journal[at] ^= 4;
                let copy = killed.with(&journal);
                let opened = killed.open(&copy);
                if durability == Durability::Os {
                    let log = opened.unwrap();
                    assert_eq!(commits_in(&log), 2 + number, "byte {at}");
                    assert!(log.recovery().torn_bytes_cut > 0, "byte {at}");
                    continue;
                }
                let error = opened.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Corrupt, "byte {at}");
                assert!(error.to_string().contains(&format!("byte={}", front.start)), "{error}");
                assert_eq!(fs::read(journal_file(copy.path(), 1)).unwrap(), journal, "nothing was touched");
            }
        }
    }
}

/// The front of a group that was being written when the machine stopped says what had been on disk by then.
#[test]
fn a_front_proves_what_was_on_disk_when_its_own_bodies_are_torn() {
    for (durability, expected) in [(Durability::Fsync, None), (Durability::Os, Some(4))] {
        let killed = Killed::new(durability);
        let mut journal = killed.torn(3);
        journal[killed.groups[2][1].start] ^= 1;
        let copy = killed.with(&journal);
        let opened = killed.open(&copy);
        match expected {
            Some(commits) => assert_eq!(commits_in(&opened.unwrap()), commits),
            None => assert_eq!(opened.unwrap_err().kind(), ErrorKind::Corrupt),
        }
        // The newest alone is nobody's proof.
        let copy = killed.with(&killed.torn(3));
        assert_eq!(commits_in(&killed.open(&copy).unwrap()), 5);
    }
}

/// What the owner had shown may reach further than what the disk has of it.
#[test]
fn bodies_that_were_shown_and_lost_are_not_seen() {
    for durability in [Durability::Fsync, Durability::Os] {
        let killed = Killed::new(durability);
        let copy = killed.with(&killed.torn(3));
        let observer = ObservedLog::open(copy.path()).unwrap();
        assert_eq!(commits_in(&observer), 5, "{durability:?}");
        assert_eq!(commits_in(&ObservedLog::open(copy.path()).unwrap()), 5);
        let log = killed.open(&copy).unwrap();
        assert_eq!(commits_in(&observer), 5);
        commit_both(&mut *producer(&log, "p"), 5..9);
        assert_eq!(commits_in(&observer), 9);
    }
}

/// Without the owner's word, whoever looks believes what recovery believes: no front without its bodies.
#[test]
fn without_the_owners_word_a_front_alone_is_nothing() {
    for durability in [Durability::Fsync, Durability::Os] {
        let killed = Killed::new(durability);
        let copy = killed.with(&killed.torn(3));
        fs::remove_file(copy.path().join("published")).unwrap();
        let seen = commits_in(&ObservedLog::open(copy.path()).unwrap());
        // All but the newest good one; in mode `os` nobody says anything of what came behind the checkpoint.
        assert_eq!(seen, if durability == Durability::Fsync { 4 } else { 2 }, "{durability:?}");
    }
}

/// It knows where a body is; before it reads it, the owner uses the file again, and other bodies stand there.
#[test]
fn a_body_that_is_replaced_before_it_is_read_is_read_elsewhere() {
    for durability in [Durability::Fsync, Durability::Os] {
        let folder = tempfile::tempdir().unwrap();
        let options = LogOptions { durability, filed_bytes_min: usize::MAX, ..tiny() };
        let log = Arc::new(EmbeddedLog::open_with(folder.path(), options).unwrap());
        create(&log, "t", 2, 5000);
        let owner = Mutex::new(producer(&log, "p"));
        commit_both(&mut **owner.lock().unwrap(), 0..3);
        let read = Arc::new(Mutex::new(None::<PathBuf>));
        let armed = Arc::new(AtomicBool::new(false));
        let disk = Disk::with({
            let (armed, read, log) = (Arc::clone(&armed), Arc::clone(&read), Arc::clone(&log));
            move |op, path| {
                let body = op == Op::Read && path.extension().is_some_and(|found| found == "journal");
                if body && armed.swap(false, Ordering::SeqCst) {
                    *read.lock().unwrap() = Some(path.to_owned());
                    let go_on = || {
                        commit_both(&mut **owner.lock().unwrap(), 3..90);
                        log.settle().unwrap();
                    };
                    thread::scope(|scope| scope.spawn(go_on).join().unwrap());
                }
                Ok(())
            }
        });
        let observer = ObservedLog::open_on(Arc::new(disk), folder.path()).unwrap();
        assert_eq!(commits_in(&observer), 3);
        armed.store(true, Ordering::SeqCst);
        let fetched = block_on(observer.read(&tp("t", 0), Offset(2), 0)).unwrap();
        let bases: Vec<_> = fetched.batches.iter().map(RecordBatch::base_offset).collect();
        assert_eq!(bases, [Offset(2)]);
        let value = fetched.batches[0].cursor().next().unwrap().unwrap().value.unwrap().to_vec();
        assert_eq!(value, b"value 1");
        let path = read.lock().unwrap().take().expect("it read a body");
        assert!(!path.exists(), "the file was used again: {}", path.display());
        assert_eq!(commits_in(&observer), commits_in(&*log));
    }
}

/// A log whose owner was killed: the journal has the body of a small commit that files have, too, because a large one came behind it,
/// and it is damaged. `look` is called while the owner lives, and before the damage.
fn damaged_where_files_have_it(
    (durability, filed_bytes_min): (Durability, usize),
    look: impl Fn(&Path),
) -> (TempDir, LogOptions) {
    let folder = disk::folder();
    let options = LogOptions { durability, filed_bytes_min, ..lazy() };
    let log = EmbeddedLog::open_with(folder.path(), options.clone()).unwrap();
    create(&log, "t", 1, 1 << 30);
    block_on(log.checkpoint()).unwrap();
    let mut p = producer(&log, "p");
    for value in ["small 1".to_owned(), "small 2".to_owned(), "large ".repeat(1000), "small 3".to_owned()] {
        append(&mut *p, &tp("t", 0), &[value]);
        block_on(p.commit(None)).unwrap();
    }
    look(folder.path());
    log.crash();
    look(folder.path());
    let path = journal_file(folder.path(), 1);
    let mut journal = fs::read(&path).unwrap();
    let at = journal.windows(7).position(|bytes| bytes == b"small 1").unwrap();
    journal[at] ^= 1;
    fs::write(&path, &journal).unwrap();
    (folder, options)
}

fn verify_journal(folder: &Path) -> Result<()> {
    let observed = ObservedLog::open(folder)?;
    block_on(Verifier::new(&observed).journal())
}

/// Damage of the journal that makes opening fail is named by `verify`, or looking fails too.
#[test]
fn verify_names_what_keeps_a_log_from_opening() {
    let look = |folder: &Path| verify_journal(folder).unwrap();
    let (folder, options) = damaged_where_files_have_it((Durability::Fsync, 30), look);
    assert_eq!(verify_journal(folder.path()).unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(EmbeddedLog::open_with(folder.path(), options).unwrap_err().kind(), ErrorKind::Corrupt);
}

/// Mode `os`, after a power cut that took the body of a small commit: what is seen and what opening finds.
#[test]
fn verify_names_what_opening_will_cut() {
    let look = |folder: &Path| verify_journal(folder).unwrap();
    let (folder, options) = damaged_where_files_have_it((Durability::Os, 1000), look);
    let observer = ObservedLog::open(folder.path()).unwrap();
    assert_eq!(values(&observer, &tp("t", 0)).len(), 4, "files have what the journal lost");
    assert_eq!(block_on(Verifier::new(&observer).journal()).unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(values(&EmbeddedLog::open_with(folder.path(), options).unwrap(), &tp("t", 0)).len(), 0);
}
