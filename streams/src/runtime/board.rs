//! Where tasks tell one another how far they are: what lanes need to know of their upstream task.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use headwater_core::{LogVersion, Signal, TaskId, Timestamp};

/// How far a task is, as of its last commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Its stream time, or how far time has passed behind it.
    pub(crate) time: Timestamp,
    /// Whether it still has input that it has not committed.
    pub(crate) behind: bool,
    /// Whether time has ended for it: it has closed all that there was.
    pub(crate) ended: bool,
    /// Up to where the log was when the task looked at all of its inputs.
    pub(crate) looked_at: LogVersion,
}

/// One entry per task of the application, in this process.
///
/// A task posts only after the commit that made its output visible. So a reader that looks here first and then reads
/// the log to its end has seen every record that the posted progress stands for.
#[derive(Debug)]
pub(crate) struct Board {
    tasks: BTreeMap<TaskId, Mutex<Progress>>,
    /// Whether time shall end: see [`Streams::close_windows`](crate::Streams::close_windows).
    closing: AtomicBool,
    /// What concerns other tasks changed: they may go on.
    changed: Signal,
    /// Anything was posted: somebody may wait for all to be caught up.
    posted: Signal,
}

impl Board {
    /// All tasks begin behind.
    pub(crate) fn new(tasks: impl Iterator<Item = TaskId>) -> Self {
        let looked_at = LogVersion::default();
        let unknown = Progress { time: Timestamp::MIN, behind: true, ended: false, looked_at };
        let tasks = tasks.map(|task| (task, Mutex::new(unknown))).collect();
        let closing = AtomicBool::new(false);
        Self { tasks, closing, changed: Signal::default(), posted: Signal::default() }
    }

    pub(crate) fn post(&self, task: TaskId, progress: Progress) {
        let Some(entry) = self.tasks.get(&task) else { return };
        let before = std::mem::replace(&mut *entry.lock().unwrap_or_else(PoisonError::into_inner), progress);
        if before != (Progress { looked_at: before.looked_at, ..progress }) {
            self.changed.raise();
        }
        if before != progress {
            self.posted.raise();
        }
    }

    /// Says that `tasks` have stopped where they were: until they go on, nobody may take them for caught up.
    pub(crate) fn stopped(&self, tasks: &[TaskId]) {
        for task in tasks {
            self.post(*task, Progress { behind: true, ..self.of(*task) });
        }
    }

    pub(crate) fn of(&self, task: TaskId) -> Progress {
        let entry = self.tasks.get(&task).expect("every task of the plan is on the board");
        *entry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether no task is behind, as of `version` of the log.
    pub(crate) fn all_caught_up(&self, version: LogVersion) -> bool {
        let caught_up = |progress: Progress| !progress.behind && progress.looked_at >= version;
        self.tasks.keys().all(|task| caught_up(self.of(*task)))
    }

    /// Says that time shall end: what there is now is all there is.
    pub(crate) fn close_windows(&self) {
        if !self.closing.swap(true, Ordering::SeqCst) {
            self.changed.raise();
        }
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// Whether time has ended for all of `tasks`.
    pub(crate) fn have_ended(&self, tasks: &[TaskId]) -> bool {
        tasks.iter().all(|task| self.of(*task).ended)
    }

    /// Whether it has for every task.
    pub(crate) fn all_have_ended(&self) -> bool {
        self.tasks.keys().all(|task| self.of(*task).ended)
    }

    pub(crate) fn changed(&self) -> &Signal {
        &self.changed
    }

    pub(crate) fn posted(&self) -> &Signal {
        &self.posted
    }
}

#[cfg(test)]
mod tests {
    use headwater_core::Partition;

    use super::*;

    #[test]
    fn who_has_stopped_is_behind_where_it_was() {
        let task = |partition| TaskId { subtopology: 0, partition: Partition(partition) };
        let board = Board::new([task(0), task(1)].into_iter());
        let looked_at = LogVersion::default();
        let done = Progress { time: Timestamp(5), behind: false, ended: false, looked_at };
        board.post(task(0), done);
        board.post(task(1), done);
        assert!(board.all_caught_up(LogVersion::default()));
        board.stopped(&[task(1)]);
        assert_eq!((board.of(task(0)), board.of(task(1))), (done, Progress { behind: true, ..done }));
        assert!(!board.all_caught_up(LogVersion::default()));
    }
}
