//! A replay beside the live engine, over the same records: what a record costs, and how well a pace is kept.
//!
//! `make bench BENCH_ARGS="--bench replay"`. Live runs and replays of W2 (statistics per sensor and minute, every update written,
//! changelog on, exactly once) take turns over a backlog in the embedded log; CPU of the whole process. The replay reads the
//! backlog as another process would, through a read-only view of the folder, and writes into a log and a state of its own.
//! Then the last minutes are replayed at 60 times their pace.
//!
//! Arguments: `--smoke` for a run of CI; a number of records (50,000,000 unless given).

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use headwater::{
    core::Log,
    prelude::*,
    replay::{Options, Plan, Position, Report, Run},
    storage::{
        log::{Durability, EmbeddedLog, LogOptions, ObservedLog},
        state::{RocksBackend, RocksOptions},
    },
};
use headwater_benches::{Load, cpu, fill, say, windowed};

const ROUNDS: usize = 3;
const KEYS: u64 = 1_000;
/// Of event time; at the pace of 60 a second each.
const PACED_MINUTES: i64 = 20;
const PACE: f64 = 60.0;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let smoke = arguments.iter().any(|a| a == "--smoke");
    let given = arguments.iter().find_map(|a| a.parse().ok());
    let records = given.unwrap_or(if smoke { 100_000 } else { 50_000_000 });
    futures::executor::block_on(measure(records, if smoke { 1 } else { ROUNDS }, smoke))
}

async fn measure(records: u64, rounds: usize, smoke: bool) -> Result<()> {
    let folder = tempfile::tempdir().map_err(|e| Error::io("cannot make a folder", e))?;
    let live = folder.path().join("live");
    let embedded = Embedded::open_with(&live, options())?;
    // 200 records in a millisecond of event time would be over too soon for the pace: a day of them.
    let apart_ms = 86_400_000 / i64::try_from(records / 1000).unwrap_or(i64::MAX).max(1);
    fill(embedded.log(), records, &Load { keys: KEYS, apart_ms, partitions: 1 }).await?;
    let mut ratios = Vec::new();
    for round in 0..rounds {
        let (live_ns, output) = run_live(&embedded, records, round).await?;
        let own = folder.path().join(format!("replay-{round}"));
        let (replay_ns, report) = replay(&live, &own, Options::default()).await?;
        if report.outputs.get("stats") != Some(&output) {
            return Err(Error::invalid(format!("the replay wrote something else: {report}")));
        }
        ratios.push(replay_ns / live_ns);
        say(&format!(
            "W2b {records} records   live {live_ns:6.1} ns/record   replay {replay_ns:6.1} ns/record   ratio {:.2}",
            replay_ns / live_ns
        ))?;
    }
    ratios.sort_by(f64::total_cmp);
    say(&format!("median of the ratios: {:.2}", ratios[ratios.len() / 2]))?;
    if !smoke {
        paced(&live, &folder.path().join("paced"), apart_ms, records).await?;
    }
    embedded.close().await
}

/// The last minutes, at their pace.
async fn paced(live: &Path, own: &Path, apart_ms: i64, records: u64) -> Result<()> {
    let last = 1_700_000_000_000 + apart_ms * i64::try_from(records / 1000).unwrap_or(i64::MAX);
    let options = Options {
        from: Position::Time(Timestamp(last - PACED_MINUTES * 60_000)),
        pace: Some(PACE),
        ..Options::default()
    };
    let start = Instant::now();
    let (_, report) = replay(live, own, options).await?;
    let (Some(from), Some(reached)) = (report.from, report.reached) else {
        return Err(Error::invalid(format!("nothing was replayed: {report}")));
    };
    #[expect(clippy::cast_precision_loss, reason = "minutes")]
    let expected = (reached.0 - from.0) as f64 / 1000.0 / PACE;
    let took = start.elapsed().as_secs_f64();
    say(&format!(
        "at {PACE}x: {expected:.3} s expected, {took:.3} s taken with start and end, {:+.2} %",
        (took / expected - 1.0) * 100.0
    ))
}

fn options() -> LogOptions {
    LogOptions { durability: Durability::Os, ..LogOptions::default() }
}

fn settings(name: String) -> Settings {
    Settings { memory_bytes: 1 << 30, ..Settings::new(name) }
}

fn topology() -> Result<Topology> {
    let builder = StreamsBuilder::new();
    windowed(&builder, Emit::OnUpdate);
    builder.build()
}

/// CPU nanoseconds per record, and how many were written.
async fn run_live(embedded: &Embedded, records: u64, round: usize) -> Result<(f64, u64)> {
    let start = cpu();
    let streams = embedded.start(topology()?, settings(format!("live-{round}"))).await?;
    streams.caught_up().await?;
    let metrics = streams.close().await?;
    Ok((per_record(cpu() - start, records), metrics.total().records - metrics.total().late))
}

async fn replay(live: &Path, own: &Path, options: Options) -> Result<(f64, Report)> {
    let start = cpu();
    let (topology, settings) = (topology()?, settings("replayed".to_owned()));
    let source: Arc<dyn Log> = Arc::new(ObservedLog::open(live)?);
    let now = Timestamp(i64::MAX);
    let plan = Plan::resolve(&topology, &settings, &options, now, &*source).await?;
    let log = EmbeddedLog::open_with(own, self::options())?;
    let state = RocksBackend::open(
        own.join("state"),
        RocksOptions { memory_bytes: 512 << 20, ..RocksOptions::default() },
    )?;
    let run = Run::start(&topology, settings, &plan, source, Arc::new(log.clone()), Arc::new(state)).await?;
    let report = run.finish().await?;
    log.close().await?;
    let records: u64 = report.sources.values().sum();
    Ok((per_record(cpu() - start, records), report))
}

fn per_record(cost: Duration, records: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let per_record = cost.as_nanos() as f64 / records.max(1) as f64;
    per_record
}
