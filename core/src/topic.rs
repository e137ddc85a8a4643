//! Topics, partitions and their names.

use std::{borrow::Borrow, fmt, num::NonZeroU32, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{Error, Result, TopicConfig};

/// Longest topic name, so that `<topic>-<partition>` fits in a file name (Kafka: `Topic.MAX_NAME_LENGTH`).
const NAME_BYTES_MAX: usize = 249;

/// The checked name of a topic: 1 to 249 of `a-z A-Z 0-9 . _ -`, and not `.` or `..` (Kafka: `Topic.validate`).
///
/// ```
/// use headwater_core::TopicName;
/// assert!(TopicName::new("sensor-readings").is_ok());
/// assert!(TopicName::new("../etc").is_err());
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName(Arc<str>);

impl TopicName {
    /// Checks and keeps `name`.
    ///
    /// # Errors
    /// `Invalid` when a topic cannot be called so.
    pub fn new(name: impl AsRef<str>) -> Result<Self> {
        let name = name.as_ref();
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if name.is_empty()
            || name.len() > NAME_BYTES_MAX
            || matches!(name, "." | "..")
            || !name.chars().all(legal)
        {
            return Err(Error::invalid(format!(
                "a topic name is 1 to {NAME_BYTES_MAX} of a-z A-Z 0-9 . _ - and not `.` or `..`. name=`{}`",
                name.escape_debug()
            )));
        }
        Ok(Self(name.into()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for TopicName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.0)
    }
}

/// Number of a partition of a topic, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Partition(pub u32);

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One partition of one topic; printed as `topic-0`, as Kafka does.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// Its topic.
    pub topic: TopicName,
    /// Its number.
    pub partition: Partition,
}

impl TopicPartition {
    /// Partition `partition` of `topic`.
    #[must_use]
    pub fn new(topic: TopicName, partition: Partition) -> Self {
        Self { topic, partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

impl fmt::Debug for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A topic: its name, how many partitions it has, and its settings.
#[derive(Debug, Clone, PartialEq)]
pub struct TopicSpec {
    /// Its name.
    pub name: TopicName,
    /// How many partitions it has.
    pub partitions: NonZeroU32,
    /// Its settings.
    pub config: TopicConfig,
}

impl TopicSpec {
    /// A topic with default settings.
    ///
    /// # Errors
    /// `Invalid` when the name is not legal or `partitions` is 0.
    pub fn new(name: impl AsRef<str>, partitions: u32) -> Result<Self> {
        let name = TopicName::new(name)?;
        let partitions = NonZeroU32::new(partitions)
            .ok_or_else(|| Error::invalid(format!("a topic has at least one partition. topic={name}")))?;
        Ok(Self { name, partitions, config: TopicConfig::default() })
    }

    /// Its partitions in order.
    pub fn topic_partitions(&self) -> impl Iterator<Item = TopicPartition> + '_ {
        (0..self.partitions.get()).map(|p| TopicPartition::new(self.name.clone(), Partition(p)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_the_folder_are_refused() {
        for name in ["", ".", "..", "a/b", "a\\b", "ä", "a b", "a\0", &"x".repeat(250)] {
            assert!(TopicName::new(name).is_err(), "{name:?}");
        }
        assert!(TopicName::new("x".repeat(249)).is_ok());
    }

    #[test]
    fn a_topic_without_partitions_is_refused() {
        assert!(TopicSpec::new("t", 0).is_err());
    }
}
