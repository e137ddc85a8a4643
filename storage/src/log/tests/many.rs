//! Ten thousand partitions in one log.

use std::time::Instant;

use super::*;

const PARTITIONS: u32 = 10_000;

fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

/// Where there is a file system in memory: what takes time there is our work, and not the disk's.
fn in_memory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn append_to_all(producer: &mut dyn Producer, value: &str) {
    for number in 0..PARTITIONS {
        append(producer, &tp("t", number), &[value.into()]);
    }
    block_on(producer.commit(None)).unwrap();
}

#[test]
fn ten_thousand_partitions_need_few_files_and_little_time() {
    let folder = in_memory();
    let options = LogOptions { durability: Durability::Os, tail_bytes_max: 1 << 20, ..lazy() };
    let at_most = open_files() + 2 * options.open_files_max + 100;
    let begun = Instant::now();
    let log = EmbeddedLog::open_with(folder.path(), options.clone()).unwrap();
    create(&log, "t", PARTITIONS, 1 << 20);
    let mut p = producer(&log, "p");
    append_to_all(&mut *p, "first");
    append_to_all(&mut *p, "second");
    let appended = begun.elapsed();
    assert!(open_files() < at_most, "{} files are open", open_files());
    drop(p);
    block_on(log.close()).unwrap();
    drop(log);
    let closed = begun.elapsed();
    let log = EmbeddedLog::open_with(folder.path(), options.clone()).unwrap();
    let opened = begun.elapsed();
    assert_eq!(log.recovery(), &RecoveryReport::default());
    for number in (0..PARTITIONS).step_by(97) {
        assert_eq!(values(&log, &tp("t", number)), ["first", "second"]);
    }
    append_to_all(&mut *producer(&log, "p"), "third");
    log.crash();
    drop(log);
    let crashed = begun.elapsed();
    let log = EmbeddedLog::open_with(folder.path(), options).unwrap();
    assert_eq!(values(&log, &tp("t", PARTITIONS - 1)), ["first", "second", "third"]);
    assert!(open_files() < at_most, "{} files are open", open_files());
    let recovered = begun.elapsed();
    life::delete_topic(&log, "t").unwrap();
    let (deleted, none) = (begun.elapsed(), Duration::ZERO);
    let steps = [none, appended, closed, opened, crashed, recovered, deleted];
    let steps: Vec<_> = steps.windows(2).map(|pair| pair[1] - pair[0]).collect();
    println!("append, close, open, append and crash, recover, delete: {steps:?}");
    assert_eq!(numbered(&folder.path().join("topics/t/0"), "log"), Vec::<u64>::new());
}
