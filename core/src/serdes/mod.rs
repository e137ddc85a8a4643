//! How values become bytes: the [`Serde`] trait and the built-in ones.
//!
//! | Type | Bytes | Sorts like the value |
//! |---|---|---|
//! | `String` | UTF-8 | yes |
//! | `u8` `u16` `u32` `u64` | big-endian | yes |
//! | `i8` `i16` `i32` `i64` | big-endian two's complement, as Kafka's | among values of one sign only |
//! | `f32` `f64` | big-endian IEEE 754, as Kafka's | no |
//! | `bool` | 0 or 1 | yes |
//! | `Bytes`, `Vec<u8>` | as they are | yes |
//! | `Uuid` | the text, as Kafka's | yes |
//! | `()` | nothing; accepts and ignores anything | yes |
//! | `Option<T>` | Kafka's null, or as `T` | as `T` |
//! | tuples | each part with a 4-byte length in front | no |
//! | [`json()`], [`bincode()`] | any serde type | no |

mod formats;
mod key_window;
mod primitives;

use std::sync::Arc;

pub use self::{
    formats::{Bincode, Json, bincode, json},
    key_window::KeyWindow,
    primitives::nullable,
};
use crate::{Error, Result};

/// Turns a `T` into bytes and back.
///
/// Null is typed: only `Option` and `()` accept Kafka's null, all others refuse it, and the error policy decides.
pub trait Serde<T>: Send + Sync + 'static {
    /// Appends the bytes of `value` to `out`.
    ///
    /// # Errors
    /// `Processing` when the value has no encoding.
    fn encode(&self, value: &T, out: &mut Vec<u8>) -> Result<()>;

    /// The value that `bytes` stand for.
    ///
    /// # Errors
    /// `Processing` when they stand for none.
    fn decode(&self, bytes: &[u8]) -> Result<T>;

    /// As [`Serde::encode`]; `false` means Kafka's null instead of bytes.
    ///
    /// # Errors
    /// As [`Serde::encode`].
    #[inline]
    fn encode_nullable(&self, value: &T, out: &mut Vec<u8>) -> Result<bool> {
        self.encode(value, out)?;
        Ok(true)
    }

    /// Whether [`Serde::encode_nullable`] makes `value` Kafka's null. Stores ask: such a value is no row.
    #[inline]
    fn is_null(&self, value: &T) -> bool {
        let _ = value;
        false
    }

    /// As [`Serde::decode`], where `None` is Kafka's null.
    ///
    /// # Errors
    /// As [`Serde::decode`], and `Processing` when the type does not accept null.
    #[inline]
    fn decode_nullable(&self, bytes: Option<&[u8]>) -> Result<T> {
        match bytes {
            Some(bytes) => self.decode(bytes),
            None => Err(null_refused::<T>()),
        }
    }

    /// As [`Serde::decode_nullable`], into a place that the caller has, where the value is not moved any more. Nothing is to be
    /// gained by another implementation than this one, which is made of [`Serde::decode`] where that is small enough.
    ///
    /// # Errors
    /// As [`Serde::decode_nullable`].
    #[inline]
    fn decode_into(&self, bytes: Option<&[u8]>, place: &mut Option<T>) -> Result<()> {
        *place = Some(match bytes {
            Some(bytes) => self.decode(bytes)?,
            None => self.decode_nullable(None)?,
        });
        Ok(())
    }

    /// The part of a key's bytes that decides its partition: all of them, but for windowed keys, which lie where their
    /// inner key lies (Kafka: `WindowedStreamPartitioner`).
    #[inline]
    fn partition_bytes<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        bytes
    }

    /// The window that a key's bytes name; `None` for keys without one.
    fn key_window(&self, bytes: &[u8]) -> Option<KeyWindow> {
        let _ = bytes;
        None
    }

    /// The value that `bytes` stand for, as people read it; `None` when the bytes say it as well as anything, or stand for
    /// none. Only shown, never read back.
    fn show(&self, bytes: &[u8]) -> Option<String> {
        let _ = bytes;
        None
    }
}

/// A serde as it is passed around.
pub type SerdeRef<T> = Arc<dyn Serde<T>>;

/// Types with one obvious encoding. A type without it is a compile error where bytes are needed, never a run-time one;
/// pass [`json()`], [`bincode()`] or your own serde there.
pub trait DefaultSerde: Sized + 'static {
    /// The serde of this type.
    fn default_serde() -> SerdeRef<Self>;
}

#[cold]
fn null_refused<T>() -> Error {
    Error::processing(format!(
        "null where a value is needed: use `Option<{0}>` to accept it. type={0}",
        std::any::type_name::<T>()
    ))
}

#[cold]
fn wrong_bytes<T>(expected: &str, bytes: &[u8]) -> Error {
    let shown = &bytes[..bytes.len().min(16)];
    Error::processing(format!(
        "bytes are not a {}: expected {expected}. length={}, first={shown:02x?}",
        std::any::type_name::<T>(),
        bytes.len()
    ))
}
