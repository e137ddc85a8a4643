//! Which rows of a table changed since the last commit, and how to take back what the current record did.

use headwater_core::Timestamp;

use super::{Row, rows::Rows};

/// Where more rows than this lie between two that changed, these are sorted.
const ROWS_PER_CHANGE_MAX: usize = 256;

pub(super) struct Changes<V> {
    /// Rows changed since the last commit.
    pub(super) uncommitted: Vec<u32>,
    /// Whether those are in the order of memory.
    ordered: bool,
    /// Where they are put into it.
    bits: Vec<u64>,
    /// How to take back what the current record did, if that may be asked for.
    undo: Option<Vec<Undo<V>>>,
}

/// A row as it was before a change.
struct Undo<V> {
    at: u32,
    value: Option<V>,
    timestamp: Timestamp,
    uncommitted: bool,
}

impl<V: Clone> Changes<V> {
    pub(super) const fn new() -> Self {
        Self { uncommitted: Vec::new(), ordered: true, bits: Vec::new(), undo: None }
    }

    /// For the same table without rows.
    pub(super) fn emptied(&self) -> Self {
        Self { undo: self.undo.is_some().then(Vec::new), ..Self::new() }
    }

    /// Hears of a row that is changed now, and gives it.
    #[inline]
    pub(super) fn change<'a>(&mut self, at: u32, row: &'a mut Row<V>) -> &'a mut Row<V> {
        if let Some(undo) = &mut self.undo {
            let Row { value, timestamp, uncommitted, .. } = row;
            let (value, timestamp, uncommitted) = (value.clone(), *timestamp, *uncommitted);
            undo.push(Undo { at, value, timestamp, uncommitted });
        }
        if !row.uncommitted {
            row.uncommitted = true;
            self.uncommitted.push(at);
            self.ordered = false;
        }
        row
    }

    pub(super) fn begin_record(&mut self) {
        self.undo.get_or_insert_default().clear();
    }

    pub(super) fn roll_back(&mut self, rows: &mut Rows<Row<V>>) {
        for undo in self.undo.iter_mut().flat_map(|undo| undo.drain(..).rev()) {
            let row = &mut rows[undo.at];
            (row.value, row.timestamp) = (undo.value, undo.timestamp);
            if !undo.uncommitted {
                // It was the last that was put there, because changes are taken back from the last to the first.
                row.uncommitted = false;
                self.uncommitted.pop();
            }
        }
    }

    /// Puts the changed ones of so many rows into the order of memory, in which whoever visits them waits for it least: a table is
    /// larger than the processor's cache. One bit for each row of the table costs less than sorting, and than going through the rows.
    pub(super) fn order(&mut self, rows: usize) {
        let changed = &mut self.uncommitted;
        if std::mem::replace(&mut self.ordered, true) {
            return;
        }
        if changed.len() < rows / ROWS_PER_CHANGE_MAX {
            changed.sort_unstable();
            return;
        }
        let bits = &mut self.bits;
        bits.clear();
        bits.resize(rows.div_ceil(64), 0);
        for at in changed.drain(..) {
            bits[at as usize / 64] |= 1 << (at % 64);
        }
        for (first, word) in (0..).step_by(64).zip(bits) {
            let mut left: u64 = *word;
            while left != 0 {
                changed.push(first + left.trailing_zeros());
                left &= left - 1;
            }
        }
    }
}
