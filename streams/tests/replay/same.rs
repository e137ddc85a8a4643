//! Two replays of one range write the same records, whatever the workers, turns and commits.

use std::{collections::BTreeMap, time::Duration};

use headwater_core::{Log, Timestamp, TopicPartition, TopicSpec, memory::MemoryLog};
use headwater_streams::{
    Emit, JoinWindows, SessionWindows, Settings, StreamsBuilder, TimeWindows, Topology,
    replay::{Options, Position},
};

use crate::world::{Contents, Sent, live, records, replay_with, send, settings};

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Of everything something: a table that is joined, a repartition, windows, sessions, a join of streams, results at the end
/// of windows.
pub(crate) fn topology() -> Topology {
    let builder = StreamsBuilder::new();
    let names = builder.table::<String, u64>("names", "name-rows");
    let clicks = builder.stream::<String, u64>("clicks");
    let named = clicks.join_table(&names, |_, click, name| click * 1_000 + name);
    named.to("named");
    let by_rest = named.select_key(|_, n| format!("rest-{}", n % 4)).repartition("by-rest");
    let counts = by_rest.group_by_key().windowed_by(TimeWindows::hopping(ms(20), ms(10)).grace(ms(15)));
    counts
        .emit(Emit::OnClose)
        .count("counts")
        .to_stream()
        .map(|at, n| (format!("{}@{}", at.key, at.window.start.0), n))
        .to("counted");
    by_rest
        .group_by_key()
        .windowed_by(SessionWindows::gap(ms(6)).grace(ms(15)))
        .count("visits")
        .to_stream()
        .map(|at, n| (format!("{}@{}", at.key, at.window.start.0), n.unwrap_or(0)))
        .to("visited");
    let views = builder.stream::<String, u64>("views");
    clicks
        .left_join(&views, "click-views", JoinWindows::within(ms(8)).grace(ms(10)), |_, click, view| {
            click * 1_000 + view.copied().unwrap_or(999)
        })
        .to("joined");
    builder.build().unwrap()
}

/// Records out of order, in several topics and partitions, from 0 to 500 ms.
pub(crate) fn world() -> MemoryLog {
    let log = live(&[("names", 3), ("clicks", 3), ("views", 3)]);
    // A generator of its own: the same everywhere.
    let mut seed = 7u64;
    let mut random = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let mut sent = |count: u64, step: u64| -> Vec<Sent> {
        (0..count)
            .map(|n| {
                let back = if random(10) == 0 { random(40) } else { random(5) };
                let time = (n * step).saturating_sub(back).cast_signed();
                (format!("key-{}", random(9)), random(100), time)
            })
            .collect()
    };
    let (names, clicks, views) = (sent(60, 8), sent(250, 2), sent(160, 3));
    send(&log, "names", &names, 4);
    send(&log, "clicks", &clicks, 11);
    send(&log, "views", &views, 6);
    log
}

pub(crate) fn options() -> Options {
    Options {
        from: Position::Time(Timestamp(203)),
        until: Position::Time(Timestamp(401)),
        warm_up: ms(50),
        close_windows: true,
        ..Options::default()
    }
}

/// All that a replay wrote but changelogs, which have one record per changed row and commit: in its order, where a partition has
/// one writer.
pub(crate) fn results(own: &MemoryLog) -> BTreeMap<TopicPartition, Contents> {
    let topics = futures::executor::block_on(own.topics()).unwrap();
    let kept = topics.iter().filter(|spec| !spec.name.as_str().ends_with("-changelog"));
    let mut results = BTreeMap::new();
    for partition in kept.flat_map(TopicSpec::topic_partitions) {
        let mut contents: Contents =
            records(own, &partition).into_iter().flat_map(|(_, record)| record).collect();
        if !["named", "joined"].contains(&partition.topic.as_str()) {
            contents.sort();
        }
        results.insert(partition, contents);
    }
    results
}

/// For each key of a topic what was written of it: its writer keeps that order.
fn by_key(own: &MemoryLog, topic: &str) -> BTreeMap<Vec<u8>, Contents> {
    let mut keys: BTreeMap<_, Contents> = BTreeMap::new();
    for record in crate::world::contents(own, topic).into_iter().flatten() {
        keys.entry(record.0.clone().unwrap()).or_default().push(record);
    }
    keys
}

#[test]
fn workers_turns_and_commits_change_nothing() {
    let log = world();
    let (report, own) = replay_with(&topology(), settings(), &options(), &log);
    let expected = results(&own);
    let count = |topic: &str| -> usize {
        expected.iter().filter(|(p, _)| p.topic.as_str() == topic).map(|(_, records)| records.len()).sum()
    };
    for topic in ["named", "counted", "visited", "joined"] {
        assert!(count(topic) > 15, "{topic} {}", count(topic));
        assert_eq!(report.outputs[topic], count(topic) as u64);
    }
    assert!(report.late > 0 && report.before["clicks"] > 10 && report.before["names"] > 10, "{report}");
    for workers in [1, 2, 4] {
        for turn_records_max in [1, 7, 10_000] {
            for commit_interval in [Duration::ZERO, ms(100)] {
                let settings = Settings { workers, turn_records_max, commit_interval, ..settings() };
                let (other, others) = replay_with(&topology(), settings, &options(), &log);
                assert!(results(&others) == expected, "{workers} workers, {turn_records_max} records");
                for topic in ["counted", "visited"] {
                    assert!(by_key(&others, topic) == by_key(&own, topic), "{workers} workers, {topic}");
                }
                let unlike = |report: &headwater_streams::replay::Report| {
                    let mut report = report.clone();
                    report.duration = Duration::ZERO;
                    report
                };
                assert_eq!(unlike(&other), unlike(&report));
            }
        }
    }
}
