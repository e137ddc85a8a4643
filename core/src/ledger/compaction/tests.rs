//! Compaction against a small model: rule by rule, and over random lives of a log.

use std::{collections::BTreeMap, sync::Arc};

use futures::executor::block_on;
use proptest::prelude::*;

use super::*;
use crate::{
    Admin, BatchBuilder, CleanupPolicy, Compression, Headers, Log, ManualClock, Partition, ProducerName,
    ProducerStamp, TopicName, TopicPartition, TopicSpec, memory::MemoryLog,
};

fn compacting() -> TopicConfig {
    TopicConfig {
        cleanup_policy: CleanupPolicy::Compact,
        min_cleanable_dirty_ratio: 0.0,
        ..TopicConfig::default()
    }
}

fn piece(next: u64, bytes: u64, time: i64) -> Piece {
    Piece { next: Offset(next), bytes, max_timestamp: Some(Timestamp(time)) }
}

#[test]
fn it_is_time_when_enough_is_dirty() {
    let config = TopicConfig { min_cleanable_dirty_ratio: 0.4, ..compacting() };
    for (clean, bytes, expected) in
        [(0, 1, Some(0..20)), (10, 66, None), (10, 67, Some(10..20)), (15, 67, Some(15..20)), (20, 999, None)]
    {
        let clean = CleanPoint { offset: Offset(clean), horizon: Some(Timestamp(0)) };
        let found = due(&[piece(10, 100, 0), piece(20, bytes, 0)], clean, &config, Timestamp(0));
        assert_eq!(found.map(|range| range.start.0..range.end.0), expected, "{clean:?}, {bytes}");
    }
    assert_eq!(due(&[], CleanPoint::default(), &config, Timestamp(0)), None);
    // As in Kafka, what there is of the ratio is not enough.
    let half = TopicConfig { min_cleanable_dirty_ratio: 0.5, ..config.clone() };
    let clean = CleanPoint { offset: Offset(10), horizon: None };
    for (bytes, expected) in [(100, false), (101, true)] {
        let found = due(&[piece(10, 100, 0), piece(20, bytes, 0)], clean, &half, Timestamp(0));
        assert_eq!(found.is_some(), expected, "{bytes}");
    }
    let deleting = TopicConfig { cleanup_policy: CleanupPolicy::Delete, ..config };
    assert_eq!(due(&[piece(10, 100, 0)], CleanPoint::default(), &deleting, Timestamp(0)), None);
}

#[test]
fn with_a_ratio_of_zero_it_is_time_when_tombstones_may_go() {
    let clean = |horizon| CleanPoint { offset: Offset(10), horizon };
    for (horizon, expected) in [(None, false), (Some(6), false), (Some(5), true), (Some(i64::MIN), true)] {
        let clean = clean(horizon.map(Timestamp));
        let found = due(&[piece(10, 100, 0)], clean, &compacting(), Timestamp(5));
        assert_eq!(found.is_some(), expected, "{horizon:?}");
    }
}

#[test]
fn the_first_young_piece_ends_it_and_clocks_may_jump() {
    let config = TopicConfig { min_compaction_lag_ms: 100, ..compacting() };
    for (times, end) in [
        ([0, 0, 0], Some(30)),
        ([0, 901, 0], Some(10)),
        ([0, 900, 901], Some(20)),
        ([i64::MAX, 0, 0], None),
        ([i64::MIN, 0, i64::MAX], Some(20)),
    ] {
        let pieces: Vec<_> = (1..).zip(times).map(|(number, time)| piece(number * 10, 1, time)).collect();
        let found = due(&pieces, CleanPoint::default(), &config, Timestamp(1000));
        assert_eq!(found.map(|range| range.end.0), end, "{times:?}");
        let all = TopicConfig { min_compaction_lag_ms: 0, ..config.clone() };
        assert_eq!(due(&pieces, CleanPoint::default(), &all, Timestamp(0)), Some(Offset(0)..Offset(30)));
    }
    // What was compacted before the setting was raised is no reason to stop.
    let clean = CleanPoint { offset: Offset(10), horizon: None };
    let found = due(&[piece(10, 1, 950), piece(20, 1, 5)], clean, &config, Timestamp(1000));
    assert_eq!(found, Some(Offset(10)..Offset(20)));
}

/// Key, value; the timestamp is the offset.
type Entry = (Option<u8>, Option<u16>);

fn batch(base: u64, records: &[Entry], compression: Compression) -> RecordBatch {
    let mut builder = BatchBuilder::default();
    for (offset, (key, value)) in (base..).zip(records) {
        let key = key.map(|key| [key]);
        let value = value.map(|value| format!("{value}{}", "-".repeat(50)));
        let time = Timestamp(i64::try_from(offset).unwrap());
        let headers = Headers::new().with("at", offset.to_be_bytes().to_vec());
        builder.push(time, key.as_ref().map(|key| &key[..]), value.as_ref().map(String::as_bytes), &headers);
    }
    builder.finish_compressed(ProducerStamp::NONE, compression).unwrap().at_offset(Offset(base))
}

/// Offset, key, value. Timestamps and headers are checked on the way.
fn records(batches: &[RecordBatch]) -> Vec<(u64, Option<u8>, Option<u16>)> {
    let mut all = Vec::new();
    for batch in batches {
        let mut records = batch.cursor();
        while let Some(record) = records.next().transpose().unwrap() {
            let offset = record.offset.0;
            assert!((batch.base_offset()..batch.next_offset()).contains(&record.offset));
            assert_eq!(record.timestamp.0.cast_unsigned(), offset);
            assert_eq!(record.headers.last(b"at"), Some(&offset.to_be_bytes()[..]));
            let value =
                |value: &[u8]| std::str::from_utf8(value).unwrap().trim_end_matches('-').parse().unwrap();
            all.push((offset, record.key.map(|key| key[0]), record.value.map(value)));
        }
    }
    all
}

fn check_dense(batches: &[RecordBatch], front: u64, end: u64) {
    let mut next = Offset(front);
    for batch in batches {
        assert_eq!(batch.base_offset(), next);
        next = batch.next_offset();
    }
    assert_eq!(next, Offset(end));
}

/// One pass over all of `batches`, with a map of so many bytes; returns what is left, and how far it came.
fn compact(
    batches: &[RecordBatch],
    clean: CleanPoint,
    config: &TopicConfig,
    (now, bytes_max): (i64, usize),
) -> (Vec<RecordBatch>, CleanPoint) {
    let (front, end) = (batches[0].base_offset(), batches.last().unwrap().next_offset());
    let mut keys = KeyMap::new(&(clean.offset..end), bytes_max);
    let dirty = batches.iter().skip_while(|batch| batch.next_offset() <= clean.offset);
    for batch in dirty {
        if !keys.add(batch).unwrap() {
            break;
        }
    }
    let mut compaction = Compaction::new(keys, front, config, Timestamp(now));
    let mut left = Vec::new();
    for batch in batches {
        compaction.push(batch, usize::MAX, &mut left).unwrap();
    }
    compaction.cover(end, &mut left).unwrap();
    check_dense(&left, front.0, end.0);
    (left, compaction.clean_point())
}

#[test]
fn a_full_map_reaches_as_far_as_it_goes() {
    let keys: Vec<Entry> = (0..100).map(|key| (Some(key), Some(0))).collect();
    let mut map = KeyMap::new(&(Offset(0)..Offset(1000)), 0);
    assert_eq!(map.reach(), Offset(0));
    assert!(map.add(&batch(0, &keys[..40], Compression::None)).unwrap());
    assert!(map.add(&batch(40, &keys[..40], Compression::None)).unwrap(), "keys that it has take no room");
    assert!(!map.add(&batch(80, &keys, Compression::None)).unwrap());
    assert_eq!(map.reach(), Offset(80 + 48), "three quarters of 64 slots");
    for (key, last) in [(0, Some(80)), (47, Some(127)), (48, None)] {
        assert_eq!(map.last(&[key]), last.map(Offset), "key {key}");
    }
    // As many records as there are offsets always fit.
    let mut map = KeyMap::new(&(Offset(0)..Offset(256)), usize::MAX);
    let all: Vec<Entry> = (0..=255).map(|key| (Some(key), None)).collect();
    assert!(map.add(&batch(0, &all, Compression::None)).unwrap());
    let wide = KeyMap::new(&(Offset(0)..Offset(u64::MAX)), 1 << 20);
    assert!(wide.slots.len() * SLOT_BYTES <= 1 << 20);
}

#[test]
fn no_key_passes_for_another() {
    let mut map = KeyMap::new(&(Offset(0)..Offset(20_000)), usize::MAX);
    let key = |number: u64| number.to_be_bytes();
    // Lengths and beginnings that are alike.
    let near = [&b""[..], b"\0", b"\0\0", b"\x01", b"\x02", b"\x01\x01", b"a", b"aa", b"a\0"];
    for (offset, key) in (0..).zip(near) {
        assert_eq!(map.last(key), None);
        assert!(map.insert(key, Offset(offset)));
    }
    assert!((0..10_000).all(|number| map.insert(&key(number), Offset(number + 9))));
    assert!((0..10_000).all(|number| map.last(&key(number)) == Some(Offset(number + 9))));
    assert!((0..).zip(near).all(|(offset, key)| map.last(key) == Some(Offset(offset))));
}

#[test]
fn a_pass_that_ends_early_goes_on_from_there() {
    // Twice as many keys as a small map holds, each three times.
    let round: Vec<Entry> = (0..100).map(|key| (Some(key), Some(u16::from(key)))).collect();
    let batches: Vec<_> = (0..30)
        .map(|number| {
            batch(number * 10, &round[usize::try_from(number % 10).unwrap() * 10..][..10], Compression::Lz4)
        })
        .collect();
    let (mut left, mut clean, mut passes) = (batches, CleanPoint::default(), 0);
    while clean.offset < Offset(300) {
        let before = clean.offset;
        (left, clean) = compact(&left, clean, &compacting(), (0, 0));
        assert!(clean.offset > before);
        passes += 1;
    }
    assert!(passes >= 6, "{passes}");
    let offsets: Vec<_> = records(&left).iter().map(|(offset, ..)| *offset).collect();
    assert_eq!(offsets, (200..300).collect::<Vec<_>>());
    assert_eq!(left[0].record_count(), 0);
    assert_eq!((left[0].base_offset(), left[0].next_offset()), (Offset(0), Offset(200)), "one hole");
}

#[test]
fn a_tombstone_that_the_map_does_not_reach_gets_no_time() {
    let keys: Vec<Entry> = (0..48).map(|key| (Some(key), Some(0))).collect();
    let batches = [
        batch(0, &keys, Compression::None),
        batch(48, &[(Some(1), None), (Some(99), None)], Compression::None),
    ];
    let (left, clean) = compact(&batches, CleanPoint::default(), &compacting(), (5, 0));
    assert_eq!((clean.offset, clean.horizon), (Offset(49), None));
    assert_eq!((left.len(), left[1].delete_horizon()), (2, None));
    let config = TopicConfig { delete_retention_ms: 10, ..compacting() };
    let (left, clean) = compact(&left, clean, &config, (6, 0));
    assert_eq!((clean.offset, clean.horizon), (Offset(50), Some(Timestamp(16))));
    assert_eq!(records(&left).len(), 49);
    let (left, clean) = compact(&left, clean, &config, (15, 0));
    assert_eq!(records(&left).len(), 49);
    assert_eq!(clean.horizon, Some(Timestamp(16)));
    let (left, clean) = compact(&left, clean, &config, (16, 0));
    assert_eq!((records(&left).len(), clean.horizon), (47, None));
}

/// Its records are looked at all the same, and its tombstones wait for a time when there is room.
#[test]
fn a_batch_that_would_become_too_large_gets_no_time() {
    let entries: Vec<Entry> = (0..20).map(|key| (Some(key % 19), None)).collect();
    let mut left = vec![batch(0, &entries, Compression::None)];
    let config = TopicConfig { delete_retention_ms: 10, ..compacting() };
    let size = left[0].bytes().len();
    for (room, now, horizon) in [(0, i64::MAX / 2, None), (size, i64::MAX / 2, None), (2 * size, 6, Some(16))]
    {
        let mut keys = KeyMap::new(&(Offset(0)..Offset(20)), usize::MAX);
        assert!(keys.add(&left[0]).unwrap());
        let mut compaction = Compaction::new(keys, Offset(0), &config, Timestamp(now));
        let mut out = Vec::new();
        compaction.push(&left[0], room, &mut out).unwrap();
        assert_eq!(out.iter().map(RecordBatch::record_count).sum::<u32>(), 19, "{room}");
        assert_eq!(out.last().unwrap().delete_horizon(), horizon.map(Timestamp), "{room}");
        assert_eq!(compaction.clean_point().horizon, horizon.map(Timestamp), "{room}");
        left = out.split_off(out.len() - 1);
    }
}

#[test]
fn what_does_not_change_is_not_made_again() {
    let batches = [
        batch(0, &[(Some(1), Some(1)), (None, None)], Compression::Zstd),
        batch(2, &[(Some(2), Some(1))], Compression::None),
    ];
    let mut keys = KeyMap::new(&(Offset(0)..Offset(3)), 0);
    assert!(batches.iter().all(|batch| keys.add(batch).unwrap()));
    // Only the keyless tombstone needs a time.
    let mut compaction = Compaction::new(keys, Offset(0), &compacting(), Timestamp(0));
    let mut left = Vec::new();
    assert!(compaction.push(&batches[0], usize::MAX, &mut left).unwrap());
    assert!(!compaction.push(&batches[1], usize::MAX, &mut left).unwrap());
    assert_eq!(left[1].bytes().as_ptr(), batches[1].bytes().as_ptr());
}

#[derive(Debug, Clone)]
enum Op {
    Write(Vec<Entry>),
    Clean,
    Wait(i64),
}

fn ops(keys: u8) -> impl Strategy<Value = Vec<Op>> {
    let record = (0..keys, prop::option::weighted(0.7, any::<u16>()));
    let record = record.prop_map(|(key, value)| (Some(key), value));
    let op = prop_oneof![
        5 => prop::collection::vec(record, 1..6).prop_map(Op::Write),
        2 => Just(Op::Clean),
        1 => (0i64..8).prop_map(Op::Wait),
    ];
    prop::collection::vec(op, 1..40)
}

/// What is left of a log, the plain way.
#[derive(Default)]
struct Model {
    /// By offset: key, value, when it may go, and the end of its batch.
    left: BTreeMap<u64, (u8, Option<u16>, Option<i64>, u64)>,
    /// Where the newest batch begins, and where all end.
    newest: u64,
    end: u64,
    clean: u64,
}

impl Model {
    fn write(&mut self, records: &[Entry]) {
        self.newest = self.end;
        let end = self.end + records.len() as u64;
        for (offset, (key, value)) in (self.end..).zip(records) {
            self.left.insert(offset, (key.unwrap(), *value, None, end));
        }
        self.end = end;
    }

    fn clean(&mut self, now: i64, retention: i64, lag: i64) {
        // A batch is as young as its newest record, and timestamps are offsets.
        let young = |last: u64| lag > 0 && now - i64::try_from(last).unwrap() < lag;
        let dirty = self.left.range(self.clean..self.newest);
        let young = dirty.filter(|(_, (.., end))| young(end - 1)).map(|(offset, _)| *offset).next();
        let until = young.map_or(self.newest, |first| self.batch_of(first)).max(self.clean);
        let waiting = |horizon: &Option<i64>| horizon.is_some_and(|horizon| horizon <= now);
        let due = self.left.range(..self.clean).any(|(_, (.., horizon, _))| waiting(horizon));
        if until == self.clean && !due {
            return;
        }
        let last: BTreeMap<u8, u64> = self.left.range(..until).map(|(at, (key, ..))| (*key, *at)).collect();
        self.left.retain(|offset, (key, value, horizon, _)| {
            *offset >= until || last[key] == *offset && (value.is_some() || !waiting(horizon))
        });
        for (_, (_, value, horizon, _)) in self.left.range_mut(..until) {
            if value.is_none() {
                horizon.get_or_insert(now + retention);
            }
        }
        self.clean = until;
    }

    fn batch_of(&self, offset: u64) -> u64 {
        let end = self.left[&offset].3;
        self.left.iter().find(|(_, (.., other))| *other == end).map_or(offset, |(first, _)| *first)
    }

    fn records(&self) -> Vec<(u64, Option<u8>, Option<u16>)> {
        self.left.iter().map(|(offset, (key, value, ..))| (*offset, Some(*key), *value)).collect()
    }
}

fn read(log: &MemoryLog, t: &TopicPartition) -> Vec<RecordBatch> {
    block_on(log.read(t, Offset(0), usize::MAX)).unwrap().batches
}

fn live(log: &MemoryLog, ops: &[Op], retention: u64, lag: u64, clock: &ManualClock) {
    let config = TopicConfig { delete_retention_ms: retention, min_compaction_lag_ms: lag, ..compacting() };
    let t = TopicPartition::new(TopicName::new("t").unwrap(), Partition(0));
    block_on(log.create_topic(&TopicSpec { config, ..TopicSpec::new("t", 1).unwrap() })).unwrap();
    let mut producer = block_on(log.producer(&ProducerName("p".into()))).unwrap();
    let mut model = Model::default();
    for op in ops {
        match op {
            Op::Wait(ms) => clock.advance_ms(*ms),
            Op::Write(entries) => {
                let mut builder = BatchBuilder::default();
                let written = batch(model.end, entries, Compression::None);
                let mut records = written.cursor();
                while let Some(record) = records.next().transpose().unwrap() {
                    builder.push(record.timestamp, record.key, record.value, &record.headers.to_owned());
                }
                producer.append(&t, &mut builder).unwrap();
                block_on(producer.commit(None)).unwrap();
                model.write(entries);
            }
            Op::Clean => {
                block_on(log.clean()).unwrap();
                let now = crate::Clock::now(clock).0;
                model.clean(now, retention.cast_signed(), lag.cast_signed());
                let left = read(log, &t);
                check_dense(&left, 0, model.end);
                assert_eq!(records(&left), model.records());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]
    /// Exactly what the rules say is left, at any time.
    #[test]
    fn any_life_agrees_with_the_model(ops in ops(6), retention in 0u64..10, lag in prop_oneof![Just(0), 1u64..10]) {
        let clock = Arc::new(ManualClock::new(Timestamp(0)));
        let log = MemoryLog::with_clock(Arc::<ManualClock>::clone(&clock));
        live(&log, &ops, retention, lag, &clock);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]
    /// Whatever the map holds, each key has the value it had, and what is left is as it was.
    #[test]
    fn a_map_of_any_size_changes_no_value(
        written in prop::collection::vec(prop::collection::vec((prop::option::weighted(0.95, any::<u8>()), prop::option::of(any::<u16>())), 1..60), 1..12),
        compression in prop_oneof![Just(Compression::None), Just(Compression::Lz4), Just(Compression::Zstd)],
        retention in 0u64..3,
    ) {
        let config = TopicConfig { delete_retention_ms: retention, ..compacting() };
        let (mut left, mut clean, mut end, mut all) = (Vec::new(), CleanPoint::default(), 0, BTreeMap::new());
        for (now, entries) in (0..).zip(written) {
            left.push(batch(end, &entries, compression));
            all.extend((end..).zip(entries));
            end = all.len() as u64;
            (left, clean) = compact(&left, clean, &config, (now, 0));
            let records = records(&left);
            prop_assert!(records.is_sorted());
            prop_assert!(records.iter().all(|(offset, key, value)| all[offset] == (*key, *value)));
            prop_assert_eq!(values(records.iter().map(|(_, key, value)| (*key, *value))), values(all.values().copied()));
        }
        // Sooner or later the map has reached everything, and only the last of each key is left.
        for _ in 0..20 {
            (left, clean) = compact(&left, clean, &config, (i64::MAX, 0));
        }
        prop_assert_eq!(clean, CleanPoint { offset: Offset(end), horizon: None });
        let keyed = all.iter().filter_map(|(offset, (key, value))| Some(((*key)?, (*offset, *value))));
        let last: BTreeMap<u8, (u64, Option<u16>)> = keyed.collect();
        let valued = last.into_iter().filter(|(_, (_, value))| value.is_some());
        let mut expected: Vec<_> = valued.map(|(key, (offset, value))| (offset, Some(key), value)).collect();
        expected.sort_unstable();
        let keyed: Vec<_> = records(&left).into_iter().filter(|(_, key, _)| key.is_some()).collect();
        prop_assert_eq!(keyed, expected);
        let keyless = |found: usize, (key, _): &Entry| found + usize::from(key.is_none());
        prop_assert_eq!(records(&left).iter().filter(|(_, key, _)| key.is_none()).count(), all.values().fold(0, keyless));
    }
}

/// The value of each key.
fn values(entries: impl Iterator<Item = Entry>) -> BTreeMap<u8, u16> {
    let mut values = BTreeMap::new();
    for (key, value) in entries {
        match (key, value) {
            (Some(key), Some(value)) => drop(values.insert(key, value)),
            (Some(key), None) => drop(values.remove(&key)),
            (None, _) => {}
        }
    }
    values
}
