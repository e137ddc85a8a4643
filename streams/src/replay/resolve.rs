//! From what people say to what is read: positions become offsets and times of each source partition.

use std::{collections::BTreeMap, num::NonZeroU32, time::Duration};

use headwater_core::{
    Error, Log, Offset, PartitionOffsets, Result, TimedOffset, Timestamp, TopicName, TopicPartition,
};

use super::{
    cut::Cut,
    plan::{Phase, Plan, Source, check_pace},
    position::{Options, Position},
    report::Utc,
};
use crate::{Settings, Topology, runtime};

/// An error names at most so many partitions and what exists of them.
const NAMED_MAX: usize = 8;

/// A source partition, as it was found.
struct Found {
    partition: TopicPartition,
    is_table: bool,
    offsets: PartitionOffsets,
    /// When its topic deletes records by age.
    retention_ms: Option<u64>,
}

/// Where the range begins.
enum Beginning {
    Earliest,
    Time(Timestamp),
    /// And the time of the earliest record there.
    Offsets(BTreeMap<TopicPartition, Offset>, Timestamp),
}

impl Plan {
    /// Finds out what is to be read, as of `now`. Changes nothing.
    ///
    /// # Errors
    /// `Invalid` when a source topic does not exist, when the range begins after it ends, when what it asks for is not in the
    /// log, because it never was or because it was deleted, or when a pace is not above 0; it says what there is. Those of the
    /// log.
    pub async fn resolve(
        topology: &Topology,
        settings: &Settings,
        options: &Options,
        now: Timestamp,
        source: &dyn Log,
    ) -> Result<Self> {
        check_pace(options.pace)?;
        let found = find(topology, settings, source).await?;
        let until = until(options, now, &found)?;
        let beginning = beginning(options, now, &found, source).await?;
        let from = match &beginning {
            Beginning::Earliest => None,
            Beginning::Time(time) | Beginning::Offsets(_, time) => Some(*time),
        };
        // Behind the first record at an offset there may be earlier ones.
        if let (Beginning::Time(from), Until::Time(until)) = (&beginning, &until)
            && from > until
        {
            return Err(Error::invalid(format!(
                "a replay begins after it ends. from={}, until={}",
                Utc(*from),
                Utc(*until)
            )));
        }
        let warm_from = from.map(|from| before(from, options.warm_up));
        let mut phases = Vec::new();
        if from.is_some() && found.iter().any(|found| found.is_table) {
            phases.push(Phase::Tables);
        }
        if from.is_some() && options.warm_up > Duration::ZERO {
            phases.push(Phase::WarmUp);
        }
        phases.push(Phase::Range);
        let mut sources = Vec::with_capacity(found.len());
        for partition in &found {
            let cuts = cuts(partition, &phases, (&beginning, warm_from, &until), source).await?;
            sources.push(Source {
                topic: partition.partition.topic.to_string(),
                partition: partition.partition.partition,
                is_table: partition.is_table,
                cuts,
            });
        }
        let plan = Self {
            application_id: settings.application_id.clone(),
            topology: topology.describe(),
            made: now,
            from,
            until: if let Until::Time(until) = until { Some(until) } else { None },
            warm_up: if from.is_some() { options.warm_up } else { Duration::ZERO },
            pace: options.pace,
            close_windows: options.close_windows,
            phases,
            sources,
        };
        plan.check_range(&found, source).await?;
        Ok(plan)
    }

    /// A range that begins behind everything is a mistake.
    async fn check_range(&self, found: &[Found], log: &dyn Log) -> Result<()> {
        let all_tables = found.iter().all(|found| found.is_table);
        let mut facts = self.sources.iter().filter(|source| all_tables || !source.is_table);
        let is_empty = facts.all(|source| source.cuts.last().is_none_or(Cut::is_empty));
        let has_records = found.iter().any(|found| found.offsets.earliest < found.offsets.end);
        if self.from.is_none() || !is_empty || !has_records {
            return Ok(());
        }
        let from = self.from.map_or_else(String::new, |from| Utc(from).to_string());
        let exists = exists(found, log).await?;
        Err(Error::invalid(format!(
            "nothing lies in the range of the replay. from={from}; what there is: {exists}"
        )))
    }
}

/// The source partitions, by topic and number.
async fn find(topology: &Topology, settings: &Settings, log: &dyn Log) -> Result<Vec<Found>> {
    let topics = log.topics().await?;
    let known: BTreeMap<TopicName, NonZeroU32> =
        topics.iter().map(|topic| (topic.name.clone(), topic.partitions)).collect();
    let replayed = topology.replayed_topics();
    if replayed.is_empty() {
        return Err(Error::invalid(
            "the topology reads only what it writes itself: there is nothing to replay",
        ));
    }
    let missing: Vec<&str> =
        replayed.iter().map(|(name, _)| name.as_str()).filter(|name| !known.contains_key(*name)).collect();
    if !missing.is_empty() {
        let names: Vec<&str> = known.keys().map(TopicName::as_str).collect();
        return Err(Error::invalid(format!(
            "a source topic does not exist in the log that is replayed. topics={}; what there is: {}",
            missing.join(", "),
            if names.is_empty() { "no topic".to_owned() } else { names.join(", ") }
        )));
    }
    runtime::check(topology, settings, &known)?;
    let mut found = Vec::new();
    for (name, is_table) in replayed {
        let Some(spec) = topics.iter().find(|topic| topic.name == name) else { continue };
        for partition in spec.topic_partitions() {
            let offsets = log.offsets(&partition).await?;
            let deletes = spec.config.cleanup_policy.deletes();
            let retention_ms = spec.config.retention_ms.filter(|_| deletes);
            found.push(Found { partition, is_table, offsets, retention_ms });
        }
    }
    Ok(found)
}

async fn beginning(options: &Options, now: Timestamp, found: &[Found], log: &dyn Log) -> Result<Beginning> {
    let time = match &options.from {
        Position::Earliest => return Ok(Beginning::Earliest),
        Position::End => {
            return Err(Error::invalid("a replay that begins at the end has nothing to read: begin earlier"));
        }
        Position::Time(time) => *time,
        Position::Ago(ago) => before(now, *ago),
        Position::Offsets(offsets) => return at_offsets(offsets, options, (now, found), log).await,
    };
    reaches_back(before(time, options.warm_up), now, found, log).await?;
    Ok(Beginning::Time(time))
}

async fn at_offsets(
    offsets: &BTreeMap<TopicPartition, Offset>,
    options: &Options,
    (now, found): (Timestamp, &[Found]),
    log: &dyn Log,
) -> Result<Beginning> {
    check_offsets(offsets, found)?;
    let mut earliest = None;
    for (partition, offset) in offsets {
        let Some(found) = found.iter().find(|found| found.partition == *partition) else { continue };
        if let Some(first) = first(log, partition, *offset, found.offsets.end).await? {
            earliest =
                Some(earliest.map_or(first.timestamp, |so_far: Timestamp| so_far.min(first.timestamp)));
        }
    }
    let Some(earliest) = earliest else {
        return Err(Error::invalid(format!(
            "nothing lies at or behind the offsets where the replay begins; what there is: {}",
            exists(found, log).await?
        )));
    };
    let unnamed = found.iter().any(|f| !f.is_table && !offsets.contains_key(&f.partition));
    if options.warm_up > Duration::ZERO || unnamed {
        reaches_back(before(earliest, options.warm_up), now, found, log).await?;
    }
    Ok(Beginning::Offsets(offsets.clone(), earliest))
}

/// Where the range ends.
enum Until {
    Offsets(BTreeMap<TopicPartition, Offset>),
    Time(Timestamp),
}

fn until(options: &Options, now: Timestamp, found: &[Found]) -> Result<Until> {
    match &options.until {
        Position::Earliest => {
            Err(Error::invalid("a replay until the earliest record has nothing to read: end later"))
        }
        Position::End => Ok(Until::Offsets(BTreeMap::new())),
        Position::Time(time) => Ok(Until::Time(*time)),
        Position::Ago(ago) => Ok(Until::Time(before(now, *ago))),
        Position::Offsets(offsets) => {
            check_offsets(offsets, found)?;
            if let Position::Offsets(from) = &options.from
                && let Some((partition, end)) =
                    offsets.iter().find(|(partition, end)| from.get(partition).is_some_and(|from| from > end))
            {
                return Err(Error::invalid(format!(
                    "a replay begins after it ends. partition={partition}, from={}, until={end}",
                    from[partition]
                )));
            }
            Ok(Until::Offsets(offsets.clone()))
        }
    }
}

/// Offsets are of partitions that are read, and lie in them.
fn check_offsets(offsets: &BTreeMap<TopicPartition, Offset>, found: &[Found]) -> Result<()> {
    if offsets.is_empty() {
        return Err(Error::invalid("a position by offsets names at least one source partition"));
    }
    for (partition, offset) in offsets {
        let Some(found) = found.iter().find(|found| found.partition == *partition) else {
            let known: Vec<_> = found.iter().take(NAMED_MAX).map(|f| f.partition.to_string()).collect();
            return Err(Error::invalid(format!(
                "a position is of a partition that the replay does not read. partition={partition}; what it reads: {}",
                known.join(", ")
            )));
        };
        let PartitionOffsets { earliest, end } = found.offsets;
        if !(earliest..=end).contains(offset) {
            return Err(Error::invalid(format!(
                "a position is outside of its partition. partition={partition}, position={offset}; what there is: \
                 offsets {earliest} to {end}"
            )));
        }
    }
    Ok(())
}

/// What of a partition is read in each phase. Every record is in one of them, or in none.
async fn cuts(
    found: &Found,
    phases: &[Phase],
    (beginning, warm_from, until): (&Beginning, Option<Timestamp>, &Until),
    log: &dyn Log,
) -> Result<Vec<Cut>> {
    let PartitionOffsets { earliest, end } = found.offsets;
    let (end, until) = match until {
        Until::Time(time) => (end, Some(*time)),
        Until::Offsets(offsets) => (offsets.get(&found.partition).copied().unwrap_or(end), None),
    };
    let named = match beginning {
        Beginning::Offsets(offsets, _) => offsets.get(&found.partition).copied(),
        _ => None,
    };
    let from = match beginning {
        Beginning::Earliest => None,
        Beginning::Time(time) | Beginning::Offsets(_, time) => Some(*time),
    };
    let mut cuts = Vec::with_capacity(phases.len());
    for phase in phases {
        // What comes before an offset, or before a time: records may lie anywhere up to the end of what is replayed.
        let past = named.unwrap_or(end).min(end);
        cuts.push(match phase {
            Phase::Tables if !found.is_table => Cut::nothing(earliest),
            Phase::Tables => {
                // With a warm-up the rest of what is before the offset is read then.
                let until =
                    if named.is_some() && !phases.contains(&Phase::WarmUp) { None } else { warm_from };
                Cut { begin: earliest, end: past, from: None, until }
            }
            Phase::WarmUp => {
                let begin = at_time(log, found, warm_from, end).await?.min(past);
                Cut { begin, end: past, from: warm_from, until: if named.is_some() { None } else { from } }
            }
            Phase::Range => match named {
                Some(begin) => Cut { begin: begin.min(end), end, from: None, until },
                None => Cut { begin: at_time(log, found, from, end).await?, end, from, until },
            },
        });
    }
    Ok(cuts)
}

/// The first offset that may have something of this time or later.
async fn at_time(log: &dyn Log, found: &Found, time: Option<Timestamp>, end: Offset) -> Result<Offset> {
    let Some(time) = time else { return Ok(found.offsets.earliest.min(end)) };
    let first = log.offset_at(&found.partition, time).await?;
    Ok(first.map_or(end, |first| first.offset).min(end))
}

/// What happened since `time` is still there: of no partition were records deleted that may be that young.
async fn reaches_back(time: Timestamp, now: Timestamp, found: &[Found], log: &dyn Log) -> Result<()> {
    let cut = found.iter().filter(|found| !found.is_table && found.offsets.earliest > Offset(0));
    for found in cut {
        let PartitionOffsets { earliest, end } = found.offsets;
        let begins = first(log, &found.partition, earliest, end).await?;
        let reaches = match begins {
            Some(first) => first.timestamp <= time,
            // All of it was deleted: nothing but age can say how young that was.
            None => found.retention_ms.is_some_and(|ms| time >= before(now, Duration::from_millis(ms))),
        };
        if !reaches {
            let what = begins.map_or_else(
                || "nothing".to_owned(),
                |first| format!("records from {} on", Utc(first.timestamp)),
            );
            return Err(Error::invalid(format!(
                "the replay begins, with its warm-up, before what is left of a source: earlier records were deleted. \
                 partition={}, from={}; what there is: offsets {earliest} to {end}, {what}. Begin later, or with the \
                 earliest record",
                found.partition,
                Utc(time)
            )));
        }
    }
    Ok(())
}

/// The first record in `from..end`.
async fn first(
    log: &dyn Log,
    partition: &TopicPartition,
    from: Offset,
    end: Offset,
) -> Result<Option<TimedOffset>> {
    let mut next = from;
    while next < end {
        let fetched = log.read(partition, next, 0).await?;
        let Some(last) = fetched.batches.last() else { break };
        next = last.next_offset();
        for batch in &fetched.batches {
            let mut cursor = batch.cursor();
            while let Some(record) = cursor.next().transpose()? {
                if record.offset >= end {
                    return Ok(None);
                }
                if record.offset >= from {
                    return Ok(Some(TimedOffset { offset: record.offset, timestamp: record.timestamp }));
                }
            }
        }
    }
    Ok(None)
}

/// What there is, for people.
async fn exists(found: &[Found], log: &dyn Log) -> Result<String> {
    let mut lines = Vec::new();
    for found in found.iter().take(NAMED_MAX) {
        let PartitionOffsets { earliest, end } = found.offsets;
        let mut line = format!("{} offsets {earliest} to {end}", found.partition);
        if earliest < end {
            let newest = log.read(&found.partition, Offset(end.0 - 1), 0).await?;
            let newest = newest.batches.first().map(headwater_core::RecordBatch::max_timestamp);
            if let (Some(first), Some(newest)) = (first(log, &found.partition, earliest, end).await?, newest)
            {
                line += &format!(", {} to {}", Utc(first.timestamp), Utc(newest));
            }
        }
        lines.push(line);
    }
    if found.len() > NAMED_MAX {
        lines.push(format!("and {} more partitions", found.len() - NAMED_MAX));
    }
    Ok(lines.join("; "))
}

/// So long before a time.
fn before(time: Timestamp, by: Duration) -> Timestamp {
    Timestamp(time.0.saturating_sub(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)))
}
