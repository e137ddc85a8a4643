//! Which files are open: a few for reading, a few for writing, and those that are not on disk yet.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io, mem,
    ops::Bound,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use headwater_core::{Error, Offset, Result, ledger::TopicId};

use super::{
    fs::{DataFile, FileSystem, Open, write_error},
    layout::{Layout, log_file},
    span::Edition,
};

/// More files and folders than this are synced all at once, whatever else is on their file system: a sync of each costs
/// a fraction of a millisecond at best, and minutes for those of ten thousand partitions on a slow disk.
const SYNC_EACH_MAX: usize = 1000;

/// No more files than this are synced before a checkpoint has to.
const SYNC_EARLY_MAX: usize = 16;

/// Files that readers share. The least recently used is closed when there are too many.
///
/// They go by edition and path: the files of a deleted topic are never taken for those of a new one of its name, nor files
/// that were replaced for those that have their names now.
#[derive(Debug)]
pub(super) struct ReadFiles {
    fs: Arc<dyn FileSystem>,
    open: Mutex<OpenFiles>,
    files_max: usize,
}

#[derive(Debug, Default)]
struct OpenFiles {
    files: HashMap<(Edition, PathBuf), (Arc<dyn DataFile>, u64)>,
    uses: u64,
}

impl ReadFiles {
    /// Keeps so many open; with 0, none.
    pub(super) fn new(fs: Arc<dyn FileSystem>, files_max: usize) -> Self {
        Self { fs, open: Mutex::default(), files_max }
    }

    /// The file at `path`, of an edition, which is opened without holding anybody up.
    pub(super) fn open(&self, edition: Edition, path: &Path) -> io::Result<Arc<dyn DataFile>> {
        if self.files_max == 0 {
            return self.fs.open(path, Open::Read);
        }
        let key = (edition, path.to_owned());
        {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            open.uses += 1;
            let now = open.uses;
            if let Some((file, used)) = open.files.get_mut(&key) {
                *used = now;
                return Ok(Arc::clone(file));
            }
        }
        let file = self.fs.open(path, Open::Read)?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.files.len() >= self.files_max {
            let oldest = open.files.iter().min_by_key(|(_, (_, used))| *used).map(|(key, _)| key.clone());
            oldest.and_then(|key| open.files.remove(&key));
        }
        let now = open.uses;
        open.files.insert(key, (Arc::clone(&file), now));
        Ok(file)
    }

    /// Closes a file that was replaced by another, or removed, of all editions.
    pub(super) fn forget(&self, topic: TopicId, path: &Path) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.files.retain(|(edition, known), _| edition.topic != topic || known != path);
    }

    /// Closes the files in a folder that were opened for an edition.
    pub(super) fn forget_edition(&self, edition: Edition, folder: &Path) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.files.retain(|(known, path), _| *known != edition || !path.starts_with(folder));
    }

    /// Closes all files of a topic.
    pub(super) fn forget_topic(&self, topic: TopicId) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.files.retain(|(edition, _), _| edition.topic != topic);
    }
}

/// Files that the journal thread writes. A file stays open until it is on disk, as long as there are not too many: an
/// error of the disk is surely reported to those who had the file open when it happened. What is closed before that is
/// opened again to be synced, and is told of the error as long as the system remembers the file.
#[derive(Debug)]
pub(super) struct WriteFiles {
    pub(super) layout: Layout,
    open: BTreeMap<PathBuf, WriteFile>,
    /// Files that were closed before they were on disk.
    unsynced: BTreeSet<PathBuf>,
    new_entries: BTreeSet<PathBuf>,
    files_max: usize,
    uses: u64,
}

#[derive(Debug)]
struct WriteFile {
    file: Arc<dyn DataFile>,
    dirty: bool,
    used: u64,
}

/// What must be synced before a checkpoint holds.
#[derive(Debug, Default)]
pub(super) struct Unsynced {
    files: Vec<(PathBuf, Arc<dyn DataFile>)>,
    closed: BTreeSet<PathBuf>,
    folders: BTreeSet<PathBuf>,
}

impl WriteFiles {
    pub(super) fn new(layout: Layout, files_max: usize) -> Self {
        let files_max = files_max.max(1);
        let (open, unsynced, new_entries) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
        Self { layout, open, unsynced, new_entries, files_max, uses: 0 }
    }

    /// Makes sure that a partition's folder is there, for a new file in it.
    pub(super) fn create_folder(&mut self, folder: &Path) -> Result<()> {
        self.layout.create_folder(folder)?;
        // The folder, its topic's and the one above: they may be new, or not on disk since an earlier crash.
        self.new_entries.extend(folder.ancestors().take(3).map(Path::to_owned));
        Ok(())
    }

    /// Begins an empty file at `path`, whatever was there.
    pub(super) fn create(&mut self, path: &Path) -> Result<Arc<dyn DataFile>> {
        self.open.remove(path);
        self.insert(path, Open::Truncate)
    }

    /// The file at `path`, to write to it.
    pub(super) fn open(&mut self, path: &Path) -> Result<Arc<dyn DataFile>> {
        self.uses += 1;
        if let Some(open) = self.open.get_mut(path) {
            open.used = self.uses;
            open.dirty = is_durable(path);
            return Ok(Arc::clone(&open.file));
        }
        self.insert(path, Open::Write)
    }

    /// Takes segments of a partition for files that were written and are perhaps not on disk, nor their names.
    pub(super) fn reopen(&mut self, folder: &Path, segments: impl Iterator<Item = Offset>) -> Result<()> {
        self.create_folder(folder)?;
        segments.map(|base| log_file(folder, base)).try_for_each(|path| self.open(&path).map(drop))
    }

    fn insert(&mut self, path: &Path, how: Open) -> Result<Arc<dyn DataFile>> {
        let file = self.layout.fs.open(path, how);
        let what = format_args!("cannot open segment. file={}", path.display());
        let file = file.map_err(|e| write_error(what, e))?;
        if self.open.len() >= self.files_max {
            self.close_one();
        }
        let dirty = is_durable(path);
        self.open.insert(path.to_owned(), WriteFile { file: Arc::clone(&file), dirty, used: self.uses });
        Ok(file)
    }

    /// Does not sync it: with thousands of partitions, commits would wait for thousands of syncs.
    fn close_one(&mut self) {
        let oldest =
            self.open.iter().min_by_key(|(_, open)| (open.dirty, open.used)).map(|(path, _)| path.clone());
        let closed = oldest.and_then(|path| self.open.remove_entry(&path));
        self.unsynced.extend(closed.filter(|(_, open)| open.dirty).map(|(path, _)| path));
    }

    /// A file in `folder` was removed, or a folder.
    pub(super) fn removed_from(&mut self, folder: &Path) {
        self.new_entries.insert(folder.to_owned());
    }

    /// Closes a file that nobody needs any more.
    pub(super) fn forget(&mut self, path: &Path) {
        self.open.remove(path);
        self.unsynced.remove(path);
    }

    /// A file that was closed is to be synced all the same, if it is still there.
    pub(super) fn sync_again(&mut self, path: PathBuf) {
        self.unsynced.insert(path);
    }

    /// Closes all files in `folder`, which nobody needs any more.
    pub(super) fn forget_folder(&mut self, folder: &Path) {
        self.open.retain(|path, _| !path.starts_with(folder));
        self.unsynced.retain(|path| !path.starts_with(folder));
        self.new_entries.retain(|path| !path.starts_with(folder));
    }

    /// Files that were written and are perhaps not on disk, if they are few. They stay what they are: a checkpoint syncs
    /// everything, and finds less to do.
    pub(super) fn few_unsynced(&self) -> Option<Unsynced> {
        let dirty = self.open.iter().filter(|(_, open)| open.dirty).take(SYNC_EARLY_MAX + 1);
        let files: Vec<_> = dirty.map(|(path, open)| (path.clone(), Arc::clone(&open.file))).collect();
        let few = self.unsynced.is_empty() && (1..=SYNC_EARLY_MAX).contains(&files.len());
        few.then(|| Unsynced { files, closed: BTreeSet::new(), folders: BTreeSet::new() })
    }

    /// All that was written and is perhaps not on disk.
    pub(super) fn take_unsynced(&mut self) -> Unsynced {
        let dirty = self.open.iter_mut().filter(|(_, open)| open.dirty);
        let files = dirty.map(|(path, open)| {
            open.dirty = false;
            (path.clone(), Arc::clone(&open.file))
        });
        Unsynced {
            files: files.collect(),
            closed: mem::take(&mut self.unsynced),
            folders: mem::take(&mut self.new_entries),
        }
    }

    /// What was written in a folder and is perhaps not on disk, with its name. Nobody else may be syncing files meanwhile: of two syncs
    /// of one file, only one is told of an error.
    pub(super) fn take_unsynced_in(&mut self, folder: &Path) -> Unsynced {
        let inside = self.open.range_mut::<Path, _>((Bound::Included(folder), Bound::Unbounded));
        let dirty = inside.take_while(|(path, _)| path.starts_with(folder)).filter(|(_, open)| open.dirty);
        let files = dirty.map(|(path, open)| {
            open.dirty = false;
            (path.clone(), Arc::clone(&open.file))
        });
        let files = files.collect();
        let (closed, others) =
            mem::take(&mut self.unsynced).into_iter().partition(|path| path.starts_with(folder));
        self.unsynced = others;
        let above = folder.ancestors().take(3).filter(|above| self.new_entries.remove(*above));
        Unsynced { files, closed, folders: above.map(Path::to_owned).collect() }
    }
}

impl Unsynced {
    /// Puts it all on disk.
    pub(super) fn sync(&self, layout: &Layout) -> Result<()> {
        let failed = |e| Error::io(format!("cannot sync. folder={}", layout.folder.display()), e);
        let many = self.closed.len() + self.folders.len() > SYNC_EACH_MAX;
        if many && layout.fs.sync_all(&layout.folder).map_err(failed)? {
            // For the errors that only those hear of who had the files open.
            return self.files.iter().try_for_each(|(path, file)| sync_file(path, &**file));
        }
        self.files.iter().try_for_each(|(path, file)| sync_file(path, &**file))?;
        self.closed.iter().try_for_each(|path| sync_closed(layout, path))?;
        self.folders.iter().try_for_each(|folder| layout.sync_folder(folder))
    }
}

/// Indexes can be made again: nobody waits for them.
fn is_durable(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "log")
}

/// Puts a file on disk that is not open; it may have been removed since.
fn sync_closed(layout: &Layout, path: &Path) -> Result<()> {
    match layout.fs.open(path, Open::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        file => {
            let file = file.map_err(|e| Error::io(format!("cannot open. file={}", path.display()), e))?;
            sync_file(path, &*file)
        }
    }
}

fn sync_file(path: &Path, file: &dyn DataFile) -> Result<()> {
    file.sync_data().map_err(|e| Error::io(format!("cannot sync segment. file={}", path.display()), e))
}
