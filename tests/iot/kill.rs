//! The example is killed with `kill -9` at random moments and started again until it is done.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use headwater::Embedded;

use super::{Raw, outputs, series};

const KILLS: usize = 30;

/// The example that was built together with this test.
fn example() -> PathBuf {
    let test = std::env::current_exe().expect("this test has a path");
    let profile = test.parent().and_then(Path::parent).expect("a test lies in target/<profile>/deps");
    let example = profile.join("examples").join("iot_sensors");
    assert!(example.is_file(), "build the example first: cargo build --example iot_sensors");
    example
}

/// Small turns and a commit after each: many moments to be killed at.
fn start(log: &Path) -> Child {
    let mut command = Command::new(example());
    command
        .args(["run", "--once", "--status", "1ms", "--log-format", "json"])
        .env("RUST_LOG", "headwater=info");
    command.arg("--dir").arg(series()).arg("--log").arg(log).arg("--svg").arg(log.join("chart.svg"));
    command.args(["--workers", "2", "--turn-records", "100", "--commit-interval", "0"]);
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the example starts")
}

/// What a run said on standard error until it ended: the commits it announced, and the records restored.
#[derive(Default)]
struct Heard {
    commits: u64,
    restored: u64,
    done: bool,
    /// From the first commit to the last.
    working: Duration,
}

/// Lets the example run until its first commit, then for `grace`, and kills it. Not killed when it ends before.
fn run_and_kill(log: &Path, grace: Option<Duration>) -> Heard {
    let mut child = start(log);
    let mut heard = Heard::default();
    let lines = BufReader::new(child.stderr.take().expect("standard error is piped")).lines();
    let mut first: Option<Instant> = None;
    for line in lines.map_while(Result::ok) {
        let status: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
        let number = |name: &str| status[name].as_u64().unwrap_or_default();
        if number("commits") > heard.commits {
            heard.commits = number("commits");
            heard.restored = number("restored");
            let now = Instant::now();
            heard.working = now - *first.get_or_insert(now);
            if grace.is_some_and(|grace| heard.working >= grace) {
                child.kill().expect("the example is killed");
            }
        } else if line.starts_with("error") {
            panic!("{line}");
        }
    }
    heard.done = child.wait().expect("the example ends").success();
    heard
}

/// What a folder's output topics hold. A copy is opened, so that the next run of the example recovers by itself.
fn contents(log: &Path) -> Vec<(String, Vec<Raw>)> {
    let copy = tempfile::tempdir().expect("a temporary folder");
    let copied =
        Command::new("cp").arg("-r").arg(log).arg(copy.path().join("log")).status().expect("cp runs");
    assert!(copied.success());
    let log = copy.path().join("log");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let embedded = Embedded::open(log).unwrap();
        let outputs = outputs(&embedded).await;
        embedded.close().await.unwrap();
        outputs
    })
}

/// The kills of all lives, and what was seen of the starts after them.
#[derive(Default)]
struct Kills {
    hit: usize,
    starts: usize,
    restored: Vec<u64>,
    /// How many output records there were, now and then.
    written: Vec<usize>,
}

/// One life: killed and started again in `log` until the work is done. Every fifth kill, what is there must be a prefix of
/// `expected`; at the end it must be all of it.
fn live(
    log: &Path,
    expected: &[(String, Vec<Raw>)],
    kills: &mut Kills,
    grace: &mut impl FnMut() -> Duration,
) {
    let total: usize = expected.iter().map(|(_, records)| records.len()).sum();
    let (mut written, mut killed_in_this_life) = (0, 0);
    loop {
        let heard = run_and_kill(log, (kills.hit < KILLS).then(&mut *grace));
        kills.starts += 1;
        assert!(kills.starts < 4 * KILLS, "the example does not get done");
        if killed_in_this_life > 0 && heard.commits > 0 {
            kills.restored.push(heard.restored);
        }
        if heard.done {
            // A kill after the last commit left nothing to do, and was not one at work.
            kills.hit -= usize::from(killed_in_this_life > 0 && heard.commits == 0);
            break;
        }
        // The kill hit after the first commit of this run.
        assert!(heard.commits > 0, "killed before the first commit");
        kills.hit += 1;
        killed_in_this_life += 1;
        if kills.hit.is_multiple_of(5) {
            let outputs = contents(log);
            let now: usize = outputs.iter().map(|(_, records)| records.len()).sum();
            assert!(now > written && now <= total, "{written} then {now} of {total} records");
            for ((partition, records), (_, wanted)) in outputs.iter().zip(expected) {
                assert!(wanted.starts_with(records), "{partition} is no prefix of what it should become");
            }
            kills.written.push(now);
            written = now;
        }
    }
    for ((partition, records), (_, wanted)) in contents(log).iter().zip(expected) {
        assert_eq!(records.len(), wanted.len(), "{partition}");
        assert!(records == wanted, "{partition} differs");
    }
}

/// How far a run gets until it is killed is for the machine to say: if the work was done before the last kill, there is another
/// life for the kills that are left.
#[test]
fn killed_at_thirty_moments_it_writes_what_it_would_have_written() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let undisturbed = folder.path().join("undisturbed");
    let whole = run_and_kill(&undisturbed, None);
    assert!(whole.done);
    // On average a run is killed after half of this, so that thirty kills leave some work for the last run.
    let grace_max = u64::try_from(whole.working.as_micros()).unwrap_or(u64::MAX) / KILLS as u64;
    let expected = contents(&undisturbed);

    let seed = 0x5eed_0003;
    println!("seed {seed:#x}");
    let mut random = numbers(seed);
    let mut grace = move || Duration::from_micros(random() % grace_max.max(1));
    let (mut kills, mut lives) = (Kills::default(), 0);
    while kills.hit < KILLS {
        lives += 1;
        live(&folder.path().join(format!("killed-{lives}")), &expected, &mut kills, &mut grace);
    }
    let (sum, most) = (kills.restored.iter().sum::<u64>(), kills.restored.iter().max().copied().unwrap_or(0));
    let total: usize = expected.iter().map(|(_, records)| records.len()).sum();
    println!("output records after each five kills, a prefix in every partition: {:?}", kills.written);
    // A kill may come behind the last output and before the last commit, in a life that ends early; not many.
    let midway = kills.written.iter().filter(|now| **now < total).count();
    assert!(midway * 2 > kills.written.len(), "most kills came when all {total} output records were written");
    println!(
        "{} kills in {} starts and {lives} lives, {total} output records equal; changelog records replayed: {sum} in all, {most} at most",
        kills.hit, kills.starts
    );
}

/// Xorshift: the same moments for the same seed, as far as a machine can repeat them.
fn numbers(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}
