//! The engine, on the embedded log, over the records that the measuring stick makes:
//! - W1: filter, map, write. No state.
//! - W2b: windowed statistics per key, every update written, with a changelog.
//! - W2a: the same, written once per commit and changed row; a commit for every 100,000 records, synced.
//!
//! Prints CPU nanoseconds per record of the whole process (workers, journal thread, state engine), for a backlog that
//! lies in the log before the clock starts. What a run has written is deleted behind it, as retention would do, and the memory for
//! the next one is made warm (see [`warm_memory`]). `benches/compare-floor` runs it alternately with the hard-coded program that
//! it is compared to. Arguments: `--smoke` for a run of CI, and parts of the names of the workloads that shall run.

use std::{sync::Arc, time::Duration};

use headwater::{
    core::{Admin, Log},
    prelude::*,
    storage::log::{Durability, EmbeddedLog, LogOptions},
};
use headwater_benches::{
    Load, Power, SensorPower, SensorPowerSerde, cpu, fill, say, sensor, warm_memory, windowed,
};

const RUNS: usize = 5;
/// Records between two commits of W2a.
const COMMIT_RECORDS: usize = 100_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Workload {
    W1,
    W2b,
    W2a,
}

impl Workload {
    fn name(self) -> &'static str {
        match self {
            Self::W1 => "W1 filter+map+write",
            Self::W2b => "W2b every update",
            Self::W2a => "W2a dirty per 100k, fsync",
        }
    }

    fn topology(self) -> Result<Topology> {
        let builder = StreamsBuilder::new();
        match self {
            Self::W1 => stateless(&builder),
            Self::W2b => windowed(&builder, Emit::OnUpdate),
            Self::W2a => windowed(&builder, Emit::OnCommit),
        }
        builder.build()
    }

    fn settings(self, run: usize) -> Settings {
        let settings = Settings { memory_bytes: 1 << 30, ..Settings::new(format!("{self:?}-{run}")) };
        match self {
            Self::W1 | Self::W2b => settings,
            Self::W2a => Settings {
                commit_records_max: COMMIT_RECORDS,
                commit_interval: Duration::from_secs(3600),
                ..settings
            },
        }
    }

    fn durability(self) -> Durability {
        if self == Self::W2a { Durability::Fsync } else { Durability::Os }
    }
}

fn main() -> Result<()> {
    let (flags, chosen): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).filter(|a| a != "--bench").partition(|a| a.starts_with("--"));
    // The smoke run of CI: does it work, not how fast.
    let records: u64 = if flags.iter().any(|a| a == "--smoke") { 100_000 } else { 5_000_000 };
    for keys in [1_000, 100_000, 1_000_000] {
        for workload in [Workload::W1, Workload::W2b, Workload::W2a] {
            let is_chosen = chosen.is_empty() || chosen.iter().any(|name| workload.name().contains(name));
            if is_chosen && (workload != Workload::W1 || keys == 1_000) {
                measure(workload, keys, records)?;
            }
        }
    }
    Ok(())
}

fn measure(workload: Workload, keys: u64, records: u64) -> Result<()> {
    let folder = tempfile::tempdir().map_err(|e| Error::io("cannot make a folder", e))?;
    let options = LogOptions { durability: workload.durability(), ..LogOptions::default() };
    let embedded = Embedded::open_with(folder.path(), options)?;
    futures::executor::block_on(async {
        fill(embedded.log(), records, &Load { keys, apart_ms: 1, partitions: 1 }).await?;
        let mut costs = Vec::new();
        for run in 0..RUNS {
            warm_memory(folder.path(), records)?;
            costs.push(drain(&embedded, workload, records, run).await?);
            delete_outputs(embedded.log()).await?;
        }
        costs.sort_by(f64::total_cmp);
        say(&format!(
            "headwater keys={keys:<8} {:<28} best {:>6.1}  median {:>6.1} ns/record",
            workload.name(),
            costs[0],
            costs[RUNS / 2]
        ))
    })
}

/// Deletes all that is not input.
async fn delete_outputs(log: &EmbeddedLog) -> Result<()> {
    for topic in log.topics().await?.into_iter().filter(|topic| topic.name.as_str() != "power") {
        log.delete_topic(&topic.name).await?;
    }
    Ok(())
}

fn stateless(builder: &StreamsBuilder) {
    let power = || Arc::new(SensorPowerSerde) as SerdeRef<SensorPower>;
    builder
        .stream_with("power", Consumed::with(sensor(), power()))
        .filter(|_, reading| reading.power.watts >= 0.0)
        .map_values(|_, SensorPower { sensor, power }| SensorPower {
            sensor,
            power: Power { watts: power.watts * 0.908, ..power },
        })
        .to_with("reduced", Produced::with(sensor(), power()));
}

/// Runs the application over the backlog; CPU nanoseconds per record.
async fn drain(embedded: &Embedded, workload: Workload, records: u64, run: usize) -> Result<f64> {
    let topology = workload.topology()?;
    let start = cpu();
    let streams = embedded.start(topology, workload.settings(run)).await?;
    streams.caught_up().await?;
    let cost = cpu() - start;
    let metrics = streams.close().await?;
    let total = metrics.total();
    let written = if workload == Workload::W2a { 1 } else { records };
    if total.records != records || total.late != 0 || total.written < written {
        return Err(Error::invalid(format!("the run is not valid: {metrics}")));
    }
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    Ok(cost.as_nanos() as f64 / records as f64)
}
