//! The `headwater` command as it is run: exit codes, pipes, and a log on disk.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::{
    io::{BufRead, BufReader},
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
    prints(
        folder.path(),
        "topics describe mixed",
        "mixed: cleanup delete, segments of 1073741824 bytes\n\n\
         PARTITION  EARLIEST  END  RECORDS\n        0         0    3        3\n        1         0    1        1\n",
    );
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
fn a_log_that_is_in_use_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let log = log_with(folder.path(), 1);
    let output = run(folder.path(), &["topics", "list"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains(&std::process::id().to_string()), "{}", text(&output.stderr));
    drop(log);
}

#[test]
fn wrong_usage_has_its_own_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    closed_log_with(folder.path(), 1);
    assert_eq!(run(folder.path(), &["consume", "no-such-topic"]).status.code(), Some(2));
    assert_eq!(run(folder.path(), &["drink", "readings"]).status.code(), Some(2));
    assert_eq!(run(folder.path(), &["--help"]).status.code(), Some(0));
}
