//! The sensor example on all series at hand: the same results whatever the workers, the turns and the speed of tasks,
//! equal to an independent computation, and the same after being killed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(
    dead_code,
    reason = "the example's own modules: its `main`, which is in `examples/iot_sensors.rs`, uses the rest"
)]

#[path = "../examples/iot_sensors/alerts.rs"]
mod alerts;
#[path = "../examples/iot_sensors/civil.rs"]
mod civil;
#[path = "../examples/iot_sensors/generate.rs"]
mod generate;
#[path = "../examples/iot_sensors/labels.rs"]
mod labels;
#[path = "../examples/iot_sensors/load.rs"]
mod load;
#[path = "../examples/iot_sensors/readings.rs"]
mod readings;
#[path = "../examples/iot_sensors/report.rs"]
mod report;
#[path = "../examples/iot_sensors/results.rs"]
mod results;
#[path = "../examples/iot_sensors/stats.rs"]
mod stats;
#[path = "../examples/iot_sensors/svg.rs"]
mod svg;
#[path = "../examples/iot_sensors/topology.rs"]
mod topology;

#[path = "iot/determinism.rs"]
mod determinism;
#[path = "iot/kill.rs"]
mod kill;
#[path = "iot/oracle.rs"]
mod oracle;

use std::path::PathBuf;

use headwater::{
    Embedded, InputOrder, Metrics,
    core::{Log, Offset, TopicPartition},
    prelude::*,
    storage::log::{Durability, LogOptions},
};

/// The folder of all 31 series where `HEADWATER_NAB` names it, or the eight that are in the repository.
fn series() -> PathBuf {
    let examples = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples/data");
    let all = std::env::var_os("HEADWATER_NAB").map(PathBuf::from).filter(|folder| folder.is_dir());
    all.unwrap_or_else(|| {
        eprintln!("### HEADWATER_NAB names no folder: testing with the 8 series of the repository, not with all 31 ###");
        examples
    })
}

/// How one run differs from another.
#[derive(Clone)]
struct Run {
    workers: usize,
    turn_records_max: usize,
    order: InputOrder,
    /// Makes the task of one partition slow.
    slow: bool,
}

const PLAIN: Run = Run { workers: 1, turn_records_max: 10_000, order: InputOrder::Lanes, slow: false };

/// A record of an output partition, as bytes.
type Raw = (i64, Option<Vec<u8>>, Option<Vec<u8>>);

/// Runs the example's topology over the backlog in a new folder; all records of each output partition, and counters.
fn run(run: &Run) -> (Vec<(String, Vec<Raw>)>, Metrics) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let options = LogOptions { durability: Durability::Os, ..LogOptions::default() };
    let embedded = Embedded::open_with(folder.path(), options).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        load::load(&embedded, &load::Input::Folder(series())).await.unwrap();
        let slow = run.slow;
        let rule = alerts::AlertRule::default();
        let topology =
            built(rule, Emit::OnUpdate, |readings| if slow { readings.filter(slowly) } else { readings });
        let settings = Settings {
            workers: run.workers,
            turn_records_max: run.turn_records_max,
            input_order: run.order,
            on_error: ErrorPolicy::DeadLetter(topology::DEAD_LETTERS.to_owned()),
            ..Settings::new("iot-sensors")
        };
        let streams = embedded.start(topology.unwrap(), settings).await.unwrap();
        streams.caught_up().await.unwrap();
        let metrics = streams.close().await.unwrap();
        let outputs = outputs(&embedded).await;
        embedded.close().await.unwrap();
        (outputs, metrics)
    })
}

/// The example's topology; see there.
fn built(
    rule: alerts::AlertRule,
    daily: Emit,
    between: impl FnOnce(KStream<String, readings::Reading>) -> KStream<String, readings::Reading>,
) -> Result<Topology> {
    let builder = StreamsBuilder::new();
    topology::write(&builder, rule, daily, between);
    builder.build()
}

/// Lets every reading through, those of one partition's sensors slowly.
fn slowly(sensor: &String, _: &readings::Reading) -> bool {
    let partition =
        headwater::core::partition_for_key(sensor.as_bytes(), std::num::NonZeroU32::new(4).unwrap());
    if partition.0 == 2 {
        // Work, not sleep: about 20 microseconds of it per reading.
        let sum: u64 = (0..20_000u64).fold(0, |sum, n| std::hint::black_box(sum.wrapping_mul(31) ^ n));
        std::hint::black_box(sum);
    }
    true
}

/// Every record of every output partition.
async fn outputs(embedded: &Embedded) -> Vec<(String, Vec<Raw>)> {
    let mut outputs = Vec::new();
    for topic in embedded.log().topics().await.unwrap() {
        let written = [topology::HOURLY, topology::DAILY, topology::ALERTS, topology::DEAD_LETTERS];
        if written.contains(&topic.name.as_str()) {
            for partition in topic.topic_partitions() {
                outputs.push((partition.to_string(), records(embedded.log(), &partition).await));
            }
        }
    }
    outputs
}

async fn records(log: &dyn Log, partition: &TopicPartition) -> Vec<Raw> {
    let (mut records, mut next) = (Vec::new(), Offset(0));
    loop {
        let fetched = log.read(partition, next, 1 << 20).await.unwrap();
        if fetched.batches.is_empty() {
            return records;
        }
        for batch in fetched.batches {
            let mut cursor = batch.cursor();
            while let Some(record) = cursor.next().transpose().unwrap() {
                assert_eq!(record.offset, next, "offsets are dense");
                next = record.offset.next();
                records.push((
                    record.timestamp.0,
                    record.key.map(<[u8]>::to_vec),
                    record.value.map(<[u8]>::to_vec),
                ));
            }
        }
    }
}
