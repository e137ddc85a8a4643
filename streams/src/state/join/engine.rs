//! How the store of a join and the engine under it exchange rows.

use std::{cmp::Reverse, ops::ControlFlow};

use headwater_core::{Data, Error, Result, StateBatch, TaskState, Timestamp};

use super::{
    JoinStore, RowPlace, layout,
    pane::{Pane, Row},
    pending::MATCHED,
};

/// Rows that are looked up at once when they are due; those of one timestamp are never divided.
const DUE_ROWS: usize = 1024;

impl<V: Data> JoinStore<V> {
    /// The list of `key` in the pane at `at`; fetched, if only the engine may have it.
    #[inline]
    pub(super) fn list(&mut self, at: usize, key: &[u8], state: &dyn TaskState) -> Result<Option<u32>> {
        let pane = &self.panes[at];
        match pane.find(key) {
            None if !pane.complete => self.fetch(at, key, state).map(Some),
            list => Ok(list),
        }
    }

    #[cold]
    fn fetch(&mut self, at: usize, key: &[u8], state: &dyn TaskState) -> Result<u32> {
        let Self { panes, value: serde, slot, due, gives_out, clock, closing, key_bytes, .. } = self;
        let pane = &mut panes[at];
        let list = pane.list(key)?;
        key_bytes.clear();
        layout::key_prefix((pane.start, pane.end), key, key_bytes)?;
        let prefix = key_bytes.len();
        let from = key_bytes.clone();
        // Timestamps are not negative, so none begins with this.
        key_bytes.push(u8::MAX);
        let mut last = None;
        state.scan(*slot, &from, Some(key_bytes), &mut |key, value| {
            let (timestamp, seq, is_mark) = layout::parse_row(&key[prefix..])?;
            if is_mark {
                if let Some(row) = last.and_then(|row: u32| pane.rows.get_mut(row as usize)) {
                    (row.matched, row.stored_matched) = (true, true);
                }
                return Ok(ControlFlow::Continue(()));
            }
            let mut row = Row::new(timestamp, decode(&**serde, value)?, false);
            (row.seq, row.stored) = (seq, true);
            last = Some(pane.push_stored(list, row, value.len())?);
            Ok(ControlFlow::Continue(()))
        })?;
        let mut at = pane.first_from(list, clock.closed.plus_ms(1));
        while *gives_out && let Some(row) = pane.rows.get_mut(at as usize) {
            let Row { timestamp, seq, matched, .. } = *row;
            row.given = closing.has_sent(timestamp, key, i64::from(seq));
            if !matched && !row.given {
                due.push(Reverse(RowPlace { timestamp, pane: pane.start, row: at }));
            }
            at = row.next;
        }
        Ok(list)
    }

    /// Brings rows up to `limit` that met nobody into memory, some at a time: then all before `stored_due` are there.
    pub(super) fn load_due(&mut self, limit: Timestamp, state: &dyn TaskState) -> Result<()> {
        let Some(from) = self.stored_due.filter(|due| *due <= limit) else { return Ok(()) };
        let (mut rows, mut next): (Vec<(Timestamp, Vec<u8>)>, _) = (Vec::new(), None);
        state.scan(self.slot, &layout::unmatched_from(from), None, &mut |entry, _| {
            let (timestamp, key) = layout::parse_unmatched(entry)?;
            let enough = rows.len() >= DUE_ROWS && rows.last().is_some_and(|(last, _)| *last < timestamp);
            if timestamp > limit || enough {
                next = Some(timestamp);
                return Ok(ControlFlow::Break(()));
            }
            rows.push((timestamp, key.to_vec()));
            Ok(ControlFlow::Continue(()))
        })?;
        self.stored_due = next;
        for (timestamp, key) in rows {
            let at = self.panes.partition_point(|pane| pane.end <= timestamp);
            if self.panes.get(at).is_some_and(|pane| pane.start <= timestamp) {
                self.list(at, &key, state)?;
            }
        }
        Ok(())
    }

    pub(super) fn find_stored_due(&mut self, state: &dyn TaskState) -> Result<()> {
        let from = self.clock.closed.plus_ms(1);
        state.scan(self.slot, &layout::unmatched_from(from), None, &mut |entry, _| {
            self.stored_due = Some(layout::parse_unmatched(entry)?.0);
            Ok(ControlFlow::Break(()))
        })
    }

    /// Finds the panes that the engine holds, by one seek each.
    pub(super) fn find_panes(&mut self, state: &dyn TaskState) -> Result<()> {
        self.panes.clear();
        let mut from = layout::PANES_BEGIN.to_vec();
        loop {
            let mut found = None;
            state.scan(self.slot, &from, Some(&layout::PANES_END), &mut |key, _| {
                found = Some(layout::parse_pane(key)?);
                Ok(ControlFlow::Break(()))
            })?;
            let Some((start, end)) = found else { return Ok(()) };
            if end <= start || self.panes.last().is_some_and(|before| start < before.end) {
                return Err(Error::corrupt(format!("panes of a join overlap. start={start}, end={end}")));
            }
            self.panes.push(Pane::new(start, end, true));
            from = layout::panes_from(start.plus_ms(1));
        }
    }

    /// Drops the panes whose rows are all too old to be kept, and given out.
    pub(super) fn drop_expired(&mut self) {
        let kept_from = self.span.kept_from(self.clock.time);
        let kept_from = self.first_due().map_or(kept_from, |first| first.min(kept_from));
        let expired = self.panes.partition_point(|pane| pane.end <= kept_from);
        self.expired.extend(self.panes.drain(..expired).filter(|pane| pane.stored).map(|pane| pane.start));
    }

    pub(super) fn restore_row(&self, key: &[u8], value: Option<&[u8]>, batch: &mut StateBatch) -> Result<()> {
        let (key, timestamp, seq) = layout::parse_changelog(key)?;
        let is_given = !self.gives_out || timestamp <= self.clock.closed;
        if timestamp < self.span.kept_from(self.clock.time) && is_given {
            return Ok(());
        }
        let (is_mark, seq) = (seq & MATCHED != 0, seq & !MATCHED);
        let (mut row, mut unmatched) = (Vec::new(), Vec::new());
        layout::key_prefix(self.bounds(timestamp), key, &mut row)?;
        layout::push_row(timestamp, seq, &mut row);
        layout::unmatched(timestamp, key, seq, &mut unmatched);
        if is_mark {
            layout::push_matched(&mut row);
            batch.put(self.slot, &row, &[]);
            batch.delete(self.slot, &unmatched);
        } else if let Some(value) = value {
            batch.put(self.slot, &row, value);
            if self.gives_out && timestamp > self.clock.closed {
                batch.put(self.slot, &unmatched, &[]);
            }
        }
        Ok(())
    }

    /// Adds to `batch` what the engine does not hold yet.
    pub(super) fn write(&mut self, batch: &mut StateBatch) -> Result<()> {
        for start in self.expired.drain(..) {
            let (from, to) = (layout::panes_from(start), layout::panes_from(start.plus_ms(1)));
            batch.delete_range(self.slot, &from, &to);
        }
        if self.clock.closed > self.cleared {
            self.cleared = self.clock.closed;
            let (from, to) = (Timestamp(0), self.cleared.plus_ms(1));
            batch.delete_range(self.slot, &layout::unmatched_from(from), &layout::unmatched_from(to));
        }
        let Self { panes, value: serde, slot, gives_out, clock, key_bytes, value_bytes, .. } = self;
        for pane in panes {
            let bounds = (pane.start, pane.end);
            pane.stored |= !pane.rows.is_empty();
            pane.visit(|key, row| {
                let was_stored = std::mem::replace(&mut row.stored, true);
                let marks = *gives_out && row.matched && !row.stored_matched;
                if was_stored && !marks {
                    return Ok(());
                }
                key_bytes.clear();
                layout::key_prefix(bounds, key, key_bytes)?;
                layout::push_row(row.timestamp, row.seq, key_bytes);
                if !was_stored {
                    value_bytes.clear();
                    serde.encode_nullable(&row.value, value_bytes)?;
                    batch.put(*slot, key_bytes, value_bytes);
                }
                if marks {
                    row.stored_matched = true;
                    layout::push_matched(key_bytes);
                    batch.put(*slot, key_bytes, &[]);
                }
                if *gives_out && row.timestamp > clock.closed && (marks || !row.matched) {
                    layout::unmatched(row.timestamp, key, row.seq, key_bytes);
                    if !row.matched {
                        batch.put(*slot, key_bytes, &[]);
                    } else if was_stored {
                        batch.delete(*slot, key_bytes);
                    }
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Leaves all rows to the engine, which holds them.
    pub(super) fn forget(&mut self) {
        // They were about to be given out.
        self.due.extend(self.given.drain(..).map(Reverse));
        while let Some(Reverse(oldest)) = self.due.peek().copied() {
            if self.unmatched(oldest).is_some() {
                let stored = self.stored_due.unwrap_or(oldest.timestamp);
                self.stored_due = Some(stored.min(oldest.timestamp));
                break;
            }
            self.due.pop();
        }
        self.due.clear();
        self.panes.retain(|pane| pane.stored);
        for pane in &mut self.panes {
            *pane = Pane::new(pane.start, pane.end, true);
        }
    }
}

/// An error is not the current record's: what is stored is of another type.
fn decode<V: 'static>(serde: &dyn headwater_core::Serde<V>, bytes: &[u8]) -> Result<V> {
    serde.decode(bytes).map_err(|e| {
        Error::invalid("a stored value cannot be decoded: was the type of the join's values changed?")
            .with_source(e)
    })
}
