//! Time that ends behind a bounded input: what closes then, in which order, and what comes after.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::executor::block_on;
use headwater_core::{Record, Result, Timestamp, memory::MemoryBackend, memory::MemoryLog};
use headwater_streams::{
    Emit, JoinWindows, Processor, ProcessorContext, Punctuate, Punctuation, SessionWindows, Settings,
    Streams, StreamsBuilder, TimeWindows, Topology, testing::TopologyTestDriver,
};
use proptest::prelude::*;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Key, value, timestamp.
type Row = (String, String, i64);

fn read(driver: &mut TopologyTestDriver, topic: &str) -> Vec<Row> {
    let records = driver.read::<String, String>(topic).unwrap();
    records.into_iter().map(|r| (r.key, r.value, r.timestamp.0)).collect()
}

fn row(key: &str, value: &str, at: i64) -> Row {
    (key.to_owned(), value.to_owned(), at)
}

fn pipe(driver: &mut TopologyTestDriver, topic: &str, records: &[(&str, i64)]) {
    for (key, at) in records {
        driver.pipe(topic, &(*key).to_owned(), &1u64, Timestamp(*at)).unwrap();
    }
}

/// Minutes by sensor, and hours by building: two windows with a topic between them.
fn minutes_and_hours() -> Topology {
    let builder = StreamsBuilder::new();
    builder
        .stream::<String, u64>("readings")
        .group_by_key()
        .windowed_by(TimeWindows::tumbling(ms(10)).grace(ms(100)))
        .emit(Emit::OnClose)
        .count("by-sensor")
        .to_stream()
        .map(|at, n| (at.key, n))
        .select_key(|key, _| key[..1].to_owned())
        .repartition("by-building")
        .group_by_key()
        .windowed_by(TimeWindows::tumbling(ms(60)))
        .on_late(|late| late.to("late"))
        .emit(Emit::OnClose)
        .reduce("by-building", |a, b| a + b)
        .to_stream()
        .map(|at, n| (at.key, format!("{} {n}", at.window.start)))
        .to("hours");
    builder.build().unwrap()
}

/// Twelve windows of each sensor are open when time ends, and the hours have no grace: if one task sent all of its own at once,
/// those of the others would be late.
#[test]
fn results_of_several_tasks_meet_in_the_order_of_their_time() {
    for workers in [0, 1, 2, 4] {
        let settings = Settings { workers: workers.max(1), ..Settings::new("app") };
        let log = Arc::new(MemoryLog::default());
        let ports = (log.clone() as _, Arc::new(MemoryBackend::default()) as _);
        let mut driver = TopologyTestDriver::on(minutes_and_hours(), settings.clone(), 4, ports).unwrap();
        for at in 0..120 {
            for sensor in 0..8 {
                driver.append("readings", &format!("b{sensor}"), &1u64, Timestamp(at)).unwrap();
            }
        }
        if workers == 0 {
            driver.close_windows().unwrap();
        } else {
            let state = Arc::new(MemoryBackend::default());
            block_on(async {
                let streams = Streams::start(minutes_and_hours(), settings, log, state).await.unwrap();
                streams.close_windows().await.unwrap();
                streams.close_windows().await.unwrap();
                streams.close().await.unwrap();
            });
        }
        assert_eq!(driver.read::<String, u64>("late").unwrap(), []);
        let hours = [row("b", "0 480", 59), row("b", "60 480", 119)];
        assert_eq!(read(&mut driver, "hours"), hours, "{workers} workers");
    }
}

/// A join gives a row out at the very moment at which a row of the other side would be given out for want of it.
#[test]
fn a_join_waits_for_what_comes_before_either_side() {
    for given_is_left in [true, false] {
        let builder = StreamsBuilder::new();
        let (one, two, other) = (
            builder.stream::<String, u64>("one"),
            builder.stream("two"),
            builder.stream::<String, u64>("other"),
        );
        let first = JoinWindows::within(ms(5)).grace(ms(2));
        let given = one.left_join(&two, "first", first, |_, n, _: Option<&u64>| *n);
        let (left, right) = if given_is_left { (given, other) } else { (other, given) };
        let second = JoinWindows::within(ms(4)).grace(ms(2));
        let show = |_: &String, l: Option<&u64>, r: Option<&u64>| format!("{} {}", l.is_some(), r.is_some());
        left.outer_join(&right, "second", second, show).to("out");
        let mut driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
        pipe(&mut driver, "one", &[("a", 11)]);
        pipe(&mut driver, "other", &[("a", 12), ("b", 13)]);
        driver.close_windows().unwrap();
        let alone = if given_is_left { "false true" } else { "true false" };
        assert_eq!(read(&mut driver, "out"), [row("a", "true true", 12), row("b", alone, 13)]);
    }
}

/// A processor that counts how often it is called.
#[derive(Default)]
struct Calls(u64);

impl Processor<String, u64, String, String> for Calls {
    fn init(&mut self, cx: &mut ProcessorContext<'_, String, String>) -> Result<()> {
        cx.schedule(ms(10), Punctuate::StreamTime).map(drop)
    }

    fn process(
        &mut self,
        record: Record<String, u64>,
        _: &mut ProcessorContext<'_, String, String>,
    ) -> Result<()> {
        self.0 += record.value;
        Ok(())
    }

    fn punctuate(
        &mut self,
        _: Punctuation,
        time: Timestamp,
        cx: &mut ProcessorContext<'_, String, String>,
    ) -> Result<()> {
        assert_eq!(cx.stream_time(), time);
        cx.forward(Record::new("calls".to_owned(), self.0.to_string(), time))
    }
}

#[test]
fn stream_time_stays_that_of_the_records() {
    let builder = StreamsBuilder::new();
    let counts = builder
        .stream::<String, u64>("in")
        .group_by_key()
        .windowed_by(TimeWindows::tumbling(ms(10)))
        .emit(Emit::OnClose)
        .count("counts")
        .to_stream();
    counts.map(|at, n| (at.key, n)).process::<String, String, _>(&[], Calls::default).to("out");
    let mut driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    pipe(&mut driver, "in", &[("a", 5), ("a", 6), ("a", 12), ("b", 39)]);
    driver.close_windows().unwrap();
    assert_eq!(
        read(&mut driver, "out"),
        [row("calls", "0", 5), row("calls", "2", 12), row("calls", "3", 39)]
    );
    // What came at the end was counted, and a record afterwards finds time where it was.
    pipe(&mut driver, "in", &[("a", 40), ("a", 200)]);
    assert_eq!(read(&mut driver, "out"), [row("calls", "4", 40), row("calls", "4", 200)]);
}

/// Every kind, with all that could still come.
fn all_kinds(builder: &StreamsBuilder) {
    let input = builder.stream::<String, u64>("in");
    let late = |name: &'static str| move |late: headwater_streams::KStream<String, u64>| late.to(name);
    let windows = TimeWindows::hopping(ms(10), ms(5)).grace(ms(3));
    let windowed =
        input.group_by_key().windowed_by(windows).emit(Emit::OnClose).on_late(late("late-windows"));
    windowed
        .count("windows")
        .to_stream()
        .map(|at, n| (at.key, format!("{} {n}", at.window.start)))
        .to("windows");
    let sessions = SessionWindows::gap(ms(4)).grace(ms(3));
    let sessions =
        input.group_by_key().windowed_by(sessions).emit(Emit::OnClose).on_late(late("late-sessions"));
    let show = |n: Option<u64>| n.unwrap_or(0);
    sessions
        .count("sessions")
        .to_stream()
        .map(move |at, n| (at.key, format!("{} {}", at.window.start, show(n))))
        .to("sessions");
    let other = builder.stream::<String, u64>("other");
    let within = JoinWindows::within(ms(2)).grace(ms(3));
    let pair = |l: Option<&u64>, r: Option<&u64>| format!("{:?} {:?}", l.copied(), r.copied());
    input.left_join(&other, "left", within, move |_, l, r| pair(Some(l), r)).to("left");
    input.outer_join(&other, "outer", within, move |_, l, r| pair(l, r)).to("outer");
}

const OUTPUTS: [&str; 4] = ["windows", "sessions", "left", "outer"];
const FAR: i64 = 1_000_000;

fn kinds(settings: Settings) -> TopologyTestDriver {
    let builder = StreamsBuilder::new();
    all_kinds(&builder);
    TopologyTestDriver::with(builder.build().unwrap(), settings, 1).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    /// But for its own results.
    #[test]
    fn the_end_of_time_is_as_a_record_from_far_ahead(
        records in prop::collection::vec((any::<bool>(), 0..3usize, 0..60i64), 0..30),
        (turn_records_max, memory_bytes) in prop::sample::select(vec![(1, 1), (7, 1 << 20), (10_000, 1 << 20)]),
    ) {
        let settings = Settings { turn_records_max, memory_bytes, ..Settings::new("app") };
        let (mut ended, mut far) = (kinds(settings.clone()), kinds(settings));
        for driver in [&mut ended, &mut far] {
            for (other, key, at) in &records {
                let topic = if *other { "other" } else { "in" };
                driver.append(topic, &["a", "ab", "b"][*key].to_owned(), &7u64, Timestamp(*at)).unwrap();
            }
            driver.run().unwrap();
        }
        ended.close_windows().unwrap();
        far.pipe("in", &"z".to_owned(), &7u64, Timestamp(FAR)).unwrap();
        for topic in OUTPUTS {
            prop_assert_eq!(read(&mut ended, topic), read(&mut far, topic), "{}", topic);
        }
    }
}

#[test]
fn afterwards_every_record_is_late() {
    let mut driver = kinds(Settings::new("app"));
    pipe(&mut driver, "in", &[("a", 5)]);
    driver.close_windows().unwrap();
    assert_eq!(read(&mut driver, "windows"), [row("a", "0 1", 5), row("a", "5 1", 5)]);
    assert_eq!(read(&mut driver, "left"), [row("a", "Some(1) None", 5)]);
    driver.close_and_reopen().unwrap();
    pipe(&mut driver, "in", &[("a", 6), ("b", 900)]);
    pipe(&mut driver, "other", &[("a", 5)]);
    driver.close_windows().unwrap();
    driver.crash().unwrap();
    driver.close_windows().unwrap();
    let counts: BTreeMap<&str, usize> = ["late-windows", "late-sessions"]
        .into_iter()
        .map(|topic| (topic, driver.read::<String, u64>(topic).unwrap().len()))
        .collect();
    assert_eq!(counts.into_values().collect::<Vec<_>>(), [2, 2]);
    assert_eq!(read(&mut driver, "windows"), []);
    assert_eq!(read(&mut driver, "left").len() + read(&mut driver, "outer").len(), 1);
}

#[test]
fn an_input_without_records_has_an_end() {
    let mut driver = kinds(Settings::new("app"));
    driver.close_windows().unwrap();
    for topic in OUTPUTS {
        assert_eq!(read(&mut driver, topic), []);
    }
}

/// One that reads what it writes itself, and one that reads what another one writes to a topic that is not internal.
#[test]
fn time_ends_for_a_topology_that_goes_round_in_a_circle() {
    let builder = StreamsBuilder::new();
    builder.stream::<String, u64>("in").filter(|_, n| *n > 0).map_values(|_, n| n - 1).to("again");
    builder.stream::<String, u64>("again").to("in");
    let counts = builder
        .stream::<String, u64>("counted")
        .group_by_key()
        .windowed_by(TimeWindows::tumbling(ms(10)))
        .emit(Emit::OnClose)
        .count("second")
        .to_stream();
    counts.map(|at, n| (at.key, n.to_string())).to("out");
    let windowed =
        builder.stream::<String, u64>("first").group_by_key().windowed_by(TimeWindows::tumbling(ms(10)));
    windowed.emit(Emit::OnClose).count("first").to_stream().map(|at, n| (at.key, n)).to("counted");
    let mut driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    driver.pipe("in", &"a".to_owned(), &3u64, Timestamp(1)).unwrap();
    pipe(&mut driver, "first", &[("a", 1), ("a", 2)]);
    driver.close_windows().unwrap();
    assert_eq!(read(&mut driver, "out"), [row("a", "1", 2)]);
}
