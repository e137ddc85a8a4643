//! What a window store does to close a window: which of its rows come next, and what is known of those that were sent.

use std::ops::ControlFlow;

use headwater_core::{Data, Headers, Result, TaskState, Timestamp};

use super::{Loaded, Pane, START_BYTES, WindowStore, decode_stored};

/// So many rows of a window that closes are in memory a second time, on their way out.
const ROWS_AT_ONCE: usize = 128;

/// A row on its way out: key bytes, value, timestamp.
pub(crate) type WindowRow<A> = (Vec<u8>, A, Timestamp);

pub(super) struct Due<A> {
    /// Rows that were given, and had no room in a commit.
    rows: Vec<WindowRow<A>>,
    /// Places of the rows in the table that come next, the last first.
    places: Vec<u32>,
    /// Whether the engine has more.
    stored: bool,
}

impl<A: Data> WindowStore<A> {
    /// Notes that a record with these headers has made something due.
    pub(crate) fn set_trigger(&mut self, headers: Option<Headers>) {
        self.closing.trigger = headers;
    }

    /// Headers of the record that made due what is.
    pub(crate) fn trigger(&self) -> Headers {
        self.closing.trigger.clone().unwrap_or_default()
    }

    /// Notes that a row of the window that closes was sent, and all before it.
    pub(crate) fn set_sent(&mut self, start: Timestamp, key: &[u8]) {
        self.closing.send(start, key, 0);
    }

    /// Forgets which rows of a window that closes come next, because their places will be others: what was not sent is found anew.
    pub(super) fn interrupt(&mut self) {
        self.panes.iter_mut().for_each(|pane| pane.due = None);
    }

    /// The next rows of the window that closes, in the order of their keys: those behind the last that was sent, not all at
    /// once. None when all were given.
    pub(crate) fn due_rows(&mut self, start: Timestamp, state: &dyn TaskState) -> Result<Vec<WindowRow<A>>> {
        let Self { panes, closing, slot, value: serde, .. } = self;
        let Some(Pane { table, due, .. }) = panes.iter_mut().find(|pane| pane.start == start) else {
            return Ok(Vec::new());
        };
        let sent = closing.sent.as_ref().filter(|sent| sent.time == start).map(|sent| &sent.key[..]);
        let due = due.get_or_insert_with(|| {
            let places = table.places_from_the_end(sent);
            Due { rows: Vec::new(), places, stored: !table.is_complete() }
        });
        if !due.rows.is_empty() {
            return Ok(std::mem::take(&mut due.rows));
        }
        let Due { places, stored: has_stored, .. } = due;
        let mut rows = Vec::with_capacity(ROWS_AT_ONCE.min(places.len()));
        let take = |places: &mut Vec<u32>, rows: &mut Vec<WindowRow<A>>| {
            if let Some((key, Some(value), timestamp)) = places.pop().map(|at| table.row_as_it_is(at)) {
                rows.push((key.to_vec(), value.clone(), timestamp));
            }
        };
        if *has_stored {
            let (mut from, to) = (start.0.to_be_bytes().to_vec(), start.plus_ms(1).0.to_be_bytes());
            // Right behind the key.
            sent.iter().for_each(|key| from.extend(key.iter().chain(&[0])));
            *has_stored = false;
            state.scan(*slot, &from, Some(&to), &mut |stored, value| {
                let key = &stored[START_BYTES..];
                while rows.len() < ROWS_AT_ONCE
                    && let Some(at) = places.last()
                    && table.row_as_it_is(*at).0 < key
                {
                    take(places, &mut rows);
                }
                if rows.len() >= ROWS_AT_ONCE {
                    *has_stored = true;
                    return Ok(ControlFlow::Break(()));
                }
                if places.last().is_some_and(|at| table.row_as_it_is(*at).0 == key) {
                    // Later than what the engine has, or deleted.
                    take(places, &mut rows);
                } else {
                    let Loaded { value, timestamp, .. } = decode_stored(&**serde, value)?;
                    rows.push((key.to_vec(), value, timestamp));
                }
                Ok(ControlFlow::Continue(()))
            })?;
        }
        while !*has_stored && rows.len() < ROWS_AT_ONCE && !places.is_empty() {
            take(places, &mut rows);
        }
        Ok(rows)
    }

    /// Keeps rows that were given and had no room in a commit: they are the next.
    pub(crate) fn keep_due(&mut self, start: Timestamp, rows: Vec<WindowRow<A>>) {
        let pane = self.panes.iter_mut().find(|pane| pane.start == start);
        if let Some(due) = pane.and_then(|pane| pane.due.as_mut()) {
            due.rows = rows;
        }
    }

    /// Closes a window: it takes no more records, and its rows go with the next commit.
    pub(crate) fn close(&mut self, start: Timestamp) {
        self.closing.sent = None;
        if let Ok(at) = self.panes.binary_search_by_key(&start, |pane| pane.start) {
            self.closed.push(self.panes.remove(at));
            self.clock.closed = self.clock.closed.max(self.windows.window_at(start).end);
            self.find_next_close();
        }
    }
}
