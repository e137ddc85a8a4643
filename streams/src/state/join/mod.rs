//! The store of one side of a stream-stream join: all its rows of the last while, duplicates included, by key and time;
//! and, where it is asked for, which of them have met a row of the other side.
//!
//! Rows lie in panes of time ([`pane`]), which are dropped whole. The bytes for the changelog are made when a row comes
//! ([`pending`]); the engine is written in bulk ([`layout`]), and what it alone holds is fetched key by key.

mod engine;
mod layout;
mod pane;
mod pending;

use std::{cmp::Reverse, collections::BinaryHeap};

use headwater_core::{
    CleanupPolicy, Data, Headers, Result, SerdeRef, StateBatch, StoreId, TaskState, Timestamp,
};

use self::{
    pane::{Pane, Row},
    pending::{MATCHED, Pending, PendingMark},
};
use super::{BuildStore, ChangeSink, Closing, Store, StoreClock};
use crate::join_windows::JoinSpan;

pub(crate) struct JoinStoreSpec<V> {
    pub(crate) span: JoinSpan,
    pub(crate) value: SerdeRef<V>,
    /// Whether rows that meet nobody are given out.
    pub(crate) gives_out: bool,
}

impl<V: Data> BuildStore for JoinStoreSpec<V> {
    fn build(&self, slot: StoreId) -> Box<dyn Store> {
        Box::new(JoinStore::new(self, slot))
    }

    fn cleanup(&self) -> CleanupPolicy {
        CleanupPolicy::CompactDelete
    }
}

/// Rules, all by the highest timestamp of either side (`clock.time`, the same in both stores of a join):
/// - a row is kept while [`JoinSpan::kept_from`] is not past it, and until it is given out, if it is to be;
/// - its window is closed when [`JoinSpan::closed_until`] has reached it; if it has met nobody until then, it is given
///   out, and meets nobody any more.
pub(crate) struct JoinStore<V> {
    span: JoinSpan,
    value: SerdeRef<V>,
    gives_out: bool,
    slot: StoreId,
    /// The oldest first, without overlap.
    panes: Vec<Pane<V>>,
    /// Rows in memory that may have met nobody yet, the oldest first. Some have, or are gone: that is looked at in time.
    due: BinaryHeap<Reverse<RowPlace>>,
    /// No row that only the engine knows to have met nobody is older than this; `None`: there is none.
    stored_due: Option<Timestamp>,
    /// Rows of one timestamp that are to be given out, the first last.
    given: Vec<RowPlace>,
    /// Starts of panes that the engine still holds and shall drop.
    expired: Vec<Timestamp>,
    /// Up to here the engine's list of rows that met nobody is cleared.
    cleared: Timestamp,
    pending: Pending,
    /// `closed`: everything up to there that had met nobody was given out.
    clock: StoreClock,
    closing: Closing,
    /// Up to when time has passed, behind the end of the input, for those that come before this side.
    passed: Timestamp,
    late: u64,
    undo: Option<Undo>,
    key_bytes: Vec<u8>,
    value_bytes: Vec<u8>,
}

/// Where a row in memory is: in the order of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RowPlace {
    timestamp: Timestamp,
    pane: Timestamp,
    row: u32,
}

/// What is needed to take a record back.
struct Undo {
    clock: StoreClock,
    trigger: Option<Headers>,
    late: u64,
    pending: PendingMark,
    steps: Vec<Step>,
}

enum Step {
    Put(RowPlace),
    Matched(RowPlace),
}

/// What became of a record that was put into its side's store.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Put<V> {
    Kept,
    /// It met nobody, and its window is closed: it is to be given out at once, and was not kept.
    GivenOut(V),
    /// It met nobody, and is too old to be kept: it was dropped and counted.
    Late,
}

impl<V: Data> JoinStore<V> {
    fn new(spec: &JoinStoreSpec<V>, slot: StoreId) -> Self {
        Self {
            span: spec.span,
            value: SerdeRef::clone(&spec.value),
            gives_out: spec.gives_out,
            slot,
            panes: Vec::new(),
            due: BinaryHeap::new(),
            stored_due: None,
            given: Vec::new(),
            expired: Vec::new(),
            cleared: Timestamp(-1),
            pending: Pending::default(),
            clock: StoreClock::START,
            closing: Closing::default(),
            passed: Timestamp::MIN,
            late: 0,
            undo: None,
            key_bytes: Vec::new(),
            value_bytes: Vec::new(),
        }
    }

    /// Moves time.
    #[inline]
    pub(crate) fn observe(&mut self, timestamp: Timestamp) {
        self.clock.time = self.clock.time.max(timestamp);
    }

    /// Hears that time has passed for this side.
    pub(crate) fn pass(&mut self, time: Timestamp) {
        self.passed = time;
    }

    /// Whether time has passed for this side.
    pub(crate) fn has_passed(&self, time: Timestamp) -> bool {
        self.passed >= time
    }

    /// Whether [`JoinStore::next_given_out`] may have something.
    #[inline]
    pub(crate) fn is_due(&self) -> bool {
        let limit = self.closed_until();
        self.due.peek().is_some_and(|Reverse(place)| place.timestamp <= limit)
            || self.stored_due.is_some_and(|timestamp| timestamp <= limit)
    }

    /// No row that has met nobody, and was not given out, is older than this.
    fn first_due(&self) -> Option<Timestamp> {
        let due = self.due.peek().map(|Reverse(place)| place.timestamp);
        let given = self.given.last().map(|place| place.timestamp);
        due.into_iter().chain(self.stored_due).chain(given).min().filter(|_| self.gives_out)
    }

    /// What was once given out stays so, also when the grace is longer in a later run.
    fn closed_until(&self) -> Timestamp {
        self.span.closed_until(self.clock.time).max(self.clock.closed)
    }

    /// Shows `met` all rows of `key` from `from` to `to`, in the order of time and arrival, and remembers that they have
    /// met somebody.
    #[inline]
    pub(crate) fn meet(
        &mut self,
        key: &[u8],
        (from, to): (Timestamp, Timestamp),
        state: &dyn TaskState,
        mut met: impl FnMut(&V, Timestamp),
    ) -> Result<()> {
        let from = from.max(self.span.kept_from(self.clock.time));
        let closed_until = self.closed_until();
        let mut at = self.panes.partition_point(|pane| pane.end <= from);
        while self.panes.get(at).is_some_and(|pane| pane.start <= to) {
            if let Some(list) = self.list(at, key, state)? {
                let Self { panes, pending, undo, gives_out, .. } = self;
                let pane = &mut panes[at];
                let mut next = pane.first_from(list, from);
                while let Some(row) = pane.rows.get_mut(next as usize)
                    && row.timestamp <= to
                {
                    let first = *gives_out && !row.matched;
                    if !first || row.timestamp > closed_until {
                        met(&row.value, row.timestamp);
                        if first {
                            row.matched = true;
                            pending.push(key, row.timestamp, row.seq | MATCHED, &[]);
                            let place = RowPlace { timestamp: row.timestamp, pane: pane.start, row: next };
                            note(undo, Step::Matched(place));
                        }
                    }
                    next = row.next;
                }
            }
            at += 1;
        }
        Ok(())
    }

    /// Keeps a record, whose value is `value` and as bytes `value_bytes`, if it is not too old; `matched` says whether it
    /// has met somebody.
    #[inline]
    pub(crate) fn put(
        &mut self,
        (key, timestamp): (&[u8], Timestamp),
        (value, value_bytes): (V, &[u8]),
        matched: bool,
        state: &dyn TaskState,
    ) -> Result<Put<V>> {
        if timestamp < self.span.kept_from(self.clock.time) {
            if matched {
                return Ok(Put::Kept);
            }
            self.late += 1;
            return Ok(Put::Late);
        }
        if self.gives_out && !matched && timestamp <= self.closed_until() {
            return Ok(Put::GivenOut(value));
        }
        let at = self.pane(timestamp);
        let list = match self.list(at, key, state)? {
            Some(list) => list,
            None => self.panes[at].list(key)?,
        };
        let pane = &mut self.panes[at];
        let row = pane.push(list, Row::new(timestamp, value, matched), value_bytes.len())?;
        let (seq, place) = (pane.rows[row as usize].seq, RowPlace { timestamp, pane: pane.start, row });
        self.pending.push(key, timestamp, seq, value_bytes);
        note(&mut self.undo, Step::Put(place));
        if self.gives_out && matched {
            self.pending.push(key, timestamp, seq | MATCHED, &[]);
        } else if self.gives_out {
            self.due.push(Reverse(place));
        }
        Ok(Put::Kept)
    }

    /// The pane of a timestamp, which is made when there is none.
    #[inline]
    fn pane(&mut self, timestamp: Timestamp) -> usize {
        // Mostly the last.
        let at = match self.panes.last() {
            Some(last) if last.start <= timestamp => self.panes.len(),
            _ => self.panes.partition_point(|pane| pane.start <= timestamp),
        };
        if at > 0 && timestamp < self.panes[at - 1].end {
            return at - 1;
        }
        let (start, end) = self.bounds(timestamp);
        self.panes.insert(at, Pane::new(start, end, false));
        at
    }

    /// Start and end of the pane that a timestamp belongs to, whether it is there or not. Panes that were made with
    /// other windows stay as they are: new ones fill the gaps.
    fn bounds(&self, timestamp: Timestamp) -> (Timestamp, Timestamp) {
        let at = self.panes.partition_point(|pane| pane.start <= timestamp);
        let length = self.span.pane_ms();
        let start = Timestamp(timestamp.0 - timestamp.0.rem_euclid(length));
        let (mut start, mut end) = (start, start.plus_ms(length));
        if let Some(before) = self.panes[..at].last() {
            if timestamp < before.end {
                return (before.start, before.end);
            }
            start = start.max(before.end);
        }
        if let Some(after) = self.panes.get(at) {
            end = end.min(after.start);
        }
        (start, end)
    }

    /// Timestamp of the next row that met nobody until its window closed; in the order of time, key and arrival.
    pub(crate) fn next_given_out(&mut self, state: &dyn TaskState) -> Result<Option<Timestamp>> {
        let limit = self.closed_until();
        let mut found = false;
        while self.given.is_empty() && self.is_due() {
            found = true;
            self.load_due(limit, state)?;
            while let Some(Reverse(place)) = self.due.peek().copied()
                && place.timestamp <= limit
                && self.stored_due.is_none_or(|stored| place.timestamp < stored)
                && self.given.first().is_none_or(|first| first.timestamp == place.timestamp)
            {
                self.due.pop();
                if self.unmatched(place).is_some() {
                    self.given.push(place);
                }
            }
        }
        // Once, and not for each that is taken out.
        if found && self.given.len() > 1 {
            self.sort_given();
        }
        Ok(self.given.last().map(|place| place.timestamp))
    }

    fn sort_given(&mut self) {
        let mut given = std::mem::take(&mut self.given);
        let order = |place: &RowPlace| {
            let pane = self.panes.iter().find(|pane| pane.start == place.pane);
            pane.map(|pane| (pane.key_of(place.row), pane.rows[place.row as usize].seq))
        };
        if !given.is_sorted_by(|a, b| order(a) > order(b)) {
            given.sort_by(|a, b| order(b).cmp(&order(a)));
            given.dedup();
        }
        self.given = given;
    }

    /// Takes the row that [`JoinStore::next_given_out`] spoke of.
    pub(crate) fn give_out(&mut self) -> Option<RowPlace> {
        let place = self.given.pop()?;
        if let Ok(at) = self.panes.binary_search_by_key(&place.pane, |pane| pane.start) {
            self.panes[at].rows[place.row as usize].given = true;
        }
        Some(place)
    }

    /// Key, value and timestamp of a row.
    pub(crate) fn row(&self, place: RowPlace) -> Option<(&[u8], &V, Timestamp)> {
        let at = self.panes.binary_search_by_key(&place.pane, |pane| pane.start).ok()?;
        let row = self.panes[at].rows.get(place.row as usize)?;
        Some((self.panes[at].key_of(place.row), &row.value, row.timestamp))
    }

    /// Bytes of key and value of a row.
    pub(crate) fn row_bytes(&self, place: RowPlace) -> Result<(Vec<u8>, Vec<u8>)> {
        let mut value_bytes = Vec::new();
        let Some((key, value, _)) = self.row(place) else { return Ok((Vec::new(), value_bytes)) };
        self.value.encode_nullable(value, &mut value_bytes)?;
        Ok((key.to_vec(), value_bytes))
    }

    /// The row at `place`, if it is there and has met nobody.
    fn unmatched(&self, place: RowPlace) -> Option<&Row<V>> {
        let at = self.panes.binary_search_by_key(&place.pane, |pane| pane.start).ok()?;
        let row = self.panes[at].rows.get(place.row as usize)?;
        (row.timestamp == place.timestamp && !row.matched && !row.given).then_some(row)
    }

    /// Notes that a row was given out, and all before it.
    pub(crate) fn set_sent(&mut self, place: RowPlace) {
        let Ok(at) = self.panes.binary_search_by_key(&place.pane, |pane| pane.start) else { return };
        let Some(row) = self.panes[at].rows.get(place.row as usize) else { return };
        self.closing.send(row.timestamp, self.panes[at].key_of(place.row), i64::from(row.seq));
    }

    /// Everything that was due is given out.
    pub(crate) fn all_given_out(&mut self) {
        self.closing.sent = None;
        if self.gives_out {
            self.clock.closed = self.closed_until();
        }
    }

    /// Notes that a record of this side with these headers has made something due.
    pub(crate) fn set_trigger(&mut self, headers: Option<Headers>) {
        self.closing.trigger = headers;
    }

    /// Headers of the record of this side that made something due, if one did.
    pub(crate) fn trigger(&self) -> Option<&Headers> {
        self.closing.trigger.as_ref()
    }
}

fn note(undo: &mut Option<Undo>, step: Step) {
    if let Some(undo) = undo {
        undo.steps.push(step);
    }
}

impl<V: Data> Store for JoinStore<V> {
    fn prepare(&mut self, state: &dyn TaskState) -> Result<()> {
        self.find_panes(state)
    }

    fn open(&mut self, state: &dyn TaskState) -> Result<()> {
        self.find_panes(state)?;
        // Before anything is dropped: what is due is kept.
        self.find_stored_due(state)?;
        self.drop_expired();
        Ok(())
    }

    fn begin_record(&mut self) {
        let (clock, late, pending) = (self.clock, self.late, self.pending.mark());
        let mut steps = self.undo.take().map_or_else(Vec::new, |undo| undo.steps);
        steps.clear();
        let trigger = self.closing.trigger.clone();
        self.undo = Some(Undo { clock, trigger, late, pending, steps });
    }

    fn roll_back(&mut self) {
        let Some(undo) = &mut self.undo else { return };
        (self.clock, self.late) = (undo.clock, undo.late);
        self.closing.trigger.clone_from(&undo.trigger);
        self.pending.rewind(undo.pending);
        for step in undo.steps.drain(..).rev() {
            let (Step::Put(place) | Step::Matched(place)) = step;
            let Ok(at) = self.panes.binary_search_by_key(&place.pane, |pane| pane.start) else { continue };
            match step {
                Step::Put(_) => self.panes[at].unlink(place.row),
                Step::Matched(_) => self.panes[at].rows[place.row as usize].matched = false,
            }
        }
    }

    /// The panes of the keys that come next are not known before their records are.
    fn look_ahead(&mut self, _: usize, _: &[Option<&[u8]>]) {}

    fn take_changes(&mut self, sink: &mut ChangeSink<'_>) -> Result<()> {
        self.pending.take(sink)?;
        self.drop_expired();
        if let Some(undo) = &mut self.undo {
            undo.steps.clear();
            undo.pending = PendingMark::default();
        }
        Ok(())
    }

    fn restore(
        &mut self,
        key: &[u8],
        value: Option<&[u8]>,
        _: (Timestamp, usize),
        batch: &mut StateBatch,
    ) -> Result<()> {
        self.restore_row(key, value, batch)
    }

    /// What a commit brought is written whole: marks and rows belong together.
    fn spill(&mut self, batch: &mut StateBatch, _: usize) -> Result<bool> {
        self.write(batch)?;
        Ok(false)
    }

    fn evict(&mut self) {
        self.forget();
    }

    fn uncommitted_bytes(&self) -> usize {
        self.pending.bytes()
    }

    fn bytes(&self) -> usize {
        let due = self.due.capacity() * size_of::<RowPlace>();
        self.panes.iter().map(Pane::bytes).sum::<usize>() + due + self.pending.bytes()
    }

    /// Where nothing is due, also says so: a restore need not look for it.
    fn clock(&self) -> Option<StoreClock> {
        let (StoreClock { time, closed }, closed_until) = (self.clock, self.closed_until());
        let is_due = !self.gives_out || self.first_due().is_some_and(|first| first <= closed_until);
        Some(StoreClock { time, closed: if is_due { closed } else { closed_until } })
    }

    fn next_closing(&self) -> Option<Timestamp> {
        self.first_due().map(|timestamp| self.span.closes_at(timestamp))
    }

    fn set_clock(&mut self, clock: StoreClock) {
        self.clock = clock;
    }

    fn closing(&self) -> Option<Closing> {
        self.closing.some()
    }

    fn set_closing(&mut self, closing: Closing) {
        self.closing = closing;
    }

    fn late(&self) -> u64 {
        self.late
    }
}

#[cfg(test)]
mod tests;
