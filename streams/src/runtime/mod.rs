//! How a topology runs: from settings and plan to workers, tasks, commits and restarts.

pub(crate) mod calls;
pub(crate) mod context;
pub(crate) mod lanes;
pub(crate) mod punctuation;

mod board;
mod commit;
mod dead_letters;
mod inputs;
mod life;
mod metrics;
pub(crate) mod panic;
mod partitions;
mod plan;
mod ports;
mod positions;
mod restarts;
mod restore;
mod settings;
pub(crate) mod sinks;
mod streams;
mod task;
mod worker;

pub(crate) use self::{
    board::Board,
    metrics::MetricsSink,
    plan::{Plan, changelog_topic, check, repartition_topic},
    positions::Metadata,
    worker::{Turn, Worker, version},
};
pub use self::{
    life::StreamsState,
    metrics::{Metrics, TaskMetrics},
    ports::Ports,
    positions::position_at,
    punctuation::{Punctuate, Punctuation},
    settings::{ErrorPolicy, InputOrder, Settings},
    streams::Streams,
};
