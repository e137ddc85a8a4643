//! A disk that writes down what is done with it, and fails when a test wants it to: no test can look at a disk without the
//! system's memory in front of it, or pull its plug.
//!
//! Nothing is ever synced: what matters is whether the log asked for it.

use std::{
    collections::HashMap,
    ffi::OsString,
    io,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
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
    SyncAll,
    /// The path is the new name.
    Rename,
    RemoveFile,
    RemoveFolder,
    Read,
    Write,
    KeepRoom,
    SetLen,
    Length,
    SyncFile,
}

impl Op {
    pub(super) fn is_sync(self) -> bool {
        matches!(self, Op::SyncFile | Op::SyncFolder | Op::SyncAll)
    }

    /// Whether it may need room.
    pub(super) fn takes_room(self) -> bool {
        matches!(
            self,
            Op::Write
                | Op::KeepRoom
                | Op::CreateFolder
                | Op::Rename
                | Op::Open(Open::Create | Open::Truncate)
        )
    }
}

/// A folder in memory where there is one: what a test does hundreds of times need not wait for a disk.
pub(super) fn folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Called before everything that is done, with the number of bytes; says how many of them are written.
type Before = dyn Fn(Op, &Path, usize) -> io::Result<usize> + Send + Sync;

/// The real file system, with a list of what was done, and a limit.
#[derive(Clone)]
pub(super) struct Disk {
    state: Arc<Mutex<State>>,
    before: Arc<Before>,
}

#[derive(Debug, Default)]
struct State {
    /// What was done, and what was tried and failed.
    done: Vec<(Op, PathBuf)>,
    /// Only files that were opened here are counted.
    nodes: HashMap<PathBuf, Arc<Node>>,
    used: u64,
    quota: Option<u64>,
}

#[derive(Debug, Default)]
struct Node(Mutex<(PathBuf, u64)>);

impl Default for Disk {
    fn default() -> Self {
        Self::with(|_, _| Ok(()))
    }
}

impl Disk {
    /// Calls `before` before everything that is done; when that fails, it is not done.
    pub(super) fn with(before: impl Fn(Op, &Path) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self::with_writes(move |op, path, bytes| before(op, path).map(|()| bytes))
    }

    /// The same, and `before` says how many of a write's bytes are written.
    pub(super) fn with_writes(
        before: impl Fn(Op, &Path, usize) -> io::Result<usize> + Send + Sync + 'static,
    ) -> Self {
        Self { state: Arc::default(), before: Arc::new(before) }
    }

    /// So many bytes of files fit on it from now on.
    pub(super) fn set_quota(&self, bytes: Option<u64>) {
        self.state().quota = bytes;
    }

    /// Bytes in files.
    pub(super) fn used(&self) -> u64 {
        self.state().used
    }

    /// What was done or tried so far, in order.
    pub(super) fn done(&self) -> Vec<(Op, PathBuf)> {
        self.state().done.clone()
    }

    pub(super) fn open_log(&self, folder: &Path, options: LogOptions) -> Result<EmbeddedLog> {
        EmbeddedLog::open_on(Arc::new(self.clone()), folder, options)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, op: Op, path: &Path) -> io::Result<()> {
        self.begin_write(op, path, 0).map(drop)
    }

    fn begin_write(&self, op: Op, path: &Path, bytes: usize) -> io::Result<usize> {
        self.state().done.push((op, path.to_owned()));
        (self.before)(op, path, bytes)
    }
}

impl State {
    fn resize(&mut self, node: &Node, bytes: u64) {
        let mut node = node.0.lock().unwrap_or_else(PoisonError::into_inner);
        self.used = self.used + bytes - node.1;
        node.1 = bytes;
    }

    fn remove(&mut self, path: &Path) {
        if let Some(node) = self.nodes.remove(path) {
            self.resize(&node, 0);
        }
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
        let mut state = self.state();
        let node = Arc::clone(state.nodes.entry(path.to_owned()).or_default());
        node.0.lock().unwrap_or_else(PoisonError::into_inner).0 = path.to_owned();
        state.resize(&node, file.len()?);
        Ok(Arc::new(DiskFile { disk: self.clone(), node, file }))
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
        self.begin(Op::SyncFolder, path)
    }

    fn sync_all(&self, folder: &Path) -> io::Result<bool> {
        self.begin(Op::SyncAll, folder).map(|()| true)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.begin(Op::Rename, to)?;
        RealFs.rename(from, to)?;
        let mut state = self.state();
        state.remove(to);
        // A file, or all that are in a folder.
        let moved: Vec<_> = state.nodes.keys().filter(|path| path.starts_with(from)).cloned().collect();
        for path in moved {
            let node = state.nodes.remove(&path).unwrap();
            let rest = path.strip_prefix(from).unwrap();
            let to = if rest.as_os_str().is_empty() { to.to_owned() } else { to.join(rest) };
            node.0.lock().unwrap_or_else(PoisonError::into_inner).0.clone_from(&to);
            state.nodes.insert(to, node);
        }
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.begin(Op::RemoveFile, path)?;
        RealFs.remove_file(path)?;
        self.state().remove(path);
        Ok(())
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
    node: Arc<Node>,
    file: Arc<dyn DataFile>,
}

impl DiskFile {
    fn node(&self) -> (PathBuf, u64) {
        self.node.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn begin(&self, op: Op, bytes: usize) -> io::Result<usize> {
        self.disk.begin_write(op, &self.node().0, bytes)
    }

    /// How many of `bytes` from `at` on have room.
    fn fitting(&self, bytes: usize, at: u64) -> io::Result<usize> {
        let state = self.disk.state();
        let left = state.quota.map_or(u64::MAX, |quota| quota.saturating_sub(state.used));
        let fitting = (self.node().1.saturating_add(left)).saturating_sub(at);
        match usize::try_from(fitting).unwrap_or(usize::MAX).min(bytes) {
            0 if bytes > 0 => Err(io::Error::from_raw_os_error(28)),
            fitting => Ok(fitting),
        }
    }
}

impl DataFile for DiskFile {
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<usize> {
        self.begin(Op::Read, 0)?;
        self.file.read_at(bytes, at)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        let count = self.begin(Op::Write, bytes.len())?;
        let count = self.fitting(count, at)?;
        let count = self.file.write_at(&bytes[..count], at)?;
        let size = self.node().1.max(at + count as u64);
        self.disk.state().resize(&self.node, size);
        Ok(count)
    }

    fn keep_room(&self, at: u64, bytes: u64) -> io::Result<()> {
        self.begin(Op::KeepRoom, 0)?;
        self.file.keep_room(at, bytes)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.begin(Op::SetLen, 0)?;
        self.file.set_len(bytes)?;
        self.disk.state().resize(&self.node, bytes);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        self.begin(Op::Length, 0)?;
        self.file.len()
    }

    fn sync_data(&self) -> io::Result<()> {
        self.begin(Op::SyncFile, 0).map(drop)
    }
}
