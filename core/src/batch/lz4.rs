//! LZ4 frames: written as Kafka's `Lz4BlockOutputStream` writes them, read as its `Lz4BlockInputStream` reads them.
//!
//! ```text
//! frame: magic 04 22 4d 18, flags, largest block, (length of the content u64), checksum of these u8, blocks,
//!        end mark 0 u32, (checksum of the content u32)
//! block: length u32, highest bit set when it is not compressed; bytes; (checksum of the bytes u32)
//! ```
//!
//! Integers are little-endian; flags say whether what is in brackets is there. Blocks are decompressed straight into the
//! records' buffer: a decoder of streams needs two more, which cost a small batch more than its records do.

use std::io::{self, Write};

use lz4_flex::{
    block::{DecompressError, decompress_into},
    frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo},
};
use twox_hash::XxHash32;

use super::{
    DECOMPRESSED_BYTES_MAX,
    compression::{behind_header, damaged, grow, too_large},
};

const MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
const VERSION_BITS: u8 = 0xc0;
const VERSION: u8 = 0x40;
const INDEPENDENT_BLOCKS: u8 = 0x20;
const BLOCK_CHECKSUMS: u8 = 0x10;
const CONTENT_SIZE: u8 = 0x08;
const CONTENT_CHECKSUM: u8 = 0x04;
/// Set in the length of a block that is not compressed.
const STORED: u32 = 1 << 31;

/// `records` as one frame, behind room for the header of a batch.
pub(super) fn pack(records: &[u8]) -> io::Result<Vec<u8>> {
    let settings = FrameInfo::new().block_mode(BlockMode::Independent).block_size(BlockSize::Max64KB);
    let mut frame = FrameEncoder::with_frame_info(settings, behind_header(records.len() / 2));
    frame.write_all(records)?;
    Ok(frame.finish()?)
}

/// The content of one frame.
pub(super) fn unpack(packed: &[u8]) -> io::Result<Vec<u8>> {
    let mut input = Input(packed);
    let settings = Settings::read(&mut input)?;
    let mut out = Vec::new();
    grow(&mut out, packed.len().saturating_mul(4).min(DECOMPRESSED_BYTES_MAX))?;
    loop {
        let length = input.u32()?;
        if length == 0 {
            break;
        }
        let block = input.take((length & !STORED) as usize)?;
        if settings.has(BLOCK_CHECKSUMS) {
            input.check(block)?;
        }
        if block.len() > settings.block_bytes_max {
            return Err(damaged("a block is larger than its frame allows"));
        }
        if length & STORED == 0 {
            unpack_block(block, settings.block_bytes_max, &mut out)?;
        } else {
            grow(&mut out, block.len())?;
            out.extend_from_slice(block);
        }
    }
    if settings.content_size.is_some_and(|size| size != out.len() as u64) {
        return Err(damaged("the content is not as long as the frame says"));
    }
    if settings.has(CONTENT_CHECKSUM) {
        input.check(&out)?;
    }
    if input.0.is_empty() { Ok(out) } else { Err(damaged("bytes after the end of the frame")) }
}

/// Appends what comes out of one block: tried with the room that most need, then with more.
fn unpack_block(block: &[u8], bytes_max: usize, out: &mut Vec<u8>) -> io::Result<()> {
    let start = out.len();
    let limit = bytes_max.min(DECOMPRESSED_BYTES_MAX - start);
    let mut room = block.len().saturating_mul(4).min(limit);
    loop {
        grow(out, room)?;
        out.resize(start + room, 0);
        match decompress_into(block, &mut out[start..]) {
            Ok(size) => {
                out.truncate(start + size);
                return Ok(());
            }
            Err(DecompressError::OutputTooSmall { .. }) if room < limit => {
                out.truncate(start);
                room = room.saturating_mul(4).min(limit);
            }
            Err(DecompressError::OutputTooSmall { .. }) if limit < bytes_max => return Err(too_large()),
            Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        }
    }
}

/// What the head of a frame says.
struct Settings {
    flags: u8,
    block_bytes_max: usize,
    content_size: Option<u64>,
}

impl Settings {
    fn read(input: &mut Input<'_>) -> io::Result<Self> {
        if input.take(4)? != MAGIC {
            return Err(damaged("not an LZ4 frame"));
        }
        let start = input.0;
        let [flags, block_size] = input.array()?;
        let content_size =
            if flags & CONTENT_SIZE == 0 { None } else { Some(u64::from_le_bytes(input.array()?)) };
        let head = &start[..start.len() - input.0.len()];
        let [checksum] = input.array()?;
        if XxHash32::oneshot(0, head).to_le_bytes()[1] != checksum {
            return Err(damaged("the checksum of the frame's head does not hold"));
        }
        if flags & VERSION_BITS != VERSION || flags & 0x03 != 0 {
            return Err(damaged(format!(
                "a version or a dictionary that Kafka does not use: flags {flags:#04x}"
            )));
        }
        if flags & INDEPENDENT_BLOCKS == 0 {
            return Err(damaged("blocks depend on one another, which Kafka does not allow"));
        }
        let block_bytes_max = match block_size {
            0x40 => 64 << 10,
            0x50 => 256 << 10,
            0x60 => 1 << 20,
            0x70 => 4 << 20,
            _ => return Err(damaged(format!("no such block size: {block_size:#04x}"))),
        };
        Ok(Self { flags, block_bytes_max, content_size })
    }

    fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// What is left of a frame.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, length: usize) -> io::Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or_else(cut_short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk().ok_or_else(cut_short)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u32(&mut self) -> io::Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// The checksum that comes next, of `bytes`.
    fn check(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.u32()? == XxHash32::oneshot(0, bytes) {
            Ok(())
        } else {
            Err(damaged("a checksum in the frame does not hold"))
        }
    }
}

fn cut_short() -> io::Error {
    damaged("the frame is cut short")
}
