//! Entries of journal groups and checkpoints as inputs hold them, and their bytes; the layout is drawn at the head of
//! `storage/src/log/codec.rs`.

use arbitrary::{Arbitrary, Unstructured};
use headwater_core::{BatchBuilder, Compression, Offset, ProducerStamp};

use crate::{
    edit::{Edit, apply},
    record::PlainRecord,
    seal::seal_batch,
};

/// Numbers of topics, partitions and producers: few, so that entries speak of the same ones.
#[derive(Debug, Clone, Copy)]
pub struct Small(pub u32);

impl<'a> Arbitrary<'a> for Small {
    fn arbitrary(input: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        let byte: u8 = input.arbitrary()?;
        Ok(Self(match byte {
            0xff => u32::MAX,
            0xfe => i32::MAX.cast_unsigned(),
            // One more than a topic may have.
            0xfd => (1 << 20) + 1,
            byte => u32::from(byte % 6),
        }))
    }
}

/// An offset or a number of that size: mostly small, or about where numbers end.
#[derive(Debug, Clone, Copy)]
pub struct Large(pub u64);

impl<'a> Arbitrary<'a> for Large {
    fn arbitrary(input: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        let (kind, low): (u8, u8) = input.arbitrary()?;
        Ok(Self(match kind {
            0xff => u64::MAX - u64::from(low),
            0xfe => (1 << 63) - u64::from(low),
            0xfd => (1 << 63) + u64::from(low),
            0xfc => (1 << 32) + u64::from(low) - 128,
            0xfb => (1 << 31) + u64::from(low) - 128,
            // Lengths of segments.
            0xc0..=0xfa => u64::from(low) << (kind % 4),
            _ => u64::from(low % 64),
        }))
    }
}

const NAMES: [&str; 4] = ["a", "b", "orders", "x.y_z-1"];
const SETTINGS: [&str; 6] = [
    "{}",
    r#"{"segment.bytes":"200"}"#,
    r#"{"cleanup.policy":"compact","segment.bytes":"300","min.cleanable.dirty.ratio":"0"}"#,
    r#"{"retention.bytes":"1","segment.bytes":"1"}"#,
    r#"{"retention.ms":"0","segment.ms":"1"}"#,
    r#"{"message.timestamp.type":"LogAppendTime","compression.type":"zstd"}"#,
];

/// One of a few texts, or another.
#[derive(Debug, Clone, Arbitrary)]
pub enum Text<'a> {
    Known(u8),
    Other(&'a [u8]),
}

impl Text<'_> {
    fn of<'a>(&'a self, known: &'a [&str]) -> &'a [u8] {
        match self {
            Self::Known(which) => known[usize::from(*which) % known.len()].as_bytes(),
            Self::Other(bytes) => bytes,
        }
    }
}

/// A batch in an entry.
#[derive(Debug, Clone, Arbitrary)]
pub struct EntryBatch<'a> {
    records: Vec<PlainRecord<'a>>,
    codec: u8,
    id: Small,
    epoch: i16,
    sequence: i32,
    base: Large,
    /// Behind the checksum.
    edits: Vec<Edit<'a>>,
}

impl EntryBatch<'_> {
    fn bytes(&self) -> Vec<u8> {
        let mut builder = BatchBuilder::default();
        self.records.iter().for_each(|record| record.push(&mut builder));
        if builder.is_empty() {
            return Vec::new();
        }
        let codec = [Compression::None, Compression::Lz4, Compression::Zstd][usize::from(self.codec % 3)];
        let stamp = ProducerStamp { id: self.id.0.into(), epoch: self.epoch, sequence: self.sequence };
        let batch = builder.finish_compressed(stamp, codec).expect("there is memory");
        let mut bytes = batch.at_offset(Offset(self.base.0)).bytes().to_vec();
        if !self.edits.is_empty() {
            apply(&self.edits, &mut bytes);
            if bytes.len() >= headwater_core::BATCH_HEADER_BYTES {
                seal_batch(&mut bytes);
            }
        }
        bytes
    }
}

/// An entry, with fields that need not make sense.
#[derive(Debug, Clone, Arbitrary)]
pub enum Entry<'a> {
    TopicCreated {
        id: Small,
        partitions: Small,
        name: Text<'a>,
        settings: Text<'a>,
    },
    ProducerOpened {
        id: Small,
        epoch: i16,
        name: Text<'a>,
    },
    Batch {
        topic: Small,
        partition: Small,
        batch: EntryBatch<'a>,
    },
    /// The next one that its partition expects, if offsets begin at 0 and all are like this.
    Record {
        topic: Small,
        partition: Small,
        base: Large,
        value: &'a [u8],
    },
    Positions {
        group: Text<'a>,
        lie: bool,
        committed: Vec<(Small, Small, Large, &'a [u8])>,
    },
    TopicAltered {
        id: Small,
        settings: Text<'a>,
    },
    PartitionsAdded {
        id: Small,
        partitions: Small,
    },
    TopicDeleted {
        id: Small,
    },
    RecordsDeleted {
        topic: Small,
        partition: Small,
        before: Large,
    },
    GroupDeleted {
        group: Text<'a>,
    },
    ProducersReviewed {
        at: i64,
        next: Small,
        forgotten: Vec<Small>,
    },
    /// A batch that lies in files, or not.
    Filed {
        topic: Small,
        partition: Small,
        batch: EntryBatch<'a>,
    },
    /// How far files were written, or not.
    Files {
        topic: Small,
        partition: Small,
        earliest: Large,
        end: Large,
        active: Large,
        length: Large,
        times: (i64, i64),
        newest: Large,
    },
    Unknown(&'a [u8]),
}

impl Entry<'_> {
    /// Appends its bytes, and to `bodies` what of a batch stands behind the front of a group.
    pub fn put(&self, out: &mut Vec<u8>, bodies: &mut Vec<u8>) {
        match self {
            Self::TopicCreated { id, partitions, name, settings } => {
                out.push(1);
                numbers(out, &[id.0, partitions.0]);
                field(out, name.of(&NAMES));
                field(out, settings.of(&SETTINGS));
            }
            Self::ProducerOpened { id, epoch, name } => {
                out.push(2);
                out.extend_from_slice(&producer(*id).to_be_bytes());
                out.extend_from_slice(&epoch.to_be_bytes());
                field(out, name.of(&NAMES));
            }
            Self::Batch { topic, partition, batch } => {
                bodies.extend_from_slice(put_batch(out, 3, [topic.0, partition.0], &batch.bytes()));
            }
            Self::Record { topic, partition, base, value } => {
                let mut builder = BatchBuilder::default();
                builder.push(
                    headwater_core::Timestamp(5),
                    None,
                    Some(value),
                    &headwater_core::Headers::new(),
                );
                let batch = builder.finish(ProducerStamp::NONE).at_offset(Offset(base.0));
                bodies.extend_from_slice(put_batch(out, 3, [topic.0, partition.0], batch.bytes()));
            }
            Self::Positions { group, lie, committed } => {
                out.push(4);
                field(out, group.of(&NAMES));
                let count = u32::try_from(committed.len()).expect("an input holds few");
                numbers(out, &[if *lie { u32::MAX } else { count }]);
                for (topic, partition, offset, metadata) in committed {
                    numbers(out, &[topic.0, partition.0]);
                    out.extend_from_slice(&offset.0.to_be_bytes());
                    field(out, metadata);
                }
            }
            Self::Filed { topic, partition, batch } => {
                put_batch(out, 11, [topic.0, partition.0], &batch.bytes());
            }
            Self::Files { topic, partition, earliest, end, active, length, times, newest } => {
                out.push(12);
                numbers(out, &[topic.0, partition.0]);
                [earliest, end, active, length]
                    .iter()
                    .for_each(|number| out.extend_from_slice(&number.0.to_be_bytes()));
                [times.0, times.1].iter().for_each(|time| out.extend_from_slice(&time.to_be_bytes()));
                out.extend_from_slice(&newest.0.to_be_bytes());
            }
            Self::TopicAltered { id, settings } => {
                out.push(5);
                numbers(out, &[id.0]);
                field(out, settings.of(&SETTINGS));
            }
            Self::PartitionsAdded { id, partitions } => {
                out.push(6);
                numbers(out, &[id.0, partitions.0]);
            }
            Self::TopicDeleted { id } => {
                out.push(7);
                numbers(out, &[id.0]);
            }
            Self::RecordsDeleted { topic, partition, before } => {
                out.push(8);
                numbers(out, &[topic.0, partition.0]);
                out.extend_from_slice(&before.0.to_be_bytes());
            }
            Self::GroupDeleted { group } => {
                out.push(9);
                field(out, group.of(&NAMES));
            }
            Self::ProducersReviewed { at, next, forgotten } => {
                out.push(10);
                out.extend_from_slice(&at.to_be_bytes());
                out.extend_from_slice(&producer(*next).to_be_bytes());
                numbers(out, &[u32::try_from(forgotten.len()).expect("an input holds few")]);
                forgotten.iter().for_each(|id| out.extend_from_slice(&producer(*id).to_be_bytes()));
            }
            Self::Unknown(bytes) => out.extend_from_slice(bytes),
        }
    }
}

/// The number of a producer: few, and the last that there is.
#[must_use]
pub fn producer(id: Small) -> i64 {
    if id.0 == i32::MAX.cast_unsigned() { i64::MAX } else { id.0.cast_signed().into() }
}

/// Appends the header of a batch, and returns what is behind it.
fn put_batch<'a>(out: &mut Vec<u8>, kind: u8, place: [u32; 2], batch: &'a [u8]) -> &'a [u8] {
    out.push(kind);
    numbers(out, &place);
    let (header, body) = batch.split_at(batch.len().min(headwater_core::BATCH_HEADER_BYTES));
    out.extend_from_slice(header);
    body
}

/// Appends numbers.
pub fn numbers(out: &mut Vec<u8>, numbers: &[u32]) {
    numbers.iter().for_each(|number| out.extend_from_slice(&number.to_be_bytes()));
}

fn field(out: &mut Vec<u8>, bytes: &[u8]) {
    numbers(out, &[u32::try_from(bytes.len()).expect("an input holds little")]);
    out.extend_from_slice(bytes);
}
