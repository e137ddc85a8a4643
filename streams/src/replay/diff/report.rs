//! What was found.

use headwater_core::{Offset, Partition, Timestamp, TopicName};
use serde::{Serialize, Serializer};

use super::tally::Counts;
use crate::OutputKind;

/// One of the live run, one of the replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Sides<T> {
    /// What the live run wrote.
    pub live: T,
    /// What the replay wrote.
    pub replayed: T,
}

/// What a key that is not equal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Only the live run wrote it.
    Missing,
    /// Only the replay wrote it.
    Extra,
    /// Both wrote it, and not the same.
    Different,
    /// It reaches over a border of the range, so that the replay could not know all that it depends on.
    NotComparable,
    /// The last values are the same, those before are not, or another number.
    Intermediate,
}

/// What differs between a live run and a replay. Prints itself as tables.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct Diff {
    /// One for each output, in the order in which they were given.
    pub topics: Vec<TopicDiff>,
    /// How many outputs were not compared because each record chooses its topic.
    pub computed: u32,
    /// What there is to know of all of them.
    pub notes: Vec<String>,
}

impl Diff {
    /// Whether nothing is missing, extra or different. Intermediate updates, and what cannot be compared, do not count.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.topics.iter().all(TopicDiff::is_empty)
    }
}

/// What differs in one topic. Numbers are of keys, unless they say that they are not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TopicDiff {
    /// Its name.
    #[serde(serialize_with = "text")]
    pub topic: TopicName,
    /// How its keys are compared.
    pub kind: OutputKind,
    /// How many partitions it has; 0 where there is no such topic.
    pub partitions: Sides<u32>,
    /// How many records of the range it has.
    pub records: Sides<u64>,
    /// Both sides say the same.
    pub equal: u64,
    /// Only the live run wrote them.
    pub missing: u64,
    /// Only the replay wrote them.
    pub extra: u64,
    /// Both sides wrote them, and not the same.
    pub different: u64,
    /// Of the equal ones: those whose updates before the last differ.
    pub intermediate: u64,
    /// They differ where they reach over a border of the range. A key without window may be here and also among the others.
    pub not_comparable: u64,
    /// What there is to know besides.
    pub notes: Vec<String>,
    /// Some of the keys that are not equal, by class, and those that came first first.
    pub examples: Vec<Example>,
}

impl TopicDiff {
    pub(super) fn new(
        topic: &TopicName,
        kind: OutputKind,
        partitions: Sides<u32>,
        counts: Counts,
        examples: Vec<Example>,
    ) -> Self {
        let Counts { records, equal, missing, extra, different, intermediate, not_comparable } = counts;
        Self {
            topic: topic.clone(),
            kind,
            partitions,
            records,
            equal,
            missing,
            extra,
            different,
            intermediate,
            not_comparable,
            notes: Vec::new(),
            examples,
        }
    }

    pub(super) fn with_notes(mut self, notes: Vec<String>) -> Self {
        self.notes = notes;
        self
    }

    /// Whether nothing is missing, extra or different.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.missing == 0 && self.extra == 0 && self.different == 0
    }

    /// How many keys are of a class.
    #[must_use]
    pub fn count(&self, class: Class) -> u64 {
        match class {
            Class::Missing => self.missing,
            Class::Extra => self.extra,
            Class::Different => self.different,
            Class::NotComparable => self.not_comparable,
            Class::Intermediate => self.intermediate,
        }
    }
}

/// A key that is not equal, and the first of its records that are not, or the last ones of an update topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Example {
    /// What it is.
    pub class: Class,
    /// The key as people read it; see [`Output::show_key`](crate::Output::show_key).
    pub key: String,
    /// Why it cannot be compared.
    pub reason: Option<&'static str>,
    /// How many records of the range each side has for the key.
    pub counts: Sides<u32>,
    /// How many of them are the same before the two that are shown.
    pub same: Option<u32>,
    /// The two; `None` where a side has no more.
    pub records: Sides<Option<ShownRecord>>,
}

/// A record as people read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ShownRecord {
    /// Where it lies.
    pub partition: Partition,
    /// Where it lies in there.
    #[serde(serialize_with = "offset")]
    pub offset: Offset,
    /// Its time, in milliseconds since the epoch.
    #[serde(serialize_with = "timestamp")]
    pub timestamp: Timestamp,
    /// Its value, cut off behind some hundred characters.
    pub value: String,
    /// Its headers, values cut off likewise.
    pub headers: Vec<(String, String)>,
}

fn text<S: Serializer>(topic: &TopicName, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(topic.as_str())
}

fn offset<S: Serializer>(offset: &Offset, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(offset.0)
}

fn timestamp<S: Serializer>(timestamp: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_i64(timestamp.0)
}
