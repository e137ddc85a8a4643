//! Which producers a log knows, and when it forgets one (Kafka: `producer.id.expiration.ms`,
//! `transactional.id.expiration.ms`, KIP-854).
//!
//! What is known of a producer serves those who hold it: they are fenced when its name is opened again, and what they send
//! twice is written once. A log that knows who holds one need not keep the others; it keeps them for a while, so that the
//! numbers in its batches say who wrote them.
//!
//! A review from time to time forgets those that were not used since the last one. So the log remembers one bit for each
//! producer, and one time for all.

use std::{collections::BTreeMap, time::Duration};

use super::{Entry, Incarnation, Ledger, Place, Sequences};
use crate::{Error, ProducerName, Result, Timestamp};

/// How long producers that nobody uses are known unless a log is told otherwise (Kafka: 7 days for transactional ids, and
/// one for others).
pub const PRODUCER_EXPIRY: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// What is known of the producers of a name.
#[derive(Debug)]
pub(super) struct ProducerState {
    pub(super) name: ProducerName,
    pub(super) epoch: i16,
    pub(super) partitions: BTreeMap<Place, Sequences>,
    /// It was neither opened nor has it written since the last review.
    pub(super) idle: bool,
}

/// Decisions.
impl Ledger {
    /// What opens a producer and fences the earlier ones of that name.
    #[must_use]
    pub fn open_producer(&self, name: &ProducerName) -> (Incarnation, Entry) {
        let known = self.producer_ids.get(name).and_then(|id| Some((*id, self.producers.get(id)?.epoch)));
        let producer = match known {
            Some((id, epoch)) if epoch < i16::MAX => Incarnation { id, epoch: epoch + 1 },
            // New, or out of epochs: a new id begins at epoch 0 again.
            _ => Incarnation { id: self.next_producer_id, epoch: 0 },
        };
        (producer, Entry::ProducerOpened { name: name.clone(), producer })
    }

    /// What forgets the producers that were idle since the last review, and that nobody holds, as `is_held` says of their
    /// numbers. `None` when the last review is not `expiry` ago, or there is nothing to look through. So each is known for
    /// at least `expiry` after it was used, and for no more than twice as long.
    pub fn review_producers(
        &self,
        now: Timestamp,
        expiry: Duration,
        is_held: impl Fn(i64) -> bool,
    ) -> Option<Entry> {
        let expiry = i64::try_from(expiry.as_millis()).unwrap_or(i64::MAX);
        let is_due = self.producers_reviewed.is_none_or(|last| now.0.saturating_sub(last.0) >= expiry);
        if !is_due || self.producers.is_empty() {
            return None;
        }
        let unused = self.producers.iter().filter(|(id, state)| state.idle && !is_held(**id));
        let forgotten = unused.map(|(id, _)| *id).collect();
        Some(Entry::ProducersReviewed { at: now, next_id: self.next_producer_id, forgotten })
    }
}

/// Application.
impl Ledger {
    pub(super) fn apply_producer(&mut self, name: &ProducerName, Incarnation { id, epoch }: Incarnation) {
        if let Some(old) = self.producer_ids.insert(name.clone(), id) {
            self.producers.remove(&old);
        }
        let state = ProducerState { name: name.clone(), epoch, partitions: BTreeMap::new(), idle: false };
        self.producers.insert(id, state);
        self.next_producer_id = self.next_producer_id.max(id.saturating_add(1));
    }

    pub(super) fn apply_review(&mut self, at: Timestamp, next_id: i64, forgotten: &[i64]) -> Result<()> {
        for id in forgotten {
            let state = self.producers.remove(id).ok_or_else(|| {
                Error::corrupt(format!("producer is forgotten that was not known. producer_id={id}"))
            })?;
            self.producer_ids.remove(&state.name);
        }
        self.producers.values_mut().for_each(|state| state.idle = true);
        self.producers_reviewed = Some(at);
        self.next_producer_id = self.next_producer_id.max(next_id);
        Ok(())
    }
}

/// Questions.
impl Ledger {
    /// The names that are known, and the newest producer of each.
    pub fn producers(&self) -> impl Iterator<Item = (&ProducerName, Incarnation)> {
        self.producers.iter().map(|(id, state)| (&state.name, Incarnation { id: *id, epoch: state.epoch }))
    }

    /// Entries that make the same producers: those that are idle were opened before the last review, the others after it.
    pub(super) fn producer_entries(&self) -> impl Iterator<Item = Entry> {
        let opened = |wanted: bool| {
            let some = self.producers.iter().filter(move |(_, state)| state.idle == wanted);
            some.map(|(id, state)| Entry::ProducerOpened {
                name: state.name.clone(),
                producer: Incarnation { id: *id, epoch: state.epoch },
            })
        };
        let review = self.producers_reviewed.map(|at| Entry::ProducersReviewed {
            at,
            next_id: self.next_producer_id,
            forgotten: Vec::new(),
        });
        opened(true).chain(review).chain(opened(false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BatchBuilder, Headers, TopicSpec, ledger::Commit};

    const EXPIRY: Duration = Duration::from_millis(100);

    fn name(name: &str) -> ProducerName {
        ProducerName(name.into())
    }

    fn open(ledger: &mut Ledger, producer: &str) -> Incarnation {
        let (opened, entry) = ledger.open_producer(&name(producer));
        ledger.apply(&entry).unwrap();
        opened
    }

    /// Reviews at `now` while `held` are held; which are known then, or `None` when there was none.
    fn review(ledger: &mut Ledger, now: i64, held: &[Incarnation]) -> Option<Vec<String>> {
        let is_held = |id| held.iter().any(|producer| producer.id == id);
        let entry = ledger.review_producers(Timestamp(now), EXPIRY, is_held)?;
        ledger.apply(&entry).unwrap();
        let mut names: Vec<_> = ledger.producers().map(|(name, _)| name.0.clone()).collect();
        names.sort();
        Some(names)
    }

    /// From a checkpoint, which must make the same.
    fn restored(ledger: &Ledger) -> Ledger {
        let mut restored = Ledger::default();
        ledger.entries().iter().for_each(|entry| restored.apply(entry).unwrap());
        restored.restore_next_topic_id(ledger.next_topic_id()).unwrap();
        for (place, offsets) in ledger.all_offsets() {
            restored.restore_offsets(place, offsets).unwrap();
        }
        for (id, place, sequences) in ledger.sequences() {
            restored.restore_sequences(id, place, sequences.clone()).unwrap();
        }
        restored.restore_batch_bytes_largest(ledger.batch_bytes_largest());
        assert_eq!(format!("{restored:?}"), format!("{ledger:?}"));
        restored
    }

    fn write(ledger: &mut Ledger, producer: Incarnation, sequence: i32) -> Result<()> {
        let place = ledger.all_offsets().next().unwrap().0;
        let mut batch = BatchBuilder::default();
        batch.push(Timestamp(0), None, None, &Headers::new());
        let Incarnation { id, epoch } = producer;
        let batch = batch.finish(crate::ProducerStamp { id, epoch, sequence });
        let commit = Commit { producer, batches: vec![(place, batch)], positions: None };
        let decision = ledger.commit(commit, Timestamp(0))?;
        decision.entries.iter().try_for_each(|entry| ledger.apply(entry))
    }

    #[test]
    fn who_is_used_is_known_and_who_is_not_is_forgotten() {
        let mut ledger = Ledger::default();
        assert_eq!(review(&mut ledger, 0, &[]), None, "there are none");
        ledger.apply(&ledger.create_topic(&TopicSpec::new("t", 1).unwrap()).unwrap().unwrap()).unwrap();
        let writes = open(&mut ledger, "writes");
        let held = open(&mut ledger, "held");
        open(&mut ledger, "opened again");
        let gone = open(&mut ledger, "gone");
        write(&mut ledger, writes, 0).unwrap();
        assert_eq!(review(&mut ledger, 1000, &[held]).unwrap().len(), 4, "all were just used");
        assert_eq!(review(&mut ledger, 1099, &[held]), None, "not yet");
        ledger = restored(&ledger);
        write(&mut ledger, writes, 1).unwrap();
        let again = open(&mut ledger, "opened again");
        ledger = restored(&ledger);
        assert_eq!(review(&mut ledger, 1100, &[held]).unwrap(), ["held", "opened again", "writes"]);
        ledger = restored(&ledger);
        assert_eq!(write(&mut ledger, gone, 0).unwrap_err().kind(), crate::ErrorKind::Fenced);
        let new = open(&mut ledger, "gone");
        assert!(new.id > gone.id && new.epoch == 0, "{gone:?} then {new:?}");
        assert_eq!(review(&mut ledger, 1200, &[held]).unwrap(), ["gone", "held"]);
        for forgotten in [writes, again] {
            assert_eq!(write(&mut ledger, forgotten, 2).unwrap_err().kind(), crate::ErrorKind::Fenced);
        }
        write(&mut ledger, held, 0).unwrap();
    }

    /// A number that was forgotten is in batches, and somebody may still have it.
    #[test]
    fn no_number_is_given_twice() {
        let mut ledger = Ledger::default();
        let mut highest = -1;
        for round in 0..20 {
            let id = open(&mut ledger, &format!("p{round}")).id;
            assert!(id > highest, "round {round}");
            highest = id;
            review(&mut ledger, round * 100, &[]).unwrap();
            ledger = restored(&ledger);
        }
        assert_eq!(ledger.producers().count(), 1, "one is kept until the next review");
    }

    #[test]
    fn a_review_that_does_not_fit_is_damage() {
        let mut ledger = Ledger::default();
        let wrong = Entry::ProducersReviewed { at: Timestamp(0), next_id: 0, forgotten: vec![7] };
        assert_eq!(ledger.apply(&wrong).unwrap_err().kind(), crate::ErrorKind::Corrupt);
    }

    #[test]
    fn a_clock_that_is_set_back_forgets_nobody() {
        let mut ledger = Ledger::default();
        open(&mut ledger, "p");
        assert!(review(&mut ledger, 5000, &[]).is_some());
        assert_eq!(review(&mut ledger, i64::MIN, &[]), None);
    }
}
