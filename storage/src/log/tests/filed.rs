//! Large commits, whose batches are written to segments first.

use headwater_core::Admin;

use super::*;
use crate::log::{
    checkpoint::{self, PartitionMark},
    group::GroupBuilder,
    journal::SegmentFile,
    scan,
};

/// Commits of a kilobyte are filed in either mode, once a checkpoint knows their topic; small ones are not.
fn filing(durability: Durability) -> LogOptions {
    let filed_bytes_min = if durability == Durability::Os { 1000 } else { 30 };
    LogOptions { durability, filed_bytes_min, ..lazy() }
}

fn commit_one(producer: &mut dyn Producer, value: &str) {
    append(producer, &tp("t", 0), &[value.to_owned()]);
    block_on(producer.commit(Some(&at("g", &tp("t", 0), 1)))).unwrap();
}

/// A log with small and large commits behind its checkpoint, as a killed process leaves it, and what is in it.
fn killed(folder: &Path, options: &LogOptions, segment_bytes: u64) -> Vec<String> {
    let log = EmbeddedLog::open_with(folder, options.clone()).unwrap();
    create(&log, "t", 1, segment_bytes);
    block_on(log.checkpoint()).unwrap();
    let mut producer = producer(&log, "p");
    let large = "large ".repeat(1000);
    let written: Vec<_> = (0..20)
        .map(|number| if number % 4 == 1 { format!("{number} {large}") } else { format!("{number}") })
        .collect();
    written.iter().for_each(|value| commit_one(&mut *producer, value));
    assert_eq!(values(&log, &tp("t", 0)), written);
    log.crash();
    written
}

#[test]
fn what_is_large_is_written_once_and_survives_a_kill() {
    for durability in [Durability::Os, Durability::Fsync] {
        for segment_bytes in [1 << 30, 7000] {
            let folder = disk::folder();
            let options = filing(durability);
            let written = killed(folder.path(), &options, segment_bytes);
            let log = EmbeddedLog::open_with(folder.path(), options.clone()).unwrap();
            let report = log.recovery();
            assert!((1..6000).contains(&report.bytes_replayed), "{durability:?}: {report:?}");
            assert_eq!(report.groups_replayed, 21, "{durability:?}: with the producer's");
            assert_eq!(report.torn_bytes_cut, 0);
            assert_eq!(values(&log, &tp("t", 0)), written);
            let segments = numbered(&folder.path().join("topics/t/0"), "log").len();
            assert_eq!(segments > 3, segment_bytes == 7000, "{segments} segments");
            // It goes on behind it, filed and not.
            let mut producer = producer(&log, "p");
            let more = ["small".to_owned(), "large ".repeat(1000), "small".to_owned()];
            more.iter().for_each(|value| commit_one(&mut *producer, value));
            log.crash();
            let log = EmbeddedLog::open_with(folder.path(), options).unwrap();
            assert_eq!(values(&log, &tp("t", 0)), [written, more.to_vec()].concat());
        }
    }
}

/// What is in a journal but not in the file that it refers to was lost in a power cut, or is damage.
#[test]
fn a_group_whose_batches_are_not_in_files_ends_the_log_or_is_damage() {
    for durability in [Durability::Os, Durability::Fsync] {
        let whole = disk::folder();
        let options = filing(durability);
        let written = killed(whole.path(), &options, 1 << 30);
        let file = "topics/t/0/00000000000000000000.log";
        let good = fs::read(whole.path().join(file)).unwrap();
        let large = good.len() / 5;
        for at in [100, large / 2, large + 2000, good.len() - 1000] {
            for bad in [
                good[..at].to_vec(),
                [&good[..at], &[good[at] ^ 1], &good[at + 1..]].concat(),
                [&good[..at], &vec![0; good.len() - at]].concat(),
            ] {
                let folder = disk::folder();
                copy_folder(whole.path(), folder.path());
                fs::write(folder.path().join(file), &bad).unwrap();
                match EmbeddedLog::open_with(folder.path(), options.clone()) {
                    Ok(log) => {
                        let left = values(&log, &tp("t", 0));
                        assert!(
                            durability == Durability::Os && left.len() < written.len(),
                            "{durability:?} {at}"
                        );
                        assert_eq!(left, written[..left.len()]);
                        assert!(log.recovery().torn_bytes_cut > 0);
                        commit_one(&mut *producer(&log, "p"), &"again ".repeat(1000));
                        log.crash();
                        let log = EmbeddedLog::open_with(folder.path(), options.clone()).unwrap();
                        assert_eq!(values(&log, &tp("t", 0)).len(), left.len() + 1);
                    }
                    Err(error) => {
                        assert_eq!((durability, error.kind()), (Durability::Fsync, ErrorKind::Corrupt));
                        assert!(error.report().contains("topics/t/0"), "{}", error.report());
                        assert_eq!(fs::read(folder.path().join(file)).unwrap(), bad, "nothing was touched");
                    }
                }
            }
        }
    }
}

#[test]
fn whoever_looks_reads_filed_batches_from_their_files() {
    let folder = disk::folder();
    let log = EmbeddedLog::open_with(folder.path(), filing(Durability::Os)).unwrap();
    create(&log, "t", 1, 20_000);
    block_on(log.checkpoint()).unwrap();
    let observed = ObservedLog::open(folder.path()).unwrap();
    let mut producer = producer(&log, "p");
    let mut written = Vec::new();
    for number in 0..30 {
        let value = format!("{number} {}", "x".repeat(if number % 3 == 0 { 3000 } else { 10 }));
        commit_one(&mut *producer, &value);
        written.push(value);
        assert_eq!(values(&observed, &tp("t", 0)), written);
        if number == 17 {
            block_on(log.checkpoint()).unwrap();
        }
    }
    let partition = block_on(log.delete_records(&tp("t", 0), Offset(12)));
    assert_eq!(partition.unwrap(), Offset(12));
    assert_eq!(values(&observed, &tp("t", 0)), written[12..]);
    assert_eq!(values(&ObservedLog::open(folder.path()).unwrap(), &tp("t", 0)), written[12..]);
}

fn all_filed() -> LogOptions {
    LogOptions { durability: Durability::Os, filed_bytes_min: 0, ..lazy() }
}

fn first_segment(folder: &Path, topic: &str) -> std::path::PathBuf {
    folder.join("topics").join(topic).join("0/00000000000000000000.log")
}

/// A log whose topics a checkpoint knows.
fn known(folder: &Path, topics: &[&str]) -> EmbeddedLog {
    let log = EmbeddedLog::open_with(folder, all_filed()).unwrap();
    topics.iter().for_each(|topic| create(&log, topic, 1, 1 << 20));
    block_on(log.checkpoint()).unwrap();
    log
}

/// Files two records.
fn commit_two(producer: &mut dyn Producer, topic: &str, value: &str) {
    append(producer, &tp(topic, 0), &[value.to_owned(), value.to_owned()]);
    block_on(producer.commit(None)).unwrap();
}

/// Two topics with a filed commit each. What `delete` has done to the first is in the journal, and then the power goes: the
/// journal was written back, segments were not.
fn lost_behind(delete: impl FnOnce(&EmbeddedLog)) -> TempDir {
    let (folder, left) = (disk::folder(), disk::folder());
    let log = known(folder.path(), &["a", "b"]);
    let mut producer = producer(&log, "p");
    ["a", "b"].iter().for_each(|topic| commit_two(&mut *producer, topic, topic));
    copy_folder(folder.path(), left.path());
    delete(&log);
    copy_folder(&folder.path().join("journal"), &left.path().join("journal"));
    for topic in ["a", "b"] {
        let file = fs::OpenOptions::new().write(true).open(first_segment(left.path(), topic)).unwrap();
        assert!(file.metadata().unwrap().len() > 0, "it was filed");
        file.set_len(0).unwrap();
    }
    left
}

#[test]
fn a_deletion_that_is_cut_itself_excuses_no_missing_file() {
    let topic = |log: &EmbeddedLog| block_on(log.delete_topic(&TopicName::new("a").unwrap())).unwrap();
    let records = |log: &EmbeddedLog| assert!(block_on(log.delete_records(&tp("a", 0), Offset(2))).is_ok());
    for folder in [lost_behind(topic), lost_behind(records)] {
        let log = EmbeddedLog::open_with(folder.path(), all_filed()).unwrap();
        assert_eq!(values(&log, &tp("a", 0)), [""; 0]);
        assert_eq!(values(&log, &tp("b", 0)), [""; 0]);
    }
}

#[test]
fn a_segment_of_which_something_is_left_must_be_good_from_its_front_on() {
    let folder = disk::folder();
    let path = first_segment(folder.path(), "a");
    let log = known(folder.path(), &["a"]);
    let mut producer = producer(&log, "p");
    commit_two(&mut *producer, "a", &"a".repeat(300));
    let first = usize::try_from(fs::metadata(&path).unwrap().len()).unwrap();
    commit_two(&mut *producer, "a", "b");
    block_on(log.delete_records(&tp("a", 0), Offset(2))).unwrap();
    log.crash();
    let copy = disk::folder();
    copy_folder(folder.path(), copy.path());
    let log = EmbeddedLog::open_with(copy.path(), all_filed()).unwrap();
    assert_eq!(values(&log, &tp("a", 0)), ["b", "b"]);

    let mut bytes = fs::read(&path).unwrap();
    bytes[..first].fill(0);
    fs::write(path, bytes).unwrap();
    let log = EmbeddedLog::open_with(folder.path(), all_filed()).unwrap();
    assert_eq!(values(&log, &tp("a", 0)), [""; 0], "the log ends in front of it");
}

#[test]
fn a_folder_in_which_nothing_is_left_need_not_be_there() {
    let folder = disk::folder();
    let log = known(folder.path(), &["a"]);
    commit_two(&mut *producer(&log, "p"), "a", "a");
    block_on(log.delete_records(&tp("a", 0), Offset(2))).unwrap();
    log.crash();
    fs::remove_dir_all(folder.path().join("topics/a")).unwrap();
    let log = EmbeddedLog::open_with(folder.path(), all_filed()).unwrap();
    assert_eq!(block_on(log.offsets(&tp("a", 0))).unwrap().end, Offset(2));
    commit_two(&mut *producer(&log, "p"), "a", "b");
    assert_eq!(values(&log, &tp("a", 0)), ["b", "b"]);
}

#[test]
fn whoever_looks_before_the_log_is_opened_again_sees_what_its_next_owner_will() {
    let folder = disk::folder();
    let written = killed(folder.path(), &filing(Durability::Os), 1 << 30);
    let path = folder.path().join("topics/t/0/00000000000000000000.log");
    let good = fs::read(&path).unwrap();
    fs::write(&path, &good[..good.len() / 2]).unwrap();
    let observed = ObservedLog::open(folder.path()).unwrap();
    assert_eq!(block_on(observed.offsets(&tp("t", 0))).unwrap().end, Offset(written.len() as u64));
    // Whoever read on meets an end that was taken back.
    let seen = (0..3).find_map(|_| try_values(&observed, &tp("t", 0), 1 << 20).ok());
    let log = EmbeddedLog::open_with(folder.path(), filing(Durability::Os)).unwrap();
    let left = values(&log, &tp("t", 0));
    assert_eq!(seen.as_ref(), Some(&left));
    assert!(!left.is_empty() && left.len() < written.len());
}

/// A closed log, behind which a line stands that is the checkpoint's after `change`, with a checksum that holds.
fn crafted(change: impl FnOnce(&mut PartitionMark)) -> TempDir {
    let folder = disk::folder();
    let log = known(folder.path(), &["a"]);
    commit_two(&mut *producer(&log, "p"), "a", "a");
    block_on(log.close()).unwrap();
    let layout = layout(folder.path());
    let checkpoint = checkpoint::read(&layout).unwrap().unwrap();
    let end = scan::scan(&layout, checkpoint.position, &mut |_, _| Ok(true)).unwrap().end;
    let mut mark = checkpoint.partitions[0];
    change(&mut mark);
    let segment = SegmentFile::open(&layout, end.segment).unwrap().unwrap();
    let mut group = GroupBuilder::default();
    group.push_files(&mark);
    let bytes: Vec<u8> = group.close(segment.seed, end.group, 0).flatten().copied().collect();
    let file = fs::OpenOptions::new().write(true).open(&segment.path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &bytes, end.byte).unwrap();
    folder
}

#[test]
fn a_line_that_no_batch_bears_out_is_damage_and_nothing_is_touched() {
    let changes: [fn(&mut PartitionMark); 5] = [
        |_| {},
        |mark| mark.earliest = Offset(1000),
        |mark| mark.end = Offset(1000),
        |mark| mark.length -= 1,
        |mark| mark.place.partition = Partition(7),
    ];
    for change in changes {
        let folder = crafted(change);
        let before = contents(folder.path());
        let error = EmbeddedLog::open_with(folder.path(), all_filed()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
        assert_eq!(contents(folder.path()), before);
    }
}
