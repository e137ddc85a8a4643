//! The window store: one value per window and key, in panes, one small table per window.
//!
//! In the engine a key is `window start | key`, so that a window is one range, which is dropped whole. In the changelog
//! it is Kafka's `key | window start | 0` (`WindowKeySchema`).

mod closing;

use std::ops::ControlFlow;

use headwater_core::{
    CleanupPolicy, Data, Error, Headers, Result, SerdeRef, StateBatch, StoreId, TaskState, Timestamp,
};

use self::closing::Due;
use super::{
    BuildStore, ChangeSink, Closing, Store, StoreClock, encoded, room,
    stored::{Loaded, decode_stored, encode_stored, restored},
    table::{RowMut, Table},
};
use crate::{TimeWindows, Window};

const START_BYTES: usize = 8;
/// Start and sequence number (always 0: one row per key and window) behind the key in the changelog.
const CHANGELOG_SUFFIX_BYTES: usize = 12;

pub(crate) struct WindowStoreSpec<A> {
    pub(crate) windows: TimeWindows,
    pub(crate) value: SerdeRef<A>,
}

impl<A: Data> BuildStore for WindowStoreSpec<A> {
    fn build(&self, slot: StoreId) -> Box<dyn Store> {
        Box::new(WindowStore::<A> {
            windows: self.windows,
            value: SerdeRef::clone(&self.value),
            slot,
            panes: Vec::new(),
            recent: 0,
            closed: Vec::new(),
            expired: Vec::new(),
            clock: StoreClock::START,
            next_close: Timestamp(i64::MAX),
            closing: Closing::default(),
            late: 0,
            undo: None,
            opened: Vec::new(),
            key_bytes: Vec::new(),
            value_bytes: Vec::new(),
        })
    }

    fn cleanup(&self) -> CleanupPolicy {
        CleanupPolicy::CompactDelete
    }
}

pub(crate) struct WindowStore<A> {
    windows: TimeWindows,
    value: SerdeRef<A>,
    slot: StoreId,
    /// Open windows, the oldest first.
    panes: Vec<Pane<A>>,
    /// The pane of the last record: mostly that of the next one, too.
    recent: usize,
    /// Closed since the last commit: kept for the changelog, and for taking a record back.
    closed: Vec<Pane<A>>,
    /// Windows whose rows the engine still holds and shall drop.
    expired: Vec<Timestamp>,
    clock: StoreClock,
    /// When the first pane closes, so that not each record has to work that out; the end of time when there is none.
    next_close: Timestamp,
    closing: Closing,
    late: u64,
    undo: Option<Undo>,
    /// Windows that the current record opened.
    opened: Vec<Timestamp>,
    key_bytes: Vec<u8>,
    value_bytes: Vec<u8>,
}

/// What is needed to take a record back, beside the tables' own undo.
struct Undo {
    clock: StoreClock,
    trigger: Option<Headers>,
    late: u64,
    closed: usize,
}

struct Pane<A> {
    start: Timestamp,
    table: Table<A>,
    /// Whether the engine holds rows of this window.
    written: bool,
    /// While the window is closed: what is still to be sent.
    due: Option<Due<A>>,
}

impl<A: Data> WindowStore<A> {
    /// Hears of a record of this time; whether a window is to be closed now.
    #[inline]
    pub(crate) fn observe(&mut self, timestamp: Timestamp) -> bool {
        self.clock.time = self.clock.time.max(timestamp);
        self.next_close <= self.clock.time && self.closing_due()
    }

    /// Whether the operator's time has not come to `time`.
    pub(crate) fn is_before(&self, time: Timestamp) -> bool {
        self.clock.time < time
    }

    /// Whether `window` takes no more records, by the operator's own time (Kafka: `observedStreamTime`): the highest
    /// timestamp that reached it, not the task's.
    #[inline]
    pub(crate) fn is_closed(&self, window: Window) -> bool {
        // The second holds, too, when the grace was longer in an earlier run.
        self.windows.closes_at(window) <= self.clock.time || window.end <= self.clock.closed
    }

    /// Whether a record of this time can be late at all: one that does not fall behind never is.
    #[inline]
    pub(crate) fn may_be_late(&self, timestamp: Timestamp) -> bool {
        timestamp < self.clock.time
    }

    pub(crate) fn count_late(&mut self) {
        self.late += 1;
    }

    /// The row of `key` in `window`; `None`, and counted as late, when that is closed. `place` is that of the record among those
    /// looked at ahead, and `due` what [`WindowStore::observe`] said of it.
    #[inline(always)]
    pub(crate) fn row_in_time(
        &mut self,
        window: Window,
        key: &[u8],
        place: usize,
        (due, state): (bool, &dyn TaskState),
    ) -> Result<Option<RowMut<'_, A>>> {
        let start = window.start;
        let is_recent = self.panes.get(self.recent).is_some_and(|pane| pane.start == start);
        // A window is open that has a pane while none is due.
        if (due || !is_recent) && !self.turn_to(window) {
            return Ok(None);
        }
        let Self { value: serde, slot, key_bytes, value_bytes, .. } = self;
        let row = self.panes[self.recent].table.row(key, place, || {
            key_bytes.clear();
            key_bytes.extend_from_slice(&start.0.to_be_bytes());
            key_bytes.extend_from_slice(key);
            value_bytes.clear();
            let found = state.get(*slot, key_bytes, value_bytes)?;
            if found { decode_stored(&**serde, value_bytes).map(Some) } else { Ok(None) }
        });
        row.map(Some)
    }

    /// Makes the pane of `window` the one at hand, unless that is closed.
    #[inline(never)]
    fn turn_to(&mut self, window: Window) -> bool {
        let is_closed = self.is_closed(window);
        if is_closed {
            self.count_late();
        } else {
            self.recent = self.pane(window.start);
        }
        !is_closed
    }

    /// Place of a pane, which is made when there is none. Panes that the engine holds were all found by `open`.
    fn pane(&mut self, start: Timestamp) -> usize {
        if self.panes.get(self.recent).is_some_and(|pane| pane.start == start) {
            return self.recent;
        }
        // Windows that hop are asked for one after another.
        let next = self.recent + 1;
        if self.panes.get(next).is_some_and(|pane| pane.start == start) {
            return next;
        }
        self.panes
            .binary_search_by_key(&start, |pane| pane.start)
            .unwrap_or_else(|at| self.open_pane(at, start))
    }

    #[cold]
    fn open_pane(&mut self, at: usize, start: Timestamp) -> usize {
        let mut table = Table::new(true);
        if self.undo.is_some() {
            table.begin_record();
            self.opened.push(start);
        }
        self.panes.insert(at, Pane { start, table, written: false, due: None });
        self.find_next_close();
        at
    }

    /// Looks when the first pane closes; to be called whenever that may be another one.
    fn find_next_close(&mut self) {
        self.next_close = self.next_closing().unwrap_or(Timestamp(i64::MAX));
    }

    /// Whether [`WindowStore::next_to_close`] has something.
    fn closing_due(&self) -> bool {
        self.panes.first().is_some_and(|pane| self.closes_at(pane.start) <= self.clock.time)
    }

    pub(crate) fn next_to_close(&self) -> Option<Timestamp> {
        self.closing_due().then(|| self.panes[0].start)
    }

    fn closes_at(&self, start: Timestamp) -> Timestamp {
        self.windows.closes_at(self.windows.window_at(start))
    }

    /// Visits the rows that changed since the last commit, those of the oldest window first, also of one that closed meanwhile. A value
    /// that became Kafka's null is `None`.
    pub(crate) fn each_changed(
        &mut self,
        mut visit: impl FnMut(Timestamp, &[u8], Option<&A>, Timestamp) -> Result<()>,
    ) -> Result<()> {
        let panes = self.closed.iter_mut().chain(&mut self.panes);
        let mut changed: Vec<_> = panes.filter(|pane| pane.table.has_changes()).collect();
        changed.sort_by_key(|pane| pane.start);
        for pane in changed {
            let start = pane.start;
            pane.table.each_changed(|key, value, timestamp| visit(start, key, value, timestamp))?;
        }
        Ok(())
    }

    fn range(&self, start: Timestamp) -> ([u8; START_BYTES], [u8; START_BYTES]) {
        (start.0.to_be_bytes(), start.plus_ms(1).0.to_be_bytes())
    }
}

/// The start of a window as it lies in a key. One that is negative would not sort by its bytes, and none begins at the end of time,
/// behind which there is nothing to seek.
fn start_of(bytes: [u8; START_BYTES]) -> Result<Timestamp> {
    let start = Timestamp(i64::from_be_bytes(bytes));
    if start < Timestamp(0) || start == Timestamp(i64::MAX) {
        return Err(Error::corrupt(format!("no window begins at the time of a row. start={start}")));
    }
    Ok(start)
}

impl<A: Data> Store for WindowStore<A> {
    /// Finds the windows that the engine holds, by one seek each; those that are closed are dropped.
    fn prepare(&mut self, state: &dyn TaskState) -> Result<()> {
        let mut from = [0; START_BYTES];
        loop {
            let mut found = None;
            state.scan(self.slot, &from, None, &mut |key, _| {
                found = Some(key.first_chunk::<START_BYTES>().copied());
                Ok(ControlFlow::Break(()))
            })?;
            let Some(start) = found else {
                self.find_next_close();
                return Ok(());
            };
            let start = start.ok_or_else(|| Error::corrupt("a stored window key is shorter than 8 bytes"))?;
            let start = start_of(start)?;
            // Closed is what was sent, not what the present size and grace would have closed: those may have changed.
            if self.windows.window_at(start).end <= self.clock.closed {
                self.expired.push(start);
            } else {
                self.panes.push(Pane { start, table: Table::new(false), written: true, due: None });
            }
            from = start.plus_ms(1).0.to_be_bytes();
        }
    }

    fn begin_record(&mut self) {
        self.opened.clear();
        let (clock, trigger) = (self.clock, self.closing.trigger.clone());
        self.undo = Some(Undo { clock, trigger, late: self.late, closed: self.closed.len() });
        self.panes.iter_mut().for_each(|pane| pane.table.begin_record());
    }

    fn roll_back(&mut self) {
        let Some(undo) = &self.undo else { return };
        (self.clock, self.late) = (undo.clock, undo.late);
        self.closing.trigger.clone_from(&undo.trigger);
        // Closed from the front, so they go back to the front.
        self.panes.splice(0..0, self.closed.drain(undo.closed..));
        self.panes.sort_by_key(|pane| pane.start);
        let opened = std::mem::take(&mut self.opened);
        self.panes.retain(|pane| !opened.contains(&pane.start));
        self.find_next_close();
        self.panes.iter_mut().for_each(|pane| pane.table.roll_back());
    }

    /// In the pane of the last record, which is mostly that of the next ones, too.
    fn look_ahead(&mut self, place: usize, keys: &[Option<&[u8]>]) {
        if let Some(pane) = self.panes.get_mut(self.recent) {
            pane.table.look_ahead(place, keys);
        }
    }

    fn take_changes(&mut self, sink: &mut ChangeSink<'_>) -> Result<()> {
        let Self { panes, closed, value: serde, .. } = self;
        for pane in closed.iter_mut().chain(panes) {
            let mut suffix = [0; CHANGELOG_SUFFIX_BYTES];
            suffix[..START_BYTES].copy_from_slice(&pane.start.0.to_be_bytes());
            pane.table.take_changes(|key, value, timestamp| {
                let put_key = |out: &mut Vec<u8>| {
                    out.extend_from_slice(key);
                    out.extend_from_slice(&suffix);
                    Ok(true)
                };
                sink(&put_key, &encoded(&**serde, value), timestamp)
            })?;
        }
        let written = self.closed.drain(..).filter(|pane| pane.written).map(|pane| pane.start);
        self.expired.extend(written);
        if let Some(undo) = &mut self.undo {
            undo.closed = 0;
        }
        Ok(())
    }

    /// What is closed is not brought back: the clock was set before.
    fn restore(
        &mut self,
        key: &[u8],
        value: Option<&[u8]>,
        (timestamp, place): (Timestamp, usize),
        _: &mut StateBatch,
    ) -> Result<()> {
        let Some((key, suffix)) = key.split_last_chunk::<CHANGELOG_SUFFIX_BYTES>() else {
            let length = key.len();
            return Err(Error::corrupt(format!(
                "a window changelog key has at least 12 bytes. length={length}"
            )));
        };
        let [start @ .., _, _, _, _] = *suffix;
        let start = start_of(start)?;
        if self.windows.window_at(start).end <= self.clock.closed {
            return Ok(());
        }
        let row = restored(&*self.value, value)?;
        self.recent = self.pane(start);
        self.panes[self.recent].table.restore(key, row, timestamp, place)
    }

    fn begin_spill(&mut self) {
        self.panes.iter_mut().for_each(|pane| pane.table.begin_spill());
    }

    fn restores_into_memory(&self) -> bool {
        true
    }

    fn row_key<'a>(&self, changelog_key: &'a [u8]) -> &'a [u8] {
        changelog_key.split_last_chunk::<CHANGELOG_SUFFIX_BYTES>().map_or(changelog_key, |(key, _)| key)
    }

    fn spill(&mut self, batch: &mut StateBatch, bytes_max: usize) -> Result<bool> {
        let expired = std::mem::take(&mut self.expired);
        for start in expired {
            let (from, to) = self.range(start);
            batch.delete_range(self.slot, &from, &to);
        }
        let Self { panes, value: serde, slot, key_bytes, value_bytes, .. } = self;
        for pane in panes {
            let Pane { start, table, written, .. } = pane;
            let more = table.spill(|key, value, timestamp| {
                *written = true;
                key_bytes.clear();
                key_bytes.extend_from_slice(&start.0.to_be_bytes());
                key_bytes.extend_from_slice(key);
                if encode_stored(&**serde, value, timestamp, value_bytes)? {
                    batch.put(*slot, key_bytes, value_bytes);
                } else {
                    batch.delete(*slot, key_bytes);
                }
                Ok(room(batch, bytes_max))
            })?;
            if more {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn evict(&mut self) {
        self.interrupt();
        self.panes.iter_mut().filter(|pane| pane.written).for_each(|pane| pane.table.evict());
    }

    fn uncommitted_bytes(&self) -> usize {
        self.panes.iter().chain(&self.closed).map(|pane| pane.table.uncommitted_bytes()).sum()
    }

    fn bytes(&self) -> usize {
        self.panes.iter().chain(&self.closed).map(|pane| pane.table.bytes()).sum()
    }

    fn clock(&self) -> Option<StoreClock> {
        Some(self.clock)
    }

    fn next_closing(&self) -> Option<Timestamp> {
        self.panes.first().map(|pane| self.closes_at(pane.start))
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
mod tests {
    use std::time::Duration;

    use headwater_core::{
        DefaultSerde as _, ErrorKind, Partition, StateBackend as _, TaskId, memory::MemoryBackend,
    };

    use super::*;

    /// Such rows would not sort by their bytes, or be found again and again.
    #[test]
    fn a_row_of_a_window_that_cannot_be_is_corrupt() {
        let windows = TimeWindows::tumbling(Duration::from_millis(10));
        let task = TaskId { subtopology: 0, partition: Partition(0) };
        let mut state = MemoryBackend::default().open(task, &["windows".to_owned()]).unwrap();
        for (start, fits) in
            [(0, true), (10, true), (i64::MAX - 1, true), (i64::MAX, false), (-1, false), (i64::MIN, false)]
        {
            let mut store = WindowStoreSpec { windows, value: u64::default_serde() }.build(StoreId(0));
            store.prepare(&*state).unwrap();
            let key = [&b"k"[..], &i64::to_be_bytes(start), &[0; 4]].concat();
            let mut batch = StateBatch::default();
            let restored = store.restore(&key, Some(&[0; 8]), (Timestamp(1), 0), &mut batch);
            assert_eq!(
                restored.map_err(|e| e.kind()),
                if fits { Ok(()) } else { Err(ErrorKind::Corrupt) },
                "{start}"
            );
            store.begin_spill();
            assert!(!store.spill(&mut batch, usize::MAX).unwrap());
            state.write(&batch).unwrap();
        }
        let mut batch = StateBatch::default();
        batch.put(StoreId(0), &i64::MAX.to_be_bytes(), &[0; 16]);
        state.write(&batch).unwrap();
        let mut store = WindowStoreSpec { windows, value: u64::default_serde() }.build(StoreId(0));
        assert_eq!(store.prepare(&*state).unwrap_err().kind(), ErrorKind::Corrupt);
    }
}
