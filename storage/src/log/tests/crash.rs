//! What a crash leaves behind: torn groups, old frames in used files, half a recovery.

use headwater_core::Admin;

use super::*;
use crate::log::{
    group::GroupHeader,
    journal::{Position, SEGMENT_HEADER_BYTES},
    scan,
};

/// A crashed log with `checkpointed` commits in its checkpoint, and `journaled` behind it in the first journal file.
pub(super) fn crashed(checkpointed: u64, journaled: u64) -> TempDir {
    crashed_in(500, checkpointed, journaled)
}

/// The same, with segments of another size.
fn crashed_in(segment_bytes: u64, checkpointed: u64, journaled: u64) -> TempDir {
    let folder = disk::folder();
    // One file that is not too large to be copied a thousand times.
    let options = LogOptions { journal_segment_bytes: 16 << 10, ..lazy() };
    let log = EmbeddedLog::open_with(folder.path(), options).unwrap();
    create(&log, "t", 2, segment_bytes);
    let mut producer = producer(&log, "p");
    commit_both(&mut *producer, 0..checkpointed);
    block_on(log.checkpoint()).unwrap();
    commit_both(&mut *producer, checkpointed..checkpointed + journaled);
    log.crash();
    folder
}

pub(super) fn journal_file(folder: &Path, segment: u64) -> std::path::PathBuf {
    layout(folder).journal_segment(segment)
}

/// Begin and end (without padding) of each group in a journal file.
pub(super) fn groups(journal: &[u8]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut at = usize::try_from(SEGMENT_HEADER_BYTES).unwrap();
    while let Some(header) = journal.get(at..).and_then(GroupHeader::read) {
        found.push((at, at + header.size()));
        at = (at + header.size()).next_multiple_of(8);
    }
    found
}

/// Opens a copy of `folder` whose first journal file is `journal`.
fn open_with_journal(folder: &Path, journal: &[u8]) -> (TempDir, Result<EmbeddedLog>) {
    let copy = disk::folder();
    copy_folder(folder, copy.path());
    fs::write(journal_file(copy.path(), 1), journal).unwrap();
    let log = EmbeddedLog::open_with(copy.path(), lazy());
    (copy, log)
}

#[test]
fn a_journal_cut_at_any_byte_keeps_the_whole_groups() {
    let folder = crashed(5, 4);
    let journal = fs::read(journal_file(folder.path(), 1)).unwrap();
    let groups = groups(&journal);
    // Topic, producer, nine commits.
    assert_eq!(groups.len(), 11);
    let newest = &groups[7..];
    for cut in newest[1].0..=newest[3].1 {
        let (_copy, log) = open_with_journal(folder.path(), &journal[..cut]);
        let log = log.unwrap_or_else(|error| panic!("cut={cut}: {error:?}"));
        let whole = newest.iter().filter(|(_, end)| *end <= cut).count() as u64;
        assert_eq!(commits_in(&log), 5 + whole, "cut={cut}");
        assert_eq!(log.recovery().groups_replayed, whole);
        let begun =
            newest.iter().find(|(begin, end)| (*begin..*end).contains(&cut)).map_or(cut, |(begin, _)| *begin);
        let torn = journal[begun..cut].iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        assert_eq!(log.recovery().torn_bytes_cut, torn as u64, "cut={cut}");
        if cut % 64 == 0 {
            commit_both(&mut *producer(&log, "p"), 5 + whole..7 + whole);
            log.crash();
            let log = EmbeddedLog::open_with(log.folder(), lazy()).unwrap();
            assert_eq!(commits_in(&log), 7 + whole, "cut={cut}");
        }
    }
}

/// Fills that a disk may leave where something was to be written, by number.
fn garbage(fill: u32, bytes: &mut [u8], random: &mut impl FnMut() -> u8) {
    for byte in bytes {
        *byte = match fill {
            0 => 0,
            1 => 0xff,
            2 => *byte ^ 1,
            _ => random(),
        };
    }
}

fn random_bytes() -> impl FnMut() -> u8 {
    let mut seed = 0x5eed_u32;
    move || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        seed.to_be_bytes()[0]
    }
}

/// From every byte of the last three groups on: what is left whole is there, and nothing else.
#[test]
fn a_tail_of_garbage_is_cut() {
    let folder = crashed(2, 4);
    let journal = fs::read(journal_file(folder.path(), 1)).unwrap();
    let groups = groups(&journal);
    let newest = &groups[groups.len() - 3..];
    let end = newest[2].1;
    let (mut random, mut opened) = (random_bytes(), 0);
    for from in newest[0].0..end {
        for fill in 0..4 {
            let until = if from % 2 == 0 { end } else { end + 200 };
            let mut damaged = journal.clone();
            garbage(fill, &mut damaged[from..until], &mut random);
            let (_copy, log) = open_with_journal(folder.path(), &damaged);
            let log = log.unwrap_or_else(|error| panic!("from={from} fill={fill}: {error:?}"));
            // A group that ends in zeros is not changed by zeros.
            let whole =
                newest.iter().take_while(|(begin, end)| damaged[*begin..*end] == journal[*begin..*end]);
            assert_eq!(commits_in(&log), 3 + whole.count() as u64, "from={from} fill={fill}");
            opened += 1;
        }
    }
    println!("{opened} tails");
}

/// What a segment holds behind the checkpoint is in the journal: nothing that happens to it there matters.
#[test]
fn the_tail_of_a_segment_may_be_lost_and_is_written_again() {
    let folder = crashed_in(5000, 2, 3);
    // So that there are some bytes to lose: the files as they are when everything has been written to them.
    let written = disk::folder();
    copy_folder(folder.path(), written.path());
    drop(EmbeddedLog::open_with(written.path(), lazy()).unwrap());
    for partition in [0, 1] {
        let name = format!("topics/t/{partition}");
        let base = *numbered(&folder.path().join(&name), "log").last().unwrap();
        let path = Path::new(&name).join(format!("{base:020}.log"));
        let short = fs::read(folder.path().join(&path)).unwrap().len();
        let whole = fs::read(written.path().join(&path)).unwrap();
        assert!(short < whole.len(), "{short} {}", whole.len());
        let mut random = random_bytes();
        for at in short..=whole.len() {
            for fill in 0..5 {
                let mut bytes = whole.clone();
                match fill {
                    4 => bytes.truncate(at),
                    fill => garbage(fill, &mut bytes[at..], &mut random),
                }
                let copy = disk::folder();
                copy_folder(folder.path(), copy.path());
                fs::write(copy.path().join(&path), &bytes).unwrap();
                let log = EmbeddedLog::open_with(copy.path(), lazy()).unwrap();
                assert_eq!(commits_in(&log), 5, "at={at} fill={fill}");
                drop(log);
                assert_eq!(fs::read(copy.path().join(&path)).unwrap(), whole, "at={at} fill={fill}");
            }
        }
    }
}

/// In front of the checkpoint a segment has all there is: what is lost there is said, and nothing is made up.
#[test]
fn a_segment_that_is_damaged_in_front_of_the_checkpoint_is_said_so() {
    let folder = crashed_in(5000, 3, 0);
    let name =
        format!("topics/t/0/{:020}.log", numbered(&folder.path().join("topics/t/0"), "log").last().unwrap());
    let good = fs::read(folder.path().join(&name)).unwrap();
    let expected = values(&EmbeddedLog::open_with(folder.path(), lazy()).unwrap(), &tp("t", 0));
    let mut random = random_bytes();
    for at in 0..good.len() {
        for fill in 0..5 {
            let mut bytes = good.clone();
            match fill {
                4 => bytes.truncate(at),
                fill => garbage(fill, &mut bytes[at..], &mut random),
            }
            if bytes == good {
                continue;
            }
            let copy = disk::folder();
            copy_folder(folder.path(), copy.path());
            fs::write(copy.path().join(&name), &bytes).unwrap();
            let read =
                EmbeddedLog::open_with(copy.path(), lazy()).and_then(|log| try_values(&log, &tp("t", 0), 0));
            let error = read.map(|read| assert_eq!(read, expected)).expect_err("damage that was not noticed");
            assert_eq!(error.kind(), ErrorKind::Corrupt, "at={at} fill={fill}: {error:?}");
            assert!(error.to_string().contains(&name), "{error}");
        }
    }
}

#[test]
fn a_bad_group_before_good_ones_is_corrupt_and_nothing_is_touched() {
    let folder = crashed(2, 4);
    let journal = fs::read(journal_file(folder.path(), 1)).unwrap();
    let groups = groups(&journal);
    for (begin, end) in &groups[4..groups.len() - 1] {
        for at in *begin..*end {
            let mut damaged = journal.clone();
            damaged[at] ^= 0x20;
            let (copy, log) = open_with_journal(folder.path(), &damaged);
            let error = log.err().unwrap_or_else(|| panic!("byte {at} of group at {begin} was not noticed"));
            assert_eq!(error.kind(), ErrorKind::Corrupt);
            assert!(error.to_string().contains("00000000000000000001.journal"), "{error}");
            assert!(error.to_string().contains(&format!("byte={begin}")), "{error}");
            if at == *begin {
                let touched = contents(copy.path());
                let _ = EmbeddedLog::open_with(copy.path(), lazy()).err().unwrap();
                assert_eq!(contents(copy.path()), touched);
            }
        }
    }
}

#[test]
fn damage_in_an_earlier_journal_file_or_a_missing_one_is_corrupt() {
    let folder = disk::folder();
    let options = LogOptions { journal_segment_bytes: 1500, ..lazy() };
    let log = EmbeddedLog::open_with(folder.path(), options.clone()).unwrap();
    create(&log, "t", 2, 500);
    commit_both(&mut *producer(&log, "p"), 0..30);
    log.crash();
    drop(log);
    let segments = numbered(&folder.path().join("journal"), "journal");
    assert!(segments.len() > 5, "{segments:?}");
    for segment in &segments[..segments.len() - 1] {
        let copy = disk::folder();
        copy_folder(folder.path(), copy.path());
        let path = journal_file(copy.path(), *segment);
        let mut bytes = fs::read(&path).unwrap();
        bytes[200] ^= 1;
        fs::write(&path, bytes).unwrap();
        let error = EmbeddedLog::open_with(copy.path(), options.clone()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        fs::remove_file(&path).unwrap();
        let error = EmbeddedLog::open_with(copy.path(), options.clone()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
    assert_eq!(commits_in(&EmbeddedLog::open_with(folder.path(), options).unwrap()), 30);
}

/// Without a sync per commit, a power cut may keep later groups and lose earlier ones. That is no damage.
#[test]
fn groups_behind_one_that_was_never_synced_are_cut_with_it() {
    let folder = disk::folder();
    let options = LogOptions { durability: Durability::Os, ..lazy() };
    let log = EmbeddedLog::open_with(folder.path(), options.clone()).unwrap();
    create(&log, "t", 2, 500);
    let mut p = producer(&log, "p");
    commit_both(&mut *p, 0..3);
    block_on(log.checkpoint()).unwrap();
    commit_both(&mut *p, 3..8);
    log.crash();
    drop((p, log));
    let path = journal_file(folder.path(), 1);
    let mut journal = fs::read(&path).unwrap();
    let groups = groups(&journal);
    journal[groups[groups.len() - 3].0 + 50] ^= 1;
    fs::write(&path, journal).unwrap();
    let log = EmbeddedLog::open_with(folder.path(), options).unwrap();
    assert_eq!(commits_in(&log), 5);
    assert!(log.recovery().torn_bytes_cut > 0);
}

/// Over several files it is the same, unless something behind says that the group had been on disk. Numbers of files that are cut are
/// not given to others.
#[test]
fn journal_files_behind_a_group_that_was_never_synced_are_cut_with_it() {
    let folder = disk::folder();
    let options = LogOptions { durability: Durability::Os, journal_segment_bytes: 1500, ..lazy() };
    let log = EmbeddedLog::open_with(folder.path(), options.clone()).unwrap();
    create(&log, "t", 2, 500);
    create(&log, "u", 1, 500);
    let mut p = producer(&log, "p");
    commit_both(&mut *p, 0..10);
    // That is synced, with everything before it.
    block_on(log.delete_topic(&TopicName::new("u").unwrap())).unwrap();
    let synced = *numbered(&folder.path().join("journal"), "journal").last().unwrap();
    commit_both(&mut *p, 10..30);
    log.crash();
    drop((p, log));
    let files = numbered(&folder.path().join("journal"), "journal");
    let newest = *files.last().unwrap();
    assert!(synced > 2 && newest > synced + 3, "{files:?}");
    for file in &files[..files.len() - 1] {
        let copy = disk::folder();
        copy_folder(folder.path(), copy.path());
        let path = journal_file(copy.path(), *file);
        let mut bytes = fs::read(&path).unwrap();
        bytes[200] ^= 1;
        fs::write(&path, bytes).unwrap();
        let opened = EmbeddedLog::open_with(copy.path(), options.clone());
        if *file <= synced {
            assert_eq!(opened.unwrap_err().kind(), ErrorKind::Corrupt, "file {file}");
            continue;
        }
        let log = opened.unwrap();
        let commits = commits_in(&log);
        assert!((10..29).contains(&commits) && log.recovery().torn_bytes_cut > 0, "file {file}: {commits}");
        assert_eq!(numbered(&copy.path().join("journal"), "journal"), [newest + 1]);
        commit_both(&mut *producer(&log, "p"), commits..commits + 9);
        log.crash();
        drop(log);
        assert_eq!(commits_in(&EmbeddedLog::open_with(copy.path(), options.clone()).unwrap()), commits + 9);
    }
}

#[test]
fn what_an_earlier_use_left_in_a_journal_file_is_not_replayed() {
    let folder = disk::folder();
    let options = LogOptions { journal_segment_bytes: 4096, checkpoint_bytes: 6000, ..LogOptions::default() };
    let mut commits = 0;
    let mut stale = 0;
    for round in 0..12 {
        let log = EmbeddedLog::open_with(folder.path(), options.clone()).unwrap();
        if round == 0 {
            create(&log, "t", 2, 2000);
        }
        assert_eq!(commits_in(&log), commits, "round {round}");
        commit_both(&mut *producer(&log, "p"), commits..commits + 7 + round);
        commits += 7 + round;
        log.crash();
        drop(log);
        let newest = *numbered(&folder.path().join("journal"), "journal").last().unwrap();
        let bytes = fs::read(journal_file(folder.path(), newest)).unwrap();
        let end = groups(&bytes).last().map_or(64, |(_, end)| *end);
        stale += usize::from(bytes[end..].windows(4).any(|window| window == b"HWG2"));
    }
    assert!(stale > 3, "the test is about files that were used before: {stale}");
}

#[test]
fn a_crash_in_the_middle_of_recovery_is_harmless() {
    let crashed = crashed(6, 9);
    let recovered = disk::folder();
    copy_folder(crashed.path(), recovered.path());
    drop(EmbeddedLog::open_with(recovered.path(), lazy()).unwrap());
    // Segments as after recovery, and those of a topic that nobody knows; checkpoint and journal as before it.
    for spilled in ["topics/t/0", "topics/t/1", "topics/t"] {
        let half = disk::folder();
        copy_folder(crashed.path(), half.path());
        copy_folder(&recovered.path().join(spilled), &half.path().join(spilled));
        copy_folder(&recovered.path().join("topics/t"), &half.path().join("topics/later"));
        let log = EmbeddedLog::open_with(half.path(), lazy()).unwrap();
        assert_eq!(commits_in(&log), 15);
        create(&log, "later", 2, 500);
        assert!(values(&log, &tp("later", 1)).is_empty());
        append(&mut *producer(&log, "q"), &tp("later", 1), &["kept back".into()]);
        drop(log);
        assert_eq!(commits_in(&EmbeddedLog::open_with(half.path(), lazy()).unwrap()), 15);
    }
    // The new journal file is there, and the checkpoint still is the old one.
    let half = disk::folder();
    copy_folder(crashed.path(), half.path());
    let layout = layout(half.path());
    let from = Position { segment: 1, byte: SEGMENT_HEADER_BYTES, group: 1 };
    let end = scan::scan(&layout, from, &mut |_, _| Ok(true)).unwrap().end;
    drop(journal::Journal::begin(&layout, 1 << 20, 2, end.group).unwrap());
    assert_eq!(commits_in(&EmbeddedLog::open_with(half.path(), lazy()).unwrap()), 15);
}

#[test]
fn a_folder_whose_making_was_interrupted_is_new() {
    let whole = disk::folder();
    drop(EmbeddedLog::open(whole.path()).unwrap());
    for missing in [
        &["checkpoint"][..],
        &["checkpoint", "checkpoint.copy"],
        &["checkpoint", "checkpoint.copy", "journal", "topics"],
        &["checkpoint", "checkpoint.copy", "journal", "topics", "format"],
    ] {
        let folder = disk::folder();
        copy_folder(whole.path(), folder.path());
        for name in missing {
            let path = folder.path().join(name);
            let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        }
        let log = EmbeddedLog::open(folder.path()).unwrap();
        create(&log, "t", 2, 500);
        assert_eq!(commits_in(&log), 0);
    }
}
