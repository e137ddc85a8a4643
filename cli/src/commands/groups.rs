//! `headwater groups`: how far readers are, and where they go on.

mod reset;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
};

use clap::{Args, Subcommand};
use headwater_core::{Admin, Committed, GroupId, Offset, Result, TopicPartition};
use headwater_terminal::{Table, show};
use serde_json::{Value, json};

use self::reset::Reset;
use super::{Session, confirm, counted};
use crate::{Failure, open::Access};

/// What to do with groups.
#[derive(Debug, Subcommand)]
pub(crate) enum Groups {
    /// Show all groups that have committed something
    List(List),
    /// Show what a group has committed, and how far it is behind
    Describe(Describe),
    /// Show where a group would go on, and with --execute let it
    ResetOffsets(Reset),
    /// Delete groups and all that they have committed
    Delete(Delete),
}

/// How to list groups.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  headwater groups list
  headwater groups list --json | jq -r 'select(.lag > 1000).group'

LAG is how many records there are behind what a group has committed, in the partitions where it has.")]
pub(crate) struct List {
    /// One JSON object per group and line, for programs
    #[arg(long)]
    json: bool,
}

/// Which group to describe, and how.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  headwater groups describe dashboard
  headwater groups describe dashboard --json | jq .lag")]
pub(crate) struct Describe {
    /// Its name
    group: String,
    /// One JSON object per partition and line, for programs
    #[arg(long)]
    json: bool,
}

/// Which groups to delete.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  headwater groups delete dashboard --yes")]
pub(crate) struct Delete {
    /// Their names
    #[arg(required = true, value_name = "GROUP")]
    groups: Vec<String>,
    /// Do not ask; without a terminal this must be said
    #[arg(long, short)]
    yes: bool,
}

impl Groups {
    pub(super) fn access(&self) -> Access {
        match self {
            Self::List(_) | Self::Describe(_) => Access::Look,
            Self::ResetOffsets(reset) => reset.access(),
            Self::Delete(_) => Access::Write,
        }
    }
}

pub(super) async fn run(groups: &Groups, log: &dyn Admin, session: &mut Session<'_>) -> Result<(), Failure> {
    match groups {
        Groups::List(how) => list(how, log, session.out).await,
        Groups::Describe(what) => describe(what, log, session.out).await,
        Groups::ResetOffsets(what) => reset::run(what, log, session).await,
        Groups::Delete(what) => delete(what, log, session).await,
    }
}

async fn list(how: &List, log: &dyn Admin, out: &mut dyn Write) -> Result<(), Failure> {
    let mut table = Table::new(&["GROUP", "TOPICS", "LAG"]);
    for group in log.groups().await? {
        let (mut lag, mut topics) = (0, BTreeSet::new());
        for (partition, committed) in log.positions(&group).await? {
            lag += behind(end(log, &partition).await?, committed.offset);
            topics.insert(partition.topic);
        }
        let topics: Vec<_> = topics.iter().map(headwater_core::TopicName::as_str).collect();
        if how.json {
            writeln!(out, "{}", json!({ "group": group.0, "topics": topics, "lag": lag }))?;
        } else {
            table.row(&[&show::escaped(&group.0), &topics.join(","), &lag]);
        }
    }
    if !how.json {
        table.print(out)?;
    }
    Ok(())
}

async fn describe(what: &Describe, log: &dyn Admin, out: &mut dyn Write) -> Result<(), Failure> {
    let positions = positions(log, &what.group).await?;
    let mut table = Table::new(&["TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "METADATA"]);
    for (partition, Committed { offset, metadata }) in positions {
        let end = end(log, &partition).await?;
        let lag = behind(end, offset);
        let (topic, number) = (partition.topic.as_str(), partition.partition);
        if what.json {
            let metadata: Value = serde_json::from_str(&show::json(&metadata)).unwrap_or_default();
            let line = json!({ "group": what.group, "topic": topic, "partition": number.0, "committed": offset.0,
                "end": end.0, "lag": lag, "metadata": metadata });
            writeln!(out, "{line}")?;
        } else {
            let metadata = if metadata.is_empty() { "-".into() } else { show::text(&metadata) };
            table.row(&[&topic, &number, &offset, &end, &lag, &metadata]);
        }
    }
    if !what.json {
        table.print(out)?;
    }
    Ok(())
}

async fn delete(what: &Delete, log: &dyn Admin, session: &mut Session<'_>) -> Result<(), Failure> {
    // All of them are looked up before the first is gone.
    let mut doomed = BTreeMap::new();
    for group in &what.groups {
        doomed.insert(group, positions(log, group).await?.len() as u64);
    }
    let named: Vec<_> = doomed
        .iter()
        .map(|(group, count)| format!("{} with {}", show::escaped(group), counted(*count, "position")))
        .collect();
    confirm(what.yes, format_args!("delete group {}", named.join(", ")), session)?;
    for (group, count) in doomed {
        log.delete_group(&GroupId(group.clone())).await?;
        writeln!(session.out, "group {} deleted: {}", show::escaped(group), counted(count, "position"))?;
    }
    Ok(())
}

/// All that a group has committed, by partition.
async fn positions(log: &dyn Admin, group: &str) -> Result<Vec<(TopicPartition, Committed)>, Failure> {
    let positions = log.positions(&GroupId(group.into())).await?;
    if positions.is_empty() {
        return Err(Failure::usage(format!(
            "there is no such group, or it has committed nothing: `headwater groups list` shows which there are. group={}",
            group.escape_debug()
        )));
    }
    Ok(positions)
}

async fn end(log: &dyn Admin, partition: &TopicPartition) -> Result<Offset> {
    Ok(log.offsets(partition).await?.end)
}

fn behind(end: Offset, committed: Offset) -> u64 {
    end.0.saturating_sub(committed.0)
}
