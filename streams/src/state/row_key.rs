//! The bytes of a key as a row keeps them, and how they are compared.

use smallvec::SmallVec;

/// Keys up to this size lie in the row itself.
pub(super) const INLINE_KEY_BYTES: usize = 24;

pub(super) type RowKey = SmallVec<[u8; INLINE_KEY_BYTES]>;

/// Whether two keys are the same. Most are short, and comparing those takes less than calling what compares any.
#[inline]
pub(super) fn is_same(a: &[u8], b: &[u8]) -> bool {
    // The first and the last few bytes, which overlap.
    match (a.first_chunk::<4>(), a.last_chunk::<4>()) {
        (Some(first), Some(last)) if a.len() <= 8 => {
            a.len() == b.len() && b.first_chunk() == Some(first) && b.last_chunk() == Some(last)
        }
        _ => match (a.first_chunk::<8>(), a.last_chunk::<8>()) {
            (Some(first), Some(last)) if a.len() <= 16 => {
                a.len() == b.len() && b.first_chunk() == Some(first) && b.last_chunk() == Some(last)
            }
            _ => a == b,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_the_same_when_all_of_their_bytes_are() {
        for length in 0..=40 {
            let key: Vec<u8> = (0..length).collect();
            assert!(is_same(&key, &key.clone()));
            for other in 0..=40 {
                assert_eq!(is_same(&key, &vec![0; other]), key == vec![0; other]);
            }
            for at in 0..key.len() {
                let mut other = key.clone();
                other[at] ^= 1;
                assert!(!is_same(&key, &other), "{length} bytes, byte {at}");
            }
            let longer = [&key[..], &[7]].concat();
            assert!(!is_same(&key, &longer) && !is_same(&longer, &key));
        }
    }
}
