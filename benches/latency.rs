//! How long a record takes from one topic to another, durably: it is committed and synced, taken, processed, committed and
//! synced again, and read.
//!
//! `make bench BENCH_ARGS="--bench latency"`. A hundred records are due every millisecond, and a record's latency counts from when
//! it was due, whatever held up whoever writes it. Then the same at half the rate, alone and beside a replay in another process with one
//! worker, which reads the folder that is written here.
//!
//! Arguments: `--smoke` for a run of CI.

use std::{
    fs,
    io::{Write, stdout},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use futures::executor::block_on;
use hdrhistogram::Histogram;
use headwater::{
    core::{
        BatchBuilder, Log, LogVersion, Offset, Partition, Producer, ProducerName, TopicName, TopicPartition,
    },
    prelude::*,
    replay::{Options, Plan, Run},
    storage::{
        log::{EmbeddedLog, ObservedLog},
        state::{RocksBackend, RocksOptions},
    },
};
use headwater_benches::{Load, fill, windowed};

/// Records a second.
const RATE: u64 = 100_000;
const TICK: Duration = Duration::from_millis(1);
/// What is read in this time counts in nothing.
const BEGINNING: Duration = Duration::from_secs(2);
const READ_BYTES_MAX: usize = 1 << 20;
/// A batch is closed behind a millisecond in which it has grown larger than this.
const BATCH_BYTES: usize = 256 << 10;
/// What is replayed.
const REPLAYED: u64 = 10_000_000;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    if let [command, live, own] = &arguments[..]
        && command == "replay-for-ever"
    {
        return block_on(replay_for_ever(Path::new(live), Path::new(own)));
    }
    let smoke = arguments.iter().any(|a| a == "--smoke");
    let time = Duration::from_secs(if smoke { 3 } else { 20 });
    let alone = measure("alone", RATE, time, false)?;
    if smoke {
        return Ok(());
    }
    let target = if alone.0 <= 2.0 && alone.1 <= 10.0 { "met" } else { "missed" };
    say(&format!("targets: p50 <= 2 ms, p99 <= 10 ms: {target}"))?;
    let half = measure("half the rate, alone", RATE / 2, time, false)?;
    let beside = measure("half the rate, beside a replay", RATE / 2, time, true)?;
    say(&format!("p99 beside a replay, to that alone: {:.2} (target 2)", beside.1 / half.1))
}

/// Milliseconds of p50 and p99.
fn measure(name: &str, rate: u64, time: Duration, beside_replay: bool) -> Result<(f64, f64)> {
    let folder = tempfile::tempdir().map_err(|e| Error::io("cannot make a folder", e))?;
    let live = folder.path().join("live");
    let embedded = Embedded::open(&live)?;
    block_on(embedded.create_topic("in", 1))?;
    block_on(embedded.create_topic("out", 1))?;
    let settings = Settings { workers: 1, commit_interval: TICK, ..Settings::new("latency") };
    if beside_replay {
        let load = Load { keys: 10_000, apart_ms: 1, partitions: 1 };
        block_on(fill(embedded.log(), REPLAYED, &load))?;
    }
    let streams = block_on(embedded.start(topology("in")?, settings))?;
    let (start, over) = (Instant::now(), AtomicBool::new(false));
    let log = embedded.log();
    let (histogram, other) = thread::scope(|scope| {
        let writer = scope.spawn(|| write(log, (rate, time), start));
        let reader = scope.spawn(|| read(log, start, &over));
        let other = beside_replay.then(|| Replaying::start(&live, &folder.path().join("own"))).transpose();
        let written = join(writer);
        // What was written comes out, or the application has failed, which it says below.
        let caught_up = block_on(streams.caught_up());
        over.store(true, Ordering::Release);
        // Wakes the reader.
        let woken = block_on(embedded.create_topic("over", 1));
        let read = join(reader);
        written.and(caught_up).and(woken)?;
        Ok::<_, Error>((read?, other?))
    })?;
    drop(other);
    block_on(streams.close())?;
    block_on(embedded.close())?;
    #[expect(clippy::cast_precision_loss, reason = "minutes")]
    let ms = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
    say(&format!(
        "{name:<32} {:>9} records   p50 {:6.2} ms   p99 {:6.2} ms   p99.9 {:6.2} ms   max {:6.2} ms",
        histogram.len(),
        ms(0.5),
        ms(0.99),
        ms(0.999),
        ms(1.0)
    ))?;
    Ok((ms(0.5), ms(0.99)))
}

fn join<T>(thread: thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().unwrap_or_else(|_| Err(Error::invalid("a thread of the benchmark panicked")))
}

fn topology(topic: &str) -> Result<Topology> {
    let builder = StreamsBuilder::new();
    builder.stream::<u64, u64>(topic).filter(|_, _| true).map_values(|_, due| due).to("out");
    builder.build()
}

/// Writes what is due every millisecond; a value is when it was due, in microseconds since `start`.
fn write(log: &EmbeddedLog, (rate, time): (u64, Duration), start: Instant) -> Result<()> {
    let partition = TopicPartition::new(TopicName::new("in")?, Partition(0));
    let mut producer: Box<dyn Producer> = block_on(log.producer(&ProducerName("load".to_owned())))?;
    let (mut batch, mut tick, mut sent) = (BatchBuilder::default(), 0u32, 0);
    while tick * TICK < time {
        let due = tick * TICK;
        // Time is what is waited for; the next round looks again if it comes back too early.
        thread::park_timeout((start + due).saturating_duration_since(Instant::now()));
        // All that is due by now, in one commit: whoever is late does not make it worse.
        while tick * TICK <= start.elapsed() && tick * TICK < time {
            let due = micros(tick * TICK);
            for _ in 0..rate * micros(TICK) / 1_000_000 {
                sent += 1;
                let timestamp = Timestamp(i64::try_from(due / 1000).unwrap_or(i64::MAX));
                let key = u64::to_be_bytes(sent % 1000);
                batch.push(timestamp, Some(&key), Some(&due.to_be_bytes()), &Headers::new());
            }
            if batch.size() >= BATCH_BYTES {
                producer.append(&partition, &mut batch)?;
            }
            tick += 1;
        }
        if !batch.is_empty() {
            producer.append(&partition, &mut batch)?;
        }
        block_on(producer.commit(None))?;
    }
    Ok(())
}

/// Latencies in microseconds.
fn read(log: &EmbeddedLog, start: Instant, over: &AtomicBool) -> Result<Histogram<u64>> {
    let partition = TopicPartition::new(TopicName::new("out")?, Partition(0));
    // Up to a minute.
    let mut histogram =
        Histogram::new_with_bounds(1, 60_000_000, 3).map_err(|_| Error::invalid("no histogram"))?;
    let (mut next, mut seen) = (Offset(0), LogVersion::default());
    loop {
        let fetched = block_on(log.read(&partition, next, READ_BYTES_MAX))?;
        let now = micros(start.elapsed());
        for batch in &fetched.batches {
            let mut cursor = batch.cursor();
            while let Some(record) = cursor.next().transpose()? {
                let due = record.value.and_then(|value| value.try_into().ok()).map_or(0, u64::from_be_bytes);
                if due >= micros(BEGINNING) {
                    histogram.saturating_record(now.saturating_sub(due));
                }
            }
            next = batch.next_offset();
        }
        if fetched.batches.is_empty() {
            if over.load(Ordering::Acquire) {
                return Ok(histogram);
            }
            seen = block_on(log.appended(seen))?;
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// This program once more, in a process of its own, until it is dropped.
struct Replaying(Child);

impl Replaying {
    fn start(live: &Path, own: &Path) -> Result<Self> {
        let program = std::env::current_exe().map_err(|e| Error::io("cannot find this program", e))?;
        let child = Command::new(program)
            .arg("replay-for-ever")
            .args([live, own])
            .stdin(Stdio::null())
            .spawn()
            .map_err(|e| Error::io("cannot start a replay", e))?;
        Ok(Self(child))
    }
}

impl Drop for Replaying {
    fn drop(&mut self) {
        // It may have ended.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Replays all that there is, again and again.
async fn replay_for_ever(live: &Path, own: &Path) -> Result<()> {
    for round in 0.. {
        let own = own.join(round.to_string());
        let builder = StreamsBuilder::new();
        windowed(&builder, Emit::OnUpdate);
        let (topology, settings) = (builder.build()?, Settings { workers: 1, ..Settings::new("replayed") });
        let source: Arc<dyn Log> = Arc::new(ObservedLog::open(live)?);
        let plan =
            Plan::resolve(&topology, &settings, &Options::default(), Timestamp(i64::MAX), &*source).await?;
        let log = EmbeddedLog::open(&own)?;
        let state = RocksBackend::open(own.join("state"), RocksOptions { memory_bytes: 64 << 20 })?;
        let run =
            Run::start(&topology, settings, &plan, source, Arc::new(log.clone()), Arc::new(state)).await?;
        run.finish().await?;
        log.close().await?;
        fs::remove_dir_all(&own).map_err(|e| Error::io("cannot remove a replay", e))?;
    }
    Ok(())
}

fn say(text: &str) -> Result<()> {
    writeln!(stdout(), "{text}").map_err(|e| Error::io("cannot write to standard output", e))
}
