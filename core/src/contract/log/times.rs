//! Records are found by their time, and positions are committed without records.

use bytes::Bytes;

use super::{Open, block_on, commit, create, partition, producer};
use crate::{
    BatchBuilder, Committed, ErrorKind, GroupId, Headers, Offset, Positions, TimedOffset, Timestamp,
};

pub(super) fn all(open: Open<'_>) {
    block_on(records_are_found_by_time(open));
    block_on(positions_are_committed_without_records(open));
}

/// Out of order, across batches: the first offset whose record is not older, wherever the newest is.
async fn records_are_found_by_time(open: Open<'_>) {
    let log = open();
    create(&*log, "t", 2).await;
    let t = partition("t", 0);
    assert_eq!(log.offset_at(&t, Timestamp(i64::MIN)).await.expect("an empty partition"), None);
    let mut p = producer(&*log, "p").await;
    let times = [[10, 30, 20], [5, 5, 40], [40, -7, 35], [100, 90, 90]];
    for batch in times {
        let mut builder = BatchBuilder::default();
        for time in batch {
            builder.push(Timestamp(time), None, Some(b"v"), &Headers::new());
        }
        p.append(&t, &mut builder).expect("append");
        commit(&mut *p).await;
    }
    let all: Vec<i64> = times.into_iter().flatten().collect();
    for time in -10..=101 {
        let first = (0..).zip(&all).find(|(_, at)| **at >= time);
        let expected =
            first.map(|(offset, at)| TimedOffset { offset: Offset(offset), timestamp: Timestamp(*at) });
        assert_eq!(log.offset_at(&t, Timestamp(time)).await.expect("it exists"), expected, "time {time}");
    }
    assert_eq!(log.offset_at(&partition("t", 1), Timestamp(0)).await.expect("it exists"), None);
    let error = log.offset_at(&partition("t", 2), Timestamp(0)).await.expect_err("no such partition");
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

async fn positions_are_committed_without_records(open: Open<'_>) {
    let log = open();
    create(&*log, "t", 2).await;
    let at = |partitions: &[(u32, u64)]| {
        let committed = partitions.iter().map(|(number, offset)| {
            let committed = Committed { offset: Offset(*offset), metadata: Bytes::from_static(b"m") };
            (partition("t", *number), committed)
        });
        Positions::new(GroupId("g".into()), committed.collect())
    };
    let group = GroupId("g".into());
    log.commit_positions(&at(&[(0, 5), (1, 6)])).await.expect("commit");
    log.commit_positions(&at(&[(0, 2)])).await.expect("back");
    log.commit_positions(&at(&[])).await.expect("nothing");
    let error = log.commit_positions(&at(&[(1, 9), (2, 9)])).await.expect_err("no such partition");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    for (number, offset) in [(0, 2), (1, 6)] {
        let committed = log.committed(&group, &partition("t", number)).await.expect("positions can be read");
        assert_eq!(committed.map(|committed| committed.offset), Some(Offset(offset)));
    }
}
