//! What is read: partitions of both logs, up to the end that they have when it begins.

use std::{fmt, ops::ControlFlow};

use headwater_core::{
    Error, ErrorKind, Log, Offset, Partition, RecordBatch, RecordRef, Result, Timestamp, TopicName,
    TopicPartition,
};

use super::{Sides, reading, tally::Side};

/// How much is read at a time.
const READ_BYTES: usize = 1 << 20;

/// Partitions that are compared with one another.
pub(super) struct Unit<'a> {
    parts: Sides<Vec<Part<'a>>>,
}

impl<'a> Unit<'a> {
    /// Partition by partition where the numbers agree, and else all together.
    pub(super) async fn all(
        topic: &TopicName,
        partitions: Sides<u32>,
        logs: Sides<&'a dyn Log>,
        since: Option<Timestamp>,
    ) -> Result<Vec<Unit<'a>>> {
        let Sides { live, replayed } = partitions;
        let mut units = Vec::new();
        if live == replayed {
            for number in 0..live {
                let open = |log| Part::open(log, topic, number, since);
                let parts =
                    Sides { live: vec![open(logs.live).await?], replayed: vec![open(logs.replayed).await?] };
                units.push(Unit { parts });
            }
            return Ok(units);
        }
        let mut parts = Sides { live: Vec::new(), replayed: Vec::new() };
        for number in 0..live {
            parts.live.push(Part::open(logs.live, topic, number, since).await?);
        }
        for number in 0..replayed {
            parts.replayed.push(Part::open(logs.replayed, topic, number, since).await?);
        }
        units.push(Unit { parts });
        Ok(units)
    }

    pub(super) fn of(&self, side: Side) -> &[Part<'a>] {
        self.parts.of(side)
    }
}

impl fmt::Display for Unit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names: Vec<_> =
            Side::BOTH.iter().flat_map(|side| self.of(*side)).map(|part| &part.partition).collect();
        names.dedup();
        write!(f, "partitions={names:?}")
    }
}

/// The highest timestamp among the last records of a topic.
pub(super) async fn latest(log: &dyn Log, topic: &TopicName, partitions: u32) -> Result<Option<Timestamp>> {
    let mut latest = None;
    for number in 0..partitions {
        let partition = TopicPartition::new(topic.clone(), Partition(number));
        let read = async {
            let offsets = log.offsets(&partition).await?;
            if offsets.earliest == offsets.end {
                return Ok(None);
            }
            let last = Offset(offsets.end.0 - 1);
            let fetched = log.read(&partition, last.max(offsets.earliest), 0).await?;
            Ok(fetched.batches.iter().map(RecordBatch::max_timestamp).max())
        };
        latest = latest.max(read.await.map_err(|error: Error| error.context(reading(&partition)))?);
    }
    Ok(latest)
}

/// What is read of one partition of one log.
pub(super) struct Part<'a> {
    log: &'a dyn Log,
    pub(super) partition: TopicPartition,
    from: Offset,
    end: Offset,
    since: Option<Timestamp>,
    /// Whether records may be gone that would belong to the range.
    pub(super) is_cut: bool,
}

impl<'a> Part<'a> {
    async fn open(
        log: &'a dyn Log,
        topic: &TopicName,
        number: u32,
        since: Option<Timestamp>,
    ) -> Result<Part<'a>> {
        let partition = TopicPartition::new(topic.clone(), Partition(number));
        let read = async {
            let offsets = log.offsets(&partition).await?;
            // All before the first record that is not older are older.
            let from = match since {
                None => offsets.earliest,
                Some(since) => {
                    log.offset_at(&partition, since).await?.map_or(offsets.end, |found| found.offset)
                }
            };
            let is_cut = Offset(0) < offsets.earliest && from <= offsets.earliest;
            Ok((from.max(offsets.earliest), offsets.end, is_cut))
        };
        let (from, end, is_cut) = read.await.map_err(|error: Error| error.context(reading(&partition)))?;
        Ok(Part { log, partition, from, end, since, is_cut })
    }

    /// Shows every record to `visit`, in the order of their offsets, until it has seen enough.
    pub(super) async fn each(
        &self,
        visit: &mut (dyn FnMut(RecordRef<'_>) -> ControlFlow<()> + Send),
    ) -> Result<ControlFlow<()>> {
        self.read(visit).await.map_err(|error| error.context(reading(&self.partition)))
    }

    async fn read(
        &self,
        visit: &mut (dyn FnMut(RecordRef<'_>) -> ControlFlow<()> + Send),
    ) -> Result<ControlFlow<()>> {
        let mut next = self.from;
        while next < self.end {
            let fetched = self.log.read(&self.partition, next, READ_BYTES).await?;
            let after = fetched.batches.last().map_or(next, RecordBatch::next_offset);
            if after <= next {
                let end = self.end;
                let message = format!(
                    "the log gave nothing where it said there is something. offset={next}, end={end}"
                );
                return Err(Error::new(ErrorKind::Unavailable, message));
            }
            for batch in &fetched.batches {
                let too_old = self.since.is_some_and(|since| batch.max_timestamp() < since);
                if batch.is_control() || too_old {
                    continue;
                }
                let mut cursor = batch.cursor();
                while let Some(record) = cursor.next() {
                    let record = record?;
                    let wanted = next <= record.offset && record.offset < self.end;
                    if wanted && visit(record).is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
            }
            next = after;
        }
        Ok(ControlFlow::Continue(()))
    }
}
