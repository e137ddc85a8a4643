//! How far apart in time two records of a stream-stream join may be.

use std::{fmt, time::Duration};

use headwater_core::{Error, Result, Timestamp};

use crate::windows::{SPAN_MS_MAX, millis};

/// Which records of the right stream meet a record of the left one: those from `before` before it to `after` after it,
/// both ends included (Kafka: `JoinWindows`).
///
/// Times are counted in whole milliseconds. [`StreamsBuilder::build`](crate::StreamsBuilder::build) refuses windows that
/// end before they begin, and windows of more than a million years.
///
/// ```
/// use std::time::Duration;
/// use headwater_streams::JoinWindows;
///
/// let payments = JoinWindows::within(Duration::from_secs(60)).before(Duration::ZERO).grace(Duration::from_secs(5));
/// assert_eq!(payments.to_string(), "0 ms before to 60000 ms after, grace 5000 ms");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JoinWindows {
    before_ms: i64,
    after_ms: i64,
    grace_ms: i64,
}

impl JoinWindows {
    /// Records that are at most `difference` apart, whichever is first. No grace (Kafka:
    /// `JoinWindows.ofTimeDifferenceWithNoGrace`).
    #[must_use]
    pub fn within(difference: Duration) -> Self {
        let ms = millis(difference);
        Self { before_ms: ms, after_ms: ms, grace_ms: 0 }
    }

    /// A right record may be up to `before` older than the left one.
    #[must_use]
    pub fn before(mut self, before: Duration) -> Self {
        self.before_ms = millis(before);
        self
    }

    /// A right record may be up to `after` younger than the left one.
    #[must_use]
    pub fn after(mut self, after: Duration) -> Self {
        self.after_ms = millis(after);
        self
    }

    /// A right record must be at least `gap` younger than the left one (Kafka: a negative `before`).
    #[must_use]
    pub fn not_before(mut self, gap: Duration) -> Self {
        self.before_ms = -millis(gap);
        self
    }

    /// A right record must be at least `gap` older than the left one (Kafka: a negative `after`).
    #[must_use]
    pub fn not_after(mut self, gap: Duration) -> Self {
        self.after_ms = -millis(gap);
        self
    }

    /// Waits for records that are out of order: a record that met nobody is given up when stream time is `grace` past the
    /// end of its window.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace_ms = millis(grace);
        self
    }

    pub(crate) fn check(self) -> Result<()> {
        let Self { before_ms, after_ms, grace_ms } = self;
        if [before_ms, after_ms, grace_ms].iter().any(|ms| ms.abs() > SPAN_MS_MAX) {
            return Err(Error::invalid(format!(
                "a join window is too long. windows=`{self}`, ms_max={SPAN_MS_MAX}"
            )));
        }
        if before_ms + after_ms < 0 {
            return Err(Error::invalid(format!("a join window ends before it begins. windows=`{self}`")));
        }
        Ok(())
    }

    /// How far apart two records may be at most, and the grace, in milliseconds.
    pub(crate) fn spans_ms(self) -> (i64, i64) {
        (self.before_ms.max(self.after_ms).max(0), self.grace_ms)
    }

    /// As the left stream's records see them.
    pub(crate) fn left(self) -> JoinSpan {
        JoinSpan { before_ms: self.before_ms, after_ms: self.after_ms, grace_ms: self.grace_ms }
    }

    /// As the right stream's records see them.
    pub(crate) fn right(self) -> JoinSpan {
        JoinSpan { before_ms: self.after_ms, after_ms: self.before_ms, grace_ms: self.grace_ms }
    }
}

impl fmt::Display for JoinWindows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { before_ms, after_ms, grace_ms } = self;
        write!(f, "{before_ms} ms before to {after_ms} ms after, grace {grace_ms} ms")
    }
}

/// [`JoinWindows`] as one of the two sides sees them, and the rules that follow. `now` is the highest timestamp of either
/// side, that of the present record included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct JoinSpan {
    before_ms: i64,
    after_ms: i64,
    grace_ms: i64,
}

impl JoinSpan {
    /// The first and the last timestamp of the other side that a record at `timestamp` meets.
    #[inline]
    pub(crate) fn meets(self, timestamp: Timestamp) -> (Timestamp, Timestamp) {
        (timestamp.plus_ms(-self.before_ms), timestamp.plus_ms(self.after_ms))
    }

    /// How long records are kept; the same for both sides (Kafka: size and grace).
    fn kept_ms(self) -> i64 {
        self.before_ms.max(0) + self.after_ms.max(0) + self.grace_ms
    }

    /// Records before this are kept no longer.
    #[inline]
    pub(crate) fn kept_from(self, now: Timestamp) -> Timestamp {
        now.plus_ms(-self.kept_ms())
    }

    /// The windows of records up to this are closed, grace included: who met nobody until then will not any more.
    #[inline]
    pub(crate) fn closed_until(self, now: Timestamp) -> Timestamp {
        now.plus_ms(-self.after_ms - self.grace_ms - 1)
    }

    /// The time from which on a row is closed: the other way round.
    pub(crate) fn closes_at(self, timestamp: Timestamp) -> Timestamp {
        timestamp.plus_ms(self.after_ms).plus_ms(self.grace_ms).plus_ms(1)
    }

    /// Length of the panes that rows are kept in. Long enough that a look at one window touches few of them, and a row is
    /// kept hardly longer than it must be; never so short that panes cost more than their rows.
    pub(crate) fn pane_ms(self) -> i64 {
        (self.before_ms + self.after_ms).max(self.kept_ms() / 32).max(100)
    }

    /// Whether the window of `timestamp` is whole: at the very end of time, and before its beginning, it would not be.
    pub(crate) fn check_time(self, timestamp: Timestamp) -> Result<()> {
        if timestamp.0 >= 0 && timestamp.0.checked_add(self.kept_ms() + self.pane_ms()).is_some() {
            return Ok(());
        }
        Err(Error::processing(format!("timestamp is in no whole join window. timestamp={timestamp}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn both_ends_belong_to_a_window_and_the_sides_mirror_each_other() {
        let windows = JoinWindows::within(ms(10)).after(ms(3)).grace(ms(2));
        let (left, right) = (windows.left(), windows.right());
        assert_eq!(left.meets(Timestamp(100)), (Timestamp(90), Timestamp(103)));
        assert_eq!(right.meets(Timestamp(90)), (Timestamp(87), Timestamp(100)));
        for side in [left, right] {
            assert_eq!(side.kept_from(Timestamp(100)), Timestamp(85));
        }
        // Closed when now > timestamp + after + grace.
        assert_eq!(left.closed_until(Timestamp(106)), Timestamp(100));
        assert_eq!(left.closes_at(Timestamp(100)), Timestamp(106));
        assert_eq!(right.closed_until(Timestamp(113)), Timestamp(100));
    }

    #[test]
    fn windows_that_mean_nothing_are_refused() {
        assert!(JoinWindows::within(ms(0)).check().is_ok());
        assert!(JoinWindows::within(ms(5)).not_before(ms(5)).check().is_ok());
        assert!(JoinWindows::within(ms(5)).not_before(ms(6)).check().is_err());
        assert!(JoinWindows::within(ms(5)).not_after(ms(6)).check().is_err());
        assert!(JoinWindows::within(Duration::MAX).check().is_err());
        assert!(JoinWindows::within(ms(5)).left().check_time(Timestamp(i64::MAX)).is_err());
        assert!(JoinWindows::within(ms(5)).left().check_time(Timestamp(i64::MAX - 200)).is_ok());
    }
}
