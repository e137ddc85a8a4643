//! What a replay remembers of itself, in its own log.
//!
//! ```text
//! topic `<application id>-replay-positions`, group `<application id>`: committed positions, no records
//!   partition 0            offset: how many phases are over      metadata: 1, bincode of `Told`
//!   partition 1 + p n + i  offset: as the task commits it        metadata: 1, bincode of `Read`
//!                          (phase p, source partition i of n)
//! ```
//!
//! Positions of source partitions are committed by the tasks, with what they wrote; in the log of the replay there are no such
//! partitions, so they have others there.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use headwater_core::{
    Committed, Error, GroupId, Log, Offset, Partition, Positions, Result, Serde, TopicConfig, TopicName,
    TopicPartition, TopicSpec, serdes,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::plan::Plan;
use crate::{
    TaskMetrics,
    runtime::{LanePosition, Metadata},
};

const VERSION: u8 = 1;

/// How far a phase has read a source partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Read {
    /// Records of the phase that were taken.
    pub(super) records: u64,
    /// What the task that reads it has committed.
    pub(super) task: Metadata,
}

impl Read {
    /// Time of its lane.
    pub(super) fn time(&self) -> i64 {
        self.task.lanes.first().map_or(i64::MIN, |lane| lane.time)
    }
}

/// What is known of the phases that are over, and of runs that were stopped cleanly.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Told {
    pub(super) plan: Option<Plan>,
    pub(super) counts: Counts,
    /// How long it ran, in milliseconds.
    pub(super) millis: u64,
    /// Records that the first two phases would have written to each topic.
    pub(super) dropped: BTreeMap<String, u64>,
}

/// Counters of the range, and of what came before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counts {
    pub(super) late: u64,
    pub(super) skipped: u64,
    pub(super) dead_letters: u64,
    pub(super) null_keys: u64,
    pub(super) null_values: u64,
}

impl Counts {
    pub(super) fn add(&mut self, metrics: &TaskMetrics) {
        self.late += metrics.late;
        self.skipped += metrics.skipped;
        self.dead_letters += metrics.dead_letters;
        self.null_keys += metrics.null_keys;
        self.null_values += metrics.null_values;
    }
}

/// The positions of one replay.
#[derive(Debug)]
pub(super) struct PositionsTopic {
    topic: TopicName,
    group: GroupId,
    sources: usize,
    phases: usize,
}

impl PositionsTopic {
    pub(super) fn of(plan: &Plan) -> Result<Self> {
        Ok(Self {
            topic: TopicName::new(format!("{}-replay-positions", plan.application_id))?,
            group: GroupId(plan.application_id.clone()),
            sources: plan.sources.len(),
            phases: plan.phases.len(),
        })
    }

    pub(super) fn name(&self) -> &TopicName {
        &self.topic
    }

    pub(super) async fn create(&self, own: &dyn Log) -> Result<()> {
        let partitions = u32::try_from(1 + self.sources * self.phases).ok().and_then(|p| p.try_into().ok());
        let partitions = partitions.ok_or_else(|| {
            Error::invalid(format!(
                "a replay of so many source partitions has no room. sources={}",
                self.sources
            ))
        })?;
        own.create_topic(&TopicSpec { name: self.topic.clone(), partitions, config: TopicConfig::default() })
            .await
    }

    fn partition(&self, number: usize) -> TopicPartition {
        TopicPartition::new(self.topic.clone(), Partition(u32::try_from(number).unwrap_or(u32::MAX)))
    }

    /// Where the position of source partition `source` lies in `phase`.
    pub(super) fn place(&self, phase: usize, source: usize) -> TopicPartition {
        self.partition(1 + phase * self.sources + source)
    }

    /// How many phases are over, and what was told of them.
    pub(super) async fn told(&self, own: &dyn Log) -> Result<(usize, Told)> {
        let Some(committed) = own.committed(&self.group, &self.partition(0)).await? else {
            return Ok((0, Told::default()));
        };
        let told = decode(&committed).map_err(|e| e.context("what a replay has told of itself"))?;
        Ok((usize::try_from(committed.offset.0).unwrap_or(usize::MAX), told))
    }

    pub(super) async fn tell(&self, own: &dyn Log, over: usize, told: &Told) -> Result<()> {
        let committed = encode(Offset(over as u64), told)?;
        own.commit_positions(&Positions::new(self.group.clone(), vec![(self.partition(0), committed)])).await
    }

    /// Where `source` stands in `phase`, if it was ever committed there.
    pub(super) async fn read(
        &self,
        own: &dyn Log,
        phase: usize,
        source: usize,
    ) -> Result<Option<(Offset, Read)>> {
        let place = self.place(phase, source);
        let Some(committed) = own.committed(&self.group, &place).await? else { return Ok(None) };
        let read = decode(&committed).map_err(|e| e.context(format!("position of a replay in {place}")))?;
        Ok(Some((committed.offset, read)))
    }

    /// Where `source` goes on in `phase`, from `begin` on when that was never committed: with the times that the phases before
    /// have reached.
    pub(super) async fn resumed(
        &self,
        own: &dyn Log,
        (phase, source): (usize, usize),
        begin: Offset,
    ) -> Result<Read> {
        if let Some((_, read)) = self.read(own, phase, source).await? {
            return Ok(read);
        }
        for before in (0..phase).rev() {
            if let Some((_, mut read)) = self.read(own, before, source).await? {
                read.records = 0;
                read.task.lanes.iter_mut().for_each(|lane| lane.offset = begin.0);
                return Ok(read);
            }
        }
        let lane = LanePosition { number: 0, offset: begin.0, time: i64::MIN };
        let task = Metadata {
            lanes: vec![lane],
            stream_time: i64::MIN,
            clocks: Vec::new(),
            by_lanes: false,
            passed: i64::MIN,
        };
        Ok(Read { records: 0, task })
    }
}

impl Told {
    pub(super) fn add_time(&mut self, time: Duration) {
        self.millis = self.millis.saturating_add(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    }
}

pub(super) fn encode<T: Serialize + DeserializeOwned + 'static>(
    offset: Offset,
    value: &T,
) -> Result<Committed> {
    let mut bytes = vec![VERSION];
    serdes::Bincode.encode(value, &mut bytes)?;
    Ok(Committed { offset, metadata: Bytes::from(bytes) })
}

fn decode<T: Serialize + DeserializeOwned + 'static>(committed: &Committed) -> Result<T> {
    match committed.metadata.split_first() {
        Some((&VERSION, rest)) => serdes::Bincode
            .decode(rest)
            .map_err(|e: Error| Error::corrupt("what a replay has committed cannot be read").with_source(e)),
        version => Err(Error::invalid(format!(
            "a replay was begun by another version of Headwater: begin it anew. version={:?}, known={VERSION}",
            version.map(|(version, _)| version)
        ))),
    }
}
