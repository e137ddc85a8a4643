//! Changes of rows on a repartition topic, in the layout of Kafka's `ChangedSerializer` (since 3.5, KIP-904): what there
//! is of the values, and a last byte that says what: `old | 0`, `new | 1`, `varint length of new | new | old | 2`.

use headwater_core::{Error, Result, Serde, SerdeRef};

use crate::table::Change;

const OLD: u8 = 0;
const NEW: u8 = 1;
const BOTH: u8 = 2;

pub(super) struct ChangeSerde<V>(pub(super) SerdeRef<V>);

impl<V: 'static> Serde<Change<V>> for ChangeSerde<V> {
    fn encode(&self, change: &Change<V>, out: &mut Vec<u8>) -> Result<()> {
        let flag = match (&change.old, &change.new) {
            (Some(old), None) => {
                self.0.encode(old, out)?;
                OLD
            }
            (None, Some(new)) => {
                self.0.encode(new, out)?;
                NEW
            }
            (Some(old), Some(new)) => {
                let start = out.len();
                self.0.encode(new, out)?;
                let length = out.len() - start;
                put_varint(length, out)?;
                // The length goes to the front, which is known only now.
                let width = out.len() - start - length;
                out[start..].rotate_right(width);
                self.0.encode(old, out)?;
                BOTH
            }
            (None, None) => {
                return Err(Error::processing("a change of a row has neither an old nor a new value"));
            }
        };
        out.push(flag);
        Ok(())
    }

    fn decode(&self, bytes: &[u8]) -> Result<Change<V>> {
        match bytes.split_last() {
            Some((&OLD, old)) => Ok(Change { old: Some(self.0.decode(old)?), new: None }),
            Some((&NEW, new)) => Ok(Change { old: None, new: Some(self.0.decode(new)?) }),
            Some((&BOTH, values)) => {
                let (length, rest) = take_varint(values).ok_or_else(|| wrong(bytes))?;
                let (new, old) = rest.split_at_checked(length).ok_or_else(|| wrong(bytes))?;
                Ok(Change { old: Some(self.0.decode(old)?), new: Some(self.0.decode(new)?) })
            }
            _ => Err(wrong(bytes)),
        }
    }
}

fn wrong(bytes: &[u8]) -> Error {
    let (length, flag) = (bytes.len(), bytes.last());
    Error::processing(format!(
        "not a change of a row: does somebody else write into the repartition topic? length={length}, flag={flag:?}"
    ))
}

/// Kafka's `ByteUtils.writeVarint`: zig-zag, seven bits a byte, the lowest first.
fn put_varint(length: usize, out: &mut Vec<u8>) -> Result<()> {
    let length = i32::try_from(length).map_err(|_| Error::processing("a value is longer than 2 GiB"))?;
    let mut rest = length.cast_unsigned() << 1;
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
    Ok(())
}

fn take_varint(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0u32;
    for (at, byte) in bytes.iter().enumerate().take(5) {
        value |= u32::from(byte & 0x7f).checked_shl(u32::try_from(at * 7).ok()?)?;
        if byte & 0x80 == 0 {
            // Lengths are not negative, and zig-zag makes those odd.
            return (value & 1 == 0).then_some(((value >> 1) as usize, &bytes[at + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use headwater_core::DefaultSerde;
    use proptest::prelude::*;

    use super::*;

    fn serde() -> ChangeSerde<String> {
        ChangeSerde(String::default_serde())
    }

    fn change(old: Option<&str>, new: Option<&str>) -> Change<String> {
        Change { old: old.map(str::to_owned), new: new.map(str::to_owned) }
    }

    fn bytes(change: &Change<String>) -> Vec<u8> {
        let mut bytes = b"before".to_vec();
        serde().encode(change, &mut bytes).unwrap();
        assert!(bytes.starts_with(b"before"));
        bytes.split_off(6)
    }

    #[test]
    fn lies_on_the_topic_as_kafka_writes_it() {
        assert_eq!(bytes(&change(Some("old"), None)), b"old\0");
        assert_eq!(bytes(&change(None, Some("new"))), b"new\x01");
        assert_eq!(bytes(&change(Some("old"), Some("newer"))), b"\x0anewerold\x02");
        let long = "x".repeat(100);
        let expected = [b"\xc8\x01".as_slice(), long.as_bytes(), b"o\x02"].concat();
        assert_eq!(bytes(&change(Some("o"), Some(&long))), expected);
        assert!(serde().encode(&change(None, None), &mut Vec::new()).is_err());
    }

    proptest! {
        #[test]
        fn comes_back(old: Option<String>, new: Option<String>) {
            prop_assume!(old.is_some() || new.is_some());
            let change = Change { old, new };
            prop_assert_eq!(serde().decode(&bytes(&change)).unwrap(), change);
        }

        #[test]
        fn other_bytes_are_refused_or_read_without_a_panic(bytes: Vec<u8>) {
            let _ = serde().decode(&bytes);
        }
    }
}
