//! Producers that nobody uses are forgotten, over restarts and crashes too.

use headwater_core::{Admin, ManualClock};

use super::*;

const EXPIRY: Duration = Duration::from_secs(60);

/// What is known according to the checkpoint and the journal, which is what the next owner will know.
fn known(folder: &Path) -> Vec<String> {
    let mut names = ObservedLog::open(folder).unwrap().producers().unwrap();
    names.sort();
    names
}

/// Each client has a name of its own, and most of them are there once.
#[test]
fn a_log_does_not_grow_with_the_producers_that_it_has_seen() {
    for options in [LogOptions::default(), tiny(), lazy()] {
        let clock = Arc::new(ManualClock::default());
        let options =
            LogOptions { clock: Arc::<ManualClock>::clone(&clock), producer_expiry: EXPIRY, ..options };
        let folder = tempfile::tempdir().unwrap();
        let open = || EmbeddedLog::open_with(folder.path(), options.clone()).unwrap();
        let mut log = open();
        create(&log, "t", 2, 500);
        let (mut most, mut stays) = (0, producer(&log, "stays"));
        for round in 0..60u64 {
            let mut once = producer(&log, &format!("once-{round:02}"));
            append(&mut *once, &tp("t", 0), &[round.to_string()]);
            append(&mut *stays, &tp("t", 1), &[round.to_string()]);
            block_on(once.commit(None)).unwrap();
            block_on(stays.commit(None)).unwrap();
            drop(once);
            clock.advance_ms(20_000);
            block_on(log.clean()).unwrap();
            let names = known(folder.path());
            most = most.max(names.len());
            assert!(names.contains(&"stays".into()), "{names:?}");
            assert!(names.contains(&format!("once-{:02}", round.saturating_sub(2))), "too early: {names:?}");
            match round % 10 {
                3 => {
                    drop(stays);
                    log.crash();
                }
                7 => {
                    drop(stays);
                    block_on(log.close()).unwrap();
                }
                _ => continue,
            }
            drop(log);
            log = open();
            assert_eq!(known(folder.path()), names, "recovery knows the same");
            stays = producer(&log, "stays");
        }
        println!("60 producers one after the other: {most} known at a time, at most");
        // Those of one review and the next, which are three rounds each.
        assert!((4..=7).contains(&most), "{most} names at once");
        let written: Vec<String> = (0..60).map(|round| round.to_string()).collect();
        assert_eq!((values(&log, &tp("t", 0)), values(&log, &tp("t", 1))), (written.clone(), written));
    }
}

/// A log that is opened for a moment each time forgets as one that stays open.
#[test]
fn the_time_runs_on_while_nobody_owns_the_log() {
    let clock = Arc::new(ManualClock::default());
    let options = LogOptions {
        clock: Arc::<ManualClock>::clone(&clock),
        producer_expiry: EXPIRY,
        ..LogOptions::default()
    };
    let folder = tempfile::tempdir().unwrap();
    let mut left = Vec::new();
    for round in 0..4 {
        let log = EmbeddedLog::open_with(folder.path(), options.clone()).unwrap();
        if round == 0 {
            drop(producer(&log, "p"));
        }
        block_on(log.clean()).unwrap();
        block_on(log.close()).unwrap();
        left.push(known(folder.path()).len());
        clock.advance_ms(30_000);
    }
    assert_eq!(left, [1, 1, 0, 0]);
}

/// What is to be forgotten stands in the journal byte for byte as it always will.
#[test]
fn a_review_has_golden_bytes() {
    let entry = ledger::Entry::ProducersReviewed { at: Timestamp(-2), next_id: 9, forgotten: vec![3, 7] };
    let mut bytes = Vec::new();
    codec::put_entry(&mut bytes, &entry);
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, "0afffffffffffffffe00000000000000090000000200000000000000030000000000000007");
    assert_eq!(codec::take_entry(&mut Bytes::from(bytes.clone())).unwrap(), entry);
    for length in 0..bytes.len() {
        let cut = codec::take_entry(&mut Bytes::copy_from_slice(&bytes[..length])).unwrap_err();
        assert_eq!(cut.kind(), ErrorKind::Corrupt, "{length} bytes");
    }
}

/// Batches that are kept compressed take nothing from those who can use it.
#[test]
fn batches_that_are_compressed_take_no_memory_away() {
    let folder = disk::folder();
    let options = LogOptions { filed_bytes_min: usize::MAX, tail_bytes_max: 300_000, ..lazy() };
    let log = EmbeddedLog::open_with(folder.path(), options).unwrap();
    create(&log, "t", 1, 1 << 30);
    let mut p = producer(&log, "p");
    let kept = |log: &EmbeddedLog| {
        log.settle().unwrap();
        log.0.shared.spare.count()
    };
    let (mut plain, mut packed) = (BatchBuilder::default(), BatchBuilder::default());
    packed.set_compression(headwater_core::Compression::Zstd);
    let push =
        |batch: &mut BatchBuilder| batch.push(Timestamp(0), None, Some(&[7; 32 << 10]), &Headers::new());
    for _ in 0..40 {
        push(&mut plain);
        p.append(&tp("t", 0), &mut plain).unwrap();
        block_on(p.commit(None)).unwrap();
    }
    let before = kept(&log);
    for _ in 0..3 {
        push(&mut packed);
        p.append(&tp("t", 0), &mut packed).unwrap();
    }
    assert_eq!(kept(&log), before, "buffers were taken and never used");
    push(&mut plain);
    p.append(&tp("t", 0), &mut plain).unwrap();
    assert_ne!(kept(&log), before, "there were some");
}
