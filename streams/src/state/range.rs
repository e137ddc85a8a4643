//! Reading many rows of a key-value store: ranges and prefixes, both ways, in the order of the keys' bytes.
//!
//! What is at hand lies over what the engine holds: two sorted sequences, of which the first hides the second where both
//! have a key.

use std::ops::{Bound, ControlFlow, RangeBounds};

use headwater_core::{Data, Result, TaskState};

use super::{KeyValue, KeyValueStore, stored::decode_stored};

/// From which end rows are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// From the lowest key on.
    #[default]
    Forward,
    /// From the highest key on (Kafka: `reverseRange`, `reverseAll`).
    Backward,
}

/// From this key on, and up to that one, which does not belong to it.
type ByteRange = (Vec<u8>, Option<Vec<u8>>);

impl<K: Data, V: Data> KeyValueStore<'_, K, V> {
    /// Calls `visit` with the rows whose keys lie in `range`, in the order of the keys' bytes, until it says
    /// [`ControlFlow::Break`]. `..` is all of them (Kafka: `range`, `all`).
    ///
    /// Bytes sort like the keys for text and unsigned numbers; for which else, see [`headwater_core::serdes`]. The first call
    /// on a store sorts the keys of all rows at hand, and from then on the store keeps them sorted.
    ///
    /// ```
    /// use std::ops::ControlFlow;
    /// use headwater_core::{Record, Result};
    /// use headwater_streams::{KeyValueHandle, Order, Processor, ProcessorContext};
    ///
    /// /// Forwards the three lowest prices whenever one changes.
    /// struct Cheapest { prices: KeyValueHandle<u64, String> }
    /// impl Processor<u64, String, u64, String> for Cheapest {
    ///     fn process(&mut self, record: Record<u64, String>, cx: &mut ProcessorContext<'_, u64, String>) -> Result<()> {
    ///         let mut prices = cx.store(&self.prices);
    ///         prices.put(&record.key, record.value.clone(), record.timestamp)?;
    ///         let mut lowest = Vec::new();
    ///         prices.range(.., Order::Forward, |price, name| {
    ///             lowest.push((price, name.clone()));
    ///             if lowest.len() < 3 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    ///         })?;
    ///         lowest.into_iter().try_for_each(|(price, name)| cx.forward(Record::new(price, name, record.timestamp)))
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// From the serdes and the engine.
    pub fn range(
        &mut self,
        range: impl RangeBounds<K>,
        order: Order,
        visit: impl FnMut(K, &V) -> ControlFlow<()>,
    ) -> Result<()> {
        let key = &*self.store.key;
        // A bound that must lie behind its key lies before the next bytes that there can be.
        let bound = |bound: &K, behind: bool| {
            let mut bytes = Vec::new();
            key.encode(bound, &mut bytes)?;
            bytes.extend(behind.then_some(0));
            Result::Ok(bytes)
        };
        let from = match range.start_bound() {
            Bound::Included(start) => bound(start, false)?,
            Bound::Excluded(start) => bound(start, true)?,
            Bound::Unbounded => Vec::new(),
        };
        let to = match range.end_bound() {
            Bound::Included(end) => Some(bound(end, true)?),
            Bound::Excluded(end) => Some(bound(end, false)?),
            Bound::Unbounded => None,
        };
        self.store.visit((from, to), order, self.state, visit)
    }

    /// As [`KeyValueStore::range`], with the rows whose keys' bytes begin with `prefix` (Kafka: `prefixScan`).
    ///
    /// # Errors
    /// From the serdes and the engine.
    pub fn prefix(
        &mut self,
        prefix: &[u8],
        order: Order,
        visit: impl FnMut(K, &V) -> ControlFlow<()>,
    ) -> Result<()> {
        // Up to the prefix with its last byte raised; bytes that cannot be raised do not bound anything.
        let mut to = prefix.to_vec();
        while to.pop_if(|byte| *byte == u8::MAX).is_some() {}
        let to = match to.last_mut() {
            Some(last) => {
                *last += 1;
                Some(to)
            }
            None => None,
        };
        self.store.visit((prefix.to_vec(), to), order, self.state, visit)
    }
}

impl<K: Data, V: Data> KeyValue<K, V> {
    fn visit(
        &mut self,
        (from, to): ByteRange,
        order: Order,
        state: &dyn TaskState,
        mut visit: impl FnMut(K, &V) -> ControlFlow<()>,
    ) -> Result<()> {
        if to.as_ref().is_some_and(|to| *to <= from) {
            return Ok(());
        }
        let Self { table, key: key_serde, value: value_serde, slot, .. } = self;
        let complete = table.is_complete();
        let end = to.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let sorted = table.sorted((Bound::Included(&from[..]), end));
        let at_hand: Box<dyn Iterator<Item = _>> =
            if order == Order::Forward { Box::new(sorted) } else { Box::new(sorted.rev()) };
        let mut at_hand = at_hand.peekable();
        let before = |a: &[u8], b: &[u8]| if order == Order::Forward { a < b } else { a > b };
        let mut stopped = false;
        let mut give = |key: &[u8], value: &V| {
            let flow = visit(key_serde.decode(key)?, value);
            stopped |= flow.is_break();
            Ok(flow)
        };
        if !complete {
            let mut merge = |key: &[u8], stored: &[u8]| {
                while let Some((earlier, value)) = at_hand.next_if(|(at_hand, _)| before(at_hand, key)) {
                    if let Some(value) = value
                        && give(earlier, value)?.is_break()
                    {
                        return Ok(ControlFlow::Break(()));
                    }
                }
                match at_hand.next_if(|(at_hand, _)| *at_hand == key) {
                    Some((_, Some(value))) => give(key, value),
                    // Deleted since the engine was written.
                    Some((_, None)) => Ok(ControlFlow::Continue(())),
                    None => give(key, &decode_stored(&**value_serde, stored)?.value),
                }
            };
            match order {
                Order::Forward => state.scan(*slot, &from, to.as_deref(), &mut merge)?,
                Order::Backward => state.scan_back(*slot, &from, to.as_deref(), &mut merge)?,
            }
        }
        if stopped {
            return Ok(());
        }
        for (key, value) in at_hand {
            if let Some(value) = value
                && visit(key_serde.decode(key)?, value).is_break()
            {
                break;
            }
        }
        Ok(())
    }
}
