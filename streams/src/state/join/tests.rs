//! What the store of a join writes, keeps and drops.

use std::{ops::ControlFlow, time::Duration};

use headwater_core::{DefaultSerde, Partition, StateBackend, TaskId, memory::MemoryBackend};

use super::*;
use crate::{JoinWindows, state::Write};

const SLOT: StoreId = StoreId(0);

/// A store with its engine and its changelog.
struct Fixture {
    store: JoinStore<String>,
    state: Box<dyn TaskState>,
    changelog: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Fixture {
    /// Both sides of a window of `ms` wait for each other.
    fn new(ms: u64) -> Self {
        let task = TaskId { subtopology: 0, partition: Partition(0) };
        let state = MemoryBackend::default().open(task, &["j-left".to_owned()]).unwrap();
        Self { store: store(ms), state, changelog: Vec::new() }
    }

    fn put(&mut self, key: &str, value: &str, at: i64, matched: bool) -> Put<String> {
        self.store.observe(Timestamp(at));
        let value = value.to_owned();
        let row = (key.as_bytes(), Timestamp(at));
        let bytes = value.clone().into_bytes();
        self.store.put(row, (value, &bytes), matched, &*self.state).unwrap()
    }

    fn meet(&mut self, key: &str, from: i64, to: i64) -> String {
        let mut found = String::new();
        let range = (Timestamp(from), Timestamp(to));
        self.store.meet(key.as_bytes(), range, &*self.state, |value, _| found += value).unwrap();
        found
    }

    fn given_out(&mut self) -> String {
        let mut found = String::new();
        while self.store.next_given_out(&*self.state).unwrap().is_some() {
            let place = self.store.give_out().unwrap();
            found += self.store.row(place).unwrap().1;
        }
        self.store.all_given_out();
        found
    }

    fn commit(&mut self) {
        let changelog = &mut self.changelog;
        let mut sink = |write_key: &Write<'_>, write_value: &Write<'_>, _: Timestamp| {
            let (mut key, mut value) = (Vec::new(), Vec::new());
            assert!(write_key(&mut key)? && write_value(&mut value)?);
            let bytes = value.len();
            changelog.push((key, value));
            Ok(bytes)
        };
        Store::take_changes(&mut self.store, &mut sink).unwrap();
    }

    fn spill(&mut self) {
        self.commit();
        let mut batch = StateBatch::default();
        assert!(!self.store.spill(&mut batch, 0).unwrap());
        self.state.write(&batch).unwrap();
        self.store.evict();
    }

    /// Everything in memory is lost; `ms` is the length of the windows from now on.
    fn restart(&mut self, ms: u64) {
        let clock = self.store.clock;
        self.store = store(ms);
        self.store.set_clock(clock);
        self.store.prepare(&*self.state).unwrap();
        let mut batch = StateBatch::default();
        for (key, value) in self.changelog.drain(..) {
            self.store.restore(&key, Some(&value), (Timestamp(0), 0), &mut batch).unwrap();
        }
        self.state.write(&batch).unwrap();
        self.store.open(&*self.state).unwrap();
    }

    fn entries(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut entries = Vec::new();
        self.state
            .scan(SLOT, &[], None, &mut |key, value| {
                entries.push((key.to_vec(), value.to_vec()));
                Ok(ControlFlow::Continue(()))
            })
            .unwrap();
        entries
    }
}

fn store(ms: u64) -> JoinStore<String> {
    let span = JoinWindows::within(Duration::from_millis(ms)).left();
    JoinStore::new(&JoinStoreSpec { span, value: String::default_serde(), gives_out: true }, SLOT)
}

fn joined(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

#[test]
fn formats_stay_as_they_are() {
    let mut f = Fixture::new(50);
    f.put("ab", "v", 0x102, false);
    f.put("ab", "w", 0x102, false);
    assert_eq!(f.meet("ab", 0, 0x102), "vw");
    f.put("c", "x", 0x103, false);
    f.commit();
    let at = |at: i64| at.to_be_bytes();
    let row = |key: &[u8], time: i64, seq: u32| joined(&[key, &at(time), &seq.to_be_bytes()]);
    let expected = [
        (row(b"ab", 0x102, 0), b"v".to_vec()),
        (row(b"ab", 0x102, 1), b"w".to_vec()),
        (row(b"ab", 0x102, 0x8000_0000), vec![]),
        (row(b"ab", 0x102, 0x8000_0001), vec![]),
        (row(b"c", 0x103, 0), b"x".to_vec()),
    ];
    assert_eq!(f.changelog, expected);
    f.spill();
    let pane =
        |key: &[u8]| joined(&[&[0], &at(200), &at(300), &[0, 0, 0, u8::try_from(key.len()).unwrap()], key]);
    let stored = |key: &[u8], time: i64, seq: u32| joined(&[&pane(key), &row(b"", time, seq)]);
    let expected = [
        (stored(b"c", 0x103, 0), b"x".to_vec()),
        (stored(b"ab", 0x102, 0), b"v".to_vec()),
        (joined(&[&stored(b"ab", 0x102, 0), &[1]]), vec![]),
        (stored(b"ab", 0x102, 1), b"w".to_vec()),
        (joined(&[&stored(b"ab", 0x102, 1), &[1]]), vec![]),
        (joined(&[&[1], &at(0x103), b"c", &[0; 4]]), vec![]),
    ];
    assert_eq!(f.entries(), expected);
    // What is made of the changelog is what was spilled.
    let spilled = f.entries();
    let mut restored = Fixture::new(50);
    restored.changelog = std::mem::take(&mut f.changelog);
    restored.restart(50);
    assert_eq!(restored.entries(), spilled);
}

#[test]
fn old_rows_leave_memory_and_engine_without_being_looked_at() {
    let mut f = Fixture::new(50);
    for at in 0..5_000 {
        f.put("k", "v", at, false);
        f.given_out();
        match at % 500 {
            0 => f.spill(),
            n if n % 10 == 0 => f.commit(),
            _ => {}
        }
        f.changelog.clear();
        assert!(f.store.panes.len() <= 4 && f.store.due.len() <= 60, "at {at}");
    }
    f.spill();
    // Kept are 100 ms, in panes of 100 ms; not yet given out are 50 ms.
    let rows = f.entries().iter().filter(|(key, _)| key[0] == 0).count();
    assert!((100..=300).contains(&rows), "{rows}");
    assert_eq!(f.entries().len() - rows, 51);
}

/// Panes that were made with other windows stay, new ones fill the gaps, and nothing is lost or found twice.
#[test]
fn windows_may_change_between_two_runs() {
    for lengths in [[50, 500, 20], [500, 20, 50], [20, 50, 500]] {
        let mut f = Fixture::new(lengths[0]);
        let mut expected = String::new();
        for (turn, ms) in lengths.into_iter().chain(lengths).enumerate() {
            if turn > 0 {
                f.restart(ms);
            }
            for n in 0..4 {
                let at = 1_000 + n * 7 + i64::try_from(turn).unwrap();
                f.put("k", "v", at, true);
                f.put("k", "v", at, true);
                expected += "vv";
                if n == 1 {
                    f.spill();
                    f.changelog.clear();
                }
            }
            f.commit();
        }
        assert_eq!(f.meet("k", 0, 2_000), expected);
        let panes: Vec<_> = f.store.panes.iter().map(|pane| (pane.start, pane.end)).collect();
        assert!(panes.is_sorted_by(|a, b| a.1 <= b.0), "{panes:?}");
    }
}

#[test]
fn more_grace_gives_nothing_out_again_and_less_gives_out_what_waits() {
    let mut f = Fixture::new(50);
    f.put("k", "a", 0, false);
    f.put("k", "b", 40, false);
    f.put("x", "x", 60, false);
    assert_eq!(f.given_out(), "a");
    f.spill();
    f.changelog.clear();
    f.restart(90);
    assert_eq!((f.meet("k", 0, 10), f.given_out()), (String::new(), String::new()));
    f.restart(10);
    f.store.observe(Timestamp(61));
    assert!(f.store.is_due());
    assert_eq!(f.given_out(), "b");
}

/// More rows are due than are looked up at once.
#[test]
fn rows_of_one_time_are_given_out_in_the_order_of_their_keys_however_many() {
    let mut f = Fixture::new(50);
    let mut expected = String::new();
    for at in 0..3 {
        let mut keys: Vec<String> = (0..1500).map(|n| format!("{},", (n * 7919) % 1500)).collect();
        for key in &keys {
            f.put(key, key, at, false);
        }
        keys.sort();
        expected += &keys.concat();
    }
    f.spill();
    f.store.observe(Timestamp(100));
    assert!(f.given_out() == expected);
}

#[test]
fn a_record_is_taken_back_whole() {
    for spilled in [false, true] {
        let mut f = Fixture::new(50);
        f.put("k", "a", 0, false);
        f.put("k", "b", 10, false);
        f.commit();
        if spilled {
            f.spill();
        }
        f.store.begin_record();
        assert_eq!(f.meet("k", 0, 100), "ab");
        f.put("k", "c", 5, false);
        f.put("k", "d", 70, true);
        Store::roll_back(&mut f.store);
        assert_eq!((f.store.clock.time, f.store.uncommitted_bytes()), (Timestamp(10), 0));
        f.store.observe(Timestamp(61));
        assert_eq!(f.given_out(), "ab");
        f.put("k", "e", 62, false);
        assert_eq!(f.meet("k", 0, 100), "e");
    }
}

#[test]
fn damaged_rows_are_corrupt() {
    let mut f = Fixture::new(50);
    for key in [&b""[..], b"12 bytes....", &[0xff; 20]] {
        let result = f.store.restore(key, Some(b""), (Timestamp(0), 0), &mut StateBatch::default());
        let expected =
            if key.first() == Some(&b'1') { Ok(()) } else { Err(headwater_core::ErrorKind::Corrupt) };
        assert_eq!(result.map_err(|e| e.kind()), expected, "{key:?}");
    }
    for (key, value) in [(&[0; 3][..], &b""[..]), (&[0; 40], b""), (&[1; 5], b"")] {
        let mut f = Fixture::new(50);
        let mut batch = StateBatch::default();
        batch.put(SLOT, key, value);
        f.state.write(&batch).unwrap();
        let error = Store::open(&mut f.store, &*f.state).unwrap_err();
        assert_eq!(error.kind(), headwater_core::ErrorKind::Corrupt, "{error}");
    }
}
