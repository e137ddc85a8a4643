//! In which states an application is, and who is told.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::{
    StreamExt as _,
    stream::{BoxStream, unfold},
};
use headwater_core::Signal;

/// Transitions that are kept for those who ask late.
const HISTORY_MAX: usize = 1024;

/// What an application is doing (Kafka: `KafkaStreams.State`).
///
/// ```text
///  Starting <---> Running
///     |              |
///     +------+-------+
///            v
///         Closing ---> Closed
///
///  from any of them but Closed ---> Failed
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StreamsState {
    /// Tasks are opened and their state is restored; also again, while a worker is replaced.
    Starting,
    /// All tasks are open and take records.
    Running,
    /// [`Streams::close`](crate::Streams::close) was called, or the application dropped: workers end.
    Closing,
    /// All workers have ended as they should.
    Closed,
    /// An error or a panic stopped the application.
    Failed,
}

impl StreamsState {
    /// Whether the application has ended.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Closed | Self::Failed)
    }

    fn may_become(self, next: Self) -> bool {
        use StreamsState::{Closed, Closing, Failed, Running, Starting};
        matches!(
            (self, next),
            (Starting, Running | Closing | Failed)
                | (Running, Starting | Closing | Failed)
                | (Closing, Closed | Failed)
        )
    }
}

impl fmt::Display for StreamsState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Closing => "closing",
            Self::Closed => "closed",
            Self::Failed => "failed",
        })
    }
}

/// The life of an application, shared by its workers.
#[derive(Debug)]
pub(crate) struct Life {
    inner: Mutex<Inner>,
    changed: Signal,
}

#[derive(Debug)]
struct Inner {
    /// The last states, the present one at the end.
    states: VecDeque<StreamsState>,
    /// Number of the first of them.
    first: u64,
    /// Workers whose tasks are not open.
    opening: usize,
}

impl Inner {
    fn state(&self) -> StreamsState {
        *self.states.back().expect("an application is in some state from the beginning")
    }

    fn becomes(&mut self, next: StreamsState) -> bool {
        let may = self.state().may_become(next);
        if may {
            self.states.push_back(next);
            if self.states.len() > HISTORY_MAX {
                self.states.pop_front();
                self.first += 1;
            }
        }
        may
    }
}

impl Life {
    /// Of an application that has so many workers to open.
    pub(crate) fn new(workers: usize) -> Self {
        let states = VecDeque::from([StreamsState::Starting]);
        Self { inner: Mutex::new(Inner { states, first: 0, opening: workers }), changed: Signal::default() }
    }

    pub(crate) fn state(&self) -> StreamsState {
        self.lock().state()
    }

    /// Goes on to `next`, if that can come after the present state.
    pub(crate) fn becomes(&self, next: StreamsState) {
        let changed = self.lock().becomes(next);
        self.told(changed, next);
    }

    /// A worker has opened its tasks.
    pub(crate) fn opened(&self) {
        let mut inner = self.lock();
        inner.opening -= 1;
        let changed = inner.opening == 0 && inner.becomes(StreamsState::Running);
        drop(inner);
        self.told(changed, StreamsState::Running);
    }

    /// A worker that had opened its tasks opens them again.
    pub(crate) fn reopens(&self) {
        let mut inner = self.lock();
        inner.opening += 1;
        let changed = inner.becomes(StreamsState::Starting);
        drop(inner);
        self.told(changed, StreamsState::Starting);
    }

    fn told(&self, changed: bool, state: StreamsState) {
        if changed {
            tracing::info!(%state, "application");
            self.changed.raise();
        }
    }

    /// The present state and all that follow; ends after the last.
    pub(crate) fn states(self: &Arc<Self>) -> BoxStream<'static, StreamsState> {
        let present = {
            let inner = self.lock();
            inner.first + inner.states.len() as u64 - 1
        };
        unfold(Some((Arc::clone(self), present)), |reader| async move {
            let (life, wanted) = reader?;
            let (state, number) = life.state_from(wanted).await;
            Some((state, (!state.is_final()).then_some((life, number + 1))))
        })
        .boxed()
    }

    /// The state with this number or, if that is forgotten, the oldest that is known, with its own.
    async fn state_from(&self, number: u64) -> (StreamsState, u64) {
        loop {
            let seen = self.changed.count();
            {
                let inner = self.lock();
                let number = number.max(inner.first);
                let place = usize::try_from(number - inner.first).unwrap_or(usize::MAX);
                if let Some(state) = inner.states.get(place) {
                    return (*state, number);
                }
            }
            self.changed.after(seen).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use StreamsState::{Closed, Closing, Failed, Running, Starting};
    use futures::executor::block_on;

    use super::*;

    #[test]
    fn only_drawn_transitions_happen_and_all_are_told() {
        let life = Arc::new(Life::new(2));
        let states = life.states();
        life.opened();
        assert_eq!(life.state(), Starting);
        life.opened();
        life.reopens();
        life.becomes(Closed);
        life.opened();
        life.becomes(Closing);
        life.reopens();
        life.becomes(Closed);
        life.becomes(Failed);
        let told: Vec<_> = block_on(states.collect());
        assert_eq!(told, [Starting, Running, Starting, Running, Closing, Closed]);
        let late: Vec<_> = block_on(life.states().collect());
        assert_eq!(late, [Closed]);
    }

    #[test]
    fn who_falls_far_behind_goes_on_with_what_is_known() {
        let life = Arc::new(Life::new(1));
        let states = life.states();
        life.opened();
        for _ in 0..HISTORY_MAX {
            life.reopens();
            life.opened();
        }
        life.becomes(Failed);
        let told: Vec<_> = block_on(states.collect());
        assert_eq!((told.len(), told.last()), (HISTORY_MAX, Some(&Failed)));
    }
}
