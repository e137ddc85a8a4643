//! What the journal behind a checkpoint says, up to its last good group, before anything is touched.

use std::collections::{BTreeMap, BTreeSet};

use headwater_core::{
    Offset, Result, TopicName,
    ledger::{Entry, Place, TopicId},
};

use super::{
    checkpoint::Checkpoint,
    codec::Item,
    filed::{Check, Filed},
    journal::{Kind, Position},
    layout::{Layout, log_file},
    scan::{self, Scan},
};

/// Reads the journal up to the last group that is good, and of which the files hold what it refers to.
pub(super) fn read_journal(layout: &Layout, checkpoint: &Checkpoint) -> Result<Found> {
    let from = checkpoint.position;
    let read = |until: u64| {
        let mut later = Later::default();
        let scan = scan::scan(layout, from, &mut |visited, items| {
            let taken = visited.group < until;
            if taken {
                items.into_iter().for_each(|item| later.note(item));
            }
            Ok(taken)
        });
        scan.map(|scan| Found { scan, later })
    };
    let mut until = u64::MAX;
    loop {
        let found = read(until)?;
        if found.later.filed.marks.is_empty() {
            return Ok(found);
        }
        let Later { deleted, earliest, filed, .. } = &found.later;
        let known = (&checkpoint.ledger, &checkpoint.partitions[..]);
        let mut check = Check::new(layout, known, filed, (deleted, earliest))?;
        let good = scan::scan(layout, from, &mut |visited, items| {
            if visited.group >= until {
                return Ok(false);
            }
            match check.holds(&items)? {
                false if visited.kind == Kind::Synced => Err(check.damage()),
                holds => Ok(holds),
            }
        })?;
        if good.end.group == found.scan.end.group {
            return Ok(found);
        }
        tracing::warn!(
            folder = %layout.folder.display(), group = good.end.group, error = check.damage().report(),
            "segments were lost that the journal speaks of: the log ends before"
        );
        // What was deleted behind it was not deleted.
        until = good.end.group;
    }
}

/// Where a journal ends for those who open the log.
///
/// # Errors
/// As [`scan::scan`], and when a file cannot be read.
pub(super) fn journal_end(layout: &Layout, checkpoint: &Checkpoint) -> Result<Position> {
    read_journal(layout, checkpoint).map(|found| found.scan.end)
}

/// Puts on disk what lies in files behind the checkpoint.
pub(super) fn sync_filed(layout: &Layout, checkpoint: &Checkpoint, later: &Later) -> Result<()> {
    let active: BTreeMap<_, _> = checkpoint.partitions.iter().map(|mark| (mark.place, mark.active)).collect();
    for mark in later.filed.marks.values().filter(|mark| !later.deleted.contains(&mark.place.topic)) {
        // Those before it were on disk at the checkpoint.
        let first = active.get(&mark.place).copied().unwrap_or_default();
        let folder = layout.partition(&checkpoint.ledger.partition(mark.place)?);
        if !layout.exists(&folder)? {
            // All of it was deleted, and its name never came to the disk.
            continue;
        }
        for base in layout.numbered(&folder, "log")?.into_iter().map(Offset).filter(|base| *base >= first) {
            layout.sync_file(&log_file(&folder, base))?;
        }
        layout.sync_folder(&folder)?;
    }
    Ok(())
}

/// What a first reading of the journal found.
pub(super) struct Found {
    pub(super) scan: Scan,
    pub(super) later: Later,
}

/// What happened behind the checkpoint that its files must be seen in the light of.
#[derive(Debug, Default)]
pub(super) struct Later {
    pub(super) created: BTreeSet<TopicName>,
    pub(super) deleted: BTreeSet<TopicId>,
    /// How many partitions there are then.
    pub(super) grown: BTreeMap<TopicId, u32>,
    /// The first offset that is left then.
    pub(super) earliest: BTreeMap<Place, Offset>,
    pub(super) filed: Filed,
}

impl Later {
    fn note(&mut self, item: Item) {
        self.filed.note(&item);
        let Item::Entry(entry) = item else { return };
        match entry {
            Entry::TopicCreated { spec, .. } => drop(self.created.insert(spec.name)),
            Entry::TopicDeleted { id } => drop(self.deleted.insert(id)),
            Entry::PartitionsAdded { id, partitions } => drop(self.grown.insert(id, partitions.get())),
            Entry::RecordsDeleted { place, before } => {
                let earliest = self.earliest.entry(place).or_default();
                *earliest = before.max(*earliest);
            }
            _ => {}
        }
    }

    pub(super) fn deletes(&self) -> bool {
        !(self.deleted.is_empty() && self.earliest.is_empty())
    }
}
