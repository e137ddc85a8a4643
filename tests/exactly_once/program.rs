//! The program that is killed.

use std::time::Duration;

use headwater::prelude::*;

pub(super) const APPLICATION: &str = "app";
pub(super) const PARTITIONS: u32 = 4;
pub(super) const WORDS: &str = "words";
pub(super) const READINGS: &str = "readings";
pub(super) const COMMANDS: &str = "commands";
pub(super) const SENSORS: &str = "sensors";
pub(super) const COUNTS: &str = "counts";
pub(super) const STATS: &str = "stats";
pub(super) const CLOSED: &str = "closed";
pub(super) const ENRICHED: &str = "enriched";
pub(super) const ANSWERS: &str = "answers";
pub(super) const REPARTITION: &str = "app-by-word-repartition";

pub(super) const WINDOW_MS: i64 = 8_000;
pub(super) const ADVANCE_MS: i64 = 4_000;
pub(super) const GRACE_MS: i64 = 1_000;
pub(super) const JOIN_MS: i64 = 1_000;
pub(super) const JOIN_GRACE_MS: i64 = 500;

/// Sub-topologies, in the order of [`topology`], and their stores.
pub(super) const COUNTING: u32 = 1;
pub(super) const SENSING: u32 = 2;
pub(super) const COUNTING_STORES: [&str; 1] = ["word-counts"];
pub(super) const SENSING_STORES: [&str; 5] =
    ["sensor-rows", "stats-8s", "closed-8s", "answers-left", "answers-right"];

fn ms(ms: i64) -> Duration {
    Duration::from_millis(ms.unsigned_abs())
}

pub(super) async fn create_topics(embedded: &Embedded) -> Result<()> {
    for topic in [WORDS, READINGS, COMMANDS, SENSORS] {
        embedded.create_topic(topic, PARTITIONS).await?;
    }
    Ok(())
}

/// What a reading becomes next to its sensor's row.
pub(super) fn enriched(reading: u64, row: Option<u64>) -> u64 {
    reading * 1_000_000 + row.map_or(999_999, |row| row % 999_999)
}

/// What a reading becomes next to a command, or alone.
pub(super) fn answered(reading: u64, command: Option<u64>) -> u64 {
    reading * 10_000 + command.unwrap_or(9_999)
}

/// Number and sum of the readings in a window.
pub(super) fn add(reading: u64, stats: &mut (u64, u64)) {
    stats.0 += 1;
    stats.1 += reading;
}

pub(super) fn topology() -> Result<Topology> {
    let builder = StreamsBuilder::new();
    builder
        .stream::<u64, String>(WORDS)
        .group_by("by-word", |_, word| word.clone())
        .count("word-counts")
        .to_stream()
        .to(COUNTS);
    let readings = builder.stream::<String, u64>(READINGS);
    let sensors = builder.table::<String, u64>(SENSORS, "sensor-rows");
    readings.left_join_table(&sensors, |_, reading, row| enriched(reading, row.copied())).to(ENRICHED);
    let by_sensor = readings.group_by_key();
    let tumbling = TimeWindows::tumbling(ms(WINDOW_MS)).grace(ms(GRACE_MS));
    by_sensor
        .windowed_by(tumbling)
        .aggregate("stats-8s", <(u64, u64)>::default, |_, reading, stats| add(reading, stats))
        .to_stream()
        .to(STATS);
    let hopping = TimeWindows::hopping(ms(WINDOW_MS), ms(ADVANCE_MS)).grace(ms(GRACE_MS));
    by_sensor.windowed_by(hopping).emit(Emit::OnClose).count("closed-8s").to_stream().to(CLOSED);
    let commands = builder.stream::<String, u64>(COMMANDS);
    let windows = JoinWindows::within(ms(JOIN_MS)).grace(ms(JOIN_GRACE_MS));
    let answer = |_: &String, reading: &u64, command: Option<&u64>| answered(*reading, command.copied());
    readings.left_join(&commands, "answers", windows, answer).to(ANSWERS);
    builder.build()
}

/// Small turns, a commit after each, and little memory: many moments to be killed at, in commits and in writes of state.
pub(super) fn settings() -> Settings {
    Settings {
        workers: 2,
        turn_records_max: 100,
        commit_interval: Duration::ZERO,
        memory_bytes: 4 << 20,
        ..Settings::new(APPLICATION)
    }
}
