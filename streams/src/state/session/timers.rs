//! Which rows to look at when time moves.
//!
//! Most records move the end of a session, so a structure sorted by it would be changed at every record. Instead a row has a
//! timer that is never after the first end among its sessions, and mostly before: when its time has come the row is looked
//! at, and gets a new timer if nothing was due. A row that is always busy is looked at once per gap and grace.

use std::{cmp::Reverse, collections::BinaryHeap};

use headwater_core::Timestamp;

const NEVER: Timestamp = Timestamp(i64::MAX);

#[derive(Debug, Default)]
pub(super) struct Timers {
    /// The earliest on top. One that is not its row's timer any more is passed over.
    heap: BinaryHeap<Reverse<(Timestamp, u32)>>,
    /// By the place of the row.
    of_row: Vec<Timestamp>,
}

impl Timers {
    /// Sees to it that the row at `at` is looked at when `end` has passed, or earlier.
    #[inline]
    pub(super) fn set(&mut self, at: u32, end: Timestamp) {
        let place = at as usize;
        if self.of_row.len() <= place {
            self.of_row.resize(place + 1, NEVER);
        }
        if end < self.of_row[place] {
            self.of_row[place] = end;
            self.heap.push(Reverse((end, at)));
        }
    }

    /// The time of the earliest.
    #[inline]
    pub(super) fn first(&self) -> Timestamp {
        self.heap.peek().map_or(NEVER, |Reverse((time, _))| *time)
    }

    /// As [`Timers::first`], if there is one.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.heap.peek().map(|Reverse((time, _))| *time)
    }

    /// Takes a row whose timer is before `limit`.
    pub(super) fn take_before(&mut self, limit: Timestamp) -> Option<u32> {
        while self.first() < limit {
            let Reverse((time, at)) = self.heap.pop()?;
            let own = &mut self.of_row[at as usize];
            if *own == time {
                *own = NEVER;
                return Some(at);
            }
        }
        None
    }

    /// Forgets all, when there are no rows any more.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn bytes(&self) -> usize {
        self.heap.capacity() * size_of::<(Timestamp, u32)>() + self.of_row.capacity() * size_of::<Timestamp>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_taken_once_and_at_its_earliest_time() {
        let mut timers = Timers::default();
        for (at, end) in [(7, 30), (2, 20), (7, 10), (7, 25), (2, 20)] {
            timers.set(at, Timestamp(end));
        }
        assert_eq!(timers.take_before(Timestamp(10)), None);
        assert_eq!(timers.take_before(Timestamp(21)), Some(7));
        timers.set(7, Timestamp(20));
        let mut both = [0, 0].map(|_| timers.take_before(Timestamp(21)).unwrap());
        both.sort_unstable();
        assert_eq!(both, [2, 7]);
        assert_eq!(timers.take_before(Timestamp(i64::MAX)), None);
    }
}
