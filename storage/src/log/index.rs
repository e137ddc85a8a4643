//! Where in a segment which offset is: Kafka's sparse offset index.
//!
//! ```text
//! 0  last offset of a batch, minus the segment's first offset   u32
//! 4  byte at which that batch begins                            u32
//! ```
//!
//! One entry of 8 bytes for about 4 KiB of records, big-endian (Kafka: `OffsetIndex`). Nothing depends on it: an entry
//! is checked against the segment when it is used, and an index that is missing or wrong is made again.

use std::{io, path::Path};

use bytes::{Buf, BufMut};
use headwater_core::{BATCH_HEADER_BYTES, Offset, Timestamp, batch_size};

use super::{
    fs::{DataFile, FileSystem, Open},
    timeindex::TimeTail,
};

pub(super) const ENTRY_BYTES: u64 = 8;
/// Kafka: `index.interval.bytes`.
const INTERVAL_BYTES: u64 = 4096;
/// Bytes read at once: few for one entry's batch, many on the way through a segment.
const WINDOW_BYTES: std::ops::RangeInclusive<usize> = (8 << 10)..=(256 << 10);

/// The growing end of the index of a segment that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct IndexTail {
    /// Bytes in the index file.
    pub(super) bytes: u64,
    /// Bytes of records since the last entry.
    since: u64,
}

impl IndexTail {
    /// Takes note of a batch; an entry for it goes to `out` if one is due, and to the time index then too.
    pub(super) fn push(&mut self, out: &mut Vec<u8>, last: u32, byte: u32, size: u64) -> bool {
        let due = self.since > INTERVAL_BYTES;
        if due {
            out.put_u32(last);
            out.put_u32(byte);
            self.since = 0;
        }
        self.since += size;
        due
    }
}

/// An entry, found and checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    /// Offset of the first record of the batch.
    pub(super) base: Offset,
    /// Where it begins.
    pub(super) byte: u64,
}

/// A segment with `length` good bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Indexed<'a> {
    pub(super) log: &'a dyn DataFile,
    pub(super) base: Offset,
    pub(super) length: u64,
}

impl Indexed<'_> {
    /// The last batch in `index` that ends at or before `from`; the segment's first when there is none. `None` when the
    /// index is wrong.
    pub(super) fn find(&self, index: &dyn DataFile, from: Offset) -> io::Result<Option<Found>> {
        let count = index.len()? / ENTRY_BYTES;
        let entry = |number: u64| {
            let mut entry = [0; 8];
            index.read_exact_at(&mut entry, number * ENTRY_BYTES).map(|()| split(&entry))
        };
        let (mut low, mut high) = (0, count);
        let mut best = None;
        while low < high {
            let middle = low + (high - low) / 2;
            let (last, byte) = entry(middle)?;
            if self.base.plus(last.into()) <= from {
                best = Some((last, byte));
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let front = Found { base: self.base, byte: 0 };
        match best {
            Some((last, byte)) => self.check(last, byte),
            None if count == 0 => Ok((!self.has_entries()?).then_some(front)),
            None => {
                let (last, byte) = entry(0)?;
                Ok(self.check(last, byte)?.map(|_| front))
            }
        }
    }

    /// Whether an index of this segment has entries: whether a batch begins behind the first interval.
    fn has_entries(&self) -> io::Result<bool> {
        let (mut byte, mut window) = (0, Window::default());
        while byte <= INTERVAL_BYTES {
            let Some(front) = window.get(self, byte)?.and_then(Front::read) else { return Ok(false) };
            byte += front.size;
        }
        Ok(byte < self.length)
    }

    /// Whether the batch that an entry speaks of is there.
    fn check(&self, last: u32, byte: u32) -> io::Result<Option<Found>> {
        let byte = u64::from(byte);
        if byte == 0 || byte + BATCH_HEADER_BYTES as u64 > self.length {
            return Ok(None);
        }
        let mut header = [0; BATCH_HEADER_BYTES];
        self.log.read_exact_at(&mut header, byte)?;
        let found = Front::read(&header).filter(|front| front.last == self.base.plus(last.into()));
        Ok(found.map(|front| Found { base: front.base, byte }))
    }

    /// Both indexes, made from the segment; they end early where it is damaged.
    pub(super) fn build(&self) -> io::Result<Built> {
        let mut built = Built::default();
        let mut window = Window::default();
        let (mut byte, mut next) = (0, self.base);
        while let Some(front) = window.get(self, byte)?.and_then(Front::read) {
            let fits = front.base == next && byte + front.size <= self.length;
            if !fits || built.note(self.base, &front, byte).is_none() {
                break;
            }
            byte += front.size;
            next = front.last.next();
        }
        built.index.bytes = built.offsets.len() as u64;
        built.time_tail.bytes = built.times.len() as u64;
        Ok(built)
    }

    /// Checks the index of the segment that is written next, cuts it back to the segment's length, and makes it again
    /// when it is wrong; says whether it did.
    pub(super) fn repair(
        &self,
        fs: &dyn FileSystem,
        path: &Path,
        batch_bytes_largest: usize,
    ) -> io::Result<(IndexTail, bool)> {
        let entries = match fs.read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs.write(path, &[])?;
                Vec::new()
            }
            entries => entries?,
        };
        let (mut good, mut last_byte) = (0, 0);
        let mut previous = None;
        for entry in entries.chunks_exact(8) {
            let (last, byte) = split(entry);
            if u64::from(byte) >= self.length
                || previous.is_some_and(|previous| last <= previous)
                || byte <= last_byte
            {
                break;
            }
            (previous, last_byte) = (Some(last), byte);
            good += ENTRY_BYTES;
        }
        let uncovered = self.length - u64::from(last_byte);
        let holds = match previous {
            Some(last) => self.check(last, last_byte)?.is_some(),
            None => true,
        };
        if holds && uncovered <= INTERVAL_BYTES + 2 * batch_bytes_largest as u64 {
            if good < entries.len() as u64 {
                fs.open(path, Open::Write)?.set_len(good)?;
            }
            if good > 0 || uncovered <= INTERVAL_BYTES {
                return Ok((IndexTail { bytes: good, since: uncovered }, false));
            }
        }
        let Built { offsets, index, .. } = self.build()?;
        let rebuilt = offsets != entries;
        fs.write(path, &offsets)?;
        Ok((index, rebuilt))
    }
}

fn split(mut entry: &[u8]) -> (u32, u32) {
    (entry.get_u32(), entry.get_u32())
}

/// The indexes of a segment, and how they go on.
#[derive(Debug, Default)]
pub(super) struct Built {
    pub(super) offsets: Vec<u8>,
    pub(super) index: IndexTail,
    /// Without the entry that closes it.
    pub(super) times: Vec<u8>,
    pub(super) time_tail: TimeTail,
}

impl Built {
    /// Takes note of the next batch of a segment that begins at `base`, at `byte`; `None` when an index has no room for it.
    pub(super) fn note(&mut self, base: Offset, front: &Front, byte: u64) -> Option<()> {
        let last = u32::try_from(front.last.0.checked_sub(base.0)?).ok()?;
        let at = u32::try_from(byte).ok()?;
        self.time_tail.note(front.newest, last);
        if self.index.push(&mut self.offsets, last, at, front.size) {
            self.time_tail.push(&mut self.times);
        }
        Some(())
    }
}

/// What the header of a batch says, not covered by its checksum yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Front {
    pub(super) base: Offset,
    pub(super) last: Offset,
    pub(super) size: u64,
    /// Highest timestamp; the lowest there is when it has no records.
    pub(super) newest: Timestamp,
}

impl Front {
    pub(super) fn read(header: &[u8]) -> Option<Self> {
        let size = batch_size(header).ok()??;
        let base = u64::try_from(header.get(..8)?.get_i64()).ok()?;
        let delta = u32::try_from(header.get(23..27)?.get_i32()).ok()?;
        let is_empty = header.get(57..61)?.get_i32() == 0;
        let newest = if is_empty { Timestamp::MIN } else { Timestamp(header.get(35..43)?.get_i64()) };
        let last = Offset(base.checked_add(delta.into())?);
        Some(Self { base: Offset(base), last, size: size as u64, newest })
    }
}

/// Reads a segment's batch headers with few reads.
#[derive(Debug, Default)]
pub(super) struct Window {
    bytes: Vec<u8>,
    start: u64,
}

impl Window {
    /// The header at `byte`; `None` at the end.
    pub(super) fn get(&mut self, segment: &Indexed<'_>, byte: u64) -> io::Result<Option<&[u8]>> {
        let header = BATCH_HEADER_BYTES as u64;
        if byte + header > segment.length {
            return Ok(None);
        }
        if byte < self.start || byte + header > self.start + self.bytes.len() as u64 {
            let size = (4 * self.bytes.len()).clamp(*WINDOW_BYTES.start(), *WINDOW_BYTES.end());
            let size = usize::try_from(segment.length - byte).unwrap_or(size).min(size);
            self.bytes.resize(size, 0);
            self.start = byte;
            segment.log.read_exact_at(&mut self.bytes, byte)?;
        }
        let at = usize::try_from(byte - self.start).unwrap_or(usize::MAX);
        Ok(self.bytes.get(at..).and_then(|bytes| bytes.get(..BATCH_HEADER_BYTES)))
    }
}
