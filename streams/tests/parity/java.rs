//! Whether the vectors are what Kafka Streams gives: it runs all scenarios, and every byte must be the same.
//!
//! Needs `java`, `javac` and `mvn`, and says so in one line when they are missing. The jars are fetched once, into the
//! user's cache folder. `HEADWATER_UPDATE_VECTORS=1` writes the vectors anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{parity, say};

const KAFKA: &str = "kafka-streams-4.3.1";

#[test]
fn vectors_are_what_kafka_streams_gives() {
    let Some(jars) = jars() else { return };
    let folder = tempfile::tempdir().unwrap();
    let given = folder.path().join("vectors");
    run(&jars, folder.path(), &given);
    let (given, committed) = (vectors(&given), vectors(&parity().join("vectors")));
    if env::var_os("HEADWATER_UPDATE_VECTORS").is_some_and(|update| update == "1") {
        update(&given, &committed);
        return;
    }
    let names: BTreeSet<_> = given.keys().chain(committed.keys()).collect();
    let stale: Vec<_> = names.into_iter().filter(|name| given.get(*name) != committed.get(*name)).collect();
    assert!(stale.is_empty(), "not what Kafka Streams gives; see tests/kafka-parity/README.md: {stale:?}");
}

/// Compiles the scenarios and lets them write into `vectors`.
fn run(jars: &Path, folder: &Path, vectors: &Path) {
    let classes = folder.join("classes");
    let source = parity().join("src/main/java/headwater/parity");
    let source = fs::read_dir(source).unwrap().map(|file| file.unwrap().path());
    let jars = jars.join("*");
    let mut compiler = Command::new("javac");
    compiler.args(["-Xlint:all", "-Werror", "-cp"]).arg(&jars).arg("-d").arg(&classes).args(source);
    done(&mut compiler);
    let path = env::join_paths([&classes, &jars]).unwrap();
    let mut java = Command::new("java");
    // Half of the time is that of a compiler that never has the time to be worth it.
    java.args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"])
        .arg(path)
        .arg("headwater.parity.Main")
        .arg(vectors);
    // What it writes for itself goes where it is removed with the rest.
    done(java.env("JAVA_TOOL_OPTIONS", format!("-Djava.io.tmpdir={}", folder.display())));
}

fn done(command: &mut Command) {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}\n{}\n{}", text(&output.stdout), text(&output.stderr));
}

/// Each vector below `folder`, by family and name.
fn vectors(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut vectors = BTreeMap::new();
    for family in fs::read_dir(folder).unwrap() {
        for file in fs::read_dir(family.unwrap().path()).unwrap() {
            let file = file.unwrap().path();
            if !file.to_str().unwrap().ends_with(".ours.json") {
                vectors.insert(file.strip_prefix(folder).unwrap().to_owned(), fs::read(&file).unwrap());
            }
        }
    }
    vectors
}

/// Writes what Kafka Streams gives over what is there.
fn update(given: &BTreeMap<PathBuf, Vec<u8>>, committed: &BTreeMap<PathBuf, Vec<u8>>) {
    let folder = parity().join("vectors");
    for name in committed.keys().filter(|name| !given.contains_key(*name)) {
        fs::remove_file(folder.join(name)).unwrap();
    }
    for (name, bytes) in given {
        fs::create_dir_all(folder.join(name).parent().unwrap()).unwrap();
        fs::write(folder.join(name), bytes).unwrap();
    }
}

/// Where Kafka's jars are; fetched when they are not there yet. `None`, loudly, without Java.
fn jars() -> Option<PathBuf> {
    let works = |command: &str, option: &str| Command::new(command).arg(option).output().is_ok();
    if !works("java", "-version") || !works("javac", "-version") || !works("mvn", "--version") {
        say(
            "!!! NOT TESTED: whether the vectors are what Kafka Streams gives, because java, javac or mvn is missing",
        );
        return None;
    }
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache"))).unwrap();
    let jars = cache.join("headwater").join(KAFKA);
    if !jars.join("complete").exists() {
        let mut maven = Command::new("mvn");
        maven.args(["-q", "-B", "-f"]).arg(parity().join("pom.xml")).arg("dependency:copy-dependencies");
        done(maven.arg(format!("-DoutputDirectory={}", jars.display())));
        fs::write(jars.join("complete"), "").unwrap();
    }
    Some(jars)
}
