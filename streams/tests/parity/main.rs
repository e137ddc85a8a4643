//! Every operator against Apache Kafka Streams, record for record: keys, values, timestamps, order, and the record that
//! made them come out.
//!
//! `tests/kafka-parity/` of the repository holds the scenarios: topologies in Java, and as vectors what Kafka's own test
//! driver gives for them. The same topologies are here in Rust, a file for each family; [`vector`] compares. Where we
//! differ on purpose, `<scenario>.ours.json` beside the vector says why and what we give instead, written by hand.
//! [`java`] looks whether the vectors are what Kafka Streams gives today.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::explicit_write, reason = "print macros are silent in a test that passes")]

mod aggregates;
mod java;
mod processors;
mod sessions;
mod stateless;
mod stream_stream_joins;
mod stream_table_joins;
mod tables;
mod vector;
mod windows;
mod wiring;

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use self::{vector::Life, wiring::Wiring};

/// A topology, by the name of its scenario.
type Topologies = &'static [(&'static str, fn(&Wiring))];

const FAMILIES: [(&str, Topologies); 8] = [
    ("aggregates", aggregates::TOPOLOGIES),
    ("processors", processors::TOPOLOGIES),
    ("sessions", sessions::TOPOLOGIES),
    ("stateless", stateless::TOPOLOGIES),
    ("stream-stream-joins", stream_stream_joins::TOPOLOGIES),
    ("stream-table-joins", stream_table_joins::TOPOLOGIES),
    ("tables", tables::TOPOLOGIES),
    ("windows", windows::TOPOLOGIES),
];

/// Scenarios whose operators are not there yet, by the beginning of their names.
const NOT_YET: &[&str] = &[];

fn is_not_yet(name: &str) -> bool {
    NOT_YET.iter().any(|beginning| name.starts_with(beginning))
}

/// The folder of the scenarios.
fn parity() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/kafka-parity")
}

/// Files of a family in the folder of the vectors that end with `ending`, without it.
fn names(family: &str, ending: &str) -> BTreeSet<String> {
    let files = fs::read_dir(parity().join("vectors").join(family)).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    // A name has no dot in it, so that of `a.ours.json` is not `a.ours`.
    let stem = |name: String| name.strip_suffix(ending).filter(|stem| !stem.contains('.')).map(str::to_owned);
    names.filter_map(stem).collect()
}

/// To the terminal, also from a test that passes.
fn say(text: &str) {
    writeln!(std::io::stderr(), "{text}").unwrap();
}

/// What each scenario gives, as it should; or where not.
fn compare(life: Life, scenarios: impl Fn(&str) -> bool) -> Vec<String> {
    let (mut results, mut wrong) = (Vec::new(), Vec::new());
    for (family, topologies) in FAMILIES {
        for (scenario, build) in topologies {
            let name = format!("{family}/{scenario}");
            if scenarios(&name) {
                match vector::compare(&name, *build, life) {
                    Ok(how) => results.push(format!("parity: {name}: {how}")),
                    Err(difference) => wrong.push(format!("{name}: {difference}")),
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} scenarios differ:\n{}", wrong.len(), wrong.join("\n"));
    results
}

#[test]
fn every_scenario_gives_what_kafka_streams_gives() {
    say(&compare(Life::Quiet, |_| true).join("\n"));
}

/// A crash loses nothing and repeats nothing, wherever it comes, and results do not depend on what is in memory.
#[test]
fn every_scenario_gives_the_same_when_the_process_dies_after_every_record() {
    // It counts in a field of its own, which dies with it.
    let forgets = "processors/punctuate-and-cancel";
    assert!(compare(Life::Hard, |name| name != forgets).len() >= 60);
}

/// Nothing is left out silently: each vector has a topology, or is named as missing; each topology has a vector.
#[test]
fn every_vector_has_a_topology() {
    let folders = fs::read_dir(parity().join("vectors")).unwrap();
    let folders: BTreeSet<_> = folders.map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(folders, FAMILIES.iter().map(|(family, _)| (*family).to_owned()).collect());

    let (mut count, mut missing) = (0, Vec::new());
    for (family, topologies) in FAMILIES {
        let vectors = names(family, ".json");
        let ours: BTreeSet<String> = topologies.iter().map(|(scenario, _)| (*scenario).to_owned()).collect();
        assert_eq!(ours.len(), topologies.len(), "{family}: two topologies have one name");
        let strangers: Vec<_> = ours.difference(&vectors).collect();
        assert!(strangers.is_empty(), "{family}: topologies without vector: {strangers:?}");
        let orphans: Vec<_> = names(family, ".ours.json").difference(&vectors).cloned().collect();
        assert!(orphans.is_empty(), "{family}: expectations without vector: {orphans:?}");
        let full = |scenario: &String| format!("{family}/{scenario}");
        missing.extend(vectors.difference(&ours).map(full));
        let late: Vec<_> = ours.iter().map(full).filter(|name| is_not_yet(name)).collect();
        assert!(late.is_empty(), "named as missing, and there: {late:?}");
        count += vectors.len();
    }
    let unknown: Vec<_> = missing.iter().filter(|name| !is_not_yet(name)).collect();
    assert!(unknown.is_empty(), "vectors without topology: {unknown:?}");
    for name in &missing {
        say(&format!("!!! NOT YET: parity of {name}"));
    }
    say(&format!("parity: {count} scenarios, {} of them not yet", missing.len()));
    assert!(count >= 60, "{count}");
}
