//! Clients of a log: a [`Producer`] and a [`Consumer`] as Kafka's, on every [`Log`](headwater_core::Log).
//!
//! A program that reads readings, and writes alarms exactly once: what it writes and how far it has read are committed
//! together. If it is started twice, both share the partitions; if it dies, the next one begins where it had committed.
//!
//! ```
//! use std::sync::Arc;
//! use headwater_client::{Consumer, OffsetReset, Producer};
//! use headwater_core::{Log, Record, Timestamp, TopicSpec, memory::MemoryLog};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! // Or `headwater_storage::log::EmbeddedLog::open(folder)?`, which forgets nothing.
//! let log = Arc::new(MemoryLog::default());
//! log.create_topic(&TopicSpec::new("readings", 4)?).await?;
//! log.create_topic(&TopicSpec::new("alarms", 4)?).await?;
//!
//! let readings = Producer::<String, f64>::builder(log.clone()).build().await?;
//! for (sensor, celsius) in [("oven", 180.0), ("fridge", 9.5), ("oven", 260.0)] {
//!     // Waits while too much is on its way; the acknowledgement may be awaited later, or not at all.
//!     let delivery = readings.send("readings", &Record::new(sensor.into(), celsius, Timestamp(0))).await?;
//!     # drop(delivery);
//! }
//! readings.close().await?;
//!
//! let alarms = Producer::<String, f64>::builder(log.clone()).transactional_id("alarms-0").build().await?;
//! let mut consumer = Consumer::<String, f64>::builder(log.clone())
//!     .group_id("alarms")
//!     .offset_reset(OffsetReset::Earliest)
//!     .auto_commit(None)
//!     .build()?;
//! consumer.subscribe(["readings"]).await?;
//! for _ in 0..3 {
//!     let reading = consumer.recv().await?.record;
//!     alarms.begin().await?;
//!     if reading.value > 250.0 {
//!         alarms.send("alarms", &reading).await?;
//!     }
//!     alarms.send_offsets(consumer.positions()?)?;
//!     alarms.commit().await?;
//! }
//! assert!(consumer.lag().await?.iter().all(|(_, lag)| *lag == 0));
//! # let spec = TopicSpec::new("alarms", 4)?;
//! # let mut all = Consumer::<String, f64>::builder(log).offset_reset(OffsetReset::Earliest).build()?;
//! # all.assign(&spec.topic_partitions().collect::<Vec<_>>())?;
//! # assert_eq!(all.recv().await?.record.value, 260.0);
//! # Ok::<(), headwater_core::Error>(())
//! # }).unwrap();
//! ```
//!
//! [`Producer`] says what is kept in order, what is lost when, and what happens when the log cannot say whether it has
//! written. [`Consumer`] says how partitions are shared, and what may be dropped half way. `docs/decisions/0011-clients.md`
//! says why they are made so.

mod consumer;
mod producer;

pub use self::{
    consumer::{
        Batch, BatchRecords, Consumer, ConsumerBuilder, ConsumerRecord, Isolation, OffsetReset, Rebalance,
        RebalanceListener,
    },
    producer::{Delivery, Outgoing, Partitioner, Producer, ProducerBuilder, RecordMetadata},
};
