//! Sending: order, acknowledgements, partitions, errors.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt, future::join_all};
use headwater_client::{Outgoing, Producer};
use headwater_core::{
    ErrorKind, Headers, Partition, Record, Timestamp, TopicSpec, partition_for_key, serdes,
};

use super::logs::{self, Steered, on_every_log, partition, read, run};

#[expect(clippy::needless_pass_by_value, reason = "calls are easier to read")]
fn record(key: impl ToString, value: impl ToString) -> Record<String, String> {
    Record::new(key.to_string(), value.to_string(), Timestamp(7))
}

#[test]
fn every_acknowledgement_says_where_its_record_is() {
    on_every_log(|log| async move {
        let producer = Producer::builder(log.clone()).batch_bytes(300).build().await.unwrap();
        let mut deliveries = Vec::new();
        for i in 0..500 {
            deliveries.push((i, producer.send("numbers", &record(i % 7, i)).await.unwrap()));
        }
        for (i, delivery) in deliveries {
            let written = delivery.await.unwrap();
            assert_eq!(written.timestamp, Timestamp(7));
            let there = read(&*log, written.partition.partition.0).await;
            let expected = (written.offset.0, (i % 7).to_string(), i.to_string());
            assert_eq!(there[written.offset.0 as usize], expected);
        }
        producer.close().await.unwrap();
    });
}

#[test]
fn records_of_a_key_keep_their_order_and_lie_where_kafka_puts_them() {
    on_every_log(|log| async move {
        let producer = Producer::builder(log.clone()).batch_bytes(200).build().await.unwrap();
        for i in 0..300 {
            producer.send("numbers", &record(i % 11, i)).await.unwrap();
        }
        producer.flush().await.unwrap();
        let mut last = BTreeMap::new();
        let mut count = 0;
        for number in 0..3 {
            for (_, key, value) in read(&*log, number).await {
                assert_eq!(
                    partition_for_key(key.as_bytes(), 3.try_into().unwrap()),
                    Partition(number),
                    "{key}"
                );
                let value: i32 = value.parse().unwrap();
                assert!(last.insert(key, value).is_none_or(|before| before < value));
                count += 1;
            }
        }
        assert_eq!(count, 300);
    });
}

#[test]
fn headers_time_and_null_arrive() {
    on_every_log(|log| async move {
        let producer = Producer::<Option<Bytes>, Option<Bytes>>::builder(log.clone()).build().await.unwrap();
        let headers = Headers::new().with("trace", &b"1"[..]);
        let sent = Record { key: None, value: None, timestamp: Timestamp(-5), headers: headers.clone() };
        let written = producer.send_to(&partition(2), &sent).await.unwrap().await.unwrap();
        assert_eq!((written.partition, written.offset.0), (partition(2), 0));
        let batch = log.read(&partition(2), written.offset, 1000).await.unwrap().batches.remove(0);
        let mut cursor = batch.cursor();
        let read = cursor.next().unwrap().unwrap();
        assert_eq!((read.key, read.value, read.timestamp), (None, None, Timestamp(-5)));
        assert_eq!(read.headers.to_owned(), headers);
    });
}

#[test]
fn a_partitioner_decides_and_may_leave_it_to_the_default() {
    on_every_log(|log| async move {
        let by_value = |record: Outgoing<'_>| {
            assert_eq!((record.topic, record.partitions.get()), ("numbers", 3));
            let number: u32 = std::str::from_utf8(record.value?).ok()?.parse().ok()?;
            Some(Partition(number))
        };
        let producer = Producer::builder(log.clone()).partitioner(by_value).build().await.unwrap();
        for value in ["2", "1", "2", "x"] {
            producer.send("numbers", &record("same", value)).await.unwrap();
        }
        let error = producer.send("numbers", &record("same", "3")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().ends_with("topic=numbers, partition=3, partitions=3"), "{error}");
        producer.flush().await.unwrap();
        let mut found = Vec::new();
        for number in 0..3 {
            found.extend(read(&*log, number).await.into_iter().map(|(_, _, value)| (value, number)));
        }
        found.sort();
        assert_eq!(found[..3], [("1".to_owned(), 1), ("2".to_owned(), 2), ("2".to_owned(), 2)]);
        assert_eq!(found[3].0, "x");
    });
}

#[test]
fn new_partitions_are_used_once_they_are_known() {
    run(async {
        let log = logs::memory().await;
        let producer = Producer::builder(Arc::clone(&log) as Arc<_>)
            .metadata_age_max(Duration::from_secs(10))
            .build()
            .await
            .unwrap();
        producer.send("numbers", &record("a", "1")).await.unwrap();
        producer.flush().await.unwrap();
        let changes = headwater_core::TopicChanges { partitions: 9.try_into().ok(), ..Default::default() };
        headwater_core::Admin::alter_topic(&*log, &partition(0).topic, &changes).await.unwrap();
        assert!(producer.send_to(&partition(8), &record("a", "2")).await.is_err());
        tokio::time::advance(Duration::from_secs(11)).await;
        producer.send("numbers", &record("a", "3")).await.unwrap();
        producer.flush().await.unwrap();
        producer.send_to(&partition(8), &record("a", "4")).await.unwrap().await.unwrap();
    });
}

#[test]
fn what_cannot_be_sent_is_refused_with_the_reason() {
    on_every_log(|log| async move {
        let producer = Producer::builder(log.clone()).buffer_bytes(1000).build().await.unwrap();
        let error = producer.send("letters", &record("a", "b")).await.unwrap_err();
        assert_eq!(error.to_string(), "no such topic: create it first. topic=letters");
        log.create_topic(&TopicSpec::new("letters", 1).unwrap()).await.unwrap();
        producer.send("letters", &record("a", "b")).await.unwrap().await.unwrap();
        let error = producer.send("numbers", &record("a", "b".repeat(1000))).await.unwrap_err();
        assert!(error.to_string().starts_with("record is larger than the buffer"), "{error}");
        producer.close().await.unwrap();
        let error = producer.send("numbers", &record("a", "b")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed);
    });
}

#[test]
fn a_serde_that_refuses_a_value_sends_nothing() {
    run(async {
        let log = logs::memory().await;
        let json = serdes::json::<BTreeMap<(u8, u8), u8>>();
        let producer = Producer::builder_with(Arc::clone(&log) as Arc<_>, serdes::json::<String>(), json)
            .build()
            .await
            .unwrap();
        let bad = Record::new("k".to_owned(), BTreeMap::from([((1, 2), 3)]), Timestamp(0));
        assert_eq!(producer.send("numbers", &bad).await.unwrap_err().kind(), ErrorKind::Processing);
        producer.close().await.unwrap();
        assert!(read(&*log, 0).await.is_empty());
    });
}

#[test]
fn a_record_too_large_for_its_topic_fails_alone() {
    on_every_log(|log| async move {
        let mut spec = TopicSpec::new("small", 1).unwrap();
        spec.config.max_message_bytes = 200;
        log.create_topic(&spec).await.unwrap();
        let producer = Producer::builder(log.clone()).build().await.unwrap();
        let mut deliveries = Vec::new();
        for size in [10, 20, 400, 30] {
            deliveries.push(producer.send("small", &record("k", "v".repeat(size))).await.unwrap());
        }
        let outcomes = join_all(deliveries).await;
        assert_eq!(outcomes.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, true, false, true]);
        let error = producer.flush().await.unwrap_err();
        assert!(error.to_string().starts_with("batch is too large"), "{error}");
        producer.flush().await.unwrap();
        assert_eq!(outcomes[3].as_ref().unwrap().offset.0, 2);
    });
}

#[test]
fn a_commit_of_unknown_outcome_is_told_and_never_repeated() {
    for writes in [false, true] {
        run(async {
            let log = Steered::new(100).await;
            let producer = Producer::builder(Arc::clone(&log) as Arc<_>).build().await.unwrap();
            log.refusals.lock().unwrap().push((ErrorKind::Unavailable, writes));
            log.unreachable.store(3, Ordering::Relaxed);
            let first = producer.send_to(&partition(0), &record("a", "1")).await.unwrap();
            assert_eq!(first.await.unwrap_err().kind(), ErrorKind::Unavailable);
            let second = producer.send_to(&partition(0), &record("a", "2")).await.unwrap();
            let written = second.await.unwrap();
            assert_eq!(log.opened.load(Ordering::Relaxed), 5, "one at first, three in vain, one more");
            let values: Vec<_> = read(&*log.log, 0).await.into_iter().map(|(_, _, value)| value).collect();
            assert_eq!(values, if writes { vec!["1", "2"] } else { vec!["2"] });
            assert_eq!(written.offset.0, u64::from(writes));
        });
    }
}

/// The log holds what it refused; whoever sent it decides, and must not get it twice.
#[test]
fn what_a_full_log_refuses_is_told_and_not_written_later() {
    run(async {
        let log = Steered::new(100).await;
        let producer = Producer::builder(Arc::clone(&log) as Arc<_>).build().await.unwrap();
        log.refusals.lock().unwrap().push((ErrorKind::Full, false));
        let refused = producer.send_to(&partition(0), &record("a", "1")).await.unwrap();
        assert_eq!(refused.await.unwrap_err().kind(), ErrorKind::Full);
        for value in ["1", "2"] {
            producer.send_to(&partition(0), &record("a", value)).await.unwrap().await.unwrap();
        }
        let values: Vec<_> = read(&*log.log, 0).await.into_iter().map(|(_, _, value)| value).collect();
        assert_eq!(values, ["1", "2"]);
        assert_eq!(log.opened.load(Ordering::Relaxed), 1, "the same producer goes on");
    });
}

#[test]
fn a_log_that_has_stopped_fails_everything_and_nobody_hangs() {
    run(async {
        let log = Steered::new(0).await;
        let builder = Producer::builder(Arc::clone(&log) as Arc<_>);
        let producer = builder.batch_bytes(100).buffer_bytes(300).build().await.unwrap();
        log.refusals.lock().unwrap().push((ErrorKind::Closed, false));
        let first = producer.send("numbers", &record("a", "1")).await.unwrap();
        let mut others = Vec::new();
        while let Some(delivery) = producer.try_send("numbers", &record("a", "2")).unwrap() {
            others.push(delivery);
        }
        let waiting = tokio::spawn({
            let producer = producer.clone();
            async move { producer.send("numbers", &record("a", "3")).await }
        });
        tokio::task::yield_now().await;
        log.commits.add_permits(1);
        assert_eq!(first.await.unwrap_err().kind(), ErrorKind::Closed);
        assert!(join_all(others).await.iter().all(Result::is_err));
        assert_eq!(waiting.await.unwrap().unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(producer.flush().await.unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(producer.close().await.map_err(|e| e.kind()), Ok(()));
    });
}

#[test]
fn dropping_a_producer_writes_what_was_sent() {
    on_every_log(|log| async move {
        let producer = Producer::builder(log.clone()).build().await.unwrap();
        let delivery = producer.send_to(&partition(0), &record("a", "1")).await.unwrap();
        drop(producer);
        assert_eq!(delivery.await.unwrap().offset.0, 0);
    });
}

#[test]
fn a_runtime_that_ends_fails_what_is_not_written() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let (other, ours) = (runtime(), runtime());
    let (producer, delivery) = other.block_on(async {
        let producer = Producer::builder(logs::memory().await as Arc<_>).build().await.unwrap();
        let delivery = producer.send("numbers", &record("a", "1")).await.unwrap();
        (producer, delivery)
    });
    drop(other);
    ours.block_on(async {
        let error = delivery.await.unwrap_err();
        assert_eq!(error.to_string(), "the producer was closed");
        assert_eq!(producer.send("numbers", &record("a", "1")).await.unwrap_err().kind(), ErrorKind::Closed);
        assert!(producer.close().await.is_err(), "a record was lost");
    });
}

#[test]
fn a_runtime_that_ends_while_the_log_is_not_there_leaves_nobody_waiting() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let (other, ours) = (runtime(), runtime());
    let (_producer, delivery) = other.block_on(async {
        let log = Steered::new(100).await;
        let producer = Producer::builder(log.clone()).linger(Duration::ZERO).build().await.unwrap();
        log.refusals.lock().unwrap().push((ErrorKind::Unavailable, false));
        log.unreachable.store(1_000_000, Ordering::Relaxed);
        producer.send("numbers", &record("a", "1")).await.unwrap().await.unwrap_err();
        let delivery = producer.send("numbers", &record("a", "2")).await.unwrap();
        while log.opened.load(Ordering::Relaxed) == 1 {
            tokio::task::yield_now().await;
        }
        (producer, delivery)
    });
    drop(other);
    let error = ours.block_on(delivery).unwrap_err();
    assert_eq!(error.to_string(), "the producer was closed: the record was not written");
}

#[test]
fn a_send_that_was_dropped_before_it_found_room_sends_nothing() {
    run(async {
        let log = Steered::new(0).await;
        let builder = Producer::builder(Arc::clone(&log) as Arc<_>);
        let producer = builder.buffer_bytes(100).build().await.unwrap();
        let first = producer.send_to(&partition(0), &record("a", "1".repeat(30))).await.unwrap();
        let second = record("a", "2".repeat(30));
        assert!(producer.send_to(&partition(0), &second).now_or_never().is_none());
        log.commits.add_permits(100);
        first.await.unwrap();
        producer.send_to(&partition(0), &record("a", "3")).await.unwrap().await.unwrap();
        let values: Vec<_> = read(&*log.log, 0).await.into_iter().map(|(_, _, value)| value).collect();
        assert_eq!(values, ["1".repeat(30), "3".to_owned()]);
    });
}
