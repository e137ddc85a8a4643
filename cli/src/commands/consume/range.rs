//! From where to where in a partition.

use std::str::FromStr;

use clap::Args;
use headwater_core::{Admin, GroupId, Offset, Timestamp, TopicPartition};
use headwater_terminal::time::Moment;

use crate::Failure;

/// Where to begin; in no more than one way.
#[derive(Debug, Args)]
#[command(next_help_heading = "Where it begins")]
#[group(multiple = false)]
pub(super) struct Start {
    /// From the first record that is still there; so it is when nothing else is said
    #[arg(long)]
    from_beginning: bool,
    /// From the end: only what comes from now on, with --follow
    #[arg(long)]
    from_end: bool,
    /// From this offset of the partition, or -5 for 5 before the end of each
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    offset: Option<From>,
    /// From the first record of each partition that is not older than this
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    time: Option<Moment>,
    /// From the position that this group has committed, without joining it; from the beginning where it has none
    #[arg(long, value_name = "ID")]
    group: Option<String>,
}

/// Where to end; without this, at the end as it is now.
#[derive(Debug, Args)]
#[command(next_help_heading = "Where it ends")]
#[group(multiple = false)]
pub(super) struct Until {
    /// Up to the first record of each partition that is not older than this, and without it
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    until: Option<Moment>,
    /// Up to this offset of the partition, and without it
    #[arg(long, value_name = "N")]
    until_offset: Option<u64>,
}

/// An offset, counted from the beginning or back from the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    Beginning(u64),
    End(u64),
}

impl FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |_| "an offset, or with a minus how many before the end".to_owned();
        match text.strip_prefix('-') {
            Some(count) => count.parse().map(Self::End).map_err(wrong),
            None => text.parse().map(Self::Beginning).map_err(wrong),
        }
    }
}

/// What is printed of a partition.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) partition: TopicPartition,
    /// The next offset to print.
    pub(super) at: Offset,
    /// The first that is not; `None` to follow the partition.
    pub(super) until: Option<Offset>,
}

impl Lane {
    pub(super) fn is_done(&self) -> bool {
        self.until.is_some_and(|until| self.at >= until)
    }

    pub(super) fn holds(&self, offset: Offset) -> bool {
        offset >= self.at && self.until.is_none_or(|until| offset < until)
    }
}

impl Start {
    /// Whether it means nothing to several partitions.
    pub(super) fn is_of_one_partition(&self) -> bool {
        matches!(self.offset, Some(From::Beginning(_)))
    }

    pub(super) async fn find(
        &self,
        log: &dyn Admin,
        partition: &TopicPartition,
        now: Timestamp,
    ) -> Result<Offset, Failure> {
        let there = log.offsets(partition).await?;
        match self.offset {
            Some(From::End(count)) => {
                return Ok(Offset(there.end.0.saturating_sub(count)).max(there.earliest));
            }
            Some(From::Beginning(offset)) => {
                let offset = Offset(offset);
                if offset < there.earliest || offset > there.end {
                    return Err(Failure::usage(format!(
                        "there is no such offset: choose one from earliest to end. partition={partition}, offset={offset}, earliest={}, end={}",
                        there.earliest, there.end
                    )));
                }
                return Ok(offset);
            }
            None => {}
        }
        if self.from_end {
            return Ok(there.end);
        }
        if let Some(time) = self.time {
            let found = log.offset_at(partition, time.at(now)).await?;
            return Ok(found.map_or(there.end, |found| found.offset));
        }
        let Some(group) = &self.group else { return Ok(there.earliest) };
        let committed = log.committed(&GroupId(group.clone()), partition).await?;
        // A position may have been overtaken by retention.
        Ok(committed.map_or(there.earliest, |committed| committed.offset.max(there.earliest)))
    }
}

impl Until {
    /// Whether it means nothing to several partitions.
    pub(super) fn is_of_one_partition(&self) -> bool {
        self.until_offset.is_some()
    }

    pub(super) async fn find(
        &self,
        log: &dyn Admin,
        partition: &TopicPartition,
        now: Timestamp,
    ) -> Result<Offset, Failure> {
        let end = log.offsets(partition).await?.end;
        if let Some(until) = self.until {
            let found = log.offset_at(partition, until.at(now)).await?;
            return Ok(found.map_or(end, |found| found.offset.min(end)));
        }
        Ok(self.until_offset.map_or(end, |until| Offset(until).min(end)))
    }
}
