//! The checksum of a group whose bytes come in pieces, of which some are known by their own checksum only.
//!
//! A CRC is the remainder of a division of polynomials over two elements. That of two pieces is that of the first, moved by
//! as many zeros as the second is long, plus that of the second. To move is to multiply by a power of x.

use super::group::{GroupHeader, Seed};

/// CRC-32C's polynomial without its highest term. The lowest bit is the highest power.
const POLYNOMIAL: u32 = 0x82f6_3b78;
/// The polynomial 1.
const ONE: u32 = 1 << 31;
/// x to the power of 2 to the power of the index. The next is x again, and so on: x to the power of 2^31 - 1 is 1.
const POWERS: [u32; 31] = powers();

/// A checksum that grows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Checksum(u32);

impl Checksum {
    /// Of a group of the segment of `seed` that begins with `header`.
    pub(super) fn begin(seed: Seed, header: &[u8]) -> Self {
        Self(crc32c::crc32c_append(seed.checksum(), header.get(8..).unwrap_or_default()))
    }

    /// Takes the next bytes.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.0 = crc32c::crc32c_append(self.0, bytes);
    }

    /// Takes the next `length` bytes, of which the checksum is known.
    pub(super) fn add_summed(&mut self, crc: u32, length: usize) {
        self.0 = multiply(power_of_bytes(length as u64), self.0) ^ crc;
    }

    /// Whether it is the one that the header names.
    pub(super) fn is_of(self, header: &GroupHeader) -> bool {
        header.crc == self.0
    }
}

const fn powers() -> [u32; 31] {
    let mut powers = [ONE >> 1; 31];
    let mut at = 1;
    while at < powers.len() {
        powers[at] = multiply(powers[at - 1], powers[at - 1]);
        at += 1;
    }
    powers
}

/// The product of two polynomials, as remainder.
const fn multiply(mut one: u32, mut other: u32) -> u32 {
    let mut product = 0;
    while one != 0 {
        if one & ONE != 0 {
            product ^= other;
        }
        one <<= 1;
        other = if other & 1 == 0 { other >> 1 } else { other >> 1 ^ POLYNOMIAL };
    }
    product
}

/// x to the power of eight times `bytes`.
fn power_of_bytes(bytes: u64) -> u32 {
    // Three more: a byte has two to the power of three bits.
    let powers = POWERS.iter().cycle().skip(3).zip(0..u64::BITS);
    powers.filter(|(_, bit)| bytes >> bit & 1 == 1).fold(ONE, |product, (power, _)| multiply(*power, product))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_make_the_checksum_of_the_whole() {
        let bytes: Vec<u8> = (0..70_000u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
        for length in [0, 1, 2, 3, 7, 8, 61, 4095, 4096, 65_535, 65_536, 69_000] {
            let (first, rest) = bytes.split_at(bytes.len() - length);
            let mut sum = Checksum(crc32c::crc32c(first));
            sum.add_summed(crc32c::crc32c(rest), length);
            assert_eq!(sum.0, crc32c::crc32c(&bytes), "length={length}");
            assert_eq!(sum.0, crc32c::crc32c_combine(crc32c::crc32c(first), crc32c::crc32c(rest), length));
        }
        let (one, other) = (crc32c::crc32c(b"one"), crc32c::crc32c(b"other"));
        for length in [1 << 20, (1 << 28) + 1, 0x7fff_ffff] {
            let mut sum = Checksum(one);
            sum.add_summed(other, length);
            assert_eq!(sum.0, crc32c::crc32c_combine(one, other, length), "length={length}");
        }
    }
}
