//! Files that are not what was written.

use super::*;

/// A cleanly closed log with some segments in each of two partitions; nothing of it will be in memory.
fn closed() -> TempDir {
    let folder = disk::folder();
    let log = EmbeddedLog::open_with(folder.path(), LogOptions::default()).unwrap();
    create(&log, "t", 2, 9000);
    let mut producer = producer(&log, "p");
    for number in 0..130 {
        for partition in [0, 1] {
            append(&mut *producer, &tp("t", partition), &[format!("value {number}"), "x".repeat(80)]);
        }
        if number % 10 == 9 {
            block_on(producer.commit(Some(&at("g", &tp("t", 0), number + 1)))).unwrap();
        }
    }
    folder
}

fn segment_files(folder: &Path, extension: &str) -> Vec<std::path::PathBuf> {
    let folder = folder.join("topics/t/0");
    let numbers = numbered(&folder, extension);
    numbers.iter().map(|number| folder.join(format!("{number:020}.{extension}"))).collect()
}

/// Reads from every tenth offset, as somebody who seeks does.
fn seeks(log: &EmbeddedLog) -> Vec<(Offset, Offset)> {
    let mut found = Vec::new();
    for from in (0..260).step_by(10) {
        let fetched = block_on(log.read(&tp("t", 0), Offset(from), 0)).unwrap();
        let batch = &fetched.batches[0];
        assert!((batch.base_offset()..batch.next_offset()).contains(&Offset(from)));
        found.push((batch.base_offset(), batch.next_offset()));
    }
    found
}

#[test]
fn an_index_that_is_missing_or_wrong_is_made_again() {
    let folder = closed();
    let (expected, good) = {
        let log = EmbeddedLog::open(folder.path()).unwrap();
        ((seeks(&log), values(&log, &tp("t", 0))), segment_files(folder.path(), "index"))
    };
    assert!(good.len() > 1, "some segments are sealed: {good:?}");
    let good: Vec<_> = good.into_iter().map(|path| (fs::read(&path).unwrap(), path)).collect();
    assert!(good.iter().all(|(bytes, _)| !bytes.is_empty() && bytes.len() % 8 == 0));
    type Damage = fn(&Path, &[u8]);
    let damages: [Damage; 6] = [
        |path, _| fs::remove_file(path).unwrap(),
        |path, _| fs::write(path, []).unwrap(),
        |path, good| fs::write(path, vec![0; good.len()]).unwrap(),
        |path, good| fs::write(path, vec![0xff; good.len()]).unwrap(),
        |path, good| fs::write(path, [good, &good[..5]].concat()).unwrap(),
        |path, good| fs::write(path, good.iter().map(|byte| byte ^ 3).collect::<Vec<_>>()).unwrap(),
    ];
    for (number, damage) in damages.iter().enumerate() {
        good.iter().for_each(|(bytes, path)| damage(path, bytes));
        let log = EmbeddedLog::open(folder.path()).unwrap();
        assert_eq!((seeks(&log), values(&log, &tp("t", 0))), expected, "damage {number}");
        if number < 4 {
            assert!(log.recovery().indexes_rebuilt > 0, "the active segment's index, damage {number}");
            good.iter()
                .for_each(|(bytes, path)| assert_eq!(&fs::read(path).unwrap(), bytes, "damage {number}"));
        }
        drop(log);
        let log = EmbeddedLog::open(folder.path()).unwrap();
        assert_eq!((seeks(&log), values(&log, &tp("t", 0))), expected, "damage {number}");
        good.iter().for_each(|(bytes, path)| fs::write(path, bytes).unwrap());
    }
}

#[test]
fn a_flipped_bit_in_a_segment_never_gives_wrong_records() {
    let folder = closed();
    let log = EmbeddedLog::open_with(folder.path(), tiny()).unwrap();
    let expected = values(&log, &tp("t", 0));
    let mut noticed = 0;
    let files = segment_files(folder.path(), "log");
    for path in &files {
        let good = fs::read(path).unwrap();
        // Some whole batches bit by bit, then some bits everywhere.
        let bits = (0..200 * 8).chain((0..good.len() * 8).step_by(397));
        for bit in bits.filter(|bit| bit / 8 < good.len()) {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            fs::write(path, bytes).unwrap();
            match try_values(&log, &tp("t", 0), if bit % 2 == 0 { 0 } else { 1 << 20 }) {
                Ok(values) => assert_eq!(values, expected, "bit {bit} of {}", path.display()),
                Err(error) => {
                    noticed += 1;
                    assert_eq!(error.kind(), ErrorKind::Corrupt, "bit {bit}: {error:?}");
                    let text = error.to_string();
                    assert!(text.contains("partition=t-0") && text.contains("offset="), "{text}");
                    assert!(text.contains(path.to_str().unwrap()), "{text}");
                }
            }
        }
        fs::write(path, good).unwrap();
    }
    assert!(noticed > 1000);
    assert_eq!(values(&log, &tp("t", 0)), expected);
    assert_eq!(values(&log, &tp("t", 1)), expected);
}

#[test]
fn a_segment_that_is_cut_or_missing_is_corrupt() {
    let folder = closed();
    let files = segment_files(folder.path(), "log");
    for (path, damage) in files.iter().flat_map(|path| [(path, 0), (path, 1), (path, 100)]) {
        let good = fs::read(path).unwrap();
        if damage == 0 {
            fs::remove_file(path).unwrap();
        } else {
            fs::write(path, &good[..good.len() - damage]).unwrap();
        }
        // The first and the last are missed at once, others when they are read.
        let read = EmbeddedLog::open(folder.path()).and_then(|log| try_values(&log, &tp("t", 0), 0));
        assert_eq!(read.unwrap_err().kind(), ErrorKind::Corrupt, "{}", path.display());
        fs::write(path, good).unwrap();
    }
    assert_eq!(values(&EmbeddedLog::open(folder.path()).unwrap(), &tp("t", 0)).len(), 260);
}

/// Every byte that can be damaged, every length that can be left, and nothing at all.
/// Copies may be without empty folders.
#[test]
fn a_log_without_records_needs_no_folder_for_them() {
    let folder = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(folder.path()).unwrap();
    create(&log, "t", 1, 9000);
    drop(log);
    fs::remove_dir(folder.path().join("topics")).unwrap();
    let log = EmbeddedLog::open(folder.path()).unwrap();
    let mut p = producer(&log, "p");
    append(&mut *p, &tp("t", 0), &["first".into()]);
    block_on(p.commit(None)).unwrap();
    drop((p, log));
    let log = EmbeddedLog::open(folder.path()).unwrap();
    assert_eq!(values(&log, &tp("t", 0)), ["first"]);
    drop(log);
    fs::remove_dir_all(folder.path().join("topics")).unwrap();
    assert_eq!(EmbeddedLog::open(folder.path()).unwrap_err().kind(), ErrorKind::Corrupt);
}

fn damages(good: &[u8]) -> impl Iterator<Item = Option<Vec<u8>>> {
    let flipped = (0..good.len()).map(|at| {
        let mut bad = good.to_vec();
        bad[at] ^= 4;
        Some(bad)
    });
    flipped.chain((0..good.len()).map(|length| Some(good[..length].to_vec()))).chain([None])
}

fn put(path: &Path, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => fs::write(path, bytes).unwrap(),
        None => fs::remove_file(path).unwrap(),
    }
}

#[test]
fn a_copy_of_the_checkpoint_that_is_damaged_or_missing_is_made_again() {
    let folder = closed();
    let copies = layout(folder.path()).checkpoints();
    let expected = (values(&EmbeddedLog::open(folder.path()).unwrap(), &tp("t", 0)), 260);
    for path in &copies {
        let good = fs::read(path).unwrap();
        for (number, bad) in damages(&good).enumerate().step_by(19).chain([(0, None)]) {
            let opened = || EmbeddedLog::open_with(folder.path(), lazy()).unwrap();
            put(path, bad.as_deref());
            let log = opened();
            assert_eq!(log.recovery().checkpoints_rebuilt, 1, "damage {number} of {}", path.display());
            assert_eq!((values(&log, &tp("t", 0)), values(&log, &tp("t", 1)).len()), expected);
            assert_eq!(position(&log, "g", &tp("t", 0)), Some(130));
            // The log may be killed at once: both are good already.
            log.crash();
            assert_eq!(fs::read(&copies[0]).unwrap(), fs::read(&copies[1]).unwrap());
            assert_eq!(opened().recovery(), &RecoveryReport::default());
        }
    }
}

/// Whichever copy is left, the journal behind it is there too: a crash may come between the two.
#[test]
fn a_crash_between_the_copies_of_a_checkpoint_is_harmless() {
    let folder = disk::folder();
    let log = EmbeddedLog::open_with(folder.path(), lazy()).unwrap();
    create(&log, "t", 2, 500);
    let mut p = producer(&log, "p");
    commit_both(&mut *p, 0..5);
    block_on(log.checkpoint()).unwrap();
    let copies = layout(folder.path()).checkpoints();
    let older = fs::read(&copies[1]).unwrap();
    commit_both(&mut *p, 5..9);
    block_on(log.checkpoint()).unwrap();
    let newer = fs::read(&copies[0]).unwrap();
    commit_both(&mut *p, 9..12);
    log.crash();
    drop((p, log));
    for cut in (0..=newer.len()).step_by(9).chain([newer.len()]) {
        let half = [&newer[..cut], older.get(cut..).unwrap_or_default()].concat();
        for [first, second] in [[&half, &older], [&newer, &half], [&older, &half]] {
            let copy = disk::folder();
            copy_folder(folder.path(), copy.path());
            let copies = layout(copy.path()).checkpoints();
            fs::write(&copies[0], first).unwrap();
            fs::write(&copies[1], second).unwrap();
            let log = EmbeddedLog::open_with(copy.path(), lazy()).unwrap();
            assert_eq!(commits_in(&log), 12, "cut={cut}");
        }
    }
}

#[test]
fn a_checkpoint_of_which_no_copy_is_good_is_corrupt() {
    let folder = closed();
    let copies = layout(folder.path()).checkpoints();
    let good = fs::read(&copies[0]).unwrap();
    for (number, bad) in damages(&good).enumerate() {
        copies.iter().for_each(|path| put(path, bad.as_deref()));
        let before = contents(folder.path());
        let error = EmbeddedLog::open(folder.path()).unwrap_err();
        let kind = if (8..12).contains(&number) { ErrorKind::Invalid } else { ErrorKind::Corrupt };
        assert_eq!(error.kind(), kind, "damage {number}");
        assert!(error.to_string().contains(copies[0].to_str().unwrap()), "{error}");
        let missing = bad.is_none();
        assert!(!missing || error.to_string().contains("checkpoint is missing"), "{error}");
        assert!(missing || contents(folder.path()) == before, "nothing is touched");
        copies.iter().for_each(|path| put(path, Some(&good)));
    }
    assert_eq!(EmbeddedLog::open(folder.path()).unwrap().recovery(), &RecoveryReport::default());
}

#[test]
fn a_folder_of_another_version_or_purpose_is_refused() {
    let folder = closed();
    let path = folder.path().join("format");
    fs::write(&path, "headwater-log 2\n").unwrap();
    let error = EmbeddedLog::open(folder.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("`headwater-log 2`"), "{error}");
    fs::remove_file(&path).unwrap();
    assert_eq!(EmbeddedLog::open(folder.path()).unwrap_err().kind(), ErrorKind::Corrupt);
    let foreign = disk::folder();
    fs::write(foreign.path().join("letter.txt"), "dear").unwrap();
    assert_eq!(EmbeddedLog::open(foreign.path()).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(fs::read_dir(foreign.path()).unwrap().count(), 1, "nothing was left there");
}

#[test]
fn a_second_open_is_refused_at_once() {
    let folder = closed();
    let log = EmbeddedLog::open(folder.path()).unwrap();
    let error = EmbeddedLog::open(folder.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains(&format!("pid={}", std::process::id())), "{error}");
    block_on(log.close()).unwrap();
    EmbeddedLog::open(folder.path()).unwrap();
}
