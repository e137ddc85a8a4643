//! Where a replay begins and ends, and where an application is sent back to, as people say it.

use std::collections::BTreeMap;

use headwater_core::{Error, Offset, Partition, Result, Timestamp, TopicName, TopicPartition};
use headwater_streams::replay::Position;
use headwater_terminal::time::{Moment, duration};

/// What the help of an option that takes a position says of it.
pub(crate) const POSITION_HELP: &str = "\
POSITION is `earliest`, `end`, offsets (readings:0=1200,readings:1=900), a time in RFC 3339 (2015-09-01, 2015-09-01T11:30:00Z; UTC
unless it says otherwise), milliseconds since 1970, or a time back from now (7d, 2h).";

/// Understands a position.
///
/// ```
/// use headwater::{parse_position, replay::Position};
/// assert!(matches!(parse_position("earliest")?, Position::Earliest));
/// assert!(matches!(parse_position("7d")?, Position::Ago(_)));
/// assert!(matches!(parse_position("readings:0=1200,readings:1=900")?, Position::Offsets(_)));
/// assert!(parse_position("yesterday").is_err());
/// # Ok::<(), headwater::Error>(())
/// ```
///
/// # Errors
/// `Invalid` when it is none.
pub fn parse_position(text: &str) -> Result<Position> {
    let words = text.trim();
    match words {
        "earliest" => return Ok(Position::Earliest),
        "end" | "now" => return Ok(Position::End),
        _ => {}
    }
    if words.contains('=') {
        return offsets(words).map(Position::Offsets);
    }
    let span = words.strip_suffix("ago").unwrap_or(words).trim();
    if words.parse::<i64>().is_err()
        && let Ok(span) = duration(span)
    {
        return Ok(Position::Ago(span));
    }
    match words.parse::<Moment>() {
        Ok(moment) => Ok(Position::Time(moment.at(Timestamp(0)))),
        Err(_) => Err(Error::invalid(format!(
            "not a position: `earliest`, `end`, topic:partition=offset, a time or a span back from now is. position=`{}`",
            text.escape_debug()
        ))),
    }
}

/// `readings:0=1200,readings:1=900`
fn offsets(text: &str) -> Result<BTreeMap<TopicPartition, Offset>> {
    let mut offsets = BTreeMap::new();
    for part in text.split(',') {
        let wrong = || {
            let part = part.escape_debug();
            Error::invalid(format!("not an offset of a partition like `readings:0=1200`. text=`{part}`"))
        };
        let (place, offset) = part.trim().split_once('=').ok_or_else(wrong)?;
        let (topic, partition) = place.rsplit_once(':').ok_or_else(wrong)?;
        let partition = Partition(partition.trim().parse().map_err(|_| wrong())?);
        let offset = Offset(offset.trim().parse().map_err(|_| wrong())?);
        let place = TopicPartition::new(TopicName::new(topic.trim())?, partition);
        if let Some(other) = offsets.insert(place.clone(), offset) {
            return Err(Error::invalid(format!(
                "two offsets for one partition. partition={place}, offsets={other} and {offset}"
            )));
        }
    }
    Ok(offsets)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn positions_are_understood_as_people_say_them() {
        let at = |topic: &str, partition, offset| {
            (TopicPartition::new(TopicName::new(topic).unwrap(), Partition(partition)), Offset(offset))
        };
        for (text, position) in [
            ("earliest", Position::Earliest),
            ("end", Position::End),
            ("readings:0=7", Position::Offsets(BTreeMap::from([at("readings", 0, 7)]))),
            (" a.b:1=0, c:2=9 ", Position::Offsets(BTreeMap::from([at("a.b", 1, 0), at("c", 2, 9)]))),
            ("2015-09-01", Position::Time(Timestamp(1_441_065_600_000))),
            ("1441065600000", Position::Time(Timestamp(1_441_065_600_000))),
            ("0", Position::Time(Timestamp(0))),
            ("7d", Position::Ago(Duration::from_secs(7 * 86_400))),
            ("2 hours ago", Position::Ago(Duration::from_secs(7_200))),
        ] {
            assert_eq!(parse_position(text).unwrap(), position, "{text}");
        }
    }

    #[test]
    fn what_is_no_position_is_refused_and_shown() {
        for (text, said) in [
            ("", "not a position"),
            ("yesterday", "position=`yesterday`"),
            ("readings=7", "not an offset of a partition"),
            ("readings:x=7", "text=`readings:x=7`"),
            ("readings:0=-7", "not an offset of a partition"),
            ("readings:0=1,readings:0=2", "two offsets for one partition. partition=readings-0"),
            ("a/b:0=1", "a topic name is"),
        ] {
            let error = parse_position(text).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
