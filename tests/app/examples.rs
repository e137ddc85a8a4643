//! Every example, replayed over all that it read: the same records with any number of workers, and no trace in the live folder.

use std::{fs, path::Path, process::Output};

use headwater::{
    core::{Log, Offset},
    storage::log::ObservedLog,
};

use crate::{
    program::{Running, block_on, command, printed, text, word_count},
    replay::{files, write_many},
};

/// Key, value and time of each record of a topic, and its partition, as a log holds them, whoever owns it.
type Raw = (u32, Option<Vec<u8>>, Option<Vec<u8>>, i64);

fn raw(log: &Path, topic: &str) -> Vec<Raw> {
    block_on(async {
        let log = ObservedLog::open(log).unwrap();
        let topics = log.topics().await.unwrap();
        let spec = topics.iter().find(|spec| spec.name.as_str() == topic).unwrap();
        let mut found = Vec::new();
        for partition in spec.topic_partitions() {
            let mut next = Offset(0);
            loop {
                let fetched = log.read(&partition, next, 1 << 20).await.unwrap();
                let Some(last) = fetched.batches.last() else { break };
                for batch in &fetched.batches {
                    let mut records = batch.cursor();
                    while let Some(record) = records.next().transpose().unwrap() {
                        let [key, value] = [record.key, record.value].map(|bytes| bytes.map(<[u8]>::to_vec));
                        found.push((partition.partition.0, key, value, record.timestamp.0));
                    }
                }
                next = last.next_offset();
            }
        }
        found
    })
}

/// Replays all that there is with 1, 2 and 4 workers: nothing differs from the live run, and the replays not from each other.
/// `events`: topics that are the same as those of the live run, record for record.
#[track_caller]
fn replayed(folder: &Path, run: impl Fn(&str) -> Output, topics: &[&str], events: &[&str]) {
    let log = folder.join("headwater-data");
    let before = files(&log);
    for workers in [1, 2, 4] {
        let said = run(&format!("replay --name with-{workers} --workers {workers} --diff --json"));
        let said: serde_json::Value = serde_json::from_str(&printed(&said, 0)).unwrap();
        assert_eq!((&said["report"]["finished"], &said["diff"]["computed"]), (&true.into(), &0.into()));
        let compared = said["diff"]["topics"].as_array().unwrap();
        let names: Vec<&str> = compared.iter().map(|topic| topic["topic"].as_str().unwrap()).collect();
        assert_eq!(names, topics);
        for topic in compared {
            for class in ["missing", "extra", "different", "not_comparable"] {
                assert_eq!(topic[class], 0, "{class} with {workers} workers: {topic}");
            }
            assert!(topic["equal"].as_u64() > Some(0), "{topic}");
        }
        for topic in topics {
            let [first, this] = [1, workers].map(|n| raw(&log.join(format!("replays/with-{n}")), topic));
            assert!(first == this, "{topic} is another with {workers} workers than with one");
        }
    }
    for topic in events {
        assert!(raw(&log, topic) == raw(&log.join("replays/with-1"), topic), "{topic} is another");
    }
    assert!(files(&log) == before, "a replay changed something of the live folder");
}

#[test]
fn word_count_is_replayed_with_any_number_of_workers() {
    let folder = tempfile::tempdir().unwrap();
    write_many(folder.path(), 2_000);
    let run = |arguments: &str| word_count(folder.path(), arguments);
    printed(&run("run --once --workers 2"), 0);
    replayed(folder.path(), run, &["word-counts"], &[]);
}

#[test]
fn the_backtest_is_replayed_with_any_number_of_workers() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &str| command("replay_backtest", folder.path(), arguments).output().unwrap();
    printed(&run("run --once --workers 2"), 0);
    replayed(folder.path(), run, &["alerts"], &["alerts"]);
}

#[test]
fn sensors_are_replayed_with_any_number_of_workers() {
    let folder = tempfile::tempdir().unwrap();
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data");
    let series = folder.path().join("series");
    fs::create_dir_all(series.join("realTraffic")).unwrap();
    for name in ["speed_6005.csv", "occupancy_6005.csv", "TravelTime_387.csv"] {
        fs::copy(data.join("realTraffic").join(name), series.join("realTraffic").join(name)).unwrap();
    }
    fs::copy(data.join("labels.json"), series.join("labels.json")).unwrap();
    let run = |arguments: &str| {
        command("iot_sensors", folder.path(), arguments).args(["--dir", "series"]).output().unwrap()
    };
    printed(&run("run --once --workers 2"), 0);
    let topics = ["sensor-hourly", "sensor-alerts", "group-daily"];
    replayed(folder.path(), run, &topics, &["sensor-alerts", "group-daily"]);
}

/// While the live program owns the log, and has nothing to do.
#[test]
fn a_replay_beside_a_program_leaves_all_of_it_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    write_many(folder.path(), 300);
    let log = folder.path().join("headwater-data");
    let mut running = Running::start(command("word_count", folder.path(), "run --status 10ms"));
    running.wait_for(|line| line.contains(" lag=0 ") && line.contains("records=1200"));
    let look = || {
        let positions = printed(&word_count(folder.path(), "lag --json"), 0);
        (files(&log), positions, raw(&log, "word-counts"))
    };
    // Its last commit may still be on its way to the disk.
    let mut before = look();
    loop {
        running.wait_for(|line| line.contains("status"));
        let now = look();
        if now == before {
            break;
        }
        before = now;
    }
    assert_eq!(before.2.len(), 900);
    assert!(before.1.contains(r#""topic":"lines""#), "{}", before.1);
    printed(&word_count(folder.path(), "replay --name beside --diff --workers 2"), 0);
    let after = look();
    assert!(after.0 == before.0, "a replay changed something of the live folder");
    assert_eq!(after.1, before.1);
    assert!(after.2 == before.2, "a replay changed what the live program wrote");
    running.signal("-TERM");
    let output = running.end();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}
