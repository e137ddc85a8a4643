//! What a replay came to.

use std::{collections::BTreeMap, fmt, time::Duration};

use headwater_core::{Timestamp, date_of_day};
use serde::{Serialize, Serializer};

use super::plan::Phase;

/// What a replay came to. Prints itself as a table.
///
/// Numbers of records are exact whatever happened on the way, and count over all runs that it took. Those of what was left out
/// lack what a run had counted that ended by a crash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether all of it was done; if not, it can go on.
    pub finished: bool,
    /// What it was doing when it ended.
    pub phase: Phase,
    /// Records of the range that were taken from each source topic.
    pub sources: BTreeMap<String, u64>,
    /// Records that were written to each output topic. One that the topology also reads has those of the warm-up, too.
    pub outputs: BTreeMap<String, u64>,
    /// Records that were taken before the range, to fill tables, windows and joins.
    pub before: BTreeMap<String, u64>,
    /// Records that these would have written to each output topic, and did not; without those of a run that failed or was killed.
    pub dropped: BTreeMap<String, u64>,
    /// Records of all phases that were left out of a window, as [`TaskMetrics::late`](crate::TaskMetrics::late).
    pub late: u64,
    /// Records of all phases that were left out because they failed.
    pub skipped: u64,
    /// Records of all phases that failed and became dead letters.
    pub dead_letters: u64,
    /// Records of all phases that had no key to be grouped or joined by.
    pub null_keys: u64,
    /// Records of all phases that had no value to be joined.
    pub null_values: u64,
    /// Where the range begins; `None` is the earliest record.
    pub from: Option<Timestamp>,
    /// Where the range ends; `None` is the end as it was when the plan was made.
    pub until: Option<Timestamp>,
    /// The highest timestamp that was taken of the range.
    pub reached: Option<Timestamp>,
    /// How long it took, in all runs that ended in order; in milliseconds for serde.
    #[serde(rename = "duration_ms", serialize_with = "millis")]
    pub duration: Duration,
}

fn millis<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |time: Option<Timestamp>, none: &'static str| match time {
            Some(time) => Utc(time).to_string(),
            None => none.to_owned(),
        };
        let state = if self.finished { "finished".to_owned() } else { format!("stopped in {}", self.phase) };
        writeln!(f, "replay {state} after {:.3} s", self.duration.as_secs_f64())?;
        writeln!(f, "from    {}", time(self.from, "the earliest record"))?;
        writeln!(f, "until   {}", time(self.until, "the end"))?;
        writeln!(f, "reached {}", time(self.reached, "nothing"))?;
        let lists = [
            ("before the range", &self.before),
            ("not written", &self.dropped),
            ("read", &self.sources),
            ("written", &self.outputs),
        ];
        let names = lists.iter().flat_map(|(_, list)| list.keys());
        let width = names.map(String::len).max().unwrap_or(0).max(5);
        writeln!(f, "{:<16} {:<width$} {:>14}", "", "topic", "records")?;
        for (what, list) in lists {
            for (topic, records) in list {
                writeln!(f, "{what:<16} {topic:<width$} {records:>14}")?;
            }
        }
        let counts = [
            ("late", self.late),
            ("skipped", self.skipped),
            ("dead letters", self.dead_letters),
            ("without key", self.null_keys),
            ("without value", self.null_values),
        ];
        for (what, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
            writeln!(f, "{what:<16} {:<width$} {count:>14}", "")?;
        }
        Ok(())
    }
}

/// A time as people read it: `2024-03-01T08:15:00.250Z`.
pub(super) struct Utc(pub(super) Timestamp);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, millis) = (self.0.0.div_euclid(86_400_000), self.0.0.rem_euclid(86_400_000));
        let (year, month, day) = date_of_day(days);
        let (seconds, millis) = (millis / 1_000, millis % 1_000);
        let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_as_people_read_them() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_280_900_250, "2024-03-01T08:15:00.250Z"),
            (1_735_689_599_999, "2024-12-31T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(Utc(Timestamp(millis)).to_string(), text);
        }
    }
}
