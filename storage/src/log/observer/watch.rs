//! Waits for what the owner publishes, or for some time.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, Thread},
    time::{Duration, Instant},
};

use headwater_core::{Error, Result, Signal};

use super::super::{journal::Position, layout::Layout, published};

/// Time between two looks while something comes, and when nothing does. A look costs about a microsecond.
const PAUSE: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(20);

/// Counts changes of what is published.
#[derive(Debug)]
pub(super) struct Watch {
    layout: Layout,
    changes: Signal,
    /// Counts looks.
    looks: Signal,
    last: Mutex<Option<Position>>,
    /// How many wait. The thread looks only for them.
    waiting: AtomicUsize,
    thread: Mutex<Option<Thread>>,
}

impl Watch {
    pub(super) fn new(layout: Layout) -> Arc<Self> {
        let last = Mutex::new(published::read(&layout));
        Arc::new(Self {
            layout,
            changes: Signal::default(),
            looks: Signal::default(),
            last,
            waiting: AtomicUsize::new(0),
            thread: Mutex::default(),
        })
    }

    /// Waits until more than `seen` changes were noticed.
    ///
    /// # Errors
    /// `Unavailable` when the system has no thread for us.
    pub(super) async fn after(self: &Arc<Self>, seen: u64) -> Result<u64> {
        let _waiting = self.wait()?;
        let mut change = pin!(self.changes.after(seen));
        let change = poll_fn(|context| {
            self.look();
            change.as_mut().poll(context)
        });
        Ok(change.await.expect("the signal is never closed"))
    }

    /// Lets some time pass, without holding up a thread: at least `time`, and not much more than a look later.
    ///
    /// # Errors
    /// `Unavailable` when the system has no thread for us.
    pub(super) async fn pause(self: &Arc<Self>, time: Duration) -> Result<()> {
        let _waiting = self.wait()?;
        let until = Instant::now() + time;
        let mut looks = self.looks.count();
        while Instant::now() < until {
            looks = self.looks.after(looks).await.expect("the signal is never closed");
        }
        Ok(())
    }

    /// Takes note of what is published; says whether it changed.
    fn look(&self) -> bool {
        let published = published::read(&self.layout);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // Without the owner's word, every look may find something.
        let changed = *last != published || published.is_none();
        *last = published;
        drop(last);
        if changed {
            self.changes.raise();
        }
        changed
    }

    fn wait(self: &Arc<Self>) -> Result<Waiting<'_>> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let waiting = Waiting(self);
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = &*thread {
            thread.unpark();
        } else {
            let watch = Arc::downgrade(self);
            let spawned = thread::Builder::new().name("headwater-observer".into()).spawn(move || run(&watch));
            let spawned = spawned.map_err(|e| Error::io("cannot start a thread that watches the log", e))?;
            *thread = Some(spawned.thread().clone());
        }
        drop(thread);
        Ok(waiting)
    }
}

/// Looks while somebody waits, until nobody holds the watch any more.
fn run(watch: &Weak<Watch>) {
    let mut pause = PAUSE;
    while let Some(watched) = watch.upgrade() {
        if watched.waiting.load(Ordering::SeqCst) == 0 {
            drop(watched);
            thread::park();
            pause = PAUSE;
            continue;
        }
        pause = if watched.look() { PAUSE } else { (pause * 2).min(PAUSE_MAX) };
        watched.looks.raise();
        drop(watched);
        thread::park_timeout(pause);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner);
        thread.iter().for_each(Thread::unpark);
    }
}

/// Somebody who waits.
struct Waiting<'a>(&'a Watch);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}
