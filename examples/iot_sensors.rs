//! Aggregates sensor readings: per sensor and hour, per group and day, with alerts for readings that are far off.
//!
//! `make demo` runs it on real readings. Kill it whenever you like and start it again: it goes on where its last commit
//! was, and what it writes is the same, record for record.

#[path = "iot_sensors/alerts.rs"]
mod alerts;
#[path = "iot_sensors/civil.rs"]
mod civil;
#[path = "iot_sensors/generate.rs"]
mod generate;
#[path = "iot_sensors/labels.rs"]
mod labels;
#[path = "iot_sensors/load.rs"]
mod load;
#[path = "iot_sensors/readings.rs"]
mod readings;
#[path = "iot_sensors/report.rs"]
mod report;
#[path = "iot_sensors/results.rs"]
mod results;
#[path = "iot_sensors/stats.rs"]
mod stats;
#[path = "iot_sensors/svg.rs"]
mod svg;
#[path = "iot_sensors/topology.rs"]
mod topology;

use std::{
    fs,
    io::{Write, stdout},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;
use headwater::{Metrics, prelude::*};

use crate::{
    alerts::AlertRule,
    generate::Load,
    load::{Input, load},
    report::{Progress, per_second, thousands},
    results::Results,
    topology::DEAD_LETTERS,
};

/// Aggregates sensor readings with Headwater, and raises alerts.
#[derive(Debug, Parser)]
struct Options {
    /// Folder of CSV files `timestamp,value`, one per sensor; the folder of a file is the sensor's group
    #[arg(long, value_name = "FOLDER", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data"))]
    dir: PathBuf,
    /// Reads this many generated readings instead
    #[arg(long, value_name = "N", conflicts_with = "dir")]
    generate: Option<u64>,
    /// Data folder: topics, state and results
    #[arg(long, value_name = "FOLDER", default_value = "headwater-data")]
    log: PathBuf,
    /// Deletes the data folder first
    #[arg(long)]
    fresh: bool,
    /// Threads that share the tasks
    #[arg(long, default_value_t = 2)]
    workers: usize,
    /// Time between commits
    #[arg(long, value_name = "MS", default_value_t = 100)]
    commit_interval: u64,
    /// Records that a task takes in one turn
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    turn_records: usize,
    /// An alert is a reading this many standard deviations from the mean of its sensor's last hours
    #[arg(short, long, default_value_t = AlertRule::default().k)]
    k: f64,
    /// Sensor of the chart; the most telling one unless given
    #[arg(long)]
    sensor: Option<String>,
    /// File of the chart; `sensor.svg` in the data folder unless given
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Also writes the results as JSON lines into this folder
    #[arg(long, value_name = "FOLDER")]
    dump: Option<PathBuf>,
    /// Prints a line on standard error with each commit seen (for tests that kill this program)
    #[arg(long, hide = true)]
    announce_commits: bool,
}

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into()),
        )
        .init();
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(run(&options)),
        Err(error) => Err(Error::io("cannot start", error)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {}", error.report());
            ExitCode::FAILURE
        }
    }
}

async fn run(options: &Options) -> Result<()> {
    let input = match options.generate {
        Some(count) => Input::Generated(Load::of(count)),
        None => Input::Folder(options.dir.clone()),
    };
    let rule = AlertRule { k: options.k, ..AlertRule::default() };
    if options.fresh {
        remove(&options.log)?;
    }
    let embedded = Embedded::open(&options.log)?;
    let (readings, loaded) = load(&embedded, &input).await?;
    say(&format!("{} readings in the topic, {} of them loaded now", thousands(readings), thousands(loaded)))?;

    let settings = Settings {
        workers: options.workers,
        commit_interval: Duration::from_millis(options.commit_interval),
        turn_records_max: options.turn_records,
        on_error: ErrorPolicy::DeadLetter(DEAD_LETTERS.to_owned()),
        ..Settings::new("iot-sensors")
    };
    let start = Instant::now();
    let streams = embedded.start(topology::topology(rule, Emit::OnClose)?, settings).await?;
    watch(&streams, readings, options).await?;
    let metrics = streams.close().await?;
    say(&summary(&metrics, start.elapsed()))?;

    let labels = input.labels()?;
    let results = Results::read(&embedded).await?;
    results.write_tables(&mut stdout().lock(), &labels)?;
    if let Some(folder) = &options.dump {
        results.dump(folder)?;
    }
    if let Some(sensor) = options.sensor.as_deref().or_else(|| results.most_telling(&labels)) {
        let chart = results.chart(&embedded, sensor, (&labels, &rule)).await?;
        let file = options.svg.clone().unwrap_or_else(|| options.log.join("sensor.svg"));
        fs::write(&file, chart).map_err(|e| Error::io(format!("cannot write {}", file.display()), e))?;
        say(&format!("\nchart of {sensor}: {}", file.display()))?;
    }
    embedded.close().await
}

/// Shows progress until everything is processed.
async fn watch(streams: &Streams, readings: u64, options: &Options) -> Result<()> {
    // Readings pass through two tasks: the one of their sensor, and the one of their group.
    let mut progress = Progress::stderr("processing", readings * 2);
    let start = Instant::now();
    let every = if options.announce_commits { 1 } else { 100 };
    let mut tick = tokio::time::interval(Duration::from_millis(every));
    let mut commits = 0;
    loop {
        tokio::select! {
            outcome = streams.caught_up() => {
                outcome?;
                progress.finish(streams.metrics().total().records, start.elapsed());
                return Ok(());
            }
            _ = tick.tick() => {
                let total = streams.metrics().total();
                if options.announce_commits && total.commits > commits {
                    commits = total.commits;
                    let _ = writeln!(std::io::stderr(), "commits {commits} records {} restored {}", total.records, total.restored);
                } else if !options.announce_commits {
                    progress.update(total.records, start.elapsed());
                }
            }
        }
    }
}

fn summary(metrics: &Metrics, elapsed: Duration) -> String {
    let (total, commits) = (metrics.total(), &metrics.commit_micros);
    format!(
        "{} records processed in {:.2} s ({} per second), {} written, {} late, {} dead letters\n\
         {} commits (p50 {:.2} ms, p99 {:.2} ms), {} changelog records restored at the start\n",
        thousands(total.records),
        elapsed.as_secs_f64(),
        thousands(per_second(total.records, elapsed)),
        thousands(total.written),
        thousands(total.late),
        thousands(total.dead_letters),
        thousands(total.commits),
        millis(commits.value_at_quantile(0.5)),
        millis(commits.value_at_quantile(0.99)),
        thousands(total.restored),
    )
}

fn millis(micros: u64) -> f64 {
    Duration::from_micros(micros).as_secs_f64() * 1e3
}

fn remove(folder: &Path) -> Result<()> {
    if folder.is_dir() && !folder.join("format").is_file() {
        let folder = folder.display();
        return Err(Error::invalid(format!(
            "not a data folder of Headwater, and so not deleted. folder={folder}"
        )));
    }
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io(format!("cannot delete {}", folder.display()), error))
        }
        _ => Ok(()),
    }
}

fn say(text: &str) -> Result<()> {
    writeln!(stdout().lock(), "{text}").map_err(|e| Error::io("cannot write to standard output", e))
}
