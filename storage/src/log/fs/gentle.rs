//! A file system that takes no more than its share of the disk's time, so that whoever else writes to that disk hardly waits.
//!
//! What is written is synced at once, in slices, and behind each sync the disk is left alone for a while: so long that it was busy for us for
//! that share of the time only. A sync of somebody else then waits behind one slice at most, and not behind all that the system gathered in
//! memory and writes when a checkpoint asks for it. How fast the disk is need not be known: a slower one takes longer for a slice, and is
//! left alone for longer.
//!
//! The system tells of an error of a sync once. So one that comes early is the error of the write that asked for it.

use std::{
    ffi::OsString,
    io::{self, IoSlice},
    path::Path,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::{DataFile, FileSystem, Open};
use crate::log::share::DiskShare;

/// A file is synced when so much was written to it. The disk takes about as long for it as for a small sync.
const SLICE_BYTES: u64 = 128 << 10;

/// A slice ends where a page does, if it can: a page that is cut goes to the disk twice.
const PAGE_BYTES: u64 = 4096;

/// Of the time in which the disk was not used, no more than this is made up for.
const CREDIT_MAX: Duration = Duration::from_millis(10);

/// Nobody waits for longer: a disk that hangs for a moment is no reason to stop for a minute.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// Another file system, used for a share of the time. All files that are opened through one of these, by whatever thread, have one share.
#[derive(Debug)]
pub(in crate::log) struct GentleFs {
    inner: Arc<dyn FileSystem>,
    turns: Arc<Turns>,
}

impl GentleFs {
    pub(in crate::log) fn new(inner: Arc<dyn FileSystem>, share: DiskShare) -> Self {
        let account = Account { share, ready: None };
        let turns = Turns { state: Mutex::new(State { account, is_busy: false }), free: Condvar::new() };
        Self { inner, turns: Arc::new(turns) }
    }
}

/// How long the disk is to be left alone.
#[derive(Debug, Clone, Copy)]
struct Account {
    share: DiskShare,
    /// When it may be used again.
    ready: Option<Instant>,
}

impl Account {
    /// How long to wait from `now` on.
    fn wait(&self, now: Instant) -> Duration {
        self.ready.map_or(Duration::ZERO, |ready| ready.saturating_duration_since(now))
    }

    /// It was used from `begun` on, for `time`.
    fn charge(&mut self, begun: Instant, time: Duration) {
        let credit = begun.checked_sub(CREDIT_MAX).unwrap_or(begun);
        let from = self.ready.map_or(begun, |ready| ready.max(credit));
        let until = from + time.div_f64(self.share.part()).min(time + WAIT_MAX);
        self.ready = Some(until);
    }
}

/// Who uses the disk: one at a time, and nobody while it is to be left alone.
#[derive(Debug)]
struct Turns {
    state: Mutex<State>,
    free: Condvar,
}

#[derive(Debug)]
struct State {
    account: Account,
    is_busy: bool,
}

impl Turns {
    /// Waits until it may, and does what keeps the disk busy.
    fn take<T>(&self, work: impl FnOnce() -> T) -> T {
        self.wait();
        let _turn = Turn { turns: self, begun: Instant::now() };
        work()
    }

    fn wait(&self) {
        let mut state = self.state();
        loop {
            let wait = state.account.wait(Instant::now());
            state = if state.is_busy {
                self.free.wait(state).unwrap_or_else(PoisonError::into_inner)
            } else if !wait.is_zero() {
                self.free.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0
            } else {
                state.is_busy = true;
                return;
            };
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Over when it is dropped.
struct Turn<'a> {
    turns: &'a Turns,
    begun: Instant,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.turns.state();
        state.account.charge(self.begun, self.begun.elapsed());
        state.is_busy = false;
        self.turns.free.notify_all();
    }
}

impl FileSystem for GentleFs {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DataFile>> {
        let inner = self.inner.open(path, how)?;
        Ok(Arc::new(GentleFile { inner, turns: Arc::clone(&self.turns), unsynced: AtomicU64::new(0) }))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.inner.exists(path)
    }

    fn size(&self, path: &Path) -> io::Result<u64> {
        self.inner.size(path)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        self.inner.list(folder)
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.inner.create_folder(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.turns.take(|| self.inner.sync_folder(path))
    }

    /// Never: it would put on disk what others wrote.
    fn sync_all(&self, _folder: &Path) -> io::Result<bool> {
        Ok(false)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_file(path)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_folder(path)
    }
}

#[derive(Debug)]
struct GentleFile {
    inner: Arc<dyn DataFile>,
    turns: Arc<Turns>,
    /// Bytes written since the last sync.
    unsynced: AtomicU64,
}

impl GentleFile {
    /// How much of `bytes` is written at once from `at` on.
    fn slice(&self, bytes: usize, at: u64) -> usize {
        let left = SLICE_BYTES.saturating_sub(self.unsynced.load(Ordering::Relaxed)).max(PAGE_BYTES);
        let end = (at + left) / PAGE_BYTES * PAGE_BYTES;
        // A page is not longer than what is left.
        bytes.min(usize::try_from(end - at).unwrap_or(usize::MAX)).max(1)
    }

    /// So much was written: syncs it when it makes a slice.
    fn written(&self, count: usize) -> io::Result<usize> {
        let unsynced = self.unsynced.fetch_add(count as u64, Ordering::Relaxed) + count as u64;
        if unsynced + PAGE_BYTES > SLICE_BYTES {
            // Not the kind that it has: whoever writes would take a full disk for one that can be written to again later.
            self.sync_data().map_err(io::Error::other)?;
        }
        Ok(count)
    }
}

impl DataFile for GentleFile {
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<usize> {
        self.inner.read_at(bytes, at)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        let slice = bytes.get(..self.slice(bytes.len(), at)).unwrap_or(bytes);
        self.written(self.inner.write_at(slice, at)?)
    }

    fn write_pieces_at(&self, pieces: &[IoSlice<'_>], at: u64) -> io::Result<usize> {
        let mut left = self.slice(pieces.iter().map(|piece| piece.len()).sum(), at);
        let mut slice = Vec::with_capacity(pieces.len());
        for piece in pieces {
            let piece: &[u8] = piece;
            let piece = piece.get(..left).unwrap_or(piece);
            left -= piece.len();
            slice.push(IoSlice::new(piece));
            if left == 0 {
                break;
            }
        }
        self.written(self.inner.write_pieces_at(&slice, at)?)
    }

    fn write_through(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.turns.take(|| self.inner.write_through(bytes, at))
    }

    fn keep_room(&self, at: u64, bytes: u64) -> io::Result<()> {
        self.inner.keep_room(at, bytes)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.inner.set_len(bytes)
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn sync_data(&self) -> io::Result<()> {
        // Before it: what is written meanwhile is perhaps not in it.
        self.unsynced.store(0, Ordering::Relaxed);
        self.turns.take(|| self.inner.sync_data())
    }
}

#[cfg(test)]
mod tests;
