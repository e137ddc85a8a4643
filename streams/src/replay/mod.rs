//! Replay: the same topology over what happened before, and what came out of it this time.

pub mod diff;
