//! Fills the lanes of a task from the log. The only part of a task's life that waits for I/O.

use std::sync::Arc;

use headwater_core::{Error, Log, Offset, Partition, PartitionOffsets, Result, TaskId, TopicPartition};

use super::{
    board::{Board, Progress},
    lanes::{Lane, Timing},
    plan::SubtopologyPlan,
    positions::{LanePosition, Metadata},
    settings::InputOrder,
};
use crate::OffsetReset;

/// Bytes asked for in one read.
const READ_BYTES_MAX: usize = 1 << 20;
/// Bytes of batches that a lane keeps in memory. Beyond, it knows where they lie and reads them again in time.
const LANE_BYTES_MAX: usize = 2 << 20;

/// Reads of one turn that give nothing to a lane that is waited for. Then other tasks, commits and a stop have their turn.
const FRUITLESS_READS_MAX: usize = 32;

/// One partition that a task reads.
pub(crate) struct Input {
    pub(crate) partition: TopicPartition,
    /// Which of the task's sources takes its records.
    pub(crate) source: usize,
    /// The sub-topology that writes it, if it is a repartition topic read by lanes.
    upstream: Option<u32>,
    /// Where to begin when nothing was committed.
    reset: OffsetReset,
    /// The next offset to look at.
    next: Offset,
    /// End of the partition, as of the last look.
    end: Offset,
}

pub(crate) struct Inputs {
    pub(crate) inputs: Vec<Input>,
    /// In the order of topic, partition, number.
    pub(crate) lanes: Vec<Lane>,
}

impl Inputs {
    pub(crate) fn new(task: TaskId, plan: &SubtopologyPlan, order: InputOrder) -> Self {
        let (mut inputs, mut lanes) = (Vec::new(), Vec::new());
        for (source, topic) in
            plan.sources.iter().enumerate().filter(|(_, t)| task.partition.0 < t.partitions)
        {
            let upstream = topic.upstream.filter(|_| order == InputOrder::Lanes);
            let count = upstream.map_or(1, |(_, tasks)| tasks);
            let timing = match &topic.extract {
                _ if upstream.is_some() => Timing::Marked,
                Some(extract) => Timing::Extracted(Arc::clone(extract)),
                None => Timing::Record,
            };
            lanes.extend((0..count).map(|number| Lane::new(inputs.len(), number, timing.clone())));
            let partition = TopicPartition::new(topic.topic.clone(), task.partition);
            inputs.push(Input {
                partition,
                source,
                upstream: upstream.map(|(writer, _)| writer),
                reset: topic.reset,
                next: Offset(0),
                end: Offset(0),
            });
        }
        Self { inputs, lanes }
    }

    /// Goes to where the last commit was, or to where the source is to begin. `true` when that is not what it would be the
    /// next time, so that it must be committed.
    pub(crate) async fn seek(
        &mut self,
        at: usize,
        metadata: Option<&Metadata>,
        log: &dyn Log,
    ) -> Result<bool> {
        let offsets = log.offsets(&self.inputs[at].partition).await?;
        let by_lanes = self.inputs[at].upstream.is_some();
        if let Some(metadata) = metadata {
            check(metadata, by_lanes, &self.inputs[at].partition, &offsets)?;
        }
        let begin = match metadata {
            Some(_) => offsets.earliest,
            None => begin(&self.inputs[at], &offsets, log).await?,
        };
        let mut next = offsets.end;
        for lane in self.lanes.iter_mut().filter(|lane| lane.input == at) {
            let committed =
                metadata.and_then(|m| m.lanes.iter().find(|position| position.number == lane.number));
            lane.position = committed.map_or(begin, |position| Offset(position.offset));
            if let Some(position) = committed {
                lane.time = headwater_core::Timestamp(position.time);
            }
            next = next.min(lane.position);
        }
        (self.inputs[at].next, self.inputs[at].end) = (next, offsets.end);
        Ok(begin != offsets.earliest)
    }

    /// Reads until every lane has something to take, or is known to be at its end. How many partitions there are of which
    /// more must be read than a turn has time for.
    pub(crate) async fn fill(&mut self, log: &dyn Log, board: &Board) -> Result<usize> {
        let mut unread;
        loop {
            let closing = board.is_closing();
            unread = 0;
            for at in 0..self.inputs.len() {
                if self.lanes.iter().any(|lane| lane.input == at && lane.is_empty()) {
                    unread += usize::from(!self.scan(at, log, (board, closing)).await?);
                }
            }
            // If it was said just now, what was read may be of an upstream task whose time ends, and others are behind.
            if board.is_closing() == closing {
                break;
            }
        }
        for at in 0..self.lanes.len() {
            while let Some(offset) = self.lanes[at].wanted() {
                let input = self.lanes[at].input;
                self.read_again(input, offset, log).await?;
                if self.lanes[at].wanted() == Some(offset) {
                    return Err(lost(&self.inputs[input].partition, offset));
                }
            }
        }
        Ok(unread)
    }

    /// Reads what was found before and not kept, as much as lanes keep: all that stand at one place, together.
    async fn read_again(&mut self, at: usize, from: Offset, log: &dyn Log) -> Result<()> {
        let input = &self.inputs[at];
        let fetched = log.read(&input.partition, from, READ_BYTES_MAX).await?;
        for batch in fetched.batches {
            let owner = lane_of(&batch, &self.lanes, at, input)?;
            let mut taken = false;
            for (number, lane) in self.lanes.iter_mut().enumerate().filter(|(_, lane)| lane.input == at) {
                taken |= lane.supply(&batch, number == owner, LANE_BYTES_MAX)?;
            }
            if !taken {
                break;
            }
        }
        Ok(())
    }

    /// Reads on while one of the input's lanes is empty; `false` when that must go on in the next turn. When windows are
    /// `closing`, all upstream tasks are behind whose time has not ended.
    async fn scan(&mut self, at: usize, log: &dyn Log, (board, closing): (&Board, bool)) -> Result<bool> {
        // Progress first, then the log to its end: see `Board`.
        let progress: Vec<(usize, Option<Progress>)> = self
            .lanes
            .iter()
            .enumerate()
            .filter(|(_, lane)| lane.input == at)
            .map(|(i, lane)| (i, self.upstream_task(lane).map(|task| board.of(task))))
            .collect();
        for _ in 0..FRUITLESS_READS_MAX {
            let input = &mut self.inputs[at];
            let fetched = log.read(&input.partition, input.next, READ_BYTES_MAX).await?;
            input.end = fetched.end;
            if fetched.batches.is_empty() {
                for (lane, progress) in progress {
                    match progress {
                        Some(Progress { time, behind, ended, .. }) => {
                            self.lanes[lane].progress(time, behind || closing && !ended);
                        }
                        None => {
                            let lane = &mut self.lanes[lane];
                            lane.progress(lane.time, false);
                        }
                    }
                }
                return Ok(true);
            }
            for batch in fetched.batches {
                input.next = batch.next_offset();
                let lane = lane_of(&batch, &self.lanes, at, input)?;
                self.lanes[lane].push(batch, LANE_BYTES_MAX)?;
            }
            if !self.lanes.iter().any(|lane| lane.input == at && lane.is_empty()) {
                return Ok(true);
            }
        }
        // Nobody knows yet what lies behind that: lanes that got nothing are waited for.
        for lane in self.lanes.iter_mut().filter(|lane| lane.input == at) {
            lane.progress(lane.time, true);
        }
        Ok(false)
    }

    fn upstream_task(&self, lane: &Lane) -> Option<TaskId> {
        let subtopology = self.inputs[lane.input].upstream?;
        Some(TaskId { subtopology, partition: Partition(lane.number) })
    }

    /// Whether everything there is was taken, and nothing more is on its way.
    pub(crate) fn are_caught_up(&self) -> bool {
        self.lanes.iter().all(|lane| lane.is_empty() && !lane.behind)
    }

    /// How many offsets of each input partition are behind what was taken.
    pub(crate) fn lags(&self) -> impl Iterator<Item = (&TopicPartition, u64)> {
        self.inputs.iter().enumerate().map(|(at, input)| {
            let lanes = self.lanes.iter().filter(|lane| lane.input == at);
            let taken = lanes.map(|lane| self.taken(lane).0).min().unwrap_or(input.end.0);
            (&input.partition, input.end.0.saturating_sub(taken))
        })
    }

    /// Everything of the lane that is before was taken. An empty lane has nothing before the place that was looked at last.
    fn taken(&self, lane: &Lane) -> Offset {
        let next = self.inputs[lane.input].next;
        if lane.is_empty() { next.max(lane.position) } else { lane.position }
    }

    /// Whether input `at` is a repartition partition that is read by lanes.
    pub(crate) fn is_by_lanes(&self, at: usize) -> bool {
        self.inputs[at].upstream.is_some()
    }

    /// Positions of the lanes of input `at`, for a commit.
    pub(crate) fn positions(&self, at: usize) -> Vec<LanePosition> {
        self.lanes
            .iter()
            .filter(|lane| lane.input == at)
            .map(|lane| LanePosition { number: lane.number, offset: self.taken(lane).0, time: lane.time.0 })
            .collect()
    }
}

/// The lane that a batch belongs to: a batch is written by one task.
fn lane_of(batch: &headwater_core::RecordBatch, lanes: &[Lane], at: usize, input: &Input) -> Result<usize> {
    let number = if input.upstream.is_some() {
        let mut cursor = batch.cursor();
        cursor.advance()?;
        cursor.current().map(super::lanes::LaneMark::of).transpose()?.map_or(0, |mark| mark.lane)
    } else {
        0
    };
    lanes.iter().position(|lane| lane.input == at && lane.number == number).ok_or_else(|| {
        Error::corrupt(format!(
            "a batch names a lane that no upstream task has. partition={}, batch={batch:?}, lane={number}",
            input.partition
        ))
    })
}

/// Where an input begins that was never committed.
async fn begin(input: &Input, offsets: &PartitionOffsets, log: &dyn Log) -> Result<Offset> {
    match input.reset {
        OffsetReset::Earliest => Ok(offsets.earliest),
        OffsetReset::Latest => Ok(offsets.end),
        OffsetReset::At(time) => {
            let found = log.offset_at(&input.partition, time).await?;
            Ok(found.map_or(offsets.end, |found| found.offset))
        }
        OffsetReset::Refuse => Err(Error::invalid(format!(
            "the application has no committed position, and its source says to begin nowhere by itself: set one, or choose \
             another `OffsetReset`. partition={}",
            input.partition
        ))),
    }
}

/// A committed position must lie in the partition, and mean what it meant when it was committed.
fn check(
    metadata: &Metadata,
    by_lanes: bool,
    partition: &TopicPartition,
    offsets: &PartitionOffsets,
) -> Result<()> {
    if metadata.by_lanes != by_lanes {
        return Err(Error::invalid(format!(
            "the application was run with another `Settings::input_order`; it can be changed only with a new application \
             id. partition={partition}"
        )));
    }
    let outside = metadata.lanes.iter().find(|p| !(offsets.earliest.0..=offsets.end.0).contains(&p.offset));
    match outside {
        Some(position) => Err(Error::invalid(format!(
            "a committed position is outside of its partition: was the topic made anew, or cut? Use a new application id. \
             partition={partition}, position={}, earliest={}, end={}",
            position.offset, offsets.earliest, offsets.end
        ))),
        None => Ok(()),
    }
}

fn lost(partition: &TopicPartition, offset: Offset) -> Error {
    Error::corrupt(format!("a batch that was there is gone. partition={partition}, offset={offset}"))
}
