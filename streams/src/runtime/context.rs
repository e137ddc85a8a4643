//! What operators may touch while a record flows through them.

use std::{
    any::Any,
    collections::{BTreeMap, HashMap},
    num::NonZeroU32,
    sync::Arc,
};

use headwater_core::{
    Data, Error, ErrorKind, Headers, Partition, Producer, RecordRef, Result, Serde, TaskId, TaskState,
    Timestamp, TopicName, TopicPartition, partition_for_key,
};

use super::{
    calls::{Calls, Finished, RawRecord},
    dead_letters::Failed,
    lanes::LANE_HEADER,
    metrics::TaskMetrics,
    punctuation::Punctuators,
    sinks::SinkBuffer,
};
use crate::{
    state::{KeyValue, KeyValueHandle, KeyValueStore, Store},
    topology::SharedChildren,
};

/// How often the stores are asked how much they have to commit: so often that rows of this size, or so many rows, lie between.
const ROW_BYTES: usize = 4 << 10;
const ROWS_WITH_ROOM_MAX: usize = 256;

/// What a failed record becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnError {
    Fail,
    Skip,
    /// It goes to the sink at this place.
    DeadLetter(usize),
}

pub(crate) struct TaskContext {
    pub(crate) id: TaskId,
    /// Highest timestamp of the records taken so far.
    pub(crate) stream_time: Timestamp,
    /// How far time has passed behind the end of the input: not at all, step by step, or to its own end.
    pub(crate) passed: Timestamp,
    /// Whether processors are told just now that time has passed.
    pub(crate) is_passing: bool,
    /// Whether what is due has not all been closed, because a commit must come first, or calls must be over; and whether it is
    /// the commit.
    pub(crate) is_unfinished: bool,
    pub(crate) is_full: bool,
    /// How much a commit may hold while something closes, in bytes; and of how many more rows is known that they have room.
    pub(crate) room: usize,
    pub(crate) rows_with_room: usize,
    /// Stream time up to which punctuations were made.
    pub(crate) punctuated: Timestamp,
    /// Of the current record among those whose keys the stores have seen ahead.
    pub(crate) place: usize,
    /// By their place in the topology; those of other sub-topologies are missing.
    pub(crate) stores: Vec<Option<Box<dyn Store>>>,
    pub(crate) state: Box<dyn TaskState>,
    /// Processors with several parents; missing while one has a record.
    pub(crate) shared: SharedChildren,
    /// One per topic, in the order of the plan; behind them the dead letters, if that topic is no other's.
    pub(crate) sinks: Vec<SinkBuffer>,
    pub(super) producer: Box<dyn Producer>,
    /// Bytes held by the producer since the last commit.
    pub(super) pending_bytes: usize,
    /// Places in `sinks` of topics that records have decided, and how many partitions all topics have that there were when
    /// the application started.
    pub(crate) computed: HashMap<String, usize>,
    pub(crate) topics: Arc<BTreeMap<TopicName, NonZeroU32>>,
    /// Those of each `map_async`.
    pub(crate) calls: Vec<Calls>,
    /// Where a sink encodes keys and values before they are copied into a batch.
    pub(crate) scratch: Vec<u8>,
    pub(crate) on_error: OnError,
    /// Whether a record is being processed, as against what is done between records; and the stream time before it.
    pub(crate) in_record: bool,
    pub(crate) time_before: Timestamp,
    pub(crate) punctuators: Punctuators,
    /// Whether a processor asked to be called again once the record is done; and whether it had before the record.
    pub(crate) wake: bool,
    pub(crate) wake_before: bool,
    /// Records dropped because they have no key to be grouped by.
    pub(crate) null_keys: u64,
    /// Records dropped because they have no value to be joined.
    pub(crate) null_values: u64,
    pub(crate) skipped: u64,
    pub(crate) dead_letters: u64,
}

impl TaskContext {
    /// The time of what is sent now, for those who read it as a lane.
    #[inline]
    pub(crate) fn lane_time(&self) -> Timestamp {
        self.stream_time.max(self.passed)
    }

    /// The time that has come without a record, while processors are told of it.
    pub(crate) fn passing(&self) -> Option<Timestamp> {
        self.is_passing.then_some(self.passed)
    }

    /// Whether another row may be closed before the commit. When not, whoever closes stops behind the row that it has just sent,
    /// and is asked again for the others.
    pub(crate) fn has_room(&mut self) -> bool {
        if self.room == usize::MAX {
            return true;
        }
        let sent: usize = self.sinks.iter().map(|sink| sink.sent).sum();
        self.is_full = sent >= self.room;
        if !self.is_full && self.rows_with_room > 0 {
            self.rows_with_room -= 1;
        } else if !self.is_full {
            let rows: usize = self.stores().map(|store| store.uncommitted_bytes()).sum();
            let left = self.room.saturating_sub(sent + rows);
            self.is_full = left == 0;
            self.rows_with_room = (left / ROW_BYTES).min(ROWS_WITH_ROOM_MAX);
        }
        self.is_unfinished = self.is_full || self.calls_are_full();
        !self.is_unfinished
    }

    /// Hands the batches that are full to the producer, or all; between two records, or two rows that a store sends by itself.
    #[inline]
    pub(crate) fn close_batches(&mut self, all: bool) -> Result<()> {
        for sink in &mut self.sinks {
            self.pending_bytes += sink.close_batches(all, &mut *self.producer)?;
        }
        Ok(())
    }

    /// The store at `index`, and the engine under it.
    #[inline]
    pub(crate) fn store_and_state<S: Store + 'static>(&mut self, index: usize) -> (&mut S, &dyn TaskState) {
        let store = self.stores.get_mut(index).and_then(Option::as_mut);
        let store = store.expect("a processor reaches only the stores it was connected to");
        let store: &mut dyn Any = &mut **store;
        let store = store.downcast_mut().expect("a store handle has the type of its store");
        (store, &*self.state)
    }

    pub(crate) fn key_value_store<K: Data, V: Data>(
        &mut self,
        handle: &KeyValueHandle<K, V>,
    ) -> KeyValueStore<'_, K, V> {
        let place = self.place;
        let (store, state) = self.store_and_state::<KeyValue<K, V>>(handle.index);
        KeyValueStore { store, state, place }
    }

    /// Takes a store out, so that its rows can be sent from where they lie; [`TaskContext::put_back`] must follow. What is sent
    /// meanwhile must not change it.
    pub(crate) fn put_aside(&mut self, index: usize) -> Option<Box<dyn Store>> {
        self.stores.get_mut(index).and_then(Option::take)
    }

    pub(crate) fn put_back(&mut self, index: usize, store: Box<dyn Store>) {
        self.stores[index] = Some(store);
    }

    pub(crate) fn stores(&mut self) -> impl Iterator<Item = &mut Box<dyn Store>> {
        self.stores.iter_mut().flatten()
    }

    /// Shows the stores the keys that come next, from the record at `place` on.
    pub(crate) fn look_ahead(&mut self, place: usize, keys: &[Option<&[u8]>]) {
        self.stores().for_each(|store| store.look_ahead(place, keys));
    }

    /// Place of the sink of a topic that a record decided.
    pub(crate) fn sink_of(&mut self, topic: &str) -> Result<usize> {
        match self.computed.get(topic) {
            Some(place) => Ok(*place),
            None => self.add_sink(topic),
        }
    }

    #[cold]
    fn add_sink(&mut self, topic: &str) -> Result<usize> {
        let name = TopicName::new(topic).map_err(|e| Error::processing(e.report()))?;
        let Some(partitions) = self.topics.get(&name) else {
            return Err(Error::processing(format!(
                "a record goes to a topic that did not exist when the application started: create it and start again. \
                 topic={topic}"
            )));
        };
        // A topic that is written in any other way, too, has one buffer only, which keeps the order.
        let place = self.sinks.iter().position(|sink| *sink.topic() == name).unwrap_or(self.sinks.len());
        if place == self.sinks.len() {
            let mut sink = SinkBuffer::new(&name, *partitions, None);
            if self.on_error != OnError::Fail {
                sink.begin_record();
            }
            self.sinks.push(sink);
        }
        self.computed.insert(topic.to_owned(), place);
        Ok(place)
    }

    /// Adds what was counted here to the metrics of the task.
    pub(crate) fn count(&mut self, metrics: TaskMetrics) -> TaskMetrics {
        let late = self.stores().map(|store| store.late()).sum();
        let state_bytes = self.stores().map(|store| store.bytes() as u64).sum();
        let Self { null_keys, null_values, skipped, dead_letters, .. } = *self;
        let punctuations = self.punctuators.called;
        let counted = TaskMetrics { late, null_keys, null_values, skipped, dead_letters, ..metrics };
        TaskMetrics { punctuations, state_bytes, ..counted }
    }

    /// Whether something that fails may be left out.
    pub(crate) fn leaves_out(&self) -> bool {
        self.on_error != OnError::Fail
    }

    /// Begins with a record of this time.
    #[inline]
    pub(crate) fn enter(&mut self, timestamp: Timestamp) {
        self.time_before = self.stream_time;
        self.stream_time = self.time_before.max(timestamp);
        self.begin_record();
    }

    /// Whether the task has something to do before the next record.
    #[inline]
    pub(crate) fn is_interrupted(&self) -> bool {
        self.wake || self.punctuators.is_due(self.stream_time) || self.sinks.iter().any(SinkBuffer::is_full)
    }

    /// Remembers how to take back what comes next, if the policy may ask for it.
    #[inline]
    pub(crate) fn begin_record(&mut self) {
        if self.on_error != OnError::Fail {
            self.mark_record();
        }
    }

    /// As [`TaskContext::begin_record`], for a row that a store sends by itself. What the rows before it filled goes to the producer
    /// first: there may be many of them until the next record. Not while something has begun that may be taken back yet: what the
    /// producer has is not.
    pub(crate) fn begin_row(&mut self) -> Result<()> {
        assert!(!self.in_record, "a store sends rows between two records");
        self.close_batches(false)?;
        self.begin_record();
        Ok(())
    }

    #[inline(never)]
    fn mark_record(&mut self) {
        self.wake_before = self.wake;
        self.stores().for_each(|store| store.begin_record());
        self.sinks.iter_mut().for_each(SinkBuffer::begin_record);
        self.punctuators.begin_record();
        self.calls.iter_mut().for_each(Calls::begin_record);
    }

    /// Takes back everything since [`TaskContext::begin_record`].
    fn roll_back(&mut self) {
        self.stores().for_each(|store| store.roll_back());
        self.sinks.iter_mut().for_each(SinkBuffer::roll_back);
        self.calls.iter_mut().for_each(Calls::roll_back);
        self.punctuators.roll_back();
        self.wake = self.wake_before;
    }

    /// Leaves out a record that failed, as the policy says, with all that it did. Only errors of user code and serdes are
    /// the record's own: all others are passed on.
    #[cold]
    pub(crate) fn forgive(
        &mut self,
        error: Error,
        record: RecordRef<'_>,
        partition: &TopicPartition,
    ) -> Result<()> {
        // A record that is left out counts in nothing, and so not in time.
        self.stream_time = self.time_before;
        self.in_record = false;
        self.leave_out(
            error,
            &record.headers.to_owned_without(LANE_HEADER.as_bytes()),
            &Failed {
                place: Some((partition, record.offset)),
                key: record.key,
                value: record.value,
                timestamp: record.timestamp,
            },
        )
    }

    /// Keeps what is needed of the record for the case that a call fails that it began.
    #[inline]
    pub(crate) fn name_calls(&mut self, record: RecordRef<'_>, partition: &TopicPartition) {
        if self.on_error != OnError::Fail && self.calls.iter().any(Calls::has_begun) {
            self.name_begun_calls(record, partition);
        }
    }

    #[inline(never)]
    fn name_begun_calls(&mut self, record: RecordRef<'_>, partition: &TopicPartition) {
        let raw = RawRecord::of(record, partition, matches!(self.on_error, OnError::DeadLetter(_)));
        self.calls.iter_mut().for_each(|calls| calls.begun_by(&raw));
    }

    /// Whether some calls must be over before others begin.
    #[inline]
    pub(crate) fn calls_are_full(&self) -> bool {
        self.calls.iter().any(Calls::is_full)
    }

    /// Sends on what a call of `map_async` gave, or leaves out the record that began it.
    pub(crate) fn finish_call(&mut self, finished: Finished, raw: Option<&RawRecord>) -> Result<()> {
        let Finished { answer, sink, timestamp, headers, stream_time } = finished;
        // What is taken back for a call that failed is nothing of the records taken since.
        self.begin_record();
        let sent = answer.and_then(|answer| {
            let record = (answer.key.as_deref(), answer.value.as_deref());
            self.sinks[sink].push(answer.partition, timestamp, record, (&headers, stream_time))
        });
        let Err(error) = sent else { return Ok(()) };
        let Some(raw) = raw else {
            let failed = Failed { place: None, key: None, value: None, timestamp };
            return self.leave_out(error, &headers, &failed);
        };
        let failed = Failed {
            place: Some((&raw.partition, raw.offset)),
            key: raw.key.as_deref(),
            value: raw.value.as_deref(),
            timestamp: raw.timestamp,
        };
        self.leave_out(error, &raw.headers, &failed)
    }

    /// As [`TaskContext::forgive`], for a row that a store sends on by itself.
    #[cold]
    pub(crate) fn forgive_row(
        &mut self,
        error: Error,
        row: (&[u8], &[u8]),
        timestamp: Timestamp,
    ) -> Result<()> {
        let (key, value) = (Some(row.0), Some(row.1));
        self.leave_out(error, &Headers::new(), &Failed { place: None, key, value, timestamp })
    }

    /// As [`TaskContext::forgive`], for a punctuation, which has no record: there is nothing to be said of one.
    #[cold]
    pub(crate) fn forgive_punctuation(&mut self, error: Error, time: Timestamp) -> Result<()> {
        let timestamp = time.max(Timestamp(0));
        self.leave_out(error, &Headers::new(), &Failed { place: None, key: None, value: None, timestamp })
    }

    fn leave_out(&mut self, error: Error, headers: &Headers, failed: &Failed<'_>) -> Result<()> {
        if self.on_error == OnError::Fail || error.kind() != ErrorKind::Processing {
            return Err(error);
        }
        self.roll_back();
        let what =
            failed.place.map_or_else(|| "a result".to_owned(), |(p, offset)| format!("{p} offset {offset}"));
        match self.on_error {
            OnError::DeadLetter(sink) => {
                tracing::warn!(task = %self.id, what, error = error.report(), "sent to the dead-letter topic");
                let sink = &mut self.sinks[sink];
                let partition = keyless_partition(self.id, sink.partitions());
                let letter = failed.letter(headers, &error);
                let record = (letter.key, letter.value);
                sink.push(partition, failed.timestamp, record, (&letter.headers, Timestamp::MIN))?;
                self.dead_letters += 1;
            }
            OnError::Skip | OnError::Fail => {
                tracing::warn!(task = %self.id, what, error = error.report(), "skipped");
                self.skipped += 1;
            }
        }
        Ok(())
    }
}

/// Where a record goes whose key has these bytes, or none, unless its writer chooses.
#[inline]
pub(crate) fn partition_of<K: 'static>(
    serde: &dyn Serde<K>,
    key: Option<&[u8]>,
    (task, partitions): (TaskId, NonZeroU32),
) -> Partition {
    match key {
        Some(key) => partition_for_key(serde.partition_bytes(key), partitions),
        None => keyless_partition(task, partitions),
    }
}

/// Where a record without key goes. Any partition would do; this one makes the output a function of the input.
fn keyless_partition(task: TaskId, partitions: NonZeroU32) -> Partition {
    Partition(task.partition.0 % partitions)
}
