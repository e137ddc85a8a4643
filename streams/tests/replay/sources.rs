//! What a replay reads is decided by its plan, and by nothing else.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::executor::block_on;
use headwater_core::{
    Admin as _, CleanupPolicy, DefaultSerde, Log, ManualClock, Offset, Timestamp, TopicConfig, TopicSpec,
    memory::{MemoryBackend, MemoryLog},
};
use headwater_streams::{
    Consumed, OffsetReset, StreamsBuilder, Topology,
    replay::{Options, Position},
};

use crate::world::{Sent, contents, live, partition, plan, records, replay, run_live, send, settings, start};

fn copying(consumed: Consumed<String, u64>) -> Topology {
    let builder = StreamsBuilder::new();
    builder.stream_with("in", consumed).to("out");
    builder.build().unwrap()
}

fn consumed() -> Consumed<String, u64> {
    Consumed::with(String::default_serde(), u64::default_serde())
}

fn between(from: i64, until: i64) -> Options {
    let (from, until) = (Position::Time(Timestamp(from)), Position::Time(Timestamp(until)));
    Options { from, until, ..Options::default() }
}

fn numbered(times: impl IntoIterator<Item = i64>) -> Vec<Sent> {
    times.into_iter().zip(0..).map(|(time, n)| ("k".to_owned(), n, time)).collect()
}

fn times(log: &MemoryLog, topic: &str) -> Vec<i64> {
    contents(log, topic).into_iter().flatten().map(|record| record.2).collect()
}

#[test]
fn where_a_source_would_begin_by_itself_does_not_matter() {
    let log = live(&[("in", 1)]);
    send(&log, "in", &numbered([1, 5, 3, 9, 7]), 2);
    for reset in
        [OffsetReset::Earliest, OffsetReset::Latest, OffsetReset::At(Timestamp(6)), OffsetReset::Refuse]
    {
        let topology = copying(consumed().reset(reset));
        let (_, own) = replay(&topology, &Options::default(), &log);
        assert_eq!(times(&own, "out"), [1, 5, 3, 9, 7], "{reset:?}");
        let (_, own) = replay(&topology, &between(3, 9), &log);
        assert_eq!(times(&own, "out"), [5, 3, 7], "{reset:?}");
    }
}

#[test]
fn the_range_is_by_the_timestamps_in_the_log_and_not_by_those_that_are_found_in_records() {
    let log = live(&[("in", 1)]);
    let records: Vec<Sent> =
        [(100, 1), (50, 2), (70, 3), (10, 4)].map(|(n, t)| ("k".to_owned(), n, t)).into();
    send(&log, "in", &records, 2);
    let topology = copying(consumed().timestamps(|record, _| Some(Timestamp(record.value.cast_signed()))));
    let (report, own) = replay(&topology, &between(2, 4), &log);
    assert_eq!(times(&own, "out"), [50, 70]);
    assert_eq!(report.reached, Some(Timestamp(70)));
}

#[test]
fn what_came_after_the_plan_is_not_in_it() {
    let log = live(&[("in", 1)]);
    send(&log, "in", &numbered([1, 2, 3]), 2);
    for options in [Options::default(), between(1, 4)] {
        let topology = copying(consumed());
        let plan = plan(&topology, &options, &log).unwrap();
        let from: u64 = records(&log, &partition("in", 0)).len() as u64;
        send(&log, "in", &numbered([2, 1]), 2);
        let (own, state) = (MemoryLog::default(), Arc::new(MemoryBackend::default()));
        let run = start(&topology, settings(), &plan, (&log, &own, &state)).unwrap();
        assert_eq!(block_on(run.finish()).unwrap().sources["in"], from);
        assert_eq!(times(&own, "out").len() as u64, from);
    }
}

#[test]
fn gaps_of_a_compacted_source_are_no_records() {
    let clock = Arc::new(ManualClock::new(Timestamp(1_000)));
    let log = MemoryLog::with_clock(clock);
    let config = TopicConfig {
        cleanup_policy: CleanupPolicy::Compact,
        min_cleanable_dirty_ratio: 0.0,
        ..TopicConfig::default()
    };
    block_on(log.create_topic(&TopicSpec { config, ..TopicSpec::new("in", 1).unwrap() })).unwrap();
    let sent: Vec<Sent> = (0..60).map(|n| (format!("k{}", n * n % 13), 0, n)).collect();
    send(&log, "in", &sent, 8);
    block_on(log.clean()).unwrap();
    let left = records(&log, &partition("in", 0));
    assert!(left.len() < 30, "{}", left.len());
    for (from, until) in [(0, 60), (30, 58), (41, 42), (13, 50)] {
        let expected: Vec<i64> =
            left.iter().map(|(_, record)| record[0].2).filter(|time| (from..until).contains(time)).collect();
        let (report, own) = replay(&copying(consumed()), &between(from, until), &log);
        assert_eq!(times(&own, "out"), expected, "{from}..{until}");
        assert_eq!(report.sources["in"], expected.len() as u64);
    }
    let offsets = |at| Position::Offsets(BTreeMap::from([(partition("in", 0), Offset(at))]));
    let options = Options { from: offsets(17), until: offsets(55), ..Options::default() };
    let (report, own) = replay(&copying(consumed()), &options, &log);
    let expected: Vec<i64> = left
        .iter()
        .filter(|(offset, _)| (17..55).contains(&offset.0))
        .map(|(_, record)| record[0].2)
        .collect();
    assert_eq!(times(&own, "out"), expected);
    assert_eq!(report.sources["in"], expected.len() as u64);
}

#[test]
fn partitions_that_are_not_named_begin_when_those_do_that_are() {
    let log = live(&[("in", 1), ("more", 1), ("rows", 1)]);
    let builder = StreamsBuilder::new();
    let rows = builder.table::<String, u64>("rows", "row-store");
    builder.streams::<String, u64>(&["in", "more"]).join_table(&rows, |_, _, row| *row).to("out");
    let topology = builder.build().unwrap();
    send(&log, "rows", &numbered([1, 8, 21, 29]), 3);
    send(&log, "in", &numbered([5, 10, 15, 20, 25, 30, 18]), 3);
    send(&log, "more", &numbered([2, 12, 17, 19, 22, 28, 18]), 3);
    // From 20 on, in which there is a record of 18; that is where the rest begins.
    let from = Position::Offsets(BTreeMap::from([(partition("in", 0), Offset(3))]));
    let (report, own) = replay(&topology, &Options { from: from.clone(), ..Options::default() }, &log);
    assert_eq!(times(&own, "out"), [20, 22, 25, 28, 30, 18]);
    assert_eq!((report.sources["in"], report.sources["more"]), (4, 2));
    assert_eq!((report.from, report.before["rows"], report.sources["rows"]), (Some(Timestamp(20)), 2, 2));
    let warm = Options { from, warm_up: Duration::from_millis(8), ..Options::default() };
    let (report, _) = replay(&topology, &warm, &log);
    // 15 of `in`; 12, 17, 19 and 18 of `more`.
    assert_eq!((report.before["in"], report.before["more"], report.before["rows"]), (1, 4, 2));
    assert_eq!((report.sources["in"], report.sources["more"]), (4, 2));
}

#[test]
fn a_topic_that_is_written_and_read_is_the_replays_own() {
    let log = live(&[("in", 1), ("through", 2)]);
    let builder = StreamsBuilder::new();
    builder.stream::<String, u64>("in").map_values(|_, n| n + 1).to("through");
    builder.stream::<String, u64>("through").map_values(|_, n| n * 10).to("out");
    let topology = builder.build().unwrap();
    send(&log, "in", &numbered([1, 2, 3, 4]), 3);
    run_live(&topology, &log);
    let (report, own) = replay(&topology, &between(2, 4), &log);
    assert_eq!((report.outputs["through"], report.outputs["out"]), (2, 2));
    assert_eq!(report.sources.keys().collect::<Vec<_>>(), ["in"]);
    assert_eq!(times(&own, "out"), [2, 3]);
}
