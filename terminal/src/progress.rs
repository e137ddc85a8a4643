//! How far a long piece of work has come, for whoever watches a terminal.

use std::time::{Duration, Instant};

use crate::{Line, size, units::span_of};

/// Work that is done before this shows nothing.
const PATIENCE: Duration = Duration::from_millis(500);
/// Characters of a bar.
const BAR: usize = 20;

/// Work on so many bytes, as one line on stderr (see [`Line`]).
#[derive(Debug)]
pub struct Progress {
    what: &'static str,
    done: Done,
    bytes_total: Option<u64>,
    began: Instant,
    line: Line,
}

/// What was done so far.
#[derive(Debug, Clone, Copy, Default)]
struct Done {
    bytes: u64,
    records: u64,
}

impl Progress {
    /// Begins now. `what` is done, on so many bytes when that is known.
    #[must_use]
    pub fn begin(what: &'static str, bytes_total: Option<u64>, quiet: bool) -> Self {
        let line = Line::begin(PATIENCE, quiet);
        Self { what, done: Done::default(), bytes_total, began: Instant::now(), line }
    }

    /// Takes note of work that was done. Cheap enough for every megabyte, not for every record.
    pub fn add(&mut self, bytes: u64, records: u64) {
        self.done.bytes += bytes;
        self.done.records += records;
        if !self.line.is_shown() {
            return;
        }
        let now = Instant::now();
        if self.line.is_due(now) {
            self.line.draw(&line(self.what, self.done, self.bytes_total, now - self.began));
        }
    }
}

/// Fits in 80 columns.
fn line(what: &str, done: Done, bytes_total: Option<u64>, elapsed: Duration) -> String {
    let Done { bytes, records } = done;
    #[expect(clippy::cast_precision_loss, reason = "it is shown with two digits")]
    let per_second = |count: u64| count as f64 / elapsed.as_secs_f64().max(0.001);
    let rate = per_second(bytes);
    let Some(total) = bytes_total.filter(|total| *total > 0) else {
        let (size, pace) = (size(bytes), per_second(records));
        return format!("{what}  {records} records  {size}  {pace:.0} records/s");
    };
    #[expect(clippy::cast_precision_loss, reason = "it is shown with two digits")]
    let part = (bytes as f64 / total as f64).min(1.0);
    let bar = bar(part);
    #[expect(clippy::cast_precision_loss, reason = "it is shown in seconds")]
    let left = if rate > 0.0 { total.saturating_sub(bytes) as f64 / rate } else { 0.0 };
    let (percent, pace) = (part * 100.0, per_second_text(rate));
    format!("{what} {bar} {percent:>3.0} %  {}  {pace}  {} left", size(bytes), span_of(left))
}

/// `[=====               ]`: how much of the work is done, between 0 and 1.
#[must_use]
pub fn bar(part: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "between 0 and the width of the bar"
    )]
    let filled = (part.clamp(0.0, 1.0) * BAR as f64) as usize;
    format!("[{}{}]", "=".repeat(filled), " ".repeat(BAR - filled))
}

fn per_second_text(bytes: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate is not negative")]
    let bytes = bytes as u64;
    format!("{}/s", size(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far_it_is_and_how_long_it_takes() {
        let done = Done { bytes: 250_000_000, records: 1_000_000 };
        assert_eq!(
            line("verify", done, Some(1_000_000_000), Duration::from_secs(2)),
            "verify [=====               ]  25 %  250 MB  125 MB/s  6 s left"
        );
        assert_eq!(
            line("produce", done, None, Duration::from_secs(4)),
            "produce  1000000 records  250 MB  250000 records/s"
        );
        assert_eq!(
            line("verify", Done::default(), Some(10), Duration::ZERO),
            "verify [                    ]   0 %  0 B  0 B/s  0 s left"
        );
        // A file may have grown since its size was asked.
        assert!(
            line("verify", done, Some(1000), Duration::from_secs(1)).contains("[====================] 100 %")
        );
    }

    #[test]
    fn every_line_fits_a_terminal() {
        for shift in 0..64 {
            let done = Done { bytes: u64::MAX >> shift, records: u64::MAX >> shift };
            for total in [Some(u64::MAX), Some(1)] {
                let line = line("verify", done, total, Duration::from_secs(1 << (shift / 3)));
                assert!(line.len() < 80, "{line}");
            }
        }
    }
}
