//! `aggregate` in windows.

use std::sync::Arc;

use headwater_core::{Data, DefaultSerde, Headers, Record, Result, SerdeRef, Timestamp};

use crate::{
    Emit, Processor, ProcessorContext, TimeWindows, WindowedStream, WindowedTable,
    state::{WindowStore, WindowStoreSpec},
    windows::{Window, Windowed},
};

impl<K: Data + DefaultSerde, V: Data> WindowedStream<K, V> {
    /// Folds the records of each key and window into a value that begins as `init()` and is changed by `add`.
    ///
    /// `name` is the name of the store and, with the application's id before it and `-changelog` behind it, of its
    /// changelog topic. A record whose window is closed is dropped and counted as late. The result's timestamp is the
    /// highest one in the window (Kafka: `KStreamWindowAggregate`).
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
        let Self { stream, windows, emit } = self;
        let spec = WindowStoreSpec { windows, value: SerdeRef::clone(&value) };
        let store = stream.graph.borrow_mut().add_store(name, Arc::new(spec));
        let (init, add) = (Arc::new(init), Arc::new(add));
        WindowedTable(stream.then("aggregate", &[store], move || WindowAggregate {
            store,
            windows,
            emit,
            key: Arc::clone(&key),
            value: Arc::clone(&value),
            init: Arc::clone(&init),
            add: Arc::clone(&add),
            key_bytes: Vec::new(),
            recent: Window { start: Timestamp(0), end: Timestamp(0) },
            trigger: Headers::new(),
        }))
    }
}

struct WindowAggregate<K, A, I, F> {
    store: usize,
    windows: TimeWindows,
    emit: Emit,
    key: SerdeRef<K>,
    value: SerdeRef<A>,
    init: Arc<I>,
    add: Arc<F>,
    key_bytes: Vec<u8>,
    /// Window of the last record.
    recent: Window,
    /// Headers of the record that moved time, which go with the results that it makes due.
    trigger: Headers,
}

impl<K, V, A, I, F> Processor<K, V, Windowed<K>, A> for WindowAggregate<K, A, I, F>
where
    K: Data,
    V: Data,
    A: Data,
    I: Fn() -> A + Send + Sync + 'static,
    F: Fn(&K, V, &mut A) + Send + Sync + 'static,
{
    #[inline]
    fn process(&mut self, record: Record<K, V>, cx: &mut ProcessorContext<'_, Windowed<K>, A>) -> Result<()> {
        let Record { key, value, timestamp, headers } = record;
        self.key_bytes.clear();
        if !self.key.encode_nullable(&key, &mut self.key_bytes)? {
            // Kafka drops it, too: `KStreamWindowAggregate`.
            cx.task.null_keys += 1;
            return Ok(());
        }
        // Mostly that of the last record, and a division is dear.
        if !self.recent.contains(timestamp) {
            self.recent = self.windows.window_of(timestamp)?;
        }
        let (window, place) = (self.recent, cx.task.place);
        let (store, state) = cx.task.store_and_state::<WindowStore<A>>(self.store);
        store.observe(timestamp);
        let due = store.closing_due();
        if due {
            self.trigger = headers.clone();
        }
        if store.is_closed(window) {
            store.count_late();
        } else {
            let mut row = store.row(window.start, &self.key_bytes, place, state)?;
            let aggregate = row.value_or_insert_with(|| (self.init)());
            (self.add)(&key, value, aggregate);
            let result = (self.emit == Emit::OnUpdate).then(|| aggregate.clone());
            let highest = row.raise_timestamp(timestamp);
            if let Some(value) = result {
                cx.forward(Record { key: Windowed { key, window }, value, timestamp: highest, headers })?;
            }
        }
        if due {
            cx.wake();
        }
        Ok(())
    }

    /// Closes the windows whose time has come, the oldest first, and sends their rows on in the order of their keys.
    #[cold]
    fn advance(&mut self, cx: &mut ProcessorContext<'_, Windowed<K>, A>) -> Result<()> {
        loop {
            let (store, state) = cx.task.store_and_state::<WindowStore<A>>(self.store);
            let Some(start) = store.next_to_close() else { return Ok(()) };
            let rows = if self.emit == Emit::OnClose { store.rows(start, state)? } else { Vec::new() };
            for (key_bytes, value, timestamp) in rows {
                // A row that fails downstream is left out by itself: it is not the record's that moved time.
                cx.task.begin_record();
                let key =
                    Windowed { key: self.key.decode(&key_bytes)?, window: self.windows.window_at(start) };
                let headers = self.trigger.clone();
                if let Err(error) = cx.forward(Record { key, value: value.clone(), timestamp, headers }) {
                    let mut value_bytes = Vec::new();
                    self.value.encode(&value, &mut value_bytes)?;
                    cx.task.forgive_row(error, (&key_bytes, &value_bytes), timestamp)?;
                }
            }
            let (store, _) = cx.task.store_and_state::<WindowStore<A>>(self.store);
            store.close(start);
        }
    }
}
