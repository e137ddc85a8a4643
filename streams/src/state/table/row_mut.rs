//! One row of a table, in the hands of somebody who may change it.

use headwater_core::Timestamp;

use super::Table;

/// One row, to read and change.
pub(crate) struct RowMut<'a, V> {
    pub(super) table: &'a mut Table<V>,
    pub(super) at: u32,
}

impl<'a, V: Clone> RowMut<'a, V> {
    /// Its place, until the table is emptied.
    #[inline]
    pub(crate) fn at(&self) -> u32 {
        self.at
    }

    pub(crate) fn key(&self) -> &[u8] {
        &self.table.rows[self.at as usize].key
    }

    /// The value that is changed, for longer than the row is held.
    #[inline]
    pub(crate) fn into_slot(self) -> &'a mut Option<V> {
        &mut self.table.change(self.at).value
    }

    pub(crate) fn value(self) -> Option<&'a V> {
        self.table.rows[self.at as usize].value.as_ref()
    }

    /// The value as it is.
    #[inline]
    pub(crate) fn peek(&self) -> Option<&V> {
        self.table.rows[self.at as usize].value.as_ref()
    }

    /// That of the last change.
    #[inline]
    pub(crate) fn timestamp(&self) -> Timestamp {
        self.table.rows[self.at as usize].timestamp
    }

    /// Its value as it is or is not, and its timestamp, both to be changed.
    #[inline]
    pub(crate) fn change(self) -> (&'a mut Option<V>, &'a mut Timestamp) {
        let row = self.table.change(self.at);
        (&mut row.value, &mut row.timestamp)
    }

    /// The value as it is or is not, to change, set or take.
    #[inline]
    pub(crate) fn slot(&mut self) -> &mut Option<V> {
        &mut self.table.change(self.at).value
    }

    /// As [`RowMut::slot`], of a row that is being changed.
    #[inline]
    pub(crate) fn slot_again(&mut self) -> &mut Option<V> {
        &mut self.table.rows[self.at as usize].value
    }

    /// Sets value and timestamp.
    pub(crate) fn set(&mut self, value: Option<V>, timestamp: Timestamp) {
        let row = self.table.change(self.at);
        (row.value, row.timestamp) = (value, timestamp);
    }

    /// As [`RowMut::set`], and gives the value before.
    pub(crate) fn replace(&mut self, value: Option<V>, timestamp: Timestamp) -> Option<V> {
        let row = self.table.change(self.at);
        row.timestamp = timestamp;
        std::mem::replace(&mut row.value, value)
    }

    /// Sets the timestamp of a row that is being changed.
    #[inline]
    pub(crate) fn set_timestamp(&mut self, timestamp: Timestamp) {
        self.table.rows[self.at as usize].timestamp = timestamp;
    }

    /// Raises the timestamp of a row that is being changed, and gives it.
    #[inline]
    pub(crate) fn raise_timestamp(&mut self, timestamp: Timestamp) -> Timestamp {
        let row = &mut self.table.rows[self.at as usize];
        row.timestamp = row.timestamp.max(timestamp);
        row.timestamp
    }
}
