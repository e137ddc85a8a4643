//! The attributes of a batch: 16 bits, of which Kafka uses seven.

use super::Compression;
use crate::{Error, Result, TimestampType};

const CODEC: i16 = 0x07;
const LOG_APPEND_TIME: i16 = 0x08;
const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;
const DELETE_HORIZON: i16 = 0x40;

/// The bits as they lie in the header. Bits that mean nothing yet are carried along.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Attributes(pub(super) i16);

impl Attributes {
    /// The codec.
    ///
    /// # Errors
    /// `Invalid` for one that Kafka has and we have not, `Corrupt` for one that nobody has.
    pub(super) fn codec(self) -> Result<Compression> {
        let refused = |name| {
            Err(Error::invalid(format!(
                "{name} cannot be read: write the batch with lz4, zstd or no compression. codec={name}"
            )))
        };
        match self.0 & CODEC {
            0 => Ok(Compression::None),
            1 => refused("gzip"),
            2 => refused("snappy"),
            3 => Ok(Compression::Lz4),
            4 => Ok(Compression::Zstd),
            codec => Err(Error::corrupt(format!("no such codec. codec={codec}"))),
        }
    }

    pub(super) fn with_codec(self, codec: Compression) -> Self {
        let bits = match codec {
            Compression::None => 0,
            Compression::Lz4 => 3,
            Compression::Zstd => 4,
        };
        Self(self.0 & !CODEC | bits)
    }

    pub(super) fn timestamp_type(self) -> TimestampType {
        if self.has(LOG_APPEND_TIME) { TimestampType::LogAppendTime } else { TimestampType::CreateTime }
    }

    pub(super) fn with_append_time(self) -> Self {
        Self(self.0 | LOG_APPEND_TIME)
    }

    pub(super) fn is_transactional(self) -> bool {
        self.has(TRANSACTIONAL)
    }

    pub(super) fn is_control(self) -> bool {
        self.has(CONTROL)
    }

    pub(super) fn has_delete_horizon(self) -> bool {
        self.has(DELETE_HORIZON)
    }

    pub(super) fn with_delete_horizon(self) -> Self {
        Self(self.0 | DELETE_HORIZON)
    }

    pub(super) fn without_delete_horizon(self) -> Self {
        Self(self.0 & !DELETE_HORIZON)
    }

    fn has(self, bit: i16) -> bool {
        self.0 & bit != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn a_codec_that_is_not_built_in_is_refused_by_name() {
        for (bits, name) in [(1, "gzip"), (2, "snappy")] {
            let error = Attributes(bits).codec().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().starts_with(name), "{error}");
        }
        for bits in 5..=7 {
            assert_eq!(Attributes(bits).codec().unwrap_err().kind(), ErrorKind::Corrupt);
        }
        for codec in [Compression::None, Compression::Lz4, Compression::Zstd] {
            assert_eq!(Attributes(0x78 | 7).with_codec(codec).codec().unwrap(), codec);
        }
    }
}
