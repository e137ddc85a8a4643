//! The embedded log: one process, one folder, one journal.
//!
//! Read in this order: `layout` (which files) and `fs` (what is done with them, `share`: how much of the time), `group` and `codec` (what a journal
//! group looks like), `journal`, `writer` (what happens in which order), `partition`, `span` and `reader` (segments),
//! `checkpoint`, `filed`, `behind`, `recovery`; then `retention` and `compaction` (what becomes of old records), `observer` and `published`
//! (who looks at it from outside), `dump` and `verify` (who looks into its files).
//!
//! A commit is durable when its journal group is on disk, and visible after that. Segments are written from memory later, but for
//! large commits: those go to segments first, and the journal says where (`filed`). The journal thread is the only one that changes anything; readers take what they need from
//! memory or from files that only grow, and look again when files went away meanwhile.

mod admin;
mod behind;
mod checkpoint;
mod chunks;
mod codec;
mod compaction;
mod dump;
mod filed;
mod files;
mod fs;
mod group;
mod held;
mod index;
mod journal;
mod layout;
mod observer;
mod options;
mod partition;
mod producer;
mod published;
mod queue;
mod reader;
mod recovery;
mod retention;
mod room;
mod scan;
mod share;
mod shared;
mod span;
mod spare;
mod timeindex;
mod verify;
mod visible;
mod writer;

use std::{
    fmt,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
};

use async_trait::async_trait;
use futures::channel::oneshot;
use headwater_core::{
    Committed, Error, Fetched, GroupId, Log, LogVersion, Member, Offset, PartitionOffsets, Positions,
    Producer, ProducerName, Result, Subscription, TimedOffset, Timestamp, TopicPartition, TopicSpec, ledger,
};

pub use self::{
    dump::{DumpedBatch, SegmentDump, segment_files},
    held::LogLock,
    observer::ObservedLog,
    options::{Durability, LogOptions, RecoveryReport},
    share::DiskShare,
    verify::{Damage, VerifiedPartition, Verifier},
};
use self::{
    fs::{FileSystem, GentleFs, RealFs},
    producer::EmbeddedProducer,
    queue::Request,
    reader::Wanted,
    shared::Shared,
    visible::Source,
};

/// Read at once while a record is looked for by its time.
const SEARCH_BYTES: usize = 1 << 20;

/// No batch and no commit is larger, whatever the settings say.
const BYTES_MAX: usize = 1 << 30;

/// No name of a group or a producer is longer (Kafka: lengths of strings are i16).
const NAME_BYTES_MAX: usize = 32_767;

fn check_name(what: &str, name: &str) -> Result<()> {
    if name.len() <= NAME_BYTES_MAX {
        return Ok(());
    }
    Err(Error::invalid(format!("name is too long. {what}, bytes={}, max={NAME_BYTES_MAX}", name.len())))
}

/// A durable log in a folder. A clone is the same log; dropping the last clone and the last producer closes it.
///
/// ```
/// use headwater_core::{Log, TopicSpec};
/// use headwater_storage::log::EmbeddedLog;
/// # let folder = tempfile::tempdir().unwrap();
/// # let folder = folder.path();
/// # futures::executor::block_on(async {
/// let log = EmbeddedLog::open(folder)?;
/// log.create_topic(&TopicSpec::new("readings", 4)?).await?;
/// log.close().await?;
///
/// let again = EmbeddedLog::open(folder)?;
/// assert_eq!(again.topics().await?.len(), 1);
/// # Ok::<(), headwater_core::Error>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct EmbeddedLog(Arc<Owner>);

/// Ends the journal thread when nobody needs it any more.
struct Owner {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl EmbeddedLog {
    /// Opens the log in `folder` with default settings; a new one when there is none.
    ///
    /// # Errors
    /// As [`EmbeddedLog::open_with`].
    pub fn open(folder: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(folder, LogOptions::default())
    }

    /// Opens the log in `folder`; a new one when there is none. After a crash this replays at most the journal, which
    /// [`LogOptions::checkpoint_bytes`] bounds.
    ///
    /// # Errors
    /// `Unavailable` when another process has it open (the message has its process id) or the disk fails, `Corrupt` with
    /// file and byte when what is there is not what was written (nothing is changed then), `Invalid` when another
    /// version of Headwater wrote it, `Full` when there is no room to write what is in the journal only.
    pub fn open_with(folder: impl AsRef<Path>, options: LogOptions) -> Result<Self> {
        Self::open_on(Arc::new(RealFs), folder.as_ref(), options)
    }

    fn open_on(fs: Arc<dyn FileSystem>, folder: &Path, options: LogOptions) -> Result<Self> {
        let share = options.disk_share;
        let fs = if share.is_all() { fs } else { Arc::new(GentleFs::new(fs, share)) };
        let (shared, writer) = recovery::open(folder, options, fs)?;
        shared.share_out();
        let thread = thread::Builder::new().name("headwater-journal".into()).spawn(move || writer.run());
        let thread = thread.map_err(|e| Error::io("cannot start the journal thread", e))?;
        Ok(Self(Arc::new(Owner { shared, thread: Mutex::new(Some(thread)) })))
    }

    /// Writes everything to segments, makes a checkpoint, and gives the folder free. Every clone is closed with it.
    ///
    /// # Errors
    /// `Unavailable` when the disk fails; what was committed is safe all the same. `Full` when there was no room for a
    /// checkpoint: the log is closed, and opening it again reads the journal. `Closed` when the log had stopped
    /// after an error before.
    pub async fn close(&self) -> Result<()> {
        let (to, answer) = oneshot::channel();
        if !self.0.shared.queue.push_last(Request::Close(to)) {
            // Somebody else closes it, or did, or it has stopped.
            while self.0.shared.appended.after(u64::MAX).await.is_some() {}
            return if self.0.shared.check_readable().is_err() {
                Ok(())
            } else {
                Err(self.0.shared.stopped())
            };
        }
        self.answer(answer).await
    }

    /// Writes everything to segments and makes a checkpoint, so that opening the log has little to replay.
    ///
    /// # Errors
    /// `Unavailable` when the disk fails (the log stops then), `Full` when there is no room (it does not), `Closed`.
    pub async fn checkpoint(&self) -> Result<()> {
        self.ask(Request::Checkpoint).await
    }

    /// What opening it had to do.
    #[must_use]
    pub fn recovery(&self) -> &RecoveryReport {
        &self.0.shared.recovery
    }

    /// Where it is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.0.shared.layout.folder
    }

    async fn ask<T: Send>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T>>) -> Request + Send,
    ) -> Result<T> {
        let (to, answer) = oneshot::channel();
        if !self.0.shared.queue.push(0, || request(to)).await {
            return Err(self.0.shared.stopped());
        }
        self.answer(answer).await
    }

    async fn answer<T: Send>(&self, answer: oneshot::Receiver<Result<T>>) -> Result<T> {
        answer.await.unwrap_or_else(|oneshot::Canceled| Err(self.0.shared.stopped()))
    }

    /// Waits for what is done in the background.
    #[cfg(test)]
    fn settle(&self) -> Result<()> {
        futures::executor::block_on(self.ask(Request::Settle))
    }

    /// Stops as if the process was killed: no sync, no checkpoint.
    #[cfg(test)]
    fn crash(&self) {
        let (to, answer) = oneshot::channel();
        assert!(self.0.shared.queue.push_last(Request::Crash(to)));
        futures::executor::block_on(answer).unwrap().unwrap();
    }
}

#[async_trait]
impl Log for EmbeddedLog {
    async fn create_topic(&self, spec: &TopicSpec) -> Result<()> {
        let known = self
            .0
            .shared
            .visible()
            .topic(&spec.name)
            .is_some_and(|known| known.partitions == spec.partitions);
        if known {
            return self.0.shared.check_readable();
        }
        self.ask(|to| Request::CreateTopic(spec.clone(), to)).await
    }

    async fn topics(&self) -> Result<Vec<TopicSpec>> {
        self.0.shared.check_readable()?;
        Ok(self.0.shared.visible().topics())
    }

    async fn offsets(&self, partition: &TopicPartition) -> Result<PartitionOffsets> {
        self.0.shared.check_readable()?;
        self.0.shared.visible().offsets(partition)
    }

    async fn read(&self, partition: &TopicPartition, from: Offset, bytes_max: usize) -> Result<Fetched> {
        let shared = &self.0.shared;
        shared.check_readable()?;
        loop {
            let (source, end, batch_bytes_largest) = {
                let visible = shared.visible();
                let (source, end) = visible.source(partition, from, bytes_max)?;
                (source, end, visible.batch_bytes_largest)
            };
            let files = match source {
                Source::Memory(batches) => return Ok(Fetched { batches, end }),
                Source::Files(files) => files,
            };
            let wanted = Wanted { partition, from, bytes_max, batch_bytes_largest };
            let read = shared.reader.read(&files, &wanted);
            // Files that were deleted or replaced meanwhile make neither records nor damage.
            if shared.is_current(&files, &wanted) {
                return read.map(|batches| Fetched { batches, end });
            }
        }
    }

    async fn offset_at(&self, partition: &TopicPartition, time: Timestamp) -> Result<Option<TimedOffset>> {
        let shared = &self.0.shared;
        shared.check_readable()?;
        loop {
            let (files, in_memory, wanted) = {
                let visible = shared.visible();
                let (files, in_memory) = visible.newer(partition, time)?;
                let from = visible.offsets(partition)?.earliest;
                let batch_bytes_largest = visible.batch_bytes_largest;
                (files, in_memory, Wanted { partition, from, bytes_max: SEARCH_BYTES, batch_bytes_largest })
            };
            let found = shared.reader.first_at(&files, &wanted, time);
            if !shared.is_current(&files, &wanted) {
                continue;
            }
            if let Some(found) = found? {
                return Ok(Some(found));
            }
            let mut in_memory = in_memory.iter().map(|batch| ledger::first_at(batch, time, wanted.from));
            return in_memory.find_map(Result::transpose).transpose();
        }
    }

    async fn producer(&self, name: &ProducerName) -> Result<Box<dyn Producer>> {
        check_name("producer", &name.0)?;
        let producer = self.ask(|to| Request::OpenProducer(name.clone(), to)).await?;
        // Lengths in the journal are u32.
        let bytes_max = self.0.shared.options.commit_bytes_max.min(BYTES_MAX);
        Ok(Box::new(EmbeddedProducer::new(Arc::clone(&self.0), producer, bytes_max)))
    }

    async fn committed(&self, group: &GroupId, partition: &TopicPartition) -> Result<Option<Committed>> {
        self.0.shared.check_readable()?;
        Ok(self.0.shared.visible().committed(group, partition))
    }

    async fn commit_positions(&self, positions: &Positions) -> Result<()> {
        let placed = self.0.shared.placed(positions)?;
        self.ask(|to| Request::CommitPositions(placed, positions.member, to)).await
    }

    async fn join(&self, group: &GroupId, subscription: &Subscription) -> Result<Box<dyn Member>> {
        check_name("group", &group.0)?;
        self.0.shared.check_readable()?;
        self.0.shared.groups.join(group, subscription, self.clone())
    }

    async fn appended(&self, seen: LogVersion) -> Result<LogVersion> {
        let count = self.0.shared.appended.after(seen.0).await;
        count.map(LogVersion).ok_or_else(|| self.0.shared.stopped())
    }
}

impl fmt::Debug for EmbeddedLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedLog").field("folder", &self.folder()).finish_non_exhaustive()
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let (to, _nobody) = oneshot::channel();
        self.shared.queue.push_last(Request::Close(to));
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Whoever waits for an answer may be dropped, and the log with them, by the journal thread that wakes them.
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != thread::current().id()) {
            // A panic there has stopped the log and said so.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
