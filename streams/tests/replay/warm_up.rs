//! What came before the range is there: rows of tables, however old, and windows that began earlier.

use std::time::Duration;

use headwater_core::{Timestamp, memory::MemoryLog};
use headwater_streams::{
    StreamsBuilder, TimeWindows, Topology,
    replay::{Options, Position},
};

use crate::world::{Contents, Sent, contents, live, replay, run_live, send};

const DAY: i64 = 1_000;

/// Readings above the limit of their sensor, counted in windows of 100 ms that begin every 50.
fn topology() -> Topology {
    let builder = StreamsBuilder::new();
    let limits = builder.table::<String, u64>("limits", "limit-by-sensor");
    let windows = TimeWindows::hopping(Duration::from_millis(100), Duration::from_millis(50));
    builder
        .stream::<String, u64>("readings")
        .join_table(&limits, |_, reading, limit| reading.saturating_sub(*limit))
        .filter(|_, above| *above > 0)
        .group_by_key()
        .windowed_by(windows)
        .count("alarms")
        .to_stream()
        .map(|at, n| (format!("{}@{}", at.key, at.window.start.0), n))
        .to("alerts");
    builder.build().unwrap()
}

fn world() -> MemoryLog {
    let log = live(&[("limits", 2), ("readings", 2), ("alerts", 2)]);
    let sensor = |n: i64| format!("sensor-{}", n % 5);
    let limits: Vec<Sent> = (0..5).map(|n| (sensor(n), 40, n)).collect();
    send(&log, "limits", &limits, 3);
    let readings: Vec<Sent> =
        (10..300).map(|n| (sensor(n), u64::try_from(n * 37 % 100).unwrap(), n * 10)).collect();
    send(&log, "readings", &readings, 7);
    // One changes in the warm-up, one within the day, and one after.
    send(&log, "limits", &[(sensor(2), 90, 980), (sensor(1), 90, 1_500), (sensor(3), 90, 2_500)], 3);
    log
}

/// What the live run wrote for records of the second day.
fn of_the_day(log: &MemoryLog) -> Vec<Contents> {
    let of = |records: Contents| {
        records.into_iter().filter(|(_, _, time)| (DAY..2 * DAY).contains(time)).collect::<Contents>()
    };
    contents(log, "alerts").into_iter().map(of).collect()
}

fn options(warm_up: Duration) -> Options {
    Options {
        from: Position::Time(Timestamp(DAY)),
        until: Position::Time(Timestamp(2 * DAY)),
        warm_up,
        ..Options::default()
    }
}

#[test]
fn a_day_with_the_warm_up_of_a_window_is_what_was_written_live() {
    let log = world();
    run_live(&topology(), &log);
    let expected = of_the_day(&log);
    assert!(expected.iter().all(|partition| partition.len() > 20), "{expected:?}");
    let (report, own) = replay(&topology(), &options(Duration::from_millis(100)), &log);
    assert!(contents(&own, "alerts") == expected);
    assert_eq!(report.sources["readings"], 100);
    assert_eq!((report.sources["limits"], report.before["limits"], report.before["readings"]), (1, 6, 10));
    assert!(report.dropped["alerts"] > 0);
    let written: usize = expected.iter().map(Vec::len).sum();
    assert_eq!(report.outputs["alerts"], written as u64);
    // Without it, windows that had begun before are missing what was in them; rows of tables are not.
    let (report, own) = replay(&topology(), &options(Duration::ZERO), &log);
    assert!(contents(&own, "alerts") != expected);
    let behind = |contents: Vec<Contents>| -> Vec<Contents> {
        let of = |records: Contents| records.into_iter().filter(|r| r.2 >= DAY + 100).collect::<Contents>();
        contents.into_iter().map(of).collect()
    };
    assert!(behind(contents(&own, "alerts")) == behind(expected));
    assert_eq!((report.before["limits"], report.before.get("readings")), (6, None));
}

#[test]
fn all_of_it_is_what_was_written_live() {
    let log = world();
    run_live(&topology(), &log);
    let (_, own) = replay(&topology(), &Options::default(), &log);
    assert!(contents(&own, "alerts") == contents(&log, "alerts"));
}
