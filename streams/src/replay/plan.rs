//! What a replay reads, resolved: of each source partition, in which phases.

use std::{collections::BTreeMap, fmt, time::Duration};

use headwater_core::{Error, Offset, Partition, Result, Timestamp, TopicName, TopicPartition};
use serde::{Deserialize, Serialize};

use super::{cut::Cut, report::Utc};

/// A part of a replay, which is over before the next one begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Tables are filled.
    Tables,
    /// Windows and joins are filled.
    WarmUp,
    /// What was asked for.
    Range,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tables => "tables",
            Self::WarmUp => "warm-up",
            Self::Range => "range",
        })
    }
}

/// The range of a replay, as it was resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// Records of this time and later ones; `None` when it begins with the earliest record. Where it begins at offsets, this is
    /// the time of the earliest record there.
    pub from: Option<Timestamp>,
    /// Records before this time; `None` when it ends at offsets.
    pub until: Option<Timestamp>,
    /// The offsets between which each source partition is looked at.
    pub offsets: BTreeMap<TopicPartition, std::ops::Range<Offset>>,
}

/// What a replay does, with every position resolved, so that it can be stopped and go on, and be done again. Prints itself as
/// a table; what serde makes of it is what it is made from again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub(super) application_id: String,
    /// The topology, as it describes itself.
    pub(super) topology: String,
    /// When the plan was made.
    pub(super) made: Timestamp,
    pub(super) from: Option<Timestamp>,
    pub(super) until: Option<Timestamp>,
    pub(super) warm_up: Duration,
    pub(super) pace: Option<f64>,
    pub(super) close_windows: bool,
    pub(super) phases: Vec<Phase>,
    pub(super) sources: Vec<Source>,
}

/// One source partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Source {
    pub(super) topic: String,
    pub(super) partition: Partition,
    /// Whether it does nothing but fill tables.
    pub(super) is_table: bool,
    /// One for each phase.
    pub(super) cuts: Vec<Cut>,
}

impl Source {
    /// # Errors
    /// `Invalid` when a stored plan has an illegal name.
    pub(super) fn partition(&self) -> Result<TopicPartition> {
        Ok(TopicPartition::new(TopicName::new(&self.topic)?, self.partition))
    }
}

impl Plan {
    /// What is replayed, without what comes before it.
    ///
    /// # Errors
    /// `Invalid` when the plan was stored, and changed into one that names illegal topics.
    pub fn range(&self) -> Result<Range> {
        let offsets = self.sources.iter().map(|source| {
            let cut = source.cuts.last().copied().unwrap_or(Cut::nothing(Offset(0)));
            Ok((source.partition()?, cut.begin..cut.end))
        });
        Ok(Range { from: self.from, until: self.until, offsets: offsets.collect::<Result<_>>()? })
    }

    /// The parts that it is done in.
    #[must_use]
    pub fn phases(&self) -> &[Phase] {
        &self.phases
    }

    /// How long before the range records are processed.
    #[must_use]
    pub fn warm_up(&self) -> Duration {
        self.warm_up
    }

    /// Whether windows are closed at the end.
    #[must_use]
    pub fn closes_windows(&self) -> bool {
        self.close_windows
    }

    /// The topics that are read from the source.
    pub fn topics(&self) -> impl Iterator<Item = &str> {
        let mut topics: Vec<&str> = self.sources.iter().map(|source| &*source.topic).collect();
        topics.dedup();
        topics.into_iter()
    }

    /// The same at another pace: a replay that goes on may go on faster.
    ///
    /// # Errors
    /// `Invalid` when the pace is not above 0.
    pub fn with_pace(mut self, pace: Option<f64>) -> Result<Self> {
        check_pace(pace)?;
        self.pace = pace;
        Ok(self)
    }

    /// Whether both read the same for the same topology, at whatever pace.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        Self { pace: None, ..self.clone() } == Self { pace: None, ..other.clone() }
    }

    /// A plan that was stored may be anything.
    pub(super) fn check(&self) -> Result<()> {
        check_pace(self.pace)?;
        let is_whole = self.phases.last() == Some(&Phase::Range)
            && self.phases.is_sorted_by(|a, b| a < b)
            && self.sources.iter().all(|source| source.cuts.len() == self.phases.len());
        if !is_whole {
            return Err(Error::invalid("not a whole plan of a replay: make it anew with `Plan::resolve`"));
        }
        self.sources.iter().try_for_each(|source| source.partition().map(drop))
    }
}

pub(super) fn check_pace(pace: Option<f64>) -> Result<()> {
    match pace {
        Some(pace) if !(pace.is_finite() && pace > 0.0) => Err(Error::invalid(format!(
            "a pace is a number above 0: 1 is as fast as it happened. pace={pace}"
        ))),
        _ => Ok(()),
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |time: Option<Timestamp>, none: &'static str| match time {
            Some(time) => Utc(time).to_string(),
            None => none.to_owned(),
        };
        writeln!(f, "replay of {}", self.application_id)?;
        writeln!(f, "from {}", time(self.from, "the earliest record"))?;
        writeln!(f, "until {}", time(self.until, "the end"))?;
        if let Some(pace) = self.pace {
            writeln!(f, "at {pace} times the pace of its events")?;
        }
        let width = self.sources.iter().map(|source| source.topic.len()).max().unwrap_or(0).max(5) + 6;
        writeln!(
            f,
            "{:<8} {:<width$} {:>14} {:>14}  times",
            "phase", "partition", "from offset", "to offset"
        )?;
        for (number, phase) in self.phases.iter().enumerate() {
            for source in &self.sources {
                let Some(cut) = source.cuts.get(number).filter(|cut| !cut.is_empty()) else { continue };
                let partition = format!("{}-{}", source.topic, source.partition);
                write!(f, "{phase:<8} {partition:<width$} {:>14} {:>14}", cut.begin.0, cut.end.0)?;
                match (cut.from, cut.until) {
                    (None, None) => writeln!(f, "  all")?,
                    (Some(from), None) => writeln!(f, "  from {}", Utc(from))?,
                    (None, Some(until)) => writeln!(f, "  before {}", Utc(until))?,
                    (Some(from), Some(until)) => writeln!(f, "  {} .. {}", Utc(from), Utc(until))?,
                }
            }
        }
        Ok(())
    }
}
