//! The unit between log and task: a batch of records in Kafka's record-batch layout, version 2.
//!
//! ```text
//!  0  base offset             i64   patched when the log gives the batch its place; outside the checksum
//!  8  length                  i32   bytes after this field
//! 12  partition leader epoch  i32   outside the checksum
//! 16  magic                   i8    2
//! 17  crc                     u32   CRC-32C of everything from 21 to the end
//! 21  attributes              i16   bits 0-2 codec, 3 log append time, 4 transactional, 5 control, 6 delete horizon
//! 23  last offset delta       i32
//! 27  base timestamp          i64   what timestamp deltas count from; the delete horizon where there is one
//! 35  max timestamp           i64
//! 43  producer id             i64
//! 51  producer epoch          i16
//! 53  base sequence           i32
//! 57  record count            i32
//! 61  records: length varint, attributes i8, timestamp delta varint, offset delta varint, key, value, headers
//! ```
//!
//! With a codec, all that begins at 61 is one frame of it, and the records are what comes out.
//!
//! All integers are big-endian, varints are zig-zag (Kafka: `DefaultRecordBatch`, `DefaultRecord`).

mod attributes;
mod builder;
mod compression;
mod cursor;
mod header;
mod lz4;
mod outline;
mod retain;
mod times;
mod varint;

use std::fmt;

use bytes::{Bytes, BytesMut};

use self::attributes::Attributes;
pub use self::{
    builder::{BatchBuilder, BatchMark, ProducerStamp},
    compression::{Compression, DECOMPRESSED_BYTES_MAX},
    cursor::{FoundRecords, HeadersRef, RecordCursor, RecordRef},
    outline::BatchHeader,
};
use crate::{Error, Offset, Result, Timestamp, TimestampType, checksum::crc32c};

/// Bytes before the first record.
pub const BATCH_HEADER_BYTES: usize = 61;
/// Bytes before the field that `length` counts from.
pub const BATCH_PREFIX_BYTES: usize = 12;
const MAGIC: u8 = 2;
const CRC_FROM: usize = 21;
/// The smallest record: length, attributes, two deltas, two lengths, header count.
const RECORD_BYTES_MIN: usize = 7;

/// A checked batch: its header is sane and its checksum holds. Cheap to clone; owns one [`Bytes`].
#[derive(Clone, PartialEq, Eq)]
pub struct RecordBatch {
    bytes: Bytes,
}

impl RecordBatch {
    /// Takes the batch at the front of `bytes` and leaves the rest; `None` when `bytes` does not hold a whole one.
    ///
    /// # Errors
    /// `Corrupt` when the header is not one of a batch or the checksum does not hold, `Invalid` when it is compressed
    /// with gzip or snappy. Records are not decompressed here: [`RecordCursor::advance`] does it.
    pub fn take(bytes: &mut Bytes) -> Result<Option<Self>> {
        let Some(size) = batch_size(bytes)? else { return Ok(None) };
        if bytes.len() < size {
            return Ok(None);
        }
        let batch = Self { bytes: bytes.split_to(size) };
        batch.check()?;
        Ok(Some(batch))
    }

    /// All of `bytes` as one batch.
    ///
    /// # Errors
    /// `Corrupt` when it is not exactly one whole batch; as [`RecordBatch::take`].
    pub fn parse(mut bytes: Bytes) -> Result<Self> {
        match Self::take(&mut bytes)? {
            Some(batch) if bytes.is_empty() => Ok(batch),
            Some(_) => Err(Error::corrupt("bytes after the end of a batch")),
            None => Err(Error::corrupt("a batch that is cut short")),
        }
    }

    fn check(&self) -> Result<()> {
        let (stored, actual) = (self.crc(), crc32c(&self.bytes[CRC_FROM..]));
        if stored != actual {
            return Err(Error::corrupt(format!(
                "checksum of a batch does not hold. base_offset={}, stored={stored:#010x}, actual={actual:#010x}",
                self.base_offset()
            )));
        }
        BatchHeader::parse(&self.bytes)?;
        Ok(())
    }

    fn i64_at(&self, at: usize) -> i64 {
        let mut field = [0; 8];
        field.copy_from_slice(&self.bytes[at..at + 8]);
        i64::from_be_bytes(field)
    }

    fn i32_at(&self, at: usize) -> i32 {
        let mut field = [0; 4];
        field.copy_from_slice(&self.bytes[at..at + 4]);
        i32::from_be_bytes(field)
    }

    fn i16_at(&self, at: usize) -> i16 {
        i16::from_be_bytes([self.bytes[at], self.bytes[at + 1]])
    }

    fn crc(&self) -> u32 {
        self.i32_at(17).cast_unsigned()
    }

    fn attributes(&self) -> Attributes {
        Attributes(self.i16_at(21))
    }

    /// The batch as it is on disk and on the wire.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Offset of the first record.
    #[must_use]
    pub fn base_offset(&self) -> Offset {
        Offset(self.i64_at(0).cast_unsigned())
    }

    /// The offset after the last record.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        self.base_offset().plus(u64::from(self.i32_at(23).cast_unsigned())).next()
    }

    /// What its records are compressed with.
    #[must_use]
    pub fn compression(&self) -> Compression {
        // One that we have, or the batch would not have been taken.
        self.attributes().codec().unwrap_or_default()
    }

    /// Whose time the timestamps of its records are.
    #[must_use]
    pub fn timestamp_type(&self) -> TimestampType {
        self.attributes().timestamp_type()
    }

    /// Whether it belongs to a transaction: its records count when a control batch says that it was committed.
    #[must_use]
    pub fn is_transactional(&self) -> bool {
        self.attributes().is_transactional()
    }

    /// Whether its one record is a marker that ends a transaction, and no data. A cursor reads it as any other: whoever
    /// hands records to a user skips control batches first.
    #[must_use]
    pub fn is_control(&self) -> bool {
        self.attributes().is_control()
    }

    /// From when on compaction may take its tombstones and markers; `None` while it has not seen them (KIP-534).
    #[must_use]
    pub fn delete_horizon(&self) -> Option<Timestamp> {
        self.attributes().has_delete_horizon().then(|| Timestamp(self.i64_at(27)))
    }

    /// How many records it holds; fewer than offsets where compaction took some.
    #[must_use]
    pub fn record_count(&self) -> u32 {
        self.i32_at(57).cast_unsigned()
    }

    /// The highest timestamp of its records; the one of them all with [`TimestampType::LogAppendTime`].
    #[must_use]
    pub fn max_timestamp(&self) -> Timestamp {
        Timestamp(self.i64_at(35))
    }

    /// Who wrote it, and with which sequence number it begins.
    #[must_use]
    pub fn stamp(&self) -> ProducerStamp {
        ProducerStamp { id: self.i64_at(43), epoch: self.i16_at(51), sequence: self.i32_at(53) }
    }

    /// The leader's epoch, which a log gives a batch with its place: 0 in all of ours. It lies outside the checksum.
    #[must_use]
    pub fn leader_epoch(&self) -> i32 {
        self.i32_at(12)
    }

    /// The same batch at another place in a partition, of a log whose leader never changes. Offset and epoch lie outside
    /// the checksum: nothing is re-encoded.
    #[must_use]
    pub fn at_offset(self, base: Offset) -> Self {
        let mut bytes = BytesMut::from(self.bytes);
        bytes[..8].copy_from_slice(&base.0.to_be_bytes());
        bytes[12..16].fill(0);
        Self { bytes: bytes.freeze() }
    }

    /// The same batch with the time at which the log appended it as the timestamp of all its records (Kafka:
    /// `message.timestamp.type=LogAppendTime`). Its records are not touched; the checksum is computed again.
    ///
    /// ```
    /// use headwater_core::{BatchBuilder, Headers, ProducerStamp, Timestamp, TimestampType};
    /// let mut builder = BatchBuilder::default();
    /// builder.push(Timestamp(5), Some(b"key"), Some(b"value"), &Headers::new());
    /// let batch = builder.finish(ProducerStamp::NONE).with_append_time(Timestamp(70));
    /// assert_eq!(batch.timestamp_type(), TimestampType::LogAppendTime);
    /// assert_eq!(batch.cursor().next().unwrap().unwrap().timestamp, Timestamp(70));
    /// ```
    #[must_use]
    pub fn with_append_time(self, time: Timestamp) -> Self {
        let attributes = self.attributes().with_append_time();
        let mut bytes = BytesMut::from(self.bytes);
        bytes[21..23].copy_from_slice(&attributes.0.to_be_bytes());
        bytes[35..43].copy_from_slice(&time.0.to_be_bytes());
        header::put_crc(&mut bytes);
        Self { bytes: bytes.freeze() }
    }

    /// Its memory, empty, to be used again ([`BatchBuilder::set_memory`]); `None` when somebody else has it, too.
    ///
    /// ```
    /// use headwater_core::{BatchBuilder, Headers, ProducerStamp, Timestamp};
    /// let mut builder = BatchBuilder::default();
    /// builder.push(Timestamp(5), None, Some(b"value"), &Headers::new());
    /// let batch = builder.finish(ProducerStamp::NONE);
    /// let other = batch.clone();
    /// assert!(other.into_memory().is_none());
    /// assert!(batch.into_memory().is_some_and(|memory| memory.is_empty() && memory.capacity() >= 61 + 5));
    /// ```
    #[must_use]
    pub fn into_memory(self) -> Option<Vec<u8>> {
        let mut bytes = self.bytes.try_into_mut().ok()?;
        // Before it is taken out, which would move what is in it.
        bytes.clear();
        Some(Vec::from(bytes))
    }

    /// Walks its records. Those of a compressed batch are decompressed by the first [`RecordCursor::advance`], once per
    /// cursor.
    #[must_use]
    pub fn cursor(&self) -> RecordCursor {
        RecordCursor::new(self)
    }
}

impl fmt::Debug for RecordBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecordBatch({}..{}, {} B)", self.base_offset(), self.next_offset(), self.bytes.len())
    }
}

/// Size in bytes of the batch at the front of `bytes`, from its header; `None` when too little of it is there.
///
/// # Errors
/// `Corrupt` when what is there cannot be the front of a batch.
pub fn batch_size(bytes: &[u8]) -> Result<Option<usize>> {
    let Some(length) = bytes.get(8..BATCH_PREFIX_BYTES) else { return Ok(None) };
    let length = i32::from_be_bytes([length[0], length[1], length[2], length[3]]);
    let size = usize::try_from(length).ok().and_then(|length| length.checked_add(BATCH_PREFIX_BYTES));
    match (size, bytes.get(16)) {
        (Some(size), Some(&MAGIC)) if size >= BATCH_HEADER_BYTES => Ok(Some(size)),
        (Some(size), None) if size >= BATCH_HEADER_BYTES => Ok(None),
        (_, magic) => {
            Err(Error::corrupt(format!("not a record batch of version 2. length={length}, magic={magic:?}")))
        }
    }
}

#[cfg(test)]
mod tests;
