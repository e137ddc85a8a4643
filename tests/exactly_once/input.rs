//! What the program reads: seeded, out of order within bounds, in four topics.

use headwater::{Embedded, prelude::*};

use super::program::{COMMANDS, READINGS, SENSORS, WORDS};

/// Records written at once.
const CHUNK: usize = 5_000;
const BEGIN_MS: i64 = 1_700_000_000_000;
/// How far records lie behind the newest of their topic.
const DISORDER: u64 = 500;
const WORDS_MAX: u64 = 2_000;
const SENSORS_MAX: u64 = 200;

/// Splitmix64: the same numbers for the same seed.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }
}

/// Key, value, timestamp.
pub(super) type Sent<K, V> = (K, V, i64);

/// The records of each topic in the order in which they are sent.
pub(super) struct Input {
    /// By line.
    pub(super) words: Vec<Sent<u64, String>>,
    /// By sensor, as are the others.
    pub(super) readings: Vec<Sent<String, u64>>,
    pub(super) commands: Vec<Sent<String, u64>>,
    /// `None` deletes the row.
    pub(super) sensors: Vec<Sent<String, Option<u64>>>,
}

impl Input {
    pub(super) fn random(records: u64, random: &mut Random) -> Self {
        // All topics span one time. No two of them have a timestamp in common, so their order needs no other rule.
        let span = records * 35 / 100 * 4;
        let at = |number: u64, count: u64, topic: u64, random: &mut Random| {
            let back = if random.below(4) == 0 { random.below(DISORDER) } else { 0 };
            let step = (number * (span / 4) / count).saturating_sub(back);
            BEGIN_MS + (step * 4 + topic).cast_signed()
        };
        let sensor = |random: &mut Random| format!("sensor-{}", random.below(SENSORS_MAX));
        let [words, readings, commands, sensors] = [40, 35, 15, 10].map(|share| records * share / 100);
        Self {
            words: (0..words)
                .map(|n| {
                    let rare = random.below(WORDS_MAX);
                    let word = random.below(rare + 1);
                    (n, format!("word-{word}"), at(n, words, 0, random))
                })
                .collect(),
            readings: (0..readings)
                .map(|n| (sensor(random), random.below(1_000), at(n, readings, 1, random)))
                .collect(),
            commands: (0..commands)
                .map(|n| (sensor(random), random.below(1_000), at(n, commands, 2, random)))
                .collect(),
            sensors: (0..sensors)
                .map(|n| {
                    let version = (random.below(10) > 0).then_some(n);
                    (sensor(random), version, at(n, sensors, 3, random))
                })
                .collect(),
        }
    }

    pub(super) fn records(&self) -> u64 {
        (self.words.len() + self.readings.len() + self.commands.len() + self.sensors.len()) as u64
    }

    pub(super) async fn write(&self, embedded: &Embedded) -> Result<()> {
        send(embedded, WORDS, &self.words).await?;
        send(embedded, READINGS, &self.readings).await?;
        send(embedded, COMMANDS, &self.commands).await?;
        send(embedded, SENSORS, &self.sensors).await
    }
}

async fn send<K, V>(embedded: &Embedded, topic: &str, records: &[Sent<K, V>]) -> Result<()>
where
    K: DefaultSerde + Clone,
    V: DefaultSerde + Clone,
{
    for chunk in records.chunks(CHUNK) {
        let chunk: Vec<_> = chunk
            .iter()
            .map(|(key, value, at)| Record::new(key.clone(), value.clone(), Timestamp(*at)))
            .collect();
        embedded.send(topic, &chunk).await?;
    }
    Ok(())
}
