//! How fast a replay goes, when it is not as fast as it can.

use headwater_core::Timestamp;

/// Lets event time pass so many times as fast as the wall clock.
///
/// A record is taken when as much time has passed, times the factor, as lies between it and the first. What counts is the time
/// of its lane: one that is out of order comes with those around it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    factor: f64,
    /// Event time when the clock stood at `start`.
    first: Timestamp,
    start: Timestamp,
}

impl Pace {
    pub(crate) fn new(factor: f64, first: Timestamp, start: Timestamp) -> Self {
        Self { factor, first, start }
    }

    /// Records before this time may be taken at `now`.
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "2^53 ms are far off")]
    pub(crate) fn before(&self, now: Timestamp) -> Timestamp {
        let elapsed = now.0.saturating_sub(self.start.0).max(0) as f64;
        self.first.plus_ms((elapsed * self.factor) as i64).plus_ms(1)
    }

    /// When a record of this time may be taken.
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "2^53 ms are far off")]
    pub(crate) fn due(&self, time: Timestamp) -> Timestamp {
        let distance = time.0.saturating_sub(self.first.0).max(0) as f64;
        self.start.plus_ms((distance / self.factor).ceil() as i64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_due_when_as_much_time_has_passed_times_the_factor() {
        let pace = Pace::new(60.0, Timestamp(1_000_000), Timestamp(500));
        assert_eq!(pace.before(Timestamp(500)), Timestamp(1_000_001));
        assert_eq!(pace.before(Timestamp(0)), Timestamp(1_000_001), "a clock that goes back");
        assert_eq!(pace.before(Timestamp(1_500)), Timestamp(1_060_001));
        assert_eq!(pace.due(Timestamp(1_060_000)), Timestamp(1_500));
        assert_eq!(pace.due(Timestamp(1_060_001)), Timestamp(1_501));
        assert_eq!(pace.due(Timestamp(7)), Timestamp(500));
        for factor in [0.1, 0.3, 1.0, 7.7, 1e9] {
            let pace = Pace::new(factor, Timestamp(0), Timestamp(0));
            for time in 0..1_000 {
                // A timer that goes off a millisecond late is never too early.
                assert!(
                    pace.before(pace.due(Timestamp(time)).plus_ms(1)) > Timestamp(time),
                    "{factor} {time}"
                );
            }
        }
    }
}
