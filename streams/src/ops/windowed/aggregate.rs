//! `aggregate` in windows.

use std::{any::Any, ops::ControlFlow, sync::Arc};

use headwater_core::{Data, DefaultSerde, Headers, Record, Result, SerdeRef, Timestamp};

use super::{
    emit::Comparison,
    on_late::{IsLate, in_time},
};
use crate::{
    Emit, Processor, ProcessorContext, TimeWindows, WindowedStream, WindowedTable,
    edge::Lent,
    state::{WindowStore, WindowStoreSpec},
    topology::Effect,
    windows::{Window, Windowed},
};

impl<K: Data + DefaultSerde, V: Data> WindowedStream<K, V> {
    /// Folds the records of each key and window into a value that begins as `init()` and is changed by `add`.
    ///
    /// `name` is the name of the store and, with the application's id before it and `-changelog` behind it, of its
    /// changelog topic. A record is left out of a window that is closed, and counted as late. The result's timestamp is the
    /// highest one in the window (Kafka: `KStreamWindowAggregate`). A value that its serde makes Kafka's null is sent on, but it
    /// is no row: the next record of its key and window begins with `init()`, and nothing is sent when the window closes.
    ///
    /// ```
    /// use std::time::Duration;
    /// use headwater_core::Timestamp;
    /// use headwater_streams::{StreamsBuilder, TimeWindows, testing::TopologyTestDriver};
    ///
    /// let builder = StreamsBuilder::new();
    /// builder
    ///     .stream::<String, u64>("amounts")
    ///     .group_by_key()
    ///     .windowed_by(TimeWindows::tumbling(Duration::from_millis(10)))
    ///     .aggregate("sums", u64::default, |_, amount, sum| *sum += amount)
    ///     .to_stream()
    ///     .select_key(|windowed, _| windowed.key.clone())
    ///     .to("updates");
    /// let mut driver = TopologyTestDriver::new(builder.build()?)?;
    /// for (amount, at) in [(1u64, 0), (2, 9), (4, 10)] {
    ///     driver.pipe("amounts", &"a".to_owned(), &amount, Timestamp(at))?;
    /// }
    /// let sums: Vec<u64> = driver.read::<String, u64>("updates")?.into_iter().map(|r| r.value).collect();
    /// assert_eq!(sums, [1, 3, 4]);
    /// # Ok::<(), headwater_core::Error>(())
    /// ```
    pub fn aggregate<A: Data + DefaultSerde>(
        self,
        name: &str,
        init: impl Fn() -> A + Send + Sync + 'static,
        add: impl Fn(&K, V, &mut A) + Send + Sync + 'static,
    ) -> WindowedTable<K, A> {
        self.aggregate_with(name, (K::default_serde(), A::default_serde()), init, add)
    }
}

impl<K: Data, V: Data> WindowedStream<K, V> {
    /// As [`WindowedStream::aggregate`], with serdes of your own for key and value.
    pub fn aggregate_with<A: Data>(
        self,
        name: &str,
        (key, value): (SerdeRef<K>, SerdeRef<A>),
        init: impl Fn() -> A + Send + Sync + 'static,
        add: impl Fn(&K, V, &mut A) + Send + Sync + 'static,
    ) -> WindowedTable<K, A> {
        let fold = move |key: &K, value, aggregate: &mut Option<A>| {
            add(key, value, aggregate.get_or_insert_with(&init));
        };
        self.fold("aggregate", name, (key, value), fold)
    }

    /// What `aggregate`, `count` and `reduce` are made of: `fold` finds no value at the first record of a key and window,
    /// and leaves one.
    pub(super) fn fold<A: Data>(
        self,
        role: &'static str,
        name: &str,
        (key, value): (SerdeRef<K>, SerdeRef<A>),
        fold: impl Fn(&K, V, &mut Option<A>) + Send + Sync + 'static,
    ) -> WindowedTable<K, A> {
        let Self { stream, windows, emit, on_late } = self;
        let spec = WindowStoreSpec { windows, value: SerdeRef::clone(&value) };
        let store = stream.graph.borrow_mut().add_store(name, Arc::new(spec));
        let fold = Arc::new(fold);
        let is_late = is_late::<K, A>(store, windows, SerdeRef::clone(&key));
        let stream = in_time(stream, on_late, store, is_late);
        let effect = Effect::windowed(windows, emit);
        let supplier = move || WindowAggregate {
            store,
            windows,
            emit,
            key: Arc::clone(&key),
            value: Arc::clone(&value),
            fold: Arc::clone(&fold),
            key_bytes: Vec::new(),
            slot: Window { start: Timestamp(0), end: Timestamp(0) },
            comparison: Comparison::default(),
        };
        let results = stream.then_taking(role, &[store], supplier, WindowAggregate::take);
        WindowedTable(results.marked(effect))
    }
}

/// For the gate in front of the aggregate: a record without a key is let through, to be counted as what it is.
fn is_late<K: Data, A: Data>(store: usize, windows: TimeWindows, serde: SerdeRef<K>) -> IsLate<K> {
    Arc::new(move |key, timestamp, key_bytes, task| {
        let (store, _) = task.store_and_state::<WindowStore<A>>(store);
        if !store.may_be_late(timestamp) {
            return Ok(false);
        }
        let slot = windows.slot_of(timestamp)?;
        key_bytes.clear();
        if !store.is_closed(windows.window_at(slot.start)) || !serde.encode_nullable(key, key_bytes)? {
            return Ok(false);
        }
        (0..=windows.earlier_starts(slot, timestamp).count()).for_each(|_| store.count_late());
        Ok(true)
    })
}

struct WindowAggregate<K, A, F> {
    store: usize,
    windows: TimeWindows,
    emit: Emit,
    key: SerdeRef<K>,
    value: SerdeRef<A>,
    fold: Arc<F>,
    key_bytes: Vec<u8>,
    /// That of the last record: see [`TimeWindows::slot_of`].
    slot: Window,
    comparison: Comparison,
}

impl<K: Data, A: Data, F> WindowAggregate<K, A, F> {
    /// Takes a record where it lies: most are never moved.
    #[inline]
    fn take<V: Data>(
        &mut self,
        record: Lent<'_, K, V>,
        cx: &mut ProcessorContext<'_, Windowed<K>, A>,
    ) -> Result<()>
    where
        F: Fn(&K, V, &mut Option<A>),
    {
        self.key_bytes.clear();
        if !self.key.encode_nullable(record.key(), &mut self.key_bytes)? {
            // Kafka drops it, too: `KStreamWindowAggregate`.
            cx.task.null_keys += 1;
            return Ok(());
        }
        // Mostly that of the last record, and a division is dear.
        if !self.slot.contains(record.timestamp()) {
            self.slot = self.windows.slot_of(record.timestamp())?;
        }
        let last = self.windows.window_at(self.slot.start);
        if self.windows.overlap() {
            self.update_earlier(&record, cx)?;
        }
        self.update(record, last, cx)
    }

    /// Adds a record to all of its windows but the last. A function of its own, so that windows that do not overlap do not
    /// pay for it.
    #[inline(never)]
    fn update_earlier<V: Data>(
        &mut self,
        record: &Lent<'_, K, V>,
        cx: &mut ProcessorContext<'_, Windowed<K>, A>,
    ) -> Result<()>
    where
        F: Fn(&K, V, &mut Option<A>),
    {
        let windows = self.windows;
        for start in windows.earlier_starts(self.slot, record.timestamp()) {
            record.with_copy(|copy| self.update(copy, windows.window_at(start), cx))?;
        }
        Ok(())
    }

    /// Adds a record to one of its windows.
    #[inline(always)]
    fn update<V>(
        &mut self,
        record: Lent<'_, K, V>,
        window: Window,
        cx: &mut ProcessorContext<'_, Windowed<K>, A>,
    ) -> Result<()>
    where
        F: Fn(&K, V, &mut Option<A>),
    {
        let (place, timestamp) = (cx.task.place, record.timestamp());
        let (store, state) = cx.task.store_and_state::<WindowStore<A>>(self.store);
        let due = store.observe(timestamp);
        if due {
            store.set_trigger(Some(record.headers().clone()));
        }
        if let Some(row) = store.row_in_time(window, &self.key_bytes, place, (due, state))? {
            let (value, record) = record.take_value();
            let (aggregate, time) = row.change();
            // A row that became null has no time, either.
            let changed_at = if aggregate.is_some() { timestamp.max(*time) } else { timestamp };
            if self.emit == Emit::OnChange {
                self.comparison.begin(&*self.value, aggregate.as_ref())?;
            }
            (self.fold)(record.key(), value, aggregate);
            let sent = match self.emit {
                Emit::OnUpdate => true,
                Emit::OnChange => self.comparison.differs(&*self.value, aggregate.as_ref())?,
                Emit::OnClose | Emit::OnCommit => false,
            };
            let result = if sent { aggregate.clone() } else { None };
            // Kafka's null is sent as what it is, but it is no row, whatever the table holds in its place.
            aggregate.take_if(|value| self.value.is_null(value));
            *time = changed_at;
            if let Some(value) = result {
                let (key, headers) = record.take_about();
                cx.forward(Record { key: Windowed { key, window }, value, timestamp: changed_at, headers })?;
            }
        }
        if due {
            cx.wake();
        }
        Ok(())
    }

    /// Sends a row of a window that no record asks for just now. One that fails downstream is left out by itself: it is not the
    /// record's that moved time.
    fn send(
        &self,
        start: Timestamp,
        (key_bytes, value, timestamp): (&[u8], A, Timestamp),
        headers: Headers,
        cx: &mut ProcessorContext<'_, Windowed<K>, A>,
    ) -> Result<()> {
        cx.task.begin_row()?;
        let key = Windowed { key: self.key.decode(key_bytes)?, window: self.windows.window_at(start) };
        // Where a row that fails is not left out, nobody looks at it again.
        let kept = cx.task.leaves_out().then(|| value.clone());
        if let Err(error) = cx.forward_row(Record { key, value, timestamp, headers }) {
            let mut value_bytes = Vec::new();
            if let Some(value) = kept {
                self.value.encode(&value, &mut value_bytes)?;
            }
            cx.task.forgive_row(error, (key_bytes, &value_bytes), timestamp)?;
        }
        Ok(())
    }

    /// Sends the rows of a window that closes, those that were not sent yet; whether all are sent, or a commit must come first.
    fn send_closed(
        &self,
        start: Timestamp,
        cx: &mut ProcessorContext<'_, Windowed<K>, A>,
    ) -> Result<ControlFlow<()>> {
        let headers = cx.task.store_and_state::<WindowStore<A>>(self.store).0.trigger();
        loop {
            let (store, state) = cx.task.store_and_state::<WindowStore<A>>(self.store);
            let rows = store.due_rows(start, state)?;
            if rows.is_empty() {
                return Ok(ControlFlow::Continue(()));
            }
            let mut rows = rows.into_iter();
            while let Some((key_bytes, value, timestamp)) = rows.next() {
                self.send(start, (&key_bytes, value, timestamp), headers.clone(), cx)?;
                let has_room = cx.task.has_room();
                let (store, _) = cx.task.store_and_state::<WindowStore<A>>(self.store);
                store.set_sent(start, &key_bytes);
                if !has_room {
                    store.keep_due(start, rows.collect());
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
    }
}

impl<K, V, A, F> Processor<K, V, Windowed<K>, A> for WindowAggregate<K, A, F>
where
    K: Data,
    V: Data,
    A: Data,
    F: Fn(&K, V, &mut Option<A>) + Send + Sync + 'static,
{
    fn process(&mut self, record: Record<K, V>, cx: &mut ProcessorContext<'_, Windowed<K>, A>) -> Result<()> {
        Lent::with(record, |record| self.take(record, cx))
    }

    /// Closes the windows whose time has come, the oldest first, and sends their rows on in the order of their keys.
    #[cold]
    fn advance(&mut self, cx: &mut ProcessorContext<'_, Windowed<K>, A>) -> Result<()> {
        loop {
            let passing = cx.task.passing();
            let (store, _) = cx.task.store_and_state::<WindowStore<A>>(self.store);
            if let Some(start) = store.next_to_close() {
                if self.emit == Emit::OnClose && self.send_closed(start, cx)?.is_break() {
                    return Ok(());
                }
                cx.task.store_and_state::<WindowStore<A>>(self.store).0.close(start);
                continue;
            }
            store.set_trigger(None);
            match passing.filter(|time| store.is_before(*time)) {
                Some(time) => drop(store.observe(time)),
                None => return Ok(()),
            }
        }
    }

    fn before_commit(&mut self, cx: &mut ProcessorContext<'_, Windowed<K>, A>) -> Result<()> {
        if self.emit != Emit::OnCommit {
            return Ok(());
        }
        // Nobody behind this processor reaches its store, which is put aside so that rows can be sent from where they lie.
        let Some(mut aside) = cx.task.put_aside(self.store) else { return Ok(()) };
        let store: &mut dyn Any = &mut *aside;
        let sent = store.downcast_mut::<WindowStore<A>>().map_or(Ok(()), |store| {
            store.each_changed(|start, key_bytes, value, timestamp| {
                let value =
                    value.map_or_else(|| self.value.decode_nullable(None), |value| Ok(value.clone()))?;
                self.send(start, (key_bytes, value, timestamp), Headers::new(), cx)
            })
        });
        cx.task.put_back(self.store, aside);
        sent
    }
}
