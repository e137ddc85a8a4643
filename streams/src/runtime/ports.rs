//! What an application runs on.

use std::sync::Arc;

use headwater_core::{Clock, Log, StateBackend, SystemClock};

/// The ports of an application to the world outside.
#[derive(Clone)]
pub struct Ports {
    /// Holds its topics and positions.
    pub log: Arc<dyn Log>,
    /// Holds its state.
    pub state: Arc<dyn StateBackend>,
    /// Tells when punctuations by the wall clock are due, and nothing else. Workers that wait for one count on it to go as
    /// fast as time.
    pub clock: Arc<dyn Clock>,
}

impl Ports {
    /// On `log` and `state`, with the clock of the machine.
    pub fn new(log: Arc<dyn Log>, state: Arc<dyn StateBackend>) -> Self {
        Self { log, state, clock: Arc::new(SystemClock) }
    }
}
