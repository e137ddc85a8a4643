//! Walks the records of a batch without copying them.

use std::fmt;

use bytes::Bytes;

use super::{BATCH_HEADER_BYTES, Compression, RECORD_BYTES_MIN, RecordBatch, varint};
use crate::{Error, Headers, Offset, Result, Timestamp, TimestampType};

/// A record as it lies in its batch.
#[derive(Debug, Clone, Copy)]
pub struct RecordRef<'a> {
    /// Its place in the partition.
    pub offset: Offset,
    /// When it happened.
    pub timestamp: Timestamp,
    /// `None` is Kafka's null key.
    pub key: Option<&'a [u8]>,
    /// `None` is Kafka's null value.
    pub value: Option<&'a [u8]>,
    /// Not decoded until asked for.
    pub headers: HeadersRef<'a>,
}

/// The headers of a record as they lie in its batch.
#[derive(Debug, Clone, Copy)]
pub struct HeadersRef<'a>(&'a [u8]);

impl<'a> HeadersRef<'a> {
    /// Names and values in order. The bytes were checked when the record was read.
    pub fn iter(self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> {
        let mut at = 0;
        let count = varint::get(self.0, &mut at).unwrap_or(0);
        (0..count).map_while(move |_| {
            let name = field(self.0, &mut at)??;
            Some((name, field(self.0, &mut at)?))
        })
    }

    /// The value of the last header called `name`.
    #[must_use]
    pub fn last(self, name: &[u8]) -> Option<&'a [u8]> {
        if self.is_empty() {
            return None;
        }
        self.iter().filter(|(n, _)| *n == name).last()?.1
    }

    /// Whether there are none.
    #[must_use]
    #[inline]
    pub fn is_empty(self) -> bool {
        self.0.len() <= 1
    }

    /// A copy that outlives the batch. Names that are not UTF-8 are made so, with replacement characters.
    #[must_use]
    pub fn to_owned(self) -> Headers {
        self.copy(|_| true)
    }

    /// As [`HeadersRef::to_owned`], without the headers called `name`.
    #[must_use]
    pub fn to_owned_without(self, name: &[u8]) -> Headers {
        self.copy(|other| other != name)
    }

    fn copy(self, keep: impl Fn(&[u8]) -> bool) -> Headers {
        self.iter()
            .filter(|(name, _)| keep(name))
            .map(|(name, value)| {
                (String::from_utf8_lossy(name).into_owned(), value.map(Bytes::copy_from_slice))
            })
            .collect()
    }
}

/// Reads the records of one batch, front to back; owns the batch.
///
/// Records are found a few at a time, so that whoever processes them can look ahead. Those of a compressed batch are
/// decompressed first, all at once: a cursor then holds up to [`DECOMPRESSED_BYTES_MAX`](crate::DECOMPRESSED_BYTES_MAX).
pub struct RecordCursor {
    batch: RecordBatch,
    /// The records' bytes: those of the batch, until they are unpacked, which is once, and only with a codec.
    records: Bytes,
    packed: Compression,
    base_offset: Offset,
    base_timestamp: i64,
    /// The timestamp of all records, where the log gave them one.
    append_time: Option<Timestamp>,
    /// Where the first record lies that was not found yet, and how many such there are.
    at: usize,
    left: u32,
    /// Records that were found; the cursor stands on the one at `place`, unless it is before the first of all or behind the last.
    block: [Span; RecordCursor::BLOCK],
    found: usize,
    place: usize,
}

/// Records that were found together, to be walked without asking each time whether the next one must be looked for: see
/// [`RecordCursor::found`]. The cursor moves along.
pub struct FoundRecords<'a> {
    records: &'a [u8],
    /// From the current one on.
    spans: &'a [Span],
    place: &'a mut usize,
}

impl<'a> FoundRecords<'a> {
    /// The current record; `None` when there are none at all.
    #[inline(always)]
    #[must_use]
    pub fn current(&self) -> Option<RecordRef<'a>> {
        self.spans.first().map(|span| span.of(self.records))
    }

    /// Timestamp of the next one, if it has one.
    #[inline(always)]
    #[must_use]
    pub fn next_timestamp(&self) -> Option<Timestamp> {
        self.spans.get(1).map(|span| span.timestamp)
    }

    /// Moves to the next one, if there is one.
    #[inline(always)]
    pub fn advance(&mut self) {
        if let [_, rest @ ..] = self.spans
            && !rest.is_empty()
        {
            self.spans = rest;
            *self.place += 1;
        }
    }
}

/// Where the parts of a record lie.
#[derive(Debug, Clone, Copy)]
struct Span {
    offset: Offset,
    timestamp: Timestamp,
    key: Field,
    value: Field,
    headers: (u32, u32),
}

impl Span {
    #[inline(always)]
    fn of(self, records: &[u8]) -> RecordRef<'_> {
        RecordRef {
            offset: self.offset,
            timestamp: self.timestamp,
            key: slice(records, self.key),
            value: slice(records, self.value),
            headers: HeadersRef(&records[self.headers.0 as usize..self.headers.1 as usize]),
        }
    }
}

/// Start and end of a field; `u32::MAX` as start for null.
type Field = (u32, u32);
const NULL: Field = (u32::MAX, 0);

impl RecordCursor {
    /// How many records are found at a time.
    pub const BLOCK: usize = 64;

    pub(super) fn new(batch: &RecordBatch) -> Self {
        let nothing =
            Span { offset: Offset(0), timestamp: Timestamp(0), key: NULL, value: NULL, headers: (0, 0) };
        let append_time = match batch.timestamp_type() {
            TimestampType::CreateTime => None,
            TimestampType::LogAppendTime => Some(batch.max_timestamp()),
        };
        Self {
            batch: batch.clone(),
            records: batch.bytes.slice(BATCH_HEADER_BYTES..),
            packed: batch.compression(),
            base_offset: batch.base_offset(),
            base_timestamp: batch.i64_at(27),
            append_time,
            at: 0,
            left: batch.record_count(),
            block: [nothing; Self::BLOCK],
            found: 0,
            place: 0,
        }
    }

    /// The batch it walks.
    #[must_use]
    pub fn batch(&self) -> &RecordBatch {
        &self.batch
    }

    /// Moves to the next record; `false` at the end of the batch.
    ///
    /// # Errors
    /// `Corrupt` when the bytes are not those of a record, or of a codec, although the checksum of the batch holds.
    #[inline]
    pub fn advance(&mut self) -> Result<bool> {
        if self.place + 1 < self.found {
            self.place += 1;
            return Ok(true);
        }
        self.find()
    }

    /// Finds the next records, up to a malformed one, which is an error when its turn comes.
    fn find(&mut self) -> Result<bool> {
        (self.found, self.place) = (0, 0);
        if self.packed != Compression::None && self.left > 0 {
            self.unpack()?;
        }
        let base = (self.base_offset, self.base_timestamp);
        let (bytes, mut at) = (&self.records[..], self.at);
        for (slot, left) in self.block.iter_mut().zip((0..self.left).rev()) {
            let Some(span) = read(bytes, &mut at, base) else { break };
            *slot = span;
            self.found += 1;
            self.left = left;
        }
        self.at = at;
        if self.found == 0 && self.left > 0 {
            return Err(self.malformed());
        }
        if let Some(time) = self.append_time {
            self.block[..self.found].iter_mut().for_each(|span| span.timestamp = time);
        }
        if self.found == 0 && self.at > 0 && self.at < self.records.len() {
            return Err(self.malformed());
        }
        Ok(self.found > 0)
    }

    /// Puts what comes out of the codec in the place of the records.
    #[cold]
    fn unpack(&mut self) -> Result<()> {
        let codec = std::mem::take(&mut self.packed);
        let left = std::mem::take(&mut self.left);
        let records = codec
            .unpack(&self.records)
            .map_err(|e| e.context(format!("batch {}..{}", self.base_offset, self.batch.next_offset())))?;
        if left as usize > records.len() / RECORD_BYTES_MIN {
            return Err(Error::corrupt(format!(
                "record count of a batch is more than its bytes hold. batch={:?}, records={left}, decompressed={}",
                self.batch,
                records.len()
            )));
        }
        self.records = Bytes::from(records);
        self.left = left;
        Ok(())
    }

    /// The place of the current record among those found with it, from 0 to below [`RecordCursor::BLOCK`].
    #[inline]
    #[must_use]
    pub fn place(&self) -> usize {
        self.place
    }

    /// Hands out the keys of the records that were found together with the current one.
    #[inline]
    pub fn with_block_keys<R>(&self, take: impl FnOnce(&mut [Option<&[u8]>]) -> R) -> R {
        let mut keys = [None; Self::BLOCK];
        keys.iter_mut()
            .zip(&self.block[..self.found])
            .for_each(|(key, span)| *key = slice(&self.records, span.key));
        take(&mut keys[..self.found])
    }

    /// The record it stands on, after [`RecordCursor::advance`] said `true`.
    #[inline(always)]
    #[must_use]
    pub fn current(&self) -> Option<RecordRef<'_>> {
        self.head().map(|span| span.of(&self.records))
    }

    /// Moves to the next record and gives it.
    ///
    /// # Errors
    /// As [`RecordCursor::advance`].
    #[expect(clippy::should_implement_trait, reason = "lends, which Iterator cannot")]
    pub fn next(&mut self) -> Option<Result<RecordRef<'_>>> {
        match self.advance() {
            Ok(true) => self.current().map(Ok),
            Ok(false) => None,
            Err(error) => Some(Err(error)),
        }
    }

    /// Timestamp of the current record, without building a [`RecordRef`].
    #[inline]
    #[must_use]
    pub fn timestamp(&self) -> Option<Timestamp> {
        self.head().map(|span| span.timestamp)
    }

    /// The current record, and those that were found together with it and come behind it.
    #[inline]
    pub fn found(&mut self) -> FoundRecords<'_> {
        let spans = self.block[..self.found].get(self.place..).unwrap_or_default();
        FoundRecords { records: &self.records, spans, place: &mut self.place }
    }

    /// Offset of the current record, without building a [`RecordRef`].
    #[inline]
    #[must_use]
    pub fn offset(&self) -> Option<Offset> {
        self.head().map(|span| span.offset)
    }

    #[inline]
    fn head(&self) -> Option<&Span> {
        self.block[..self.found].get(self.place)
    }

    /// The bytes of all records, unpacked, and where the current one ends among them; it begins where the one before
    /// it ends.
    pub(super) fn place_in_records(&self) -> Option<(&Bytes, usize)> {
        self.head().map(|span| (&self.records, span.headers.1 as usize))
    }

    /// What lies at `at` is no record, or one too many. The cursor is at its end from here on.
    #[cold]
    fn malformed(&mut self) -> Error {
        let at = std::mem::replace(&mut self.at, self.records.len());
        self.left = 0;
        let codec = self.batch.compression();
        Error::corrupt(format!(
            "malformed record. batch={:?}, compression={codec}, byte_of_records={at}",
            self.batch
        ))
    }
}

/// The record at `next` of `bytes`, in a batch with this base offset and timestamp; moves on behind it.
#[inline]
fn read(bytes: &[u8], next: &mut usize, base: (Offset, i64)) -> Option<Span> {
    let front = short_front(bytes, *next).or_else(|| long_front(bytes, *next))?;
    let Front { end, timestamp_delta, offset_delta, key, mut at } = front;
    let record = bytes.get(..end)?;
    let value = span(record, &mut at)?;
    let headers_at = at;
    if record.get(at) != Some(&0) || at + 1 != end {
        check_headers(record, at)?;
    }
    *next = end;
    // Cannot wrap: a batch is shorter than 2 GiB.
    #[expect(clippy::cast_possible_truncation, reason = "a batch is shorter than 2 GiB")]
    let headers = (headers_at as u32, end as u32);
    let (base_offset, base_timestamp) = base;
    Some(Span {
        offset: Offset(base_offset.0.checked_add(offset_delta)?),
        timestamp: Timestamp(base_timestamp.wrapping_add(timestamp_delta)),
        key,
        value,
        headers,
    })
}

/// What comes before a record's value.
struct Front {
    /// Where the record ends.
    end: usize,
    timestamp_delta: i64,
    offset_delta: u64,
    key: Field,
    /// Where the value's length lies.
    at: usize,
}

/// That of nearly all records, read at once: no number in it has more than two bytes, and there is a key.
#[inline]
fn short_front(bytes: &[u8], at: usize) -> Option<Front> {
    let mut front = varint::Word::new(*bytes.get(at..)?.first_chunk()?);
    let length = front.next()?;
    let behind_length = at + front.used();
    front.skip_byte(); // attributes: unused in version 2
    let (timestamp, offset, key) = (front.next()?, front.next()?, front.next()?);
    if !front.is_whole() || (length | offset | key) & 1 != 0 {
        return None;
    }
    let (end, start) = (behind_length + (length >> 1) as usize, at + front.used());
    let at = start + (key >> 1) as usize;
    if at > end {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "a batch is shorter than 2 GiB")]
    let key = (start as u32, at as u32);
    let timestamp_delta = varint::unzigzag(u64::from(timestamp));
    Some(Front { end, timestamp_delta, offset_delta: u64::from(offset >> 1), key, at })
}

/// That of any record.
#[inline(never)]
fn long_front(bytes: &[u8], mut at: usize) -> Option<Front> {
    let length = usize::try_from(varint::get(bytes, &mut at)?).ok()?;
    let end = at.checked_add(length)?;
    let record = bytes.get(..end)?;
    at += 1; // attributes: unused in version 2
    let timestamp_delta = varint::get(record, &mut at)?;
    let offset_delta = u64::try_from(varint::get(record, &mut at)?).ok()?;
    let key = span(record, &mut at)?;
    Some(Front { end, timestamp_delta, offset_delta, key, at })
}

impl fmt::Debug for RecordCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecordCursor({:?}, at {:?})", self.batch, self.offset())
    }
}

#[inline]
fn span(record: &[u8], at: &mut usize) -> Option<Field> {
    let length = varint::get(record, at)?;
    if length < 0 {
        return (length == -1).then_some(NULL);
    }
    let start = *at;
    let end = start.checked_add(usize::try_from(length).ok()?)?;
    if end > record.len() {
        return None;
    }
    *at = end;
    #[expect(clippy::cast_possible_truncation, reason = "a batch is shorter than 2 GiB")]
    Some((start as u32, end as u32))
}

#[inline]
fn slice(bytes: &[u8], (start, end): Field) -> Option<&[u8]> {
    (start != u32::MAX).then(|| &bytes[start as usize..end as usize])
}

fn field<'a>(bytes: &'a [u8], at: &mut usize) -> Option<Option<&'a [u8]>> {
    span(bytes, at).map(|field| slice(bytes, field))
}

/// Whether the headers fill the record exactly, so that [`HeadersRef::iter`] can trust them.
fn check_headers(record: &[u8], mut at: usize) -> Option<()> {
    let count = varint::get(record, &mut at)?;
    if count < 0 {
        return None;
    }
    for _ in 0..count {
        field(record, &mut at)??;
        field(record, &mut at)?;
    }
    (at == record.len()).then_some(())
}

#[cfg(test)]
mod tests;
