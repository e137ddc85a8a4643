//! Replays: that they are exactly what was asked for, the same every time, and nobody else's business.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "what only the other tests with faults need")]
#[path = "../faults/ports.rs"]
mod ports;

mod closed;
mod crashed;
mod cuts;
mod own_log;
mod refused;
mod resumed;
mod same;
mod skipped;
mod sources;
mod warm_up;
mod world;
