//! Values as they lie in the engine: timestamp, then the bytes of the serde.

use headwater_core::{Error, Result, Serde, StateBatch, StoreId, Timestamp};

/// Bytes of the timestamp in front of a value in the engine.
const TIMESTAMP_BYTES: usize = 8;

/// What the engine held of a row.
pub(crate) struct Loaded<V> {
    pub(crate) value: V,
    pub(crate) timestamp: Timestamp,
    pub(crate) bytes: usize,
}

/// A value as it lies in the engine: timestamp, then the bytes of the serde. `false` when it is deleted or null.
pub(crate) fn encode_stored<V: 'static>(
    serde: &dyn Serde<V>,
    value: Option<&V>,
    timestamp: Timestamp,
    out: &mut Vec<u8>,
) -> Result<bool> {
    out.clear();
    out.extend_from_slice(&timestamp.0.to_be_bytes());
    value.map_or(Ok(false), |value| serde.encode_nullable(value, out))
}

/// What the engine must do to a row that a changelog holds: the value there is that of the serde.
pub(crate) fn restore_stored(
    (slot, key): (StoreId, &[u8]),
    value: Option<&[u8]>,
    timestamp: Timestamp,
    batch: &mut StateBatch,
) {
    match value {
        Some(value) => batch.put(slot, key, &[&timestamp.0.to_be_bytes(), value].concat()),
        None => batch.delete(slot, key),
    }
}

/// The other way round. An error is not the current record's: what is stored is of another type.
pub(crate) fn decode_stored<V: 'static>(serde: &dyn Serde<V>, bytes: &[u8]) -> Result<Loaded<V>> {
    let Some((timestamp, value)) = bytes.split_first_chunk::<TIMESTAMP_BYTES>() else {
        return Err(Error::corrupt(format!("a stored value has at least 8 bytes. length={}", bytes.len())));
    };
    let value = decode_value(serde, value)?;
    Ok(Loaded { value, timestamp: Timestamp(i64::from_be_bytes(*timestamp)), bytes: bytes.len() })
}

/// A value as it lies in the changelog, for a table, and how many bytes it has there.
pub(crate) fn restored<V: 'static>(serde: &dyn Serde<V>, bytes: Option<&[u8]>) -> Result<(Option<V>, usize)> {
    let value = bytes.map(|bytes| decode_value(serde, bytes)).transpose()?;
    Ok((value, bytes.map_or(0, <[u8]>::len)))
}

fn decode_value<V: 'static>(serde: &dyn Serde<V>, bytes: &[u8]) -> Result<V> {
    serde.decode(bytes).map_err(|e| {
        Error::invalid("a stored value cannot be decoded: was the type of the store's values changed?")
            .with_source(e)
    })
}
