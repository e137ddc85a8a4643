//! The `headwater` command as it is run: exit codes, pipes, and a log on disk.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod files;
mod help;
mod owners;
mod quick_start;

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Output, Stdio},
};

use futures::executor::block_on;
use headwater_core::{
    BatchBuilder, Headers, Log, Partition, ProducerName, Timestamp, TopicPartition, TopicSpec,
};
use headwater_storage::log::EmbeddedLog;

fn headwater(log: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_headwater"));
    command.env_remove("HEADWATER_LOG").arg("--log").arg(log).args(arguments);
    command
}

fn run(log: &Path, arguments: &[&str]) -> Output {
    headwater(log, arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Three commits to two partitions: text, JSON, bytes, nulls, headers and windowed keys.
fn log_of_all_kinds(folder: &Path) {
    let log = EmbeddedLog::open(folder).unwrap();
    block_on(async {
        let spec = TopicSpec::new("mixed", 2).unwrap();
        log.create_topic(&spec).await.unwrap();
        let mut producer = log.producer(&ProducerName("test".into())).await.unwrap();
        let mut batch = BatchBuilder::default();
        let place = |number| TopicPartition::new(spec.name.clone(), Partition(number));
        let headers = Headers::new().with("unit", "°C").with("raw", vec![0xff]);
        batch.push(Timestamp(1000), Some(b"oven"), Some(b"{\"celsius\": 180}"), &headers);
        batch.push(Timestamp(2000), Some(b"oven"), None, &Headers::new());
        producer.append(&place(0), &mut batch).unwrap();
        producer.commit(None).await.unwrap();
        batch.push(Timestamp(3000), None, Some(b"\x1b[31mred\tor\nnot"), &Headers::new());
        producer.append(&place(0), &mut batch).unwrap();
        producer.commit(None).await.unwrap();
        let key = [b"fridge".as_slice(), &3_600_000i64.to_be_bytes()].concat();
        batch.push(Timestamp(4000), Some(&key), Some(&[0xfe, 0x01]), &Headers::new());
        producer.append(&place(1), &mut batch).unwrap();
        producer.commit(None).await.unwrap();
        drop(producer);
        log.close().await.unwrap();
    });
}

/// A log with one topic of so many records.
fn log_with(folder: &Path, records: u32) -> EmbeddedLog {
    let log = EmbeddedLog::open(folder).unwrap();
    block_on(async {
        let spec = TopicSpec::new("readings", 1).unwrap();
        log.create_topic(&spec).await.unwrap();
        let mut producer = log.producer(&ProducerName("test".into())).await.unwrap();
        let mut batch = BatchBuilder::default();
        for at in 0..records {
            batch.push(
                Timestamp(i64::from(at)),
                Some(b"oven"),
                Some(at.to_string().as_bytes()),
                &Headers::new(),
            );
        }
        producer.append(&TopicPartition::new(spec.name, Partition(0)), &mut batch).unwrap();
        producer.commit(None).await.unwrap();
    });
    log
}

fn closed_log_with(folder: &Path, records: u32) {
    block_on(log_with(folder, records).close()).unwrap();
}

#[track_caller]
fn prints(log: &Path, arguments: &str, expected: &str) {
    let output = run(log, &arguments.split(' ').collect::<Vec<_>>());
    assert_eq!((text(&output.stdout), text(&output.stderr)), (expected, ""), "headwater {arguments}");
    assert_eq!(output.status.code(), Some(0), "headwater {arguments}");
}

#[test]
fn records_of_all_kinds_are_shown_to_people() {
    let folder = tempfile::tempdir().unwrap();
    log_of_all_kinds(folder.path());
    prints(
        folder.path(),
        "consume mixed --partition 0 --keys --headers",
        "0\t0\t1970-01-01T00:00:01Z\toven\t{\"celsius\": 180}\tunit=°C,raw=0xff\n\
         0\t1\t1970-01-01T00:00:02Z\toven\tnull\t\n\
         0\t2\t1970-01-01T00:00:03Z\tnull\t\\u{1b}[31mred\\tor\\nnot\t\n",
    );
    prints(
        folder.path(),
        "consume mixed --windowed-key --partition 1",
        "1\t0\t1970-01-01T00:00:04Z\tfridge@1970-01-01T01:00:00Z\t0xfe01\n",
    );
    // The first batch holds offset 0 too, which was not asked for.
    prints(
        folder.path(),
        "consume mixed --partition 0 --offset 1 --max 1",
        "0\t1\t1970-01-01T00:00:02Z\tnull\n",
    );
    let described = run(folder.path(), &["topics", "describe", "mixed"]);
    let table = "PARTITION  EARLIEST  END  RECORDS  SIZE   NEWEST\n        0         0    3        3  198 B  1970-01-01T00:00:03Z\n";
    assert!(text(&described.stdout).contains(table), "{}", text(&described.stdout));
}

#[test]
fn records_of_all_kinds_are_shown_to_programs() {
    let folder = tempfile::tempdir().unwrap();
    log_of_all_kinds(folder.path());
    let output = run(folder.path(), &["consume", "mixed", "--json", "--windowed-key"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let lines = text(&output.stdout).lines();
    let records: Vec<serde_json::Value> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records.len(), 4);
    assert_eq!(records[0]["value"]["celsius"], 180);
    assert_eq!(records[0]["headers"][0], serde_json::json!({ "name": "unit", "value": "°C" }));
    assert_eq!(records[0]["headers"][1]["value"]["hex"], "ff");
    assert!(records[1]["value"].is_null());
    assert!(records[2]["key"].is_null());
    assert_eq!(records[2]["value"], "\u{1b}[31mred\tor\nnot");
    assert_eq!(records[3]["key"], "fridge");
    assert_eq!(records[3]["window_start"], 3_600_000);
    assert_eq!(records[3]["timestamp"], 4000);
}

#[test]
fn a_damaged_log_is_an_error_that_is_not_the_users() {
    let folder = tempfile::tempdir().unwrap();
    closed_log_with(folder.path(), 1);
    std::fs::write(folder.path().join("format"), "headwater-log 999\n").unwrap();
    let output = run(folder.path(), &["topics", "list"]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), ""));
    assert!(text(&output.stderr).contains("headwater-log 999"), "{}", text(&output.stderr));
}

#[test]
fn a_log_on_disk_is_read_and_not_changed() {
    let folder = tempfile::tempdir().unwrap();
    closed_log_with(folder.path(), 3);
    for _ in 0..2 {
        let output = run(folder.path(), &["consume", "readings", "--max", "2"]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let expected = "0\t0\t1970-01-01T00:00:00Z\t0\n0\t1\t1970-01-01T00:00:00.001Z\t1\n";
        assert_eq!(text(&output.stdout), expected);
    }
    let output = run(folder.path(), &["topics", "list"]);
    assert_eq!(
        text(&output.stdout),
        "TOPIC     PARTITIONS  RECORDS  CLEANUP\nreadings           1        3  delete\n"
    );
}

#[test]
fn the_folder_may_come_from_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    closed_log_with(folder.path(), 1);
    let mut command = Command::new(env!("CARGO_BIN_EXE_headwater"));
    let output =
        command.env("HEADWATER_LOG", folder.path()).args(["topics", "list", "--json"]).output().unwrap();
    assert!(text(&output.stdout).contains("\"topic\":\"readings\""), "{}", text(&output.stderr));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    // More than a pipe holds, so that the command is still writing when the pipe closes.
    closed_log_with(folder.path(), 20_000);
    let mut command = headwater(folder.path(), &["consume", "readings"]);
    let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "0\t0\t1970-01-01T00:00:00Z\t0\n");
    let output = process.wait_with_output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
}

#[test]
fn a_folder_without_a_log_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), &["topics", "list"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).starts_with("error: there is no log here: pass its folder with --log"));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    let missing = folder.path().join("not-there");
    let output = run(&missing, &["topics", "list"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains(missing.to_str().unwrap()), "{}", text(&output.stderr));
    assert!(!missing.exists());
}

#[test]
fn wrong_usage_has_its_own_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    closed_log_with(folder.path(), 1);
    assert_eq!(run(folder.path(), &["consume", "no-such-topic"]).status.code(), Some(2));
    assert_eq!(run(folder.path(), &["drink", "readings"]).status.code(), Some(2));
    assert_eq!(run(folder.path(), &["topics", "create", "readings"]).status.code(), Some(2));
    assert_eq!(run(folder.path(), &["topics", "delete", "readings"]).status.code(), Some(2));
    assert_eq!(
        run(folder.path(), &["topics", "alter", "readings", "--config", "retention=1"]).status.code(),
        Some(2)
    );
    assert_eq!(run(folder.path(), &["--help"]).status.code(), Some(0));
    assert_eq!(run(folder.path(), &["--version"]).status.code(), Some(0));
}

/// Runs the command with `input` on its standard input.
fn run_on(log: &Path, arguments: &[&str], input: &str) -> Output {
    let mut command = headwater(log, arguments);
    let mut process =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // One that refuses does not read.
    let _ = process.stdin.take().unwrap().write_all(input.as_bytes());
    process.wait_with_output().unwrap()
}

#[test]
fn only_what_makes_a_topic_makes_a_log() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    for arguments in [
        "produce readings",
        "topics alter readings --partitions 2",
        "topics delete readings --yes",
        "groups delete g --yes",
        "groups reset-offsets g --topic t --to-latest --execute",
        "log verify",
    ] {
        let output = run_on(&log, &arguments.split(' ').collect::<Vec<_>>(), "line");
        assert_eq!(output.status.code(), Some(2), "{arguments}: {}", text(&output.stderr));
        assert!(!log.exists(), "{arguments}");
    }
    let output = run_on(&log, &["produce", "readings", "--create=2"], "line");
    assert_eq!((text(&output.stdout), text(&output.stderr)), ("1 record written to readings\n", ""));
    prints(&log, "consume readings --format %s", "line");
}

/// All commands that change a log, one after the other, on a log on disk.
#[test]
fn a_log_is_looked_after() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    prints(
        &log,
        "topics create readings --config retention.ms=1000000",
        "topic readings created: 1 partition\n",
    );
    let output =
        run_on(&log, &["produce", "readings", "--key-separator", "=", "--timestamp", "now"], "a=1\nb=2\n");
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), "2 records written to readings\n"));
    let altered =
        "SETTING           OLD       NEW\npartitions        1         2\ncompression.type  producer  zstd\n";
    prints(&log, "topics alter readings --partitions 2 --config compression.type=zstd", altered);
    let reset = "TOPIC     PARTITION  OLD  NEW  LAG\nreadings          0  -      0    2\nreadings          1  -      0    0\n\n\
                 group g goes on at NEW\n";
    prints(&log, "groups reset-offsets g --topic readings --to-earliest --execute", reset);
    prints(&log, "groups list", "GROUP  TOPICS    LAG\ng      readings    2\n");
    prints(&log, "consume readings --group g --max 1 --format %k=%s", "a=1");
    prints(&log, "groups delete g --yes", "group g deleted: 2 positions\n");
    prints(&log, "topics delete readings --yes", "topic readings deleted: 2 records\n");
    prints(&log, "topics list", "TOPIC  PARTITIONS  RECORDS  CLEANUP\n");
}

#[test]
fn what_one_command_prints_another_reads() {
    let folder = tempfile::tempdir().unwrap();
    log_of_all_kinds(folder.path());
    for (arguments, topic) in
        [(["consume", "mixed", "--json"], "copy"), (["consume", "copy", "--json"], "copy-2")]
    {
        let printed = run(folder.path(), &arguments);
        let output =
            run_on(folder.path(), &["produce", topic, "--json", "--create=2"], text(&printed.stdout));
        assert_eq!(
            text(&output.stdout),
            format!("4 records written to {topic}\n"),
            "{}",
            text(&output.stderr)
        );
    }
    let all =
        |topic| run(folder.path(), &["consume", topic, "--format", "%p %o %T %K %k %S %s %h\\n"]).stdout;
    assert_eq!(all("mixed"), all("copy-2"));
    assert_eq!(
        all("mixed").iter().filter(|byte| **byte == b'\n').count(),
        5,
        "one value has a line end in it"
    );
}
