//! A threshold is tried out on the past: an alert is a mean of six hours above so many degrees; what would another number of degrees
//! have said last month?
//!
//! ```sh
//! backtest='cargo run --example replay_backtest --'
//! $backtest run --once                                                    # two months of readings
//! $backtest replay --from 2015-09-01 --warm-up 6h --diff                  # the same program: nothing differs
//! $backtest replay --from 2015-09-01 --warm-up 6h --diff --above 79.5     # what a lower threshold would have said
//! ```

use std::{process::ExitCode, time::Duration};

use clap::Args;
use headwater::{core::Log, prelude::*};

/// Hourly temperatures of machines; key = machine.
const TEMPERATURES: &str = "temperatures";
/// Means of six hours that were too high; key = machine and window.
const ALERTS: &str = "alerts";
const WINDOW: Duration = Duration::from_secs(6 * 3_600);

/// 2015-08-01, and the hours from there on that have readings.
const FIRST: i64 = 1_438_387_200_000;
const HOURS: i64 = 61 * 24;

#[derive(Debug, Args)]
struct Threshold {
    /// An alert is a mean above this
    #[arg(long, value_name = "DEGREES", default_value_t = 80.0)]
    above: f64,
}

fn main() -> ExitCode {
    App::new("backtest")
        .about("Raises an alert when a machine was too hot for six hours")
        .args::<Threshold>()
        .topology_with(|builder, threshold| {
            raise_alerts(builder, threshold.above);
            Ok(())
        })
        .before_run(async |embedded: &Embedded, _: &Threshold| measure(embedded).await)
        .main()
}

fn raise_alerts(builder: &StreamsBuilder, above: f64) {
    let key = windowed_serde(String::default_serde(), WINDOW);
    builder
        .stream::<String, f64>(TEMPERATURES)
        .group_by_key()
        .windowed_by(TimeWindows::tumbling(WINDOW))
        .emit(Emit::OnClose)
        .aggregate(
            "means",
            || (0.0, 0u32),
            |_, degrees, (sum, count)| {
                *sum += degrees;
                *count += 1;
            },
        )
        .to_stream()
        .map_values(|_, (sum, count)| sum / f64::from(count))
        .filter(move |_, mean| *mean > above)
        .to_with(ALERTS, Produced::with(key, f64::default_serde()));
}

/// Fills the topic, unless it is full already: all readings are there, or none.
async fn measure(embedded: &Embedded) -> Result<()> {
    embedded.create_topic(TEMPERATURES, 2).await?;
    for spec in embedded.log().topics().await?.iter().filter(|spec| spec.name.as_str() == TEMPERATURES) {
        for partition in spec.topic_partitions() {
            if embedded.log().offsets(&partition).await?.end.0 > 0 {
                return Ok(());
            }
        }
    }
    let machines = ["boiler", "pump", "turbine"];
    let at = |hour: i64| (0..).zip(machines).map(move |(number, machine)| reading(machine, number, hour));
    let readings: Vec<_> = (0..HOURS).flat_map(at).collect();
    embedded.send(TEMPERATURES, &readings).await
}

/// Warmer by day than by night, and by machine; some days are hot. The same whenever it is asked for.
fn reading(machine: &str, number: i64, hour: i64) -> Record<String, f64> {
    let numbered = |number: i64| f64::from(i32::try_from(number).unwrap_or(0));
    let of_day = numbered((hour + 18) % 24) / 24.0 * std::f64::consts::TAU;
    let noise = numbered((hour * 7919 + number * 104_729) % 100) / 25.0;
    let hot = if (hour / 24 + number * 5) % 17 == 0 { 7.0 } else { 0.0 };
    let degrees = 65.0 + 4.0 * numbered(number) + 4.0 * of_day.sin() + noise + hot;
    Record::new(machine.to_owned(), degrees, Timestamp(FIRST + hour * 3_600_000))
}
