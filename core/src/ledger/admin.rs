//! Looking after a log: topics that change and go, records and groups that are deleted.

use std::num::NonZeroU32;

use super::{Entry, GroupPositions, Ledger, NEW_PARTITION, Place, Topic, TopicId, unknown_place};
use crate::{Error, GroupId, Offset, Result, TopicChanges, TopicConfig, TopicName, TopicPartition};

/// Most partitions of one topic.
pub const PARTITIONS_MAX: u32 = 1 << 20;

/// Decisions.
impl Ledger {
    /// What changes a topic; nothing when it is so already.
    ///
    /// # Errors
    /// `Invalid` when there is no such topic, or the changes make no sense.
    pub fn alter_topic(&self, name: &TopicName, changes: &TopicChanges) -> Result<Vec<Entry>> {
        let (id, topic) = self.find(name)?;
        let place = |e: Error| e.context(format!("topic={name}"));
        let mut config = topic.spec.config.clone();
        for (key, value) in &changes.settings {
            let changed = match value {
                Some(value) => config.set(key, value),
                None => config.reset(key),
            };
            changed.map_err(place)?;
        }
        let mut entries = Vec::new();
        if config != topic.spec.config {
            entries.push(Entry::TopicAltered { id, config });
        }
        let have = topic.spec.partitions;
        match changes.partitions {
            Some(partitions) if partitions < have => {
                return Err(Error::invalid(format!(
                    "a topic cannot lose partitions: make another one. topic={name}, partitions={have}, wanted={partitions}"
                )));
            }
            Some(partitions) if partitions > have => {
                check_partitions(name, partitions)?;
                entries.push(Entry::PartitionsAdded { id, partitions });
            }
            _ => {}
        }
        Ok(entries)
    }

    /// What deletes a topic.
    ///
    /// # Errors
    /// `Invalid` when there is no such topic.
    pub fn delete_topic(&self, name: &TopicName) -> Result<Entry> {
        self.find(name).map(|(id, _)| Entry::TopicDeleted { id })
    }

    /// What deletes the records before `before`; nothing when they are gone already.
    ///
    /// # Errors
    /// `Invalid` when there is no such partition, or `before` lies behind its end.
    pub fn delete_records(&self, partition: &TopicPartition, before: Offset) -> Result<Option<Entry>> {
        let place = self.place(partition)?;
        let offsets = self.offsets(place).ok_or_else(|| unknown_place(place))?;
        if before > offsets.end {
            return Err(Error::invalid(format!(
                "records cannot be deleted behind the end. partition={partition}, before={before}, end={}",
                offsets.end
            )));
        }
        Ok((before > offsets.earliest).then_some(Entry::RecordsDeleted { place, before }))
    }

    /// What deletes a group.
    ///
    /// # Errors
    /// `Invalid` when there is no such group.
    pub fn delete_group(&self, group: &GroupId) -> Result<Entry> {
        if self.positions.contains_key(group) {
            return Ok(Entry::GroupDeleted(group.clone()));
        }
        Err(Error::invalid(format!(
            "there is no such group: it has committed nothing. group={}",
            group.0.escape_debug()
        )))
    }

    /// What commits positions without records; nothing when there are none.
    ///
    /// # Errors
    /// `Invalid` when a partition does not exist.
    pub fn commit_positions(&self, positions: GroupPositions) -> Result<Option<Entry>> {
        for (place, _) in &positions.committed {
            self.end(*place).ok_or_else(|| unknown_place(*place))?;
        }
        Ok((!positions.committed.is_empty()).then_some(Entry::Positions(positions)))
    }

    fn find(&self, name: &TopicName) -> Result<(TopicId, &Topic)> {
        let found = self.names.get(name).and_then(|id| Some((*id, self.topics.get(id)?)));
        found.ok_or_else(|| no_such_topic(name))
    }
}

/// The error for a topic that does not exist.
#[must_use]
pub fn no_such_topic(topic: &TopicName) -> Error {
    Error::invalid(format!("there is no such topic. topic={topic}"))
}

/// Whether a topic may have so many partitions.
///
/// # Errors
/// `Invalid` when they are more than [`PARTITIONS_MAX`].
pub(super) fn check_partitions(topic: &TopicName, partitions: NonZeroU32) -> Result<()> {
    if partitions.get() <= PARTITIONS_MAX {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "too many partitions. topic={topic}, partitions={partitions}, max={PARTITIONS_MAX}"
    )))
}

/// Application.
impl Ledger {
    pub(super) fn apply_config(&mut self, id: TopicId, config: &TopicConfig) -> Result<()> {
        self.topic_mut(id)?.spec.config = config.clone();
        Ok(())
    }

    pub(super) fn apply_partitions(&mut self, id: TopicId, partitions: NonZeroU32) -> Result<()> {
        let topic = self.topic_mut(id)?;
        if partitions < topic.spec.partitions || partitions.get() > PARTITIONS_MAX {
            return Err(Error::corrupt(format!(
                "topic gets a number of partitions that it cannot have. topic={}, partitions={partitions}",
                topic.spec.name
            )));
        }
        topic.spec.partitions = partitions;
        topic.offsets.resize(partitions.get() as usize, NEW_PARTITION);
        Ok(())
    }

    pub(super) fn apply_deletion(&mut self, id: TopicId) -> Result<()> {
        let topic = self.topics.remove(&id).ok_or_else(|| unknown_topic(id))?;
        self.names.remove(&topic.spec.name);
        for state in self.producers.values_mut() {
            state.partitions.retain(|place, _| place.topic != id);
        }
        for positions in self.positions.values_mut() {
            positions.retain(|place, _| place.topic != id);
        }
        self.positions.retain(|_, positions| !positions.is_empty());
        Ok(())
    }

    pub(super) fn apply_positions(&mut self, positions: &GroupPositions) -> Result<()> {
        positions.places().try_for_each(|place| self.offsets_mut(place).map(drop))?;
        let group = self.positions.entry(positions.group.clone()).or_default();
        group.extend(positions.committed.iter().cloned());
        Ok(())
    }

    pub(super) fn apply_records_deleted(&mut self, place: Place, before: Offset) -> Result<()> {
        let offsets = self.offsets_mut(place)?;
        if before > offsets.end {
            return Err(Error::corrupt(format!(
                "records were deleted behind the end. topic_id={}, partition={}, before={before}, end={}",
                place.topic.0, place.partition, offsets.end
            )));
        }
        offsets.earliest = offsets.earliest.max(before);
        Ok(())
    }

    fn topic_mut(&mut self, id: TopicId) -> Result<&mut Topic> {
        self.topics.get_mut(&id).ok_or_else(|| unknown_topic(id))
    }
}

fn unknown_topic(id: TopicId) -> Error {
    Error::corrupt(format!("topic was never created, or is gone. topic_id={}", id.0))
}

/// Questions.
impl Ledger {
    /// The groups that have committed something, by name.
    pub fn groups(&self) -> impl Iterator<Item = &GroupId> {
        self.positions.keys()
    }

    /// All that a group has committed, by partition.
    pub fn positions(&self, group: &GroupId) -> impl Iterator<Item = (Place, &crate::Committed)> {
        self.positions.get(group).into_iter().flatten().map(|(place, committed)| (*place, committed))
    }
}
