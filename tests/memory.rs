//! A store that is ten times as large as its memory works, and the process keeps to that memory. Each amount of memory has a process of
//! its own: what one run leaves behind would be measured with the next. `HEADWATER_MEMORY_MIB` sets the one amount to try; a run
//! writes forty times as much to the folder for temporary files, and takes less than a second per MiB.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    env, fs,
    hint::black_box,
    process::Command,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    thread,
};

use headwater::{
    Embedded, Record, Result, Settings, StreamsBuilder, Timestamp,
    storage::log::{Durability, LogOptions},
};

const MIB: usize = 1 << 20;
/// What the process may take beside: code, log, buffers, what is on its way.
const BESIDE: usize = 64 * MIB;
const VALUE_BYTES: usize = 1024;
/// For all stores of the application, rows at hand and engine: what is tried when nothing else is asked for.
const BUDGETS_MIB: [usize; 2] = [32, 128];
const ASKED_FOR: &str = "HEADWATER_MEMORY_MIB";
/// Tells a process which of them is its own.
const OWN: &str = "HEADWATER_MEMORY_TEST_OWN_MIB";
/// What a process says when it has measured.
const MEASURED: &str = "a store of";

/// What of this process is in memory.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().trim().parse::<usize>().unwrap() * 1024
}

/// What is measured is what is used: otherwise the test could not fail.
fn check_the_gauge() {
    let before = resident();
    let used = black_box(vec![1_u8; 2 * BESIDE]);
    let with = resident();
    assert!(with - before > BESIDE, "{} bytes more are seen as {before} and {with}", used.len());
}

fn value(round: usize, number: usize) -> String {
    format!("{round}/{number}/{}", "x".repeat(VALUE_BYTES - 20))
}

/// Measures until it is told to stop, and gives the most that it saw.
fn watch<'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    stop: &'scope AtomicBool,
    most: &'scope AtomicUsize,
) {
    scope.spawn(move || {
        while !stop.load(Relaxed) {
            most.fetch_max(resident(), Relaxed);
            thread::yield_now();
        }
    });
}

/// Stops the watch, also when what is watched panics.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

async fn run(folder: &std::path::Path, budget: usize, keys: usize) -> Result<u64> {
    let options = LogOptions {
        durability: Durability::Os,
        journal_segment_bytes: 8 << 20,
        checkpoint_bytes: 8 << 20,
        tail_bytes_max: 4 * MIB,
        queue_bytes_max: 4 * MIB,
        ..LogOptions::default()
    };
    let embedded = Embedded::open_with(folder, options)?;
    embedded.create_topic("in", 1).await?;
    let builder = StreamsBuilder::new();
    let rows = builder.stream::<u64, String>("in").group_by_key();
    // Only that a row was changed is sent on; what it holds stays in the store.
    let rows = rows.reduce("rows", |_, value| value);
    rows.to_stream().map_values(|_, value| value.map_or(0, |value| value.len() as u64)).to("out");
    // What waits for a commit is memory, too, and has a limit of its own.
    let settings = Settings {
        memory_bytes: budget,
        uncommitted_bytes_max: 2 << 20,
        turn_records_max: 1000,
        ..Settings::new("large-store")
    };
    let streams = embedded.start(builder.build()?, settings).await?;
    // Each row is set once, and as many again are changed, all over the store.
    for (round, numbers) in [(0, 0..keys), (1, keys..2 * keys)] {
        let end = numbers.end;
        for from in numbers.step_by(1000) {
            let record = |number: usize| {
                // Far from those before and after, so that no row is at hand.
                let key = number.wrapping_mul(0x9e37_79b1) % keys;
                Record::new(key as u64, value(round, key), Timestamp(0))
            };
            let records = (from..end.min(from + 1000)).map(record).collect::<Vec<_>>();
            embedded.send("in", &records).await?;
        }
        streams.caught_up().await?;
    }
    let metrics = streams.close().await?;
    embedded.close().await?;
    Ok(metrics.total().records)
}

fn mib_of(variable: &str) -> Option<usize> {
    let mib = env::var(variable).ok()?;
    Some(mib.parse().unwrap_or_else(|_| panic!("{variable} is a number of MiB, not `{mib}`")))
}

#[test]
fn a_store_ten_times_as_large_as_its_memory_keeps_to_it() {
    if let Some(mib) = mib_of(OWN) {
        return keeps_to(mib * MIB);
    }
    let this = "a_store_ten_times_as_large_as_its_memory_keeps_to_it";
    let budgets = mib_of(ASKED_FOR).map_or(BUDGETS_MIB.to_vec(), |mib| vec![mib]);
    let failed: Vec<String> = budgets
        .into_iter()
        .filter_map(|mib| {
            let mut run = Command::new(env::current_exe().unwrap());
            run.args(["--exact", this, "--nocapture"]).env(OWN, mib.to_string());
            let run = run.output().unwrap();
            let said = String::from_utf8_lossy(&run.stderr);
            eprint!("{said}");
            // A process that finds no test of that name has passed as well.
            let passed = run.status.success() && said.contains(MEASURED);
            (!passed).then(|| format!("with {mib} MiB: {}", run.status))
        })
        .collect();
    assert!(failed.is_empty(), "{failed:?}");
}

fn keeps_to(budget: usize) {
    check_the_gauge();
    let keys = 10 * budget / VALUE_BYTES;
    assert!(
        keys * VALUE_BYTES >= 3 * (budget + BESIDE),
        "too little memory to try: a store that is kept in memory would not be seen"
    );
    let folder = tempfile::tempdir().unwrap();
    let before = resident();
    let (stop, most) = (AtomicBool::new(false), AtomicUsize::new(before));
    let records = thread::scope(|scope| {
        let _stop = Stop(&stop);
        watch(scope, &stop, &most);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(run(folder.path(), budget, keys))
    });
    assert_eq!(records.unwrap(), 2 * keys as u64);
    let grown = most.into_inner() - before;
    eprintln!(
        "{MEASURED} {} MiB took {} MiB, with a budget of {} MiB",
        keys * VALUE_BYTES / MIB,
        grown / MIB,
        budget / MIB
    );
    assert!(grown <= budget + BESIDE, "{} MiB", grown / MIB);
}
