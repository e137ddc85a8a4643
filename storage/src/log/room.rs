//! What happens when the disk is full: nothing is decided that has no room, and what is decided waits until there is some.
//!
//! The journal has room for a group before its entries are decided, or the requests are refused: nothing of them was
//! written, and they may be tried again. Segments and checkpoints may be late: their batches are in the journal and in
//! memory. They are tried again when something is to be decided, and when too much waits in memory, commits are refused
//! too. So nothing waits for a timer, and everything goes on by itself when there is room.

use std::collections::BTreeMap;

use headwater_core::{
    BatchHeader, Error, ErrorKind, Offset, PartitionOffsets, RecordBatch, Result,
    ledger::{Entry, Place},
};

use super::{
    codec::FILES_BYTES,
    journal::Kept,
    writer::{Round, Writer},
};

impl Writer {
    /// Takes `entries` into the round, all or none, when they have their room in the journal; they are left where they
    /// are otherwise. Later decisions of the round build on them; if the round fails, the log stops.
    ///
    /// # Errors
    /// `Full`: nothing has happened. After another one the round must fail: it is kept in `round.failed`.
    pub(super) fn enter(&mut self, entries: &mut Vec<Entry>, round: &mut Round) -> Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.make_room(entries, round) {
            if error.kind() == ErrorKind::Full {
                round.refused = true;
                return Err(error.context("nothing was written, try again when there is room"));
            }
            round.failed = Some(again(&error));
            return Err(error);
        }
        for entry in &*entries {
            self.books.ledger.apply(entry).expect("the ledger decided so itself");
        }
        round.entries.append(entries);
        Ok(())
    }

    fn make_room(&mut self, entries: &[Entry], round: &mut Round) -> Result<()> {
        let frees = entries.iter().all(|entry| {
            matches!(
                entry,
                Entry::TopicDeleted { .. } | Entry::RecordsDeleted { .. } | Entry::GroupDeleted(_)
            )
        });
        if let Some(full) = round.no_room.as_ref().filter(|_| !frees) {
            return Err(again(full));
        }
        let mark = self.group.mark();
        let filing = self.worth_filing(entries, round);
        if !filing.is_empty() {
            match self.file(entries, filing, round) {
                Err(error) if error.kind() == ErrorKind::Full => {
                    // The journal may have room for all of it.
                    self.group.take_back(mark);
                    self.file_no_more();
                    self.meet_full(&error);
                }
                filed => return filed,
            }
        }
        entries.iter().for_each(|entry| self.group.push(entry));
        let kept = if frees { Kept::No } else { Kept::Yes };
        let reserved = self.journal.reserve(self.group.size() as u64, kept);
        reserved.inspect_err(|_| self.group.take_back(mark))?;
        round.whole.extend(entries.iter().filter_map(place_of));
        Ok(())
    }

    /// The partitions of which a commit brings so much that its bytes are better written once. Which files these are must be known to
    /// a checkpoint, and what was entered before must be in files, or come there first.
    fn worth_filing(&self, entries: &[Entry], round: &Round) -> BTreeMap<Place, Vec<RecordBatch>> {
        let mut worth = BTreeMap::new();
        if self.filable.is_empty() || self.late {
            return worth;
        }
        for entry in entries {
            if let Entry::Batch { place, batch } = entry
                && self.filable.get(&place.topic).is_some_and(|partitions| place.partition.0 < *partitions)
                && !round.whole.contains(place)
            {
                worth.entry(*place).or_insert_with(Vec::new).push(batch.clone());
            }
        }
        let mut least = self.shared.options.filed_bytes_min;
        if self.waits_for_disk() {
            if self.is_syncing() {
                // Of two syncs of one file at a time, only one is told of an error.
                return BTreeMap::new();
            }
            least = least.saturating_mul(FILED_SYNCED);
        }
        let bytes = |batches: &[RecordBatch]| batches.iter().map(|batch| batch.bytes().len()).sum::<usize>();
        worth.retain(|_, batches| bytes(batches) >= least);
        if self.waits_for_disk() && worth.len() + round.filed.len() > FILED_SYNCED_MAX {
            worth.clear();
        }
        worth
    }

    /// Writes batches to their files, and to the journal where they are.
    ///
    /// # Errors
    /// `Full`: the group has some of it, and nothing else has changed.
    fn file(
        &mut self,
        entries: &[Entry],
        filing: BTreeMap<Place, Vec<RecordBatch>>,
        round: &mut Round,
    ) -> Result<()> {
        let mut whole = Vec::new();
        for entry in entries {
            match entry {
                Entry::Batch { place, batch } if filing.contains_key(place) => {
                    self.group.push_filed(*place, &BatchHeader::of(batch));
                }
                entry => {
                    self.group.push(entry);
                    whole.extend(place_of(entry));
                }
            }
        }
        let size = self.group.size() + filing.len() * FILES_BYTES;
        self.journal.reserve(size.next_multiple_of(8) as u64, Kept::Yes)?;
        for run in self.books.file(filing, &self.shared)? {
            let known = self.books.ledger.offsets(run.place);
            let earliest = known.map_or(Offset(0), |offsets| offsets.earliest);
            let mark =
                self.books.partitions.get(&run.place).and_then(|partition| {
                    partition.mark(run.place, PartitionOffsets { earliest, end: run.end })
                });
            self.group.push_files(&mark.expect("something was just written"));
            self.journaled += run.bytes as u64;
            round.filed.push(run);
        }
        round.whole.extend(whole);
        Ok(())
    }

    /// Why nothing may be decided now that takes memory: too much waits there, and cannot be written.
    pub(super) fn bound_tail(&mut self) -> Result<Option<Error>> {
        match self.books.bound_tail(&self.shared) {
            Err(error) if error.kind() == ErrorKind::Full => {
                self.meet_full(&error);
                Ok(self.books.is_tail_too_long(&self.shared).then_some(error))
            }
            done => done.map(|()| None),
        }
    }

    /// What can be done later is no reason to stop.
    pub(super) fn forgive_full(&mut self, done: Result<()>) -> Result<()> {
        match done {
            Err(error) if error.kind() == ErrorKind::Full => {
                self.meet_full(&error);
                Ok(())
            }
            done => done,
        }
    }

    /// Says it once.
    pub(super) fn meet_full(&mut self, error: &Error) {
        if !self.late {
            let folder = self.shared.layout.folder.display();
            tracing::warn!(%folder, error = error.report(), "the log waits for room, and refuses what needs it");
        }
        self.late = true;
    }

    /// A checkpoint was made: all that was late has been written.
    pub(super) fn catch_up(&mut self) {
        if self.late {
            let folder = self.shared.layout.folder.display();
            tracing::info!(%folder, "the log has room again, and has caught up");
        }
        self.late = false;
    }
}

/// Where segments are synced before the journal, it takes so many times as much to make that worth it, and not more than so many
/// partitions at a time: a sync of each costs as much as writing a part of it once more.
const FILED_SYNCED: usize = 32;
const FILED_SYNCED_MAX: usize = 4;

/// The partition of a batch.
fn place_of(entry: &Entry) -> Option<Place> {
    match entry {
        Entry::Batch { place, .. } => Some(*place),
        _ => None,
    }
}

/// The same error once more.
pub(super) fn again(error: &Error) -> Error {
    Error::new(error.kind(), error.report())
}
