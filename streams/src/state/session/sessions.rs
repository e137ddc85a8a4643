//! The sessions of one key: those that are open, and what is still to be said of those that are not.

use std::ops::Range;

use headwater_core::Result;
use smallvec::SmallVec;

use crate::{
    Session,
    state::{stored::Loaded, table::heap_bytes_of},
};

/// The value of a row. What was committed and what the engine holds is known session by session.
#[derive(Debug, Clone)]
pub(super) struct Sessions<A> {
    /// By time; they do not touch.
    pub(super) open: SmallVec<[Open<A>; 1]>,
    past: Vec<Past<A>>,
}

impl<A> Default for Sessions<A> {
    fn default() -> Self {
        Self { open: SmallVec::new(), past: Vec::new() }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Open<A> {
    pub(super) session: Session,
    /// Missing only until the record that opened it is added.
    pub(super) value: Option<A>,
    /// Whether changelog and engine have a row of this session, with this or an earlier value.
    logged: bool,
    stored: bool,
    /// Whether the value is later than theirs.
    unlogged: bool,
    unstored: bool,
    /// About what the value keeps on the heap, as of when it was last read or committed.
    heap_bytes: u32,
}

impl<A> Open<A> {
    /// As the engine has it.
    pub(super) fn stored(session: Session, Loaded { value, bytes, .. }: Loaded<A>) -> Self {
        let (value, heap_bytes) = (Some(value), heap_bytes_of::<A>(bytes));
        Self { session, value, logged: true, stored: true, unlogged: false, unstored: false, heap_bytes }
    }

    fn new(session: Session) -> Self {
        let (value, heap_bytes) = (None, 0);
        Self { session, value, logged: false, stored: false, unlogged: true, unstored: false, heap_bytes }
    }
}

/// A session that was closed, or became part of another.
#[derive(Debug, Clone)]
struct Past<A> {
    session: Session,
    /// Of a session that was closed: its last value, if the changelog does not have it.
    value: Option<A>,
    unlogged: bool,
    stored: bool,
}

/// The session that a record belongs to.
pub(crate) struct Joined<'a, A> {
    pub(crate) session: Session,
    /// Sessions that there were and that are not to be seen any more, the earliest first. Its own former self is one, even
    /// where it is the same span; but none, as in Kafka, when the record is a session by itself (Kafka:
    /// `KStreamSessionWindowAggregate`).
    pub(crate) replaced: SmallVec<[Session; 1]>,
    /// Aggregates of all but the first of the sessions that the record joined, to be merged into `value` in this order.
    pub(crate) others: Vec<A>,
    /// The aggregate of the first; `None` when the record opened the session.
    pub(crate) value: &'a mut Option<A>,
}

impl<A> Sessions<A> {
    /// Makes one session, `merged`, of those at `places` and the record that is `alone`.
    pub(super) fn join(&mut self, places: Range<usize>, merged: Session, alone: Session) -> Joined<'_, A> {
        let (at, mut replaced, mut others) = (places.start, SmallVec::new(), Vec::new());
        if merged != alone {
            replaced.extend(self.open[places.clone()].iter().map(|open| open.session));
        }
        if places.is_empty() {
            self.open.insert(at, Open::new(merged));
        }
        for other in self.open.drain((at + 1).min(places.end)..places.end) {
            let Open { session, value, logged, stored, .. } = other;
            others.extend(value);
            if logged {
                self.past.push(Past { session, value: None, unlogged: true, stored });
            }
        }
        let open = &mut self.open[at];
        if open.session != merged {
            let Open { session, logged, stored, .. } = *open;
            if logged {
                self.past.push(Past { session, value: None, unlogged: true, stored });
            }
            (open.session, open.logged, open.stored) = (merged, false, false);
        }
        open.unlogged = true;
        Joined { session: merged, replaced, others, value: &mut open.value }
    }

    /// Closes the first session, which is over.
    pub(super) fn close_first(&mut self, closed: impl FnOnce(Session, &A)) {
        if self.open.is_empty() {
            return;
        }
        let Open { session, value, unlogged, stored, .. } = self.open.remove(0);
        if let Some(value) = &value {
            closed(session, value);
        }
        if unlogged || stored {
            self.past.push(Past { session, value: value.filter(|_| unlogged), unlogged, stored });
        }
    }

    /// What changed since the last commit; no value: the session became part of another.
    pub(super) fn changed(&self) -> impl Iterator<Item = (Session, Option<&A>)> {
        let past =
            self.past.iter().filter(|past| past.unlogged).map(|past| (past.session, past.value.as_ref()));
        past.chain(
            self.open.iter().filter(|open| open.unlogged).map(|open| (open.session, open.value.as_ref())),
        )
    }

    /// Visits all of [`Sessions::changed`], and takes it for committed; `visit` says how many bytes a value has.
    pub(super) fn log(&mut self, mut visit: impl FnMut(Session, Option<&A>) -> Result<usize>) -> Result<()> {
        for past in self.past.iter_mut().filter(|past| past.unlogged) {
            visit(past.session, past.value.as_ref())?;
            (past.value, past.unlogged) = (None, false);
        }
        self.past.retain(|past| past.stored);
        if self.past.is_empty() {
            self.past = Vec::new();
        }
        for open in self.open.iter_mut().filter(|open| open.unlogged) {
            open.heap_bytes = heap_bytes_of::<A>(visit(open.session, open.value.as_ref())?);
            (open.logged, open.unlogged, open.unstored) = (true, false, true);
        }
        Ok(())
    }

    /// Visits what the engine does not have as it is, and takes it for written: sessions to remove, which have no value, and
    /// then those to write.
    pub(super) fn store(&mut self, mut visit: impl FnMut(Session, Option<&A>) -> Result<()>) -> Result<()> {
        for past in std::mem::take(&mut self.past).iter().filter(|past| past.stored) {
            visit(past.session, None)?;
        }
        for open in self.open.iter_mut().filter(|open| open.unstored) {
            visit(open.session, open.value.as_ref())?;
            (open.stored, open.unstored) = (true, false);
        }
        Ok(())
    }

    /// Bytes outside of the row; those of values, about.
    pub(super) fn heap_bytes(&self) -> usize {
        let open = if self.open.spilled() { self.open.capacity() * size_of::<Open<A>>() } else { 0 };
        let values: usize = self.open.iter().map(|open| open.heap_bytes as usize).sum();
        open + values + self.past.capacity() * size_of::<Past<A>>()
    }
}
