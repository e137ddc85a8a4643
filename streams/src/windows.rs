//! Windows of event time, and how windowed keys become bytes.

use std::{fmt, sync::Arc, time::Duration};

use headwater_core::{DefaultSerde, Error, Result, Serde, SerdeRef, Timestamp, serdes::KeyWindow};

/// Spans beyond this are refused, so that sums of them do not overflow: a million years.
pub(crate) const SPAN_MS_MAX: i64 = 1_000_000 * 366 * 24 * 3_600_000;

/// A span of event time: `start` belongs to it, `end` does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Window {
    /// First instant.
    pub start: Timestamp,
    /// The instant after the last.
    pub end: Timestamp,
}

impl Window {
    /// Whether `timestamp` lies in it.
    #[inline]
    #[must_use]
    pub fn contains(self, timestamp: Timestamp) -> bool {
        self.start <= timestamp && timestamp < self.end
    }
}

/// A key in a window: in a [`Window`] of fixed size, or in a [`Session`](crate::Session).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Windowed<K, W = Window> {
    /// The key.
    pub key: K,
    /// The window.
    pub window: W,
}

/// A way of dividing a group by event time: [`TimeWindows`] or [`SessionWindows`](crate::SessionWindows), for
/// [`KGroupedStream::windowed_by`](crate::KGroupedStream::windowed_by).
pub trait Windows: Copy + Send + Sync + 'static {
    /// Whether there are such windows; called when the topology is built.
    ///
    /// # Errors
    /// `Invalid` when there are not.
    fn check(&self) -> Result<()>;
}

/// Windows of a fixed size, aligned to the epoch (Kafka: `TimeWindows`).
///
/// ```
/// use std::time::Duration;
/// use headwater_streams::TimeWindows;
///
/// let hourly = TimeWindows::tumbling(Duration::from_secs(3600)).grace(Duration::from_secs(60));
/// assert_eq!(hourly.to_string(), "tumbling 3600000 ms, grace 60000 ms");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeWindows {
    size_ms: i64,
    advance_ms: i64,
    /// How far the first of the windows that begin no later than a timestamp may lie before the last of them.
    overlap_ms: i64,
    grace_ms: i64,
}

impl TimeWindows {
    /// Windows that follow one another without overlap: every record is in exactly one. No grace: a window is closed
    /// as soon as its end is reached (Kafka: `TimeWindows.ofSizeWithNoGrace`).
    ///
    /// Sizes are counted in whole milliseconds. [`StreamsBuilder::build`](crate::StreamsBuilder::build) refuses a size
    /// of 0, and a size or grace of more than a million years.
    #[must_use]
    pub fn tumbling(size: Duration) -> Self {
        Self { size_ms: millis(size), advance_ms: millis(size), overlap_ms: 0, grace_ms: 0 }
    }

    /// Windows of `size` of which one begins every `advance`: a record is in all that are open over its timestamp, in
    /// `size / advance` of them when that has no rest (Kafka: `TimeWindows.advanceBy`). No window begins before the epoch.
    ///
    /// [`StreamsBuilder::build`](crate::StreamsBuilder::build) refuses an advance of 0, or one above the size, which would
    /// leave records in no window.
    ///
    /// ```
    /// use std::time::Duration;
    /// use headwater_streams::TimeWindows;
    ///
    /// let last_hour = TimeWindows::hopping(Duration::from_secs(3600), Duration::from_secs(60));
    /// assert_eq!(last_hour.to_string(), "hopping 3600000 ms by 60000 ms, grace 0 ms");
    /// ```
    #[must_use]
    pub fn hopping(size: Duration, advance: Duration) -> Self {
        let (size_ms, advance_ms) = (millis(size), millis(advance));
        let overlap_ms =
            if 0 < advance_ms && advance_ms < size_ms { (size_ms - 1) / advance_ms * advance_ms } else { 0 };
        Self { size_ms, advance_ms, overlap_ms, grace_ms: 0 }
    }

    /// Accepts records until stream time is `grace` past the end of their window.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace_ms = millis(grace);
        self
    }

    /// The span between two beginnings of windows that `timestamp`, which is not negative, lies in: it begins with the last
    /// window of all that hold the timestamp. At the very end of time windows would not be whole.
    #[inline]
    pub(crate) fn slot_of(self, timestamp: Timestamp) -> Result<Window> {
        let start = timestamp.0 - timestamp.0.rem_euclid(self.advance_ms);
        let closes = start.checked_add(self.size_ms).and_then(|end| end.checked_add(self.grace_ms));
        if closes.is_none() {
            return Err(Error::processing(format!(
                "timestamp is in no whole window. timestamp={timestamp}, windows={self}"
            )));
        }
        Ok(Window { start: Timestamp(start), end: Timestamp(start + self.advance_ms) })
    }

    /// Whether a timestamp may be in more than one of them.
    #[inline]
    pub(crate) fn overlap(self) -> bool {
        self.overlap_ms > 0
    }

    /// Beginnings of all windows that hold `timestamp`, which lies in `slot`, but for the last: that is the slot's.
    #[inline]
    pub(crate) fn earlier_starts(
        self,
        slot: Window,
        timestamp: Timestamp,
    ) -> impl Iterator<Item = Timestamp> {
        let mut next = slot.start.0 - self.overlap_ms;
        if next + self.size_ms <= timestamp.0 {
            next += self.advance_ms;
        }
        next = next.max(0);
        std::iter::from_fn(move || {
            let start = next;
            next += self.advance_ms;
            (start < slot.start.0).then_some(Timestamp(start))
        })
    }

    /// Size and grace, in milliseconds.
    pub(crate) fn spans_ms(self) -> (i64, i64) {
        (self.size_ms, self.grace_ms)
    }

    #[inline]
    pub(crate) fn window_at(self, start: Timestamp) -> Window {
        Window { start, end: start.plus_ms(self.size_ms) }
    }

    /// The stream time at which `window` takes no more records (Kafka accepts while `end > stream time - grace`).
    #[inline]
    pub(crate) fn closes_at(self, window: Window) -> Timestamp {
        window.end.plus_ms(self.grace_ms)
    }
}

impl Windows for TimeWindows {
    fn check(&self) -> Result<()> {
        if self.size_ms.max(self.grace_ms) > SPAN_MS_MAX {
            return Err(Error::invalid(format!(
                "a window or its grace is too long. windows=`{self}`, ms_max={SPAN_MS_MAX}"
            )));
        }
        if self.size_ms <= 0 {
            return Err(Error::invalid("a window has a size of at least one millisecond. size=0 ms"));
        }
        if self.advance_ms <= 0 || self.advance_ms > self.size_ms {
            let Self { size_ms, advance_ms, .. } = self;
            return Err(Error::invalid(format!(
                "windows advance by at least one millisecond and by no more than their size. size={size_ms} ms, \
                 advance={advance_ms} ms"
            )));
        }
        Ok(())
    }
}

impl fmt::Display for TimeWindows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { size_ms, advance_ms, grace_ms, .. } = self;
        if advance_ms == size_ms {
            write!(f, "tumbling {size_ms} ms, grace {grace_ms} ms")
        } else {
            write!(f, "hopping {size_ms} ms by {advance_ms} ms, grace {grace_ms} ms")
        }
    }
}

pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Windowed keys on a topic, in the layout of Kafka's `TimeWindowedSerializer`: `key | i64 start`. The end is not
/// written, so a reader must know the size.
///
/// ```
/// use std::time::Duration;
/// use headwater_core::{DefaultSerde, Timestamp};
/// use headwater_streams::{TimeWindows, windowed_serde};
///
/// let serde = windowed_serde(String::default_serde(), Duration::from_secs(60));
/// let key = serde.decode(b"a\0\0\0\0\0\0\xea\x60")?;
/// assert_eq!((key.key.as_str(), key.window.start, key.window.end), ("a", Timestamp(60_000), Timestamp(120_000)));
/// # Ok::<(), headwater_core::Error>(())
/// ```
pub fn windowed_serde<K: 'static>(key: SerdeRef<K>, size: Duration) -> SerdeRef<Windowed<K>> {
    Arc::new(WindowedSerde { key, size_ms: Some(millis(size)) })
}

struct WindowedSerde<K> {
    key: SerdeRef<K>,
    size_ms: Option<i64>,
}

/// Bytes of the window start behind the key.
const START_BYTES: usize = 8;

impl<K: 'static> Serde<Windowed<K>> for WindowedSerde<K> {
    fn encode(&self, value: &Windowed<K>, out: &mut Vec<u8>) -> Result<()> {
        self.key.encode(&value.key, out)?;
        out.extend_from_slice(&value.window.start.0.to_be_bytes());
        Ok(())
    }

    fn decode(&self, bytes: &[u8]) -> Result<Windowed<K>> {
        let Some((key, start)) = bytes.split_last_chunk::<START_BYTES>() else {
            let length = bytes.len();
            return Err(Error::processing(format!("a windowed key has at least 8 bytes. length={length}")));
        };
        let size_ms = self.size_ms.ok_or_else(|| {
            Error::processing(
                "a windowed key is read with `windowed_serde(key, size)`: the size is not in its bytes",
            )
        })?;
        let start = Timestamp(i64::from_be_bytes(*start));
        Ok(Windowed { key: self.key.decode(key)?, window: Window { start, end: start.plus_ms(size_ms) } })
    }

    fn partition_bytes<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        bytes.get(..bytes.len().saturating_sub(START_BYTES)).unwrap_or(bytes)
    }

    fn key_window(&self, bytes: &[u8]) -> Option<KeyWindow> {
        let start = Timestamp(i64::from_be_bytes(*bytes.last_chunk::<START_BYTES>()?));
        Some(match self.size_ms {
            Some(size_ms) => KeyWindow::Span { start, end: start.plus_ms(size_ms) },
            None => KeyWindow::From(start),
        })
    }

    fn show(&self, bytes: &[u8]) -> Option<String> {
        show_windowed(&*self.key, self.partition_bytes(bytes), self.key_window(bytes)?)
    }
}

/// `key@window`, where the key can be shown at all.
pub(crate) fn show_windowed<K: 'static>(
    serde: &dyn Serde<K>,
    key: &[u8],
    window: KeyWindow,
) -> Option<String> {
    let key = serde.show(key).or_else(|| std::str::from_utf8(key).ok().map(str::to_owned))?;
    Some(format!("{key}@{window}"))
}

/// For writing; reading needs the size and so [`windowed_serde`].
impl<K: DefaultSerde> DefaultSerde for Windowed<K> {
    fn default_serde() -> SerdeRef<Self> {
        Arc::new(WindowedSerde { key: K::default_serde(), size_ms: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn windows_are_aligned_to_the_epoch() {
        let ten = TimeWindows::tumbling(ms(10)).grace(ms(5));
        let window = ten.slot_of(Timestamp(19)).unwrap();
        assert_eq!(window, Window { start: Timestamp(10), end: Timestamp(20) });
        assert_eq!(ten.slot_of(Timestamp(20)).unwrap().start, Timestamp(20));
        assert_eq!(ten.earlier_starts(window, Timestamp(19)).count(), 0);
        assert!(ten.slot_of(Timestamp(i64::MAX)).is_err());
        assert_eq!(ten.closes_at(window), Timestamp(25));
        assert!(TimeWindows::tumbling(Duration::ZERO).check().is_err());
    }

    /// Kafka: `TimeWindows.windowsFor`, first start = max(0, timestamp - size + advance) / advance * advance.
    #[test]
    fn hopping_windows_are_those_of_kafka() {
        let starts = |size, advance, timestamp| {
            let windows = TimeWindows::hopping(ms(size), ms(advance));
            windows.check().unwrap();
            let slot = windows.slot_of(Timestamp(timestamp)).unwrap();
            let earlier = windows.earlier_starts(slot, Timestamp(timestamp));
            earlier.map(|start| start.0).chain([slot.start.0]).collect::<Vec<_>>()
        };
        assert_eq!(
            (starts(10, 5, 3), starts(10, 5, 7), starts(10, 5, 12)),
            (vec![0], vec![0, 5], vec![5, 10])
        );
        for (size, advance) in [(10_u64, 5_u64), (10, 4), (10, 3), (10, 10), (7, 1), (1, 1)] {
            for timestamp in 0..60 {
                let (wide, step) = (size.cast_signed(), advance.cast_signed());
                let first = (timestamp - wide + step).max(0) / step * step;
                let expected: Vec<i64> =
                    (first..=timestamp).step_by(usize::try_from(advance).unwrap()).collect();
                assert_eq!(starts(size, advance, timestamp), expected, "{size} by {advance} at {timestamp}");
            }
        }
        for advance in [Duration::ZERO, ms(11)] {
            let error = TimeWindows::hopping(ms(10), advance).check().unwrap_err();
            assert!(error.to_string().contains("no more than their size"), "{error}");
        }
        let long = TimeWindows::hopping(Duration::MAX, ms(1));
        assert!(long.check().is_err() && long.slot_of(Timestamp(1)).is_err());
    }

    #[test]
    fn a_windowed_key_lies_where_its_key_lies() {
        let serde = <Windowed<String>>::default_serde();
        let mut bytes = Vec::new();
        let window = Window { start: Timestamp(1), end: Timestamp(2) };
        serde.encode(&Windowed { key: "ab".to_owned(), window }, &mut bytes).unwrap();
        assert_eq!(bytes, b"ab\0\0\0\0\0\0\0\x01");
        assert_eq!(serde.partition_bytes(&bytes), b"ab");
        assert!(serde.decode(b"short").is_err());
    }
}
