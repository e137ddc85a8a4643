//! What benchmarks share: records as the measuring stick generates them, their serdes, the CPU time of a run, other processes.

use std::{
    io::{Write, stdout},
    process::Child,
    sync::Arc,
    time::Duration,
};

use headwater::{
    core::{BatchBuilder, Log, ProducerName, TopicSpec, partition_for_key},
    prelude::*,
};

/// Size of the input batches.
const BATCH_BYTES: usize = 16_384;
/// When the first record happens.
const FIRST_MS: i64 = 1_700_000_000_000;

/// Says a line.
///
/// # Errors
/// `Unavailable` when nobody can be told.
pub fn say(text: &str) -> Result<()> {
    writeln!(stdout(), "{text}").map_err(|e| Error::io("cannot write to standard output", e))
}

/// Another process, killed when it is dropped.
#[derive(Debug)]
pub struct Killed(pub Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// CPU time of this process so far, of all its threads.
#[must_use]
pub fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Writes the records that the measuring stick makes into the topic `power`, by key into so many partitions.
///
/// # Errors
/// Those of the log.
pub async fn fill(log: &dyn Log, records: u64, load: &Load) -> Result<()> {
    let topic = TopicSpec::new("power", load.partitions)?;
    log.create_topic(&topic).await?;
    let partitions: Vec<_> = topic.topic_partitions().collect();
    let mut batches: Vec<_> = partitions.iter().map(|_| BatchBuilder::default()).collect();
    let mut producer = log.producer(&ProducerName("fill".to_owned())).await?;
    let (mut random, mut value) = (XorShift(42_424_242), Vec::new());
    let mut timestamp = FIRST_MS;
    for i in 0..records {
        let key = format!("s_{}", random.number() % load.keys);
        timestamp += if i % 1000 == 0 { load.apart_ms } else { 0 };
        #[expect(clippy::cast_precision_loss, reason = "below 97")]
        let power = Power { timestamp, watts: 10.0 + (i % 97) as f64 };
        power_bytes(key.as_bytes(), power, &mut value);
        let partition = partition_for_key(key.as_bytes(), topic.partitions).0 as usize;
        let batch = &mut batches[partition];
        batch.push(Timestamp(timestamp), Some(key.as_bytes()), Some(&value), &Headers::new());
        if batch.size() >= BATCH_BYTES {
            producer.append(&partitions[partition], batch)?;
        }
        if i % 100_000 == 99_999 {
            producer.commit(None).await?;
        }
    }
    for (partition, batch) in partitions.iter().zip(&mut batches).filter(|(_, batch)| !batch.is_empty()) {
        producer.append(partition, batch)?;
    }
    producer.commit(None).await?;
    Ok(())
}

/// Which records [`fill`] writes.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// How many sensors there are.
    pub keys: u64,
    /// Every thousandth record comes so much later than the one before; all others at the same time.
    pub apart_ms: i64,
    /// Partitions of the topic.
    pub partitions: u32,
}

/// The serde of sensors.
#[must_use]
pub fn sensor() -> SerdeRef<Sensor> {
    Arc::new(SensorSerde)
}

/// W2: statistics per sensor and minute.
pub fn windowed(builder: &StreamsBuilder, emit: Emit) {
    let stats = || Arc::new(PowerStatsSerde) as SerdeRef<PowerStats>;
    builder
        .stream_with("power", Consumed::with(sensor(), Arc::new(PowerSerde) as SerdeRef<Power>))
        .group_by_key()
        .windowed_by(TimeWindows::tumbling(Duration::from_secs(60)).grace(Duration::from_secs(10)))
        .emit(emit)
        .aggregate_with("stats", (sensor(), stats()), PowerStats::default, |_, power, stats| {
            stats.add(power.watts);
        })
        .to_stream()
        .to_with("stats", Produced::with(windowed_serde(sensor(), Duration::from_secs(60)), stats()));
}

/// Small, fast and the same everywhere: xorshift with the shifts 13, 7, 17.
#[derive(Debug, Clone)]
pub struct XorShift(pub u64);

impl XorShift {
    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// A power reading as in Theodolite's `ActivePowerRecord`: 5 bytes of frame, identifier, time, watts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Power {
    /// When, in milliseconds.
    pub timestamp: i64,
    /// How much.
    pub watts: f64,
}

/// Avro as Theodolite frames it. The identifier is the record's key and is skipped.
#[derive(Debug, Clone, Copy, Default)]
pub struct PowerSerde;

impl Serde<Power> for PowerSerde {
    fn encode(&self, _: &Power, _: &mut Vec<u8>) -> Result<()> {
        Err(Error::invalid("power readings are written by `power_bytes`, which knows their identifier"))
    }

    #[inline]
    fn decode(&self, bytes: &[u8]) -> Result<Power> {
        let read = || {
            let mut at = 5;
            let length = usize::try_from(get_varint(bytes, &mut at)?).ok()?;
            at = at.checked_add(length)?;
            let timestamp = get_varint(bytes, &mut at)?;
            let watts = bytes.get(at..at + 8)?.try_into().ok()?;
            Some(Power { timestamp, watts: f64::from_le_bytes(watts) })
        };
        read().ok_or_else(|| Error::processing("not a power reading"))
    }
}

/// A sensor's name, up to 15 bytes long, where it lies: nothing is allocated for it. One number, as in the measuring stick: its
/// lowest bytes are the name, the highest is its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sensor(u128);

impl Sensor {
    /// The sensor called so, if the name is not too long.
    #[must_use]
    #[inline]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        // The first and the last few bytes, which overlap. An array filled byte by byte and read as a whole stalls the processor.
        let length = bytes.len();
        let name = match (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
            (Some(first), Some(last)) if length <= 15 => {
                let last = u128::from(u64::from_le_bytes(*last)) << (8 * (length - 8));
                u128::from(u64::from_le_bytes(*first)) | last
            }
            (Some(_), _) => return None,
            _ => match (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
                (Some(first), Some(last)) => {
                    let last = u64::from(u32::from_le_bytes(*last)) << (8 * (length - 4));
                    u128::from(u64::from(u32::from_le_bytes(*first)) | last)
                }
                _ => bytes.iter().rev().fold(0, |name, byte| name << 8 | u128::from(*byte)),
            },
        };
        Some(Self(name | (length as u128) << 120))
    }

    #[inline]
    fn put(self, out: &mut Vec<u8>) {
        let name = self.0.to_le_bytes();
        out.extend_from_slice(&name[..usize::from(name[15]).min(15)]);
    }

    fn length(self) -> u64 {
        u64::from(self.0.to_le_bytes()[15])
    }
}

/// The bytes of the name.
#[derive(Debug, Clone, Copy, Default)]
pub struct SensorSerde;

impl Serde<Sensor> for SensorSerde {
    #[inline]
    fn encode(&self, sensor: &Sensor, out: &mut Vec<u8>) -> Result<()> {
        sensor.put(out);
        Ok(())
    }

    #[inline(always)]
    fn decode(&self, bytes: &[u8]) -> Result<Sensor> {
        Sensor::new(bytes).ok_or_else(|| Error::processing("a sensor's name is longer than 15 bytes"))
    }
}

/// A power reading with its sensor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SensorPower {
    /// Whose.
    pub sensor: Sensor,
    /// What.
    pub power: Power,
}

/// As [`PowerSerde`], with the sensor.
#[derive(Debug, Clone, Copy, Default)]
pub struct SensorPowerSerde;

impl Serde<SensorPower> for SensorPowerSerde {
    #[inline]
    fn encode(&self, reading: &SensorPower, out: &mut Vec<u8>) -> Result<()> {
        out.extend_from_slice(&[0, 0, 0, 0, 1]);
        put_varint(out, reading.sensor.length());
        reading.sensor.put(out);
        put_measured(reading.power, out);
        Ok(())
    }

    #[inline(always)]
    fn decode(&self, bytes: &[u8]) -> Result<SensorPower> {
        let sensor = || {
            let mut at = 5;
            let length = usize::try_from(get_varint(bytes, &mut at)?).ok()?;
            Sensor::new(bytes.get(at..at.checked_add(length)?)?)
        };
        let sensor = sensor().ok_or_else(|| Error::processing("not a power reading of a sensor"))?;
        Ok(SensorPower { sensor, power: PowerSerde.decode(bytes)? })
    }
}

/// The bytes of a power reading.
pub fn power_bytes(identifier: &[u8], power: Power, out: &mut Vec<u8>) {
    out.clear();
    put_power(identifier, power, out);
}

fn put_power(identifier: &[u8], power: Power, out: &mut Vec<u8>) {
    out.extend_from_slice(&[0, 0, 0, 0, 1]);
    put_varint(out, identifier.len() as u64);
    out.extend_from_slice(identifier);
    put_measured(power, out);
}

fn put_measured(power: Power, out: &mut Vec<u8>) {
    put_varint(out, power.timestamp.cast_unsigned());
    out.extend_from_slice(&power.watts.to_le_bytes());
}

fn put_varint(out: &mut Vec<u8>, value: u64) {
    let mut rest = value << 1;
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push((rest & 0x7f) as u8);
}

#[inline]
fn get_varint(bytes: &[u8], at: &mut usize) -> Option<i64> {
    let (mut value, mut shift) = (0u64, 0);
    loop {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte < 0x80 {
            return Some((value >> 1).cast_signed());
        }
        shift += 7;
    }
}

/// Count, sum, minimum, maximum, mean and squared deviation: 48 bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct PowerStats {
    count: u64,
    sum: f64,
    min: f64,
    max: f64,
    mean: f64,
    m2: f64,
}

impl PowerStats {
    /// Takes one more reading in.
    #[inline]
    pub fn add(&mut self, watts: f64) {
        self.count += 1;
        self.sum += watts;
        (self.min, self.max) =
            if self.count == 1 { (watts, watts) } else { (self.min.min(watts), self.max.max(watts)) };
        let delta = watts - self.mean;
        #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
        let count = self.count as f64;
        self.mean += delta / count;
        self.m2 += delta * (watts - self.mean);
    }
}

/// Six numbers, little-endian.
#[derive(Debug, Clone, Copy, Default)]
pub struct PowerStatsSerde;

impl Serde<PowerStats> for PowerStatsSerde {
    #[inline]
    fn encode(&self, value: &PowerStats, out: &mut Vec<u8>) -> Result<()> {
        let mut bytes = [0; 48];
        let fields = [value.sum, value.min, value.max, value.mean, value.m2].map(f64::to_le_bytes);
        bytes[..8].copy_from_slice(&value.count.to_le_bytes());
        for (place, field) in bytes[8..].chunks_exact_mut(8).zip(fields) {
            place.copy_from_slice(&field);
        }
        out.extend_from_slice(&bytes);
        Ok(())
    }

    fn decode(&self, bytes: &[u8]) -> Result<PowerStats> {
        let bytes: &[u8; 48] = bytes.try_into().map_err(|_| Error::processing("not 48 bytes"))?;
        let field = |at: usize| {
            let mut field = [0; 8];
            field.copy_from_slice(&bytes[at * 8..at * 8 + 8]);
            f64::from_le_bytes(field)
        };
        let count = field(0).to_bits();
        Ok(PowerStats { count, sum: field(1), min: field(2), max: field(3), mean: field(4), m2: field(5) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serdes_bring_values_back() {
        let power = Power { timestamp: 1_700_000_000_123, watts: 12.5 };
        let mut bytes = Vec::new();
        power_bytes(b"s_17", power, &mut bytes);
        assert_eq!(PowerSerde.decode(&bytes).unwrap(), power);
        assert!(PowerSerde.decode(&bytes[..bytes.len() - 1]).is_err());
        let sensor = Sensor::new(b"s_17").unwrap();
        let reading = SensorPower { sensor, power };
        assert_eq!(SensorPowerSerde.decode(&bytes).unwrap(), reading);
        let mut again = Vec::new();
        SensorPowerSerde.encode(&reading, &mut again).unwrap();
        assert_eq!(again, bytes);
        assert!(Sensor::new(&[b'x'; 16]).is_none());
        let mut stats = PowerStats::default();
        stats.add(2.0);
        stats.add(4.0);
        let mut bytes = Vec::new();
        PowerStatsSerde.encode(&stats, &mut bytes).unwrap();
        assert_eq!(PowerStatsSerde.decode(&bytes).unwrap(), stats);
    }
}
