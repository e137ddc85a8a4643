//! Zig-zag varints as in Kafka's `ByteUtils`.

/// Appends `value`.
#[inline]
pub(super) fn put(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
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
    let zigzag = ((value << 1) ^ (value >> 63)).cast_unsigned();
    (70 - (zigzag | 1).leading_zeros() as usize) / 7
}

/// Reads one at `*at` and moves on; `None` when it is cut short or longer than 64 bits.
#[inline]
pub(super) fn get(bytes: &[u8], at: &mut usize) -> Option<i64> {
    let first = *bytes.get(*at)?;
    *at += 1;
    let zigzag = if first < 0x80 { u64::from(first) } else { get_rest(bytes, at, first)? };
    Some((zigzag >> 1).cast_signed() ^ -((zigzag & 1).cast_signed()))
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

/// The front of a record, put together before it is copied: fewer checks of the buffer's room.
pub(super) struct Front {
    bytes: [u8; 48],
    len: usize,
}

impl Front {
    /// Five varints of at most ten bytes would be 50; the lengths among them are at most five bytes long.
    #[inline]
    pub(super) fn new() -> Self {
        Self { bytes: [0; 48], len: 0 }
    }

    #[inline]
    pub(super) fn put(&mut self, value: i64) {
        let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
        while rest >= 0x80 {
            #[expect(clippy::cast_possible_truncation, reason = "seven bits at a time")]
            self.put_byte((rest as u8) | 0x80);
            rest >>= 7;
        }
        #[expect(clippy::cast_possible_truncation, reason = "what is left is below 0x80")]
        self.put_byte(rest as u8);
    }

    #[inline]
    pub(super) fn put_byte(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    #[inline]
    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
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
