//! The header of a batch, field by field, and how it closes one.

use bytes::Bytes;

use super::{BATCH_PREFIX_BYTES, CRC_FROM, MAGIC, ProducerStamp, RecordBatch, attributes::Attributes};
use crate::{Error, Result, checksum::crc32c};

/// All fields but those that follow from the bytes: length, magic, checksum.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) base_offset: i64,
    pub(super) leader_epoch: i32,
    pub(super) attributes: Attributes,
    pub(super) last_offset_delta: i32,
    pub(super) base_timestamp: i64,
    pub(super) max_timestamp: i64,
    pub(super) stamp: ProducerStamp,
    pub(super) count: i32,
}

impl Header {
    pub(super) fn of(batch: &RecordBatch) -> Self {
        Self {
            base_offset: batch.i64_at(0),
            leader_epoch: batch.i32_at(12),
            attributes: batch.attributes(),
            last_offset_delta: batch.i32_at(23),
            base_timestamp: batch.i64_at(27),
            max_timestamp: batch.i64_at(35),
            stamp: batch.stamp(),
            count: batch.i32_at(57),
        }
    }

    /// Writes the header into the room that `buf` has in front of its records.
    ///
    /// # Errors
    /// `Invalid` when the batch would be 2 GiB or more.
    pub(super) fn seal(self, mut buf: Vec<u8>) -> Result<RecordBatch> {
        let length = i32::try_from(buf.len() - BATCH_PREFIX_BYTES).map_err(|_| {
            Error::invalid(format!("a batch is at most 2 GiB large: close it earlier. bytes={}", buf.len()))
        })?;
        buf[..8].copy_from_slice(&self.base_offset.to_be_bytes());
        buf[8..12].copy_from_slice(&length.to_be_bytes());
        buf[12..16].copy_from_slice(&self.leader_epoch.to_be_bytes());
        buf[16] = MAGIC;
        buf[21..23].copy_from_slice(&self.attributes.0.to_be_bytes());
        buf[23..27].copy_from_slice(&self.last_offset_delta.to_be_bytes());
        buf[27..35].copy_from_slice(&self.base_timestamp.to_be_bytes());
        buf[35..43].copy_from_slice(&self.max_timestamp.to_be_bytes());
        buf[43..51].copy_from_slice(&self.stamp.id.to_be_bytes());
        buf[51..53].copy_from_slice(&self.stamp.epoch.to_be_bytes());
        buf[53..57].copy_from_slice(&self.stamp.sequence.to_be_bytes());
        buf[57..61].copy_from_slice(&self.count.to_be_bytes());
        put_crc(&mut buf);
        Ok(RecordBatch { bytes: Bytes::from(buf) })
    }
}

/// Writes the checksum of all that it covers.
pub(super) fn put_crc(bytes: &mut [u8]) {
    let crc = crc32c(&bytes[CRC_FROM..]);
    bytes[17..CRC_FROM].copy_from_slice(&crc.to_be_bytes());
}
