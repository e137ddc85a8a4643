//! A timer beside the consumer: has it look around now and then, and takes its place away when it does not ask for
//! records for too long.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use headwater_core::Member;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep_until},
};

/// How often a consumer looks around at most, while records lie ready.
const TICK: Duration = Duration::from_millis(100);

/// Belongs to the consumer; without it the timer ends.
pub(super) struct Watch {
    shared: Arc<Shared>,
    /// How often it was asked for records; shared is a copy, which costs no locked instruction.
    polls: u64,
    timer: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    polls: AtomicU64,
    /// It waits for records now.
    waiting: AtomicBool,
    look: AtomicBool,
    member: Mutex<Option<Arc<dyn Member>>>,
}

impl Watch {
    /// Begins to watch over a consumer that may be silent for `silence_max`.
    ///
    /// # Panics
    /// Outside of a tokio runtime, where a consumer cannot wait either.
    pub(super) fn new(silence_max: Duration) -> Self {
        let shared = Arc::<Shared>::default();
        let timer = tokio::spawn(watch(Arc::clone(&shared), silence_max));
        Self { shared, polls: 0, timer }
    }

    /// Whose place is at stake.
    pub(super) fn guard(&self, member: Option<Arc<dyn Member>>) {
        *self.shared.member.lock().unwrap_or_else(PoisonError::into_inner) = member;
    }

    /// The consumer is asked for records; whether it is time to look around.
    #[inline]
    pub(super) fn polled(&mut self) -> bool {
        self.polls += 1;
        self.shared.polls.store(self.polls, Ordering::Relaxed);
        self.shared.look.load(Ordering::Relaxed) && self.shared.look.swap(false, Ordering::Relaxed)
    }

    /// While the answer is there, the consumer is not silent.
    pub(super) fn waiting(&self) -> Waiting {
        self.shared.waiting.store(true, Ordering::Relaxed);
        Waiting(Arc::clone(&self.shared))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.timer.abort();
    }
}

pub(super) struct Waiting(Arc<Shared>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.store(false, Ordering::Relaxed);
    }
}

async fn watch(shared: Arc<Shared>, silence_max: Duration) {
    let tick = TICK.min(silence_max / 8).max(Duration::from_millis(1));
    let (mut polls, mut heard) = (0, Instant::now());
    loop {
        sleep_until(Instant::now() + tick).await;
        shared.look.store(true, Ordering::Relaxed);
        let now = Instant::now();
        let seen = shared.polls.load(Ordering::Relaxed);
        if seen != polls || shared.waiting.load(Ordering::Relaxed) {
            (polls, heard) = (seen, now);
        } else if now.duration_since(heard) >= silence_max {
            let member = shared.member.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(member) = member {
                tracing::warn!(
                    member = %member.membership().member, ?silence_max,
                    "consumer asks for no records: it leaves its group. Process fewer at a time, or raise `poll_interval_max`"
                );
                member.leave();
            }
        }
    }
}
