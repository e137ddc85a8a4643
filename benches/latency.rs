//! How long a record takes from one topic to another, durably: it is committed and synced, taken, processed, committed and
//! synced again, and read.
//!
//! `make bench BENCH_ARGS="--bench latency"`. A hundred records are due every millisecond, and a record's latency counts from when
//! it was due, whatever held up whoever writes it. Then the same at half the rate, alone and beside a replay in another process with one
//! worker, which reads the folder that is written here: at full speed, and as it is by default.
//!
//! Arguments: `--smoke` for a run of CI; `--share 25%` for a replay that takes so much of the disk's time, and nothing else.

use std::{
    path::Path,
    process::{Command, ExitCode, Stdio},
    sync::atomic::{AtomicBool, Ordering},
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
    storage::log::{EmbeddedLog, ObservedLog},
};
use headwater_benches::{Killed, Load, fill, say, windowed};

/// Records a second.
const RATE: u64 = 100_000;
const TICK: Duration = Duration::from_millis(1);
/// What is read in this time counts in nothing.
const BEGINNING: Duration = Duration::from_secs(2);
const READ_BYTES_MAX: usize = 1 << 20;
/// A batch is closed behind a millisecond in which it has grown larger than this.
const BATCH_BYTES: usize = 256 << 10;
/// Runs alone and beside a replay take turns, so many times.
const PAIRS: usize = 3;
/// What is replayed.
const REPLAYED: u64 = 10_000_000;

fn main() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    // A program like that of a user.
    if arguments.first().is_some_and(|command| command == "replay") {
        let app = App::new("replayed").topology(|builder| {
            windowed(builder, Emit::OnUpdate);
            Ok(())
        });
        return Ok(app.main());
    }
    if let [command, share] = &arguments[..]
        && command == "--share"
    {
        return beside(share).map(|()| ExitCode::SUCCESS);
    }
    let smoke = arguments.iter().any(|a| a == "--smoke");
    let time = Duration::from_secs(if smoke { 3 } else { 20 });
    let alone = measure("alone", RATE, time, None)?;
    if smoke {
        return Ok(ExitCode::SUCCESS);
    }
    let target = if alone.0 <= 2.0 && alone.1 <= 10.0 { "met" } else { "missed" };
    say(&format!("targets: p50 <= 2 ms, p99 <= 10 ms: {target}"))?;
    beside("100%")?;
    beside("default")?;
    Ok(ExitCode::SUCCESS)
}

/// Alone, and beside a replay that takes so much of the disk.
fn beside(share: &str) -> Result<()> {
    let time = Duration::from_secs(20);
    let name = format!("beside a replay, share {share}");
    let mut ratios = Vec::new();
    for _ in 0..PAIRS {
        let half = measure("half the rate, alone", RATE / 2, time, None)?;
        let beside = measure(&name, RATE / 2, time, Some(share))?;
        ratios.push(beside.1 / half.1);
    }
    ratios.sort_by(f64::total_cmp);
    say(&format!("p99 beside it, to that alone: {ratios:.2?}, median {:.2} (target 2)", ratios[PAIRS / 2]))
}

/// Milliseconds of p50 and p99.
fn measure(name: &str, rate: u64, time: Duration, share: Option<&str>) -> Result<(f64, f64)> {
    let folder = tempfile::tempdir().map_err(|e| Error::io("cannot make a folder", e))?;
    let live = folder.path().join("live");
    let embedded = Embedded::open(&live)?;
    block_on(embedded.create_topic("in", 1))?;
    block_on(embedded.create_topic("out", 1))?;
    let settings = Settings { workers: 1, commit_interval: TICK, ..Settings::new("latency") };
    if share.is_some() {
        let load = Load { keys: 10_000, apart_ms: 1, partitions: 1 };
        block_on(fill(embedded.log(), REPLAYED, &load))?;
    }
    let streams = block_on(embedded.start(topology("in")?, settings))?;
    let (start, over) = (Instant::now(), AtomicBool::new(false));
    let log = embedded.log();
    let (histogram, replayed) = thread::scope(|scope| {
        let writer = scope.spawn(|| write(log, (rate, time), start));
        let reader = scope.spawn(|| read(log, start, &over));
        let replays = share.map(|share| scope.spawn(|| replay_for_ever(&live, share, &over)));
        let written = join(writer);
        // What was written comes out, or the application has failed, which it says below.
        let caught_up = block_on(streams.caught_up());
        over.store(true, Ordering::Release);
        // Wakes the reader.
        let woken = block_on(embedded.create_topic("over", 1));
        let read = join(reader);
        let replayed = replays.map(join).transpose();
        written.and(caught_up).and(woken)?;
        Ok::<_, Error>((read?, replayed?))
    })?;
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
    if let Some(replayed) = replayed {
        say(&format!("{:<32} {replayed:>9.0} records/s", "  the replay"))?;
    }
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

/// Replays all that there is, again and again, each time in a process of its own, as a user would: until it is `over`. How many records in
/// a second.
fn replay_for_ever(live: &Path, share: &str, over: &AtomicBool) -> Result<f64> {
    let (start, mut records) = (Instant::now(), 0);
    for round in 0.. {
        let name = format!("round-{round}");
        let mut replaying = Replaying::start(live, &name, share)?;
        while !over.load(Ordering::Acquire) && replaying.is_running()? {
            thread::park_timeout(Duration::from_millis(10));
        }
        if !over.load(Ordering::Acquire) {
            records += REPLAYED;
            continue;
        }
        records += replayed(live, &name).unwrap_or(0);
        break;
    }
    #[expect(clippy::cast_precision_loss, reason = "shown without a fraction")]
    let records = records as f64;
    Ok(records / start.elapsed().as_secs_f64())
}

/// How many records a replay that is not finished has written: one for each that it took.
fn replayed(live: &Path, name: &str) -> Result<u64> {
    let log = ObservedLog::open(live.join("replays").join(name))?;
    let partition = TopicPartition::new(TopicName::new("stats")?, Partition(0));
    Ok(block_on(log.offsets(&partition))?.end.0)
}

/// This program once more, in a process of its own, until it is dropped.
struct Replaying(Killed);

impl Replaying {
    fn start(live: &Path, name: &str, share: &str) -> Result<Self> {
        let program = std::env::current_exe().map_err(|e| Error::io("cannot find this program", e))?;
        let mut command = Command::new(program);
        command.args([
            "replay",
            "--to",
            "nowhere",
            "--workers",
            "1",
            "--memory",
            "128MB",
            "--quiet",
            "--json",
        ]);
        command.args(["--name", name, "--log"]).arg(live);
        if share != "default" {
            command.args(["--disk-share", share]);
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        child.map(|child| Self(Killed(child))).map_err(|e| Error::io("cannot start a replay", e))
    }

    fn is_running(&mut self) -> Result<bool> {
        let ended = self.0.0.try_wait().map_err(|e| Error::io("cannot look after a replay", e))?;
        match ended {
            Some(status) if !status.success() => {
                Err(Error::invalid(format!("a replay failed. status={status}")))
            }
            ended => Ok(ended.is_none()),
        }
    }
}
