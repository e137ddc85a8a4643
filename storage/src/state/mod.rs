//! Engines that keep the state of tasks on disk. Each implements [`StateBackend`](headwater_core::StateBackend) and
//! passes `contract::state`; the one in memory is [`MemoryBackend`](headwater_core::memory::MemoryBackend).

#[cfg(feature = "rocksdb")]
mod rocks;

#[cfg(feature = "rocksdb")]
pub use self::rocks::{RocksBackend, RocksOptions};
