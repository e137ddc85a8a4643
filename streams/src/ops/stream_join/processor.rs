//! The processor of one side of a stream-stream join.

use std::{marker::PhantomData, ops::ControlFlow, sync::Arc};

use headwater_core::{Data, Headers, Record, Result, SerdeRef, Timestamp};

use super::joiner::Joiner;
use crate::{
    Processor, ProcessorContext,
    join_windows::JoinSpan,
    runtime::panic::{catch, panicked},
    state::{JoinStore, Put},
};

/// The stores of a side and of the other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sides {
    pub(super) this: usize,
    pub(super) other: usize,
    /// Whether this is the right side, whose records are given out first among those of one time, as in Kafka.
    pub(super) this_first: bool,
}

/// `V` is the value of this side, `W` that of the other, and `joiner` takes them in this order.
pub(super) struct JoinInput<K, V, W, R, J> {
    sides: Sides,
    span: JoinSpan,
    joiner: Arc<J>,
    key: SerdeRef<K>,
    value: SerdeRef<V>,
    key_bytes: Vec<u8>,
    value_bytes: Vec<u8>,
    /// What the present record makes with the rows that it meets.
    results: Vec<(R, Timestamp)>,
    other: PhantomData<fn(W)>,
}

impl<K, V, W, R, J> JoinInput<K, V, W, R, J> {
    pub(super) fn new(
        sides: Sides,
        span: JoinSpan,
        joiner: Arc<J>,
        (key, value): (SerdeRef<K>, SerdeRef<V>),
    ) -> Self {
        Self {
            sides,
            span,
            joiner,
            key,
            value,
            key_bytes: Vec::new(),
            value_bytes: Vec::new(),
            results: Vec::new(),
            other: PhantomData,
        }
    }
}

impl<K, V, W, R, J> Processor<K, V, K, R> for JoinInput<K, V, W, R, J>
where
    K: Data,
    V: Data,
    W: Data,
    R: Data,
    J: Joiner<K, V, W, R>,
{
    fn process(&mut self, record: Record<K, V>, cx: &mut ProcessorContext<'_, K, R>) -> Result<()> {
        self.observe(&record, cx)?;
        let Record { key, value, timestamp, headers } = record;
        self.key_bytes.clear();
        self.value_bytes.clear();
        if !self.value.encode_nullable(&value, &mut self.value_bytes)? {
            // Kafka drops it, too, whatever the key.
            cx.task.null_values += 1;
            return Ok(());
        }
        if !self.key.encode_nullable(&key, &mut self.key_bytes)? {
            let Some(value) = self.joiner.left(&key, &value) else {
                cx.task.null_keys += 1;
                return Ok(());
            };
            return cx.forward(Record { key, value, timestamp, headers });
        }
        let (joiner, results) = (&*self.joiner, &mut self.results);
        results.clear();
        let (other, state) = cx.task.store_and_state::<JoinStore<W>>(self.sides.other);
        other.meet(&self.key_bytes, self.span.meets(timestamp), state, |met, at| {
            results.push((joiner.both(&key, &value, met), timestamp.max(at)));
        })?;
        let (this, state) = cx.task.store_and_state::<JoinStore<V>>(self.sides.this);
        let row = (&self.key_bytes[..], timestamp);
        let put = this.put(row, (value, &self.value_bytes), !results.is_empty(), state)?;
        if let Put::GivenOut(value) = put
            && let Some(alone) = joiner.left(&key, &value)
        {
            results.push((alone, timestamp));
        }
        let Some((last, last_timestamp)) = self.results.pop() else { return Ok(()) };
        for (value, timestamp) in self.results.drain(..) {
            cx.forward(Record { key: key.clone(), value, timestamp, headers: headers.clone() })?;
        }
        cx.forward(Record { key, value: last, timestamp: last_timestamp, headers })
    }

    /// Sends what met nobody until its window closed.
    #[cold]
    fn advance(&mut self, cx: &mut ProcessorContext<'_, K, R>) -> Result<()> {
        let (this, _) = cx.task.store_and_state::<JoinStore<V>>(self.sides.this);
        if let Some(headers) = this.trigger().cloned() {
            if self.give_out_due(&headers, cx)?.is_break() {
                return Ok(());
            }
            cx.task.store_and_state::<JoinStore<V>>(self.sides.this).0.set_trigger(None);
        }
        let Some(time) = cx.task.passing() else { return Ok(()) };
        let (this, _) = cx.task.store_and_state::<JoinStore<V>>(self.sides.this);
        this.pass(time);
        let (other, _) = cx.task.store_and_state::<JoinStore<W>>(self.sides.other);
        // Not before everything that comes before the other side has had its turn.
        if !other.has_passed(time) {
            return Ok(());
        }
        other.observe(time);
        cx.task.store_and_state::<JoinStore<V>>(self.sides.this).0.observe(time);
        self.give_out_due(&Headers::new(), cx).map(|_| ())
    }
}

impl<K, V, W, R, J> JoinInput<K, V, W, R, J>
where
    K: Data,
    V: Data,
    W: Data,
    R: Data,
    J: Joiner<K, V, W, R>,
{
    /// Sends what met nobody until its window closed, of both sides; whether that is all sent, or a commit must come first.
    fn give_out_due(
        &self,
        headers: &Headers,
        cx: &mut ProcessorContext<'_, K, R>,
    ) -> Result<ControlFlow<()>> {
        loop {
            let (this, state) = cx.task.store_and_state::<JoinStore<V>>(self.sides.this);
            let this = this.next_given_out(state)?;
            let (other, state) = cx.task.store_and_state::<JoinStore<W>>(self.sides.other);
            let other = other.next_given_out(state)?;
            let this_is_next = match (this, other) {
                (None, None) => break,
                (Some(this), Some(other)) => (this, !self.sides.this_first) < (other, self.sides.this_first),
                (this, _) => this.is_some(),
            };
            let (key, joiner) = (&*self.key, &*self.joiner);
            if this_is_next {
                give_out(self.sides.this, key, (|k: &K, v: &V| joiner.left(k, v), headers), cx)?;
            } else {
                give_out(self.sides.other, key, (|k: &K, w: &W| joiner.right(k, w), headers), cx)?;
            }
            if !cx.task.has_room() {
                return Ok(ControlFlow::Break(()));
            }
        }
        cx.task.store_and_state::<JoinStore<V>>(self.sides.this).0.all_given_out();
        cx.task.store_and_state::<JoinStore<W>>(self.sides.other).0.all_given_out();
        Ok(ControlFlow::Continue(()))
    }
}

impl<K, V, W, R, J> JoinInput<K, V, W, R, J>
where
    K: Data,
    V: Data,
    W: Data,
    R: Data,
{
    /// Moves the time of both sides, and asks to be called again when that makes something due.
    #[inline]
    fn observe(&mut self, record: &Record<K, V>, cx: &mut ProcessorContext<'_, K, R>) -> Result<()> {
        self.span.check_time(record.timestamp)?;
        let (other, _) = cx.task.store_and_state::<JoinStore<W>>(self.sides.other);
        other.observe(record.timestamp);
        let other_is_due = other.is_due();
        let (this, _) = cx.task.store_and_state::<JoinStore<V>>(self.sides.this);
        this.observe(record.timestamp);
        if other_is_due || this.is_due() {
            this.set_trigger(Some(record.headers.clone()));
            cx.wake();
        }
        Ok(())
    }
}

/// Sends the next row of a store that met nobody.
fn give_out<K: Data, A: Data, R: Data>(
    store: usize,
    key: &dyn headwater_core::Serde<K>,
    (alone, headers): (impl Fn(&K, &A) -> Option<R>, &Headers),
    cx: &mut ProcessorContext<'_, K, R>,
) -> Result<()> {
    let (rows, _) = cx.task.store_and_state::<JoinStore<A>>(store);
    let Some(place) = rows.give_out() else { return Ok(()) };
    // It commits with what comes of it.
    rows.set_sent(place);
    // A row that fails downstream is left out by itself: it is not the record's that moved time.
    cx.task.begin_row()?;
    let (rows, _) = cx.task.store_and_state::<JoinStore<A>>(store);
    let Some((key_bytes, value, timestamp)) = rows.row(place) else { return Ok(()) };
    let row_key = key.decode(key_bytes)?;
    let error = match catch(|| alone(&row_key, value)) {
        Ok(None) => return Ok(()),
        Ok(Some(value)) => {
            match cx.forward_row(Record { key: row_key, value, timestamp, headers: headers.clone() }) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            }
        }
        Err(panic) => panicked(&panic),
    };
    let (rows, _) = cx.task.store_and_state::<JoinStore<A>>(store);
    let (key_bytes, value_bytes) = rows.row_bytes(place)?;
    cx.task.forgive_row(error, (&key_bytes, &value_bytes), timestamp)
}
