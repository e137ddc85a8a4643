//! Serdes of the primitive types, `Option` and tuples.

use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::{DefaultSerde, KeyWindow, Serde, SerdeRef, wrong_bytes};
use crate::Result;

/// The serde of every type with fixed-width big-endian bytes.
struct BigEndian;

macro_rules! big_endian {
    ($($type:ty),*) => {$(
        impl Serde<$type> for BigEndian {
            #[inline]
            fn encode(&self, value: &$type, out: &mut Vec<u8>) -> Result<()> {
                out.extend_from_slice(&value.to_be_bytes());
                Ok(())
            }
            #[inline]
            fn decode(&self, bytes: &[u8]) -> Result<$type> {
                match bytes.try_into() {
                    Ok(bytes) => Ok(<$type>::from_be_bytes(bytes)),
                    Err(_) => Err(wrong_bytes::<$type>(concat!("the width of ", stringify!($type)), bytes)),
                }
            }
            fn show(&self, bytes: &[u8]) -> Option<String> {
                Serde::<$type>::decode(self, bytes).ok().map(|value| value.to_string())
            }
        }
        impl DefaultSerde for $type {
            fn default_serde() -> SerdeRef<Self> {
                Arc::new(BigEndian)
            }
        }
    )*};
}
big_endian!(u8, u16, u32, u64, i8, i16, i32, i64, f32, f64);

struct Plain;

macro_rules! plain {
    ($($type:ty),*) => {$(
        impl DefaultSerde for $type {
            fn default_serde() -> SerdeRef<Self> {
                Arc::new(Plain)
            }
        }
    )*};
}
plain!(String, bool, Bytes, Vec<u8>, Uuid, ());

impl Serde<String> for Plain {
    #[inline]
    fn encode(&self, value: &String, out: &mut Vec<u8>) -> Result<()> {
        out.extend_from_slice(value.as_bytes());
        Ok(())
    }
    #[inline]
    fn decode(&self, bytes: &[u8]) -> Result<String> {
        std::str::from_utf8(bytes)
            .map(str::to_owned)
            .map_err(|e| wrong_bytes::<String>("UTF-8", bytes).with_source(e))
    }
}

impl Serde<bool> for Plain {
    fn encode(&self, value: &bool, out: &mut Vec<u8>) -> Result<()> {
        out.push(u8::from(*value));
        Ok(())
    }
    fn decode(&self, bytes: &[u8]) -> Result<bool> {
        match bytes {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(wrong_bytes::<bool>("one byte, 0 or 1", bytes)),
        }
    }
    fn show(&self, bytes: &[u8]) -> Option<String> {
        Serde::<bool>::decode(self, bytes).ok().map(|value| value.to_string())
    }
}

impl Serde<Bytes> for Plain {
    fn encode(&self, value: &Bytes, out: &mut Vec<u8>) -> Result<()> {
        out.extend_from_slice(value);
        Ok(())
    }
    fn decode(&self, bytes: &[u8]) -> Result<Bytes> {
        Ok(Bytes::copy_from_slice(bytes))
    }
}

impl Serde<Vec<u8>> for Plain {
    fn encode(&self, value: &Vec<u8>, out: &mut Vec<u8>) -> Result<()> {
        out.extend_from_slice(value);
        Ok(())
    }
    fn decode(&self, bytes: &[u8]) -> Result<Vec<u8>> {
        Ok(bytes.to_vec())
    }
}

impl Serde<Uuid> for Plain {
    fn encode(&self, value: &Uuid, out: &mut Vec<u8>) -> Result<()> {
        out.extend_from_slice(value.hyphenated().encode_lower(&mut Uuid::encode_buffer()).as_bytes());
        Ok(())
    }
    fn decode(&self, bytes: &[u8]) -> Result<Uuid> {
        Uuid::try_parse_ascii(bytes).map_err(|e| wrong_bytes::<Uuid>("a UUID as text", bytes).with_source(e))
    }
}

/// Anything may stand where nothing is looked at; nothing is written as null.
impl Serde<()> for Plain {
    fn encode(&self, (): &(), _: &mut Vec<u8>) -> Result<()> {
        Ok(())
    }
    fn decode(&self, _: &[u8]) -> Result<()> {
        Ok(())
    }
    fn encode_nullable(&self, (): &(), _: &mut Vec<u8>) -> Result<bool> {
        Ok(false)
    }
    fn is_null(&self, (): &()) -> bool {
        true
    }
    fn decode_nullable(&self, _: Option<&[u8]>) -> Result<()> {
        Ok(())
    }
}

/// The same serde for an `Option`, whose `None` is Kafka's null.
///
/// ```
/// use headwater_core::{DefaultSerde, serdes};
/// let serde = serdes::nullable(String::default_serde());
/// assert_eq!(serde.decode_nullable(None)?, None);
/// # Ok::<(), headwater_core::Error>(())
/// ```
pub fn nullable<T: 'static>(serde: SerdeRef<T>) -> SerdeRef<Option<T>> {
    Arc::new(Nullable(serde))
}

/// `None` is Kafka's null.
struct Nullable<T>(SerdeRef<T>);

impl<T: 'static> Serde<Option<T>> for Nullable<T> {
    fn encode(&self, value: &Option<T>, out: &mut Vec<u8>) -> Result<()> {
        value.as_ref().map_or(Ok(()), |value| self.0.encode(value, out))
    }
    fn decode(&self, bytes: &[u8]) -> Result<Option<T>> {
        self.0.decode(bytes).map(Some)
    }
    fn encode_nullable(&self, value: &Option<T>, out: &mut Vec<u8>) -> Result<bool> {
        self.encode(value, out)?;
        Ok(value.is_some())
    }
    fn is_null(&self, value: &Option<T>) -> bool {
        value.is_none()
    }
    fn decode_nullable(&self, bytes: Option<&[u8]>) -> Result<Option<T>> {
        bytes.map(|bytes| self.0.decode(bytes)).transpose()
    }
    fn key_window(&self, bytes: &[u8]) -> Option<KeyWindow> {
        self.0.key_window(bytes)
    }
    fn show(&self, bytes: &[u8]) -> Option<String> {
        self.0.show(bytes)
    }
}

impl<T: DefaultSerde> DefaultSerde for Option<T> {
    fn default_serde() -> SerdeRef<Self> {
        nullable(T::default_serde())
    }
}

/// Length of a part that is null.
const NULL_LENGTH: i32 = -1;

/// Each part with its length (`i32`, big-endian; -1 for null) in front.
struct Parts<S>(S);

fn encode_part<T: 'static>(serde: &SerdeRef<T>, part: &T, out: &mut Vec<u8>) -> Result<()> {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    let present = serde.encode_nullable(part, out)?;
    let length = if present { i32::try_from(out.len() - start - 4) } else { Ok(NULL_LENGTH) };
    let length = length.map_err(|_| crate::Error::processing("a part of a tuple is longer than 2 GiB"))?;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

fn decode_part<T: 'static>(serde: &SerdeRef<T>, bytes: &mut &[u8]) -> Result<T> {
    let short = |bytes: &[u8]| wrong_bytes::<T>("a length and as many bytes", bytes);
    let (length, rest) = bytes.split_first_chunk::<4>().ok_or_else(|| short(bytes))?;
    let length = i32::from_be_bytes(*length);
    if length == NULL_LENGTH {
        *bytes = rest;
        return serde.decode_nullable(None);
    }
    let length = usize::try_from(length).map_err(|_| short(bytes))?;
    let (part, rest) = rest.split_at_checked(length).ok_or_else(|| short(bytes))?;
    *bytes = rest;
    serde.decode(part)
}

/// A part that shows itself as nothing better is text, or nothing.
fn show_part<T: 'static>(serde: &SerdeRef<T>, bytes: &mut &[u8]) -> Option<String> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let length = i32::from_be_bytes(*length);
    if length == NULL_LENGTH {
        *bytes = rest;
        return Some("null".to_owned());
    }
    let (part, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    *bytes = rest;
    serde.show(part).or_else(|| std::str::from_utf8(part).ok().map(str::to_owned))
}

macro_rules! tuples {
    ($(($($part:ident $at:tt),+)),+) => {$(
        impl<$($part: 'static),+> Serde<($($part,)+)> for Parts<($(SerdeRef<$part>,)+)> {
            fn encode(&self, value: &($($part,)+), out: &mut Vec<u8>) -> Result<()> {
                $(encode_part(&self.0.$at, &value.$at, out)?;)+
                Ok(())
            }
            fn decode(&self, mut bytes: &[u8]) -> Result<($($part,)+)> {
                let value = ($(decode_part(&self.0.$at, &mut bytes)?,)+);
                if bytes.is_empty() { Ok(value) } else { Err(wrong_bytes::<($($part,)+)>("nothing after the last part", bytes)) }
            }
            fn show(&self, mut bytes: &[u8]) -> Option<String> {
                let parts = [$(show_part(&self.0.$at, &mut bytes)?),+];
                bytes.is_empty().then(|| format!("({})", parts.join(", ")))
            }
        }
        impl<$($part: DefaultSerde),+> DefaultSerde for ($($part,)+) {
            fn default_serde() -> SerdeRef<Self> {
                Arc::new(Parts(($($part::default_serde(),)+)))
            }
        }
    )+};
}
tuples!((A 0, B 1), (A 0, B 1, C 2), (A 0, B 1, C 2, D 3));

#[cfg(test)]
mod tests;
