//! A live log with topics of `String` and `u64`, and what replays of it come to.

use std::{collections::BTreeMap, sync::Arc};

use futures::executor::block_on;
use headwater_core::{
    Admin as _, BatchBuilder, Headers, Log, Offset, Partition, ProducerName, RecordBatch, Result, Timestamp,
    TopicName, TopicPartition, TopicSpec,
    memory::{MemoryBackend, MemoryLog},
    partition_for_key,
};
use headwater_streams::{
    Settings, Streams, Topology,
    replay::{Options, Plan, Report, Run},
};

/// Key, value, timestamp.
pub(crate) type Sent = (String, u64, i64);
/// Key, value and timestamp as bytes, in the order of a partition.
pub(crate) type Contents = Vec<(Option<Vec<u8>>, Option<Vec<u8>>, i64)>;

/// Later than all that tests send.
pub(crate) const NOW: Timestamp = Timestamp(1_000_000);

pub(crate) fn partition(topic: &str, number: u32) -> TopicPartition {
    TopicPartition::new(TopicName::new(topic).unwrap(), Partition(number))
}

pub(crate) fn live(topics: &[(&str, u32)]) -> MemoryLog {
    let log = MemoryLog::default();
    for (topic, partitions) in topics {
        block_on(log.create_topic(&TopicSpec::new(topic, *partitions).unwrap())).unwrap();
    }
    log
}

/// Sends records to the partitions of their keys, so many to a batch.
pub(crate) fn send(log: &MemoryLog, topic: &str, records: &[Sent], batch_records: usize) {
    let topics = block_on(log.topics()).unwrap();
    let count = topics.iter().find(|spec| spec.name.as_str() == topic).unwrap().partitions;
    let mut producer = block_on(log.producer(&ProducerName("input".into()))).unwrap();
    let mut open: BTreeMap<TopicPartition, BatchBuilder> = BTreeMap::new();
    for (key, value, time) in records {
        let at = partition(topic, partition_for_key(key.as_bytes(), count).0);
        let batch = open.entry(at.clone()).or_default();
        batch.push(Timestamp(*time), Some(key.as_bytes()), Some(&value.to_be_bytes()), &Headers::new());
        if batch.record_count() as usize >= batch_records {
            producer.append(&at, batch).unwrap();
        }
    }
    for (at, batch) in open.iter_mut().filter(|(_, batch)| !batch.is_empty()) {
        producer.append(at, batch).unwrap();
    }
    block_on(producer.commit(None)).unwrap();
}

fn batches(log: &MemoryLog, partition: &TopicPartition) -> Vec<RecordBatch> {
    let mut next = block_on(log.offsets(partition)).unwrap().earliest;
    let mut batches = Vec::new();
    loop {
        let fetched = block_on(log.read(partition, next, usize::MAX)).unwrap();
        let Some(last) = fetched.batches.last() else { return batches };
        next = last.next_offset();
        batches.extend(fetched.batches);
    }
}

pub(crate) fn records(log: &MemoryLog, partition: &TopicPartition) -> Vec<(Offset, Contents)> {
    let mut records = Vec::new();
    for batch in batches(log, partition) {
        let mut cursor = batch.cursor();
        while let Some(record) = cursor.next().transpose().unwrap() {
            let contents =
                (record.key.map(<[u8]>::to_vec), record.value.map(<[u8]>::to_vec), record.timestamp.0);
            records.push((record.offset, vec![contents]));
        }
    }
    records
}

/// What lies in each partition of a topic.
pub(crate) fn contents(log: &MemoryLog, topic: &str) -> Vec<Contents> {
    let topics = block_on(log.topics()).unwrap();
    let spec = topics.iter().find(|spec| spec.name.as_str() == topic).unwrap();
    let of = |p: TopicPartition| records(log, &p).into_iter().flat_map(|(_, record)| record).collect();
    spec.topic_partitions().map(of).collect()
}

/// Everything in a log: what nobody may change.
pub(crate) fn everything(log: &MemoryLog) -> String {
    let mut all = String::new();
    for spec in block_on(log.topics()).unwrap() {
        all += &format!("{spec:?}\n");
        for partition in spec.topic_partitions() {
            let offsets = block_on(log.offsets(&partition)).unwrap();
            all += &format!("{offsets:?} {:?}\n", records(log, &partition));
        }
    }
    for group in block_on(log.groups()).unwrap() {
        all += &format!("{group} {:?}\n", block_on(log.positions(&group)).unwrap());
    }
    all
}

pub(crate) fn settings() -> Settings {
    Settings { restarts_max: 0, ..Settings::new("app") }
}

pub(crate) fn plan(topology: &Topology, options: &Options, live: &MemoryLog) -> Result<Plan> {
    block_on(Plan::resolve(topology, &settings(), options, NOW, live))
}

pub(crate) fn start(
    topology: &Topology,
    settings: Settings,
    plan: &Plan,
    (live, own, state): (&MemoryLog, &MemoryLog, &Arc<MemoryBackend>),
) -> Result<Run> {
    let (live, own) = (Arc::new(live.clone()), Arc::new(own.clone()));
    block_on(Run::start(topology, settings, plan, live, own, Arc::clone(state) as _))
}

/// What a replay writes.
pub(crate) fn replay(topology: &Topology, options: &Options, live: &MemoryLog) -> (Report, MemoryLog) {
    replay_with(topology, settings(), options, live)
}

pub(crate) fn replay_with(
    topology: &Topology,
    settings: Settings,
    options: &Options,
    live: &MemoryLog,
) -> (Report, MemoryLog) {
    let before = everything(live);
    let (own, state) = (MemoryLog::default(), Arc::new(MemoryBackend::default()));
    let plan = plan(topology, options, live).unwrap();
    let run = start(topology, settings, &plan, (live, &own, &state)).unwrap();
    let report = block_on(run.finish()).unwrap();
    assert!(report.finished);
    assert!(everything(live) == before, "a replay changes nothing in the live log");
    (report, own)
}

/// Runs the topology live, to the end of what there is.
pub(crate) fn run_live(topology: &Topology, live: &MemoryLog) {
    let (log, state) = (Arc::new(live.clone()), Arc::new(MemoryBackend::default()));
    block_on(async {
        let streams = Streams::start(topology.clone(), settings(), log, state).await.unwrap();
        streams.caught_up().await.unwrap();
        streams.close().await.unwrap();
    });
}
