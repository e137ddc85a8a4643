//! Encodes records straight into the bytes of a batch.

use std::convert::Infallible;

use super::{BATCH_HEADER_BYTES, Compression, RecordBatch, attributes::Attributes, header::Header, varint};
use crate::{Headers, Result, Timestamp};

/// Who wrote a batch, and which sequence number its first record has. The log uses it to drop a batch sent twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerStamp {
    /// Given out by the log; -1 for none.
    pub id: i64,
    /// Counts the owners of `id`; an older one is fenced.
    pub epoch: i16,
    /// Number of the first record, per producer and partition; wraps from `i32::MAX` to 0.
    pub sequence: i32,
}

impl ProducerStamp {
    /// No producer: the batch is not checked for duplicates.
    pub const NONE: ProducerStamp = ProducerStamp { id: -1, epoch: -1, sequence: -1 };
}

/// Builds one batch after another in the same buffer.
///
/// ```
/// use headwater_core::{BatchBuilder, Headers, ProducerStamp, Timestamp};
/// let mut builder = BatchBuilder::default();
/// builder.push(Timestamp(5), Some(b"key"), Some(b"value"), &Headers::new());
/// let batch = builder.finish(ProducerStamp::NONE);
/// let mut records = batch.cursor();
/// assert_eq!(records.next().unwrap().unwrap().value, Some(&b"value"[..]));
/// assert!(builder.is_empty());
/// ```
#[derive(Debug, Default)]
pub struct BatchBuilder {
    compression: Compression,
    buf: Vec<u8>,
    count: i32,
    base_timestamp: i64,
    max_timestamp: i64,
    /// Whether a record has no key.
    keyless: bool,
    lengths: Lengths,
    /// For the next batch.
    memory: Option<Vec<u8>>,
}

/// How many bytes the lengths in the last record took that was written where it lies: mostly those of the next take as many.
#[derive(Debug, Clone, Copy)]
struct Lengths {
    record: usize,
    key: usize,
    value: usize,
}

impl Default for Lengths {
    fn default() -> Self {
        Self { record: 1, key: 1, value: 1 }
    }
}

/// A point in a builder to go back to.
#[derive(Debug, Clone, Copy)]
pub struct BatchMark {
    bytes: usize,
    count: i32,
    max_timestamp: i64,
    keyless: bool,
}

impl BatchBuilder {
    /// Adds a record. Its offset is its place in the batch until the log gives the batch an offset.
    #[inline]
    pub fn push(
        &mut self,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &Headers,
    ) {
        self.push_with(timestamp, key, value, headers, None);
    }

    /// As [`BatchBuilder::push`], with one more header at the end, which costs no allocation.
    #[inline]
    pub fn push_with(
        &mut self,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &Headers,
        extra: Option<(&str, &[u8])>,
    ) {
        let Ok(_) = self.encode(timestamp, (headers, extra), whole(key), whole(value));
    }

    /// As [`BatchBuilder::push_with`], with a key and a value that their writers append to the batch itself: what is written
    /// to a place of its own first costs a copy, and reading at once what was just written in small pieces stalls a processor. A
    /// writer that says `false` means null. Gives how many bytes key and value have, each.
    ///
    /// ```
    /// use headwater_core::{BatchBuilder, Headers, ProducerStamp, Timestamp};
    /// let mut builder = BatchBuilder::default();
    /// let key = |out: &mut Vec<u8>| {
    ///     out.extend_from_slice(b"key");
    ///     Ok(true)
    /// };
    /// builder.push_encoded(Timestamp(5), (&Headers::new(), None), key, |_| Ok(false)).unwrap();
    /// let batch = builder.finish(ProducerStamp::NONE);
    /// let mut records = batch.cursor();
    /// let record = records.next().unwrap().unwrap();
    /// assert_eq!((record.key, record.value), (Some(&b"key"[..]), None));
    /// ```
    ///
    /// # Errors
    /// Those of the writers: the batch is as it was.
    #[inline]
    pub fn push_encoded(
        &mut self,
        timestamp: Timestamp,
        (headers, extra): (&Headers, Option<(&str, &[u8])>),
        key: impl FnOnce(&mut Vec<u8>) -> Result<bool>,
        value: impl FnOnce(&mut Vec<u8>) -> Result<bool>,
    ) -> Result<(usize, usize)> {
        self.encode(timestamp, (headers, extra), key, value)
    }

    #[inline(always)]
    fn encode<E>(
        &mut self,
        timestamp: Timestamp,
        (headers, extra): (&Headers, Option<(&str, &[u8])>),
        key: impl FnOnce(&mut Vec<u8>) -> Result<bool, E>,
        value: impl FnOnce(&mut Vec<u8>) -> Result<bool, E>,
    ) -> Result<(usize, usize), E> {
        if self.count == 0 {
            self.begin(timestamp);
        }
        let timestamp_delta = timestamp.0.wrapping_sub(self.base_timestamp);
        let Lengths { record, key: key_length, value: value_length } = self.lengths;
        let start = self.buf.len();
        let mut writing = Writing { keep: start, buf: &mut self.buf };
        let out = &mut *writing.buf;
        varint::put_front(out, (record, key_length), (timestamp_delta, i64::from(self.count)));
        let key_at = out.len();
        let has_key = key(out)?;
        let key_bytes = out.len() - key_at;
        let key_length = put_length(out, key_at, key_length, has_key);
        let value_at = out.len() + value_length;
        out.extend_from_slice(&[0; varint::LENGTH_BYTES_MAX]);
        out.truncate(value_at);
        let has_value = value(out)?;
        let value_bytes = out.len() - value_at;
        let value_length = put_length(out, value_at, value_length, has_value);
        if headers.is_empty() && extra.is_none() {
            out.push(0);
        } else {
            put_headers(out, headers, extra);
        }
        let record = put_length(out, start + record, record, true);
        writing.keep = writing.buf.len();
        drop(writing);
        self.lengths = Lengths { record, key: key_length, value: value_length };
        self.keyless |= !has_key;
        self.max_timestamp = self.max_timestamp.max(timestamp.0);
        self.count += 1;
        Ok((key_bytes, value_bytes))
    }

    #[cold]
    fn begin(&mut self, timestamp: Timestamp) {
        self.buf.clear();
        self.buf.resize(BATCH_HEADER_BYTES, 0);
        self.base_timestamp = timestamp.0;
        self.max_timestamp = timestamp.0;
        self.keyless = false;
    }

    /// What the producer wants this batch and all later ones compressed with: a log closes them so, unless their topic's
    /// `compression.type` says otherwise. [`Compression::None`] until then.
    pub fn set_compression(&mut self, compression: Compression) {
        self.compression = compression;
    }

    /// What [`BatchBuilder::set_compression`] said last.
    #[must_use]
    pub fn compression(&self) -> Compression {
        self.compression
    }

    /// How many records it holds.
    #[must_use]
    pub fn record_count(&self) -> u32 {
        self.count.cast_unsigned()
    }

    /// Whether it holds a record without a key.
    #[must_use]
    pub fn has_keyless(&self) -> bool {
        self.count > 0 && self.keyless
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes so far.
    #[must_use]
    pub fn size(&self) -> usize {
        if self.count == 0 { 0 } else { self.buf.len() }
    }

    /// Where it is now, for [`BatchBuilder::rewind`].
    #[must_use]
    pub fn mark(&self) -> BatchMark {
        BatchMark {
            bytes: self.size(),
            count: self.count,
            max_timestamp: self.max_timestamp,
            keyless: self.keyless,
        }
    }

    /// Forgets the records added since `mark` was taken of this batch.
    pub fn rewind(&mut self, mark: BatchMark) {
        self.buf.truncate(mark.bytes);
        self.count = mark.count;
        self.max_timestamp = mark.max_timestamp;
        self.keyless = mark.keyless;
    }

    /// Forgets all records.
    pub fn clear(&mut self) {
        self.buf.clear();
        self.count = 0;
    }

    /// Gives it memory for the batch that follows on this one, in place of memory that it would take for it. What is in there is
    /// forgotten. See [`RecordBatch::into_memory`].
    pub fn set_memory(&mut self, memory: Vec<u8>) {
        self.memory = Some(memory);
    }

    /// Closes the batch, uncompressed, and begins the next.
    ///
    /// # Panics
    /// When it is empty, or larger than 2 GiB: a bug of the caller.
    pub fn finish(&mut self, stamp: ProducerStamp) -> RecordBatch {
        assert!(self.count > 0, "an empty batch is never closed");
        let capacity = self.buf.len();
        let memory = self.memory.take().unwrap_or_else(|| Vec::with_capacity(capacity + capacity / 8));
        let buf = std::mem::replace(&mut self.buf, memory);
        let batch = self.header(stamp).seal(buf).expect("a batch is closed long before 2 GiB");
        self.count = 0;
        batch
    }

    /// Closes the batch with its records compressed, and begins the next. Records that compressing would not make
    /// smaller, and more than [`DECOMPRESSED_BYTES_MAX`](crate::DECOMPRESSED_BYTES_MAX) of them, stay uncompressed:
    /// [`RecordBatch::compression`] says what became of them.
    ///
    /// ```
    /// use headwater_core::{BatchBuilder, Compression, Headers, ProducerStamp, Timestamp};
    /// let mut builder = BatchBuilder::default();
    /// builder.push(Timestamp(5), Some(b"key"), Some(&[7; 1000]), &Headers::new());
    /// let batch = builder.finish_compressed(ProducerStamp::NONE, Compression::Zstd).unwrap();
    /// assert_eq!(batch.compression(), Compression::Zstd);
    /// assert!(batch.bytes().len() < 150);
    /// assert_eq!(batch.cursor().next().unwrap().unwrap().value, Some(&[7; 1000][..]));
    /// ```
    ///
    /// # Errors
    /// `Unavailable` when the codec gets no memory: the records are still there, and the call may be repeated.
    ///
    /// # Panics
    /// As [`BatchBuilder::finish`].
    pub fn finish_compressed(
        &mut self,
        stamp: ProducerStamp,
        compression: Compression,
    ) -> Result<RecordBatch> {
        assert!(self.count > 0, "an empty batch is never closed");
        let Some(packed) = compression.pack(&self.buf[BATCH_HEADER_BYTES..])? else {
            return Ok(self.finish(stamp));
        };
        let header = self.header(stamp);
        let attributes = header.attributes.with_codec(compression);
        let batch = Header { attributes, ..header }.seal(packed)?;
        self.clear();
        Ok(batch)
    }

    fn header(&self, stamp: ProducerStamp) -> Header {
        Header {
            base_offset: 0,
            leader_epoch: 0,
            attributes: Attributes::default(),
            last_offset_delta: self.count - 1,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            stamp,
            count: self.count,
        }
    }
}

/// A record that is being written: unless all of it is, as when its writer fails or panics, nothing is.
struct Writing<'a> {
    buf: &'a mut Vec<u8>,
    keep: usize,
}

impl Drop for Writing<'_> {
    #[inline]
    fn drop(&mut self) {
        self.buf.truncate(self.keep);
    }
}

/// The writer of a field that is at hand.
fn whole(field: Option<&[u8]>) -> impl FnOnce(&mut Vec<u8>) -> Result<bool, Infallible> {
    move |out| {
        out.extend_from_slice(field.unwrap_or_default());
        Ok(field.is_some())
    }
}

/// Puts the length of all that begins at `at` into the `reserved` bytes before it, or makes other room for it; or says that there
/// is nothing. How many bytes that took.
#[inline(always)]
fn put_length(out: &mut Vec<u8>, at: usize, reserved: usize, present: bool) -> usize {
    let length = out.len() - at;
    if present && reserved == 1 && length < 64 {
        varint::set(&mut out[at - 1..], signed(length));
        return 1;
    }
    if present && reserved == 2 && (64..1 << 13).contains(&length) {
        varint::set(&mut out[at - 2..], signed(length));
        return 2;
    }
    if !present && reserved == 1 && length == 0 {
        varint::set(&mut out[at - 1..], -1);
        return 1;
    }
    put_other_length(out, at, reserved, present)
}

#[inline(never)]
fn put_other_length(out: &mut Vec<u8>, at: usize, reserved: usize, present: bool) -> usize {
    let length = if present { signed(out.len() - at) } else { -1 };
    if !present {
        out.truncate(at);
    }
    let size = varint::size(length);
    if size != reserved {
        out.splice(at - reserved..at, std::iter::repeat_n(0, size));
    }
    varint::set(&mut out[at - reserved..], length);
    size
}

fn signed(len: usize) -> i64 {
    i64::try_from(len).expect("lengths in memory fit in i64")
}

#[inline]
fn put_field(out: &mut Vec<u8>, field: Option<&[u8]>) {
    match field {
        None => varint::put(out, -1),
        Some(bytes) => {
            varint::put(out, signed(bytes.len()));
            out.extend_from_slice(bytes);
        }
    }
}

fn put_headers(out: &mut Vec<u8>, headers: &Headers, extra: Option<(&str, &[u8])>) {
    varint::put(out, signed(headers.iter().len() + usize::from(extra.is_some())));
    for (name, value) in all_headers(headers, extra) {
        put_field(out, Some(name.as_bytes()));
        put_field(out, value);
    }
}

fn all_headers<'a>(
    headers: &'a Headers,
    extra: Option<(&'a str, &'a [u8])>,
) -> impl Iterator<Item = (&'a str, Option<&'a [u8]>)> {
    headers.iter().chain(extra.map(|(name, value)| (name, Some(value))))
}
