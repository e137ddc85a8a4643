//! Records of one lane that a source takes one after another, without a question to anybody in between.
//!
//! What can be known once for many records is found out before the first: which of them come before everything in the other
//! lanes, and how many the task wants. They are all of those found together ([`FoundRecords`]), so that moving on is
//! nothing but counting. The last of them stays the lane's next record, for [`Lane::take`].

use headwater_core::{FoundRecords, RecordRef, Timestamp};

use super::{Head, Lane, Timing};

/// See the module.
pub(crate) struct Run<'a> {
    found: FoundRecords<'a>,
    /// Lane time once the current record is taken.
    head_time: &'a mut Timestamp,
    /// That of the last that was taken.
    time: &'a mut Timestamp,
    /// Counts those that were.
    taken: &'a mut usize,
    /// How many may follow the current one, and up to which lane time.
    left: usize,
    latest: Timestamp,
    /// That of the current record, where it is not the log's.
    extracted: Option<Timestamp>,
}

impl Lane {
    /// Its next record and those that may be taken behind it: at most `records_max`, as long as lane time and this lane's place
    /// are below the bound. `taken` counts all but the last, for which [`Lane::take`] must follow. One by one where lane time is
    /// to be looked for.
    #[inline]
    pub(crate) fn run<'a>(
        &'a mut self,
        (at, below): (usize, (Timestamp, usize)),
        records_max: usize,
        taken: &'a mut usize,
    ) -> Option<Run<'a>> {
        let Head { cursor, time, extracted } = self.head.as_mut()?;
        let records_max = if matches!(self.timing, Timing::Record) { records_max } else { 1 };
        let extracted = matches!(self.timing, Timing::Extracted(_)).then_some(*extracted);
        Some(Run {
            found: cursor.found(),
            head_time: time,
            time: &mut self.time,
            taken,
            left: records_max.saturating_sub(1),
            latest: if at < below.1 { below.0 } else { Timestamp(below.0.0.saturating_sub(1)) },
            extracted,
        })
    }
}

impl<'a> Run<'a> {
    /// The current record.
    #[inline(always)]
    pub(crate) fn record(&self) -> Option<RecordRef<'a>> {
        let record = self.found.current()?;
        Some(RecordRef { timestamp: self.extracted.unwrap_or(record.timestamp), ..record })
    }

    /// Counts the current record as taken and moves on, if another one may be.
    #[inline(always)]
    pub(crate) fn step(&mut self) -> bool {
        let next = self.found.next_timestamp().map(|time| time.max(*self.head_time));
        let Some(next) = next.filter(|time| *time <= self.latest && self.left > 0) else { return false };
        self.left -= 1;
        *self.taken += 1;
        *self.time = *self.head_time;
        *self.head_time = next;
        self.found.advance();
        true
    }
}
