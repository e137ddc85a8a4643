//! In what order things become durable. The only file that commits to the log.
//!
//! For each task, in one atomic group of the log: its output, one changelog record per changed row, and its input
//! positions with lane times, stream time and operator times. Only then may its state engine be written. A crash before
//! the group is durable undoes everything since the last one; a crash after it costs the changelog suffix that the
//! engine lacks, and nothing else.

use futures::future::try_join_all;
use headwater_core::{Result, Timestamp};

use super::task::Task;

/// Commits all tasks that took records, but those with open calls, which are left for later. The log may sync the groups of
/// several tasks together. Gives the time of the newest record of each that was committed.
///
/// On an error the tasks must be dropped: they hold effects that are not in the log.
pub(crate) async fn commit(tasks: &mut [Task]) -> Result<Vec<Option<Timestamp>>> {
    let mut ready = Vec::with_capacity(tasks.len());
    for task in tasks.iter_mut().filter(|task| task.is_dirty()) {
        if task.is_ready_to_commit()? {
            ready.push(task);
        }
    }
    try_join_all(ready.into_iter().map(commit_task)).await
}

/// Not repeated on an error: what a commit of unknown outcome came to is settled by opening the task's producer anew.
async fn commit_task(task: &mut Task) -> Result<Option<Timestamp>> {
    let newest = task.newest();
    let positions = task.prepare_commit()?;
    let written = task.producer().commit(Some(&positions)).await;
    let written = written.map_err(|e| e.context(format!("commit of task={}", task.id())))?;
    task.committed(&written)?;
    Ok(newest)
}
