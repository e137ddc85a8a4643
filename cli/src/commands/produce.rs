//! `headwater produce`: lines become records.

mod json;
mod lines;
mod writer;

#[cfg(test)]
mod tests;

use std::{
    fs::File,
    io::{self, Read},
    num::NonZeroU32,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use clap::Args;
use headwater_core::{Admin, Compression, Error, Headers, Result, Timestamp, TopicSpec};
use headwater_terminal::{
    Progress,
    time::{Moment, TIME_HELP},
};
use serde_json::Value;

use self::{lines::Lines, writer::Writer};
use super::{Session, counted, find_topic, key_value, partition, topic};
use crate::{Failure, open::Access};

/// Records are committed whenever so many bytes of them have gathered, and before input is waited for.
const COMMIT_BYTES: usize = 1 << 20;

/// What to write, and from where.
#[derive(Debug, Args)]
#[command(after_help = format!("{PRODUCE_HELP}\n\n{TIME_HELP}"))]
pub(crate) struct Produce {
    /// Name of the topic
    topic: String,
    /// Read from this file instead of the standard input
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Lines are JSON objects, as `consume --json` prints them
    #[arg(long)]
    json: bool,
    /// Each line is a key, this, and a value; without it a line is a value, and the key is null
    #[arg(long, value_name = "TEXT", conflicts_with = "json", value_parser = not_empty)]
    key_separator: Option<String>,
    /// A key or a value that is this text is null
    #[arg(long, value_name = "TEXT", conflicts_with = "json")]
    null_marker: Option<String>,
    /// A header for every record; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = key_value)]
    header: Vec<(String, String)>,
    /// The time of records that do not say theirs, instead of now
    #[arg(long, value_name = "TIME")]
    timestamp: Option<Moment>,
    /// The time of a record is in this field of its value, which is a JSON object: milliseconds, or RFC 3339
    #[arg(long, value_name = "FIELD.FIELD")]
    timestamp_field: Option<String>,
    /// Everything goes to this partition; otherwise the key decides as in Kafka, and without a key they take turns
    #[arg(long, value_name = "N")]
    partition: Option<u32>,
    /// Ignore which partition JSON lines name
    #[arg(long, requires = "json")]
    repartition: bool,
    /// How batches are compressed: none, lz4 or zstd; a topic whose compression.type is not `producer` decides itself
    #[arg(long, value_name = "CODEC", default_value_t)]
    compression: Compression,
    /// Make the topic if there is none, with so many partitions
    #[arg(long, value_name = "PARTITIONS", num_args = 0..=1, require_equals = true, default_missing_value = "1")]
    create: Option<NonZeroU32>,
}

const PRODUCE_HELP: &str = r#"Examples:
  echo hello | headwater produce greetings --create
  headwater produce readings --file readings.txt --key-separator =
  headwater produce readings --json --timestamp-field at < readings.jsonl
  headwater produce readings --file readings.txt --compression zstd
  headwater consume readings --json | headwater produce copy --json --create=4

A JSON line: {"key": "oven", "value": {"celsius": 180}, "timestamp": "2015-09-01T11:30:00Z",
"headers": {"unit": "C"}, "partition": 0}. Only `value` must be there. Objects, arrays and numbers are written as the
text they are; {"hex": "00ff"} and {"base64": "AP8="} are bytes; null is null. `timestamp` may be milliseconds, and
`headers` a list of [name, value].

Lines are written in commits of about 1 MB, and whenever no more input is at hand, so each line that is typed is durable
at once. A line that makes no sense ends it, with the number of the line: those before it are written, and none after."#;

/// A record, read and not written yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Input {
    key: Option<Bytes>,
    value: Option<Bytes>,
    timestamp: Option<Timestamp>,
    headers: Vec<(String, Option<Bytes>)>,
    partition: Option<u32>,
}

impl Produce {
    pub(super) fn access(&self) -> Access {
        if self.create.is_some() { Access::Create } else { Access::Write }
    }

    async fn topic(&self, log: &dyn Admin) -> Result<TopicSpec, Failure> {
        let Some(partitions) = self.create else { return topic(log, &self.topic).await };
        if let Some(spec) = find_topic(log, &self.topic).await? {
            return Ok(spec);
        }
        let spec = TopicSpec::new(&self.topic, partitions.get())?;
        log.create_topic(&spec).await?;
        Ok(spec)
    }

    /// What a line says; nothing when it is blank and blank lines say nothing.
    fn parse(&self, line: &[u8]) -> Result<Option<Input>> {
        if self.json {
            return if line.trim_ascii().is_empty() { Ok(None) } else { json::parse(line).map(Some) };
        }
        let nullable = |text: &[u8]| {
            let null = self.null_marker.as_ref().is_some_and(|marker| marker.as_bytes() == text);
            (!null).then(|| Bytes::copy_from_slice(text))
        };
        let Some(separator) = self.key_separator.as_ref().map(String::as_bytes) else {
            return Ok(Some(Input { value: nullable(line), ..Input::default() }));
        };
        let at = line.windows(separator.len()).position(|window| window == separator);
        let Some(at) = at else {
            return Err(Error::invalid("no key: the separator of --key-separator is not in it"));
        };
        let (key, value) = (&line[..at], &line[at + separator.len()..]);
        Ok(Some(Input { key: nullable(key), value: nullable(value), ..Input::default() }))
    }

    /// Fills in what the options say of every record.
    fn complete(&self, input: &mut Input, now: Timestamp) -> Result<Timestamp> {
        let headers = self.header.iter();
        input.headers.extend(
            headers.map(|(name, value)| (name.clone(), Some(Bytes::copy_from_slice(value.as_bytes())))),
        );
        if self.repartition {
            input.partition = None;
        }
        input.partition = self.partition.or(input.partition);
        if let Some(path) = &self.timestamp_field {
            return time_in(input.value.as_deref().unwrap_or_default(), path);
        }
        Ok(input.timestamp.unwrap_or_else(|| self.timestamp.map_or(now, |moment| moment.at(now))))
    }
}

pub(super) async fn run(
    produce: &Produce,
    log: &dyn Admin,
    session: &mut Session<'_>,
) -> Result<(), Failure> {
    let mut file = produce.file.as_deref().map(open).transpose()?;
    let spec = produce.topic(log).await?;
    if let Some(number) = produce.partition {
        partition(&spec, number)?;
    }
    let bytes_total = file.as_ref().and_then(|file| Some(file.metadata().ok()?.len()));
    let input: &mut dyn Read = match &mut file {
        Some(file) => file,
        None => &mut *session.input,
    };
    let mut lines = Lines::new(input, spec.config.max_message_bytes);
    let mut writer = Writer::open(log, spec, produce.compression).await?;
    let mut progress = Progress::begin("produce", bytes_total, session.quiet);
    loop {
        let now = session.clock.now();
        let (read, written) = (lines.bytes_taken(), writer.written());
        let failed = take_lines(produce, &mut lines, &mut writer, now).err();
        // Those before a line that makes no sense are written.
        let written_before = counted(writer.written(), "record");
        let committed = writer.commit().await;
        committed.map_err(|error| error.context(format!("{written_before} written before this")))?;
        progress.add(lines.bytes_taken() - read, writer.written() - written);
        if let Some(error) = failed {
            let place =
                format!("line {}, {} before it written", lines.number(), counted(writer.written(), "record"));
            return Err(Failure::Usage(error.context(place)));
        }
        if !lines.has_whole_line() && !lines.fill().map_err(unreadable)? {
            break;
        }
    }
    drop(progress);
    let topic = &produce.topic;
    Ok(writeln!(session.out, "{} written to {topic}", counted(writer.written(), "record"))?)
}

/// Takes whole lines as long as there are some, and no more than one commit shall hold.
fn take_lines(produce: &Produce, lines: &mut Lines<'_>, writer: &mut Writer, now: Timestamp) -> Result<()> {
    while let Some(line) = lines.next()? {
        let Some(mut input) = produce.parse(line)? else { continue };
        let timestamp = produce.complete(&mut input, now)?;
        let headers: Headers = input.headers.drain(..).collect();
        writer.push(&input, timestamp, &headers)?;
        if writer.bytes() >= COMMIT_BYTES {
            break;
        }
    }
    Ok(())
}

fn open(path: &Path) -> Result<File, Failure> {
    let file = File::open(path);
    file.map_err(|e| {
        let error = Error::invalid(format!("cannot open the file to read from. file={}", path.display()));
        Failure::Usage(error.with_source(e))
    })
}

fn unreadable(error: io::Error) -> Failure {
    Failure::Log(Error::io("cannot read the input", error))
}

/// The time in a field of a JSON object.
fn time_in(value: &[u8], path: &str) -> Result<Timestamp> {
    let object: Value = serde_json::from_slice(value).map_err(|e| {
        Error::invalid("the value is not JSON, and --timestamp-field wants it to be").with_source(e)
    })?;
    let mut found = Some(&object);
    for name in path.split('.') {
        found = found.and_then(|value| value.get(name));
    }
    match found {
        None => Err(Error::invalid(format!("the value has no such field. field={}", path.escape_debug()))),
        Some(value) => json::time(value),
    }
}

fn not_empty(text: &str) -> Result<String, &'static str> {
    if text.is_empty() { Err("it must not be empty") } else { Ok(text.into()) }
}
