//! What of a partition is in files, as readers see it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use headwater_core::{Error, Offset, Result, Timestamp, ledger::TopicId};

use super::{checkpoint::PartitionMark, files::WriteFiles, layout::log_file};

/// A segment as readers see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    /// Offset of its first record.
    pub(super) base: Offset,
    /// Good bytes in its file.
    pub(super) length: u64,
    /// The highest timestamp in it, if somebody has looked; [`Timestamp::MIN`] when compaction left no record.
    pub(super) newest: Option<Timestamp>,
}

/// Which files go by the name of a partition's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Edition {
    pub(super) topic: TopicId,
    /// How often some were replaced since the log was opened.
    swaps: u64,
}

/// What of a partition is in files. Never changes: there is a new one after each write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileSpan {
    pub(super) topic: TopicId,
    /// How often files were replaced by others of their names.
    pub(super) swaps: u64,
    pub(super) folder: PathBuf,
    /// In order; none when nothing was written, or all of it was deleted.
    pub(super) segments: Vec<Segment>,
    /// The offset after the last record in them.
    pub(super) end: Offset,
}

impl FileSpan {
    /// Nothing yet.
    pub(super) fn empty(topic: TopicId, folder: PathBuf, end: Offset) -> Arc<Self> {
        Arc::new(Self { topic, swaps: 0, folder, segments: Vec::new(), end })
    }

    pub(super) fn edition(&self) -> Edition {
        Edition { topic: self.topic, swaps: self.swaps }
    }

    /// Good bytes in all its files.
    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.length).sum()
    }

    /// Which segment holds `offset`.
    pub(super) fn find(&self, offset: Offset) -> Option<usize> {
        let after = self.segments.partition_point(|segment| segment.base <= offset);
        after.checked_sub(1).filter(|_| offset < self.end)
    }

    /// The offset after the last record of a segment.
    pub(super) fn end_of(&self, segment: usize) -> Offset {
        self.segments.get(segment + 1).map_or(self.end, |next| next.base)
    }

    /// Whether whoever read from `offset` of this one would find the same in `other`, which is newer.
    pub(super) fn agrees(&self, other: &Self, offset: Offset) -> bool {
        let segment = |span: &Self| span.find(offset).and_then(|index| span.segments.get(index).copied());
        self.edition() == other.edition()
            && match (segment(self), segment(other)) {
                (Some(old), Some(new)) => old.base == new.base && old.length <= new.length,
                (old, new) => old == new,
            }
    }

    /// Takes note of segments that were written or begun.
    pub(super) fn extend(&mut self, written: &[Segment], end: Offset) {
        for segment in written {
            match self.segments.last_mut() {
                Some(last) if last.base == segment.base => *last = *segment,
                _ => self.segments.push(*segment),
            }
        }
        self.end = end;
    }

    /// Puts `by` in the place of the segments from its base to before `next`.
    pub(super) fn swap(&mut self, by: Segment, next: Offset) {
        let first = self.segments.partition_point(|segment| segment.base < by.base);
        let behind = self.segments.partition_point(|segment| segment.base < next);
        self.segments.splice(first..behind, [by]);
        self.swaps += 1;
    }

    /// Takes out the segments in which nothing is left when the records before `before` are gone.
    pub(super) fn cut_front(&mut self, before: Offset) -> Vec<Segment> {
        let gone = (0..self.segments.len()).take_while(|segment| self.end_of(*segment) <= before).count();
        self.end = self.end.max(before);
        self.segments.drain(..gone).collect()
    }
}

/// Brings the files of a partition back to what they were at the checkpoint, or where the journal says so later; what came behind that is in the journal, which
/// says too that records before `before` are gone.
///
/// # Errors
/// `Corrupt` when something is missing.
pub(super) fn cut_back(
    (topic, folder): (TopicId, &Path),
    mark: Option<&PartitionMark>,
    before: Offset,
    files: &mut WriteFiles,
) -> Result<FileSpan> {
    let bases: Vec<_> = files.layout.numbered(folder, "log")?.into_iter().map(Offset).collect();
    let end = mark.map_or(Offset(0), |mark| mark.end);
    let before = mark.map_or(before, |mark| mark.earliest.max(before));
    let needed = mark.filter(|mark| mark.length > 0 && before < mark.end);
    let mut segments = Vec::new();
    for (base, next) in bases.iter().zip(bases.iter().skip(1).map(Some).chain([None])) {
        let gone = next.is_some_and(|next| *next <= before);
        match needed.filter(|mark| *base <= mark.active && !gone) {
            Some(mark) => segments.push(keep(&log_file(folder, *base), *base, mark, files)?),
            None => {
                files.layout.remove_segment(folder, *base)?;
                files.removed_from(folder);
            }
        }
    }
    if let Some(mark) = needed {
        let complete = segments.first().is_some_and(|first| first.base <= before)
            && segments.last().is_some_and(|last| last.base == mark.active);
        if !complete {
            return Err(Error::corrupt(format!(
                "segment is missing: restore it from a copy. folder={}, first={:?}, earliest={before}, active={}",
                folder.display(),
                segments.first().map(|first| first.base),
                mark.active
            )));
        }
    }
    Ok(FileSpan { topic, swaps: 0, folder: folder.to_owned(), segments, end })
}

fn keep(path: &Path, base: Offset, mark: &PartitionMark, files: &mut WriteFiles) -> Result<Segment> {
    let failed = |e| Error::io(format!("cannot cut segment. file={}", path.display()), e);
    let length = files.layout.fs.size(path).map_err(failed)?;
    if base != mark.active {
        return Ok(Segment { base, length, newest: None });
    }
    if length < mark.length {
        return Err(Error::corrupt(format!(
            "segment is shorter than it was at the checkpoint: restore it from a copy. file={}, bytes={length}, checkpoint={}",
            path.display(),
            mark.length
        )));
    }
    if length > mark.length {
        files.open(path)?.set_len(mark.length).map_err(failed)?;
    }
    Ok(Segment { base, length: mark.length, newest: Some(mark.newest.timestamp) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(bases: &[u64], end: u64) -> FileSpan {
        let segment = |base: &u64| Segment { base: Offset(*base), length: 100, newest: None };
        let segments = bases.iter().map(segment).collect();
        FileSpan { topic: TopicId(1), swaps: 0, folder: PathBuf::from("t/0"), segments, end: Offset(end) }
    }

    #[test]
    fn a_segment_is_gone_when_its_last_record_is() {
        for (before, gone, end) in
            [(0, 0, 30), (9, 0, 30), (10, 1, 30), (29, 2, 30), (30, 3, 30), (35, 3, 35)]
        {
            let mut left = span(&[0, 10, 20], 30);
            assert_eq!(left.cut_front(Offset(before)).len(), gone, "before {before}");
            assert_eq!((left.segments.len(), left.end), (3 - gone, Offset(end)), "before {before}");
        }
    }

    #[test]
    fn what_was_read_holds_while_its_segment_is_there() {
        let old = span(&[0, 10, 20], 30);
        let mut grown = old.clone();
        grown.extend(&[Segment { base: Offset(20), length: 200, newest: None }], Offset(40));
        assert!((0..30).all(|offset| old.agrees(&grown, Offset(offset))));
        let mut cut = old.clone();
        cut.cut_front(Offset(12));
        assert!(!old.agrees(&cut, Offset(9)) && old.agrees(&cut, Offset(10)));
        let again = FileSpan { topic: TopicId(2), ..old.clone() };
        assert!(!old.agrees(&again, Offset(10)), "a new topic of the same name");
        let mut compacted = old.clone();
        compacted.swap(Segment { base: Offset(0), length: 150, newest: None }, Offset(20));
        assert_eq!(compacted.segments.iter().map(|segment| segment.base.0).collect::<Vec<_>>(), [0, 20]);
        assert!((0..30).all(|offset| !old.agrees(&compacted, Offset(offset))));
    }
}
