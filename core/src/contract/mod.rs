//! The suites that every implementation of a port passes. They panic where it does not.

pub mod log;
pub mod state;
