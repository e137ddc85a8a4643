//! What `run` shows of an application at work: how fast, how far behind, how late, and when it committed last.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use headwater_streams::{Metrics, TaskMetrics};
use headwater_terminal::{number, span};

/// Rates and latencies are those of so many samples.
const SAMPLES: usize = 10;

/// What was seen of an application at one moment.
struct Sample {
    at: Instant,
    records: u64,
    latency_millis: Histogram<u64>,
}

/// Watches an application.
pub(super) struct Status {
    samples: VecDeque<Sample>,
    total: TaskMetrics,
    lag: Option<u64>,
    /// When a commit was seen that was not there before.
    committed: Option<Instant>,
}

/// What is shown.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Shown {
    pub(super) records_per_second: u64,
    /// Offsets of all inputs that were not taken yet; none before a task has looked.
    pub(super) lag: Option<u64>,
    /// How late results were, by the time of their records, over the last samples; none when there were none.
    pub(super) latency_millis: Option<[u64; 2]>,
    /// How long ago the last commit was seen.
    pub(super) committed: Option<Duration>,
    /// Changelog records that are still to be replayed before it begins.
    pub(super) to_restore: u64,
}

impl Status {
    pub(super) fn new(metrics: &Metrics, now: Instant) -> Self {
        let mut status =
            Self { samples: VecDeque::new(), total: TaskMetrics::default(), lag: None, committed: None };
        status.see(metrics, now);
        status
    }

    /// Takes note of what the application is doing.
    pub(super) fn see(&mut self, metrics: &Metrics, now: Instant) {
        let total = metrics.total();
        if total.commits > self.total.commits {
            self.committed = Some(now);
        }
        self.lag = (!metrics.lags.is_empty()).then(|| metrics.lags.values().sum());
        self.total = total;
        if self.samples.len() > SAMPLES {
            self.samples.pop_front();
        }
        let latency_millis = metrics.latency_millis.clone();
        self.samples.push_back(Sample { at: now, records: total.records, latency_millis });
    }

    /// All that was counted since the start.
    pub(super) fn total(&self) -> &TaskMetrics {
        &self.total
    }

    pub(super) fn shown(&self, now: Instant) -> Shown {
        let (first, last) = (self.samples.front(), self.samples.back());
        let between = first.zip(last);
        let latency_millis = between.and_then(|(first, last)| {
            let mut recent = last.latency_millis.clone();
            // The earlier one is a part of the later one.
            recent.subtract(&first.latency_millis).ok()?;
            let recent = if recent.is_empty() { &last.latency_millis } else { &recent };
            (!recent.is_empty()).then(|| [0.5, 0.99].map(|share| recent.value_at_quantile(share)))
        });
        let per_second = between.map_or(0, |(first, last)| {
            let (records, micros) =
                (last.records.saturating_sub(first.records), (last.at - first.at).as_micros());
            u64::try_from(u128::from(records) * 1_000_000 / micros.max(1)).unwrap_or(u64::MAX)
        });
        Shown {
            records_per_second: per_second,
            lag: self.lag,
            latency_millis,
            committed: self.committed.map(|at| now - at),
            to_restore: self.total.to_restore,
        }
    }
}

impl std::fmt::Display for Shown {
    /// Fits in 100 columns.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.to_restore > 0 {
            return write!(f, "restoring  {} changelog records to go", number(self.to_restore));
        }
        let Some(lag) = self.lag else { return f.write_str("starting") };
        write!(f, "running  {} records/s  lag {}", number(self.records_per_second), number(lag))?;
        if let Some([half, most]) = self.latency_millis {
            write!(f, "  latency p50 {} p99 {}", millis(half), millis(most))?;
        }
        match self.committed {
            Some(age) if age < Duration::from_secs(1) => write!(f, "  committed {} ms ago", age.as_millis()),
            Some(age) => write!(f, "  committed {} ago", span(age)),
            None => f.write_str("  nothing committed yet"),
        }
    }
}

/// Of a backlog, latency is the age of its data.
fn millis(millis: u64) -> String {
    if millis < 10_000 { format!("{millis} ms") } else { span(Duration::from_millis(millis)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_matters() {
        let shown = Shown {
            records_per_second: 54_267,
            lag: Some(1200),
            latency_millis: Some([3, 12]),
            committed: Some(Duration::from_millis(80)),
            to_restore: 0,
        };
        assert_eq!(
            shown.to_string(),
            "running  54,267 records/s  lag 1,200  latency p50 3 ms p99 12 ms  committed 80 ms ago"
        );
        let idle =
            Shown { latency_millis: None, committed: None, records_per_second: 0, lag: Some(0), ..shown };
        assert_eq!(idle.to_string(), "running  0 records/s  lag 0  nothing committed yet");
        let old = Shown {
            latency_millis: Some([9_999, 86_400_000 * 3]),
            committed: Some(Duration::from_secs(61)),
            ..shown
        };
        assert!(old.to_string().ends_with("p50 9999 ms p99 3 days  committed 1 min 1 s ago"), "{old}");
        assert_eq!(Shown { lag: None, ..shown }.to_string(), "starting");
        let restoring = Shown { to_restore: 10_000, ..shown };
        assert_eq!(restoring.to_string(), "restoring  10,000 changelog records to go");
    }
}
