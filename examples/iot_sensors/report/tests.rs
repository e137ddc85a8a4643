//! The tables and the progress line, letter by letter.

use std::sync::{Arc, Mutex};

use super::*;

/// A place to write to that can be looked at afterwards.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Shared {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn alert(timestamp_ms: i64) -> Alert {
    Alert {
        sensor: "s".into(),
        timestamp_ms,
        value: 0.0,
        mean: 0.0,
        stddev: 0.0,
        score: 0.0,
        readings: 0,
        suppressed: 0,
    }
}

#[test]
fn a_fault_is_hit_once_however_many_alerts_it_has() {
    let faults = [(10, 20), (15, 30), (40, 50)].map(|(start_ms, end_ms)| FaultWindow { start_ms, end_ms });
    let alerts = [9, 16, 17, 20, 31].map(alert);
    let hits = Hits::count(&alerts, &faults);
    assert_eq!(hits, Hits { alerts: 5, faults_hit: 2, faults: 3, alerts_outside: 2 });
    assert_eq!(Hits::count(&[], &[]), Hits::default());
}

#[test]
fn the_tables_are_aligned_and_have_a_total() {
    let row = |sensor: &str, readings, alerts, faults| SensorRow {
        sensor: sensor.into(),
        group: "group".into(),
        readings,
        hours: readings / 12,
        hits: Hits { alerts, faults_hit: faults / 2, faults, alerts_outside: alerts / 3 },
    };
    let sensors = [row("machine", 22_695, 17, 4), row("b", 120, 0, 0), row("c", 1, 0, 0)];
    let groups = [GroupRow { group: "group".into(), days: 1_234, readings: 22_816 }];
    let mut out = Vec::new();
    write_tables(&mut out, &sensors, &groups, 2).unwrap();
    let expected = "\
sensor      group  readings  hours  alerts  faults hit  outside
---------------------------------------------------------------
machine     group    22,695  1,891      17         2/4        5
b           group       120     10       0           -        0
and 1 more
---------------------------------------------------------------
total                22,816  1,901      17         2/4        5

group  sensors   days  readings
-------------------------------
group        3  1,234    22,816
";
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn a_terminal_shows_one_line_that_is_drawn_again() {
    let shared = Shared::default();
    let mut progress = Progress::new(Box::new(shared.clone()), true, "loading", 1_000_000);
    progress.update(250_000, Duration::from_secs(1));
    progress.update(260_000, Duration::from_millis(1_050));
    progress.finish(1_000_000, Duration::from_secs(4));
    assert_eq!(
        shared.text(),
        "\rloading    ██████░░░░░░░░░░░░░░░░░░  25%  250,000 records, 250,000/s, 3.0 s left\x1b[K\
         \rloading    ████████████████████████ 100%  1,000,000 records, 250,000/s, in 4.0 s\x1b[K\n"
    );
}

#[test]
fn elsewhere_there_are_ten_plain_lines() {
    let shared = Shared::default();
    let mut progress = Progress::new(Box::new(shared.clone()), false, "loading", 1_000);
    (0..=1_000).for_each(|done| progress.update(done, Duration::from_millis(done)));
    progress.finish(1_000, Duration::from_secs(1));
    let text = shared.text();
    assert_eq!(text.lines().count(), 10, "{text}");
    assert!(!text.contains(['\r', '\x1b']), "{text}");
    assert!(text.ends_with(" 100%  1,000 records, 1,000/s, in 1.0 s\n"), "{text}");
}

#[test]
fn an_unknown_total_has_no_bar() {
    let shared = Shared::default();
    let mut progress = Progress::new(Box::new(shared.clone()), true, "loading", 0);
    progress.update(1_500, Duration::from_secs(3));
    assert_eq!(shared.text(), "\rloading    1,500 records, 500/s\x1b[K");
}

#[test]
fn numbers_are_easy_to_read() {
    for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (12_345_678, "12,345,678")] {
        assert_eq!(thousands(number), text);
    }
    assert_eq!(thousands(u64::MAX), "18,446,744,073,709,551,615");
    assert_eq!((per_second(10, Duration::ZERO), per_second(10, Duration::from_secs(4))), (0, 3));
    let texts = [0.04, 9.94, 61.0, 125.0, 7_300.0].map(seconds);
    assert_eq!(texts, ["0.0 s", "9.9 s", "61 s", "2 min 5 s", "2 h 1 min"]);
}
