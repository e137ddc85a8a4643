//! What ten observers in processes of their own cost an owner that writes as fast as it can.
//!
//! The owner commits from two threads, each time a batch to every partition; segments roll, old ones are deleted, and the
//! journal is used again and again. Each observer follows one partition at its end, and stands back as `headwater consume --follow` does. Runs with and without observers take
//! turns, each in a folder of its own; printed are commits per second and their ratio, the CPU time per commit of the owner and of an
//! observer, and the cores that all observers together use. On a machine that has other work, CPU times tell more.

use std::{
    io::{Read, stdin},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use futures::executor::block_on;
use headwater::{
    core::{
        BatchBuilder, Headers, Log, LogVersion, Offset, Partition, ProducerName, TopicConfig, TopicName,
        TopicPartition, TopicSpec,
    },
    prelude::*,
    storage::log::{Durability, EmbeddedLog, LogOptions, ObservedLog},
};
use headwater_benches::{cpu, say};
use headwater_terminal::stand_back;

const OBSERVERS: u32 = 10;
const PARTITIONS: u32 = 10;
const PRODUCERS: u32 = 2;
/// Of 100 bytes each, in each batch.
const RECORDS: usize = 80;
const PAIRS: usize = 5;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["owner", folder, mode, ms] => own(Path::new(folder), mode, Duration::from_millis(number(ms)?)),
        ["observer", folder, partition] => observe(Path::new(folder), number(partition)?),
        // The smoke run of CI: does it work, not how fast.
        ["--smoke"] => compare("os", 1, 200),
        _ => compare("fsync", PAIRS, 4000).and_then(|()| compare("os", PAIRS, 4000)),
    }
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T> {
    text.parse().map_err(|_| Error::invalid(format!("not a number: {text}")))
}

/// What a run came to.
struct Run {
    commits_per_second: f64,
    owner_cpu: f64,
    observer_cpu: f64,
    observed: u64,
    written: u64,
}

fn compare(mode: &str, pairs: usize, ms: u64) -> Result<()> {
    let mut ratios = Vec::new();
    for pair in 0..pairs {
        // What a run leaves to the disk falls on the next one.
        let (alone, watched) = if pair % 2 == 0 {
            let alone = run(mode, ms, 0)?;
            (alone, run(mode, ms, OBSERVERS)?)
        } else {
            let watched = run(mode, ms, OBSERVERS)?;
            (run(mode, ms, 0)?, watched)
        };
        let ratio = watched.commits_per_second / alone.commits_per_second;
        say(&format!(
            "observers {mode:<5} alone {:>6.0}/s {:>4.0} us CPU  watched {:>6.0}/s {:>4.0} us CPU  ratio {ratio:.3}  observers {:.2} cores, {:.1} us CPU each  seen {} of {}",
            alone.commits_per_second,
            alone.cpu_per_commit(),
            watched.commits_per_second,
            watched.cpu_per_commit(),
            watched.observer_cpu,
            watched.observer_cpu / f64::from(OBSERVERS) / watched.commits_per_second * 1e6,
            watched.observed,
            watched.written,
        ))?;
        ratios.push((ratio, watched.cpu_per_commit() / alone.cpu_per_commit()));
    }
    let median = |of: fn(&(f64, f64)) -> f64| {
        let mut sorted: Vec<f64> = ratios.iter().map(of).collect();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    };
    let (commits, cpu) = (median(|(commits, _)| *commits), median(|(_, cpu)| *cpu));
    say(&format!("observers {mode:<5} median ratio of commits {commits:.3}, of CPU per commit {cpu:.3}"))
}

impl Run {
    /// In microseconds, of the owner.
    fn cpu_per_commit(&self) -> f64 {
        self.owner_cpu / self.commits_per_second * 1e6
    }
}

fn run(mode: &str, ms: u64, observers: u32) -> Result<Run> {
    let folder = tempfile::tempdir().map_err(|e| Error::io("cannot make a folder", e))?;
    let mut owner =
        start(&["owner".as_ref(), folder.path().as_os_str(), mode.as_ref(), ms.to_string().as_ref()])?;
    let mut words = [0; 6];
    read(&mut owner, &mut words)?;
    let mut watching = Vec::new();
    for number in 0..observers {
        let partition = (number % PARTITIONS).to_string();
        let mut observer = start(&["observer".as_ref(), folder.path().as_os_str(), partition.as_ref()])?;
        read(&mut observer, &mut words)?;
        watching.push(observer);
    }
    // Closing its input tells each that it is time.
    drop(owner.stdin.take());
    let [commits_per_second, owner_cpu, written] = end(owner)?;
    let (mut observer_cpu, mut observed) = (0.0, 0.0);
    for observer in watching {
        let [cpu, records, _] = end(observer)?;
        observer_cpu += cpu;
        observed += records;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts")]
    let (observed, written) = (observed as u64, written as u64);
    Ok(Run { commits_per_second, owner_cpu, observer_cpu, observed, written })
}

fn start(arguments: &[&std::ffi::OsStr]) -> Result<Child> {
    let program = std::env::current_exe().map_err(|e| Error::io("cannot find this program", e))?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    command.spawn().map_err(|e| Error::io("cannot start a process", e))
}

fn read(child: &mut Child, bytes: &mut [u8]) -> Result<()> {
    let out = child.stdout.as_mut().expect("it is piped");
    out.read_exact(bytes).map_err(|e| Error::io("a process ended early", e))
}

/// Three numbers that a process says last.
fn end(mut child: Child) -> Result<[f64; 3]> {
    drop(child.stdin.take());
    let output = child.wait_with_output().map_err(|e| Error::io("a process failed", e))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let numbers = text.split_whitespace().map(number).collect::<Result<Vec<f64>>>()?;
    numbers.try_into().map_err(|_| Error::invalid(format!("a process said `{text}`")))
}

fn wait_for_the_word() -> Result<()> {
    say("ready")?;
    stdin().read_to_end(&mut Vec::new()).map(drop).map_err(|e| Error::io("cannot read from stdin", e))
}

fn partition(number: u32) -> Result<TopicPartition> {
    Ok(TopicPartition::new(TopicName::new("t")?, Partition(number)))
}

fn own(folder: &Path, mode: &str, time: Duration) -> Result<()> {
    let durability = if mode == "os" { Durability::Os } else { Durability::Fsync };
    let options =
        LogOptions { durability, retention_check: Duration::from_millis(500), ..LogOptions::default() };
    let log = EmbeddedLog::open_with(folder, options)?;
    let config =
        TopicConfig { segment_bytes: 4 << 20, retention_bytes: Some(32 << 20), ..TopicConfig::default() };
    block_on(log.create_topic(&TopicSpec { config, ..TopicSpec::new("t", PARTITIONS)? }))?;
    wait_for_the_word()?;
    let (commits, failed) = (AtomicU64::new(0), Mutex::new(Ok(())));
    let (begun, cpu_before) = (Instant::now(), cpu());
    thread::scope(|scope| {
        for number in 0..PRODUCERS {
            let (log, commits, failed) = (&log, &commits, &failed);
            scope.spawn(move || {
                if let Err(error) = write(log, number, begun + time, commits) {
                    *failed.lock().unwrap_or_else(PoisonError::into_inner) = Err(error);
                }
            });
        }
    });
    let (elapsed, cpu) = (begun.elapsed().as_secs_f64(), cpu() - cpu_before);
    failed.into_inner().unwrap_or_else(PoisonError::into_inner)?;
    let commits = commits.into_inner();
    #[expect(clippy::cast_precision_loss, reason = "a count")]
    let per_second = commits as f64 / elapsed;
    let records = commits * u64::from(PARTITIONS) * RECORDS as u64;
    say(&format!("{per_second} {} {records}", cpu.as_secs_f64() / elapsed))
}

fn write(log: &EmbeddedLog, number: u32, until: Instant, commits: &AtomicU64) -> Result<()> {
    let mut producer = block_on(log.producer(&ProducerName(number.to_string())))?;
    let mut batch = BatchBuilder::default();
    let value = [b'v'; 90];
    while Instant::now() < until {
        for number in 0..PARTITIONS {
            for _ in 0..RECORDS {
                batch.push(Timestamp(0), Some(b"key"), Some(&value), &Headers::new());
            }
            producer.append(&partition(number)?, &mut batch)?;
        }
        block_on(producer.commit(None))?;
        commits.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

fn observe(folder: &Path, number: u32) -> Result<()> {
    static RECORDS_SEEN: AtomicU64 = AtomicU64::new(0);
    stand_back();
    let log = ObservedLog::open(folder)?;
    let partition = partition(number)?;
    let begun = Instant::now();
    thread::spawn(move || {
        let told = wait_for_the_word();
        let share = cpu().as_secs_f64() / begun.elapsed().as_secs_f64();
        let said = say(&format!("{share} {} 0", RECORDS_SEEN.load(Ordering::SeqCst)));
        std::process::exit(i32::from(told.and(said).is_err()));
    });
    let (mut next, mut seen) = (Offset(0), LogVersion::default());
    loop {
        let fetched = match block_on(log.read(&partition, next, 1 << 20)) {
            Ok(fetched) => fetched,
            // Deleted before it was read.
            Err(error) if error.kind() == ErrorKind::Invalid => {
                next = block_on(log.offsets(&partition))?.earliest;
                continue;
            }
            Err(error) => return Err(error),
        };
        for batch in &fetched.batches {
            RECORDS_SEEN.fetch_add(batch.record_count().into(), Ordering::SeqCst);
            next = batch.next_offset();
        }
        if next == fetched.end {
            seen = block_on(log.appended(seen))?;
        }
    }
}
