//! Which operators exist: one file each, with the DSL method, its processor, its documentation and its tests.

pub(crate) mod grouped;
pub(crate) mod source;

mod branch;
mod filter;
mod flat_map;
mod for_each;
mod group_by_key;
mod map;
mod map_async;
mod map_values;
mod merge;
mod peek;
mod process;
mod repartition;
mod select_key;
mod sink;
mod stream_join;
mod table;
mod windowed;

pub use self::{
    branch::BranchedStream,
    group_by_key::KGroupedStream,
    map_async::Concurrency,
    sink::Produced,
    source::{Consumed, OffsetReset},
    stream_join::StreamJoined,
    table::KGroupedTable,
    windowed::{Emit, SessionTable, WindowedStream, WindowedTable},
};
