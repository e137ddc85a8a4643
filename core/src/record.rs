//! Records and the numbers that describe them.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Values that may flow through a topology.
pub trait Data: Clone + Send + 'static {}
impl<T: Clone + Send + 'static> Data for T {}

/// Milliseconds since the Unix epoch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Before every record: the stream time of a task that has seen none.
    pub const MIN: Timestamp = Timestamp(i64::MIN);

    /// This many milliseconds later; stops at the end of time instead of wrapping.
    #[must_use]
    pub fn plus_ms(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{}", self.0)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Position of a record in a partition; the first record has offset 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Offset(pub u64);

impl Offset {
    /// The offset after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The offset `count` records further on.
    #[must_use]
    pub fn plus(self, count: u64) -> Self {
        Self(self.0 + count)
    }
}

impl fmt::Debug for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Name and value of each header, in order; names may repeat. Cheap to clone, and no allocation when there are none.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(Option<Arc<Vec<Header>>>);

/// Name, and value or null.
type Header = (String, Option<Bytes>);

impl Headers {
    /// No headers.
    #[must_use]
    pub const fn new() -> Self {
        Self(None)
    }

    /// Adds one at the end.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<Bytes>) -> Self {
        let list = self.0.get_or_insert_default();
        Arc::make_mut(list).push((name.into(), Some(value.into())));
        self
    }

    /// In the order they were added.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, Option<&[u8]>)> {
        self.0.as_deref().map_or(&[][..], Vec::as_slice).iter().map(|(k, v)| (k.as_str(), v.as_deref()))
    }

    /// The value of the last header called `name` (Kafka: `Headers.lastHeader`).
    #[must_use]
    pub fn last(&self, name: &str) -> Option<&[u8]> {
        self.0.as_deref()?.iter().rev().find(|(k, _)| k == name)?.1.as_deref()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.as_deref().is_none_or(Vec::is_empty)
    }
}

impl FromIterator<(String, Option<Bytes>)> for Headers {
    fn from_iter<I: IntoIterator<Item = (String, Option<Bytes>)>>(iter: I) -> Self {
        let list: Vec<_> = iter.into_iter().collect();
        if list.is_empty() { Self(None) } else { Self(Some(Arc::new(list))) }
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// A record as operators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record<K, V> {
    /// What the record is about; records with the same key keep their order.
    pub key: K,
    /// What is said about the key.
    pub value: V,
    /// When it happened (event time).
    pub timestamp: Timestamp,
    /// Carried along by operators that keep the record.
    pub headers: Headers,
}

impl<K, V> Record<K, V> {
    /// A record without headers.
    pub fn new(key: K, value: V, timestamp: Timestamp) -> Self {
        Self { key, value, timestamp, headers: Headers::new() }
    }

    /// The same record under another key.
    pub fn with_key<K2>(self, key: K2) -> Record<K2, V> {
        Record { key, value: self.value, timestamp: self.timestamp, headers: self.headers }
    }

    /// The same record with another value.
    pub fn with_value<V2>(self, value: V2) -> Record<K, V2> {
        Record { key: self.key, value, timestamp: self.timestamp, headers: self.headers }
    }

    /// The same record with what `map` makes of its value.
    pub fn map_value<V2>(self, map: impl FnOnce(V) -> V2) -> Record<K, V2> {
        Record { key: self.key, value: map(self.value), timestamp: self.timestamp, headers: self.headers }
    }
}
