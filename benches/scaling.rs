//! Two workers beside one, over the same backlog of four partitions: W2 (statistics per sensor and minute, every update written,
//! changelog on, exactly once), by the clock on the wall.
//!
//! `make bench BENCH_ARGS="--bench scaling"`. On the log in memory the workers are all that works; on the embedded log the journal
//! thread takes its share of the processors, so two workers cannot be twice as fast where there are only two. What it would
//! come to if they shared nothing but the processors is printed beside it: it follows from CPU time and the number of processors.
//!
//! Arguments: `--smoke` for a run of CI.

use std::{
    fs,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use futures::executor::block_on;
use headwater::{
    core::{
        Log, StateBackend,
        memory::{MemoryBackend, MemoryLog},
    },
    prelude::*,
    storage::{
        log::{Durability, EmbeddedLog, LogOptions},
        state::{RocksBackend, RocksOptions},
    },
};
use headwater_benches::{Load, cpu, fill, say, warm_memory, windowed};

const ROUNDS: usize = 5;
const LOAD: Load = Load { keys: 10_000, apart_ms: 1, partitions: 4 };

fn main() -> Result<()> {
    let smoke = std::env::args().any(|a| a == "--smoke");
    let (records, rounds) = if smoke { (50_000, 1) } else { (12_000_000, ROUNDS) };
    compare("log in memory", records, rounds, &|| {
        Ok((Arc::new(MemoryLog::default()), Arc::new(MemoryBackend::default())))
    })?;
    let folder = tempfile::tempdir().map_err(|e| Error::io("cannot make a folder", e))?;
    compare("embedded log, Os", records, rounds, &|| {
        // What a run has written goes before the next one: see `benches/engine`.
        let own = folder.path().join("run");
        if own.exists() {
            fs::remove_dir_all(&own).map_err(|e| Error::io("cannot remove a folder", e))?;
        }
        let options = LogOptions { durability: Durability::Os, ..LogOptions::default() };
        let log = EmbeddedLog::open_with(own.join("log"), options)?;
        let state = RocksBackend::open(
            own.join("state"),
            RocksOptions { memory_bytes: 256 << 20, ..RocksOptions::default() },
        )?;
        Ok((Arc::new(log), Arc::new(state)))
    })
}

type Ports = (Arc<dyn Log>, Arc<dyn StateBackend>);

fn compare(name: &str, records: u64, rounds: usize, open: &dyn Fn() -> Result<Ports>) -> Result<()> {
    let mut ratios = Vec::new();
    for round in 0..rounds {
        let mut runs = Vec::new();
        // What a run leaves to the disk falls on the next one.
        for workers in if round % 2 == 0 { [1, 2] } else { [2, 1] } {
            runs.push((workers, run(workers, records, open()?)?));
        }
        runs.sort_by_key(|(workers, _)| *workers);
        let [(_, (one, cost)), (_, (two, cost_of_two))] = runs[..] else { continue };
        let processors = thread::available_parallelism().map_or(1, usize::from).min(2);
        #[expect(clippy::cast_precision_loss, reason = "one or two")]
        let possible =
            one.as_secs_f64() / (cost.as_secs_f64() / processors as f64).max(one.as_secs_f64() / 2.0);
        let ratio = one.as_secs_f64() / two.as_secs_f64();
        ratios.push(ratio);
        say(&format!(
            "{name:<18} one worker {:6.3} s (CPU {:6.3} s)   two {:6.3} s (CPU {:6.3} s)   {ratio:.2} times as fast, {possible:.2} possible",
            one.as_secs_f64(),
            cost.as_secs_f64(),
            two.as_secs_f64(),
            cost_of_two.as_secs_f64()
        ))?;
    }
    ratios.sort_by(f64::total_cmp);
    say(&format!("{name:<18} median {:.2} (target 1.7)", ratios[ratios.len() / 2]))
}

/// Time and CPU time.
fn run(workers: usize, records: u64, (log, state): Ports) -> Result<(Duration, Duration)> {
    block_on(async {
        fill(&*log, records, &LOAD).await?;
        warm_memory(&std::env::temp_dir(), records)?;
        let builder = StreamsBuilder::new();
        windowed(&builder, Emit::OnUpdate);
        let settings = Settings { workers, memory_bytes: 256 << 20, ..Settings::new("scaling") };
        let (start, start_cpu) = (Instant::now(), cpu());
        let streams = Streams::start(builder.build()?, settings, log, state).await?;
        streams.caught_up().await?;
        let took = (start.elapsed(), cpu() - start_cpu);
        streams.close().await?;
        Ok(took)
    })
}
