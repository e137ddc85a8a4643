//! What is remembered of each key, in 64 bytes, and what both sides have in common.

use std::num::NonZeroUsize;

use hashbrown::HashTable;
use headwater_core::Offset;

use super::{
    Class, Sides,
    digest::{Digest, Digester, NO_ROW},
};
use crate::OutputKind;

/// Which of the two logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Live,
    Replayed,
}

impl Side {
    pub(super) const BOTH: [Side; 2] = [Side::Live, Side::Replayed];
}

impl<T> Sides<T> {
    pub(super) fn of(&self, side: Side) -> &T {
        match side {
            Side::Live => &self.live,
            Side::Replayed => &self.replayed,
        }
    }

    pub(super) fn of_mut(&mut self, side: Side) -> &mut T {
        match side {
            Side::Live => &mut self.live,
            Side::Replayed => &mut self.replayed,
        }
    }
}

/// What a key is known by, and what it said.
#[derive(Debug, Clone, Copy)]
struct Entry {
    key: [u64; 2],
    /// Offset of its first record, of the live side if that has one.
    first: Offset,
    sequence: Sides<u64>,
    last: Sides<u64>,
    /// How many records; the sequences of more would differ, too.
    count: Sides<u32>,
}

const _: () = assert!(size_of::<Entry>() == 64);

/// A key that is not equal.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    pub(super) class: Class,
    pub(super) key: [u64; 2],
    pub(super) border: bool,
    pub(super) first: Offset,
    pub(super) count: Sides<u32>,
}

/// How many records and keys there are of each class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counts {
    pub(super) records: Sides<u64>,
    pub(super) equal: u64,
    pub(super) missing: u64,
    pub(super) extra: u64,
    pub(super) different: u64,
    pub(super) intermediate: u64,
    pub(super) not_comparable: u64,
}

impl Counts {
    pub(super) fn add(&mut self, other: &Self) {
        self.records.live += other.records.live;
        self.records.replayed += other.records.replayed;
        self.equal += other.equal;
        self.missing += other.missing;
        self.extra += other.extra;
        self.different += other.different;
        self.intermediate += other.intermediate;
        self.not_comparable += other.not_comparable;
    }

    fn of_mut(&mut self, class: Class) -> &mut u64 {
        match class {
            Class::Missing => &mut self.missing,
            Class::Extra => &mut self.extra,
            Class::Different => &mut self.different,
            Class::Intermediate => &mut self.intermediate,
            Class::NotComparable => &mut self.not_comparable,
        }
    }
}

/// The keys of one unit, or of a share of it. What reaches over a border is kept apart, so that it does not hide what does
/// not.
pub(super) struct Tally {
    inside: HashTable<Entry>,
    border: HashTable<Entry>,
    bytes_max: usize,
}

impl Tally {
    pub(super) fn new(bytes_max: NonZeroUsize) -> Self {
        Self { inside: HashTable::new(), border: HashTable::new(), bytes_max: bytes_max.get() }
    }

    /// `false` when there is no room for another key.
    pub(super) fn add(
        &mut self,
        side: Side,
        digester: &Digester<'_>,
        (digest, offset): (&Digest, Offset),
    ) -> bool {
        let held = self.inside.allocation_size() + self.border.allocation_size();
        let table = if digest.border.is_some() { &mut self.border } else { &mut self.inside };
        let entry = table.find_mut(digest.key[0], |entry| entry.key == digest.key);
        let entry = match entry {
            Some(entry) => entry,
            None => {
                // Twice as large, and beside the old one while it is filled.
                let grown = if table.len() < table.capacity() { 0 } else { table.allocation_size() * 2 };
                if held + grown > self.bytes_max {
                    return false;
                }
                let nothing = Sides::default();
                let new = Entry {
                    key: digest.key,
                    first: offset,
                    sequence: nothing,
                    last: nothing,
                    count: Sides::default(),
                };
                table.insert_unique(digest.key[0], new, |entry| entry.key[0]).into_mut()
            }
        };
        let sequence = entry.sequence.of_mut(side);
        *sequence = digester.longer(*sequence, digest.full);
        *entry.last.of_mut(side) = digest.value;
        let count = entry.count.of_mut(side);
        *count = count.saturating_add(1);
        true
    }

    /// Counts all keys, and says which are not equal.
    pub(super) fn judge(&self, kind: OutputKind, counts: &mut Counts, mut found: impl FnMut(Found)) {
        let mut find = |entry: &Entry, class, border| {
            *counts.of_mut(class) += 1;
            found(Found { class, key: entry.key, border, first: entry.first, count: entry.count });
        };
        let mut equal = 0;
        for entry in &self.inside {
            match entry.class(kind) {
                None => equal += 1,
                Some(Class::Intermediate) => {
                    equal += 1;
                    find(entry, Class::Intermediate, false);
                }
                Some(class) => find(entry, class, false),
            }
        }
        for entry in &self.border {
            match entry.class(kind) {
                None | Some(Class::Intermediate) => {
                    // A key without a window may have records inside, too, and is counted once.
                    let inside = self.inside.find(entry.key[0], |other| other.key == entry.key);
                    equal += u64::from(inside.is_none());
                }
                Some(_) => find(entry, Class::NotComparable, true),
            }
        }
        counts.equal += equal;
    }
}

impl Entry {
    /// What the two sides are to each other; `None` when they are the same.
    fn class(&self, kind: OutputKind) -> Option<Class> {
        let same = self.sequence.live == self.sequence.replayed && self.count.live == self.count.replayed;
        let no_rows = self.last.live == NO_ROW && self.last.replayed == NO_ROW;
        match (self.count, kind) {
            // A row that one side made and deleted, as sessions that became longer, and the other never had.
            (_, OutputKind::Updates) if no_rows && !same => Some(Class::Intermediate),
            (Sides { replayed: 0, .. }, _) => Some(Class::Missing),
            (Sides { live: 0, .. }, _) => Some(Class::Extra),
            (_, OutputKind::Updates) if self.last.live != self.last.replayed => Some(Class::Different),
            _ if same => None,
            (_, OutputKind::Updates) => Some(Class::Intermediate),
            (_, OutputKind::Events) => Some(Class::Different),
        }
    }
}
