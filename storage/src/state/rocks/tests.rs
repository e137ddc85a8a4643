//! RocksDB against the contract, against a model, with damaged files, and killed.

mod killed;

use std::{cell::RefCell, collections::BTreeMap, fs, ops::ControlFlow, path::Path};

use headwater_core::{Partition, contract};
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, RngSeed},
};
use tempfile::TempDir;

use super::*;

const TASK: TaskId = TaskId { subtopology: 0, partition: Partition(3) };

fn backend(folder: &Path) -> RocksBackend {
    RocksBackend::open(folder, RocksOptions { memory_bytes: 8 << 20, ..RocksOptions::default() })
        .expect("a folder of our own")
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

fn open(folder: &Path, stores: &[&str]) -> Result<Box<dyn TaskState>> {
    backend(folder).open(TASK, &names(stores))
}

type Entries = Vec<(Vec<u8>, Vec<u8>)>;

fn scan(state: &dyn TaskState, store: StoreId, from: &[u8], to: Option<&[u8]>) -> Result<Entries> {
    let mut entries = Entries::new();
    let mut visit = |key: &[u8], value: &[u8]| {
        entries.push((key.to_vec(), value.to_vec()));
        Ok(ControlFlow::Continue(()))
    };
    state.scan(store, from, to, &mut visit)?;
    Ok(entries)
}

/// A limit for all tasks together, of which one write uses up some periods.
#[test]
fn what_is_written_slowly_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let options = RocksOptions { memory_bytes: 8 << 20, write_bytes_per_second: NonZeroU64::new(4 << 20) };
    let limited = RocksBackend::open(folder.path(), options).unwrap();
    let tasks = [0, 1].map(|partition| TaskId { subtopology: 0, partition: Partition(partition) });
    let mut states = tasks.map(|task| limited.open(task, &names(&["s"])).unwrap());
    let mut batch = StateBatch::default();
    // Nothing that could be made smaller.
    let mut random = 1u32;
    let mut value = || {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        random.to_be_bytes().repeat(64)
    };
    (0..2000u32).for_each(|key| batch.put(StoreId(0), &key.to_be_bytes(), &value()));
    let begun = std::time::Instant::now();
    for state in &mut states {
        state.write(&batch).unwrap();
    }
    // A megabyte at four a second, with what is there at the beginning; without a limit it is a few milliseconds.
    assert!(begun.elapsed().as_millis() > 100, "{:?}", begun.elapsed());
    for state in &states {
        assert_eq!(scan(&**state, StoreId(0), &[], None).unwrap().len(), 2000);
    }
}

#[test]
fn rocksdb_keeps_the_contract_of_state() {
    let folders = RefCell::new(Vec::<TempDir>::new());
    contract::state::all(|| {
        let folder = tempfile::tempdir().unwrap();
        let backend = backend(folder.path());
        folders.borrow_mut().push(folder);
        Box::new(backend)
    });
}

#[derive(Debug, Clone)]
enum Step {
    Write(Vec<(usize, Change)>),
    Reopen,
}

#[derive(Debug, Clone)]
enum Change {
    Put(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
    DeleteRange(Vec<u8>, Vec<u8>),
    Position(u64),
}

const STORES: [&str; 2] = ["left", "right"];

/// Few different keys, so that they meet; and those at the edges of byte order.
fn key() -> impl Strategy<Value = Vec<u8>> {
    vec(prop_oneof![Just(0), Just(1), Just(127), Just(255)], 0..3)
}

fn step() -> impl Strategy<Value = Step> {
    let change = prop_oneof![
        6 => (key(), vec(any::<u8>(), 0..20)).prop_map(|(key, value)| Change::Put(key, value)),
        2 => key().prop_map(Change::Delete),
        2 => (key(), key()).prop_map(|(from, to)| Change::DeleteRange(from, to)),
        1 => any::<u64>().prop_map(Change::Position),
    ];
    prop_oneof![
        4 => vec((0..STORES.len(), change), 0..12).prop_map(Step::Write),
        1 => Just(Step::Reopen),
    ]
}

#[derive(Default)]
struct Model {
    entries: BTreeMap<Vec<u8>, Vec<u8>>,
    position: Option<u64>,
}

impl Model {
    fn apply(&mut self, change: &Change) {
        match change {
            Change::Put(key, value) => {
                self.entries.insert(key.clone(), value.clone());
            }
            Change::Delete(key) => {
                self.entries.remove(key);
            }
            Change::DeleteRange(from, to) => self.entries.retain(|key, _| key < from || key >= to),
            Change::Position(offset) => self.position = Some(*offset),
        }
    }

    fn check(&self, state: &dyn TaskState, id: StoreId, from: &[u8], to: &[u8]) {
        let all = |(key, value): (&Vec<u8>, &Vec<u8>)| (key.clone(), value.clone());
        let within = |(key, _): &(&Vec<u8>, &Vec<u8>)| key.as_slice() >= from && key.as_slice() < to;
        assert_eq!(scan(state, id, b"", None).unwrap(), self.entries.iter().map(all).collect::<Entries>());
        assert_eq!(
            scan(state, id, from, Some(to)).unwrap(),
            self.entries.iter().filter(within).map(all).collect::<Entries>()
        );
        for probe in [from, to] {
            let mut value = Vec::new();
            let found = state.get(id, probe, &mut value).unwrap().then_some(value);
            assert_eq!(found.as_ref(), self.entries.get(probe));
        }
        let mut last = Vec::new();
        assert_eq!(state.last_key(id, &mut last).unwrap(), !self.entries.is_empty());
        assert_eq!(last, self.entries.last_key_value().map(|(key, _)| key.clone()).unwrap_or_default());
        assert_eq!(state.position(id).unwrap(), self.position.map(Offset));
    }
}

proptest! {
    // A fixed seed: the same cases on every run. Raise `cases` or change the seed to look for more.
    #![proptest_config(Config { cases: 40, rng_seed: RngSeed::Fixed(31), failure_persistence: None, ..Config::default() })]

    #[test]
    fn any_changes_give_what_a_map_gives(steps in vec((step(), key(), key()), 1..15)) {
        let folder = tempfile::tempdir().unwrap();
        let mut state = open(folder.path(), &STORES).unwrap();
        let mut models = [Model::default(), Model::default()];
        let mut batch = StateBatch::default();
        for (step, from, to) in &steps {
            match step {
                Step::Write(changes) => {
                    batch.clear();
                    for (store, change) in changes {
                        models[*store].apply(change);
                        let id = StoreId(u16::try_from(*store).unwrap());
                        match change {
                            Change::Put(key, value) => batch.put(id, key, value),
                            Change::Delete(key) => batch.delete(id, key),
                            Change::DeleteRange(from, to) => batch.delete_range(id, from, to),
                            Change::Position(offset) => batch.position(id, Offset(*offset)),
                        }
                    }
                    state.write(&batch).unwrap();
                }
                Step::Reopen => {
                    drop(state);
                    state = open(folder.path(), &STORES).unwrap();
                }
            }
            for (id, model) in (0..).zip(&models) {
                model.check(&*state, StoreId(id), from, to);
            }
        }
    }
}

/// A task with one store of some size, closed again.
fn some_state(folder: &Path) {
    let mut state = open(folder, &["totals"]).unwrap();
    let mut batch = StateBatch::default();
    (0..2000u32).for_each(|key| batch.put(StoreId(0), &key.to_be_bytes(), &[7; 32]));
    batch.position(StoreId(0), Offset(2000));
    state.write(&batch).unwrap();
}

/// Files of the task whose names begin or end so, largest first.
fn files(folder: &Path, part: &str) -> Vec<PathBuf> {
    let named = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(part))
            || path.extension().is_some_and(|extension| extension == part)
    };
    let mut files: Vec<_> = fs::read_dir(folder.join(TASK.to_string()))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(named)
        .collect();
    files.sort_by_key(|path| std::cmp::Reverse(fs::metadata(path).unwrap().len()));
    files
}

fn flip_a_byte(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_damaged_block_is_corrupt_and_says_where() {
    let folder = tempfile::tempdir().unwrap();
    some_state(folder.path());
    flip_a_byte(&files(folder.path(), "sst")[0]);
    let error =
        open(folder.path(), &["totals"]).and_then(|state| scan(&*state, StoreId(0), b"", None)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
    assert!(error.to_string().contains("task=0_3, store=`totals`, folder=`"), "{error}");
}

#[test]
fn a_damaged_manifest_is_corrupt() {
    let folder = tempfile::tempdir().unwrap();
    some_state(folder.path());
    flip_a_byte(&files(folder.path(), "MANIFEST")[0]);
    let error = open(folder.path(), &["totals"]).err().expect("the list of files is damaged");
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
    assert!(error.to_string().contains("task=0_3"), "{error}");
}

#[test]
fn a_missing_file_is_corrupt() {
    let folder = tempfile::tempdir().unwrap();
    some_state(folder.path());
    fs::remove_file(&files(folder.path(), "sst")[0]).unwrap();
    let error = open(folder.path(), &["totals"])
        .and_then(|state| scan(&*state, StoreId(0), b"", None))
        .expect_err("a file is missing");
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
}

#[test]
fn state_of_another_version_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    some_state(folder.path());
    let families = ["default", "store/totals"];
    let db = DB::open_cf(&rocksdb::Options::default(), folder.path().join("0_3"), families).unwrap();
    db.put(SCHEMA_KEY, b"2").unwrap();
    drop(db);
    let error = open(folder.path(), &["totals"]).err().expect("version 2 is not known");
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error:?}");
    assert!(error.to_string().contains("found=`2`, known=`1`"), "{error}");
}

#[test]
fn a_database_that_is_not_ours_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = rocksdb::Options::default();
    options.create_if_missing(true);
    let db = DB::open(&options, folder.path().join("0_3")).unwrap();
    db.put(b"somebody's", b"data").unwrap();
    drop(db);
    assert_eq!(open(folder.path(), &["totals"]).err().map(|error| error.kind()), Some(ErrorKind::Corrupt));
}

#[test]
fn a_folder_that_is_in_use_is_refused_and_says_by_whom() {
    let folder = tempfile::tempdir().unwrap();
    // A task that is open holds the folder, when the backend is gone, too.
    let first = open(folder.path(), &["totals"]).unwrap();
    let options = RocksOptions { memory_bytes: 8 << 20, ..RocksOptions::default() };
    let error = RocksBackend::open(folder.path(), options).err().expect("the folder is in use");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let holder = format!("folder={}, pid={}", folder.path().display(), std::process::id());
    assert!(error.to_string().ends_with(&holder), "{error}");
    drop(first);
    let backend = RocksBackend::open(folder.path(), options).unwrap();
    let _first = backend.open(TASK, &names(&["totals"])).unwrap();
    let error = backend.open(TASK, &names(&["totals"])).err().expect("the task is open");
    assert!(error.to_string().contains("close it first. task=0_3"), "{error}");
}

#[test]
fn all_state_goes_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let backend = backend(folder.path());
    let mut state = backend.open(TASK, &names(&["totals"])).unwrap();
    let mut batch = StateBatch::default();
    batch.put(StoreId(0), b"sensor-1", b"42");
    state.write(&batch).unwrap();
    fs::write(folder.path().join("notes"), "not state").unwrap();
    assert_eq!(backend.delete_all().unwrap_err().kind(), ErrorKind::Unavailable);
    drop(state);
    backend.delete_all().unwrap();
    let state = backend.open(TASK, &names(&["totals"])).unwrap();
    assert_eq!(scan(&*state, StoreId(0), b"", None).unwrap(), []);
    assert!(folder.path().join("notes").is_file());
}

#[test]
fn a_name_with_a_nul_and_too_little_memory_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(open(folder.path(), &["a\0b"]).err().map(|error| error.kind()), Some(ErrorKind::Invalid));
    let error =
        RocksBackend::open(folder.path(), RocksOptions { memory_bytes: 4096, ..RocksOptions::default() })
            .err();
    assert_eq!(error.map(|error| error.kind()), Some(ErrorKind::Invalid));
}

#[test]
fn a_write_larger_than_the_memory_limit_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let mut batch = StateBatch::default();
    (0..12_000u32).for_each(|key| batch.put(StoreId(0), &key.to_be_bytes(), &[1; 1000]));
    let small = RocksBackend::open(
        folder.path(),
        RocksOptions { memory_bytes: MEMORY_BYTES_MIN, ..RocksOptions::default() },
    )
    .unwrap();
    small.open(TASK, &names(&["totals"])).unwrap().write(&batch).unwrap();
    drop(small);
    assert_eq!(
        scan(&*open(folder.path(), &["totals"]).unwrap(), StoreId(0), b"", None).unwrap().len(),
        12_000
    );
}
