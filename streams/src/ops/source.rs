//! `stream`: where records enter, and are decoded.

use std::sync::Arc;

use headwater_core::{
    Data, Error, Headers, Record, RecordRef, Result, SerdeRef, Timestamp, serdes::nullable,
};

use crate::{
    edge::{Call, Lent, Next, RecordType, Rest},
    runtime::{
        context::TaskContext,
        lanes::{Extract, LANE_HEADER, Run},
        panic::catch,
    },
    topology::{BuildSource, ErasedNext, tee},
};

/// Finds the timestamp of a record; also gets that of the record in the log, and the highest of the partition so far.
type TimestampOf<K, V> = Arc<dyn Fn(&Record<K, V>, Option<Timestamp>) -> Option<Timestamp> + Send + Sync>;

/// Where a source begins that the application has never read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OffsetReset {
    /// With the first record that there is.
    #[default]
    Earliest,
    /// With the records that come from now on. The position is committed at once.
    Latest,
    /// With the first record that is not older than this.
    At(Timestamp),
    /// Nowhere: the application does not start.
    Refuse,
}

/// How a topic is read.
pub struct Consumed<K, V> {
    key: SerdeRef<K>,
    value: SerdeRef<V>,
    timestamp: Option<TimestampOf<K, V>>,
    reset: OffsetReset,
}

impl<K, V> Consumed<K, V> {
    /// With these serdes, from the earliest record, by the timestamps that the records have in the log.
    pub fn with(key: SerdeRef<K>, value: SerdeRef<V>) -> Self {
        Self { key, value, timestamp: None, reset: OffsetReset::default() }
    }

    /// By timestamps that `find` finds in the records; it gets each record as it lies in the log, and the highest timestamp
    /// that it found in that partition so far. A record for which it finds none is an error, about which the policy decides;
    /// return the record's own timestamp or the partition's where one of those shall do (Kafka: `TimestampExtractor`,
    /// `UsePartitionTimeOnInvalidTimestamp`).
    ///
    /// It must depend on nothing else. Records are decoded once more for it.
    ///
    /// ```
    /// use headwater_core::{DefaultSerde, Timestamp, serdes};
    /// use headwater_streams::{Consumed, StreamsBuilder};
    ///
    /// let by_measured_at = Consumed::with(String::default_serde(), serdes::json::<(i64, f64)>())
    ///     .timestamps(|record, _| Some(Timestamp(record.value.0)));
    /// let builder = StreamsBuilder::new();
    /// builder.stream_with("readings", by_measured_at).map_values(|_, (_, value)| value).to("values");
    /// # builder.build()?;
    /// # Ok::<(), headwater_core::Error>(())
    /// ```
    #[must_use]
    pub fn timestamps(
        mut self,
        find: impl Fn(&Record<K, V>, Option<Timestamp>) -> Option<Timestamp> + Send + Sync + 'static,
    ) -> Self {
        self.timestamp = Some(Arc::new(find));
        self
    }

    /// Where to begin when the application has never read the topic; with the earliest record unless told otherwise (Kafka:
    /// `AutoOffsetReset`).
    #[must_use]
    pub fn reset(mut self, reset: OffsetReset) -> Self {
        self.reset = reset;
        self
    }

    pub(crate) fn serdes(&self) -> (SerdeRef<K>, SerdeRef<V>) {
        (SerdeRef::clone(&self.key), SerdeRef::clone(&self.value))
    }
}

impl<K: Data, V: Data> Consumed<K, V> {
    /// The same for a topic whose values may be null.
    pub(crate) fn nullable(self) -> Consumed<K, Option<V>> {
        let timestamp = self.timestamp.map(|find| {
            let find = move |record: &Record<K, Option<V>>, so_far: Option<Timestamp>| match &record.value {
                Some(value) => find(&record.clone().with_value(value.clone()), so_far),
                // There is nothing to find it in.
                None => Some(record.timestamp),
            };
            Arc::new(find) as TimestampOf<K, Option<V>>
        });
        Consumed { key: self.key, value: nullable(self.value), timestamp, reset: self.reset }
    }
}

impl<K, V> Clone for Consumed<K, V> {
    fn clone(&self) -> Self {
        Self {
            key: SerdeRef::clone(&self.key),
            value: SerdeRef::clone(&self.value),
            timestamp: self.timestamp.clone(),
            reset: self.reset,
        }
    }
}

/// The first processor of a task: takes records as they lie in the log.
pub(crate) trait Source: Send {
    /// Takes records one after another, up to one that fails, or behind which the task has something else to do. It is on that
    /// one that the lane stands then.
    fn process(&mut self, run: Run<'_>, task: &mut TaskContext) -> Result<()>;
    fn flush(&mut self, task: &mut TaskContext) -> Result<()>;
    fn call(&mut self, call: Call, task: &mut TaskContext) -> Result<()>;
}

pub(crate) struct SourceNode<K, V>(Consumed<K, V>);

impl<K, V> SourceNode<K, V> {
    pub(crate) fn new(consumed: Consumed<K, V>) -> Self {
        Self(consumed)
    }
}

impl<K: Data, V: Data> BuildSource for SourceNode<K, V> {
    fn output(&self) -> RecordType {
        RecordType::of::<K, V>()
    }

    fn build(&self, children: Vec<ErasedNext>) -> Box<dyn Source> {
        Box::new(Decode { consumed: self.0.clone(), next: tee::<K, V>(children) })
    }

    fn reset(&self) -> OffsetReset {
        self.0.reset
    }

    fn extract(&self) -> Option<Extract> {
        let find = self.0.timestamp.clone()?;
        let consumed = self.0.clone();
        Some(Arc::new(move |raw, so_far| {
            // What cannot be decoded is found out again when it is its turn.
            let record = consumed.record(&raw).ok();
            let so_far = (so_far >= Timestamp(0)).then_some(so_far);
            // So does what panics: as a record without time.
            let found = record.and_then(|record| catch(|| find(&record, so_far)).ok().flatten());
            found.unwrap_or(Timestamp(-1))
        }))
    }
}

impl<K: Data, V: Data> Consumed<K, V> {
    #[inline]
    fn record(&self, raw: &RecordRef<'_>) -> Result<Record<K, V>> {
        let key = self.key.decode_nullable(raw.key).map_err(|e| e.context("key"))?;
        let value = self.value.decode_nullable(raw.value).map_err(|e| e.context("value"))?;
        Ok(Record { key, value, timestamp: raw.timestamp, headers: headers(raw) })
    }
}

/// Without the lane, which belongs to the transport between two tasks and not to the user's record.
#[inline]
fn headers(raw: &RecordRef<'_>) -> Headers {
    if raw.headers.is_empty() { Headers::new() } else { raw.headers.to_owned_without(LANE_HEADER.as_bytes()) }
}

struct Decode<K, V> {
    consumed: Consumed<K, V>,
    next: Next<K, V>,
}

impl<K, V> Decode<K, V> {
    #[cold]
    fn negative(&self, timestamp: Timestamp) -> Error {
        let extracted = if self.consumed.timestamp.is_some() { " found in the record" } else { "" };
        Error::processing(format!("the timestamp{extracted} is negative. timestamp={timestamp}"))
    }
}

impl<K: Data, V: Data> Source for Decode<K, V> {
    fn process(&mut self, mut run: Run<'_>, task: &mut TaskContext) -> Result<()> {
        let (keys, values) = (&*self.consumed.key, &*self.consumed.value);
        while let Some(raw) = run.record() {
            task.enter(raw.timestamp);
            let (mut key, mut rest) = (None, Rest::empty(raw.timestamp));
            keys.decode_into(raw.key, &mut key).map_err(|e| e.context("key"))?;
            values.decode_into(raw.value, rest.value_place()).map_err(|e| e.context("value"))?;
            if raw.timestamp.0 < 0 {
                return Err(self.negative(raw.timestamp));
            }
            if !raw.headers.is_empty() {
                rest.set_headers(headers(&raw));
            }
            self.next.process(Lent::new(&mut key, &mut rest), task)?;
            if task.is_interrupted() || !run.step() {
                break;
            }
            task.place += 1;
        }
        Ok(())
    }

    fn flush(&mut self, task: &mut TaskContext) -> Result<()> {
        self.next.flush(task)
    }

    fn call(&mut self, call: Call, task: &mut TaskContext) -> Result<()> {
        self.next.call(call, task)
    }
}
