//! What Headwater keeps on disk: the embedded [`log`] and the [`state`] engines. Both implement ports of
//! `headwater-core`, and nothing else in the workspace knows how they do it.

mod lock;
pub mod log;
pub mod state;
