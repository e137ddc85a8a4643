//! The statistics of a set of readings: count, mean, spread and extremes, one reading or one set at a time.
//!
//! The order of the floating-point operations is part of the contract, so that an independent computation can be
//! compared to within rounding: [`Stats::add`] is Welford's update and [`Stats::merge`] is Chan's, operation by
//! operation as written below. Both keep the sum of squared distances from the mean (`m2`) and never subtract two
//! large numbers, so a temperature of 1e9 with a spread of 1e-3 still comes out right.

use serde::{Deserialize, Serialize};

/// Count, mean, spread and extremes of the readings added so far. An empty one has zeros everywhere.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Stats {
    /// How many readings.
    pub(crate) count: u64,
    /// Their mean.
    pub(crate) mean: f64,
    /// The sum of their squared distances from the mean.
    pub(crate) m2: f64,
    /// The lowest reading.
    pub(crate) min: f64,
    /// The highest reading.
    pub(crate) max: f64,
}

impl Stats {
    /// Adds one reading (Welford): `count += 1; d = value - mean; mean += d / count; m2 += d * (value - mean)`.
    pub(crate) fn add(&mut self, value: f64) {
        (self.min, self.max) = match self.count {
            0 => (value, value),
            _ => (self.min.min(value), self.max.max(value)),
        };
        self.count += 1;
        let distance = value - self.mean;
        self.mean += distance / self.count as f64;
        self.m2 += distance * (value - self.mean);
    }

    /// Adds all readings of `other` (Chan): `n = a.n + b.n; d = b.mean - a.mean; mean = a.mean + d * (b.n / n);
    /// m2 = (a.m2 + b.m2) + (d * d) * (a.n * (b.n / n))`. An empty side leaves the other as it is, bit for bit.
    pub(crate) fn merge(&mut self, other: &Stats) {
        if other.count == 0 {
            return;
        }
        if self.count == 0 {
            *self = *other;
            return;
        }
        let ours = self.count as f64;
        self.count += other.count;
        let theirs_share = other.count as f64 / self.count as f64;
        let distance = other.mean - self.mean;
        self.mean += distance * theirs_share;
        self.m2 = (self.m2 + other.m2) + (distance * distance) * (ours * theirs_share);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// The population variance, `m2 / count`; 0 of nothing.
    pub(crate) fn variance(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.m2 / self.count as f64 }
    }

    /// The population standard deviation, the square root of the variance.
    pub(crate) fn stddev(&self) -> f64 {
        self.variance().sqrt()
    }
}

/// One hour of one sensor, as it is written to the output topic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct HourlyStats {
    /// The sensor.
    pub(crate) sensor: String,
    /// The hour's first millisecond, UTC.
    pub(crate) window_start_ms: i64,
    /// How many readings the hour has.
    pub(crate) count: u64,
    /// Their mean.
    pub(crate) mean: f64,
    /// The lowest.
    pub(crate) min: f64,
    /// The highest.
    pub(crate) max: f64,
    /// Their population standard deviation.
    pub(crate) stddev: f64,
}

impl HourlyStats {
    /// What is written for `stats`, the hour of `sensor` that begins at `window_start_ms`.
    pub(crate) fn new(sensor: impl Into<String>, window_start_ms: i64, stats: &Stats) -> HourlyStats {
        let Stats { count, mean, min, max, .. } = *stats;
        HourlyStats { sensor: sensor.into(), window_start_ms, count, mean, min, max, stddev: stats.stddev() }
    }

    /// The statistics again, `m2` to within rounding: enough for a drawing, not for an aggregate.
    pub(crate) fn stats(&self) -> Stats {
        let m2 = self.stddev * self.stddev * self.count as f64;
        Stats { count: self.count, mean: self.mean, m2, min: self.min, max: self.max }
    }
}

/// One UTC day of one group of sensors, as it is written to the output topic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct DailyStats {
    /// The group.
    pub(crate) group: String,
    /// The day's first millisecond, UTC.
    pub(crate) window_start_ms: i64,
    /// How many readings all sensors of the group have that day.
    pub(crate) count: u64,
    /// Their mean.
    pub(crate) mean: f64,
    /// The lowest.
    pub(crate) min: f64,
    /// The highest.
    pub(crate) max: f64,
    /// Their population standard deviation.
    pub(crate) stddev: f64,
}

impl DailyStats {
    /// What is written for `stats`, the day of `group` that begins at `window_start_ms`.
    pub(crate) fn new(group: impl Into<String>, window_start_ms: i64, stats: &Stats) -> DailyStats {
        let Stats { count, mean, min, max, .. } = *stats;
        DailyStats { group: group.into(), window_start_ms, count, mean, min, max, stddev: stats.stddev() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats_of(values: &[f64]) -> Stats {
        let mut stats = Stats::default();
        values.iter().for_each(|&value| stats.add(value));
        stats
    }

    fn close(left: f64, right: f64, scale: f64) -> bool {
        (left - right).abs() <= 1e-12 * scale
    }

    #[test]
    fn a_small_set_is_as_by_hand() {
        let stats = stats_of(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]);
        assert_eq!((stats.count, stats.mean, stats.min, stats.max), (8, 5.0, 2.0, 9.0));
        assert!(close(stats.variance(), 4.0, 4.0), "{stats:?}");
        assert!(close(stats.stddev(), 2.0, 2.0), "{stats:?}");
    }

    #[test]
    fn nothing_and_one_reading_have_no_spread() {
        assert_eq!(Stats::default().stddev(), 0.0);
        let one = stats_of(&[-3.5]);
        assert_eq!((one.count, one.mean, one.min, one.max, one.stddev()), (1, -3.5, -3.5, -3.5, 0.0));
    }

    #[test]
    fn a_constant_series_has_exactly_no_spread() {
        let mut stats = stats_of(&[0.1; 1_000]);
        stats.merge(&stats_of(&[0.1; 77]));
        assert_eq!((stats.mean, stats.stddev(), stats.min, stats.max), (0.1, 0.0, 0.1, 0.1));
    }

    #[test]
    fn a_small_spread_on_a_large_level_survives() {
        let values: Vec<f64> = (0..1_000).map(|n| 1e9 + f64::from(n % 2)).collect();
        assert!((stats_of(&values).stddev() - 0.5).abs() < 1e-9, "{:?}", stats_of(&values));
    }

    #[test]
    fn every_cut_merges_to_the_whole() {
        let values: Vec<f64> = (0..60).map(|n| f64::from(n * n % 37) - 11.25).collect();
        let whole = stats_of(&values);
        for cut in 0..=values.len() {
            let mut merged = stats_of(&values[..cut]);
            merged.merge(&stats_of(&values[cut..]));
            assert_eq!((merged.count, merged.min, merged.max), (whole.count, whole.min, whole.max));
            assert!(close(merged.mean, whole.mean, 40.0), "cut={cut}");
            assert!(close(merged.m2, whole.m2, whole.m2), "cut={cut}");
        }
    }

    #[test]
    fn an_empty_side_changes_no_bit() {
        let stats = stats_of(&[0.1, 0.2, 0.7]);
        let mut left = stats;
        left.merge(&Stats::default());
        let mut right = Stats::default();
        right.merge(&stats);
        assert_eq!((left, right), (stats, stats));
    }

    #[test]
    fn what_is_written_reads_back() {
        let hour = HourlyStats::new("s", 3_600_000, &stats_of(&[0.1, 0.2, 0.7]));
        let json = serde_json::to_string(&hour).unwrap();
        assert!(
            json.starts_with(r#"{"sensor":"s","window_start_ms":3600000,"count":3,"mean":0.3"#),
            "{json}"
        );
        assert_eq!(serde_json::from_str::<HourlyStats>(&json).unwrap(), hour);
        assert!(close(hour.stats().stddev(), hour.stddev, 1.0));
        let day = DailyStats::new("g", 0, &hour.stats());
        assert_eq!((day.group.as_str(), day.count, day.max), ("g", 3, 0.7));
    }
}
