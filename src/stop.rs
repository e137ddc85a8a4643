//! When the process is asked to end.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

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

/// Somebody who ends in good order at the next SIGTERM or SIGINT (Ctrl-C). The one after that ends the process.
#[derive(Debug)]
pub(crate) struct Asked {
    listener: Arc<Listener>,
    /// How many signals there were when it began to wait: whether it is still one of those that wait.
    seen: u64,
}

impl Asked {
    pub(crate) fn listen() -> Result<Self> {
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

    /// Waits for the signal.
    pub(crate) async fn wait(&self) {
        self.listener.raised.after(self.seen).await;
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
