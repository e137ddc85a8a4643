//! Groups: who has which partition, and who may commit in it.

use std::{
    pin::pin,
    task::{Context, Poll, Waker},
};

use super::{Open, append, block_on, create, partition, producer};
use crate::{
    Assignor, Committed, Error, ErrorKind, GroupEvent, GroupId, Log, Member, Offset, Positions, Result,
    Subscription, TopicPartition, Topics,
};

pub(super) fn all(open: Open<'_>) {
    block_on(partitions_move_when_they_are_released(open));
    block_on(whoever_lost_a_partition_commits_nothing_in_it(open));
    block_on(the_next_owner_reads_what_the_last_one_committed(open));
    block_on(new_partitions_are_shared_out(open));
    block_on(whoever_leaves_is_told_so(open));
    block_on(members_must_agree(open));
}

fn group() -> GroupId {
    GroupId("readers".into())
}

async fn join(log: &dyn Log) -> Box<dyn Member> {
    try_join(log, Assignor::Sticky).await.expect("join")
}

async fn try_join(log: &dyn Log, assignor: Assignor) -> Result<Box<dyn Member>> {
    log.join(&group(), &Subscription { topics: Topics::Prefix("t".into()), assignor }).await
}

/// What the member is told now, if anything.
fn now(member: &dyn Member) -> Option<GroupEvent> {
    match pin!(member.next()).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(event) => Some(event.expect("an event")),
        Poll::Pending => None,
    }
}

async fn assigned(member: &dyn Member) -> Vec<TopicPartition> {
    match member.next().await.expect("an event") {
        GroupEvent::Assigned(partitions) => partitions,
        other => panic!("not assigned but {other:?}"),
    }
}

fn positions(member: &dyn Member, partition: &TopicPartition, offset: u64) -> Positions {
    let at = Committed { offset: Offset(offset), metadata: bytes::Bytes::new() };
    let positions = Positions::new(group(), vec![(partition.clone(), at)]);
    Positions { member: Some(member.membership()), ..positions }
}

async fn position(log: &dyn Log, partition: &TopicPartition) -> Option<u64> {
    log.committed(&group(), partition).await.expect("committed").map(|at| at.offset.0)
}

fn assert_fenced<T>(result: Result<T, Error>) {
    assert_eq!(result.err().map(|error| error.kind()), Some(ErrorKind::Fenced));
}

async fn partitions_move_when_they_are_released(open: Open<'_>) {
    let log = open();
    create(&*log, "t", 2).await;
    let (t0, t1) = (partition("t", 0), partition("t", 1));
    let first = join(&*log).await;
    assert_eq!(assigned(&*first).await, [t0.clone(), t1.clone()]);
    let second = join(&*log).await;
    assert_eq!(now(&*second), None);
    assert_eq!(first.next().await.expect("an event"), GroupEvent::Revoked(vec![t1.clone()]));
    assert_eq!(now(&*second), None);
    first.release(std::slice::from_ref(&t1)).await.expect("release");
    assert_eq!(assigned(&*second).await, [t1]);
    drop(first);
    assert_eq!(assigned(&*second).await, [t0]);
}

async fn whoever_lost_a_partition_commits_nothing_in_it(open: Open<'_>) {
    let log = open();
    create(&*log, "t", 1).await;
    let t = partition("t", 0);
    let zombie = join(&*log).await;
    assigned(&*zombie).await;
    log.commit_positions(&positions(&*zombie, &t, 3)).await.expect("it is the owner");
    zombie.leave();
    let owner = join(&*log).await;
    // Until it was told that it has the partition, it has not.
    assert_fenced(log.commit_positions(&positions(&*owner, &t, 4)).await);
    assigned(&*owner).await;
    assert_fenced(log.commit_positions(&positions(&*zombie, &t, 9)).await);
    let mut p = producer(&*log, "p").await;
    append(&mut *p, &t, &["lost"]).expect("append");
    assert_fenced(p.commit(Some(&positions(&*zombie, &t, 9))).await);
    assert_eq!(
        (position(&*log, &t).await, log.offsets(&t).await.expect("offsets").end),
        (Some(3), Offset(0))
    );
    // Only that commit was refused.
    append(&mut *p, &t, &["kept"]).expect("append");
    p.commit(Some(&positions(&*owner, &t, 4))).await.expect("it is the owner");
    assert_eq!(
        (position(&*log, &t).await, log.offsets(&t).await.expect("offsets").end),
        (Some(4), Offset(1))
    );
    log.commit_positions(&Positions { member: None, ..positions(&*owner, &t, 0) }).await.expect("no member");
}

async fn the_next_owner_reads_what_the_last_one_committed(open: Open<'_>) {
    let log = open();
    create(&*log, "t", 1).await;
    let t = partition("t", 0);
    let mut member = join(&*log).await;
    assigned(&*member).await;
    for offset in 1..20 {
        let positions = positions(&*member, &t, offset);
        let mut commit = pin!(log.commit_positions(&positions));
        let early = commit.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        // It leaves while its commit is on its way: the commit comes before the next owner, or is refused.
        member.leave();
        let next = join(&*log).await;
        assigned(&*next).await;
        let seen = position(&*log, &t).await;
        let committed = match early {
            Poll::Ready(committed) => committed,
            Poll::Pending => commit.await,
        };
        assert_eq!(seen == Some(offset), committed.is_ok());
        assert_eq!(position(&*log, &t).await, seen);
        member = next;
    }
}

async fn new_partitions_are_shared_out(open: Open<'_>) {
    let log = open();
    create(&*log, "other", 1).await;
    let member = join(&*log).await;
    assert_eq!(now(&*member), None);
    create(&*log, "t", 1).await;
    assert_eq!(assigned(&*member).await, [partition("t", 0)]);
    create(&*log, "t2", 1).await;
    assert_eq!(assigned(&*member).await, [partition("t2", 0)]);
}

async fn whoever_leaves_is_told_so(open: Open<'_>) {
    let log = open();
    create(&*log, "t", 1).await;
    let member = join(&*log).await;
    assigned(&*member).await;
    member.leave();
    assert_eq!(now(&*member), Some(GroupEvent::Evicted));
    assert_eq!(now(&*member), Some(GroupEvent::Evicted));
    let subscription = Subscription { topics: Topics::Prefix(String::new()), assignor: Assignor::Sticky };
    assert_fenced(member.subscribe(&subscription).await);
    let other = join(&*log).await;
    assert_ne!(other.membership().member, member.membership().member);
}

async fn members_must_agree(open: Open<'_>) {
    let log = open();
    create(&*log, "t", 4).await;
    let range = try_join(&*log, Assignor::Range).await.expect("join");
    let error = try_join(&*log, Assignor::Sticky).await.err().expect("another assignor");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(assigned(&*range).await.len(), 4);
    drop(range);
    assert_eq!(assigned(&*join(&*log).await).await.len(), 4);
}
