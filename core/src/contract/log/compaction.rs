//! The last record of each key is kept, and tombstones for a while.

use std::sync::Arc;

use bytes::Bytes;

use super::{OpenWithClock, block_on, partition, producer};
use crate::{
    Admin, BatchBuilder, CleanupPolicy, Committed, ErrorKind, GroupId, Headers, ManualClock, Offset,
    Positions, Producer, Timestamp, TopicConfig, TopicPartition, TopicSpec,
};

pub(super) fn all(open: OpenWithClock<'_>) {
    block_on(the_last_record_of_each_key_is_kept_as_it_was(open));
    block_on(holes_are_read_over(open));
    block_on(tombstones_are_kept_for_a_while(open));
    block_on(young_records_are_left_alone(open));
    block_on(compaction_waits_until_enough_was_written(open));
    block_on(records_without_a_key_are_refused(open));
    block_on(the_last_records_can_be_deleted_by_age_too(open));
    block_on(nothing_is_compacted_unless_asked_for(open));
}

/// Key, value, timestamp.
type Entry = (&'static str, Option<&'static str>, i64);

/// A batch, which fills a segment of its own.
async fn write(producer: &mut dyn Producer, to: &TopicPartition, records: &[Entry]) {
    let mut builder = BatchBuilder::default();
    for (key, value, time) in records {
        let headers = Headers::new().with("of", key.as_bytes());
        builder.push(Timestamp(*time), Some(key.as_bytes()), value.map(str::as_bytes), &headers);
    }
    producer.append(to, &mut builder).expect("append");
    producer.commit(None).await.expect("commit");
}

/// What the tests write, unless they say something else: the newest batch is not compacted.
const BATCHES: [&[Entry]; 5] = [
    &[("a", Some("a0"), 10), ("b", Some("b1"), 50), ("a", Some("a2"), 20)],
    &[("c", Some("c3"), 30)],
    &[("b", Some("b4"), 40), ("a", Some("a5"), 15)],
    &[("c", Some("c6"), 25), ("d", Some("d7"), 60)],
    &[("d", Some("d8"), 5), ("e", Some("e9"), 70)],
];
const LEFT: [(u64, Entry); 6] = [
    (4, ("b", Some("b4"), 40)),
    (5, ("a", Some("a5"), 15)),
    (6, ("c", Some("c6"), 25)),
    (7, ("d", Some("d7"), 60)),
    (8, ("d", Some("d8"), 5)),
    (9, ("e", Some("e9"), 70)),
];

async fn topic(log: &dyn Admin, config: TopicConfig) -> TopicPartition {
    let config = TopicConfig { segment_bytes: 14, ..config };
    let spec = TopicSpec { config, ..TopicSpec::new("t", 1).expect("legal") };
    log.create_topic(&spec).await.expect("create");
    partition("t", 0)
}

/// Compacts whenever there is something to do.
fn compacting() -> TopicConfig {
    TopicConfig {
        cleanup_policy: CleanupPolicy::Compact,
        min_cleanable_dirty_ratio: 0.0,
        ..TopicConfig::default()
    }
}

/// Checks that `expected` is all that can be read from `from` on, and how.
async fn check(log: &dyn Admin, t: &TopicPartition, from: Offset, expected: &[(u64, Entry)]) {
    let mut expected = expected.iter().filter(|(offset, _)| *offset >= from.0);
    let (mut next, mut first) = (from, true);
    loop {
        let fetched = log.read(t, next, 0).await.expect("it can be read");
        let Some(batch) = fetched.batches.first() else { break };
        assert!(batch.base_offset() == next || first && batch.base_offset() < next, "offsets are dense");
        assert!(batch.next_offset() > next);
        let mut records = batch.cursor();
        while let Some(record) = records.next().transpose().expect("records can be read") {
            if record.offset < from {
                continue;
            }
            let (offset, (key, value, time)) = expected.next().expect("no record too many");
            assert_eq!((record.offset, record.timestamp), (Offset(*offset), Timestamp(*time)));
            let bytes = (Some(key.as_bytes()), value.map(str::as_bytes));
            assert_eq!((record.key, record.value), bytes);
            assert_eq!(record.headers.last(b"of"), Some(key.as_bytes()));
        }
        (next, first) = (batch.next_offset(), false);
    }
    assert_eq!(expected.next(), None, "a record is missing");
    assert_eq!(next, log.offsets(t).await.expect("offsets").end, "an empty read means the end");
}

async fn the_last_record_of_each_key_is_kept_as_it_was(open: OpenWithClock<'_>) {
    let log = open(Arc::new(ManualClock::default()));
    let t = topic(&*log, compacting()).await;
    let mut p = producer(&*log, "p").await;
    for batch in BATCHES {
        write(&mut *p, &t, batch).await;
    }
    let group = GroupId("g".into());
    let committed = Committed { offset: Offset(1), metadata: Bytes::from_static(b"m") };
    let positions = Positions::new(group.clone(), vec![(t.clone(), committed.clone())]);
    log.commit_positions(&positions).await.expect("commit");
    let before = log.offsets(&t).await.expect("offsets");
    let cleaned = log.clean().await.expect("clean");
    assert!(cleaned.compacted_bytes > cleaned.kept_bytes && cleaned.kept_bytes > 0, "{cleaned:?}");
    assert_eq!(cleaned.deleted_bytes, 0);
    check(&*log, &t, Offset(0), &LEFT).await;
    assert_eq!(log.offsets(&t).await.expect("offsets"), before);
    assert_eq!(log.committed(&group, &t).await.expect("positions"), Some(committed));
    // What was the newest batch goes with the next one.
    write(&mut *p, &t, &[("e", Some("e10"), 1)]).await;
    log.clean().await.expect("clean");
    let mut left = LEFT.to_vec();
    left.retain(|(offset, _)| *offset != 7);
    left.push((10, ("e", Some("e10"), 1)));
    check(&*log, &t, Offset(0), &left).await;
    // A producer goes on where it was, and nothing is written twice.
    drop(p);
    let mut again = producer(&*log, "p").await;
    write(&mut *again, &t, &[("f", None, 1)]).await;
    left.push((11, ("f", None, 1)));
    check(&*log, &t, Offset(0), &left).await;
}

async fn holes_are_read_over(open: OpenWithClock<'_>) {
    let log = open(Arc::new(ManualClock::default()));
    let t = topic(&*log, compacting()).await;
    let mut p = producer(&*log, "p").await;
    for batch in BATCHES {
        write(&mut *p, &t, batch).await;
    }
    log.clean().await.expect("clean");
    for from in 0..=10 {
        check(&*log, &t, Offset(from), &LEFT).await;
    }
    for time in 0..=71 {
        let found = log.offset_at(&t, Timestamp(time)).await.expect("by time");
        let expected = LEFT.iter().find(|(_, (.., at))| *at >= time);
        let expected = expected.map(|(offset, (.., at))| (Offset(*offset), Timestamp(*at)));
        assert_eq!(found.map(|found| (found.offset, found.timestamp)), expected, "time {time}");
    }
    // A hole can become the earliest offset.
    assert_eq!(log.delete_records(&t, Offset(2)).await.expect("delete"), Offset(2));
    check(&*log, &t, Offset(2), &LEFT).await;
    log.clean().await.expect("clean");
    check(&*log, &t, Offset(2), &LEFT).await;
}

async fn tombstones_are_kept_for_a_while(open: OpenWithClock<'_>) {
    let clock = Arc::new(ManualClock::new(Timestamp(1_000_000)));
    let log = open(Arc::<ManualClock>::clone(&clock));
    let t = topic(&*log, TopicConfig { delete_retention_ms: 1000, ..compacting() }).await;
    let mut p = producer(&*log, "p").await;
    let (a, b, z) = (("a", None, 20), ("b", Some("b3"), 7), ("z", Some("z"), 0));
    for batch in [&[("a", Some("a0"), 10), ("b", Some("b1"), 11)][..], &[a, b], &[z]] {
        write(&mut *p, &t, batch).await;
    }
    // It is not the age of the tombstone that counts, but when somebody could first have missed what it deletes.
    clock.advance_ms(1_000_000);
    for (ms, tombstone) in [(0, true), (0, true), (999, true), (1, false), (0, false)] {
        clock.advance_ms(ms);
        log.clean().await.expect("clean");
        let left = [(2, a), (3, b), (4, z)];
        check(&*log, &t, Offset(0), if tombstone { &left } else { &left[1..] }).await;
    }
    // The next one has its own time, and a value that comes after it stays.
    for batch in [&[("b", None, 0)], &[("a", Some("a6"), 0)], &[z]] {
        write(&mut *p, &t, batch).await;
    }
    for (ms, tombstone) in [(0, true), (999, true), (1, false)] {
        clock.advance_ms(ms);
        log.clean().await.expect("clean");
        let left = [(5, ("b", None, 0)), (6, ("a", Some("a6"), 0)), (7, z)];
        let left = if tombstone { &left } else { &left[1..] };
        // The newest `z` is in the active segment when it is the first to come.
        let left: Vec<_> = [(4, z)].iter().chain(left).copied().collect();
        check(&*log, &t, Offset(0), &left).await;
    }
}

async fn young_records_are_left_alone(open: OpenWithClock<'_>) {
    let clock = Arc::new(ManualClock::new(Timestamp(1000)));
    let log = open(Arc::<ManualClock>::clone(&clock));
    let t = topic(&*log, TopicConfig { min_compaction_lag_ms: 100, ..compacting() }).await;
    let mut p = producer(&*log, "p").await;
    let records: [Entry; 6] = [
        ("a", Some("0"), 800),
        ("a", Some("1"), 890),
        ("a", Some("2"), 950),
        ("a", Some("3"), 10),
        ("a", Some("4"), 990),
        ("a", Some("5"), 990),
    ];
    for record in records {
        write(&mut *p, &t, &[record]).await;
    }
    // Behind the first that is too young, even an old one stays.
    for (ms, first) in [(0, 1), (49, 1), (1, 3), (39, 3), (1, 4), (10_000, 4)] {
        clock.advance_ms(ms);
        log.clean().await.expect("clean");
        let left: Vec<_> = (0..).zip(records).skip(first).collect();
        check(&*log, &t, Offset(0), &left).await;
    }
}

async fn compaction_waits_until_enough_was_written(open: OpenWithClock<'_>) {
    let log = open(Arc::new(ManualClock::default()));
    let t = topic(&*log, TopicConfig { min_cleanable_dirty_ratio: 0.5, ..compacting() }).await;
    let mut p = producer(&*log, "p").await;
    // Of different keys, so that they stay.
    let keys = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
    for key in keys {
        write(&mut *p, &t, &[(key, Some("0"), 0)]).await;
    }
    assert!(log.clean().await.expect("clean").compacted_bytes > 0, "nothing of it was compacted before");
    for more in 0..30 {
        write(&mut *p, &t, &[("a", Some("1"), 0)]).await;
        let compacted = log.clean().await.expect("clean").compacted_bytes > 0;
        // Nine batches were compacted, and the newest cannot be. Nine more are half of all, and not more than that.
        assert_eq!(compacted, more == 9, "{more}");
        if compacted {
            return;
        }
    }
}

async fn records_without_a_key_are_refused(open: OpenWithClock<'_>) {
    let log = open(Arc::new(ManualClock::default()));
    let t = topic(&*log, compacting()).await;
    let mut p = producer(&*log, "p").await;
    let mut builder = BatchBuilder::default();
    for key in [Some(&b"a"[..]), None, Some(b"b")] {
        builder.push(Timestamp(0), key, Some(b"v"), &Headers::new());
    }
    assert_eq!(p.append(&t, &mut builder).expect_err("no key").kind(), ErrorKind::Invalid);
    assert!(builder.is_empty(), "nothing of it is kept");
    write(&mut *p, &t, &[("a", Some("0"), 0)]).await;
    check(&*log, &t, Offset(0), &[(0, ("a", Some("0"), 0))]).await;
    // One that was taken back is no reason to refuse the others.
    let mark = builder.mark();
    builder.push(Timestamp(0), None, Some(b"v"), &Headers::new());
    builder.rewind(mark);
    builder.push(Timestamp(0), Some(b""), Some(b"v"), &Headers::new());
    p.append(&t, &mut builder).expect("an empty key is a key");
}

async fn the_last_records_can_be_deleted_by_age_too(open: OpenWithClock<'_>) {
    let clock = Arc::new(ManualClock::new(Timestamp(1000)));
    let log = open(Arc::<ManualClock>::clone(&clock));
    let config =
        TopicConfig { cleanup_policy: CleanupPolicy::CompactDelete, retention_ms: Some(500), ..compacting() };
    let t = topic(&*log, config).await;
    let mut p = producer(&*log, "p").await;
    let records: [Entry; 4] =
        [("a", Some("0"), 600), ("b", Some("1"), 700), ("b", Some("2"), 800), ("c", Some("3"), 900)];
    for record in records {
        write(&mut *p, &t, &[record]).await;
    }
    for (ms, earliest, left) in [(0, 0, &[0, 2, 3][..]), (101, 1, &[2, 3]), (200, 3, &[3]), (100, 4, &[])] {
        clock.advance_ms(ms);
        log.clean().await.expect("clean");
        // What holds no record goes with what comes next: a reader may stand there.
        let found = log.offsets(&t).await.expect("offsets").earliest;
        assert_eq!(found, Offset(earliest));
        let left: Vec<_> = left.iter().map(|index| (*index as u64, records[*index])).collect();
        check(&*log, &t, found, &left).await;
    }
}

async fn nothing_is_compacted_unless_asked_for(open: OpenWithClock<'_>) {
    let log = open(Arc::new(ManualClock::default()));
    let t = topic(&*log, TopicConfig { cleanup_policy: CleanupPolicy::Delete, ..compacting() }).await;
    let mut p = producer(&*log, "p").await;
    for batch in BATCHES {
        write(&mut *p, &t, batch).await;
    }
    assert_eq!(log.clean().await.expect("clean").compacted_bytes, 0);
    let all: Vec<_> = (0..).zip(BATCHES.into_iter().flatten().copied()).collect();
    check(&*log, &t, Offset(0), &all).await;
}
