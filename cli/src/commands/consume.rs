//! `headwater consume`: prints the records of a topic. It commits nothing and disturbs nobody.

use std::io::Write;

use clap::Args;
use headwater_core::{Error, GroupId, Log, Offset, Partition, RecordRef, TopicPartition, TopicSpec};

use super::topic;
use crate::{
    Failure,
    show::{self, Columns, KeyKind},
};

/// Bytes asked for at once: enough for a disk to be busy, little enough to hold.
const READ_BYTES: usize = 1 << 20;

/// Which records to print, and how.
#[derive(Debug, Args)]
pub(crate) struct Consume {
    /// Name of the topic.
    topic: String,
    /// Only this partition.
    #[arg(long, value_name = "N")]
    partition: Option<u32>,
    /// From the first record that is still there. This is what happens when nothing else is asked for.
    #[arg(long, conflicts_with_all = ["offset", "group"])]
    from_beginning: bool,
    /// From this offset of the partition, which must be named unless it is the only one.
    #[arg(long, value_name = "N", conflicts_with = "group")]
    offset: Option<u64>,
    /// From the position that this group has committed; from the beginning where it has none.
    #[arg(long, value_name = "ID")]
    group: Option<String>,
    /// Only records with this key.
    #[arg(long, value_name = "TEXT")]
    key: Option<String>,
    /// Stop after so many records.
    #[arg(long, value_name = "N")]
    max: Option<u64>,
    /// Show keys too.
    #[arg(long)]
    keys: bool,
    /// Show keys too, which end with the start of a window, as those of windowed tables do.
    #[arg(long)]
    windowed_key: bool,
    /// Show headers too.
    #[arg(long)]
    headers: bool,
    /// One JSON object per record and line, with all there is to it, for programs.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(consume: &Consume, log: &dyn Log, out: &mut dyn Write) -> Result<(), Failure> {
    let spec = topic(log, &consume.topic).await?;
    let mut left = consume.max.unwrap_or(u64::MAX);
    for partition in consume.partitions(&spec)? {
        let from = consume.start(log, &partition).await?;
        print(consume, log, (&partition, from), &mut left, out).await?;
    }
    Ok(())
}

impl Consume {
    fn partitions(&self, spec: &TopicSpec) -> Result<Vec<TopicPartition>, Failure> {
        match self.partition {
            None if self.offset.is_some() && spec.partitions.get() > 1 => Err(usage(format!(
                "an offset is one of a partition: say which with --partition. topic={}, partitions={}",
                spec.name, spec.partitions
            ))),
            None => Ok(spec.topic_partitions().collect()),
            Some(number) if number < spec.partitions.get() => {
                Ok(vec![TopicPartition::new(spec.name.clone(), Partition(number))])
            }
            Some(number) => Err(usage(format!(
                "there is no such partition: they count from 0. topic={}, partition={number}, partitions={}",
                spec.name, spec.partitions
            ))),
        }
    }

    async fn start(&self, log: &dyn Log, partition: &TopicPartition) -> Result<Offset, Failure> {
        let there = log.offsets(partition).await?;
        if let Some(offset) = self.offset.map(Offset) {
            if offset < there.earliest || offset > there.end {
                return Err(usage(format!(
                    "there is no such offset: choose one from earliest to end. partition={partition}, offset={offset}, earliest={}, end={}",
                    there.earliest, there.end
                )));
            }
            return Ok(offset);
        }
        let Some(group) = &self.group else { return Ok(there.earliest) };
        let committed = log.committed(&GroupId(group.clone()), partition).await?;
        // A position may have been overtaken by retention.
        Ok(committed.map_or(there.earliest, |committed| committed.offset.max(there.earliest)))
    }

    fn wants(&self, record: &RecordRef<'_>) -> bool {
        let Some(wanted) = &self.key else { return true };
        record.key.is_some_and(|key| self.key_kind().split(key).0 == wanted.as_bytes())
    }

    fn key_kind(&self) -> KeyKind {
        if self.windowed_key { KeyKind::Windowed } else { KeyKind::Plain }
    }

    fn columns(&self) -> Columns {
        Columns { keys: (self.keys || self.windowed_key).then(|| self.key_kind()), headers: self.headers }
    }
}

fn usage(message: String) -> Failure {
    Failure::Usage(Error::invalid(message))
}

async fn print(
    consume: &Consume,
    log: &dyn Log,
    (partition, from): (&TopicPartition, Offset),
    left: &mut u64,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let mut at = from;
    while *left > 0 {
        let fetched = log.read(partition, at, READ_BYTES).await?;
        let Some(last) = fetched.batches.last() else { break };
        let next = last.next_offset();
        for batch in &fetched.batches {
            let mut records = batch.cursor();
            while let Some(record) = records.next() {
                let record = record.map_err(|error| error.context(partition))?;
                // The first batch may begin before the offset that was asked for.
                if record.offset < at || !consume.wants(&record) {
                    continue;
                }
                if *left == 0 {
                    return Ok(());
                }
                *left -= 1;
                let line = match consume.json {
                    true => show::json_line(partition, &record, consume.key_kind()),
                    false => show::text_line(partition, &record, consume.columns()),
                };
                writeln!(out, "{line}")?;
            }
        }
        at = next;
    }
    Ok(())
}
