//! Ctrl-C and `kill`, for work that goes on until somebody stops it.

use std::{future::Future, sync::Arc, thread};

use futures::future::{Either, select};
use headwater_core::{Error, Result, Signal};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
    low_level::emulate_default_handler,
};

/// Tells when somebody wants the work to end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop(Arc<Signal>);

impl Stop {
    /// From now on the first Ctrl-C or `kill` asks the work to end, and the next one ends the process.
    ///
    /// # Errors
    /// `Unavailable` when the system does not let us listen.
    pub(crate) fn listen() -> Result<Self> {
        let failed = |e| Error::io("cannot listen to signals", e);
        let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(failed)?;
        let stop = Self::default();
        let raised = stop.clone();
        let listen = move || {
            for (count, signal) in signals.forever().enumerate() {
                raised.0.raise();
                if count > 0 {
                    // It was asked to end and does not: the output is stuck, perhaps.
                    let _ = emulate_default_handler(signal);
                }
            }
        };
        thread::Builder::new().name("headwater-signals".into()).spawn(listen).map_err(failed)?;
        Ok(stop)
    }

    /// Whether the work shall end.
    pub(crate) fn is_asked(&self) -> bool {
        self.0.count() > 0
    }

    /// What comes out of `work`, or `None` when it shall end before.
    pub(crate) async fn or<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let asked = std::pin::pin!(self.0.after(0));
        match select(std::pin::pin!(work), asked).await {
            Either::Left((done, _)) => Some(done),
            Either::Right(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::*;

    #[test]
    fn work_that_waits_ends_when_it_is_asked_to() {
        let stop = Stop::default();
        assert!(!stop.is_asked());
        assert_eq!(block_on(stop.or(async { 7 })), Some(7));
        stop.0.raise();
        assert!(stop.is_asked());
        assert_eq!(block_on(stop.or(std::future::pending::<()>())), None);
    }
}
