//! The difference as people read it.

use std::fmt::{self, Formatter};

use super::{Class, Diff, Example, ShownRecord, Sides, TopicDiff};
use crate::OutputKind;

impl fmt::Display for Class {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Missing => "missing",
            Self::Extra => "extra",
            Self::Different => "different",
            Self::NotComparable => "not comparable",
            Self::Intermediate => "intermediate",
        })
    }
}

const HEAD: [&str; 9] = [
    "topic",
    "compared by",
    "records live/replayed",
    "keys equal",
    "missing",
    "extra",
    "different",
    "not comparable",
    "intermediate",
];

impl fmt::Display for Diff {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut rows: Vec<[String; 9]> = vec![HEAD.map(str::to_owned)];
        rows.extend(self.topics.iter().map(row));
        write_columns(f, &rows)?;
        for topic in &self.topics {
            write_details(f, topic)?;
        }
        if !self.notes.is_empty() {
            writeln!(f)?;
        }
        for note in &self.notes {
            writeln!(f, "{note}")?;
        }
        writeln!(f, "\n{}", verdict(self))
    }
}

/// The last line: whether anything differs, and what is not known.
fn verdict(diff: &Diff) -> String {
    let sum = |count: fn(&TopicDiff) -> u64| diff.topics.iter().map(count).sum::<u64>();
    let differ = sum(|topic| topic.missing + topic.extra + topic.different);
    let mut verdict = match differ {
        0 => "no difference".to_owned(),
        1 => "1 key differs".to_owned(),
        differ => format!("{differ} keys differ"),
    };
    match sum(|topic| topic.not_comparable) {
        0 => {}
        not_comparable => verdict += &format!(", {not_comparable} cannot be compared"),
    }
    if diff.computed > 0 {
        verdict += &format!("; not compared: {} outputs whose topics the records choose", diff.computed);
    }
    verdict
}

fn row(topic: &TopicDiff) -> [String; 9] {
    let compared_by = match topic.kind {
        OutputKind::Events => "sequence per key",
        OutputKind::Updates => "last per key",
    };
    let Sides { live, replayed } = topic.records;
    // Where order and number of records are compared, nothing is in between.
    let intermediate = match topic.kind {
        OutputKind::Events => "-".to_owned(),
        OutputKind::Updates => topic.intermediate.to_string(),
    };
    [
        topic.topic.to_string(),
        compared_by.to_owned(),
        format!("{live}/{replayed}"),
        topic.equal.to_string(),
        topic.missing.to_string(),
        topic.extra.to_string(),
        topic.different.to_string(),
        topic.not_comparable.to_string(),
        intermediate,
    ]
}

/// Text to the left, numbers to the right.
fn write_columns(f: &mut Formatter<'_>, rows: &[[String; 9]]) -> fmt::Result {
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    for row in rows {
        let cells = row.iter().enumerate().map(|(at, cell)| {
            let width = width(at);
            if at < 2 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        writeln!(f, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

/// What there is to say about one topic besides its row.
fn write_details(f: &mut Formatter<'_>, topic: &TopicDiff) -> fmt::Result {
    if topic.notes.is_empty() && topic.examples.is_empty() {
        return Ok(());
    }
    writeln!(f, "\n{}", topic.topic)?;
    for note in &topic.notes {
        writeln!(f, "  {note}")?;
    }
    let mut class = None;
    for example in &topic.examples {
        if class != Some(example.class) {
            class = Some(example.class);
            let shown = topic.examples.iter().filter(|other| other.class == example.class).count() as u64;
            match topic.count(example.class) {
                all if all > shown => writeln!(f, "  {}, the first {shown} of {all} keys:", example.class)?,
                _ => writeln!(f, "  {}:", example.class)?,
            }
        }
        write_example(f, example)?;
    }
    Ok(())
}

fn write_example(f: &mut Formatter<'_>, example: &Example) -> fmt::Result {
    let Sides { live, replayed } = example.counts;
    write!(f, "    {}  ({live} live, {replayed} replayed", example.key)?;
    if let Some(same) = example.same.filter(|same| *same > 0) {
        write!(f, ", the first {same} the same")?;
    }
    if let Some(reason) = example.reason {
        write!(f, "; {reason}")?;
    }
    writeln!(f, ")")?;
    // A header is in the way where it makes no difference.
    let headers = match &example.records {
        Sides { live: Some(live), replayed: Some(replayed) } => live.headers != replayed.headers,
        Sides { .. } => false,
    };
    let sides = [("live", &example.records.live, live), ("replayed", &example.records.replayed, replayed)];
    for (side, record, count) in sides {
        match record {
            Some(record) => write_record(f, side, record, headers)?,
            None if count > 0 => writeln!(f, "      {side:<8}  no more")?,
            None => {}
        }
    }
    Ok(())
}

fn write_record(f: &mut Formatter<'_>, side: &str, record: &ShownRecord, headers: bool) -> fmt::Result {
    let ShownRecord { partition, offset, timestamp, value, .. } = record;
    write!(f, "      {side:<8}  partition {partition} offset {offset} time {timestamp}  {value}")?;
    if headers {
        let headers: Vec<_> = record.headers.iter().map(|(name, value)| format!("{name}={value}")).collect();
        write!(f, "  headers {}", headers.join(","))?;
    }
    writeln!(f)
}
