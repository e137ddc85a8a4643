//! A disk that writes down what is done with it: no test can look at a disk without the system's memory in
//! front of it. It also fails when a test wants it to.

use std::{
    ffi::OsString,
    io,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use super::*;
use crate::log::fs::{DataFile, FileSystem, Open, RealFs};

/// What a log asks of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    Open(Open),
    Exists,
    Size,
    List,
    CreateFolder,
    SyncFolder,
    /// The path is the new name.
    Rename,
    RemoveFile,
    RemoveFolder,
    Read,
    Write,
    SetLen,
    Length,
    SyncFile,
}

/// Called before everything that is done.
type Before = dyn Fn(Op, &Path) -> io::Result<()> + Send + Sync;

/// The real file system, with a list of what was done.
#[derive(Clone)]
pub(super) struct Disk {
    done: Arc<Mutex<Vec<(Op, PathBuf)>>>,
    before: Arc<Before>,
}

impl Default for Disk {
    fn default() -> Self {
        Self::with(|_, _| Ok(()))
    }
}

impl Disk {
    /// Calls `before` before everything that is done; when that fails, it is not done.
    pub(super) fn with(before: impl Fn(Op, &Path) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self { done: Arc::default(), before: Arc::new(before) }
    }

    /// What was done so far, in order.
    pub(super) fn done(&self) -> Vec<(Op, PathBuf)> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn open_log(&self, folder: &Path, options: LogOptions) -> Result<EmbeddedLog> {
        EmbeddedLog::open_on(Arc::new(self.clone()), folder, options)
    }

    fn begin(&self, op: Op, path: &Path) -> io::Result<()> {
        (self.before)(op, path)?;
        self.done.lock().unwrap_or_else(PoisonError::into_inner).push((op, path.to_owned()));
        Ok(())
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk").finish_non_exhaustive()
    }
}

impl FileSystem for Disk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DataFile>> {
        self.begin(Op::Open(how), path)?;
        let file = RealFs.open(path, how)?;
        Ok(Arc::new(DiskFile { disk: self.clone(), path: path.to_owned(), file }))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.begin(Op::Exists, path)?;
        RealFs.exists(path)
    }

    fn size(&self, path: &Path) -> io::Result<u64> {
        self.begin(Op::Size, path)?;
        RealFs.size(path)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        self.begin(Op::List, folder)?;
        RealFs.list(folder)
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.begin(Op::CreateFolder, path)?;
        RealFs.create_folder(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.begin(Op::SyncFolder, path)?;
        RealFs.sync_folder(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.begin(Op::Rename, to)?;
        RealFs.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.begin(Op::RemoveFile, path)?;
        RealFs.remove_file(path)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.begin(Op::RemoveFolder, path)?;
        RealFs.remove_folder(path)
    }
}

/// An open file of a [`Disk`].
#[derive(Debug)]
struct DiskFile {
    disk: Disk,
    path: PathBuf,
    file: Arc<dyn DataFile>,
}

impl DataFile for DiskFile {
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<usize> {
        self.disk.begin(Op::Read, &self.path)?;
        self.file.read_at(bytes, at)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        self.disk.begin(Op::Write, &self.path)?;
        self.file.write_at(bytes, at)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.disk.begin(Op::SetLen, &self.path)?;
        self.file.set_len(bytes)
    }

    fn len(&self) -> io::Result<u64> {
        self.disk.begin(Op::Length, &self.path)?;
        self.file.len()
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.begin(Op::SyncFile, &self.path)?;
        self.file.sync_data()
    }
}
