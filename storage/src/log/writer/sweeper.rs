//! Removes what is left of deleted topics: a few files at once, and many in a thread of their own, so that commits go on
//! meanwhile.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use crate::log::layout::Layout;

/// So many files are removed at once.
const AT_ONCE_MAX: u32 = 100;

/// At most one thread. Dropping it ends that thread at the next file; whatever is left then goes when the log is opened
/// again.
#[derive(Debug, Default)]
pub(super) struct Sweeper {
    thread: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    /// Something came too late for the thread that runs.
    again: bool,
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
        self.thread.take().into_iter().for_each(|thread| drop(thread.join()));
    }
}
