//! When processors are called by time instead of by a record: what they asked for, and what is due.

use std::{collections::BTreeMap, time::Duration};

use headwater_core::{Error, Result, Timestamp};

/// Which time calls a processor (Kafka: `PunctuationType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Punctuate {
    /// The task's stream time. Due first at 0, so with the first record, and then on the grid of the interval from 0. What
    /// comes of it is a function of the input, as that of records is: it runs right after the record that moved time
    /// (Kafka: after some batch of records). After a restart the grid goes on behind the committed stream time.
    StreamTime,
    /// The wall clock. Due first one interval from now. Not a function of the input: for work that must not wait for one.
    WallClock,
}

/// What [`ProcessorContext::schedule`](crate::ProcessorContext::schedule) made: tells apart the punctuations of a processor,
/// and cancels one. Not durable: a task that is opened makes new ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Punctuation(u64);

/// Number of a processor within its task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProcessorNumber(u32);

impl ProcessorNumber {
    /// Of a processor whose task is not open yet.
    pub(crate) const NONE: Self = Self(0);
}

/// A punctuation whose time has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) owner: ProcessorNumber,
    pub(crate) punctuation: Punctuation,
    /// Stream time or wall-clock time.
    pub(crate) time: Timestamp,
}

/// The punctuations of a task.
#[derive(Debug)]
pub(crate) struct Punctuators {
    stream: Schedule,
    wall: Schedule,
    /// Wall-clock time as of the worker's turn.
    now: Timestamp,
    /// While the task is opened: the stream time that an earlier run of it has committed, if there was one.
    since: Option<Timestamp>,
    punctuations: u64,
    processors: u32,
    /// What is being told to its processor; taken by it.
    call: Option<Due>,
    /// How to take back what the current record did, if that may be asked for.
    undo: Option<Vec<Undo>>,
    /// How often processors were called.
    pub(crate) called: u64,
}

/// Punctuations by one of the clocks.
#[derive(Debug)]
struct Schedule {
    due: BTreeMap<(Timestamp, Punctuation), Entry>,
    /// The time of the first that is due; the end of time when there is none.
    first: Timestamp,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    owner: ProcessorNumber,
    interval: i64,
}

#[derive(Debug)]
enum Undo {
    Scheduled(Punctuation),
    Cancelled(Punctuate, (Timestamp, Punctuation), Entry),
}

impl Schedule {
    fn new() -> Self {
        Self { due: BTreeMap::new(), first: Timestamp(i64::MAX) }
    }

    fn insert(&mut self, key: (Timestamp, Punctuation), entry: Entry) {
        self.due.insert(key, entry);
        self.first = self.first.min(key.0);
    }

    fn remove(&mut self, key: (Timestamp, Punctuation)) -> Option<Entry> {
        let entry = self.due.remove(&key);
        self.first = self.due.keys().next().map_or(Timestamp(i64::MAX), |(due, _)| *due);
        entry
    }

    fn find(&self, punctuation: Punctuation) -> Option<(Timestamp, Punctuation)> {
        self.due.keys().find(|key| key.1 == punctuation).copied()
    }

    /// Moves the first one that is due at `time`, and older than `below`, on to its next time after it. They are due in the
    /// order of their times; of one time, those made earlier come first, and so those further upstream.
    fn next(&mut self, time: Timestamp, below: Punctuation) -> Option<Due> {
        let is_due = |key: &&(Timestamp, Punctuation)| key.0 <= time && key.1 < below;
        let key = *self.due.keys().take_while(|key| key.0 <= time).find(is_due)?;
        let Entry { owner, interval } = self.remove(key)?;
        if let Some(next) = next_on_grid(key.0, interval, time) {
            self.insert((next, key.1), Entry { owner, interval });
        }
        Some(Due { owner, punctuation: key.1, time })
    }
}

/// The first time after `time` that is a whole number of intervals from `start`, which is not after it; none at the end of time.
fn next_on_grid(start: Timestamp, interval: i64, time: Timestamp) -> Option<Timestamp> {
    let steps = time.0.checked_sub(start.0)? / interval + 1;
    steps.checked_mul(interval)?.checked_add(start.0).map(Timestamp)
}

impl Punctuators {
    pub(crate) fn new(now: Timestamp) -> Self {
        Self {
            stream: Schedule::new(),
            wall: Schedule::new(),
            now,
            since: None,
            punctuations: 0,
            processors: 0,
            call: None,
            undo: None,
            called: 0,
        }
    }

    /// The number of one more processor.
    pub(crate) fn add_processor(&mut self) -> ProcessorNumber {
        self.processors += 1;
        ProcessorNumber(self.processors)
    }

    /// Sets how far an earlier run of the task was, for as long as the task is opened.
    pub(crate) fn set_since(&mut self, since: Option<Timestamp>) {
        self.since = since;
    }

    pub(crate) fn schedule(
        &mut self,
        owner: ProcessorNumber,
        interval: Duration,
        by: Punctuate,
    ) -> Result<Punctuation> {
        let interval = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX);
        if interval == 0 {
            return Err(Error::invalid("the interval of a punctuation is shorter than 1 ms"));
        }
        self.punctuations += 1;
        let punctuation = Punctuation(self.punctuations);
        let due = match by {
            Punctuate::StreamTime => {
                self.since.map_or(Some(Timestamp(0)), |since| next_on_grid(Timestamp(0), interval, since))
            }
            Punctuate::WallClock => next_on_grid(self.now, interval, self.now),
        };
        if let Some(due) = due {
            self.of(by).insert((due, punctuation), Entry { owner, interval });
        }
        self.undo.iter_mut().for_each(|undo| undo.push(Undo::Scheduled(punctuation)));
        Ok(punctuation)
    }

    /// Nothing happens when there is none of that name any more.
    pub(crate) fn cancel(&mut self, punctuation: Punctuation) {
        for by in [Punctuate::StreamTime, Punctuate::WallClock] {
            let found = self.of(by).find(punctuation);
            if let Some((key, entry)) = found.and_then(|key| Some((key, self.of(by).remove(key)?))) {
                self.undo.iter_mut().for_each(|undo| undo.push(Undo::Cancelled(by, key, entry)));
            }
        }
    }

    fn of(&mut self, by: Punctuate) -> &mut Schedule {
        match by {
            Punctuate::StreamTime => &mut self.stream,
            Punctuate::WallClock => &mut self.wall,
        }
    }

    #[inline]
    pub(crate) fn begin_record(&mut self) {
        self.undo.get_or_insert_default().clear();
    }

    pub(crate) fn roll_back(&mut self) {
        while let Some(undo) = self.undo.as_mut().and_then(Vec::pop) {
            match undo {
                Undo::Scheduled(punctuation) => {
                    for by in [Punctuate::StreamTime, Punctuate::WallClock] {
                        if let Some(key) = self.of(by).find(punctuation) {
                            self.of(by).remove(key);
                        }
                    }
                }
                Undo::Cancelled(by, key, entry) => self.of(by).insert(key, entry),
            }
        }
    }

    /// Whether stream time has reached a punctuation.
    #[inline]
    pub(crate) fn is_due(&self, stream_time: Timestamp) -> bool {
        stream_time >= self.stream.first
    }

    /// Hears the time of the machine. Where that was set back, nobody waits longer than an interval.
    pub(crate) fn set_now(&mut self, now: Timestamp) {
        if now < self.now {
            for (key, entry) in std::mem::replace(&mut self.wall, Schedule::new()).due {
                let due = key.0.0.min(now.0.saturating_add(entry.interval));
                self.wall.insert((Timestamp(due), key.1), entry);
            }
        }
        self.now = now;
    }

    /// When the wall clock reaches the next punctuation.
    pub(crate) fn next_wall_clock(&self) -> Option<Timestamp> {
        (!self.wall.due.is_empty()).then_some(self.wall.first)
    }

    /// Up to which punctuation those are that exist now. A pass leaves out those that are made during it.
    pub(crate) fn end(&self) -> Punctuation {
        Punctuation(self.punctuations + 1)
    }

    /// Prepares the next call that is due, of those before `below`, to be found by its processor.
    pub(crate) fn begin_call(
        &mut self,
        by: Punctuate,
        stream_time: Timestamp,
        below: Punctuation,
    ) -> Option<Due> {
        let time = if by == Punctuate::StreamTime { stream_time } else { self.now };
        self.call = self.of(by).next(time, below);
        self.called += u64::from(self.call.is_some());
        self.call
    }

    /// Whether a call still looks for its processor.
    pub(crate) fn is_calling(&self) -> bool {
        self.call.is_some()
    }

    /// The call, if it is for this processor. It is handed out once: behind a merge a processor is come by on several ways.
    pub(crate) fn take_call(&mut self, processor: ProcessorNumber) -> Option<Due> {
        self.call.take_if(|due| due.owner == processor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn fired(punctuators: &mut Punctuators, by: Punctuate, time: i64) -> Vec<(u64, i64)> {
        let end = punctuators.end();
        punctuators.set_now(Timestamp(time));
        std::iter::from_fn(|| punctuators.begin_call(by, Timestamp(time), end))
            .map(|due| (due.punctuation.0, due.time.0))
            .collect()
    }

    #[test]
    fn stream_time_keeps_the_grid_from_zero() {
        let mut punctuators = Punctuators::new(Timestamp(0));
        let owner = punctuators.add_processor();
        punctuators.schedule(owner, ms(10), Punctuate::StreamTime).unwrap();
        let by = Punctuate::StreamTime;
        let times: Vec<_> = [12, 15, 20, 57, 59, 60]
            .map(|time| fired(&mut punctuators, by, time))
            .into_iter()
            .flatten()
            .collect();
        assert_eq!(times, [(1, 12), (1, 20), (1, 57), (1, 60)]);
    }

    #[test]
    fn after_a_restart_the_grid_goes_on_behind_the_committed_time() {
        let mut punctuators = Punctuators::new(Timestamp(0));
        let owner = punctuators.add_processor();
        punctuators.set_since(Some(Timestamp(20)));
        punctuators.schedule(owner, ms(10), Punctuate::StreamTime).unwrap();
        assert!(!punctuators.is_due(Timestamp(29)));
        assert!(punctuators.is_due(Timestamp(30)));
    }

    #[test]
    fn the_wall_clock_keeps_the_grid_of_the_first_schedule_and_missed_ticks_are_one() {
        let mut punctuators = Punctuators::new(Timestamp(1003));
        let owner = punctuators.add_processor();
        punctuators.schedule(owner, ms(10), Punctuate::WallClock).unwrap();
        let by = Punctuate::WallClock;
        let times: Vec<_> = [1012, 1013, 1014, 1049, 1052, 1053]
            .map(|time| fired(&mut punctuators, by, time))
            .into_iter()
            .flatten()
            .collect();
        assert_eq!(times, [(1, 1013), (1, 1049), (1, 1053)]);
    }

    #[test]
    fn a_clock_that_is_set_back_makes_nobody_wait_longer_than_an_interval() {
        let mut punctuators = Punctuators::new(Timestamp(1_000_000));
        let owner = punctuators.add_processor();
        punctuators.schedule(owner, ms(10), Punctuate::WallClock).unwrap();
        punctuators.set_now(Timestamp(500));
        assert_eq!(punctuators.next_wall_clock(), Some(Timestamp(510)));
    }

    #[test]
    fn what_is_due_at_once_goes_by_time_and_then_by_age() {
        let mut punctuators = Punctuators::new(Timestamp(0));
        let owner = punctuators.add_processor();
        for interval in [20, 10, 10] {
            punctuators.schedule(owner, ms(interval), Punctuate::WallClock).unwrap();
        }
        assert_eq!(fired(&mut punctuators, Punctuate::WallClock, 25), [(2, 25), (3, 25), (1, 25)]);
    }

    #[test]
    fn a_pass_leaves_out_what_is_made_during_it() {
        let mut punctuators = Punctuators::new(Timestamp(0));
        let owner = punctuators.add_processor();
        let by = Punctuate::StreamTime;
        punctuators.schedule(owner, ms(10), by).unwrap();
        let end = punctuators.end();
        let mut calls = 0;
        while punctuators.begin_call(by, Timestamp(5), end).is_some() {
            punctuators.schedule(owner, ms(10), by).unwrap();
            calls += 1;
        }
        assert_eq!(calls, 1);
        assert!(punctuators.is_due(Timestamp(5)));
    }

    #[test]
    fn a_record_that_is_taken_back_takes_its_punctuations_with_it() {
        let mut punctuators = Punctuators::new(Timestamp(0));
        let owner = punctuators.add_processor();
        let by = Punctuate::StreamTime;
        let kept = punctuators.schedule(owner, ms(10), by).unwrap();
        punctuators.begin_record();
        punctuators.cancel(kept);
        let lost = punctuators.schedule(owner, ms(1), by).unwrap();
        punctuators.cancel(lost);
        punctuators.roll_back();
        assert_eq!(fired(&mut punctuators, by, 100), [(1, 100)]);
    }

    #[test]
    fn an_interval_below_a_millisecond_is_refused_and_the_end_of_time_is_an_end() {
        let mut punctuators = Punctuators::new(Timestamp(i64::MAX));
        let owner = punctuators.add_processor();
        let refused = punctuators.schedule(owner, Duration::from_micros(999), Punctuate::StreamTime);
        assert!(refused.unwrap_err().to_string().contains("1 ms"));
        for by in [Punctuate::StreamTime, Punctuate::WallClock] {
            punctuators.schedule(owner, Duration::MAX, by).unwrap();
            assert!(fired(&mut punctuators, by, i64::MAX).len() <= 1);
        }
    }
}
