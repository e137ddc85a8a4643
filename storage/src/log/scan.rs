//! Reads the journal from a position to its end, and says whether that end is a torn group or damage.

use bytes::Bytes;
use headwater_core::{Error, Result};

use super::{
    BYTES_MAX,
    codec::Item,
    group::{self, GROUP_HEADER_BYTES, GroupHeader, Seed},
    journal::{Kind, Position, SEGMENT_HEADER_BYTES, SegmentFile},
    layout::Layout,
};

/// No group is larger: a round of requests and the largest commit, with what goes around each batch.
pub(super) const GROUP_BYTES_MAX: usize = 2 * BYTES_MAX;
/// No group is smaller.
const GROUP_BYTES_MIN: usize = GROUP_HEADER_BYTES + 8;

/// What a scan found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Scan {
    pub(super) groups: u64,
    pub(super) bytes: u64,
    /// Behind the last good group.
    pub(super) end: Position,
    /// A good group says that all below this number are on disk.
    pub(super) durable: u64,
    /// What stands there of groups that were never finished, or not known to be.
    pub(super) torn_bytes: u64,
    /// What is known of the groups before the file in which it ended.
    pub(super) kind: Kind,
    /// Number of the newest file, which holds nothing that counts if that is not where it ended.
    pub(super) newest: u64,
}

/// Where a group was found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Visited {
    /// Its number.
    pub(super) group: u64,
    /// What is known of it.
    pub(super) kind: Kind,
}

/// Visits what all good groups from `from` on are made of, in order. A group that the visitor does not take is not
/// good.
///
/// # Errors
/// `Corrupt` when a bad group is not at the end: a good one behind it, or a file, was written when the bad one was already on
/// disk.
pub(super) fn scan(
    layout: &Layout,
    from: Position,
    visit: &mut dyn FnMut(Visited, Vec<Item>) -> Result<bool>,
) -> Result<Scan> {
    let mut segment =
        SegmentFile::open(layout, from.segment)?.ok_or_else(|| missing(layout, from.segment))?;
    let (kind, newest) = (segment.kind, from.segment);
    let mut found = Scan { groups: 0, bytes: 0, end: from, durable: 0, torn_bytes: 0, kind, newest };
    if segment.length < from.byte && kind == Kind::Synced {
        return Err(Error::corrupt(format!(
            "journal file is shorter than it was at the checkpoint: restore it from a copy. file={}, bytes={}, checkpoint={}",
            segment.path.display(),
            segment.length,
            from.byte
        )));
    }
    let begun = begun_later(layout, from.segment)?;
    'files: loop {
        // Whoever began a later file with a group was here, and did not find that one good before.
        let behind = |number: u64| begun.iter().filter(move |(later, _)| *later > number);
        let limit = behind(segment.seed.segment).map(|(_, first)| *first).min().unwrap_or(u64::MAX);
        while found.end.group < limit
            && let Some((header, items)) = read_group(&segment, found.end)?
        {
            let visited = Visited { group: header.number, kind: segment.kind };
            if !visit(visited, items).map_err(|e| place(e, &segment, found.end))? {
                break 'files;
            }
            let size = group::padded(header.size()) as u64;
            found.groups += 1;
            found.bytes += size;
            found.durable = found.durable.max(header.durable);
            found.end.byte += size;
            found.end.group += 1;
        }
        let next = found.end.segment + 1;
        let following = SegmentFile::open(layout, next)?;
        match following.filter(|following| following.first_group == found.end.group) {
            Some(following) => {
                segment = following;
                found.end = Position { segment: next, byte: SEGMENT_HEADER_BYTES, group: found.end.group };
            }
            None => break,
        }
    }
    let newest = layout.numbered(&layout.journal(), "journal")?.last().copied();
    found.newest = found.end.segment.max(newest.unwrap_or_default());
    found.kind = segment.kind;
    found.torn_bytes = torn(&segment, found.end)?;
    for number in found.end.segment + 1..=found.newest {
        let later = SegmentFile::open(layout, number)?.ok_or_else(|| missing(layout, number))?;
        found.torn_bytes += torn_file(&segment, found.end, &later)?;
    }
    Ok(found)
}

/// The files behind `segment`, and with which group each begins.
fn begun_later(layout: &Layout, segment: u64) -> Result<Vec<(u64, u64)>> {
    let mut begun = Vec::new();
    for number in layout.numbered(&layout.journal(), "journal")? {
        if number > segment
            && let Some(file) = SegmentFile::open(layout, number)?
        {
            begun.push((number, file.first_group));
        }
    }
    Ok(begun)
}

pub(super) fn missing(layout: &Layout, segment: u64) -> Error {
    let path = layout.journal_segment(segment);
    Error::corrupt(format!("journal file is missing: restore it from a copy. file={}", path.display()))
}

fn bad_middle(segment: &SegmentFile, at: Position, good: &SegmentFile, number: u64) -> Error {
    Error::corrupt(format!(
        "journal is damaged, and later groups are good: nothing was cut. Restore the file from a copy. file={}, byte={}, group={}, good_group={number}, good_file={}",
        segment.path.display(),
        at.byte,
        at.group,
        good.path.display()
    ))
}

fn place(error: Error, segment: &SegmentFile, at: Position) -> Error {
    error.context(format!("journal. file={}, byte={}", segment.path.display(), at.byte))
}

/// The group at `at` and what it is made of, if a good one with the right number is there: its front, and all of its bodies.
fn read_group(segment: &SegmentFile, at: Position) -> Result<Option<(GroupHeader, Vec<Item>)>> {
    let mut header = [0; GROUP_HEADER_BYTES];
    if at.byte + GROUP_HEADER_BYTES as u64 > segment.length {
        return Ok(None);
    }
    read_at(segment, &mut header, at.byte)?;
    let Some(header) = GroupHeader::read(&header).filter(|header| header.number == at.group) else {
        return Ok(None);
    };
    // What a damaged length can make us read has its bounds.
    if header.size() > GROUP_BYTES_MAX || at.byte + header.size() as u64 > segment.length {
        return Ok(None);
    }
    let mut group = vec![0; header.size()];
    read_at(segment, &mut group, at.byte)?;
    if !header.holds(segment.seed, &group[..header.front_size()]) {
        return Ok(None);
    }
    let items = group::items(&header, &Bytes::from(group)).map_err(|e| place(e, segment, at))?;
    Ok(items.map(|items| (header, items)))
}

/// How many bytes of unfinished or lost groups stand at the end.
///
/// # Errors
/// `Corrupt` when one was finished once: a group behind it knew it to be on disk, and says so in its front, which is good. Its
/// bodies may be torn themselves.
fn torn(segment: &SegmentFile, end: Position) -> Result<u64> {
    let rest = read_rest(segment, end.byte)?;
    // Good groups that nobody knew to be on disk: the next writer must not come to stand in front of them.
    let mut lost = 0;
    for (at, later) in later_groups(&rest, end.group.saturating_add(1), segment.seed) {
        if later.durable > end.group {
            return Err(bad_middle(segment, end, segment, later.number));
        }
        lost = (at + later.size()).min(rest.len());
    }
    let front = &rest[..rest.len().min(GROUP_HEADER_BYTES)];
    if lost > 0 || front.iter().all(|byte| *byte == 0) {
        return Ok(lost as u64);
    }
    let begun = GroupHeader::read(&rest).filter(|header| header.number == end.group);
    let size = begun.map(|header| header.size()).filter(|size| *size <= rest.len());
    let written = || rest.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    Ok(size.unwrap_or_else(written) as u64)
}

/// How many bytes of a file behind the end are of groups that were lost with what was before them; 0 when it was begun at the end,
/// and nothing was written.
///
/// # Errors
/// `Corrupt` when what was before them was on disk once: the file was not begun earlier, or a group in it says so.
fn torn_file(segment: &SegmentFile, end: Position, later: &SegmentFile) -> Result<u64> {
    let begun_at_end = later.first_group == end.group;
    if later.kind == Kind::Synced && !begun_at_end {
        return Err(bad_middle(segment, end, later, later.first_group));
    }
    let rest = read_rest(later, SEGMENT_HEADER_BYTES)?;
    let mut lost = 0;
    for (at, group) in later_groups(&rest, later.first_group, later.seed) {
        if later.kind == Kind::Synced || group.durable > end.group {
            return Err(bad_middle(segment, end, later, group.number));
        }
        lost = (at + group.size()).min(rest.len());
    }
    Ok(if begun_at_end { lost as u64 } else { SEGMENT_HEADER_BYTES + lost as u64 })
}

fn read_rest(segment: &SegmentFile, from: u64) -> Result<Vec<u8>> {
    let left = segment.length.saturating_sub(from);
    let mut rest = vec![0; usize::try_from(left).unwrap_or(GROUP_BYTES_MAX).min(GROUP_BYTES_MAX)];
    read_at(segment, &mut rest, from)?;
    Ok(rest)
}

/// The groups in `rest` of which the front is good, where group `next` should stand, and where they are.
fn later_groups(rest: &[u8], next: u64, seed: Seed) -> impl Iterator<Item = (usize, GroupHeader)> {
    // So many fit in.
    let newest = next.saturating_add((rest.len() / GROUP_BYTES_MIN) as u64);
    // Only bytes that were made to look like groups need so much: it keeps them from taking hours.
    let mut work_left = rest.len().saturating_mul(4).saturating_add(64 << 20);
    let places = (0..rest.len()).step_by(group::padded(1));
    places.filter_map(move |at| {
        let header = GroupHeader::read(&rest[at..])?;
        let plausible = (next..=newest).contains(&header.number) && header.durable <= header.number;
        let front = rest.get(at..at + header.front_size()).filter(|_| plausible)?;
        work_left = work_left.checked_sub(front.len())?;
        header.holds(seed, front).then_some((at, header))
    })
}

fn read_at(segment: &SegmentFile, bytes: &mut [u8], at: u64) -> Result<()> {
    let read = segment.file.read_exact_at(bytes, at);
    read.map_err(|e| Error::io(format!("cannot read journal. file={}, byte={at}", segment.path.display()), e))
}
