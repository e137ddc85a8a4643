//! Where a replay begins and ends, as people say it.

use std::{collections::BTreeMap, time::Duration};

use headwater_core::{Offset, Timestamp, TopicPartition};

/// Where a replay begins or ends.
///
/// A time is that of the records, to the millisecond, and says nothing about where they lie: one at a later offset with an
/// earlier time belongs where its time says. It is the timestamp that a record has in the log, also for a source that
/// finds another in it ([`Consumed::timestamps`](crate::Consumed::timestamps)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Position {
    /// With the first record that there is. No end.
    Earliest,
    /// With the last record that there is when the plan is made. No beginning.
    End,
    /// At these offsets: with them as a beginning, before them as an end. Source partitions that are not named begin at the time
    /// of the earliest record of those that are, and end where they end when the plan is made.
    Offsets(BTreeMap<TopicPartition, Offset>),
    /// With records of this time as a beginning, before them as an end.
    Time(Timestamp),
    /// As [`Position::Time`], so long before the plan is made.
    Ago(Duration),
}

/// What is replayed, and how.
///
/// ```
/// use std::time::Duration;
/// use headwater_core::Timestamp;
/// use headwater_streams::replay::{Options, Position};
/// let last_day = Options {
///     from: Position::Ago(Duration::from_secs(86_400)),
///     warm_up: Duration::from_secs(3_600),
///     ..Options::default()
/// };
/// assert_eq!(last_day.until, Position::End);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// The first records of the range.
    pub from: Position,
    /// Where the range ends; what lies there is not in it.
    pub until: Position,
    /// How long before the range records are processed to fill windows and joins. What they write to output topics is dropped.
    /// Tables are filled from their beginning in any case.
    pub warm_up: Duration,
    /// How many times as fast as it happened; `None` is as fast as it goes.
    pub pace: Option<f64>,
    /// Whether windows that are open at the end are closed, as if time went on for ever.
    pub close_windows: bool,
}

impl Default for Options {
    /// All that there is, as fast as it goes.
    fn default() -> Self {
        Self {
            from: Position::Earliest,
            until: Position::End,
            warm_up: Duration::ZERO,
            pace: None,
            close_windows: false,
        }
    }
}
