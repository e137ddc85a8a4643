//! What a topology says of the topics that it writes, and how their keys and values are shown.

use std::time::Duration;

use headwater_core::{Data, DefaultSerde, Timestamp, TopicName, serdes};
use headwater_streams::{
    Concurrency, Emit, JoinWindows, KStream, Output, OutputKind, Produced, Session, SessionWindows,
    StreamsBuilder, TimeWindows, Window, Windowed, windowed_serde,
};
use serde::{Deserialize, Serialize};

use OutputKind::{Events, Updates};

/// The outputs of a topology over one stream, by topic.
fn outputs(build: impl FnOnce(KStream<String, u64>)) -> Vec<(String, OutputKind)> {
    let builder = StreamsBuilder::new();
    build(builder.stream("numbers"));
    let outputs = builder.build().unwrap().outputs();
    outputs.iter().map(|output| (output.topic().unwrap().to_string(), output.kind())).collect()
}

fn kind(build: impl FnOnce(KStream<String, u64>)) -> OutputKind {
    let outputs = outputs(build);
    assert_eq!(outputs.len(), 1, "{outputs:?}");
    outputs[0].1
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn streams_carry_events_and_tables_updates() {
    assert_eq!(kind(|numbers| numbers.filter(|_, n| *n > 1).to("out")), Events);
    assert_eq!(kind(|numbers| numbers.group_by_key().count("counts").to_stream().to("out")), Updates);
    let table = |numbers: KStream<String, u64>| numbers.to_table("rows");
    assert_eq!(kind(|numbers| table(numbers).filter(|_, n| *n > 1).to_stream().to("out")), Updates);
    let joined = |numbers: KStream<String, u64>| numbers.join_table(&table(numbers.clone()), |_, a, b| a + b);
    assert_eq!(kind(|numbers| joined(numbers).to("out")), Events);
}

#[test]
fn windows_carry_updates_unless_they_wait_until_they_are_closed() {
    for (emit, expected) in [
        (Emit::OnUpdate, Updates),
        (Emit::OnChange, Updates),
        (Emit::OnCommit, Updates),
        (Emit::OnClose, Events),
    ] {
        let windows = |numbers: KStream<String, u64>| {
            let grouped = numbers.group_by_key().windowed_by(TimeWindows::tumbling(ms(10)));
            grouped.emit(emit).count("counts").to_stream()
        };
        let sessions = |numbers: KStream<String, u64>| {
            let grouped = numbers.group_by_key().windowed_by(SessionWindows::gap(ms(10)));
            grouped.emit(emit).count("counts").to_stream()
        };
        assert_eq!(kind(|numbers| windows(numbers).to("out")), expected);
        assert_eq!(kind(|numbers| sessions(numbers).to("out")), expected);
    }
}

#[test]
fn updates_stay_updates_until_their_keys_may_change() {
    let counts = |numbers: KStream<String, u64>| numbers.group_by_key().count("counts").to_stream();
    let kept = kind(|numbers| {
        let counts =
            counts(numbers).filter(|_, n| n.is_some()).map_values(|_, n| n.unwrap_or(0)).peek(|_, _| {});
        counts.merge(&counts.filter(|_, n| *n > 5)).repartition("again").to("out");
    });
    assert_eq!(kept, Updates);
    let asked = kind(|numbers| {
        let counts = counts(numbers).map_values(|_, n| n.unwrap_or(0));
        counts.map_async("ask", Concurrency::ordered(2), |_, n| async move { Ok(n) }).to("out");
    });
    assert_eq!(asked, Updates);
    assert_eq!(kind(|numbers| counts(numbers).select_key(|_, n| n.unwrap_or(0)).to("out")), Events);
    assert_eq!(kind(|numbers| counts(numbers).map(|key, n| (n.unwrap_or(0), key)).to("out")), Events);
    assert_eq!(kind(|numbers| counts(numbers).flat_map_values(|_, n| n).to("out")), Events);
    // They are updates again behind a table.
    let again = kind(|numbers| {
        let by_count = counts(numbers).map(|key, n| (n.unwrap_or(0), key)).repartition("by-count");
        by_count.to_table("by-count").to_stream().to("out");
    });
    assert_eq!(again, Updates);
}

/// How many there are says nothing then, whatever their keys.
#[test]
fn what_depends_on_commits_is_never_compared_by_its_sequence() {
    let rekeyed = kind(|numbers| {
        let windows = numbers.group_by_key().windowed_by(TimeWindows::tumbling(ms(10))).emit(Emit::OnCommit);
        windows.count("counts").to_stream().map(|windowed, n| (windowed.key, n)).to("out");
    });
    assert_eq!(rekeyed, Updates);
}

#[test]
fn events_and_updates_in_one_are_events() {
    let both = outputs(|numbers| {
        let counts = numbers.group_by_key().count("counts").to_stream().map_values(|_, n| n.unwrap_or(0));
        numbers.merge(&counts).to("merged");
        counts.to("twice");
        numbers.to("twice");
        counts.to("counts-only");
        counts.filter(|_, n| *n > 3).to("counts-only");
    });
    let expected = [("merged", Events), ("twice", Events), ("counts-only", Updates)];
    assert_eq!(both, expected.map(|(topic, kind)| (topic.to_owned(), kind)));
}

#[test]
fn joins_of_streams_are_events_and_internal_topics_no_outputs() {
    let joined = outputs(|numbers| {
        let counts = numbers.group_by_key().count("counts").to_stream().map_values(|_, n| n.unwrap_or(0));
        let by_other = numbers.select_key(|_, n| n.to_string()).repartition("by-number");
        counts.join(&numbers, "both", JoinWindows::within(ms(5)), |_, a, b| a + b).to("joined");
        by_other.group_by_key().count("by-number-counts").to_stream().to("moved");
    });
    assert_eq!(joined, [("joined".to_owned(), Events), ("moved".to_owned(), Updates)]);
}

#[test]
fn a_topic_that_records_choose_has_no_name_until_it_gets_one() {
    let builder = StreamsBuilder::new();
    builder.stream::<String, u64>("numbers").to_each(|key, _| format!("numbers-of-{key}"));
    let outputs = builder.build().unwrap().outputs();
    assert_eq!((outputs.len(), outputs[0].topic()), (1, None));
    let named = outputs[0].clone().in_topic(TopicName::new("numbers-of-a").unwrap());
    assert_eq!(named.topic().unwrap().as_str(), "numbers-of-a");
    assert_eq!(named.with_kind(Updates).kind(), Updates);
}

/// What a topology writes with these serdes.
fn written<K: Data + DefaultSerde, V: Data + DefaultSerde>(produced: Produced<K, V>) -> Output {
    let builder = StreamsBuilder::new();
    builder.stream::<K, V>("in").to_with("out", produced);
    builder.build().unwrap().outputs().remove(0)
}

fn with_default<K: Data + DefaultSerde, V: Data + DefaultSerde>() -> Output {
    written(Produced::with(K::default_serde(), V::default_serde()))
}

fn bytes<T: DefaultSerde>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    T::default_serde().encode(value, &mut bytes).unwrap();
    bytes
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Reading {
    sensor: String,
    value: f64,
}

#[test]
fn keys_and_values_are_shown_as_what_they_are() {
    let numbers = with_default::<u64, f64>();
    assert_eq!(numbers.show_key(Some(&bytes(&17_u64))), "17");
    assert_eq!(numbers.show_value(Some(&bytes(&-1.5_f64))), "-1.5");
    assert_eq!((numbers.show_key(None).as_str(), numbers.show_value(None).as_str()), ("null", "null"));
    // What is no number is shown as its bytes are.
    assert_eq!(numbers.show_key(Some(b"abc")), "abc");
    assert_eq!(numbers.show_key(Some(&[0xff, 0])), "0xff00");

    let parts = with_default::<(String, Option<u64>), Option<i32>>();
    assert_eq!(parts.show_key(Some(&bytes(&("a b".to_owned(), None::<u64>)))), "(a b, null)");
    assert_eq!(parts.show_key(Some(&bytes(&("a".to_owned(), Some(7_u64))))), "(a, 7)");
    assert_eq!(parts.show_value(Some(&bytes(&-3_i32))), "-3");
    assert_eq!(with_default::<bool, String>().show_value(Some(b"a\nb")), "a\\nb");
}

#[test]
fn what_serde_writes_is_shown_as_json() {
    let reading = Reading { sensor: "s".to_owned(), value: 1.5 };
    let builder = StreamsBuilder::new();
    let readings =
        builder.stream::<String, String>("in").map_values(|_, sensor| Reading { sensor, value: 1.5 });
    readings.to_with("as-json", Produced::with(String::default_serde(), serdes::json()));
    readings.to_with("as-bincode", Produced::with(String::default_serde(), serdes::bincode()));
    let outputs = builder.build().unwrap().outputs();
    for (output, serde) in outputs.iter().zip([serdes::json::<Reading>(), serdes::bincode()]) {
        let mut bytes = Vec::new();
        serde.encode(&reading, &mut bytes).unwrap();
        assert_eq!(output.show_value(Some(&bytes)), r#"{"sensor":"s","value":1.5}"#);
    }
}

#[test]
fn windowed_keys_show_their_windows() {
    let window = Window { start: Timestamp(60_000), end: Timestamp(120_000) };
    let key = bytes(&Windowed { key: 7_u64, window });
    let sized = Produced::with(windowed_serde(u64::default_serde(), ms(60_000)), u64::default_serde());
    assert_eq!(written::<Windowed<u64>, u64>(sized).show_key(Some(&key)), "7@[60000,120000)");
    assert_eq!(with_default::<Windowed<u64>, u64>().show_key(Some(&key)), "7@[60000,..)");
    let key =
        bytes(&Windowed { key: "a".to_owned(), window: Session { start: Timestamp(3), end: Timestamp(5) } });
    assert_eq!(with_default::<Windowed<String, Session>, u64>().show_key(Some(&key)), "a@[3,5]");
    // Too short for a window: as it is.
    assert_eq!(with_default::<Windowed<String>, u64>().show_key(Some(b"abc")), "abc");
}

/// The default serde of a windowed key writes no size, but the topology knows it.
#[test]
fn the_end_of_a_window_is_known_from_the_topology() {
    let builder = StreamsBuilder::new();
    let windows =
        builder.stream::<String, u64>("in").group_by_key().windowed_by(TimeWindows::tumbling(ms(10)));
    windows.count("counts").to_stream().to("out");
    let output = builder.build().unwrap().outputs().remove(0);
    let window = Window { start: Timestamp(20), end: Timestamp(30) };
    let key = bytes(&Windowed { key: "a".to_owned(), window });
    assert_eq!(output.show_key(Some(&key)), "a@[20,30)");
    assert_eq!(output.key_window(&key).unwrap().end(), Some(Timestamp(30)));
}
