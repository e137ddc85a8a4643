//! The shape of the workspace, checked: which crate may know which, where things lie, and what files look like.
//! `docs/ARCHITECTURE.md` says why.
#![expect(clippy::unwrap_used, reason = "a check that cannot look has failed")]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// Who may depend on whom, within the workspace.
const EDGES: &[(&str, &[&str])] = &[
    ("headwater-core", &[]),
    ("headwater-storage", &["headwater-core"]),
    ("headwater-streams", &["headwater-core"]),
    ("headwater-client", &["headwater-core"]),
    ("headwater-terminal", &["headwater-core"]),
    (
        "headwater",
        &[
            "headwater-client",
            "headwater-core",
            "headwater-storage",
            "headwater-streams",
            "headwater-terminal",
        ],
    ),
    (
        "headwater-cli",
        &["headwater", "headwater-core", "headwater-storage", "headwater-streams", "headwater-terminal"],
    ),
    (
        "headwater-benches",
        &["headwater", "headwater-core", "headwater-storage", "headwater-streams", "headwater-terminal"],
    ),
];

/// Who may also depend on whom in tests.
const TEST_EDGES: &[(&str, &[&str])] = &[("headwater-client", &["headwater-storage"])];

/// Who must never know what, in any kind of dependency: `core` does no I/O and has no runtime, `streams` reaches the
/// outside only through the ports in `core`.
const STRANGERS: &[(&str, &[&str])] = &[
    ("headwater-core", &["tokio", "rocksdb", "rustix", "rdkafka"]),
    ("headwater-storage", &["tokio", "rdkafka"]),
    ("headwater-streams", &["rocksdb", "rustix", "rdkafka"]),
    ("headwater-client", &["rocksdb", "rustix", "rdkafka"]),
];

/// The folders with our source.
const SOURCE: &[&str] = &[
    "benches", "cli", "client", "core", "examples", "fuzz", "src", "storage", "streams", "terminal", "tests",
];
/// Names that say nothing: a reader cannot tell what is in such a file, so everything ends up in it.
const EMPTY_NAMES: &[&str] =
    &["common", "helper", "helpers", "impl", "impls", "internal", "internals", "misc", "util", "utils"];
/// Lines of a file, its tests not counted. Longer ones answer more than one question.
const LINES_MAX: usize = 500;
/// The largest file that there is is some readings of an example; what a run leaves is larger.
const FILE_BYTES_MAX: u64 = 1 << 20;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn metadata() -> Value {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline", "--manifest-path"])
        .arg(root().join("Cargo.toml"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn listed(table: &'static [(&str, &[&str])], package: &str) -> Option<&'static [&'static str]> {
    table.iter().find(|(name, _)| *name == package).map(|(_, list)| *list)
}

/// What is wrong with the dependencies of the workspace.
fn wrong_edges(metadata: &Value) -> Vec<String> {
    let packages = metadata["packages"].as_array().unwrap();
    assert!(!packages.is_empty(), "a workspace without packages");
    let ours: Vec<_> = packages.iter().map(|package| package["name"].as_str().unwrap()).collect();
    let mut wrong = Vec::new();
    for package in packages {
        let from = package["name"].as_str().unwrap();
        let Some(allowed) = listed(EDGES, from) else {
            wrong.push(format!("{from} is new: say in tests/architecture.rs what it may depend on"));
            continue;
        };
        for dependency in package["dependencies"].as_array().unwrap() {
            let to = dependency["name"].as_str().unwrap();
            let kind = dependency["kind"].as_str().unwrap_or("normal");
            let in_tests = kind == "dev" && listed(TEST_EDGES, from).is_some_and(|list| list.contains(&to));
            if ours.contains(&to) && !allowed.contains(&to) && !in_tests {
                wrong.push(format!("{from} must not depend on {to} ({kind})"));
            }
            if listed(STRANGERS, from).is_some_and(|strangers| strangers.contains(&to)) {
                wrong.push(format!("{from} must not know {to} ({kind})"));
            }
            let asks_for_suites = dependency["features"].as_array().unwrap().contains(&"contract".into());
            if to == "headwater-core" && asks_for_suites && kind != "dev" {
                wrong.push(format!(
                    "{from} takes the contract suites, which are for tests, into its {kind} build"
                ));
            }
        }
    }
    wrong
}

/// A source file, with its path from the root.
struct Source {
    path: String,
    text: String,
}

impl Source {
    /// Whether all of it is test code.
    fn is_test(&self) -> bool {
        self.path.contains("/tests/") || self.path.starts_with("tests/") || self.path.ends_with("/tests.rs")
    }

    /// The lines before the test module.
    fn code(&self) -> impl Iterator<Item = &str> {
        let tests = self.text.find("#[cfg(test)]\nmod tests {").unwrap_or(self.text.len());
        self.text[..tests].lines()
    }
}

fn sources() -> Vec<Source> {
    let mut sources = Vec::new();
    let mut folders: Vec<PathBuf> =
        SOURCE.iter().map(|folder| root().join(folder)).filter(|path| path.exists()).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                // Projects of their own may lie below a folder; their `target` is not source.
                if path.file_name().is_some_and(|name| name != "target") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let path = path.strip_prefix(root()).unwrap().to_str().unwrap().replace('\\', "/");
                sources.push(Source { path, text });
            }
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources
}

/// What is wrong with a file.
fn untidy(source: &Source) -> Vec<String> {
    let (path, text) = (&source.path, &source.text);
    let mut wrong = Vec::new();
    if !text.starts_with("//!") && !text.starts_with("#![doc = include_str!(") {
        wrong.push(format!("{path} does not begin with `//!` and what lives in it"));
    }
    let parts = path.trim_end_matches(".rs").split('/');
    for part in parts.filter(|part| EMPTY_NAMES.contains(part)) {
        wrong.push(format!("{path}: `{part}` says nothing about what is in it"));
    }
    let lines = source.code().count();
    if lines > LINES_MAX && !source.is_test() {
        wrong.push(format!("{path} has {lines} lines without its tests, more than {LINES_MAX}"));
    }
    // In what order log and state become durable is decided in one file. The test driver has no crash to survive.
    let decides_order = path == "streams/src/runtime/commit.rs" || path.starts_with("streams/src/testing/");
    if path.starts_with("streams/src/") && !decides_order && !source.is_test() {
        // Examples in the documentation play the user.
        let commits = |line: &str| commits_a_producer(line) && !line.trim_start().starts_with("//");
        for (number, _) in source.code().enumerate().filter(|(_, line)| commits(line)) {
            wrong.push(format!("{path}:{} commits a producer: only runtime/commit.rs may", number + 1));
        }
    }
    wrong
}

fn commits_a_producer(line: &str) -> bool {
    ["producer.commit(", "producer().commit("].iter().any(|call| line.contains(call))
}

#[test]
fn crates_know_only_whom_they_may() {
    let wrong = wrong_edges(&metadata());
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn files_are_tidy() {
    let sources = sources();
    assert!(sources.len() > 50, "only {} files found: is the list of folders right?", sources.len());
    let commit = sources.iter().find(|source| source.path == "streams/src/runtime/commit.rs");
    let is_known = commit.is_some_and(|source| source.text.lines().any(commits_a_producer));
    assert!(
        is_known,
        "the one place that commits a producer is not told by its words: see `commits_a_producer`"
    );
    let wrong: Vec<_> = sources.iter().flat_map(untidy).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What a benchmark or a demo has written does not belong here.
#[test]
fn files_are_small() {
    let ignored = fs::read_to_string(root().join(".gitignore")).unwrap();
    let ignored: Vec<&str> =
        ignored.lines().map(|line| line.trim_start_matches('/')).chain([".git"]).collect();
    let (mut folders, mut files, mut large) = (vec![root().to_owned()], 0, Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap()) {
            let (path, about) = (entry.path(), entry.metadata().unwrap());
            if ignored.iter().any(|name| entry.file_name() == *name) {
                continue;
            }
            if about.is_dir() {
                folders.push(path);
            } else {
                files += 1;
                large.extend((about.len() > FILE_BYTES_MAX).then_some(path));
            }
        }
    }
    assert!(files > 300, "only {files} files found");
    assert!(large.is_empty(), "larger than {FILE_BYTES_MAX} bytes: {large:#?}");
}

/// The workspace as it is, with one more dependency of `from`.
fn with_dependency(from: &str, to: &str, kind: Option<&str>, features: &[&str]) -> Value {
    let mut metadata = metadata();
    let package = metadata["packages"]
        .as_array_mut()
        .unwrap()
        .iter_mut()
        .find(|package| package["name"] == from)
        .unwrap();
    let dependency = serde_json::json!({ "name": to, "kind": kind, "features": features });
    package["dependencies"].as_array_mut().unwrap().push(dependency);
    metadata
}

#[test]
fn a_wrong_edge_is_found() {
    for (from, to, kind, found) in [
        (
            "headwater-core",
            "headwater-streams",
            None,
            "headwater-core must not depend on headwater-streams (normal)",
        ),
        (
            "headwater-core",
            "headwater-storage",
            Some("dev"),
            "headwater-core must not depend on headwater-storage (dev)",
        ),
        (
            "headwater-streams",
            "headwater-storage",
            Some("dev"),
            "headwater-streams must not depend on headwater-storage (dev)",
        ),
        (
            "headwater-storage",
            "headwater-streams",
            None,
            "headwater-storage must not depend on headwater-streams (normal)",
        ),
        (
            "headwater-client",
            "headwater-storage",
            None,
            "headwater-client must not depend on headwater-storage (normal)",
        ),
        ("headwater", "headwater-cli", None, "headwater must not depend on headwater-cli (normal)"),
        ("headwater-core", "tokio", Some("dev"), "headwater-core must not know tokio (dev)"),
        ("headwater-streams", "rocksdb", None, "headwater-streams must not know rocksdb (normal)"),
    ] {
        assert_eq!(wrong_edges(&with_dependency(from, to, kind, &[])), [found]);
    }
    assert_eq!(
        wrong_edges(&with_dependency("headwater-storage", "headwater-core", None, &["contract"])),
        ["headwater-storage takes the contract suites, which are for tests, into its normal build"]
    );
    let mut metadata = metadata();
    let mut stranger = metadata["packages"][0].clone();
    stranger["name"] = "headwater-new".into();
    metadata["packages"].as_array_mut().unwrap().push(stranger);
    assert_eq!(
        wrong_edges(&metadata),
        ["headwater-new is new: say in tests/architecture.rs what it may depend on"]
    );
}

#[test]
fn an_untidy_file_is_found() {
    let source = |path: &str, text: String| Source { path: path.into(), text };
    let long = format!("//! Long.\n{}", "// line\n".repeat(LINES_MAX));
    let long_tests = format!("//! Short.\n#[cfg(test)]\nmod tests {{\n{}}}\n", "// line\n".repeat(LINES_MAX));
    for (path, text, found) in [
        (
            "core/src/a.rs",
            "use std::fmt;\n".to_string(),
            Some("core/src/a.rs does not begin with `//!` and what lives in it"),
        ),
        (
            "core/src/utils.rs",
            "//! A drawer.\n".into(),
            Some("core/src/utils.rs: `utils` says nothing about what is in it"),
        ),
        (
            "core/src/common/a.rs",
            "//! A.\n".into(),
            Some("core/src/common/a.rs: `common` says nothing about what is in it"),
        ),
        ("core/src/a.rs", long.clone(), Some("core/src/a.rs has 501 lines without its tests, more than 500")),
        ("core/src/a/tests.rs", long, None),
        ("core/src/a.rs", long_tests, None),
        (
            "streams/src/runtime/task.rs",
            "//! A task.\n//! producer.commit(None)\n    task.producer.commit(None)\n".into(),
            Some("streams/src/runtime/task.rs:3 commits a producer: only runtime/commit.rs may"),
        ),
        (
            "streams/src/runtime/task.rs",
            "//! A task.\n    self.producer().commit(None)\n".into(),
            Some("streams/src/runtime/task.rs:2 commits a producer: only runtime/commit.rs may"),
        ),
        ("streams/src/runtime/commit.rs", "//! The order.\n    task.producer.commit(None)\n".into(), None),
    ] {
        assert_eq!(untidy(&source(path, text)), Vec::from_iter(found), "{path}");
    }
}
