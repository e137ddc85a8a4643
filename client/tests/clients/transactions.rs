//! Transactions: whole or not at all, with positions, and one producer of an id.

use std::{pin::pin, sync::Arc};

use bytes::Bytes;
use futures::FutureExt;
use headwater_client::Producer;
use headwater_core::{
    Committed, Error, ErrorKind, GroupId, Log, Offset, Positions, Record, Timestamp, TopicName,
    TopicPartition,
};

use super::logs::{Steered, on_every_log, partition, read, run};

async fn transactional(log: Arc<dyn Log>) -> Producer<String, String> {
    Producer::builder(log).transactional_id("tx").batch_bytes(200).build().await.unwrap()
}

#[expect(clippy::needless_pass_by_value, reason = "calls are easier to read")]
fn record(value: impl ToString) -> Record<String, String> {
    Record::new("k".to_owned(), value.to_string(), Timestamp(0))
}

fn positions(group: &str, number: u32, offset: u64) -> Positions {
    let at = Committed { offset: Offset(offset), metadata: Bytes::new() };
    Positions::new(GroupId(group.to_owned()), vec![(partition(number), at)])
}

async fn committed(log: &dyn Log, number: u32) -> Option<u64> {
    let group = GroupId("readers".to_owned());
    log.committed(&group, &partition(number)).await.unwrap().map(|at| at.offset.0)
}

#[test]
fn records_and_positions_become_visible_together() {
    on_every_log(|log| async move {
        let producer = transactional(log.clone()).await;
        producer.begin().await.unwrap();
        let mut deliveries = Vec::new();
        for i in 0..100 {
            deliveries.push(producer.send_to(&partition(i % 3), &record(i)).await.unwrap());
        }
        producer.send_offsets(positions("readers", 0, 3)).unwrap();
        producer.send_offsets(positions("readers", 1, 4)).unwrap();
        producer.send_offsets(positions("readers", 0, 5)).unwrap();
        producer.flush().await.unwrap();
        assert!((&mut deliveries[0]).now_or_never().is_none());
        for number in 0..3 {
            assert!(read(&*log, number).await.is_empty());
        }
        assert_eq!(committed(&*log, 0).await, None);
        producer.commit().await.unwrap();
        assert_eq!((committed(&*log, 0).await, committed(&*log, 1).await), (Some(5), Some(4)));
        for (i, delivery) in deliveries.into_iter().enumerate() {
            let written = delivery.await.unwrap();
            assert_eq!(written.offset.0, i as u64 / 3);
        }
        assert_eq!(read(&*log, 0).await.len(), 34);
    });
}

#[test]
fn an_aborted_transaction_leaves_nothing_and_the_next_one_goes_on() {
    on_every_log(|log| async move {
        let producer = transactional(log.clone()).await;
        producer.begin().await.unwrap();
        let mut deliveries = Vec::new();
        for i in 0..100 {
            deliveries.push(producer.send_to(&partition(0), &record(i)).await.unwrap());
        }
        producer.send_offsets(positions("readers", 0, 3)).unwrap();
        producer.abort().await.unwrap();
        for delivery in deliveries {
            assert_eq!(delivery.await.unwrap_err().kind(), ErrorKind::Unavailable);
        }
        producer.flush().await.unwrap();
        producer.begin().await.unwrap();
        producer.send_to(&partition(0), &record("kept")).await.unwrap();
        producer.commit().await.unwrap();
        assert_eq!(read(&*log, 0).await, [(0, "k".to_owned(), "kept".to_owned())]);
        assert_eq!(committed(&*log, 0).await, None);
    });
}

#[test]
fn a_newer_producer_of_the_id_fences_the_older_one_for_good() {
    on_every_log(|log| async move {
        let old = transactional(log.clone()).await;
        old.begin().await.unwrap();
        let lost = old.send_to(&partition(0), &record("old")).await.unwrap();
        let new = transactional(log.clone()).await;
        new.begin().await.unwrap();
        new.send_to(&partition(0), &record("new")).await.unwrap();
        assert_eq!(old.commit().await.unwrap_err().kind(), ErrorKind::Fenced);
        assert_eq!(lost.await.unwrap_err().kind(), ErrorKind::Fenced);
        assert_eq!(old.begin().await.unwrap_err().kind(), ErrorKind::Fenced);
        assert_eq!(old.send_to(&partition(0), &record("old")).await.unwrap_err().kind(), ErrorKind::Fenced);
        assert_eq!(old.abort().await.unwrap_err().kind(), ErrorKind::Fenced);
        new.commit().await.unwrap();
        assert_eq!(read(&*log, 0).await, [(0, "k".to_owned(), "new".to_owned())]);
    });
}

#[test]
fn wrong_use_is_told() {
    on_every_log(|log| async move {
        let invalid = |result: Result<(), Error>, text: &str| {
            let error = result.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains(text), "{error}");
        };
        let plain = Producer::<String, String>::builder(log.clone()).build().await.unwrap();
        invalid(plain.begin().await, "not transactional");
        invalid(plain.commit().await, "not transactional");
        invalid(plain.abort().await, "not transactional");
        invalid(plain.send_offsets(positions("g", 0, 1)), "not transactional");
        let producer = transactional(log.clone()).await;
        invalid(producer.commit().await, "call `begin` first");
        invalid(producer.abort().await, "call `begin` first");
        invalid(producer.send_offsets(positions("g", 0, 1)), "call `begin` first");
        invalid(producer.send("numbers", &record("x")).await.map(drop), "call `begin` first");
        producer.begin().await.unwrap();
        invalid(producer.begin().await, "a transaction is open");
        producer.send_offsets(positions("g", 0, 1)).unwrap();
        invalid(producer.send_offsets(positions("h", 0, 1)), "one group");
        producer.commit().await.unwrap();
        producer.close().await.unwrap();
    });
}

#[test]
fn a_transaction_of_which_a_record_was_refused_can_only_be_aborted() {
    on_every_log(|log| async move {
        let producer = transactional(log.clone()).await;
        producer.begin().await.unwrap();
        producer.send_to(&partition(0), &record("good")).await.unwrap();
        let mut spec = headwater_core::TopicSpec::new("small", 1).unwrap();
        spec.config.max_message_bytes = 100;
        log.create_topic(&spec).await.unwrap();
        let bad = producer.send("small", &record("x".repeat(150))).await.unwrap();
        assert_eq!(producer.commit().await.unwrap_err().kind(), ErrorKind::Invalid);
        assert_eq!(bad.await.unwrap_err().kind(), ErrorKind::Invalid);
        assert!(producer.begin().await.unwrap_err().to_string().contains("commit or abort it first"));
        assert!(
            producer.send("numbers", &record("y")).await.unwrap_err().to_string().contains("abort it first")
        );
        producer.abort().await.unwrap();
        producer.begin().await.unwrap();
        producer.send_to(&partition(0), &record("z")).await.unwrap();
        producer.commit().await.unwrap();
        assert_eq!(read(&*log, 0).await, [(0, "k".to_owned(), "z".to_owned())]);
    });
}

#[test]
fn positions_in_a_partition_that_is_not_there_fail_the_whole_transaction() {
    on_every_log(|log| async move {
        let producer = transactional(log.clone()).await;
        producer.begin().await.unwrap();
        producer.send_to(&partition(0), &record("x")).await.unwrap();
        let mut nowhere = positions("g", 0, 1);
        nowhere.committed[0].0 = TopicPartition::new(TopicName::new("nowhere").unwrap(), Default::default());
        producer.send_offsets(nowhere).unwrap();
        assert_eq!(producer.commit().await.unwrap_err().kind(), ErrorKind::Invalid);
        producer.abort().await.unwrap();
        assert!(read(&*log, 0).await.is_empty());
        producer.begin().await.unwrap();
        producer.send_to(&partition(0), &record("y")).await.unwrap();
        producer.commit().await.unwrap();
        assert_eq!(read(&*log, 0).await, [(0, "k".to_owned(), "y".to_owned())]);
    });
}

#[test]
fn a_commit_whose_future_was_dropped_goes_on_and_the_next_begin_waits_for_it() {
    run(async {
        let log = Steered::new(0).await;
        let port: Arc<dyn Log> = Arc::clone(&log) as Arc<_>;
        let producer = transactional(port.clone()).await;
        producer.begin().await.unwrap();
        let delivery = producer.send_to(&partition(0), &record("x")).await.unwrap();
        assert!(producer.commit().now_or_never().is_none());
        assert!(producer.begin().now_or_never().is_none());
        assert!(producer.send_to(&partition(0), &record("y")).await.is_err());
        log.commits.add_permits(1);
        producer.begin().await.unwrap();
        delivery.await.unwrap();
        assert_eq!(read(&*log.log, 0).await.len(), 1);
    });
}

#[test]
fn a_transaction_that_a_full_log_refuses_can_be_aborted_and_done_again() {
    run(async {
        let log = Steered::new(10).await;
        let port: Arc<dyn Log> = Arc::clone(&log) as Arc<_>;
        let producer = transactional(port.clone()).await;
        log.refusals.lock().unwrap().push((ErrorKind::Full, false));
        for refused in [true, false] {
            producer.begin().await.unwrap();
            producer.send_to(&partition(0), &record("x")).await.unwrap();
            producer.send_offsets(positions("readers", 0, 9)).unwrap();
            let committed = producer.commit().await;
            assert_eq!(committed.as_ref().err().map(Error::kind), refused.then_some(ErrorKind::Full));
            if refused {
                producer.abort().await.unwrap();
            }
        }
        assert_eq!(read(&*log.log, 0).await.len(), 1);
        assert_eq!(committed(&*port, 0).await, Some(9));
    });
}

#[test]
fn a_transaction_of_unknown_outcome_ends_its_producer() {
    run(async {
        let log = Steered::new(10).await;
        let port: Arc<dyn Log> = Arc::clone(&log) as Arc<_>;
        let producer = transactional(port.clone()).await;
        log.refusals.lock().unwrap().push((ErrorKind::Unavailable, true));
        producer.begin().await.unwrap();
        producer.send_to(&partition(0), &record("x")).await.unwrap();
        producer.send_offsets(positions("readers", 0, 9)).unwrap();
        assert_eq!(producer.commit().await.unwrap_err().kind(), ErrorKind::Unavailable);
        assert_eq!(producer.begin().await.unwrap_err().kind(), ErrorKind::Unavailable);
        // A new one settles it: what is committed then says whether it was written.
        let next = transactional(port.clone()).await;
        assert_eq!(committed(&*port, 0).await, Some(9));
        next.begin().await.unwrap();
        next.send_to(&partition(0), &record("y")).await.unwrap();
        next.commit().await.unwrap();
        assert_eq!(read(&*log.log, 0).await.len(), 2);
    });
}

#[test]
fn a_record_that_waits_for_room_does_not_slip_into_the_next_transaction() {
    run(async {
        let log = Steered::new(0).await;
        let builder = Producer::builder(Arc::clone(&log) as Arc<_>).transactional_id("tx");
        let producer = builder.buffer_bytes(150).build().await.unwrap();
        producer.begin().await.unwrap();
        producer.send_to(&partition(0), &record("1".repeat(60))).await.unwrap();
        let second = record("2".repeat(60));
        let first = partition(0);
        let mut slow = pin!(producer.send_to(&first, &second));
        assert!(slow.as_mut().now_or_never().is_none());
        producer.abort().await.unwrap();
        producer.begin().await.unwrap();
        let error = slow.await.unwrap_err();
        assert!(error.to_string().contains("ended before"), "{error}");
    });
}

#[test]
fn small_batches_of_a_transaction_make_room_for_one_another() {
    on_every_log(|log| async move {
        let builder = Producer::builder(log.clone()).transactional_id("tx");
        let producer = builder.buffer_bytes(150).build().await.unwrap();
        producer.begin().await.unwrap();
        for i in 0..30 {
            producer.send_to(&partition(i % 3), &record(i)).await.unwrap();
        }
        producer.commit().await.unwrap();
        assert_eq!(read(&*log, 0).await.len(), 10);
    });
}

#[test]
fn a_transaction_may_be_larger_than_the_buffer() {
    on_every_log(|log| async move {
        let builder = Producer::builder(log.clone()).transactional_id("tx").batch_bytes(200);
        let producer = builder.buffer_bytes(1000).build().await.unwrap();
        producer.begin().await.unwrap();
        for i in 0..1000 {
            producer.send_to(&partition(0), &record(i)).await.unwrap();
        }
        producer.commit().await.unwrap();
        assert_eq!(read(&*log, 0).await.len(), 1000);
    });
}

#[test]
fn closing_aborts_an_open_transaction() {
    on_every_log(|log| async move {
        let producer = transactional(log.clone()).await;
        producer.begin().await.unwrap();
        let delivery = producer.send_to(&partition(0), &record("x")).await.unwrap();
        producer.close().await.unwrap();
        assert!(delivery.await.is_err());
        assert!(read(&*log, 0).await.is_empty());
    });
}
