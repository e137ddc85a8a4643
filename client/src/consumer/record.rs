//! What a consumer gives out: records one by one, or whole batches.

use std::fmt;

use headwater_core::{Offset, Record, RecordBatch, RecordCursor, RecordRef, Result, Serde, TopicPartition};

/// A record and where it lies (Kafka: `ConsumerRecord`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerRecord<K, V> {
    /// Its partition.
    pub partition: TopicPartition,
    /// Its place there.
    pub offset: Offset,
    /// It.
    pub record: Record<K, V>,
}

/// Records of one partition, as they lie in the log: reading them copies nothing. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Batch {
    partition: TopicPartition,
    batch: RecordBatch,
    from: Offset,
}

impl Batch {
    pub(super) fn new(partition: TopicPartition, batch: RecordBatch, from: Offset) -> Self {
        Self { partition, batch, from }
    }

    /// The first offset that was asked for, at least that of the first record.
    pub(super) fn from(&self) -> Offset {
        self.from.max(self.batch.base_offset())
    }

    pub(super) fn starting_at(self, from: Offset) -> Self {
        Self { from, ..self }
    }

    /// Whether there is a record from `from` on: compaction takes them out of the middle. Damage counts as one, so that
    /// whoever reads it hears of it.
    pub(super) fn has_records(&self) -> bool {
        let batch = &self.batch;
        let offsets = batch.next_offset().0 - batch.base_offset().0;
        match batch.record_count() {
            0 => false,
            all if u64::from(all) == offsets || self.from <= batch.base_offset() => true,
            _ => !matches!(self.records().advance(), Ok(false)),
        }
    }

    /// Their partition.
    #[must_use]
    pub fn partition(&self) -> &TopicPartition {
        &self.partition
    }

    /// The offset after the last one.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        self.batch.next_offset()
    }

    /// Bytes in the log.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.batch.bytes().len()
    }

    /// Walks them.
    ///
    /// ```
    /// # use headwater_client::Batch;
    /// fn longest(batch: &Batch) -> headwater_core::Result<usize> {
    ///     let (mut longest, mut records) = (0, batch.records());
    ///     while let Some(record) = records.next().transpose()? {
    ///         longest = longest.max(record.value.map_or(0, <[u8]>::len));
    ///     }
    ///     Ok(longest)
    /// }
    /// ```
    #[must_use]
    pub fn records(&self) -> BatchRecords {
        BatchRecords { cursor: self.batch.cursor(), from: self.from }
    }

    /// All of them, decoded.
    ///
    /// # Errors
    /// `Processing` when a serde refuses one, `Corrupt`; both with the place of the record.
    pub fn decode<K: 'static, V: 'static>(
        &self,
        key: &dyn Serde<K>,
        value: &dyn Serde<V>,
    ) -> Result<Vec<Record<K, V>>> {
        let mut decoded = Vec::new();
        let mut records = self.records();
        while let Some(record) = records.next().transpose()? {
            let offset = record.offset;
            let one = decode(record, key, value);
            decoded.push(one.map_err(|e| e.context(place(&self.partition, offset)))?);
        }
        Ok(decoded)
    }
}

/// Walks the records of a [`Batch`].
pub struct BatchRecords {
    cursor: RecordCursor,
    /// A batch may begin before the first record that was asked for.
    from: Offset,
}

impl BatchRecords {
    /// Moves to the next record and gives it.
    ///
    /// # Errors
    /// `Corrupt` when the bytes are not those of a record.
    #[expect(clippy::should_implement_trait, reason = "lends, which Iterator cannot")]
    pub fn next(&mut self) -> Option<Result<RecordRef<'_>>> {
        match self.advance() {
            Ok(true) => self.current().map(Ok),
            Ok(false) => None,
            Err(error) => Some(Err(error)),
        }
    }

    pub(super) fn advance(&mut self) -> Result<bool> {
        while self.cursor.advance()? {
            if self.cursor.offset().is_some_and(|offset| offset >= self.from) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(super) fn current(&self) -> Option<RecordRef<'_>> {
        self.cursor.current()
    }
}

impl fmt::Debug for BatchRecords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BatchRecords({:?} from {})", self.cursor.batch(), self.from)
    }
}

pub(super) fn decode<K: 'static, V: 'static>(
    record: RecordRef<'_>,
    key: &dyn Serde<K>,
    value: &dyn Serde<V>,
) -> Result<Record<K, V>> {
    Ok(Record {
        key: key.decode_nullable(record.key)?,
        value: value.decode_nullable(record.value)?,
        timestamp: record.timestamp,
        headers: record.headers.to_owned(),
    })
}

#[cold]
pub(super) fn place(partition: &TopicPartition, offset: Offset) -> String {
    format!(
        "record cannot be decoded: pass over it, or read it with another serde. partition={partition}, offset={offset}"
    )
}
