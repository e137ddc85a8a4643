//! What a task does in its turn: takes records, makes punctuations, and leaves out what fails.

use headwater_core::{Error, Offset, RecordCursor, Result, TaskId, Timestamp, TopicPartition};

use super::Task;
use crate::{
    process::Call,
    runtime::{
        lanes::{Choice, choose},
        panic::{catch, panicked},
        punctuation::Punctuate,
    },
};

impl Task {
    /// Takes up to `records_max` records from its lanes; fewer when they have no more, or one must be looked at again. None of
    /// which the lane's time is not `before` one, if that is given.
    pub(crate) fn process(&mut self, records_max: usize, before: Option<Timestamp>) -> Result<usize> {
        let mut taken = 0;
        self.held_at = None;
        while taken < records_max && self.may_take() {
            match choose(&self.inputs.lanes) {
                Choice::Look => break,
                Choice::Take { lane, below } => {
                    let below = before.map_or(below, |before| below.min((before, 0)));
                    if let Some(time) = self.inputs.lanes[lane].head_time().filter(|_| before.is_some())
                        && (time, lane) >= below
                    {
                        self.held_at = Some(time);
                        break;
                    }
                    taken += self.take_caught(lane, below, records_max - taken)?;
                    if self.context.punctuators.is_due(self.context.stream_time) {
                        self.punctuate(Punctuate::StreamTime)?;
                    }
                }
            }
        }
        if taken > 0 {
            self.sources.iter_mut().try_for_each(|source| source.flush(&mut self.context))?;
            self.close_batches(false)?;
            self.uncommitted += taken as u64;
            self.metrics.records += taken as u64;
        }
        Ok(taken)
    }

    /// Makes the punctuations that the wall clock has reached; how many those were.
    pub(crate) fn tick(&mut self, now: Timestamp) -> Result<usize> {
        self.context.punctuators.set_now(now);
        self.now = now;
        if !self.is_dirty() && self.next_spill().is_some_and(|due| due <= now) {
            self.spill(false)?;
        }
        if self.next_punctuation().is_none_or(|due| due > now) {
            return Ok(0);
        }
        let called = self.punctuate(Punctuate::WallClock)?;
        self.uncommitted += called as u64;
        Ok(called)
    }

    /// When the wall clock reaches the next punctuation; `None` also while calls must be over first.
    pub(crate) fn next_punctuation(&self) -> Option<Timestamp> {
        self.context.punctuators.next_wall_clock().filter(|_| self.may_take())
    }

    /// The time of the next record, if that was held back.
    pub(crate) fn held_at(&self) -> Option<Timestamp> {
        self.held_at
    }

    /// Calls the processors whose time has come, one after the other, each with effects of its own.
    #[cold]
    fn punctuate(&mut self, by: Punctuate) -> Result<usize> {
        let Self { id, sources, context, .. } = self;
        let (mut called, end) = (0, context.punctuators.end());
        while let Some(due) = context.punctuators.begin_call(by, context.stream_time, end) {
            context.begin_record();
            let call = || sources.iter_mut().try_for_each(|source| source.call(Call::Punctuate, context));
            let outcome = catch(call).unwrap_or_else(|panic| Err(panicked(&panic)));
            let outcome = outcome.or_else(|error| context.forgive_punctuation(error, due.time));
            let outcome = outcome.and_then(|()| {
                while std::mem::take(&mut context.wake) {
                    sources.iter_mut().try_for_each(|source| source.advance(context))?;
                }
                Ok(())
            });
            outcome.map_err(|e| e.context(format!("task={id}, punctuation at={}", due.time)))?;
            called += 1;
        }
        self.close_batches(false)?;
        Ok(called)
    }

    /// As [`Task::take`]; a record at which a processor panics is one that failed. Once for all that are taken together,
    /// not for each: it is the one that the lane still has before it.
    fn take_caught(&mut self, at: usize, below: (Timestamp, usize), records_max: usize) -> Result<usize> {
        let mut taken = 0;
        match catch(|| self.take(at, below, records_max, &mut taken)) {
            Ok(outcome) => outcome?,
            Err(panic) if self.context.in_record => {
                let lane = &mut self.inputs.lanes[at];
                let partition = &self.inputs.inputs[lane.input].partition;
                if let Some(record) = lane.head() {
                    let forgiven = self.context.forgive(panicked(&panic), record, partition);
                    forgiven.map_err(|e| at_record(e, self.id, partition, record.offset))?;
                }
                lane.take(false)?;
                taken += 1;
            }
            Err(panic) => panic.resume(),
        }
        Ok(taken)
    }

    /// Takes records from one lane while they come before everything in the others, and none moves stream time to a
    /// punctuation. Counts them in `taken`.
    fn take(
        &mut self,
        at: usize,
        below: (Timestamp, usize),
        records_max: usize,
        taken: &mut usize,
    ) -> Result<()> {
        let input = &self.inputs.inputs[self.inputs.lanes[at].input];
        let lane = &mut self.inputs.lanes[at];
        let source = &mut self.sources[input.source];
        let context = &mut self.context;
        let block = at * RecordCursor::BLOCK;
        while let Some(record) = lane.head() {
            context.place = block + lane.place();
            if context.place == block {
                lane.with_block_keys(|keys| context.look_ahead(block, keys));
            }
            context.time_before = context.stream_time;
            context.stream_time = context.time_before.max(record.timestamp);
            context.begin_record();
            context.in_record = true;
            let outcome = source.process(record, context).map(|()| true).or_else(|error| {
                context.forgive(error, record, &input.partition)?;
                Ok(false)
            });
            context.in_record = false;
            context.name_calls(record, &input.partition);
            let timely = outcome.and_then(|timely| {
                while std::mem::take(&mut context.wake) {
                    source.advance(context)?;
                }
                Ok(timely)
            });
            let offset = record.offset;
            let timely = timely.map_err(|error| at_record(error, self.id, &input.partition, offset))?;
            *taken += 1;
            for sink in context.sinks.iter_mut().filter(|sink| sink.is_full()) {
                self.pending_bytes += sink.close_batches(false, &mut *self.producer)?;
            }
            let more = lane.take(timely)?;
            if !more || *taken == records_max || lane.head_time().is_none_or(|time| (time, at) >= below) {
                break;
            }
            if context.punctuators.is_due(context.stream_time) || context.calls_are_full() {
                break;
            }
        }
        Ok(())
    }
}

fn at_record(error: Error, task: TaskId, partition: &TopicPartition, offset: Offset) -> Error {
    error.context(format!("task={task}, topic={partition}, offset={offset}"))
}
