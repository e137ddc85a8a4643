//! What the terminal shows: a progress line while the example runs and the tables at its end. Everything is written
//! to a `Write` that is passed in, and time is passed in too.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use super::alerts::Alert;
use super::labels::FaultWindow;

/// A terminal's line is drawn again at most so often.
const REDRAW_INTERVAL: Duration = Duration::from_millis(100);

/// Where there is no terminal, a line is printed for every such share of the work.
const LINES: u64 = 10;

const BAR_WIDTH: usize = 24;

/// How the alerts of one sensor compare with its labelled faults.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Hits {
    /// How many alerts there are.
    pub(crate) alerts: u64,
    /// How many labelled faults have an alert in them.
    pub(crate) faults_hit: u64,
    /// How many labelled faults there are.
    pub(crate) faults: u64,
    /// How many alerts are in no labelled fault.
    pub(crate) alerts_outside: u64,
}

impl Hits {
    /// Counts one sensor.
    pub(crate) fn count(alerts: &[Alert], faults: &[FaultWindow]) -> Hits {
        let hit = |fault: &&FaultWindow| alerts.iter().any(|alert| fault.contains(alert.timestamp_ms));
        let outside = |alert: &&Alert| !faults.iter().any(|fault| fault.contains(alert.timestamp_ms));
        Hits {
            alerts: alerts.len() as u64,
            faults_hit: faults.iter().filter(hit).count() as u64,
            faults: faults.len() as u64,
            alerts_outside: alerts.iter().filter(outside).count() as u64,
        }
    }

    fn add(&mut self, other: &Hits) {
        self.alerts += other.alerts;
        self.faults_hit += other.faults_hit;
        self.faults += other.faults;
        self.alerts_outside += other.alerts_outside;
    }
}

/// One line of the table: a sensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SensorRow {
    /// The sensor.
    pub(crate) sensor: String,
    /// Its group.
    pub(crate) group: String,
    /// How many readings its hours have together.
    pub(crate) readings: u64,
    /// How many hours it has.
    pub(crate) hours: u64,
    /// Its alerts and faults.
    pub(crate) hits: Hits,
}

/// One line of the second table: a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GroupRow {
    /// The group.
    pub(crate) group: String,
    /// How many days it has.
    pub(crate) days: u64,
    /// How many readings its days have together.
    pub(crate) readings: u64,
}

/// Writes the two tables: every sensor with a total, up to `sensors_max` of them, and every group.
///
/// # Errors
/// If `out` cannot be written to.
pub(crate) fn write_tables(
    out: &mut dyn Write,
    sensors: &[SensorRow],
    groups: &[GroupRow],
    sensors_max: usize,
) -> io::Result<()> {
    let cells = |name: &str, group: &str, readings: u64, hours: u64, hits: &Hits| {
        let faults =
            if hits.faults == 0 { "-".into() } else { format!("{}/{}", hits.faults_hit, hits.faults) };
        let counts = [readings, hours, hits.alerts].map(thousands);
        let [readings, hours, alerts] = counts;
        vec![name.into(), group.into(), readings, hours, alerts, faults, thousands(hits.alerts_outside)]
    };
    let mut table =
        Table::new(&["sensor", "group", "readings", "hours", "alerts", "faults hit", "outside"], 2);
    for row in sensors.iter().take(sensors_max) {
        table.row(cells(&row.sensor, &row.group, row.readings, row.hours, &row.hits));
    }
    if sensors.len() > sensors_max {
        let more = sensors.len() - sensors_max;
        table.row(vec![format!("and {} more", thousands(more as u64))]);
    }
    let mut total = Hits::default();
    sensors.iter().for_each(|row| total.add(&row.hits));
    let (readings, hours) = (sensors.iter().map(|row| row.readings), sensors.iter().map(|row| row.hours));
    table.total(cells("total", "", readings.sum(), hours.sum(), &total));
    table.write(out)?;
    writeln!(out)?;
    let members = groups.iter().map(|row| (row.group.as_str(), 0)).collect::<BTreeMap<_, u64>>();
    let members = sensors.iter().fold(members, |mut members, row| {
        *members.entry(row.group.as_str()).or_default() += 1;
        members
    });
    let mut table = Table::new(&["group", "sensors", "days", "readings"], 1);
    for row in groups {
        let counts = [members[row.group.as_str()], row.days, row.readings].map(thousands);
        table.row([row.group.clone()].into_iter().chain(counts).collect());
    }
    table.write(out)
}

/// A table whose columns are as wide as their widest cell; numbers are flush right.
struct Table {
    /// So many columns, from the first, are text.
    text_columns: usize,
    rows: Vec<Vec<String>>,
    rules: Vec<usize>,
}

impl Table {
    fn new(header: &[&str], text_columns: usize) -> Table {
        let header = header.iter().map(|&cell| cell.to_owned()).collect();
        Table { text_columns, rows: vec![header], rules: vec![1] }
    }

    fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    fn total(&mut self, cells: Vec<String>) {
        self.rules.push(self.rows.len());
        self.rows.push(cells);
    }

    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let columns = self.rows[0].len();
        let cell_width =
            |row: &Vec<String>, column| row.get(column).map_or(0, |cell: &String| cell.chars().count());
        let widths: Vec<usize> = (0..columns)
            .map(|column| self.rows.iter().map(|row| cell_width(row, column)).max().unwrap_or(0))
            .collect();
        for (number, row) in self.rows.iter().enumerate() {
            if self.rules.contains(&number) {
                writeln!(out, "{}", "-".repeat(widths.iter().sum::<usize>() + 2 * (columns - 1)))?;
            }
            let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
                if column < self.text_columns { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            });
            writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }
}

/// The progress of one piece of work: on a terminal one line that is drawn again and again, elsewhere (a file, a
/// build's log) a few lines.
pub(crate) struct Progress {
    out: Box<dyn Write + Send>,
    terminal: bool,
    name: &'static str,
    total: u64,
    drawn_at: Option<Duration>,
    lines: u64,
}

impl Progress {
    /// Progress on the standard error, of work whose `total` records may be unknown (0).
    pub(crate) fn stderr(name: &'static str, total: u64) -> Progress {
        let terminal = io::stderr().is_terminal();
        Progress::new(Box::new(io::stderr()), terminal, name, total)
    }

    fn new(out: Box<dyn Write + Send>, terminal: bool, name: &'static str, total: u64) -> Progress {
        Progress { out, terminal, name, total, drawn_at: None, lines: 0 }
    }

    /// Shows that `done` records are done after `elapsed`. A terminal that cannot be written to is no reason to stop
    /// the work, so it is not reported.
    pub(crate) fn update(&mut self, done: u64, elapsed: Duration) {
        if self.terminal {
            if self.drawn_at.is_none_or(|at| elapsed.saturating_sub(at) >= REDRAW_INTERVAL) {
                self.drawn_at = Some(elapsed);
                self.draw(done, elapsed);
            }
        } else if self.total > 0 && done.min(self.total) * LINES / self.total > self.lines {
            self.lines = done.min(self.total) * LINES / self.total;
            let line = self.line(done, elapsed);
            let _ = writeln!(self.out, "{line}");
        }
    }

    /// Shows the end of the work: `done` records in `elapsed`.
    pub(crate) fn finish(mut self, done: u64, elapsed: Duration) {
        self.total = done;
        if self.terminal {
            self.draw(done, elapsed);
            let _ = writeln!(self.out);
        } else if self.lines < LINES {
            let line = self.line(done, elapsed);
            let _ = writeln!(self.out, "{line}");
        }
    }

    fn draw(&mut self, done: u64, elapsed: Duration) {
        let line = self.line(done, elapsed);
        // Back to the first column, and what the last line had more than this one is wiped.
        let _ = write!(self.out, "\r{line}\x1b[K");
        let _ = self.out.flush();
    }

    fn line(&self, done: u64, elapsed: Duration) -> String {
        let (name, count, rate) = (self.name, thousands(done), thousands(per_second(done, elapsed)));
        if self.total == 0 {
            return format!("{name:<10} {count} records, {rate}/s");
        }
        let share = (done as f64 / self.total as f64).min(1.0);
        let full = (share * BAR_WIDTH as f64) as usize;
        let bar = format!("{}{}", "█".repeat(full), "░".repeat(BAR_WIDTH - full));
        let percent = (share * 100.0) as u64;
        let left = elapsed.as_secs_f64() * (self.total.saturating_sub(done)) as f64 / done.max(1) as f64;
        let end = if done >= self.total {
            format!("in {}", seconds(elapsed.as_secs_f64()))
        } else {
            format!("{} left", seconds(left))
        };
        format!("{name:<10} {bar} {percent:>3}%  {count} records, {rate}/s, {end}")
    }
}

/// `1234567` as `1,234,567`.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3 + 1);
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// How many of `count` come on a second, rounded; of no time, 0.
pub(crate) fn per_second(count: u64, elapsed: Duration) -> u64 {
    let seconds = elapsed.as_secs_f64();
    if seconds > 0.0 { (count as f64 / seconds).round() as u64 } else { 0 }
}

fn seconds(seconds: f64) -> String {
    match seconds as u64 {
        0..10 => format!("{seconds:.1} s"),
        whole @ 10..120 => format!("{whole} s"),
        whole @ 120..7_200 => format!("{} min {} s", whole / 60, whole % 60),
        whole => format!("{} h {} min", whole / 3_600, whole % 3_600 / 60),
    }
}

#[cfg(test)]
#[path = "report/tests.rs"]
mod tests;
