//! Rows of one span of time: for each key a list in the order of time and arrival.
//!
//! Rows are never moved and never changed but for being marked as matched, so a place stays good for as long as its pane
//! is in memory. A pane is dropped whole.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::{HashTable, hash_table::Entry};
use headwater_core::{Error, Result, Timestamp};

use super::super::row_key::{RowKey, is_same};

/// No row.
pub(super) const NONE: u32 = u32::MAX;

pub(super) struct Pane<V> {
    /// The pane has the timestamps from `start` on, up to before `end`.
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
    index: HashTable<u32>,
    keys: Vec<KeyRows>,
    pub(super) rows: Vec<Row<V>>,
    /// Whether a key that is not here has no rows in the engine either.
    pub(super) complete: bool,
    /// Whether the engine holds rows of it.
    pub(super) stored: bool,
    long_key_bytes: usize,
    value_bytes: usize,
}

struct KeyRows {
    key: RowKey,
    first: u32,
    last: u32,
}

pub(super) struct Row<V> {
    pub(super) timestamp: Timestamp,
    /// Tells rows of one key and timestamp apart, in the order of their arrival.
    pub(super) seq: u32,
    key: u32,
    prev: u32,
    /// The row behind it in its list.
    pub(super) next: u32,
    /// Whether it met a row of the other side; of no meaning where nobody asks.
    pub(super) matched: bool,
    /// Whether it was given out because it met nobody.
    pub(super) given: bool,
    /// Whether the engine holds the row, and whether it holds that it was matched.
    pub(super) stored: bool,
    pub(super) stored_matched: bool,
    pub(super) value: V,
}

impl<V> Row<V> {
    pub(super) fn new(timestamp: Timestamp, value: V, matched: bool) -> Self {
        Self {
            timestamp,
            seq: 0,
            key: NONE,
            prev: NONE,
            next: NONE,
            matched,
            given: false,
            stored: false,
            stored_matched: false,
            value,
        }
    }
}

impl<V> Pane<V> {
    pub(super) fn new(start: Timestamp, end: Timestamp, stored: bool) -> Self {
        Self {
            start,
            end,
            index: HashTable::new(),
            keys: Vec::new(),
            rows: Vec::new(),
            complete: !stored,
            stored,
            long_key_bytes: 0,
            value_bytes: 0,
        }
    }

    #[inline]
    fn hash(key: &[u8]) -> u64 {
        // As in `state::table`: iteration never follows the hash.
        FixedState::with_seed(0x9e37_79b9_7f4a_7c15).hash_one(key)
    }

    /// The list of `key`, if it is in memory.
    #[inline]
    pub(super) fn find(&self, key: &[u8]) -> Option<u32> {
        self.index.find(Self::hash(key), |at| is_same(&self.keys[*at as usize].key, key)).copied()
    }

    /// The list of `key`, which is made when there is none.
    #[inline]
    pub(super) fn list(&mut self, key: &[u8]) -> Result<u32> {
        let keys = &self.keys;
        let entry = self.index.entry(
            Self::hash(key),
            |at| is_same(&keys[*at as usize].key, key),
            |at| Self::hash(&keys[*at as usize].key),
        );
        match entry {
            Entry::Occupied(occupied) => Ok(*occupied.get()),
            Entry::Vacant(vacant) => {
                let at = place(self.keys.len())?;
                vacant.insert(at);
                let key = RowKey::from_slice(key);
                if key.spilled() {
                    self.long_key_bytes += key.len();
                }
                self.keys.push(KeyRows { key, first: NONE, last: NONE });
                Ok(at)
            }
        }
    }

    /// The first row of `list` that is not before `from`. Mostly the latest rows are looked for, so it looks from the end.
    #[inline]
    pub(super) fn first_from(&self, list: u32, from: Timestamp) -> u32 {
        let mut found = NONE;
        let mut at = self.keys[list as usize].last;
        while let Some(row) = self.rows.get(at as usize)
            && row.timestamp >= from
        {
            found = at;
            at = row.prev;
        }
        found
    }

    pub(super) fn key_of(&self, row: u32) -> &[u8] {
        &self.keys[self.rows[row as usize].key as usize].key
    }

    /// Adds a row behind those of its list that are not later, and numbers it among those of its timestamp.
    /// `value_bytes` is about what its value takes on the heap.
    #[inline]
    pub(super) fn push(&mut self, list: u32, mut row: Row<V>, value_bytes: usize) -> Result<u32> {
        let mut before = self.keys[list as usize].last;
        while let Some(earlier) = self.rows.get(before as usize)
            && earlier.timestamp > row.timestamp
        {
            before = earlier.prev;
        }
        let twin = self.rows.get(before as usize).filter(|twin| twin.timestamp == row.timestamp);
        row.seq = twin.map_or(0, |twin| twin.seq + 1);
        if row.seq > i32::MAX.cast_unsigned() {
            let timestamp = row.timestamp;
            return Err(Error::processing(format!(
                "there are 2^31 records of one key at one time. timestamp={timestamp}"
            )));
        }
        self.link(list, before, row, value_bytes)
    }

    /// Adds a row, which has its number, at the end of its list.
    pub(super) fn push_stored(&mut self, list: u32, row: Row<V>, value_bytes: usize) -> Result<u32> {
        self.link(list, self.keys[list as usize].last, row, value_bytes)
    }

    fn link(&mut self, list: u32, before: u32, mut row: Row<V>, value_bytes: usize) -> Result<u32> {
        let at = place(self.rows.len())?;
        let head = &mut self.keys[list as usize];
        let after = match self.rows.get_mut(before as usize) {
            Some(earlier) => std::mem::replace(&mut earlier.next, at),
            None => std::mem::replace(&mut head.first, at),
        };
        match self.rows.get_mut(after as usize) {
            Some(later) => later.prev = at,
            None => head.last = at,
        }
        (row.key, row.prev, row.next) = (list, before, after);
        self.rows.push(row);
        self.value_bytes += value_bytes;
        Ok(at)
    }

    /// Takes a row out of its list. Its place stays taken, unless it was the last.
    pub(super) fn unlink(&mut self, at: u32) {
        let Row { prev, next, key, .. } = self.rows[at as usize];
        let head = &mut self.keys[key as usize];
        match self.rows.get_mut(prev as usize) {
            Some(earlier) => earlier.next = next,
            None => head.first = next,
        }
        match self.rows.get_mut(next as usize) {
            Some(later) => later.prev = prev,
            None => head.last = prev,
        }
        let row = &mut self.rows[at as usize];
        (row.key, row.given) = (NONE, true);
        if at as usize + 1 == self.rows.len() {
            self.rows.pop();
        }
    }

    /// Visits every row, key by key in the order of their bytes.
    pub(super) fn visit(&mut self, mut visit: impl FnMut(&[u8], &mut Row<V>) -> Result<()>) -> Result<()> {
        let Self { keys, rows, .. } = self;
        let mut order: Vec<&KeyRows> = keys.iter().collect();
        order.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        for key in order {
            let mut at = key.first;
            while let Some(row) = rows.get_mut(at as usize) {
                visit(&key.key, row)?;
                at = row.next;
            }
        }
        Ok(())
    }

    /// Memory of rows, keys and index, and about that of values on the heap.
    pub(super) fn bytes(&self) -> usize {
        self.rows.capacity() * size_of::<Row<V>>()
            + self.keys.capacity() * size_of::<KeyRows>()
            + self.index.capacity() * 5
            + self.long_key_bytes
            + self.value_bytes
    }
}

fn place(len: usize) -> Result<u32> {
    u32::try_from(len)
        .ok()
        .filter(|at| *at != NONE)
        .ok_or_else(|| Error::invalid("a pane of a join has 2^32 rows"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(pane: &mut Pane<char>, key: &[u8], at: i64, value: char) -> u32 {
        let list = pane.list(key).unwrap();
        pane.push(list, Row::new(Timestamp(at), value, false), 0).unwrap()
    }

    fn values(pane: &Pane<char>, key: &[u8], from: i64) -> String {
        let mut found = String::new();
        let mut at = pane.first_from(pane.find(key).unwrap(), Timestamp(from));
        while let Some(row) = pane.rows.get(at as usize) {
            found.push(row.value);
            at = row.next;
        }
        found
    }

    #[test]
    fn rows_of_a_key_are_in_the_order_of_time_and_arrival() {
        let mut pane = Pane::new(Timestamp(0), Timestamp(100), false);
        for (key, at, value) in [("k", 5, 'b'), ("k", 9, 'd'), ("x", 1, 'x'), ("k", 5, 'c'), ("k", 2, 'a')] {
            push(&mut pane, key.as_bytes(), at, value);
        }
        assert_eq!((values(&pane, b"k", 0), values(&pane, b"k", 5)), ("abcd".into(), "bcd".into()));
        assert_eq!((values(&pane, b"k", 10), values(&pane, b"x", 1)), (String::new(), "x".into()));
        assert_eq!(pane.find(b"none"), None);
        let seqs: Vec<u32> = pane.rows.iter().map(|row| row.seq).collect();
        assert_eq!(seqs, [0, 0, 0, 1, 0]);
    }

    #[test]
    fn a_row_can_be_taken_out_wherever_it_is() {
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let mut pane = Pane::new(Timestamp(0), Timestamp(100), false);
            let places = [(1, 'a'), (2, 'b'), (3, 'c')].map(|(at, value)| push(&mut pane, b"k", at, value));
            let mut left = "abc".to_owned();
            for at in order {
                pane.unlink(places[at]);
                left.retain(|c| c != ['a', 'b', 'c'][at]);
                assert_eq!(values(&pane, b"k", 0), left);
            }
            push(&mut pane, b"k", 1, 'd');
            assert_eq!(values(&pane, b"k", 0), "d");
        }
    }
}
