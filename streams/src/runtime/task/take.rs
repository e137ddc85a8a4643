//! What a task does in its turn: takes records, makes punctuations, and leaves out what fails.

use headwater_core::{Error, Offset, RecordCursor, Result, TaskId, Timestamp, TopicPartition};

use super::Task;
use crate::{
    edge::Call,
    ops::source::Source,
    runtime::{
        context::TaskContext,
        lanes::{Choice, choose},
        panic::{catch, panicked},
        punctuation::Punctuate,
    },
};

impl Task {
    /// Takes up to `records_max` records from its lanes; fewer when they have no more, or one must be looked at again, or when
    /// something that is to be closed does not fit into this commit. None of which the lane's time is not `before` one, if that
    /// is given. Gives how many those were, and one more for having gone on with what was to be closed.
    pub(crate) fn process(&mut self, records_max: usize, before: Option<Timestamp>) -> Result<usize> {
        let (mut taken, mut went_on) = (0, false);
        self.held_at = None;
        if self.context.is_unfinished && self.may_take() {
            went_on = true;
            self.go_on()?;
        }
        while taken < records_max && self.may_take() && !self.context.is_unfinished {
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
                    self.punctuate_due()?;
                }
            }
        }
        if taken > 0 || went_on {
            self.sources.iter_mut().try_for_each(|source| source.flush(&mut self.context))?;
            self.context.close_batches(false)?;
            self.uncommitted += taken as u64 + u64::from(went_on);
            self.metrics.records += taken as u64;
        }
        Ok(taken + usize::from(went_on))
    }

    /// Goes on with what was not all closed at the last commit, before anything else.
    #[cold]
    fn go_on(&mut self) -> Result<()> {
        self.context.is_passing = self.context.passed > Timestamp::MIN;
        let closed = close_due(&mut self.sources, &mut self.context);
        self.context.is_passing = false;
        closed.map_err(|e| e.context(format!("task={}, while it closed what was due", self.id)))?;
        self.punctuate_due()
    }

    /// Makes the punctuations that stream time has reached, once everything is closed that it makes due.
    fn punctuate_due(&mut self) -> Result<()> {
        if self.context.is_unfinished {
            return Ok(());
        }
        if self.context.punctuators.is_due(self.context.stream_time) {
            self.punctuate(Punctuate::StreamTime)?;
        }
        self.context.punctuated = self.context.stream_time;
        Ok(())
    }

    /// Makes the punctuations that the wall clock has reached; how many those were.
    pub(crate) fn tick(&mut self, now: Timestamp) -> Result<usize> {
        self.context.punctuators.set_now(now);
        self.now = now;
        if self.next_spill().is_some_and(|due| due <= now) {
            self.write_behind()?;
        }
        if self.next_punctuation().is_none_or(|due| due > now) {
            return Ok(0);
        }
        let called = self.punctuate(Punctuate::WallClock)?;
        self.uncommitted += called as u64;
        Ok(called)
    }

    /// When the wall clock reaches the next punctuation; `None` also while calls must be over first, or windows closed.
    pub(crate) fn next_punctuation(&self) -> Option<Timestamp> {
        let may_punctuate = self.may_take() && !self.context.is_unfinished;
        self.context.punctuators.next_wall_clock().filter(|_| may_punctuate)
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
        // Punctuations of one time are not divided by a commit.
        let room = std::mem::replace(&mut context.room, usize::MAX);
        while let Some(due) = context.punctuators.begin_call(by, context.stream_time, end) {
            context.begin_record();
            let call = || sources.iter_mut().try_for_each(|source| source.call(Call::Punctuate, context));
            let outcome = catch(call).unwrap_or_else(|panic| Err(panicked(&panic)));
            let outcome = outcome.or_else(|error| context.forgive_punctuation(error, due.time));
            let outcome =
                outcome.and_then(|()| if context.wake { close_due(sources, context) } else { Ok(()) });
            outcome.map_err(|e| e.context(format!("task={id}, punctuation at={}", due.time)))?;
            called += 1;
        }
        context.room = room;
        self.context.close_batches(false)?;
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
        let (sources, context) = (&mut self.sources, &mut self.context);
        let block = at * RecordCursor::BLOCK;
        loop {
            context.place = block + lane.place();
            if context.place == block {
                lane.with_block_keys(|keys| context.look_ahead(block, keys));
            }
            // Which record it is that begins calls is asked behind each.
            let run_max = if context.calls.is_empty() { records_max - *taken } else { 1 };
            let Some(run) = lane.run((at, below), run_max, taken) else { break };
            context.in_record = true;
            let outcome = sources[input.source].process(run, context);
            // The lane stands on the last that was processed: all others are taken.
            let Some(record) = lane.head() else { break };
            let outcome = outcome.map(|()| true).or_else(|error| {
                context.forgive(error, record, &input.partition)?;
                Ok(false)
            });
            context.in_record = false;
            context.name_calls(record, &input.partition);
            let timely = outcome.and_then(|timely| {
                if context.wake {
                    close_due(sources, context)?;
                }
                Ok(timely)
            });
            let offset = record.offset;
            let timely = timely.map_err(|error| at_record(error, self.id, &input.partition, offset))?;
            *taken += 1;
            context.close_batches(false)?;
            let more = lane.take(timely)?;
            if !more || *taken == records_max || lane.head_time().is_none_or(|time| (time, at) >= below) {
                break;
            }
            if context.punctuators.is_due(context.stream_time)
                || context.calls_are_full()
                || context.is_unfinished
            {
                break;
            }
        }
        Ok(())
    }
}

/// Lets processors close what is due, each after those before it, and again while one asks for that. Where a commit must come
/// first it stops and says so; called again, it goes on at the same place, whether processors were made anew meanwhile or not:
/// those before it have nothing to close any more, and those behind it have not begun.
#[cold]
pub(super) fn close_due(sources: &mut [Box<dyn Source>], context: &mut TaskContext) -> Result<()> {
    loop {
        (context.wake, context.is_unfinished) = (false, false);
        sources.iter_mut().try_for_each(|source| source.call(Call::Advance, context))?;
        // What is asked for during a pass mostly lies behind it.
        if context.is_unfinished || !context.wake {
            return Ok(());
        }
    }
}

fn at_record(error: Error, task: TaskId, partition: &TopicPartition, offset: Offset) -> Error {
    error.context(format!("task={task}, topic={partition}, offset={offset}"))
}
