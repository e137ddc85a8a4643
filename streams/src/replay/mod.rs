//! The same topology over events of the past: what today's code would have said last month.
//!
//! A [`Plan`] says what is read of each source partition, and in which phases; a [`Run`] does it. Sources are read where they
//! are, and never written to: all that comes of a replay, positions, internal topics and state included, goes into a log and a
//! state of its own. So it does not matter to it who else reads and writes the sources, and nobody notices it.
//!
//! What is replayed is bounded, so that two replays of one plan write the same records, whatever the number of workers and
//! wherever one was stopped and went on. The exception is a topic that the topology both writes and reads, for which each
//! of its writers keeps its order, and nobody that between them.
//!
//! # Phases
//! 1. *Tables.* Sources that do nothing but fill tables are read from their beginning up to where the warm-up begins, or the
//!    range, if there is none: joins see tables as they were then.
//! 2. *Warm-up.* All sources, from so long before the range up to it.
//! 3. *Range.* All sources, `from..until`.
//!
//! What the first two write to output topics is dropped, and counted apart. What a topology does beyond topics and stores is not
//! known here: `for_each`, `peek` and calls of `map_async` happen in a replay as they did live, in all phases.
//!
//! # Example
//! ```
//! use std::sync::Arc;
//! use headwater_core::{
//!     BatchBuilder, Headers, Log, Partition, ProducerName, Timestamp, TopicName, TopicPartition, TopicSpec,
//!     memory::{MemoryBackend, MemoryLog},
//! };
//! use headwater_streams::{Settings, StreamsBuilder, replay::{Options, Plan, Position, Run}};
//!
//! # futures::executor::block_on(async {
//! let live = Arc::new(MemoryLog::default());
//! live.create_topic(&TopicSpec::new("readings", 1)?).await?;
//! let partition = TopicPartition::new(TopicName::new("readings")?, Partition(0));
//! let mut producer = live.producer(&ProducerName("sensors".into())).await?;
//! let mut batch = BatchBuilder::default();
//! for (at, reading) in [(10, 7u64), (30, 90), (20, 95), (40, 99)] {
//!     batch.push(Timestamp(at), Some(b"boiler"), Some(&reading.to_be_bytes()), &Headers::new());
//! }
//! producer.append(&partition, &mut batch)?;
//! producer.commit(None).await?;
//!
//! let builder = StreamsBuilder::new();
//! builder.stream::<String, u64>("readings").filter(|_, reading| *reading > 80).to("alerts");
//! let topology = builder.build()?;
//! let settings = Settings::new("alerting");
//!
//! // From 20 ms up to, and without, 40 ms.
//! let options = Options {
//!     from: Position::Time(Timestamp(20)),
//!     until: Position::Time(Timestamp(40)),
//!     ..Options::default()
//! };
//! let plan = Plan::resolve(&topology, &settings, &options, Timestamp(50), &*live).await?;
//! let own = Arc::new(MemoryLog::default());
//! let state = Arc::new(MemoryBackend::default());
//! let run = Run::start(&topology, settings, &plan, live.clone(), own.clone(), state).await?;
//! let report = run.finish().await?;
//! assert_eq!((report.sources["readings"], report.outputs["alerts"]), (2, 2));
//! # Ok::<(), headwater_core::Error>(()) }).unwrap();
//! ```

mod cut;
mod graph;
mod pace;
mod plan;
mod position;
mod positions;
mod progress;
mod report;
mod resolve;
mod run;
mod view;

pub mod diff;

pub(crate) use self::pace::Pace;
pub use self::{
    plan::{Phase, Plan, Range},
    position::{Options, Position},
    progress::{Progress, Watch},
    report::Report,
    run::Run,
};
