//! Which files are open: a few for reading, a few for writing, and those that are not on disk yet.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use headwater_core::{Error, Result};

use super::{
    fs::{DataFile, FileSystem, Open},
    layout::Layout,
};

/// Files that readers share. The least recently used is closed when there are too many.
#[derive(Debug)]
pub(super) struct ReadFiles {
    fs: Arc<dyn FileSystem>,
    open: Mutex<OpenFiles>,
    files_max: usize,
}

#[derive(Debug, Default)]
struct OpenFiles {
    files: HashMap<PathBuf, (Arc<dyn DataFile>, u64)>,
    uses: u64,
}

impl ReadFiles {
    pub(super) fn new(fs: Arc<dyn FileSystem>, files_max: usize) -> Self {
        Self { fs, open: Mutex::default(), files_max: files_max.max(1) }
    }

    /// The file at `path`, which is opened without holding anybody up.
    pub(super) fn open(&self, path: &Path) -> io::Result<Arc<dyn DataFile>> {
        {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            open.uses += 1;
            let now = open.uses;
            if let Some((file, used)) = open.files.get_mut(path) {
                *used = now;
                return Ok(Arc::clone(file));
            }
        }
        let file = self.fs.open(path, Open::Read)?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.files.len() >= self.files_max {
            let oldest = open.files.iter().min_by_key(|(_, (_, used))| *used).map(|(path, _)| path.clone());
            oldest.and_then(|path| open.files.remove(&path));
        }
        let now = open.uses;
        open.files.insert(path.to_owned(), (Arc::clone(&file), now));
        Ok(file)
    }

    /// Closes a file that was replaced by another.
    pub(super) fn forget(&self, path: &Path) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).files.remove(path);
    }
}

/// Files that the journal thread writes. A file stays open until it is on disk: an error of the disk is reported to
/// those who had the file open when it happened.
#[derive(Debug)]
pub(super) struct WriteFiles {
    pub(super) layout: Layout,
    open: BTreeMap<PathBuf, WriteFile>,
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
    folders: BTreeSet<PathBuf>,
}

impl WriteFiles {
    pub(super) fn new(layout: Layout, files_max: usize) -> Self {
        let files_max = files_max.max(1);
        Self { layout, open: BTreeMap::new(), new_entries: BTreeSet::new(), files_max, uses: 0 }
    }

    /// Begins an empty file at `path`, whatever was there.
    pub(super) fn create(&mut self, path: &Path) -> Result<Arc<dyn DataFile>> {
        if let Some(folder) = path.parent() {
            self.layout.create_folder(folder)?;
            // The folder, its topic's and the one above: they may be new, or not on disk since an earlier crash.
            self.new_entries.extend(folder.ancestors().take(3).map(Path::to_owned));
        }
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

    fn insert(&mut self, path: &Path, how: Open) -> Result<Arc<dyn DataFile>> {
        let file = self.layout.fs.open(path, how);
        let file = file.map_err(|e| Error::io(format!("cannot open segment. file={}", path.display()), e))?;
        if self.open.len() >= self.files_max {
            self.close_one()?;
        }
        let dirty = is_durable(path);
        self.open.insert(path.to_owned(), WriteFile { file: Arc::clone(&file), dirty, used: self.uses });
        Ok(file)
    }

    fn close_one(&mut self) -> Result<()> {
        let oldest =
            self.open.iter().min_by_key(|(_, open)| (open.dirty, open.used)).map(|(path, _)| path.clone());
        let Some((path, open)) = oldest.and_then(|path| self.open.remove_entry(&path)) else { return Ok(()) };
        if open.dirty { sync_file(&path, &*open.file) } else { Ok(()) }
    }

    /// A file in `folder` was removed.
    pub(super) fn removed_from(&mut self, folder: &Path) {
        self.new_entries.insert(folder.to_owned());
    }

    /// All that was written and is perhaps not on disk.
    pub(super) fn take_unsynced(&mut self) -> Unsynced {
        let dirty = self.open.iter_mut().filter(|(_, open)| open.dirty);
        let files = dirty.map(|(path, open)| {
            open.dirty = false;
            (path.clone(), Arc::clone(&open.file))
        });
        Unsynced { files: files.collect(), folders: std::mem::take(&mut self.new_entries) }
    }
}

impl Unsynced {
    /// Puts it all on disk.
    pub(super) fn sync(&self, layout: &Layout) -> Result<()> {
        self.files.iter().try_for_each(|(path, file)| sync_file(path, &**file))?;
        self.folders.iter().try_for_each(|folder| layout.sync_folder(folder))
    }
}

/// Indexes can be made again: nobody waits for them.
fn is_durable(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "log")
}

fn sync_file(path: &Path, file: &dyn DataFile) -> Result<()> {
    file.sync_data().map_err(|e| Error::io(format!("cannot sync segment. file={}", path.display()), e))
}
