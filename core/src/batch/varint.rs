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
    let mut zigzag = u64::from(first & 0x7f);
    if first >= 0x80 {
        let mut shift = 7;
        loop {
            let byte = *bytes.get(*at)?;
            *at += 1;
            if shift == 63 && byte > 1 {
                return None;
            }
            zigzag |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
            shift += 7;
            if shift > 63 {
                return None;
            }
        }
    }
    Some((zigzag >> 1).cast_signed() ^ -((zigzag & 1).cast_signed()))
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
