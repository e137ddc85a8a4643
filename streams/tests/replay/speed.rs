//! What a replay costs beside a live run: processor time per record, which other processes do not disturb as they do the
//! clock. Not a test of its own: `cargo test --release -p headwater-streams --test replay speed -- --ignored --nocapture`.

use std::{sync::Arc, time::Duration};

use futures::executor::block_on;
use headwater_core::{
    BatchBuilder, Compression, Headers, Log, ProducerName, Timestamp,
    memory::{MemoryBackend, MemoryLog},
};
use headwater_streams::{
    StreamsBuilder, TimeWindows, Topology,
    replay::{Options, Position},
};

use crate::world::{live, partition, plan, run_live, settings, start};

const PARTITIONS: u32 = 4;
const RECORDS: u64 = 4_000_000;

fn topology() -> Topology {
    let builder = StreamsBuilder::new();
    builder
        .stream::<String, u64>("in")
        .group_by_key()
        .windowed_by(TimeWindows::tumbling(Duration::from_secs(60)).grace(Duration::from_secs(10)))
        .count("counts")
        .to_stream()
        .map(|at, n| (at.key, n))
        .to("out");
    builder.build().unwrap()
}

fn world(codec: Compression) -> MemoryLog {
    let log = live(&[("in", PARTITIONS)]);
    let mut producer = block_on(log.producer(&ProducerName("input".into()))).unwrap();
    let mut batch = BatchBuilder::default();
    batch.set_compression(codec);
    for n in 0..RECORDS {
        let key = format!("sensor-{:04}", n * 7 % 1_000);
        // A thousand sensors, once a second, up to half a second late.
        let time = Timestamp((n + 1_000 - n * n % 500).cast_signed());
        batch.push(time, Some(key.as_bytes()), Some(&n.to_be_bytes()), &Headers::new());
        if n % 1_000 == 999 {
            let at = partition("in", u32::try_from(n / 1_000 % u64::from(PARTITIONS)).unwrap());
            producer.append(&at, &mut batch).unwrap();
            batch.set_compression(codec);
            if n % 100_000 == 99_999 {
                block_on(producer.commit(None)).unwrap();
            }
        }
    }
    block_on(producer.commit(None)).unwrap();
    log
}

/// Of this process and its threads, in nanoseconds per record.
fn cost(run: impl FnOnce()) -> u64 {
    let spent = || -> u64 {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        // A hundred ticks a second, of the user and of the system.
        (fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()) * 10_000_000
    };
    let before = spent();
    run();
    (spent() - before) / RECORDS
}

#[test]
#[ignore = "measures"]
fn a_replay_costs_about_what_a_live_run_costs() {
    for codec in [Compression::None, Compression::Lz4, Compression::Zstd] {
        let log = world(codec);
        let replay = |options: &Options| {
            let plan = plan(&topology(), options, &log).unwrap();
            let (own, state) = (MemoryLog::default(), Arc::new(MemoryBackend::default()));
            let run = start(&topology(), settings(), &plan, (&log, &own, &state)).unwrap();
            block_on(run.finish()).unwrap();
        };
        let all = Options::default();
        let from = Options { from: Position::Time(Timestamp(600)), ..Options::default() };
        let both = Options { until: Position::Time(Timestamp(RECORDS.cast_signed() - 600)), ..from.clone() };
        for _ in 0..3 {
            let log = world(codec);
            let live = cost(|| run_live(&topology(), &log));
            let [all, from, both] = [&all, &from, &both].map(|options| cost(|| replay(options)));
            eprintln!(
                "{codec:?}: live {live} ns, replay of all {all}, from a time {from}, between times {both}"
            );
        }
    }
}
