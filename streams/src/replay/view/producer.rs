//! Writes into the replay's own log, without what a phase does not write.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use headwater_core::{BatchBuilder, Offset, Positions, Producer, Result, TopicName, TopicPartition, Written};

use super::Inner;
use crate::{
    replay::positions::{Read, encode},
    runtime::Metadata,
};

/// Where a source partition stands with a commit: its place, records, position and time.
pub(super) type Reached = Vec<(usize, u64, Offset, i64)>;

pub(super) struct ViewProducer {
    inner: Box<dyn Producer>,
    view: Arc<Inner>,
    /// Not written since the last commit.
    dropped: BTreeMap<TopicName, u64>,
}

impl ViewProducer {
    pub(super) fn new(inner: Box<dyn Producer>, view: Arc<Inner>) -> Self {
        Self { inner, view, dropped: BTreeMap::new() }
    }
}

impl Inner {
    /// Positions as they lie in the own log: those of source partitions have their places there.
    pub(super) fn place(&self, positions: &Positions) -> Result<(Positions, Reached)> {
        let (mut placed, mut reached) =
            (Positions { committed: Vec::new(), ..positions.clone() }, Vec::new());
        for (partition, committed) in &positions.committed {
            let Some((at, source)) = self.source_of(partition) else {
                placed.committed.push((partition.clone(), committed.clone()));
                continue;
            };
            let mut task = Metadata::of(committed)?;
            // The last batch may reach beyond what is replayed.
            task.lanes.iter_mut().for_each(|lane| lane.offset = lane.offset.min(source.cut.end.0));
            let position = committed.offset.min(source.cut.end);
            let read = Read { records: source.counted().before(position)?, task };
            reached.push((at, read.records, position, read.time()));
            placed.committed.push((self.positions.place(self.phase, at), encode(position, &read)?));
        }
        Ok((placed, reached))
    }
}

#[async_trait]
impl Producer for ViewProducer {
    fn append(&mut self, partition: &TopicPartition, batch: &mut BatchBuilder) -> Result<()> {
        if self.view.kept.as_ref().is_none_or(|kept| kept.contains(&partition.topic)) {
            return self.inner.append(partition, batch);
        }
        *self.dropped.entry(partition.topic.clone()).or_default() += u64::from(batch.record_count());
        batch.clear();
        Ok(())
    }

    async fn commit(&mut self, positions: Option<&Positions>) -> Result<Vec<Written>> {
        let placed = positions.map(|positions| self.view.place(positions)).transpose()?;
        let written = self.inner.commit(placed.as_ref().map(|(positions, _)| positions)).await?;
        for (at, records, position, time) in placed.into_iter().flat_map(|(_, reached)| reached) {
            self.view.gauges[at].committed(position.0, records, time);
        }
        if !self.dropped.is_empty() {
            let mut dropped = self.view.dropped.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            for (topic, records) in std::mem::take(&mut self.dropped) {
                *dropped.entry(topic).or_default() += records;
            }
        }
        Ok(written)
    }

    fn abort(&mut self) {
        self.dropped.clear();
        self.inner.abort();
    }
}
