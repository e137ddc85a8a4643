//! What happens to a log, as values.

use std::num::NonZeroU32;

use crate::{
    Committed, GroupId, Offset, Partition, ProducerName, RecordBatch, Timestamp, TopicConfig, TopicSpec,
    Written,
};

/// Number of a topic; never used again for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TopicId(pub u32);

/// A partition by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Its topic.
    pub topic: TopicId,
    /// Its number in the topic.
    pub partition: Partition,
}

/// One of the producers that were opened, one after another, under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Incarnation {
    /// Number of the name.
    pub id: i64,
    /// Which of them.
    pub epoch: i16,
}

/// The unit of change. A commit is several, which become durable together.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    /// A topic exists from here on.
    TopicCreated {
        /// Its number.
        id: TopicId,
        /// Name, partitions, settings.
        spec: TopicSpec,
    },
    /// A topic has other settings from here on.
    TopicAltered {
        /// Its number.
        id: TopicId,
        /// All its settings.
        config: TopicConfig,
    },
    /// A topic has more partitions from here on.
    PartitionsAdded {
        /// Its number.
        id: TopicId,
        /// How many it has now.
        partitions: NonZeroU32,
    },
    /// A topic is gone, with its records and the positions in it.
    TopicDeleted {
        /// Its number.
        id: TopicId,
    },
    /// Records of a partition are gone.
    RecordsDeleted {
        /// Its partition.
        place: Place,
        /// The first offset that is left.
        before: Offset,
    },
    /// Earlier producers of this name are fenced from here on.
    ProducerOpened {
        /// Its name.
        name: ProducerName,
        /// Its number.
        producer: Incarnation,
    },
    /// Producers were looked through: from here on those that are idle must be used again, or are forgotten the next time.
    ProducersReviewed {
        /// When.
        at: Timestamp,
        /// The number of the next new name, or a lower one.
        next_id: i64,
        /// Numbers of the names that nobody knows any more.
        forgotten: Vec<i64>,
    },
    /// A batch, with its final offset.
    Batch {
        /// Its partition.
        place: Place,
        /// It.
        batch: RecordBatch,
    },
    /// A group has moved on.
    Positions(GroupPositions),
    /// A group and its positions are gone.
    GroupDeleted(GroupId),
}

impl Entry {
    /// Whether there are other partitions from here on.
    #[must_use]
    pub fn changes_partitions(&self) -> bool {
        matches!(self, Self::TopicCreated { .. } | Self::PartitionsAdded { .. } | Self::TopicDeleted { .. })
    }
}

/// [`Positions`](crate::Positions) with partitions by number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupPositions {
    /// Whose they are.
    pub group: GroupId,
    /// One for each partition that moved.
    pub committed: Vec<(Place, Committed)>,
}

impl GroupPositions {
    /// About how much memory they take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let each = self.committed.iter().map(|(_, committed)| 32 + committed.metadata.len());
        self.group.0.len() + each.sum::<usize>()
    }

    /// The partitions in which they are.
    pub fn places(&self) -> impl Iterator<Item = Place> + '_ {
        self.committed.iter().map(|(place, _)| *place)
    }
}

/// What a producer wants written, all or nothing.
#[derive(Debug)]
pub struct Commit {
    /// Who.
    pub producer: Incarnation,
    /// Batches of any partitions, in order within each.
    pub batches: Vec<(Place, RecordBatch)>,
    /// Input positions.
    pub positions: Option<GroupPositions>,
}

/// What a [`Commit`] comes to.
#[derive(Debug, Default)]
pub struct Decision {
    /// What is to be made durable. Nothing when all was written before.
    pub entries: Vec<Entry>,
    /// What to answer.
    pub written: Vec<Written>,
}
