//! Topics change and go, records and groups are deleted.

use std::num::NonZeroU32;

use bytes::Bytes;

use super::{OpenAdmin, append, block_on, commit, create, name, partition, producer, values};
use crate::{
    Admin, CleanupPolicy, Committed, ErrorKind, GroupId, LogVersion, Offset, Positions, TopicChanges,
    TopicPartition, TopicSpec,
};

pub(super) fn all(open: OpenAdmin<'_>) {
    block_on(settings_change(open));
    block_on(partitions_are_added(open));
    block_on(a_deleted_topic_is_gone_and_can_be_made_again(open));
    block_on(deleted_records_cannot_be_read(open));
    block_on(a_partition_takes_what_its_batches_take(open));
    block_on(groups_are_listed_and_deleted(open));
    block_on(what_does_not_exist_cannot_be_changed(open));
}

fn changes(partitions: Option<u32>, settings: &[(&str, Option<&str>)]) -> TopicChanges {
    let settings = settings.iter().map(|(key, value)| ((*key).to_owned(), value.map(str::to_owned)));
    TopicChanges { partitions: partitions.and_then(NonZeroU32::new), settings: settings.collect() }
}

async fn settings_change(open: OpenAdmin<'_>) {
    let log = open();
    create(&*log, "t", 1).await;
    let set = changes(None, &[("retention.ms", Some("5000")), ("cleanup.policy", Some("compact"))]);
    let spec = log.alter_topic(&name("t"), &set).await.expect("alter");
    assert_eq!(spec.config.retention_ms, Some(5000));
    assert_eq!(spec.config.cleanup_policy, CleanupPolicy::Compact);
    assert_eq!(log.topics().await.expect("topics"), std::slice::from_ref(&spec));
    let wrong = changes(None, &[("retention.ms", None), ("segment.bytes", Some("many"))]);
    let error = log.alter_topic(&name("t"), &wrong).await.expect_err("not a number");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(log.topics().await.expect("topics"), [spec], "a refused change changes nothing");
    let reset = changes(None, &[("retention.ms", None), ("cleanup.policy", None)]);
    let spec = log.alter_topic(&name("t"), &reset).await.expect("alter");
    assert_eq!(spec, TopicSpec::new("t", 1).expect("legal"));
    // Settings hold for what is appended next.
    log.alter_topic(&name("t"), &changes(None, &[("max.message.bytes", Some("100"))])).await.expect("alter");
    let mut p = producer(&*log, "p").await;
    let error = append(&mut *p, &partition("t", 0), &[&"x".repeat(100)]).expect_err("too large now");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    append(&mut *p, &partition("t", 0), &["x"]).expect("small enough");
    commit(&mut *p).await;
}

async fn partitions_are_added(open: OpenAdmin<'_>) {
    let log = open();
    create(&*log, "t", 1).await;
    let mut p = producer(&*log, "p").await;
    append(&mut *p, &partition("t", 0), &["a"]).expect("append");
    commit(&mut *p).await;
    let seen = log.appended(LogVersion::default()).await.expect("it changed");
    let spec = log.alter_topic(&name("t"), &changes(Some(3), &[])).await.expect("alter");
    assert_eq!(spec.partitions.get(), 3);
    log.appended(seen).await.expect("who waits is woken");
    append(&mut *p, &partition("t", 2), &["b"]).expect("append");
    commit(&mut *p).await;
    assert_eq!(values(&*log, &partition("t", 0)).await, ["a"]);
    assert_eq!(values(&*log, &partition("t", 1)).await, Vec::<String>::new());
    assert_eq!(values(&*log, &partition("t", 2)).await, ["b"]);
    let error = log.alter_topic(&name("t"), &changes(Some(2), &[])).await.expect_err("fewer");
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

async fn position(log: &dyn Admin, group: &str, at: &TopicPartition) {
    let committed = vec![(at.clone(), Committed { offset: Offset(1), metadata: Bytes::new() })];
    log.commit_positions(&Positions::new(GroupId(group.into()), committed)).await.expect("commit");
}

async fn a_deleted_topic_is_gone_and_can_be_made_again(open: OpenAdmin<'_>) {
    let log = open();
    create(&*log, "t", 1).await;
    create(&*log, "u", 1).await;
    let (t, u) = (partition("t", 0), partition("u", 0));
    let mut p = producer(&*log, "p").await;
    for round in 0..3 {
        append(&mut *p, &t, &["a", "b"]).expect("append");
        append(&mut *p, &u, &["c"]).expect("append");
        commit(&mut *p).await;
        position(&*log, "g", &t).await;
        position(&*log, "h", &u).await;
        log.delete_topic(&name("t")).await.expect("delete");
        let gone = log.read(&t, Offset(0), 100).await.expect_err("it is gone");
        assert_eq!(gone.kind(), ErrorKind::Invalid);
        assert_eq!(append(&mut *p, &t, &["x"]).expect_err("it is gone").kind(), ErrorKind::Invalid);
        assert_eq!(log.groups().await.expect("groups"), [GroupId("h".into())], "positions go with it");
        create(&*log, "t", 1).await;
        assert_eq!(values(&*log, &t).await, Vec::<String>::new(), "a new topic is empty");
        assert_eq!(log.committed(&GroupId("g".into()), &t).await.expect("positions can be read"), None);
        assert_eq!(values(&*log, &u).await, vec!["c"; round + 1]);
    }
    append(&mut *p, &t, &["new"]).expect("append");
    commit(&mut *p).await;
    assert_eq!(values(&*log, &t).await, ["new"]);
}

async fn deleted_records_cannot_be_read(open: OpenAdmin<'_>) {
    let log = open();
    create(&*log, "t", 1).await;
    let t = partition("t", 0);
    let mut p = producer(&*log, "p").await;
    for batch in [["0", "1"], ["2", "3"], ["4", "5"]] {
        append(&mut *p, &t, &batch).expect("append");
        commit(&mut *p).await;
    }
    for (before, earliest) in [(0, 0), (3, 3), (1, 3), (4, 4), (6, 6)] {
        assert_eq!(log.delete_records(&t, Offset(before)).await.expect("delete"), Offset(earliest));
        let offsets = log.offsets(&t).await.expect("offsets");
        assert_eq!((offsets.earliest, offsets.end), (Offset(earliest), Offset(6)));
        if let Some(deleted) = earliest.checked_sub(1) {
            let error = log.read(&t, Offset(deleted), 100).await.expect_err("deleted");
            assert_eq!(error.kind(), ErrorKind::Invalid);
        }
        let fetched = log.read(&t, Offset(earliest), 1000).await.expect("what is left");
        let left: Vec<u64> = fetched
            .batches
            .iter()
            .flat_map(|batch| batch.base_offset().0..batch.next_offset().0)
            .filter(|offset| *offset >= earliest)
            .collect();
        assert_eq!(left, (earliest..6).collect::<Vec<_>>());
        let found = log.offset_at(&t, crate::Timestamp(0)).await.expect("by time");
        assert_eq!(found.map(|found| found.offset), (earliest < 6).then_some(Offset(earliest)));
    }
    let error = log.delete_records(&t, Offset(7)).await.expect_err("behind the end");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    append(&mut *p, &t, &["6"]).expect("append");
    commit(&mut *p).await;
    assert_eq!(log.offsets(&t).await.expect("offsets").end, Offset(7), "offsets are never used again");
}

/// What the batches of a partition take, read one by one.
async fn bytes_read(log: &dyn Admin, from: &TopicPartition) -> u64 {
    let (mut next, mut bytes) = (log.offsets(from).await.expect("offsets").earliest, 0);
    while let Some(batch) = log.read(from, next, 0).await.expect("read").batches.first() {
        bytes += batch.bytes().len() as u64;
        next = batch.next_offset();
    }
    bytes
}

async fn a_partition_takes_what_its_batches_take(open: OpenAdmin<'_>) {
    let log = open();
    create(&*log, "t", 2).await;
    let (t, other) = (partition("t", 0), partition("t", 1));
    let mut p = producer(&*log, "p").await;
    let mut before = log.size(&t).await.expect("size");
    assert_eq!(before, 0);
    for round in 0..40 {
        append(&mut *p, &t, &[&"x".repeat(round), "y"]).expect("append");
        append(&mut *p, &t, &["z"]).expect("append");
        commit(&mut *p).await;
        let size = log.size(&t).await.expect("size");
        assert!(size > before, "round {round}");
        assert_eq!(size, bytes_read(&*log, &t).await, "round {round}");
        before = size;
    }
    assert_eq!(log.size(&other).await.expect("size"), 0);
    let end = log.offsets(&t).await.expect("offsets").end;
    log.delete_records(&t, end).await.expect("delete");
    assert_eq!(log.size(&t).await.expect("size"), 0, "nothing is left");
    append(&mut *p, &t, &["z"]).expect("append");
    commit(&mut *p).await;
    assert_eq!(log.size(&t).await.expect("size"), bytes_read(&*log, &t).await);
    let error = log.size(&partition("t", 2)).await.expect_err("no such partition");
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

async fn groups_are_listed_and_deleted(open: OpenAdmin<'_>) {
    let log = open();
    create(&*log, "t", 2).await;
    assert!(log.groups().await.expect("groups").is_empty());
    for (group, number) in [("b", 1), ("a", 0), ("b", 0)] {
        position(&*log, group, &partition("t", number)).await;
    }
    let (a, b) = (GroupId("a".into()), GroupId("b".into()));
    assert_eq!(log.groups().await.expect("groups"), [a.clone(), b.clone()], "by name");
    let positions = log.positions(&b).await.expect("positions");
    let partitions: Vec<_> = positions.iter().map(|(partition, _)| partition.clone()).collect();
    assert_eq!(partitions, [partition("t", 0), partition("t", 1)], "by partition");
    log.delete_group(&b).await.expect("delete");
    assert_eq!(log.groups().await.expect("groups"), [a]);
    assert!(log.positions(&b).await.expect("no such group").is_empty());
    assert_eq!(log.delete_group(&b).await.expect_err("it is gone").kind(), ErrorKind::Invalid);
}

async fn what_does_not_exist_cannot_be_changed(open: OpenAdmin<'_>) {
    let log = open();
    create(&*log, "t", 1).await;
    let errors = [
        log.alter_topic(&name("u"), &changes(None, &[])).await.map(drop),
        log.delete_topic(&name("u")).await,
        log.delete_records(&partition("t", 1), Offset(0)).await.map(drop),
        log.delete_group(&GroupId("g".into())).await,
    ];
    for error in errors {
        assert_eq!(error.expect_err("it does not exist").kind(), ErrorKind::Invalid);
    }
}
