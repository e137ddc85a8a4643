//! `aggregate` in sessions.

use std::{ops::ControlFlow, sync::Arc};

use headwater_core::{Data, DefaultSerde, Error, Headers, Record, Result, SerdeRef};

use super::{
    emit::Comparison,
    on_late::{IsLate, in_time},
};
use crate::{
    Emit, Processor, ProcessorContext, Session, SessionTable, SessionWindows, Windowed, WindowedStream,
    state::{Joined, SessionStore, SessionStoreSpec},
    topology::Effect,
};

impl<K: Data + DefaultSerde, V: Data> WindowedStream<K, V, SessionWindows> {
    /// Folds the records of each session into a value that begins as `init()` and is changed by `add`. When a record joins
    /// several sessions to one, `merge(key, other, value)` brings the value of each later one into that of the first, and then
    /// the record is added (Kafka: `Merger`; it also merges every session into a fresh `init()`, which makes no difference
    /// where `init()` is nothing to `merge`).
    ///
    /// `name` is the name of the store and, with the application's id before it and `-changelog` behind it, of its
    /// changelog topic. A record that belongs to no open session and could not be one itself is dropped, and counted as late
    /// (Kafka: `KStreamSessionWindowAggregate`). One that makes the value Kafka's null, by its serde, is a processing error: a
    /// session without a row would be forgotten.
    ///
    /// ```
    /// use std::time::Duration;
    /// use headwater_core::Timestamp;
    /// use headwater_streams::{Session, SessionWindows, StreamsBuilder, Windowed, testing::TopologyTestDriver};
    ///
    /// let builder = StreamsBuilder::new();
    /// builder
    ///     .stream::<String, u64>("bytes-read")
    ///     .group_by_key()
    ///     .windowed_by(SessionWindows::gap(Duration::from_millis(5)).grace(Duration::from_millis(5)))
    ///     .aggregate("visits", u64::default, |_, bytes, sum| *sum += bytes, |_, other, sum| *sum += other)
    ///     .to_stream()
    ///     .to("visits");
    /// let mut driver = TopologyTestDriver::new(builder.build()?)?;
    /// for (bytes, at) in [(1u64, 0), (2, 8), (4, 4)] {
    ///     driver.pipe("bytes-read", &"ann".to_owned(), &bytes, Timestamp(at))?;
    /// }
    /// let visits: Vec<_> = driver
    ///     .read::<Windowed<String, Session>, Option<u64>>("visits")?
    ///     .into_iter()
    ///     .map(|r| (r.key.window.start.0, r.key.window.end.0, r.value))
    ///     .collect();
    /// let joined = [(0, 0, None), (8, 8, None), (0, 8, Some(7))];
    /// assert_eq!(visits, [&[(0, 0, Some(1)), (8, 8, Some(2))], &joined[..]].concat());
    /// # Ok::<(), headwater_core::Error>(())
    /// ```
    pub fn aggregate<A: Data + DefaultSerde>(
        self,
        name: &str,
        init: impl Fn() -> A + Send + Sync + 'static,
        add: impl Fn(&K, V, &mut A) + Send + Sync + 'static,
        merge: impl Fn(&K, A, &mut A) + Send + Sync + 'static,
    ) -> SessionTable<K, A> {
        self.aggregate_with(name, (K::default_serde(), A::default_serde()), init, add, merge)
    }
}

impl<K: Data, V: Data> WindowedStream<K, V, SessionWindows> {
    /// As `aggregate` of sessions, with serdes of your own for key and value.
    pub fn aggregate_with<A: Data>(
        self,
        name: &str,
        serdes: (SerdeRef<K>, SerdeRef<A>),
        init: impl Fn() -> A + Send + Sync + 'static,
        add: impl Fn(&K, V, &mut A) + Send + Sync + 'static,
        merge: impl Fn(&K, A, &mut A) + Send + Sync + 'static,
    ) -> SessionTable<K, A> {
        let fold = move |key: &K, value, aggregate: &mut Option<A>| {
            add(key, value, aggregate.get_or_insert_with(&init));
        };
        let merge = move |key: &K, other, aggregate: &mut Option<A>| match aggregate {
            Some(aggregate) => merge(key, other, aggregate),
            None => *aggregate = Some(other),
        };
        self.fold("aggregate", name, serdes, (fold, merge))
    }

    /// What `aggregate`, `count` and `reduce` are made of: `fold` finds no value at the first record of a session, and leaves
    /// one.
    pub(super) fn fold<A: Data>(
        self,
        role: &'static str,
        name: &str,
        (key, value): (SerdeRef<K>, SerdeRef<A>),
        (fold, merge): (
            impl Fn(&K, V, &mut Option<A>) + Send + Sync + 'static,
            impl Fn(&K, A, &mut Option<A>) + Send + Sync + 'static,
        ),
    ) -> SessionTable<K, A> {
        let Self { stream, windows, emit, on_late } = self;
        let spec = SessionStoreSpec { windows, value: SerdeRef::clone(&value) };
        let store = stream.graph.borrow_mut().add_store(name, Arc::new(spec));
        let (fold, merge) = (Arc::new(fold), Arc::new(merge));
        let stream = in_time(stream, on_late, store, is_late::<K, A>(store, SerdeRef::clone(&key)));
        let effect = Effect::sessions(windows, emit);
        let results = stream.then(role, &[store], move || SessionAggregate {
            store,
            windows,
            emit,
            key: Arc::clone(&key),
            value: Arc::clone(&value),
            fold: Arc::clone(&fold),
            merge: Arc::clone(&merge),
            key_bytes: Vec::new(),
            comparison: Comparison::default(),
        });
        SessionTable(results.marked(effect))
    }
}

/// For the gate in front of the aggregate: a record without a key is let through, to be counted as what it is.
fn is_late<K: Data, A: Data>(store: usize, serde: SerdeRef<K>) -> IsLate<K> {
    Arc::new(move |key, timestamp, key_bytes, task| {
        let place = task.place;
        let (store, state) = task.store_and_state::<SessionStore<A>>(store);
        if !store.may_be_late(timestamp) {
            return Ok(false);
        }
        key_bytes.clear();
        if !serde.encode_nullable(key, key_bytes)? {
            return Ok(false);
        }
        store.count_if_late(key_bytes, timestamp, place, state)
    })
}

struct SessionAggregate<K, A, F, M> {
    store: usize,
    windows: SessionWindows,
    emit: Emit,
    key: SerdeRef<K>,
    value: SerdeRef<A>,
    fold: Arc<F>,
    merge: Arc<M>,
    key_bytes: Vec<u8>,
    comparison: Comparison,
}

#[cold]
fn null_aggregate(session: Session) -> Error {
    let Session { start, end } = session;
    Error::processing(format!(
        "the aggregate of a session became null, which its store cannot keep: filter out the records that make it so, or \
         aggregate into a value that is never null. start={start}, end={end}"
    ))
}

/// A result has no headers but on close: as in Kafka.
fn result<K, A>(key: K, session: Session, value: Option<A>) -> Record<Windowed<K, Session>, Option<A>> {
    Record { key: Windowed { key, window: session }, value, timestamp: session.end, headers: Headers::new() }
}

impl<K: Data, A: Data, F, M> SessionAggregate<K, A, F, M> {
    /// Sends a row that no record asks for just now. One that fails downstream is left out by itself: it is not the record's
    /// that moved time.
    fn send(
        &self,
        (key_bytes, session, value): (&[u8], Session, Option<A>),
        headers: Headers,
        cx: &mut ProcessorContext<'_, Windowed<K, Session>, Option<A>>,
    ) -> Result<()> {
        cx.task.begin_row()?;
        // Where a row that fails is not left out, nobody looks at it again.
        let kept = if cx.task.leaves_out() { value.clone() } else { None };
        let mut record = result(self.key.decode(key_bytes)?, session, value);
        record.headers = headers;
        if let Err(error) = cx.forward_row(record) {
            let mut value_bytes = Vec::new();
            if let Some(value) = &kept {
                self.value.encode(value, &mut value_bytes)?;
            }
            cx.task.forgive_row(error, (key_bytes, &value_bytes), session.end)?;
        }
        Ok(())
    }

    /// Closes what is due, or a part of it when that is much, and sends it if it is asked for; whether all of that part is closed,
    /// or a commit must come first.
    fn close_due(
        &self,
        cx: &mut ProcessorContext<'_, Windowed<K, Session>, Option<A>>,
    ) -> Result<ControlFlow<()>> {
        let (store, state) = cx.task.store_and_state::<SessionStore<A>>(self.store);
        let (headers, mut due) = (store.trigger(), store.take_due(state)?);
        loop {
            let (store, _) = cx.task.store_and_state::<SessionStore<A>>(self.store);
            let Some((key_bytes, session, value)) = store.close_next(&mut due) else {
                store.all_closed(&due);
                return Ok(ControlFlow::Continue(()));
            };
            if self.emit != Emit::OnClose {
                continue;
            }
            self.send((&key_bytes, session, value), headers.clone(), cx)?;
            let has_room = cx.task.has_room();
            let (store, _) = cx.task.store_and_state::<SessionStore<A>>(self.store);
            store.set_sent(&key_bytes, session);
            if !has_room {
                store.put_back(due);
                return Ok(ControlFlow::Break(()));
            }
        }
    }
}

impl<K, V, A, F, M> Processor<K, V, Windowed<K, Session>, Option<A>> for SessionAggregate<K, A, F, M>
where
    K: Data,
    V: Data,
    A: Data,
    F: Fn(&K, V, &mut Option<A>) + Send + Sync + 'static,
    M: Fn(&K, A, &mut Option<A>) + Send + Sync + 'static,
{
    #[inline]
    fn process(
        &mut self,
        record: Record<K, V>,
        cx: &mut ProcessorContext<'_, Windowed<K, Session>, Option<A>>,
    ) -> Result<()> {
        let Record { key, value, timestamp, headers } = record;
        self.key_bytes.clear();
        if !self.key.encode_nullable(&key, &mut self.key_bytes)? {
            // Kafka drops it, too: `KStreamSessionWindowAggregate`.
            cx.task.null_keys += 1;
            return Ok(());
        }
        self.windows.check_timestamp(timestamp)?;
        let place = cx.task.place;
        let (store, state) = cx.task.store_and_state::<SessionStore<A>>(self.store);
        store.observe(timestamp);
        let due = store.closing_due();
        if due {
            store.set_trigger(Some(headers));
        }
        if let Some(joined) = store.join(&self.key_bytes, timestamp, place, state)? {
            let Joined { session, replaced, others, value: aggregate } = joined;
            let same_span = aggregate.is_some() && replaced.iter().all(|old| *old == session);
            if self.emit == Emit::OnChange {
                self.comparison.begin(&*self.value, aggregate.as_ref())?;
            }
            for other in others {
                (self.merge)(&key, other, aggregate);
            }
            (self.fold)(&key, value, aggregate);
            // As Kafka's null it would have no row, and with the row the session's span would be lost.
            if aggregate.as_ref().is_some_and(|value| self.value.is_null(value)) {
                return Err(null_aggregate(session));
            }
            let sent = match self.emit {
                Emit::OnUpdate => true,
                Emit::OnChange => !same_span || self.comparison.differs(&*self.value, aggregate.as_ref())?,
                Emit::OnClose | Emit::OnCommit => false,
            };
            if sent {
                let value = aggregate.clone();
                for old in replaced {
                    cx.forward(result(key.clone(), old, None))?;
                }
                cx.forward(result(key, session, value))?;
            }
        }
        if due {
            cx.wake();
        }
        Ok(())
    }

    /// Closes the sessions whose time has come, and sends them on by their end, then key.
    #[cold]
    fn advance(&mut self, cx: &mut ProcessorContext<'_, Windowed<K, Session>, Option<A>>) -> Result<()> {
        loop {
            let passing = cx.task.passing();
            let (store, _) = cx.task.store_and_state::<SessionStore<A>>(self.store);
            if store.closing_due() {
                if self.close_due(cx)?.is_break() {
                    return Ok(());
                }
                continue;
            }
            store.set_trigger(None);
            match passing.filter(|time| store.is_before(*time)) {
                Some(time) => store.observe(time),
                None => return Ok(()),
            }
        }
    }

    fn before_commit(
        &mut self,
        cx: &mut ProcessorContext<'_, Windowed<K, Session>, Option<A>>,
    ) -> Result<()> {
        if self.emit != Emit::OnCommit {
            return Ok(());
        }
        let (store, _) = cx.task.store_and_state::<SessionStore<A>>(self.store);
        for (key_bytes, session, value) in store.changed_rows() {
            self.send((&key_bytes, session, value), Headers::new(), cx)?;
        }
        Ok(())
    }
}
