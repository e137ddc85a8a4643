//! `headwater consume`: prints the records of a topic. It commits nothing and disturbs nobody.

mod range;

use std::io::{self, Write};

use clap::Args;
use headwater_core::{Admin, ErrorKind, LogVersion, Partition, RecordRef, TopicPartition};
use headwater_terminal::{
    Progress, Stop,
    show::{self, Columns, KeyKind},
    stand_back,
    time::TIME_HELP,
};

use self::range::{Lane, Start, Until};
use super::{Session, partition, topic};
use crate::{
    Failure,
    template::{TEMPLATE_HELP, Template},
};

/// Bytes asked for at once: enough for a disk to be busy, little enough to hold.
const READ_BYTES: usize = 1 << 20;

/// Which records to print, and how.
#[derive(Debug, Args)]
#[command(after_help = format!("{CONSUME_HELP}\n\n{TIME_HELP}"))]
pub(crate) struct Consume {
    /// Name of the topic
    topic: String,
    /// Only this partition
    #[arg(long, value_name = "N")]
    partition: Option<u32>,
    /// Only records with this key
    #[arg(long, value_name = "TEXT")]
    key: Option<String>,
    #[command(flatten)]
    start: Start,
    #[command(flatten)]
    until: Until,
    /// Stop after so many records
    #[arg(long, value_name = "N")]
    max: Option<u64>,
    /// At the end wait for more, until Ctrl-C
    #[arg(long, short, conflicts_with_all = ["until", "until_offset"])]
    follow: bool,
    #[command(flatten)]
    look: Look,
}

/// What records look like.
#[derive(Debug, Args)]
#[command(next_help_heading = "What it looks like")]
struct Look {
    /// text, json, or a format with %-letters as those of kcat
    #[arg(long, value_name = "FORMAT", default_value = "text", value_parser = format)]
    format: Format,
    /// One JSON object per record and line, with all there is to it: the same as --format json
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// Show keys too
    #[arg(long)]
    keys: bool,
    /// Keys end with the start of a window, as those of windowed tables do: show both
    #[arg(long)]
    windowed_key: bool,
    /// Show headers too
    #[arg(long)]
    headers: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Format {
    Text,
    Json,
    Template(Template),
}

const CONSUME_HELP: &str = r"Examples:
  headwater consume readings --keys
  headwater consume readings --follow --from-end
  headwater consume readings --partition 0 --offset 100 --max 10
  headwater consume readings --offset -5
  headwater consume readings --time '2h ago' --until '1h ago' --json | jq .value
  headwater consume readings --group dashboard --max 1
  headwater consume readings --format '%p:%o %k=%s\n'

Without --follow it prints what there is when it begins, partition by partition, and ends. With it, partitions take
turns as records become durable; of one that is added to the topic later, it prints everything. From the end on it
takes what other programs leave of the processors, so that whoever writes does not notice it. Text has partition,
offset, time, and value, apart by tabs; what is no text is shown in hexadecimal. Letters of a format: %t topic, %p
partition, %o offset, %k key, %K its length, %s value, %S its length, %T timestamp in milliseconds, %D the same as a
date, %h headers, %% a percent sign; \n \t \r \0 \\. In a format, keys and values are printed byte for byte, but on a
terminal, which they might harm.";

fn format(text: &str) -> Result<Format, String> {
    match text {
        "text" => Ok(Format::Text),
        "json" => Ok(Format::Json),
        template if template.contains('%') => {
            template.parse().map(Format::Template).map_err(|e: headwater_core::Error| e.to_string())
        }
        _ => Err(format!("text, json, or a format: {TEMPLATE_HELP}")),
    }
}

pub(super) async fn run(
    consume: &Consume,
    log: &dyn Admin,
    session: &mut Session<'_>,
) -> Result<(), Failure> {
    let stop = if consume.follow { Stop::listen()? } else { Stop::never() };
    let mut lanes = consume.lanes(log, session).await?;
    let mut print = Print {
        consume,
        log,
        stop: &stop,
        left: consume.max.unwrap_or(u64::MAX),
        safely: session.shows,
        // Lines on the same terminal would be drawn over.
        progress: Progress::begin("consume", None, session.quiet || session.shows || consume.follow),
    };
    let mut seen = LogVersion::default();
    let mut stands_back = false;
    loop {
        if consume.follow && consume.partition.is_none() {
            add_lanes(log, &mut lanes).await?;
        }
        for lane in &mut lanes {
            print.lane(lane, session.out).await?;
        }
        session.out.flush()?;
        if !consume.follow || print.left == 0 {
            return Ok(());
        }
        if !std::mem::replace(&mut stands_back, true) {
            // Nobody waits for what is still to come as for what is there, and the owner is not to notice who looks.
            stand_back();
        }
        match stop.or(log.appended(seen)).await {
            Some(version) => seen = version?,
            None => return Ok(()),
        }
    }
}

/// Takes in the partitions that were added since: whoever follows a topic misses nothing of them.
async fn add_lanes(log: &dyn Admin, lanes: &mut Vec<Lane>) -> Result<(), Failure> {
    while let Some(last) = lanes.last() {
        let Partition(number) = last.partition.partition;
        let next = TopicPartition { partition: Partition(number + 1), ..last.partition.clone() };
        // Asked for each commit: one partition is found sooner than all topics are listed.
        match log.offsets(&next).await {
            Ok(there) => lanes.push(Lane { partition: next, at: there.earliest, until: None }),
            Err(error) if error.kind() == ErrorKind::Invalid => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

impl Consume {
    async fn lanes(&self, log: &dyn Admin, session: &Session<'_>) -> Result<Vec<Lane>, Failure> {
        let spec = topic(log, &self.topic).await?;
        let partitions: Vec<_> = match self.partition {
            Some(number) => vec![partition(&spec, number)?],
            None => spec.topic_partitions().collect(),
        };
        if partitions.len() > 1 && (self.start.is_of_one_partition() || self.until.is_of_one_partition()) {
            return Err(Failure::usage(format!(
                "an offset is one of a partition: say which with --partition. topic={}, partitions={}",
                spec.name, spec.partitions
            )));
        }
        let now = session.clock.now();
        let mut lanes = Vec::new();
        for partition in partitions {
            let at = self.start.find(log, &partition, now).await?;
            let until = if self.follow { None } else { Some(self.until.find(log, &partition, now).await?) };
            lanes.push(Lane { partition, at, until });
        }
        Ok(lanes)
    }

    fn wants(&self, record: &RecordRef<'_>) -> bool {
        let Some(wanted) = &self.key else { return true };
        record.key.is_some_and(|key| self.look.key_kind().split(key).0 == wanted.as_bytes())
    }
}

impl Look {
    fn key_kind(&self) -> KeyKind {
        if self.windowed_key { KeyKind::Windowed } else { KeyKind::Plain }
    }

    fn print(
        &self,
        out: &mut dyn Write,
        partition: &TopicPartition,
        record: &RecordRef<'_>,
        safely: bool,
    ) -> io::Result<()> {
        match &self.format {
            Format::Template(template) => template.print(out, partition, record, safely),
            Format::Text if !self.json => {
                let keys = (self.keys || self.windowed_key).then(|| self.key_kind());
                let columns = Columns { keys, headers: self.headers };
                writeln!(out, "{}", show::text_line(partition, record, columns))
            }
            _ => writeln!(out, "{}", show::json_line(partition, record, self.key_kind())),
        }
    }
}

/// Printing, and how far it is.
struct Print<'a> {
    consume: &'a Consume,
    log: &'a dyn Admin,
    stop: &'a Stop,
    left: u64,
    safely: bool,
    progress: Progress,
}

impl Print<'_> {
    /// Prints what there is of a lane now.
    async fn lane(&mut self, lane: &mut Lane, out: &mut dyn Write) -> Result<(), Failure> {
        while self.left > 0 && !self.stop.is_asked() {
            // Retention may have overtaken us.
            lane.at = lane.at.max(self.log.offsets(&lane.partition).await?.earliest);
            if lane.is_done() {
                break;
            }
            let fetched = self.log.read(&lane.partition, lane.at, READ_BYTES).await?;
            let Some(last) = fetched.batches.last() else { break };
            let next = last.next_offset();
            for batch in &fetched.batches {
                let mut records = batch.cursor();
                let mut printed = 0;
                while let Some(record) = records.next() {
                    let record = record.map_err(|error| error.context(&lane.partition))?;
                    // The first batch may begin before the offset that was asked for.
                    if !lane.holds(record.offset) || !self.consume.wants(&record) {
                        continue;
                    }
                    if self.left == 0 {
                        return Ok(());
                    }
                    self.left -= 1;
                    printed += 1;
                    self.consume.look.print(out, &lane.partition, &record, self.safely)?;
                }
                self.progress.add(batch.bytes().len() as u64, printed);
            }
            lane.at = next;
        }
        Ok(())
    }
}
