//! The codecs that records of a batch are compressed with: into their bytes, and back within bounds.

use std::{fmt, io, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use zstd::{
    bulk::Compressor,
    stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer},
    zstd_safe,
};

use super::{BATCH_HEADER_BYTES, lz4};
use crate::{Error, Result};

/// Records of one batch take at most this much memory when they are decompressed, and zstd as much again for its window
/// while it works; a batch that would take more is `Corrupt`. One that is larger before it is compressed is not
/// compressed, so whatever is written can be read.
pub const DECOMPRESSED_BYTES_MAX: usize = 64 << 20;
/// What Kafka compresses with unless it is told otherwise (`compression.zstd.level`).
const ZSTD_LEVEL: i32 = 3;
/// The window that zstd's highest level wants, and Kafka's clients accept: 128 MiB, which are reserved, and touched only
/// as far as records come out. zstd takes none when it finds room for all of a stated content.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
/// The length of the content that a zstd frame states is believed up to this many times the length of the frame.
const ZSTD_RATIO_BELIEVED: usize = 64;

/// The codec of a batch; its words are those of Kafka's `compression.type`.
///
/// ```
/// use headwater_core::Compression;
/// assert_eq!("lz4".parse::<Compression>().unwrap(), Compression::Lz4);
/// assert_eq!("uncompressed".parse::<Compression>().unwrap(), Compression::None);
/// assert_eq!(Compression::Zstd.to_string(), "zstd");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Compression {
    /// Records as they are; `none` or `uncompressed`.
    #[default]
    None,
    /// An LZ4 frame: the cheapest one.
    Lz4,
    /// A Zstandard frame: the smallest one.
    Zstd,
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        })
    }
}

impl FromStr for Compression {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self> {
        match word {
            "none" | "uncompressed" => Ok(Self::None),
            "lz4" => Ok(Self::Lz4),
            "zstd" => Ok(Self::Zstd),
            "gzip" | "snappy" => {
                Err(Error::invalid(format!("{word} is not built in: use `lz4`, `zstd` or `none`")))
            }
            _ => Err(Error::invalid(format!(
                "no such compression: it is `none`, `lz4` or `zstd`. name=`{word}`"
            ))),
        }
    }
}

impl Serialize for Compression {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Compression {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl Compression {
    /// The compressed `records`, behind room for the header of their batch. `None` when that would gain nothing, or
    /// when they are more than could be read again: they stay as they are.
    pub(super) fn pack(self, records: &[u8]) -> Result<Option<Vec<u8>>> {
        if records.len() > DECOMPRESSED_BYTES_MAX {
            return Ok(None);
        }
        let packed = match self {
            Self::None => return Ok(None),
            Self::Lz4 => lz4::pack(records),
            Self::Zstd => zstd(records),
        };
        let packed = packed.map_err(|e| Error::io(format!("cannot compress a batch with {self}"), e))?;
        Ok((packed.len() < BATCH_HEADER_BYTES + records.len()).then_some(packed))
    }

    /// What [`Compression::pack`] was given. Memory grows with what really comes out, up to
    /// [`DECOMPRESSED_BYTES_MAX`].
    pub(super) fn unpack(self, packed: &[u8]) -> Result<Vec<u8>> {
        let records = match self {
            Self::None => Ok(packed.to_vec()),
            Self::Lz4 => lz4::unpack(packed),
            Self::Zstd => unzstd(packed),
        };
        records.map_err(|e| {
            Error::corrupt(format!("records are not what {self} compressed. compressed={}", packed.len()))
                .with_source(e)
        })
    }
}

/// Room for a header, and some for what comes behind it.
pub(super) fn behind_header(room: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(BATCH_HEADER_BYTES + room);
    out.resize(BATCH_HEADER_BYTES, 0);
    out
}

fn zstd(records: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = io::Cursor::new(behind_header(zstd_safe::compress_bound(records.len())));
    out.set_position(BATCH_HEADER_BYTES as u64);
    Compressor::new(ZSTD_LEVEL)?.compress_to_buffer(records, &mut out)?;
    let mut out = out.into_inner();
    // The room was for the worst case, and the batch may be held for long.
    out.shrink_to_fit();
    Ok(out)
}

fn unzstd(packed: &[u8]) -> io::Result<Vec<u8>> {
    let stated = match zstd_safe::get_frame_content_size(packed) {
        Ok(Some(size)) => usize::try_from(size).unwrap_or(usize::MAX),
        _ => packed.len().saturating_mul(4),
    };
    let believed = stated.min(packed.len().saturating_mul(ZSTD_RATIO_BELIEVED));
    let mut out = Vec::new();
    grow(&mut out, believed.min(DECOMPRESSED_BYTES_MAX))?;
    let mut decoder = Decoder::new()?;
    decoder.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX))?;
    let mut input = InBuffer::around(packed);
    loop {
        let before = (input.pos(), out.len());
        let at = out.len();
        let mut output = OutBuffer::around_pos(&mut out, at);
        let left = decoder.run(&mut input, &mut output)?;
        let all_read = input.pos() == packed.len();
        if left == 0 && all_read {
            return Ok(out);
        }
        if out.len() == out.capacity() {
            grow(&mut out, 1)?;
        } else if all_read || before == (input.pos(), out.len()) {
            return Err(damaged("the frame is cut short"));
        }
    }
}

/// Makes room for `more` bytes: twice what there was, if that is not too much.
pub(super) fn grow(out: &mut Vec<u8>, more: usize) -> io::Result<()> {
    let needed = out.len() + more;
    if needed > DECOMPRESSED_BYTES_MAX {
        return Err(too_large());
    }
    if needed > out.capacity() {
        let room = (2 * out.capacity()).clamp(needed, DECOMPRESSED_BYTES_MAX);
        out.reserve_exact(room - out.len());
    }
    Ok(())
}

pub(super) fn too_large() -> io::Error {
    damaged(format!("more than {DECOMPRESSED_BYTES_MAX} bytes come out"))
}

pub(super) fn damaged(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

#[cfg(test)]
mod tests;
