//! Reads the output topics back, and shows them: tables, files for other programs, and a chart.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufWriter, Write},
    path::Path,
};

use headwater::{Embedded, prelude::*};
use serde::Serialize;

use super::{
    alerts::{Alert, AlertRule, bands},
    labels::Labels,
    readings::Reading,
    report::{GroupRow, Hits, SensorRow, thousands, write_tables},
    stats::{DailyStats, HourlyStats},
    svg,
    topology::{ALERTS, DAILY, DAY, HOUR, HOURLY, READINGS},
};

/// Rows of the final table.
const SENSORS_MAX: usize = 40;

/// Everything that the topology wrote, the last value of each window.
pub(crate) struct Results {
    hourly: Vec<HourlyStats>,
    daily: Vec<DailyStats>,
    alerts: Vec<Alert>,
    groups: BTreeMap<String, String>,
}

impl Results {
    pub(crate) async fn read(embedded: &Embedded) -> Result<Self> {
        let text = String::default_serde();
        let hourly_key = windowed_serde(SerdeRef::clone(&text), HOUR);
        let hourly = embedded.read_all_with(HOURLY, &*hourly_key, &*serdes::json::<HourlyStats>()).await?;
        let daily_key = windowed_serde(SerdeRef::clone(&text), DAY);
        let daily = embedded.read_all_with(DAILY, &*daily_key, &*serdes::json::<DailyStats>()).await?;
        let alerts = embedded.read_all_with(ALERTS, &*text, &*serdes::json::<Alert>()).await?;
        let readings = embedded.read_all_with(READINGS, &*text, &*serdes::json::<Reading>()).await?;
        Ok(Self {
            hourly: last_by_key(hourly),
            daily: last_by_key(daily),
            alerts: alerts.into_iter().map(|record| record.value).collect(),
            groups: readings.into_iter().map(|record| (record.key, record.value.group)).collect(),
        })
    }

    /// Writes one file of JSON lines per output topic.
    pub(crate) fn dump(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder)
            .map_err(|e| Error::io(format!("cannot create {}", folder.display()), e))?;
        write_lines(&folder.join("hourly.jsonl"), &self.hourly)?;
        write_lines(&folder.join("daily.jsonl"), &self.daily)?;
        write_lines(&folder.join("alerts.jsonl"), &self.alerts)
    }

    fn alerts_of(&self, sensor: &str) -> Vec<Alert> {
        self.alerts.iter().filter(|alert| alert.sensor == sensor).cloned().collect()
    }

    fn hours_of(&self, sensor: &str) -> Vec<HourlyStats> {
        self.hourly.iter().filter(|hour| hour.sensor == sensor).cloned().collect()
    }

    /// One row per sensor and one per group.
    pub(crate) fn write_tables(&self, out: &mut dyn Write, labels: &Labels) -> Result<()> {
        let rows = self.groups.iter().map(|(sensor, group)| {
            let hours = self.hours_of(sensor);
            SensorRow {
                sensor: sensor.clone(),
                group: group.clone(),
                readings: hours.iter().map(|hour| hour.count).sum(),
                hours: hours.len() as u64,
                hits: Hits::count(&self.alerts_of(sensor), labels.of(sensor)),
            }
        });
        let rows: Vec<SensorRow> = rows.collect();
        let mut groups = BTreeMap::<&str, GroupRow>::new();
        for day in &self.daily {
            let empty = || GroupRow { group: day.group.clone(), days: 0, readings: 0 };
            let row = groups.entry(&day.group).or_insert_with(empty);
            row.days += 1;
            row.readings += day.count;
        }
        let groups: Vec<GroupRow> = groups.into_values().collect();
        write_tables(out, &rows, &groups, SENSORS_MAX).map_err(|e| Error::io("cannot write the tables", e))
    }

    /// The sensor that the chart is most telling of: the one with most labelled faults hit, then most alerts.
    pub(crate) fn most_telling(&self, labels: &Labels) -> Option<&str> {
        let hits = |sensor: &str| Hits::count(&self.alerts_of(sensor), labels.of(sensor));
        let sensors = self.groups.keys().map(String::as_str);
        sensors.max_by_key(|sensor| {
            let hits = hits(sensor);
            (hits.faults_hit, hits.alerts)
        })
    }

    /// Draws one sensor.
    pub(crate) async fn chart(
        &self,
        embedded: &Embedded,
        sensor: &str,
        (labels, rule): (&Labels, &AlertRule),
    ) -> Result<String> {
        let readings =
            embedded.read_all_with(READINGS, &*String::default_serde(), &*serdes::json::<Reading>()).await?;
        let readings: Vec<(i64, f64)> = readings
            .into_iter()
            .filter(|r| r.key == sensor)
            .map(|r| (r.timestamp.0, r.value.value))
            .collect();
        let (hours, alerts) = (self.hours_of(sensor), self.alerts_of(sensor));
        let hits = Hits::count(&alerts, labels.of(sensor));
        Ok(svg::render(&svg::Chart {
            title: sensor.to_owned(),
            subtitle: format!(
                "{} readings, {} hours, {} alerts; {} of {} labelled faults hit, {} alerts outside",
                thousands(readings.len() as u64),
                thousands(hours.len() as u64),
                hits.alerts,
                hits.faults_hit,
                hits.faults,
                hits.alerts_outside
            ),
            unit: "value".to_owned(),
            band_name: format!(
                "no alert: mean ± {} standard deviations of the last {} h",
                rule.k, rule.hours
            ),
            bands: bands(rule, &hours),
            readings,
            hours,
            alerts,
            faults: labels.of(sensor).to_vec(),
        }))
    }
}

/// The last value of each key, in the order of keys and windows.
fn last_by_key<V>(records: Vec<Record<Windowed<String>, V>>) -> Vec<V> {
    let last: BTreeMap<Windowed<String>, V> =
        records.into_iter().map(|record| (record.key, record.value)).collect();
    last.into_values().collect()
}

fn write_lines<T: Serialize>(path: &Path, rows: &[T]) -> Result<()> {
    let io = |e| Error::io(format!("cannot write {}", path.display()), e);
    let mut file = BufWriter::new(fs::File::create(path).map_err(io)?);
    for row in rows {
        let line =
            serde_json::to_string(row).map_err(|e| Error::processing("cannot write JSON").with_source(e))?;
        writeln!(file, "{line}").map_err(io)?;
    }
    file.flush().map_err(io)
}
