//! Reading: positions, resets, lag, streams, what is gone.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{FutureExt, StreamExt, TryStreamExt};
use headwater_client::{Consumer, ConsumerBuilder, Isolation, OffsetReset, Producer};
use headwater_core::{
    Admin, ErrorKind, GroupId, Log, ManualClock, Offset, Record, Timestamp, TopicChanges, TopicPartition,
    TopicSpec,
};
use tokio::time::{Instant, sleep_until};

use super::logs::{memory, on_every_log, partition, run};

type Text = Consumer<String, String>;

fn builder(log: &Arc<dyn Admin>) -> ConsumerBuilder<String, String> {
    Text::builder(log.clone()).offset_reset(OffsetReset::Earliest)
}

/// Writes values whose times are ten times their numbers, in batches of two, and waits until they are there.
async fn write(log: &Arc<dyn Admin>, number: u32, values: std::ops::Range<i64>) {
    let producer = Producer::<String, String>::builder(log.clone()).build().await.unwrap();
    for value in values {
        let record = Record::new("k".to_owned(), value.to_string(), Timestamp(value * 10));
        producer.send_to(&partition(number), &record).await.unwrap();
        if value % 2 == 1 {
            producer.flush().await.unwrap();
        }
    }
    producer.close().await.unwrap();
}

/// What compaction left of a batch may all lie before the position.
#[test]
fn a_poll_gives_no_batch_of_which_nothing_is_left_to_read() {
    on_every_log(|log| async move {
        let settings =
            [("cleanup.policy", "compact"), ("min.cleanable.dirty.ratio", "0"), ("segment.bytes", "14")];
        let settings = settings.map(|(name, value)| (name.to_owned(), Some(value.to_owned()))).into();
        let changes = TopicChanges { settings, ..TopicChanges::default() };
        log.alter_topic(&partition(0).topic, &changes).await.unwrap();
        let producer = Producer::<String, String>::builder(log.clone()).build().await.unwrap();
        for batch in [["a", "b", "c"], ["b", "c", "d"], ["x", "y", "z"]] {
            for key in batch {
                let record = Record::new(key.to_owned(), "v".to_owned(), Timestamp(0));
                producer.send_to(&partition(0), &record).await.unwrap();
            }
            producer.flush().await.unwrap();
        }
        log.clean().await.unwrap();
        let mut consumer = builder(&log).build().unwrap();
        consumer.assign(&[partition(0)]).unwrap();
        consumer.seek(&partition(0), Offset(1)).unwrap();
        let mut offsets = Vec::new();
        while offsets.len() < 6 {
            for batch in consumer.poll().await.unwrap() {
                let mut records = batch.records();
                let before = offsets.len();
                while let Some(record) = records.next().transpose().unwrap() {
                    offsets.push(record.offset.0);
                }
                assert!(offsets.len() > before, "{batch:?}");
            }
        }
        assert_eq!(offsets, [3, 4, 5, 6, 7, 8]);
    });
}

async fn take(consumer: &mut Text, count: usize) -> Vec<String> {
    let mut values = Vec::new();
    for _ in 0..count {
        values.push(consumer.recv().await.unwrap().record.value);
    }
    values
}

fn all() -> Vec<TopicPartition> {
    (0..3).map(partition).collect()
}

#[test]
fn assigned_partitions_are_read_from_where_the_caller_says() {
    on_every_log(|log| async move {
        write(&log, 0, 0..10).await;
        let mut consumer = builder(&log).build().unwrap();
        let p = [partition(0)];
        consumer.assign(&p).unwrap();
        assert_eq!(take(&mut consumer, 3).await, ["0", "1", "2"]);
        assert_eq!(consumer.position(&p[0]).await.unwrap(), Offset(3));
        consumer.seek(&p[0], Offset(7)).unwrap();
        assert_eq!(take(&mut consumer, 2).await, ["7", "8"]);
        consumer.seek_to_beginning(&p).await.unwrap();
        assert_eq!(take(&mut consumer, 1).await, ["0"]);
        consumer.seek_to_timestamp(&p, Timestamp(45)).await.unwrap();
        assert_eq!(take(&mut consumer, 1).await, ["5"]);
        consumer.seek_to_timestamp(&p, Timestamp(1000)).await.unwrap();
        assert_eq!(consumer.position(&p[0]).await.unwrap(), Offset(10));
        consumer.seek_to_end(&p).await.unwrap();
        assert!(consumer.recv().now_or_never().is_none());
        write(&log, 0, 10..11).await;
        assert_eq!(take(&mut consumer, 1).await, ["10"]);
        let times = [(p[0].clone(), Timestamp(31)), (partition(1), Timestamp(0))];
        let found = consumer.offsets_for_times(&times).await.unwrap();
        assert_eq!(
            found.iter().map(|found| found.map(|at| at.offset.0)).collect::<Vec<_>>(),
            [Some(4), None]
        );
        let error = consumer.seek(&partition(2), Offset(0)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
    });
}

#[test]
fn batches_are_given_out_whole_and_count_as_read() {
    on_every_log(|log| async move {
        write(&log, 0, 0..10).await;
        let mut consumer = builder(&log).partition_bytes(1).build().unwrap();
        consumer.assign(&[partition(0)]).unwrap();
        assert_eq!(take(&mut consumer, 1).await, ["0"]);
        // What is left of the batch of which a record was taken.
        let batches = consumer.poll().await.unwrap();
        let values = |batches: &[headwater_client::Batch]| {
            let mut values = Vec::new();
            for batch in batches {
                let mut records = batch.records();
                while let Some(record) = records.next().transpose().unwrap() {
                    values.push(String::from_utf8(record.value.unwrap().to_vec()).unwrap());
                }
            }
            values
        };
        assert_eq!(values(&batches), ["1"]);
        assert_eq!(consumer.position(&partition(0)).await.unwrap(), Offset(2));
        let batches = consumer.poll().await.unwrap();
        assert_eq!((values(&batches), batches[0].next_offset()), (vec!["2".into(), "3".into()], Offset(4)));
        let serde = <String as headwater_core::DefaultSerde>::default_serde();
        let decoded = batches[0].decode::<String, String>(&*serde, &*serde).unwrap();
        assert_eq!(decoded[1].timestamp, Timestamp(30));
        assert_eq!(consumer.lag().await.unwrap(), [(partition(0), 6)]);
    });
}

#[test]
fn a_stream_gives_records_and_drops_none() {
    on_every_log(|log| async move {
        write(&log, 0, 0..6).await;
        write(&log, 1, 6..10).await;
        let mut consumer = builder(&log).build().unwrap();
        consumer.assign(&all()).unwrap();
        let first: Vec<_> = consumer.stream().take(3).try_collect().await.unwrap();
        assert_eq!(first.len(), 3);
        let mut values: Vec<_> = first.into_iter().map(|record| record.record.value).collect();
        values.extend(take(&mut consumer, 2).await);
        let rest: Vec<_> = consumer.stream().take(5).try_collect().await.unwrap();
        values.extend(rest.into_iter().map(|record| record.record.value));
        values.sort();
        assert_eq!(values, (0..10).map(|i| i.to_string()).collect::<Vec<_>>());
    });
}

#[test]
fn where_to_begin_is_a_setting() {
    on_every_log(|log| async move {
        write(&log, 0, 0..10).await;
        let clock = Arc::new(ManualClock::new(Timestamp(100)));
        for (reset, expected) in [
            (OffsetReset::Earliest, 0),
            (OffsetReset::Latest, 10),
            (OffsetReset::Timestamp(Timestamp(25)), 3),
            (OffsetReset::Ago(Duration::from_millis(50)), 5),
        ] {
            let mut consumer = builder(&log).offset_reset(reset).clock(clock.clone()).build().unwrap();
            consumer.assign(&[partition(0)]).unwrap();
            assert_eq!(consumer.position(&partition(0)).await.unwrap(), Offset(expected), "{reset:?}");
        }
        let mut consumer = builder(&log).offset_reset(OffsetReset::Fail).build().unwrap();
        consumer.assign(&[partition(0)]).unwrap();
        let error = consumer.recv().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("nothing is committed there"), "{error}");
        consumer.seek(&partition(0), Offset(9)).unwrap();
        assert_eq!(take(&mut consumer, 1).await, ["9"]);
    });
}

#[test]
fn committed_positions_are_where_the_next_one_begins() {
    on_every_log(|log| async move {
        write(&log, 0, 0..10).await;
        let open = || builder(&log).group_id("g").auto_commit(None).build().unwrap();
        let mut consumer = open();
        consumer.assign(&[partition(0)]).unwrap();
        take(&mut consumer, 4).await;
        assert_eq!(consumer.committed(&partition(0)).await.unwrap(), None);
        consumer.commit().await.unwrap();
        assert_eq!(consumer.committed(&partition(0)).await.unwrap(), Some(Offset(4)));
        consumer.commit_positions(&[(partition(1), Offset(0)), (partition(0), Offset(3))]).await.unwrap();
        let mut next = open();
        next.assign(&[partition(0)]).unwrap();
        assert_eq!(take(&mut next, 1).await, ["3"]);
        let mut none = builder(&log).build().unwrap();
        none.assign(&[partition(0)]).unwrap();
        assert_eq!(none.commit().await.unwrap_err().kind(), ErrorKind::Invalid);
        assert_eq!(none.positions().unwrap_err().kind(), ErrorKind::Invalid);
    });
}

#[test]
fn positions_are_committed_by_themselves_behind_what_was_processed() {
    on_every_log(|log| async move {
        write(&log, 0, 0..10).await;
        let interval = Duration::from_secs(2);
        let mut consumer = builder(&log).group_id("g").auto_commit(interval).build().unwrap();
        consumer.assign(&[partition(0)]).unwrap();
        assert_eq!(take(&mut consumer, 4).await.len(), 4);
        sleep_until(Instant::now() + Duration::from_secs(3)).await;
        // The fourth is processed when the fifth is asked for.
        assert_eq!(take(&mut consumer, 1).await, ["4"]);
        assert_eq!(consumer.committed(&partition(0)).await.unwrap(), Some(Offset(4)));
        take(&mut consumer, 5).await;
        // It does so while it waits, too.
        let waiting = tokio::spawn(async move { consumer.recv().await.map(drop) });
        let committed =
            async || log.committed(&GroupId("g".into()), &partition(0)).await.unwrap().unwrap().offset;
        while committed().await < Offset(10) {
            sleep_until(Instant::now() + Duration::from_secs(1)).await;
        }
        assert!(!waiting.is_finished());
    });
}

#[test]
fn waiting_ends_with_the_next_record() {
    on_every_log(|log| async move {
        let mut consumer = builder(&log).build().unwrap();
        consumer.assign(&all()).unwrap();
        let receive = tokio::spawn(async move { consumer.recv().await.unwrap().record.value });
        tokio::task::yield_now().await;
        write(&log, 2, 0..1).await;
        assert_eq!(receive.await.unwrap(), "0");
    });
}

#[test]
fn partitions_that_are_paused_give_nothing_and_lose_nothing() {
    on_every_log(|log| async move {
        write(&log, 0, 0..4).await;
        write(&log, 1, 10..14).await;
        let mut consumer = builder(&log).build().unwrap();
        consumer.assign(&all()).unwrap();
        take(&mut consumer, 1).await;
        consumer.pause(&[partition(0)]).unwrap();
        assert_eq!(consumer.paused(), [partition(0)]);
        let mut values = Vec::new();
        while let Some(record) = consumer.recv().now_or_never() {
            values.push(record.unwrap().record.value);
        }
        assert!(values.iter().all(|value| value.len() == 2), "{values:?}");
        consumer.pause(&all()).unwrap();
        consumer.resume(&[partition(0)]).unwrap();
        let mut resumed = Vec::new();
        while let Some(record) = consumer.recv().now_or_never() {
            resumed.push(record.unwrap().record.value);
        }
        assert!(resumed.ends_with(&["1".into(), "2".into(), "3".into()]), "{resumed:?}");
        assert!(
            consumer
                .resume(&[TopicPartition::new(partition(0).topic, headwater_core::Partition(9))])
                .is_err()
        );
    });
}

#[test]
fn a_record_that_cannot_be_decoded_stays_until_it_is_passed_over() {
    on_every_log(|log| async move {
        write(&log, 0, 0..3).await;
        let mut consumer = Consumer::<String, u64>::builder(log.clone())
            .offset_reset(OffsetReset::Earliest)
            .build()
            .unwrap();
        consumer.assign(&[partition(0)]).unwrap();
        for _ in 0..2 {
            let error = consumer.recv().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Processing);
            assert!(error.to_string().contains("partition=numbers-0, offset=0"), "{error}");
        }
        let failed: Vec<_> = consumer.stream().collect().await;
        assert_eq!(failed.len(), 1);
        consumer.skip();
        assert_eq!(consumer.position(&partition(0)).await.unwrap(), Offset(1));
        let error = consumer.recv().await.unwrap_err();
        assert!(error.to_string().contains("offset=1"), "{error}");
    });
}

#[test]
fn a_position_that_is_gone_is_reset_or_an_error_that_says_what_is_there() {
    on_every_log(|log| async move {
        write(&log, 0, 0..10).await;
        let mut strict = builder(&log).offset_reset(OffsetReset::Fail).fetch_bytes(1).build().unwrap();
        let mut lenient = builder(&log).fetch_bytes(1).build().unwrap();
        for consumer in [&mut strict, &mut lenient] {
            consumer.assign(&[partition(0)]).unwrap();
            consumer.seek(&partition(0), Offset(1)).unwrap();
            assert_eq!(take(consumer, 1).await, ["1"]);
        }
        log.delete_records(&partition(0), Offset(6)).await.unwrap();
        let error = strict.recv().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        let text = error.to_string();
        assert!(text.ends_with("partition=numbers-0, offset=2, earliest=6, end=10"), "{text}");
        assert_eq!(take(&mut lenient, 1).await, ["6"]);
        lenient.seek(&partition(0), Offset(99)).unwrap();
        assert_eq!(take(&mut lenient, 1).await, ["6"]);
    });
}

#[test]
fn a_partition_assigned_by_hand_that_is_not_there_is_an_error() {
    on_every_log(|log| async move {
        let mut consumer = builder(&log).build().unwrap();
        let error = consumer.recv().await.unwrap_err();
        assert!(error.to_string().contains("`subscribe` or `assign` first"), "{error}");
        consumer.assign(&[partition(3)]).unwrap();
        assert_eq!(consumer.recv().await.unwrap_err().kind(), ErrorKind::Invalid);
        consumer.assign(&[partition(2)]).unwrap();
        assert!(consumer.recv().now_or_never().is_none());
        assert_eq!(consumer.assignment(), [partition(2)]);
    });
}

#[test]
fn nothing_of_an_open_or_aborted_transaction_is_read() {
    on_every_log(|log| async move {
        let producer =
            Producer::<String, String>::builder(log.clone()).transactional_id("tx").build().await.unwrap();
        let record = Record::new("k".to_owned(), "v".to_owned(), Timestamp(0));
        for isolation in [Isolation::ReadCommitted, Isolation::ReadUncommitted] {
            let mut consumer =
                builder(&log).offset_reset(OffsetReset::Latest).isolation(isolation).build().unwrap();
            consumer.assign(&[partition(0)]).unwrap();
            consumer.position(&partition(0)).await.unwrap();
            producer.begin().await.unwrap();
            producer.send_to(&partition(0), &record).await.unwrap();
            producer.abort().await.unwrap();
            producer.begin().await.unwrap();
            producer.send_to(&partition(0), &record).await.unwrap();
            producer.flush().await.unwrap();
            assert!(consumer.recv().now_or_never().is_none());
            producer.commit().await.unwrap();
            take(&mut consumer, 1).await;
            assert!(consumer.recv().now_or_never().is_none());
        }
    });
}

#[test]
fn memory_held_is_bounded_and_every_partition_gets_its_turn() {
    on_every_log(|log| async move {
        let producer =
            Producer::<String, Bytes>::builder(log.clone()).batch_bytes(1000).build().await.unwrap();
        for i in 0..300 {
            let record = Record::new("k".to_owned(), Bytes::from(vec![0; 100]), Timestamp(i));
            producer.send_to(&partition(i as u32 % 3), &record).await.unwrap();
        }
        producer.close().await.unwrap();
        let mut consumer = Consumer::<String, Bytes>::builder(log.clone())
            .offset_reset(OffsetReset::Earliest)
            .fetch_bytes(2500)
            .partition_bytes(2500)
            .build()
            .unwrap();
        consumer.assign(&all()).unwrap();
        let mut first = Vec::new();
        for _ in 0..3 {
            let batches = consumer.poll().await.unwrap();
            assert!(batches.iter().map(headwater_client::Batch::bytes).sum::<usize>() <= 2500 + 1000);
            first.push(batches[0].partition().clone());
        }
        first.sort();
        assert_eq!(first, all());
    });
}

#[test]
fn a_consumer_of_a_log_that_has_stopped_says_so() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let log = headwater_storage::log::EmbeddedLog::open(folder.path()).unwrap();
        log.create_topic(&TopicSpec::new("numbers", 3).unwrap()).await.unwrap();
        let mut consumer = Text::builder(Arc::new(log.clone())).group_id("g").build().unwrap();
        consumer.subscribe(["numbers"]).await.unwrap();
        assert!(consumer.recv().now_or_never().is_none());
        log.close().await.unwrap();
        assert_eq!(consumer.recv().await.unwrap_err().kind(), ErrorKind::Closed);
        let _ = memory().await;
    });
}
