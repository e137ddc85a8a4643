//! A power cut: a file system in memory that forgets what was not synced, or some of it.
//!
//! What may be left of a file: its length as of any moment since its last sync, and of each of its sectors what any of the writes
//! since then has made of it. What may be left of a folder: its names as of any moment since its last sync. Files and folders go by
//! themselves, so everything may have come to the disk in any order.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io,
    path::PathBuf,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use headwater_core::{Admin, TopicChanges};

use super::*;
use crate::log::fs::{DataFile, Open};

/// A disk writes a sector whole or not at all.
const SECTOR_BYTES: usize = 512;

/// All that is on the disk, or waits for it.
#[derive(Debug, Clone, Default)]
struct World {
    files: Vec<Content>,
    folders: Vec<Folder>,
    root: PathBuf,
    /// Things that were asked of it.
    asked: u64,
    /// When the power goes, and what there was then.
    cut_at: u64,
    cut: Option<Box<World>>,
    /// How many records must survive a power cut, and how many had to when the power went.
    promised: Arc<AtomicU64>,
    promised_at_cut: u64,
    /// Bytes that syncs have put on the disk.
    synced_bytes: u64,
}

#[derive(Debug, Clone, Default)]
struct Content {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// Since the last sync: where something was written and what, or the new length.
    pending: Vec<(usize, Vec<u8>)>,
    lengths: Vec<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    File(usize),
    Folder(usize),
}

#[derive(Debug, Clone, Default)]
struct Folder {
    now: BTreeMap<OsString, Node>,
    /// What it was at the last sync and after each change since.
    moments: Vec<BTreeMap<OsString, Node>>,
}

impl Folder {
    fn changed(&mut self) {
        if self.moments.is_empty() {
            self.moments.push(BTreeMap::new());
        }
        self.moments.push(self.now.clone());
    }
}

/// A generator whose seed is printed by whoever fails.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end.max(1)
    }

    fn up_to(&mut self, end: usize) -> usize {
        usize::try_from(self.below(end as u64 + 1)).unwrap()
    }
}

impl Content {
    fn write(&mut self, at: usize, bytes: &[u8]) {
        self.now.resize(self.now.len().max(at + bytes.len()), 0);
        self.now[at..at + bytes.len()].copy_from_slice(bytes);
        self.pending.push((at, bytes.to_vec()));
        self.lengths.push(self.now.len());
    }

    fn set_len(&mut self, bytes: usize) {
        self.now.resize(bytes, 0);
        self.lengths.push(bytes);
    }

    /// Returns the bytes that had to be written.
    fn sync(&mut self) -> u64 {
        let mut sectors: Vec<_> = self.pending.iter().flat_map(|(at, bytes)| sectors(*at, bytes)).collect();
        sectors.sort_unstable();
        sectors.dedup();
        self.durable.clone_from(&self.now);
        self.pending.clear();
        self.lengths.clear();
        (sectors.len() * SECTOR_BYTES) as u64
    }

    /// What a power cut leaves.
    fn left(&self, random: &mut Random) -> Vec<u8> {
        let mut left = self.durable.clone();
        let mut writes: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (number, (at, bytes)) in self.pending.iter().enumerate() {
            sectors(*at, bytes).for_each(|sector| writes.entry(sector).or_default().push(number));
        }
        // Now and then nothing, or everything, got there.
        let mood = random.below(4);
        for (sector, numbers) in writes {
            let done = match mood {
                0 => 0,
                1 => numbers.len(),
                _ => random.up_to(numbers.len()),
            };
            for number in &numbers[..done] {
                let (at, bytes) = &self.pending[*number];
                let (begin, end) = (sector * SECTOR_BYTES, (sector + 1) * SECTOR_BYTES);
                let (from, until) = (begin.max(*at), end.min(at + bytes.len()));
                left.resize(left.len().max(until), 0);
                left[from..until].copy_from_slice(&bytes[from - at..until - at]);
            }
        }
        let length = match random.up_to(self.lengths.len()) {
            0 => self.durable.len(),
            number => self.lengths[number - 1],
        };
        left.resize(length, 0);
        left
    }
}

fn sectors(at: usize, bytes: &[u8]) -> impl Iterator<Item = usize> {
    (at / SECTOR_BYTES)..(at + bytes.len()).div_ceil(SECTOR_BYTES)
}

impl World {
    fn new(root: &Path) -> Self {
        Self { folders: vec![Folder::default()], root: root.to_owned(), cut_at: u64::MAX, ..Self::default() }
    }

    /// What the next boot finds.
    fn after_cut(&self, random: &mut Random) -> Self {
        let mut next = self.clone();
        (next.cut, next.cut_at, next.asked) = (None, u64::MAX, 0);
        for file in &mut next.files {
            let now = file.left(random);
            *file = Content { durable: now.clone(), now, ..Content::default() };
        }
        for folder in &mut next.folders {
            let moment = random.up_to(folder.moments.len());
            if let Some(left) = folder.moments.get(moment) {
                folder.now = left.clone();
            }
            folder.moments = vec![folder.now.clone()];
        }
        next
    }

    fn begin(&mut self) {
        self.asked += 1;
        if self.asked == self.cut_at {
            let promised_at_cut = self.promised.load(Ordering::SeqCst);
            let now = Self { cut: None, promised_at_cut, ..self.clone() };
            self.cut = Some(Box::new(now));
        }
    }

    fn find(&self, path: &Path) -> io::Result<Node> {
        let missing = || io::Error::from(io::ErrorKind::NotFound);
        let Ok(path) = path.strip_prefix(&self.root) else { return Ok(Node::Folder(0)) };
        path.iter().try_fold(Node::Folder(0), |node, name| match node {
            Node::Folder(folder) => self.folders[folder].now.get(name).copied().ok_or_else(missing),
            Node::File(_) => Err(missing()),
        })
    }

    fn folder(&mut self, path: &Path) -> io::Result<&mut Folder> {
        match self.find(path)? {
            Node::Folder(folder) => Ok(&mut self.folders[folder]),
            Node::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn file(&self, path: &Path) -> io::Result<usize> {
        match self.find(path)? {
            Node::File(file) => Ok(file),
            Node::Folder(_) => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    fn take_name(&mut self, path: &Path) -> io::Result<Node> {
        self.find(path)?;
        let folder = self.folder(path.parent().unwrap())?;
        let node = folder.now.remove(path.file_name().unwrap()).unwrap();
        folder.changed();
        Ok(node)
    }

    fn give_name(&mut self, path: &Path, node: Node) -> io::Result<()> {
        let folder = self.folder(path.parent().unwrap())?;
        folder.now.insert(path.file_name().unwrap().to_owned(), node);
        folder.changed();
        Ok(())
    }
}

/// The file system of a [`World`].
#[derive(Debug, Clone)]
struct Power(Arc<Mutex<World>>);

impl Power {
    fn new(world: World) -> Self {
        Self(Arc::new(Mutex::new(world)))
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(&self) -> MutexGuard<'_, World> {
        let mut world = self.world();
        world.begin();
        world
    }
}

impl FileSystem for Power {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DataFile>> {
        let mut world = self.ask();
        let file = match world.file(path) {
            Ok(file) => file,
            Err(error)
                if error.kind() == io::ErrorKind::NotFound
                    && matches!(how, Open::Create | Open::Truncate) =>
            {
                world.files.push(Content::default());
                let file = world.files.len() - 1;
                world.give_name(path, Node::File(file))?;
                file
            }
            Err(error) => return Err(error),
        };
        if how == Open::Truncate {
            world.files[file].set_len(0);
            // A file that is cut and written anew has none of its old bytes.
            world.files[file].pending.clear();
        }
        Ok(Arc::new(PowerFile { power: self.clone(), file }))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        Ok(self.ask().find(path).is_ok())
    }

    fn size(&self, path: &Path) -> io::Result<u64> {
        let world = self.ask();
        world.file(path).map(|file| world.files[file].now.len() as u64)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        Ok(self.ask().folder(folder)?.now.keys().cloned().collect())
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        let mut world = self.ask();
        let mut above: Vec<_> = path.ancestors().take_while(|path| path.starts_with(&world.root)).collect();
        above.reverse();
        for path in above {
            if world.find(path).is_err() {
                world.folders.push(Folder::default());
                let folder = world.folders.len() - 1;
                world.give_name(path, Node::Folder(folder))?;
            }
        }
        Ok(())
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        let mut world = self.ask();
        let folder = world.folder(path)?;
        folder.moments = vec![folder.now.clone()];
        Ok(())
    }

    fn sync_all(&self, _: &Path) -> io::Result<bool> {
        Ok(false)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = self.ask();
        world.find(from)?;
        if from.parent() == to.parent() {
            // In one step.
            let folder = world.folder(from.parent().unwrap())?;
            let node = folder.now.remove(from.file_name().unwrap()).unwrap();
            folder.now.insert(to.file_name().unwrap().to_owned(), node);
            folder.changed();
            return Ok(());
        }
        let node = world.take_name(from)?;
        world.give_name(to, node)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut world = self.ask();
        world.file(path)?;
        world.take_name(path).map(drop)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.ask().take_name(path).map(drop)
    }
}

#[derive(Debug)]
struct PowerFile {
    power: Power,
    file: usize,
}

impl DataFile for PowerFile {
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<usize> {
        let world = self.power.ask();
        let rest = world.files[self.file].now.get(usize::try_from(at).unwrap()..).unwrap_or_default();
        let count = rest.len().min(bytes.len());
        bytes[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        self.power.ask().files[self.file].write(usize::try_from(at).unwrap(), bytes);
        Ok(bytes.len())
    }

    /// Syncs these bytes only, as Linux does.
    fn write_through(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let at = usize::try_from(at).unwrap();
        let mut world = self.power.ask();
        world.synced_bytes += bytes.len() as u64;
        let file = &mut world.files[self.file];
        file.write(at, bytes);
        let length = file.durable.len().max(at + bytes.len());
        file.durable.resize(length, 0);
        file.durable[at..at + bytes.len()].copy_from_slice(bytes);
        for (begin, old) in &mut file.pending {
            // What was written there before is of no account any more.
            let (from, until) = (at.max(*begin), (at + bytes.len()).min(*begin + old.len()));
            if from < until {
                old[from - *begin..until - *begin].copy_from_slice(&bytes[from - at..until - at]);
            }
        }
        Ok(())
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.power.ask().files[self.file].set_len(usize::try_from(bytes).unwrap());
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.power.ask().files[self.file].now.len() as u64)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut world = self.power.ask();
        let written = world.files[self.file].sync();
        world.synced_bytes += written;
        Ok(())
    }
}

fn options(durability: Durability) -> LogOptions {
    LogOptions {
        durability,
        journal_segment_bytes: 1500,
        checkpoint_bytes: 2500,
        filed_bytes_min: 0,
        tail_bytes_max: 1500,
        open_files_max: 3,
        ..LogOptions::default()
    }
}

/// Records are labelled with the life in which they were written: none comes back that was cut before.
#[derive(Debug)]
struct Labels {
    written: Vec<String>,
    /// Records before it may be gone.
    deleted: u64,
    promised: Arc<AtomicU64>,
}

impl Labels {
    fn promise(&self, count: u64) {
        self.promised.store(count, Ordering::SeqCst);
    }

    /// What is there is what was written, from some point up to some point, and what must be there is.
    fn check(&mut self, log: &EmbeddedLog) {
        let promised = self.promised.load(Ordering::SeqCst);
        if block_on(log.offsets(&tp("u", 0))).is_ok() {
            values(log, &tp("u", 0));
        }
        let Ok(offsets) = block_on(log.offsets(&tp("t", 0))) else {
            assert_eq!(promised, 0, "the topic is gone");
            self.written.clear();
            self.deleted = 0;
            return;
        };
        assert_eq!(block_on(log.offsets(&tp("t", 1))).unwrap().end, offsets.end, "half a commit");
        let count = usize::try_from(offsets.end.0).unwrap();
        assert!(offsets.end.0 >= promised, "found={count}, promised={promised}");
        assert!(offsets.earliest.0 <= self.deleted, "{offsets:?}, deleted={}", self.deleted);
        self.written.truncate(count);
        for partition in [0, 1] {
            let earliest = block_on(log.offsets(&tp("t", partition))).unwrap().earliest.0;
            let found = values(log, &tp("t", partition));
            assert_eq!(found, self.written[usize::try_from(earliest).unwrap()..], "partition {partition}");
        }
        assert_eq!(position(log, "g", &tp("t", 0)).unwrap_or(0), offsets.end.0);
        self.deleted = self.deleted.min(offsets.end.0);
        // It is on disk since it was found.
        self.promise(offsets.end.0);
    }

    /// Writes and deletes until it has done enough, or the power has gone.
    fn live(&mut self, log: &EmbeddedLog, mode: Durability, life: u64, random: &mut Random) {
        let config =
            TopicConfig { segment_bytes: 700, retention_bytes: Some(5000), ..TopicConfig::default() };
        block_on(log.create_topic(&TopicSpec { config, ..TopicSpec::new("t", 2).unwrap() })).unwrap();
        let mut p = producer(log, "p");
        for number in 0..random.below(60) {
            let label = format!("{life} {number} {}", "x".repeat(random.up_to(200)));
            for partition in [0, 1] {
                append(&mut *p, &tp("t", partition), std::slice::from_ref(&label));
            }
            self.written.push(label);
            let count = self.written.len() as u64;
            // A topic that comes and goes beside it.
            create(log, "u", 1, 700);
            append(&mut *p, &tp("u", 0), &["x".repeat(random.up_to(200))]);
            block_on(p.commit(Some(&at("g", &tp("t", 0), count)))).unwrap();
            if mode == Durability::Fsync {
                self.promise(count);
            }
            match random.below(20) {
                0 => {
                    block_on(log.checkpoint()).unwrap();
                    self.promise(count);
                }
                1 => log.settle().unwrap(),
                4 => block_on(log.delete_topic(&TopicName::new("u").unwrap())).unwrap(),
                2 => {
                    self.deleted = count;
                    block_on(log.clean()).unwrap();
                }
                3 => {
                    let before = random.below(count + 1);
                    self.deleted = self.deleted.max(before);
                    for partition in [0, 1] {
                        block_on(log.delete_records(&tp("t", partition), Offset(before))).unwrap();
                    }
                }
                _ => {}
            }
        }
    }
}

/// Some lives of a log, each of which ends with a kill, a close, or a power cut at some moment; returns how many records were cut.
fn lives(seed: u64, mode: &dyn Fn(&mut Random) -> Durability) -> usize {
    let root = disk::folder();
    let (mut random, mut cut) = (Random(seed), 0);
    let promised = Arc::<AtomicU64>::default();
    let mut power = Power::new(World { promised: Arc::clone(&promised), ..World::new(root.path()) });
    let mut labels = Labels { written: Vec::new(), deleted: 0, promised };
    let mut killed = false;
    for life in 0..5 {
        let durability = mode(&mut random);
        if seed.is_multiple_of(20) && life > 0 {
            look(&power, root.path(), &labels);
        }
        // The power may go while it is opened, too.
        let during = [40, 300, 1500][random.up_to(2)];
        if random.below(3) > 0 {
            let mut world = power.world();
            world.cut_at = world.asked + random.below(during);
        }
        let filed_bytes_min = [0, 150, usize::MAX][random.up_to(2)];
        let options = LogOptions { filed_bytes_min, ..options(durability) };
        let log = EmbeddedLog::open_on(Arc::new(power.clone()), root.path(), options);
        let log = log.unwrap_or_else(|error| panic!("seed={seed} life={life}: {error:?}"));
        let written = labels.written.len();
        cut += written;
        labels.check(&log);
        cut -= labels.written.len();
        assert!(!killed || labels.written.len() == written, "seed={seed} life={life}: a kill takes nothing");
        labels.live(&log, durability, life, &mut random);
        let end = random.below(4);
        if end == 0 {
            block_on(log.close()).unwrap();
            labels.promise(labels.written.len() as u64);
        } else {
            log.crash();
        }
        drop(log);
        let mut world = power.world();
        killed = end == 1;
        if killed {
            (world.cut, world.cut_at) = (None, u64::MAX);
            continue;
        }
        let next = match world.cut.take() {
            Some(then) => {
                labels.promise(then.promised_at_cut);
                then.after_cut(&mut random)
            }
            None => world.after_cut(&mut random),
        };
        drop(world);
        power = Power::new(next);
    }
    cut
}

/// Whoever looks before the log was opened again sees some of what the next owner will find.
fn look(power: &Power, root: &Path, labels: &Labels) {
    let Ok(log) = ObservedLog::open_on(Arc::new(power.clone()), root) else {
        assert_eq!(labels.promised.load(Ordering::SeqCst), 0, "there is a log");
        return;
    };
    let Ok(offsets) = block_on(log.offsets(&tp("t", 0))) else { return };
    let (earliest, end) =
        (usize::try_from(offsets.earliest.0).unwrap(), usize::try_from(offsets.end.0).unwrap());
    // Once it may meet an end that is taken back, because segments were lost of what the journal refers to.
    let read = || try_values(&log, &tp("t", 0), 0);
    match read().or_else(|_| read()) {
        Ok(found) => {
            let end = usize::try_from(block_on(log.offsets(&tp("t", 0))).unwrap().end.0).unwrap().min(end);
            assert_eq!(found, labels.written[earliest..end]);
        }
        // What says that they were deleted is in the journal, but `published`, which nobody syncs, does not reach so far.
        Err(error) => assert!(labels.deleted > 0 && error.kind() == ErrorKind::Corrupt, "{error:?}"),
    }
}

fn many_lives(mode: &dyn Fn(&mut Random) -> Durability) -> usize {
    let cut = (0..LIVES).map(|seed| {
        println!("seed={seed}");
        lives(seed, mode)
    });
    cut.sum()
}

/// How many times five.
const LIVES: u64 = 150;
const NEVER: Durability = Durability::Interval(Duration::from_secs(3600));

#[test]
fn a_power_cut_in_mode_os_leaves_whole_commits_up_to_some_point() {
    let cut = many_lives(&|_| Durability::Os);
    println!("{cut} commits were cut");
    assert!(cut > 100, "the test is about commits that are cut: {cut}");
}

#[test]
fn a_power_cut_in_mode_interval_leaves_whole_commits_up_to_some_point() {
    let cut = many_lives(&|_| NEVER);
    assert!(cut > 100, "the test is about commits that are cut: {cut}");
}

#[test]
fn a_power_cut_in_mode_fsync_takes_nothing() {
    many_lives(&|_| Durability::Fsync);
}

#[test]
fn a_log_may_change_its_mode_before_and_after_a_power_cut() {
    many_lives(&|random| [Durability::Fsync, Durability::Os, NEVER][random.up_to(2)]);
}

/// What the journal thread waits for, and what goes to the disk twice.
#[test]
fn in_mode_os_nobody_syncs_the_journal() {
    let life = |durability| {
        let folder = disk::folder();
        let disk = disk::Disk::default();
        let log = disk.open_log(folder.path(), options(durability)).unwrap();
        create(&log, "t", 2, 700);
        commit_both(&mut *producer(&log, "p"), 0..100);
        let settings = vec![("retention.bytes".to_owned(), Some("5000".to_owned()))];
        let changes = TopicChanges { partitions: std::num::NonZeroU32::new(2), settings };
        block_on(log.alter_topic(&TopicName::new("t").unwrap(), &changes)).unwrap();
        block_on(log.clean()).unwrap();
        log.settle().unwrap();
        block_on(log.close()).unwrap();
        let synced = |extension: &str| {
            let done = disk.done();
            let of = done.iter().filter(|(op, path)| {
                *op == disk::Op::SyncFile && path.extension().is_some_and(|found| found == extension)
            });
            of.count()
        };
        let begun = numbered(&folder.path().join("journal"), "journal").last().copied().unwrap();
        let left = numbered(&folder.path().join("topics/t/0"), "log");
        assert!(left[0] > 50, "segments of old records are gone: {left:?}");
        (synced("journal"), synced("spare"), synced("log"), begun)
    };
    let (os, fsync) = (life(Durability::Os), life(NEVER));
    println!(
        "syncs of journal files, of headers, of segments; journal files begun: os={os:?}, interval={fsync:?}"
    );
    let (journal, headers, segments, begun) = os;
    assert_eq!((journal, headers), (0, usize::try_from(begun).unwrap()));
    assert!(segments > 0 && fsync.0 > 0);
}
