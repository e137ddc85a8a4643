//! Up to which offset records are how old: Kafka's sparse time index.
//!
//! ```text
//! 0   highest timestamp so far                                                                    i64
//! 8   last offset of the first batch with that timestamp, minus the segment's first offset        u32
//! ```
//!
//! One entry of 12 bytes for each of the offset index, if the timestamp has risen since the last, and one when the segment
//! gets no more records; big-endian (Kafka: `TimeIndex`). As in Kafka, times before 1970 have no entry. Nothing depends on
//! it: an entry is checked against the segment when it is used, records behind the last entry are looked at one by one,
//! and an index that is missing or wrong is made again.

use std::{io, path::Path};

use bytes::{Buf, BufMut};
use headwater_core::{Offset, Timestamp};

use super::{
    fs::{DataFile, FileSystem, Open},
    index::{Built, Front, Indexed, Window},
};

pub(super) const ENTRY_BYTES: u64 = 12;

/// The highest timestamp of a segment, and the last offset of the first batch that has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Newest {
    pub(super) timestamp: Timestamp,
    pub(super) offset: Offset,
}

/// The growing end of the time index of a segment that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct TimeTail {
    /// Bytes in the index file.
    pub(super) bytes: u64,
    /// Timestamp of the last entry.
    last: Option<Timestamp>,
    /// The highest timestamp, and the relative offset that goes with it.
    newest: Option<(Timestamp, u32)>,
}

impl TimeTail {
    /// Takes note of a batch.
    pub(super) fn note(&mut self, timestamp: Timestamp, last: u32) {
        if self.newest.is_none_or(|(newest, _)| timestamp > newest) {
            self.newest = Some((timestamp, last));
        }
    }

    /// Puts an entry into `out`, unless it would say nothing new.
    pub(super) fn push(&mut self, out: &mut Vec<u8>) {
        let risen = |(timestamp, _): &(Timestamp, u32)| {
            timestamp.0 >= 0 && self.last.is_none_or(|last| last < *timestamp)
        };
        if let Some((timestamp, offset)) = self.newest.filter(risen) {
            out.put_i64(timestamp.0);
            out.put_u32(offset);
            self.last = Some(timestamp);
        }
    }

    /// The highest timestamp of a segment that begins at `base`; `None` when it has no batch.
    pub(super) fn newest(&self, base: Offset) -> Option<Newest> {
        self.newest.map(|(timestamp, last)| Newest { timestamp, offset: base.plus(last.into()) })
    }

    /// As it is, of a segment whose newest record is known.
    pub(super) fn with(self, base: Offset, newest: Newest) -> Self {
        let last = u32::try_from(newest.offset.0.saturating_sub(base.0)).unwrap_or(u32::MAX);
        Self { newest: Some((newest.timestamp, last)), ..self }
    }

    /// Goes on behind the index at `path`, of which what cannot be right is cut; `None` when it must be made
    /// again because it is missing, or empty although `expected` to have entries.
    pub(super) fn resume(
        fs: &dyn FileSystem,
        path: &Path,
        (base, newest): (Offset, Newest),
        expected: bool,
    ) -> io::Result<Option<Self>> {
        let bytes = match fs.read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            bytes => bytes?,
        };
        let last_offset = newest.offset.0.saturating_sub(base.0);
        let (mut good, mut previous) = (0, None);
        for entry in bytes.chunks_exact(12) {
            let (timestamp, offset) = split(entry);
            let follows = previous.is_none_or(|(before, at)| before < timestamp && at < offset);
            if !follows || timestamp > newest.timestamp || u64::from(offset) > last_offset {
                break;
            }
            previous = Some((timestamp, offset));
            good += ENTRY_BYTES;
        }
        if good == 0 && expected && newest.timestamp.0 >= 0 {
            return Ok(None);
        }
        if good < bytes.len() as u64 {
            fs.open(path, Open::Write)?.set_len(good)?;
        }
        let last = previous.map(|(timestamp, _)| timestamp);
        Ok(Some(Self { bytes: good, last, newest: None }))
    }
}

fn split(mut entry: &[u8]) -> (Timestamp, u32) {
    (Timestamp(entry.get_i64()), entry.get_u32())
}

/// Both indexes of a segment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Indexes<'a> {
    pub(super) offsets: &'a dyn DataFile,
    pub(super) times: &'a dyn DataFile,
}

impl Indexed<'_> {
    /// Makes the time index of the segment that is written next again.
    pub(super) fn rebuild_times(&self, fs: &dyn FileSystem, path: &Path) -> io::Result<TimeTail> {
        let Built { times, time_tail, .. } = self.build()?;
        fs.write(path, &times)?;
        Ok(time_tail)
    }

    /// Whether the last of the entries that `tail` goes on behind is one of this segment.
    pub(super) fn resumes(&self, indexes: Indexes<'_>, tail: &TimeTail) -> io::Result<bool> {
        let Some(last) = (tail.bytes / ENTRY_BYTES).checked_sub(1) else { return Ok(true) };
        Ok(self.behind(indexes, read_entry(indexes.times, last)?)?.is_some())
    }

    /// An offset before which all records are older than `time`: the greatest that the indexes know. `None` when they are
    /// wrong.
    pub(super) fn all_older(&self, indexes: Indexes<'_>, time: Timestamp) -> io::Result<Option<Offset>> {
        let count = indexes.times.len()? / ENTRY_BYTES;
        let (mut low, mut high) = (0, count);
        let mut best = None;
        while low < high {
            let middle = low + (high - low) / 2;
            let entry = read_entry(indexes.times, middle)?;
            if entry.0 < time {
                best = Some(entry);
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        match best {
            Some(entry) => Ok(self.behind(indexes, entry)?.map(|(offset, _)| offset)),
            None if count == 0 => Ok((!self.has_times()?).then_some(self.base)),
            None => Ok(self.behind(indexes, read_entry(indexes.times, 0)?)?.map(|_| self.base)),
        }
    }

    /// The highest timestamp in the segment; `None` when the segment or its indexes are damaged.
    pub(super) fn newest(&self, indexes: Option<Indexes<'_>>) -> io::Result<Option<Timestamp>> {
        let (mut newest, mut byte) = (None, 0);
        if let Some(indexes) = indexes
            && let Some(last) = (indexes.times.len()? / ENTRY_BYTES).checked_sub(1)
        {
            let entry = read_entry(indexes.times, last)?;
            let Some((_, behind)) = self.behind(indexes, entry)? else { return Ok(None) };
            (newest, byte) = (Some(entry.0), behind);
        }
        let mut window = Window::default();
        while byte < self.length {
            let Some(front) = window.get(self, byte)?.and_then(Front::read) else { return Ok(None) };
            newest = newest.max(Some(front.newest));
            byte += front.size;
        }
        Ok(newest)
    }

    /// The offset and the byte behind the batch that an entry speaks of; `None` when it is not there.
    fn behind(&self, indexes: Indexes<'_>, entry: (Timestamp, u32)) -> io::Result<Option<(Offset, u64)>> {
        let (timestamp, last) = entry;
        let last = self.base.plus(last.into());
        let Some(start) = self.find(indexes.offsets, last)? else { return Ok(None) };
        let (mut window, mut byte) = (Window::default(), start.byte);
        while let Some(front) = window.get(self, byte)?.and_then(Front::read) {
            byte += front.size;
            if front.last >= last {
                let holds = front.last == last && front.newest == timestamp;
                return Ok(holds.then_some((last.next(), byte)));
            }
        }
        Ok(None)
    }

    /// Whether a time index of this segment, when it is closed, has entries.
    fn has_times(&self) -> io::Result<bool> {
        let mut window = Window::default();
        Ok(window.get(self, 0)?.and_then(Front::read).is_some_and(|first| first.newest.0 >= 0))
    }
}

fn read_entry(times: &dyn DataFile, number: u64) -> io::Result<(Timestamp, u32)> {
    let mut entry = [0; 12];
    times.read_exact_at(&mut entry, number * ENTRY_BYTES)?;
    Ok(split(&entry))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(batches: &[(i64, u32, bool)]) -> (String, TimeTail) {
        let (mut out, mut tail) = (Vec::new(), TimeTail::default());
        for (timestamp, last, due) in batches {
            tail.note(Timestamp(*timestamp), *last);
            if *due {
                tail.push(&mut out);
            }
        }
        (out.iter().map(|byte| format!("{byte:02x}")).collect(), tail)
    }

    /// As Kafka's `TimeIndex` has it, byte for byte.
    #[test]
    fn golden_bytes() {
        let (hex, tail) = entries(&[(7, 4, false), (300, 9, false), (200, 12, true), (301, 15, true)]);
        assert_eq!(hex, ["000000000000012c", "00000009", "000000000000012d", "0000000f"].concat());
        let newest = Newest { timestamp: Timestamp(301), offset: Offset(115) };
        assert_eq!(tail.newest(Offset(100)), Some(newest));
    }

    #[test]
    fn only_a_timestamp_that_has_risen_gets_an_entry() {
        assert_eq!(entries(&[(-5, 0, true), (-1, 1, true)]).0, "");
        let once = ["0000000000000005", "00000001"].concat();
        assert_eq!(entries(&[(5, 1, true), (5, 2, true), (4, 3, true)]).0, once);
    }
}
