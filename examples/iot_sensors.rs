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

use std::{fs, io::stdout, path::PathBuf, process::ExitCode};

use clap::Args;
use headwater::{Metrics, prelude::*};

use crate::{
    alerts::AlertRule,
    generate::Load,
    load::{Input, load},
    report::thousands,
    results::Results,
    topology::DEAD_LETTERS,
};

/// What this program can be told besides what every `App` can.
#[derive(Debug, Args)]
struct Options {
    /// Folder of CSV files `timestamp,value`, one per sensor; the folder of a file is the sensor's group
    #[arg(long, value_name = "FOLDER", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data"))]
    dir: PathBuf,
    /// Reads this many generated readings instead
    #[arg(long, value_name = "N", conflicts_with = "dir")]
    generate: Option<u64>,
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
}

impl Options {
    fn input(&self) -> Input {
        match self.generate {
            Some(count) => Input::Generated(Load::of(count)),
            None => Input::Folder(self.dir.clone()),
        }
    }

    fn rule(&self) -> AlertRule {
        AlertRule { k: self.k, ..AlertRule::default() }
    }

    fn settings(settings: Settings, options: &Self) -> Settings {
        Settings {
            workers: 2,
            turn_records_max: options.turn_records,
            on_error: ErrorPolicy::DeadLetter(DEAD_LETTERS.to_owned()),
            ..settings
        }
    }
}

fn main() -> ExitCode {
    App::new("iot-sensors")
        .about("Aggregates sensor readings with Headwater, and raises alerts")
        .args::<Options>()
        .topology_with(|builder, options| {
            topology::write(builder, options.rule(), Emit::OnClose, |readings| readings);
            Ok(())
        })
        .settings(Options::settings)
        .before_run(async |embedded: &Embedded, options: &Options| {
            let (readings, loaded) = load(embedded, &options.input()).await?;
            let (readings, loaded) = (thousands(readings), thousands(loaded));
            say(&format!("{readings} readings in the topic, {loaded} of them loaded now"))
        })
        .after_run(async |embedded: &Embedded, _: &Metrics, options: &Options| {
            report(embedded, options).await
        })
        .main()
}

/// Prints what came out, and draws one sensor.
async fn report(embedded: &Embedded, options: &Options) -> Result<()> {
    let labels = options.input().labels()?;
    let results = Results::read(embedded).await?;
    say("")?;
    results.write_tables(&mut stdout().lock(), &labels)?;
    if let Some(folder) = &options.dump {
        results.dump(folder)?;
    }
    if let Some(sensor) = options.sensor.as_deref().or_else(|| results.most_telling(&labels)) {
        let chart = results.chart(embedded, sensor, (&labels, &options.rule())).await?;
        let file = options.svg.clone().unwrap_or_else(|| embedded.folder().join("sensor.svg"));
        fs::write(&file, chart).map_err(|e| Error::io(format!("cannot write {}", file.display()), e))?;
        say(&format!("\nchart of {sensor}: {}", file.display()))?;
    }
    Ok(())
}

fn say(text: &str) -> Result<()> {
    use std::io::Write as _;
    writeln!(stdout().lock(), "{text}").map_err(|e| Error::io("cannot write to standard output", e))
}
