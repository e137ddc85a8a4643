//! Where options come from, and which of them counts.

use std::fs;

use crate::program::{command, complaint, printed, word_count, write_lines};

#[test]
fn the_command_line_counts_more_than_the_file_and_that_more_than_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    write_lines(folder.path(), 0, &["tea"]);
    fs::rename(folder.path().join("headwater-data"), folder.path().join("data")).unwrap();
    fs::write(folder.path().join("word-count.toml"), "log = \"from-file\"\n").unwrap();
    let output =
        command("word_count", folder.path(), "topics").env("HEADWATER_LOG", "data").output().unwrap();
    assert!(complaint(&output, 2).contains("from-file"));
    let output = command("word_count", folder.path(), "topics --log data")
        .env("HEADWATER_LOG", "no")
        .output()
        .unwrap();
    assert!(printed(&output, 0).contains("lines"));
    fs::remove_file(folder.path().join("word-count.toml")).unwrap();
    let output =
        command("word_count", folder.path(), "topics").env("HEADWATER_LOG", "data").output().unwrap();
    assert!(printed(&output, 0).contains("lines"));
}

#[test]
fn an_unknown_key_in_a_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("headwater.toml"), "workers = 2\nthreads = 3\n").unwrap();
    let said = complaint(&word_count(folder.path(), "topics"), 2);
    assert!(said.contains("unknown field `threads`") && said.contains("headwater.toml"), "{said}");
}

#[test]
fn wrong_usage_has_its_own_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [
        "",
        "drink",
        "run --workers 0",
        "run --commit-interval soon",
        "run --status 0",
        "describe --format xml",
    ] {
        complaint(&word_count(folder.path(), arguments), 2);
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    let said = complaint(&word_count(folder.path(), "topics --application-id a/b"), 2);
    assert!(said.starts_with("error: application id: a topic name is"), "{said}");
}
