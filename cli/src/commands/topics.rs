//! `headwater topics`: which topics there are, and what is in their partitions.

use std::io::Write;

use clap::{Args, Subcommand};
use headwater_core::{CleanupPolicy, Log, PartitionOffsets, Result, TopicSpec};
use serde_json::json;

use super::topic;
use crate::{Failure, table::Table};

/// What to show of topics.
#[derive(Debug, Subcommand)]
pub(crate) enum Topics {
    /// Shows all topics.
    List(List),
    /// Shows the partitions of a topic.
    Describe(Describe),
}

/// How to list topics.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// One JSON object per topic and line, for programs.
    #[arg(long)]
    json: bool,
}

/// Which topic to describe, and how.
#[derive(Debug, Args)]
pub(crate) struct Describe {
    /// Its name.
    topic: String,
    /// One JSON object, for programs.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(topics: &Topics, log: &dyn Log, out: &mut dyn Write) -> Result<(), Failure> {
    match topics {
        Topics::List(how) => list(how, log, out).await,
        Topics::Describe(what) => describe(what, log, out).await,
    }
}

async fn list(how: &List, log: &dyn Log, out: &mut dyn Write) -> Result<(), Failure> {
    let mut table = Table::new(&["TOPIC", "PARTITIONS", "RECORDS", "CLEANUP"]);
    for spec in log.topics().await? {
        let records: u64 = offsets(log, &spec).await?.iter().map(records).sum();
        let (name, partitions, cleanup) = (spec.name.as_str(), spec.partitions, cleanup(&spec));
        if how.json {
            let line =
                json!({ "topic": name, "partitions": partitions, "records": records, "cleanup": cleanup });
            writeln!(out, "{line}")?;
        } else {
            table.row(&[&name, &partitions, &records, &cleanup]);
        }
    }
    if !how.json {
        table.print(out)?;
    }
    Ok(())
}

async fn describe(what: &Describe, log: &dyn Log, out: &mut dyn Write) -> Result<(), Failure> {
    let spec = topic(log, &what.topic).await?;
    let offsets = offsets(log, &spec).await?;
    let (name, cleanup, segment_bytes) = (spec.name.as_str(), cleanup(&spec), spec.config.segment_bytes);
    if what.json {
        let partitions: Vec<_> = (0..)
            .zip(&offsets)
            .map(|(partition, at): (u32, _)| {
                json!({ "partition": partition, "earliest": at.earliest.0, "end": at.end.0, "records": records(at) })
            })
            .collect();
        let topic = json!({ "topic": name, "cleanup": cleanup, "segment_bytes": segment_bytes, "partitions": partitions });
        return Ok(writeln!(out, "{topic}")?);
    }
    writeln!(out, "{name}: cleanup {cleanup}, segments of {segment_bytes} bytes\n")?;
    let mut table = Table::new(&["PARTITION", "EARLIEST", "END", "RECORDS"]);
    for (partition, at) in (0..).zip(&offsets) {
        let partition: u32 = partition;
        table.row(&[&partition, &at.earliest, &at.end, &records(at)]);
    }
    Ok(table.print(out)?)
}

/// Of all partitions, in order.
async fn offsets(log: &dyn Log, spec: &TopicSpec) -> Result<Vec<PartitionOffsets>> {
    let mut offsets = Vec::new();
    for partition in spec.topic_partitions() {
        offsets.push(log.offsets(&partition).await?);
    }
    Ok(offsets)
}

/// How many there are; compaction may have taken some, which only reading them all would tell.
fn records(offsets: &PartitionOffsets) -> u64 {
    offsets.end.0.saturating_sub(offsets.earliest.0)
}

fn cleanup(spec: &TopicSpec) -> &'static str {
    match spec.config.cleanup_policy {
        CleanupPolicy::Delete => "delete",
        CleanupPolicy::Compact => "compact",
        CleanupPolicy::CompactDelete => "compact,delete",
    }
}
