//! `headwater topics`: which topics there are, what is in their partitions, and how they change.

mod change;

use std::io::Write;

use clap::{Args, Subcommand};
use headwater_core::{
    Admin, Log, Offset, PartitionOffsets, Result, Timestamp, TopicConfig, TopicPartition, TopicSpec,
};
use headwater_terminal::{Table, size, time::rfc3339};
use serde_json::json;

use self::change::{Alter, Create, Delete};
use super::{Session, topic};
use crate::{Failure, open::Access};

/// What to do with topics.
#[derive(Debug, Subcommand)]
pub(crate) enum Topics {
    /// Make a topic, and the log if there is none yet
    Create(Create),
    /// Show all topics
    List(List),
    /// Show the partitions and settings of a topic
    Describe(Describe),
    /// Change the settings of a topic, or add partitions to it
    Alter(Alter),
    /// Delete topics, their records, and what groups have committed in them
    Delete(Delete),
}

/// How to list topics.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  headwater topics list
  headwater topics list --json | jq -r .topic")]
pub(crate) struct List {
    /// One JSON object per topic and line, for programs
    #[arg(long)]
    json: bool,
}

/// Which topic to describe, and how.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  headwater topics describe readings
  headwater topics describe readings --json | jq '.partitions[].end'

RECORDS counts offsets: of a compacted topic some of them are gone. SIZE is what batches take as they are
kept, without indexes; deleted records count until all of their segment goes. NEWEST is the latest time in the last
batch.")]
pub(crate) struct Describe {
    /// Its name
    topic: String,
    /// One JSON object, for programs
    #[arg(long)]
    json: bool,
}

impl Topics {
    pub(super) fn access(&self) -> Access {
        match self {
            Self::List(_) | Self::Describe(_) => Access::Look,
            Self::Create(_) => Access::Create,
            Self::Alter(_) | Self::Delete(_) => Access::Write,
        }
    }
}

pub(super) async fn run(topics: &Topics, log: &dyn Admin, session: &mut Session<'_>) -> Result<(), Failure> {
    match topics {
        Topics::Create(what) => change::create(what, log, session).await,
        Topics::List(how) => list(how, log, session.out).await,
        Topics::Describe(what) => describe(what, log, session.out).await,
        Topics::Alter(what) => change::alter(what, log, session).await,
        Topics::Delete(what) => change::delete(what, log, session).await,
    }
}

async fn list(how: &List, log: &dyn Admin, out: &mut dyn Write) -> Result<(), Failure> {
    let mut table = Table::new(&["TOPIC", "PARTITIONS", "RECORDS", "CLEANUP"]);
    for spec in log.topics().await? {
        let records = records_of(log, &spec).await?;
        let (name, partitions, cleanup) =
            (spec.name.as_str(), spec.partitions, spec.config.cleanup_policy.to_string());
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

async fn describe(what: &Describe, log: &dyn Admin, out: &mut dyn Write) -> Result<(), Failure> {
    let spec = topic(log, &what.topic).await?;
    let mut rows = Vec::new();
    for partition in spec.topic_partitions() {
        let offsets = log.offsets(&partition).await?;
        let (newest, bytes) = (newest(log, &partition, offsets).await?, log.size(&partition).await?);
        rows.push((partition.partition, offsets, newest, bytes));
    }
    let defaults = TopicConfig::default();
    let differs = |key: &str| spec.config.get(key) != defaults.get(key);
    if what.json {
        let partitions: Vec<_> = rows
            .iter()
            .map(|(number, at, newest, bytes)| {
                json!({ "partition": number.0, "earliest": at.earliest.0, "end": at.end.0, "records": records(at),
                    "bytes": bytes, "newest": newest.map(|time| time.0), "newest_time": newest.map(rfc3339) })
            })
            .collect();
        let settings: serde_json::Map<_, _> =
            spec.config.entries().map(|(key, value)| (key.into(), value.into())).collect();
        let changed: Vec<_> = TopicConfig::KEYS.into_iter().filter(|key| differs(key)).collect();
        let topic = json!({ "topic": spec.name.as_str(), "partitions": partitions, "settings": settings, "changed": changed });
        return Ok(writeln!(out, "{topic}")?);
    }
    writeln!(out, "{}\n", spec.name)?;
    let mut table = Table::new(&["PARTITION", "EARLIEST", "END", "RECORDS", "SIZE", "NEWEST"]);
    for (number, at, newest, bytes) in &rows {
        let newest = newest.map_or_else(|| "-".into(), rfc3339);
        table.row(&[number, &at.earliest, &at.end, &records(at), &size(*bytes), &newest]);
    }
    table.print(out)?;
    writeln!(out)?;
    let mut table = Table::new(&["SETTING", "VALUE", "DEFAULT, WHERE IT DIFFERS"]);
    for (key, value) in spec.config.entries() {
        let default = defaults.get(key).filter(|_| differs(key)).unwrap_or_default();
        table.row(&[&key, &value, &default]);
    }
    Ok(table.print(out)?)
}

/// Of all its partitions; compaction may have taken some, which only reading them all would tell.
async fn records_of(log: &dyn Log, spec: &TopicSpec) -> Result<u64> {
    let mut sum = 0;
    for partition in spec.topic_partitions() {
        sum += records(&log.offsets(&partition).await?);
    }
    Ok(sum)
}

fn records(offsets: &PartitionOffsets) -> u64 {
    offsets.end.0.saturating_sub(offsets.earliest.0)
}

/// The latest time in the last batch.
async fn newest(
    log: &dyn Log,
    partition: &TopicPartition,
    offsets: PartitionOffsets,
) -> Result<Option<Timestamp>> {
    if records(&offsets) == 0 {
        return Ok(None);
    }
    let fetched = log.read(partition, Offset(offsets.end.0 - 1), 0).await?;
    Ok(fetched.batches.first().map(headwater_core::RecordBatch::max_timestamp))
}
