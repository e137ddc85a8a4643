//! Files that are not what was written.

use super::*;

/// A cleanly closed log with some segments in each of two partitions; nothing of it will be in memory.
fn closed() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
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

#[test]
fn a_checkpoint_that_is_damaged_or_missing_is_corrupt() {
    let folder = closed();
    let path = folder.path().join("checkpoint");
    let good = fs::read(&path).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 4;
        fs::write(&path, bad).unwrap();
        let error = EmbeddedLog::open(folder.path()).unwrap_err();
        let kind = if (8..12).contains(&at) { ErrorKind::Invalid } else { ErrorKind::Corrupt };
        assert_eq!(error.kind(), kind, "byte {at}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
    for length in 0..good.len() {
        fs::write(&path, &good[..length]).unwrap();
        assert_eq!(
            EmbeddedLog::open(folder.path()).unwrap_err().kind(),
            ErrorKind::Corrupt,
            "{length} bytes"
        );
    }
    fs::remove_file(&path).unwrap();
    let error = EmbeddedLog::open(folder.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("checkpoint is missing"), "{error}");
    fs::write(&path, good).unwrap();
    EmbeddedLog::open(folder.path()).unwrap();
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
    let foreign = tempfile::tempdir().unwrap();
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
