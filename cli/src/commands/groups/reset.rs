//! Groups are sent back or forward.

use clap::Args;
use headwater_core::{
    Admin, Committed, GroupId, Offset, PartitionOffsets, Positions, Timestamp, TopicPartition,
};
use headwater_terminal::{
    Table, show,
    time::{Moment, TIME_HELP},
};
use serde_json::json;

use super::{
    super::{partition, topic},
    Session, behind,
};
use crate::{Failure, open::Access};

/// Which group goes where.
#[derive(Debug, Args)]
#[command(after_help = format!("{RESET_HELP}\n\n{TIME_HELP}"))]
pub(crate) struct Reset {
    /// Its name; it need not have committed anything yet
    group: String,
    /// In this topic; may be repeated
    #[arg(long, value_name = "TOPIC", required = true)]
    topic: Vec<String>,
    /// Only in this partition
    #[arg(long, value_name = "N")]
    partition: Option<u32>,
    /// Do it, and not only show it
    #[arg(long)]
    execute: bool,
    /// One JSON object per partition and line, for programs
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    to: To,
}

const RESET_HELP: &str = "\
Examples:
  headwater groups reset-offsets dashboard --topic readings --to-earliest
  headwater groups reset-offsets dashboard --topic readings --to-time '2h ago' --execute
  headwater groups reset-offsets dashboard --topic readings --partition 0 --shift-by -100 --execute

As with Kafka's tool nothing is changed unless --execute is said. An offset that is not there any more, or not yet,
becomes the nearest one that is. What the group kept with its positions is forgotten: a streams application that is
sent back reads again, and its state stays as it is.";

/// Where to, in exactly one way.
#[derive(Debug, Args)]
#[command(next_help_heading = "Where to")]
#[group(required = true, multiple = false)]
struct To {
    /// To the first record that is still there
    #[arg(long)]
    to_earliest: bool,
    /// To the end
    #[arg(long)]
    to_latest: bool,
    /// To this offset
    #[arg(long, value_name = "N")]
    to_offset: Option<u64>,
    /// To the first record that is not older than this
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    to_time: Option<Moment>,
    /// So many records forward, or back when it is negative
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    shift_by: Option<i64>,
}

/// A position before and after.
struct Move {
    partition: TopicPartition,
    old: Option<Offset>,
    new: Offset,
    end: Offset,
}

impl Reset {
    pub(super) fn access(&self) -> Access {
        if self.execute { Access::Write } else { Access::Look }
    }
}

pub(super) async fn run(reset: &Reset, log: &dyn Admin, session: &mut Session<'_>) -> Result<(), Failure> {
    let group = GroupId(reset.group.clone());
    let now = session.clock.now();
    let mut moves: Vec<Move> = Vec::new();
    for name in &reset.topic {
        let spec = topic(log, name).await?;
        let partitions: Vec<_> = match reset.partition {
            Some(number) => vec![partition(&spec, number)?],
            None => spec.topic_partitions().collect(),
        };
        for partition in partitions {
            if moves.iter().all(|other| other.partition != partition) {
                moves.push(reset.to.decide(log, &group, partition, now).await?);
            }
        }
    }
    if reset.execute {
        let at = |offset| Committed { offset, metadata: bytes::Bytes::new() };
        let committed = moves.iter().map(|moved| (moved.partition.clone(), at(moved.new))).collect();
        log.commit_positions(&Positions::new(group, committed)).await?;
    }
    print(reset, &moves, session)
}

impl To {
    async fn decide(
        &self,
        log: &dyn Admin,
        group: &GroupId,
        partition: TopicPartition,
        now: Timestamp,
    ) -> Result<Move, Failure> {
        let PartitionOffsets { earliest, end } = log.offsets(&partition).await?;
        let old = log.committed(group, &partition).await?.map(|committed| committed.offset);
        let wanted = if self.to_earliest {
            earliest
        } else if let Some(offset) = self.to_offset {
            Offset(offset)
        } else if let Some(time) = self.to_time {
            log.offset_at(&partition, time.at(now)).await?.map_or(end, |found| found.offset)
        } else if let Some(shift) = self.shift_by {
            let old = old.ok_or_else(|| {
                Failure::usage(format!(
                    "the group has committed nothing there that could be shifted. group={}, partition={partition}",
                    group.0.escape_debug()
                ))
            })?;
            Offset(old.0.saturating_add_signed(shift))
        } else {
            end
        };
        Ok(Move { partition, old, new: wanted.clamp(earliest, end), end })
    }
}

fn print(reset: &Reset, moves: &[Move], session: &mut Session<'_>) -> Result<(), Failure> {
    let mut table = Table::new(&["TOPIC", "PARTITION", "OLD", "NEW", "LAG"]);
    for Move { partition, old, new, end } in moves {
        let (topic, number, lag) = (partition.topic.as_str(), partition.partition, behind(*end, *new));
        if reset.json {
            let line = json!({ "group": reset.group, "topic": topic, "partition": number.0, "old": old.map(|old| old.0),
                "new": new.0, "lag": lag, "executed": reset.execute });
            writeln!(session.out, "{line}")?;
        } else {
            let old = old.map_or_else(|| "-".into(), |old| old.to_string());
            table.row(&[&topic, &number, &old, new, &lag]);
        }
    }
    if reset.json {
        return Ok(());
    }
    table.print(session.out)?;
    let group = show::escaped(&reset.group);
    let note = match reset.execute {
        true => format!("group {group} goes on at NEW"),
        false => format!("nothing was changed: say --execute, and group {group} goes on at NEW"),
    };
    Ok(writeln!(session.out, "\n{note}")?)
}
