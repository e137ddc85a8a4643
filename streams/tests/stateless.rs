//! Operators without state, seen from outside: what becomes of keys, timestamps, headers and order.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use headwater_core::{DefaultSerde, Timestamp};
use headwater_streams::{
    Consumed, ErrorPolicy, KStream, OffsetReset, PlanFormat, Produced, Settings, StreamsBuilder, Topology,
    testing::TopologyTestDriver,
};

fn text(text: &str) -> String {
    text.to_owned()
}

/// Key, value and timestamp of what comes out.
fn read<K: DefaultSerde + std::fmt::Display>(driver: &mut TopologyTestDriver) -> Vec<String> {
    let records = driver.read::<K, String>("out").unwrap();
    records.into_iter().map(|r| format!("{}:{}@{}", r.key, r.value, r.timestamp)).collect()
}

fn built(build: impl FnOnce(&StreamsBuilder)) -> Topology {
    let builder = StreamsBuilder::new();
    build(&builder);
    builder.build().unwrap()
}

type Text = KStream<String, String>;
type Rekey = fn(&Text) -> KStream<u64, String>;

fn letters(topic: &Text) -> KStream<u64, String> {
    topic.flat_map(|_, word| word.chars().map(|c| (u64::from(c), c.to_string())).collect::<Vec<_>>())
}

#[test]
fn each_record_of_a_flat_map_has_the_timestamp_and_the_headers_of_the_one_that_made_it() {
    let topology = built(|builder| letters(&builder.stream("in")).to("out"));
    let mut driver = TopologyTestDriver::new(topology).unwrap();
    for (at, word) in [(5, "ba"), (3, ""), (4, "c")] {
        driver.pipe("in", &text("k"), &text(word), Timestamp(at)).unwrap();
    }
    assert_eq!(read::<u64>(&mut driver), ["98:b@5", "97:a@5", "99:c@4"]);
}

/// Kafka: `repartitionRequired`, which there inserts a topic and here is a mistake that `build` names.
#[test]
fn who_changes_keys_cannot_group_by_them() {
    let rekeyed: [(&str, Rekey); 3] = [
        ("map", |stream| stream.map(|_, value| (1, value))),
        ("flat_map", letters),
        ("map", |stream| stream.map(|_, value| (1, value)).merge(&letters(stream))),
    ];
    for (by, rekey) in rekeyed {
        let builder = StreamsBuilder::new();
        let _group = rekey(&builder.stream("in")).group_by_key();
        let error = builder.build().unwrap_err().to_string();
        assert!(error.contains(&format!("`{by}` may change keys")), "{error}");
    }
    let builder = StreamsBuilder::new();
    let stream = builder.stream::<String, String>("in");
    let _group = stream.merge(&stream.map(|key, value| (key, value))).group_by_key();
    assert!(builder.build().unwrap_err().to_string().contains("`map` may change keys"));
}

#[test]
fn values_that_become_many_keep_their_key() {
    let topology = built(|builder| {
        let stream = builder.stream::<String, String>("in");
        let _group = stream.flat_map_values(|_, word| word.chars().map(String::from).collect::<Vec<_>>());
        stream.flat_map_values(|key, word| [format!("{key}1"), word]).to("out");
    });
    let mut driver = TopologyTestDriver::new(topology).unwrap();
    driver.pipe("in", &text("k"), &text("v"), Timestamp(7)).unwrap();
    assert_eq!(read::<String>(&mut driver), ["k:k1@7", "k:v@7"]);
}

/// Both topics are of one sub-topology: their records are taken in the order of time.
#[test]
fn merged_topics_come_in_the_order_of_time() {
    let topology = built(|builder| {
        let (a, b) = (builder.stream::<String, String>("a"), builder.stream::<String, String>("b"));
        a.merge(&b).to("out");
    });
    assert_eq!(topology.subtopologies(), 1);
    let mut driver = TopologyTestDriver::new(topology).unwrap();
    for (topic, at) in [("a", 1), ("a", 5), ("b", 2), ("b", 3)] {
        driver.append(topic, &text("k"), &text(topic), Timestamp(at)).unwrap();
    }
    driver.run().unwrap();
    assert_eq!(read::<String>(&mut driver), ["k:a@1", "k:b@2", "k:b@3", "k:a@5"]);
}

/// A record that comes twice to a merge goes through twice, the older branch first, and what follows exists once.
#[test]
fn what_follows_a_merge_exists_once() {
    let topology = built(|builder| {
        let stream = builder.stream::<String, String>("in");
        let loud = stream.map_values(|_, word| word.to_uppercase());
        let merged = stream.merge(&loud).merge(&stream.filter(|_, word| word == "a"));
        merged
            .group_by("again", |_, word| word.to_lowercase())
            .windowed_by(headwater_streams::TimeWindows::tumbling(std::time::Duration::from_secs(1)))
            .aggregate("counts", u64::default, |_, _, count| *count += 1)
            .to_stream()
            .map(|windowed, count| (windowed.key, count.to_string()))
            .to("out");
    });
    assert_eq!(topology.subtopologies(), 2);
    let mut driver = TopologyTestDriver::new(topology).unwrap();
    driver.pipe("in", &text("k"), &text("a"), Timestamp(7)).unwrap();
    assert_eq!(read::<String>(&mut driver), ["a:1@7", "a:2@7", "a:3@7"]);
}

#[test]
fn streams_of_two_builders_cannot_be_merged() {
    let (one, other) = (StreamsBuilder::new(), StreamsBuilder::new());
    let _merged = one.stream::<String, String>("a").merge(&other.stream("b"));
    assert!(one.build().unwrap_err().to_string().contains("another StreamsBuilder"));
}

/// Topics, partitions and values of what was written, topic by topic.
fn written(driver: &mut TopologyTestDriver, topics: &[&str]) -> Vec<String> {
    let values = topics.iter().flat_map(|topic| {
        let records = driver.read::<String, String>(topic).unwrap();
        records.into_iter().map(move |r| format!("{topic}:{}@{}", r.value, r.timestamp)).collect::<Vec<_>>()
    });
    values.collect()
}

/// Kafka: `StreamsBuilder.stream(Collection)`, and `ProcessorTopologyTest` for what is computed.
#[test]
fn several_topics_are_read_as_one_and_each_record_decides_where_it_goes() {
    let topology = built(|builder| {
        let all = builder.streams::<String, String>(&["in-a", "in-b", "in-c"]);
        all.filter(|_, value| value != "nowhere").to("out-x");
        all.to_each(|key, _| format!("out-{key}"));
        builder.stream::<String, String>("side").to("out-y");
    });
    let settings = Settings { on_error: ErrorPolicy::Skip, ..Settings::new("computed") };
    let mut driver = TopologyTestDriver::with(topology, settings, 1).unwrap();
    for (at, (topic, key)) in (0..).zip([("in-c", "x"), ("in-a", "y"), ("in-b", "z"), ("in-b", "x")]) {
        driver.append(topic, &text(key), &format!("{topic}{at}"), Timestamp(at)).unwrap();
    }
    driver.run().unwrap();
    // `out-z` was there for nobody; the record that wanted it is taken back from `out-x`, too.
    let expected = ["out-x:in-c0@0", "out-x:in-c0@0", "out-x:in-b3@3", "out-x:in-b3@3", "out-y:in-a1@1"];
    assert_eq!(
        written(&mut driver, &["out-x", "out-y"]),
        [&expected[..2], &["out-x:in-a1@1"], &expected[2..]].concat()
    );
    assert_eq!(driver.metrics().total().skipped, 1);
}

/// Kafka: `StreamPartitioner`.
#[test]
fn a_partitioner_chooses_among_the_partitions_that_there_are() {
    let topology = built(|builder| {
        let produced = Produced::with(String::default_serde(), String::default_serde());
        let by_value = produced.partitioner(|_, value, _| value.len().try_into().unwrap());
        builder.stream::<String, String>("in").to_with("out", by_value);
    });
    let settings = Settings { on_error: ErrorPolicy::Skip, ..Settings::new("chosen") };
    let mut driver = TopologyTestDriver::with(topology, settings, 2).unwrap();
    for (at, value) in (0..).zip(["1", "", "22", "3"]) {
        driver.pipe("in", &text("k"), &text(value), Timestamp(at)).unwrap();
    }
    assert_eq!(written(&mut driver, &["out"]), ["out:@1", "out:1@0", "out:3@3"]);
    assert_eq!(driver.metrics().total().skipped, 1);
}

/// Kafka: `TimestampExtractor`, and `RecordQueue`, whose partition time it gets.
#[test]
fn the_time_of_a_record_may_lie_in_it() {
    let topology = built(|builder| {
        let consumed = Consumed::with(String::default_serde(), String::default_serde());
        let consumed = consumed.timestamps(|record, so_far| match record.value.strip_prefix("at ") {
            Some(at) => at.parse().ok().map(Timestamp),
            None => so_far.or(Some(record.timestamp)),
        });
        let (a, b) = (builder.stream_with("a", consumed.clone()), builder.stream_with("b", consumed));
        a.merge(&b).to("out");
    });
    let settings = Settings { on_error: ErrorPolicy::Skip, ..Settings::new("timed") };
    let mut driver = TopologyTestDriver::with(topology, settings, 1).unwrap();
    for (topic, value) in [
        ("a", "x"),
        ("a", "at 30"),
        ("a", "y"),
        ("b", "at 20"),
        ("b", "at -5"),
        ("b", "at never"),
        ("b", "z"),
    ] {
        driver.append(topic, &text("k"), &text(value), Timestamp(7)).unwrap();
    }
    driver.run().unwrap();
    let expected = ["out:x@7", "out:at 20@20", "out:z@20", "out:at 30@30", "out:y@30"];
    assert_eq!(written(&mut driver, &["out"]), expected);
    assert_eq!(driver.metrics().total().skipped, 2);
    // The time of a partition is committed: it goes on from there.
    driver.crash().unwrap();
    driver.pipe("b", &text("k"), &text("after"), Timestamp(7)).unwrap();
    assert_eq!(written(&mut driver, &["out"]), ["out:after@20"]);
}

/// Kafka: `AutoOffsetReset`. The driver starts on empty topics, so what it begins with is what came later; a crash must not
/// make it begin anew.
#[test]
fn a_source_begins_where_it_is_told_to() {
    let out = |reset| -> headwater_core::Result<Vec<String>> {
        let topology = built(|builder| {
            let consumed = Consumed::with(String::default_serde(), String::default_serde()).reset(reset);
            builder.stream_with("in", consumed).to("out");
        });
        let mut driver = TopologyTestDriver::new(topology)?;
        for (at, value) in (0..).zip(["a", "b", "c"]) {
            driver.append("in", &text("k"), &text(value), Timestamp(at))?;
        }
        driver.crash()?;
        driver.run()?;
        driver.append("in", &text("k"), &text("d"), Timestamp(3))?;
        driver.crash()?;
        driver.run()?;
        Ok(written(&mut driver, &["out"]))
    };
    let all = ["out:a@0", "out:b@1", "out:c@2", "out:d@3"];
    assert_eq!(out(OffsetReset::Earliest).unwrap(), all);
    assert_eq!(out(OffsetReset::At(Timestamp(2))).unwrap(), all[2..]);
    assert_eq!(out(OffsetReset::Latest).unwrap(), all[3..]);
    let error = out(OffsetReset::Refuse).unwrap_err().to_string();
    assert!(error.contains("no committed position") && error.contains("in-0"), "{error}");
}

/// A drawing shows each topic once, whoever reads and writes it.
#[test]
fn a_plan_can_be_drawn() {
    let topology = built(|builder| {
        let words = builder.stream::<String, String>("words");
        words.group_by("by-word", |_, word| word.clone()).count("counts").to_stream().to("out");
        words.to_each(|key, _| key.clone());
    });
    insta::assert_snapshot!("plan-dot", topology.describe_as(PlanFormat::Dot));
    insta::assert_snapshot!("plan-mermaid", topology.describe_as(PlanFormat::Mermaid));
}
