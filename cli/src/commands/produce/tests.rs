//! Lines against a log in memory.

use clap::Parser;
use futures::{FutureExt, executor::block_on};
use headwater_core::{Log, ManualClock, Offset, TopicName, TopicPartition, memory::MemoryLog};
use headwater_terminal::show;
use proptest::prelude::*;

use super::*;
use crate::{Arguments, commands::Command};

/// A record of the log: partition, timestamp, key, value, headers.
type Held = (u32, i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<(String, Option<Vec<u8>>)>);

fn log(partitions: u32) -> MemoryLog {
    let log = MemoryLog::default();
    block_on(log.create_topic(&TopicSpec::new("t", partitions).unwrap())).unwrap();
    log
}

fn command(log: &MemoryLog, command: &[&str], input: &mut dyn Read) -> Result<String, Failure> {
    let arguments = Arguments::try_parse_from([&["headwater"], command].concat()).expect("it parses");
    let mut out = Vec::new();
    let mut session = Session {
        asks: false,
        shows: false,
        quiet: true,
        clock: &ManualClock::new(Timestamp(77)),
        input,
        out: &mut out,
    };
    let Command::OnLog(command) = &arguments.command else { panic!("it is not for an open log") };
    block_on(command.run(log, &mut session))?;
    Ok(String::from_utf8(out).unwrap())
}

fn produce(log: &MemoryLog, options: &[&str], input: &str) -> Result<String, Failure> {
    command(log, &[&["produce", "t"], options].concat(), &mut input.as_bytes())
}

fn refused(log: &MemoryLog, options: &[&str], input: &str) -> String {
    match produce(log, options, input) {
        Err(Failure::Usage(error)) => error.to_string(),
        other => panic!("not refused: {input}: {other:?}"),
    }
}

fn held(log: &MemoryLog, name: &str) -> Vec<Held> {
    let spec = block_on(topic(log, name)).unwrap();
    let mut held = Vec::new();
    for partition in spec.topic_partitions() {
        for batch in block_on(log.read(&partition, Offset(0), usize::MAX)).unwrap().batches {
            let mut records = batch.cursor();
            while let Some(record) = records.next().transpose().unwrap() {
                let headers = record.headers.to_owned();
                let headers =
                    headers.iter().map(|(name, value)| (name.to_owned(), value.map(<[u8]>::to_vec)));
                held.push((
                    partition.partition.0,
                    record.timestamp.0,
                    record.key.map(<[u8]>::to_vec),
                    record.value.map(<[u8]>::to_vec),
                    headers.collect(),
                ));
            }
        }
    }
    held
}

fn values(log: &MemoryLog) -> Vec<String> {
    let text = |value: Option<Vec<u8>>| String::from_utf8(value.unwrap_or_else(|| b"null".into())).unwrap();
    held(log, "t").into_iter().map(|record| text(record.3)).collect()
}

#[test]
fn a_line_is_a_value() {
    let log = log(1);
    assert_eq!(produce(&log, &[], "a\r\n\n b \nc").unwrap(), "4 records written to t\n");
    assert_eq!(values(&log), ["a", "", " b ", "c"]);
    assert!(held(&log, "t").iter().all(|record| record.1 == 77 && record.2.is_none() && record.4.is_empty()));
    assert_eq!(produce(&log, &[], "").unwrap(), "0 records written to t\n");
}

#[test]
fn a_separator_splits_key_and_value() {
    let log = log(1);
    let options =
        ["--key-separator", "::", "--null-marker", "NULL", "--header", "unit=°C", "--header", "empty="];
    produce(&log, &options, "oven::180::x\n::\nNULL::NULL\n").unwrap();
    let held = held(&log, "t");
    let fields: Vec<_> = held.iter().map(|record| (record.2.as_deref(), record.3.as_deref())).collect();
    assert_eq!(fields, [(Some(&b"oven"[..]), Some(&b"180::x"[..])), (Some(b""), Some(b"")), (None, None)]);
    assert_eq!(held[2].4, [("unit".into(), Some("°C".into())), ("empty".into(), Some(Vec::new()))]);
}

#[test]
fn a_line_that_makes_no_sense_ends_it() {
    let log = log(1);
    assert_eq!(
        refused(&log, &["--key-separator", "="], "a=1\nb=2\nc\nd=4\n"),
        "line 3, 2 records before it written: no key: the separator of --key-separator is not in it"
    );
    assert_eq!(values(&log), ["1", "2"]);
    assert_eq!(
        refused(&log, &["--json"], "{\"value\":\"3\"}\n\n{\"value\":}\n"),
        "line 3, 1 record before it written: not a record: expected value. column=10"
    );
    assert_eq!(values(&log), ["1", "2", "3"]);
    assert_eq!(
        refused(&log, &["--json"], "{\"value\":1,\"partition\":1}"),
        "line 1, 0 records before it written: there is no such partition: they count from 0; --repartition ignores them. topic=t, partition=1, partitions=1"
    );
    produce(&log, &["--json", "--repartition"], "{\"value\":\"4\",\"partition\":1}").unwrap();
    assert_eq!(values(&log), ["1", "2", "3", "4"]);
}

#[test]
fn records_go_where_their_keys_belong_or_take_turns() {
    let log = log(4);
    let lines: String = (0..100).map(|n| format!("key-{n}=v\n")).collect();
    produce(&log, &["--key-separator", "="], &lines).unwrap();
    let four = NonZeroU32::new(4).unwrap();
    for (number, _, key, ..) in held(&log, "t") {
        assert_eq!(headwater_core::partition_for_key(&key.unwrap(), four).0, number);
    }
    let fours = self::log(4);
    let lines = format!("{}\n", "x".repeat(5000)).repeat(64);
    produce(&fours, &[], &lines).unwrap();
    let count = |number| held(&fours, "t").iter().filter(|record| record.0 == number).count();
    assert_eq!([0, 1, 2, 3].map(count), [16; 4], "each gets its share");
    produce(&fours, &["--partition", "2"], "to the third").unwrap();
    produce(&fours, &[], "where least is").unwrap();
    assert_eq!([0, 1, 2, 3].map(count), [17, 16, 17, 16]);
    assert!(produce(&fours, &["--partition", "4"], "x").is_err());
}

#[test]
fn time_is_said_by_the_line_the_value_an_option_or_the_clock() {
    let log = log(1);
    produce(&log, &[], "clock").unwrap();
    produce(&log, &["--timestamp", "2015-09-01"], "option").unwrap();
    produce(
        &log,
        &["--json", "--timestamp", "5"],
        "{\"value\":\"line\",\"timestamp\":6}\n{\"value\":\"option\"}",
    )
    .unwrap();
    produce(
        &log,
        &["--timestamp-field", "meta.at"],
        "{\"meta\":{\"at\":\"1970-01-01T00:00:01Z\"}}\n{\"meta\":{\"at\":9}}",
    )
    .unwrap();
    let times: Vec<_> = held(&log, "t").into_iter().map(|record| record.1).collect();
    assert_eq!(times, [77, 1_441_065_600_000, 6, 5, 1000, 9]);
    for (line, error) in [
        ("text", "the value is not JSON, and --timestamp-field wants it to be"),
        ("{\"meta\":{}}", "the value has no such field. field=meta.at"),
        ("{\"meta\":{\"at\":[]}}", "not a time: milliseconds or RFC 3339 are. time=[]"),
    ] {
        assert_eq!(
            refused(&log, &["--timestamp-field", "meta.at"], line),
            format!("line 1, 0 records before it written: {error}")
        );
    }
}

#[test]
fn a_topic_is_made_when_asked_for() {
    let log = log(1);
    let made = command(&log, &["produce", "new", "--create=3"], &mut "x".as_bytes()).unwrap();
    assert_eq!(made, "1 record written to new\n");
    command(&log, &["produce", "new", "--create"], &mut "x".as_bytes()).unwrap();
    assert_eq!(block_on(topic(&log, "new")).unwrap().partitions.get(), 3);
    assert!(command(&log, &["produce", "newer"], &mut "x".as_bytes()).is_err());
}

#[test]
fn large_records_fit_or_are_refused() {
    let log = log(1);
    let mut config = headwater_core::TopicChanges::default();
    config.settings.push(("max.message.bytes".into(), Some("1000".into())));
    block_on(log.alter_topic(&TopicName::new("t").unwrap(), &config)).unwrap();
    let (fits, too_large) = ("x".repeat(900), "x".repeat(1000));
    let error = refused(&log, &[], &format!("{fits}\n{fits}\n{too_large}\n{fits}\n"));
    assert!(
        error.starts_with("line 3, 2 records before it written: the record is larger than its topic takes"),
        "{error}"
    );
    assert_eq!(values(&log), [fits.clone(), fits]);
    // A line that no record can come of is not kept in memory.
    let mut endless = io::repeat(b'x');
    let Err(Failure::Usage(error)) = command(&log, &["produce", "t"], &mut endless) else {
        panic!("it ends")
    };
    assert!(
        error.to_string().starts_with("line 1, 0 records before it written: the line is too long"),
        "{error}"
    );
}

/// Gives out a little at a time, and ends when it likes.
struct Drops<'a>(&'a [u8], usize);

impl Read for Drops<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (now, later) = self.0.split_at(self.0.len().min(self.1));
        self.0 = later;
        buffer[..now.len()].copy_from_slice(now);
        Ok(now.len())
    }
}

#[test]
fn lines_are_the_same_in_whatever_pieces_they_come() {
    for size in [1, 2, 3, 7, 100] {
        let log = log(1);
        command(&log, &["produce", "t"], &mut Drops(b"one\n\ntwo\r\nthree", size)).unwrap();
        assert_eq!(values(&log), ["one", "", "two", "three"], "{size}");
    }
}

#[test]
fn each_line_that_is_at_hand_is_written_before_more_is_waited_for() {
    let log = log(1);
    /// Looks whether the first line is in the log when the second is asked for.
    struct Typed<'a>(&'a MemoryLog, u32);
    impl Read for Typed<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let partition = TopicPartition::new(TopicName::new("t").unwrap(), headwater_core::Partition(0));
            let end = self.0.offsets(&partition).now_or_never().unwrap().unwrap().end;
            assert_eq!(end, Offset(self.1.into()));
            self.1 += 1;
            if self.1 > 3 {
                return Ok(0);
            }
            buffer[..5].copy_from_slice(b"line\n");
            Ok(5)
        }
    }
    let written = command(&log, &["produce", "t"], &mut Typed(&log, 0)).unwrap();
    assert_eq!(written, "3 records written to t\n");
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(br#"{"hex":"00"}"#.to_vec()),
        Just(br#"{"base64":"AA=="}"#.to_vec()),
        Just(b"{ \"a\": [1,  2.50] }".to_vec()),
        Just(b"{\n\t\"a\": 1e999\n}\n".to_vec()),
        Just(b"[\"\\ud800\"]".to_vec()),
        Just(b"null".to_vec()),
        ".{0,20}".prop_map(String::into_bytes),
        r#"[\[{" ][\[\]{}":,0-9a \t\n\\]{0,20}"#.prop_map(String::into_bytes),
        proptest::collection::vec(any::<u8>(), 0..20),
    ]
}

proptest! {
    /// `consume --json | produce --json` makes the same records again, byte for byte.
    #[test]
    fn what_consume_prints_produce_reads(
        records in proptest::collection::vec(
            (
                0..3u32,
                any::<i64>(),
                proptest::option::of(bytes()),
                proptest::option::of(bytes()),
                proptest::collection::vec((".{0,5}", proptest::option::of(bytes())), 0..3),
            ),
            0..12,
        ),
        windowed in any::<bool>(),
    ) {
        let log = log(3);
        block_on(log.create_topic(&TopicSpec::new("copy", 3).unwrap())).unwrap();
        let mut writer = block_on(Writer::open(&log, block_on(topic(&log, "t")).unwrap(), Compression::None)).unwrap();
        for (number, time, key, value, headers) in &records {
            let input = Input {
                key: key.clone().map(Bytes::from),
                value: value.clone().map(Bytes::from),
                partition: Some(*number),
                ..Input::default()
            };
            let headers = headers.iter().map(|(name, value)| (name.clone(), value.clone().map(Bytes::from)));
            writer.push(&input, Timestamp(*time), &headers.collect()).unwrap();
        }
        block_on(writer.commit()).unwrap();
        let consume = ["consume", "t", "--json", "--windowed-key"];
        let consume = &consume[..if windowed { 4 } else { 3 }];
        let lines = command(&log, consume, &mut io::empty()).unwrap();
        prop_assert_eq!(lines.lines().count(), records.len());
        prop_assert!(!lines.chars().any(|c| c != '\n' && c != '\t' && show::is_harmful(c)));
        command(&log, &["produce", "copy", "--json"], &mut lines.as_bytes()).unwrap();
        prop_assert_eq!(held(&log, "copy"), held(&log, "t"));
    }

    /// No line can panic.
    #[test]
    fn whatever_a_line_is_it_is_a_record_or_refused(line in bytes(), json in any::<bool>()) {
        let log = log(1);
        let options: &[&str] = if json { &["produce", "t", "--json"] } else { &["produce", "t", "--key-separator", "a"] };
        let _ = command(&log, options, &mut &line[..]);
    }
}
