//! A process that writes state is killed, again and again; what it leaves behind is always a number of whole batches.

use std::{
    env,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use super::*;

const CHILD: &str = "HEADWATER_TEST_STATE_OF_A_KILLED_PROCESS";
const STORES: [&str; 3] = ["kept", "expiring", "overwritten"];
const KEPT: StoreId = StoreId(0);
const EXPIRING: StoreId = StoreId(1);
const OVERWRITTEN: StoreId = StoreId(2);
const KEYS_PER_WRITE: u64 = 40;
const OVERWRITTEN_KEYS: u64 = 25;
const KILLS: u64 = 30;
/// So many batches are applied, the last of them written; by their size, some are flushed before that.
const BATCHES_PER_WRITE: u64 = 20;
const EXPIRING_BYTES: usize = 200 << 10;

/// The batch that brings all stores from position `at` to the next.
fn fill(batch: &mut StateBatch, at: u64) {
    batch.clear();
    for key in at * KEYS_PER_WRITE..(at + 1) * KEYS_PER_WRITE {
        batch.put(KEPT, &key.to_be_bytes(), &at.to_be_bytes());
    }
    batch.put(EXPIRING, &at.to_be_bytes(), &[9; EXPIRING_BYTES]);
    batch.delete_range(EXPIRING, &[], &at.saturating_sub(3).to_be_bytes());
    for key in 0..OVERWRITTEN_KEYS {
        batch.put(OVERWRITTEN, &key.to_be_bytes(), &at.to_be_bytes());
    }
    for store in [KEPT, EXPIRING, OVERWRITTEN] {
        batch.position(store, Offset(at + 1));
    }
}

/// What the child does until it is killed: it writes, and says so after each write.
fn child(folder: &Path) -> ! {
    let mut state = open(folder, &STORES).unwrap();
    let mut at = state.position(KEPT).unwrap().map_or(0, |offset| offset.0);
    let mut batch = StateBatch::default();
    loop {
        fill(&mut batch, at);
        at += 1;
        if at.is_multiple_of(BATCHES_PER_WRITE) {
            state.write(&batch).unwrap();
            println!("\nwritten {at}");
        } else {
            state.apply(&batch).unwrap();
        }
    }
}

/// Checks that the stores hold the first `n` batches, whole, and returns `n`.
fn whole_batches(folder: &Path) -> u64 {
    let state = open(folder, &STORES).unwrap();
    let positions = [KEPT, EXPIRING, OVERWRITTEN].map(|store| state.position(store).unwrap());
    assert!(
        positions.iter().all(|position| *position == positions[0]),
        "stores disagree. positions={positions:?}"
    );
    let batches = positions[0].map_or(0, |offset| offset.0);
    let number = |at: u64| at.to_be_bytes().to_vec();
    let kept: Entries =
        (0..batches * KEYS_PER_WRITE).map(|key| (number(key), number(key / KEYS_PER_WRITE))).collect();
    assert!(scan(&*state, KEPT, b"", None).unwrap() == kept, "not the keys of {batches} batches");
    let expiring: Entries =
        (batches.saturating_sub(4)..batches).map(|at| (number(at), vec![9; EXPIRING_BYTES])).collect();
    assert_eq!(scan(&*state, EXPIRING, b"", None).unwrap(), expiring);
    let keys = if batches == 0 { 0 } else { OVERWRITTEN_KEYS };
    let overwritten: Entries = (0..keys).map(|key| (number(key), number(batches - 1))).collect();
    assert_eq!(scan(&*state, OVERWRITTEN, b"", None).unwrap(), overwritten);
    batches
}

/// Runs the child until it has written `writes` times and a moment more, kills it, and returns the last write it told of.
fn run_and_kill(folder: &Path, writes: u64, moment: u64) -> u64 {
    let this_test = "state::rocks::tests::killed::a_killed_process_leaves_whole_batches";
    let mut process = Command::new(env::current_exe().unwrap())
        .args(["--exact", this_test, "--nocapture", "--test-threads=1"])
        .env(CHILD, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(process.stdout.take().unwrap());
    let told = output.lines().filter_map(|line| line.unwrap().strip_prefix("written ")?.parse::<u64>().ok());
    let mut told = told.take(usize::try_from(writes).unwrap());
    let last = told.by_ref().last().expect("the child wrote at least once");
    // Work of varying length, so that the kill meets the next write at another point each time.
    (0..moment).for_each(|at| {
        std::hint::black_box(at);
    });
    process.kill().unwrap();
    let status = process.wait().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "{status}");
    last
}

#[test]
fn a_killed_process_leaves_whole_batches() {
    if let Some(folder) = env::var_os(CHILD) {
        child(Path::new(&folder));
    }
    let folder = tempfile::tempdir().unwrap();
    let (mut between, mut within_a_write) = (0, 0);
    for kill in 0..KILLS {
        // Moments of 0 to some tens of milliseconds: a write and what is applied before it take about as long.
        let told = run_and_kill(folder.path(), 1 + kill * 7 % 5, kill % 10 * 5_000_000);
        let found = whole_batches(folder.path());
        assert!(
            found >= told,
            "kill {kill}: a write was told of and is not there. told={told}, found={found}"
        );
        between += found - told;
        within_a_write += u64::from(!found.is_multiple_of(BATCHES_PER_WRITE));
    }
    println!(
        "batches that survived and were not told of: {between} in {KILLS} kills, {within_a_write} of them within a write"
    );
    assert!(within_a_write > 0, "nothing that was only applied was ever on disk");
}
