//! Gathers records into batches by partition, and commits them.

use std::{collections::BTreeMap, mem};

use headwater_core::{
    Admin, BatchBuilder, Compression, Error, Headers, Offset, Partition, Producer, ProducerName, Result,
    Timestamp, TopicPartition, TopicSpec, partition_for_key,
};

use super::Input;

/// Records without a key go to the next partition after so many bytes (Kafka: `batch.size`).
const TURN_BYTES: usize = 16 << 10;

/// Writes records to one topic.
pub(super) struct Writer {
    producer: Box<dyn Producer>,
    spec: TopicSpec,
    compression: Compression,
    batches: BTreeMap<u32, BatchBuilder>,
    /// Where the next record without a key goes, and for how many bytes yet.
    turn: (u32, usize),
    /// Since the last commit.
    bytes: usize,
    records: u64,
    written: u64,
}

impl Writer {
    pub(super) async fn open(log: &dyn Admin, spec: TopicSpec, compression: Compression) -> Result<Self> {
        let producer = log.producer(&ProducerName("headwater-produce".into())).await?;
        let mut shortest = (Offset(u64::MAX), 0);
        for partition in spec.topic_partitions() {
            let end = log.offsets(&partition).await?.end;
            shortest = shortest.min((end, partition.partition.0));
        }
        Ok(Self {
            producer,
            spec,
            compression,
            batches: BTreeMap::new(),
            turn: (shortest.1, TURN_BYTES),
            bytes: 0,
            records: 0,
            written: 0,
        })
    }

    /// Takes a record into the next commit.
    ///
    /// # Errors
    /// `Invalid` when it names a partition that there is not, or is larger than the topic takes; those before it are
    /// not harmed.
    pub(super) fn push(&mut self, input: &Input, timestamp: Timestamp, headers: &Headers) -> Result<()> {
        let number = self.partition(input)?;
        let batch = self.batches.entry(number).or_default();
        batch.set_compression(self.compression);
        let (mark, before, count) = (batch.mark(), batch.size(), batch.record_count());
        let bytes_max = self.spec.config.max_message_bytes as usize;
        batch.push(timestamp, input.key.as_deref(), input.value.as_deref(), headers);
        if batch.size() > bytes_max && count > 0 {
            batch.rewind(mark);
            self.close(number)?;
            return self.push(input, timestamp, headers);
        }
        let after = batch.size();
        if after > bytes_max {
            batch.rewind(mark);
            return Err(Error::invalid(format!(
                "the record is larger than its topic takes: raise its max.message.bytes. topic={}, bytes={after}, max.message.bytes={bytes_max}",
                self.spec.name
            )));
        }
        self.bytes += after - before;
        self.records += 1;
        if input.key.is_none() && input.partition.is_none() {
            self.take_turn(after - before);
        }
        Ok(())
    }

    /// Makes durable what was pushed.
    pub(super) async fn commit(&mut self) -> Result<()> {
        if self.records == 0 {
            return Ok(());
        }
        let numbers: Vec<_> = self.batches.keys().copied().collect();
        numbers.into_iter().try_for_each(|number| self.close(number))?;
        // Their buffers are not kept for partitions that may not be written again.
        self.batches.clear();
        self.producer.commit(None).await?;
        self.written += mem::take(&mut self.records);
        self.bytes = 0;
        Ok(())
    }

    /// Bytes that wait for the commit.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Records that were committed.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    fn partition(&self, input: &Input) -> Result<u32> {
        let partitions = self.spec.partitions;
        match (input.partition, &input.key) {
            (Some(number), _) if number < partitions.get() => Ok(number),
            (Some(number), _) => Err(Error::invalid(format!(
                "there is no such partition: they count from 0; --repartition ignores them. topic={}, partition={number}, partitions={partitions}",
                self.spec.name
            ))),
            (None, Some(key)) => Ok(partition_for_key(key, partitions).0),
            (None, None) => Ok(self.turn.0),
        }
    }

    fn take_turn(&mut self, bytes: usize) {
        let (number, left) = self.turn;
        self.turn = match left.checked_sub(bytes).filter(|left| *left > 0) {
            Some(left) => (number, left),
            None => ((number + 1) % self.spec.partitions, TURN_BYTES),
        };
    }

    fn close(&mut self, number: u32) -> Result<()> {
        let Some(batch) = self.batches.get_mut(&number).filter(|batch| !batch.is_empty()) else {
            return Ok(());
        };
        let partition = TopicPartition::new(self.spec.name.clone(), Partition(number));
        self.producer.append(&partition, batch)
    }
}
