//! How far a long piece of work has come, for whoever watches a terminal.

use std::{
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

/// Work that is done before this shows nothing.
const PATIENCE: Duration = Duration::from_millis(500);
/// Nobody reads faster.
const REDRAW: Duration = Duration::from_millis(100);
/// Characters of a bar.
const BAR: usize = 20;

/// One line on stderr that is drawn over itself, and gone when the work is done. Shows nothing when stderr is no terminal,
/// or nothing shall be shown.
#[derive(Debug)]
pub(crate) struct Progress {
    what: &'static str,
    done: Done,
    bytes_total: Option<u64>,
    shown: bool,
    began: Instant,
    drawn: Option<Instant>,
}

/// What was done so far.
#[derive(Debug, Clone, Copy, Default)]
struct Done {
    bytes: u64,
    records: u64,
}

impl Progress {
    /// Begins now. `what` is done, on so many bytes when that is known.
    pub(crate) fn begin(what: &'static str, bytes_total: Option<u64>, quiet: bool) -> Self {
        let shown = !quiet && io::stderr().is_terminal();
        Self { what, done: Done::default(), bytes_total, shown, began: Instant::now(), drawn: None }
    }

    /// Takes note of work that was done. Cheap enough for every megabyte, not for every record.
    pub(crate) fn add(&mut self, bytes: u64, records: u64) {
        self.done.bytes += bytes;
        self.done.records += records;
        if !self.shown {
            return;
        }
        let now = Instant::now();
        if self.drawn.map_or(now - self.began > PATIENCE, |drawn| now - drawn > REDRAW) {
            self.drawn = Some(now);
            self.draw(&line(self.what, self.done, self.bytes_total, now - self.began));
        }
    }

    /// Draws over the line, or clears it. Nobody is told when that fails: the work goes on.
    fn draw(&self, line: &str) {
        let _ = write!(io::stderr(), "\r\x1b[K{line}");
        let _ = io::stderr().flush();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.drawn.is_some() {
            self.draw("");
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
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "between 0 and the width of the bar"
    )]
    let filled = (part * BAR as f64) as usize;
    let bar = format!("{}{}", "=".repeat(filled), " ".repeat(BAR - filled));
    #[expect(clippy::cast_precision_loss, reason = "it is shown in seconds")]
    let left = if rate > 0.0 { total.saturating_sub(bytes) as f64 / rate } else { 0.0 };
    let (percent, pace) = (part * 100.0, per_second_text(rate));
    format!("{what} [{bar}] {percent:>3.0} %  {}  {pace}  {} left", size(bytes), span(left))
}

fn per_second_text(bytes: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate is not negative")]
    let bytes = bytes as u64;
    format!("{}/s", size(bytes))
}

/// `512 B`, `1.5 MB`: three digits are enough.
pub(crate) fn size(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "it is shown with three digits")]
    let mut shown = bytes as f64;
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut unit = "B";
    for larger in ["kB", "MB", "GB", "TB", "PB", "EB"] {
        // What would be rounded to 1000 of this unit is one of the next.
        if shown < 999.5 {
            break;
        }
        (shown, unit) = (shown / 1000.0, larger);
    }
    if shown < 9.95 { format!("{shown:.1} {unit}") } else { format!("{shown:.0} {unit}") }
}

fn span(seconds: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative, and cut off")]
    let seconds = seconds.ceil() as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (hours, ..) if hours > 24_000 => "over 1000 days".into(),
        (48.., ..) => format!("{} days", seconds / 86_400),
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
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

    #[test]
    fn sizes_have_three_digits() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (9_949, "9.9 kB"),
            (9_950, "10 kB"),
            (999_499, "999 kB"),
            (999_500, "1.0 MB"),
            (64 << 20, "67 MB"),
            (u64::MAX, "18 EB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn spans_are_rounded_up() {
        for (seconds, text) in [
            (0.0, "0 s"),
            (0.2, "1 s"),
            (59.5, "1 min 0 s"),
            (61.0, "1 min 1 s"),
            (7265.0, "2 h 1 min"),
            (172_800.0, "2 days"),
        ] {
            assert_eq!(span(seconds), text);
        }
    }
}
