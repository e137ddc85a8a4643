//! When the process is asked to end: Ctrl-C and `kill`, for work that goes on until somebody stops it.

use std::{
    future::{Future, pending},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use futures::future::{Either, select};
use headwater_core::{Error, Result, Signal};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
    low_level::emulate_default_handler,
};

/// One for the process, from its first use to its end: handlers of signals cannot be taken back.
static LISTENER: Mutex<Option<Arc<Listener>>> = Mutex::new(None);

#[derive(Debug, Default)]
struct Listener {
    raised: Signal,
    /// How many wait to be asked, since the last signal. A signal that nobody waits for ends the process, as it does without us.
    waiting: Mutex<usize>,
}

/// Tells when somebody wants the work to end: at the next SIGTERM or SIGINT (Ctrl-C) while it is held. The one after that ends
/// the process, and so does one that nobody waits for.
#[derive(Debug)]
pub struct Stop(Option<Asked>);

impl Stop {
    /// Waits to be asked from now on.
    ///
    /// # Errors
    /// `Unavailable` when the system does not let us listen.
    pub fn listen() -> Result<Self> {
        Asked::listen().map(Some).map(Self)
    }

    /// Nobody asks.
    #[must_use]
    pub fn never() -> Self {
        Self(None)
    }

    /// Whether the work shall end.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.0.as_ref().is_some_and(|asked| asked.listener.raised.count() > asked.seen)
    }

    /// Waits until the work shall end.
    pub async fn asked(&self) {
        match &self.0 {
            Some(asked) => drop(asked.listener.raised.after(asked.seen).await),
            None => pending().await,
        }
    }

    /// What comes out of `work`, or `None` when it shall end before.
    pub async fn or<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        match select(pin!(work), pin!(self.asked())).await {
            Either::Left((done, _)) => Some(done),
            Either::Right(_) => None,
        }
    }
}

#[derive(Debug)]
struct Asked {
    listener: Arc<Listener>,
    /// How many signals there were when it began to wait: whether it is still one of those that wait.
    seen: u64,
}

impl Asked {
    fn listen() -> Result<Self> {
        let mut listener = LISTENER.lock().unwrap_or_else(PoisonError::into_inner);
        let listener = match &*listener {
            Some(listener) => Arc::clone(listener),
            None => Arc::clone(listener.insert(Listener::start()?)),
        };
        let seen = {
            let mut waiting = listener.waiting();
            *waiting += 1;
            listener.raised.count()
        };
        Ok(Self { listener, seen })
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        let mut waiting = self.listener.waiting();
        // A signal since then has taken it away already: those that wait now are others.
        if self.listener.raised.count() == self.seen {
            *waiting -= 1;
        }
    }
}

impl Listener {
    fn waiting(&self) -> MutexGuard<'_, usize> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start() -> Result<Arc<Self>> {
        let failed = |e| Error::io("cannot listen to signals", e);
        let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(failed)?;
        let listener = Arc::new(Self::default());
        let told = Arc::clone(&listener);
        let listen = move || {
            for signal in signals.forever() {
                let mut waiting = told.waiting();
                if *waiting == 0 {
                    let _ = emulate_default_handler(signal);
                } else {
                    // Both under the lock, so that whoever comes counts either before or behind this signal.
                    *waiting = 0;
                    told.raised.raise();
                }
            }
        };
        thread::Builder::new().name("headwater-signals".into()).spawn(listen).map_err(failed)?;
        Ok(listener)
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::*;

    #[test]
    fn work_that_waits_ends_when_it_is_asked_to() {
        let listener = Arc::new(Listener::default());
        *listener.waiting() += 1;
        let stop = Stop(Some(Asked { listener: Arc::clone(&listener), seen: 0 }));
        assert!(!stop.is_asked());
        assert_eq!(block_on(stop.or(async { 7 })), Some(7));
        listener.raised.raise();
        assert!(stop.is_asked());
        assert_eq!(block_on(stop.or(pending::<()>())), None);
        assert!(!Stop::never().is_asked());
    }
}
