//! How many partitions the topics of a topology have, and how many tasks its sub-topologies.

use std::{collections::BTreeMap, num::NonZeroU32};

use headwater_core::{Error, Result, TopicName};

use crate::topology::{Copartitioned, TopicRef, Topology};

#[derive(Debug)]
pub(super) struct Partitions<'a> {
    /// Of every topic that is read.
    topics: BTreeMap<&'a TopicRef, u32>,
    /// By sub-topology: as many as its widest source topic has partitions.
    tasks: Vec<u32>,
}

impl<'a> Partitions<'a> {
    /// External topics are as they are. A repartition topic has as many partitions as the topics of the user that it
    /// meets in a store; as the widest of its group, if those are all repartition topics; and as many as its writer has
    /// tasks, if it meets nobody. Its writer may itself read one: repeat until nothing changes.
    pub(super) fn of(topology: &'a Topology, known: &BTreeMap<TopicName, NonZeroU32>) -> Result<Self> {
        let subtopologies = topology.subtopologies();
        let mut topics = BTreeMap::new();
        for topic in (0..subtopologies).flat_map(|s| topology.sources_of(s)) {
            topics.insert(topic, width_of_external(topic, known)?);
        }
        let groups = topology.copartitioned();
        groups.iter().try_for_each(|group| check(group, &topics))?;
        let mut partitions = Self { topics, tasks: vec![0; subtopologies as usize] };
        // No sub-topology is upstream of itself, so each round settles at least one more.
        for _ in 0..=subtopologies {
            for subtopology in 0..subtopologies {
                let widths = topology.sources_of(subtopology).into_iter().map(|t| partitions.topics[t]);
                partitions.tasks[subtopology as usize] = widths.max().unwrap_or(0);
            }
            partitions.widen(topology, &groups);
        }
        Ok(partitions)
    }

    fn widen(&mut self, topology: &Topology, groups: &[Copartitioned<'_>]) {
        let written = |topic: &TopicRef| match topic {
            TopicRef::External(_) => None,
            TopicRef::Repartition(name) => topology.writer_of(name).map(|s| self.tasks[s as usize]),
        };
        let mut widths: BTreeMap<&TopicRef, u32> = BTreeMap::new();
        for group in groups {
            let external = group.topics.iter().find(|t| matches!(t, TopicRef::External(_)));
            let width = match external {
                Some(topic) => self.topics[*topic],
                None => group.topics.iter().filter_map(|topic| written(topic)).max().unwrap_or(0),
            };
            widths.extend(group.topics.iter().map(|topic| (*topic, width)));
        }
        let alone = |topic: &TopicRef| widths.get(topic).copied().or_else(|| written(topic));
        let changed: Vec<(&TopicRef, u32)> =
            self.topics.keys().filter_map(|topic| Some((*topic, alone(topic)?))).collect();
        self.topics.extend(changed);
    }

    pub(super) fn tasks_of(&self, subtopology: u32) -> u32 {
        self.tasks[subtopology as usize]
    }

    /// Of a topic that is read.
    pub(super) fn width_of(&self, topic: &TopicRef) -> Option<u32> {
        self.topics.get(topic).copied()
    }
}

/// 0 for a repartition topic.
fn width_of_external(topic: &TopicRef, known: &BTreeMap<TopicName, NonZeroU32>) -> Result<u32> {
    match topic {
        TopicRef::Repartition(_) => Ok(0),
        TopicRef::External(name) => known.get(name).map(|count| count.get()).ok_or_else(|| {
            Error::invalid(format!("a source topic does not exist: create it first. topic={name}"))
        }),
    }
}

/// The user's topics of a group are divided alike.
fn check(group: &Copartitioned<'_>, widths: &BTreeMap<&TopicRef, u32>) -> Result<()> {
    let external = group.topics.iter().filter(|topic| matches!(topic, TopicRef::External(_)));
    let external: Vec<(&TopicRef, u32)> = external.map(|topic| (*topic, widths[*topic])).collect();
    let Some(other) = external.iter().find(|(_, width)| *width != external[0].1) else { return Ok(()) };
    let stores: Vec<&str> = group.stores.iter().copied().collect();
    Err(Error::invalid(format!(
        "topics that meet in a store are not co-partitioned, so records of one key would not be in one task: repartition \
         one of them. topic={}, partitions={}, topic={}, partitions={}, store=`{}`",
        external[0].0,
        external[0].1,
        other.0,
        other.1,
        stores.join("`, `")
    )))
}
