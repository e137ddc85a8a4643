//! What the producer promises, on the log in memory and on the embedded one.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "producer/batching.rs"]
mod batching;
#[path = "producer/logs.rs"]
mod logs;
#[path = "producer/sending.rs"]
mod sending;
#[path = "producer/transactions.rs"]
mod transactions;
