//! The rules of a log without its bytes: topics, offsets, producers, positions. No I/O, no locks.
//!
//! Material for implementations of [`Log`](crate::Log). [`Ledger`] decides what a request comes to (a list of
//! [`Entry`]s) and, apart from that, applies entries: a log makes the entries durable in between, and after a crash
//! applies those it finds.

mod admin;
mod compaction;
mod entry;
mod held;
mod producers;
mod retention;
mod sequences;
mod times;

use std::collections::BTreeMap;

use self::producers::ProducerState;
pub use self::{
    admin::{PARTITIONS_MAX, no_such_topic},
    compaction::{CleanPoint, Compaction, KeyMap, due},
    entry::{Commit, Decision, Entry, GroupPositions, Incarnation, Place, TopicId},
    held::{BATCH_BYTES_MAX, COMMIT_BYTES_MAX, Held},
    producers::PRODUCER_EXPIRY,
    retention::{Piece, retention},
    sequences::{REMEMBERED_BATCHES, SeenBatch, Sequences, Verdict, advance},
    times::first_at,
};
use crate::{
    BatchHeader, Committed, Error, ErrorKind, GroupId, Offset, Partition, PartitionOffsets, ProducerName,
    RecordBatch, Result, Timestamp, TimestampType, TopicName, TopicPartition, TopicSpec, Written,
};

/// What can be read of a partition in which nothing was ever written.
const NEW_PARTITION: PartitionOffsets = PartitionOffsets { earliest: Offset(0), end: Offset(0) };

/// All that a log knows besides the records.
#[derive(Debug, Default)]
pub struct Ledger {
    topics: BTreeMap<TopicId, Topic>,
    names: BTreeMap<TopicName, TopicId>,
    producers: BTreeMap<i64, ProducerState>,
    producer_ids: BTreeMap<ProducerName, i64>,
    /// Numbers of producers that were forgotten are not given to others: batches go by them.
    next_producer_id: i64,
    /// When producers were looked through; never before the first time.
    producers_reviewed: Option<Timestamp>,
    positions: BTreeMap<GroupId, BTreeMap<Place, Committed>>,
    batch_bytes_largest: usize,
    /// Numbers of deleted topics are not given to others: files and positions go by them.
    next_topic_id: TopicId,
}

#[derive(Debug)]
struct Topic {
    spec: TopicSpec,
    offsets: Vec<PartitionOffsets>,
}

/// Decisions: what a request comes to. Nothing changes until the entries are applied.
impl Ledger {
    /// What makes sure that the topic exists; `None` when it does.
    ///
    /// # Errors
    /// `Invalid` when it exists with another number of partitions.
    pub fn create_topic(&self, spec: &TopicSpec) -> Result<Option<Entry>> {
        if let Some(existing) = self.names.get(&spec.name).and_then(|id| self.topics.get(id)) {
            let (have, want) = (existing.spec.partitions, spec.partitions);
            return if have == want {
                Ok(None)
            } else {
                Err(Error::invalid(format!(
                    "topic exists with another number of partitions: ask for as many, or choose another name. topic={}, partitions={have}, wanted={want}",
                    spec.name
                )))
            };
        }
        admin::check_partitions(&spec.name, spec.partitions)?;
        spec.config.check().map_err(|e| e.context(format!("topic={}", spec.name)))?;
        let id = self.next_topic_id;
        Ok(Some(Entry::TopicCreated { id, spec: spec.clone() }))
    }

    /// What a commit comes to: which batches go where, and where those went that were written before. `now` is the time
    /// of records in topics that go by append time.
    ///
    /// # Errors
    /// `Fenced` when the producer is not the newest of its name, `Invalid` when a partition does not exist or a batch
    /// is missing. Nothing may be written of it then.
    pub fn commit(&self, commit: Commit, now: Timestamp) -> Result<Decision> {
        let state = self.producer_state(commit.producer)?;
        let mut batches = commit.batches;
        // Stable: batches of one partition stay in their order.
        batches.sort_by_key(|(place, _)| *place);
        let mut decision = Decision::default();
        let (mut repeated, mut new) = (false, false);
        let mut last: Option<Run> = None;
        for (place, batch) in batches {
            let mut run = match last.take() {
                Some(run) if run.place == place => run,
                done => {
                    decision.written.extend(done.map(|run| self.written(&run)).transpose()?);
                    self.begin_run(place, state, commit.producer, &batch)?
                }
            };
            let base = run.place_batch(state, commit.producer, &batch)?;
            repeated |= run.duplicate;
            new |= !run.duplicate;
            if repeated && new {
                return Err(half_repeated(&batch));
            }
            if !run.duplicate {
                let batch = self.stamped(place, batch.at_offset(base), now);
                decision.entries.push(Entry::Batch { place, batch });
            }
            last = Some(run);
        }
        decision.written.extend(last.map(|run| self.written(&run)).transpose()?);
        // The positions of a repeated commit were written with its batches; newer ones may have come since.
        if let Some(positions) = commit.positions.filter(|_| !repeated) {
            for (place, _) in &positions.committed {
                self.end(*place).ok_or_else(|| unknown_place(*place))?;
            }
            decision.entries.push(Entry::Positions(positions));
        }
        Ok(decision)
    }

    fn stamped(&self, place: Place, batch: RecordBatch, now: Timestamp) -> RecordBatch {
        match self.topic(place.topic).map(|topic| topic.config.message_timestamp_type) {
            Some(TimestampType::LogAppendTime) => batch.with_append_time(now),
            _ => batch,
        }
    }

    fn producer_state(&self, producer: Incarnation) -> Result<&ProducerState> {
        let Incarnation { id, epoch } = producer;
        match self.producers.get(&id) {
            Some(state) if state.epoch == epoch => Ok(state),
            state => Err(Error::new(
                ErrorKind::Fenced,
                format!(
                    "a newer producer of this name has taken over: drop this one. producer_id={id}, epoch={epoch}, current={:?}",
                    state.map(|state| state.epoch)
                ),
            )),
        }
    }

    fn begin_run(
        &self,
        place: Place,
        state: &ProducerState,
        producer: Incarnation,
        first: &RecordBatch,
    ) -> Result<Run> {
        let end = self.end(place).ok_or_else(|| unknown_place(place))?;
        let stamp = first.stamp();
        let verdict = match state.partitions.get(&place) {
            _ if stamp.id != producer.id => Verdict::New,
            Some(sequences) => sequences.check(stamp, offset_count(first))?,
            None => Sequences::default().check(stamp, offset_count(first))?,
        };
        let (base, duplicate) = match verdict {
            Verdict::New => (end, false),
            Verdict::Duplicate(base) => (base, true),
        };
        Ok(Run { place, base, next: base, sequence: stamp.sequence, duplicate })
    }

    fn written(&self, run: &Run) -> Result<Written> {
        Ok(Written { partition: self.partition(run.place)?, base: run.base, next: run.next })
    }
}

/// The batches of one commit in one partition.
struct Run {
    place: Place,
    base: Offset,
    next: Offset,
    sequence: i32,
    duplicate: bool,
}

impl Run {
    /// The offset of `batch`, which follows those before it in the commit.
    fn place_batch(
        &mut self,
        state: &ProducerState,
        producer: Incarnation,
        batch: &RecordBatch,
    ) -> Result<Offset> {
        let (stamp, count) = (batch.stamp(), offset_count(batch));
        if (stamp.id, stamp.epoch) != (producer.id, producer.epoch) {
            return Err(Error::invalid(format!(
                "batch is stamped by another producer. stamp={stamp:?}, producer={producer:?}"
            )));
        }
        if stamp.sequence != self.sequence {
            return Err(sequences::out_of_order(stamp, self.sequence));
        }
        let base = if self.duplicate {
            match state
                .partitions
                .get(&self.place)
                .map(|sequences| sequences.check(stamp, count))
                .transpose()?
            {
                Some(Verdict::Duplicate(base)) => base,
                _ => {
                    return Err(half_repeated(batch));
                }
            }
        } else {
            self.next
        };
        self.next = base.plus(u64::from(count));
        self.sequence = advance(self.sequence, count);
        Ok(base)
    }
}

/// Application: what became durable.
impl Ledger {
    /// Takes note of an entry.
    ///
    /// # Errors
    /// `Corrupt` when it does not follow from what is known: it cannot come from a decision on this ledger.
    pub fn apply(&mut self, entry: &Entry) -> Result<()> {
        match entry {
            Entry::TopicCreated { id, spec } => self.apply_topic(*id, spec),
            Entry::ProducerOpened { name, producer } => {
                self.apply_producer(name, *producer);
                Ok(())
            }
            Entry::ProducersReviewed { at, next_id, forgotten } => {
                self.apply_review(*at, *next_id, forgotten)
            }
            Entry::Batch { place, batch } => self.apply_header(*place, &BatchHeader::of(batch)),
            Entry::TopicAltered { id, config } => self.apply_config(*id, config),
            Entry::PartitionsAdded { id, partitions } => self.apply_partitions(*id, *partitions),
            Entry::TopicDeleted { id } => self.apply_deletion(*id),
            Entry::RecordsDeleted { place, before } => self.apply_records_deleted(*place, *before),
            Entry::GroupDeleted(group) => {
                self.positions.remove(group);
                Ok(())
            }
            Entry::Positions(positions) => self.apply_positions(positions),
        }
    }

    fn apply_topic(&mut self, id: TopicId, spec: &TopicSpec) -> Result<()> {
        if id < self.next_topic_id || self.names.contains_key(&spec.name) {
            return Err(Error::corrupt(format!("topic was created twice. topic={}, id={}", spec.name, id.0)));
        }
        let offsets = spec.topic_partitions().map(|_| NEW_PARTITION).collect();
        self.names.insert(spec.name.clone(), id);
        self.topics.insert(id, Topic { spec: spec.clone(), offsets });
        self.next_topic_id = TopicId(id.0.saturating_add(1));
        Ok(())
    }

    /// Takes note of a batch by its header: its records are kept elsewhere.
    ///
    /// # Errors
    /// As [`Ledger::apply`].
    pub fn apply_header(&mut self, place: Place, header: &BatchHeader) -> Result<()> {
        let PartitionOffsets { end, .. } = self.offsets_mut(place)?;
        if header.base_offset() != *end {
            return Err(Error::corrupt(format!(
                "batch does not follow the end of its partition. topic_id={}, partition={}, batch={header:?}, end={end}",
                place.topic.0, place.partition
            )));
        }
        *end = header.next_offset();
        self.batch_bytes_largest = self.batch_bytes_largest.max(header.size());
        let stamp = header.stamp();
        if let Some(state) = self.producers.get_mut(&stamp.id) {
            state.idle = false;
            state.partitions.entry(place).or_default().record(
                stamp,
                header.offset_count(),
                header.base_offset(),
            );
        }
        Ok(())
    }

    fn offsets_mut(&mut self, place: Place) -> Result<&mut PartitionOffsets> {
        let index = place.partition.0 as usize;
        self.topics.get_mut(&place.topic).and_then(|topic| topic.offsets.get_mut(index)).ok_or_else(|| {
            Error::corrupt(format!(
                "partition was never created. topic_id={}, partition={}",
                place.topic.0, place.partition
            ))
        })
    }
}

/// Questions.
impl Ledger {
    /// All topics, by name.
    pub fn topics(&self) -> impl Iterator<Item = (TopicId, &TopicSpec)> {
        self.names.values().filter_map(|id| Some((*id, &self.topics.get(id)?.spec)))
    }

    /// A topic by name.
    #[must_use]
    pub fn spec(&self, name: &TopicName) -> Option<&TopicSpec> {
        self.topic(*self.names.get(name)?)
    }

    /// Settings and name of a topic.
    #[must_use]
    pub fn topic(&self, id: TopicId) -> Option<&TopicSpec> {
        self.topics.get(&id).map(|topic| &topic.spec)
    }

    /// All partitions with their offsets, in order.
    pub fn all_offsets(&self) -> impl Iterator<Item = (Place, PartitionOffsets)> {
        self.topics.iter().flat_map(|(id, topic)| {
            (0..)
                .zip(&topic.offsets)
                .map(|(number, offsets)| (Place { topic: *id, partition: Partition(number) }, *offsets))
        })
    }

    /// Where a partition is kept.
    ///
    /// # Errors
    /// `Invalid` when there is no such partition.
    pub fn place(&self, partition: &TopicPartition) -> Result<Place> {
        let topic = self.names.get(&partition.topic);
        let place = topic.map(|topic| Place { topic: *topic, partition: partition.partition });
        place.filter(|place| self.end(*place).is_some()).ok_or_else(|| unknown_partition(partition))
    }

    /// The name of a place.
    ///
    /// # Errors
    /// `Invalid` when there is no such partition.
    pub fn partition(&self, place: Place) -> Result<TopicPartition> {
        let topic = self.topics.get(&place.topic).ok_or_else(|| unknown_place(place))?;
        Ok(TopicPartition::new(topic.spec.name.clone(), place.partition))
    }

    /// The offset that the next record of a partition will get.
    #[must_use]
    pub fn end(&self, place: Place) -> Option<Offset> {
        self.offsets(place).map(|offsets| offsets.end)
    }

    /// What can be read of a partition.
    #[must_use]
    pub fn offsets(&self, place: Place) -> Option<PartitionOffsets> {
        self.topics.get(&place.topic)?.offsets.get(place.partition.0 as usize).copied()
    }

    /// The number that the next topic will get.
    #[must_use]
    pub fn next_topic_id(&self) -> TopicId {
        self.next_topic_id
    }

    /// The position that `group` has committed.
    #[must_use]
    pub fn committed(&self, group: &GroupId, place: Place) -> Option<&Committed> {
        self.positions.get(group)?.get(&place)
    }

    /// Size of the largest batch ever applied: whatever claims to be larger is not one of ours.
    #[must_use]
    pub fn batch_bytes_largest(&self) -> usize {
        self.batch_bytes_largest
    }
}

/// A copy for a checkpoint, and back.
impl Ledger {
    /// Entries that make the same topics, producers and positions; without ends and sequences.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        let topics =
            self.topics.iter().map(|(id, topic)| Entry::TopicCreated { id: *id, spec: topic.spec.clone() });
        let positions = self.positions.iter().map(|(group, committed)| {
            let committed = committed.iter().map(|(place, committed)| (*place, committed.clone())).collect();
            Entry::Positions(GroupPositions { group: group.clone(), committed })
        });
        topics.chain(self.producer_entries()).chain(positions).collect()
    }

    /// What is remembered of each producer in each partition.
    pub fn sequences(&self) -> impl Iterator<Item = (i64, Place, &Sequences)> {
        let each = |(id, state): (&i64, _)| (*id, state);
        self.producers.iter().map(each).flat_map(|(id, state): (i64, &ProducerState)| {
            state.partitions.iter().map(move |(place, sequences)| (id, *place, sequences))
        })
    }

    /// Sets what can be read of a partition.
    ///
    /// # Errors
    /// `Corrupt` when there is no such partition, or it would end before it begins.
    pub fn restore_offsets(&mut self, place: Place, offsets: PartitionOffsets) -> Result<()> {
        if offsets.earliest > offsets.end {
            return Err(Error::corrupt(format!("partition ends before it begins. offsets={offsets:?}")));
        }
        *self.offsets_mut(place)? = offsets;
        Ok(())
    }

    /// Sets the number that the next topic will get.
    ///
    /// # Errors
    /// `Corrupt` when a topic has that number, or a later one.
    pub fn restore_next_topic_id(&mut self, id: TopicId) -> Result<()> {
        if id < self.next_topic_id {
            return Err(Error::corrupt(format!("number of the next topic was given before. id={}", id.0)));
        }
        self.next_topic_id = id;
        Ok(())
    }

    /// Sets what is remembered of a producer in a partition.
    ///
    /// # Errors
    /// `Corrupt` when there is no such producer.
    pub fn restore_sequences(&mut self, id: i64, place: Place, sequences: Sequences) -> Result<()> {
        let state = self.producers.get_mut(&id);
        let state =
            state.ok_or_else(|| Error::corrupt(format!("producer was never opened. producer_id={id}")))?;
        state.partitions.insert(place, sequences);
        Ok(())
    }

    /// Sets the size of the largest batch.
    pub fn restore_batch_bytes_largest(&mut self, bytes: usize) {
        self.batch_bytes_largest = self.batch_bytes_largest.max(bytes);
    }
}

/// How many offsets, and sequence numbers, a batch takes; more than it has records where compaction took some.
fn offset_count(batch: &RecordBatch) -> u32 {
    let count = batch.next_offset().0 - batch.base_offset().0;
    u32::try_from(count).expect("the last offset delta is an i32")
}

/// A commit is all or nothing: one of which a part was written before is not the one that was sent.
fn half_repeated(batch: &RecordBatch) -> Error {
    Error::invalid(format!("commit repeats some of its batches and not others. batch={batch:?}"))
}

/// The error for a partition that does not exist.
#[must_use]
pub fn unknown_partition(partition: &TopicPartition) -> Error {
    Error::invalid(format!("no such partition: create the topic first. partition={partition}"))
}

fn unknown_place(place: Place) -> Error {
    Error::invalid(format!("no such partition. topic_id={}, partition={}", place.topic.0, place.partition))
}

/// Whether a read may begin at `from`.
///
/// # Errors
/// `Invalid` when it may not.
pub fn check_range(partition: &TopicPartition, from: Offset, offsets: PartitionOffsets) -> Result<()> {
    let PartitionOffsets { earliest, end } = offsets;
    if (earliest..=end).contains(&from) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "offset is out of range: read from `earliest` to `end`. partition={partition}, offset={from}, earliest={earliest}, end={end}"
    )))
}

#[cfg(test)]
mod tests;
