//! Readings made up for load: any number of sensors with a daily cycle, noise and a few faults, in the order of time.
//!
//! The same settings give the same readings, bit for bit and on every machine: there is no clock, no library
//! function such as a sine whose last bit differs between machines, and every number comes from the seed.

use std::num::NonZeroU32;

use super::civil::{DAY_MS, HOUR_MS, MINUTE_MS};
use super::labels::{FaultWindow, Labels};
use super::readings::{Reading, SensorReading};

/// 2026-01-01 00:00:00, when all generated readings begin.
const START_MS: i64 = 1_767_225_600_000;

/// How often a sensor has a fault: on one day of so many.
const DAYS_PER_FAULT: u64 = 10;

/// How many readings to make, of how many sensors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    /// How many readings, of all sensors together.
    pub(crate) readings: u64,
    /// Of how many sensors.
    pub(crate) sensors: NonZeroU32,
    /// In how many groups.
    pub(crate) groups: NonZeroU32,
    /// The time between two readings of one sensor.
    pub(crate) interval_ms: i64,
    /// Where every number comes from.
    pub(crate) seed: u64,
}

impl Load {
    /// `readings` readings of 100 sensors in 5 groups, one a minute each.
    pub(crate) fn of(readings: u64) -> Load {
        let sensors = NonZeroU32::MIN.saturating_add(99);
        let groups = NonZeroU32::MIN.saturating_add(4);
        Load { readings, sensors, groups, interval_ms: MINUTE_MS, seed: 1 }
    }

    /// The times in which a generated sensor is out of order: the labels of this input.
    pub(crate) fn labels(&self) -> Labels {
        let rounds = self.readings.div_ceil(u64::from(self.sensors.get()));
        let length_ms = (rounds as i64).saturating_mul(self.interval_ms.max(1));
        Labels::from_windows((0..self.sensors.get()).map(|number| {
            let sensor = Sensor::new(self, number);
            let windows = (0..=length_ms / DAY_MS).filter_map(|day| sensor.fault(START_MS + day * DAY_MS));
            let seen = windows.map(|(window, _)| window).filter(|it| it.start_ms - START_MS < length_ms);
            (sensor.name.clone(), seen.collect())
        }))
    }
}

/// The readings of a [`Load`]: every round has one reading of each sensor, in the order of their names.
#[derive(Debug)]
pub(crate) struct Generator {
    load: Load,
    sensors: Vec<Sensor>,
    made: u64,
}

impl Generator {
    /// The readings of `load`, from the first.
    pub(crate) fn new(load: Load) -> Generator {
        let sensors = (0..load.sensors.get()).map(|number| Sensor::new(&load, number)).collect();
        Generator { load, sensors, made: 0 }
    }
}

impl Iterator for Generator {
    type Item = SensorReading;

    fn next(&mut self) -> Option<SensorReading> {
        if self.made == self.load.readings {
            return None;
        }
        let (count, interval_ms) = (self.sensors.len() as u64, self.load.interval_ms.max(1));
        let (round, number) = (self.made / count, self.made % count);
        self.made += 1;
        // The sensors of a round are spread over the interval, as sensors are that know nothing of each other.
        let offset_ms = i128::from(interval_ms) * i128::from(number) / i128::from(count);
        let timestamp_ms = START_MS + round as i64 * interval_ms + offset_ms as i64;
        let sensor = &self.sensors[number as usize];
        let reading = Reading { group: sensor.group.clone(), value: sensor.value(timestamp_ms) };
        Some(SensorReading { sensor: sensor.name.clone(), timestamp_ms, reading })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = usize::try_from(self.load.readings - self.made);
        (left.unwrap_or(usize::MAX), left.ok())
    }
}

/// What a sensor measures: a level, a wave of one day, noise, and now and then a shift.
#[derive(Debug)]
struct Sensor {
    name: String,
    group: String,
    seed: u64,
    level: f64,
    wave: f64,
    noise: f64,
    phase_ms: i64,
}

impl Sensor {
    fn new(load: &Load, number: u32) -> Sensor {
        let seed = mix(load.seed ^ mix(u64::from(number) + 1));
        let digits = load.sensors.ilog10() as usize + 1;
        Sensor {
            name: format!("sensor-{number:0digits$}"),
            group: format!("group-{}", number % load.groups.get()),
            seed,
            level: 20.0 + 60.0 * unit(mix(seed ^ 1)),
            wave: 2.0 + 6.0 * unit(mix(seed ^ 2)),
            noise: 0.5 + unit(mix(seed ^ 3)),
            phase_ms: (unit(mix(seed ^ 4)) * 4.0 * HOUR_MS as f64) as i64,
        }
    }

    fn value(&self, timestamp_ms: i64) -> f64 {
        let of_day = (timestamp_ms + self.phase_ms).rem_euclid(DAY_MS) as f64 / DAY_MS as f64;
        // A parabola for each half of the day looks like a sine and is exact everywhere.
        let half = 2.0 * of_day - 1.0;
        let wave = 4.0 * half * (1.0 - half.abs());
        let random = mix(self.seed ^ mix(timestamp_ms as u64));
        // The sum of four even numbers is nearly normal; this one has a spread of 1.
        let normal = ((0..4).map(|n| unit(mix(random ^ n))).sum::<f64>() - 2.0) * 3.0_f64.sqrt();
        let shift = match self.fault(timestamp_ms) {
            Some((window, shift)) if window.contains(timestamp_ms) => shift,
            _ => 0.0,
        };
        let value = self.level + self.wave * wave + self.noise * normal + shift;
        (value * 1_000.0).round() / 1_000.0
    }

    /// The fault of the day that `timestamp_ms` is in, with how far it shifts the sensor; most days have none.
    fn fault(&self, timestamp_ms: i64) -> Option<(FaultWindow, f64)> {
        let day = timestamp_ms.div_euclid(DAY_MS);
        let random = mix(self.seed ^ mix(day as u64 ^ 0xFA17));
        if !random.is_multiple_of(DAYS_PER_FAULT) {
            return None;
        }
        let start_ms = day * DAY_MS + (unit(mix(random ^ 1)) * 20.0 * HOUR_MS as f64) as i64;
        let length_ms = HOUR_MS + (unit(mix(random ^ 2)) * 2.0 * HOUR_MS as f64) as i64;
        let direction = if mix(random ^ 3).is_multiple_of(2) { 1.0 } else { -1.0 };
        let window = FaultWindow { start_ms, end_ms: start_ms + length_ms };
        Some((window, direction * (40.0 + 20.0 * unit(mix(random ^ 4)))))
    }
}

/// One step of splitmix64: a number that looks random, from one that need not.
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The upper 53 bits as a number from 0 to below 1, evenly.
fn unit(random: u64) -> f64 {
    (random >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::super::civil;
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_readings_and_another_gives_others() {
        let all = |seed| Generator::new(Load { seed, ..Load::of(5_000) }).collect::<Vec<_>>();
        assert_eq!(all(7), all(7));
        assert_ne!(all(7), all(8));
    }

    #[test]
    fn the_readings_are_those_of_every_machine() {
        let mut readings = Generator::new(Load::of(1_000_000));
        let first = readings.next().unwrap();
        assert_eq!((first.sensor.as_str(), first.reading.group.as_str()), ("sensor-000", "group-0"));
        assert_eq!(civil::format(first.timestamp_ms), "2026-01-01 00:00:00");
        let last = readings.last().unwrap();
        assert_eq!((last.sensor.as_str(), last.reading.group.as_str()), ("sensor-099", "group-4"));
        assert_eq!(civil::format(last.timestamp_ms), "2026-01-07 22:39:59");
        assert_eq!((first.reading.value, last.reading.value), (45.319, 70.167));
    }

    #[test]
    fn there_are_as_many_as_asked_for_in_the_order_of_time() {
        for (readings, sensors, groups) in [(0, 3, 1), (1, 3, 5), (1_001, 7, 2), (999, 1, 1)] {
            let [sensors, groups] = [sensors, groups].map(|number| NonZeroU32::new(number).unwrap());
            let load = Load { readings, sensors, groups, interval_ms: 10, seed: 3 };
            let all: Vec<_> = Generator::new(load).collect();
            assert_eq!(all.len() as u64, readings);
            assert_eq!(Generator::new(load).size_hint(), (all.len(), Some(all.len())));
            assert!(all.is_sorted_by(|left, right| left.timestamp_ms <= right.timestamp_ms));
            assert!(all.iter().all(|reading| reading.reading.value.is_finite()));
        }
    }

    #[test]
    fn a_labelled_fault_is_far_from_what_is_normal() {
        let load = Load { sensors: NonZeroU32::new(10).unwrap(), ..Load::of(200_000) };
        let labels = load.labels();
        let (mut normal, mut faulty, mut readings_in_faults) = (0.0_f64, f64::MAX, 0);
        for reading in Generator::new(load) {
            let sensor = Sensor::new(&load, reading.sensor["sensor-".len()..].parse().unwrap());
            let distance = (reading.reading.value - sensor.level).abs();
            if labels.of(&reading.sensor).iter().any(|window| window.contains(reading.timestamp_ms)) {
                faulty = faulty.min(distance);
                readings_in_faults += 1;
            } else {
                normal = normal.max(distance);
            }
        }
        assert!(normal < 14.0 && faulty > 26.0, "normal={normal}, faulty={faulty}");
        assert!((500..20_000).contains(&readings_in_faults), "{readings_in_faults}");
    }
}
