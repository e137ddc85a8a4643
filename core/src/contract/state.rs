//! What every [`StateBackend`] does: `all` panics where one does not.

use std::ops::ControlFlow;

use crate::{
    Error, ErrorKind, Offset, Partition, Result, StateBackend, StateBatch, StoreId, TaskId, TaskState,
};

/// Runs every check on a backend of its own, which `open` makes: empty, and like no other.
///
/// ```
/// # #[cfg(feature = "contract")] {
/// use headwater_core::{contract, memory::MemoryBackend};
/// contract::state::all(|| Box::new(MemoryBackend::default()));
/// # }
/// ```
///
/// # Panics
/// When the backend does not do what it should.
pub fn all(open: impl Fn() -> Box<dyn StateBackend>) {
    for check in CHECKS {
        check(open().as_ref());
    }
}

const CHECKS: &[fn(&dyn StateBackend)] = &[
    a_new_store_is_empty,
    what_was_put_is_got_until_it_is_deleted,
    get_appends_to_what_is_in_the_buffer,
    scans_go_in_byte_order,
    scans_keep_to_their_range,
    an_empty_or_reversed_range_holds_nothing,
    a_visit_may_stop_a_scan,
    an_error_of_a_visit_is_passed_on,
    last_key_is_the_highest,
    delete_range_takes_what_it_names_and_no_more,
    a_later_change_of_a_batch_wins,
    stores_are_kept_apart,
    tasks_are_kept_apart,
    keys_and_values_may_be_empty,
    keys_and_values_may_be_long,
    positions_are_per_store_and_start_unknown,
    contents_and_positions_survive_a_reopen,
    a_store_may_be_added,
    the_order_of_stores_may_change,
    a_store_that_is_left_out_keeps_its_contents,
    names_of_stores_are_free,
    a_second_opener_is_refused,
    two_stores_of_one_name_are_refused,
    a_batch_that_names_an_unknown_store_changes_nothing,
    what_was_applied_is_read_at_once_and_kept_by_the_next_write,
    what_was_applied_survives_up_to_some_call,
];

const A: StoreId = StoreId(0);
const B: StoreId = StoreId(1);
const TASK: TaskId = TaskId { subtopology: 0, partition: Partition(3) };

/// A store as the suite compares it: its entries in the order of a scan.
type Entries = Vec<(Vec<u8>, Vec<u8>)>;

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

fn open(backend: &dyn StateBackend, stores: &[&str]) -> Box<dyn TaskState> {
    backend.open(TASK, &names(stores)).expect("a task that nobody has open can be opened")
}

fn write(state: &mut dyn TaskState, fill: impl FnOnce(&mut StateBatch)) {
    let mut batch = StateBatch::default();
    fill(&mut batch);
    state.write(&batch).expect("a batch can be written");
}

fn get(state: &dyn TaskState, store: StoreId, key: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let found = state.get(store, key, &mut out).expect("a key can be looked up");
    assert!(found || out.is_empty(), "a value was given, and then said to be none. key={key:?}");
    found.then_some(out)
}

fn scan(state: &dyn TaskState, store: StoreId, from: &[u8], to: Option<&[u8]>) -> Entries {
    let (mut entries, mut back) = (Entries::new(), Entries::new());
    let mut visit = |key: &[u8], value: &[u8]| {
        entries.push((key.to_vec(), value.to_vec()));
        Ok(ControlFlow::Continue(()))
    };
    state.scan(store, from, to, &mut visit).expect("a store can be scanned");
    let mut visit = |key: &[u8], value: &[u8]| {
        back.push((key.to_vec(), value.to_vec()));
        Ok(ControlFlow::Continue(()))
    };
    state.scan_back(store, from, to, &mut visit).expect("a store can be scanned backwards");
    back.reverse();
    assert_eq!(entries, back, "both ways there is the same, from={from:?}, to={to:?}");
    entries
}

fn keys(state: &dyn TaskState, store: StoreId, from: &[u8], to: Option<&[u8]>) -> Vec<Vec<u8>> {
    scan(state, store, from, to).into_iter().map(|(key, _)| key).collect()
}

fn last_key(state: &dyn TaskState, store: StoreId) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    state.last_key(store, &mut out).expect("a store has a last key or none").then_some(out)
}

fn position(state: &dyn TaskState, store: StoreId) -> Option<Offset> {
    state.position(store).expect("a store has a position or none")
}

fn kind_of<T>(result: Result<T>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

fn a_new_store_is_empty(backend: &dyn StateBackend) {
    let state = open(backend, &["a"]);
    assert_eq!(get(&*state, A, b"k"), None);
    assert_eq!(scan(&*state, A, b"", None), []);
    assert_eq!(last_key(&*state, A), None);
}

fn what_was_put_is_got_until_it_is_deleted(backend: &dyn StateBackend) {
    let mut state = open(backend, &["a"]);
    write(&mut *state, |batch| batch.put(A, b"k", b"1"));
    assert_eq!(get(&*state, A, b"k"), Some(b"1".to_vec()));
    write(&mut *state, |batch| batch.put(A, b"k", b"2"));
    assert_eq!(get(&*state, A, b"k"), Some(b"2".to_vec()));
    write(&mut *state, |batch| batch.delete(A, b"k"));
    assert_eq!(get(&*state, A, b"k"), None);
    assert_eq!(scan(&*state, A, b"", None), []);
    write(&mut *state, |batch| batch.delete(A, b"never there"));
    write(&mut *state, |_| {});
}

fn get_appends_to_what_is_in_the_buffer(backend: &dyn StateBackend) {
    let mut state = open(backend, &["a"]);
    write(&mut *state, |batch| batch.put(A, b"k", b"value"));
    let mut out = b"before ".to_vec();
    assert!(state.get(A, b"k", &mut out).expect("a key can be looked up"));
    assert!(!state.get(A, b"none", &mut out).expect("a key can be looked up"));
    assert!(state.last_key(A, &mut out).expect("a store has a last key"));
    assert_eq!(out, b"before valuek");
}

fn scans_go_in_byte_order(backend: &dyn StateBackend) {
    let mut state = open(backend, &["a"]);
    let sorted: &[&[u8]] = &[
        b"\x00",
        b"\x00\x00",
        b"\x01",
        b"A",
        b"a",
        b"a\x00",
        b"aa",
        b"b",
        b"\x7f",
        b"\x80",
        b"\xff",
        b"\xff\xff",
    ];
    write(&mut *state, |batch| {
        // Neither forwards nor backwards, so that the order of writing is no help.
        for at in (0..sorted.len()).map(|at| at * 5 % sorted.len()) {
            batch.put(A, sorted[at], b"");
        }
    });
    assert_eq!(keys(&*state, A, b"", None), sorted);
}

fn scans_keep_to_their_range(backend: &dyn StateBackend) {
    let mut state = open(backend, &["a"]);
    write(&mut *state, |batch| (0..10u8).for_each(|key| batch.put(A, &[key], &[key])));
    let range = |from: &[u8], to: Option<&[u8]>| keys(&*state, A, from, to).concat();
    assert_eq!(range(&[3], Some(&[6])), [3, 4, 5], "the start belongs to a range, its end does not");
    assert_eq!(range(&[7], None), [7, 8, 9]);
    assert_eq!(range(&[2, 0], Some(&[4, 0])), [3, 4], "bounds need not be keys");
    assert_eq!(range(&[], Some(&[1])), [0]);
    assert!(range(&[10], None).is_empty());
    assert_eq!(range(&[], None), (0..10).collect::<Vec<u8>>());
}

fn an_empty_or_reversed_range_holds_nothing(backend: &dyn StateBackend) {
    let mut state = open(backend, &["a"]);
    write(&mut *state, |batch| (0..5u8).for_each(|key| batch.put(A, &[key], b"")));
    for (from, to) in [([2], [2]), ([3], [1])] {
        assert_eq!(keys(&*state, A, &from, Some(&to)), Vec::<Vec<u8>>::new());
        write(&mut *state, |batch| batch.delete_range(A, &from, &to));
    }
    assert_eq!(keys(&*state, A, b"", Some(b"")), Vec::<Vec<u8>>::new());
    assert_eq!(keys(&*state, A, b"", None).concat(), [0, 1, 2, 3, 4]);
}

fn a_visit_may_stop_a_scan(backend: &dyn StateBackend) {
    let mut state = open(backend, &["a"]);
    write(&mut *state, |batch| (0..5u8).for_each(|key| batch.put(A, &[key], b"")));
    let mut seen = Vec::new();
    let mut visit = |key: &[u8], _: &[u8]| {
        seen.extend_from_slice(key);
        Ok(if key == [2] { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    };
    state.scan(A, b"", None, &mut visit).expect("a scan that is stopped is no error");
    state.scan_back(A, b"", None, &mut visit).expect("a scan that is stopped is no error");
    assert_eq!(seen, [0, 1, 2, 4, 3, 2]);
}

fn an_error_of_a_visit_is_passed_on(backend: &dyn StateBackend) {
    let mut state = open(backend, &["a"]);
    write(&mut *state, |batch| (0..5u8).for_each(|key| batch.put(A, &[key], b"")));
    let mut visits = 0;
    let mut visit = |_: &[u8], _: &[u8]| {
        visits += 1;
        Err(Error::processing("the visitor's own words"))
    };
    let error = state.scan(A, b"", None, &mut visit).expect_err("the visit failed");
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        (ErrorKind::Processing, "the visitor's own words")
    );
    assert_eq!(visits, 1);
}

fn last_key_is_the_highest(backend: &dyn StateBackend) {
    let mut state = open(backend, &["a", "b"]);
    write(&mut *state, |batch| {
        batch.put(A, b"b", b"");
        batch.put(A, b"ba", b"");
        batch.put(A, b"a", b"");
        batch.put(B, b"z", b"");
    });
    assert_eq!(last_key(&*state, A), Some(b"ba".to_vec()));
    write(&mut *state, |batch| batch.delete(A, b"ba"));
    assert_eq!(last_key(&*state, A), Some(b"b".to_vec()));
    write(&mut *state, |batch| batch.delete_range(A, b"a", b"c"));
    assert_eq!(last_key(&*state, A), None);
}

fn delete_range_takes_what_it_names_and_no_more(backend: &dyn StateBackend) {
    let mut state = open(backend, &["a", "b"]);
    write(&mut *state, |batch| {
        for key in 0..10u8 {
            batch.put(A, &[key], b"a");
            batch.put(B, &[key], b"b");
        }
    });
    write(&mut *state, |batch| batch.delete_range(A, &[3], &[7]));
    assert_eq!(keys(&*state, A, b"", None).concat(), [0, 1, 2, 7, 8, 9]);
    assert_eq!(keys(&*state, B, b"", None).len(), 10, "the other store keeps its keys");
    assert_eq!(get(&*state, A, &[4]), None);
    write(&mut *state, |batch| batch.put(A, &[4], b"again"));
    assert_eq!(get(&*state, A, &[4]), Some(b"again".to_vec()), "a range is deleted once, not for ever");
}

fn a_later_change_of_a_batch_wins(backend: &dyn StateBackend) {
    let mut state = open(backend, &["a"]);
    write(&mut *state, |batch| {
        batch.put(A, b"twice", b"1");
        batch.put(A, b"twice", b"2");
        batch.put(A, b"gone", b"1");
        batch.delete(A, b"gone");
        batch.delete(A, b"back");
        batch.put(A, b"back", b"1");
        batch.put(A, b"range-gone", b"1");
        batch.put(A, b"range-back", b"1");
        batch.delete_range(A, b"range", b"rangf");
        batch.put(A, b"range-back", b"2");
        batch.position(A, Offset(5));
        batch.position(A, Offset(7));
    });
    let expected: [(&[u8], &[u8]); 3] = [(b"back", b"1"), (b"range-back", b"2"), (b"twice", b"2")];
    assert_eq!(scan(&*state, A, b"", None), expected.map(|(key, value)| (key.to_vec(), value.to_vec())));
    assert_eq!(position(&*state, A), Some(Offset(7)));
}

fn stores_are_kept_apart(backend: &dyn StateBackend) {
    let mut state = open(backend, &["a", "b"]);
    write(&mut *state, |batch| {
        batch.put(A, b"k", b"a");
        batch.put(B, b"k", b"b");
        batch.put(B, b"only b", b"");
    });
    write(&mut *state, |batch| batch.delete(A, b"k"));
    assert_eq!(get(&*state, A, b"k"), None);
    assert_eq!(get(&*state, B, b"k"), Some(b"b".to_vec()));
    assert_eq!(keys(&*state, A, b"", None), Vec::<Vec<u8>>::new());
    assert_eq!(keys(&*state, B, b"", None).len(), 2);
}

fn tasks_are_kept_apart(backend: &dyn StateBackend) {
    let other = TaskId { subtopology: 3, partition: Partition(0) };
    let mut state = open(backend, &["a"]);
    let mut second =
        backend.open(other, &names(&["a"])).expect("another task can be opened beside the first");
    write(&mut *state, |batch| {
        batch.put(A, b"k", b"first");
        batch.position(A, Offset(1));
    });
    write(&mut *second, |batch| batch.put(A, b"k", b"second"));
    assert_eq!(get(&*state, A, b"k"), Some(b"first".to_vec()));
    assert_eq!(get(&*second, A, b"k"), Some(b"second".to_vec()));
    assert_eq!(position(&*second, A), None);
}

fn keys_and_values_may_be_empty(backend: &dyn StateBackend) {
    let mut state = open(backend, &["a"]);
    assert_eq!(get(&*state, A, b""), None);
    write(&mut *state, |batch| {
        batch.put(A, b"", b"of the empty key");
        batch.put(A, b"k", b"");
    });
    assert_eq!(get(&*state, A, b""), Some(b"of the empty key".to_vec()));
    assert_eq!(get(&*state, A, b"k"), Some(Vec::new()), "an empty value is a value");
    assert_eq!(keys(&*state, A, b"", None), [b"".to_vec(), b"k".to_vec()]);
    write(&mut *state, |batch| batch.delete(A, b"k"));
    assert_eq!(last_key(&*state, A), Some(Vec::new()), "an empty key is a key");
    write(&mut *state, |batch| batch.delete(A, b""));
    assert_eq!(last_key(&*state, A), None);
}

fn keys_and_values_may_be_long(backend: &dyn StateBackend) {
    let (key, value) = (vec![7; 100_000], vec![9; 3_000_000]);
    let mut state = open(backend, &["a"]);
    write(&mut *state, |batch| batch.put(A, &key, &value));
    drop(state);
    assert_eq!(get(&*open(backend, &["a"]), A, &key), Some(value));
}

fn positions_are_per_store_and_start_unknown(backend: &dyn StateBackend) {
    let mut state = open(backend, &["a", "b"]);
    assert_eq!((position(&*state, A), position(&*state, B)), (None, None));
    write(&mut *state, |batch| batch.position(B, Offset(9)));
    assert_eq!((position(&*state, A), position(&*state, B)), (None, Some(Offset(9))));
    write(&mut *state, |batch| {
        batch.position(A, Offset(0));
        batch.position(B, Offset(u64::MAX));
    });
    assert_eq!((position(&*state, A), position(&*state, B)), (Some(Offset(0)), Some(Offset(u64::MAX))));
    assert_eq!(scan(&*state, A, b"", None), [], "a position is not an entry");
}

fn contents_and_positions_survive_a_reopen(backend: &dyn StateBackend) {
    let mut expected = Entries::new();
    for round in 0..3u8 {
        let mut state = open(backend, &["a", "b"]);
        assert_eq!(scan(&*state, A, b"", None), expected, "round {round}");
        assert_eq!(position(&*state, A), (round > 0).then_some(Offset(u64::from(round))), "round {round}");
        write(&mut *state, |batch| {
            batch.put(A, &[round], b"kept");
            batch.put(B, &[round], b"deleted");
            batch.position(A, Offset(u64::from(round) + 1));
        });
        write(&mut *state, |batch| batch.delete_range(B, &[0], &[9]));
        expected.push((vec![round], b"kept".to_vec()));
        drop(state);
    }
    let state = open(backend, &["a", "b"]);
    assert_eq!(scan(&*state, A, b"", None), expected);
    assert_eq!(scan(&*state, B, b"", None), []);
}

fn a_store_may_be_added(backend: &dyn StateBackend) {
    let mut state = open(backend, &["a"]);
    write(&mut *state, |batch| batch.put(A, b"k", b"old"));
    drop(state);
    let mut state = open(backend, &["a", "b"]);
    assert_eq!(get(&*state, A, b"k"), Some(b"old".to_vec()));
    assert_eq!((scan(&*state, B, b"", None), position(&*state, B)), (Entries::new(), None));
    write(&mut *state, |batch| batch.put(B, b"k", b"new"));
    assert_eq!(get(&*state, B, b"k"), Some(b"new".to_vec()));
}

fn the_order_of_stores_may_change(backend: &dyn StateBackend) {
    let mut state = open(backend, &["a", "b"]);
    write(&mut *state, |batch| {
        batch.put(A, b"k", b"of a");
        batch.position(B, Offset(4));
    });
    drop(state);
    // The name is the identity of a store; its number is only its place in the list of this opener.
    let state = open(backend, &["b", "a"]);
    assert_eq!(get(&*state, StoreId(1), b"k"), Some(b"of a".to_vec()));
    assert_eq!(position(&*state, StoreId(0)), Some(Offset(4)));
}

fn a_store_that_is_left_out_keeps_its_contents(backend: &dyn StateBackend) {
    let mut state = open(backend, &["a", "b"]);
    write(&mut *state, |batch| batch.put(B, b"k", b"kept"));
    drop(state);
    drop(open(backend, &["a"]));
    assert_eq!(get(&*open(backend, &["a", "b"]), B, b"k"), Some(b"kept".to_vec()));
}

fn names_of_stores_are_free(backend: &dyn StateBackend) {
    let stores = ["default", "positions", "schema", "a/b", "../a", "a b", "Ä", "A", "a", "position/a"];
    let mut state = open(backend, &stores);
    write(&mut *state, |batch| {
        for (at, name) in (0..).zip(stores) {
            batch.put(StoreId(at), b"name", name.as_bytes());
            batch.position(StoreId(at), Offset(u64::from(at)));
        }
    });
    drop(state);
    let state = open(backend, &stores);
    for (at, name) in (0..).zip(stores) {
        assert_eq!(scan(&*state, StoreId(at), b"", None), [(b"name".to_vec(), name.as_bytes().to_vec())]);
        assert_eq!(position(&*state, StoreId(at)), Some(Offset(u64::from(at))));
    }
}

fn a_second_opener_is_refused(backend: &dyn StateBackend) {
    let mut state = open(backend, &["a"]);
    assert_eq!(kind_of(backend.open(TASK, &names(&["a"]))), Some(ErrorKind::Unavailable));
    write(&mut *state, |batch| batch.put(A, b"k", b"v"));
    assert_eq!(get(&*state, A, b"k"), Some(b"v".to_vec()), "the first opener was not disturbed");
    drop(state);
    assert_eq!(get(&*open(backend, &["a"]), A, b"k"), Some(b"v".to_vec()));
}

fn two_stores_of_one_name_are_refused(backend: &dyn StateBackend) {
    assert_eq!(kind_of(backend.open(TASK, &names(&["a", "b", "a"]))), Some(ErrorKind::Invalid));
    drop(open(backend, &["a", "b"]));
}

fn a_batch_that_names_an_unknown_store_changes_nothing(backend: &dyn StateBackend) {
    let mut state = open(backend, &["a"]);
    let mut batch = StateBatch::default();
    batch.put(A, b"k", b"v");
    batch.position(A, Offset(1));
    batch.put(B, b"k", b"v");
    assert_eq!(kind_of(state.write(&batch)), Some(ErrorKind::Invalid));
    assert_eq!((get(&*state, A, b"k"), position(&*state, A)), (None, None));
    assert_eq!(kind_of(state.get(B, b"k", &mut Vec::new())), Some(ErrorKind::Invalid));
    assert_eq!(kind_of(state.position(B)), Some(ErrorKind::Invalid));
    assert_eq!(kind_of(state.last_key(B, &mut Vec::new())), Some(ErrorKind::Invalid));
    let mut visit = |_: &[u8], _: &[u8]| Ok(ControlFlow::Continue(()));
    assert_eq!(kind_of(state.scan(B, b"", None, &mut visit)), Some(ErrorKind::Invalid));
}

fn apply(state: &mut dyn TaskState, fill: impl FnOnce(&mut StateBatch)) {
    let mut batch = StateBatch::default();
    fill(&mut batch);
    state.apply(&batch).expect("a batch can be applied");
}

fn what_was_applied_is_read_at_once_and_kept_by_the_next_write(backend: &dyn StateBackend) {
    let mut state = open(backend, &["a", "b"]);
    write(&mut *state, |batch| batch.put(A, b"gone", b"1"));
    apply(&mut *state, |batch| {
        batch.put(A, b"k", b"1");
        batch.delete(A, b"gone");
        batch.position(B, Offset(7));
    });
    apply(&mut *state, |batch| batch.put(A, b"k", b"2"));
    let check = |state: &dyn TaskState| {
        assert_eq!(scan(state, A, b"", None), [(b"k".to_vec(), b"2".to_vec())]);
        assert_eq!((position(state, A), position(state, B)), (None, Some(Offset(7))));
    };
    check(&*state);
    write(&mut *state, |_| {});
    drop(state);
    check(&*open(backend, &["a", "b"]));
    let mut batch = StateBatch::default();
    let mut state = open(backend, &["a"]);
    batch.put(A, b"k", b"3");
    batch.put(B, b"k", b"3");
    assert_eq!(kind_of(state.apply(&batch)), Some(ErrorKind::Invalid), "a store that it was not opened with");
    assert_eq!(get(&*state, A, b"k"), Some(b"2".to_vec()));
}

/// Closed without a write, which may be like a crash and may be like a write.
fn what_was_applied_survives_up_to_some_call(backend: &dyn StateBackend) {
    const CALLS: u64 = 100;
    let mut state = open(backend, &["a", "b"]);
    for call in 1..=CALLS {
        apply(&mut *state, |batch| {
            // Large, so that some of it may be on its way already.
            batch.put(A, &call.to_be_bytes(), &[0; 100_000]);
            batch.position(B, Offset(call));
        });
    }
    drop(state);
    let state = open(backend, &["a", "b"]);
    let survived = position(&*state, B).map_or(0, |offset| offset.0);
    assert!(survived <= CALLS);
    let expected: Vec<_> = (1..=survived).map(|call| call.to_be_bytes().to_vec()).collect();
    assert_eq!(keys(&*state, A, b"", None), expected);
}
