//! A consumer without its types: reads from the log, remembers positions, commits them.

use std::sync::Arc;

use bytes::Bytes;
use headwater_core::{
    Committed, Error, ErrorKind, GroupId, Log, LogVersion, Membership, Offset, PartitionOffsets, Positions,
    Result, TimedOffset, Timestamp, TopicPartition,
};
use tokio::time::Instant;

use super::{
    builder::{OffsetReset, Settings},
    partitions::Partitions,
    record::Batch,
};

pub(super) struct Reader {
    pub(super) log: Arc<dyn Log>,
    pub(super) settings: Settings,
    pub(super) partitions: Partitions,
    /// What of the log was seen when it was last found to hold nothing new.
    pub(super) version: LogVersion,
    /// As whom positions are committed.
    pub(super) member: Option<Membership>,
    /// When positions are to be committed next.
    commit_at: Option<Instant>,
}

impl Reader {
    pub(super) fn new(log: Arc<dyn Log>, settings: Settings) -> Self {
        Self {
            log,
            settings,
            partitions: Partitions::default(),
            version: LogVersion::default(),
            member: None,
            commit_at: None,
        }
    }

    pub(super) fn group(&self) -> Result<&GroupId> {
        let none = || Error::invalid("the consumer has no group: build it with a `group_id`");
        self.settings.group.as_ref().ok_or_else(none)
    }

    /// Finds out where to begin in partitions that are new. Safe to drop half way.
    pub(super) async fn locate(&mut self) -> Result<()> {
        for partition in self.partitions.lost() {
            if let Some(group) = &self.settings.group
                && let Some(at) = self.log.committed(group, &partition).await?
            {
                self.partitions.resume_at(&partition, at.offset)?;
                continue;
            }
            self.reset(&partition, "nothing is committed there").await?;
        }
        Ok(())
    }

    async fn reset(&mut self, partition: &TopicPartition, why: &str) -> Result<()> {
        let to = match self.settings.reset {
            OffsetReset::Fail => {
                return Err(Error::invalid(format!(
                    "no position in a partition, because {why}: seek, or set `offset_reset`. partition={partition}"
                )));
            }
            reset => self.offset_of(partition, reset).await,
        };
        match to {
            Ok(to) => self.partitions.seek(partition, Some(to)),
            // The topic is gone, and the group will say so.
            Err(error) if error.kind() == ErrorKind::Invalid && self.member.is_some() => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn offset_of(&self, partition: &TopicPartition, reset: OffsetReset) -> Result<Offset> {
        match reset {
            OffsetReset::Earliest => Ok(self.log.offsets(partition).await?.earliest),
            OffsetReset::Latest | OffsetReset::Fail => Ok(self.log.offsets(partition).await?.end),
            OffsetReset::Timestamp(time) => self.offset_at(partition, time).await,
            OffsetReset::Ago(age) => {
                let ms = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
                self.offset_at(partition, self.settings.clock.now().plus_ms(ms.saturating_neg())).await
            }
        }
    }

    /// The first record that is not older than `time`, or the end.
    async fn offset_at(&self, partition: &TopicPartition, time: Timestamp) -> Result<Offset> {
        let found: Option<TimedOffset> = self.log.offset_at(partition, time).await?;
        match found {
            Some(found) => Ok(found.offset),
            None => Ok(self.log.offsets(partition).await?.end),
        }
    }

    pub(super) async fn seek_to(&mut self, partitions: &[TopicPartition], to: OffsetReset) -> Result<()> {
        for partition in partitions {
            let offset = self.offset_of(partition, to).await?;
            self.partitions.seek(partition, Some(offset))?;
        }
        Ok(())
    }

    /// Fetches what is there, up to the limits; whether there was something. Safe to drop half way.
    pub(super) async fn fetch(&mut self) -> Result<bool> {
        let mut left = self.settings.fetch_bytes;
        let mut found = false;
        for (partition, from) in self.partitions.fetch_plan() {
            if left == 0 {
                break;
            }
            let bytes_max = left.min(self.settings.partition_bytes);
            let batches = match self.log.read(&partition, from, bytes_max).await {
                Ok(fetched) => fetched.batches,
                Err(error) => {
                    found |= self.misread(&partition, from, error).await?;
                    continue;
                }
            };
            let Some(next) = batches.last().map(headwater_core::RecordBatch::next_offset) else { continue };
            found = true;
            let mut records = false;
            for batch in batches {
                left = left.saturating_sub(batch.bytes().len());
                // Markers of transactions are for the log, and compaction may leave batches without records.
                if batch.is_control() {
                    continue;
                }
                let batch = Batch::new(partition.clone(), batch, from);
                if batch.has_records() {
                    records = true;
                    self.partitions.push(batch);
                }
            }
            if !records {
                self.partitions.seek(&partition, Some(next))?;
            }
        }
        Ok(found)
    }

    /// A position may have fallen out of the range, and a partition may be gone. Whether to go on at once.
    async fn misread(&mut self, partition: &TopicPartition, from: Offset, error: Error) -> Result<bool> {
        if error.kind() != ErrorKind::Invalid {
            return Err(error);
        }
        let PartitionOffsets { earliest, end } = match self.log.offsets(partition).await {
            Ok(offsets) => offsets,
            // A member is told by its group.
            Err(gone) if gone.kind() == ErrorKind::Invalid && self.member.is_some() => return Ok(false),
            Err(gone) => return Err(gone),
        };
        if (earliest..=end).contains(&from) {
            // The end has grown between the two looks; or it is something else, and then it comes back.
            return self.log.read(partition, from, 1).await.map(|_| true);
        }
        if self.settings.reset == OffsetReset::Fail {
            return Err(error);
        }
        tracing::warn!(%partition, %from, %earliest, %end, reset = ?self.settings.reset, "position is out of range: it is reset");
        self.reset(partition, "the position is out of range").await?;
        Ok(true)
    }

    /// Whether it is time to commit.
    pub(super) fn commit_due(&mut self) -> Option<Instant> {
        let interval = self.settings.auto_commit.filter(|_| self.settings.group.is_some())?;
        Some(*self.commit_at.get_or_insert_with(|| Instant::now() + interval))
    }

    /// Commits by itself, when it is time. What goes wrong is tried again the next time.
    pub(super) async fn auto_commit(&mut self) {
        if self.commit_due().is_some_and(|due| due <= Instant::now()) {
            self.commit_at = None;
            self.auto_commit_now().await;
        }
    }

    pub(super) async fn auto_commit_now(&mut self) {
        if self.settings.auto_commit.is_none() || self.settings.group.is_none() {
            return;
        }
        if let Err(error) = self.commit().await {
            tracing::warn!(group = ?self.settings.group, error = error.report(), "positions were not committed");
        }
    }

    pub(super) async fn commit(&mut self) -> Result<()> {
        let moved = self.partitions.uncommitted();
        self.commit_these(moved).await
    }

    pub(super) async fn commit_these(&mut self, positions: Vec<(TopicPartition, Offset)>) -> Result<()> {
        let group = self.group()?.clone();
        if positions.is_empty() {
            return Ok(());
        }
        self.log.commit_positions(&self.as_positions(group, &positions)).await?;
        self.partitions.committed(&positions);
        Ok(())
    }

    pub(super) fn as_positions(&self, group: GroupId, positions: &[(TopicPartition, Offset)]) -> Positions {
        let at = |offset: &Offset| Committed { offset: *offset, metadata: Bytes::new() };
        let committed = positions.iter().map(|(partition, offset)| (partition.clone(), at(offset)));
        Positions { member: self.member, ..Positions::new(group, committed.collect()) }
    }
}
