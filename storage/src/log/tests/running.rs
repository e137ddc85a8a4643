//! Threads and limits.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use super::*;

const THREADS: u64 = 8;
const COMMITS: u64 = 60;

/// Each commit writes the same value to two of four partitions. Readers who see it in one see it in the other.
fn commit_from_many_threads(options: LogOptions) {
    let folder = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open_with(folder.path(), options.clone()).unwrap();
    create(&log, "t", 4, 4000);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let writers: Vec<_> = (0..THREADS)
            .map(|writer| {
                scope.spawn({
                    let log = &log;
                    move || write(log, writer)
                })
            })
            .collect();
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        check(&log);
                    }
                })
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        done.store(true, Ordering::Relaxed);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
    assert_eq!(check(&log), 2 * 3 * THREADS * COMMITS);
    log.crash();
    drop(log);
    let log = EmbeddedLog::open_with(folder.path(), options).unwrap();
    assert_eq!(check(&log), 2 * 3 * THREADS * COMMITS);
}

fn write(log: &EmbeddedLog, writer: u64) {
    let mut producer = producer(log, &format!("writer {writer}"));
    for number in 0..COMMITS {
        let values = vec![format!("{writer} {number}"); 3];
        let first = u32::try_from((writer + number) % 4).unwrap();
        append(&mut *producer, &tp("t", first), &values);
        append(&mut *producer, &tp("t", (first + 1) % 4), &values);
        if number % 7 == 3 {
            producer.abort();
            append(&mut *producer, &tp("t", first), &values);
            append(&mut *producer, &tp("t", (first + 1) % 4), &values);
        }
        let written = block_on(producer.commit(None)).unwrap();
        assert_eq!(written.len(), 2);
        for written in written {
            assert_eq!(written.next, written.base.plus(3));
            let read = block_on(log.read(&written.partition, written.base, 0)).unwrap();
            assert_eq!(read.batches[0].base_offset(), written.base, "what was committed can be read at once");
        }
    }
}

/// Reads the four partitions one after another: what was seen in one must be seen in a later one. Returns records.
fn check(log: &EmbeddedLog) -> u64 {
    let seen: Vec<Vec<String>> =
        (0..4).map(|partition| try_values(log, &tp("t", partition), 700).unwrap()).collect();
    for writer in 0..THREADS {
        let of_writer = format!("{writer} ");
        for (first, second) in [(0, 1), (1, 2), (2, 3)] {
            let pairs = |value: &&String| {
                let number: u64 =
                    value.strip_prefix(&of_writer).and_then(|number| number.parse().ok()).unwrap_or(u64::MAX);
                number != u64::MAX && (writer + number) % 4 == first
            };
            let (firsts, seconds) =
                (&seen[usize::try_from(first).unwrap()], &seen[usize::try_from(second).unwrap()]);
            let both: Vec<_> =
                seconds.iter().filter(pairs).take(firsts.iter().filter(pairs).count()).collect();
            let expected: Vec<_> = firsts.iter().filter(pairs).collect();
            assert_eq!(both, expected, "half a commit was seen, or out of order");
        }
    }
    seen.iter().map(|values| values.len() as u64).sum()
}

#[test]
fn commits_of_many_threads_are_atomic_and_dense() {
    commit_from_many_threads(LogOptions::default());
}

#[test]
fn commits_of_many_threads_are_atomic_and_dense_with_tiny_limits() {
    commit_from_many_threads(LogOptions { queue_bytes_max: 600, ..tiny() });
}

#[test]
fn a_commit_larger_than_everything_is_still_one() {
    let folder = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open_with(folder.path(), LogOptions { queue_bytes_max: 100, ..tiny() }).unwrap();
    create(&log, "t", 2, 5000);
    let mut p = producer(&log, "p");
    for number in 0..20 {
        append(&mut *p, &tp("t", number % 2), &vec!["y".repeat(100); 20]);
    }
    block_on(p.commit(None)).unwrap();
    log.crash();
    let log = EmbeddedLog::open_with(folder.path(), tiny()).unwrap();
    assert_eq!(values(&log, &tp("t", 0)).len(), 200);
    assert_eq!(values(&log, &tp("t", 1)).len(), 200);
    let sizes = numbered(&folder.path().join("journal"), "spare").len();
    assert!(sizes < 6, "used files do not pile up: {sizes}");
}

#[test]
fn batches_have_a_limit() {
    let folder = tempfile::tempdir().unwrap();
    let options = LogOptions { commit_bytes_max: 500, ..tiny() };
    let log = EmbeddedLog::open_with(folder.path(), options).unwrap();
    let config = TopicConfig { max_message_bytes: 300, ..TopicConfig::default() };
    block_on(log.create_topic(&TopicSpec { config, ..TopicSpec::new("t", 1).unwrap() })).unwrap();
    let mut p = producer(&log, "p");
    let mut large = BatchBuilder::default();
    large.push(Timestamp(0), None, Some(&[0; 300]), &Headers::new());
    let error = p.append(&tp("t", 0), &mut large).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("max.message.bytes=300"), "{error}");
    append(&mut *p, &tp("t", 0), &["z".repeat(200)]);
    let mut second = BatchBuilder::default();
    second.push(Timestamp(0), None, Some(&[0; 200]), &Headers::new());
    let error = p.append(&tp("t", 0), &mut second).unwrap_err();
    assert!(error.to_string().contains("commit_bytes_max=500"), "{error}");
    block_on(p.commit(None)).unwrap();
    assert_eq!(values(&log, &tp("t", 0)).len(), 1);
}

#[test]
fn an_interval_syncs_by_itself_and_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let options = LogOptions { durability: Durability::Interval(Duration::from_millis(2)), ..lazy() };
    let log = EmbeddedLog::open_with(folder.path(), options.clone()).unwrap();
    create(&log, "t", 2, 500);
    commit_both(&mut *producer(&log, "p"), 0..50);
    log.crash();
    drop(log);
    assert_eq!(commits_in(&EmbeddedLog::open_with(folder.path(), options).unwrap()), 50);
}
