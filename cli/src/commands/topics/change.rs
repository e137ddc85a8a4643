//! Topics are made, changed and deleted.

use std::num::NonZeroU32;

use clap::Args;
use headwater_core::{Admin, Result, TopicChanges, TopicSpec};
use headwater_terminal::Table;
use serde_json::json;

use super::{
    super::{confirm, counted, find_topic, key_value},
    Session, records_of, topic,
};
use crate::Failure;

/// Which topic to make.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  headwater topics create readings --partitions 4
  headwater topics create latest --config cleanup.policy=compact --config compression.type=zstd
  headwater topics create readings --partitions 4 --if-not-exists

Settings have Kafka's names: cleanup.policy, compression.type, delete.retention.ms, max.message.bytes,
message.timestamp.type, min.cleanable.dirty.ratio, min.compaction.lag.ms, retention.bytes, retention.ms,
segment.bytes, segment.ms. Nothing is deleted by age unless retention.ms says so.")]
pub(crate) struct Create {
    /// Its name: up to 249 of a-z A-Z 0-9 . _ -
    topic: String,
    /// How many partitions it has: as many tasks can share the work on it
    #[arg(long, value_name = "N", default_value = "1")]
    partitions: NonZeroU32,
    /// A setting; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = key_value)]
    config: Vec<(String, String)>,
    /// A topic of this name that is there already is fine, whatever its settings
    #[arg(long)]
    if_not_exists: bool,
    /// One JSON object, for programs
    #[arg(long)]
    json: bool,
}

/// What to change of a topic.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  headwater topics alter readings --config retention.ms=604800000
  headwater topics alter readings --reset retention.ms
  headwater topics alter readings --partitions 8

More partitions move no records: what was written for a key stays in the partition where it is, and what comes next
may go to another one.")]
pub(crate) struct Alter {
    /// Its name
    topic: String,
    /// A setting and its new value; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = key_value)]
    config: Vec<(String, String)>,
    /// A setting that shall have its default again; may be repeated
    #[arg(long, value_name = "NAME")]
    reset: Vec<String>,
    /// How many partitions it shall have: more than now
    #[arg(long, value_name = "N")]
    partitions: Option<NonZeroU32>,
    /// One JSON object, for programs
    #[arg(long)]
    json: bool,
}

/// Which topics to delete.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  headwater topics delete readings
  headwater topics delete readings averages --yes")]
pub(crate) struct Delete {
    /// Their names
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    /// Do not ask; without a terminal this must be said
    #[arg(long, short)]
    yes: bool,
}

pub(super) async fn create(what: &Create, log: &dyn Admin, session: &mut Session<'_>) -> Result<(), Failure> {
    let mut wanted = TopicSpec::new(&what.topic, what.partitions.get())?;
    for (key, value) in &what.config {
        wanted.config.set(key, value)?;
    }
    let there = find_topic(log, &what.topic).await?;
    let created = there.is_none();
    match there {
        Some(there) if !what.if_not_exists => {
            return Err(Failure::usage(format!(
                "there is a topic of this name already: change it with `headwater topics alter`, or say --if-not-exists. topic={}, partitions={}",
                there.name, there.partitions
            )));
        }
        // The log checks that it has as many partitions.
        _ => log.create_topic(&wanted).await?,
    }
    let (name, partitions) = (&wanted.name, wanted.partitions);
    if what.json {
        let line = json!({ "topic": name.as_str(), "partitions": partitions, "created": created });
        return Ok(writeln!(session.out, "{line}")?);
    }
    let number = counted(partitions.get().into(), "partition");
    let became = if created { "created" } else { "was there already" };
    Ok(writeln!(session.out, "topic {name} {became}: {number}")?)
}

pub(super) async fn alter(what: &Alter, log: &dyn Admin, session: &mut Session<'_>) -> Result<(), Failure> {
    let before = topic(log, &what.topic).await?;
    let set = what.config.iter().map(|(key, value)| (key.clone(), Some(value.clone())));
    let reset = what.reset.iter().map(|key| (key.clone(), None));
    let changes = TopicChanges { partitions: what.partitions, settings: set.chain(reset).collect() };
    if changes == TopicChanges::default() {
        return Err(Failure::usage("nothing to change: say --config, --reset or --partitions"));
    }
    let after = log.alter_topic(&before.name, &changes).await?;
    let mut changed: Vec<(&str, String, String)> = Vec::new();
    if before.partitions != after.partitions {
        changed.push(("partitions", before.partitions.to_string(), after.partitions.to_string()));
    }
    let settings = before.config.entries().zip(after.config.entries());
    changed.extend(settings.filter(|(old, new)| old != new).map(|((key, old), (_, new))| (key, old, new)));
    if what.json {
        let changed: Vec<_> = changed
            .iter()
            .map(|(what, old, new)| json!({ "setting": what, "old": old, "new": new }))
            .collect();
        let line = json!({ "topic": after.name.as_str(), "changed": changed });
        return Ok(writeln!(session.out, "{line}")?);
    }
    if changed.is_empty() {
        return Ok(writeln!(session.out, "topic {} is so already: nothing changed", after.name)?);
    }
    let mut table = Table::new(&["SETTING", "OLD", "NEW"]);
    for (setting, old, new) in &changed {
        table.row(&[setting, old, new]);
    }
    Ok(table.print(session.out)?)
}

pub(super) async fn delete(what: &Delete, log: &dyn Admin, session: &mut Session<'_>) -> Result<(), Failure> {
    // All of them are looked up before the first is gone.
    let mut doomed = Vec::new();
    for name in &what.topics {
        let spec = topic(log, name).await?;
        let records = records_of(log, &spec).await?;
        doomed.push((spec.name, records));
    }
    doomed.sort();
    doomed.dedup();
    let named: Vec<_> =
        doomed.iter().map(|(name, records)| format!("{name} with {}", counted(*records, "record"))).collect();
    confirm(what.yes, format_args!("delete topic {}", named.join(", ")), session)?;
    for (name, records) in doomed {
        log.delete_topic(&name).await?;
        writeln!(session.out, "topic {name} deleted: {}", counted(records, "record"))?;
    }
    Ok(())
}
