//! How the rows of a join lie in the engine.
//!
//! ```text
//! 0 | i64 pane start | i64 pane end | u32 length of key | key | i64 timestamp | u32 number      -> value
//! the same | 1                                                                                  -> nothing: it was matched
//! 1 | i64 timestamp | key | u32 number                        -> nothing: a row that has met nobody yet
//! ```
//! So the rows of a key are one range, a pane is one range, and those that met nobody are in the order of time. All
//! numbers are big-endian. In the changelog a row is Kafka's `key | i64 timestamp | i32 number` (`WindowKeySchema`), and
//! the mark is the same key with the sign bit of the number set.

use headwater_core::{Error, Result, Timestamp};

const ROWS: u8 = 0;
const UNMATCHED: u8 = 1;
const IS_MATCHED: u8 = 1;
const TIME_BYTES: usize = 8;
const SEQ_BYTES: usize = 4;

/// Appends where the rows of `key` in a pane begin.
pub(super) fn key_prefix((start, end): (Timestamp, Timestamp), key: &[u8], out: &mut Vec<u8>) -> Result<()> {
    let length = u32::try_from(key.len()).map_err(|_| Error::processing("a key has 2^32 bytes"))?;
    out.push(ROWS);
    out.extend_from_slice(&start.0.to_be_bytes());
    out.extend_from_slice(&end.0.to_be_bytes());
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(key);
    Ok(())
}

/// Appends the place of a row to its key's prefix.
pub(super) fn push_row(timestamp: Timestamp, seq: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(&timestamp.0.to_be_bytes());
    out.extend_from_slice(&seq.to_be_bytes());
}

/// Makes the key of a row that of its mark.
pub(super) fn push_matched(out: &mut Vec<u8>) {
    out.push(IS_MATCHED);
}

/// What stands behind a key's prefix: a row's time and number, and whether it is the mark.
pub(super) fn parse_row(suffix: &[u8]) -> Result<(Timestamp, u32, bool)> {
    let parts = suffix.split_first_chunk::<TIME_BYTES>();
    match parts.and_then(|(time, rest)| Some((time, rest.split_first_chunk::<SEQ_BYTES>()?))) {
        Some((time, (seq, rest))) if rest.is_empty() || rest == [IS_MATCHED] => {
            Ok((Timestamp(i64::from_be_bytes(*time)), u32::from_be_bytes(*seq), !rest.is_empty()))
        }
        _ => Err(corrupt(suffix)),
    }
}

/// Where panes from `start` on begin.
pub(super) fn panes_from(start: Timestamp) -> Vec<u8> {
    let mut key = vec![ROWS];
    key.extend_from_slice(&start.0.to_be_bytes());
    key
}

/// Before all panes.
pub(super) const PANES_BEGIN: [u8; 1] = [ROWS];
/// Behind all panes.
pub(super) const PANES_END: [u8; 1] = [UNMATCHED];

/// Start and end of the pane that an entry belongs to.
pub(super) fn parse_pane(key: &[u8]) -> Result<(Timestamp, Timestamp)> {
    let parts = key.get(1..).and_then(<[u8]>::split_first_chunk::<TIME_BYTES>);
    let (start, rest) = parts.ok_or_else(|| corrupt(key))?;
    let end = rest.first_chunk::<TIME_BYTES>().ok_or_else(|| corrupt(key))?;
    Ok((Timestamp(i64::from_be_bytes(*start)), Timestamp(i64::from_be_bytes(*end))))
}

/// The entry of a row that met nobody, in place of what is in `out`.
pub(super) fn unmatched(timestamp: Timestamp, key: &[u8], seq: u32, out: &mut Vec<u8>) {
    out.clear();
    out.push(UNMATCHED);
    out.extend_from_slice(&timestamp.0.to_be_bytes());
    out.extend_from_slice(key);
    out.extend_from_slice(&seq.to_be_bytes());
}

/// Where the entries of rows that met nobody begin, from `timestamp` on.
pub(super) fn unmatched_from(timestamp: Timestamp) -> Vec<u8> {
    let mut key = vec![UNMATCHED];
    key.extend_from_slice(&timestamp.0.max(0).to_be_bytes());
    key
}

/// Time and key of a row that met nobody.
pub(super) fn parse_unmatched(entry: &[u8]) -> Result<(Timestamp, &[u8])> {
    let parts = entry.get(1..).and_then(<[u8]>::split_first_chunk::<TIME_BYTES>);
    let (time, rest) = parts.ok_or_else(|| corrupt(entry))?;
    let (key, _) = rest.split_last_chunk::<SEQ_BYTES>().ok_or_else(|| corrupt(entry))?;
    Ok((Timestamp(i64::from_be_bytes(*time)), key))
}

/// Key, time and number of a row in the changelog.
pub(super) fn parse_changelog(key: &[u8]) -> Result<(&[u8], Timestamp, u32)> {
    let parts = key.split_last_chunk::<SEQ_BYTES>();
    match parts.and_then(|(rest, seq)| Some((rest.split_last_chunk::<TIME_BYTES>()?, seq))) {
        Some(((_, time), _)) if time[0] > i8::MAX.cast_unsigned() => Err(corrupt(key)),
        Some(((key, time), seq)) => Ok((key, Timestamp(i64::from_be_bytes(*time)), u32::from_be_bytes(*seq))),
        None => Err(corrupt(key)),
    }
}

#[cold]
fn corrupt(key: &[u8]) -> Error {
    let shown = &key[..key.len().min(32)];
    Error::corrupt(format!("this is no key of a join's row. length={}, first={shown:02x?}", key.len()))
}
