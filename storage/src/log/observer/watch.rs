//! Waits for what the owner publishes, or for some time.
//!
//! Whoever follows a log that is written all the time is told now and then, and learns of many commits at once: a look at each of them would
//! cost more than what they hold, and be taken from the owner's processors. What a call sees that asks does not depend on it.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, Thread},
    time::{Duration, Instant},
};

use headwater_core::{Error, Result, Signal};

use super::super::{journal::Position, layout::Layout, published::Looks};

/// Time between two looks while something comes, and when nothing does.
pub(in crate::log) const PAUSE: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_millis(20);

/// Counts changes of what is published.
#[derive(Debug)]
pub(super) struct Watch {
    layout: Layout,
    changes: Signal,
    /// Counts how often the thread woke.
    ticks: Signal,
    seen: Mutex<Seen>,
    /// How many wait. The thread looks only for them.
    waiting: AtomicUsize,
    /// The thread will look by itself.
    watched: AtomicBool,
    thread: Mutex<Option<Thread>>,
}

/// What the last look saw.
#[derive(Debug)]
struct Seen {
    looks: Looks,
    published: Option<Position>,
    /// When a look saw something new.
    changed: Option<Instant>,
}

impl Watch {
    pub(super) fn new(layout: Layout) -> Arc<Self> {
        let mut looks = Looks::default();
        let published = looks.look(&layout);
        let seen = Mutex::new(Seen { looks, published, changed: None });
        Arc::new(Self {
            layout,
            changes: Signal::default(),
            ticks: Signal::default(),
            seen,
            waiting: AtomicUsize::new(0),
            watched: AtomicBool::new(false),
            thread: Mutex::default(),
        })
    }

    /// Waits until more than `seen` changes were noticed. Whoever asks again right behind one waits for the thread's next look; everybody
    /// else looks at once.
    ///
    /// # Errors
    /// `Unavailable` when the system has no thread for us.
    pub(super) async fn after(self: &Arc<Self>, seen: u64) -> Result<u64> {
        let mut paced = !self.rest().is_zero();
        if !paced {
            self.look();
            let count = self.changes.count();
            if count > seen {
                return Ok(count);
            }
        }
        let _waiting = self.wait(Wake::Idle)?;
        let mut change = pin!(self.changes.after(seen));
        let change = poll_fn(|context| {
            if !std::mem::take(&mut paced) && self.changes.count() <= seen {
                self.look();
            }
            change.as_mut().poll(context)
        });
        Ok(change.await.expect("the signal is never closed"))
    }

    /// Lets some time pass, without holding up a thread: at least `time`, and not much more than a look later.
    ///
    /// # Errors
    /// `Unavailable` when the system has no thread for us.
    pub(super) async fn pause(self: &Arc<Self>, time: Duration) -> Result<()> {
        let _waiting = self.wait(Wake::Always)?;
        let until = Instant::now() + time;
        let mut ticks = self.ticks.count();
        while Instant::now() < until {
            ticks = self.ticks.after(ticks).await.expect("the signal is never closed");
        }
        Ok(())
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nobody waits, so that the thread may sleep until it is woken.
    fn is_left_alone(&self) -> bool {
        self.watched.store(false, Ordering::SeqCst);
        // Whoever came before that has not woken it.
        let alone = self.waiting.load(Ordering::SeqCst) == 0;
        self.watched.store(!alone, Ordering::SeqCst);
        alone
    }

    /// How long whoever follows is left alone, if something new was seen just now.
    fn rest(&self) -> Duration {
        self.seen().changed.map_or(Duration::ZERO, |changed| PAUSE.saturating_sub(changed.elapsed()))
    }

    /// Takes note of what is published; says whether it changed.
    fn look(&self) -> bool {
        let mut seen = self.seen();
        let published = seen.looks.look(&self.layout);
        // Without the owner's word, every look may find something.
        let changed = seen.published != published || published.is_none();
        seen.published = published;
        if changed {
            seen.changed = Some(Instant::now());
        }
        drop(seen);
        if changed {
            self.changes.raise();
        }
        changed
    }

    fn wait(self: &Arc<Self>, wake: Wake) -> Result<Waiting<'_>> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let waiting = Waiting(self);
        if wake == Wake::Idle && self.watched.load(Ordering::SeqCst) {
            return Ok(waiting);
        }
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

/// When the thread is woken for somebody who waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wake {
    Always,
    /// Only when it would not look by itself.
    Idle,
}

/// Looks while somebody waits, until nobody holds the watch any more.
fn run(watch: &Weak<Watch>) {
    let (mut pause, mut looked) = (PAUSE, None::<Instant>);
    while let Some(watched) = watch.upgrade() {
        if watched.is_left_alone() {
            drop(watched);
            thread::park();
            pause = PAUSE;
            continue;
        }
        watched.ticks.raise();
        // It may have been woken early.
        let since = looked.map_or(Duration::ZERO, |looked| PAUSE.saturating_sub(looked.elapsed()));
        let rest = watched.rest().max(since);
        if !rest.is_zero() {
            drop(watched);
            thread::park_timeout(rest);
            continue;
        }
        pause = if watched.look() { PAUSE } else { (pause * 2).min(PAUSE_MAX) };
        looked = Some(Instant::now());
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
