//! Windows that last as long as records follow one another, and how keys in them become bytes.

use std::{fmt, sync::Arc, time::Duration};

use headwater_core::{DefaultSerde, Error, Result, Serde, SerdeRef, Timestamp, serdes::KeyWindow};

use crate::{
    Windowed, Windows,
    windows::{SPAN_MS_MAX, millis, show_windowed},
};

/// The span of the records of one session: the first and the last of them, so that **both ends belong to it** (Kafka:
/// `SessionWindow`), where the end of a [`Window`](crate::Window) does not. A session of one record begins and ends with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Session {
    /// Time of the first record.
    pub start: Timestamp,
    /// Time of the last record.
    pub end: Timestamp,
}

impl Session {
    /// Whether `timestamp` lies in it.
    ///
    /// ```
    /// use headwater_core::Timestamp;
    /// use headwater_streams::Session;
    ///
    /// let session = Session { start: Timestamp(3), end: Timestamp(5) };
    /// assert!(session.contains(Timestamp(5)) && !session.contains(Timestamp(6)));
    /// ```
    #[must_use]
    pub fn contains(self, timestamp: Timestamp) -> bool {
        self.start <= timestamp && timestamp <= self.end
    }

    /// The session of a single record.
    pub(crate) fn of(timestamp: Timestamp) -> Self {
        Self { start: timestamp, end: timestamp }
    }

    /// One session of two.
    pub(crate) fn with(self, other: Self) -> Self {
        Self { start: self.start.min(other.start), end: self.end.max(other.end) }
    }
}

/// Windows that end when no record of their key came for longer than a gap (Kafka: `SessionWindows`).
///
/// Two records of a key are in one session when they lie no further apart than the gap, and so are all between which there is
/// a chain of such pairs: a record may extend a session, and may join several to one.
///
/// One rule says when a session is closed: when its end lies more than gap and grace before stream time. No record can reach
/// it then that is not itself late. A record is late when the session that it would be in, with those that it would join, is
/// closed.
///
/// ```
/// use std::time::Duration;
/// use headwater_streams::SessionWindows;
///
/// let visits = SessionWindows::gap(Duration::from_secs(1800)).grace(Duration::from_secs(60));
/// assert_eq!(visits.to_string(), "sessions, gap 1800000 ms, grace 60000 ms");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionWindows {
    gap_ms: i64,
    grace_ms: i64,
}

impl SessionWindows {
    /// Sessions whose records lie no more than `gap` apart, with no grace (Kafka:
    /// `SessionWindows.ofInactivityGapWithNoGrace`).
    ///
    /// Gaps are counted in whole milliseconds. [`StreamsBuilder::build`](crate::StreamsBuilder::build) refuses a gap of 0,
    /// and a gap or grace of more than a million years.
    #[must_use]
    pub fn gap(gap: Duration) -> Self {
        Self { gap_ms: millis(gap), grace_ms: 0 }
    }

    /// Accepts records that come up to `grace` too late.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace_ms = millis(grace);
        self
    }

    /// Refuses a timestamp at the very end of time, where no session could ever close.
    /// Gap and grace, in milliseconds.
    pub(crate) fn spans_ms(self) -> (i64, i64) {
        (self.gap_ms, self.grace_ms)
    }

    #[inline]
    pub(crate) fn check_timestamp(self, timestamp: Timestamp) -> Result<()> {
        let open_until = timestamp.0.checked_add(self.gap_ms).and_then(|end| end.checked_add(self.grace_ms));
        match open_until.filter(|until| *until < i64::MAX) {
            Some(_) => Ok(()),
            None => Err(Error::processing(format!(
                "timestamp is in no session that could close. timestamp={timestamp}, windows={self}"
            ))),
        }
    }

    /// Whether two sessions of a key are one.
    #[inline]
    pub(crate) fn are_one(self, a: Session, b: Session) -> bool {
        a.start <= b.end.plus_ms(self.gap_ms) && b.start <= a.end.plus_ms(self.gap_ms)
    }

    /// The operator time from which on a session that ends at `end` is closed.
    pub(crate) fn closes_at(self, end: Timestamp) -> Timestamp {
        end.plus_ms(self.gap_ms).plus_ms(self.grace_ms).plus_ms(1)
    }

    /// The end that open sessions have at least, at this stream time.
    #[inline]
    pub(crate) fn open_from(self, time: Timestamp) -> Timestamp {
        Timestamp(time.0.saturating_sub(self.grace_ms).saturating_sub(self.gap_ms))
    }
}

impl Windows for SessionWindows {
    fn check(&self) -> Result<()> {
        if self.gap_ms.max(self.grace_ms) > SPAN_MS_MAX {
            return Err(Error::invalid(format!(
                "the gap of sessions or their grace is too long. windows=`{self}`, ms_max={SPAN_MS_MAX}"
            )));
        }
        if self.gap_ms > 0 {
            return Ok(());
        }
        Err(Error::invalid("sessions are divided by a gap of at least one millisecond. gap=0 ms"))
    }
}

impl fmt::Display for SessionWindows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sessions, gap {} ms, grace {} ms", self.gap_ms, self.grace_ms)
    }
}

/// Keys in sessions on a topic, in the layout of Kafka's `SessionWindowedSerializer`: `key | i64 end | i64 start`. It is also
/// what `Windowed<K, Session>::default_serde()` gives, with the key's own serde.
///
/// ```
/// use headwater_core::{DefaultSerde, Timestamp};
/// use headwater_streams::{Session, session_windowed_serde};
///
/// let serde = session_windowed_serde(String::default_serde());
/// let key = serde.decode(b"a\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x03")?;
/// assert_eq!((key.key.as_str(), key.window), ("a", Session { start: Timestamp(3), end: Timestamp(5) }));
/// # Ok::<(), headwater_core::Error>(())
/// ```
pub fn session_windowed_serde<K: 'static>(key: SerdeRef<K>) -> SerdeRef<Windowed<K, Session>> {
    Arc::new(SessionWindowedSerde { key })
}

struct SessionWindowedSerde<K> {
    key: SerdeRef<K>,
}

/// Bytes of end and start behind the key, here and in changelogs.
const SESSION_BYTES: usize = 16;

/// Appends `i64 end | i64 start`, as it stands behind a key.
pub(crate) fn encode_session(session: Session, out: &mut Vec<u8>) {
    out.extend_from_slice(&session.end.0.to_be_bytes());
    out.extend_from_slice(&session.start.0.to_be_bytes());
}

/// The key's bytes, and the session behind them; `None` when there are too few.
pub(crate) fn decode_session(bytes: &[u8]) -> Option<(&[u8], Session)> {
    let (rest, start) = bytes.split_last_chunk()?;
    let (key, end) = rest.split_last_chunk()?;
    let [start, end] = [start, end].map(|bytes| Timestamp(i64::from_be_bytes(*bytes)));
    Some((key, Session { start, end }))
}

impl<K: 'static> Serde<Windowed<K, Session>> for SessionWindowedSerde<K> {
    fn encode(&self, value: &Windowed<K, Session>, out: &mut Vec<u8>) -> Result<()> {
        self.key.encode(&value.key, out)?;
        encode_session(value.window, out);
        Ok(())
    }

    fn decode(&self, bytes: &[u8]) -> Result<Windowed<K, Session>> {
        let Some((key, window)) = decode_session(bytes) else {
            let length = bytes.len();
            return Err(Error::processing(format!(
                "a key in a session has at least 16 bytes. length={length}"
            )));
        };
        Ok(Windowed { key: self.key.decode(key)?, window })
    }

    fn partition_bytes<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        bytes.get(..bytes.len().saturating_sub(SESSION_BYTES)).unwrap_or(bytes)
    }

    fn key_window(&self, bytes: &[u8]) -> Option<KeyWindow> {
        let (_, Session { start, end }) = decode_session(bytes)?;
        Some(KeyWindow::Session { start, end })
    }

    fn show(&self, bytes: &[u8]) -> Option<String> {
        show_windowed(&*self.key, self.partition_bytes(bytes), self.key_window(bytes)?)
    }
}

impl<K: DefaultSerde> DefaultSerde for Windowed<K, Session> {
    fn default_serde() -> SerdeRef<Self> {
        session_windowed_serde(K::default_serde())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(start: i64, end: i64) -> Session {
        Session { start: Timestamp(start), end: Timestamp(end) }
    }

    #[test]
    fn sessions_are_one_up_to_the_gap() {
        let five = SessionWindows::gap(Duration::from_millis(5)).grace(Duration::from_millis(2));
        assert!(five.are_one(session(0, 3), session(8, 9)) && five.are_one(session(8, 9), session(0, 3)));
        assert!(!five.are_one(session(0, 3), session(9, 9)) && !five.are_one(session(9, 9), session(0, 3)));
        assert!(five.are_one(session(0, 9), session(4, 4)));
        assert_eq!(session(4, 6).with(session(1, 5)), session(1, 6));
        assert_eq!(five.open_from(Timestamp(20)), Timestamp(13));
        assert_eq!(five.open_from(Timestamp::MIN), Timestamp::MIN);
        assert!(five.check_timestamp(Timestamp(i64::MAX - 8)).is_ok());
        assert!(five.check_timestamp(Timestamp(i64::MAX - 7)).is_err());
        assert_eq!(five.closes_at(Timestamp(12)), Timestamp(20));
        assert!(five.check().is_ok() && SessionWindows::gap(Duration::ZERO).check().is_err());
    }

    #[test]
    fn a_key_in_a_session_lies_where_its_key_lies_and_comes_back() {
        let serde = <Windowed<String, Session>>::default_serde();
        let key = Windowed { key: "ab".to_owned(), window: session(1, 2) };
        let mut bytes = Vec::new();
        serde.encode(&key, &mut bytes).unwrap();
        assert_eq!(bytes, b"ab\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x01");
        assert_eq!(serde.partition_bytes(&bytes), b"ab");
        assert_eq!(serde.decode(&bytes).unwrap(), key);
        assert!(serde.decode(&bytes[3..]).is_err());
    }
}
