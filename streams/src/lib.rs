//! Headwater's DSL, topologies, operators and runtime. Knows neither the embedded log nor Kafka: it reaches the outside
//! only through the ports of `headwater-core`.
//!
//! Begin with [`StreamsBuilder`]; [`KStream`] and [`KTable`] have the operators; [`Processor`] is for your own; [`Streams`] runs a
//! [`Topology`]; [`testing`] runs one in a test, without a log on disk, without threads and without waiting.

mod builder;
mod edge;
mod join_windows;
mod ops;
mod process;
mod runtime;
mod sessions;
mod state;
mod stream;
mod table;
mod topology;
mod windows;

pub mod replay;
pub mod testing;

/// So that the examples of the guide are compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../docs/from-kafka-streams.md")]
struct GuideFromKafkaStreams;

pub use self::{
    builder::StreamsBuilder,
    join_windows::JoinWindows,
    ops::{
        BranchedStream, Concurrency, Consumed, Emit, KGroupedStream, KGroupedTable, OffsetReset, Produced,
        SessionTable, StreamJoined, WindowedStream, WindowedTable,
    },
    process::{Processor, ProcessorContext},
    runtime::{
        ErrorPolicy, InputOrder, Metrics, Ports, Punctuate, Punctuation, Settings, Streams, StreamsState,
        TaskMetrics, position_at,
    },
    sessions::{Session, SessionWindows, session_windowed_serde},
    state::{KeyValueHandle, KeyValueStore, Order, StoreHandle},
    stream::KStream,
    table::KTable,
    topology::{Output, OutputKind, PlanFormat, TopicRole, Topology},
    windows::{TimeWindows, Window, Windowed, Windows, windowed_serde},
};
