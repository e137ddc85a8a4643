//! Large commits are written to segments first, and the journal says where: which are, and in what order
//! (`docs/decisions/0039-filed-batches.md`).

use std::collections::BTreeMap;

use headwater_core::{
    BatchHeader, ErrorKind, Offset, PartitionOffsets, RecordBatch, Result,
    ledger::{Entry, Ledger, Place, TopicId},
};

use super::{Round, Writer};
use crate::log::{
    codec::FILES_BYTES,
    journal::Kept,
    options::{Durability, LogOptions},
};

/// Where segments are synced before the journal, it takes so many times as much to make that worth it, and not more than so many
/// times in a round: a sync of each costs as much as writing a part of it once more.
const FILED_SYNCED: usize = 32;
const FILED_SYNCED_MAX: usize = 4;

/// Topics that a checkpoint made now knows, and how many partitions they have; none where batches are not filed.
pub(super) fn filable(options: &LogOptions, ledger: &Ledger) -> BTreeMap<TopicId, u32> {
    if matches!(options.durability, Durability::Interval(_)) {
        return BTreeMap::new();
    }
    ledger.topics().map(|(id, spec)| (id, spec.partitions.get())).collect()
}

impl Writer {
    /// Files what is large of a commit, and takes all of it into the group; `false` when nothing is, or files have no room: then the group
    /// is as it was, and the journal may have room for all of it.
    ///
    /// # Errors
    /// Other than `Full`: the log must stop.
    pub(in crate::log) fn file_large(&mut self, entries: &[Entry], round: &mut Round) -> Result<bool> {
        let filing = self.worth_filing(entries, round);
        if filing.is_empty() {
            return Ok(false);
        }
        let mark = self.group.mark();
        match self.file(entries, filing, round) {
            Err(error) if error.kind() == ErrorKind::Full => {
                self.group.take_back(mark);
                self.file_no_more();
                self.meet_full(&error);
                Ok(false)
            }
            filed => filed.map(|()| true),
        }
    }

    /// Takes note of batches that go into the journal whole.
    pub(in crate::log) fn note_whole(&self, entries: &[Entry], round: &mut Round) {
        if !self.filable.is_empty() {
            round.whole.extend(entries.iter().filter_map(batch).map(|(place, _)| place));
        }
    }

    /// The partitions of which a commit brings so much that its bytes are better written once. Which files these are must be known to
    /// a checkpoint, and what was entered before must be in files, or come there first.
    fn worth_filing(&self, entries: &[Entry], round: &Round) -> BTreeMap<Place, Vec<RecordBatch>> {
        let mut worth = BTreeMap::new();
        let syncs = self.waits_for_disk();
        // Of two syncs of one file at a time, only one is told of an error.
        if self.filable.is_empty() || self.late || (syncs && self.is_syncing()) {
            return worth;
        }
        let times = if syncs { FILED_SYNCED } else { 1 };
        let least = self.shared.options.filed_bytes_min.saturating_mul(times);
        // Most commits are small.
        if entries.iter().filter_map(batch).map(|(_, batch)| batch.bytes().len()).sum::<usize>() < least {
            return worth;
        }
        for (place, batch) in entries.iter().filter_map(batch) {
            let known = self.filable.get(&place.topic).is_some_and(|count| place.partition.0 < *count);
            if known && !round.whole.contains(&place) {
                worth.entry(place).or_insert_with(Vec::new).push(batch.clone());
            }
        }
        worth.retain(|_, batches| batches.iter().map(|batch| batch.bytes().len()).sum::<usize>() >= least);
        if syncs && worth.len() + round.filed.len() > FILED_SYNCED_MAX {
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
            match batch(entry).filter(|(place, _)| filing.contains_key(place)) {
                Some((place, batch)) => self.group.push_filed(place, &BatchHeader::of(batch)),
                None => {
                    self.group.push(entry);
                    whole.extend(batch(entry).map(|(place, _)| place));
                }
            }
        }
        let size = self.group.size() + filing.len() * FILES_BYTES;
        self.journal.reserve(size.next_multiple_of(8) as u64, Kept::Yes)?;
        for run in self.books.file(filing, &self.shared)? {
            let known = self.books.ledger.offsets(run.place);
            let earliest = known.map_or(Offset(0), |offsets| offsets.earliest);
            let partition = self.books.partitions.get(&run.place);
            let mark = partition
                .and_then(|partition| partition.mark(run.place, PartitionOffsets { earliest, end: run.end }));
            self.group.push_files(&mark.expect("something was just written"));
            self.count_filed(run.bytes);
            round.filed.push(run);
        }
        round.whole.extend(whole);
        Ok(())
    }

    /// Whether segments are being synced by another thread.
    fn is_syncing(&self) -> bool {
        self.early_sync.is_some() || self.checkpoint.is_some()
    }

    /// No batch is filed until a checkpoint was begun and made: names of files that went must be gone on disk.
    fn file_no_more(&mut self) {
        self.filable.clear();
        if let Some(running) = &mut self.checkpoint {
            running.filable.clear();
        }
    }
}

fn batch(entry: &Entry) -> Option<(Place, &RecordBatch)> {
    match entry {
        Entry::Batch { place, batch } => Some((*place, batch)),
        _ => None,
    }
}
