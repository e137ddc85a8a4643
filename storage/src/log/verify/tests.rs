//! Logs are damaged, and every damage is found where it is.

use std::fs;

use futures::executor::block_on;
use headwater_core::{
    Admin, BatchBuilder, CleanupPolicy, Headers, Partition, ProducerName, TopicConfig, TopicName, TopicSpec,
};

use super::*;
use crate::log::EmbeddedLog;

const BATCHES: u64 = 200;

fn place() -> TopicPartition {
    TopicPartition::new(TopicName::new("t").unwrap(), Partition(0))
}

fn spec(cleanup_policy: CleanupPolicy) -> TopicSpec {
    let config = TopicConfig { segment_bytes: 20_000, cleanup_policy, ..TopicConfig::default() };
    TopicSpec { config, ..TopicSpec::new("t", 1).unwrap() }
}

fn log(folder: &Path) -> EmbeddedLog {
    log_of(folder, &spec(CleanupPolicy::Delete))
}

/// A log of one partition in several segments, with an index each; closed unless it is wanted open.
fn log_of(folder: &Path, spec: &TopicSpec) -> EmbeddedLog {
    let log = EmbeddedLog::open(folder).unwrap();
    block_on(async {
        log.create_topic(spec).await.unwrap();
        let mut producer = log.producer(&ProducerName("p".into())).await.unwrap();
        let mut batch = BatchBuilder::default();
        for number in 0..BATCHES {
            for _ in 0..2 {
                batch.push(Timestamp(number as i64), Some(b"key"), Some(&[b'v'; 100]), &Headers::new());
            }
            producer.append(&place(), &mut batch).unwrap();
        }
        producer.commit(None).await.unwrap();
        log.checkpoint().await.unwrap();
    });
    log
}

fn verified(folder: &Path) -> VerifiedPartition {
    let observed = ObservedLog::open(folder).unwrap();
    let verifier = Verifier::new(&observed);
    let mut told = (0, 0);
    let mut progress = |bytes, records| told = (told.0 + bytes, told.1 + records);
    let found = block_on(verifier.partition(&place(), &mut progress)).unwrap().unwrap();
    if found.damages.is_empty() {
        assert_eq!(told, (found.bytes, found.records));
        assert_eq!(verifier.bytes(&place()).unwrap(), found.bytes);
    }
    found
}

fn segments(folder: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(folder.join("topics/t/0")).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|e| e == "log")).collect();
    files.sort();
    files
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_sound_log_has_no_damage() {
    let folder = tempfile::tempdir().unwrap();
    let _log = log(folder.path());
    let found = verified(folder.path());
    assert_eq!(found.damages, []);
    assert_eq!((found.batches, found.records), (BATCHES, 2 * BATCHES));
    assert_eq!(found.segments, segments(folder.path()).len() as u64);
    assert!(found.segments > 2, "the test wants closed segments: {}", found.segments);
    let file = segments(folder.path())[0].with_extension("index");
    assert!(fs::metadata(&file).unwrap().len() >= 2 * index::ENTRY_BYTES, "the test wants index entries");
    // An index is made again when it is missing.
    fs::remove_file(file).unwrap();
    assert_eq!(verified(folder.path()).damages, []);
}

#[test]
fn what_is_not_in_files_yet_is_read_from_the_journal() {
    let folder = tempfile::tempdir().unwrap();
    let log = log(folder.path());
    block_on(async {
        let mut producer = log.producer(&ProducerName("p".into())).await.unwrap();
        let mut batch = BatchBuilder::default();
        batch.push(Timestamp(5), None, Some(b"later"), &Headers::new());
        producer.append(&place(), &mut batch).unwrap();
        producer.commit(None).await.unwrap();
    });
    let observed = ObservedLog::open(folder.path()).unwrap();
    let verifier = Verifier::new(&observed);
    let found = block_on(verifier.partition(&place(), &mut |_, _| {})).unwrap().unwrap();
    assert_eq!((found.damages.len(), found.records), (0, 2 * BATCHES + 1));
}

#[test]
fn every_flipped_byte_of_a_batch_is_found_where_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let _log = log(folder.path());
    let path = &segments(folder.path())[1];
    let base: u64 = path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    let size = SegmentDump::open(path).unwrap().next().unwrap().unwrap().size;
    for at in 0..size {
        flip(path, (size + at) as usize);
        let found = verified(folder.path());
        flip(path, (size + at) as usize);
        let damage = found.damages.first().unwrap_or_else(|| panic!("byte {at} of a batch is not covered"));
        assert_eq!(
            (&damage.file, damage.byte, &damage.partition),
            (path, size, &place()),
            "{at}: {damage:?}"
        );
        assert!(damage.offset.is_some_and(|offset| offset.0 <= base + 2), "{at}: {damage:?}");
    }
    assert_eq!(verified(folder.path()).damages, []);
}

#[test]
fn several_damages_are_all_named() {
    let folder = tempfile::tempdir().unwrap();
    let _log = log(folder.path());
    let files = segments(folder.path());
    let size = SegmentDump::open(&files[0]).unwrap().next().unwrap().unwrap().size;
    for (file, batch) in [(0, 3), (0, 7), (1, 0)] {
        flip(&files[file], (size * batch + 100) as usize);
    }
    let found = verified(folder.path());
    let places: Vec<_> =
        found.damages.iter().map(|damage| (&damage.file, damage.byte, damage.offset)).collect();
    let second = 2 * (fs::metadata(&files[0]).unwrap().len() / size);
    assert_eq!(
        places,
        [
            (&files[0], 3 * size, Some(Offset(6))),
            (&files[0], 7 * size, Some(Offset(14))),
            (&files[1], 0, Some(Offset(second))),
        ]
    );
    assert_eq!(found.records, 2 * (BATCHES - 3));
}

#[test]
fn what_is_missing_or_too_short_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let _log = log(folder.path());
    let files = segments(folder.path());
    let what = |file: &PathBuf| {
        let found = verified(folder.path());
        assert_eq!(found.damages.iter().map(|damage| &damage.file).collect::<Vec<_>>(), [file], "{found:?}");
        found.damages[0].what.clone()
    };
    for file in [&files[0], files.last().unwrap()] {
        let bytes = fs::read(file).unwrap();
        fs::remove_file(file).unwrap();
        assert_eq!(what(file), "the segment is missing");
        fs::write(file, bytes).unwrap();
    }
    for file in [&files[1], files.last().unwrap()] {
        let bytes = fs::read(file).unwrap();
        fs::write(file, &bytes[..bytes.len() - 1]).unwrap();
        let found = verified(folder.path());
        assert!(
            found.damages.iter().all(|damage| damage.file == *file) && !found.damages.is_empty(),
            "{found:?}"
        );
        let size = SegmentDump::open(&files[0]).unwrap().next().unwrap().unwrap().size;
        fs::write(file, &bytes[..bytes.len() - size as usize]).unwrap();
        assert!(!verified(folder.path()).damages.is_empty(), "a whole batch is missing");
        fs::write(file, bytes).unwrap();
    }
    let bytes = fs::read(&files[1]).unwrap();
    fs::remove_file(&files[1]).unwrap();
    let expected = "the segment ends too early, or the one behind it is missing. expected=280";
    assert_eq!(what(&files[0]), expected);
    fs::write(&files[1], bytes).unwrap();
    assert_eq!(verified(folder.path()).damages, []);
}

/// Compaction leaves no gaps: whoever reads a compacted partition without one of its segments is told that it is damaged.
#[test]
fn a_segment_that_a_compacted_topic_has_lost_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let log = log_of(folder.path(), &spec(CleanupPolicy::Compact));
    let found = verified(folder.path());
    assert_eq!(found.damages, []);
    drop(log);
    let files = segments(folder.path());
    fs::remove_file(&files[1]).unwrap();
    let log = EmbeddedLog::open(folder.path()).unwrap();
    let lost = Offset(files[1].file_stem().unwrap().to_str().unwrap().parse().unwrap());
    assert_eq!(block_on(log.read(&place(), lost, 0)).unwrap_err().kind(), ErrorKind::Corrupt);
    let found = verified(folder.path());
    assert_eq!((&found.damages[0].file, found.damages[0].offset), (&files[0], Some(lost)), "{found:?}");
}

/// A batch that it has lost is named too, and so is one in the middle.
#[test]
fn batches_that_a_compacted_topic_has_lost_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let _log = log_of(folder.path(), &spec(CleanupPolicy::Compact));
    let file = &segments(folder.path())[1];
    let size = SegmentDump::open(file).unwrap().next().unwrap().unwrap().size as usize;
    let bytes = fs::read(file).unwrap();
    for extension in ["index", "timeindex"] {
        fs::remove_file(file.with_extension(extension)).unwrap();
    }
    let without_the_last = bytes[..bytes.len() - size].to_vec();
    for left in [without_the_last, [&bytes[..size], &bytes[2 * size..]].concat()] {
        fs::write(file, left).unwrap();
        let found = verified(folder.path());
        assert_eq!(found.damages.iter().map(|damage| &damage.file).collect::<Vec<_>>(), [file], "{found:?}");
    }
    fs::write(file, bytes).unwrap();
    assert_eq!(verified(folder.path()).damages, []);
}

#[test]
fn an_index_that_lies_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let _log = log(folder.path());
    for kind in ["index", "timeindex"] {
        let index = segments(folder.path())[0].with_extension(kind);
        let bytes = fs::read(&index).unwrap();
        assert!(bytes.len() > 20, "the test wants entries");
        for at in 0..bytes.len() {
            flip(&index, at);
            let found = verified(folder.path());
            assert_eq!(found.damages.len(), 1, "{kind} {at}");
            assert_eq!((&found.damages[0].file, found.damages[0].offset), (&index, None), "{kind} {at}");
            flip(&index, at);
        }
    }
}

#[test]
fn a_topic_that_is_gone_has_nothing_to_verify() {
    let folder = tempfile::tempdir().unwrap();
    let _log = log(folder.path());
    let gone = TopicPartition::new(TopicName::new("gone").unwrap(), Partition(0));
    let observed = ObservedLog::open(folder.path()).unwrap();
    let verifier = Verifier::new(&observed);
    assert!(block_on(verifier.partition(&gone, &mut |_, _| {})).unwrap().is_none());
}

/// The owner writes, makes checkpoints, deletes records, and deletes the topic and makes it again: none of that is damage.
#[test]
fn what_an_owner_does_meanwhile_is_no_damage() {
    let folder = tempfile::tempdir().unwrap();
    let spec = spec(CleanupPolicy::Delete);
    let log = log_of(folder.path(), &spec);
    let observed = ObservedLog::open(folder.path()).unwrap();
    let verifier = Verifier::new(&observed);
    let owner = std::thread::spawn({
        let spec = spec.clone();
        move || block_on(work(&log, &spec))
    });
    let (mut walks, mut gone) = (0, 0);
    loop {
        let last = owner.is_finished();
        match block_on(verifier.partition(&place(), &mut |_, _| {})).unwrap() {
            Some(found) => assert_eq!(found.damages, [], "walk {walks}"),
            None => gone += 1,
        }
        walks += 1;
        if last {
            break;
        }
    }
    owner.join().unwrap();
    assert!(walks > gone, "{gone} of {walks}");
}

async fn work(log: &EmbeddedLog, spec: &TopicSpec) {
    let mut batch = BatchBuilder::default();
    for round in 0..60 {
        let mut producer = log.producer(&ProducerName("p".into())).await.unwrap();
        for _ in 0..60 {
            batch.push(Timestamp(round), Some(b"key"), Some(&[b'v'; 500]), &Headers::new());
            producer.append(&place(), &mut batch).unwrap();
        }
        producer.commit(None).await.unwrap();
        let offsets = log.offsets(&place()).await.unwrap();
        match round % 6 {
            1 | 3 => log.checkpoint().await.unwrap(),
            2 | 4 => drop(log.delete_records(&place(), Offset(offsets.end.0 / 2)).await.unwrap()),
            5 => {
                log.delete_topic(&spec.name).await.unwrap();
                log.create_topic(spec).await.unwrap();
            }
            _ => {}
        }
    }
}
