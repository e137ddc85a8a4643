//! Processors that are called by time.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{sync::Arc, time::Duration};

use headwater_core::{
    Error, Log, LogVersion, Partition, Record, Result, Timestamp, TopicName, TopicPartition, TopicSpec,
    memory::{MemoryBackend, MemoryLog},
};
use headwater_streams::{
    Emit, ErrorPolicy, KStream, KeyValueHandle, Processor, ProcessorContext, Punctuate, Punctuation,
    Settings, Streams, StreamsBuilder, TimeWindows, Topology, testing::TopologyTestDriver,
};

type Context<'a> = ProcessorContext<'a, String, u64>;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Hands records on, and says every `interval` how many there were since.
struct Ticker {
    by: Punctuate,
    interval: Duration,
    seen: u64,
}

impl Processor<String, u64, String, u64> for Ticker {
    fn init(&mut self, cx: &mut Context<'_>) -> Result<()> {
        cx.schedule(self.interval, self.by).map(drop)
    }

    fn process(&mut self, record: Record<String, u64>, cx: &mut Context<'_>) -> Result<()> {
        self.seen += 1;
        cx.forward(record)
    }

    fn punctuate(&mut self, _: Punctuation, time: Timestamp, cx: &mut Context<'_>) -> Result<()> {
        cx.forward(Record::new("tick".to_owned(), self.seen, time))
    }
}

fn ticking(stream: &KStream<String, u64>, by: Punctuate) -> KStream<String, u64> {
    stream.process(&[], move || Ticker { by, interval: ms(10), seen: 0 })
}

fn ticker(by: Punctuate) -> Topology {
    let builder = StreamsBuilder::new();
    ticking(&builder.stream("in"), by).to("out");
    builder.build().unwrap()
}

/// Keys and timestamps of what came out.
fn results(driver: &mut TopologyTestDriver) -> Vec<(String, i64)> {
    driver.read::<String, u64>("out").unwrap().into_iter().map(|r| (r.key, r.timestamp.0)).collect()
}

fn ticks(driver: &mut TopologyTestDriver) -> Vec<i64> {
    results(driver).into_iter().filter(|(key, _)| key == "tick").map(|(_, at)| at).collect()
}

/// Kafka's rule, and where it is stricter: between the records, whatever the batches are.
#[test]
fn stream_time_is_told_right_after_the_record_that_moved_it() {
    let expected: Vec<(String, i64)> = [
        ("k", 12),
        ("tick", 12),
        ("k", 15),
        ("k", 20),
        ("tick", 20),
        ("k", 57),
        ("tick", 57),
        ("k", 59),
        ("k", 60),
        ("tick", 60),
    ]
    .map(|(key, at)| (key.to_owned(), at))
    .to_vec();
    for turn_records_max in [1, 2, 3, 100] {
        let settings = Settings { turn_records_max, ..Settings::new("app") };
        let mut driver = TopologyTestDriver::with(ticker(Punctuate::StreamTime), settings, 1).unwrap();
        for at in [12, 15, 20, 57, 59, 60] {
            driver.append("in", &"k".to_owned(), &1u64, Timestamp(at)).unwrap();
        }
        driver.run().unwrap();
        assert_eq!(results(&mut driver), expected, "turn_records_max={turn_records_max}");
        assert_eq!(driver.metrics().total().punctuations, 4);
    }
}

#[test]
fn a_crash_after_any_record_changes_no_punctuation_by_stream_time() {
    let mut driver = TopologyTestDriver::new(ticker(Punctuate::StreamTime)).unwrap();
    for at in [12, 15, 20, 57, 59, 60] {
        driver.pipe("in", &"k".to_owned(), &1u64, Timestamp(at)).unwrap();
        driver.crash().unwrap();
    }
    assert_eq!(ticks(&mut driver), [12, 20, 57, 60]);
}

#[test]
fn the_wall_clock_is_told_once_however_far_it_moved_and_keeps_its_grid() {
    let mut driver = TopologyTestDriver::new(ticker(Punctuate::WallClock)).unwrap();
    let mut seen = Vec::new();
    for by in [9, 1, 35, 4, 1, 10] {
        driver.advance_clock(ms(by)).unwrap();
        seen.push(ticks(&mut driver));
    }
    assert_eq!(seen, [vec![], vec![10], vec![45], vec![], vec![50], vec![60]]);
}

#[test]
fn a_task_that_only_punctuated_commits() {
    let mut driver = TopologyTestDriver::new(ticker(Punctuate::WallClock)).unwrap();
    driver.advance_clock(ms(10)).unwrap();
    driver.crash().unwrap();
    assert_eq!(ticks(&mut driver), [10]);
    assert_eq!(driver.metrics().total().records, 0);
}

#[test]
fn behind_a_merge_a_processor_is_told_once() {
    for by in [Punctuate::StreamTime, Punctuate::WallClock] {
        let builder = StreamsBuilder::new();
        let input = builder.stream::<String, u64>("in");
        let halves = [0, 1].map(|rest| input.filter(move |_, n| n % 2 == rest));
        ticking(&halves[0].merge(&halves[1]).merge(&builder.stream("other")), by).to("out");
        let mut driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
        driver.pipe("in", &"k".to_owned(), &1u64, Timestamp(10)).unwrap();
        driver.advance_clock(ms(10)).unwrap();
        assert_eq!(ticks(&mut driver), [10], "{by:?}");
    }
}

/// Ends one of its punctuations from inside of it, and the other by a record.
#[derive(Default)]
struct Cancels(Option<(Punctuation, Punctuation)>);

impl Processor<String, u64, String, u64> for Cancels {
    fn init(&mut self, cx: &mut Context<'_>) -> Result<()> {
        let mut every = |n| cx.schedule(ms(n), Punctuate::StreamTime);
        self.0 = Some((every(10)?, every(15)?));
        Ok(())
    }

    fn process(&mut self, record: Record<String, u64>, cx: &mut Context<'_>) -> Result<()> {
        if record.value == 0 {
            cx.cancel(self.0.unwrap().1);
        }
        Ok(())
    }

    fn punctuate(&mut self, id: Punctuation, time: Timestamp, cx: &mut Context<'_>) -> Result<()> {
        let first = id == self.0.unwrap().0;
        if first {
            cx.cancel(id);
        }
        cx.forward(Record::new("tick".to_owned(), u64::from(first), time))
    }
}

#[test]
fn a_punctuation_ends_when_it_is_cancelled() {
    let builder = StreamsBuilder::new();
    builder.stream::<String, u64>("in").process::<String, u64, _>(&[], Cancels::default).to("out");
    let mut driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    for (value, at) in [(1u64, 1), (1, 20), (0, 40), (1, 100)] {
        driver.pipe("in", &"k".to_owned(), &value, Timestamp(at)).unwrap();
    }
    let ticks: Vec<_> =
        driver.read::<String, u64>("out").unwrap().into_iter().map(|r| (r.value, r.timestamp.0)).collect();
    assert_eq!(ticks, [(1, 1), (0, 1), (0, 20)]);
}

/// Stores and forwards in a punctuation, and then fails if its input said so.
struct Fails {
    store: KeyValueHandle<String, u64>,
    bad: bool,
}

impl Processor<String, u64, String, u64> for Fails {
    fn init(&mut self, cx: &mut Context<'_>) -> Result<()> {
        cx.schedule(ms(10), Punctuate::StreamTime).map(drop)
    }

    fn process(&mut self, record: Record<String, u64>, _: &mut Context<'_>) -> Result<()> {
        self.bad = record.value == 0;
        Ok(())
    }

    fn punctuate(&mut self, _: Punctuation, time: Timestamp, cx: &mut Context<'_>) -> Result<()> {
        let calls = cx.store(&self.store).update(&"calls".to_owned(), time, |calls| {
            *calls = Some(calls.unwrap_or(0) + 1);
            calls.unwrap_or(0)
        })?;
        cx.forward(Record::new("tick".to_owned(), calls, time))?;
        if self.bad { Err(Error::processing("a bad time")) } else { Ok(()) }
    }
}

fn failing(on_error: ErrorPolicy) -> TopologyTestDriver {
    let builder = StreamsBuilder::new();
    let store = builder.key_value_store::<String, u64>("calls");
    let handle = store.clone();
    let supplier = move || Fails { store: handle.clone(), bad: false };
    builder.stream::<String, u64>("in").process::<String, u64, _>(&[&store], supplier).to("out");
    let settings = Settings { on_error, ..Settings::new("app") };
    TopologyTestDriver::with(builder.build().unwrap(), settings, 1).unwrap()
}

#[test]
fn a_punctuation_that_fails_is_taken_back_and_left_out() {
    for on_error in [ErrorPolicy::Skip, ErrorPolicy::DeadLetter("letters".into())] {
        let mut driver = failing(on_error.clone());
        for (value, at) in [(1u64, 1), (0, 10), (1, 20)] {
            driver.append("in", &"k".to_owned(), &value, Timestamp(at)).unwrap();
        }
        driver.run().unwrap();
        let ticks: Vec<_> = driver
            .read::<String, u64>("out")
            .unwrap()
            .into_iter()
            .map(|r| (r.value, r.timestamp.0))
            .collect();
        assert_eq!(ticks, [(1, 1), (2, 20)]);
        let counted = driver.metrics().total();
        assert_eq!((counted.records, counted.skipped + counted.dead_letters), (3, 1));
        if on_error != ErrorPolicy::Skip {
            let letters = driver.read::<Option<Vec<u8>>, Option<Vec<u8>>>("letters").unwrap();
            assert_eq!(letters.len(), 1);
            let (letter, message) = (&letters[0], "__streams.errors.message");
            assert_eq!((&letter.key, &letter.value, letter.timestamp), (&None, &None, Timestamp(10)));
            assert!(letter.headers.last(message).is_some(), "{letter:?}");
        }
    }
}

#[test]
fn a_punctuation_that_fails_stops_the_application_under_the_policy_fail() {
    let mut driver = failing(ErrorPolicy::Fail);
    driver.pipe("in", &"k".to_owned(), &1u64, Timestamp(1)).unwrap();
    let error = driver.pipe("in", &"k".to_owned(), &0u64, Timestamp(10)).unwrap_err();
    assert!(error.to_string().contains("punctuation at=10: a bad time"), "{error}");
    driver.crash().unwrap();
    assert_eq!(ticks(&mut driver), [1]);
}

/// Counts in a store how often it was opened, as it finds it.
struct Opens(KeyValueHandle<String, u64>);

impl Processor<String, u64, String, u64> for Opens {
    fn init(&mut self, cx: &mut Context<'_>) -> Result<()> {
        let count = |count: &mut Option<u64>| *count = Some(count.unwrap_or(0) + 1);
        cx.store(&self.0).update(&"opened".to_owned(), Timestamp(0), count)
    }

    fn process(&mut self, record: Record<String, u64>, cx: &mut Context<'_>) -> Result<()> {
        let opened = cx.store(&self.0).get(&"opened".to_owned())?.copied();
        cx.forward(record.with_value(opened.unwrap_or(0)))
    }
}

#[test]
fn stores_hold_what_was_committed_when_a_processor_is_opened() {
    let builder = StreamsBuilder::new();
    let store = builder.key_value_store::<String, u64>("opens");
    let handle = store.clone();
    builder
        .stream::<String, u64>("in")
        .process::<String, u64, _>(&[&store], move || Opens(handle.clone()))
        .to("out");
    let mut driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    for _ in 0..3 {
        driver.pipe("in", &"k".to_owned(), &0u64, Timestamp(1)).unwrap();
        driver.crash().unwrap();
    }
    let opened: Vec<_> = driver.read::<String, u64>("out").unwrap().into_iter().map(|r| r.value).collect();
    assert_eq!(opened, [1, 2, 3]);
}

struct Eager;

impl Processor<String, u64, String, u64> for Eager {
    fn init(&mut self, cx: &mut Context<'_>) -> Result<()> {
        cx.forward(Record::new("k".to_owned(), 1, Timestamp(0)))
    }

    fn process(&mut self, _: Record<String, u64>, _: &mut Context<'_>) -> Result<()> {
        Ok(())
    }
}

#[test]
fn nothing_is_forwarded_before_all_processors_are_open() {
    let builder = StreamsBuilder::new();
    builder.stream::<String, u64>("in").process::<String, u64, _>(&[], || Eager).to("out");
    let error = TopologyTestDriver::new(builder.build().unwrap()).err().unwrap();
    assert!(error.to_string().contains("in `init`"), "{error}");
}

#[test]
fn a_punctuation_may_close_windows() {
    let builder = StreamsBuilder::new();
    ticking(&builder.stream("in"), Punctuate::WallClock)
        .map(|_, n| ("all".to_owned(), n))
        .repartition("all")
        .group_by_key()
        .windowed_by(TimeWindows::tumbling(ms(10)))
        .emit(Emit::OnClose)
        .aggregate("counts", u64::default, |_, _, count| *count += 1)
        .to_stream()
        .select_key(|at, _| at.key.clone())
        .to("out");
    let mut driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    driver.pipe("in", &"k".to_owned(), &1u64, Timestamp(1)).unwrap();
    driver.advance_clock(ms(30)).unwrap();
    let counts: Vec<_> = driver.read::<String, u64>("out").unwrap().into_iter().map(|r| r.value).collect();
    assert_eq!(counts, [1]);
}

/// Nothing but the clock of the machine wakes the worker.
#[test]
fn an_idle_worker_wakes_up_for_its_punctuations() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let log = MemoryLog::default();
        log.create_topic(&TopicSpec::new("in", 1).unwrap()).await.unwrap();
        let out = TopicPartition::new(TopicName::new("out").unwrap(), Partition(0));
        let (shared, state) = (Arc::new(log.clone()), Arc::new(MemoryBackend::default()));
        let streams =
            Streams::start(ticker(Punctuate::WallClock), Settings::new("app"), shared, state).await.unwrap();
        let mut seen = LogVersion::default();
        while log.offsets(&out).await.unwrap().end.0 < 3 {
            seen = log.appended(seen).await.unwrap();
        }
        assert!(streams.close().await.unwrap().total().punctuations >= 3);
    });
}
