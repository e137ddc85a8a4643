//! The life of a small log, of which the targets take what its folder held at some moments: closed, killed, and killed
//! at each step of a compaction.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use futures::executor::block_on;
use headwater_core::{
    Admin, BatchBuilder, Committed, Compression, GroupId, Headers, Log, Offset, Partition, Positions,
    Producer, ProducerName, Timestamp, TopicConfig, TopicName, TopicPartition, TopicSpec,
};
use headwater_storage::log::{EmbeddedLog, LogOptions};

use crate::{
    folder::{self, Files, Scratch},
    served::{self, Placed, Position, Served},
};

/// What a log held at some moments, and all that was ever written to it.
#[derive(Debug, Default)]
pub struct History {
    pub moments: Vec<Files>,
    pub records: BTreeSet<Placed>,
    pub positions: BTreeSet<Position>,
}

/// A log in which nothing has happened.
///
/// # Panics
/// When it cannot be made.
#[must_use]
pub fn empty() -> Files {
    let scratch = Scratch::default();
    block_on(EmbeddedLog::open_with(scratch.log(), options()).expect("a new folder").close())
        .expect("a good disk");
    folder::read(&scratch.log())
}

/// A log whose owner was killed: in its journal is all that can be.
#[must_use]
pub fn killed() -> Files {
    History::lived().moments.swap_remove(KILLED)
}

/// Which moment has a full journal.
const KILLED: usize = 1;

fn options() -> LogOptions {
    // Checkpoints only when asked for: what is copied stands still.
    LogOptions { checkpoint_bytes: u64::MAX, ..served::options(1500) }
}

impl History {
    /// Lives it.
    ///
    /// # Panics
    /// When the log does not do what is asked.
    #[must_use]
    pub fn lived() -> Self {
        let scratch = Scratch::default();
        let log = EmbeddedLog::open_with(scratch.log(), options()).expect("a new folder");
        create(&log);
        let mut producer = block_on(log.producer(&ProducerName("p".into()))).expect("it is open");
        let mut history = Self::default();
        (0..8).for_each(|round| commit(&mut *producer, round, true));
        history.note(&log);
        block_on(log.checkpoint()).expect("a good disk");
        history.moments.push(folder::read(&scratch.log()));

        (8..12).for_each(|round| commit(&mut *producer, round, true));
        history.note(&log);
        change(&log);
        (12..14).for_each(|round| commit(&mut *producer, round, false));
        history.note(&log);
        history.moments.push(folder::read(&scratch.log()));
        assert_eq!(history.moments.len() - 1, KILLED);

        // What became small by one compaction becomes one segment by the next.
        block_on(log.clean()).expect("a good disk");
        (14..18).for_each(|round| commit(&mut *producer, round, false));
        history.note(&log);
        block_on(log.checkpoint()).expect("a good disk");
        let before = folder::read(&scratch.log());
        block_on(log.clean()).expect("a good disk");
        let after = folder::read(&scratch.log());
        history.moments.extend(interrupted(&before, &after));
        history.note(&log);
        // The log knows the last ones only.
        let round = |round: u64| ("g".into(), partition("t", 0), round, round.to_string().into_bytes());
        history.positions.extend((0..18).map(round));
        history
            .positions
            .extend(["short", "lived"].map(|group| (group.into(), partition("t", 1), 2, Vec::new())));
        drop(producer);
        block_on(log.close()).expect("a good disk");
        history.moments.extend([after, folder::read(&scratch.log())]);
        history
    }

    fn note(&mut self, log: &EmbeddedLog) {
        let served = Served::of(log);
        assert!(served.partitions.values().all(|partition| partition.damage.is_none()));
        self.records.extend(served.records());
        self.positions.extend(served.positions);
    }
}

/// A partition by name and number.
///
/// # Panics
/// When no topic can be called so.
#[must_use]
pub fn partition(topic: &str, number: u32) -> TopicPartition {
    TopicPartition::new(TopicName::new(topic).expect("a name"), Partition(number))
}

/// Keys and values.
type Settings = &'static [(&'static str, &'static str)];

fn create(log: &EmbeddedLog) {
    let topics: [(&str, u32, u64, Settings); 5] = [
        ("t", 2, 700, &[]),
        ("packed", 1, 900, &[]),
        ("compact", 1, 600, &[("cleanup.policy", "compact"), ("min.cleanable.dirty.ratio", "0")]),
        ("indexed", 1, 20_000, &[("message.timestamp.type", "LogAppendTime")]),
        ("gone", 1, 700, &[]),
    ];
    for (name, partitions, segment_bytes, others) in topics {
        let mut config = TopicConfig { segment_bytes, ..TopicConfig::default() };
        others.iter().for_each(|(key, value)| config.set(key, value).expect("a setting"));
        let spec = TopicSpec { config, ..TopicSpec::new(name, partitions).expect("a name") };
        block_on(log.create_topic(&spec)).expect("a good disk");
    }
}

/// Records of all topics and a position, in one group.
fn commit(producer: &mut dyn Producer, round: u64, gone: bool) {
    let time = Timestamp(1000 + i64::try_from(round).expect("a small number"));
    let text = |length: usize| format!("{round} {}", "value ".repeat(length)).into_bytes();
    let mut put = |to: TopicPartition, codec, records: &[(&str, Option<Vec<u8>>)]| {
        let mut batch = BatchBuilder::default();
        batch.set_compression(codec);
        for (key, value) in records {
            let headers = Headers::new().with("round", round.to_string());
            batch.push(time, Some(key.as_bytes()), value.as_deref(), &headers);
        }
        producer.append(&to, &mut batch).expect("the topic is there");
    };
    put(partition("t", 0), Compression::None, &[("a", Some(text(3))), ("b", None)]);
    put(partition("t", 1), Compression::None, &[("c", Some(text(5)))]);
    let codec = if round.is_multiple_of(2) { Compression::Lz4 } else { Compression::Zstd };
    put(partition("packed", 0), codec, &[("a", Some(text(30))), ("b", Some(text(20)))]);
    let key = if round.is_multiple_of(3) { "x" } else { "y" };
    put(partition("compact", 0), Compression::None, &[(key, Some(text(6))), ("z", Some(text(1)))]);
    put(partition("indexed", 0), Compression::None, &[("i", Some(text(400)))]);
    if gone {
        put(partition("gone", 0), Compression::None, &[("g", Some(text(4)))]);
    }
    let committed = Committed { offset: Offset(round), metadata: Bytes::from(round.to_string()) };
    let positions = Positions::new(GroupId("g".into()), vec![(partition("t", 0), committed)]);
    block_on(producer.commit(Some(&positions))).expect("a good disk");
}

/// What may happen to topics and groups, each once.
fn change(log: &EmbeddedLog) {
    let committed = Committed { offset: Offset(2), metadata: Bytes::new() };
    for group in ["short", "lived"] {
        let positions = Positions::new(GroupId(group.into()), vec![(partition("t", 1), committed.clone())]);
        block_on(log.commit_positions(&positions)).expect("a good disk");
    }
    block_on(log.delete_group(&GroupId("short".into()))).expect("it is there");
    block_on(log.delete_topic(&TopicName::new("gone").expect("a name"))).expect("it is there");
    block_on(log.delete_records(&partition("t", 1), Offset(5))).expect("they are there");
    let changes = headwater_core::TopicChanges {
        partitions: std::num::NonZeroU32::new(3),
        settings: vec![("segment.bytes".into(), Some("800".into()))],
    };
    block_on(log.alter_topic(&TopicName::new("t").expect("a name"), &changes)).expect("it is there");
}

/// The steps between the two folders at which a compaction may be interrupted, as `compaction/swap.rs` counts them.
fn interrupted(before: &Files, after: &Files) -> Vec<Files> {
    let folder = Path::new("topics/compact/0");
    let bases = |files: &Files| -> Vec<u64> {
        let logs = files.keys().filter(|path| path.starts_with(folder));
        let logs = logs.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
        logs.map(|path| {
            path.file_stem().and_then(|s| s.to_str()).and_then(|s| s.parse().ok()).expect("a number")
        })
        .collect()
    };
    let (old, new) = (bases(before), bases(after));
    let base = new[0];
    let next = new[1];
    assert!(old.iter().filter(|number| (base..next).contains(number)).count() > 1, "{old:?} became {new:?}");
    let files_of = |base: u64| ["log", "index", "timeindex"].map(|e| folder.join(format!("{base:020}.{e}")));
    let marker = folder.join(format!("{base:020}-{next:020}.swap"));

    let mut making = before.clone();
    for path in files_of(base) {
        let made = after.get(&path).cloned().unwrap_or_default();
        making.insert(PathBuf::from(format!("{}.cleaned", path.display())), made);
    }
    let mut decided = making.clone();
    decided.insert(marker.clone(), Vec::new());
    let mut named = before.clone();
    named.insert(marker.clone(), Vec::new());
    for path in files_of(base) {
        named.insert(path.clone(), after.get(&path).cloned().unwrap_or_default());
    }
    let mut removed = named.clone();
    for base in old.iter().filter(|number| (base + 1..next).contains(number)) {
        files_of(*base).iter().for_each(|path| drop(removed.remove(path)));
    }
    vec![making, decided, named, removed]
}
