//! What producer and consumer promise, on the log in memory and on the embedded one.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod batching;
mod groups;
mod logs;
mod reading;
mod sending;
mod transactions;
