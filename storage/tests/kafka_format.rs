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
    sync::Arc,
};

use headwater_core::{
    Admin, BatchBuilder, Compression, Headers, Log, ManualClock, Offset, Partition, ProducerName,
    RecordBatch, Timestamp, TimestampType, TopicName, TopicPartition, TopicSpec,
};
use headwater_storage::log::{EmbeddedLog, LogOptions};

const KAFKA: &str = "kafka-4.3.1";
const TOPIC: &str = "every.feature_of-a-topic";
/// A topic, its partitions, and settings in which it differs.
type Topic = (&'static str, u32, &'static [(&'static str, &'static str)]);
const TOPICS: [Topic; 5] = [
    (TOPIC, 3, &[]),
    ("lz4", 1, &[("compression.type", "lz4")]),
    ("zstd", 1, &[("compression.type", "zstd")]),
    ("append-time", 1, &[("message.timestamp.type", "LogAppendTime"), ("compression.type", "lz4")]),
    ("front-deleted", 1, &[]),
];
const SEED: u64 = 0x4845_4144;

#[test]
fn kafka_reads_every_segment_and_index() {
    let Some(jars) = jars() else { return };
    let folder = tempfile::tempdir().unwrap();
    let expected = futures::executor::block_on(write(folder.path()));
    let logs: Vec<PathBuf> = expected.keys().flat_map(|at| segment_files(folder.path(), at)).collect();
    let with = |extension| -> Vec<PathBuf> { logs.iter().map(|log| log.with_extension(extension)).collect() };
    let dumped = dump(&jars, &logs, &["--print-data-log"]);
    let indexes = dump(&jars, &[with("index"), with("timeindex")].concat(), &[]);
    let (mut segments, mut index_entries, mut time_entries) = (0, 0, 0);
    for (at, expected) in &expected {
        let files = segment_files(folder.path(), at);
        let first = files[0].file_stem().unwrap();
        assert_eq!(first != "00000000000000000000", at.topic.as_str() == "front-deleted", "{at}");
        assert!(files.len() > 2, "the test wants several segments. {at}: {files:?}");
        let mut found = Vec::new();
        for log in &files {
            let lines = &dumped[log];
            found.extend(lines.iter().filter_map(|line| Line::parse(line)));
            index_entries += check_index(&log.with_extension("index"), &indexes, lines);
            time_entries += check_time_index(&log.with_extension("timeindex"), &indexes, lines);
            segments += 1;
        }
        assert_eq!(expected.len(), found.len(), "{at}");
        for (expected, found) in expected.iter().zip(&found) {
            assert_eq!(expected, found, "{at}");
        }
    }
    assert!(index_entries > 10, "the test wants index entries: {index_entries}");
    assert!(time_entries > 10, "the test wants time index entries: {time_entries}");
    let records = expected.values().flatten().filter(|line| matches!(line, Line::Record { .. })).count();
    say(&format!(
        "Kafka's DumpLogSegments agrees on {records} records in {segments} segments, {index_entries} index entries and {time_entries} time index entries"
    ));
}

/// Compacted segments: holes, batches without records, merged segments, times when tombstones may go.
#[test]
fn kafka_reads_compacted_segments() {
    let Some(jars) = jars() else { return };
    let folder = tempfile::tempdir().unwrap();
    let expected = futures::executor::block_on(write_compacted(folder.path()));
    let mut horizons = 0;
    for (at, expected) in &expected {
        let files = segment_files(folder.path(), at);
        let with = |extension| files.iter().map(move |log| log.with_extension(extension)).collect::<Vec<_>>();
        let dumped = dump(&jars, &files, &["--print-data-log"]);
        let indexes = dump(&jars, &[with("index"), with("timeindex")].concat(), &[]);
        let lines = || files.iter().flat_map(|log| &dumped[log]);
        let found: Vec<_> = lines().filter_map(|line| Line::parse(line)).collect();
        assert_eq!(&found, expected, "{at}");
        for log in &files {
            check_index(&log.with_extension("index"), &indexes, &dumped[log]);
            check_time_index(&log.with_extension("timeindex"), &indexes, &dumped[log]);
        }
        horizons += lines()
            .filter(|line| field(line, "deleteHorizonMs").is_some_and(|ms| ms == "OptionalLong[86400005]"))
            .count();
        let batches = expected.iter().filter_map(|line| match line {
            Line::Batch { base, last, count, .. } => Some((*base, *last, *count)),
            Line::Record { .. } => None,
        });
        let batches: Vec<_> = batches.collect();
        assert!(
            batches.iter().zip(batches.iter().skip(1)).all(|((_, last, _), (base, ..))| base == &(last + 1))
        );
        assert!(batches.iter().any(|(.., count)| *count == 0), "the test wants holes. {at}");
    }
    assert!(horizons > 0, "the test wants tombstones");
    let batches: usize = expected.values().map(Vec::len).sum();
    say(&format!(
        "Kafka's DumpLogSegments agrees on {batches} compacted batches and records, {horizons} with a delete horizon"
    ));
}

/// Fills topics with few keys, and compacts them; what lies in them then.
async fn write_compacted(folder: &Path) -> BTreeMap<TopicPartition, Vec<Line>> {
    let options = LogOptions { clock: Arc::new(ManualClock::new(Timestamp(5))), ..LogOptions::default() };
    let log = EmbeddedLog::open_with(folder, options).unwrap();
    let mut producer = log.producer(&ProducerName("p".to_owned())).await.unwrap();
    let mut lines = BTreeMap::new();
    for (topic, codec) in [("plain", "uncompressed"), ("lz4-compacted", "lz4"), ("zstd-compacted", "zstd")] {
        let mut spec = TopicSpec::new(topic, 1).unwrap();
        spec.config.segment_bytes = 6_000;
        for (key, value) in [("cleanup.policy", "compact"), ("compression.type", codec)] {
            spec.config.set(key, value).unwrap();
        }
        log.create_topic(&spec).await.unwrap();
        let at = TopicPartition::new(spec.name, Partition(0));
        for round in 0..200i64 {
            let mut batch = BatchBuilder::default();
            for number in 0..1 + round % 7 {
                let key = format!("key-{}", (round * 3 + number) % 19);
                let value = format!("value-{round}").repeat(20);
                let value = (key != "key-7").then_some(value.as_bytes());
                let headers = Headers::new().with("round", round.to_string().into_bytes());
                batch.push(Timestamp(1_700_000_000_000 + round % 10), Some(key.as_bytes()), value, &headers);
            }
            producer.append(&at, &mut batch).unwrap();
            producer.commit(None).await.unwrap();
            if round == 120 {
                log.clean().await.unwrap();
            }
        }
        let cleaned = log.clean().await.unwrap();
        assert!(cleaned.kept_bytes < cleaned.compacted_bytes, "{cleaned:?}");
        let mut from = Offset(0);
        let found: &mut Vec<Line> = lines.entry(at.clone()).or_default();
        loop {
            let fetched = log.read(&at, from, 1 << 20).await.unwrap();
            let Some(last) = fetched.batches.last() else { break };
            from = last.next_offset();
            found.extend(fetched.batches.iter().flat_map(Line::of));
        }
    }
    log.close().await.unwrap();
    lines
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
        codec: String,
    },
    Record {
        offset: u64,
        timestamp: i64,
        /// Whose time it is.
        by: TimestampType,
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
                codec: number("compresscodec").to_lowercase(),
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
        let by = match field(line, "LogAppendTime") {
            Some(_) => TimestampType::LogAppendTime,
            None => TimestampType::CreateTime,
        };
        Some(Self::Record {
            offset: number("offset").parse().unwrap(),
            timestamp: number(&by.to_string()).parse().unwrap(),
            by,
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
            codec: batch.compression().to_string(),
        }];
        let text = |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap());
        let mut cursor = batch.cursor();
        while let Some(record) = cursor.next() {
            let record = record.unwrap();
            lines.push(Self::Record {
                offset: record.offset.0,
                timestamp: record.timestamp.0,
                by: batch.timestamp_type(),
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
async fn write(folder: &Path) -> BTreeMap<TopicPartition, Vec<Line>> {
    let log = EmbeddedLog::open(folder).unwrap();
    for (topic, partitions, settings) in TOPICS {
        let mut spec = TopicSpec::new(topic, partitions).unwrap();
        spec.config.segment_bytes = 40_000;
        settings.iter().for_each(|(key, value)| spec.config.set(key, value).unwrap());
        log.create_topic(&spec).await.unwrap();
    }
    say(&format!("seed {SEED:#x}"));
    fill(&log).await;
    let mut lines = BTreeMap::new();
    for at in places() {
        let mut from = log.offsets(&at).await.unwrap().earliest;
        loop {
            let fetched = log.read(&at, from, 1 << 20).await.unwrap();
            let Some(last) = fetched.batches.last() else { break };
            from = last.next_offset();
            let found: &mut Vec<Line> = lines.entry(at.clone()).or_default();
            found.extend(fetched.batches.iter().flat_map(Line::of));
        }
    }
    log.close().await.unwrap();
    lines
}

async fn fill(log: &EmbeddedLog) {
    let mut random = SEED;
    let mut number = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    for producer in ["first", "second"] {
        let mut producer = log.producer(&ProducerName(producer.to_owned())).await.unwrap();
        for _ in 0..60 {
            for at in places() {
                let mut batch = BatchBuilder::default();
                batch.set_compression(match (at.topic.as_str(), number() % 3) {
                    (TOPIC, 1) => Compression::Lz4,
                    (TOPIC, 2) => Compression::Zstd,
                    _ => Compression::None,
                });
                for _ in 0..1 + number() % 20 {
                    let key = format!("key-{}", number() % 50);
                    let letters = (0..number() % 400).map(|_| char::from(b'a' + (number() % 26) as u8));
                    let value: String = letters.collect();
                    let headers = match number() % 4 {
                        0 => Headers::new().with("trace", &b"abc"[..]).with("empty", &b""[..]),
                        _ => Headers::new(),
                    };
                    let key = (number() % 5 > 0).then_some(key.as_bytes());
                    let value = (number() % 7 > 0).then_some(value.as_bytes());
                    let timestamp = 1_700_000_000_000 + i64::try_from(number() % 100_000).unwrap();
                    batch.push(Timestamp(timestamp), key, value, &headers);
                }
                producer.append(&at, &mut batch).unwrap();
            }
            producer.commit(None).await.unwrap();
        }
    }
    // To the begin of a segment: the tool shows whole segments, and the log begins where the first one does.
    log.checkpoint().await.unwrap();
    let at = TopicPartition::new(TopicName::new("front-deleted").unwrap(), Partition(0));
    let segments = segment_files(log.folder(), &at);
    let before = segments[2].file_stem().unwrap().to_str().unwrap().parse().unwrap();
    log.delete_records(&at, Offset(before)).await.unwrap();
}

fn places() -> impl Iterator<Item = TopicPartition> {
    TOPICS.into_iter().flat_map(|(topic, partitions, _)| {
        let topic = TopicName::new(topic).unwrap();
        (0..partitions).map(move |number| TopicPartition::new(topic.clone(), Partition(number)))
    })
}

fn segment_files(folder: &Path, at: &TopicPartition) -> Vec<PathBuf> {
    let folder = folder.join("topics").join(at.topic.as_str()).join(at.partition.to_string());
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|f| f.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "log"));
    files.sort();
    files
}

type Dumped = BTreeMap<PathBuf, Vec<String>>;

/// Every entry points at a batch; how many there are.
fn check_index(index: &Path, dumped: &Dumped, log: &[String]) -> usize {
    let places: Vec<(&str, &str)> = log
        .iter()
        .filter(|line| line.starts_with("baseOffset: "))
        .map(|line| (field(line, "lastOffset").unwrap(), field(line, "position").unwrap()))
        .collect();
    let entries = dumped[index].iter().filter(|line| line.starts_with("offset: "));
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

/// Every entry is the highest timestamp so far, where it was first reached; how many there are.
fn check_time_index(index: &Path, dumped: &Dumped, log: &[String]) -> usize {
    let mut newest = -1;
    let mut risen = Vec::new();
    for line in log.iter().filter(|line| line.starts_with("baseOffset: ")) {
        let time: i64 = ["CreateTime", "LogAppendTime"]
            .into_iter()
            .find_map(|name| field(line, name))
            .and_then(|time| time.parse().ok())
            .unwrap_or_else(|| panic!("no time in `{line}`"));
        if time > newest {
            newest = time;
            risen.push((time.to_string(), field(line, "lastOffset").unwrap().to_owned()));
        }
    }
    let entries = dumped[index].iter().filter(|line| line.starts_with("timestamp: "));
    let entries: Vec<_> = entries
        .map(|line| (field(line, "timestamp").unwrap().to_owned(), field(line, "offset").unwrap().to_owned()))
        .filter(|(time, _)| time != "-1")
        .inspect(|entry| assert!(risen.contains(entry), "{}: {entry:?}", index.display()))
        .collect();
    let bytes = index.metadata().unwrap().len();
    assert_eq!(bytes, entries.len() as u64 * 12, "{}", index.display());
    entries.len()
}

/// Runs Kafka's tool over files; what it says of each.
fn dump(jars: &Path, files: &[PathBuf], options: &[&str]) -> Dumped {
    let names: Vec<&str> = files.iter().map(|file| file.to_str().unwrap()).collect();
    let output = Command::new("java")
        .arg("-Xmx256m")
        .arg("-cp")
        .arg(jars.join("*"))
        .arg("org.apache.kafka.tools.DumpLogSegments")
        .args(options)
        .arg("--files")
        .arg(names.join(","))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    // It expects every file to begin at offset 0, and names the jump to where this one begins, and those over holes.
    let is_gap =
        |line: &str| line.starts_with("Non-consecutive offsets in ") || line.contains(" is followed by ");
    let complaints: Vec<&str> = errors.lines().filter(|line| !line.is_empty() && !is_gap(line)).collect();
    assert!(output.status.success() && complaints.is_empty(), "{errors}");
    for complaint in ["ismatch", "out of order", "not found", "not valid", "Exception"] {
        let found = text.lines().find(|line| line.contains(complaint));
        assert!(found.is_none(), "{found:?}");
    }
    let mut dumped = Dumped::new();
    let mut lines = None;
    for line in text.lines() {
        match line.strip_prefix("Dumping ") {
            Some(file) => lines = Some(dumped.entry(PathBuf::from(file)).or_default()),
            None => lines.iter_mut().for_each(|lines| lines.push(line.to_owned())),
        }
    }
    assert_eq!(dumped.len(), files.len());
    dumped
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
