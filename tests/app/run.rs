//! `run`: begins, says what is missing, ends when asked, and goes on where it was.

use std::fs;

use crate::program::{Running, command, complaint, counts, pairs, printed, text, word_count, write_lines};

#[test]
fn missing_topics_are_named_and_made_when_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let said = complaint(&word_count(folder.path(), "run --once"), 2);
    assert_eq!(
        said,
        "error: source topics do not exist: create each with `headwater topics create lines --partitions N --log \
         headwater-data`, or let `run --create-topics N` do it. topics=lines\n"
    );
    let output = word_count(folder.path(), "run --once --create-topics 3");
    assert!(printed(&output, 0).starts_with("0 records processed in"));
    assert!(text(&output.stderr).contains("topic created"), "{}", text(&output.stderr));
    assert!(printed(&word_count(folder.path(), "topics --json"), 0).contains(r#""partitions":3"#));
}

#[test]
fn a_backlog_is_processed_once() {
    let folder = tempfile::tempdir().unwrap();
    write_lines(folder.path(), 0, &["tea for two", "two for tea"]);
    let done = printed(&word_count(folder.path(), "run --once --workers 2"), 0);
    assert!(done.starts_with("8 records processed in "), "{done}");
    let log = folder.path().join("headwater-data");
    assert_eq!(counts(&log), pairs(&[("for", "2"), ("tea", "2"), ("two", "2")]));
    write_lines(folder.path(), 10, &["tea"]);
    assert_eq!(printed(&word_count(folder.path(), "run --once --quiet"), 0), "");
    assert_eq!(counts(&log), pairs(&[("for", "2"), ("tea", "3"), ("two", "2")]));
}

#[test]
fn it_ends_in_good_order_when_asked_and_after_a_kill_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    write_lines(folder.path(), 0, &["tea for two", "two for tea"]);
    for signal in ["-TERM", "-INT", "-KILL"] {
        let mut running = Running::start(command("word_count", folder.path(), "run --status 10ms"));
        running.wait_for(|line| line.contains("status") && line.contains(" lag=0 "));
        running.signal(signal);
        let output = running.end();
        let killed = signal == "-KILL";
        assert_eq!(output.status.code(), if killed { None } else { Some(0) }, "{}", text(&output.stderr));
        if !killed {
            assert!(text(&output.stdout).contains("records processed in"), "{}", text(&output.stdout));
        }
    }
    assert!(printed(&word_count(folder.path(), "run --once"), 0).starts_with("0 records"));
    let log = folder.path().join("headwater-data");
    assert_eq!(counts(&log), pairs(&[("for", "2"), ("tea", "2"), ("two", "2")]));
}

#[test]
fn logs_are_lines_or_json() {
    let folder = tempfile::tempdir().unwrap();
    let mut json =
        command("word_count", folder.path(), "run --create-topics --status 10ms --log-format json");
    json.env("NO_COLOR", "1");
    let mut running = Running::start(json);
    let line = running.wait_for(|line| line.contains("\"lag\":"));
    let event: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&event["level"], &event["lag"]), (&"INFO".into(), &0.into()), "{line}");
    assert!(event["records_per_second"].is_u64(), "{line}");
}

#[test]
fn state_lies_where_it_shall_and_belongs_to_one_process() {
    let folder = tempfile::tempdir().unwrap();
    write_lines(folder.path(), 0, &["tea for two"]);
    let state = folder.path().join("fast");
    let mut running =
        Running::start(command("word_count", folder.path(), "run --state-dir fast --status 10ms"));
    running.wait_for(|line| line.contains("status") && line.contains(" lag=0 "));
    assert!(state.join("word-count").is_dir() && !folder.path().join("headwater-data/state").exists());
    // Another log, and by mistake the same folder for state.
    let said = complaint(&word_count(folder.path(), "run --log other --create-topics --state-dir fast"), 1);
    assert!(said.contains("error: the state is in use: does the application run already?"), "{said}");
    assert!(said.contains(&format!("pid={}", running.pid())), "{said}");
    drop(running);
    assert!(fs::read_dir(&state).unwrap().count() == 1);
}
