//! Old records go when the topic's settings say so, and no others do.

use std::sync::Arc;

use super::{OpenWithClock, block_on, partition, producer};
use crate::{
    Admin, BatchBuilder, ErrorKind, Headers, ManualClock, Offset, Producer, Timestamp, TopicConfig,
    TopicPartition, TopicSpec, ledger::PRODUCER_EXPIRY,
};

pub(super) fn all(open: OpenWithClock<'_>) {
    block_on(records_are_deleted_by_age(open));
    block_on(records_are_deleted_by_size(open));
    block_on(nothing_is_deleted_unless_asked_for(open));
    block_on(a_producer_that_is_held_stays_what_it_is(open));
    block_on(a_producer_that_nobody_holds_is_forgotten(open));
}

/// A batch of one record, which fills a segment of its own.
async fn write(producer: &mut dyn Producer, to: &TopicPartition, key: &str, time: i64) {
    let mut builder = BatchBuilder::default();
    builder.push(Timestamp(time), Some(key.as_bytes()), Some(&[b'v'; 100]), &Headers::new());
    producer.append(to, &mut builder).expect("append");
    producer.commit(None).await.expect("commit");
}

async fn topic(log: &dyn Admin, config: TopicConfig) -> TopicPartition {
    let config = TopicConfig { segment_bytes: 150, ..config };
    let spec = TopicSpec { config, ..TopicSpec::new("t", 1).expect("legal") };
    log.create_topic(&spec).await.expect("create");
    partition("t", 0)
}

async fn records_are_deleted_by_age(open: OpenWithClock<'_>) {
    let clock = Arc::new(ManualClock::new(Timestamp(1_000_000)));
    let log = open(Arc::<ManualClock>::clone(&clock));
    let t = topic(&*log, TopicConfig { retention_ms: Some(1000), ..TopicConfig::default() }).await;
    let mut p = producer(&*log, "p").await;
    for time in [999_500, 999_900, 999_600, 1_000_000] {
        write(&mut *p, &t, "key", time).await;
    }
    let earliest = async |ms| {
        clock.advance_ms(ms);
        log.clean().await.expect("clean");
        log.offsets(&t).await.expect("offsets").earliest.0
    };
    assert_eq!(earliest(0).await, 0, "all are young");
    assert_eq!(earliest(500).await, 0, "the first is as old as it may be");
    assert_eq!(earliest(1).await, 1, "the first is too old");
    assert_eq!(earliest(100).await, 1, "the third is, but the second is not");
    assert_eq!(earliest(300).await, 3);
    assert_eq!(earliest(1000).await, 4, "the newest go too, in the end");
    write(&mut *p, &t, "key", 2_000_000).await;
    assert_eq!(log.offsets(&t).await.expect("offsets").end, Offset(5));
    assert_eq!(earliest(0).await, 4);
}

async fn records_are_deleted_by_size(open: OpenWithClock<'_>) {
    let log = open(Arc::new(ManualClock::default()));
    let t = topic(&*log, TopicConfig { retention_bytes: Some(500), ..TopicConfig::default() }).await;
    let mut p = producer(&*log, "p").await;
    let mut size = 0;
    for round in 0..20u64 {
        write(&mut *p, &t, "key", 0).await;
        log.clean().await.expect("clean");
        let offsets = log.offsets(&t).await.expect("offsets");
        size = log.read(&t, Offset(round), 0).await.expect("the newest is there").batches[0].bytes().len();
        let left = offsets.end.0 - offsets.earliest.0;
        let least = 500u64.div_ceil(size as u64).min(round + 1);
        assert!((least..=least + 1).contains(&left), "round {round}: {left} are left, {least} must be");
    }
    assert!(size > 100);
}

async fn nothing_is_deleted_unless_asked_for(open: OpenWithClock<'_>) {
    let clock = Arc::new(ManualClock::new(Timestamp(0)));
    let log = open(Arc::<ManualClock>::clone(&clock));
    let t = topic(&*log, TopicConfig::default()).await;
    let mut p = producer(&*log, "p").await;
    for key in ["a", "a", "a"] {
        write(&mut *p, &t, key, 0).await;
    }
    clock.advance_ms(i64::MAX / 2);
    log.clean().await.expect("clean");
    assert_eq!(log.offsets(&t).await.expect("offsets").earliest, Offset(0));
    for offset in (0..3).map(Offset) {
        let read = log.read(&t, offset, 0).await.expect("it is still there");
        assert_eq!(read.batches.first().map(crate::RecordBatch::base_offset), Some(offset));
    }
}

/// Lets as much time pass as producers may be idle, and cleans.
async fn idle(log: &dyn Admin, clock: &ManualClock) {
    clock.advance_ms(i64::try_from(PRODUCER_EXPIRY.as_millis()).expect("it is short"));
    log.clean().await.expect("clean");
}

/// Which producer wrote last: the number of its name, and which of that name it was.
async fn writer(log: &dyn Admin, to: &TopicPartition) -> (i64, i16) {
    let end = log.offsets(to).await.expect("offsets").end;
    let last = log.read(to, Offset(end.0 - 1), 0).await.expect("read").batches[0].stamp();
    (last.id, last.epoch)
}

async fn a_producer_that_is_held_stays_what_it_is(open: OpenWithClock<'_>) {
    let clock = Arc::new(ManualClock::default());
    let log = open(Arc::<ManualClock>::clone(&clock));
    let t = topic(&*log, TopicConfig::default()).await;
    let mut held = producer(&*log, "p").await;
    for round in 1..=3 {
        write(&mut *held, &t, "key", 0).await;
        for _ in 0..3 {
            idle(&*log, &clock).await;
        }
        assert_eq!(log.offsets(&t).await.expect("offsets").end, Offset(round), "nothing twice, nothing lost");
        assert_eq!(held.commit(None).await.expect("it is known"), []);
    }
    let first = writer(&*log, &t).await;
    let mut newer = producer(&*log, "p").await;
    assert_eq!(held.commit(None).await.expect_err("there is a newer one").kind(), ErrorKind::Fenced);
    write(&mut *newer, &t, "key", 0).await;
    assert_eq!(writer(&*log, &t).await, (first.0, first.1 + 1), "the next of the same name");
}

async fn a_producer_that_nobody_holds_is_forgotten(open: OpenWithClock<'_>) {
    let clock = Arc::new(ManualClock::default());
    let log = open(Arc::<ManualClock>::clone(&clock));
    let t = topic(&*log, TopicConfig::default()).await;
    let written = async |name| {
        write(&mut *producer(&*log, name).await, &t, "key", 0).await;
        writer(&*log, &t).await
    };
    let (used, unused) = (written("used").await, written("unused").await);
    log.clean().await.expect("clean");
    assert_eq!(written("used").await, (used.0, used.1 + 1));
    assert_eq!(written("unused").await, (unused.0, unused.1 + 1), "both were just there");
    idle(&*log, &clock).await;
    assert_eq!(written("used").await, (used.0, used.1 + 2));
    idle(&*log, &clock).await;
    assert_eq!(written("used").await, (used.0, used.1 + 3), "it was used meanwhile");
    let anew = written("unused").await;
    assert!(anew.0 > used.0.max(unused.0) && anew.1 == 0, "it is new, and its number is: {anew:?}");
}
