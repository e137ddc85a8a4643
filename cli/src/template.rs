//! Records as somebody wants them: `consume --format '%o %s\n'`, with the letters of `kcat -f`.

use std::{
    io::{self, Write},
    str::FromStr,
};

use headwater_core::{Error, RecordRef, Result, TopicPartition};
use headwater_terminal::{show, time::rfc3339};

/// What a format may hold, for its help.
pub(crate) const TEMPLATE_HELP: &str = "%t topic, %p partition, %o offset, %k key, %K its length, %s value, %S its \
    length, %T timestamp in milliseconds, %D the same as a date, %h headers, %% a percent sign; \\n \\t \\r \\0 \\\\";

/// A format, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(Field),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Topic,
    Partition,
    Offset,
    Key,
    KeyBytes,
    Value,
    ValueBytes,
    Timestamp,
    Date,
    Headers,
}

impl FromStr for Template {
    type Err = Error;

    fn from_str(format: &str) -> Result<Self> {
        let wrong = |what: &str| {
            let format = format.escape_debug();
            Error::invalid(format!("not a format: {what}; {TEMPLATE_HELP}. format=`{format}`"))
        };
        let (mut parts, mut text) = (Vec::new(), String::new());
        let mut chars = format.chars();
        while let Some(c) = chars.next() {
            match c {
                '%' => match chars.next() {
                    Some('%') => text.push('%'),
                    letter => {
                        let field = letter
                            .and_then(field)
                            .ok_or_else(|| wrong("it has an unknown letter after %"))?;
                        if !text.is_empty() {
                            parts.push(Part::Text(std::mem::take(&mut text)));
                        }
                        parts.push(Part::Field(field));
                    }
                },
                '\\' => {
                    let escaped = chars.next().and_then(escape);
                    text.push(escaped.ok_or_else(|| wrong("it has an unknown letter after \\"))?);
                }
                c => text.push(c),
            }
        }
        if !text.is_empty() {
            parts.push(Part::Text(text));
        }
        if !parts.iter().any(|part| matches!(part, Part::Field(_))) {
            return Err(wrong("it names nothing of a record"));
        }
        Ok(Self(parts))
    }
}

fn field(letter: char) -> Option<Field> {
    Some(match letter {
        't' => Field::Topic,
        'p' => Field::Partition,
        'o' => Field::Offset,
        'k' => Field::Key,
        'K' => Field::KeyBytes,
        's' => Field::Value,
        'S' => Field::ValueBytes,
        'T' => Field::Timestamp,
        'D' => Field::Date,
        'h' => Field::Headers,
        _ => return None,
    })
}

fn escape(letter: char) -> Option<char> {
    Some(match letter {
        'n' => '\n',
        't' => '\t',
        'r' => '\r',
        '0' => '\0',
        '\\' => '\\',
        _ => return None,
    })
}

impl Template {
    /// Prints a record. Keys and values are printed byte for byte where programs read, and `safely` where people do.
    pub(crate) fn print(
        &self,
        out: &mut dyn Write,
        partition: &TopicPartition,
        record: &RecordRef<'_>,
        safely: bool,
    ) -> io::Result<()> {
        let bytes = |out: &mut dyn Write, bytes: Option<&[u8]>| match bytes {
            None => Ok(()),
            Some(bytes) if safely => out.write_all(show::text(bytes).as_bytes()),
            Some(bytes) => out.write_all(bytes),
        };
        for part in &self.0 {
            match part {
                Part::Text(text) => out.write_all(text.as_bytes())?,
                Part::Field(Field::Topic) => write!(out, "{}", partition.topic)?,
                Part::Field(Field::Partition) => write!(out, "{}", partition.partition)?,
                Part::Field(Field::Offset) => write!(out, "{}", record.offset)?,
                Part::Field(Field::Key) => bytes(out, record.key)?,
                Part::Field(Field::KeyBytes) => write!(out, "{}", length(record.key))?,
                Part::Field(Field::Value) => bytes(out, record.value)?,
                Part::Field(Field::ValueBytes) => write!(out, "{}", length(record.value))?,
                Part::Field(Field::Timestamp) => write!(out, "{}", record.timestamp)?,
                Part::Field(Field::Date) => out.write_all(rfc3339(record.timestamp).as_bytes())?,
                Part::Field(Field::Headers) => out.write_all(show::headers(record).as_bytes())?,
            }
        }
        Ok(())
    }
}

/// As kcat has it: null is -1 bytes long.
fn length(bytes: Option<&[u8]>) -> i64 {
    bytes.map_or(-1, |bytes| i64::try_from(bytes.len()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use headwater_core::{BatchBuilder, Headers, Partition, ProducerStamp, Timestamp, TopicName};

    use super::*;

    fn printed(format: &str, key: Option<&[u8]>, value: Option<&[u8]>, safely: bool) -> Vec<u8> {
        let mut batch = BatchBuilder::default();
        let headers = Headers::new().with("unit", "°C").with("raw", vec![0xff]);
        batch.push(Timestamp(1000), key, value, &headers);
        let mut records = batch.finish(ProducerStamp::NONE).cursor();
        let record = records.next().unwrap().unwrap();
        let partition = TopicPartition::new(TopicName::new("readings").unwrap(), Partition(3));
        let mut out = Vec::new();
        format.parse::<Template>().unwrap().print(&mut out, &partition, &record, safely).unwrap();
        out
    }

    #[test]
    fn every_letter_prints_its_field() {
        let line = printed("%t-%p@%o %T %D %K:%k %S:%s %h 100%%\\n", Some(b"oven"), Some(b"180"), false);
        assert_eq!(
            String::from_utf8(line).unwrap(),
            "readings-3@0 1000 1970-01-01T00:00:01Z 4:oven 3:180 unit=°C,raw=0xff 100%\n"
        );
        assert_eq!(printed("%K %k|%s %S\\t\\r\\0\\\\", None, None, false), b"-1 | -1\t\r\0\\");
    }

    #[test]
    fn bytes_are_themselves_for_programs_and_harmless_for_people() {
        let value = b"\x1b[2Jgone\xff".as_slice();
        assert_eq!(printed("%s", None, Some(value), false), value);
        assert_eq!(printed("%s", None, Some(b"\x1b[2Jgone"), true), br"\u{1b}[2Jgone");
        assert_eq!(printed("%s", None, Some(value), true), b"0x1b5b324a676f6e65ff");
    }

    #[test]
    fn what_is_no_format_is_refused() {
        for format in ["", "text", "100%", "%z", "%s\\q", "%s\\", "plain\\n", "%%"] {
            assert!(format.parse::<Template>().is_err(), "{format}");
        }
    }
}
