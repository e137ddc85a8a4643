//! Commits are all or nothing, once, and only of the newest producer.

use std::{
    pin::pin,
    task::{Context, Waker},
};

use bytes::Bytes;

use super::{Open, append, block_on, commit, create, partition, producer, values};
use crate::{
    BatchBuilder, Committed, ErrorKind, GroupId, Headers, Log, Offset, Positions, Timestamp, TopicPartition,
    Written,
};

pub(super) fn all(open: Open<'_>) {
    block_on(nothing_is_visible_before_the_commit(open));
    block_on(a_commit_covers_partitions_and_positions(open));
    block_on(abort_forgets(open));
    block_on(positions_are_kept_per_group(open));
    block_on(what_is_refused_leaves_nothing(open));
    block_on(a_newer_producer_fences(open));
    block_on(a_commit_dropped_half_way_is_written_at_most_once(open));
    block_on(many_batches_in_one_commit(open));
}

fn positions(group: &str, committed: &[(&TopicPartition, u64, &'static str)]) -> Positions {
    let committed = committed.iter().map(|(partition, offset, metadata)| {
        let committed =
            Committed { offset: Offset(*offset), metadata: Bytes::from_static(metadata.as_bytes()) };
        ((*partition).clone(), committed)
    });
    Positions::new(GroupId(group.into()), committed.collect())
}

async fn position(log: &dyn Log, group: &str, partition: &TopicPartition) -> Option<(u64, Bytes)> {
    let committed = log.committed(&GroupId(group.into()), partition).await.expect("positions can be read");
    committed.map(|committed| (committed.offset.0, committed.metadata))
}

async fn nothing_is_visible_before_the_commit(open: Open<'_>) {
    let log = open();
    create(&*log, "t", 1).await;
    let t = partition("t", 0);
    let mut p = producer(&*log, "p").await;
    append(&mut *p, &t, &["a", "b"]).expect("append");
    assert_eq!(log.offsets(&t).await.expect("offsets").end, Offset(0));
    assert!(log.read(&t, Offset(0), 1000).await.expect("read").batches.is_empty());
    let written = p.commit(None).await.expect("commit");
    assert_eq!(written, [Written { partition: t.clone(), base: Offset(0), next: Offset(2) }]);
    assert_eq!(values(&*log, &t).await, ["a", "b"]);
    assert_eq!(p.commit(None).await.expect("an empty commit"), []);
    drop(p);
    assert_eq!(values(&*log, &t).await, ["a", "b"]);
}

async fn a_commit_covers_partitions_and_positions(open: Open<'_>) {
    let log = open();
    create(&*log, "in", 1).await;
    create(&*log, "out", 3).await;
    let (input, outs) = (partition("in", 0), [partition("out", 0), partition("out", 1), partition("out", 2)]);
    let mut p = producer(&*log, "p").await;
    append(&mut *p, &outs[2], &["c"]).expect("append");
    append(&mut *p, &outs[0], &["a"]).expect("append");
    append(&mut *p, &outs[2], &["d", "e"]).expect("append");
    let mut written = p.commit(Some(&positions("g", &[(&input, 7, "lanes")]))).await.expect("commit");
    written.sort_by(|a, b| a.partition.cmp(&b.partition));
    let expected = [
        Written { partition: outs[0].clone(), base: Offset(0), next: Offset(1) },
        Written { partition: outs[2].clone(), base: Offset(0), next: Offset(3) },
    ];
    assert_eq!(written, expected);
    assert_eq!(values(&*log, &outs[0]).await, ["a"]);
    assert!(values(&*log, &outs[1]).await.is_empty());
    assert_eq!(values(&*log, &outs[2]).await, ["c", "d", "e"]);
    assert_eq!(position(&*log, "g", &input).await, Some((7, Bytes::from_static(b"lanes"))));
}

async fn abort_forgets(open: Open<'_>) {
    let log = open();
    create(&*log, "t", 1).await;
    let t = partition("t", 0);
    let mut p = producer(&*log, "p").await;
    append(&mut *p, &t, &["a"]).expect("append");
    commit(&mut *p).await;
    append(&mut *p, &t, &["lost", "lost"]).expect("append");
    append(&mut *p, &t, &["lost"]).expect("append");
    p.abort();
    assert_eq!(p.commit(None).await.expect("nothing is left"), []);
    append(&mut *p, &t, &["b"]).expect("append");
    commit(&mut *p).await;
    assert_eq!(values(&*log, &t).await, ["a", "b"]);
}

async fn positions_are_kept_per_group(open: Open<'_>) {
    let log = open();
    create(&*log, "t", 2).await;
    let (t0, t1) = (partition("t", 0), partition("t", 1));
    let mut p = producer(&*log, "p").await;
    p.commit(Some(&positions("g", &[(&t0, 1, "x"), (&t1, 2, "")]))).await.expect("commit");
    p.commit(Some(&positions("h", &[(&t0, 3, "y")]))).await.expect("commit");
    p.commit(Some(&positions("g", &[(&t0, 4, "z")]))).await.expect("commit");
    assert_eq!(position(&*log, "g", &t0).await, Some((4, Bytes::from_static(b"z"))));
    assert_eq!(position(&*log, "g", &t1).await, Some((2, Bytes::new())));
    assert_eq!(position(&*log, "h", &t0).await, Some((3, Bytes::from_static(b"y"))));
    assert_eq!(position(&*log, "h", &t1).await, None);
}

async fn what_is_refused_leaves_nothing(open: Open<'_>) {
    let log = open();
    create(&*log, "t", 1).await;
    let t = partition("t", 0);
    let mut p = producer(&*log, "p").await;
    append(&mut *p, &t, &["a"]).expect("append");
    let error = append(&mut *p, &partition("t", 1), &["x"]).expect_err("no such partition");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let mut large = BatchBuilder::default();
    large.push(Timestamp(0), None, Some(&vec![0; 4 << 20]), &Headers::new());
    let error = p.append(&t, &mut large).expect_err("too large");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(large.is_empty(), "the builder can be filled again");
    let error =
        p.commit(Some(&positions("g", &[(&partition("u", 0), 1, "")]))).await.expect_err("no such partition");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(values(&*log, &t).await.is_empty(), "a refused commit writes nothing");
    commit(&mut *p).await;
    assert_eq!(values(&*log, &t).await, ["a"], "what was refused does not spoil the rest");
}

async fn a_newer_producer_fences(open: Open<'_>) {
    let log = open();
    create(&*log, "t", 1).await;
    let t = partition("t", 0);
    let mut old = producer(&*log, "p").await;
    append(&mut *old, &t, &["a"]).expect("append");
    commit(&mut *old).await;
    append(&mut *old, &t, &["zombie"]).expect("append");
    let mut new = producer(&*log, "p").await;
    let mut other = producer(&*log, "q").await;
    let error = old.commit(Some(&positions("g", &[(&t, 9, "")]))).await.expect_err("fenced");
    assert_eq!(error.kind(), ErrorKind::Fenced, "{error:?}");
    append(&mut *new, &t, &["b"]).expect("append");
    commit(&mut *new).await;
    append(&mut *other, &t, &["c"]).expect("append");
    commit(&mut *other).await;
    let _ = append(&mut *old, &t, &["zombie"]);
    let error = old.commit(None).await.expect_err("fenced for ever");
    assert_eq!(error.kind(), ErrorKind::Fenced, "{error:?}");
    assert_eq!(values(&*log, &t).await, ["a", "b", "c"]);
    assert_eq!(position(&*log, "g", &t).await, None);
}

/// Whoever drops a commit half way does not know what came of it, and commits again.
async fn a_commit_dropped_half_way_is_written_at_most_once(open: Open<'_>) {
    let log = open();
    create(&*log, "t", 1).await;
    let t = partition("t", 0);
    let mut p = producer(&*log, "p").await;
    let mut expected = Vec::new();
    for round in 0..20 {
        let (value, at) = (round.to_string(), positions("g", &[(&t, round + 1, "")]));
        append(&mut *p, &t, &[&value, &value]).expect("append");
        {
            let mut context = Context::from_waker(Waker::noop());
            let _ = pin!(p.commit(Some(&at))).as_mut().poll(&mut context);
        }
        p.commit(Some(&at)).await.expect("the second settles the first");
        expected.extend([value.clone(), value]);
        assert_eq!(values(&*log, &t).await, expected);
        assert_eq!(position(&*log, "g", &t).await, Some((round + 1, Bytes::new())));
    }
}

async fn many_batches_in_one_commit(open: Open<'_>) {
    let log = open();
    create(&*log, "t", 2).await;
    let mut p = producer(&*log, "p").await;
    for round in 0..3 {
        for batch in 0..50 {
            append(&mut *p, &partition("t", batch % 2), &[&format!("{}", round * 50 + batch)])
                .expect("append");
        }
        commit(&mut *p).await;
    }
    for number in 0..2 {
        let expected: Vec<_> =
            (0..150).filter(|value| value % 2 == number).map(|value| value.to_string()).collect();
        assert_eq!(values(&*log, &partition("t", number)).await, expected);
    }
}
