//! A store that is ten times as large as its memory works, and the process keeps to that memory. A process of its own,
//! because other tests would be measured too.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    fs,
    hint::black_box,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    thread,
};

use headwater::{
    Embedded, Record, Result, Settings, StreamsBuilder, Timestamp,
    storage::log::{Durability, LogOptions},
};

const MIB: usize = 1 << 20;
/// For all stores of the application: rows at hand and engine.
const BUDGET: usize = 32 * MIB;
/// What the process may take beside: code, log, buffers, what is on its way.
const BESIDE: usize = 64 * MIB;
const VALUE_BYTES: usize = 1024;
const KEYS: usize = 10 * BUDGET / VALUE_BYTES;
/// Each row is set once, and as many again are changed, all over the store.
const RECORDS: usize = 2 * KEYS;
const _: () = assert!(KEYS * VALUE_BYTES >= 3 * (BUDGET + BESIDE), "a store kept in memory would be seen");

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

/// Measures while `running`, and gives the most that it saw.
fn watch<'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    running: &'scope AtomicBool,
    most: &'scope AtomicUsize,
) {
    scope.spawn(move || {
        while running.load(Relaxed) {
            most.fetch_max(resident(), Relaxed);
            thread::yield_now();
        }
    });
}

async fn run(folder: &std::path::Path) -> Result<u64> {
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
        memory_bytes: BUDGET,
        uncommitted_bytes_max: 2 << 20,
        turn_records_max: 1000,
        ..Settings::new("large-store")
    };
    let streams = embedded.start(builder.build()?, settings).await?;
    for (round, keys) in [(0, 0..KEYS), (1, KEYS..RECORDS)] {
        for chunk in keys.collect::<Vec<_>>().chunks(1000) {
            let record = |number: &usize| {
                // Far from those before and after, so that no row is at hand.
                let key = number.wrapping_mul(0x9e37_79b1) % KEYS;
                Record::new(key as u64, value(round, key), Timestamp(0))
            };
            embedded.send("in", &chunk.iter().map(record).collect::<Vec<_>>()).await?;
        }
        streams.caught_up().await?;
    }
    let metrics = streams.close().await?;
    embedded.close().await?;
    Ok(metrics.total().records)
}

#[test]
fn a_store_ten_times_as_large_as_its_memory_keeps_to_it() {
    check_the_gauge();
    let folder = tempfile::tempdir().unwrap();
    let before = resident();
    let (running, most) = (AtomicBool::new(true), AtomicUsize::new(before));
    let records = thread::scope(|scope| {
        watch(scope, &running, &most);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let records = runtime.block_on(run(folder.path()));
        running.store(false, Relaxed);
        records
    });
    assert_eq!(records.unwrap(), RECORDS as u64);
    let grown = most.into_inner() - before;
    eprintln!(
        "a store of {} MiB took {} MiB, with a budget of {} MiB",
        KEYS * VALUE_BYTES / MIB,
        grown / MIB,
        BUDGET / MIB
    );
    assert!(grown <= BUDGET + BESIDE, "{} MiB", grown / MIB);
}
