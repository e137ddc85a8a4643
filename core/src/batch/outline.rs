//! The header of a batch, for those who do not need its records.

use std::fmt;

use super::{
    BATCH_HEADER_BYTES, DECOMPRESSED_BYTES_MAX, ProducerStamp, RECORD_BYTES_MIN, RecordBatch,
    attributes::Attributes, batch_size, compression::Compression,
};
use crate::{Error, Offset, Result};

/// The header of a batch whose records lie elsewhere: all that a log must know to go on behind it.
///
/// ```
/// use headwater_core::{BatchBuilder, BatchHeader, Headers, ProducerStamp, Timestamp};
/// let mut builder = BatchBuilder::default();
/// builder.push(Timestamp(5), Some(b"key"), Some(b"value"), &Headers::new());
/// let batch = builder.finish(ProducerStamp::NONE);
/// let header = BatchHeader::of(&batch);
/// assert_eq!((header.next_offset(), header.size()), (batch.next_offset(), batch.bytes().len()));
/// assert_eq!(BatchHeader::parse(header.bytes())?, header);
/// # Ok::<(), headwater_core::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader([u8; BATCH_HEADER_BYTES]);

impl BatchHeader {
    /// That of `batch`.
    #[must_use]
    pub fn of(batch: &RecordBatch) -> Self {
        let mut header = [0; BATCH_HEADER_BYTES];
        header.copy_from_slice(&batch.bytes()[..BATCH_HEADER_BYTES]);
        Self(header)
    }

    /// The header at the front of `bytes`.
    ///
    /// # Errors
    /// `Corrupt` when it is none, or contradicts itself; `Invalid` when the batch is compressed with gzip or snappy.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let cut = || Error::corrupt("header of a batch that is cut short");
        let size = batch_size(bytes)?.ok_or_else(cut)?;
        let front = bytes.first_chunk().ok_or_else(cut)?;
        let header = Self(*front);
        let attributes = Attributes(i16::from_be_bytes(header.field(21)));
        let codec =
            attributes.codec().map_err(|e| e.context(format!("batch at {}", header.base_offset())))?;
        let records = size - BATCH_HEADER_BYTES;
        // How much comes out of compressed records is seen when they do.
        let records_max = if codec == Compression::None { records } else { DECOMPRESSED_BYTES_MAX };
        let count = i32::from_be_bytes(header.field(57));
        let fits = usize::try_from(count).is_ok_and(|count| count <= records_max / RECORD_BYTES_MIN);
        let delta = i32::from_be_bytes(header.field(23));
        let first = i64::from_be_bytes(header.field(0));
        if !fits
            || delta < 0
            || (count > 0 && delta < count - 1)
            || first < 0
            || first.checked_add(i64::from(delta)).is_none()
        {
            return Err(Error::corrupt(format!(
                "header of a batch contradicts itself. base_offset={first}, records={count}, last_offset_delta={delta}, bytes={records}"
            )));
        }
        Ok(header)
    }

    fn field<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut field = [0; N];
        field.copy_from_slice(&self.0[at..at + N]);
        field
    }

    /// It, as it is in front of the records.
    #[must_use]
    pub fn bytes(&self) -> &[u8; BATCH_HEADER_BYTES] {
        &self.0
    }

    /// Bytes of the batch, with its records.
    #[must_use]
    pub fn size(&self) -> usize {
        super::BATCH_PREFIX_BYTES + u32::from_be_bytes(self.field(8)) as usize
    }

    /// Offset of the first record.
    #[must_use]
    pub fn base_offset(&self) -> Offset {
        Offset(u64::from_be_bytes(self.field(0)))
    }

    /// How many offsets it takes.
    #[must_use]
    pub fn offset_count(&self) -> u32 {
        u32::from_be_bytes(self.field(23)) + 1
    }

    /// The offset after the last record.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        self.base_offset().plus(self.offset_count().into())
    }

    /// Who wrote it, and with which sequence number it begins.
    #[must_use]
    pub fn stamp(&self) -> ProducerStamp {
        let (epoch, sequence) = (i16::from_be_bytes(self.field(51)), i32::from_be_bytes(self.field(53)));
        ProducerStamp { id: i64::from_be_bytes(self.field(43)), epoch, sequence }
    }
}

impl fmt::Debug for BatchHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BatchHeader({}..{}, {} B)", self.base_offset(), self.next_offset(), self.size())
    }
}
