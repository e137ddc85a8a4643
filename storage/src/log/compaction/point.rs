//! How far a partition was compacted: a small file beside its segments.
//!
//! ```text
//!  0  magic      8 bytes "HWCLEANR"
//!  8  version    u32   1
//! 12  crc        u32   CRC-32C of 16..37
//! 16  topic      u32   its number
//! 20  offset     u64   of the records before it, only the last of each key are left
//! 28  horizon    u8 and i64   1 and when the first tombstone before it may go, or 0 and 0
//! ```
//!
//! All integers are big-endian. Nothing depends on it: without it, or when it is damaged, all is looked at again. It is
//! written when everything that it speaks of is on disk.

use std::path::{Path, PathBuf};

use bytes::{Buf, BufMut};
use headwater_core::{
    Offset, Result, Timestamp,
    checksum::crc32c,
    ledger::{CleanPoint, TopicId},
};

use crate::log::{layout::Layout, span::FileSpan};

const MAGIC: &[u8; 8] = b"HWCLEANR";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 16;
const BYTES: usize = 37;

fn file(folder: &Path) -> PathBuf {
    folder.join("cleaner")
}

pub(super) fn read(layout: &Layout, files: &FileSpan) -> CleanPoint {
    let bytes = layout.fs.read(&file(&files.folder));
    bytes.ok().and_then(|bytes| decode(&bytes, files.topic)).unwrap_or_default()
}

pub(super) fn write(layout: &Layout, files: &FileSpan, clean: CleanPoint) -> Result<()> {
    layout.replace(&file(&files.folder), &encode(files.topic, clean))
}

fn encode(topic: TopicId, clean: CleanPoint) -> Vec<u8> {
    let mut out = Vec::with_capacity(BYTES);
    out.put_slice(MAGIC);
    out.put_u32(VERSION);
    out.put_u32(0);
    out.put_u32(topic.0);
    out.put_u64(clean.offset.0);
    out.put_u8(clean.horizon.is_some().into());
    out.put_i64(clean.horizon.map_or(0, |horizon| horizon.0));
    let crc = crc32c(&out[HEADER_BYTES..]);
    out[12..HEADER_BYTES].copy_from_slice(&crc.to_be_bytes());
    out
}

fn decode(mut bytes: &[u8], topic: TopicId) -> Option<CleanPoint> {
    let crc = crc32c(bytes.get(HEADER_BYTES..BYTES)?);
    let known = bytes.len() == BYTES && bytes.starts_with(MAGIC);
    bytes.advance(MAGIC.len());
    let holds = bytes.get_u32() == VERSION && bytes.get_u32() == crc && bytes.get_u32() == topic.0;
    let offset = Offset(bytes.get_u64());
    let horizon = (bytes.get_u8() == 1).then(|| Timestamp(bytes.get_i64()));
    (known && holds).then_some(CleanPoint { offset, horizon })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Version 1, byte for byte, and back; any other byte is noticed.
    #[test]
    fn golden_bytes() {
        let clean = CleanPoint { offset: Offset(5), horizon: Some(Timestamp(-2)) };
        let bytes = encode(TopicId(3), clean);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let expected =
            ["4857434c45414e5200000001", &hex[24..32], "00000003", "0000000000000005", "01fffffffffffffffe"];
        assert_eq!(hex, expected.concat());
        assert_eq!(decode(&bytes, TopicId(3)), Some(clean));
        assert_eq!(decode(&bytes, TopicId(4)), None, "it was of another topic of that name");
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert_eq!(decode(&bad, TopicId(3)), None, "byte {at}");
            assert_eq!(decode(&bytes[..at], TopicId(3)), None, "{at} bytes");
        }
        let none = CleanPoint { horizon: None, ..clean };
        assert_eq!(decode(&encode(TopicId(3), none), TopicId(3)), Some(none));
    }
}
