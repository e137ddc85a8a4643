//! One row of a table, in the hands of somebody who may change it.

use headwater_core::Timestamp;

use super::{Row, changes::Changes};

/// One row, to read and change.
pub(crate) struct RowMut<'a, V> {
    pub(super) row: &'a mut Row<V>,
    pub(super) at: u32,
    pub(super) changes: &'a mut Changes<V>,
}

impl<'a, V: Clone> RowMut<'a, V> {
    /// Its place, until the table is emptied.
    #[inline]
    pub(crate) fn at(&self) -> u32 {
        self.at
    }

    pub(crate) fn key(&self) -> &[u8] {
        &self.row.key
    }

    /// The value that is changed, for longer than the row is held.
    #[inline]
    pub(crate) fn into_slot(self) -> &'a mut Option<V> {
        &mut self.changes.change(self.at, self.row).value
    }

    pub(crate) fn value(self) -> Option<&'a V> {
        self.row.value.as_ref()
    }

    /// The value as it is.
    #[inline]
    pub(crate) fn peek(&self) -> Option<&V> {
        self.row.value.as_ref()
    }

    /// That of the last change.
    #[inline]
    pub(crate) fn timestamp(&self) -> Timestamp {
        self.row.timestamp
    }

    /// Its value as it is or is not, and its timestamp, both to be changed.
    #[inline]
    pub(crate) fn change(self) -> (&'a mut Option<V>, &'a mut Timestamp) {
        let row = self.changes.change(self.at, self.row);
        (&mut row.value, &mut row.timestamp)
    }

    /// The value as it is or is not, to change, set or take.
    #[inline]
    pub(crate) fn slot(&mut self) -> &mut Option<V> {
        &mut self.changes.change(self.at, self.row).value
    }

    /// As [`RowMut::slot`], of a row that is being changed.
    #[inline]
    pub(crate) fn slot_again(&mut self) -> &mut Option<V> {
        &mut self.row.value
    }

    /// Sets value and timestamp.
    pub(crate) fn set(&mut self, value: Option<V>, timestamp: Timestamp) {
        let row = self.changes.change(self.at, self.row);
        (row.value, row.timestamp) = (value, timestamp);
    }

    /// As [`RowMut::set`], and gives the value before.
    pub(crate) fn replace(&mut self, value: Option<V>, timestamp: Timestamp) -> Option<V> {
        let row = self.changes.change(self.at, self.row);
        row.timestamp = timestamp;
        std::mem::replace(&mut row.value, value)
    }

    /// Sets the timestamp of a row that is being changed.
    #[inline]
    pub(crate) fn set_timestamp(&mut self, timestamp: Timestamp) {
        self.row.timestamp = timestamp;
    }

    /// Raises the timestamp of a row that is being changed, and gives it.
    #[inline]
    pub(crate) fn raise_timestamp(&mut self, timestamp: Timestamp) -> Timestamp {
        self.row.timestamp = self.row.timestamp.max(timestamp);
        self.row.timestamp
    }
}
