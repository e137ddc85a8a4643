//! Time that passes behind the end of the input, when windows shall be closed though no record comes any more.
//!
//! It passes step by step: to the stream time, then to each time at which something closes, then to its own end. So what
//! closes goes out in the order, and with the lane times, that it would have if there were records all the time; and those
//! who read it by lanes find results of one time together, whichever of the tasks before them they are of. How far it has
//! passed commits with the positions: a task that is opened in the middle takes the same step once more, in which whatever
//! was closed is closed already, and goes on.

use headwater_core::{Log, Result, Timestamp};

use super::{Task, take::close_due};
use crate::runtime::{board::Board, plan::Plan, positions::Metadata};

/// The end of time.
const END: Timestamp = Timestamp(i64::MAX);

impl Task {
    /// Whether its time ends as soon as there is nothing more to take. To be asked before it looks at the log: what others sent
    /// before their time ended is there then.
    pub(crate) fn may_end(&self, board: &Board) -> bool {
        !self.has_ended && board.is_closing() && board.have_ended(&self.before)
    }

    /// Lets time pass, when there is nothing more to take, in so many steps, and in fewer when there is much to commit; how many
    /// those were.
    pub(crate) fn pass_time(&mut self, steps_max: usize, bytes_max: usize) -> Result<usize> {
        if !self.inputs.are_caught_up() {
            return Ok(0);
        }
        let mut steps = 0;
        // What is unfinished goes on at the next turn, before time passes.
        while !self.has_ended && !self.context.is_unfinished && self.may_take() && steps < steps_max {
            let to = self.context.passed.max(self.context.stream_time);
            self.pass(to).map_err(|e| {
                e.context(format!(
                    "task={}, time passed behind its input, to={}",
                    self.id, self.context.passed
                ))
            })?;
            steps += 1;
            if self.context.is_unfinished {
                break;
            }
            match self.context.passed {
                END => self.has_ended = true,
                passed => self.context.passed = self.next_closing().max(passed.plus_ms(1)),
            }
            self.context.close_batches(false)?;
            if self.uncommitted_bytes() >= bytes_max {
                break;
            }
        }
        self.context.close_batches(false)?;
        self.uncommitted += steps as u64;
        Ok(steps)
    }

    /// One step: everything that is due closes. Time first passes to the millisecond before, in which nothing closes: a step may have
    /// been for nothing, because stores know of no earlier time and not always of the next one, and what comes out must not depend on
    /// whether there was such a step.
    fn pass(&mut self, to: Timestamp) -> Result<()> {
        if to > self.context.stream_time {
            self.pass_to(to.plus_ms(-1))?;
            if self.context.is_unfinished {
                return Ok(());
            }
        }
        self.pass_to(to)
    }

    fn pass_to(&mut self, time: Timestamp) -> Result<()> {
        (self.context.passed, self.context.is_passing) = (time, true);
        let passed = close_due(&mut self.sources, &mut self.context);
        self.context.is_passing = false;
        passed
    }

    fn next_closing(&mut self) -> Timestamp {
        self.context.stores().filter_map(|store| store.next_closing()).min().unwrap_or(END)
    }
}

/// Whether a task of the application has begun to let time pass, in this process or in an earlier one: then all do. Nobody may
/// take what one of them sent before that is known.
pub(crate) async fn was_begun(plan: &Plan, log: &dyn Log) -> Result<bool> {
    for task in plan.tasks() {
        // The same is committed for all inputs of a task.
        let sources = &plan.subtopologies[task.subtopology as usize].sources;
        let Some(source) = sources.iter().find(|source| task.partition.0 < source.partitions) else {
            continue;
        };
        let partition = headwater_core::TopicPartition::new(source.topic.clone(), task.partition);
        let committed = log.committed(&plan.group, &partition).await?;
        let metadata = committed.as_ref().map(Metadata::of).transpose();
        let metadata =
            metadata.map_err(|e| e.context(format!("group={}, partition={partition}", plan.group)))?;
        if metadata.is_some_and(|metadata| metadata.passed > i64::MIN) {
            return Ok(true);
        }
    }
    Ok(false)
}
