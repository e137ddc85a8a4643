//! `log dump` and `log verify` on a log on disk.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{closed_log_with, log_of_all_kinds, prints, run, run_on, text};

fn segment(log: &Path, topic: &str) -> PathBuf {
    log.join("topics").join(topic).join("0").join("00000000000000000000.log")
}

#[test]
fn a_segment_is_dumped() {
    let folder = tempfile::tempdir().unwrap();
    log_of_all_kinds(folder.path());
    let file = segment(folder.path(), "mixed");
    let by_name = run(folder.path(), &["log", "dump", "mixed/0", "--records"]);
    let by_file = run(Path::new("nowhere"), &["log", "dump", file.to_str().unwrap(), "--records"]);
    assert_eq!((by_name.status.code(), text(&by_name.stderr)), (Some(0), ""));
    assert_eq!(text(&by_name.stdout), text(&by_file.stdout), "no log is needed around a file");
    let shown = text(&by_name.stdout).replace(folder.path().to_str().unwrap(), "LOG");
    insta::assert_snapshot!("dump", shown);
    let json = run(folder.path(), &["log", "dump", "mixed/0", "--records", "--json"]);
    let lines: Vec<serde_json::Value> =
        text(&json.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(
        (&lines[0]["records"], &lines[0]["last_offset"], &lines[0]["crc_ok"]),
        (&2.into(), &1.into(), &true.into())
    );
    assert_eq!(lines[0]["data"][0]["value"]["celsius"], 180);
    assert_eq!(lines[1]["byte"], lines[0]["size"]);
    for wrong in ["mixed/1/2", "mixed/9", "nothing", "mixed/x", "../mixed/0"] {
        assert_eq!(run(folder.path(), &["log", "dump", wrong]).status.code(), Some(2), "{wrong}");
    }
}

/// What is asked for is what is on disk, unless the topic says otherwise.
#[test]
fn a_batch_is_compressed_as_it_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let line = format!("{}\n", "a reading that repeats itself, ".repeat(20));
    prints(
        folder.path(),
        "topics create decided --config compression.type=lz4",
        "topic decided created: 1 partition\n",
    );
    let mut sizes = Vec::new();
    for (topic, asked, codec) in [
        ("plain", "none", "none"),
        ("quick", "lz4", "lz4"),
        ("small", "zstd", "zstd"),
        ("decided", "zstd", "lz4"),
    ] {
        let produce = ["produce", topic, "--create", "--compression", asked];
        let output = run_on(folder.path(), &produce, &line);
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""), "{topic}");
        let dumped = run(folder.path(), &["log", "dump", &format!("{topic}/0"), "--json"]);
        let batch: serde_json::Value = serde_json::from_str(text(&dumped.stdout)).unwrap();
        assert_eq!((&batch["compression"], &batch["crc_ok"]), (&codec.into(), &true.into()), "{topic}");
        sizes.push(batch["size"].as_u64().unwrap());
        prints(folder.path(), &format!("consume {topic} --format %s\\n"), &line);
    }
    assert!(sizes[1..].iter().all(|size| *size < sizes[0] / 3), "{sizes:?}");
    let refused = run_on(folder.path(), &["produce", "plain", "--compression", "gzip"], &line);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("use `lz4`, `zstd` or `none`"), "{}", text(&refused.stderr));
}

#[test]
fn a_damaged_segment_is_dumped_as_far_as_it_goes() {
    let folder = tempfile::tempdir().unwrap();
    log_of_all_kinds(folder.path());
    let file = segment(folder.path(), "mixed");
    let mut bytes = fs::read(&file).unwrap();
    bytes[70] ^= 1;
    bytes.extend_from_slice(b"\x1b[2Jgarbage");
    fs::write(&file, &bytes).unwrap();
    let output = run(folder.path(), &["log", "dump", "mixed/0"]);
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(text(&output.stderr), "error: damaged: 2 of 3 places\n");
    let lines: Vec<_> = text(&output.stdout).lines().collect();
    assert!(lines[2].contains("bad  checksum of a batch does not hold"), "{}", lines[2]);
    assert!(lines[3].contains("  ok  "), "what comes behind is shown: {}", lines[3]);
    let byte = bytes.len() - 11;
    assert!(lines[4].starts_with("stopped: ") && lines[4].contains(&format!("byte={byte}")), "{}", lines[4]);
    let json = run(folder.path(), &["log", "dump", "mixed/0", "--json"]);
    assert_eq!(json.status.code(), Some(3));
    assert!(text(&json.stdout).lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
}

#[test]
fn a_sound_log_is_verified() {
    let folder = tempfile::tempdir().unwrap();
    log_of_all_kinds(folder.path());
    prints(
        folder.path(),
        "log verify",
        "TOPIC  PARTITIONS  SEGMENTS  BATCHES  RECORDS  SIZE   DAMAGES\n\
         mixed           2         2        3        4  282 B        0\n",
    );
    let json = run(folder.path(), &["log", "verify", "--topic", "mixed", "--json"]);
    let line: serde_json::Value = serde_json::from_str(text(&json.stdout)).unwrap();
    assert_eq!((&line["records"], &line["damages"]), (&4.into(), &0.into()));
    assert_eq!(run(folder.path(), &["log", "verify", "--topic", "none"]).status.code(), Some(2));
}

#[test]
fn each_damage_is_named_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    log_of_all_kinds(folder.path());
    let file = segment(folder.path(), "mixed");
    let sound = fs::read(&file).unwrap();
    let mut bytes = sound.clone();
    bytes[70] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let output = run(folder.path(), &["log", "verify"]);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "error: 1 damage found: restore the files that are named from a copy\n");
    let place = format!("  {}, byte 0\n", file.display());
    let printed = text(&output.stdout);
    assert!(printed.contains("\nmixed-0, offset 0: checksum of a batch does not hold"), "{printed}");
    assert!(printed.ends_with(&place), "{printed}");
    let json = run(folder.path(), &["log", "verify", "--json"]);
    let damage: serde_json::Value = serde_json::from_str(text(&json.stdout).lines().nth(1).unwrap()).unwrap();
    assert_eq!(damage["file"], file.to_str().unwrap());
    assert_eq!((&damage["partition"], &damage["byte"], &damage["offset"]), (&0.into(), &0.into(), &0.into()));
    fs::write(&file, sound).unwrap();
    assert_eq!(run(folder.path(), &["log", "verify"]).status.code(), Some(0));
}

#[test]
fn a_log_that_cannot_be_opened_is_damage_for_who_looks_for_it() {
    let folder = tempfile::tempdir().unwrap();
    closed_log_with(folder.path(), 10);
    let checkpoint = folder.path().join("checkpoint");
    for copy in [&checkpoint, &checkpoint.with_extension("copy")] {
        let mut bytes = fs::read(copy).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        fs::write(copy, bytes).unwrap();
    }
    let output = run(folder.path(), &["log", "verify"]);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains(checkpoint.to_str().unwrap()), "{}", text(&output.stderr));
    assert_eq!(run(folder.path(), &["topics", "list"]).status.code(), Some(1));
}
