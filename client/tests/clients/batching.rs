//! When batches are closed, and how much may wait.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::FutureExt;
use headwater_client::{Delivery, Producer};
use headwater_core::{Compression, Log, Record, Timestamp};
use tokio::time::{Instant, advance};

use super::logs::{Steered, batches, memory, on_every_log, partition, read, run};

fn record(value: &str) -> Record<String, String> {
    Record::new("k".to_owned(), value.to_owned(), Timestamp(0))
}

async fn send(producer: &Producer<String, String>, value: &str) -> Delivery {
    producer.send_to(&partition(0), &record(value)).await.unwrap()
}

#[test]
fn a_batch_waits_for_linger_and_no_longer() {
    run(async {
        let log = memory().await;
        let linger = Duration::from_millis(50);
        let producer = Producer::builder(Arc::clone(&log) as Arc<_>).linger(linger).build().await.unwrap();
        let began = Instant::now();
        let mut first = send(&producer, "1").await;
        advance(Duration::from_millis(30)).await;
        assert!((&mut first).now_or_never().is_none());
        let second = send(&producer, "2").await;
        second.await.unwrap();
        let waited = began.elapsed();
        assert!((linger..linger + Duration::from_millis(5)).contains(&waited), "{waited:?}");
        first.await.unwrap();
        assert_eq!(batches(&*log, 0).await, 1);
    });
}

#[test]
fn a_full_batch_does_not_wait() {
    on_every_log(|log| async move {
        let builder = Producer::builder(log.clone());
        let producer = builder.linger(Duration::from_secs(3600)).batch_bytes(1000).build().await.unwrap();
        let began = Instant::now();
        let mut deliveries = Vec::new();
        for _ in 0..25 {
            deliveries.push(send(&producer, &"x".repeat(100)).await);
        }
        let full = deliveries.len() - deliveries.len() % 8;
        let last = deliveries.split_off(full - 8);
        for delivery in deliveries {
            delivery.await.unwrap();
        }
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        producer.flush().await.unwrap();
        assert!(last.into_iter().all(|delivery| delivery.now_or_never().unwrap().is_ok()));
        let fetched = log.read(&partition(0), headwater_core::Offset(0), 1 << 20).await.unwrap();
        let sizes: Vec<_> = fetched.batches.iter().map(|batch| batch.bytes().len()).collect();
        assert!(sizes.len() <= 4 && sizes.iter().all(|size| *size <= 1000), "{sizes:?}");
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    });
}

#[test]
fn without_linger_batches_gather_while_a_commit_is_on_its_way() {
    run(async {
        let log = Steered::new(0).await;
        let builder = Producer::builder(Arc::clone(&log) as Arc<_>);
        let producer = builder.linger(Duration::ZERO).build().await.unwrap();
        let first = send(&producer, "0").await;
        tokio::task::yield_now().await;
        let mut last = None;
        for i in 1..100 {
            last = Some(send(&producer, &i.to_string()).await);
        }
        log.commits.add_permits(2);
        first.await.unwrap();
        assert_eq!(last.unwrap().await.unwrap().offset.0, 99);
        assert_eq!(batches(&*log.log, 0).await, 2);
    });
}

#[test]
fn flushing_does_not_wait_for_linger() {
    on_every_log(|log| async move {
        let builder = Producer::builder(log.clone());
        let producer = builder.linger(Duration::from_secs(3600)).build().await.unwrap();
        let began = Instant::now();
        let delivery = send(&producer, "1").await;
        producer.flush().await.unwrap();
        assert!(delivery.now_or_never().unwrap().is_ok());
        assert!(began.elapsed() < Duration::from_secs(1));
        producer.flush().await.unwrap();
    });
}

#[test]
fn a_slow_log_slows_the_sender_down_and_loses_nothing() {
    run(async {
        let log = Steered::new(0).await;
        let builder = Producer::builder(Arc::clone(&log) as Arc<_>);
        let producer = builder.batch_bytes(500).buffer_bytes(5000).build().await.unwrap();
        let taken = Arc::new(AtomicUsize::new(0));
        let sender = tokio::spawn({
            let (producer, taken) = (producer.clone(), Arc::clone(&taken));
            async move {
                for i in 0..1000 {
                    send(&producer, &format!("{i:0>60}")).await;
                    taken.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let mut most = 0;
        while !sender.is_finished() {
            for _ in 0..20 {
                tokio::task::yield_now().await;
                let written = log.offsets(&partition(0)).await.unwrap().end.0 as usize;
                most = most.max(taken.load(Ordering::Relaxed) - written);
            }
            log.commits.add_permits(1);
        }
        log.commits.add_permits(1000);
        producer.close().await.unwrap();
        // Each takes at least 60 bytes of the buffer.
        assert!((10..=5000 / 60).contains(&most), "{most}");
        let values: Vec<_> = read(&*log.log, 0).await.into_iter().map(|(_, _, value)| value).collect();
        assert_eq!(values, (0..1000).map(|i| format!("{i:0>60}")).collect::<Vec<_>>());
    });
}

#[test]
fn batches_are_compressed_when_asked_to() {
    on_every_log(|log| async move {
        for (count, compression) in [(1, Compression::Zstd), (2, Compression::Lz4), (3, Compression::None)] {
            let producer = Producer::builder(log.clone()).compression(compression).build().await.unwrap();
            let last = send(&producer, &"x".repeat(1000)).await;
            let offset = last.await.unwrap().offset;
            assert_eq!(offset.0, count - 1);
            let fetched = log.read(&partition(0), offset, 1).await.unwrap();
            assert_eq!(fetched.batches[0].compression(), compression);
        }
        assert_eq!(read(&*log, 0).await.len(), 3);
    });
}

#[test]
fn many_tasks_send_at_once() {
    on_every_log(|log| async move {
        let builder = Producer::builder(log.clone());
        let producer = builder.batch_bytes(300).buffer_bytes(2000).build().await.unwrap();
        let senders: Vec<_> = (0..10)
            .map(|task| {
                let producer = producer.clone();
                tokio::spawn(async move {
                    for i in 0..100 {
                        send(&producer, &format!("{task} {i:03}")).await.await.unwrap();
                    }
                })
            })
            .collect();
        for sender in senders {
            sender.await.unwrap();
        }
        let mut values: Vec<_> = read(&*log, 0).await.into_iter().map(|(_, _, value)| value).collect();
        for task in 0..10 {
            let of_task: Vec<_> =
                values.iter().filter(|value| value.starts_with(&format!("{task} "))).collect();
            assert!(of_task.is_sorted() && of_task.len() == 100);
        }
        values.dedup();
        assert_eq!(values.len(), 1000);
    });
}
