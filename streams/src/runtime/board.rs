//! Where tasks tell one another how far they are: what lanes need to know of their upstream task.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use headwater_core::{Signal, TaskId, Timestamp};

/// How far a task is, as of its last commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Its stream time.
    pub(crate) time: Timestamp,
    /// Whether it still has input that it has not committed.
    pub(crate) behind: bool,
}

/// One entry per task of the application, in this process.
///
/// A task posts only after the commit that made its output visible. So a reader that looks here first and then reads
/// the log to its end has seen every record that the posted progress stands for.
#[derive(Debug)]
pub(crate) struct Board {
    tasks: BTreeMap<TaskId, Mutex<Progress>>,
    changed: Signal,
}

impl Board {
    /// All tasks begin behind.
    pub(crate) fn new(tasks: impl Iterator<Item = TaskId>) -> Self {
        let unknown = Progress { time: Timestamp::MIN, behind: true };
        Self { tasks: tasks.map(|task| (task, Mutex::new(unknown))).collect(), changed: Signal::default() }
    }

    pub(crate) fn post(&self, task: TaskId, progress: Progress) {
        let Some(entry) = self.tasks.get(&task) else { return };
        let before = std::mem::replace(&mut *entry.lock().unwrap_or_else(PoisonError::into_inner), progress);
        if before != progress {
            self.changed.raise();
        }
    }

    pub(crate) fn of(&self, task: TaskId) -> Progress {
        let entry = self.tasks.get(&task).expect("every task of the plan is on the board");
        *entry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether no task is behind.
    pub(crate) fn all_caught_up(&self) -> bool {
        self.tasks.keys().all(|task| !self.of(*task).behind)
    }

    pub(crate) fn changed(&self) -> &Signal {
        &self.changed
    }
}
