//! Removes what is left of deleted topics: a few files at once, and many in a thread of their own, so that commits go on
//! meanwhile. Frees the room of large segments in another.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use crate::log::{fs::DataFile, layout::Layout};

/// So many files are removed at once.
const AT_ONCE_MAX: u32 = 100;

/// At most one thread of each kind. Dropping it ends that thread at the next file; whatever is left then goes when the log is opened
/// again.
#[derive(Debug, Default)]
pub(super) struct Sweeper {
    thread: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    /// Something came too late for the thread that runs.
    again: bool,
    closing: Option<JoinHandle<()>>,
}

impl Sweeper {
    /// Something is to be removed.
    pub(super) fn begin(&mut self, layout: &Layout) {
        let mut left = AT_ONCE_MAX;
        let mut at_once = || {
            left = left.saturating_sub(1);
            left > 0
        };
        let busy = self.thread.as_ref().is_some_and(|thread| !thread.is_finished());
        self.again = busy || !layout.remove_deleted(&mut at_once);
        self.go_on(layout);
    }

    /// Closes files that have no name any more, which frees their room. Those that come while others are being closed are
    /// closed here and now: there are never more of them.
    pub(super) fn close(&mut self, files: Vec<Arc<dyn DataFile>>) {
        let busy = self.closing.as_ref().is_some_and(|thread| !thread.is_finished());
        if !files.is_empty() && !busy {
            // Where no thread can be started, that closes them too.
            self.closing = thread::Builder::new().name("headwater-closer".into()).spawn(|| drop(files)).ok();
        }
    }

    /// Begins anew with what came too late.
    pub(super) fn go_on(&mut self, layout: &Layout) {
        let busy = self.thread.as_ref().is_some_and(|thread| !thread.is_finished());
        if busy || !self.again {
            return;
        }
        self.again = false;
        let (layout, stop) = (layout.clone(), Arc::clone(&self.stop));
        let sweep = move || {
            layout.remove_deleted(&mut || !stop.load(Ordering::Relaxed));
        };
        match thread::Builder::new().name("headwater-sweeper".into()).spawn(sweep) {
            Ok(thread) => self.thread = Some(thread),
            Err(error) => {
                tracing::warn!(%error, "files of deleted topics stay until the log is opened again");
            }
        }
    }

    /// Waits for the thread that runs.
    #[cfg(test)]
    pub(super) fn settle(&mut self) {
        self.thread.take().into_iter().for_each(|thread| thread.join().unwrap());
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // A panic there has removed less than it should: the next one goes on.
        let threads = [self.thread.take(), self.closing.take()];
        threads.into_iter().flatten().for_each(|thread| drop(thread.join()));
    }
}

#[cfg(test)]
mod tests {
    use std::{io, sync::mpsc, thread::ThreadId};

    use super::*;

    /// Says which thread closes it.
    #[derive(Debug)]
    struct Told(mpsc::SyncSender<ThreadId>);

    impl Drop for Told {
        fn drop(&mut self) {
            self.0.send(thread::current().id()).unwrap();
        }
    }

    impl DataFile for Told {
        fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn set_len(&self, _: u64) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn len(&self) -> io::Result<u64> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn sync_data(&self) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    #[test]
    fn room_is_freed_by_another_thread_and_before_the_sweeper_is_gone() {
        let (closed, closes) = mpsc::sync_channel(2);
        let mut sweeper = Sweeper::default();
        sweeper.close(vec![Arc::new(Told(closed.clone())), Arc::new(Told(closed))]);
        drop(sweeper);
        let by: Vec<_> = closes.try_iter().collect();
        assert_eq!(by.len(), 2);
        assert!(!by.contains(&thread::current().id()));
    }
}
