//! The port for whoever looks after a log: what tools need of it, and running programs do not.

use std::num::NonZeroU32;

use async_trait::async_trait;

use crate::{Committed, GroupId, Log, Offset, Result, TopicName, TopicPartition, TopicSpec};

/// What is to change of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TopicChanges {
    /// How many partitions it shall have: as many as now, or more. The keys of records that are there stay where they are.
    pub partitions: Option<NonZeroU32>,
    /// Settings by Kafka's names, and their new values; `None` for the default.
    pub settings: Vec<(String, Option<String>)>,
}

/// A log that can be looked after. All changes are durable when a call returns. On a full disk they may be refused with
/// `Full`, those that free space last of all; nothing was changed then.
#[async_trait]
pub trait Admin: Log {
    /// Changes settings of a topic, adds partitions to it, or both at once; returns what it is then.
    ///
    /// # Errors
    /// `Invalid` when there is no such topic, it would have fewer partitions, or a setting or its value makes no sense;
    /// nothing is changed then.
    async fn alter_topic(&self, topic: &TopicName, changes: &TopicChanges) -> Result<TopicSpec>;

    /// Deletes a topic, its records, and what groups have committed in it. A new topic of this name begins empty.
    ///
    /// # Errors
    /// `Invalid` when there is no such topic.
    async fn delete_topic(&self, topic: &TopicName) -> Result<()>;

    /// Deletes the records of a partition before `before`, which becomes its earliest offset unless it has a later one;
    /// returns the earliest offset (Kafka: `DeleteRecords`).
    ///
    /// # Errors
    /// `Invalid` when there is no such partition, or `before` lies behind its end.
    async fn delete_records(&self, partition: &TopicPartition, before: Offset) -> Result<Offset>;

    /// How many bytes the batches of a partition take, as they are kept: with those that share a segment with records that
    /// can still be read, and without indexes (Kafka: `DescribeLogDirs`).
    ///
    /// # Errors
    /// `Invalid` when there is no such partition.
    async fn size(&self, partition: &TopicPartition) -> Result<u64>;

    /// The groups that have committed something, by name.
    ///
    /// # Errors
    /// `Unavailable`, `Closed`.
    async fn groups(&self) -> Result<Vec<GroupId>>;

    /// All that a group has committed, by partition; nothing when there is no such group.
    ///
    /// # Errors
    /// `Unavailable`, `Closed`.
    async fn positions(&self, group: &GroupId) -> Result<Vec<(TopicPartition, Committed)>>;

    /// Forgets a group and all that it has committed.
    ///
    /// # Errors
    /// `Invalid` when there is no such group.
    async fn delete_group(&self, group: &GroupId) -> Result<()>;

    /// Does now what is done in the background from time to time: deletes and compacts what the topics' settings say.
    ///
    /// # Errors
    /// `Unavailable` when the disk fails, `Closed`.
    async fn clean(&self) -> Result<Cleaned>;
}

/// What cleaning came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cleaned {
    /// Bytes of records that were deleted by age and size.
    pub deleted_bytes: u64,
    /// Bytes of records that were read to compact them.
    pub compacted_bytes: u64,
    /// Of these, bytes that are still there.
    pub kept_bytes: u64,
}
