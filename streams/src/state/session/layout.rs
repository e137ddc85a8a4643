//! Where sessions lie in the engine and in the changelog. All integers are big-endian.
//!
//! ```text
//! engine     0 | u32 length of key | key | i64 end | i64 start   ->  timestamp | value     sessions of a key, by time
//!            1 | i64 end | key | i64 start                       ->  nothing               sessions by their end
//! changelog  key | i64 end | i64 start                           ->  value                 Kafka's `SessionKeySchema`
//! ```
//!
//! The length in front keeps apart the sessions of keys of which one is the beginning of another. Timestamps are not
//! negative, so their bytes sort as they do.

use headwater_core::{Error, Result, Timestamp};

use crate::sessions::{Session, decode_session, encode_session};

const BY_KEY: u8 = 0;
const BY_END: u8 = 1;
const TIME_BYTES: usize = 8;

/// Key of a session in the changelog.
pub(super) fn changelog_key(key: &[u8], session: Session, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(key);
    encode_session(session, out);
}

/// The other way round.
pub(super) fn decode_changelog_key(bytes: &[u8]) -> Result<(&[u8], Session)> {
    decode_session(bytes).ok_or_else(|| {
        let length = bytes.len();
        Error::corrupt(format!("a session changelog key has at least 16 bytes. length={length}"))
    })
}

/// Key of a session in the engine, by its key.
pub(super) fn by_key(key: &[u8], session: Session, out: &mut Vec<u8>) -> Result<()> {
    of_key(key, out)?;
    encode_session(session, out);
    Ok(())
}

/// What the sessions of a key begin with in the engine; all of them come before this followed by [`BEHIND`].
pub(super) fn of_key(key: &[u8], out: &mut Vec<u8>) -> Result<()> {
    let length = u32::try_from(key.len()).map_err(|_| Error::processing("a key has 4 GiB or more"))?;
    out.clear();
    out.push(BY_KEY);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(key);
    Ok(())
}

/// Behind every end of a session.
pub(super) const BEHIND: [u8; TIME_BYTES] = [0xff; TIME_BYTES];

/// The session of a key that [`by_key`] made.
pub(super) fn decode_by_key(bytes: &[u8]) -> Result<Session> {
    decode_session(bytes)
        .map(|(_, session)| session)
        .ok_or_else(|| Error::corrupt(format!("a stored session key is too short. length={}", bytes.len())))
}

/// Key of a session in the engine, by its end.
pub(super) fn by_end(key: &[u8], session: Session, out: &mut Vec<u8>) {
    from_end(session.end, out);
    out.extend_from_slice(key);
    out.extend_from_slice(&session.start.0.to_be_bytes());
}

/// Before every session with this end or a later one.
pub(super) fn from_end(end: Timestamp, out: &mut Vec<u8>) {
    out.clear();
    out.push(BY_END);
    out.extend_from_slice(&end.0.max(0).to_be_bytes());
}

/// The key and session of a key that [`by_end`] made.
pub(super) fn decode_by_end(bytes: &[u8]) -> Result<(&[u8], Session)> {
    let decode = || {
        let (end, rest) = bytes.strip_prefix(&[BY_END])?.split_first_chunk()?;
        let (key, start) = rest.split_last_chunk()?;
        let [start, end] = [start, end].map(|bytes| Timestamp(i64::from_be_bytes(*bytes)));
        Some((key, Session { start, end }))
    };
    decode().ok_or_else(|| {
        Error::corrupt(format!("a stored session is not told by its end. length={}", bytes.len()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// These bytes are on disk and in topics: they never change.
    #[test]
    fn golden_bytes() {
        let (session, mut bytes) = (Session { start: Timestamp(3), end: Timestamp(258) }, Vec::new());
        changelog_key(b"ab", session, &mut bytes);
        assert_eq!(bytes, b"ab\0\0\0\0\0\0\x01\x02\0\0\0\0\0\0\0\x03");
        assert_eq!(decode_changelog_key(&bytes).unwrap(), (&b"ab"[..], session));
        by_key(b"ab", session, &mut bytes).unwrap();
        assert_eq!(bytes, b"\0\0\0\0\x02ab\0\0\0\0\0\0\x01\x02\0\0\0\0\0\0\0\x03");
        assert_eq!(decode_by_key(&bytes).unwrap(), session);
        by_end(b"ab", session, &mut bytes);
        assert_eq!(bytes, b"\x01\0\0\0\0\0\0\x01\x02ab\0\0\0\0\0\0\0\x03");
        assert_eq!(decode_by_end(&bytes).unwrap(), (&b"ab"[..], session));
    }

    #[test]
    fn what_is_too_short_is_corrupt() {
        for length in 0..16 {
            let bytes = [1; 16];
            assert!(
                decode_changelog_key(&bytes[..length]).is_err() && decode_by_key(&bytes[..length]).is_err()
            );
            assert!(decode_by_end(&bytes[..length]).is_err());
        }
        assert!(decode_by_end(&[0; 20]).is_err());
    }
}
