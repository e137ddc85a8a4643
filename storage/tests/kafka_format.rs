//! Apache Kafka's own tool reads what the log wrote: every segment and every index, record for record.
//!
//! Needs `java` and `mvn`, and says so in one line when they are missing. The tool's jars are fetched once, into the
//! user's cache folder.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::explicit_write, reason = "print macros are silent in a test that passes")]

use std::{
    collections::BTreeMap,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use headwater_core::{
    BatchBuilder, Headers, Log, Offset, Partition, ProducerName, RecordBatch, Timestamp, TopicName,
    TopicPartition, TopicSpec,
};
use headwater_storage::log::EmbeddedLog;

const KAFKA: &str = "kafka-4.3.1";
const TOPIC: &str = "every.feature_of-a-topic";
const PARTITIONS: u32 = 3;
const SEED: u64 = 0x4845_4144;

#[test]
fn kafka_reads_every_segment_and_index() {
    let Some(jars) = jars() else { return };
    let folder = tempfile::tempdir().unwrap();
    let expected = futures::executor::block_on(write(folder.path()));
    let mut found: BTreeMap<u32, Vec<Line>> = BTreeMap::new();
    let (mut segments, mut index_entries) = (0, 0);
    for partition in 0..PARTITIONS {
        let files = segment_files(folder.path(), partition);
        for log in &files {
            let lines = dump(&jars, log, &["--print-data-log"]);
            found.entry(partition).or_default().extend(lines.iter().filter_map(|line| Line::parse(line)));
            index_entries += check_index(&jars, &log.with_extension("index"), &lines);
            segments += 1;
        }
    }
    assert!(segments > 2 * PARTITIONS, "the test wants several segments a partition: {segments}");
    assert!(index_entries > 10, "the test wants index entries: {index_entries}");
    for partition in 0..PARTITIONS {
        let (expected, found) = (&expected[&partition], &found[&partition]);
        assert_eq!(expected.len(), found.len(), "partition {partition}");
        for (expected, found) in expected.iter().zip(found) {
            assert_eq!(expected, found, "partition {partition}");
        }
    }
    let records = expected.values().flatten().filter(|line| matches!(line, Line::Record { .. })).count();
    say(&format!(
        "Kafka's DumpLogSegments agrees on {records} records in {segments} segments, {index_entries} index entries"
    ));
}

/// What the tool says of a batch or a record.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    Batch {
        base: u64,
        last: u64,
        count: u32,
        producer: i64,
        epoch: i16,
        sequence: i32,
        size: usize,
        crc: u32,
    },
    Record {
        offset: u64,
        timestamp: i64,
        key: Option<String>,
        value: Option<String>,
        headers: Vec<String>,
    },
}

impl Line {
    fn parse(line: &str) -> Option<Self> {
        let number = |name: &str| field(line, name).unwrap_or_else(|| panic!("no `{name}` in `{line}`"));
        if line.starts_with("baseOffset: ") {
            assert!(line.contains(" isvalid: true"), "{line}");
            assert!(line.contains(" magic: 2 "), "{line}");
            return Some(Self::Batch {
                base: number("baseOffset").parse().unwrap(),
                last: number("lastOffset").parse().unwrap(),
                count: number("count").parse().unwrap(),
                producer: number("producerId").parse().unwrap(),
                epoch: number("producerEpoch").parse().unwrap(),
                sequence: number("baseSequence").parse().unwrap(),
                size: number("size").parse().unwrap(),
                crc: number("crc").parse().unwrap(),
            });
        }
        if !line.starts_with("| offset: ") {
            return None;
        }
        let (_, names) = line.split_once("headerKeys: [").unwrap();
        let (names, rest) = names.split_once(']').unwrap();
        let text = |name: &str, size: &str| {
            (number(size) != "-1").then(|| {
                let (_, text) = rest.split_once(&format!(" {name}: ")).unwrap_or(("", ""));
                text.split_once(" payload: ").map_or(text, |(key, _)| key).to_owned()
            })
        };
        Some(Self::Record {
            offset: number("offset").parse().unwrap(),
            timestamp: number("CreateTime").parse().unwrap(),
            key: text("key", "keySize"),
            value: text("payload", "valueSize"),
            headers: names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect(),
        })
    }

    fn of(batch: &RecordBatch) -> Vec<Self> {
        let stamp = batch.stamp();
        let crc = batch.bytes()[17..21].try_into().unwrap();
        let mut lines = vec![Self::Batch {
            base: batch.base_offset().0,
            last: batch.next_offset().0 - 1,
            count: batch.record_count(),
            producer: stamp.id,
            epoch: stamp.epoch,
            sequence: stamp.sequence,
            size: batch.bytes().len(),
            crc: u32::from_be_bytes(crc),
        }];
        let text = |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap());
        let mut cursor = batch.cursor();
        while let Some(record) = cursor.next() {
            let record = record.unwrap();
            lines.push(Self::Record {
                offset: record.offset.0,
                timestamp: record.timestamp.0,
                key: text(record.key),
                value: text(record.value),
                headers: record.headers.iter().map(|(name, _)| text(Some(name)).unwrap()).collect(),
            });
        }
        lines
    }
}

/// The word behind `name: `.
fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(&format!("{name}: "))?;
    rest.split(' ').next()
}

/// Fills a log with records of every kind; what lies in it, by partition.
async fn write(folder: &Path) -> BTreeMap<u32, Vec<Line>> {
    let log = EmbeddedLog::open(folder).unwrap();
    let mut spec = TopicSpec::new(TOPIC, PARTITIONS).unwrap();
    spec.config.segment_bytes = 40_000;
    log.create_topic(&spec).await.unwrap();
    let mut random = SEED;
    let mut number = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    say(&format!("seed {SEED:#x}"));
    for producer in ["first", "second"] {
        let mut producer = log.producer(&ProducerName(producer.to_owned())).await.unwrap();
        for _ in 0..60 {
            for partition in 0..PARTITIONS {
                let mut batch = BatchBuilder::default();
                for _ in 0..1 + number() % 20 {
                    let key = format!("key-{}", number() % 50);
                    let value = "v".repeat(usize::try_from(number() % 200).unwrap());
                    let headers = match number() % 4 {
                        0 => Headers::new().with("trace", &b"abc"[..]).with("empty", &b""[..]),
                        _ => Headers::new(),
                    };
                    let key = (number() % 5 > 0).then_some(key.as_bytes());
                    let value = (number() % 7 > 0).then_some(value.as_bytes());
                    let timestamp = 1_700_000_000_000 + i64::try_from(number() % 100_000).unwrap();
                    batch.push(Timestamp(timestamp), key, value, &headers);
                }
                producer.append(&place(partition), &mut batch).unwrap();
            }
            producer.commit(None).await.unwrap();
        }
    }
    let mut lines = BTreeMap::new();
    for partition in 0..PARTITIONS {
        let mut from = Offset(0);
        loop {
            let fetched = log.read(&place(partition), from, 1 << 20).await.unwrap();
            let Some(last) = fetched.batches.last() else { break };
            from = last.next_offset();
            let found: &mut Vec<Line> = lines.entry(partition).or_default();
            found.extend(fetched.batches.iter().flat_map(Line::of));
        }
    }
    log.close().await.unwrap();
    lines
}

fn place(partition: u32) -> TopicPartition {
    TopicPartition::new(TopicName::new(TOPIC).unwrap(), Partition(partition))
}

fn segment_files(folder: &Path, partition: u32) -> Vec<PathBuf> {
    let folder = folder.join("topics").join(TOPIC).join(partition.to_string());
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|f| f.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "log"));
    files.sort();
    files
}

/// Every entry points at a batch; how many there are.
fn check_index(jars: &Path, index: &Path, log: &[String]) -> usize {
    let places: Vec<(&str, &str)> = log
        .iter()
        .filter(|line| line.starts_with("baseOffset: "))
        .map(|line| (field(line, "lastOffset").unwrap(), field(line, "position").unwrap()))
        .collect();
    let lines = dump(jars, index, &[]);
    let entries = lines.iter().filter(|line| line.starts_with("offset: "));
    let count = entries
        .map(|line| (field(line, "offset").unwrap(), field(line, "position").unwrap()))
        // An empty index shows one entry at its beginning.
        .filter(|(_, position)| *position != "0")
        .inspect(|entry| assert!(places.contains(entry), "{} points nowhere: {entry:?}", index.display()))
        .count();
    let bytes = index.metadata().unwrap().len();
    assert_eq!(bytes, count as u64 * 8, "{}", index.display());
    count
}

/// Runs Kafka's tool over a file.
fn dump(jars: &Path, file: &Path, options: &[&str]) -> Vec<String> {
    let output = Command::new("java")
        .arg("-Xmx256m")
        .arg("-cp")
        .arg(jars.join("*"))
        .arg("org.apache.kafka.tools.DumpLogSegments")
        .args(options)
        .arg("--files")
        .arg(file)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    // It expects every file to begin at offset 0, and names the jump to where this one begins.
    let is_start = |line: &str| {
        line.starts_with("Non-consecutive offsets in ") || line.starts_with("  -1 is followed by ")
    };
    let complaints: Vec<&str> = errors.lines().filter(|line| !line.is_empty() && !is_start(line)).collect();
    assert!(output.status.success() && complaints.is_empty(), "{}: {errors}", file.display());
    for complaint in ["Mismatches", "out of order", "not valid", "Exception"] {
        assert!(!text.contains(complaint), "{}: {text}", file.display());
    }
    text.lines().map(str::to_owned).collect()
}

/// Where Kafka's jars are; fetched when they are not there yet. `None`, loudly, without Java.
fn jars() -> Option<PathBuf> {
    let works = |command: &str, option: &str| Command::new(command).arg(option).output().is_ok();
    if !works("java", "-version") || !works("mvn", "--version") {
        say("!!! NOT TESTED: whether Kafka's own tool reads our files, because java or mvn is missing");
        return None;
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"))).unwrap();
    let jars = cache.join("headwater").join(KAFKA);
    if jars.join("complete").exists() {
        return Some(jars);
    }
    let pom = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kafka/pom.xml");
    let fetched = Command::new("mvn")
        .args(["-q", "-B", "-f"])
        .arg(pom)
        .arg("dependency:copy-dependencies")
        .arg(format!("-DoutputDirectory={}", jars.display()))
        .output()
        .unwrap();
    assert!(fetched.status.success(), "mvn: {}", String::from_utf8_lossy(&fetched.stdout));
    std::fs::write(jars.join("complete"), "").unwrap();
    Some(jars)
}

/// To the terminal, also from a test that passes.
fn say(text: &str) {
    writeln!(std::io::stderr(), "{text}").unwrap();
}
