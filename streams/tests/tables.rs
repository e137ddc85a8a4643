//! Tables, aggregates without windows and joins with tables, seen from outside: golden vectors of Kafka Streams, restarts,
//! little memory.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{sync::Arc, time::Duration};

use headwater_core::{
    Admin, DefaultSerde, ManualClock, Timestamp,
    memory::{MemoryBackend, MemoryLog},
};
use headwater_streams::{
    ErrorPolicy, KStream, KTable, Settings, StreamsBuilder, Topology, testing::TopologyTestDriver,
};

type Text = Option<String>;

fn text(text: &str) -> String {
    text.to_owned()
}

fn built(build: impl FnOnce(&StreamsBuilder)) -> Topology {
    let builder = StreamsBuilder::new();
    build(&builder);
    builder.build().unwrap()
}

fn driver(build: impl FnOnce(&StreamsBuilder)) -> TopologyTestDriver {
    TopologyTestDriver::new(built(build)).unwrap()
}

/// `key=value@timestamp` of what came out.
fn out<V: DefaultSerde + std::fmt::Display>(driver: &mut TopologyTestDriver) -> Vec<String> {
    let records = driver.read::<String, Option<V>>("out").unwrap().into_iter();
    records
        .map(|r| {
            let value = r.value.map_or_else(|| text("null"), |value| value.to_string());
            format!("{}={value}@{}", r.key, r.timestamp)
        })
        .collect()
}

/// I23 of the reference: steps of `L` and `R` with a value or none; offsets are the order, timestamps are not.
const I23: &str = "L-@1 R-@2 L:A@3 R:a@4 L:B@5 R:b@6 L-@7 R-@8 L:C@9 R:c@10 R-@11 L-@12 R-@13 R:d@7 L:D@6 L-@2 R-@3 R:e@14 \
                   L:E@15 L-@10 R-@9 L:F@4 R:f@3";

/// Sends I23, and gives `step:value@timestamp` of what each step sent out.
fn run_i23(driver: &mut TopologyTestDriver) -> Vec<String> {
    let mut seen = Vec::new();
    for (step, event) in (1..).zip(I23.split_whitespace()) {
        let (what, at) = event.split_once('@').unwrap();
        let value: Text = what.split_once(':').map(|(_, value)| text(value));
        let topic = if what.starts_with('L') { "left" } else { "right" };
        driver.pipe(topic, &text("k"), &value, Timestamp(at.parse().unwrap())).unwrap();
        let results = driver.read::<String, String>("out").unwrap();
        seen.extend(results.into_iter().map(|r| format!("{step}:{}@{}", r.value, r.timestamp)));
    }
    seen
}

/// A stream of what is not null on `left`, and a table of `right`.
fn left_and_right(builder: &StreamsBuilder) -> (KStream<String, String>, KTable<String, String>) {
    let left = builder.stream::<String, Text>("left").flat_map_values(|_, value| value);
    (left, builder.table("right", "right-rows"))
}

/// kafka-streams golden vector: stream-table left join over I23, not versioned.
#[test]
fn a_stream_joins_a_table_as_in_kafka_streams() {
    let mut left_join = driver(|builder| {
        let (left, right) = left_and_right(builder);
        left.left_join_table(&right, |_, l, r| format!("{l}-{}", r.map_or("null", |r| r))).to("out");
    });
    let expected = ["3:A-null@3", "5:B-a@5", "9:C-null@9", "15:D-d@6", "19:E-e@15", "22:F-null@4"];
    assert_eq!(run_i23(&mut left_join), expected);

    let mut inner_join = driver(|builder| {
        let (left, right) = left_and_right(builder);
        left.join_table(&right, |_, l, r| format!("{l}-{r}")).to("out");
    });
    assert_eq!(run_i23(&mut inner_join), ["5:B-a@5", "15:D-d@6", "19:E-e@15"]);
}

/// What is computed from a table is what a join sees.
#[test]
fn a_join_sees_a_table_through_its_filters_and_maps() {
    let mut driver = driver(|builder| {
        let (left, right) = left_and_right(builder);
        let right = right.filter(|_, r| r != "a").map_values(|_, r| r.to_uppercase());
        left.left_join_table(&right, |_, l, r| format!("{l}-{}", r.map_or("null", |r| r))).to("out");
    });
    let expected = ["3:A-null@3", "5:B-null@5", "9:C-null@9", "15:D-D@6", "19:E-E@15", "22:F-null@4"];
    assert_eq!(run_i23(&mut driver), expected);
}

/// Kafka: KIP-962. A `None` of an `Option` key is no key.
#[test]
fn without_a_key_only_a_left_join_gives_a_result() {
    for (left, expected, dropped) in [(true, vec!["none:x"], 0), (false, vec![], 1)] {
        let mut driver = driver(|builder| {
            let rows = builder.table::<Option<String>, String>("right", "right-rows");
            let stream = builder.stream::<Option<String>, String>("left");
            let joined = if left {
                stream.left_join_table(&rows, |_, l, r| format!("{}:{l}", r.map_or("none", |r| r)))
            } else {
                stream.join_table(&rows, |_, l, r| format!("{r}:{l}"))
            };
            joined.to("out");
        });
        driver.pipe("left", &None::<String>, &text("x"), Timestamp(0)).unwrap();
        let results = driver.read::<Option<String>, String>("out").unwrap();
        assert_eq!(results.into_iter().map(|r| r.value).collect::<Vec<_>>(), expected);
        assert_eq!(driver.metrics().total().null_keys, dropped);
    }
}

/// Kafka: `KTableSource`. A later offset wins, whatever its timestamp; a delete of what was never there is sent on.
#[test]
fn a_table_sends_every_change_in_the_order_of_offsets() {
    let mut driver = driver(|builder| builder.table::<String, String>("in", "rows").to_stream().to("out"));
    for (value, at) in [(None, 5), (Some("a"), 7), (Some("a"), 3), (None, 4), (Some("b"), 1)] {
        driver.pipe("in", &text("k"), &value.map(text), Timestamp(at)).unwrap();
    }
    assert_eq!(out::<String>(&mut driver), ["k=null@5", "k=a@7", "k=a@3", "k=null@4", "k=b@1"]);
}

/// Kafka: `KTableFilterTest`, behind a materialized table.
#[test]
fn a_filter_deletes_what_ceases_to_be_in_it_and_is_silent_about_the_rest() {
    let mut driver = driver(|builder| {
        builder.table::<String, u64>("in", "rows").filter(|_, n| n % 2 == 0).to_stream().to("out");
    });
    for (at, value) in (0..).zip([Some(1u64), Some(2), Some(4), Some(3), Some(5), None, Some(6), None]) {
        driver.pipe("in", &text("k"), &value, Timestamp(at)).unwrap();
    }
    assert_eq!(out::<u64>(&mut driver), ["k=2@1", "k=4@2", "k=null@3", "k=6@6", "k=null@7"]);
}

/// Kafka: `KStreamAggregate`: nothing is late, and the result's time is the highest so far; a deleted row begins anew.
#[test]
fn aggregates_count_what_is_out_of_order_and_may_delete_their_row() {
    let mut driver = driver(|builder| {
        builder
            .stream::<String, i64>("in")
            .group_by_key()
            .aggregate_or_delete("sums", || 0, |_, n: i64, sum: i64| (n != 0).then_some(sum + n))
            .to_stream()
            .to("out");
    });
    for (n, at) in [(1i64, 10), (2, 3), (0, 4), (5, 2)] {
        driver.pipe("in", &text("k"), &n, Timestamp(at)).unwrap();
    }
    assert_eq!(out::<i64>(&mut driver), ["k=1@10", "k=3@10", "k=null@10", "k=5@2"]);
}

/// kafka-streams: `KTable` group by, moving a row from one group to another, and changing it within one.
fn regrouped(aggregate: impl FnOnce(&headwater_streams::KGroupedTable<String, i64>)) -> TopologyTestDriver {
    let mut driver = driver(|builder| {
        let rows = builder.table::<String, (String, i64)>("in", "rows");
        aggregate(&rows.group_by("by-group", |_, (group, n)| (group.clone(), *n)));
    });
    let moves = [
        ("r", Some(("a", 5))),
        ("q", Some(("a", 2))),
        ("r", Some(("b", 5))),
        ("q", Some(("a", 3))),
        ("r", None),
    ];
    for (at, (row, value)) in (0..).zip(moves) {
        let value = value.map(|(group, n): (&str, i64)| (text(group), n));
        driver.pipe("in", &text(row), &value, Timestamp(at)).unwrap();
    }
    driver
}

#[test]
fn a_row_leaves_its_old_group_before_it_enters_the_new_one() {
    let mut sums = regrouped(|groups| {
        groups.aggregate("sums", || 0i64, |_, n, sum| *sum += n, |_, n, sum| *sum -= n).to_stream().to("out");
    });
    assert_eq!(out::<i64>(&mut sums), ["a=5@0", "a=7@1", "a=2@2", "b=5@2", "a=3@3", "b=0@4"]);
    let mut counts = regrouped(|groups| groups.count("counts").to_stream().to("out"));
    assert_eq!(out::<u64>(&mut counts), ["a=1@0", "a=2@1", "a=1@2", "b=1@2", "a=1@3", "b=0@4"]);
    let mut reduced =
        regrouped(|groups| groups.reduce("sums", |a, b| a + b, |a, b| a - b).to_stream().to("out"));
    assert_eq!(out::<i64>(&mut reduced), ["a=5@0", "a=7@1", "a=2@2", "b=5@2", "a=3@3", "b=0@4"]);
}

/// Several partitions, no memory for rows, and a crash after every seventh record: the same tables.
#[test]
fn tables_survive_crashes_and_need_no_memory() {
    let run = |memory_bytes, crashes: bool| {
        let topology = built(|builder| {
            let users = builder.table::<String, String>("users", "users");
            let per_city = users.group_by("by-city", |_, city| (city.clone(), 1u64));
            per_city.count("people").to_stream().to("people");
            let visits = builder.stream::<String, u64>("visits");
            let seen = visits.group_by_key().reduce("longest", u64::max);
            seen.map_values(|_, n| n * 2).to_stream().to("longest");
            visits.join_table(&users, |_, visit, city| format!("{city}/{visit}")).to("visits-by-city");
        });
        let settings = Settings { memory_bytes, turn_records_max: 3, ..Settings::new("tables") };
        let mut driver = TopologyTestDriver::with(topology, settings, 3).unwrap();
        for i in 0..300i64 {
            let user = format!("user-{}", i * 7 % 31);
            let city = (i % 11 != 0).then(|| format!("city-{}", i % 5));
            driver.append("users", &user, &city, Timestamp(i)).unwrap();
            driver.append("visits", &user, &u64::try_from(i * 37 % 100).unwrap(), Timestamp(i)).unwrap();
            if i % 7 == 6 {
                driver.run().unwrap();
                if crashes {
                    driver.crash().unwrap();
                }
            }
        }
        driver.run().unwrap();
        let mut last = std::collections::BTreeMap::new();
        for topic in ["people", "longest"] {
            for record in driver.read::<String, Option<u64>>(topic).unwrap() {
                last.insert((topic, record.key), record.value);
            }
        }
        let visits = driver.read::<String, String>("visits-by-city").unwrap();
        (last, visits.into_iter().map(|r| r.value).collect::<Vec<_>>())
    };
    let plenty = run(1 << 20, false);
    assert!(plenty.0.len() > 30 && plenty.1.len() > 200, "{} {}", plenty.0.len(), plenty.1.len());
    let people: u64 =
        plenty.0.iter().filter(|((topic, _), _)| *topic == "people").filter_map(|(_, n)| *n).sum();
    assert!((25..=31).contains(&people), "everybody who has a city is in one. people={people}");
    assert_eq!(run(1, true), plenty);
}

/// A record that fails takes nothing with it: neither its row nor the old value of the next change.
#[test]
fn a_failed_record_leaves_its_row_as_it_was() {
    let topology = built(|builder| {
        let table = builder.stream::<String, u64>("in").group_by_key().aggregate(
            "sums",
            || 0u64,
            |_, n, sum| *sum += n,
        );
        let refuse = |_: &String, sum: Option<u64>| match sum {
            Some(sum) if sum > 100 => Err(headwater_core::Error::processing("too much")),
            sum => Ok(sum),
        };
        table.to_stream().try_map_values(refuse).to("out");
    });
    let settings = Settings { on_error: ErrorPolicy::Skip, ..Settings::new("skips") };
    let mut driver = TopologyTestDriver::with(topology, settings, 1).unwrap();
    for (at, n) in (0..).zip([1u64, 200, 2]) {
        driver.pipe("in", &text("k"), &n, Timestamp(at)).unwrap();
    }
    assert_eq!(out::<u64>(&mut driver), ["k=1@0", "k=3@2"]);
    assert_eq!(driver.metrics().total().skipped, 1);
}

/// Kafka: `repartitionRequired`.
#[test]
fn what_works_by_key_wants_keys_that_the_partitions_follow() {
    type Misuse = fn(&StreamsBuilder, KStream<String, String>);
    let misuses: [(&str, Misuse); 2] = [
        ("to_table", |_, stream| drop(stream.to_table("rows"))),
        ("join_table", |builder, stream| {
            stream.join_table(&builder.table::<String, String>("t", "rows"), |_, l, _| l).to("out");
        }),
    ];
    for (operator, misuse) in misuses {
        let builder = StreamsBuilder::new();
        misuse(&builder, builder.stream::<String, String>("in").map(|key, value| (key, value)));
        let error = builder.build().unwrap_err().to_string();
        assert!(error.contains("`map` may change keys") && error.contains(operator), "{error}");
    }
    let (one, other) = (StreamsBuilder::new(), StreamsBuilder::new());
    let table = other.table::<String, String>("t", "rows");
    one.stream::<String, String>("in").join_table(&table, |_, l, _| l).to("out");
    assert!(one.build().unwrap_err().to_string().contains("another StreamsBuilder"));
}

#[test]
fn a_plan_with_tables_reads_well() {
    let topology = built(|builder| {
        let users = builder.table::<String, String>("users", "users");
        builder.stream::<String, String>("visits").join_table(&users, |_, v, u| format!("{v}{u}")).to("out");
        users
            .group_by("by-city", |user, city| (city.clone(), user.clone()))
            .count("people")
            .to_stream()
            .to("people");
    });
    insta::assert_snapshot!(topology.describe(), @r"
    sub-topology 0
      source     source-0          (topic users)  -> table-1
      processor  table-1           (store users)  -> table-group-by-5
      source     source-2          (topic visits)  -> join-table-3
      processor  join-table-3      (store users)  -> sink-4
      sink       sink-4            (topic out)
      processor  table-group-by-5  -> sink-6
      sink       sink-6            (topic by-city-repartition)
    sub-topology 1
      source     source-7     (topic by-city-repartition)  -> aggregate-8
      processor  aggregate-8  (store people)  -> to-stream-9
      processor  to-stream-9  -> sink-10
      sink       sink-10      (topic people)
    ");
}

/// A value that is Kafka's null is no row, also while it is at hand: what comes out does not depend on memory or restarts.
#[test]
fn a_null_value_deletes_its_row_at_once() {
    for (memory_bytes, crashes) in [(1 << 20, false), (1 << 20, true), (1, true)] {
        let topology = built(|builder| {
            let values = builder.stream::<String, Option<u64>>("in").group_by_key();
            values
                .reduce("latest", |_, value| value)
                .to_stream()
                .map_values(|_, row| row.flatten())
                .to("out");
        });
        let settings = Settings { memory_bytes, ..Settings::new("nulls") };
        let mut driver = TopologyTestDriver::with(topology, settings, 1).unwrap();
        for (at, n) in (0..).zip([None, Some(1u64), None, Some(2)]) {
            driver.pipe("in", &text("k"), &n, Timestamp(10 - at)).unwrap();
            if crashes {
                driver.crash().unwrap();
            }
        }
        // Also the time of what follows a deleted row is its own.
        assert_eq!(out::<u64>(&mut driver), ["k=null@10", "k=1@9", "k=null@9", "k=2@7"]);
    }
}

/// A tombstone is kept for a day. The engine is written long before that, so that a crash brings no row back.
#[test]
fn a_deleted_row_stays_deleted_however_long_the_engine_lags() {
    let clock = Arc::new(ManualClock::default());
    let log = Arc::new(MemoryLog::with_clock(Arc::clone(&clock) as _));
    let builder = StreamsBuilder::new();
    let rows = builder.table::<String, u64>("rows", "rows");
    builder.stream::<String, u64>("in").join_table(&rows, |_, n, row| n + row).to("out");
    let ports = (Arc::clone(&log) as _, Arc::new(MemoryBackend::default()) as _);
    let mut driver =
        TopologyTestDriver::on(builder.build().unwrap(), Settings::new("test"), 1, ports).unwrap();
    driver.pipe("rows", &text("k"), &Some(1u64), Timestamp(0)).unwrap();
    driver.close_and_reopen().unwrap();
    driver.pipe("rows", &text("k"), &None::<u64>, Timestamp(1)).unwrap();
    for n in 0..20u64 {
        driver.pipe("rows", &"other".to_owned(), &Some(n), Timestamp(2)).unwrap();
    }
    for _ in 0..3 {
        clock.advance_ms(3 * 24 * 3_600_000);
        driver.advance_clock(Duration::from_secs(600)).unwrap();
        futures::executor::block_on(log.clean()).unwrap();
        for n in 0..20u64 {
            driver.pipe("rows", &"other".to_owned(), &Some(n), Timestamp(2)).unwrap();
        }
    }
    driver.crash().unwrap();
    driver.pipe("in", &text("k"), &1u64, Timestamp(3)).unwrap();
    let out = driver.read::<String, u64>("out").unwrap();
    assert!(out.is_empty(), "{out:?}");
}

/// In a table of a stream, or of a topic, a null is no row either: not only behind a restart.
#[test]
fn a_table_of_nulls_is_the_same_after_a_crash() {
    let run = |crash: bool| {
        let mut driver = driver(|builder| {
            let seen = builder.stream::<String, Option<u64>>("seen").to_table("seen");
            let read = builder.table::<String, ()>("read", "read");
            let stream = builder.stream::<String, u64>("in");
            stream.join_table(&read, |_, n, ()| n).to("out");
            stream
                .left_join_table(&seen, |_, n, seen| n + seen.map_or(0, |seen| seen.unwrap_or(1000)))
                .to("out");
        });
        let mut results = Vec::new();
        for (at, seen) in (0..).zip([None, Some(100u64), None]) {
            driver.pipe("seen", &text("k"), &seen, Timestamp(at)).unwrap();
            driver.append_bytes("read", Some(b"k"), Some(b""), Timestamp(at)).unwrap();
            driver.run().unwrap();
            if crash {
                driver.crash().unwrap();
            }
            driver.pipe("in", &text("k"), &7u64, Timestamp(at)).unwrap();
            results.extend(out::<u64>(&mut driver));
        }
        results
    };
    assert_eq!(run(false), ["k=7@0", "k=107@1", "k=7@2"]);
    assert_eq!(run(true), run(false));
}

/// Kafka: `KTableRepartitionMap` skips the side of a change whose key or value is null.
#[test]
fn a_row_whose_new_key_or_value_is_null_is_in_no_group() {
    let mut driver = driver(|builder| {
        builder
            .table::<String, String>("in", "rows")
            .group_by("by-length", |_, value| {
                let length = u64::try_from(value.len()).unwrap();
                (Some(length).filter(|n| *n != 5), Some(value.clone()).filter(|value| value != "none"))
            })
            .aggregate(
                "lists",
                String::new,
                |_, value, list| *list += &format!("+{value:?}"),
                |_, value, list| *list += &format!("-{value:?}"),
            )
            .to_stream()
            .map(|key, list| (key.map_or_else(|| text("null"), |key| key.to_string()), list))
            .to("out");
    });
    for (at, value) in (0..).zip(["none", "some", "none", "more", "three", "none"]) {
        driver.pipe("in", &text("k"), &Some(text(value)), Timestamp(at)).unwrap();
    }
    let list = r#"+Some("some")-Some("some")+Some("more")-Some("more")"#;
    let up_to = |sides: usize| format!("4={}", &list[..sides * 13]);
    let expected = [(1, 1), (2, 2), (3, 3), (4, 4)].map(|(sides, at)| format!("{}@{at}", up_to(sides)));
    assert_eq!(out::<String>(&mut driver), expected);
    assert_eq!(driver.metrics().total().null_keys, 0);
}
