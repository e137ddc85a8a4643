//! In which order a task takes records: a function of what its lanes hold, not of when it arrived.
//!
//! A source partition is one lane; a repartition partition has one lane per upstream task. *Lane time* never falls:
//! the highest timestamp so far of a source lane; for a repartition lane, the upstream task's stream time when it sent
//! the record, which travels with it. The task takes the next record from the lane with the lowest time (ties: the
//! order of the lanes), and waits for an empty lane only while that lane is behind and could still bring a lower time.

mod run;

use std::{collections::VecDeque, sync::Arc};

use headwater_core::{Error, Offset, RecordBatch, RecordCursor, RecordRef, Result, Timestamp};

pub(crate) use self::run::Run;

/// Name of the header that carries a [`LaneMark`]. It belongs to the transport: users do not see it.
pub(crate) const LANE_HEADER: &str = "__lane";

/// Which upstream task sent a record, and its stream time then. Twelve bytes: `u32 lane | i64 time`, big-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LaneMark {
    pub(crate) lane: u32,
    pub(crate) time: Timestamp,
}

impl LaneMark {
    pub(crate) fn encode(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&self.lane.to_be_bytes());
        bytes[4..].copy_from_slice(&self.time.0.to_be_bytes());
        bytes
    }

    pub(crate) fn of(record: RecordRef<'_>) -> Result<Self> {
        let bytes = record.headers.last(LANE_HEADER.as_bytes()).unwrap_or_default();
        let (Some(lane), Some(time), 12) = (bytes.first_chunk::<4>(), bytes.last_chunk::<8>(), bytes.len())
        else {
            return Err(Error::corrupt(format!(
                "a record of a repartition topic has no lane: somebody else writes into this topic. offset={}",
                record.offset
            )));
        };
        Ok(Self { lane: u32::from_be_bytes(*lane), time: Timestamp(i64::from_be_bytes(*time)) })
    }
}

/// Where batches lie that were found and not kept, because the lane is far ahead of the others: two offsets, however many
/// there are. Those of other lanes lie between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stretch {
    /// That of the first.
    from: Offset,
    /// Behind the last.
    to: Offset,
}

pub(crate) struct Lane {
    /// Which of the task's inputs it belongs to.
    pub(crate) input: usize,
    /// The upstream task's partition, or 0.
    pub(crate) number: u32,
    timing: Timing,
    /// Time of the last record taken, or of the last progress heard of.
    pub(crate) time: Timestamp,
    /// Whether more may come that is already on its way.
    pub(crate) behind: bool,
    /// Everything before was taken.
    pub(crate) position: Offset,
    head: Option<Head>,
    /// Batches that wait for their turn.
    queue: VecDeque<RecordBatch>,
    /// Of head and queue.
    loaded_bytes: usize,
    /// What comes behind the queue.
    stretch: Option<Stretch>,
}

struct Head {
    cursor: RecordCursor,
    /// Lane time once its record is taken.
    time: Timestamp,
    /// Of its record, where that is not the log's.
    extracted: Timestamp,
}

/// Where the time of a lane's records comes from.
#[derive(Clone)]
pub(crate) enum Timing {
    /// The records' own timestamps.
    Record,
    /// A [`LaneMark`] on each.
    Marked,
    /// What the user finds in them.
    Extracted(Extract),
}

/// Gives the timestamp of a record in place of its own; also gets the time of the partition so far. A negative one says that
/// there is none.
pub(crate) type Extract = Arc<dyn Fn(RecordRef<'_>, Timestamp) -> Timestamp + Send + Sync>;

impl Lane {
    pub(crate) fn new(input: usize, number: u32, timing: Timing) -> Self {
        Self {
            input,
            number,
            timing,
            time: Timestamp::MIN,
            behind: true,
            position: Offset(0),
            head: None,
            queue: VecDeque::new(),
            loaded_bytes: 0,
            stretch: None,
        }
    }

    /// Appends a batch; beyond `loaded_bytes_max` only the place is kept.
    pub(crate) fn push(&mut self, batch: RecordBatch, loaded_bytes_max: usize) -> Result<()> {
        if batch.next_offset() <= self.position {
            return Ok(());
        }
        if let Some(stretch) = &mut self.stretch {
            stretch.to = batch.next_offset();
        } else if !self.has_room(&batch, loaded_bytes_max) {
            self.stretch = Some(Stretch { from: batch.base_offset(), to: batch.next_offset() });
        } else {
            self.load(batch);
        }
        self.settle()
    }

    /// Hands in a batch of the partition, of this lane or not; whether it was the one that the lane reads on at, and was taken.
    pub(crate) fn supply(
        &mut self,
        batch: &RecordBatch,
        is_own: bool,
        loaded_bytes_max: usize,
    ) -> Result<bool> {
        let Some(Stretch { from, to }) = self.stretch else { return Ok(false) };
        if from != batch.base_offset() || is_own && !self.has_room(batch, loaded_bytes_max) {
            return Ok(false);
        }
        let from = batch.next_offset();
        self.stretch = (from < to).then_some(Stretch { from, to });
        if is_own {
            self.load(batch.clone());
            self.settle()?;
        }
        Ok(true)
    }

    fn has_room(&self, batch: &RecordBatch, loaded_bytes_max: usize) -> bool {
        self.loaded_bytes == 0 || self.loaded_bytes + batch.bytes().len() <= loaded_bytes_max
    }

    fn load(&mut self, batch: RecordBatch) {
        self.loaded_bytes += batch.bytes().len();
        self.queue.push_back(batch);
    }

    /// From where the partition must be read again before the lane can go on.
    pub(crate) fn wanted(&self) -> Option<Offset> {
        self.stretch.filter(|_| self.head.is_none()).map(|stretch| stretch.from)
    }

    /// Whether nothing of it waits, here or as an offset.
    pub(crate) fn is_empty(&self) -> bool {
        self.head.is_none() && self.stretch.is_none()
    }

    /// Time of its next record, if that is at hand.
    #[inline]
    pub(crate) fn head_time(&self) -> Option<Timestamp> {
        self.head.as_ref().map(|head| head.time)
    }

    /// Its next record.
    #[inline(always)]
    pub(crate) fn head(&self) -> Option<RecordRef<'_>> {
        let head = self.head.as_ref()?;
        let record = head.cursor.current()?;
        if let Timing::Extracted(_) = self.timing {
            return Some(RecordRef { timestamp: head.extracted, ..record });
        }
        Some(record)
    }

    /// Place of its next record among those found with it (see [`RecordCursor::place`]).
    #[inline]
    pub(crate) fn place(&self) -> usize {
        self.head.as_ref().map_or(0, |head| head.cursor.place())
    }

    /// Hands out the keys of the records found with the next one.
    pub(crate) fn with_block_keys(&self, take: impl FnOnce(&[Option<&[u8]>])) {
        if let Some(head) = &self.head {
            head.cursor.with_block_keys(|keys| take(keys));
        }
    }

    /// Counts the next record as taken, and moves on; `false` when no other is at hand. The time of a record that was
    /// left out does not count (`timely` is false), unless an upstream task vouches for it.
    #[inline]
    pub(crate) fn take(&mut self, timely: bool) -> Result<bool> {
        let Some(head) = &mut self.head else { return Ok(false) };
        if timely || matches!(self.timing, Timing::Marked) {
            self.time = head.time;
        }
        if let Some(offset) = head.cursor.offset() {
            self.position = offset.next();
        }
        if head.cursor.advance()? {
            head.find_time(&self.timing, self.time)?;
            return Ok(true);
        }
        self.settle()?;
        Ok(self.head.is_some())
    }

    /// Moves on to the first record not yet taken, dropping batches that have none.
    fn settle(&mut self) -> Result<()> {
        loop {
            if let Some(head) = &mut self.head {
                while let Some(offset) = head.cursor.offset() {
                    if offset >= self.position {
                        return head.find_time(&self.timing, self.time);
                    }
                    head.cursor.advance()?;
                }
                self.loaded_bytes -= head.cursor.batch().bytes().len();
                self.head = None;
            }
            let Some(batch) = self.queue.pop_front() else {
                // Nobody has looked since: more may be there already.
                self.behind = true;
                return Ok(());
            };
            let mut cursor = batch.cursor();
            cursor.advance()?;
            self.head = Some(Head { cursor, time: self.time, extracted: self.time });
        }
    }

    /// Hears that the upstream task has reached `time`.
    pub(crate) fn progress(&mut self, time: Timestamp, behind: bool) {
        if self.is_empty() {
            self.time = self.time.max(time);
            self.behind = behind;
        }
    }
}

impl Head {
    /// Looks when its record is, after `so_far`.
    #[inline(always)]
    fn find_time(&mut self, timing: &Timing, so_far: Timestamp) -> Result<()> {
        let time = match timing {
            Timing::Record => self.cursor.timestamp(),
            Timing::Marked | Timing::Extracted(_) => self.find_other_time(timing, so_far)?,
        };
        self.time = so_far.max(time.unwrap_or(so_far));
        Ok(())
    }

    /// That of a record that does not say it itself.
    #[inline(never)]
    fn find_other_time(&mut self, timing: &Timing, so_far: Timestamp) -> Result<Option<Timestamp>> {
        if let Timing::Extracted(extract) = timing {
            self.extracted = self.cursor.current().map_or(so_far, |record| extract(record, so_far));
            return Ok(Some(self.extracted));
        }
        Ok(self.cursor.current().map(LaneMark::of).transpose()?.map(|mark| mark.time))
    }
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// Take records from this lane, as long as their time and the lane's place are below the bound.
    Take { lane: usize, below: (Timestamp, usize) },
    /// Nothing can be taken before a lane has been looked at again.
    Look,
}

/// The rule. `lanes` are in the order of topic, partition, number.
pub(crate) fn choose(lanes: &[Lane]) -> Choice {
    let mut best: Option<(Timestamp, usize)> = None;
    let mut bound = (Timestamp(i64::MAX), usize::MAX);
    let mut blocked = (Timestamp(i64::MAX), usize::MAX);
    for (at, lane) in lanes.iter().enumerate() {
        match lane.head_time() {
            Some(time) => match best {
                Some(so_far) if (time, at) > so_far => bound = bound.min((time, at)),
                so_far => {
                    bound = so_far.map_or(bound, |so_far| bound.min(so_far));
                    best = Some((time, at));
                }
            },
            // Batches that are known but not loaded are like a lane that is behind: they must be read first.
            None if lane.behind || !lane.is_empty() => blocked = blocked.min((lane.time, at)),
            None => {}
        }
    }
    match best {
        Some(best) if best < blocked => Choice::Take { lane: best.1, below: bound.min(blocked) },
        _ => Choice::Look,
    }
}

#[cfg(test)]
mod tests {
    use headwater_core::{BatchBuilder, Headers, ProducerStamp};
    use proptest::prelude::*;

    use super::*;

    fn batch(base: u64, timestamps: &[i64]) -> RecordBatch {
        let mut builder = BatchBuilder::default();
        for timestamp in timestamps {
            builder.push(Timestamp(*timestamp), None, None, &Headers::new());
        }
        builder.finish(ProducerStamp::NONE).at_offset(Offset(base))
    }

    /// Takes everything that may be taken, so many records at most in a row: lane and offset of each record.
    fn drain(lanes: &mut [Lane], out: &mut Vec<(usize, u64)>, run_max: usize) {
        while let Choice::Take { lane, below } = choose(lanes) {
            loop {
                let (before, mut counted) = (out.len(), 0);
                let mut run = lanes[lane].run((lane, below), run_max, &mut counted).unwrap();
                loop {
                    out.push((lane, run.record().unwrap().offset.0));
                    if !run.step() {
                        break;
                    }
                }
                assert!(out.len() - before == counted + 1 && counted < run_max);
                assert_eq!(lanes[lane].head().unwrap().offset.0, out.last().unwrap().1);
                if !lanes[lane].take(true).unwrap() || (lanes[lane].head_time().unwrap(), lane) >= below {
                    break;
                }
            }
        }
    }

    #[test]
    fn a_lane_that_is_behind_is_waited_for_only_while_it_could_be_earlier() {
        let mut lanes = [Lane::new(0, 0, Timing::Record), Lane::new(1, 0, Timing::Record)];
        let mut out = Vec::new();
        lanes[0].push(batch(0, &[10, 20]), 1 << 20).unwrap();
        drain(&mut lanes, &mut out, 1);
        assert_eq!(out, []);
        lanes[1].progress(Timestamp(15), true);
        drain(&mut lanes, &mut out, 1);
        assert_eq!(out, [(0, 0)]);
        lanes[1].progress(Timestamp(15), false);
        drain(&mut lanes, &mut out, 1);
        assert_eq!(out, [(0, 0), (0, 1)]);
    }

    proptest! {
        /// Bounded lanes, delivered in any interleaving and with any part of them left in the log, taken one by one or in runs:
        /// one order.
        #[test]
        fn arrival_does_not_matter(
            contents in prop::collection::vec(prop::collection::vec(prop::collection::vec(0i64..50, 1..5), 0..6), 1..4),
            deliveries in prop::collection::vec(0usize..4, 0..60),
            loaded_bytes_max in 1usize..400,
            reads_max in 1usize..5,
            run_max in 1usize..5,
        ) {
            let expected = run(&contents, &[], (1 << 20, 1), 1);
            prop_assert_eq!(expected.len(), contents.iter().flatten().map(Vec::len).sum::<usize>());
            prop_assert_eq!(run(&contents, &deliveries, (loaded_bytes_max, reads_max), run_max), expected);
        }
    }

    /// Ten million records that wait for another lane take no more memory than a lane may keep.
    #[test]
    fn a_lane_that_is_far_ahead_keeps_its_place_and_not_its_records() {
        const RECORDS: usize = 1_000;
        const LOADED_BYTES_MAX: usize = 2 << 20;
        let mut lanes = [Lane::new(0, 0, Timing::Record), Lane::new(0, 1, Timing::Record)];
        let (one, mut most) = (batch(0, &[5; RECORDS]), 0);
        for base in (0..10_000_000).step_by(RECORDS) {
            lanes[1].push(one.clone().at_offset(Offset(base)), LOADED_BYTES_MAX).unwrap();
            let queued = lanes[1].queue.capacity() * size_of::<RecordBatch>();
            most = most.max(lanes[1].loaded_bytes + queued);
        }
        assert_eq!(choose(&lanes), Choice::Look);
        println!("{most} bytes at most");
        assert!((LOADED_BYTES_MAX / 2..LOADED_BYTES_MAX + (64 << 10)).contains(&most));
        assert_eq!(lanes[1].stretch.map(|stretch| stretch.to), Some(Offset(10_000_000)));
    }

    fn run(
        contents: &[Vec<Vec<i64>>],
        deliveries: &[usize],
        (loaded_bytes_max, reads_max): (usize, usize),
        run_max: usize,
    ) -> Vec<(usize, u64)> {
        let batches: Vec<Vec<RecordBatch>> = contents
            .iter()
            .map(|lane| {
                let mut base = 0;
                lane.iter()
                    .map(|ts| {
                        let b = batch(base, ts);
                        base += ts.len() as u64 + 1;
                        b
                    })
                    .collect()
            })
            .collect();
        let mut lanes: Vec<Lane> = (0..contents.len()).map(|i| Lane::new(i, 0, Timing::Record)).collect();
        let (mut sent, mut out) = (vec![0; contents.len()], Vec::new());
        let rest = (0..contents.len()).flat_map(|lane| std::iter::repeat_n(lane, 20));
        for lane in deliveries.iter().copied().map(|d| d % contents.len()).chain(rest) {
            match batches[lane].get(sent[lane]) {
                Some(batch) => lanes[lane].push(batch.clone(), loaded_bytes_max).unwrap(),
                None => {
                    let time = lanes[lane].time;
                    lanes[lane].progress(time, false);
                }
            }
            sent[lane] += 1;
            loop {
                drain(&mut lanes, &mut out, run_max);
                let Some((at, wanted)) = lanes.iter().enumerate().find_map(|(i, l)| Some((i, l.wanted()?)))
                else {
                    break;
                };
                // Each is followed by one of another lane, as it may be in a partition.
                let partition = batches[at]
                    .iter()
                    .flat_map(|own| [(own.clone(), true), (batch(own.next_offset().0, &[0]), false)]);
                let found = partition.skip_while(|(found, _)| found.base_offset() != wanted);
                for (found, is_own) in found.take(reads_max) {
                    if !lanes[at].supply(&found, is_own, loaded_bytes_max).unwrap() {
                        break;
                    }
                }
                assert_ne!(lanes[at].wanted(), Some(wanted));
            }
            // Whoever is at the end says so, as the reader of a log would.
            for (at, lane) in lanes.iter_mut().enumerate() {
                if sent[at] > batches[at].len() {
                    let time = lane.time;
                    lane.progress(time, false);
                }
            }
        }
        drain(&mut lanes, &mut out, run_max);
        out
    }
}
