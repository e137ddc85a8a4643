//! Records as inputs hold them, and as they are compared.

use arbitrary::Arbitrary;
use bytes::Bytes;
use headwater_core::{BatchBuilder, Headers, RecordRef, Timestamp};

/// A record of an input.
#[derive(Debug, Clone, Arbitrary)]
pub struct PlainRecord<'a> {
    timestamp: i64,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    headers: Vec<(&'a str, Option<&'a [u8]>)>,
}

impl PlainRecord<'_> {
    /// Adds it to a batch.
    pub fn push(&self, builder: &mut BatchBuilder) {
        let header =
            |(name, value): &(&str, Option<&[u8]>)| (String::from(*name), value.map(Bytes::copy_from_slice));
        let headers: Headers = self.headers.iter().map(header).collect();
        builder.push(Timestamp(self.timestamp), self.key, self.value, &headers);
    }

    /// What it is at `offset`.
    #[must_use]
    pub fn at(&self, offset: u64) -> OwnedRecord {
        let header =
            |(name, value): &(&str, Option<&[u8]>)| (name.as_bytes().to_vec(), value.map(<[u8]>::to_vec));
        OwnedRecord {
            offset,
            timestamp: self.timestamp,
            key: self.key.map(<[u8]>::to_vec),
            value: self.value.map(<[u8]>::to_vec),
            headers: self.headers.iter().map(header).collect(),
        }
    }
}

/// All there is of a record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct OwnedRecord {
    pub offset: u64,
    pub timestamp: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

/// A copy of a record.
#[must_use]
pub fn owned(record: &RecordRef<'_>) -> OwnedRecord {
    let header = |(name, value): (&[u8], Option<&[u8]>)| (name.to_vec(), value.map(<[u8]>::to_vec));
    OwnedRecord {
        offset: record.offset.0,
        timestamp: record.timestamp.0,
        key: record.key.map(<[u8]>::to_vec),
        value: record.value.map(<[u8]>::to_vec),
        headers: record.headers.iter().map(header).collect(),
    }
}
