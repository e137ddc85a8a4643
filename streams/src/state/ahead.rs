//! Rows found ahead of the records that will touch them.
//!
//! The rows of a large table lie in slow memory. A task knows the keys of the next few records of a lane, so it has all
//! their rows fetched together, which takes hardly longer than fetching one. It is a guess and nothing else: whether a
//! record asks for that key is checked when it does, and a table whose guesses are not asked for stops making them.

/// Tables below this size stay in the processor's cache anyhow.
pub(super) const TABLE_BYTES_MIN: usize = 64 << 10;
/// After this many guesses it is asked whether they were of use.
const TRIAL: u32 = 1 << 14;
/// No row.
const NONE: u32 = u32::MAX;

#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// By the place of the record among all that were looked at.
    rows: Vec<u32>,
    given: u32,
    used: u32,
    useless: bool,
}

impl Ahead {
    /// Whether guesses are worth their cost.
    pub(super) fn is_worthwhile(&mut self) -> bool {
        if self.given >= TRIAL {
            self.useless |= self.used < self.given / 4;
            (self.given, self.used) = (0, 0);
        }
        !self.useless
    }

    /// Sets the rows of the records from `place` on, and gives them.
    pub(super) fn set(&mut self, place: usize, rows: impl ExactSizeIterator<Item = Option<u32>>) -> &[u32] {
        let end = place + rows.len();
        if self.rows.len() < end {
            self.rows.resize(end, NONE);
        }
        for (slot, row) in self.rows[place..end].iter_mut().zip(rows) {
            self.given += u32::from(row.is_some());
            *slot = row.unwrap_or(NONE);
        }
        &self.rows[place..end]
    }

    /// The row that the record at `place` will probably ask for.
    #[inline]
    pub(super) fn row(&self, place: usize) -> u32 {
        self.rows.get(place).copied().unwrap_or(NONE)
    }

    /// Counts a good guess.
    #[inline]
    pub(super) fn count_used(&mut self) {
        self.used = self.used.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guesses_that_nobody_uses_end() {
        let mut ahead = Ahead::default();
        for _ in 0..TRIAL {
            assert!(ahead.is_worthwhile());
            assert_eq!(ahead.set(3, [Some(7)].into_iter()), [7]);
        }
        assert!(!ahead.is_worthwhile());
        assert_eq!((ahead.row(3), ahead.row(0), ahead.row(99)), (7, NONE, NONE));
        let mut used = Ahead::default();
        for _ in 0..3 * TRIAL {
            assert!(used.is_worthwhile());
            used.set(0, [Some(1), None].into_iter());
            used.count_used();
        }
    }
}
