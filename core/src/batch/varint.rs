//! Zig-zag varints as in Kafka's `ByteUtils`.

/// Appends `value`.
#[inline]
pub(super) fn put(out: &mut Vec<u8>, value: i64) {
    let mut rest = zigzag(value);
    while rest >= 0x80 {
        #[expect(clippy::cast_possible_truncation, reason = "seven bits at a time")]
        out.push((rest as u8) | 0x80);
        rest >>= 7;
    }
    #[expect(clippy::cast_possible_truncation, reason = "what is left is below 0x80")]
    out.push(rest as u8);
}

/// Bytes that [`put`] appends.
#[inline]
pub(super) fn size(value: i64) -> usize {
    (70 - (zigzag(value) | 1).leading_zeros() as usize) / 7
}

/// Bytes of the longest length that there is.
pub(super) const LENGTH_BYTES_MAX: usize = 5;

/// Overwrites the beginning of `place`, which has [`size`] bytes at least.
#[inline]
pub(super) fn set(place: &mut [u8], value: i64) {
    let mut rest = zigzag(value);
    let mut at = 0;
    while rest >= 0x80 {
        #[expect(clippy::cast_possible_truncation, reason = "seven bits at a time")]
        let low = (rest as u8) | 0x80;
        place[at] = low;
        at += 1;
        rest >>= 7;
    }
    #[expect(clippy::cast_possible_truncation, reason = "what is left is below 0x80")]
    let last = rest as u8;
    place[at] = last;
}

#[inline]
fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

#[inline]
pub(super) fn unzigzag(zigzag: u64) -> i64 {
    (zigzag >> 1).cast_signed() ^ -((zigzag & 1).cast_signed())
}

/// Appends the front of a record: room for its length, no attributes, its deltas, room for the length of its key.
#[inline(always)]
pub(super) fn put_front(out: &mut Vec<u8>, (record, key): (usize, usize), (timestamp, offset): (i64, i64)) {
    // Put together in a register and stored once: the first four bytes at most are zeros, and two short deltas and zeros follow.
    const SHORT: u64 = 1 << 21;
    let (timestamp, offset) = (zigzag(timestamp), zigzag(offset));
    if record > 4 || timestamp >= SHORT || offset >= SHORT {
        return put_long_front(out, (record, key), (timestamp, offset));
    }
    let (first, first_bytes) = spread(timestamp);
    let (second, second_bytes) = spread(offset);
    let at = record + 1;
    let front = u128::from(first | second << (8 * first_bytes)) << (8 * at);
    let end = out.len() + at + first_bytes + second_bytes + key;
    out.extend_from_slice(&front.to_le_bytes());
    out.truncate(end);
}

/// A number below 2^21 as a varint of up to three bytes, the first the lowest, and how many.
#[inline]
fn spread(value: u64) -> (u64, usize) {
    if value < 0x80 {
        (value, 1)
    } else if value < 0x4000 {
        (value & 0x7f | 0x80 | (value >> 7) << 8, 2)
    } else {
        (value & 0x7f | 0x80 | (value >> 7 & 0x7f | 0x80) << 8 | (value >> 14) << 16, 3)
    }
}

#[cold]
fn put_long_front(out: &mut Vec<u8>, (record, key): (usize, usize), deltas: (u64, u64)) {
    out.extend_from_slice(&[0; LENGTH_BYTES_MAX + 1][..=record]);
    [deltas.0, deltas.1].into_iter().for_each(|zigzag| put(out, unzigzag(zigzag)));
    out.extend_from_slice(&[0; LENGTH_BYTES_MAX][..key]);
}

/// Reads one at `*at` and moves on; `None` when it is cut short or longer than 64 bits.
#[inline]
pub(super) fn get(bytes: &[u8], at: &mut usize) -> Option<i64> {
    let first = *bytes.get(*at)?;
    *at += 1;
    let zigzag = if first < 0x80 { u64::from(first) } else { get_rest(bytes, at, first)? };
    Some(unzigzag(zigzag))
}

/// Most varints of a record are one byte long; the others come here.
fn get_rest(bytes: &[u8], at: &mut usize, first: u8) -> Option<u64> {
    let mut zigzag = u64::from(first & 0x7f);
    for shift in (7..70).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        if shift == 63 && byte > 1 {
            return None;
        }
        zigzag |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(zigzag);
        }
    }
    None
}

/// Several varints of up to two bytes each, read from a register. They are not turned back from zigzag.
pub(super) struct Word {
    rest: u64,
    used: usize,
}

impl Word {
    const BYTES: usize = 8;

    #[inline(always)]
    pub(super) fn new(bytes: [u8; Self::BYTES]) -> Self {
        Self { rest: u64::from_le_bytes(bytes), used: 0 }
    }

    /// The next one; `None` when it is longer.
    #[inline(always)]
    pub(super) fn next(&mut self) -> Option<u32> {
        let (first, second) = (self.rest as u32 & 0xff, self.rest as u32 >> 8 & 0xff);
        if first < 0x80 {
            self.skip_byte();
            return Some(first);
        }
        self.rest >>= 16;
        self.used += 2;
        (second < 0x80).then_some(first & 0x7f | second << 7)
    }

    #[inline(always)]
    pub(super) fn skip_byte(&mut self) {
        self.rest >>= 8;
        self.used += 1;
    }

    /// Bytes that were read.
    #[inline(always)]
    pub(super) fn used(&self) -> usize {
        self.used
    }

    /// Whether they were there: beyond the end zeros are read.
    #[inline(always)]
    pub(super) fn is_whole(&self) -> bool {
        self.used <= Self::BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_size() {
        for value in [0, 1, -1, 63, 64, -64, -65, 8191, 8192, i64::from(i32::MAX), i64::MAX, i64::MIN] {
            let mut bytes = Vec::new();
            put(&mut bytes, value);
            assert_eq!(bytes.len(), size(value), "{value}");
            let mut at = 0;
            assert_eq!(get(&bytes, &mut at), Some(value));
            assert_eq!(at, bytes.len());
            assert_eq!(get(&bytes[..bytes.len() - 1], &mut 0), None);
        }
    }

    #[test]
    fn endless_varints_are_refused() {
        assert_eq!(get(&[0xff; 20], &mut 0), None);
        assert_eq!(get(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02], &mut 0), None);
    }
}
