//! W2b: windowed statistics per key, every update written, with a changelog, on the embedded log.
//!
//! Prints CPU nanoseconds per record of the whole process (workers, journal thread, state engine), for a backlog that
//! lies in the log before the clock starts. `benches/compare-floor` runs it alternately with the hard-coded program that
//! it is compared to, over the same records.

use std::{io::Write, sync::Arc, time::Duration};

use headwater::{
    core::{BatchBuilder, Headers, Log, Partition, ProducerName, TopicName, TopicPartition},
    prelude::*,
    storage::log::{Durability, LogOptions},
};
use headwater_benches::{Power, PowerSerde, PowerStats, PowerStatsSerde, XorShift, cpu, power_bytes};

/// Size of the input batches.
const BATCH_BYTES: usize = 16_384;
const RUNS: usize = 3;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    // The smoke run of CI: does it work, not how fast.
    let records: u64 = if arguments.iter().any(|a| a == "--smoke") { 100_000 } else { 5_000_000 };
    for keys in [1_000, 100_000] {
        let folder = tempfile::tempdir().map_err(|e| Error::io("cannot make a folder", e))?;
        let options = LogOptions { durability: Durability::Os, ..LogOptions::default() };
        let embedded = Embedded::open_with(folder.path(), options)?;
        futures::executor::block_on(async {
            fill(&embedded, records, keys).await?;
            let mut costs = Vec::new();
            for run in 0..RUNS {
                costs.push(drain(&embedded, records, run).await?);
            }
            costs.sort_by(f64::total_cmp);
            writeln!(
                std::io::stdout(),
                "headwater keys={keys:<8} W2b every update             best {:>6.1}  median {:>6.1} ns/record",
                costs[0],
                costs[RUNS / 2]
            )
            .map_err(|e| Error::io("cannot write to standard output", e))
        })?;
    }
    Ok(())
}

/// The records that the measuring stick makes, in one partition.
async fn fill(embedded: &Embedded, records: u64, keys: u64) -> Result<()> {
    embedded.create_topic("power", 1).await?;
    let partition = TopicPartition::new(TopicName::new("power")?, Partition(0));
    let mut producer = embedded.log().producer(&ProducerName("fill".to_owned())).await?;
    let (mut random, mut batch, mut value) = (XorShift(42_424_242), BatchBuilder::default(), Vec::new());
    let mut timestamp = 1_700_000_000_000;
    for i in 0..records {
        let key = format!("s_{}", random.number() % keys);
        timestamp += i64::from(i % 1000 == 0);
        #[expect(clippy::cast_precision_loss, reason = "below 97")]
        let power = Power { timestamp, watts: 10.0 + (i % 97) as f64 };
        power_bytes(key.as_bytes(), power, &mut value);
        batch.push(Timestamp(timestamp), Some(key.as_bytes()), Some(&value), &Headers::new());
        if batch.size() >= BATCH_BYTES {
            producer.append(&partition, &mut batch)?;
        }
        if i % 100_000 == 99_999 {
            producer.commit(None).await?;
        }
    }
    if !batch.is_empty() {
        producer.append(&partition, &mut batch)?;
    }
    producer.commit(None).await?;
    Ok(())
}

/// Runs the application over the backlog; CPU nanoseconds per record.
async fn drain(embedded: &Embedded, records: u64, run: usize) -> Result<f64> {
    let builder = StreamsBuilder::new();
    builder
        .stream_with(
            "power",
            Consumed::with(String::default_serde(), Arc::new(PowerSerde) as SerdeRef<Power>),
        )
        .group_by_key()
        .windowed_by(TimeWindows::tumbling(Duration::from_secs(60)).grace(Duration::from_secs(10)))
        .aggregate_with(
            "stats",
            (String::default_serde(), Arc::new(PowerStatsSerde) as SerdeRef<PowerStats>),
            PowerStats::default,
            |_, power, stats| stats.add(power.watts),
        )
        .to_stream()
        .to_with("stats", Produced::with(<Windowed<String>>::default_serde(), Arc::new(PowerStatsSerde)));
    let settings = Settings::new(format!("w2b-{run}"));
    let start = cpu();
    let streams = embedded.start(builder.build()?, settings).await?;
    streams.caught_up().await?;
    let cost = cpu() - start;
    let metrics = streams.close().await?;
    let total = metrics.total();
    if total.records != records || total.late != 0 || total.written < records {
        return Err(Error::invalid(format!("the run is not valid: {metrics}")));
    }
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    Ok(cost.as_nanos() as f64 / records as f64)
}
