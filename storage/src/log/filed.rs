//! Filed batches: those that are written to their segment first, and of which the journal has the header only.
//!
//! The bytes of a large commit go to the disk's cache once, not twice. Behind them in the same group stands how far the files of the
//! partition were written, and that is what a later checkpoint would say of it: all batches before that lie in files, those that the
//! journal has whole and that were written meanwhile, too. Recovery keeps files up to there, and writes nothing of them again.
//!
//! In mode `os` a power cut may leave the journal and take what it refers to. So recovery looks, before it touches anything, whether the
//! files hold all batches that the journal says they do; a group that speaks of others is not good, and the log ends in front of
//! it. Where segments are synced before the journal, it is damage. See `docs/decisions/0039-filed-batches.md`.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::PathBuf,
    sync::Arc,
};

use bytes::Bytes;
use headwater_core::{
    BatchHeader, Error, Offset, RecordBatch, Result,
    ledger::{Entry, Ledger, Place, TopicId},
};

use super::{
    checkpoint::PartitionMark,
    codec::Item,
    fs::{DataFile, Open},
    layout::{Layout, log_file},
};

/// What happened behind a checkpoint that the files must be seen in the light of.
#[derive(Debug, Default)]
pub(super) struct Filed {
    /// How far files were written, behind the checkpoint.
    pub(super) marks: BTreeMap<Place, PartitionMark>,
    /// Size of the largest batch in them.
    pub(super) largest: usize,
}

impl Filed {
    pub(super) fn note(&mut self, item: &Item) {
        match item {
            Item::Entry(Entry::Batch { batch, .. }) => self.largest = self.largest.max(batch.bytes().len()),
            Item::Entry(_) => {}
            Item::Filed(_, header) => self.largest = self.largest.max(header.size()),
            Item::Files(mark) => drop(self.marks.insert(mark.place, *mark)),
        }
    }
}

/// Looks whether files hold what the journal says they do, group by group.
pub(super) struct Check<'a> {
    layout: &'a Layout,
    deleted: &'a BTreeSet<TopicId>,
    earliest: &'a BTreeMap<Place, Offset>,
    partitions: BTreeMap<Place, Followed>,
    /// What was not found.
    missed: Option<(PartitionMark, PathBuf)>,
}

/// How far the files of a partition were looked through.
struct Followed {
    folder: PathBuf,
    /// With which offsets its segments begin.
    bases: Vec<Offset>,
    /// The segment that comes next, and where in it; `None` when none was begun.
    segment: Option<Offset>,
    byte: u64,
    /// Where the newest line says that the files end.
    newest_end: Offset,
    /// Batches that came since, filed or not.
    expected: Vec<BatchHeader>,
}

impl<'a> Check<'a> {
    /// Of the partitions of which `filed` says something, from where `marks` of the checkpoint say that they stood. Batches are filed only in
    /// partitions that it knows.
    ///
    /// # Errors
    /// `Corrupt` when one of them is none of the checkpoint's.
    pub(super) fn new(
        layout: &'a Layout,
        (ledger, marks): (&Ledger, &[PartitionMark]),
        filed: &Filed,
        (deleted, earliest): (&'a BTreeSet<TopicId>, &'a BTreeMap<Place, Offset>),
    ) -> Result<Self> {
        let mut partitions = BTreeMap::new();
        for (place, newest) in &filed.marks {
            let partition = ledger.offsets(*place).and_then(|_| ledger.partition(*place).ok());
            let partition = partition.ok_or_else(|| {
                Error::corrupt(format!(
                    "batches are in files of a partition that no checkpoint knows. {newest:?}"
                ))
            })?;
            let folder = layout.partition(&partition);
            let bases = layout.numbered(&folder, "log")?.into_iter().map(Offset).collect();
            let (newest_end, expected) = (newest.end, Vec::new());
            let none = Followed { folder, bases, segment: None, byte: 0, newest_end, expected };
            partitions.insert(*place, none);
        }
        for mark in marks.iter().filter(|mark| mark.length > 0) {
            if let Some(followed) = partitions.get_mut(&mark.place) {
                (followed.segment, followed.byte) = (Some(mark.active), mark.length);
            }
        }
        Ok(Self { layout, deleted, earliest, partitions, missed: None })
    }

    /// Whether the files hold what a group says.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub(super) fn holds(&mut self, items: &[Item]) -> Result<bool> {
        for item in items {
            match item {
                Item::Entry(Entry::Batch { place, batch }) => self.expect(*place, || BatchHeader::of(batch)),
                Item::Filed(place, header) => self.expect(*place, || *header),
                Item::Files(mark) if !self.files_hold(mark)? => return Ok(false),
                Item::Entry(_) | Item::Files(_) => {}
            }
        }
        Ok(true)
    }

    fn expect(&mut self, place: Place, header: impl FnOnce() -> BatchHeader) {
        if let Some(followed) = self.partitions.get_mut(&place) {
            let header = header();
            // What comes behind the newest line, no line speaks of.
            if header.next_offset() <= followed.newest_end {
                followed.expected.push(header);
            }
        }
    }

    fn files_hold(&mut self, mark: &PartitionMark) -> Result<bool> {
        let Some(followed) = self.partitions.get_mut(&mark.place) else { return Ok(true) };
        let expected = std::mem::take(&mut followed.expected);
        if expected.last().is_none_or(|last| last.next_offset() != mark.end) {
            return Err(Error::corrupt(format!("files hold what no batch before them says. files={mark:?}")));
        }
        let before = self.earliest.get(&mark.place).copied().unwrap_or_default();
        let gone = followed.gone(&expected, before);
        let (gone, left) = expected.split_at(gone);
        let found = if self.deleted.contains(&mark.place.topic) || left.is_empty() {
            true
        } else {
            let holds = followed.walk(self.layout, gone, left)?;
            holds && (followed.segment, followed.byte) == (Some(mark.active), mark.length)
        };
        if !found {
            self.missed = Some((*mark, followed.folder.clone()));
        }
        (followed.segment, followed.byte) = (Some(mark.active), mark.length);
        Ok(found)
    }

    /// That files do not hold what was on disk once.
    pub(super) fn damage(&self) -> Error {
        let what = self.missed.as_ref().map_or_else(String::new, |(mark, folder)| {
            format!(
                "folder={}, segment={}, byte={}, end={}",
                folder.display(),
                mark.active,
                mark.length,
                mark.end
            )
        });
        Error::corrupt(format!(
            "segments do not hold what was written before the journal said so: restore them from a copy. {what}"
        ))
    }
}

impl Followed {
    /// How many of the batches need not be looked for, because the segment that held them was deleted since, which was on disk before it
    /// went. One of which something is left must be good from its front on.
    fn gone(&self, expected: &[BatchHeader], before: Offset) -> usize {
        if before >= self.newest_end {
            return expected.len();
        }
        let behind = self.bases.iter().skip(1).chain([&Offset(u64::MAX)]);
        let kept = self.bases.iter().zip(behind).find(|(_, next)| **next > before).map(|(base, _)| *base);
        let kept = kept.map_or(before, |base| base.min(before));
        expected.partition_point(|header| header.next_offset() <= kept)
    }

    /// Whether the files go on with the batches `left`, behind those that are `gone`.
    fn walk(&mut self, layout: &Layout, gone: &[BatchHeader], left: &[BatchHeader]) -> Result<bool> {
        let Some(first) = left.first() else { return Ok(true) };
        let holder = self.bases.iter().rev().copied().find(|base| *base <= first.base_offset());
        let skipped = |from: Offset| {
            gone.iter()
                .filter(|header| header.base_offset() >= from)
                .map(|header| header.size() as u64)
                .sum::<u64>()
        };
        self.byte = match holder {
            Some(base) if Some(base) == self.segment => self.byte + skipped(Offset(0)),
            Some(base) => skipped(base),
            None => return Ok(false),
        };
        self.segment = holder;
        let mut open: Option<Arc<dyn DataFile>> = None;
        for header in left {
            let base = header.base_offset();
            if self.segment != Some(base) && self.bases.binary_search(&base).is_ok() {
                (self.segment, self.byte, open) = (Some(base), 0, None);
            }
            let Some(segment) = self.segment else { return Ok(false) };
            let read = self.read(layout, segment, &mut open, header.size());
            let Some(bytes) = read? else { return Ok(false) };
            let same = RecordBatch::parse(bytes).is_ok_and(|batch| BatchHeader::of(&batch) == *header);
            if !same {
                return Ok(false);
            }
            self.byte += header.size() as u64;
        }
        Ok(true)
    }

    /// `size` bytes of a segment from where it stands; `None` when they are not there.
    fn read(
        &self,
        layout: &Layout,
        segment: Offset,
        open: &mut Option<Arc<dyn DataFile>>,
        size: usize,
    ) -> Result<Option<Bytes>> {
        let path = log_file(&self.folder, segment);
        let mut read = || {
            let file = match open {
                Some(file) => Arc::clone(file),
                None => layout.fs.open(&path, Open::Read)?,
            };
            *open = Some(Arc::clone(&file));
            // A length of which nobody knows whether it is one must not take memory.
            if self.byte + size as u64 > file.len()? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let mut bytes = vec![0; size];
            file.read_exact_at(&mut bytes, self.byte).map(|()| bytes)
        };
        match read() {
            Ok(bytes) => Ok(Some(Bytes::from(bytes))),
            Err(error) if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::NotFound) => {
                Ok(None)
            }
            Err(error) => Err(Error::io(format!("cannot read segment. file={}", path.display()), error)),
        }
    }
}
