//! What operators give, seen from outside: golden vectors of Kafka Streams, plans, errors, restarts.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use headwater_core::{Error, Record, Result, Timestamp};
use headwater_streams::{
    Emit, ErrorPolicy, KeyValueHandle, Processor, ProcessorContext, Settings, StreamsBuilder, TimeWindows,
    Topology, testing::TopologyTestDriver,
};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Counts per window, as `key@start=count@timestamp`.
fn counts(windows: TimeWindows, emit: Emit) -> Topology {
    let builder = StreamsBuilder::new();
    builder
        .stream::<String, Option<String>>("in")
        .group_by_key()
        .windowed_by(windows)
        .emit(emit)
        .aggregate("counts", u64::default, |_, _, count| *count += 1)
        .to_stream()
        .map_values(|windowed, count| format!("{}@{}={count}", windowed.key, windowed.window.start))
        .select_key(|windowed, _| windowed.key.clone())
        .to("out");
    builder.build().unwrap()
}

fn results(driver: &mut TopologyTestDriver) -> Vec<String> {
    let records = driver.read::<String, String>("out").unwrap();
    records.into_iter().map(|r| format!("{}@{}", r.value, r.timestamp)).collect()
}

fn pipe(driver: &mut TopologyTestDriver, key: &str, at: i64) {
    driver.pipe("in", &key.to_owned(), &Some("x".to_owned()), Timestamp(at)).unwrap();
}

/// kafka-streams golden vector: tumbling 10, grace 5, count.
#[test]
fn tumbling_windows_count_as_kafka_streams_does() {
    let windows = TimeWindows::tumbling(ms(10)).grace(ms(5));
    let mut driver = TopologyTestDriver::new(counts(windows, Emit::OnUpdate)).unwrap();
    for at in [0, 9, 10, 14, 9, 15, 9] {
        pipe(&mut driver, "k", at);
    }
    let expected = ["k@0=1@0", "k@0=2@9", "k@10=1@10", "k@10=2@14", "k@0=3@9", "k@10=3@15"];
    assert_eq!(results(&mut driver), expected);
    assert_eq!(driver.metrics().total().late, 1);
}

/// A null value counts in a window (Kafka: `KStreamWindowAggregate` does not drop it).
#[test]
fn a_null_value_counts_in_a_window() {
    let mut driver = TopologyTestDriver::new(counts(TimeWindows::tumbling(ms(10)), Emit::OnUpdate)).unwrap();
    driver.pipe("in", &"k".to_owned(), &None::<String>, Timestamp(1)).unwrap();
    assert_eq!(results(&mut driver), ["k@0=1@1"]);
}

#[test]
fn on_close_a_window_is_sent_once_in_the_order_of_time_and_key() {
    let windows = TimeWindows::tumbling(ms(10)).grace(ms(5));
    let mut driver = TopologyTestDriver::new(counts(windows, Emit::OnClose)).unwrap();
    for (key, at) in [("b", 3), ("a", 4), ("b", 12), ("a", 9), ("c", 14)] {
        pipe(&mut driver, key, at);
    }
    assert_eq!(results(&mut driver), [""; 0]);
    pipe(&mut driver, "c", 40);
    assert_eq!(results(&mut driver), ["a@0=2@9", "b@0=1@3", "b@10=1@12", "c@10=1@14"]);
    pipe(&mut driver, "a", 9);
    assert_eq!((results(&mut driver), driver.metrics().total().late), (vec![], 1));
}

/// Windows survive a restart, and what was closed stays closed (Kafka Streams may accept late records again).
#[test]
fn windows_and_their_time_survive_crash_and_restart() {
    let windows = TimeWindows::tumbling(ms(10)).grace(ms(5));
    for clean in [false, true] {
        let mut driver = TopologyTestDriver::new(counts(windows, Emit::OnClose)).unwrap();
        for (key, at) in [("a", 1), ("b", 12), ("a", 13), ("a", 16)] {
            pipe(&mut driver, key, at);
        }
        assert_eq!(results(&mut driver), ["a@0=1@1"]);
        if clean {
            driver.close_and_reopen().unwrap();
        } else {
            driver.crash().unwrap();
        }
        assert_eq!(driver.metrics().total().restored, if clean { 0 } else { 4 });
        pipe(&mut driver, "a", 3);
        pipe(&mut driver, "a", 14);
        assert_eq!(driver.metrics().total().late, 1);
        pipe(&mut driver, "z", 100);
        assert_eq!(results(&mut driver), ["a@10=3@16", "b@10=1@12"]);
    }
}

/// A store far above its budget: its rows go to the engine and come back from there.
#[test]
fn a_store_without_memory_gives_the_same_results() {
    let run = |memory_bytes| {
        let windows = TimeWindows::tumbling(ms(100)).grace(ms(50));
        let settings = Settings { memory_bytes, turn_records_max: 3, ..Settings::new("tight") };
        let mut driver = TopologyTestDriver::with(counts(windows, Emit::OnClose), settings, 2).unwrap();
        for i in 0..400 {
            pipe(&mut driver, &format!("key-{}", i * 7 % 23), i64::from(i));
            if i % 50 == 49 {
                driver.crash().unwrap();
            }
        }
        results(&mut driver)
    };
    let plenty = run(1 << 20);
    assert!(plenty.len() > 40, "{}", plenty.len());
    assert_eq!(run(1), plenty);
}

#[test]
fn branches_take_what_earlier_ones_left() {
    let builder = StreamsBuilder::new();
    let split = builder.stream::<String, u64>("in").split();
    split.branch(|_, n| *n < 10).to("small");
    split.branch(|_, n| *n < 100).map_values(|_, n| n * 1000).to("medium");
    split.otherwise().to("large");
    let mut driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    for n in [5u64, 50, 500, 7] {
        driver.pipe("in", &"k".to_owned(), &n, Timestamp(0)).unwrap();
    }
    let mut values =
        |topic| driver.read::<String, u64>(topic).unwrap().into_iter().map(|r| r.value).collect::<Vec<_>>();
    assert_eq!((values("small"), values("medium"), values("large")), (vec![5, 7], vec![50_000], vec![500]));
}

#[test]
fn a_stream_used_twice_goes_both_ways_and_keeps_headers_out_of_repartitions() {
    let builder = StreamsBuilder::new();
    let stream = builder.stream::<String, u64>("in");
    stream.to("copy");
    stream.select_key(|_, n| n % 2).repartition("by-parity").to("by-parity-out");
    let mut driver = TopologyTestDriver::with(builder.build().unwrap(), Settings::new("app"), 3).unwrap();
    for n in 0..20u64 {
        driver.append("in", &format!("k{n}"), &n, Timestamp(n.cast_signed())).unwrap();
    }
    driver.run().unwrap();
    assert_eq!(driver.read::<String, u64>("copy").unwrap().len(), 20);
    let moved = driver.read::<u64, u64>("by-parity-out").unwrap();
    assert!(moved.iter().all(|r| r.key == r.value % 2 && r.headers.is_empty()));
    // Behind the repartition everything of a key is in the order of time, whichever task it came through.
    for parity in 0..2 {
        let times: Vec<_> = moved.iter().filter(|r| r.key == parity).map(|r| r.timestamp).collect();
        assert!(times.len() == 10 && times.is_sorted(), "{times:?}");
    }
}

/// Forwards every value that is not the last one of its key, and fails on 13.
struct Changes {
    last: KeyValueHandle<String, u64>,
}

impl Processor<String, u64, String, u64> for Changes {
    fn process(
        &mut self,
        record: Record<String, u64>,
        cx: &mut ProcessorContext<'_, String, u64>,
    ) -> Result<()> {
        let last = cx.store(&self.last).get(&record.key)?.copied();
        if last == Some(record.value) {
            return Ok(());
        }
        cx.store(&self.last).put(&record.key, record.value, record.timestamp)?;
        let (value, result) = (record.value, cx.forward(record));
        if value == 13 { Err(Error::processing("thirteen")) } else { result }
    }
}

fn changes() -> Topology {
    let builder = StreamsBuilder::new();
    let last = builder.key_value_store::<String, u64>("last");
    let supplier = {
        let last = last.clone();
        move || Changes { last: last.clone() }
    };
    builder.stream::<String, u64>("in").process(&[&last], supplier).to("out");
    builder.build().unwrap()
}

fn changed(driver: &mut TopologyTestDriver) -> Vec<u64> {
    driver.read::<String, u64>("out").unwrap().into_iter().map(|r| r.value).collect()
}

#[test]
fn a_processor_keeps_state_over_restarts() {
    let mut driver = TopologyTestDriver::new(changes()).unwrap();
    for (round, n) in [1u64, 1, 2, 2, 1].into_iter().enumerate() {
        driver.pipe("in", &"k".to_owned(), &n, Timestamp(0)).unwrap();
        if round % 2 == 0 { driver.crash().unwrap() } else { driver.close_and_reopen().unwrap() }
    }
    assert_eq!(changed(&mut driver), [1, 2, 1]);
}

#[test]
fn a_failed_record_leaves_nothing_behind() {
    let settings = Settings { on_error: ErrorPolicy::Skip, ..Settings::new("skip") };
    let mut driver = TopologyTestDriver::with(changes(), settings, 1).unwrap();
    // Were 13 stored, the 5 behind it would come out a second time.
    for n in [5u64, 13, 5, 6] {
        driver.append("in", &"k".to_owned(), &n, Timestamp(0)).unwrap();
    }
    driver.run().unwrap();
    assert_eq!(changed(&mut driver), [5, 6]);
    assert_eq!(driver.metrics().total().skipped, 1);
}

#[test]
fn by_default_the_application_stops_at_a_bad_record_and_loses_nothing() {
    let mut driver = TopologyTestDriver::new(changes()).unwrap();
    driver.pipe("in", &"k".to_owned(), &1u64, Timestamp(0)).unwrap();
    driver.append_bytes("in", Some(b"k"), Some(b"not a number"), Timestamp(0)).unwrap();
    let error = driver.run().unwrap_err();
    assert!(
        error.to_string().starts_with("task=0_0, topic=in-0, offset=1: value: bytes are not a u64"),
        "{error}"
    );
    driver.crash().unwrap();
    assert_eq!(driver.run().unwrap_err().to_string(), error.to_string());
    assert_eq!(changed(&mut driver), [1]);
}

#[test]
fn dead_letters_keep_the_bytes_and_say_why() {
    let settings =
        Settings { on_error: ErrorPolicy::DeadLetter("letters".to_owned()), ..Settings::new("dlq") };
    let mut driver = TopologyTestDriver::with(changes(), settings, 1).unwrap();
    driver.append_bytes("in", Some(b"k"), Some(b"garbage"), Timestamp(7)).unwrap();
    driver.append("in", &"k".to_owned(), &13u64, Timestamp(8)).unwrap();
    driver.append("in", &"k".to_owned(), &2u64, Timestamp(9)).unwrap();
    driver.append_bytes("in", None, Some(&2u64.to_be_bytes()), Timestamp(10)).unwrap();
    driver.run().unwrap();
    assert_eq!(changed(&mut driver), [2]);
    let letters = driver.read::<Option<String>, Vec<u8>>("letters").unwrap();
    let values: Vec<_> = letters.iter().map(|r| (r.value.clone(), r.timestamp.0)).collect();
    let thirteen = 13u64.to_be_bytes().to_vec();
    assert_eq!(values, [(b"garbage".to_vec(), 7), (thirteen, 8), (2u64.to_be_bytes().to_vec(), 10)]);
    let header = |name: &str| String::from_utf8_lossy(letters[1].headers.last(name).unwrap()).into_owned();
    assert_eq!(header("__streams.errors.message"), "thirteen");
    assert_eq!(
        (header("__streams.errors.topic"), header("__streams.errors.offset")),
        ("in".to_owned(), "1".to_owned())
    );
    assert_eq!(driver.metrics().total().dead_letters, 3);
}

/// Its bytes can be read where it lies.
#[test]
fn the_largest_record_becomes_a_dead_letter_without_its_value() {
    let settings =
        Settings { on_error: ErrorPolicy::DeadLetter("letters".to_owned()), ..Settings::new("dlq") };
    let mut driver = TopologyTestDriver::with(changes(), settings, 1).unwrap();
    let value = vec![b'x'; (1 << 20) - 1100];
    driver.append_bytes("in", Some(b"k"), Some(&value), Timestamp(7)).unwrap();
    driver.run().unwrap();
    let letters = driver.read::<String, Option<Vec<u8>>>("letters").unwrap();
    assert_eq!((letters[0].key.as_str(), &letters[0].value), ("k", &None));
    let header = |name: &str| String::from_utf8_lossy(letters[0].headers.last(name).unwrap()).into_owned();
    assert_eq!(header("__headwater.errors.cut"), "message, value");
    assert_eq!(
        (header("__streams.errors.topic"), header("__streams.errors.offset")),
        ("in".into(), "0".into())
    );
}

#[test]
fn windowed_state_of_a_failed_record_is_taken_back() {
    let builder = StreamsBuilder::new();
    builder
        .stream::<String, u64>("in")
        .group_by_key()
        .windowed_by(TimeWindows::tumbling(ms(10)))
        .aggregate("sums", u64::default, |_, n, sum| *sum += n)
        .to_stream()
        .try_map_values(|_, sum| if sum > 100 { Err(Error::processing("too much")) } else { Ok(sum) })
        .select_key(|windowed, _| windowed.key.clone())
        .to("out");
    let settings = Settings { on_error: ErrorPolicy::Skip, ..Settings::new("app") };
    let mut driver = TopologyTestDriver::with(builder.build().unwrap(), settings, 1).unwrap();
    // The record at 25 fails: neither its value nor its time may count, so [0, 10) stays open for the one at 2.
    for (n, at) in [(1u64, 0), (500, 25), (2, 2), (3, 3)] {
        driver.append("in", &"k".to_owned(), &n, Timestamp(at)).unwrap();
    }
    driver.run().unwrap();
    assert_eq!(changed(&mut driver), [1, 3, 6]);
    assert_eq!((driver.metrics().total().skipped, driver.metrics().total().late), (1, 0));
}

#[test]
fn mistakes_are_told_by_build() {
    let fails = |make: fn(&StreamsBuilder)| {
        let builder = StreamsBuilder::new();
        make(&builder);
        builder.build().unwrap_err().to_string()
    };
    let rekeyed =
        fails(|b| drop(b.stream::<String, String>("a").select_key(|_, v| v.clone()).group_by_key()));
    assert!(
        rekeyed.contains("`select_key` may change keys") && rekeyed.contains(".repartition("),
        "{rekeyed}"
    );
    let twice = fails(|b| drop((b.stream::<String, String>("a"), b.stream::<String, String>("a"))));
    assert!(twice.contains("read twice"), "{twice}");
    let stores = fails(|b| {
        b.stream::<String, String>("a").to("b");
        let _ = (b.key_value_store::<String, u64>("s"), b.key_value_store::<String, u64>("s"));
    });
    assert!(stores.contains("two stores have one name"), "{stores}");
    assert!(fails(|_| ()).contains("reads no topic"));
    assert!(fails(|b| b.stream::<String, String>("no spaces").to("x")).contains("topic name"));
}

#[test]
fn a_plan_as_text() {
    let builder = StreamsBuilder::new();
    let readings = builder.stream::<String, f64>("readings").filter(|_, v| v.is_finite());
    readings
        .group_by_key()
        .windowed_by(TimeWindows::tumbling(ms(3_600_000)))
        .aggregate("hourly", f64::default, |_, v, sum| *sum += v)
        .to_stream()
        .to("hourly-sums");
    readings
        .select_key(|key, _| key[..1].to_owned())
        .repartition("by-group")
        .group_by_key()
        .windowed_by(TimeWindows::tumbling(ms(86_400_000)))
        .aggregate("daily", f64::default, |_, v, sum| *sum += v)
        .to_stream()
        .to("daily-sums");
    insta::assert_snapshot!(builder.build().unwrap().describe(), @"
    sub-topology 0
      source     source-0      (topic readings)  -> filter-1
      processor  filter-1      -> aggregate-2, select-key-4
      processor  aggregate-2   (store hourly)  -> sink-3
      sink       sink-3        (topic hourly-sums)
      processor  select-key-4  -> sink-5
      sink       sink-5        (topic by-group-repartition)
    sub-topology 1
      source     source-6     (topic by-group-repartition)  -> aggregate-7
      processor  aggregate-7  (store daily)  -> sink-8
      sink       sink-8       (topic daily-sums)
    ");
}
