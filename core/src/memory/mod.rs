//! The ports without a disk: for tests, for trying things out, and as the model of the others.

mod cleaning;
mod log;
pub use self::log::MemoryLog;
mod state;
pub use self::state::MemoryBackend;
