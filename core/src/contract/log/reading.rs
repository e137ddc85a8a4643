//! Reads return whole batches, in order, and no more than was asked for.

use super::{Open, append, block_on, commit, create, partition, producer, values};
use crate::{ErrorKind, Log, Offset};

pub(super) fn all(open: Open<'_>) {
    block_on(offsets_are_dense_and_in_order(open));
    block_on(a_read_begins_with_the_batch_that_holds_the_offset(open));
    block_on(a_read_respects_its_limit(open));
    block_on(a_read_out_of_range_is_invalid(open));
}

async fn filled(log: &dyn Log) {
    create(log, "t", 1).await;
    let mut producer = producer(log, "p").await;
    for batch in 0..10 {
        let batch: Vec<_> = (0..3).map(|record| format!("{}", batch * 3 + record)).collect();
        append(&mut *producer, &partition("t", 0), &batch.iter().map(String::as_str).collect::<Vec<_>>())
            .expect("append");
        commit(&mut *producer).await;
    }
}

async fn offsets_are_dense_and_in_order(open: Open<'_>) {
    let log = open();
    filled(&*log).await;
    let expected: Vec<_> = (0..30).map(|value| value.to_string()).collect();
    assert_eq!(values(&*log, &partition("t", 0)).await, expected);
}

async fn a_read_begins_with_the_batch_that_holds_the_offset(open: Open<'_>) {
    let log = open();
    filled(&*log).await;
    for from in 0..30 {
        let fetched = log.read(&partition("t", 0), Offset(from), usize::MAX).await.expect("in range");
        let first = fetched.batches.first().expect("there is more");
        assert!(
            first.base_offset() <= Offset(from) && Offset(from) < first.next_offset(),
            "{first:?} holds {from}"
        );
        for pair in fetched.batches.windows(2) {
            assert_eq!(pair[0].next_offset(), pair[1].base_offset());
        }
        assert_eq!(fetched.end, Offset(30));
    }
}

async fn a_read_respects_its_limit(open: Open<'_>) {
    let log = open();
    filled(&*log).await;
    let one = log.read(&partition("t", 0), Offset(0), 0).await.expect("in range");
    assert_eq!(one.batches.len(), 1, "at least one, however small the limit");
    let size = one.batches[0].bytes().len();
    for limit in [1, size, 2 * size, 3 * size + 1, 100 * size] {
        let fetched = log.read(&partition("t", 0), Offset(0), limit).await.expect("in range");
        let beyond: usize = fetched.batches.iter().skip(1).map(|batch| batch.bytes().len()).sum();
        assert!(
            !fetched.batches.is_empty() && beyond <= limit,
            "{beyond} bytes beyond the first, {limit} allowed"
        );
    }
}

async fn a_read_out_of_range_is_invalid(open: Open<'_>) {
    let log = open();
    filled(&*log).await;
    let at_end = log.read(&partition("t", 0), Offset(30), 100).await.expect("the end is in range");
    assert!(at_end.batches.is_empty());
    for from in [31, 1 << 40, u64::MAX] {
        let error = log.read(&partition("t", 0), Offset(from), 100).await.expect_err("behind the end");
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
}
