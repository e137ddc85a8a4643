//! Replays: that they are exactly what was asked for, the same every time, and nobody else's business.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cuts;
mod refused;
mod resumed;
mod warm_up;
mod world;
