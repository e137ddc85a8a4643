//! What lies on disk in the end, next to what must lie there.

use std::{collections::BTreeMap, ops::ControlFlow, path::Path};

use headwater::{
    Embedded,
    core::{Log, Offset, Partition, StateBackend, StoreId, TaskId, TopicName, TopicPartition},
    storage::state::{RocksBackend, RocksOptions},
};

use super::{
    input::Input,
    model::{Counting, JoinRow, Raw, Rows, Sensing, counting, sensing},
    program::{
        ANSWERS, CLOSED, COUNTING, COUNTING_STORES, COUNTS, ENRICHED, PARTITIONS, REPARTITION, SENSING,
        SENSING_STORES, STATS, settings, topology,
    },
};

/// Marks, in the number of a row in the changelog of a join, that it met somebody.
const MATCHED: u32 = 1 << 31;
/// Bytes of time and number behind the key of such a row.
const PLACE_BYTES: usize = 12;

/// After a clean end there is nothing to restore, nothing to process and nothing to write.
pub(super) async fn nothing_is_left_to_do(embedded: &Embedded) {
    let streams = embedded.start(topology().unwrap(), settings()).await.unwrap();
    streams.caught_up().await.unwrap();
    let total = streams.close().await.unwrap().total();
    assert_eq!((total.restored, total.records, total.written), (0, 0, 0));
}

/// How many records were looked at.
#[derive(Debug, Default)]
pub(super) struct Looked {
    pub(super) outputs: usize,
    pub(super) changelogs: u64,
    /// Left out of windows and joins, as they must be.
    pub(super) late: u64,
}

/// Checks all topics that the program wrote.
pub(super) async fn logs(embedded: &Embedded, input: &Input) -> Looked {
    let (mut sent, mut looked) = (0, Looked::default());
    for (number, expected) in (0..).zip(counting(input)) {
        looked.outputs += expected.counts.len();
        equal(&read(embedded, COUNTS, number).await, &expected.counts, COUNTS, number);
        looked.changelogs +=
            last_values(embedded, COUNTING_STORES[0], number, &updated(&expected.rows)).await;
        sent += read(embedded, REPARTITION, number).await.len();
    }
    assert_eq!(sent, input.words.len(), "each word was sent on once");
    for (number, expected) in (0..).zip(sensing(input)) {
        for (topic, records) in [
            (ENRICHED, &expected.enriched),
            (STATS, &expected.stats),
            (CLOSED, &expected.closed),
            (ANSWERS, &expected.answers),
        ] {
            looked.outputs += records.len();
            assert!(!records.is_empty());
            equal(&read(embedded, topic, number).await, records, topic, number);
        }
        let [sensors, stats, closed, left, right] = SENSING_STORES;
        looked.changelogs += last_values(embedded, sensors, number, &expected.sensors).await;
        looked.changelogs += last_values(embedded, stats, number, &updated(&expected.stats_rows)).await;
        looked.changelogs += last_values(embedded, closed, number, &updated(&expected.closed_rows)).await;
        looked.changelogs += join_rows(embedded, left, number, (&expected.left, expected.matched)).await;
        looked.changelogs += join_rows(embedded, right, number, (&expected.right, 0)).await;
        looked.late += expected.late;
    }
    assert!(looked.late > 0, "the input has records that come too late");
    looked
}

/// Rows of which none was deleted.
fn updated(rows: &Rows) -> BTreeMap<Vec<u8>, (Option<Vec<u8>>, i64)> {
    rows.iter().map(|(key, (value, at))| (key.clone(), (Some(value.clone()), *at))).collect()
}

fn equal(records: &[Raw], expected: &[Raw], topic: &str, number: u32) {
    let differs = records.iter().zip(expected).position(|(a, b)| a != b);
    if let Some(at) = differs {
        panic!("{topic}-{number} at {at}: {:?} is not {:?}", records[at], expected[at]);
    }
    assert_eq!(records.len(), expected.len(), "{topic}-{number}");
}

fn changelog(store: &str) -> String {
    format!("{}-{store}-changelog", settings().application_id)
}

/// Checks the last value of each key in a changelog; gives how many records it has.
async fn last_values(
    embedded: &Embedded,
    store: &str,
    number: u32,
    expected: &BTreeMap<Vec<u8>, (Option<Vec<u8>>, i64)>,
) -> u64 {
    let records = read(embedded, &changelog(store), number).await;
    let count = records.len() as u64;
    let last: BTreeMap<_, _> = records.into_iter().map(|(at, key, value)| (key, (value, at))).collect();
    assert_eq!(last.len(), expected.len(), "rows of {store}-{number}");
    for (row, wanted) in last.iter().zip(expected) {
        assert_eq!(row, wanted, "a row of {store}-{number}");
    }
    count
}

/// Checks that the changelog of a join's side has each row once, and a mark on each that met somebody.
async fn join_rows(
    embedded: &Embedded,
    store: &str,
    number: u32,
    (expected, matched): (&[JoinRow], usize),
) -> u64 {
    let records = read(embedded, &changelog(store), number).await;
    let (mut rows, mut marks) = (Vec::new(), std::collections::BTreeSet::new());
    for (at, key, value) in &records {
        let (key, place) = key.split_at(key.len() - PLACE_BYTES);
        let (time, sequence) = place.split_at(8);
        assert_eq!(time, at.to_be_bytes());
        let sequence = u32::from_be_bytes(sequence.try_into().unwrap());
        if sequence & MATCHED == 0 {
            rows.push((*at, key.to_vec(), value.clone().unwrap()));
        } else {
            assert!(marks.insert((*at, key.to_vec(), sequence)), "a row of {store} is marked twice");
        }
    }
    let mut expected = expected.to_vec();
    rows.sort_unstable();
    expected.sort_unstable();
    assert!(rows == expected, "{store}-{number} has {} rows of {}", rows.len(), expected.len());
    assert_eq!(marks.len(), matched, "rows of {store}-{number} that met somebody");
    records.len() as u64
}

async fn read(embedded: &Embedded, topic: &str, number: u32) -> Vec<Raw> {
    let partition = TopicPartition::new(TopicName::new(topic).unwrap(), Partition(number));
    let (mut records, mut next) = (Vec::new(), Offset(0));
    loop {
        let fetched = embedded.log().read(&partition, next, 1 << 20).await.unwrap();
        if fetched.batches.is_empty() {
            return records;
        }
        for batch in fetched.batches {
            let mut cursor = batch.cursor();
            while let Some(record) = cursor.next().transpose().unwrap() {
                assert_eq!(record.offset, next, "offsets are dense");
                next = record.offset.next();
                let key = record.key.map(<[u8]>::to_vec).unwrap();
                records.push((record.timestamp.0, key, record.value.map(<[u8]>::to_vec)));
            }
        }
    }
}

/// Checks what RocksDB holds of each store; gives how many rows that is.
pub(super) fn stores(folder: &Path, input: &Input) -> usize {
    let backend = RocksBackend::open(folder.join("state").join("app"), RocksOptions::default()).unwrap();
    let mut count = 0;
    for (number, Counting { rows, .. }) in (0..).zip(counting(input)) {
        count += rows.len();
        let found = &stored(&backend, (COUNTING, number), &COUNTING_STORES)[0];
        assert!(*found == entries(&rows), "word-counts-{number}");
    }
    for (number, expected) in (0..PARTITIONS).zip(sensing(input)) {
        let found = stored(&backend, (SENSING, number), &SENSING_STORES);
        let sensors =
            expected.sensors.iter().filter_map(|(key, (row, at))| Some((key.clone(), (row.clone()?, *at))));
        assert!(found[0] == entries(&sensors.collect()), "sensor-rows-{number}");
        assert!(found[1] == windows(&expected.stats_open), "stats-8s-{number}");
        assert!(found[2] == windows(&expected.closed_open), "closed-8s-{number}");
        count += found[..3].iter().map(Vec::len).sum::<usize>();
        for (rows, kept) in found[3..].iter().zip([&expected.left, &expected.right]) {
            count += check_join(rows, kept, &expected);
        }
    }
    count
}

type Entry = (Vec<u8>, Vec<u8>);

fn stored(backend: &RocksBackend, (subtopology, number): (u32, u32), stores: &[&str]) -> Vec<Vec<Entry>> {
    let names: Vec<String> = stores.iter().map(|name| (*name).to_owned()).collect();
    let task = TaskId { subtopology, partition: Partition(number) };
    let state = backend.open(task, &names).unwrap();
    let scan = |slot| {
        let mut entries = Vec::new();
        let mut visit = |key: &[u8], value: &[u8]| {
            entries.push((key.to_vec(), value.to_vec()));
            Ok(ControlFlow::Continue(()))
        };
        state.scan(StoreId(slot), &[], None, &mut visit).unwrap();
        entries
    };
    (0..).zip(&names).map(|(slot, _)| scan(slot)).collect()
}

/// Rows as they lie in RocksDB: the timestamp in front of the value.
fn entries(rows: &Rows) -> Vec<Entry> {
    let value = |(value, at): &(Vec<u8>, i64)| [&at.to_be_bytes()[..], value].concat();
    rows.iter().map(|(key, row)| (key.clone(), value(row))).collect()
}

/// As [`entries`], with the beginning of the window before the key, and not behind it with four bytes more.
fn windows(rows: &Rows) -> Vec<Entry> {
    let turned = rows.iter().map(|(key, row)| {
        let (key, place) = key.split_at(key.len() - PLACE_BYTES);
        ([&place[..8], key].concat(), row.clone())
    });
    entries(&turned.collect())
}

/// Rows of one side of a join: all that are not too old yet, and none that was not kept. How many.
fn check_join(entries: &[Entry], kept: &[JoinRow], expected: &Sensing) -> usize {
    // `0 | pane | u32 length of key | key | i64 time | u32 number`, and such a key with one byte more for its mark.
    let row = |(entry, value): &Entry| {
        // What begins with 1 says who met nobody.
        let (length, rest) = entry.strip_prefix(&[0])?.get(16..)?.split_first_chunk::<4>()?;
        let (key, place) = rest.split_at(u32::from_be_bytes(*length) as usize);
        let time = i64::from_be_bytes(*place.first_chunk::<8>()?);
        (place.len() == PLACE_BYTES).then(|| (time, key.to_vec(), value.clone()))
    };
    let mut found: Vec<JoinRow> = entries.iter().filter_map(row).collect();
    let count = found.len();
    found.sort_unstable();
    let mut kept = kept.to_vec();
    kept.sort_unstable();
    let is_young = |row: &&JoinRow| row.0 >= expected.kept_from;
    assert!(
        found.iter().filter(is_young).eq(kept.iter().filter(is_young)),
        "a join does not keep what it must"
    );
    assert!(found.iter().all(|row| kept.binary_search(row).is_ok()), "a join keeps what it never had");
    count
}
