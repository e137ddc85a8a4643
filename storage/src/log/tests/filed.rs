//! Large commits, whose batches are written to segments first.

use super::*;

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
    let partition = block_on(headwater_core::Admin::delete_records(&log, &tp("t", 0), Offset(12)));
    assert_eq!(partition.unwrap(), Offset(12));
    assert_eq!(values(&observed, &tp("t", 0)), written[12..]);
    assert_eq!(values(&ObservedLog::open(folder.path()).unwrap(), &tp("t", 0)), written[12..]);
}
