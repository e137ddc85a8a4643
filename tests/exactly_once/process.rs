//! The process that is killed, and the one that kills it.

use std::{
    env,
    io::{BufRead, BufReader, Write},
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use headwater::{
    Embedded, Streams,
    core::{GroupId, Log, Partition, TopicName, TopicPartition},
};

use super::program::{
    APPLICATION, COMMANDS, PARTITIONS, READINGS, REPARTITION, SENSORS, WORDS, settings, topology,
};

/// Set in the process that is killed: its data folder.
pub(super) const CHILD: &str = "HEADWATER_TEST_EXACTLY_ONCE_FOLDER";

/// Runs the program until there is nothing left to do. Says when it begins, and after each commit how far it is.
pub(super) fn child(folder: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        say("opening");
        let embedded = Embedded::open(folder).unwrap();
        let streams = embedded.start(topology().unwrap(), settings()).await.unwrap();
        let mut tick = tokio::time::interval(Duration::from_millis(1));
        let mut commits = 0;
        loop {
            tokio::select! {
                outcome = streams.caught_up() => break outcome.unwrap(),
                _ = tick.tick() => {
                    if streams.metrics().total().commits > commits {
                        commits = report(&streams, &embedded).await;
                    }
                }
            }
        }
        report(&streams, &embedded).await;
        streams.close().await.unwrap();
        embedded.close().await.unwrap();
        say("done");
    });
}

/// One line by itself: the test harness writes on the same output.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n{line}").unwrap();
    out.flush().unwrap();
}

async fn report(streams: &Streams, embedded: &Embedded) -> u64 {
    let total = streams.metrics().total();
    let progress = progress(embedded).await;
    say(&format!("report {} {} {progress}", total.commits, total.restored));
    total.commits
}

/// The committed offsets of all partitions that the program reads, added up.
pub(super) async fn progress(embedded: &Embedded) -> u64 {
    let (group, mut sum) = (GroupId(APPLICATION.to_owned()), 0);
    for topic in [WORDS, READINGS, COMMANDS, SENSORS, REPARTITION] {
        for number in 0..PARTITIONS {
            let partition = TopicPartition::new(TopicName::new(topic).unwrap(), Partition(number));
            let committed = embedded.log().committed(&group, &partition).await.unwrap();
            sum += committed.map_or(0, |committed| committed.offset.0);
        }
    }
    sum
}

/// What a process said until its end.
#[derive(Debug, Default)]
pub(super) struct Run {
    pub(super) commits: u64,
    pub(super) restored: u64,
    /// See [`progress`], at its first commit and at its last.
    pub(super) first: Option<u64>,
    pub(super) last: u64,
    pub(super) killed: bool,
}

/// Starts the process, and kills it `nanos` after it said that it is as far as `target`; 0 is when it says that it begins.
pub(super) fn run(folder: &Path, target: Option<u64>, nanos: u64) -> Run {
    let mut process = Command::new(env::current_exe().unwrap())
        .args(["--exact", "killed_at_any_moment_it_counts_every_record_exactly_once", "--nocapture"])
        .env(CHILD, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(process.stdout.take().unwrap());
    let (mut run, mut done) = (Run::default(), false);
    for line in output.lines().map_while(Result::ok) {
        let words: Vec<&str> = line.split(' ').collect();
        let reached = match words[..] {
            ["opening"] => 0,
            ["report", commits, restored, progress] => {
                // A line may be cut by the kill.
                let Ok(progress) = progress.parse() else { continue };
                (run.commits, run.restored) = (commits.parse().unwrap(), restored.parse().unwrap());
                run.first.get_or_insert(progress);
                run.last = progress;
                progress
            }
            ["done"] => {
                done = true;
                continue;
            }
            _ => continue,
        };
        if !run.killed && target.is_some_and(|target| reached >= target) {
            wait(nanos);
            process.kill().unwrap();
            run.killed = true;
        }
    }
    let status = process.wait().unwrap();
    let expected = if run.killed && !done { status.signal() == Some(9) } else { status.success() && done };
    assert!(expected, "the process ended by itself: {status}, {run:?}");
    run.killed &= !done;
    run
}

/// Busy: a thread that is put to sleep wakes up at moments that the scheduler likes.
fn wait(nanos: u64) {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_nanos(nanos) {
        std::hint::spin_loop();
    }
}
