//! A replay between two positions is what a batch computation over exactly these records gives.

use std::{collections::BTreeMap, time::Duration};

use headwater_core::{Offset, Timestamp, TopicPartition, memory::MemoryLog};
use headwater_streams::{
    StreamsBuilder, TimeWindows, Topology,
    replay::{Options, Position},
};
use proptest::prelude::*;

use crate::world::{Contents, Sent, contents, live, partition, records, replay, send};

const PARTITIONS: u32 = 2;

/// Copies, and counts per key and window of 10 ms, with nothing too late.
fn topology() -> Topology {
    let builder = StreamsBuilder::new();
    let stream = builder.stream::<String, u64>("in");
    stream.to("copy");
    let windows = TimeWindows::tumbling(Duration::from_millis(10)).grace(Duration::from_secs(60));
    stream
        .group_by_key()
        .windowed_by(windows)
        .count("counts")
        .to_stream()
        .map(|at, n| (format!("{}@{}", at.key, at.window.start.0), n))
        .to("counted");
    builder.build().unwrap()
}

/// What a batch computation gives: the records in each partition, and the last count of each key and window.
fn recomputed(
    log: &MemoryLog,
    holds: impl Fn(&TopicPartition, Offset, i64) -> bool,
) -> (Vec<Contents>, BTreeMap<String, u64>) {
    let (mut copies, mut counts) = (Vec::new(), BTreeMap::new());
    for at in (0..PARTITIONS).map(|p| partition("in", p)) {
        let mut copy = Vec::new();
        for (offset, record) in records(log, &at) {
            let time = record[0].2;
            if holds(&at, offset, time) {
                let key = String::from_utf8(record[0].0.clone().unwrap()).unwrap();
                *counts.entry(format!("{key}@{}", time / 10 * 10)).or_default() += 1;
                copy.extend(record);
            }
        }
        copies.push(copy);
    }
    (copies, counts)
}

fn counted(log: &MemoryLog) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for (key, value, _) in contents(log, "counted").into_iter().flatten() {
        let count = u64::from_be_bytes(value.unwrap().try_into().unwrap());
        let last = counts.insert(String::from_utf8(key.unwrap()).unwrap(), count).unwrap_or(0);
        assert_eq!(count, last + 1, "each is counted once");
    }
    counts
}

fn inputs() -> impl Strategy<Value = (Vec<Sent>, usize)> {
    let key = prop::sample::select(vec!["a", "b", "c", "d"]).prop_map(str::to_owned);
    // Times go on, and records lie around them, some far back.
    let one = (key, 0..100u64, (0..4i64, 0..6i64, prop::bool::weighted(0.1)));
    let records = prop::collection::vec(one, 1..60).prop_map(|records| {
        let mut now = 20;
        let records = records.into_iter().map(|(key, value, (step, back, far))| {
            now += step;
            (key, value, now - if far { 3 * back } else { back })
        });
        records.collect()
    });
    (records, 1..8usize)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn times_cut_to_the_millisecond_whatever_the_order(
        (records, batch_records) in inputs(),
        cuts in prop::collection::vec((0..150i64, 0..80i64), 3),
    ) {
        let log = live(&[("in", PARTITIONS)]);
        send(&log, "in", &records, batch_records);
        for (from, length) in cuts {
            let newest = records.iter().map(|record| record.2).max().unwrap();
            let (from, until) = (from.min(newest), from.min(newest) + length);
            let options = Options {
                from: Position::Time(Timestamp(from)),
                until: Position::Time(Timestamp(until)),
                ..Options::default()
            };
            let (report, own) = replay(&topology(), &options, &log);
            let (copies, counts) = recomputed(&log, |_, _, time| (from..until).contains(&time));
            prop_assert_eq!(contents(&own, "copy"), copies.clone());
            prop_assert_eq!(counted(&own), counts);
            let all: usize = copies.iter().map(Vec::len).sum();
            prop_assert_eq!(report.sources["in"], all as u64);
            prop_assert_eq!(report.outputs["copy"], all as u64);
            let reached = copies.iter().flatten().map(|record| Timestamp(record.2)).max();
            prop_assert_eq!(report.reached, reached);
        }
    }

    #[test]
    fn offsets_cut_between_batches_and_within(
        (records, batch_records) in inputs(),
        shares in prop::collection::vec((0..=10u64, 0..=10u64), PARTITIONS as usize),
    ) {
        let log = live(&[("in", PARTITIONS)]);
        send(&log, "in", &records, batch_records);
        let (mut from, mut until) = (BTreeMap::new(), BTreeMap::new());
        for (number, (a, b)) in (0..PARTITIONS).zip(&shares) {
            let at = partition("in", number);
            let all = crate::world::records(&log, &at).len() as u64;
            from.insert(at.clone(), Offset(all * a.min(b) / 10));
            until.insert(at, Offset(all * a.max(b) / 10));
        }
        let options = Options {
            from: Position::Offsets(from.clone()),
            until: Position::Offsets(until.clone()),
            ..Options::default()
        };
        // Nothing lies behind these offsets: refused, and tested elsewhere.
        prop_assume!(from.iter().any(|(at, from)| from.0 < crate::world::records(&log, at).len() as u64));
        prop_assume!(from != until);
        let (_, own) = replay(&topology(), &options, &log);
        let (copies, counts) = recomputed(&log, |at, offset, _| (from[at]..until[at]).contains(&offset));
        prop_assert_eq!(contents(&own, "copy"), copies);
        prop_assert_eq!(counted(&own), counts);
    }
}
