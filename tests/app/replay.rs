//! `replay` and `replays`: beside the live program, over kill -9, and what is refused.

use std::{collections::BTreeMap, fs, path::Path};

use headwater::{
    Exit, Replay, Replays,
    core::Log,
    prelude::*,
    replay::{Position, diff::Limits},
    storage::log::{DiskShare, ObservedLog},
};

use crate::program::{
    Running, block_on, command, complaint, counts, pairs, printed, text, word_count, write_lines,
};

/// A line a second, of three words.
pub(crate) fn write_many(folder: &Path, count: i64) {
    let lines: Vec<String> = (0..count).map(|at| format!("word{} tea {}", at % 50, at % 7)).collect();
    write_lines(folder, 0, &lines.iter().map(String::as_str).collect::<Vec<_>>());
}

/// All files below a folder but those of replays, and what is in them.
pub(crate) fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                found.insert(path.display().to_string(), fs::read(&path).unwrap());
            } else if path.file_name().is_some_and(|name| name != "replays") {
                folders.push(path);
            }
        }
    }
    found
}

/// What a topic holds, partition by partition.
fn contents<V: DefaultSerde>(log: &Path, topic: &str) -> Vec<(String, Option<V>, i64)> {
    block_on(async {
        let embedded = Embedded::open(log).unwrap();
        let records = embedded.read_all::<String, Option<V>>(topic).await.unwrap();
        embedded.close().await.unwrap();
        records.into_iter().map(|r| (r.key, r.value, r.timestamp.0)).collect()
    })
}

#[test]
fn a_replay_of_everything_is_what_the_live_run_wrote() {
    let folder = tempfile::tempdir().unwrap();
    write_many(folder.path(), 500);
    printed(&word_count(folder.path(), "run --once --workers 2"), 0);
    let log = folder.path().join("headwater-data");
    let before = files(&log);
    let said = printed(&word_count(folder.path(), "replay --name all --diff"), 0);
    assert!(
        said.contains("replay all: `headwater consume TOPIC --log headwater-data/replays/all`"),
        "{said}"
    );
    assert!(said.contains("replay finished after"), "{said}");
    assert!(files(&log) == before, "a replay changed something of the live folder");
    assert_eq!(counts(&log.join("replays/all")), counts(&log));
    // And it is a log like any other.
    let topics = printed(&word_count(folder.path(), "topics --log headwater-data/replays/all"), 0);
    assert!(topics.contains("word-counts"), "{topics}");
}

#[test]
fn a_program_that_runs_and_its_replay_do_not_disturb_each_other() {
    let folder = tempfile::tempdir().unwrap();
    write_many(folder.path(), 300);
    let mut running = Running::start(command("word_count", folder.path(), "run --status 10ms"));
    running.wait_for(|line| {
        line.contains("status") && line.contains(" lag=0 ") && line.contains("records=1200")
    });
    let said = printed(&word_count(folder.path(), "replay --name beside --diff --json --workers 1"), 0);
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["report"]["finished"], true);
    assert_eq!(said["report"]["outputs"]["word-counts"], 900);
    assert_eq!(said["diff"]["topics"][0]["different"], 0);
    running.signal("-TERM");
    let output = running.end();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let log = folder.path().join("headwater-data");
    assert_eq!(counts(&log), counts(&log.join("replays/beside")));
}

/// While the program runs its replay leaves it most of the disk, and says so; when it does not run there is nobody to be gentle to.
#[test]
fn a_replay_beside_the_program_holds_back_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    write_many(folder.path(), 300);
    let mut running = Running::start(command("word_count", folder.path(), "run --status 10ms"));
    running.wait_for(|line| line.contains("status") && line.contains("records=1200"));
    let replay = |arguments: &str| printed(&word_count(folder.path(), &format!("replay {arguments}")), 0);
    let owner = format!("held back, because process {} has the log open: ", running.pid());
    let said = replay("--name unsaid");
    assert!(said.contains(&format!("{owner}5% of the disk's time, lowest priority")), "{said}");
    assert!(said.contains("--disk-share 100% for full speed"), "{said}");
    let said = replay("--name half --disk-share 50%");
    assert!(said.contains(&format!("{owner}50% of the disk's time")), "{said}");
    assert!(!replay("--name full --disk-share 100%").contains("held back"));
    assert!(!replay("--name quiet --quiet").contains("held back"));
    let share = |said: &str| serde_json::from_str::<serde_json::Value>(said).unwrap()["disk_share"].as_f64();
    assert_eq!(share(&replay("--name json --json")), Some(0.05));
    running.signal("-TERM");
    assert_eq!(running.end().status.code(), Some(0));

    assert!(!replay("--name after").contains("held back"));
    let said = replay("--name gentle --disk-share 0.5");
    assert!(said.contains("\nheld back: 50% of the disk's time, lowest priority"), "{said}");
    assert_eq!(share(&replay("--name last --json")), Some(1.0));
    // However fast, it writes the same.
    let log = folder.path().join("headwater-data");
    for name in ["unsaid", "half", "full", "after", "gentle"] {
        assert_eq!(counts(&log.join("replays").join(name)), counts(&log), "{name}");
    }
}

/// As a library, too, and also in the process that has the log open.
#[test]
fn a_replay_in_the_live_process_holds_back_unless_told_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("headwater-data");
    write_many(folder.path(), 100);
    let builder = StreamsBuilder::new();
    builder.stream::<String, String>("lines").to("copies");
    let topology = builder.build().unwrap();
    let replay = |name: &str| Replay::of(&topology).log(&log).name(name);
    let share = |replay: Replay| {
        block_on(async {
            let running = replay.start().await.unwrap();
            let share = running.disk_share();
            assert!(running.run_until(std::future::pending()).await.unwrap().finished);
            share
        })
    };
    assert_eq!(share(replay("alone")), DiskShare::ALL);
    let embedded = Embedded::open(&log).unwrap();
    assert_eq!(share(replay("beside")), DiskShare::BESIDE_LIVE);
    assert_eq!(share(replay("told").disk_share(DiskShare::ALL)), DiskShare::ALL);
    block_on(embedded.close()).unwrap();
}

#[test]
fn a_difference_is_found_and_shown() {
    let folder = tempfile::tempdir().unwrap();
    write_lines(folder.path(), 0, &["tea for two"]);
    printed(&word_count(folder.path(), "run --once"), 0);
    // One that the live program has not seen.
    write_lines(folder.path(), 10, &["coffee"]);
    let output = word_count(folder.path(), "replay --diff");
    let said = printed(&output, 1);
    assert!(said.contains("coffee"), "{said}");
}

/// What comes while a replay runs is processed live, and not by the replay: results of its time and later are not compared.
#[test]
fn what_came_while_it_ran_is_not_told_as_missing() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("headwater-data");
    // Seconds after the earliest record, until when it is replayed, and what is said of it.
    let cases = [
        ("late", 250, "", Ok("1970-01-01T00:04:10Z")),
        ("later", 400, "", Ok("1970-01-01T00:06:40Z")),
        ("until", 200, "--until 1970-01-01T00:04:00Z", Ok("1970-01-01T00:03:20Z")),
        ("after", 260, "--until 1970-01-01T00:04:00Z", Err(None)),
        ("before", 0, "", Err(Some("nothing can be compared"))),
    ];
    for (name, at, range, expected) in cases {
        let _ = fs::remove_dir_all(&log);
        block_on(async {
            let embedded = Embedded::open(&log).unwrap();
            embedded.create_topic("lines", 2).await.unwrap();
            let builder = StreamsBuilder::new();
            builder.stream::<String, String>("lines").map_values(|_, line| line.len() as u64).to("lengths");
            let topology = builder.build().unwrap();
            let line =
                |at: i64| Record::new(format!("line-{at}"), "tea for two".to_owned(), Timestamp(at * 1000));
            let streams = embedded.start(topology.clone(), Settings::new("lengths")).await.unwrap();
            embedded.send("lines", &(0..300).map(line).collect::<Vec<_>>()).await.unwrap();
            streams.caught_up().await.unwrap();
            let until = range.strip_prefix("--until ").map(|_| Timestamp(240_000));
            let replay = Replay::of(&topology).settings(Settings::new("lengths")).log(&log).name(name);
            let replay = replay.until(until.map_or(Position::End, Position::Time)).start().await.unwrap();
            // The plan stands. Now the live program gets more.
            embedded.send("lines", &[line(at)]).await.unwrap();
            streams.caught_up().await.unwrap();
            assert!(replay.run_until(std::future::pending()).await.unwrap().finished);
            let diff = Replays::of(&log).diff(name, &topology, Limits::default()).await;
            match expected {
                Ok(cut) => {
                    let diff = diff.unwrap();
                    assert!(diff.is_empty(), "{name}: {diff}");
                    let compared = diff.topics[0].records;
                    let count = u64::try_from(at.min(300)).unwrap();
                    assert_eq!((compared.live, compared.replayed), (count, count), "{name}: {diff}");
                    assert!(diff.to_string().contains(&format!("compared before {cut}")), "{name}: {diff}");
                }
                Err(None) => {
                    let diff = diff.unwrap();
                    assert!(diff.is_empty() && diff.notes.is_empty(), "{name}: {diff}");
                    assert_eq!(diff.topics[0].records.live, 240);
                }
                Err(Some(said)) => {
                    let error = diff.unwrap_err();
                    assert!(error.to_string().contains(said), "{name}: {error}");
                }
            }
            streams.close().await.unwrap();
            embedded.close().await.unwrap();
        });
    }
}

/// A range that begins at offsets of different times is compared from where all partitions are replayed.
#[test]
fn offsets_of_different_times_are_compared_from_the_last_of_them() {
    let folder = tempfile::tempdir().unwrap();
    write_many(folder.path(), 300);
    let log = folder.path().join("headwater-data");
    let app = App::new("copies").topology(|builder| {
        builder.stream::<String, String>("lines").to("copies");
        Ok(())
    });
    let said = |arguments: &str| {
        let arguments = format!("copies {arguments} --log {}", log.display());
        let mut out = Vec::new();
        let exit = block_on(app.run_from(arguments.split_whitespace(), &mut out)).unwrap();
        (exit, text(&out).to_owned())
    };
    said("run --once");
    let (exit, said) = said("replay --from lines:0=10,lines:1=100 --diff");
    assert_eq!(exit, Exit::Done, "{said}");
    assert!(said.contains("compared from 1970-01-01T00:0") && said.contains("no difference"), "{said}");
}

/// Topics that records choose are compared as well: those that the replay wrote.
#[test]
fn topics_that_records_choose_are_compared() {
    let folder = tempfile::tempdir().unwrap();
    write_lines(folder.path(), 0, &["tea", "coffee", "tea"]);
    let log = folder.path().join("headwater-data");
    let routed = |prefix: &'static str| {
        App::new("routed").topology(move |builder| {
            builder
                .stream::<String, String>("lines")
                .map_values(move |_, line| format!("{prefix}{line}"))
                .to_each(|_, line| if line.ends_with("tea") { "of-tea" } else { "of-coffee" }.to_owned());
            Ok(())
        })
    };
    block_on(async {
        let embedded = Embedded::open(&log).unwrap();
        for topic in ["of-tea", "of-coffee"] {
            embedded.create_topic(topic, 2).await.unwrap();
        }
        embedded.close().await.unwrap();
    });
    let said = |app: App, arguments: &str| {
        let arguments = format!("routed {arguments} --log {}", log.display());
        let mut out = Vec::new();
        let exit = block_on(app.run_from(arguments.split_whitespace(), &mut out)).unwrap();
        (exit, text(&out).to_owned())
    };
    assert_eq!(said(routed(""), "run --once").0, Exit::Done);
    let (exit, same) = said(routed(""), "replay --name same --diff");
    assert_eq!(exit, Exit::Done, "{same}");
    assert!(
        same.contains("of-tea") && same.contains("of-coffee") && same.contains("no difference"),
        "{same}"
    );
    let (exit, other) = said(routed("more "), "replay --name other --diff");
    assert_eq!(exit, Exit::Different, "{other}");
    assert!(other.contains("3 keys differ"), "{other}");
    // Where nothing was written, nobody knows what should have been.
    let (exit, none) = said(routed(""), "replay --name none --diff --until 1970-01-01");
    assert_eq!(exit, Exit::Different, "{none}");
    assert!(none.contains("not compared: 1 outputs whose topics the records choose"), "{none}");
}

#[test]
fn a_part_of_the_past_is_cut_at_the_millisecond() {
    let folder = tempfile::tempdir().unwrap();
    write_lines(folder.path(), 0, &["a", "b", "c", "d"]);
    let range = "--from 1970-01-01T00:00:01Z --until 1970-01-01T00:00:03Z";
    printed(&word_count(folder.path(), &format!("replay --name cut {range}")), 0);
    let log = folder.path().join("headwater-data/replays/cut");
    assert_eq!(counts(&log), pairs(&[("b", "1"), ("c", "1")]));
    let range = "--from 1970-01-01T00:00:01.001Z --until 1970-01-01T00:00:03.001Z";
    printed(&word_count(folder.path(), &format!("replay --name later {range}")), 0);
    assert_eq!(counts(&log.with_file_name("later")), pairs(&[("c", "1"), ("d", "1")]));
}

#[test]
fn killed_in_the_middle_it_goes_on_and_comes_to_the_same() {
    let folder = tempfile::tempdir().unwrap();
    write_many(folder.path(), 20_000);
    printed(&word_count(folder.path(), "replay --name whole"), 0);
    let log = folder.path().join("headwater-data");
    let before = files(&log);
    // Small turns of a slow pace: it is in the middle for long enough. 20,000 s at 2,000 times.
    let mut killed = 0;
    for attempt in 0..4 {
        let how = if attempt == 0 { "--name killed" } else { "--resume killed" };
        let arguments = format!("replay {how} --pace 2000x --commit-interval 10ms");
        let mut running = Running::start(command("word_count", folder.path(), &arguments));
        wait_for_progress(&mut running, &log.join("replays/killed"));
        running.signal("-KILL");
        killed += usize::from(running.end().status.code().is_none());
    }
    assert!(killed > 0, "it was never killed at work");
    printed(&word_count(folder.path(), "replay --resume killed --pace 1000000x"), 0);
    assert!(files(&log) == before, "a killed replay changed something of the live folder");
    let [whole, resumed] = ["replays/whole", "replays/killed"].map(|replay| log.join(replay));
    let topic = "word-counts";
    assert!(contents::<String>(&whole, topic) == contents::<String>(&resumed, topic), "{topic} differs");
    // Of a changelog what counts is what its store holds: a commit takes one record of each key that changed.
    let topic = "word-count-counts-changelog";
    let last = |log: &Path| -> BTreeMap<String, (Option<u64>, i64)> {
        contents(log, topic).into_iter().map(|(key, count, time)| (key, (count, time))).collect()
    };
    assert!(last(&whole) == last(&resumed), "{topic} differs");
    assert_eq!(counts(&log.join("replays/whole")).len(), 50 + 1 + 7);
}

/// Waits until a replay has written more to its output than when this was called.
#[track_caller]
fn wait_for_progress(running: &mut Running, log: &Path) {
    let before = written(log);
    running.wait_until(|| written(log) > before);
}

/// How many records somebody has written to the output of a log so far.
fn written(log: &Path) -> u64 {
    let Ok(observed) = ObservedLog::open(log) else { return 0 };
    let topics = block_on(observed.topics()).unwrap_or_default();
    let Some(spec) = topics.into_iter().find(|spec| spec.name.as_str() == "word-counts") else {
        return 0;
    };
    spec.topic_partitions().map(|p| block_on(observed.offsets(&p)).map_or(0, |offsets| offsets.end.0)).sum()
}

#[test]
fn stopped_it_says_how_to_go_on_and_does() {
    let folder = tempfile::tempdir().unwrap();
    write_many(folder.path(), 5_000);
    let slow = "replay --name slow --pace 500x --disk-share 50%";
    let mut running = Running::start(command("word_count", folder.path(), slow));
    let log = folder.path().join("headwater-data");
    wait_for_progress(&mut running, &log.join("replays/slow"));
    let said = complaint(&word_count(folder.path(), "replays delete slow"), 1);
    assert!(said.contains(&format!("pid={}", running.pid())), "{said}");
    running.signal("-INT");
    let output = running.end();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let again = "`replay --resume slow --disk-share 50%` goes on";
    assert!(text(&output.stderr).contains(again), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("stopped in range"), "{}", text(&output.stdout));
    assert!(printed(&word_count(folder.path(), "replays list"), 0).contains("unfinished"));
    printed(&word_count(folder.path(), "replay --resume slow --pace 1000000x"), 0);
    assert_eq!(contents::<String>(&log.join("replays/slow"), "word-counts").len(), 15_000);
    // Once more finds nothing to do.
    printed(&word_count(folder.path(), "replay --resume slow"), 0);
    assert_eq!(contents::<String>(&log.join("replays/slow"), "word-counts").len(), 15_000);
}

/// What goes on is the program that was begun, and what is printed says all that it takes.
#[test]
fn a_replay_goes_on_with_the_options_that_it_was_begun_with() {
    let folder = tempfile::tempdir().unwrap();
    let backtest = |arguments: &str| command("replay_backtest", folder.path(), arguments);
    printed(&backtest("run --once").output().unwrap(), 0);
    // Two months in half an hour.
    let how = "replay --name low --above 79.5 --pace 3000x --to jsonl=out --diff --commit-interval 10ms";
    let mut running = Running::start(backtest(how));
    running.wait_until(|| folder.path().join("headwater-data/replays/low/replay.json").exists());
    running.signal("-INT");
    let said = complaint(&running.end(), 1);
    let again = "replay --resume low --to jsonl=out --diff --above 79.5";
    assert!(said.contains(&format!("`{again}` goes on")), "{said}");
    for (other, now) in [("", "--above 80"), ("--above 81", "--above 81")] {
        let other = format!("replay --resume low --pace 1000000000x {other}");
        let said = complaint(&backtest(&other).output().unwrap(), 2);
        let expected =
            format!("with the options that it was begun with. name=low, begun with=--above 79.5, now={now}");
        assert!(said.contains(&expected), "{said}");
    }
    let said = printed(&backtest(&format!("{again} --pace 1000000000x")).output().unwrap(), 1);
    assert!(said.contains("differ"), "{said}");
    assert!(folder.path().join("out/alerts.jsonl").exists());
}

#[test]
fn what_cannot_be_replayed_is_refused_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let said = complaint(&word_count(folder.path(), "replay"), 2);
    assert!(said.starts_with("error: there is no log here"), "{said}");
    write_lines(folder.path(), 0, &["tea for two"]);
    let log = folder.path().join("headwater-data");
    printed(&word_count(folder.path(), "replay --name done"), 0);
    let before = files(&log);
    for (arguments, expected) in [
        ("--from 2020-01-01 --until 2019-01-01", "begins after it ends"),
        ("--from lines:0=99", "lines-0"),
        ("--from other:0=0", "other-0"),
        ("--from yesterday", "not a position"),
        ("--name a/b", "name of a replay"),
        ("--name done", "there is a replay of this name"),
        ("--resume none", "there is no such replay. name=none"),
        ("--resume done --from earliest", "cannot be used with"),
        ("--resume done --application-id other", "is one of another application"),
        ("--pace 0x", "a number above 0"),
        ("--disk-share 0%", "between 0.1% and 100%, as in 25% or 0.25. share=`0%`"),
        ("--disk-share 25", "as in 25% or 0.25. share=`25`"),
        ("--disk-share much", "as in 25% or 0.25. share=`much`"),
        ("--to files", "jsonl=FOLDER"),
    ] {
        let said = complaint(&word_count(folder.path(), &format!("replay {arguments}")), 2);
        assert!(said.contains(expected), "{arguments}: {said}");
    }
    let said = complaint(&word_count(folder.path(), "replays delete done none"), 2);
    assert!(said.contains("there is no such replay"), "{said}");
    assert!(files(&log) == before);
    assert_eq!(fs::read_dir(log.join("replays")).unwrap().count(), 1);
}

#[test]
fn a_topic_that_is_missing_is_named() {
    let folder = tempfile::tempdir().unwrap();
    block_on(async {
        let embedded = Embedded::open(folder.path().join("headwater-data")).unwrap();
        embedded.create_topic("other", 1).await.unwrap();
        embedded.close().await.unwrap();
    });
    let said = complaint(&word_count(folder.path(), "replay"), 2);
    assert!(said.contains("lines"), "{said}");
    assert!(!folder.path().join("headwater-data/replays").exists());
}

#[test]
fn results_go_where_they_shall() {
    let folder = tempfile::tempdir().unwrap();
    write_lines(folder.path(), 0, &["tea for two"]);
    let log = folder.path().join("headwater-data");
    printed(&word_count(folder.path(), "replay --name lines --to jsonl=out"), 0);
    let lines = fs::read_to_string(folder.path().join("out/word-counts.jsonl")).unwrap();
    let lines: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    assert!(lines.iter().any(|line| line["key"] == "tea" && line["value"] == "1"), "{lines:?}");

    printed(&word_count(folder.path(), "replay --name nowhere --to nowhere"), 0);
    assert!(!log.join("replays/nowhere").exists());

    // Once, however often it is said.
    printed(&word_count(folder.path(), "replay --name real --to topics"), 0);
    printed(&word_count(folder.path(), "replay --resume real --to topics"), 0);
    assert_eq!(counts(&log), pairs(&[("for", "1"), ("tea", "1"), ("two", "1")]));
    assert_eq!(contents::<String>(&log, "word-counts").len(), 3);

    let names = printed(&word_count(folder.path(), "replays list --json"), 0);
    assert_eq!(names.lines().count(), 2);
    insta::assert_snapshot!("replays", printed(&word_count(folder.path(), "replays list"), 0));
    printed(&word_count(folder.path(), "replays delete real lines"), 0);
    assert_eq!(printed(&word_count(folder.path(), "replays list"), 0).lines().count(), 1);
}

#[test]
fn of_two_replays_of_one_name_one_runs_and_the_other_leaves_it_alone() {
    let folder = tempfile::tempdir().unwrap();
    write_many(folder.path(), 500);
    for attempt in 0..5 {
        let name = format!("both-{attempt}");
        let start = || {
            Running::start(command("word_count", folder.path(), &format!("replay --name {name} --workers 1")))
        };
        let outputs = [start(), start(), start(), start()].map(Running::end);
        let (done, refused): (Vec<_>, Vec<_>) = outputs.iter().partition(|o| o.status.success());
        assert_eq!(done.len(), 1, "{name}: {outputs:?}");
        for output in refused {
            let said = complaint(output, 2);
            assert!(
                said.contains("there is a replay of this name") || said.contains("before it began"),
                "{said}"
            );
        }
        let replayed =
            contents::<String>(&folder.path().join("headwater-data/replays").join(&name), "word-counts");
        assert_eq!(replayed.len(), 1_500, "{name}");
    }
}

#[test]
fn replays_that_are_called_by_the_time_and_begin_together_all_run() {
    let folder = tempfile::tempdir().unwrap();
    write_many(folder.path(), 100);
    let start = || Running::start(command("word_count", folder.path(), "replay --workers 1 --quiet"));
    for output in [start(), start(), start(), start()].map(Running::end) {
        assert!(printed(&output, 0).contains("replay finished after"));
    }
    let replays = folder.path().join("headwater-data/replays");
    let names: Vec<_> = fs::read_dir(&replays).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(names.len(), 4, "{names:?}");
    for replay in names {
        assert_eq!(contents::<String>(&replay, "word-counts").len(), 300, "{}", replay.display());
    }
}

#[test]
fn killed_before_it_began_it_says_to_delete_it_and_begin_again() {
    let folder = tempfile::tempdir().unwrap();
    write_lines(folder.path(), 0, &["tea for two"]);
    // As a process leaves it that dies when it has made the folder, or opened the log there.
    for opened in [false, true] {
        let replay = folder.path().join("headwater-data/replays/young");
        fs::create_dir_all(&replay).unwrap();
        if opened {
            block_on(async { Embedded::open(&replay).unwrap().close().await.unwrap() });
        }
        for arguments in ["--name young", "--resume young"] {
            let said = complaint(&word_count(folder.path(), &format!("replay {arguments}")), 2);
            assert!(
                said.contains("cut short before it began: `replays delete young`, and begin again"),
                "{said}"
            );
        }
        printed(&word_count(folder.path(), "replays delete young"), 0);
        printed(&word_count(folder.path(), "replay --name young"), 0);
        printed(&word_count(folder.path(), "replays delete young"), 0);
    }
}

#[test]
fn a_name_that_is_used_again_is_another_replay_to_the_real_topics() {
    let folder = tempfile::tempdir().unwrap();
    write_lines(folder.path(), 0, &["tea for two"]);
    printed(&word_count(folder.path(), "replay --name real --to topics"), 0);
    printed(&word_count(folder.path(), "replays delete real"), 0);
    write_lines(folder.path(), 10, &["tea"]);
    printed(&word_count(folder.path(), "replay --name real --to topics"), 0);
    let log = folder.path().join("headwater-data");
    assert_eq!(contents::<String>(&log, "word-counts").len(), 3 + 4);
    assert_eq!(counts(&log), pairs(&[("for", "1"), ("tea", "2"), ("two", "1")]));
}

#[test]
fn topics_that_the_program_reads_get_nothing_of_a_replay() {
    let folder = tempfile::tempdir().unwrap();
    let builder = StreamsBuilder::new();
    builder.stream::<String, String>("lines").map_values(|_, line| line.to_uppercase()).to("between");
    builder.stream::<String, String>("between").to("out");
    let topology = builder.build().unwrap();
    write_lines(folder.path(), 0, &["tea", "for", "two"]);
    let log = folder.path().join("headwater-data");
    block_on(async {
        let embedded = Embedded::open(&log).unwrap();
        for topic in ["between", "out"] {
            embedded.create_topic(topic, 2).await.unwrap();
        }
        embedded.close().await.unwrap();
        let report = Replay::of(&topology).log(&log).name("all").run().await.unwrap();
        assert_eq!((report.outputs["between"], report.outputs["out"]), (3, 3));
        assert_eq!(Replays::of(&log).append_to_topics("all", &topology).await.unwrap(), 3);
    });
    assert_eq!(contents::<String>(&log, "out").len(), 3);
    assert_eq!(contents::<String>(&log, "between").len(), 0);
}

#[test]
fn a_replay_that_cannot_be_opened_can_be_deleted() {
    let folder = tempfile::tempdir().unwrap();
    write_lines(folder.path(), 0, &["tea for two"]);
    printed(&word_count(folder.path(), "replay --name broken"), 0);
    let replay = folder.path().join("headwater-data/replays/broken");
    // What the disk fails to read cannot be told from what it fails to write.
    fs::remove_file(replay.join("format")).unwrap();
    fs::create_dir(replay.join("format")).unwrap();
    printed(&word_count(folder.path(), "replays delete broken"), 0);
    assert!(!replay.exists());
}

#[test]
fn what_forbids_to_send_results_on_is_found_before_the_work() {
    let folder = tempfile::tempdir().unwrap();
    write_many(folder.path(), 100);
    let mut running = Running::start(command("word_count", folder.path(), "run --status 10ms"));
    running.wait_for(|line| line.contains("status") && line.contains(" lag=0 "));
    let said = complaint(&word_count(folder.path(), "replay --name early --to topics"), 1);
    assert!(said.contains("--to topics needs the log for itself"), "{said}");
    assert!(said.contains(&format!("pid={}", running.pid())), "{said}");
    running.signal("-TERM");
    assert_eq!(running.end().status.code(), Some(0));
    fs::write(folder.path().join("file"), "").unwrap();
    let said = complaint(&word_count(folder.path(), "replay --name early --to jsonl=file/out"), 1);
    assert!(said.contains("cannot make folder. folder=file/out"), "{said}");
    assert!(!folder.path().join("headwater-data/replays").exists());
}

#[test]
fn what_came_of_a_replay_is_told_when_its_results_cannot_be_sent_on() {
    let folder = tempfile::tempdir().unwrap();
    write_lines(folder.path(), 0, &["tea for two"]);
    printed(&word_count(folder.path(), "run --once"), 0);
    let file = folder.path().join("out/word-counts.jsonl");
    fs::create_dir_all(&file).unwrap();
    for json in ["", " --json"] {
        let name = if json.is_empty() { "text" } else { "json" };
        let output = word_count(folder.path(), &format!("replay --name {name} --to jsonl=out --diff{json}"));
        let said = complaint(&output, 1);
        assert!(said.contains(&format!("say `--resume {name}` with the same --to")), "{said}");
        assert!(said.contains("out/word-counts.jsonl"), "{said}");
        let told = text(&output.stdout);
        if json.is_empty() {
            assert!(told.contains("replay finished after") && told.contains("keys equal"), "{told}");
        } else {
            let told: serde_json::Value = serde_json::from_str(told).unwrap();
            assert_eq!(told["report"]["outputs"]["word-counts"], 3);
            assert_eq!(told["diff"]["topics"][0]["different"], 0);
        }
    }
    fs::remove_dir(&file).unwrap();
    printed(&word_count(folder.path(), "replay --resume text --to jsonl=out"), 0);
    assert_eq!(fs::read_to_string(&file).unwrap().lines().count(), 3);
}

#[test]
fn killed_while_it_copies_to_real_topics_every_record_is_there_once() {
    let folder = tempfile::tempdir().unwrap();
    write_many(folder.path(), 60_000);
    let log = folder.path().join("headwater-data");
    let mut wanted = Vec::new();
    let mut cut_short = 0;
    for attempt in 0..8 {
        let name = format!("copy-{attempt}");
        printed(&word_count(folder.path(), &format!("replay --name {name}")), 0);
        let replayed = contents::<String>(&log.join("replays").join(&name), "word-counts");
        assert_eq!(replayed.len(), 180_000);
        wanted.extend(replayed);
        let again = format!("replay --resume {name} --to topics");
        let before = written(&log);
        let mut running = Running::start(command("word_count", folder.path(), &again));
        while running.is_running() && written(&log) == before {
            std::thread::yield_now();
        }
        // Asked to end it ends as well: what is copied is no replay that could stop.
        running.signal(if attempt % 2 == 0 { "-KILL" } else { "-INT" });
        running.end();
        let copied = contents::<String>(&log, "word-counts").len();
        cut_short += usize::from(copied < wanted.len());
        printed(&word_count(folder.path(), &again), 0);
        if cut_short == 2 {
            break;
        }
    }
    assert!(cut_short > 0, "it was never killed at work");
    let mut there = contents::<String>(&log, "word-counts");
    there.sort_unstable();
    wanted.sort_unstable();
    assert!(there == wanted, "{} records, {} wanted", there.len(), wanted.len());
}

#[test]
fn windows_at_the_edges_of_a_range_are_named_warmed_up_and_closed() {
    let folder = tempfile::tempdir().unwrap();
    let backtest = |arguments: &str| -> String {
        printed(
            &command("replay_backtest", folder.path(), &format!("{arguments} --above 60")).output().unwrap(),
            0,
        )
    };
    backtest("run --once");
    // In the middle of a window of six hours, for three machines.
    let begins = "replay --from 2015-09-01T03:00:00Z --diff";
    let cold = backtest(&format!("{begins} --name cold"));
    assert!(cold.contains("no difference, 3 cannot be compared"), "{cold}");
    assert!(
        cold.contains(
            "turbine@[1441065600000,1441087200000)  (1 live, 1 replayed; reaches back before the range"
        ),
        "{cold}"
    );
    let warm = backtest(&format!("{begins} --name warm --warm-up 6h"));
    assert!(warm.contains("\nno difference\n"), "{warm}");
    // Six hours of three machines, and their windows that end before the range.
    for line in ["before the range temperatures 18", "not written alerts 3"] {
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(warm.lines().any(|told| words(told) == line), "{line}: {warm}");
    }
    let ends = "replay --until 2015-09-15T15:00:00Z --diff --json";
    for (how, records, not_comparable) in [("", 546, 0), (" --close-windows", 549, 3)] {
        let said: serde_json::Value = serde_json::from_str(&backtest(&format!("{ends}{how}"))).unwrap();
        assert_eq!(said["report"]["outputs"]["alerts"], records, "{how}");
        let alerts = &said["diff"]["topics"][0];
        assert_eq!((&alerts["equal"], &alerts["not_comparable"]), (&546.into(), &not_comparable.into()));
    }
}
