//! A consumer that does not keep up costs no memory. A process of its own, because other tests would be measured too.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{fs, hint::black_box, sync::Arc};

use bytes::Bytes;
use headwater_client::{Consumer, OffsetReset, Producer};
use headwater_core::{Log, Partition, Record, Timestamp, TopicName, TopicPartition, TopicSpec};
use headwater_storage::log::{Durability, EmbeddedLog, LogOptions};

const MIB: usize = 1 << 20;

const PRODUCED: usize = 512 * MIB;
/// What is produced before memory is measured: several times what log and clients may hold.
const FIRST: usize = 64 * MIB;
/// How much memory may grow from there to the end, whatever is produced.
const GROWTH_MAX: usize = 32 * MIB;
// What is kept would be seen.
const _: () = assert!(PRODUCED - FIRST > 10 * GROWTH_MAX);
const VALUE_BYTES: usize = 4096;
/// The consumer takes one record for so many that are produced.
const SLOWNESS: usize = 256;

/// What of this process is in memory.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().trim().parse::<usize>().unwrap() * 1024
}

/// What is measured is what is used: otherwise the test below could not fail.
fn check_the_gauge() {
    let before = resident();
    let used = black_box(vec![1_u8; 2 * GROWTH_MAX]);
    let with = resident();
    assert!(with - before > GROWTH_MAX, "{} bytes more are seen as {before} and {with}", used.len());
}

async fn log(folder: &std::path::Path) -> Arc<EmbeddedLog> {
    let options = LogOptions {
        durability: Durability::Os,
        journal_segment_bytes: 8 << 20,
        checkpoint_bytes: 8 << 20,
        tail_bytes_max: 4 * MIB,
        queue_bytes_max: 4 * MIB,
        ..LogOptions::default()
    };
    let log = Arc::new(EmbeddedLog::open_with(folder, options).unwrap());
    let spec = TopicSpec::new("numbers", 1).unwrap();
    log.create_topic(&spec).await.unwrap();
    log
}

/// The value of record `number`.
fn value(number: usize) -> Bytes {
    let mut value = vec![b'x'; VALUE_BYTES];
    value[..8].copy_from_slice(&(number as u64).to_be_bytes());
    value.into()
}

#[test]
fn memory_is_bounded_by_what_is_configured_and_not_by_what_is_produced() {
    check_the_gauge();
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let (first, most, last) = runtime.block_on(async {
        let log = log(folder.path()).await;
        let producer = Producer::<(), Bytes>::builder(log.clone()).buffer_bytes(4 * MIB).commit_bytes(MIB);
        let producer = producer.build().await.unwrap();
        let consumer = Consumer::<(), Bytes>::builder(log.clone()).offset_reset(OffsetReset::Earliest);
        let mut consumer = consumer.fetch_bytes(MIB / 4).partition_bytes(MIB / 4).build().unwrap();
        let partition = TopicPartition::new(TopicName::new("numbers").unwrap(), Partition(0));
        consumer.assign(std::slice::from_ref(&partition)).unwrap();
        let (mut consumed, mut first, mut most) = (0, 0, 0);
        for number in 0..PRODUCED / VALUE_BYTES {
            let record = Record {
                key: (),
                value: value(number),
                timestamp: Timestamp(0),
                headers: Default::default(),
            };
            producer.send_to(&partition, &record).await.unwrap();
            if number % SLOWNESS == SLOWNESS - 1 {
                let received = consumer.recv().await.unwrap();
                assert_eq!(received.record.value, value(consumed), "record {consumed}");
                consumed += 1;
                most = most.max(resident());
            }
            if number == FIRST / VALUE_BYTES {
                first = resident();
                most = first;
            }
        }
        producer.flush().await.unwrap();
        let last = resident();
        let end = log.offsets(&partition).await.unwrap().end.0 as usize;
        let position = consumer.position(&partition).await.unwrap().0 as usize;
        assert_eq!((end, position), (PRODUCED / VALUE_BYTES, PRODUCED / VALUE_BYTES / SLOWNESS));
        (first, most.max(last), last)
    });
    let mib = |bytes: usize| bytes / MIB;
    println!(
        "produced {} MiB, consumed 1 of {SLOWNESS} records; in memory {} MiB after {} MiB, {} MiB at most after that, {} MiB at the end",
        mib(PRODUCED),
        mib(first),
        mib(FIRST),
        mib(most),
        mib(last)
    );
    assert!(most.saturating_sub(first) < GROWTH_MAX, "first={first}, most={most}, growth_max={GROWTH_MAX}");
}
