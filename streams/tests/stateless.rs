//! Operators without state, seen from outside: what becomes of keys, timestamps, headers and order.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use headwater_core::{DefaultSerde, Timestamp};
use headwater_streams::{KStream, StreamsBuilder, Topology, testing::TopologyTestDriver};

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
