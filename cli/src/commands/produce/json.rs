//! A line of JSON becomes a record: what `consume --json` prints becomes what it was, byte for byte.

use std::fmt;

use bytes::Bytes;
use headwater_core::{Error, Result, Timestamp};
use headwater_terminal::{
    show::stands_for_bytes,
    time::{Moment, parse_rfc3339},
};
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::{Value, value::RawValue};

use super::Input;

/// The fields of a line. What is not known is refused: a misspelt `value` must not become a deletion.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    #[serde(borrow, default)]
    key: Option<&'a RawValue>,
    #[serde(borrow)]
    value: &'a RawValue,
    #[serde(default)]
    timestamp: Option<Value>,
    #[serde(borrow, default)]
    headers: Option<&'a RawValue>,
    #[serde(default)]
    partition: Option<u32>,
    /// What a windowed key ends with.
    #[serde(default)]
    window_start: Option<i64>,
    #[serde(default, rename = "topic")]
    _topic: Option<IgnoredAny>,
    #[serde(default, rename = "offset")]
    _offset: Option<IgnoredAny>,
    #[serde(default, rename = "time")]
    _time: Option<IgnoredAny>,
    #[serde(default, rename = "window_start_time")]
    _window_start_time: Option<IgnoredAny>,
}

/// What a line says.
///
/// # Errors
/// `Invalid` with the column of what makes no sense.
pub(super) fn parse(line: &[u8]) -> Result<Input> {
    let line: Line<'_> = serde_json::from_slice(line).map_err(|e| wrong(&e))?;
    let mut key = line.key.map(bytes).transpose()?.flatten();
    if let Some(start) = line.window_start {
        key = key.map(|key| [&key[..], &start.to_be_bytes()].concat().into());
    }
    Ok(Input {
        key,
        value: bytes(line.value)?,
        timestamp: line.timestamp.as_ref().map(time).transpose()?,
        headers: line.headers.map(headers).transpose()?.unwrap_or_default(),
        partition: line.partition,
    })
}

/// Milliseconds, or a time as text.
pub(super) fn time(value: &Value) -> Result<Timestamp> {
    let time = match value {
        Value::Number(number) => number.as_i64().map(Timestamp),
        Value::String(text) => match text.parse() {
            Ok(Moment::At(time)) => Some(time),
            _ => parse_rfc3339(text),
        },
        _ => None,
    };
    time.ok_or_else(|| Error::invalid(format!("not a time: milliseconds or RFC 3339 are. time={value}")))
}

fn wrong(error: &serde_json::Error) -> Error {
    // The line it names is one within our line.
    let column = error.column();
    let text = error.to_string();
    let what = text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what);
    Error::invalid(format!("not a record: {what}. column={column}"))
}

/// The bytes that a JSON value stands for.
fn bytes(raw: &RawValue) -> Result<Option<Bytes>> {
    let text = raw.get();
    match text.as_bytes().first() {
        Some(b'n') => return Ok(None),
        Some(b'"') => {
            let text: String = serde_json::from_str(text).map_err(|e| wrong(&e))?;
            return Ok(Some(text.into()));
        }
        Some(b'{') if text.contains("\"hex\"") || text.contains("\"base64\"") => {
            let value: Value = serde_json::from_str(text).map_err(|e| wrong(&e))?;
            if let Some((encoding, encoded)) = stands_for_bytes(&value) {
                let decode = if encoding == "hex" { decode_hex } else { decode_base64 };
                let decoded = encoded.as_str().and_then(|encoded| decode(encoded.as_bytes()));
                let wrong = || Error::invalid(format!("not bytes in {encoding}. value={encoded}"));
                return Ok(Some(decoded.ok_or_else(wrong)?.into()));
            }
        }
        _ => {}
    }
    Ok(Some(Bytes::copy_from_slice(text.as_bytes())))
}

/// `{"name": value}`, `[["name", value]]`, or `[{"name": "name", "value": value}]`.
fn headers(raw: &RawValue) -> Result<Vec<(String, Option<Bytes>)>> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Named<'a> {
        name: String,
        #[serde(borrow)]
        value: &'a RawValue,
    }
    let text = raw.get();
    if !text.starts_with('[') {
        let fields: Option<Fields<'_>> = serde_json::from_str(text).map_err(|e| wrong(&e))?;
        let fields = fields.map_or_else(Vec::new, |fields| fields.0);
        return fields.into_iter().map(|(name, value)| Ok((name, bytes(value)?))).collect();
    }
    let list: Vec<&RawValue> = serde_json::from_str(text).map_err(|e| wrong(&e))?;
    let one = |raw: &RawValue| {
        let (name, value) = match raw.get().starts_with('[') {
            true => serde_json::from_str::<(String, &RawValue)>(raw.get()).map_err(|e| wrong(&e))?,
            false => {
                let Named { name, value } = serde_json::from_str(raw.get()).map_err(|e| wrong(&e))?;
                (name, value)
            }
        };
        Ok((name, bytes(value)?))
    };
    list.into_iter().map(one).collect()
}

/// The fields of an object in their order, with those that repeat.
struct Fields<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("headers: an object, or a list of pairs")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

fn decode_hex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |c: u8| char::from(c).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = text.chunks_exact(2);
    let whole = pairs.remainder().is_empty();
    pairs.map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect::<Option<_>>().filter(|_| whole)
}

/// RFC 4648, the usual alphabet or the one for URLs, with its padding or without.
fn decode_base64(text: &[u8]) -> Option<Vec<u8>> {
    let mut digits = text;
    for _ in 0..2 {
        digits = digits.strip_suffix(b"=").unwrap_or(digits);
    }
    let padded = text.len() > digits.len();
    if digits.len() % 4 == 1 || (padded && !text.len().is_multiple_of(4)) {
        return None;
    }
    let mut bytes = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    for group in digits.chunks(4) {
        let mut bits: u32 = 0;
        for c in group {
            bits = bits << 6 | u32::from(sextet(*c)?);
        }
        bits <<= 6 * (4 - group.len());
        let [_, first, second, third] = bits.to_be_bytes();
        bytes.extend_from_slice(&[first, second, third][..group.len() - 1]);
    }
    Some(bytes)
}

fn sextet(c: u8) -> Option<u8> {
    Some(match c {
        b'A'..=b'Z' => c - b'A',
        b'a'..=b'z' => c - b'a' + 26,
        b'0'..=b'9' => c - b'0' + 52,
        b'+' | b'-' => 62,
        b'/' | b'_' => 63,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(json: &str) -> Option<Vec<u8>> {
        parse(format!(r#"{{"value":{json}}}"#).as_bytes()).unwrap().value.map(Vec::from)
    }

    fn refused(line: &str) -> String {
        parse(line.as_bytes()).expect_err(line).to_string()
    }

    #[test]
    fn a_value_is_the_text_it_is_or_what_it_stands_for() {
        for (json, bytes) in [
            (r#""text""#, b"text".as_slice()),
            (r#""""#, b""),
            (r#""\u0000\n\"""#, b"\0\n\""),
            ("18446744073709551616.50", b"18446744073709551616.50"),
            ("true", b"true"),
            (r#"{ "b": 1,  "a": [1.0] }"#, br#"{ "b": 1,  "a": [1.0] }"#),
            ("[1, 2]", b"[1, 2]"),
            (r#"{"hex":"00fF"}"#, b"\x00\xff"),
            (r#"{"hex":""}"#, b""),
            (r#"{"base64":"AP8="}"#, b"\x00\xff"),
            (r#"{"base64":"AP8"}"#, b"\x00\xff"),
            (r#"{"base64":"-_-_"}"#, b"\xfb\xff\xbf"),
            (r#"{"base64":"YWJj"}"#, b"abc"),
            (r#"{"hex":"00","n":1}"#, br#"{"hex":"00","n":1}"#),
        ] {
            assert_eq!(value(json).as_deref(), Some(bytes), "{json}");
        }
        assert_eq!(value("null"), None);
    }

    #[test]
    fn a_line_has_all_there_is_to_a_record() {
        let line = r#"{"topic":"t","offset":7,"time":"x","key":"k","value":null,"timestamp":"2015-09-01T11:30:00Z","partition":3,
            "headers":[{"name":"a","value":"1"},["b",null],["a",{"hex":"ff"}]],"window_start":60000,"window_start_time":"y"}"#;
        let key: Bytes = [b"k".as_slice(), &60_000i64.to_be_bytes()].concat().into();
        let headers = vec![
            ("a".to_owned(), Some(Bytes::from_static(b"1"))),
            ("b".to_owned(), None),
            ("a".to_owned(), Some(Bytes::from_static(b"\xff"))),
        ];
        let timestamp = Some(Timestamp(1_441_107_000_000));
        assert_eq!(
            parse(line.as_bytes()).unwrap(),
            Input { key: Some(key), value: None, timestamp, headers, partition: Some(3) }
        );
        let object = parse(br#"{"value":1,"headers":{"z":"1","a":2,"z":null}}"#).unwrap();
        let names: Vec<_> = object.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["z", "a", "z"], "in their order");
        let bare = parse(br#"{"value":1,"headers":null,"key":null,"timestamp":null}"#).unwrap();
        assert_eq!(bare, Input { value: Some(Bytes::from_static(b"1")), ..Input::default() });
    }

    #[test]
    fn what_is_no_record_is_refused_with_its_place() {
        assert_eq!(refused("{"), "not a record: EOF while parsing an object. column=1");
        assert_eq!(refused(r#"{"key":"k"}"#), "not a record: missing field `value`. column=11");
        assert!(refused(r#"{"valeu":1}"#).contains("unknown field `valeu`"));
        assert_eq!(refused(r#"{"value":{"hex":"0"}}"#), r#"not bytes in hex. value="0""#);
        assert_eq!(refused(r#"{"value":{"hex":"0g"}}"#), r#"not bytes in hex. value="0g""#);
        assert_eq!(refused(r#"{"value":{"hex":7}}"#), "not bytes in hex. value=7");
        for base64 in ["A", "A===", "AA=", "AAAAA", "A*==", "=AA="] {
            assert!(
                refused(&format!(r#"{{"value":{{"base64":"{base64}"}}}}"#)).contains("base64"),
                "{base64}"
            );
        }
        for line in [
            "",
            "text",
            "[]",
            r#"{"value":1} x"#,
            r#"{"value":1,"partition":-1}"#,
            r#"{"value":1,"timestamp":"soon"}"#,
            r#"{"value":1,"timestamp":1.5}"#,
            r#"{"value":1,"timestamp":"1h ago"}"#,
            r#"{"value":1,"headers":"a=1"}"#,
            r#"{"value":1,"headers":[["a"]]}"#,
            "{\"value\":\"\u{fffd}\\ud800\"}",
        ] {
            refused(line);
        }
        assert!(parse(b"{\"value\":\"\xff\"}").is_err(), "JSON is UTF-8");
    }
}
