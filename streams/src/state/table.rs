//! The write-back table under every store: rows by the bytes of their key, values decoded.

mod changes;
mod row_mut;
mod rows;

use foldhash::fast::FixedState;
use hashbrown::{HashTable, hash_table::Entry};
use headwater_core::{Error, Result, Timestamp};
use std::{
    collections::BTreeMap,
    hash::BuildHasher,
    mem::needs_drop,
    ops::{Bound, ControlFlow},
};

pub(crate) use self::row_mut::RowMut;
use self::{changes::Changes, rows::Rows};
use super::{
    ahead::{self, Ahead},
    row_key::{INLINE_KEY_BYTES, RowKey, is_same},
    stored::Loaded,
};

/// About what a row takes among the sorted ones: its key, its place, and the tree's share.
const SORTED_ROW_BYTES: usize = 64;
/// What an allocation takes beside the bytes asked for.
const ALLOCATION_BYTES: usize = 16;
/// What a row takes in the index.
const INDEX_ROW_BYTES: usize = 5;
/// So many rows are fetched from memory together.
const FETCHED_ROWS: usize = 64;

/// So many rows are sorted at once when they are written: it takes about a tenth of a second.
const SORTED_ROWS_MAX: usize = 1 << 20;

pub(crate) struct Table<V> {
    index: HashTable<u32>,
    rows: Rows<Row<V>>,
    changes: Changes<V>,
    /// Rows that were committed and that the engine does not hold yet. Those that are being written are in `spilling`, and of
    /// these the next ones in `sorted_part`, the last of their keys first.
    unwritten: Vec<u32>,
    spilling: Vec<u32>,
    sorted_part: Vec<u32>,
    /// Whether a key without a row has no value in the engine either.
    complete: bool,
    long_key_bytes: usize,
    /// See [`Row::heap_bytes`].
    heap_bytes: usize,
    ahead: Ahead,
    /// All rows in the order of their keys, once somebody asked for an order.
    sorted: Option<BTreeMap<RowKey, u32>>,
}

/// Aligned to cache lines: a look-up in a large table waits for as few of them as can be. The key lies in the first, the
/// flags in the last.
#[repr(C, align(64))]
struct Row<V> {
    key: RowKey,
    timestamp: Timestamp,
    value: Option<V>,
    uncommitted: bool,
    unwritten: bool,
    /// About what the value keeps on the heap: as much as it had bytes when it was last read or committed. What it became
    /// since, the next commit will tell.
    heap_bytes: u32,
}

impl<V: Clone> Table<V> {
    pub(crate) fn new(complete: bool) -> Self {
        Self {
            index: HashTable::new(),
            rows: Rows::new(),
            changes: Changes::new(),
            unwritten: Vec::new(),
            spilling: Vec::new(),
            sorted_part: Vec::new(),
            complete,
            long_key_bytes: 0,
            heap_bytes: 0,
            ahead: Ahead::default(),
            sorted: None,
        }
    }

    #[inline]
    fn hash(key: &[u8]) -> u64 {
        // The seed may be fixed: a table belongs to one task, whose keys passed through one partition of a topic, and
        // iteration never follows the hash.
        FixedState::with_seed(0x9e37_79b9_7f4a_7c15).hash_one(key)
    }

    /// Finds the rows of `keys`, and has them fetched from memory all at once.
    pub(crate) fn look_ahead(&mut self, place: usize, keys: &[Option<&[u8]>]) {
        let Self { index, rows, ahead, .. } = self;
        if rows.len() * size_of::<Row<V>>() < ahead::TABLE_BYTES_MIN || !ahead.is_worthwhile() {
            return;
        }
        // By the hash alone, which is nearly always enough: comparing the key would wait for each row.
        let mut hashes = [None; FETCHED_ROWS];
        for (keys, place) in keys.chunks(FETCHED_ROWS).zip((place..).step_by(FETCHED_ROWS)) {
            // All hashes first: the less there is between two look-ups, the more of them a processor has under way.
            let hashes = &mut hashes[..keys.len()];
            hashes.iter_mut().zip(keys).for_each(|(hash, key)| *hash = key.map(Self::hash));
            let found = hashes.iter().map(|hash| index.find((*hash)?, |_| true).copied());
            fetch(rows, ahead.set(place, found));
        }
    }

    /// The row of `key`; `place` is that of the record that asks. `load` asks the engine, and is called only when the engine may know what the table does not.
    #[inline(always)]
    pub(crate) fn row(
        &mut self,
        key: &[u8],
        place: usize,
        load: impl FnOnce() -> Result<Option<Loaded<V>>>,
    ) -> Result<RowMut<'_, V>> {
        let Some(at) = self.guess(key, place) else {
            let at = self.find(key, load)?;
            return Ok(self.row_mut(at));
        };
        // Before the count, and not behind it: without a store between the two, a compiler looks this place up once.
        let row = &mut self.rows[at];
        self.ahead.count_used();
        Ok(RowMut { row, at, changes: &mut self.changes })
    }

    /// The row that was looked up ahead, if it is that of `key`.
    #[inline(always)]
    fn guess(&self, key: &[u8], place: usize) -> Option<u32> {
        let guess = self.ahead.row(place);
        self.rows.get(guess).filter(|row| is_same(&row.key, key)).map(|_| guess)
    }

    /// Where the row of `key` lies, which is made when there is none. A function of its own, so that what is guessed right, which
    /// is nearly all, does not pay for it.
    #[inline(never)]
    fn find(&mut self, key: &[u8], load: impl FnOnce() -> Result<Option<Loaded<V>>>) -> Result<u32> {
        self.grow_index(1);
        let rows = &self.rows;
        let entry = self.index.entry(
            Self::hash(key),
            |at| is_same(&rows[*at].key, key),
            |at| Self::hash(&rows[*at].key),
        );
        let at = match entry {
            Entry::Occupied(occupied) => *occupied.get(),
            Entry::Vacant(vacant) => {
                let at =
                    u32::try_from(self.rows.len()).map_err(|_| Error::invalid("a table has 2^32 rows"))?;
                let loaded = if self.complete { None } else { load()? };
                let heap_bytes = loaded.as_ref().map_or(0, |loaded| heap_bytes_of::<V>(loaded.bytes));
                self.heap_bytes += heap_bytes as usize;
                let (value, timestamp) =
                    loaded.map_or((None, Timestamp::MIN), |loaded| (Some(loaded.value), loaded.timestamp));
                let key = RowKey::from_slice(key);
                if key.spilled() {
                    self.long_key_bytes += key.len();
                }
                vacant.insert(at);
                if let Some(sorted) = &mut self.sorted {
                    sorted.insert(key.clone(), at);
                }
                let (uncommitted, unwritten) = (false, false);
                self.rows.push(Row { key, timestamp, value, uncommitted, unwritten, heap_bytes });
                at
            }
        };
        Ok(at)
    }

    /// The row at a place that [`RowMut::at`] told and no eviction took since.
    pub(crate) fn row_at(&mut self, at: u32) -> Option<RowMut<'_, V>> {
        ((at as usize) < self.rows.len()).then(|| self.row_mut(at))
    }

    #[inline(always)]
    fn row_mut(&mut self, at: u32) -> RowMut<'_, V> {
        RowMut { row: &mut self.rows[at], at, changes: &mut self.changes }
    }

    pub(crate) fn begin_record(&mut self) {
        self.changes.begin_record();
    }

    pub(crate) fn roll_back(&mut self) {
        self.changes.roll_back(&mut self.rows);
    }

    /// Visits every row that changed since the last commit, in no order that means anything. Not while a record may be taken back.
    pub(crate) fn each_changed(
        &mut self,
        mut visit: impl FnMut(&[u8], Option<&V>, Timestamp) -> Result<()>,
    ) -> Result<()> {
        self.changes.order(self.rows.len());
        for block in self.changes.uncommitted.chunks(FETCHED_ROWS) {
            fetch(&self.rows, block);
            for at in block {
                let row = &self.rows[*at];
                visit(&row.key, row.value.as_ref(), row.timestamp)?;
            }
        }
        Ok(())
    }

    /// Every row that changed since the last commit, in no order that means anything.
    pub(crate) fn changed(&self) -> impl Iterator<Item = (&[u8], Option<&V>, Timestamp)> {
        let row = |at: &u32| &self.rows[*at];
        self.changes
            .uncommitted
            .iter()
            .map(row)
            .map(|row| (row.key.as_slice(), row.value.as_ref(), row.timestamp))
    }

    /// Whether rows changed since the last commit.
    pub(crate) fn has_changes(&self) -> bool {
        !self.changes.uncommitted.is_empty()
    }

    /// Visits every changed row once; the caller commits them. `visit` says how many bytes its value has.
    pub(crate) fn take_changes(
        &mut self,
        mut visit: impl FnMut(&[u8], Option<&V>, Timestamp) -> Result<usize>,
    ) -> Result<()> {
        self.take_changes_mut(|key, value, timestamp| visit(key, value.as_ref(), timestamp))
    }

    /// As [`Table::take_changes`], for values that remember what of them was committed.
    pub(crate) fn take_changes_mut(
        &mut self,
        mut visit: impl FnMut(&[u8], &mut Option<V>, Timestamp) -> Result<usize>,
    ) -> Result<()> {
        self.changes.order(self.rows.len());
        let mut changed = std::mem::take(&mut self.changes.uncommitted);
        for block in changed.chunks(FETCHED_ROWS) {
            fetch(&self.rows, block);
            for at in block {
                let row = &mut self.rows[*at];
                row.uncommitted = false;
                let heap_bytes = heap_bytes_of::<V>(visit(&row.key, &mut row.value, row.timestamp)?);
                self.heap_bytes = self.heap_bytes + heap_bytes as usize - row.heap_bytes as usize;
                row.heap_bytes = heap_bytes;
                if !row.unwritten {
                    row.unwritten = true;
                    self.unwritten.push(*at);
                }
            }
        }
        changed.clear();
        self.changes.uncommitted = changed;
        Ok(())
    }

    /// Makes room in the index for so many rows that come, unless all of them would take more than `bytes_max`: growing it step by
    /// step goes through all rows at each step.
    pub(crate) fn expect(&mut self, rows: usize, bytes_max: usize) {
        self.grow_index(rows.min(bytes_max / (size_of::<Row<V>>() + INDEX_ROW_BYTES)));
    }

    /// Sees to it that the index has room for so many more. Its own growth would go through the rows in the order of their hashes,
    /// and wait for memory at each.
    #[inline]
    fn grow_index(&mut self, more: usize) {
        if self.index.capacity() - self.index.len() < more {
            self.index = self.indexed(self.index.len() + more.max(self.index.len()));
        }
    }

    /// An index of all rows, with room for `rows`.
    #[cold]
    fn indexed(&self, rows: usize) -> HashTable<u32> {
        let mut index = HashTable::with_capacity(rows);
        for (at, row) in (0..).zip(self.rows.iter()) {
            index.insert_unique(Self::hash(&row.key), at, |at| Self::hash(&self.rows[*at].key));
        }
        index
    }

    /// Takes in a row that was committed and that the engine may not hold: it replaces what there is. `place` is that of its record
    /// among those looked at ahead, `value_bytes` are those of the value in the changelog.
    pub(crate) fn restore(
        &mut self,
        key: &[u8],
        (value, value_bytes): (Option<V>, usize),
        timestamp: Timestamp,
        place: usize,
    ) -> Result<()> {
        let at = self.row(key, place, || Ok(None))?.at();
        let row = &mut self.rows[at];
        (row.value, row.timestamp) = (value, timestamp);
        let heap_bytes = heap_bytes_of::<V>(value_bytes);
        self.heap_bytes = self.heap_bytes + heap_bytes as usize - row.heap_bytes as usize;
        row.heap_bytes = heap_bytes;
        if !row.unwritten {
            row.unwritten = true;
            self.unwritten.push(at);
        }
        Ok(())
    }

    /// Begins to write: what [`Table::spill`] visits is what the engine does not hold now.
    pub(crate) fn begin_spill(&mut self) {
        self.spilling.append(&mut self.unwritten);
    }

    /// Whether the engine does not hold some rows that were committed.
    pub(crate) fn has_unwritten(&self) -> bool {
        !(self.unwritten.is_empty() && self.spilling.is_empty() && self.sorted_part.is_empty())
    }

    /// Visits the rows that are to be written, many at a time in the order of their keys, until `visit` says
    /// [`ControlFlow::Break`] behind one. Whether there are more.
    pub(crate) fn spill(
        &mut self,
        mut visit: impl FnMut(&[u8], Option<&V>, Timestamp) -> Result<ControlFlow<()>>,
    ) -> Result<bool> {
        self.spill_mut(|key, value, timestamp| visit(key, value.as_ref(), timestamp))
    }

    /// As [`Table::spill`], for values that remember what of them the engine holds.
    pub(crate) fn spill_mut(
        &mut self,
        mut visit: impl FnMut(&[u8], &mut Option<V>, Timestamp) -> Result<ControlFlow<()>>,
    ) -> Result<bool> {
        loop {
            while let Some(at) = self.sorted_part.pop() {
                if self.sorted_part.len().is_multiple_of(FETCHED_ROWS) {
                    let next = self.sorted_part.len().saturating_sub(FETCHED_ROWS);
                    fetch(&self.rows, &self.sorted_part[next..]);
                }
                let row = &mut self.rows[at];
                row.unwritten = false;
                if visit(&row.key, &mut row.value, row.timestamp)?.is_break() {
                    return Ok(!(self.sorted_part.is_empty() && self.spilling.is_empty()));
                }
            }
            if self.spilling.is_empty() {
                return Ok(false);
            }
            let part = self.spilling.split_off(self.spilling.len().saturating_sub(SORTED_ROWS_MAX));
            self.sorted_part = self.last_key_first(part.into_iter());
        }
    }

    /// Forgets all rows, unless some are not in the engine yet.
    pub(crate) fn evict(&mut self) {
        if self.changes.uncommitted.is_empty() && !self.has_unwritten() {
            *self = Self { changes: self.changes.emptied(), ..Self::new(false) };
        }
    }

    /// Every row, those without a value included: key, value, timestamp; in no order that means anything.
    #[cfg(test)]
    fn iter(&self) -> impl Iterator<Item = (&[u8], Option<&V>, Timestamp)> {
        self.rows.iter().map(|row| (row.key.as_slice(), row.value.as_ref(), row.timestamp))
    }

    /// Places of all rows with keys behind `from`, in the order of their keys and the last first.
    pub(crate) fn places_from_the_end(&self, from: Option<&[u8]>) -> Vec<u32> {
        let rows =
            (0..).zip(self.rows.iter()).filter(|(_, row)| from.is_none_or(|from| row.key.as_slice() > from));
        self.last_key_first(rows.map(|(at, _)| at))
    }

    /// These places in the order of their keys, the last first.
    fn last_key_first(&self, places: impl Iterator<Item = u32>) -> Vec<u32> {
        let key = |at: u32| &self.rows[at].key;
        let mut places: Vec<(u64, u32)> = places.map(|at| (beginning(key(at)), at)).collect();
        // Mostly the beginning of a key decides, and no row need be fetched from memory.
        places.sort_unstable_by(|a, b| b.0.cmp(&a.0).then_with(|| key(b.1).cmp(key(a.1))));
        places.into_iter().map(|(_, at)| at).collect()
    }

    /// Key, value and timestamp of the row at a place.
    pub(crate) fn row_as_it_is(&self, at: u32) -> (&[u8], Option<&V>, Timestamp) {
        let row = &self.rows[at];
        (row.key.as_slice(), row.value.as_ref(), row.timestamp)
    }

    /// The rows with keys in a range, in the order of their keys; those without a value included.
    pub(crate) fn sorted(
        &mut self,
        range: (Bound<&[u8]>, Bound<&[u8]>),
    ) -> impl DoubleEndedIterator<Item = (&[u8], Option<&V>)> {
        let rows = &self.rows;
        let sorted = self.sorted.get_or_insert_with(|| {
            let places = rows.iter().map(|row| row.key.clone());
            places.zip(0..).collect()
        });
        sorted.range::<[u8], _>(range).map(|(key, at)| (key.as_slice(), rows[*at].value.as_ref()))
    }

    /// Whether it has no rows.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Whether the table knows every key that has a value.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }

    /// About what the rows changed since the last commit will take in the changelog.
    pub(crate) fn uncommitted_bytes(&self) -> usize {
        let heap_bytes = self.heap_bytes / self.rows.len().max(1);
        self.changes.uncommitted.len() * (size_of::<Row<V>>() + INLINE_KEY_BYTES + heap_bytes)
    }

    /// Memory of rows and index, and about that of values on the heap.
    pub(crate) fn bytes(&self) -> usize {
        let sorted =
            self.sorted.as_ref().map_or(0, |sorted| sorted.len() * SORTED_ROW_BYTES + self.long_key_bytes);
        // The bits for changed rows are there from the first commit on.
        let row = size_of::<Row<V>>();
        let rows =
            self.rows.capacity() * row + self.rows.capacity() / 8 + self.index.capacity() * INDEX_ROW_BYTES;
        rows + self.long_key_bytes + self.heap_bytes + sorted
    }
}

/// Has rows fetched from memory all at once, and not one after the other when it is their turn.
#[inline]
fn fetch<V>(rows: &Rows<Row<V>>, places: &[u32]) {
    let rows = places.iter().filter_map(|at| rows.get(*at));
    std::hint::black_box(rows.map(|row| row.key.len() + usize::from(row.unwritten)).sum::<usize>());
}

/// The first bytes of a key, as a number that sorts as they do.
fn beginning(key: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    let length = key.len().min(bytes.len());
    bytes[..length].copy_from_slice(&key[..length]);
    u64::from_be_bytes(bytes)
}

/// What a value of so many bytes keeps on the heap, about: nothing, if it has nothing to drop.
pub(super) fn heap_bytes_of<V>(bytes: usize) -> u32 {
    if needs_drop::<V>() && bytes > 0 {
        u32::try_from(bytes + ALLOCATION_BYTES).unwrap_or(u32::MAX)
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none() -> Result<Option<Loaded<u64>>> {
        Ok(None)
    }

    #[test]
    fn a_changed_row_is_handed_out_once_per_commit_and_once_per_spill() {
        let mut table = Table::<u64>::new(true);
        for _ in 0..3 {
            *table.row(b"b", 0, none).unwrap().slot().get_or_insert(0) += 1;
            *table.row(b"a", 0, none).unwrap().slot().get_or_insert(0) += 2;
        }
        let mut changes = Vec::new();
        let mut note = |key: &[u8], value: Option<&u64>, _: Timestamp| {
            changes.push((key.to_vec(), value.copied()));
            Ok(8)
        };
        table.take_changes(&mut note).unwrap();
        table.take_changes(&mut note).unwrap();
        // One at a time.
        table.begin_spill();
        while table.spill(|key, value, time| note(key, value, time).map(|_| ControlFlow::Break(()))).unwrap()
        {
        }
        let expected =
            [("b", 3), ("a", 6), ("a", 6), ("b", 3)].map(|(k, v)| (k.as_bytes().to_vec(), Some(v)));
        assert_eq!(changes, expected);
    }

    #[test]
    fn the_engine_is_asked_only_when_it_may_know_more() {
        let mut table = Table::<u64>::new(true);
        table.row(b"k", 0, || panic!("the table is complete")).unwrap();
        let mut table = Table::<u64>::new(false);
        let row =
            table.row(b"k", 0, || Ok(Some(Loaded { value: 7, timestamp: Timestamp(1), bytes: 8 }))).unwrap();
        assert_eq!(row.value(), Some(&7));
        table.row(b"k", 0, || panic!("the row is there")).unwrap();
    }

    /// A guess may be of another key with a similar hash, or of a table that was emptied since.
    #[test]
    fn looking_ahead_changes_nothing() {
        let key = |i: u64| (i % 20_000).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
        let mut table = Table::<u64>::new(true);
        let mut expected = std::collections::HashMap::new();
        let mut right = 0;
        for block in 0..6_000u64 {
            if block == 3_000 {
                table = Table::new(true);
                table.look_ahead(0, &[Some(&key(0))]);
                expected.clear();
            }
            let keys: Vec<[u8; 8]> = (0..16).map(|i| key(block * 16 + i)).collect();
            let ahead: Vec<Option<&[u8]>> = keys.iter().map(|key| Some(&key[..])).collect();
            // Every fifth time the records are not those that were looked at.
            table.look_ahead(16 * usize::from(block % 5 == 0), &ahead);
            for (place, key) in keys.iter().enumerate() {
                let guess = table.ahead.row(place);
                right += usize::from(table.rows.get(guess).is_some_and(|row| row.key.as_slice() == key));
                *table.row(key, place, none).unwrap().slot().get_or_insert(0) += block;
                *expected.entry(key.to_vec()).or_insert(0) += block;
            }
        }
        let found: std::collections::HashMap<Vec<u8>, u64> =
            table.iter().map(|(key, value, _)| (key.to_vec(), *value.unwrap())).collect();
        assert_eq!(found, expected);
        assert!(right > 10_000, "the guesses of large tables are mostly right: {right}");
    }

    /// Whether the beginnings of keys tell them apart or not.
    #[test]
    fn places_are_in_the_order_of_keys() {
        let keys: [&[u8]; 7] = [b"b", b"", b"a\0", b"abcdefghj", b"a", b"abcdefgh", b"abcdefghi"];
        let mut table = Table::<u64>::new(true);
        for key in keys {
            table.row(key, 0, none).unwrap().set(Some(1), Timestamp(1));
        }
        let of = |table: &Table<u64>, places: &[u32]| -> Vec<Vec<u8>> {
            places.iter().map(|at| table.row_as_it_is(*at).0.to_vec()).collect()
        };
        let mut expected = keys.map(<[u8]>::to_vec).to_vec();
        expected.sort();
        expected.reverse();
        assert_eq!(of(&table, &table.places_from_the_end(None)), expected);
        assert_eq!(of(&table, &table.places_from_the_end(Some(b"abcdefgh"))), expected[..3]);
    }

    #[test]
    fn a_record_can_be_taken_back() {
        let mut table = Table::<u64>::new(true);
        table.row(b"k", 0, none).unwrap().set(Some(1), Timestamp(1));
        table.begin_record();
        *table.row(b"k", 0, none).unwrap().slot().get_or_insert(0) = 5;
        table.row(b"k", 0, none).unwrap().set(None, Timestamp(9));
        table.roll_back();
        assert_eq!(table.row(b"k", 0, none).unwrap().value(), Some(&1));
    }

    /// Values that have something to drop keep about as much on the heap as they have bytes.
    #[test]
    fn what_values_keep_on_the_heap_counts() {
        let mut table = Table::<String>::new(false);
        let loaded = || Ok(Some(Loaded { value: "x".repeat(1000), timestamp: Timestamp(1), bytes: 1000 }));
        let empty = table.bytes();
        table.row(b"a", 0, loaded).unwrap();
        let one = table.bytes();
        assert!((1000..2000).contains(&(one - empty)), "{empty} {one}");
        table.row(b"a", 0, loaded).unwrap().set(Some("x".repeat(5000)), Timestamp(2));
        table.take_changes(|_, value, _| Ok(value.map_or(0, String::len))).unwrap();
        assert_eq!(table.bytes() - one, 4000);
        table.row(b"a", 0, loaded).unwrap().set(None, Timestamp(3));
        assert!(table.uncommitted_bytes() > 5000);
        table.take_changes(|_, value, _| Ok(value.map_or(0, String::len))).unwrap();
        assert!(table.bytes() < one);
        assert_eq!(heap_bytes_of::<u64>(8), 0);
    }

    #[test]
    fn eviction_keeps_what_the_engine_does_not_hold() {
        let mut table = Table::<u64>::new(true);
        table.row(b"k", 0, none).unwrap().set(Some(1), Timestamp(1));
        table.evict();
        assert_eq!(table.iter().count(), 1);
        table.take_changes(|_, _, _| Ok(8)).unwrap();
        table.evict();
        assert_eq!(table.iter().count(), 1);
        table.begin_spill();
        table.spill(|_, _, _| Ok(ControlFlow::Continue(()))).unwrap();
        table.evict();
        assert_eq!(table.iter().count(), 0);
        assert!(!table.is_complete());
    }
}
