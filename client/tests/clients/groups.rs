//! Groups of consumers: who reads what, who commits, who is told.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use futures::FutureExt;
use headwater_client::{Consumer, ConsumerBuilder, OffsetReset, Producer, Rebalance, RebalanceListener};
use headwater_core::{
    Admin, Assignor, ErrorKind, GroupId, Offset, Partition, Record, Result, Timestamp, TopicChanges,
    TopicName, TopicPartition, TopicSpec,
};
use tokio::time::{Instant, sleep_until, timeout};

use super::logs::{memory, on_every_log, partition, run};

type Text = Consumer<String, String>;

/// Silence is no reason to leave: the clock of a test leaps while everybody waits for the embedded log.
fn builder(log: &Arc<dyn Admin>) -> ConsumerBuilder<String, String> {
    let builder = Text::builder(log.clone()).group_id("readers").offset_reset(OffsetReset::Earliest);
    builder.auto_commit(None).poll_interval_max(Duration::from_secs(1_000_000))
}

async fn subscribed(builder: ConsumerBuilder<String, String>) -> Text {
    let mut consumer = builder.build().unwrap();
    consumer.subscribe(["numbers"]).await.unwrap();
    consumer
}

async fn write(log: &Arc<dyn Admin>, values: std::ops::Range<u32>) {
    let producer = Producer::<String, String>::builder(log.clone()).build().await.unwrap();
    for value in values {
        let record = Record::new("k".to_owned(), value.to_string(), Timestamp(0));
        producer.send_to(&partition(value % 3), &record).await.unwrap();
    }
    producer.close().await.unwrap();
}

/// Has the members look around until `done`. The clock stands still, and the embedded log answers from a thread of its
/// own: no time is long enough to wait for it.
async fn until(members: &mut [&mut Text], done: impl Fn(&[&mut Text]) -> bool) {
    for _ in 0..1_000_000 {
        for member in &mut *members {
            let _ = member.recv().now_or_never();
        }
        if done(members) {
            return;
        }
        std::thread::yield_now();
        tokio::task::yield_now().await;
    }
    panic!("never: {members:?}");
}

/// Has each of the members have so many partitions.
async fn share(members: &mut [&mut Text], counts: &[usize]) {
    until(members, |members| {
        members.iter().map(|member| member.assignment().len()).eq(counts.iter().copied())
    })
    .await;
}

async fn pass(time: Duration) {
    sleep_until(Instant::now() + time).await;
}

fn tp(topic: &str, number: u32) -> TopicPartition {
    TopicPartition::new(TopicName::new(topic).unwrap(), Partition(number))
}

/// Writes down what it is told, and commits what it can.
struct Notes {
    name: &'static str,
    notes: Arc<Mutex<Vec<String>>>,
}

impl Notes {
    fn note(&self, what: &str, partitions: &[TopicPartition]) {
        let numbers: Vec<_> = partitions.iter().map(|p| p.partition.to_string()).collect();
        self.notes.lock().unwrap().push(format!("{} {what} {}", self.name, numbers.join(",")));
    }
}

#[async_trait]
impl RebalanceListener for Notes {
    async fn on_assigned(&mut self, partitions: &[TopicPartition], _: &mut Rebalance<'_>) -> Result<()> {
        self.note("assigned", partitions);
        Ok(())
    }

    async fn on_revoked(
        &mut self,
        partitions: &[TopicPartition],
        consumer: &mut Rebalance<'_>,
    ) -> Result<()> {
        self.note("revoked", partitions);
        consumer.commit().await
    }

    async fn on_lost(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        self.note("lost", partitions);
        Ok(())
    }
}

#[test]
fn members_share_partitions_and_only_what_moves_is_given_up() {
    on_every_log(|log| async move {
        let notes = Arc::<Mutex<Vec<String>>>::default();
        let listener = |name| Notes { name, notes: Arc::clone(&notes) };
        let mut a = subscribed(builder(&log).listener(listener("a"))).await;
        share(&mut [&mut a], &[3]).await;
        let mut b = subscribed(builder(&log).listener(listener("b"))).await;
        for _ in 0..1000 {
            assert!(b.recv().now_or_never().is_none());
            std::thread::yield_now();
        }
        assert_eq!(b.assignment(), []);
        share(&mut [&mut a, &mut b], &[2, 1]).await;
        assert_eq!((a.assignment(), b.assignment()), (vec![partition(0), partition(1)], vec![partition(2)]));
        a.close().await.unwrap();
        share(&mut [&mut b], &[3]).await;
        drop(b);
        let expected = ["a assigned 0,1,2", "a revoked 2", "b assigned 2", "a revoked 0,1", "b assigned 0,1"];
        let mut notes = notes.lock().unwrap();
        // Told again where the call was dropped half way.
        notes.dedup();
        assert_eq!(*notes, expected);
    });
}

#[test]
fn each_record_is_processed_once_while_members_come_and_go() {
    on_every_log(|log| async move {
        let mut values: Vec<u32> = Vec::new();
        let mut members: Vec<Text> = Vec::new();
        for round in 0..12u32 {
            write(&log, round * 30..(round + 1) * 30).await;
            if [2, 5, 6, 9].contains(&round) {
                members.remove(0).close().await.unwrap();
            } else if members.len() < 5 {
                let notes = Notes { name: "m", notes: Arc::default() };
                members.push(subscribed(builder(&log).listener(notes)).await);
            }
            let mut idle = 0;
            // Some are left for the next round, but for the last.
            while values.len() < 360 && idle < if round == 11 { 1_000_000 } else { 100 } {
                idle += 1;
                for member in &mut members {
                    if let Some(record) = member.recv().now_or_never() {
                        values.push(record.unwrap().record.value.parse().unwrap());
                        idle = 0;
                    }
                }
                std::thread::yield_now();
                tokio::task::yield_now().await;
            }
        }
        for mut member in members {
            assert!(member.recv().now_or_never().is_none());
            member.close().await.unwrap();
        }
        // Committed whenever a partition went: nothing twice, nothing missing.
        values.sort_unstable();
        assert_eq!(values, (0..360).collect::<Vec<_>>());
    });
}

#[test]
fn a_zombie_commits_nothing_and_joins_again_when_it_wakes() {
    on_every_log(|log| async move {
        write(&log, 0..9).await;
        let notes = Arc::<Mutex<Vec<String>>>::default();
        let listener = Notes { name: "z", notes: Arc::clone(&notes) };
        let settings = builder(&log).poll_interval_max(Duration::from_secs(10)).listener(listener);
        let mut zombie = subscribed(settings).await;
        share(&mut [&mut zombie], &[3]).await;
        zombie.recv().await.unwrap();
        // Silent for too long: others may have what it has.
        pass(Duration::from_secs(12)).await;
        let mut owner = subscribed(builder(&log)).await;
        share(&mut [&mut owner], &[3]).await;
        assert_eq!(zombie.commit().await.unwrap_err().kind(), ErrorKind::Fenced);
        let producer =
            Producer::<String, String>::builder(log.clone()).transactional_id("tx").build().await.unwrap();
        producer.begin().await.unwrap();
        let record = Record::new("k".to_owned(), "zombie".to_owned(), Timestamp(0));
        producer.send_to(&partition(0), &record).await.unwrap();
        producer.send_offsets(zombie.positions().unwrap()).unwrap();
        assert_eq!(producer.commit().await.unwrap_err().kind(), ErrorKind::Fenced);
        // The transaction was refused, not the producer.
        producer.abort().await.unwrap();
        producer.begin().await.unwrap();
        producer.send_offsets(owner.positions().unwrap()).unwrap();
        producer.commit().await.unwrap();
        assert_eq!(log.offsets(&partition(0)).await.unwrap().end, Offset(3));
        share(&mut [&mut zombie, &mut owner], &[1, 2]).await;
        let notes = notes.lock().unwrap();
        assert_eq!(notes[..2], ["z assigned 0,1,2", "z lost 0,1,2"]);
        assert_eq!(notes.len(), 3);
    });
}

#[test]
fn a_member_that_waits_or_works_is_not_evicted() {
    run(async {
        let log: Arc<dyn Admin> = memory().await;
        let notes = Arc::<Mutex<Vec<String>>>::default();
        let listener = Notes { name: "a", notes: Arc::clone(&notes) };
        let settings = builder(&log).poll_interval_max(Duration::from_secs(10)).listener(listener);
        let mut consumer = subscribed(settings).await;
        assert!(timeout(Duration::from_secs(100), consumer.recv()).await.is_err());
        write(&log, 0..9).await;
        for _ in 0..9 {
            consumer.recv().await.unwrap();
            pass(Duration::from_secs(8)).await;
        }
        consumer.commit().await.unwrap();
        assert_eq!(*notes.lock().unwrap(), ["a assigned 0,1,2"]);
    });
}

#[test]
fn positions_are_committed_before_partitions_go() {
    on_every_log(|log| async move {
        write(&log, 0..30).await;
        let settings = || builder(&log).auto_commit(Duration::from_secs(3600));
        let mut a = subscribed(settings()).await;
        let mut values = BTreeSet::new();
        for _ in 0..12 {
            values.insert(a.recv().await.unwrap().record.value);
        }
        a.close().await.unwrap();
        let mut b = subscribed(settings()).await;
        for _ in 12..30 {
            assert!(values.insert(b.recv().await.unwrap().record.value), "twice");
        }
        assert_eq!(values.len(), 30);
    });
}

#[test]
fn topics_that_come_grow_and_go_are_followed() {
    on_every_log(|log| async move {
        let notes = Arc::<Mutex<Vec<String>>>::default();
        let listener = Notes { name: "a", notes: Arc::clone(&notes) };
        let mut consumer = builder(&log).listener(listener).build().unwrap();
        consumer.subscribe_prefix("nu").await.unwrap();
        share(&mut [&mut consumer], &[3]).await;
        log.create_topic(&TopicSpec::new("nuts", 1).unwrap()).await.unwrap();
        share(&mut [&mut consumer], &[4]).await;
        let changes = TopicChanges { partitions: 2.try_into().ok(), ..TopicChanges::default() };
        log.alter_topic(&tp("nuts", 0).topic, &changes).await.unwrap();
        share(&mut [&mut consumer], &[5]).await;
        write(&log, 0..3).await;
        log.delete_topic(&tp("nuts", 0).topic).await.unwrap();
        let mut values = Vec::new();
        for _ in 0..3 {
            values.push(consumer.recv().await.unwrap().record.value);
        }
        values.sort();
        assert_eq!(values, ["0", "1", "2"]);
        share(&mut [&mut consumer], &[3]).await;
        log.delete_topic(&tp("numbers", 0).topic).await.unwrap();
        share(&mut [&mut consumer], &[0]).await;
        drop(consumer);
        let expected = ["a assigned 0,1,2", "a assigned 0", "a assigned 1", "a lost 0,1", "a lost 0,1,2"];
        assert_eq!(*notes.lock().unwrap(), expected);
    });
}

#[test]
fn range_keeps_partitions_of_one_number_together() {
    on_every_log(|log| async move {
        log.create_topic(&TopicSpec::new("letters", 3).unwrap()).await.unwrap();
        let mut members = Vec::new();
        for _ in 0..2 {
            let mut member = builder(&log).assignor(Assignor::Range).build().unwrap();
            member.subscribe(["numbers", "letters"]).await.unwrap();
            members.push(member);
        }
        let [a, b] = &mut members[..] else { panic!("two were made") };
        share(&mut [a, b], &[4, 2]).await;
        let expected = vec![tp("letters", 0), tp("letters", 1), tp("numbers", 0), tp("numbers", 1)];
        assert_eq!(members[0].assignment(), expected);
        assert_eq!(members[1].assignment(), [tp("letters", 2), tp("numbers", 2)]);
        let mut other = builder(&log).build().unwrap();
        assert_eq!(other.subscribe(["numbers"]).await.unwrap_err().kind(), ErrorKind::Invalid);
    });
}

#[test]
fn another_subscription_takes_the_place_of_the_first() {
    on_every_log(|log| async move {
        log.create_topic(&TopicSpec::new("letters", 1).unwrap()).await.unwrap();
        let mut consumer = subscribed(builder(&log)).await;
        share(&mut [&mut consumer], &[3]).await;
        consumer.subscribe(["letters"]).await.unwrap();
        share(&mut [&mut consumer], &[1]).await;
        assert_eq!(consumer.assignment(), [tp("letters", 0)]);
        assert!(consumer.assign(&[partition(0)]).is_err());
        consumer.unsubscribe().await.unwrap();
        assert_eq!(consumer.assignment(), []);
        consumer.assign(&[partition(0)]).unwrap();
        assert!(consumer.subscribe(["letters"]).await.is_err());
        let mut nobody = Text::builder(log.clone()).build().unwrap();
        assert_eq!(nobody.subscribe(["letters"]).await.unwrap_err().kind(), ErrorKind::Invalid);
    });
}

#[test]
fn a_poll_that_is_dropped_at_any_point_loses_no_partition_and_no_record() {
    on_every_log(|log| async move {
        write(&log, 0..90).await;
        let (mut a, mut values) = (subscribed(builder(&log)).await, Vec::new());
        let mut b = subscribed(builder(&log)).await;
        let mut idle = 0;
        while values.len() < 90 {
            for consumer in [&mut a, &mut b] {
                if let Some(record) = consumer.recv().now_or_never() {
                    values.push(record.unwrap().record.value.parse::<u32>().unwrap());
                    consumer.commit().await.unwrap();
                    idle = 0;
                }
            }
            idle += 1;
            assert!(idle < 1_000_000, "{} records", values.len());
            // The embedded log answers from a thread of its own.
            std::thread::yield_now();
            tokio::task::yield_now().await;
        }
        values.sort_unstable();
        assert_eq!(values, (0..90).collect::<Vec<_>>());
        let group = GroupId("readers".to_owned());
        let committed = log.positions(&group).await.unwrap();
        assert!(committed.iter().all(|(_, at)| at.offset == Offset(30)), "{committed:?}");
    });
}
