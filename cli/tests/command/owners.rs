//! One process owns a log: others look at it, and none but the owner writes.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
};

use futures::executor::block_on;
use headwater_core::{
    Admin, BatchBuilder, Headers, Log, Partition, ProducerName, Timestamp, TopicChanges, TopicName,
    TopicPartition,
};
use headwater_storage::log::EmbeddedLog;

use super::{headwater, log_with, prints, run, run_on, text};

fn append(log: &EmbeddedLog, value: &str) {
    append_to(log, 0, &[value]);
}

fn append_to(log: &EmbeddedLog, number: u32, values: &[&str]) {
    block_on(async {
        let mut producer = log.producer(&ProducerName("test".into())).await.unwrap();
        let mut batch = BatchBuilder::default();
        for value in values {
            batch.push(Timestamp(7), Some(b"oven"), Some(value.as_bytes()), &Headers::new());
        }
        let partition = TopicPartition::new(TopicName::new("readings").unwrap(), Partition(number));
        producer.append(&partition, &mut batch).unwrap();
        producer.commit(None).await.unwrap();
    });
}

fn signal(name: &str, pid: u32) {
    assert!(Command::new("kill").args([name, &pid.to_string()]).status().unwrap().success());
}

#[test]
fn looking_is_possible_while_another_process_writes() {
    let folder = tempfile::tempdir().unwrap();
    let log = log_with(folder.path(), 3);
    for (arguments, last) in [
        ("topics list", "readings           1        3  delete"),
        ("consume readings --format %o=%s\\n", "2=2"),
        ("groups list", "GROUP  TOPICS  LAG"),
        ("log verify", "readings           1         0        1        3"),
    ] {
        let output = run(folder.path(), &arguments.split(' ').collect::<Vec<_>>());
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""), "{arguments}");
        let printed = text(&output.stdout);
        assert!(printed.lines().last().unwrap().starts_with(last), "{printed}");
    }
    append(&log, "new");
    prints(folder.path(), "consume readings --offset -1 --format %o=%s", "3=new");
    let described = run(folder.path(), &["topics", "describe", "readings", "--json"]);
    let described: serde_json::Value = serde_json::from_str(text(&described.stdout)).unwrap();
    let size =
        block_on(log.size(&TopicPartition::new(TopicName::new("readings").unwrap(), Partition(0)))).unwrap();
    assert_eq!(described["partitions"][0]["end"], 4);
    assert!(size > 100 && described["partitions"][0]["bytes"] == size, "{described}, owner={size}");
    drop(log);
    prints(folder.path(), "consume readings --offset -1 --format %o=%s", "3=new");
}

#[test]
fn writing_is_refused_and_the_owner_named() {
    let folder = tempfile::tempdir().unwrap();
    let log = log_with(folder.path(), 3);
    let owner = format!("pid={}\n", std::process::id());
    for arguments in [
        "topics create others",
        "topics alter readings --partitions 2",
        "topics delete readings --yes",
        "produce readings",
        "groups reset-offsets g --topic readings --to-latest --execute",
        "groups delete g --yes",
    ] {
        let output = run_on(folder.path(), &arguments.split(' ').collect::<Vec<_>>(), "line");
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), ""), "{arguments}");
        let error = text(&output.stderr);
        assert!(error.starts_with("error: log is already open") && error.ends_with(&owner), "{error}");
    }
    let dry = run(folder.path(), &["groups", "reset-offsets", "g", "--topic", "readings", "--to-latest"]);
    assert_eq!(dry.status.code(), Some(0), "{}", text(&dry.stderr));
    drop(log);
    prints(
        folder.path(),
        "topics list",
        "TOPIC     PARTITIONS  RECORDS  CLEANUP\nreadings           1        3  delete\n",
    );
}

#[test]
fn following_prints_records_as_they_become_durable() {
    let folder = tempfile::tempdir().unwrap();
    let log = log_with(folder.path(), 1);
    let mut command = headwater(folder.path(), &["consume", "readings", "--follow", "--format", "%o=%s\n"]);
    let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "0=0");
    for (offset, value) in ["first", "second", "third"].iter().enumerate() {
        append(&log, value);
        assert_eq!(lines.next().unwrap().unwrap(), format!("{}={value}", offset + 1));
    }
    signal("-INT", process.id());
    assert!(lines.next().is_none());
    let output = process.wait_with_output().unwrap();
    assert_eq!(
        (output.status.code(), text(&output.stderr)),
        (Some(0), ""),
        "Ctrl-C ends it, and is no error"
    );
}

/// Also what was written to them before they were noticed, and wherever the others began.
#[test]
fn following_takes_in_partitions_that_are_added() {
    let folder = tempfile::tempdir().unwrap();
    let log = log_with(folder.path(), 5);
    let grow = |partitions: u32| {
        let changes = TopicChanges { partitions: partitions.try_into().ok(), ..TopicChanges::default() };
        block_on(log.alter_topic(&TopicName::new("readings").unwrap(), &changes)).unwrap();
    };
    let follow = |more: &[&str]| {
        let arguments = ["consume", "readings", "--follow", "--offset", "-1", "--format", "%p:%o=%s\n"];
        let mut command = headwater(folder.path(), &[&arguments, more].concat());
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        (process, lines.map(Result::unwrap))
    };
    let (mut all, mut lines) = follow(&[]);
    let (mut one, mut lines_of_one) = follow(&["--partition", "0"]);
    // Both have begun, and at the last record.
    assert_eq!((lines.next().unwrap(), lines_of_one.next().unwrap()), ("0:4=4".into(), "0:4=4".into()));
    grow(2);
    append_to(&log, 1, &["a", "b", "c"]);
    assert_eq!(lines.by_ref().take(3).collect::<Vec<_>>(), ["1:0=a", "1:1=b", "1:2=c"]);
    grow(4);
    append_to(&log, 3, &["d", "e"]);
    assert_eq!(lines.by_ref().take(2).collect::<Vec<_>>(), ["3:0=d", "3:1=e"]);
    append_to(&log, 2, &["f"]);
    assert_eq!(lines.next().unwrap(), "2:0=f");
    append(&log, "last");
    assert_eq!(lines.next().unwrap(), "0:5=last");
    assert_eq!(lines_of_one.next().unwrap(), "0:5=last", "who asks for one partition gets no other");
    signal("-INT", all.id());
    signal("-INT", one.id());
    assert!(lines.next().is_none() && lines_of_one.next().is_none());
    assert!(all.wait().unwrap().success() && one.wait().unwrap().success());
}

#[test]
fn following_goes_on_over_a_change_of_owner() {
    let folder = tempfile::tempdir().unwrap();
    drop(log_with(folder.path(), 1));
    let arguments = ["consume", "readings", "--follow", "--from-end", "--max", "2", "--format", "%o=%s\n"];
    let process = headwater(folder.path(), &arguments).stdout(Stdio::piped()).spawn().unwrap();
    // It may begin before, between or after these: it ends when there were two records after its beginning.
    let mut written = 0;
    let mut process = process;
    while process.try_wait().unwrap().is_none() {
        let output = run_on(folder.path(), &["produce", "readings"], "line");
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        written += 1;
        assert!(written < 1000, "it never ends");
    }
    let output = process.wait_with_output().unwrap();
    assert_eq!((output.status.code(), text(&output.stdout).lines().count()), (Some(0), 2));
}

/// Writes numbers for as long as somebody reads them.
fn feed(mut to: impl Write + Send + 'static) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        for number in 0.. {
            if writeln!(to, "{number}").is_err() {
                return;
            }
        }
    })
}

#[test]
fn what_a_killed_producer_wrote_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    prints(folder.path(), "topics create numbers", "topic numbers created: 1 partition\n");
    let mut command = headwater(folder.path(), &["produce", "numbers"]);
    let mut process = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let feeder = feed(process.stdin.take().unwrap());
    // Looks while the other one writes.
    let seen = numbers(folder.path(), &["--follow", "--max", "20000"]);
    signal("-KILL", process.id());
    process.wait().unwrap();
    feeder.join().unwrap();
    assert_eq!(seen, (0..20_000).collect::<Vec<u64>>());
    let left = numbers(folder.path(), &[]);
    assert!(left.len() >= 20_000);
    assert_eq!(left, (0..left.len() as u64).collect::<Vec<u64>>(), "a prefix of what was fed");
    let verified = run(folder.path(), &["log", "verify"]);
    assert_eq!(verified.status.code(), Some(0), "{}", text(&verified.stdout));
    // And the next one goes on from there.
    let output = run_on(folder.path(), &["produce", "numbers"], "the end");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    prints(folder.path(), "consume numbers --offset -1 --format %s", "the end");
}

fn numbers(log: &Path, options: &[&str]) -> Vec<u64> {
    let output = run(log, &[&["consume", "numbers", "--format", "%s\n"], options].concat());
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
    text(&output.stdout).lines().map(|line| line.parse().unwrap()).collect()
}
