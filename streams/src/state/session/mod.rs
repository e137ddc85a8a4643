//! The session store: the sessions of each key, as one row of a table. Where they lie in engine and changelog is drawn in
//! `layout`.
//!
//! A record finds all sessions of its key in one row. Which rows to look at when time moves is known by timers; of rows that
//! are not in memory it is known by the engine, which has an index of sessions by their end.

mod layout;
mod sessions;
mod timers;

use std::{ops::ControlFlow, ops::Range};

use headwater_core::{
    CleanupPolicy, Data, Headers, Result, SerdeRef, StateBatch, StoreId, TaskState, Timestamp,
};

pub(crate) use self::sessions::Joined;
use self::{
    sessions::{Open, Sessions},
    timers::Timers,
};
use super::{
    BuildStore, ChangeSink, Closing, Store, StoreClock, copied, encoded, room,
    stored::{Loaded, decode_stored, encode_stored, restore_stored},
    table::{RowMut, Table},
};
use crate::{Session, SessionWindows};

/// So many sessions that are only in the engine are brought into memory at once to be closed, and those that end with the
/// last of them.
const CLOSED_AT_ONCE: usize = 4096;
/// Of rows that no record asks for.
const NO_PLACE: usize = usize::MAX;

/// A session on its way out: key bytes, span, value (none: it became part of another).
pub(crate) type SessionRow<A> = (Vec<u8>, Session, Option<A>);

pub(crate) struct SessionStoreSpec<A> {
    pub(crate) windows: SessionWindows,
    pub(crate) value: SerdeRef<A>,
}

impl<A: Data> BuildStore for SessionStoreSpec<A> {
    fn build(&self, slot: StoreId) -> Box<dyn Store> {
        Box::new(SessionStore::<A> {
            windows: self.windows,
            value: SerdeRef::clone(&self.value),
            slot,
            table: Table::new(true),
            timers: Timers::default(),
            stored_from: None,
            expired: Vec::new(),
            clock: StoreClock::START,
            closing: Closing::default(),
            late: 0,
            undo: None,
            scratch: Scratch::default(),
        })
    }

    fn cleanup(&self) -> CleanupPolicy {
        CleanupPolicy::CompactDelete
    }
}

pub(crate) struct SessionStore<A> {
    windows: SessionWindows,
    value: SerdeRef<A>,
    slot: StoreId,
    table: Table<Sessions<A>>,
    timers: Timers,
    /// No session that the engine alone has ends before this; `None` when it has none.
    stored_from: Option<Timestamp>,
    /// Closed sessions that the engine had when it was opened and shall drop.
    expired: Vec<(Vec<u8>, Session)>,
    /// A session that ends at `closed` or before is closed.
    clock: StoreClock,
    closing: Closing,
    late: u64,
    undo: Option<(StoreClock, Option<Headers>, u64)>,
    scratch: Scratch,
}

#[derive(Default)]
struct Scratch {
    key: Vec<u8>,
    to: Vec<u8>,
    value: Vec<u8>,
}

/// When a session takes no more records, by the operator's own time.
#[derive(Clone, Copy)]
struct Rule {
    windows: SessionWindows,
    open_from: Timestamp,
    closed: Timestamp,
}

impl Rule {
    /// The second holds, too, when the grace was longer in an earlier run.
    #[inline]
    fn is_closed(self, session: Session) -> bool {
        session.end < self.open_from || session.end <= self.closed
    }

    /// Which of the open sessions a record at `alone` belongs to, and what they make together.
    #[inline]
    fn places<A>(self, sessions: Option<&Sessions<A>>, alone: Session) -> (Range<usize>, Session) {
        let open = sessions.map_or(&[][..], |sessions| &sessions.open);
        let meets =
            |open: &Open<A>| !self.is_closed(open.session) && self.windows.are_one(open.session, alone);
        let Some(first) = open.iter().position(meets) else {
            let before = open.iter().take_while(|open| open.session.end < alone.start).count();
            return (before..before, alone);
        };
        let count = open[first..].iter().take_while(|open| meets(open)).count();
        let met = &open[first..first + count];
        (first..first + count, met.iter().fold(alone, |all, open| all.with(open.session)))
    }
}

/// Sessions that are to be closed, those that ended first at first.
pub(crate) struct DueSessions {
    /// All that end before are among them, or closed.
    open_from: Timestamp,
    sessions: std::vec::IntoIter<(Session, u32)>,
}

/// Whether a session was closed in an earlier run: it was sent, whatever the present gap and grace would do.
fn was_closed((clock, closing): (StoreClock, &Closing), key: &[u8], session: Session) -> bool {
    session.end <= clock.closed || closing.has_sent(session.end, key, session.start.0)
}

impl<A: Data> SessionStore<A> {
    #[inline]
    pub(crate) fn observe(&mut self, timestamp: Timestamp) {
        self.clock.time = self.clock.time.max(timestamp);
    }

    /// Whether the operator's time has not come to `time`.
    pub(crate) fn is_before(&self, time: Timestamp) -> bool {
        self.clock.time < time
    }

    fn rule(&self) -> Rule {
        let StoreClock { time, closed } = self.clock;
        Rule { windows: self.windows, open_from: self.windows.open_from(time), closed }
    }

    /// The row of a key, with the sessions that the engine has of it.
    #[inline]
    fn row(&mut self, key: &[u8], place: usize, state: &dyn TaskState) -> Result<RowMut<'_, Sessions<A>>> {
        let Self { table, timers, value: serde, slot, clock, closing, scratch, .. } = self;
        let row = table.row(key, place, || {
            layout::of_key(key, &mut scratch.key)?;
            scratch.to.clone_from(&scratch.key);
            scratch.to.extend_from_slice(&layout::BEHIND);
            let mut sessions = Sessions::default();
            state.scan(*slot, &scratch.key, Some(&scratch.to), &mut |stored, value| {
                let session = layout::decode_by_key(stored)?;
                if !was_closed((*clock, closing), key, session) {
                    sessions.open.push(Open::stored(session, decode_stored(&**serde, value)?));
                }
                Ok(ControlFlow::Continue(()))
            })?;
            let (timestamp, bytes) = (Timestamp::MIN, sessions.heap_bytes());
            Ok((!sessions.open.is_empty()).then_some(Loaded { value: sessions, timestamp, bytes }))
        })?;
        if let Some(first) = row.peek().and_then(|sessions| sessions.open.first()) {
            timers.set(row.at(), first.session.end);
        }
        Ok(row)
    }

    /// Puts a record into the session that it belongs to, which may be a new one or be made of several; `place` is that of the
    /// record among those looked at ahead. `None`, and counted, when the record is late.
    #[inline]
    pub(crate) fn join(
        &mut self,
        key: &[u8],
        timestamp: Timestamp,
        place: usize,
        state: &dyn TaskState,
    ) -> Result<Option<Joined<'_, A>>> {
        let (rule, alone) = (self.rule(), Session::of(timestamp));
        let row = self.row(key, place, state)?;
        let at = row.at();
        let (places, merged) = rule.places(row.peek(), alone);
        if rule.is_closed(merged) {
            self.late += 1;
            return Ok(None);
        }
        self.timers.set(at, merged.end);
        let row = self.table.row_at(at).expect("the row was there a moment ago");
        Ok(Some(row.into_slot().get_or_insert_default().join(places, merged, alone)))
    }

    /// Whether a record is late; counted when it is.
    pub(crate) fn count_if_late(
        &mut self,
        key: &[u8],
        timestamp: Timestamp,
        place: usize,
        state: &dyn TaskState,
    ) -> Result<bool> {
        let (rule, alone) = (self.rule(), Session::of(timestamp));
        let (_, merged) = rule.places(self.row(key, place, state)?.peek(), alone);
        let late = rule.is_closed(merged);
        self.late += u64::from(late);
        Ok(late)
    }

    /// Whether a record of this time would be late if there were no other sessions.
    #[inline]
    pub(crate) fn may_be_late(&self, timestamp: Timestamp) -> bool {
        self.rule().is_closed(Session::of(timestamp))
    }

    /// Whether [`SessionStore::close_due`] may have something to close.
    #[inline]
    pub(crate) fn closing_due(&self) -> bool {
        let open_from = self.windows.open_from(self.clock.time);
        let stored = || self.first_stored().is_some_and(|end| end < open_from);
        self.timers.first() < open_from || stored()
    }

    /// No session that the engine alone has ends before this.
    #[inline]
    fn first_stored(&self) -> Option<Timestamp> {
        self.stored_from.filter(|_| !self.table.is_complete())
    }

    /// Sessions whose time has come, in the order in which they are to be closed: by end, then key. Not all of them at once when
    /// there are many: it is to be called until none is due. Each is closed, or put back.
    pub(crate) fn take_due(&mut self, state: &dyn TaskState) -> Result<DueSessions> {
        let open_from = self.load_due(self.windows.open_from(self.clock.time), state)?;
        let mut due: Vec<(Session, u32)> = Vec::new();
        while let Some(at) = self.timers.take_before(open_from) {
            let Some(sessions) = self.table.row_as_it_is(at).1 else { continue };
            let is_over = |open: &&Open<A>| open.session.end < open_from;
            due.extend(sessions.open.iter().take_while(is_over).map(|open| (open.session, at)));
            if let Some(first) = sessions.open.iter().find(|open| !is_over(open)) {
                self.timers.set(at, first.session.end);
            }
        }
        let key = |at: u32| self.table.row_as_it_is(at).0;
        due.sort_unstable_by(|(a, a_at), (b, b_at)| {
            let by_key = || key(*a_at).cmp(key(*b_at)).then(a.start.cmp(&b.start));
            a.end.cmp(&b.end).then_with(by_key)
        });
        Ok(DueSessions { open_from, sessions: due.into_iter() })
    }

    /// Closes the next of `due`: its key, span and last value.
    pub(crate) fn close_next(&mut self, due: &mut DueSessions) -> Option<SessionRow<A>> {
        for (session, at) in due.sessions.by_ref() {
            let Some(row) = self.table.row_at(at) else { continue };
            let key = row.key().to_vec();
            let Some(sessions) = row.into_slot().as_mut() else { continue };
            let mut value = None;
            sessions.close_first(|_, last| value = Some(last.clone()));
            if value.is_some() {
                return Some((key, session, value));
            }
        }
        None
    }

    /// Notes that a session was sent, and all before it.
    pub(crate) fn set_sent(&mut self, key: &[u8], session: Session) {
        self.closing.send(session.end, key, session.start.0);
    }

    /// Keeps for later what of `due` was not closed.
    pub(crate) fn put_back(&mut self, due: DueSessions) {
        for (session, at) in due.sessions {
            self.timers.set(at, session.end);
            // Some may be taken out of memory before their turn, although the engine has had them all the time.
            self.stored_from = Some(self.stored_from.map_or(session.end, |first| first.min(session.end)));
        }
    }

    /// All of `due` is closed.
    pub(crate) fn all_closed(&mut self, due: &DueSessions) {
        self.clock.closed = self.clock.closed.max(Timestamp(due.open_from.0.saturating_sub(1)));
        self.closing.sent = None;
    }

    /// Notes that a record with these headers has made something due.
    pub(crate) fn set_trigger(&mut self, headers: Option<Headers>) {
        self.closing.trigger = headers;
    }

    /// Headers of the record that made due what is.
    pub(crate) fn trigger(&self) -> Headers {
        self.closing.trigger.clone().unwrap_or_default()
    }

    /// Brings rows into memory of which the engine alone knows that they have sessions that end before `open_from`. When they
    /// are many, only some, and it gives the earlier time up to which they are all there.
    fn load_due(&mut self, open_from: Timestamp, state: &dyn TaskState) -> Result<Timestamp> {
        let Some(first) = self.first_stored().filter(|first| *first < open_from) else {
            return Ok(open_from);
        };
        let (mut keys, mut last, mut next) = (Vec::new(), first, None);
        layout::from_end(first, &mut self.scratch.key);
        state.scan(self.slot, &self.scratch.key, None, &mut |key, _| {
            let (key, Session { end, .. }) = layout::decode_by_end(key)?;
            if end >= open_from || (keys.len() >= CLOSED_AT_ONCE && end > last) {
                next = Some(end);
                return Ok(ControlFlow::Break(()));
            }
            last = end;
            keys.push(key.to_vec());
            Ok(ControlFlow::Continue(()))
        })?;
        self.stored_from = next;
        for key in keys {
            self.row(&key, NO_PLACE, state)?;
        }
        Ok(next.map_or(open_from, |next| next.min(open_from)))
    }

    /// What changed since the last commit, by end, then key; at one end and key, those that are gone come first.
    pub(crate) fn changed_rows(&self) -> Vec<SessionRow<A>> {
        let rows = self.table.changed().filter_map(|(key, sessions, _)| Some((key, sessions?)));
        let mut changed: Vec<SessionRow<A>> = rows
            .flat_map(|(key, sessions)| {
                sessions.changed().map(|(session, value)| (key.to_vec(), session, value.cloned()))
            })
            .collect();
        changed.sort_unstable_by(|a, b| {
            let place = |row: &SessionRow<A>| (row.2.is_some(), row.1.start);
            a.1.end.cmp(&b.1.end).then_with(|| a.0.cmp(&b.0)).then_with(|| place(a).cmp(&place(b)))
        });
        changed
    }
}

impl<A: Data> Store for SessionStore<A> {
    /// Finds the sessions that are closed, to drop them, and the first that is not.
    fn open(&mut self, state: &dyn TaskState) -> Result<()> {
        let empty = !state.last_key(self.slot, &mut Vec::new())?;
        self.table = Table::new(empty);
        layout::from_end(Timestamp(0), &mut self.scratch.key);
        let Self { slot, scratch, expired, stored_from, clock, closing, .. } = self;
        let sent_until = closing.sent.as_ref().map_or(clock.closed, |sent| sent.time);
        state.scan(*slot, &scratch.key, None, &mut |key, _| {
            let (key, session) = layout::decode_by_end(key)?;
            if was_closed((*clock, closing), key, session) {
                expired.push((key.to_vec(), session));
                return Ok(ControlFlow::Continue(()));
            }
            stored_from.get_or_insert(session.end);
            // The engine orders those of one end a little otherwise.
            Ok(if session.end > sent_until { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })
    }

    fn begin_record(&mut self) {
        self.undo = Some((self.clock, self.closing.trigger.clone(), self.late));
        self.table.begin_record();
    }

    /// Timers stay: one that comes too early does no harm.
    fn roll_back(&mut self) {
        if let Some((clock, trigger, late)) = &self.undo {
            (self.clock, self.late) = (*clock, *late);
            self.closing.trigger.clone_from(trigger);
            self.table.roll_back();
        }
    }

    fn look_ahead(&mut self, place: usize, keys: &[Option<&[u8]>]) {
        self.table.look_ahead(place, keys);
    }

    fn take_changes(&mut self, sink: &mut ChangeSink<'_>) -> Result<()> {
        let Self { table, value: serde, scratch, .. } = self;
        table.take_changes_mut(|key, sessions, _| {
            let Some(sessions) = sessions else { return Ok(0) };
            sessions.log(|session, value| {
                layout::changelog_key(key, session, &mut scratch.key);
                sink(&copied(Some(&scratch.key)), &encoded(&**serde, value), session.end)
            })?;
            Ok(sessions.heap_bytes())
        })
    }

    /// What is closed is not brought back: the clock was set before.
    fn restore(
        &mut self,
        key: &[u8],
        value: Option<&[u8]>,
        (timestamp, _): (Timestamp, usize),
        batch: &mut StateBatch,
    ) -> Result<()> {
        let (key, session) = layout::decode_changelog_key(key)?;
        let (mut by_key, mut by_end) = (Vec::new(), Vec::new());
        layout::by_key(key, session, &mut by_key)?;
        layout::by_end(key, session, &mut by_end);
        let value = value.filter(|_| !was_closed((self.clock, &self.closing), key, session));
        restore_stored((self.slot, &by_key), value, timestamp, batch);
        match value {
            Some(_) => batch.put(self.slot, &by_end, &[]),
            None => batch.delete(self.slot, &by_end),
        }
        Ok(())
    }

    fn begin_spill(&mut self) {
        self.table.begin_spill();
    }

    fn spill(&mut self, batch: &mut StateBatch, bytes_max: usize) -> Result<bool> {
        let Self { table, value: serde, slot, stored_from, expired, scratch, .. } = self;
        let Scratch { key: bytes, value: value_bytes, .. } = scratch;
        let mut write = |key: &[u8], session: Session, value: Option<&A>| -> Result<ControlFlow<()>> {
            let present = encode_stored(&**serde, value, session.end, value_bytes)?;
            let mut write = |key: &[u8], value: &[u8]| {
                if present { batch.put(*slot, key, value) } else { batch.delete(*slot, key) }
            };
            layout::by_key(key, session, bytes)?;
            write(bytes, value_bytes);
            layout::by_end(key, session, bytes);
            write(bytes, &[]);
            Ok(room(batch, bytes_max))
        };
        for (key, session) in expired.drain(..) {
            // Keys and times only: all of them at once.
            let _ = write(&key, session, None)?;
        }
        table.spill_mut(|key, sessions, _| {
            let mut flow = ControlFlow::Continue(());
            let Some(sessions) = sessions else { return Ok(flow) };
            sessions.store(|session, value| {
                if value.is_some() {
                    *stored_from = Some(stored_from.map_or(session.end, |first| first.min(session.end)));
                }
                flow = write(key, session, value)?;
                Ok(())
            })?;
            Ok(flow)
        })
    }

    fn evict(&mut self) {
        self.table.evict();
        if self.table.is_empty() {
            self.timers.clear();
        }
    }

    fn uncommitted_bytes(&self) -> usize {
        self.table.uncommitted_bytes()
    }

    fn bytes(&self) -> usize {
        self.table.bytes() + self.timers.bytes()
    }

    fn clock(&self) -> Option<StoreClock> {
        Some(self.clock)
    }

    fn next_closing(&self) -> Option<Timestamp> {
        let first = self.timers.next().into_iter().chain(self.first_stored()).min();
        first.map(|end| self.windows.closes_at(end))
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
