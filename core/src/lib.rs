//! Headwater's vocabulary and ports. No I/O, no async runtime.
//!
//! Read in this order: [`Record`] and [`RecordBatch`] (what flows), [`Serde`] (how values become bytes), [`Log`] (where
//! records come from and go to), [`StateBackend`] (what tasks remember), [`memory`] (both ports without a disk),
//! [`Error`] (what went wrong and what to do).

mod admin;
mod batch;
mod calendar;
pub mod checksum;
mod clock;
mod config;
mod error;
mod log;
mod partitioner;
mod record;
mod signal;
mod state;
mod topic;

#[cfg(any(test, feature = "contract"))]
pub mod contract;
pub mod group;
pub mod ledger;
pub mod memory;
pub mod serdes;

pub use self::{
    admin::{Admin, Cleaned, TopicChanges},
    batch::{
        BATCH_HEADER_BYTES, BATCH_PREFIX_BYTES, BatchBuilder, BatchHeader, BatchMark, Compression,
        DECOMPRESSED_BYTES_MAX, FoundRecords, HeadersRef, ProducerStamp, RecordBatch, RecordCursor,
        RecordRef, batch_size,
    },
    calendar::date_of_day,
    clock::{Clock, ManualClock, SystemClock},
    config::{CleanupPolicy, CompressionType, TimestampType, TopicConfig},
    error::{Error, ErrorKind, Result},
    group::{Assignor, Generation, GroupEvent, Member, MemberId, Membership, Subscription, Topics},
    log::{
        Committed, Fetched, GroupId, Log, LogVersion, PartitionOffsets, Positions, Producer, ProducerName,
        TimedOffset, Written,
    },
    partitioner::{murmur2, partition_for_key},
    record::{Data, Headers, Offset, Record, Timestamp},
    serdes::{DefaultSerde, Serde, SerdeRef},
    signal::Signal,
    state::{StateBackend, StateBatch, StateOp, StoreId, TaskId, TaskState, Visit},
    topic::{Partition, TopicName, TopicPartition, TopicSpec},
};
