//! Checkpoints as inputs hold them, and their bytes; the layout is drawn at the head of `storage/src/log/checkpoint.rs`.

use arbitrary::Arbitrary;

use crate::{
    entry::{self, Entry, Large, Small, numbers},
    seal::seal_checkpoint,
};

/// A checkpoint, with fields that need not make sense.
#[derive(Debug, Clone, Arbitrary)]
pub struct Checkpoint<'a> {
    segment: Option<Large>,
    byte: Option<Large>,
    group: Option<Large>,
    largest_batch: Large,
    next_topic: Small,
    entries: Vec<Entry<'a>>,
    marks: Vec<Mark>,
    producers: Vec<Producer>,
}

/// How far the files of a partition were written.
#[derive(Debug, Clone, Arbitrary)]
struct Mark {
    topic: Small,
    partition: Small,
    /// Earliest offset, end, begin of the active segment, and bytes in it.
    offsets: [Large; 4],
    times: [i64; 2],
    newest: Large,
}

/// What is remembered of a producer in a partition.
#[derive(Debug, Clone, Arbitrary)]
struct Producer {
    id: Small,
    topic: Small,
    partition: Small,
    epoch: i16,
    seen: Vec<(i32, i32, Large)>,
}

impl Checkpoint<'_> {
    /// Its bytes, with a checksum that holds. Where it does not say it, it is of the same point as `good`.
    ///
    /// # Panics
    /// When `good` is no checkpoint.
    #[must_use]
    pub fn bytes(&self, good: &[u8]) -> Vec<u8> {
        let mut out = good[..40].to_vec();
        for (at, field) in [(16, self.segment), (24, self.byte), (32, self.group)] {
            if let Some(field) = field {
                out[at..at + 8].copy_from_slice(&field.0.to_be_bytes());
            }
        }
        out.extend_from_slice(&self.largest_batch.0.to_be_bytes());
        numbers(&mut out, &[self.next_topic.0, count(&self.entries)]);
        self.entries.iter().for_each(|entry| entry.put(&mut out, &mut Vec::new()));
        numbers(&mut out, &[count(&self.marks)]);
        for mark in &self.marks {
            numbers(&mut out, &[mark.topic.0, mark.partition.0]);
            mark.offsets.iter().for_each(|field| out.extend_from_slice(&field.0.to_be_bytes()));
            mark.times.iter().for_each(|time| out.extend_from_slice(&time.to_be_bytes()));
            out.extend_from_slice(&mark.newest.0.to_be_bytes());
        }
        numbers(&mut out, &[count(&self.producers)]);
        for producer in &self.producers {
            out.extend_from_slice(&entry::producer(producer.id).to_be_bytes());
            numbers(&mut out, &[producer.topic.0, producer.partition.0]);
            out.extend_from_slice(&producer.epoch.to_be_bytes());
            out.push(u8::try_from(producer.seen.len()).unwrap_or(u8::MAX));
            for (first, last, base) in &producer.seen {
                numbers(&mut out, &[first.cast_unsigned(), last.cast_unsigned()]);
                out.extend_from_slice(&base.0.to_be_bytes());
            }
        }
        seal_checkpoint(&mut out);
        out
    }
}

fn count<T>(list: &[T]) -> u32 {
    u32::try_from(list.len()).expect("an input holds few")
}
