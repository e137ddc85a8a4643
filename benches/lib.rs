//! What benchmarks share: records as the measuring stick generates them, their serdes, the CPU time of a run, other processes.

use std::{
    fs::File,
    io::{Write, stdout},
    path::Path,
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
/// No workload writes more per record.
const WRITTEN_BYTES_MAX: u64 = 300;
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

/// Has the system hold as much memory that is in use no more as a run over `records` writes. A virtual machine is given its memory when it first touches it, and
/// may have to give back what it has not used for some seconds: a page that must come from outside takes longer to write than
/// all else that is done for the records in it, and which run meets such pages is chance.
///
/// # Errors
/// `Unavailable` when the file system of `folder` has no room.
pub fn warm_memory(folder: &Path, records: u64) -> Result<()> {
    let path = folder.join("warm");
    let piece = vec![1; 1 << 20];
    let write = || {
        let mut file = File::create(&path)?;
        (0..(records * WRITTEN_BYTES_MAX) >> 20).try_for_each(|_| file.write_all(&piece))
    };
    write().and_then(|()| std::fs::remove_file(&path)).map_err(|e| Error::io("cannot write a file", e))
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

/// In front of a reading: what Theodolite frames it with.
const FRAME_BYTES: usize = 5;

/// Avro as Theodolite frames it. The identifier is the record's key and is skipped.
#[derive(Debug, Clone, Copy, Default)]
pub struct PowerSerde;

impl Serde<Power> for PowerSerde {
    fn encode(&self, _: &Power, _: &mut Vec<u8>) -> Result<()> {
        Err(Error::invalid("power readings are written by `power_bytes`, which knows their identifier"))
    }

    #[inline(always)]
    fn decode(&self, bytes: &[u8]) -> Result<Power> {
        let mut at = FRAME_BYTES;
        let identifier = identifier(bytes, &mut at);
        identifier.and_then(|_| measured(bytes, at)).ok_or_else(|| Error::processing("not a power reading"))
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

    #[inline(always)]
    fn put(self, out: &mut Vec<u8>) {
        // Sixteen bytes are copied without a call, and those behind the name taken off again.
        let end = out.len() + self.length();
        out.extend_from_slice(&self.0.to_le_bytes());
        out.truncate(end);
    }

    #[inline]
    fn length(self) -> usize {
        usize::from(self.0.to_le_bytes()[15]).min(15)
    }
}

/// The bytes of the name.
#[derive(Debug, Clone, Copy, Default)]
pub struct SensorSerde;

impl Serde<Sensor> for SensorSerde {
    #[inline(always)]
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
    #[inline(always)]
    fn encode(&self, reading: &SensorPower, out: &mut Vec<u8>) -> Result<()> {
        // All fields are stored to where they lie in the end, and the length of `out` changes twice: each append would wait for the
        // one before it.
        let begin = out.len();
        out.extend_from_slice(&[0; FRAME_BYTES + 1 + 16 + 8 + 8]);
        let length = reading.sensor.length();
        let (number, bytes) = varint(reading.power.timestamp)
            .ok_or_else(|| Error::processing("a time that is millions of years away"))?;
        let place = &mut out[begin..];
        place[FRAME_BYTES - 1] = 1;
        #[expect(clippy::cast_possible_truncation, reason = "a name has 15 bytes at most")]
        let length_byte = (length << 1) as u8;
        place[FRAME_BYTES] = length_byte;
        let at = FRAME_BYTES + 1;
        place[at..at + 16].copy_from_slice(&reading.sensor.0.to_le_bytes());
        let at = at + length;
        place[at..at + 8].copy_from_slice(&number.to_le_bytes());
        let at = at + bytes;
        place[at..at + 8].copy_from_slice(&reading.power.watts.to_le_bytes());
        out.truncate(begin + at + 8);
        Ok(())
    }

    #[inline(always)]
    fn decode(&self, bytes: &[u8]) -> Result<SensorPower> {
        let mut at = FRAME_BYTES;
        let sensor = identifier(bytes, &mut at).and_then(Sensor::new);
        match (sensor, measured(bytes, at)) {
            (Some(sensor), Some(power)) => Ok(SensorPower { sensor, power }),
            _ => Err(Error::processing("not a power reading of a sensor")),
        }
    }
}

/// The identifier, which is skipped.
#[inline(always)]
fn identifier<'a>(bytes: &'a [u8], at: &mut usize) -> Option<&'a [u8]> {
    let length = usize::try_from(get_varint(bytes, at)?).ok()?;
    let begin = *at;
    *at = begin.checked_add(length)?;
    bytes.get(begin..*at)
}

/// What stands behind the identifier.
#[inline(always)]
fn measured(bytes: &[u8], mut at: usize) -> Option<Power> {
    let timestamp = get_varint(bytes, &mut at)?;
    let watts = bytes.get(at..)?.first_chunk::<8>()?;
    Some(Power { timestamp, watts: f64::from_le_bytes(*watts) })
}

/// The bytes of a power reading.
pub fn power_bytes(identifier: &[u8], power: Power, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&[0, 0, 0, 0, 1]);
    put_varint(out, identifier.len() as u64);
    out.extend_from_slice(identifier);
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

/// A number as Avro writes it, of up to eight bytes, the first the lowest, and how many; `None` for larger ones.
#[inline]
fn varint(value: i64) -> Option<(u64, usize)> {
    let rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    if rest >= 1 << 56 {
        return None;
    }
    // Seven bits to each byte: halves, quarters and eighths are moved apart.
    let rest = rest & 0x0fff_ffff | (rest & 0x00ff_ffff_f000_0000) << 4;
    let rest = rest & 0x0000_3fff_0000_3fff | (rest & 0x0fff_c000_0fff_c000) << 2;
    let rest = rest & 0x007f_007f_007f_007f | (rest & 0x3f80_3f80_3f80_3f80) << 1;
    let bytes = (64 - (rest | 1).leading_zeros() as usize).div_ceil(8);
    let goes_on = 0x8080_8080_8080_8080 & !(u64::MAX << (8 * (bytes - 1)));
    Some((rest | goes_on, bytes))
}

#[inline(always)]
fn get_varint(bytes: &[u8], at: &mut usize) -> Option<i64> {
    let rest = bytes.get(*at..)?;
    let first = *rest.first()?;
    if first < 0x80 {
        *at += 1;
        return Some(signed(u64::from(first)));
    }
    // The last byte is the first one below 0x80.
    let word = rest.first_chunk::<8>().map_or(u64::MAX, |bytes| u64::from_le_bytes(*bytes));
    let ends = !word & 0x8080_8080_8080_8080;
    if ends == 0 {
        return get_long_varint(bytes, at);
    }
    let bits = ends.trailing_zeros() + 1;
    *at += bits as usize / 8;
    let word = word & u64::MAX >> (64 - bits) & 0x7f7f_7f7f_7f7f_7f7f;
    let word = word & 0x007f_007f_007f_007f | (word & 0x7f00_7f00_7f00_7f00) >> 1;
    let word = word & 0x0000_3fff_0000_3fff | (word & 0x3fff_0000_3fff_0000) >> 2;
    let word = word & 0x0fff_ffff | (word & 0x0fff_ffff_0000_0000) >> 4;
    Some(signed(word))
}

#[inline]
fn signed(zigzag: u64) -> i64 {
    (zigzag >> 1).cast_signed() ^ -((zigzag & 1).cast_signed())
}

/// Numbers of nine bytes and more, and those at the end.
#[cold]
fn get_long_varint(bytes: &[u8], at: &mut usize) -> Option<i64> {
    let (mut value, mut shift) = (0u64, 0);
    loop {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte < 0x80 {
            return Some(signed(value));
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
    #[inline(always)]
    fn encode(&self, value: &PowerStats, out: &mut Vec<u8>) -> Result<()> {
        // Stored to where it lies in the end: what was put together elsewhere in pieces would be read again at once as a whole.
        let begin = out.len();
        out.extend_from_slice(&[0; 48]);
        let place = &mut out[begin..];
        let fields = [value.sum, value.min, value.max, value.mean, value.m2].map(f64::to_bits);
        for (place, field) in place.chunks_exact_mut(8).zip(std::iter::once(value.count).chain(fields)) {
            place.copy_from_slice(&field.to_le_bytes());
        }
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
    fn numbers_are_written_as_avro_writes_them() {
        let mut value = 1u64;
        for step in 0..4000u64 {
            value = value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(step);
            let number = (value >> (step % 64)).cast_signed() >> 9;
            for number in [number, -number - 1] {
                let (mut bytes, mut rest) = (Vec::new(), ((number << 1) ^ (number >> 63)).cast_unsigned());
                while rest >= 0x80 {
                    bytes.push(rest.to_le_bytes()[0] | 0x80);
                    rest >>= 7;
                }
                bytes.push(rest.to_le_bytes()[0]);
                let (word, count) = varint(number).unwrap();
                assert_eq!(word.to_le_bytes()[..count], bytes, "{number}");
                for behind in [0, 12] {
                    let long = [&bytes[..], &vec![0xff; behind]].concat();
                    let mut at = 0;
                    assert_eq!(get_varint(&long, &mut at), Some(number));
                    assert_eq!(at, count);
                }
            }
        }
        assert_eq!((varint(1 << 55), varint(i64::MIN)), (None, None));
        assert_eq!(get_varint(&[0xff; 30], &mut 0), None);
    }

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
