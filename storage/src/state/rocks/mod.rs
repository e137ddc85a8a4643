//! The state of tasks in RocksDB: one database per task, one column family per store.
//!
//! ```text
//! <folder>/LOCK            held by the one process that has any of it open
//! <folder>/<task id>/       a RocksDB database
//!   column family default   schema              "1"
//!                           position/<store>    u64 big-endian: the changelog offset the store stands at
//!   column family store/<store>                 the entries of the store, as they are
//! ```
//!
//! There is no WAL: a write ends with an atomic flush of all column families, so that a process that is killed leaves
//! all of a write or nothing of it. What is only applied is flushed with the next write or earlier, all families at once and in the order in
//! which it came. Writes are meant to be few and large; what lies between them is in the log.

mod engine;
#[cfg(test)]
mod tests;

use std::{
    fs, io,
    num::NonZeroU64,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
};

use headwater_core::{
    Error, ErrorKind, Offset, Result, StateBackend, StateBatch, StateOp, StoreId, TaskId, TaskState, Visit,
};
use rocksdb::{
    ColumnFamily, ColumnFamilyDescriptor, DB, DEFAULT_COLUMN_FAMILY_NAME, FlushOptions, IteratorMode,
    ReadOptions, WriteBatch,
};

use self::engine::{Memory, without_wal};
use crate::lock::FolderLock;

/// Version of the layout at the head of this file.
const SCHEMA: &[u8] = b"1";
const SCHEMA_KEY: &[u8] = b"schema";
const FAMILY_PREFIX: &str = "store/";
const POSITION_PREFIX: &str = "position/";
/// What whoever finds the folder taken is told.
const TAKEN: &str = "the state is in use: does the application run already? Close it there, or use another folder for one of them";
/// What a change takes in a `WriteBatch` beside key and value, at most: kind, column family and two lengths. (Positions take more,
/// their key; they are few.)
const CHANGE_BYTES: usize = 16;
/// What a row takes in a memtable beside key and value, about.
const ROW_BYTES: usize = 32;
/// Below this RocksDB spends its time making room.
const MEMORY_BYTES_MIN: usize = 1 << 20;

/// Settings of a [`RocksBackend`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RocksOptions {
    /// What all tasks together may use: half of it for cached blocks, indexes, filters and memtables, the rest (256 MiB at most) for files
    /// that are being merged. A write may go beyond it while it lasts, by its own size.
    pub memory_bytes: usize,
    /// How much all tasks together write to the disk in a second at most, in small parts; `None` for no limit. For state that lies on the disk
    /// of a live program whose commits must not wait.
    pub write_bytes_per_second: Option<NonZeroU64>,
}

impl Default for RocksOptions {
    fn default() -> Self {
        Self { memory_bytes: 256 << 20, write_bytes_per_second: None }
    }
}

/// Keeps the state of tasks in RocksDB, below one folder, which is its own while it, a clone of it or one of its tasks is open. They
/// share one memory limit.
///
/// ```
/// use headwater_core::{Partition, StateBackend, StateBatch, StoreId, TaskId};
/// use headwater_storage::state::{RocksBackend, RocksOptions};
/// # fn main() -> headwater_core::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let folder = folder.path();
/// let backend = RocksBackend::open(folder, RocksOptions::default())?;
/// let task = TaskId { subtopology: 0, partition: Partition(1) };
/// let mut state = backend.open(task, &["totals".to_string()])?;
/// let mut batch = StateBatch::default();
/// batch.put(StoreId(0), b"sensor-1", b"42");
/// state.write(&batch)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RocksBackend {
    folder: PathBuf,
    lock: Arc<FolderLock>,
    memory: Arc<Memory>,
}

impl RocksBackend {
    /// Makes `folder` if it is not there. Tasks are opened one by one, later.
    ///
    /// # Errors
    /// `Invalid` when the memory limit is too low to work with; `Unavailable` when somebody has it open (the message has the process
    /// id), or the folder cannot be made.
    pub fn open(folder: impl Into<PathBuf>, options: RocksOptions) -> Result<Self> {
        let folder = folder.into();
        if options.memory_bytes < MEMORY_BYTES_MIN {
            return Err(Error::invalid(format!(
                "the memory limit of the state is too low. memory_bytes={}, least={MEMORY_BYTES_MIN}",
                options.memory_bytes
            )));
        }
        fs::create_dir_all(&folder).map_err(|source| cannot_make(&folder, source))?;
        let lock = Arc::new(FolderLock::take(&folder.join("LOCK"), TAKEN)?);
        Ok(Self { folder, lock, memory: Arc::new(Memory::new(options)) })
    }
}

impl RocksBackend {
    /// Deletes the state of all tasks, which must be closed. What else lies in the folder stays.
    ///
    /// # Errors
    /// `Unavailable` when the disk fails, or a task is open.
    pub fn delete_all(&self) -> Result<()> {
        let failed =
            |path: &Path, e| Error::io(format!("cannot delete state. folder=`{}`", path.display()), e);
        let entries = fs::read_dir(&self.folder).map_err(|e| failed(&self.folder, e))?;
        for entry in entries {
            let entry = entry.map_err(|e| failed(&self.folder, e))?;
            if entry.file_name().to_str().is_some_and(|name| name.parse::<TaskId>().is_ok()) {
                let path = entry.path();
                if Arc::strong_count(&self.lock) > 1 {
                    return Err(Error::new(
                        ErrorKind::Unavailable,
                        format!(
                            "state is in use here: close its tasks and drop its clones first. folder=`{}`",
                            path.display()
                        ),
                    ));
                }
                fs::remove_dir_all(&path).map_err(|e| failed(&path, e))?;
            }
        }
        Ok(())
    }
}

impl StateBackend for RocksBackend {
    fn open(&self, task: TaskId, stores: &[String]) -> Result<Box<dyn TaskState>> {
        let place = Place { task, folder: self.folder.join(task.to_string()) };
        let stores = named(task, stores)?;
        fs::create_dir_all(&place.folder).map_err(|source| cannot_make(&place.folder, source))?;
        let database = self.memory.database_options();
        let families = families(&place, &stores)?
            .into_iter()
            .map(|family| ColumnFamilyDescriptor::new(family, self.memory.family_options()));
        let db = DB::open_cf_descriptors(&database, &place.folder, families)
            .map_err(|error| place.error("cannot open the state of a task", None, error))?;
        let mut state = RocksTask {
            db,
            place,
            stores,
            broken: false,
            unflushed: 0,
            unflushed_max: self.memory.unflushed_bytes_max,
            _lock: Arc::clone(&self.lock),
        };
        state.check_schema()?;
        Ok(Box::new(state))
    }
}

/// A store, and its names inside the database.
struct Store {
    name: String,
    family: String,
    position_key: Vec<u8>,
}

fn named(task: TaskId, stores: &[String]) -> Result<Vec<Store>> {
    for (at, name) in stores.iter().enumerate() {
        if name.contains('\0') {
            let name = name.escape_debug();
            return Err(Error::invalid(format!(
                "the name of a store holds a NUL. task={task}, store=`{name}`"
            )));
        }
        if stores[..at].contains(name) {
            return Err(Error::invalid(format!(
                "a task has two stores of one name. task={task}, store=`{name}`"
            )));
        }
    }
    let named = |name: &String| Store {
        name: name.clone(),
        family: format!("{FAMILY_PREFIX}{name}"),
        position_key: format!("{POSITION_PREFIX}{name}").into_bytes(),
    };
    Ok(stores.iter().map(named).collect())
}

/// The column families to open: those of the stores, and all that are there already, which RocksDB demands. A store
/// that is in use no more keeps its contents, should it come back.
fn families(place: &Place, stores: &[Store]) -> Result<Vec<String>> {
    let mut families = vec![DEFAULT_COLUMN_FAMILY_NAME.to_string()];
    // RocksDB creates this file last, so without it there is no database, or one whose creation was cut short.
    if place.folder.join("CURRENT").exists() {
        families = DB::list_cf(&rocksdb::Options::default(), &place.folder)
            .map_err(|error| place.error("cannot read the list of stores of a task", None, error))?;
    }
    for store in stores {
        if !families.contains(&store.family) {
            families.push(store.family.clone());
        }
    }
    Ok(families)
}

struct RocksTask {
    db: DB,
    place: Place,
    stores: Vec<Store>,
    /// A write failed half way: what is in memory is not what is on disk.
    broken: bool,
    /// Bytes that were applied since the last flush, as a memtable has them.
    unflushed: usize,
    /// When they are flushed without being asked for.
    unflushed_max: usize,
    /// Released behind the database.
    _lock: Arc<FolderLock>,
}

impl RocksTask {
    /// Stamps a new database, and refuses one of another layout.
    fn check_schema(&mut self) -> Result<()> {
        let failed = |error| self.place.error("cannot read the schema of the state", None, error);
        match self.db.get(SCHEMA_KEY).map_err(failed)? {
            Some(schema) if schema == SCHEMA => return Ok(()),
            Some(schema) => {
                return Err(Error::invalid(format!(
                    "the state was written by another version: use that, or move the folder away to have it rebuilt \
                     from the changelog. {}, found=`{}`, known=`{}`",
                    self.place.describe(None),
                    schema.escape_ascii(),
                    SCHEMA.escape_ascii()
                )));
            }
            None => {}
        }
        // The stamp is older than all else in the same family, so without it there is nothing, or not our database.
        if self.db.iterator(IteratorMode::Start).next().transpose().map_err(failed)?.is_some() {
            return Err(Error::corrupt(format!(
                "the state has no schema stamp. {}",
                self.place.describe(None)
            )));
        }
        self.db
            .put_opt(SCHEMA_KEY, SCHEMA, &without_wal())
            .and_then(|()| self.db.flush())
            .map_err(|error| self.place.error("cannot stamp the state of a task", None, error))
    }

    fn store(&self, id: StoreId) -> Result<&Store> {
        if self.broken {
            return Err(Error::new(
                ErrorKind::Unavailable,
                format!("an earlier write failed: open the task again. {}", self.place.describe(None)),
            ));
        }
        self.stores.get(usize::from(id.0)).ok_or_else(|| {
            let task = self.place.task;
            Error::invalid(format!("the task was opened without such a store. task={task}, store={}", id.0))
        })
    }

    fn family(&self, store: &Store) -> &ColumnFamily {
        self.db.cf_handle(&store.family).expect("the families of all stores were opened with the database")
    }

    fn positions(&self) -> &ColumnFamily {
        self.db.cf_handle(DEFAULT_COLUMN_FAMILY_NAME).expect("every database has the default family")
    }

    fn reading(&self, store: &Store, error: rocksdb::Error) -> Error {
        self.place.error("cannot read state", Some(&store.name), error)
    }

    fn translate(&self, batch: &StateBatch) -> Result<WriteBatch> {
        // A batch that grows to megabytes by doubling leaves holes in the memory of the process.
        let mut changes = WriteBatch::with_capacity_bytes(batch.size() + batch.iter().len() * CHANGE_BYTES);
        for (id, op) in batch.iter() {
            let store = self.store(id)?;
            let family = self.family(store);
            match op {
                StateOp::Put(key, value) => changes.put_cf(family, key, value),
                StateOp::Delete(key) => changes.delete_cf(family, key),
                // RocksDB takes a range that ends before it begins for an error.
                StateOp::DeleteRange(from, to) if from < to => changes.delete_range_cf(family, from, to),
                StateOp::DeleteRange(..) => {}
                StateOp::Position(offset) => {
                    changes.put_cf(self.positions(), &store.position_key, offset.0.to_be_bytes());
                }
            }
        }
        Ok(changes)
    }

    /// Applies all of a batch, and flushes it with what was not flushed yet: at once, or when that is much.
    fn change(&mut self, batch: &StateBatch, at_once: bool) -> Result<()> {
        let changes = self.translate(batch)?;
        self.unflushed += batch.size() + batch.iter().len() * ROW_BYTES;
        let mut written = self.db.write_opt(changes, &without_wal());
        if written.is_ok() && (at_once || self.unflushed >= self.unflushed_max) {
            written = self.flush();
            self.unflushed = 0;
        }
        written.map_err(|error| {
            self.broken = true;
            self.place.error("cannot write state: open the task again", None, error)
        })
    }

    fn flush(&self) -> Result<(), rocksdb::Error> {
        let mut families = vec![self.positions()];
        families.extend(self.stores.iter().map(|store| self.family(store)));
        self.db.flush_cfs_opt(&families, &FlushOptions::default())
    }
}

impl TaskState for RocksTask {
    fn get(&self, store: StoreId, key: &[u8], out: &mut Vec<u8>) -> Result<bool> {
        let store = self.store(store)?;
        let value =
            self.db.get_pinned_cf(self.family(store), key).map_err(|error| self.reading(store, error))?;
        out.extend_from_slice(value.as_deref().unwrap_or_default());
        Ok(value.is_some())
    }

    fn scan(&self, store: StoreId, from: &[u8], to: Option<&[u8]>, visit: &mut Visit<'_>) -> Result<()> {
        let store = self.store(store)?;
        let mut options = ReadOptions::default();
        if let Some(to) = to {
            if from >= to {
                return Ok(());
            }
            options.set_iterate_upper_bound(to);
        }
        let mut entries = self.db.raw_iterator_cf_opt(self.family(store), options);
        entries.seek(from);
        while let Some((key, value)) = entries.item() {
            if let ControlFlow::Break(()) = visit(key, value)? {
                return Ok(());
            }
            entries.next();
        }
        // An iterator ends at the end and at an error alike.
        entries.status().map_err(|error| self.reading(store, error))
    }

    fn scan_back(&self, store: StoreId, from: &[u8], to: Option<&[u8]>, visit: &mut Visit<'_>) -> Result<()> {
        let store = self.store(store)?;
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(from);
        let mut entries = self.db.raw_iterator_cf_opt(self.family(store), options);
        match to {
            None => entries.seek_to_last(),
            Some(to) => {
                if from >= to {
                    return Ok(());
                }
                entries.seek_for_prev(to);
                if entries.key() == Some(to) {
                    entries.prev();
                }
            }
        }
        while let Some((key, value)) = entries.item() {
            if let ControlFlow::Break(()) = visit(key, value)? {
                return Ok(());
            }
            entries.prev();
        }
        entries.status().map_err(|error| self.reading(store, error))
    }

    fn last_key(&self, store: StoreId, out: &mut Vec<u8>) -> Result<bool> {
        let store = self.store(store)?;
        let mut entries = self.db.raw_iterator_cf(self.family(store));
        entries.seek_to_last();
        entries.status().map_err(|error| self.reading(store, error))?;
        out.extend_from_slice(entries.key().unwrap_or_default());
        Ok(entries.valid())
    }

    fn write(&mut self, batch: &StateBatch) -> Result<()> {
        self.change(batch, true)
    }

    fn apply(&mut self, batch: &StateBatch) -> Result<()> {
        self.change(batch, false)
    }

    fn position(&self, store: StoreId) -> Result<Option<Offset>> {
        let store = self.store(store)?;
        let found = self.db.get_pinned(&store.position_key).map_err(|error| self.reading(store, error))?;
        let Some(bytes) = found else { return Ok(None) };
        let Ok(offset) = <[u8; 8]>::try_from(&*bytes) else {
            return Err(Error::corrupt(format!(
                "the position of a store is not 8 bytes long. {}, length={}",
                self.place.describe(Some(&store.name)),
                bytes.len()
            )));
        };
        Ok(Some(Offset(u64::from_be_bytes(offset))))
    }
}

/// Where a database is, for errors.
struct Place {
    task: TaskId,
    folder: PathBuf,
}

impl Place {
    fn describe(&self, store: Option<&str>) -> String {
        let store = store.map(|store| format!(", store=`{}`", store.escape_debug())).unwrap_or_default();
        format!("task={}{store}, folder=`{}`", self.task, self.folder.display())
    }

    #[cold]
    fn error(&self, what: &str, store: Option<&str>, source: rocksdb::Error) -> Error {
        use rocksdb::ErrorKind as Engine;
        let at = self.describe(store);
        let (kind, message) = match source.kind() {
            Engine::IOError if source.as_ref().contains("/LOCK:") => (
                ErrorKind::Unavailable,
                format!(
                    "the state of the task is open already, here or in another process: close it first. {at}"
                ),
            ),
            Engine::Corruption | Engine::ColumnFamilyDropped => (
                ErrorKind::Corrupt,
                format!(
                    "{what}: it is damaged; move the folder away to have it rebuilt from the changelog. {at}"
                ),
            ),
            Engine::InvalidArgument | Engine::NotSupported => (ErrorKind::Invalid, format!("{what}. {at}")),
            _ => (ErrorKind::Unavailable, format!("{what}. {at}")),
        };
        Error::new(kind, message).with_source(source)
    }
}

#[cold]
fn cannot_make(folder: &Path, source: io::Error) -> Error {
    Error::io(format!("cannot make the folder of the state. folder=`{}`", folder.display()), source)
}
