//! Clients of a log: a [`Producer`] and a [`Consumer`] as Kafka's, on every [`Log`](headwater_core::Log).

mod consumer;
mod producer;

pub use self::{
    consumer::{
        Batch, BatchRecords, Consumer, ConsumerBuilder, ConsumerRecord, Isolation, OffsetReset, Rebalance,
        RebalanceListener,
    },
    producer::{Delivery, Outgoing, Partitioner, Producer, ProducerBuilder, RecordMetadata},
};
