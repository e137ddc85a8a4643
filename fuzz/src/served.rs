//! Opens a log whose files are not what was written, asks it for everything, and opens it again.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
    time::Duration,
};

use futures::executor::block_on;
use headwater_core::{
    Admin, BatchBuilder, Error, ErrorKind, Headers, Log, ManualClock, Offset, Partition, ProducerName,
    Result, Timestamp, TopicPartition, TopicSpec,
};
use headwater_storage::log::{
    Durability, EmbeddedLog, LogOptions, ObservedLog, SegmentDump, Verifier, segment_files,
};

use crate::record::{OwnedRecord, owned};

/// Read at once: less than some batches have, and more than most.
const READ_BYTES: usize = 2000;
/// Topics may have a million partitions. Who has read these has seen how the others are read.
const PARTITIONS_READ: u32 = 5;

/// So small that everything happens often: journal files, spills, segments that are opened and closed.
#[must_use]
pub fn options(tail_bytes_max: usize) -> LogOptions {
    LogOptions {
        durability: Durability::Os,
        journal_segment_bytes: 8 << 10,
        checkpoint_bytes: 32 << 10,
        filed_bytes_min: 100,
        tail_bytes_max,
        open_files_max: 3,
        cleaner_bytes_max: 4 << 10,
        // Only when asked for.
        retention_check: Duration::from_secs(24 * 60 * 60),
        clock: Arc::new(ManualClock::new(Timestamp(1_000_000))),
        ..LogOptions::default()
    }
}

/// A record and where it is.
pub type Placed = (TopicPartition, OwnedRecord);

/// A position that a group has committed.
pub type Position = (String, TopicPartition, u64, Vec<u8>);

/// What a partition serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServedPartition {
    pub earliest: Offset,
    pub end: Offset,
    pub records: Vec<OwnedRecord>,
    /// What kept us from reading more, and where.
    pub damage: Option<(Offset, ErrorKind)>,
}

/// What a log serves.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Served {
    pub topics: Vec<TopicSpec>,
    pub partitions: BTreeMap<TopicPartition, ServedPartition>,
    pub positions: BTreeSet<Position>,
}

impl Served {
    /// Reads everything.
    ///
    /// # Panics
    /// When what a log says contradicts itself, or what it has cannot be asked for.
    pub fn of(log: &dyn Admin) -> Self {
        let mut served = Self { topics: block_on(log.topics()).expect("it is open"), ..Self::default() };
        for topic in &served.topics {
            let last = topic.partitions.get() - 1;
            let numbers: BTreeSet<_> = (0..last.min(PARTITIONS_READ)).chain([last]).collect();
            for number in numbers {
                let partition = TopicPartition::new(topic.name.clone(), Partition(number));
                served.partitions.insert(partition.clone(), read(log, &partition));
            }
        }
        for group in block_on(log.groups()).expect("it is open") {
            for (partition, at) in block_on(log.positions(&group)).expect("it is open") {
                let (offset, metadata) = (at.offset.0, at.metadata.to_vec());
                served.positions.insert((group.0.clone(), partition, offset, metadata));
            }
        }
        served
    }

    /// All records that were read.
    pub fn records(&self) -> impl Iterator<Item = Placed> + '_ {
        let each = |(partition, served): (&TopicPartition, &ServedPartition)| {
            served
                .records
                .iter()
                .map({
                    let partition = partition.clone();
                    move |record| (partition.clone(), record.clone())
                })
                .collect::<Vec<_>>()
        };
        self.partitions.iter().flat_map(each)
    }
}

fn read(log: &dyn Log, partition: &TopicPartition) -> ServedPartition {
    let offsets = block_on(log.offsets(partition)).expect("the topic has it");
    assert!(offsets.earliest <= offsets.end, "{partition}: {offsets:?}");
    let mut served =
        ServedPartition { earliest: offsets.earliest, end: offsets.end, records: Vec::new(), damage: None };
    let mut next = offsets.earliest;
    while next < served.end {
        match read_from(log, partition, &mut next, &mut served) {
            Ok(()) => {}
            Err(error) => {
                if let Some(end) = taken_back(log, partition, next) {
                    served.end = end;
                    break;
                }
                assert_eq!(error.kind(), ErrorKind::Corrupt, "{}", error.report());
                served.damage = Some((next, error.kind()));
                break;
            }
        }
    }
    served
}

/// Where a log ends now, if that is at or before `next`. Who looks at a log from outside may name an end that its last owner showed without a
/// sync, and takes it back when what is before it turns out to be lost; an owner never does.
fn taken_back(log: &dyn Log, partition: &TopicPartition, next: Offset) -> Option<Offset> {
    match block_on(log.offsets(partition)) {
        Ok(offsets) => Some(offsets.end).filter(|end| *end <= next),
        // Its topic was lost, too.
        Err(error) => (error.kind() == ErrorKind::Invalid).then_some(next),
    }
}

/// Looks for records by time.
fn search(log: &dyn Log, partition: &TopicPartition) {
    for time in [1010, i64::MAX] {
        if let Err(error) = block_on(log.offset_at(partition, Timestamp(time))) {
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{}", error.report());
        }
    }
}

fn read_from(
    log: &dyn Log,
    partition: &TopicPartition,
    next: &mut Offset,
    served: &mut ServedPartition,
) -> Result<()> {
    let fetched = block_on(log.read(partition, *next, READ_BYTES))?;
    if fetched.batches.is_empty() {
        let end = taken_back(log, partition, *next);
        served.end = end.unwrap_or_else(|| panic!("{partition}: nothing at {next} of {}", served.end));
        return Ok(());
    }
    for batch in &fetched.batches {
        let (base, end) = (batch.base_offset(), batch.next_offset());
        assert!(
            end > *next && end <= served.end,
            "{partition}: {batch:?} read from {next} of {}",
            served.end
        );
        assert!(base <= *next || base > served.earliest, "{partition}: {batch:?} read from {next}");
        let mut cursor = batch.cursor();
        while let Some(record) = cursor.next() {
            let record = record?;
            if record.offset >= served.earliest {
                served.records.push(owned(&record));
            }
        }
        *next = end;
    }
    Ok(())
}

/// What is done with a log that could be opened.
#[derive(Debug, Clone, Copy)]
pub struct Exercise {
    /// How much it keeps in memory.
    pub tail_bytes_max: usize,
    /// Write some records to it.
    pub write: bool,
    /// Delete and compact what its settings say.
    pub clean: bool,
    /// Look at what it leaves from outside.
    pub observe: bool,
}

/// Opens the log in `folder`, shows what it serves to `look`, closes it, and opens it again.
///
/// # Panics
/// When one of these goes wrong, or what is served is not the same in the end.
pub fn exercise(folder: &Path, exercise: Exercise, look: impl FnOnce(&Served)) {
    let options = || options(exercise.tail_bytes_max);
    let log = match EmbeddedLog::open_with(folder, options()) {
        Ok(log) => log,
        Err(error) => {
            check_refusal(&error);
            let again = EmbeddedLog::open_with(folder, options()).expect_err("nothing has changed");
            return assert_eq!(again.kind(), error.kind(), "{}", again.report());
        }
    };
    let mut served = Served::of(&log);
    look(&served);
    served.partitions.keys().for_each(|partition| search(&log, partition));
    if exercise.write {
        write(&log);
    }
    if exercise.clean {
        block_on(log.clean()).map(drop).unwrap_or_else(|error| check_refusal(&error));
    }
    if exercise.write || exercise.clean {
        served = Served::of(&log);
    }
    block_on(log.close()).expect("the disk is good");
    drop(log);
    if exercise.observe {
        look_from_outside(folder, &served);
    }
    let again = EmbeddedLog::open_with(folder, options()).expect("it was closed without an error");
    let report = again.recovery();
    assert_eq!((report.groups_replayed, report.torn_bytes_cut), (0, 0), "it was closed without an error");
    assert_eq!(Served::of(&again), served, "it serves what it did");
    block_on(again.close()).expect("the disk is good");
}

/// Whether an error says that what is on the disk is not what was written, or of another version.
fn check_refusal(error: &Error) {
    assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Invalid), "{}", error.report());
}

fn write(log: &EmbeddedLog) {
    let mut producer = block_on(log.producer(&ProducerName("fuzz".into()))).expect("it is open");
    let topics = block_on(log.topics()).expect("it is open");
    let mut batch = BatchBuilder::default();
    for topic in topics.iter().take(4) {
        for partition in topic.topic_partitions().take(2) {
            batch.push(Timestamp(9), Some(b"fuzz"), Some(b"written later"), &Headers::new());
            if let Err(error) = producer.append(&partition, &mut batch) {
                check_refusal(&error);
                batch.clear();
            }
        }
    }
    block_on(producer.commit(None)).map(drop).unwrap_or_else(|error| check_refusal(&error));
}

/// Looks at a folder that nobody owns.
fn look_from_outside(folder: &Path, served: &Served) {
    let observed = ObservedLog::open(folder).expect("its owner could open it");
    assert_eq!(block_on(observed.topics()).expect("its owner could"), served.topics);
    let verifier = Verifier::new(&observed);
    for (partition, owners) in &served.partitions {
        dump(folder, partition);
        let found = block_on(verifier.partition(partition, &mut |_, _| {}));
        let found = found.expect("it can be looked at").expect("it is there");
        if owners.damage.is_some() {
            // It would take its time to be sure.
            assert!(!found.damages.is_empty(), "{partition} cannot be read, and is found good");
        } else {
            assert_eq!(&read(&observed, partition), owners, "an observer sees what the owner does");
        }
    }
}

/// Decodes all that stands in the segment files of a partition.
pub fn dump(folder: &Path, partition: &TopicPartition) {
    for file in segment_files(folder, partition).expect("the folder can be listed") {
        for dumped in SegmentDump::open(&file).expect("the file is there") {
            let Ok(batch) = dumped.and_then(|dumped| dumped.batch) else { continue };
            let mut cursor = batch.cursor();
            while cursor.next().is_some_and(|record| record.is_ok()) {}
        }
    }
}

/// Looks at a folder in which anything may be.
pub fn observe(folder: &Path) -> Option<Served> {
    let observed = ObservedLog::open(folder);
    let observed = observed.inspect_err(check_refusal).ok()?;
    match block_on(observed.topics()) {
        Ok(_) => Some(Served::of(&observed)),
        Err(error) => {
            check_refusal(&error);
            None
        }
    }
}
