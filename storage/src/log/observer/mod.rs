//! A log that somebody else owns, or nobody: read-only, while it is written, from this process or another.
//!
//! Read in this order: here, `view` (what is known of the log), `groups` (how it is read) and `bodies` (how records are), `patience` (when what is read does not fit together),
//! `watch` (waiting for more), `turns` (leaving the processor to others), `admin`. `docs/decisions/0012-observers.md` says why it is right.
//!
//! An observer takes no lock and writes nothing. It reads what recovery reads, the checkpoint and the journal behind it, as
//! far as the owner has published it, and goes on from there with each call. Files that the owner replaces, uses again or
//! removes in the meantime are noticed: every batch is checked against its checksum, its offset and, where it lies in the
//! journal, against the one that was there. Then it looks again, and only damage that stays is damage.

mod admin;
mod bodies;
mod groups;
mod loss;
mod patience;
mod turns;
mod view;
mod watch;

use std::{
    fmt, io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use async_trait::async_trait;
use headwater_core::{
    Committed, Error, Fetched, GroupId, Log, LogVersion, Member, Offset, PartitionOffsets, Positions,
    Producer, ProducerName, Result, Subscription, TimedOffset, Timestamp, TopicPartition, TopicSpec,
    ledger::{self, Place},
};

#[cfg(test)]
pub(super) use self::watch::PAUSE;
use self::{
    patience::Patience,
    view::{Newer, Source, View},
    watch::Watch,
};
use super::{
    SEARCH_BYTES,
    checkpoint::PartitionMark,
    fs::{FileSystem, RealFs},
    layout::{Layout, log_file},
    published,
    reader::{Reader, Wanted},
    recovery,
    span::{FileSpan, Segment},
};

/// A read-only view of the log in a folder, whoever owns it. A clone is the same view.
///
/// It shows what the owner has shown to its own readers when a call begins: with
/// [`Durability::Fsync`](super::Durability::Fsync) that is on disk. When nobody owns the folder, it shows what the last
/// owner had shown. Records that compaction has taken may be seen for a while longer, as long as the journal has them: the
/// value of a key is the same with them. What changes a log is refused with `Invalid`.
///
/// ```
/// use headwater_core::{Log, TopicSpec};
/// use headwater_storage::log::{EmbeddedLog, ObservedLog};
/// # let folder = tempfile::tempdir().unwrap();
/// # let folder = folder.path();
/// # futures::executor::block_on(async {
/// let log = EmbeddedLog::open(folder)?;
/// let observed = ObservedLog::open(folder)?;
/// log.create_topic(&TopicSpec::new("readings", 4)?).await?;
/// assert_eq!(observed.topics().await?, log.topics().await?);
/// assert!(observed.create_topic(&TopicSpec::new("others", 1)?).await.is_err());
/// # Ok::<(), headwater_core::Error>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct ObservedLog(Arc<Observer>);

struct Observer {
    layout: Layout,
    reader: Reader,
    /// `None` when it must be made anew.
    view: Mutex<Option<View>>,
    watch: Arc<Watch>,
}

/// What came of a look.
enum Look<'a> {
    /// The view knows everything that had been published. It is there.
    Good(MutexGuard<'a, Option<View>>),
    /// What was found does not fit together: it is worth to look again after this time.
    Again(Duration),
}

/// What came of a search by time.
enum Search {
    Found(Option<TimedOffset>),
    /// It must go on from here.
    From(Offset),
}

impl ObservedLog {
    /// Looks at the log in `folder`.
    ///
    /// # Errors
    /// `Invalid` when there is no log, or one of another version; `Unavailable` when the disk fails; `Corrupt` with file
    /// and byte when what is there is not what was written.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self> {
        Self::open_on(Arc::new(RealFs), folder.as_ref())
    }

    pub(super) fn open_on(fs: Arc<dyn FileSystem>, folder: &Path) -> Result<Self> {
        let layout = Layout::new(folder, Arc::clone(&fs));
        let format = layout.format();
        match layout.fs.read(&format) {
            Ok(version) => recovery::check_version(&format, &version)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::invalid(format!(
                    "there is no log here: choose its folder. folder={}",
                    folder.display()
                )));
            }
            Err(error) => return Err(Error::io(format!("cannot read. file={}", format.display()), error)),
        }
        let watch = Watch::new(layout.clone());
        let observer = Observer { layout, reader: Reader::of_others(fs), view: Mutex::default(), watch };
        let mut patience = Patience::default();
        while let Look::Again(pause) = observer.look(&mut patience)? {
            thread::park_timeout(pause);
        }
        Ok(Self(Arc::new(observer)))
    }

    /// Where it is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.0.layout.folder
    }

    /// Process id of the last process that opened the log to write, which may have ended; empty when it is not known.
    #[must_use]
    pub fn last_owner(&self) -> String {
        crate::lock::last_owner(&self.0.layout.lock())
    }

    /// Where its files are.
    pub(super) fn layout(&self) -> &Layout {
        &self.0.layout
    }

    /// What can be read of a partition, and what the newest checkpoint says of its files that is still of use.
    pub(super) async fn files(
        &self,
        partition: &TopicPartition,
    ) -> Result<(Place, PartitionOffsets, Option<PartitionMark>)> {
        self.0.refresh();
        let files = self.0.ask(|view| {
            let Newer { place, files, .. } = view.newer(partition, Offset(0), Timestamp::MIN)?;
            let offsets = view.ledger.offsets(place).ok_or_else(|| ledger::unknown_partition(partition))?;
            Ok((place, offsets, files))
        });
        files.await
    }

    /// Reads all of the journal, as recovery does.
    pub(super) async fn check_journal(&self) -> Result<()> {
        self.0.check_journal().await
    }

    /// Looks for records where the last checkpoint says they are, and no longer in the journal.
    #[cfg(test)]
    pub(super) fn look_anew(&self) {
        self.0.refresh();
    }

    /// The names of all producers that the log knows.
    #[cfg(test)]
    pub(super) fn producers(&self) -> Result<Vec<String>> {
        let names = self.0.ask(|view| Ok(view.ledger.producers().map(|(name, _)| name.0.clone()).collect()));
        futures::executor::block_on(names)
    }

    fn refused<T>(&self) -> Result<T> {
        Err(Error::invalid(format!(
            "log is open read-only: change it through the process that owns it. folder={}, last_owner_pid={}",
            self.folder().display(),
            self.last_owner()
        )))
    }
}

impl Observer {
    fn lock(&self) -> MutexGuard<'_, Option<View>> {
        // What a panic left half way is made anew.
        self.view.lock().unwrap_or_else(|poisoned| {
            let mut view = PoisonError::into_inner(poisoned);
            *view = None;
            view
        })
    }

    /// Asks a view that knows everything that had been published when this was called. While it waits to look again, others
    /// may look, and the thread does something else.
    async fn ask<T>(&self, question: impl FnOnce(&View) -> Result<T>) -> Result<T> {
        let mut patience = Patience::default();
        loop {
            let pause = match self.look(&mut patience)? {
                Look::Good(view) => return question(view.as_ref().expect("a good look has left one")),
                Look::Again(pause) => pause,
            };
            self.watch.pause(pause).await?;
        }
    }

    fn look(&self, patience: &mut Patience) -> Result<Look<'_>> {
        let mut view = self.lock();
        loop {
            let Err(error) = self.catch_up(&mut view) else { return Ok(Look::Good(view)) };
            match patience.look_again(error) {
                Ok(pause) => return Ok(Look::Again(pause)),
                Err(error) => self.accept_loss(&mut view, error)?,
            }
        }
    }

    /// Waits until it is worth to look again, and looks where the newest checkpoint says.
    ///
    /// # Errors
    /// `error`, when it is worth no more, and nothing that was shown is lost.
    async fn look_anew_after(&self, patience: &mut Patience, error: Error) -> Result<()> {
        match patience.look_again(error) {
            Ok(pause) => self.watch.pause(pause).await?,
            Err(error) => {
                self.accept_lost_files(error)?;
                *patience = Patience::default();
            }
        }
        self.refresh();
        Ok(())
    }

    fn catch_up(&self, view: &mut Option<View>) -> Result<()> {
        let published = published::read(&self.layout);
        let went_back =
            |view: &View| published.zip(view.published).is_some_and(|(now, seen)| now.group < seen.group);
        if view.as_ref().is_some_and(went_back) {
            tracing::warn!(folder = %self.layout.folder.display(), "log was taken back to an earlier state");
            *view = None;
        }
        if view.as_ref().is_some_and(|view| published.is_some() && view.published == published) {
            return Ok(());
        }
        // Dropped on the way out if something fails: it would know half a group.
        let mut next = match view.take() {
            Some(view) => view,
            None => View::load(&self.layout)?,
        };
        let target = match published {
            Some(published) => published,
            None => next.vouched(&self.layout)?,
        };
        next.advance(&self.layout, target)?;
        next.published = published;
        *view = Some(next);
        Ok(())
    }

    /// After a read that found something else than it should.
    fn refresh(&self) {
        let mut view = self.lock();
        let known = view.as_mut().map(|view| view.refresh(&self.layout));
        if !matches!(known, Some(Ok(true))) {
            *view = None;
        }
    }

    async fn read(&self, partition: &TopicPartition, from: Offset, bytes_max: usize) -> Result<Fetched> {
        let mut patience = Patience::default();
        loop {
            let asked = self.ask(|view| {
                let (place, source, end) = view.source(partition, from, bytes_max)?;
                Ok((place, source, end, view.ledger.batch_bytes_largest()))
            });
            let (place, source, end, batch_bytes_largest) = asked.await?;
            let read = match source {
                Source::Nothing => Ok(Some(Vec::new())),
                Source::Journal(wanted) => self.read_journal(&wanted, partition).map(Some),
                Source::Files(mark) => {
                    let wanted = Wanted { partition, from, bytes_max, batch_bytes_largest };
                    let read =
                        self.span(&mark, partition, from).and_then(|span| self.reader.read(&span, &wanted));
                    match read {
                        Ok(batches) => self.is_there(place).await.map(|there| there.then_some(batches)),
                        Err(error) => Err(error),
                    }
                }
            };
            match read {
                Ok(Some(batches)) => return Ok(Fetched { batches, end }),
                Ok(None) => {}
                Err(error) => {
                    self.look_anew_after(&mut patience, error).await?;
                }
            }
        }
    }

    async fn offset_at(&self, partition: &TopicPartition, time: Timestamp) -> Result<Option<TimedOffset>> {
        let mut patience = Patience::default();
        let mut from = Offset(0);
        loop {
            let asked =
                self.ask(|view| Ok((view.newer(partition, from, time)?, view.ledger.batch_bytes_largest())));
            let (newer, batch_bytes_largest) = asked.await?;
            match self.first_at(partition, &newer, batch_bytes_largest, time).await {
                Ok(Search::Found(found)) => return Ok(found),
                Ok(Search::From(next)) => from = next,
                Err(error) => {
                    self.look_anew_after(&mut patience, error).await?;
                }
            }
        }
    }

    async fn first_at(
        &self,
        partition: &TopicPartition,
        newer: &Newer,
        batch_bytes_largest: usize,
        time: Timestamp,
    ) -> Result<Search> {
        if let Some(mark) = &newer.files {
            let from = newer.earliest;
            let wanted = Wanted { partition, from, bytes_max: SEARCH_BYTES, batch_bytes_largest };
            let span = self.span(mark, partition, Offset(u64::MAX))?;
            let found = self.reader.first_at(&span, &wanted, time)?;
            if !self.is_there(newer.place).await? {
                return Ok(Search::From(Offset(0)));
            }
            if found.is_some() {
                return Ok(Search::Found(found));
            }
        }
        let Some(wanted) = &newer.journaled else { return Ok(Search::Found(None)) };
        let mut next = newer.earliest;
        for batch in &self.read_journal(wanted, partition)? {
            if let Some(found) = ledger::first_at(batch, time, newer.earliest)? {
                return Ok(Search::Found(Some(found)));
            }
            next = batch.next_offset();
        }
        // All such records of the batch lie before the earliest.
        Ok(Search::From(next))
    }

    /// Whether the topic is still the one that it was. Files of one that was deleted may be those of another that has its
    /// name now.
    async fn is_there(&self, place: Place) -> Result<bool> {
        self.ask(|view| Ok(view.ledger.partition(place).is_ok())).await
    }

    /// The files of a partition as they are named now, up to the one that holds `until`.
    fn span(&self, mark: &PartitionMark, partition: &TopicPartition, until: Offset) -> Result<FileSpan> {
        let folder = self.layout.partition(partition);
        let bases: Vec<_> = self.layout.numbered(&folder, "log")?.into_iter().map(Offset).collect();
        let count = bases.partition_point(|base| *base <= until.min(mark.active));
        // Who reads from `until` on needs the last of these only.
        let skipped = if until < mark.end { count.saturating_sub(1) } else { 0 };
        let mut segments = Vec::new();
        for base in bases.iter().take(count).skip(skipped).copied() {
            let length = if base == mark.active { mark.length } else { self.segment_length(&folder, base)? };
            segments.push(Segment { base, length, newest: None });
        }
        let end = bases.get(count).map_or(mark.end, |next| mark.end.min(*next));
        Ok(FileSpan { topic: mark.place.topic, swaps: 0, folder, segments, end })
    }

    fn segment_length(&self, folder: &Path, base: Offset) -> Result<u64> {
        let path = log_file(folder, base);
        let length = self.layout.fs.size(&path);
        length.map_err(|e| Error::io(format!("cannot look at segment. file={}", path.display()), e))
    }
}

#[async_trait]
impl Log for ObservedLog {
    async fn create_topic(&self, _: &TopicSpec) -> Result<()> {
        self.refused()
    }

    async fn topics(&self) -> Result<Vec<TopicSpec>> {
        self.0.ask(|view| Ok(view.ledger.topics().map(|(_, spec)| spec.clone()).collect())).await
    }

    async fn offsets(&self, partition: &TopicPartition) -> Result<PartitionOffsets> {
        let offsets = self.0.ask(|view| {
            let place = view.ledger.place(partition)?;
            view.ledger.offsets(place).ok_or_else(|| ledger::unknown_partition(partition))
        });
        offsets.await
    }

    /// Reads files on the calling thread, and waits some milliseconds without it when the owner changes them just then.
    async fn read(&self, partition: &TopicPartition, from: Offset, bytes_max: usize) -> Result<Fetched> {
        self.0.read(partition, from, bytes_max).await
    }

    async fn offset_at(&self, partition: &TopicPartition, time: Timestamp) -> Result<Option<TimedOffset>> {
        self.0.offset_at(partition, time).await
    }

    async fn producer(&self, _: &ProducerName) -> Result<Box<dyn Producer>> {
        self.refused()
    }

    async fn committed(&self, group: &GroupId, partition: &TopicPartition) -> Result<Option<Committed>> {
        let committed = self.0.ask(|view| {
            let Ok(place) = view.ledger.place(partition) else { return Ok(None) };
            Ok(view.ledger.committed(group, place).cloned())
        });
        committed.await
    }

    async fn commit_positions(&self, _: &Positions) -> Result<()> {
        self.refused()
    }

    async fn join(&self, _: &GroupId, _: &Subscription) -> Result<Box<dyn Member>> {
        self.refused()
    }

    /// Never ends by itself: another owner may come.
    async fn appended(&self, seen: LogVersion) -> Result<LogVersion> {
        self.0.watch.after(seen.0).await.map(LogVersion)
    }
}

impl fmt::Debug for ObservedLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObservedLog").field("folder", &self.folder()).finish_non_exhaustive()
    }
}
