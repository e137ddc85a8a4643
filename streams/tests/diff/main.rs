//! What a replay wrote against what the live run wrote: every difference is found, and nothing else.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod differences;
mod model;
mod outputs;
mod ranges;
mod report;

use std::num::NonZeroUsize;

use futures::executor::block_on;
use headwater_core::{
    BatchBuilder, Headers, Log, Partition, ProducerName, Timestamp, TopicName, TopicPartition, TopicSpec,
    memory::MemoryLog,
};
use headwater_streams::{
    Output, OutputKind, StreamsBuilder,
    replay::diff::{self, Diff, Limits, Scope, TopicDiff},
};
use proptest::test_runner::Config as ProptestConfig;

/// `HEADWATER_CASES` says how many; proptest prints the seed of one that fails.
fn cases(default: u32) -> ProptestConfig {
    let cases = std::env::var("HEADWATER_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(default);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

const TOPIC: &str = "results";

/// A record as it lies in a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Written {
    partition: u32,
    key: Option<&'static str>,
    value: Option<String>,
    time: i64,
    headers: Headers,
}

fn record(key: &'static str, value: &str, time: i64) -> Written {
    Written { partition: 0, key: Some(key), value: Some(value.to_owned()), time, headers: Headers::new() }
}

/// A log with the topic, in batches of three records.
fn log_of(partitions: u32, records: &[Written]) -> MemoryLog {
    let log = MemoryLog::default();
    block_on(async {
        log.create_topic(&TopicSpec::new(TOPIC, partitions).unwrap()).await.unwrap();
        let mut producer = log.producer(&ProducerName("test".to_owned())).await.unwrap();
        let topic = TopicName::new(TOPIC).unwrap();
        for number in 0..partitions {
            let of_partition: Vec<_> = records.iter().filter(|record| record.partition == number).collect();
            for some in of_partition.chunks(3) {
                let mut batch = BatchBuilder::default();
                for Written { key, value, time, headers, .. } in some {
                    let value = value.as_deref().map(str::as_bytes);
                    batch.push(Timestamp(*time), key.map(str::as_bytes), value, headers);
                }
                producer.append(&TopicPartition::new(topic.clone(), Partition(number)), &mut batch).unwrap();
                producer.commit(None).await.unwrap();
            }
        }
    });
    log
}

/// The output of a topology that writes text into the topic, of this kind.
fn output(kind: OutputKind) -> Output {
    let builder = StreamsBuilder::new();
    builder.stream::<String, Option<String>>("texts").to(TOPIC);
    let outputs = builder.build().unwrap().outputs();
    assert_eq!(outputs.len(), 1);
    outputs[0].clone().with_kind(kind)
}

fn compare_logs(output: &Output, scope: &Scope, live: &MemoryLog, replayed: &MemoryLog) -> Diff {
    let limits = Limits { bytes_max: NonZeroUsize::new(1 << 20).unwrap(), examples_max: 3 };
    block_on(diff::compare(std::slice::from_ref(output), scope, live, replayed, limits)).unwrap()
}

fn compare(kind: OutputKind, live: &[Written], replayed: &[Written]) -> TopicDiff {
    let (live, replayed) = (log_of(1, live), log_of(1, replayed));
    compare_logs(&output(kind), &Scope::default(), &live, &replayed).topics.remove(0)
}
