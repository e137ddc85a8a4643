//! What is remembered of a record: hashes of its key and of what it says.

use std::hash::{BuildHasher, Hasher};

use foldhash::quality::FixedState;
use headwater_core::RecordRef;

use super::bounds::{Border, Bounds};
use crate::Output;

/// A record of the range.
#[derive(Debug, Clone, Copy)]
pub(super) struct Digest {
    /// Of its key; two hashes, so that no two keys are taken for one.
    pub(super) key: [u64; 2],
    /// Whether it reaches over a border of the range.
    pub(super) border: Option<Border>,
    /// Of value, timestamp and headers; the latter where they are the record's own.
    pub(super) full: u64,
    /// Of value and timestamp; [`NO_ROW`] for a null value.
    pub(super) value: u64,
}

/// A row that was deleted is none, whenever that was.
pub(super) const NO_ROW: u64 = 0;

pub(super) struct Digester<'a> {
    pub(super) output: &'a Output,
    bounds: Bounds,
    hashers: [FixedState; 2],
    ordered: bool,
}

impl<'a> Digester<'a> {
    pub(super) fn new(output: &'a Output, bounds: Bounds) -> Self {
        // Any two seeds do.
        let hashers = [0x6865_6164, 0x7761_7465].map(FixedState::with_seed);
        let ordered = !output.carried.shuffled;
        Self { output, bounds, hashers, ordered }
    }

    /// `None` when the record is not of the range.
    pub(super) fn digest(&self, record: &RecordRef<'_>) -> Option<Digest> {
        if !self.bounds.in_range(record.timestamp) {
            return None;
        }
        let window = record.key.and_then(|key| self.output.key_window(key));
        let mut content = self.hashers[0].build_hasher();
        write(&mut content, record.value);
        content.write_i64(record.timestamp.0);
        let value = if record.value.is_none() { NO_ROW } else { content.finish().max(NO_ROW + 1) };
        if !self.output.carried.borrowed_headers {
            for (name, value) in record.headers.iter() {
                write(&mut content, Some(name));
                write(&mut content, value);
            }
        }
        Some(Digest {
            key: [0, 1].map(|at| {
                let mut hasher = self.hashers[at].build_hasher();
                write(&mut hasher, record.key);
                hasher.finish()
            }),
            border: self.bounds.border(window, record.timestamp),
            full: content.finish(),
            value,
        })
    }

    /// The hash of a sequence that is one record longer; of what is in it, where the order says nothing.
    pub(super) fn longer(&self, sequence: u64, record: u64) -> u64 {
        if !self.ordered {
            return sequence.wrapping_add(record);
        }
        let mut hasher = FixedState::with_seed(sequence).build_hasher();
        hasher.write_u64(record);
        hasher.finish()
    }
}

/// Null is not nothing, and the end of one field is not the beginning of the next.
fn write(hasher: &mut impl Hasher, field: Option<&[u8]>) {
    match field {
        None => hasher.write_u64(u64::MAX),
        Some(bytes) => {
            hasher.write_u64(bytes.len() as u64);
            hasher.write(bytes);
        }
    }
}
