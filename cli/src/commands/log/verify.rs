//! Everything in a log is read, and compared with what was written.

use std::io::Write;

use clap::Args;
use headwater_core::{ErrorKind, Log, TopicSpec};
use headwater_storage::log::{Damage, ObservedLog, VerifiedPartition, Verifier};
use headwater_terminal::{Progress, Table, show, size};
use serde_json::json;

use super::super::{Session, counted, topic};
use crate::Failure;

/// What to verify.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  headwater log verify
  headwater log verify --topic readings --json

Reads every batch of every segment: its checksum, its records, whether offsets follow each other, and whether the index
agrees; and the journal, with all that was written since the last checkpoint. Changes nothing, and may run while the
log is written. Exit code 3 if anything is damaged: each place is named, with its file, byte and offset.")]
pub(crate) struct Verify {
    /// Only this topic; may be repeated
    #[arg(long, value_name = "TOPIC")]
    topic: Vec<String>,
    /// One JSON object per topic and per damage, for programs
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(
    verify: &Verify,
    log: &ObservedLog,
    session: &mut Session<'_>,
) -> Result<(), Failure> {
    let mut topics = Vec::new();
    for name in &verify.topic {
        topics.push(topic(log, name).await?);
    }
    if verify.topic.is_empty() {
        topics = log.topics().await?;
    }
    let verifier = Verifier::new(log);
    let mut bytes_total = 0;
    for partition in topics.iter().flat_map(TopicSpec::topic_partitions) {
        bytes_total += verifier.bytes(&partition)?;
    }
    let mut progress = Progress::begin("verify", Some(bytes_total), session.quiet);
    let mut found = Vec::new();
    for spec in &topics {
        let mut sum = VerifiedPartition::default();
        for partition in spec.topic_partitions() {
            let add = &mut |bytes, records| progress.add(bytes, records);
            let Some(one) = verifier.partition(&partition, add).await? else { continue };
            sum.segments += one.segments;
            sum.batches += one.batches;
            sum.records += one.records;
            sum.bytes += one.bytes;
            sum.damages.extend(one.damages);
        }
        found.push((spec, sum));
    }
    drop(progress);
    print(verify, &found, session.out)?;
    let damages = found.iter().map(|(_, sum)| sum.damages.len() as u64).sum();
    match damages {
        0 => match verifier.journal().await {
            Err(damage) if damage.kind() == ErrorKind::Corrupt => Err(Failure::Damaged(damage.report())),
            read => Ok(read?),
        },
        damages => Err(Failure::Damaged(format!(
            "{} found: restore the files that are named from a copy",
            counted(damages, "damage")
        ))),
    }
}

fn print(
    verify: &Verify,
    found: &[(&TopicSpec, VerifiedPartition)],
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let mut table = Table::new(&["TOPIC", "PARTITIONS", "SEGMENTS", "BATCHES", "RECORDS", "SIZE", "DAMAGES"]);
    for (spec, sum) in found {
        let (name, partitions, damages) = (spec.name.as_str(), spec.partitions, sum.damages.len());
        let VerifiedPartition { segments, batches, records, bytes, .. } = sum;
        if verify.json {
            let line = json!({ "topic": name, "partitions": partitions, "segments": segments, "batches": batches,
                "records": records, "bytes": bytes, "damages": damages });
            writeln!(out, "{line}")?;
            for damage in &sum.damages {
                writeln!(out, "{}", json(damage))?;
            }
        } else {
            table.row(&[&name, &partitions, segments, batches, records, &size(*bytes), &damages]);
        }
    }
    if verify.json {
        return Ok(());
    }
    table.print(out)?;
    for Damage { partition, file, byte, offset, what } in found.iter().flat_map(|(_, sum)| &sum.damages) {
        let offset = offset.map_or_else(|| "-".into(), |offset| offset.to_string());
        writeln!(
            out,
            "\n{partition}, offset {offset}: {}\n  {}, byte {byte}",
            show::escaped(what),
            file.display()
        )?;
    }
    Ok(())
}

fn json(damage: &Damage) -> serde_json::Value {
    let Damage { partition, file, byte, offset, what } = damage;
    json!({ "damage": what, "topic": partition.topic.as_str(), "partition": partition.partition.0,
        "file": file.display().to_string(), "byte": byte, "offset": offset.map(|offset| offset.0) })
}
