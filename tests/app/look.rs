//! `describe`, `topics` and `lag`: also while another process owns the log.

use crate::program::{Running, command, complaint, printed, word_count, write_lines};

#[test]
fn the_plan_needs_no_log() {
    let folder = tempfile::tempdir().unwrap();
    insta::assert_snapshot!(printed(&word_count(folder.path(), "describe"), 0));
    assert!(
        printed(&word_count(folder.path(), "describe --format dot"), 0).starts_with("digraph topology {")
    );
    assert!(printed(&word_count(folder.path(), "describe --format mermaid"), 0).starts_with("flowchart TD"));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_folder_without_a_log_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in ["topics", "lag"] {
        let said = complaint(&word_count(folder.path(), arguments), 2);
        assert!(said.starts_with("error: there is no log here: pass its folder with --log"), "{said}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn topics_and_lag_show_what_is_there_and_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    write_lines(folder.path(), 0, &["tea for two", "two for tea"]);
    insta::assert_snapshot!("topics_before", printed(&word_count(folder.path(), "topics"), 0));
    insta::assert_snapshot!("lag_before", printed(&word_count(folder.path(), "lag"), 0));
    printed(&word_count(folder.path(), "run --once"), 0);
    // Sizes are those of batches, of which there is one for each task and commit.
    let topics = printed(&word_count(folder.path(), "topics --json"), 0);
    let topics = topics.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let topics: Vec<_> = topics
        .map(|t| format!("{} {} {} {}", t["topic"], t["role"], t["partitions"], t["records"]))
        .collect();
    insta::assert_snapshot!("topics_after", topics.join("\n"));
    insta::assert_snapshot!("lag_after", printed(&word_count(folder.path(), "lag"), 0));
    let lag = printed(&word_count(folder.path(), "lag --json"), 0);
    let lag: Vec<serde_json::Value> = lag.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lag.len(), 4);
    assert!(lag.iter().all(|line| line["lag"] == 0 && line["committed"] == line["end"]), "{lag:?}");
}

#[test]
fn looking_is_possible_while_the_program_runs() {
    let folder = tempfile::tempdir().unwrap();
    write_lines(folder.path(), 0, &["tea for two"]);
    let mut running = Running::start(command("word_count", folder.path(), "run --status 10ms"));
    running.wait_for(|line| line.contains("status") && line.contains("lag=0") && line.contains("records=4"));
    assert!(printed(&word_count(folder.path(), "topics"), 0).contains("word-counts"));
    assert!(printed(&word_count(folder.path(), "lag"), 0).ends_with("word-count is 0 records behind\n"));
    // A second one is told who runs.
    let said = complaint(&word_count(folder.path(), "run"), 1);
    assert!(said.contains(&format!("pid={}", running.pid())), "{said}");
}
