//! Compaction in the background: which partitions, when, in a thread of its own.
//!
//! Read in this order: here, `pass` (what becomes of the segments of one partition), `swap` (how new files take the place
//! of old ones), `point` (how far a partition was compacted).
//!
//! Only closed segments that were on disk at a checkpoint are touched: nobody writes to them any more, and recovery does
//! not cut them. The thread reads them and writes what takes their place; the journal thread, the only one that changes
//! what readers see, gives the new files their names. Whatever fails here stops nothing: what it leaves is removed, and
//! tried again the next time.

mod pass;
mod point;
mod swap;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use futures::channel::oneshot;
use headwater_core::{
    Cleaned, Error, ErrorKind, Offset, Result, Timestamp, TopicConfig, TopicPartition,
    ledger::{self, CleanPoint, Piece, Place},
};

use self::pass::Pass;
pub(super) use self::swap::{Swap, Swapped, begun, resolve};
use super::{queue::Request, room::again, shared::Shared, span::FileSpan};

/// How much larger than any that was written a batch may become: a timestamp counts from elsewhere where tombstones have
/// got the time when they may go, and takes up to ten bytes more of a record that has seven or more.
pub(super) const GROWTH_MAX: usize = 3;

/// A partition to look at.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) place: Place,
    pub(super) partition: TopicPartition,
    pub(super) config: TopicConfig,
    /// Where the segment begins that was active at the last checkpoint: those before it are closed and on disk.
    pub(super) active: Offset,
}

/// Somebody who waits for it, and what was deleted for them.
pub(super) type Asked = (oneshot::Sender<Result<Cleaned>>, Cleaned);

/// At most one thread.
#[derive(Debug, Default)]
pub(super) struct Compactor {
    thread: Option<JoinHandle<Result<Cleaned>>>,
    stop: Arc<AtomicBool>,
    /// Those who wait for it.
    asked: Vec<Asked>,
    /// Where the active segments of compacted topics began at the last checkpoint.
    pub(super) on_disk: BTreeMap<Place, Offset>,
    /// Those who came too late for the thread that runs.
    pub(super) waiting: Vec<Asked>,
}

impl Compactor {
    /// Whether there is a thread that did not say that it is done.
    pub(super) fn is_running(&self) -> bool {
        self.thread.is_some()
    }

    /// Whether somebody waits for it to begin.
    pub(super) fn is_awaited(&self) -> bool {
        !self.waiting.is_empty() && !self.is_running()
    }

    /// Begins. The thread says that it is done with [`Request::Compacted`].
    pub(super) fn begin(&mut self, shared: &Arc<Shared>, jobs: Vec<Job>, asked: Vec<Asked>) {
        let (shared, stop) = (Arc::clone(shared), Arc::clone(&self.stop));
        let run = move || {
            let done = Done(shared);
            run(&done.0, &jobs, &stop)
        };
        self.asked = asked;
        match thread::Builder::new().name("headwater-compaction".into()).spawn(run) {
            Ok(thread) => self.thread = Some(thread),
            Err(error) => {
                tracing::warn!(%error, "compaction thread cannot be started: tried again later");
                self.answer(&Err(Error::io("cannot start the compaction thread: try again", error)));
            }
        }
    }

    /// The thread has said that it is done.
    pub(super) fn finish(&mut self) {
        if let Some(done) = self.join() {
            self.answer(&done);
        }
    }

    /// What came of it, if there was a thread.
    fn join(&mut self) -> Option<Result<Cleaned>> {
        Some(self.thread.take()?.join().unwrap_or_else(|_| {
            tracing::error!("compaction thread panicked: this is a bug");
            Err(Error::new(
                ErrorKind::Unavailable,
                "compaction thread panicked: this is a bug, the log goes on",
            ))
        }))
    }

    fn answer(&mut self, done: &Result<Cleaned>) {
        for (to, Cleaned { deleted_bytes, .. }) in self.asked.drain(..) {
            let answer = done.as_ref().map(|done| Cleaned { deleted_bytes, ..*done }).map_err(again);
            // Whoever asked may be gone.
            let _ = to.send(answer);
        }
    }

    /// Ends the thread soon, and waits for that. It must not be waiting for an answer. Whoever waits for it hears that the
    /// log was closed.
    pub(super) fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.join();
        self.asked.clear();
        self.waiting.clear();
    }
}

/// Says that the thread is done, however it ends.
struct Done(Arc<Shared>);

impl Drop for Done {
    fn drop(&mut self) {
        self.0.queue.push_now(Request::Compacted);
    }
}

/// One after another; an error of one is no reason to leave the others.
fn run(shared: &Shared, jobs: &[Job], stop: &AtomicBool) -> Result<Cleaned> {
    let mut compacted = Cleaned::default();
    let mut failed: Option<Error> = None;
    for job in jobs {
        go_on(stop)?;
        if let Err(error) = job.run(shared, stop, &mut compacted) {
            go_on(stop)?;
            if shared.visible().files(job.place).is_none() {
                continue;
            }
            tracing::warn!(partition = %job.partition, error = error.report(), "not compacted: tried again later");
            failed.get_or_insert(error);
        }
    }
    failed.map_or(Ok(compacted), Err)
}

/// # Errors
/// `Closed` when the log is being closed.
fn go_on(stop: &AtomicBool) -> Result<()> {
    if stop.load(Ordering::Relaxed) {
        return Err(Error::new(ErrorKind::Closed, "the log is being closed"));
    }
    Ok(())
}

impl Job {
    /// Compacts the partition, if it is time.
    fn run(&self, shared: &Shared, stop: &AtomicBool, compacted: &mut Cleaned) -> Result<()> {
        let Some(files) = shared.visible().files(self.place) else { return Ok(()) };
        swap::tidy(shared, self.place)?;
        let mut clean = point::read(&shared.layout, &files);
        let now = shared.options.clock.now();
        loop {
            let Some(files) = shared.visible().files(self.place) else { break };
            let pieces = self.pieces(shared, &files, clean);
            let Some(dirty) = ledger::due(&pieces, clean, &self.config, now) else { break };
            let end = dirty.end;
            let passed = Pass::new(shared, self, Arc::clone(&files), stop).run(dirty, now, compacted);
            // Also after an error: what it left takes room.
            let tidied = swap::tidy(shared, self.place);
            let Some(next) = passed.and_then(|next| tidied.map(|()| next))? else { break };
            clean = next;
            point::write(&shared.layout, &files, clean)?;
            if clean.offset >= end {
                break;
            }
        }
        Ok(())
    }

    /// The closed segments, and how old they are as far as that matters.
    fn pieces(&self, shared: &Shared, files: &FileSpan, clean: CleanPoint) -> Vec<Piece> {
        let closed = files.segments.iter().enumerate().take_while(|(_, segment)| segment.base < self.active);
        let pieces = closed.map(|(index, segment)| {
            let next = files.end_of(index);
            let matters = self.config.min_compaction_lag_ms > 0 && next > clean.offset;
            // Of one that cannot be read it is not known: it is left alone.
            let newest =
                || shared.reader.newest(files, segment).ok().flatten().unwrap_or(Timestamp(i64::MAX));
            let newest = matters.then(|| segment.newest.unwrap_or_else(newest));
            Piece { next, bytes: segment.length, max_timestamp: newest }
        });
        pieces.collect()
    }
}
