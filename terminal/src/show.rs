//! Records as lines: for people, and as JSON. The log holds bytes; what they look like decides how they are shown.

use std::fmt::Write;

use headwater_core::{RecordRef, Timestamp, TopicPartition};
use serde_json::Value;

use crate::time::rfc3339;

/// How the bytes of a key are made up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// The key and nothing else.
    Plain,
    /// The key, then the start of its window in 8 bytes (Kafka: `TimeWindowedSerializer`).
    Windowed,
}

impl KeyKind {
    /// The key itself, and the start of its window. A key that is too short to have a window has none.
    #[must_use]
    pub fn split(self, key: &[u8]) -> (&[u8], Option<Timestamp>) {
        match (self, key.split_last_chunk::<8>()) {
            (Self::Windowed, Some((inner, start))) => (inner, Some(Timestamp(i64::from_be_bytes(*start)))),
            _ => (key, None),
        }
    }
}

/// What people see of a record besides partition, offset, time and value.
#[derive(Debug, Clone, Copy)]
pub struct Columns {
    /// Its key, and what that is made of.
    pub keys: Option<KeyKind>,
    /// Its headers.
    pub headers: bool,
}

/// Partition, offset, time, perhaps the key, the value, perhaps the headers: apart by tabs.
#[must_use]
pub fn text_line(partition: &TopicPartition, record: &RecordRef<'_>, columns: Columns) -> String {
    let (offset, time) = (record.offset, rfc3339(record.timestamp));
    let mut line = format!("{}\t{offset}\t{time}\t", partition.partition);
    if let Some(kind) = columns.keys {
        push_key(&mut line, record.key, kind);
        line.push('\t');
    }
    line.push_str(&nullable(record.value));
    if columns.headers {
        line.push('\t');
        line.push_str(&headers(record));
    }
    line
}

/// `name=value,name=value`
#[must_use]
pub fn headers(record: &RecordRef<'_>) -> String {
    let headers = record.headers.iter().map(|(name, value)| format!("{}={}", text(name), nullable(value)));
    headers.collect::<Vec<_>>().join(",")
}

fn push_key(line: &mut String, key: Option<&[u8]>, kind: KeyKind) {
    let Some((key, window)) = key.map(|key| kind.split(key)) else { return line.push_str("null") };
    line.push_str(&text(key));
    if let Some(start) = window {
        line.push('@');
        line.push_str(&rfc3339(start));
    }
}

/// As [`text`], `null` for nothing.
#[must_use]
pub fn nullable(bytes: Option<&[u8]>) -> String {
    bytes.map_or_else(|| "null".into(), text)
}

/// One object with all there is to a record.
#[must_use]
pub fn json_line(partition: &TopicPartition, record: &RecordRef<'_>, kind: KeyKind) -> String {
    let (topic, number) = (quoted(partition.topic.as_str()), partition.partition);
    format!(r#"{{"topic":{topic},"partition":{number},{}}}"#, json_fields(record, kind))
}

/// What there is to a record besides its place.
#[must_use]
pub fn json_fields(record: &RecordRef<'_>, kind: KeyKind) -> String {
    let (offset, timestamp, time) = (record.offset, record.timestamp, quoted(&rfc3339(record.timestamp)));
    let mut line = format!(r#""offset":{offset},"timestamp":{timestamp},"time":{time},"key":"#);
    match record.key.map(|key| kind.split(key)) {
        None => line.push_str("null"),
        Some((key, None)) => line.push_str(&json(key)),
        Some((key, Some(start))) => {
            let (key, time) = (json(key), quoted(&rfc3339(start)));
            // Writing to a `String` cannot fail.
            let _ = write!(line, r#"{key},"window_start":{start},"window_start_time":{time}"#);
        }
    }
    line.push_str(r#","value":"#);
    line.push_str(&record.value.map_or_else(|| "null".into(), json));
    if !record.headers.is_empty() {
        let headers: Vec<_> = record
            .headers
            .iter()
            .map(|(name, value)| {
                let value = value.map_or_else(|| "null".into(), json);
                format!(r#"{{"name":{},"value":{value}}}"#, quoted(&String::from_utf8_lossy(name)))
            })
            .collect();
        let _ = write!(line, r#","headers":[{}]"#, headers.join(","));
    }
    line
}

/// What bytes look like.
enum Look<'a> {
    /// Text. It may hold control characters.
    Text(&'a str),
    /// Anything else.
    Bytes(&'a [u8]),
}

fn look(bytes: &[u8]) -> Look<'_> {
    // No text has a zero in it, but most numbers do: in hexadecimal they can be read.
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => Look::Text(text),
        _ => Look::Bytes(bytes),
    }
}

/// The JSON object or array that `text` is.
fn structure(text: &str) -> Option<Value> {
    text.trim_start().starts_with(['{', '[']).then(|| serde_json::from_str(text).ok())?
}

/// On one line, for people.
#[must_use]
pub fn text(bytes: &[u8]) -> String {
    const BREAKS: [char; 3] = ['\t', '\n', '\r'];
    match look(bytes) {
        Look::Text("") => r#""""#.into(),
        // Inside its strings JSON escapes line ends and tabs: those that are left lie between its parts.
        Look::Text(text) if text.contains(BREAKS) && structure(text).is_some() => {
            escaped(&text.trim().replace(BREAKS, " "))
        }
        Look::Text(text) => escaped(text),
        Look::Bytes(bytes) => format!("0x{}", hex(bytes)),
    }
}

/// As JSON from which `headwater produce --json` makes the same bytes again: an object or array as it is, if it is on one
/// line and does not look like bytes in hexadecimal; other text as a string.
#[must_use]
pub fn json(bytes: &[u8]) -> String {
    match look(bytes) {
        Look::Text(text) if as_it_is(text) => text.into(),
        Look::Text(text) => quoted(text),
        Look::Bytes(bytes) => format!(r#"{{"hex":"{}"}}"#, hex(bytes)),
    }
}

fn as_it_is(text: &str) -> bool {
    let plain = |c: char| c == '\t' || !is_harmful(c);
    text.trim().len() == text.len()
        && text.chars().all(plain)
        && structure(text).is_some_and(|value| stands_for_bytes(&value).is_none())
}

/// How bytes that are no text are written in JSON: an object with the name of the encoding, and what it came to.
#[must_use]
pub fn stands_for_bytes(value: &Value) -> Option<(&str, &Value)> {
    let object = value.as_object().filter(|object| object.len() == 1)?;
    object
        .iter()
        .next()
        .map(|(name, value)| (name.as_str(), value))
        .filter(|(name, _)| matches!(*name, "hex" | "base64"))
}

/// One line that can do a terminal no harm: no control character is left, and none that turns or breaks the line.
#[must_use]
pub fn escaped(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if is_harmful(c) {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}

/// Whether a character commands a terminal, or turns or breaks a line.
#[must_use]
pub fn is_harmful(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// As a JSON string, harmless too.
#[must_use]
pub fn quoted(text: &str) -> String {
    let mut string = Value::from(text).to_string();
    if string.chars().any(is_harmful) {
        let escape = |c: char| if is_harmful(c) { format!("\\u{:04x}", u32::from(c)) } else { c.into() };
        string = string.chars().map(escape).collect();
    }
    string
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a `String` cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_by_what_they_look_like() {
        for (bytes, as_text, as_json) in [
            (&b"sensor-1"[..], "sensor-1", r#""sensor-1""#),
            (b"", r#""""#, r#""""#),
            (b"42", "42", r#""42""#),
            (b"say \"hi\"", r#"say "hi""#, r#""say \"hi\"""#),
            (b"two\nlines\tand a tab", r"two\nlines\tand a tab", r#""two\nlines\tand a tab""#),
            (
                b"{ \"n\": 18446744073709551615 }",
                r#"{ "n": 18446744073709551615 }"#,
                r#"{ "n": 18446744073709551615 }"#,
            ),
            (b"[1,\n2]\n", "[1, 2]", r#""[1,\n2]\n""#),
            (b" [1]", " [1]", r#"" [1]""#),
            (br#"{"hex":"00"}"#, r#"{"hex":"00"}"#, r#""{\"hex\":\"00\"}""#),
            (br#"{"hex":"00","n":1}"#, r#"{"hex":"00","n":1}"#, r#"{"hex":"00","n":1}"#),
            (b"{not json", "{not json", r#""{not json""#),
            ("grün".as_bytes(), "grün", r#""grün""#),
            (&42u64.to_be_bytes(), "0x000000000000002a", r#"{"hex":"000000000000002a"}"#),
            (b"\xff\xfe", "0xfffe", r#"{"hex":"fffe"}"#),
            (b"\x1b[2Jgone", r"\u{1b}[2Jgone", r#""\u001b[2Jgone""#),
            ("a\u{9b}b\u{202e}c".as_bytes(), r"a\u{9b}b\u{202e}c", r#""a\u009bb\u202ec""#),
            ("[\"\u{9b}\"]".as_bytes(), r#"["\u{9b}"]"#, r#""[\"\u009b\"]""#),
        ] {
            assert_eq!((text(bytes).as_str(), json(bytes).as_str()), (as_text, as_json));
            assert!(serde_json::from_str::<Value>(&json(bytes)).is_ok(), "{}", json(bytes));
        }
    }

    #[test]
    fn a_windowed_key_is_its_key_and_its_start() {
        let key = [b"sensor-1".as_slice(), &60_000i64.to_be_bytes()].concat();
        assert_eq!(KeyKind::Windowed.split(&key), (&b"sensor-1"[..], Some(Timestamp(60_000))));
        assert_eq!(KeyKind::Plain.split(&key), (&key[..], None));
        assert_eq!(KeyKind::Windowed.split(b"short"), (&b"short"[..], None));
    }
}
