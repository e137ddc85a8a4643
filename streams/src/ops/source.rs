//! `stream`: where records enter, and are decoded.

use headwater_core::{Data, Error, Record, RecordRef, Result, SerdeRef};

use crate::{
    process::{Next, RecordType},
    runtime::{context::TaskContext, lanes::LANE_HEADER},
    topology::{BuildSource, ErasedNext, tee},
};

/// How a topic is read.
pub struct Consumed<K, V> {
    key: SerdeRef<K>,
    value: SerdeRef<V>,
}

impl<K, V> Consumed<K, V> {
    /// With these serdes.
    pub fn with(key: SerdeRef<K>, value: SerdeRef<V>) -> Self {
        Self { key, value }
    }

    pub(crate) fn serdes(&self) -> (SerdeRef<K>, SerdeRef<V>) {
        (SerdeRef::clone(&self.key), SerdeRef::clone(&self.value))
    }

    /// The same with another serde for the value.
    pub(crate) fn map_value<W>(self, map: impl FnOnce(SerdeRef<V>) -> SerdeRef<W>) -> Consumed<K, W> {
        Consumed { key: self.key, value: map(self.value) }
    }
}

impl<K, V> Clone for Consumed<K, V> {
    fn clone(&self) -> Self {
        Self { key: SerdeRef::clone(&self.key), value: SerdeRef::clone(&self.value) }
    }
}

/// The first processor of a task: takes records as they lie in the log.
pub(crate) trait Source: Send {
    fn process(&mut self, record: RecordRef<'_>, task: &mut TaskContext) -> Result<()>;
    fn advance(&mut self, task: &mut TaskContext) -> Result<()>;
    fn flush(&mut self, task: &mut TaskContext) -> Result<()>;
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
}

struct Decode<K, V> {
    consumed: Consumed<K, V>,
    next: Next<K, V>,
}

impl<K: Data, V: Data> Source for Decode<K, V> {
    #[inline]
    fn process(&mut self, raw: RecordRef<'_>, task: &mut TaskContext) -> Result<()> {
        if raw.timestamp.0 < 0 {
            return Err(Error::processing(format!("timestamp is negative. timestamp={}", raw.timestamp)));
        }
        let key = self.consumed.key.decode_nullable(raw.key).map_err(|e| e.context("key"))?;
        let value = self.consumed.value.decode_nullable(raw.value).map_err(|e| e.context("value"))?;
        // The lane belongs to the transport between two tasks, not to the user's record.
        let headers = if raw.headers.is_empty() {
            headwater_core::Headers::new()
        } else {
            raw.headers.to_owned_without(LANE_HEADER.as_bytes())
        };
        self.next.process(Record { key, value, timestamp: raw.timestamp, headers }, task)
    }

    fn advance(&mut self, task: &mut TaskContext) -> Result<()> {
        self.next.advance(task)
    }

    fn flush(&mut self, task: &mut TaskContext) -> Result<()> {
        self.next.flush(task)
    }
}
