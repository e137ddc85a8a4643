//! Stream-stream joins, seen from outside: golden vectors of Kafka Streams, a simple model, restarts, plans.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{collections::BTreeSet, num::NonZeroU32, sync::Arc, time::Duration};

use headwater_core::{
    Error, Log, Result, Timestamp, TopicSpec,
    memory::{MemoryBackend, MemoryLog},
};
use headwater_streams::{
    ErrorPolicy, JoinWindows, KStream, Settings, Streams, StreamsBuilder, Topology,
    testing::TopologyTestDriver,
};
use proptest::prelude::*;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

type Text = Option<String>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Inner,
    Left,
    Outer,
}

fn show<T: AsRef<str>>(value: Option<&T>) -> &str {
    value.map_or("null", AsRef::as_ref)
}

/// As text: left value, right value.
fn join(
    (left, right): (&KStream<String, String>, &KStream<String, String>),
    kind: Kind,
    windows: JoinWindows,
) -> KStream<String, String> {
    match kind {
        Kind::Inner => left.join(right, "j", windows, |_, l, r| format!("{l}-{r}")),
        Kind::Left => left.left_join(right, "j", windows, |_, l, r| format!("{l}-{}", show(r))),
        Kind::Outer => left.outer_join(right, "j", windows, |_, l, r| format!("{}-{}", show(l), show(r))),
    }
}

/// Two topics that are joined.
fn two_topics(kind: Kind, windows: JoinWindows) -> Topology {
    let builder = StreamsBuilder::new();
    let (left, right) = (builder.stream::<String, String>("left"), builder.stream("right"));
    join((&left, &right), kind, windows).to("out");
    builder.build().unwrap()
}

fn pipe(driver: &mut TopologyTestDriver, topic: &str, key: &str, value: &str, at: i64) {
    driver.pipe(topic, &key.to_owned(), &value.to_owned(), Timestamp(at)).unwrap();
}

/// `value@timestamp` of what came out since.
fn results(driver: &mut TopologyTestDriver) -> Vec<String> {
    let records = driver.read::<Text, String>("out").unwrap();
    records.into_iter().map(|r| format!("{}@{}", r.value, r.timestamp)).collect()
}

/// kafka-streams golden vector: input I17 of `StreamStreamJoinIntegrationTest`, windows of 10 s.
#[test]
fn the_three_joins_give_what_kafka_streams_gives() {
    for kind in [Kind::Inner, Kind::Left, Kind::Outer] {
        let builder = StreamsBuilder::new();
        let (left, right) = (builder.stream::<Text, Text>("left"), builder.stream::<Text, Text>("right"));
        let windows = JoinWindows::within(ms(10_000));
        let text = |value: Option<&Text>| value.cloned().flatten().unwrap_or_else(|| "null".to_owned());
        match kind {
            Kind::Inner => {
                left.join(&right, "j", windows, move |_, l, r| format!("{}-{}", text(Some(l)), text(Some(r))))
            }
            Kind::Left => {
                left.left_join(&right, "j", windows, move |_, l, r| format!("{}-{}", text(Some(l)), text(r)))
            }
            Kind::Outer => {
                left.outer_join(&right, "j", windows, move |_, l, r| format!("{}-{}", text(l), text(r)))
            }
        }
        .to("out");
        let mut driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
        let input = [
            ("left", "k", ""),
            ("right", "k", ""),
            ("left", "k", "A"),
            ("right", "k", "a"),
            ("left", "k", "B"),
            ("right", "k", "b"),
            ("left", "k", ""),
            ("right", "k", ""),
            ("left", "k", "C"),
            ("right", "k", "c"),
            ("right", "k", ""),
            ("left", "k", ""),
            ("right", "k", ""),
            ("right", "k", "d"),
            ("left", "k", "D"),
            ("left", "", "E"),
            ("right", "", "e"),
        ];
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        for (at, (topic, key, value)) in (1..).zip(input) {
            driver.pipe(topic, &text(key), &text(value), Timestamp(at)).unwrap();
        }
        let mut expected = vec![
            "A-a@4", "B-a@5", "A-b@6", "B-b@6", "C-a@9", "C-b@9", "A-c@10", "B-c@10", "C-c@10", "A-d@14",
            "B-d@14", "C-d@14", "D-a@15", "D-b@15", "D-c@15", "D-d@15",
        ];
        let (null_keys, alone): (u64, &[&str]) = match kind {
            Kind::Inner => (2, &[]),
            Kind::Left => (1, &["E-null@16"]),
            Kind::Outer => (0, &["E-null@16", "null-e@17"]),
        };
        expected.extend(alone);
        assert_eq!(results(&mut driver), expected);
        let total = driver.metrics().total();
        assert_eq!((total.null_keys, total.null_values, total.late), (null_keys, 7, 0));
    }
}

/// kafka-streams golden vector: `KStreamKStreamLeftJoinTest`, windows of 100 ms and 10 ms grace.
#[test]
fn who_met_nobody_is_given_out_when_window_and_grace_are_over() {
    let windows = JoinWindows::within(ms(100)).grace(ms(10));
    let mut driver = TopologyTestDriver::new(two_topics(Kind::Left, windows)).unwrap();
    pipe(&mut driver, "left", "k0", "A0", 0);
    pipe(&mut driver, "left", "k1", "A1", 0);
    for key in ["k0", "k1", "k2", "k3"] {
        pipe(&mut driver, "right", key, "a", 101);
    }
    pipe(&mut driver, "right", "x", "x", 110);
    assert_eq!(results(&mut driver), [""; 0]);
    pipe(&mut driver, "right", "dummy", "dummy", 1201);
    assert_eq!(results(&mut driver), ["A0-null@0", "A1-null@0"]);
}

/// The last instant at which a record is waited for, on both sides, and the first at which it is not.
#[test]
fn a_window_is_closed_after_its_last_instant_and_the_grace() {
    for (closes, expected) in [(28, vec![]), (29, vec!["a-null@10"])] {
        let windows = JoinWindows::within(ms(5)).after(ms(15)).grace(ms(3));
        let mut driver = TopologyTestDriver::new(two_topics(Kind::Outer, windows)).unwrap();
        pipe(&mut driver, "left", "k", "a", 10);
        pipe(&mut driver, "left", "x", "x", closes);
        assert_eq!(results(&mut driver), expected);
    }
    for (closes, expected) in [(18, vec![]), (19, vec!["null-a@10"])] {
        let windows = JoinWindows::within(ms(5)).after(ms(15)).grace(ms(3));
        let mut driver = TopologyTestDriver::new(two_topics(Kind::Outer, windows)).unwrap();
        pipe(&mut driver, "right", "k", "a", 10);
        pipe(&mut driver, "left", "x", "x", closes);
        assert_eq!(results(&mut driver), expected);
    }
}

#[test]
fn both_ends_belong_to_an_asymmetric_window_whoever_comes_first() {
    for right_first in [false, true] {
        for (at, meets) in [(94, false), (95, true), (100, true), (115, true), (116, false)] {
            let windows = JoinWindows::within(ms(5)).after(ms(15)).grace(ms(50));
            let mut driver = TopologyTestDriver::new(two_topics(Kind::Inner, windows)).unwrap();
            let mut records = [("left", "a", 100), ("right", "b", at)];
            if right_first {
                records.reverse();
            }
            for (topic, value, at) in records {
                pipe(&mut driver, topic, "k", value, at);
            }
            let expected = Vec::from_iter(meets.then(|| format!("a-b@{}", at.max(100))));
            assert_eq!(results(&mut driver), expected, "right at {at}");
        }
    }
    // At least 5, at most 15 later.
    for (at, meets) in [(104, false), (105, true), (115, true), (116, false)] {
        let windows = JoinWindows::within(ms(15)).not_before(ms(5));
        let mut driver = TopologyTestDriver::new(two_topics(Kind::Inner, windows)).unwrap();
        pipe(&mut driver, "left", "k", "a", 100);
        pipe(&mut driver, "right", "k", "b", at);
        assert_eq!(results(&mut driver).len(), usize::from(meets), "right at {at}");
    }
}

/// As in Kafka's `KStreamKStreamJoinTest.testWindowing`, records far out of order meet what is still kept.
#[test]
fn a_record_out_of_order_meets_what_is_kept() {
    let mut driver = TopologyTestDriver::new(two_topics(Kind::Inner, JoinWindows::within(ms(100)))).unwrap();
    for at in 1000..1004 {
        pipe(&mut driver, "left", "k", &format!("B{at}"), at);
    }
    for (at, count) in
        [(1100, 4), (1101, 3), (1102, 2), (1103, 1), (1104, 0), (899, 0), (900, 1), (901, 2), (903, 4)]
    {
        pipe(&mut driver, "right", "k", "b", at);
        assert_eq!(results(&mut driver).len(), count, "right at {at}");
    }
    assert_eq!(driver.metrics().total().late, 1);
}

#[test]
fn duplicates_are_kept_in_the_order_of_their_arrival() {
    let windows = JoinWindows::within(ms(10));
    for memory_bytes in [1, 1 << 20] {
        let settings = Settings { memory_bytes, ..Settings::new("app") };
        let mut driver = TopologyTestDriver::with(two_topics(Kind::Outer, windows), settings, 1).unwrap();
        for (at, value) in [(5, "a"), (5, "b"), (4, "c")] {
            pipe(&mut driver, "left", "k", value, at);
            driver.crash().unwrap();
        }
        pipe(&mut driver, "left", "k", "b", 5);
        pipe(&mut driver, "right", "k", "x", 5);
        assert_eq!(results(&mut driver), ["c-x@5", "a-x@5", "b-x@5", "b-x@5"]);
        pipe(&mut driver, "left", "z", "z", 100);
        assert_eq!(results(&mut driver), [""; 0]);
    }
}

#[test]
fn given_out_in_the_order_of_time_side_key_and_arrival() {
    for memory_bytes in [1, 1 << 20] {
        let settings = Settings { memory_bytes, ..Settings::new("app") };
        let topology = two_topics(Kind::Outer, JoinWindows::within(ms(10)).grace(ms(50)));
        let mut driver = TopologyTestDriver::with(topology, settings, 1).unwrap();
        for (topic, key, value, at) in [
            ("right", "b", "1", 20),
            ("left", "ab", "2", 20),
            ("left", "a", "3", 20),
            ("left", "c", "4", 19),
            ("right", "a", "5", 9),
            ("left", "a", "6", 20),
        ] {
            pipe(&mut driver, topic, key, value, at);
        }
        pipe(&mut driver, "left", "z", "z", 1000);
        let expected = ["null-5@9", "4-null@19", "null-1@20", "3-null@20", "6-null@20", "2-null@20"];
        assert_eq!(results(&mut driver), expected);
    }
}

#[test]
fn a_stream_is_joined_with_itself() {
    let builder = StreamsBuilder::new();
    let stream = builder.stream::<String, String>("in");
    join((&stream, &stream), Kind::Outer, JoinWindows::within(ms(10))).to("out");
    let mut driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    for (value, at) in [("a", 0), ("b", 10), ("c", 11)] {
        pipe(&mut driver, "in", "k", value, at);
    }
    let expected = ["a-a@0", "b-a@10", "a-b@10", "b-b@10", "c-b@11", "b-c@11", "c-c@11"];
    assert_eq!(results(&mut driver), expected);
}

#[test]
fn who_was_matched_is_known_after_a_restart() {
    for memory_bytes in [1, 1 << 20] {
        for clean in [false, true] {
            let settings = Settings { memory_bytes, ..Settings::new("app") };
            let topology = two_topics(Kind::Left, JoinWindows::within(ms(10)).grace(ms(10)));
            let mut driver = TopologyTestDriver::with(topology, settings, 1).unwrap();
            let restart = |driver: &mut TopologyTestDriver| {
                if clean { driver.close_and_reopen() } else { driver.crash() }.unwrap();
            };
            pipe(&mut driver, "left", "k", "a", 0);
            pipe(&mut driver, "left", "k", "b", 5);
            restart(&mut driver);
            pipe(&mut driver, "right", "k", "x", 15);
            restart(&mut driver);
            assert_eq!(results(&mut driver), ["b-x@15"]);
            pipe(&mut driver, "left", "z", "z", 21);
            assert_eq!(results(&mut driver), ["a-null@0"]);
            restart(&mut driver);
            // It was given out, and meets nobody any more; the other one still does.
            pipe(&mut driver, "right", "k", "y", 3);
            pipe(&mut driver, "left", "z", "z", 500);
            assert_eq!(results(&mut driver), ["b-y@5", "z-null@21"]);
        }
    }
}

#[test]
fn a_record_that_fails_takes_back_its_rows_its_time_and_its_matches() {
    let builder = StreamsBuilder::new();
    let (left, right) = (builder.stream::<String, String>("left"), builder.stream("right"));
    join((&left, &right), Kind::Outer, JoinWindows::within(ms(10)))
        .try_map_values(
            |_, pair| if pair.contains("bad") { Err(Error::processing("a bad pair")) } else { Ok(pair) },
        )
        .to("out");
    let settings = Settings { on_error: ErrorPolicy::Skip, ..Settings::new("app") };
    let mut driver = TopologyTestDriver::with(builder.build().unwrap(), settings, 1).unwrap();
    pipe(&mut driver, "left", "k", "a", 0);
    pipe(&mut driver, "right", "k", "bad", 10);
    pipe(&mut driver, "left", "k", "b", 5);
    assert_eq!((results(&mut driver), driver.metrics().total().skipped), (vec![], 1));
    // A row that fails when it is given out is left out by itself.
    pipe(&mut driver, "right", "x", "bad", 20);
    pipe(&mut driver, "right", "z", "z", 100);
    assert_eq!(results(&mut driver), ["a-null@0", "b-null@5"]);
    assert_eq!(driver.metrics().total().skipped, 2);
}

#[test]
fn sides_with_changed_keys_are_repartitioned() {
    let topology = |repartition: bool| {
        let builder = StreamsBuilder::new();
        let mut left = builder.stream::<String, String>("left").select_key(|_, value| value.clone());
        if repartition {
            left = left.repartition("by-value");
        }
        join((&left, &builder.stream("right")), Kind::Inner, JoinWindows::within(ms(10))).to("out");
        builder.build()
    };
    let error = topology(false).unwrap_err().to_string();
    assert!(
        error.contains("`select_key` may change keys") && error.contains("before `.join(..)`"),
        "{error}"
    );
    let topology = topology(true).unwrap();
    insta::assert_snapshot!(topology.describe(), @r"
    sub-topology 0
      source     source-0      (topic left)  -> select-key-1
      processor  select-key-1  -> sink-2
      sink       sink-2        (topic by-value-repartition)
    sub-topology 1
      source     source-3      (topic by-value-repartition)  -> join-left-5
      source     source-4      (topic right)  -> join-right-6
      processor  join-left-5   (store j-left, j-right)  -> join-7
      processor  join-right-6  (store j-left, j-right)  -> join-7
      processor  join-7        -> sink-8
      sink       sink-8        (topic out)
    ");
    let mut driver = TopologyTestDriver::with(topology, Settings::new("app"), 3).unwrap();
    for n in 0..20 {
        pipe(&mut driver, "left", "any", &format!("v{n}"), n);
        pipe(&mut driver, "right", &format!("v{n}"), "r", n);
    }
    let expected: BTreeSet<String> = (0..20).map(|n| format!("v{n}-r@{n}")).collect();
    assert_eq!(results(&mut driver).into_iter().collect::<BTreeSet<_>>(), expected);
}

#[test]
fn windows_that_end_before_they_begin_and_streams_of_two_builders_are_refused() {
    let refused = |windows, same: bool| {
        let (builder, second) = (StreamsBuilder::new(), StreamsBuilder::new());
        let left = builder.stream::<String, String>("left");
        let right = if same { &builder } else { &second }.stream("right");
        join((&left, &right), Kind::Inner, windows).to("out");
        builder.build().unwrap_err().to_string()
    };
    assert!(refused(JoinWindows::within(ms(5)).not_before(ms(6)), true).contains("ends before it begins"));
    assert!(refused(JoinWindows::within(ms(5)), false).contains("another StreamsBuilder"));
}

/// Starts an application on a log with these topics, and stops it; then gives the partitions of all topics.
fn start(topology: Topology, topics: &[(&str, u32)]) -> Result<Vec<(String, NonZeroU32)>> {
    let log = MemoryLog::default();
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
        for (name, partitions) in topics {
            log.create_topic(&TopicSpec::new(name, *partitions)?).await?;
        }
        let ports = (Arc::new(log.clone()), Arc::new(MemoryBackend::default()));
        let streams = Streams::start(topology, Settings::new("app"), ports.0, ports.1).await?;
        streams.close().await?;
        Ok(log.topics().await?.into_iter().map(|topic| (topic.name.to_string(), topic.partitions)).collect())
    })
}

fn partitions(topics: &[(String, NonZeroU32)], name: &str) -> u32 {
    topics.iter().find(|(topic, _)| topic == name).unwrap().1.get()
}

#[test]
fn topics_of_two_widths_are_not_joined() {
    let topology = || two_topics(Kind::Inner, JoinWindows::within(ms(10)));
    let error = start(topology(), &[("left", 2), ("right", 3)]).unwrap_err();
    let expected = "topics that meet in a store are not co-partitioned, so records of one key would not be in one task: \
                    repartition one of them. topic=left, partitions=2, topic=right, partitions=3, store=`j-left`, \
                    `j-right`";
    assert_eq!(error.to_string(), expected);
    assert!(start(topology(), &[("left", 3), ("right", 3)]).is_ok());
}

#[test]
fn a_join_of_joins_needs_one_width() {
    let builder = StreamsBuilder::new();
    let [a, b, c] = ["a", "b", "c"].map(|topic| builder.stream::<String, String>(topic));
    let windows = JoinWindows::within(ms(10));
    a.join(&b, "ab", windows, |_, _, b| b.clone()).join(&c, "abc", windows, |_, _, c| c.clone()).to("out");
    let error = start(builder.build().unwrap(), &[("a", 2), ("b", 2), ("c", 1)]).unwrap_err().to_string();
    assert!(error.contains("topic=a, partitions=2, topic=c, partitions=1"), "{error}");
}

#[test]
fn a_repartition_topic_is_as_wide_as_what_it_is_joined_with() {
    let topology = |both: bool| {
        let builder = StreamsBuilder::new();
        let left = builder.stream::<String, String>("left").repartition("r");
        let mut right = builder.stream::<String, String>("right");
        if both {
            right = right.repartition("s");
        }
        join((&left, &right), Kind::Inner, JoinWindows::within(ms(10))).to("out");
        builder.build().unwrap()
    };
    for (left, right) in [(4, 2), (2, 4)] {
        let topics = start(topology(false), &[("left", left), ("right", right)]).unwrap();
        let found = ["app-r-repartition", "app-j-left-changelog"].map(|name| partitions(&topics, name));
        assert_eq!(found, [right, right]);
        let topics = start(topology(true), &[("left", left), ("right", right)]).unwrap();
        let found = ["app-r-repartition", "app-s-repartition"].map(|name| partitions(&topics, name));
        assert_eq!(found, [4, 4]);
    }
}

#[test]
fn what_is_only_merged_may_have_two_widths() {
    let builder = StreamsBuilder::new();
    let wide = builder.stream::<String, String>("wide");
    wide.merge(&builder.stream("narrow")).merge(&builder.stream("in").repartition("r")).to("out");
    let topics = start(builder.build().unwrap(), &[("wide", 4), ("narrow", 1), ("in", 2)]).unwrap();
    assert_eq!(["out", "app-r-repartition"].map(|name| partitions(&topics, name)), [4, 2]);
}

/// One record of the model: side, key, timestamp.
type Input = (bool, usize, i64);
const KEYS: [&str; 4] = ["", "a", "ab", "a\0\0\0\0"];

#[derive(Debug)]
struct ModelRow {
    input: Input,
    value: String,
    matched: bool,
    given_out: bool,
}

/// The rules of decision 25, over a list of everything that ever came.
fn model(kind: Kind, (before, after, grace): (i64, i64, i64), inputs: &[Input]) -> (Vec<String>, u64) {
    let gives_out = |is_left: bool| kind == Kind::Outer || (kind == Kind::Left && is_left);
    let pair = |is_left, this: &str, other: &str| {
        if is_left { format!("{this}-{other}") } else { format!("{other}-{this}") }
    };
    let (mut rows, mut out, mut late, mut now) = (Vec::<ModelRow>::new(), Vec::new(), 0, i64::MIN);
    for (number, input @ (is_left, key, at)) in inputs.iter().copied().enumerate() {
        let value = format!("{}{number}", if is_left { "l" } else { "r" });
        now = now.max(at);
        let kept_from = now - before - after - grace;
        let closed = |is_left: bool, at: i64| at + if is_left { after } else { before } + grace < now;
        let mut met: Vec<&mut ModelRow> = rows
            .iter_mut()
            .filter(|row| {
                let (left, right) = if is_left { (at, row.input.2) } else { (row.input.2, at) };
                let gone = gives_out(!is_left) && !row.matched && closed(!is_left, row.input.2);
                row.input.0 != is_left
                    && row.input.1 == key
                    && (left - before..=left + after).contains(&right)
                    && row.input.2 >= kept_from
                    && !gone
            })
            .collect();
        met.sort_by_key(|row| row.input.2);
        let matched = !met.is_empty();
        for row in met {
            row.matched = true;
            out.push(format!("{}={}@{}", KEYS[key], pair(is_left, &value, &row.value), at.max(row.input.2)));
        }
        if at < kept_from {
            late += u64::from(!matched);
        } else if gives_out(is_left) && !matched && closed(is_left, at) {
            out.push(format!("{}={}@{at}", KEYS[key], pair(is_left, &value, "null")));
        } else {
            rows.push(ModelRow { input, value, matched, given_out: false });
        }
        let mut due: Vec<&mut ModelRow> = rows
            .iter_mut()
            .filter(|row| {
                gives_out(row.input.0) && !row.matched && !row.given_out && closed(row.input.0, row.input.2)
            })
            .collect();
        due.sort_by_key(|row| (row.input.2, row.input.0, KEYS[row.input.1]));
        for row in due {
            row.given_out = true;
            let (is_left, key, at) = row.input;
            out.push(format!("{}={}@{at}", KEYS[key], pair(is_left, &row.value, "null")));
        }
    }
    (out, late)
}

/// What happens to the application between two records.
#[derive(Debug, Clone, Copy)]
enum Event {
    Turns(usize),
    Run,
    Crash,
    Reopen,
}

fn events() -> impl Strategy<Value = Option<Event>> {
    prop_oneof![
        6 => Just(None),
        2 => (1usize..4).prop_map(|turns| Some(Event::Turns(turns))),
        1 => Just(Some(Event::Run)),
        1 => Just(Some(Event::Crash)),
        1 => Just(Some(Event::Reopen)),
    ]
}

/// Both sides come through one topic, so that they come in the order of the list.
fn one_topic(kind: Kind, windows: JoinWindows) -> Topology {
    let builder = StreamsBuilder::new();
    let both = builder.stream::<String, String>("in");
    let left = both.filter(|_, value| value.starts_with('l'));
    let right = both.filter(|_, value| value.starts_with('r'));
    join((&left, &right), kind, windows).to("out");
    builder.build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever batches, commits, crashes and memory: the join is its model.
    #[test]
    fn a_join_is_its_model(
        kind in prop_oneof![Just(Kind::Inner), Just(Kind::Left), Just(Kind::Outer)],
        (before, after, grace) in (0u64..80, 0u64..80, prop_oneof![Just(0u64), 0u64..150]),
        inputs in prop::collection::vec(((any::<bool>(), 0usize..KEYS.len(), 0i64..60), events()), 1..80),
        pace in 0i64..25,
        turn_records_max in prop_oneof![Just(1usize), Just(7), Just(10_000)],
        (memory_bytes, commit_ms) in (prop_oneof![Just(1usize), Just(20_000), Just(1 << 20)], prop_oneof![Just(0), Just(100u64)]),
    ) {
        let windows = JoinWindows::within(ms(before)).after(ms(after)).grace(ms(grace));
        let settings = Settings {
            turn_records_max, memory_bytes, commit_interval: ms(commit_ms), ..Settings::new("app")
        };
        let mut driver = TopologyTestDriver::with(one_topic(kind, windows), settings, 1).unwrap();
        let (mut sent, mut restarts) = (Vec::new(), 0);
        for (number, ((is_left, key, jitter), event)) in inputs.into_iter().enumerate() {
            let at = i64::try_from(number).unwrap() * pace + jitter;
            let value = format!("{}{number}", if is_left { "l" } else { "r" });
            driver.append("in", &KEYS[key].to_owned(), &value, Timestamp(at)).unwrap();
            sent.push((is_left, key, at));
            match event {
                None => {}
                Some(Event::Turns(turns)) => (0..turns).for_each(|_| driver.turn().unwrap()),
                Some(Event::Run) => driver.run().unwrap(),
                Some(Event::Crash) => driver.crash().unwrap(),
                Some(Event::Reopen) => driver.close_and_reopen().unwrap(),
            }
            restarts += u32::from(matches!(event, Some(Event::Crash | Event::Reopen)));
        }
        driver.run().unwrap();
        let found: Vec<String> = driver
            .read::<String, String>("out").unwrap()
            .into_iter().map(|r| format!("{}={}@{}", r.key, r.value, r.timestamp)).collect();
        let (expected, late) = model(kind, (before.cast_signed(), after.cast_signed(), grace.cast_signed()), &sent);
        prop_assert_eq!(found, expected);
        // Counters begin anew with each start.
        if restarts == 0 {
            prop_assert_eq!(driver.metrics().total().late, late);
        }
    }

    /// No record is both matched and given out, and none is lost: on the model, so on the join.
    #[test]
    fn everybody_meets_somebody_or_is_given_out_once(
        windows in (0i64..80, 0i64..80, 0i64..80),
        inputs in prop::collection::vec((any::<bool>(), 0usize..2, 0i64..300), 1..60),
    ) {
        let mut inputs = inputs;
        let count = inputs.len();
        inputs.push((true, 3, 10_000));
        let (out, late) = model(Kind::Outer, windows, &inputs);
        let mut silent = 0;
        for (number, (is_left, key, _)) in inputs.iter().copied().enumerate().take(count) {
            let value = format!("={}{number}-", if is_left { "l" } else { "r" });
            let value = if is_left { value } else { format!("-{}@", value.trim_matches(['=', '-'])) };
            let mine: Vec<&String> =
                out.iter().filter(|o| o.starts_with(&format!("{}=", KEYS[key])) && o.contains(&value)).collect();
            let alone = mine.iter().filter(|o| o.contains("null")).count();
            prop_assert!(alone <= 1 && (alone == 0 || mine.len() == 1), "{mine:?}");
            silent += u64::from(mine.is_empty());
        }
        prop_assert_eq!(silent, late);
    }

    /// Results depend on what the partitions hold, and on nothing else; and with enough grace not on their number.
    #[test]
    fn batches_and_partitions_do_not_matter(
        inputs in prop::collection::vec((any::<bool>(), 0usize..12, 0i64..400), 1..60),
    ) {
        let run = |partitions, turn_records_max, kind| {
            let settings = Settings { turn_records_max, ..Settings::new("app") };
            let windows = JoinWindows::within(ms(30)).grace(ms(1000));
            let mut driver = TopologyTestDriver::with(two_topics(kind, windows), settings, partitions).unwrap();
            for (number, (is_left, key, at)) in inputs.iter().enumerate() {
                let topic = if *is_left { "left" } else { "right" };
                driver.append(topic, &format!("key-{key}"), &number.to_string(), Timestamp(*at)).unwrap();
            }
            driver.run().unwrap();
            results(&mut driver)
        };
        for kind in [Kind::Inner, Kind::Outer] {
            let three = run(3, 10_000, kind);
            prop_assert_eq!(&run(3, 1, kind), &three);
            prop_assert_eq!(&run(3, 7, kind), &three);
            let sorted = |results: Vec<String>| results.into_iter().collect::<BTreeSet<_>>();
            prop_assert_eq!(sorted(run(1, 10_000, kind)), sorted(three));
        }
    }
}
