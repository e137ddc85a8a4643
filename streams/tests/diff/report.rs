//! What people and programs read.

use std::{sync::Arc, time::Duration};

use futures::executor::block_on;
use headwater_core::{
    Headers, Timestamp,
    memory::{MemoryBackend, MemoryLog},
};
use headwater_streams::{
    OutputKind, Settings, StreamsBuilder, TimeWindows, Topology,
    replay::diff::{Diff, Limits, Scope, compare},
    testing::TopologyTestDriver,
};

use super::{Written, compare_logs, log_of, output, record};

/// One of everything.
fn diff() -> Diff {
    let mut live: Vec<Written> = (0..20).map(|n| record("steady", &n.to_string(), n)).collect();
    let mut replayed = live.clone();
    live.push(record("lost", "once", 20));
    live.push(Written { headers: Headers::new().with("by", "me"), ..record("tagged", "1", 21) });
    replayed.push(Written { headers: Headers::new().with("by", "you"), ..record("tagged", "1", 21) });
    replayed.push(record("new", "a\nb", 22));
    replayed[17].value = None;
    live.extend(["p", "q", "r", "s", "t"].map(|key| record(key, "twice", 30)));
    let events = output(OutputKind::Events);
    let mut diff = compare_logs(&events, &Scope::default(), &log_of(1, &live), &log_of(1, &replayed));
    let updates = events.with_kind(OutputKind::Updates);
    let more = compare_logs(&updates, &Scope::default(), &log_of(1, &live), &log_of(1, &replayed));
    diff.topics.extend(more.topics);
    diff
}

#[test]
fn people_read_a_table_and_some_examples() {
    insta::assert_snapshot!(diff().to_string(), @r"
    topic    compared by       records live/replayed  keys equal  missing  extra  different  not comparable  intermediate
    results  sequence per key                  27/22           0        6      1          2               0             -
    results  last per key                      27/22           2        6      1          0               0             2

    results
      missing, the first 3 of 6 keys:
        lost  (1 live, 0 replayed)
          live      partition 0 offset 20 time 20  once
        p  (1 live, 0 replayed)
          live      partition 0 offset 22 time 30  twice
        q  (1 live, 0 replayed)
          live      partition 0 offset 23 time 30  twice
      extra:
        new  (0 live, 1 replayed)
          replayed  partition 0 offset 21 time 22  a\nb
      different:
        steady  (20 live, 20 replayed, the first 17 the same)
          live      partition 0 offset 17 time 17  17
          replayed  partition 0 offset 17 time 17  null
        tagged  (1 live, 1 replayed)
          live      partition 0 offset 21 time 21  1  headers by=me
          replayed  partition 0 offset 20 time 21  1  headers by=you

    results
      missing, the first 3 of 6 keys:
        lost  (1 live, 0 replayed)
          live      partition 0 offset 20 time 20  once
        p  (1 live, 0 replayed)
          live      partition 0 offset 22 time 30  twice
        q  (1 live, 0 replayed)
          live      partition 0 offset 23 time 30  twice
      extra:
        new  (0 live, 1 replayed)
          replayed  partition 0 offset 21 time 22  a\nb
      intermediate:
        steady  (20 live, 20 replayed, the first 17 the same)
          live      partition 0 offset 17 time 17  17
          replayed  partition 0 offset 17 time 17  null
        tagged  (1 live, 1 replayed)
          live      partition 0 offset 21 time 21  1  headers by=me
          replayed  partition 0 offset 20 time 21  1  headers by=you

    16 keys differ
    ");
}

#[test]
fn programs_read_the_same() {
    let json = serde_json::to_value(diff()).unwrap();
    let topic = &json["topics"][0];
    assert_eq!((&topic["topic"], &topic["kind"]), (&"results".into(), &"events".into()));
    assert_eq!((&topic["missing"], &topic["extra"], &topic["different"]), (&6.into(), &1.into(), &2.into()));
    let lost = &topic["examples"][0];
    assert_eq!((&lost["class"], &lost["key"]), (&"missing".into(), &"lost".into()));
    assert_eq!(lost["records"]["live"]["offset"], 20);
    assert_eq!(lost["records"]["live"]["timestamp"], 20);
    assert!(lost["records"]["replayed"].is_null());
}

#[test]
fn nothing_is_said_where_nothing_differs() {
    let (output, log) = (output(OutputKind::Events), log_of(1, &[record("a", "1", 1)]));
    let scope = Scope { from: Some(Timestamp(0)), ..Scope::default() };
    let diff = compare_logs(&output, &scope, &log, &log).to_string();
    assert_eq!((diff.lines().count(), diff.lines().last()), (4, Some("no difference")));
    let none = MemoryLog::default();
    assert!(compare_logs(&output, &scope, &none, &none).is_empty());
}

#[test]
fn what_is_long_is_cut_off() {
    let live = record("long", &"ä ".repeat(5_000), 0);
    let replayed = Written { headers: Headers::new().with("h", vec![0xff; 5_000]), ..live.clone() };
    let (live, replayed) = (log_of(1, &[live]), log_of(1, &[replayed]));
    let diff = compare_logs(&output(OutputKind::Events), &Scope::default(), &live, &replayed);
    assert_eq!(diff.topics[0].different, 1);
    let shown = diff.to_string();
    assert!(shown.contains("ä …") && shown.len() < 4_000, "{shown}");
}

/// Alerts about readings above a threshold, and how many readings there are per hour.
fn alerts(threshold: u64) -> Topology {
    let builder = StreamsBuilder::new();
    let readings = builder.stream::<String, u64>("readings");
    readings.filter(move |_, reading| *reading > threshold).to("alerts");
    let hour = TimeWindows::tumbling(Duration::from_secs(3_600));
    readings.group_by_key().windowed_by(hour).count("hourly").to_stream().to("readings-per-hour");
    builder.build().unwrap()
}

/// Some hours of readings, one in a minute, from this minute on.
fn run(threshold: u64, from: i64) -> MemoryLog {
    let log = MemoryLog::default();
    let ports = (Arc::new(log.clone()) as _, Arc::new(MemoryBackend::default()) as _);
    let mut driver = TopologyTestDriver::on(alerts(threshold), Settings::new("test"), 1, ports).unwrap();
    for minute in from..300 {
        for (sensor, reading) in [("boiler", minute * 7 % 100), ("pump", minute * 3 % 90)] {
            let (sensor, reading) = (sensor.to_owned(), reading.unsigned_abs());
            driver.append("readings", &sensor, &reading, Timestamp(minute * 60_000)).unwrap();
        }
        driver.run().unwrap();
    }
    log
}

/// The guide shows what is printed.
#[test]
fn the_guide_shows_a_real_difference() {
    let scope = Scope { from: Some(Timestamp(90 * 60_000)), ..Scope::default() };
    let limits = Limits { examples_max: 2, ..Limits::default() };
    let (live, replayed) = (run(80, 0), run(90, 90));
    let outputs = alerts(90).outputs();
    let printed = block_on(compare(&outputs, &scope, &live, &replayed, limits)).unwrap().to_string();
    let guide = include_str!("../../../docs/diff.md");
    assert!(guide.contains(&printed), "docs/diff.md should show:\n{printed}");
}
