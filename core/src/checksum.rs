//! CRC-32C (Castagnoli, as in iSCSI): the checksum of Kafka's batches, and of everything else that a log writes.

use crc_fast::{CrcAlgorithm, Digest, crc32_iscsi};

/// The checksum of `bytes`.
///
/// ```
/// use headwater_core::checksum::{crc32c, crc32c_append};
/// assert_eq!(crc32c(b"123456789"), 0xe306_9283);
/// assert_eq!(crc32c_append(crc32c(b"1234"), b"56789"), crc32c(b"123456789"));
/// ```
#[must_use]
#[inline]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc32_iscsi(bytes)
}

/// The checksum of bytes of which `crc` is the checksum, and of `bytes` behind them.
#[must_use]
pub fn crc32c_append(crc: u32, bytes: &[u8]) -> u32 {
    let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc32Iscsi, u64::from(!crc));
    digest.update(bytes);
    #[expect(clippy::cast_possible_truncation, reason = "a checksum of 32 bits")]
    let crc = digest.finalize() as u32;
    crc
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bit by bit, as it is defined.
    fn plain(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0, |crc, byte| {
            (0..8)
                .fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
        })
    }

    /// RFC 3720, B.4.
    #[test]
    fn known_vectors() {
        let ascending: Vec<u8> = (0..32).collect();
        for (bytes, crc) in
            [(&[0; 32][..], 0x8a91_36aa), (&[0xff; 32], 0x62a8_ab43), (&ascending, 0x46dd_794e)]
        {
            assert_eq!((crc32c(bytes), plain(bytes)), (crc, crc));
        }
        assert_eq!((crc32c(b""), crc32c_append(7, b"")), (0, 7));
    }

    proptest! {
        /// Of any length, whatever instructions the processor has for it; also cut anywhere.
        #[test]
        fn it_is_what_is_defined(bytes in prop::collection::vec(any::<u8>(), 0..3000), cut in 0usize..3000) {
            let cut = cut.min(bytes.len());
            let crc = plain(&bytes);
            prop_assert_eq!(crc32c(&bytes), crc);
            prop_assert_eq!(crc32c_append(crc32c(&bytes[..cut]), &bytes[cut..]), crc);
        }
    }
}
