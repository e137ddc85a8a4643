//! When the process is asked to end.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
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
    /// How many wait to be asked. A signal that nobody waits for ends the process, as it does without us.
    waiting: AtomicUsize,
}

/// Somebody who ends in good order at the next SIGTERM or SIGINT (Ctrl-C). The one after that ends the process.
#[derive(Debug)]
pub(crate) struct Asked {
    listener: Arc<Listener>,
    seen: u64,
}

impl Asked {
    pub(crate) fn listen() -> Result<Self> {
        let mut listener = LISTENER.lock().unwrap_or_else(PoisonError::into_inner);
        let listener = match &*listener {
            Some(listener) => Arc::clone(listener),
            None => Arc::clone(listener.insert(Listener::start()?)),
        };
        let seen = listener.raised.count();
        listener.waiting.fetch_add(1, Ordering::SeqCst);
        Ok(Self { listener, seen })
    }

    /// Waits for the signal.
    pub(crate) async fn wait(&self) {
        self.listener.raised.after(self.seen).await;
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        let fewer = |waiting: usize| Some(waiting.saturating_sub(1));
        let _ = self.listener.waiting.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fewer);
    }
}

impl Listener {
    fn start() -> Result<Arc<Self>> {
        let failed = |e| Error::io("cannot listen to signals", e);
        let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(failed)?;
        let listener = Arc::new(Self::default());
        let told = Arc::clone(&listener);
        let listen = move || {
            for signal in signals.forever() {
                if told.waiting.swap(0, Ordering::SeqCst) > 0 {
                    told.raised.raise();
                } else {
                    let _ = emulate_default_handler(signal);
                }
            }
        };
        thread::Builder::new().name("headwater-signals".into()).spawn(listen).map_err(failed)?;
        Ok(listener)
    }
}
