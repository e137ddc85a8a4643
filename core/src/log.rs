//! The port to the outside world: everything Headwater needs from a log, and nothing else.
//!
//! Implementations: [`MemoryLog`](crate::memory::MemoryLog) here, the embedded log in `headwater-storage`. All pass
//! `contract::log`. `docs/decisions/0005-what-log-needs.md` says why it has these methods and no others.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{
    BatchBuilder, Member, Membership, Offset, RecordBatch, Result, Subscription, Timestamp, TopicPartition,
    TopicSpec,
};

/// Who reads: positions are committed under this name (Kafka: `group.id`; an application's id).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupId(pub String);

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who writes: opening a producer fences every earlier one of the same name (Kafka: `transactional.id`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProducerName(pub String);

impl fmt::Display for ProducerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What can be read of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionOffsets {
    /// The first offset that is still there.
    pub earliest: Offset,
    /// The offset that the next record will get. All before it is committed and, in mode `fsync`, on disk.
    pub end: Offset,
}

/// Where in a partition a record of some time is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimedOffset {
    /// Its offset.
    pub offset: Offset,
    /// Its time.
    pub timestamp: Timestamp,
}

/// What a read found.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// Whole batches in the order of their offsets. The first may begin before the offset that was asked for.
    pub batches: Vec<RecordBatch>,
    /// The end of the partition when it was read.
    pub end: Offset,
}

/// A position that a group has reached in a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The next offset to process.
    pub offset: Offset,
    /// What the reader needs to go on from there; opaque to the log.
    pub metadata: Bytes,
}

/// Input positions that become durable together with what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Positions {
    /// Whose they are.
    pub group: GroupId,
    /// One for each partition that moved.
    pub committed: Vec<(TopicPartition, Committed)>,
    /// Which member of the group commits them, and only while the partitions are its own; `None` for somebody who shares
    /// them with nobody.
    pub member: Option<Membership>,
}

impl Positions {
    /// Positions of somebody who is no member.
    #[must_use]
    pub fn new(group: GroupId, committed: Vec<(TopicPartition, Committed)>) -> Self {
        Self { group, committed, member: None }
    }
}

/// Where a commit wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The partition.
    pub partition: TopicPartition,
    /// Offset of the first record of this commit.
    pub base: Offset,
    /// The offset after its last record.
    pub next: Offset,
}

/// Counts visible changes of a log; see [`Log::appended`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct LogVersion(pub u64);

/// A partitioned, durable, append-only log.
///
/// Every reader sees committed records only, in offset order; of a topic that is not compacted, every one. All methods may
/// be called from any thread.
#[async_trait]
pub trait Log: Send + Sync + 'static {
    /// Makes sure that the topic exists.
    ///
    /// # Errors
    /// `Invalid` when it exists with another number of partitions, `Full` when there is no room for it. Settings of an existing topic stay as they are.
    async fn create_topic(&self, spec: &TopicSpec) -> Result<()>;

    /// All topics, by name.
    ///
    /// # Errors
    /// `Unavailable`, `Closed`.
    async fn topics(&self) -> Result<Vec<TopicSpec>>;

    /// What can be read of a partition.
    ///
    /// # Errors
    /// `Invalid` when there is no such partition.
    async fn offsets(&self, partition: &TopicPartition) -> Result<PartitionOffsets>;

    /// Reads whole batches, from the one that holds `from` on: at least one if there is one, and no more than
    /// `bytes_max` bytes beyond the first. Nothing when `from` is the end. Never waits.
    ///
    /// Batches cover all offsets: each begins where the one before ended. Their records may not, where a topic is
    /// compacted: a batch may hold few, or none at all. Go on at the last batch's [`RecordBatch::next_offset`].
    ///
    /// # Errors
    /// `Invalid` when there is no such partition, or `from` is outside `earliest..=end`; `Corrupt` with the place of
    /// the damage when the bytes on disk are not those that were written.
    async fn read(&self, partition: &TopicPartition, from: Offset, bytes_max: usize) -> Result<Fetched>;

    /// The first record that is not older than `time` and can still be read; `None` when all are older (Kafka:
    /// `offsetsForTimes`).
    ///
    /// # Errors
    /// `Invalid` when there is no such partition; `Corrupt` as for [`Log::read`].
    async fn offset_at(&self, partition: &TopicPartition, time: Timestamp) -> Result<Option<TimedOffset>>;

    /// Opens a producer and fences every earlier one of the same name. One that is held stays what it is, however long it is
    /// idle; a name that nobody holds may be forgotten after a while, and is a new one then.
    ///
    /// # Errors
    /// `Unavailable`, `Full`, `Closed`.
    async fn producer(&self, name: &ProducerName) -> Result<Box<dyn Producer>>;

    /// The position that `group` has committed in `partition`.
    ///
    /// # Errors
    /// `Unavailable`, `Closed`.
    async fn committed(&self, group: &GroupId, partition: &TopicPartition) -> Result<Option<Committed>>;

    /// Makes positions durable that go with no record: those of a reader that writes elsewhere, or of somebody who sends a
    /// group back. With none at all it only waits: what was decided before can be read then.
    ///
    /// # Errors
    /// `Invalid` when a partition does not exist, `Fenced` when they are of a member and a partition is not its own;
    /// nothing is committed then.
    async fn commit_positions(&self, positions: &Positions) -> Result<()>;

    /// Becomes a member of `group`, which shares the partitions of what its members subscribe to among them.
    ///
    /// # Errors
    /// `Invalid` when the members disagree on how to share, or nobody can be a member: that of a log that can only be
    /// read.
    async fn join(&self, group: &GroupId, subscription: &Subscription) -> Result<Box<dyn Member>>;

    /// Waits until something became visible after `seen`, and says up to where. Returns at once when it already has.
    /// Safe to drop half way.
    ///
    /// # Errors
    /// `Closed` when nothing more can come.
    async fn appended(&self, seen: LogVersion) -> Result<LogVersion>;
}

/// Writes to a log, all or nothing. One per task.
///
/// What is appended is held back until [`Producer::commit`] and then becomes visible and durable together with the
/// positions, or not at all. A commit whose future was dropped half way is settled by the next call.
#[async_trait]
pub trait Producer: Send {
    /// Closes `batch` (which is empty afterwards and can be filled again) and holds it back until the commit.
    ///
    /// # Errors
    /// `Invalid` when there is no such partition or the batch is too large; nothing of it is kept then.
    fn append(&mut self, partition: &TopicPartition, batch: &mut BatchBuilder) -> Result<()>;

    /// Makes everything appended since the last commit, and `positions`, durable and visible at once.
    ///
    /// # Errors
    /// `Fenced` when a newer producer of this name exists: nothing was written, and never will be; or when the positions are
    /// of a member that has lost one of the partitions: nothing of this commit was written. `Unavailable`: it
    /// is not known whether it was written. Drop the producer and open a new one of its name, of the log opened anew if
    /// it has stopped: that settles it, and what can be read then, positions too, is what was written. `Full`: nothing
    /// was written, for there was no room. What was appended is still held: the same call writes it when space was freed,
    /// and [`Producer::abort`] forgets it. `Closed`: the log stopped, as it does after an error of the disk.
    async fn commit(&mut self, positions: Option<&Positions>) -> Result<Vec<Written>>;

    /// Forgets everything appended since the last commit.
    fn abort(&mut self);
}
