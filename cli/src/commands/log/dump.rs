//! Segment files, batch by batch.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use clap::Args;
use headwater_core::{Offset, Partition, RecordBatch, TopicName, TopicPartition};
use headwater_storage::log::{DumpedBatch, SegmentDump, segment_files};
use headwater_terminal::{
    show::{self, KeyKind},
    time::rfc3339,
};
use serde_json::json;

use super::super::{Session, counted};
use crate::Failure;

/// Which file to show, and how much of it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  headwater log dump readings/0
  headwater log dump headwater-data/topics/readings/0/00000000000000000000.log --records
  headwater log dump readings/0 --json | jq 'select(.crc_ok | not)'

Reads plain files: nothing need be there but the file, and nobody is disturbed. What was written since the last
checkpoint of a log is in its journal and not in these files yet: `consume` shows that too. A batch that is damaged
is passed over; where no batch can be found any more it ends, and says at which byte. Exit code 3 if anything is
damaged; so may seem the end of a file that is written just then.")]
pub(crate) struct Dump {
    /// A segment file, or TOPIC/PARTITION of the log
    #[arg(value_name = "FILE|TOPIC/PARTITION")]
    what: String,
    /// Show the records of each batch too
    #[arg(long)]
    records: bool,
    /// One JSON object per batch and line, for programs
    #[arg(long)]
    json: bool,
}

pub(super) fn run(dump: &Dump, folder: &Path, session: &mut Session<'_>) -> Result<(), Failure> {
    let (mut batches, mut damages) = (0, 0);
    for file in dump.files(folder)? {
        let segment = SegmentDump::open(&file)?;
        if !dump.json {
            writeln!(session.out, "{}, {} bytes", file.display(), segment.length())?;
            writeln!(session.out, "{HEADING}")?;
        }
        for dumped in segment {
            batches += 1;
            let sound = match &dumped {
                Ok(dumped) => {
                    dump.print(dumped, &file, session.out)?;
                    dumped.batch.is_ok()
                }
                Err(error) if dump.json => {
                    let line = json!({ "file": file.display().to_string(), "crc_ok": false, "error": error.report() });
                    writeln!(session.out, "{line}")?;
                    false
                }
                Err(error) => {
                    writeln!(session.out, "stopped: {}", error.report())?;
                    false
                }
            };
            damages += u64::from(!sound);
        }
    }
    match damages {
        0 => Ok(()),
        damages => Err(Failure::Damaged(format!("damaged: {damages} of {}", counted(batches, "place")))),
    }
}

const HEADING: &str = "        BYTE       SIZE          BASE          LAST  RECORDS  CODEC  CRC  PRODUCER  EPOCH  SEQUENCE  NEWEST";

impl Dump {
    fn files(&self, folder: &Path) -> Result<Vec<PathBuf>, Failure> {
        let path = PathBuf::from(&self.what);
        if path.is_file() {
            return Ok(vec![path]);
        }
        let named = self.what.rsplit_once('/').and_then(|(topic, number)| {
            Some(TopicPartition::new(TopicName::new(topic).ok()?, Partition(number.parse().ok()?)))
        });
        let files = named.map(|partition| segment_files(folder, &partition)).transpose()?.unwrap_or_default();
        if files.is_empty() {
            return Err(Failure::usage(format!(
                "there is no such file, and no such partition with files: pass a segment file or TOPIC/PARTITION. what=`{}`, log={}",
                self.what.escape_debug(),
                folder.display()
            )));
        }
        Ok(files)
    }

    fn print(&self, dumped: &DumpedBatch, file: &Path, out: &mut dyn Write) -> io::Result<()> {
        if self.json {
            return writeln!(out, "{}", self.json(dumped, file));
        }
        let (byte, size, base) = (dumped.byte, dumped.size, dumped.base.0);
        let batch = match &dumped.batch {
            Ok(batch) => batch,
            Err(error) => {
                return writeln!(
                    out,
                    "{byte:>12}  {size:>9}  {base:>12}  {:>12}  {:>7}  {:<5}  bad  {error}",
                    "-", "-", "-"
                );
            }
        };
        let stamp = batch.stamp();
        // What covers a hole of compaction has no time.
        let newest = match batch.record_count() {
            0 => "-".to_owned(),
            _ => rfc3339(batch.max_timestamp()),
        };
        let (last, count, codec) = (last(batch).0, batch.record_count(), batch.compression().to_string());
        let (producer, epoch, sequence) = (stamp.id, stamp.epoch, stamp.sequence);
        writeln!(
            out,
            "{byte:>12}  {size:>9}  {base:>12}  {last:>12}  {count:>7}  {codec:<5}  ok   {producer:>8}  {epoch:>5}  {sequence:>8}  {newest}{}",
            flags(batch).concat()
        )?;
        if !self.records {
            return Ok(());
        }
        let mut records = batch.cursor();
        while let Some(record) = records.next() {
            match record {
                Ok(record) => {
                    let (offset, time) = (record.offset, rfc3339(record.timestamp));
                    let (key, value) = (show::nullable(record.key), show::nullable(record.value));
                    let headers = show::headers(&record);
                    writeln!(out, "{}", format!("  {offset}\t{time}\t{key}\t{value}\t{headers}").trim_end())?;
                }
                Err(error) => writeln!(out, "  {}", error.report())?,
            }
        }
        Ok(())
    }

    fn json(&self, dumped: &DumpedBatch, file: &Path) -> String {
        let place = json!({ "file": file.display().to_string(), "byte": dumped.byte, "size": dumped.size, "base_offset": dumped.base.0 });
        let details = match &dumped.batch {
            Ok(batch) => {
                let stamp = batch.stamp();
                json!({ "crc_ok": true, "last_offset": last(batch).0, "records": batch.record_count(),
                    "compression": batch.compression().to_string(), "producer_id": stamp.id, "producer_epoch": stamp.epoch,
                    "sequence": stamp.sequence, "max_timestamp": batch.max_timestamp().0,
                    "timestamp_type": batch.timestamp_type().to_string(), "transactional": batch.is_transactional(),
                    "control": batch.is_control(), "delete_horizon": batch.delete_horizon().map(|horizon| horizon.0) })
            }
            Err(error) => json!({ "crc_ok": false, "error": error.to_string() }),
        };
        let mut line = format!(
            "{},{}",
            place.to_string().trim_end_matches('}'),
            details.to_string().trim_start_matches('{')
        );
        if let (true, Ok(batch)) = (self.records, &dumped.batch) {
            let mut records = Vec::new();
            let mut cursor = batch.cursor();
            // One that cannot be decoded ends the list, which then is shorter than it says.
            while let Some(Ok(record)) = cursor.next() {
                records.push(format!("{{{}}}", show::json_fields(&record, KeyKind::Plain)));
            }
            line.pop();
            line = format!(r#"{line},"data":[{}]}}"#, records.join(","));
        }
        line
    }
}

fn last(batch: &RecordBatch) -> Offset {
    Offset(batch.next_offset().0.saturating_sub(1))
}

/// What is not as in most batches.
fn flags(batch: &RecordBatch) -> Vec<&'static str> {
    let flags = [
        (batch.timestamp_type() != headwater_core::TimestampType::CreateTime, "  append time"),
        (batch.is_transactional(), "  transactional"),
        (batch.is_control(), "  control"),
        (batch.delete_horizon().is_some(), "  delete horizon"),
    ];
    flags.into_iter().filter_map(|(is_so, name)| is_so.then_some(name)).collect()
}
