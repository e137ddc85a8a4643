//! `reset`: says what it would do, does it, and leaves a program that runs alone.

use std::fs;

use headwater::{Exit, prelude::*};

use crate::program::{
    Running, block_on, command, complaint, counts, pairs, printed, text, word_count, write_lines,
};

#[test]
fn a_reset_is_shown_before_it_is_done() {
    let folder = tempfile::tempdir().unwrap();
    write_lines(folder.path(), 0, &["tea for two", "two for tea"]);
    printed(&word_count(folder.path(), "run --once"), 0);
    let log = folder.path().join("headwater-data");
    let shown = printed(&word_count(folder.path(), "reset"), 0);
    let tables = |text: &str| text.split("\nDELETED STATE").next().unwrap().to_owned();
    insta::assert_snapshot!(tables(&shown));
    assert!(
        shown.ends_with("nothing was changed: say --execute, and word-count begins again at NEW\n"),
        "{shown}"
    );
    assert!(printed(&word_count(folder.path(), "run --once"), 0).starts_with("0 records"));

    let done = printed(&word_count(folder.path(), "reset --execute"), 0);
    assert_eq!(tables(&done), tables(&shown));
    let topics = printed(&word_count(folder.path(), "topics --json"), 0);
    assert!(topics.contains(r#""partitions":null,"records":null,"role":"changelog""#), "{topics}");
    // Without state, everything counts as it did the first time, and not on top of that.
    assert!(printed(&word_count(folder.path(), "run --once"), 0).starts_with("8 records"));
    assert_eq!(counts(&log), pairs(&[("for", "2"), ("tea", "2"), ("two", "2")]));
}

#[test]
fn an_application_goes_back_to_offsets_and_times() {
    let folder = tempfile::tempdir().unwrap();
    write_lines(folder.path(), 0, &["a", "b", "c", "d"]);
    printed(&word_count(folder.path(), "run --once"), 0);
    let moved = |to: &str| {
        let done = printed(&word_count(folder.path(), &format!("reset --json --execute --to {to}")), 0);
        let done: serde_json::Value = serde_json::from_str(&done).unwrap();
        assert_eq!(done["executed"], true);
        let moves = done["plan"]["moves"].as_array().unwrap().clone();
        let left: u64 = moves.iter().map(|m| m["end"].as_u64().unwrap() - m["new"].as_u64().unwrap()).sum();
        assert!(
            printed(&word_count(folder.path(), "run --once"), 0)
                .starts_with(&format!("{} records", left * 2))
        );
        left
    };
    assert_eq!(moved("earliest"), 4);
    assert_eq!(moved("end"), 0);
    // The lines are one second apart.
    assert_eq!(moved("1970-01-01T00:00:02Z"), 2);
    assert_eq!(moved("1d"), 0);
    assert_eq!(moved("lines:0=0,lines:1=0"), 4);
}

/// Rows that are older than where a program begins again are rows.
#[test]
fn topics_that_fill_tables_go_to_their_beginning() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("headwater-data");
    let record =
        |key: &str, value: &str, at: i64| Record::new(key.to_owned(), value.to_owned(), Timestamp(at));
    block_on(async {
        let embedded = Embedded::open(&log).unwrap();
        embedded.create_topic("names", 1).await.unwrap();
        embedded.create_topic("visits", 1).await.unwrap();
        embedded.send("names", &[record("1", "Ada", 1_000)]).await.unwrap();
        embedded.send("visits", &[record("1", "early", 2_000), record("1", "late", 9_000)]).await.unwrap();
        embedded.close().await.unwrap();
    });
    let app = App::new("visitors").topology(|builder| {
        let names = builder.table::<String, String>("names", "rows");
        let visits = builder.stream::<String, String>("visits");
        visits.join_table(&names, |_, visit, name| format!("{name} {visit}")).to("named");
        Ok(())
    });
    let said = |arguments: &str| {
        let arguments = format!("visitors {arguments} --log {}", log.display());
        let mut out = Vec::new();
        assert_eq!(block_on(app.run_from(arguments.split_whitespace(), &mut out)).unwrap(), Exit::Done);
        text(&out).to_owned()
    };
    said("run --once");
    let shown = said("reset --to 1970-01-01T00:00:05Z");
    assert!(shown.contains("FROM THEIR BEGINNING, AS THEY FILL TABLES\nnames\n"), "{shown}");
    let places = |done: &str| -> Vec<(String, u64)> {
        let done: serde_json::Value = serde_json::from_str(done).unwrap();
        let moves = done["plan"]["moves"].as_array().unwrap().clone();
        moves.iter().map(|m| (m["topic"].as_str().unwrap().to_owned(), m["new"].as_u64().unwrap())).collect()
    };
    let at = |names: u64, visits: u64| vec![("names".to_owned(), names), ("visits".to_owned(), visits)];
    assert_eq!(places(&said("reset --json --to visits:0=1")), at(0, 1));
    assert_eq!(places(&said("reset --json --to names:0=1,visits:0=1")), at(1, 1));
    assert_eq!(places(&said("reset --json --execute --to 1970-01-01T00:00:05Z")), at(0, 1));
    said("run --once");
    let written = block_on(async {
        let embedded = Embedded::open(&log).unwrap();
        let written = embedded.read_all::<String, String>("named").await.unwrap();
        embedded.close().await.unwrap();
        written.into_iter().map(|record| record.value).collect::<Vec<_>>()
    });
    assert_eq!(written, ["Ada early", "Ada late", "Ada late"]);
}

/// A folder may be called as it likes.
#[cfg(target_os = "linux")]
#[test]
fn folders_that_are_not_unicode_are_shown_as_far_as_they_are() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join(OsStr::from_bytes(b"caf\xe9"));
    fs::create_dir(&folder).unwrap();
    write_lines(&folder, 0, &["tea for two"]);
    let log = folder.join("headwater-data");
    for (arguments, pointer) in [
        ("run --once", None),
        ("reset --json", Some("/plan/state")),
        ("replay --json --name x", Some("/folder")),
        ("replays list --json", Some("/folder")),
    ] {
        let said =
            printed(&command("word_count", &folder, arguments).arg("--log").arg(&log).output().unwrap(), 0);
        if let Some(pointer) = pointer {
            let said: serde_json::Value = serde_json::from_str(&said).unwrap();
            let path = said.pointer(pointer).and_then(serde_json::Value::as_str).unwrap();
            assert!(path.contains("caf\u{fffd}/headwater-data/"), "{path}");
        }
    }
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let said = complaint(&word_count(folder.path(), "reset"), 2);
    assert!(said.starts_with("error: there is no log here"), "{said}");
    write_lines(folder.path(), 0, &["tea for two"]);
    printed(&word_count(folder.path(), "run --once"), 0);
    for (to, expected) in [
        ("lines:0=0", "every partition of the source topics needs an offset. partition=lines-1"),
        (
            "lines:0=99,lines:1=0",
            "there is no such offset: choose one from earliest to end. partition=lines-0",
        ),
        ("lines:0=0,lines:1=0,other:0=0", "does not read. partition=other-0"),
        ("yesterday", "not a position"),
    ] {
        let said = complaint(&word_count(folder.path(), &format!("reset --execute --to {to}")), 2);
        assert!(said.contains(expected), "{said}");
    }
    assert!(printed(&word_count(folder.path(), "run --once"), 0).starts_with("0 records"));
}

#[test]
fn a_program_that_runs_is_left_alone_and_named() {
    let folder = tempfile::tempdir().unwrap();
    write_lines(folder.path(), 0, &["tea for two"]);
    let mut running = Running::start(command("word_count", folder.path(), "run --status 10ms"));
    running.wait_for(|line| line.contains("status") && line.contains(" lag=0 "));
    assert!(printed(&word_count(folder.path(), "reset"), 0).contains("nothing was changed"));
    let said = complaint(&word_count(folder.path(), "reset --execute"), 1);
    assert!(said.contains(&format!("pid={}", running.pid())), "{said}");
}

#[test]
fn a_reset_that_was_cut_short_must_be_done_again() {
    let folder = tempfile::tempdir().unwrap();
    write_lines(folder.path(), 0, &["tea for two"]);
    printed(&word_count(folder.path(), "run --once"), 0);
    fs::write(folder.path().join("headwater-data/state/word-count/RESET"), "").unwrap();
    let said = complaint(&word_count(folder.path(), "run --once"), 2);
    assert!(said.contains("the application was being reset, and that was cut short"), "{said}");
    printed(&word_count(folder.path(), "reset --execute"), 0);
    assert!(printed(&word_count(folder.path(), "run --once"), 0).starts_with("4 records"));
}
