//! The program itself: what is computed from sensor readings, in operators.

use std::time::Duration;

use headwater::prelude::*;

use super::{
    alerts::{Alert, AlertRule, SensorProfile},
    readings::Reading,
    stats::{DailyStats, HourlyStats, Stats},
};

/// Where readings come from: key = sensor, value = [`Reading`] as JSON, timestamp = when it was measured.
pub(crate) const READINGS: &str = "sensor-readings";
/// Statistics per sensor and hour, updated with every reading; key = sensor and window.
pub(crate) const HOURLY: &str = "sensor-hourly";
/// Statistics per group and day, once the day is closed; key = group and window.
pub(crate) const DAILY: &str = "group-daily";
/// Readings far from what their sensor measured before.
pub(crate) const ALERTS: &str = "sensor-alerts";
/// What is not a reading.
pub(crate) const DEAD_LETTERS: &str = "sensor-dead-letters";

pub(crate) const HOUR: Duration = Duration::from_secs(3_600);
pub(crate) const DAY: Duration = Duration::from_secs(86_400);

/// Writes the topology into `builder`. `daily` says when the daily statistics are sent on; `between` puts something between the source
/// and the rest: tests make one task slow there.
pub(crate) fn write(
    builder: &StreamsBuilder,
    rule: AlertRule,
    daily: Emit,
    between: impl FnOnce(KStream<String, Reading>) -> KStream<String, Reading>,
) {
    let (text, reading) = (String::default_serde(), serdes::json::<Reading>());
    let consumed = Consumed::with(SerdeRef::clone(&text), SerdeRef::clone(&reading));
    let readings = between(builder.stream_with(READINGS, consumed)).try_map_values(check);

    readings
        .group_by_key()
        .windowed_by(TimeWindows::tumbling(HOUR))
        .aggregate_with(
            "hourly",
            (SerdeRef::clone(&text), serdes::bincode::<Stats>()),
            Stats::default,
            |_, reading, stats| stats.add(reading.value),
        )
        .to_stream()
        .map_values(|at, stats| HourlyStats::new(at.key.as_str(), at.window.start.0, &stats))
        .to_with(HOURLY, Produced::with(windowed_serde(SerdeRef::clone(&text), HOUR), serdes::json()));

    let profiles = builder.key_value_store_with("profiles", SerdeRef::clone(&text), serdes::bincode());
    let watch = Watch { profiles: profiles.clone(), rule };
    readings
        .process(&[&profiles], move || watch.clone())
        .to_with(ALERTS, Produced::with(SerdeRef::clone(&text), serdes::json()));

    readings
        .group_by_with("by-group", (SerdeRef::clone(&text), reading), |_, reading| reading.group.clone())
        .windowed_by(TimeWindows::tumbling(DAY).grace(HOUR))
        .emit(daily)
        .aggregate_with(
            "daily",
            (SerdeRef::clone(&text), serdes::bincode::<Stats>()),
            Stats::default,
            |_, reading, stats| stats.add(reading.value),
        )
        .to_stream()
        .map_values(|at, stats| DailyStats::new(at.key.as_str(), at.window.start.0, &stats))
        .to_with(DAILY, Produced::with(windowed_serde(text, DAY), serdes::json()));
}

/// A reading that is no number goes to the dead letters.
fn check(sensor: &String, reading: Reading) -> Result<Reading> {
    if reading.value.is_finite() && !reading.group.is_empty() {
        return Ok(reading);
    }
    Err(Error::processing(format!("not a reading. sensor={sensor}, value={}", reading.value)))
}

/// Compares each reading with what its sensor measured in the last hours.
#[derive(Clone)]
struct Watch {
    profiles: KeyValueHandle<String, SensorProfile>,
    rule: AlertRule,
}

impl Processor<String, Reading, String, Alert> for Watch {
    fn process(
        &mut self,
        record: Record<String, Reading>,
        cx: &mut ProcessorContext<'_, String, Alert>,
    ) -> Result<()> {
        let alert = cx.store(&self.profiles).update(&record.key, record.timestamp, |profile| {
            let profile = profile.get_or_insert_default();
            profile.observe(&self.rule, &record.key, record.timestamp.0, record.value.value)
        })?;
        match alert {
            Some(alert) => cx.forward(record.with_value(alert)),
            None => Ok(()),
        }
    }
}
