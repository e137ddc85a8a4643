//! Clients of a log: [`Producer`] and [`Consumer`](https://kafka.apache.org), as Kafka's, on every [`Log`](headwater_core::Log).

mod producer;

pub use self::producer::{Delivery, Outgoing, Partitioner, Producer, ProducerBuilder, RecordMetadata};
