//! Groups: readers that share the partitions of topics among them.
//!
//! Read in this order: this file (the port), `state` (the rules, without locks and time), `assign` (who gets what),
//! `coordinator` (the rules behind one lock, for logs of one process). `docs/decisions/0014-group-members.md` says why they
//! look so.

mod assign;
mod coordinator;
mod state;

use std::{collections::BTreeSet, fmt};

use async_trait::async_trait;

pub use self::{assign::Assignor, coordinator::Coordinator};
use crate::{Result, TopicName, TopicPartition};

/// One of those who read as a group; no number is given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub u64);

/// Counts how often the partitions of a group were shared out anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Generation(pub u32);

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Who commits positions: with it they are taken only while the partitions are that member's (Kafka:
/// `ConsumerGroupMetadata`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Membership {
    /// The member.
    pub member: MemberId,
    /// The last generation that it has heard of.
    pub generation: Generation,
}

/// Which topics a member reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Topics {
    /// These, once they are there.
    Named(BTreeSet<TopicName>),
    /// All whose names begin so, those that will be created too.
    Prefix(String),
}

impl Topics {
    /// Whether `topic` is one of them.
    #[must_use]
    pub fn contains(&self, topic: &TopicName) -> bool {
        match self {
            Topics::Named(names) => names.contains(topic),
            Topics::Prefix(prefix) => topic.as_str().starts_with(prefix.as_str()),
        }
    }
}

/// What a member asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// What it reads.
    pub topics: Topics,
    /// How the group shares partitions out. All members say the same.
    pub assignor: Assignor,
}

/// What a member is told, one after another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupEvent {
    /// These are the member's from now on. What their former owners committed can be read.
    Assigned(Vec<TopicPartition>),
    /// These are to be given up: finish what is begun, commit, and [`Member::release`] them. Nobody else has them before
    /// that. Said again until it is done.
    Revoked(Vec<TopicPartition>),
    /// These are gone, because their topics are.
    Lost(Vec<TopicPartition>),
    /// It is no member any more, and nothing is its own.
    Evicted,
}

/// A place in a group. Dropping it leaves the group.
#[async_trait]
pub trait Member: Send + Sync {
    /// For the positions that it commits. Changes with what [`Member::next`] says.
    fn membership(&self) -> Membership;

    /// Waits for what is to be done next. Safe to drop half way.
    ///
    /// # Errors
    /// `Closed` when nothing more can come, `Unavailable`.
    async fn next(&self) -> Result<GroupEvent>;

    /// Gives up partitions, which others may have then.
    ///
    /// # Errors
    /// `Unavailable`, `Closed`.
    async fn release(&self, partitions: &[TopicPartition]) -> Result<()>;

    /// Reads other topics from now on.
    ///
    /// # Errors
    /// `Invalid` when the assignor is not that of the group; `Fenced` when it is no member any more.
    async fn subscribe(&self, subscription: &Subscription) -> Result<()>;

    /// Leaves the group: all that it had may go to others at once, and what it commits from now on is refused.
    fn leave(&self);
}
