#![doc = include_str!("../README.md")]
//!
//! # Where to go from here
//! [`StreamsBuilder`] begins a program, [`KStream`] has its operators, [`Embedded`] runs it on the embedded log,
//! [`testing::TopologyTestDriver`] in a test. Whoever only writes or reads has a producer and a consumer in
//! [`client`]. The vocabulary (records, serdes, the `Log` port) is in [`core`], the log and the state engine in [`storage`].

/// So that the examples of the guide are compiled.
#[cfg(doctest)]
#[doc = include_str!("../docs/app.md")]
struct GuideApp;

mod app;
mod embedded;
mod position;
mod reading;
mod replays;
mod reset;

pub use headwater_client as client;
pub use headwater_core as core;
pub use headwater_core::{Error, ErrorKind, Record, Result, Timestamp, serdes};
pub use headwater_storage as storage;
pub use headwater_streams::*;

pub use self::{
    app::{App, Exit, NoArgs},
    embedded::Embedded,
    position::parse_position,
    replays::{Replay, ReplaySummary, Replays, RunningReplay},
    reset::{DeletedTopic, Moved, Reset, ResetPlan},
};

/// What most programs need: `use headwater::prelude::*;`.
pub mod prelude {
    pub use headwater_core::{
        Data, DefaultSerde, Error, ErrorKind, Headers, Record, Result, Serde, SerdeRef, Timestamp, serdes,
    };
    pub use headwater_streams::{
        Concurrency, Consumed, Emit, ErrorPolicy, JoinWindows, KStream, KTable, KeyValueHandle, OffsetReset,
        Order, PlanFormat, Processor, ProcessorContext, Produced, Punctuate, Punctuation, Session,
        SessionWindows, Settings, StreamJoined, Streams, StreamsBuilder, StreamsState, TimeWindows, Topology,
        Windowed, session_windowed_serde, windowed_serde,
    };

    pub use crate::{App, Embedded, Replay, Reset};
}
