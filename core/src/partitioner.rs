//! Which partition a key belongs to: murmur2, as Kafka's Java producer computes it.

use std::num::NonZeroU32;

use crate::Partition;

/// The partition of a key, equal to Kafka's default partitioner (`BuiltInPartitioner.partitionForKey`), so that
/// topics written by other Kafka producers are co-partitioned with ours.
///
/// ```
/// use headwater_core::{Partition, partition_for_key};
/// let four = std::num::NonZeroU32::new(4).unwrap();
/// assert_eq!(partition_for_key(b"foobar", four), Partition(2));
/// ```
#[must_use]
pub fn partition_for_key(key: &[u8], partitions: NonZeroU32) -> Partition {
    // There is no choice.
    if partitions.get() == 1 {
        return Partition(0);
    }
    Partition((murmur2(key) & 0x7fff_ffff) % partitions)
}

/// Murmur2 with Kafka's seed (`Utils.murmur2`).
#[must_use]
pub fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    #[expect(clippy::cast_possible_truncation, reason = "Kafka mixes in the low 32 bits of the length")]
    let mut h = SEED ^ data.len() as u32;
    let mut chunks = data.chunks_exact(4);
    for chunk in &mut chunks {
        let mut k = u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]).wrapping_mul(M);
        k ^= k >> 24;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = chunks.remainder();
    if !rest.is_empty() {
        for (i, byte) in rest.iter().enumerate() {
            h ^= u32::from(*byte) << (8 * i);
        }
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    h ^ (h >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From Kafka's `UtilsTest.testMurmur2`.
    #[test]
    fn vectors_of_kafka() {
        let cases: [(&[u8], i32); 6] = [
            (b"21", -973_932_308),
            (b"foobar", -790_332_482),
            (b"a-little-bit-long-string", -985_981_536),
            (b"a-little-bit-longer-string", -1_486_304_829),
            (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            (b"abc", 479_470_107),
        ];
        for (data, expected) in cases {
            assert_eq!(murmur2(data).cast_signed(), expected, "{data:?}");
        }
    }
}
