//! Nothing is allocated per record: only per batch, per commit, and for a key that was not there yet.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{alloc::System, sync::Arc, time::Duration};

use futures::executor::block_on;
use headwater_core::{
    BatchBuilder, DefaultSerde, Headers, Log, Partition, ProducerName, SerdeRef, Timestamp, TopicName,
    TopicPartition, TopicSpec,
    memory::{MemoryBackend, MemoryLog},
};
use headwater_streams::{
    Produced, Settings, StreamsBuilder, TimeWindows, Topology, Windowed, testing::TopologyTestDriver,
    windowed_serde,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const KEYS: u64 = 500;
const RECORDS: u64 = 50_000;
/// Batches hold hundreds of records, so what is allocated for them is less than one for so many records.
const RECORDS_PER_ALLOCATION: usize = 100;

/// Appends `RECORDS` records in large batches, over all keys, all within one minute.
fn append(log: &MemoryLog, minute: i64) {
    let partition = TopicPartition::new(TopicName::new("in").unwrap(), Partition(0));
    let mut producer = block_on(log.producer(&ProducerName("test".to_owned()))).unwrap();
    let mut batch = BatchBuilder::default();
    for i in 0..RECORDS {
        let (key, value) = ((i * 7 % KEYS).to_be_bytes(), i.to_be_bytes());
        let timestamp = Timestamp(minute * 60_000 + i64::try_from(i % 1000).unwrap());
        batch.push(timestamp, Some(&key), Some(&value), &Headers::new());
        if batch.size() > 16_384 {
            producer.append(&partition, &mut batch).unwrap();
        }
    }
    producer.append(&partition, &mut batch).unwrap();
    block_on(producer.commit(None)).unwrap();
}

/// Allocations of a run over records whose keys were all seen before.
fn allocations(topology: Topology) -> usize {
    let log = MemoryLog::default();
    block_on(log.create_topic(&TopicSpec::new("in", 1).unwrap())).unwrap();
    let ports = (Arc::new(log.clone()) as _, Arc::new(MemoryBackend::default()) as _);
    let mut driver = TopologyTestDriver::on(topology, Settings::new("counted"), 1, ports).unwrap();
    for _ in 0..3 {
        append(&log, 0);
        driver.run().unwrap();
    }
    append(&log, 0);
    let before = ALLOCATOR.stats();
    driver.run().unwrap();
    let after = ALLOCATOR.stats();
    assert_eq!(driver.metrics().total().records, 4 * RECORDS);
    after.allocations + after.reallocations - before.allocations - before.reallocations
}

fn built(build: impl FnOnce(&StreamsBuilder)) -> Topology {
    let builder = StreamsBuilder::new();
    build(&builder);
    builder.build().unwrap()
}

/// One test, because another one at its side would be counted, too.
#[test]
fn nothing_is_allocated_per_record() {
    let minutes = || TimeWindows::tumbling(Duration::from_secs(60)).grace(Duration::from_secs(5));
    let topologies = [
        (
            "filter, map",
            built(|b| b.stream::<u64, u64>("in").filter(|_, n| *n > 7).map_values(|_, n| n + 1).to("out")),
        ),
        (
            "windowed statistics",
            built(|b| {
                let table = b.stream::<u64, u64>("in").group_by_key().windowed_by(minutes());
                let table = table.aggregate("sums", u64::default, |_, n, sum| *sum += n);
                let serde: SerdeRef<Windowed<u64>> =
                    windowed_serde(u64::default_serde(), Duration::from_secs(60));
                let produced = Produced::with(serde, u64::default_serde());
                table.to_stream().to_with("out", produced);
            }),
        ),
        ("count", built(|b| b.stream::<u64, u64>("in").group_by_key().count("counts").to_stream().to("out"))),
        (
            "branches that merge",
            built(|b| {
                let stream = b.stream::<u64, u64>("in");
                stream.filter(|_, n| n % 2 == 0).merge(&stream.filter_not(|_, n| n % 2 == 0)).to("out");
            }),
        ),
        (
            "join with a table",
            built(|b| {
                let stream = b.stream::<u64, u64>("in");
                let latest = stream.to_table("latest");
                stream.join_table(&latest, |_, n, latest| n + latest).to("out");
            }),
        ),
    ];
    for (name, topology) in topologies {
        let count = allocations(topology);
        eprintln!("{name}: {count} allocations for {RECORDS} records");
        assert!(count < usize::try_from(RECORDS).unwrap() / RECORDS_PER_ALLOCATION, "{name}: {count}");
    }
}
