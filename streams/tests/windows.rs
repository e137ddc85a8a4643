//! What aggregates in windows, seen from outside: golden vectors of Kafka Streams, what is sent when, late records, restarts.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use headwater_core::{DefaultSerde, Error, Headers, Record, Result, Timestamp};
use headwater_streams::{
    Emit, ErrorPolicy, KStream, Processor, ProcessorContext, Session, SessionWindows, Settings,
    StreamsBuilder, TimeWindows, Topology, Windowed, session_windowed_serde, testing::TopologyTestDriver,
    windowed_serde,
};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn pipe(driver: &mut TopologyTestDriver, key: &str, at: i64) {
    driver.pipe("in", &key.to_owned(), &Some("x".to_owned()), Timestamp(at)).unwrap();
}

fn append(driver: &mut TopologyTestDriver, key: &str, at: i64) {
    driver.append("in", &key.to_owned(), &Some("x".to_owned()), Timestamp(at)).unwrap();
}

fn restart(driver: &mut TopologyTestDriver, clean: bool) {
    let restarted = if clean { driver.close_and_reopen() } else { driver.crash() };
    restarted.unwrap();
}

fn texts(driver: &mut TopologyTestDriver, topic: &str) -> Vec<String> {
    let records = driver.read::<String, String>(topic).unwrap();
    records.into_iter().map(|r| format!("{}@{}", r.value, r.timestamp)).collect()
}

fn out(driver: &mut TopologyTestDriver) -> Vec<String> {
    texts(driver, "out")
}

/// Counts per time window, as `key@start=count@timestamp`; late records in the topic `late`.
fn counts(windows: TimeWindows, emit: Emit) -> Topology {
    let builder = StreamsBuilder::new();
    builder
        .stream::<String, Option<String>>("in")
        .group_by_key()
        .windowed_by(windows)
        .emit(emit)
        .on_late(|late| late.map_values(|_, value| value.unwrap_or_default()).to("late"))
        .count("counts")
        .to_stream()
        .map(|at, count| (at.key.clone(), format!("{}@{}={count}", at.key, at.window.start)))
        .to("out");
    builder.build().unwrap()
}

/// Kafka Streams' way of writing a session and its result.
fn show(at: &Windowed<String, Session>, count: Option<u64>) -> String {
    let count = count.map_or("null".to_owned(), |count| count.to_string());
    format!("[{}@{}/{}]={count}", at.key, at.window.start, at.window.end)
}

/// Counts per session, as `[key@start/end]=count@timestamp`; late records in the topic `late`.
fn sessions(windows: SessionWindows, emit: Emit) -> Topology {
    let builder = StreamsBuilder::new();
    builder
        .stream::<String, Option<String>>("in")
        .group_by_key()
        .windowed_by(windows)
        .emit(emit)
        .on_late(|late| late.map_values(|_, value| value.unwrap_or_default()).to("late"))
        .count("sessions")
        .to_stream()
        .map(|at, count| (at.key.clone(), show(&at, count)))
        .to("out");
    builder.build().unwrap()
}

/// Golden vector of Kafka Streams: a window of 10 every 5.
#[test]
fn hopping_windows_are_those_of_kafka() {
    let windows = TimeWindows::hopping(ms(10), ms(5));
    let mut driver = TopologyTestDriver::new(counts(windows, Emit::OnUpdate)).unwrap();
    for at in [3, 7, 12] {
        pipe(&mut driver, "k", at);
    }
    assert_eq!(out(&mut driver), ["k@0=1@3", "k@0=2@7", "k@5=1@7", "k@5=2@12", "k@10=1@12"]);
}

/// Of the windows of a record only those are left out that are closed, and each is counted; only a record that finds all of
/// its windows closed goes to `late`.
#[test]
fn each_hopping_window_is_late_by_itself() {
    let windows = TimeWindows::hopping(ms(10), ms(5)).grace(ms(5));
    let mut driver = TopologyTestDriver::new(counts(windows, Emit::OnUpdate)).unwrap();
    // At 15, the end of [0, 10) and its grace are reached, those of [5, 15) are not.
    for at in [15, 9] {
        pipe(&mut driver, "k", at);
    }
    assert_eq!(out(&mut driver), ["k@10=1@15", "k@15=1@15", "k@5=1@9"]);
    assert_eq!((texts(&mut driver, "late").len(), driver.metrics().total().late), (0, 1));
    pipe(&mut driver, "k", 20);
    pipe(&mut driver, "k", 9);
    assert_eq!(out(&mut driver), ["k@15=2@20", "k@20=1@20"]);
    assert_eq!((texts(&mut driver, "late"), driver.metrics().total().late), (vec!["x@9".to_owned()], 3));
}

/// `KStreamWindowAggregateTest.shouldEmitFromLastEmitTime` (size 10, advance 5, grace 5), with a restart before the last
/// record.
#[test]
fn hopping_windows_close_as_in_kafka_also_after_a_restart() {
    for clean in [false, true] {
        let windows = TimeWindows::hopping(ms(10), ms(5)).grace(ms(5));
        let mut driver = TopologyTestDriver::new(counts(windows, Emit::OnClose)).unwrap();
        for (key, at) in [("A", 0), ("B", 5), ("C", 15)] {
            pipe(&mut driver, key, at);
        }
        assert_eq!(out(&mut driver), ["A@0=1@0", "B@0=1@5"]);
        restart(&mut driver, clean);
        pipe(&mut driver, "D", 25);
        assert_eq!(out(&mut driver), ["B@5=1@5", "C@10=1@15"]);
        pipe(&mut driver, "A", 9);
        assert_eq!((texts(&mut driver, "late").len(), driver.metrics().total().late), (1, 2));
    }
}

/// A window of 10 with a grace of 5 takes records at stream time 14, and none at 15.
#[test]
fn the_edge_of_grace() {
    let windows = TimeWindows::tumbling(ms(10)).grace(ms(5));
    for (time, taken) in [(14, true), (15, false)] {
        let mut driver = TopologyTestDriver::new(counts(windows, Emit::OnUpdate)).unwrap();
        for at in [time, 9] {
            pipe(&mut driver, "k", at);
        }
        assert_eq!(
            (out(&mut driver).len() == 2, texts(&mut driver, "late").len()),
            (taken, usize::from(!taken))
        );
    }
}

/// `SuppressScenarioTest.shouldSupportFinalResultsForSessionWindows`: gap 5, grace 0. What Kafka's `suppress` gives comes from
/// `emit(on_close)` here.
#[test]
fn sessions_count_as_kafka_streams_does() {
    let records = [("k1", 0), ("k1", 5), ("k1", 1), ("k2", 11), ("k1", 5), ("k1", 30)];
    let run = |emit| {
        let mut driver = TopologyTestDriver::new(sessions(SessionWindows::gap(ms(5)), emit)).unwrap();
        for (key, at) in records {
            pipe(&mut driver, key, at);
        }
        assert_eq!(driver.metrics().total().late, 1);
        assert_eq!(texts(&mut driver, "late"), ["x@5"]);
        out(&mut driver)
    };
    let updates = [
        "[k1@0/0]=1@0",
        "[k1@0/0]=null@0",
        "[k1@0/5]=2@5",
        "[k1@0/5]=null@5",
        "[k1@0/5]=3@5",
        "[k2@11/11]=1@11",
        "[k1@30/30]=1@30",
    ];
    assert_eq!(run(Emit::OnUpdate), updates);
    assert_eq!(run(Emit::OnClose), ["[k1@0/5]=3@5", "[k2@11/11]=1@11"]);
    // A count is another one after every record.
    assert_eq!(run(Emit::OnChange), updates);
}

/// Golden vector derived from Kafka's rules: gap 5, grace 0.
#[test]
fn a_late_record_that_meets_a_live_session_is_taken() {
    let mut driver = TopologyTestDriver::new(sessions(SessionWindows::gap(ms(5)), Emit::OnUpdate)).unwrap();
    for (key, at) in [("k", 0), ("x", 4), ("k", 3)] {
        pipe(&mut driver, key, at);
    }
    assert_eq!(out(&mut driver), ["[k@0/0]=1@0", "[x@4/4]=1@4", "[k@0/0]=null@0", "[k@0/3]=2@3"]);
    for (key, at) in [("x", 12), ("k", 3)] {
        pipe(&mut driver, key, at);
    }
    assert_eq!((out(&mut driver), driver.metrics().total().late), (vec!["[x@12/12]=1@12".to_owned()], 1));
}

/// Kafka's stores hide a session one millisecond before its aggregator closes it, so `k@0, x@5, k@5` is two sessions there.
/// Here one rule closes a session everywhere (DESIGN, difference 6): it is one.
#[test]
fn one_rule_closes_a_session_everywhere() {
    let run = |records: &[(&str, i64)]| {
        let mut driver =
            TopologyTestDriver::new(sessions(SessionWindows::gap(ms(5)), Emit::OnUpdate)).unwrap();
        records.iter().for_each(|(key, at)| pipe(&mut driver, key, *at));
        out(&mut driver)
    };
    assert_eq!(run(&[("k", 0), ("k", 5)]), ["[k@0/0]=1@0", "[k@0/0]=null@0", "[k@0/5]=2@5"]);
    assert_eq!(
        run(&[("k", 0), ("x", 5), ("k", 5)]),
        ["[k@0/0]=1@0", "[x@5/5]=1@5", "[k@0/0]=null@0", "[k@0/5]=2@5"]
    );
    // One later, the session at 0 is closed, and nobody could reach it.
    assert_eq!(run(&[("k", 0), ("k", 6)]), ["[k@0/0]=1@0", "[k@6/6]=1@6"]);
}

/// The session [0, 0] takes a record up to 5 later, and is open until stream time is gap and grace after it, that included.
#[test]
fn the_edge_of_grace_of_sessions() {
    let windows = SessionWindows::gap(ms(5)).grace(ms(3));
    for (time, late) in [(8, 0), (9, 1)] {
        let mut driver = TopologyTestDriver::new(sessions(windows, Emit::OnUpdate)).unwrap();
        for (key, at) in [("k", 0), ("x", time), ("k", 0)] {
            pipe(&mut driver, key, at);
        }
        assert_eq!(driver.metrics().total().late, late);
    }
}

/// A record may join several sessions; each of them is deleted, the earliest first, and their values are merged in that order.
#[test]
fn a_record_that_joins_three_sessions() {
    let builder = StreamsBuilder::new();
    builder
        .stream::<String, String>("in")
        .group_by_key()
        .windowed_by(SessionWindows::gap(ms(5)).grace(ms(100)))
        .aggregate(
            "joined",
            String::new,
            |_, v, all| *all += &v,
            |_, other, all| *all = format!("({all}+{other})"),
        )
        .to_stream()
        .map(|at, v| (at.key.clone(), format!("{}/{}={v:?}", at.window.start, at.window.end)))
        .to("out");
    let mut driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    for (value, at) in [("c", 16), ("a", 0), ("b", 8), ("d", 4), ("e", 12)] {
        driver.pipe("in", &"k".to_owned(), &value.to_owned(), Timestamp(at)).unwrap();
    }
    assert_eq!(
        out(&mut driver),
        [
            "16/16=Some(\"c\")@16",
            "0/0=Some(\"a\")@0",
            "8/8=Some(\"b\")@8",
            "0/0=None@0",
            "8/8=None@8",
            "0/8=Some(\"(a+b)d\")@8",
            "0/8=None@8",
            "16/16=None@16",
            "0/16=Some(\"((a+b)d+c)e\")@16",
        ]
    );
}

/// A second record at the time of a session of one record deletes nothing: it is the same span as the record's own.
#[test]
fn a_record_at_the_same_time_deletes_no_session() {
    let mut driver = TopologyTestDriver::new(sessions(SessionWindows::gap(ms(5)), Emit::OnUpdate)).unwrap();
    pipe(&mut driver, "k", 7);
    pipe(&mut driver, "k", 7);
    assert_eq!(out(&mut driver), ["[k@7/7]=1@7", "[k@7/7]=2@7"]);
}

#[test]
fn sessions_close_by_their_end_and_then_by_key() {
    let mut driver =
        TopologyTestDriver::new(sessions(SessionWindows::gap(ms(5)).grace(ms(10)), Emit::OnClose)).unwrap();
    for (key, at) in [("b", 0), ("c", 2), ("a", 4), ("b", 4), ("aa", 1), ("d", 5)] {
        pipe(&mut driver, key, at);
    }
    assert_eq!(out(&mut driver), [""; 0]);
    pipe(&mut driver, "z", 20);
    assert_eq!(
        out(&mut driver),
        ["[aa@1/1]=1@1", "[c@2/2]=1@2", "[a@4/4]=1@4", "[b@0/4]=2@4"],
        "[d@5/5] is open: 5 is not less than 20 - 15"
    );
    pipe(&mut driver, "z", 21);
    assert_eq!(out(&mut driver), ["[d@5/5]=1@5"]);
}

/// More sessions than are closed at once, all of them in the engine alone: they come by end and key all the same.
#[test]
fn ten_thousand_sessions_close_in_order_out_of_the_engine() {
    let settings = Settings { memory_bytes: 1, ..Settings::new("many") };
    let topology = sessions(SessionWindows::gap(ms(5)), Emit::OnClose);
    let mut driver = TopologyTestDriver::with(topology, settings, 1).unwrap();
    for i in 0..10_000 {
        append(&mut driver, &format!("{i:05}"), 3 - i64::from(i) % 4);
    }
    driver.run().unwrap();
    driver.close_and_reopen().unwrap();
    pipe(&mut driver, "z", 100);
    let expected = (0..4).flat_map(|end| {
        (0..10_000).filter(move |i| 3 - i % 4 == end).map(move |i| format!("[{i:05}@{end}/{end}]=1@{end}"))
    });
    assert!(out(&mut driver) == expected.collect::<Vec<_>>());
}

/// A null value counts, and a null key is dropped and counted, as in Kafka; and it is the same with and without `on_late`.
#[test]
fn nulls_in_sessions_and_behind_a_gate() {
    let builder = StreamsBuilder::new();
    let grouped = builder.stream::<Option<String>, Option<String>>("in").group_by_key();
    let counted = |name: &str, gate: bool| {
        let windowed = grouped.windowed_by(SessionWindows::gap(ms(5)));
        let windowed = if gate { windowed.on_late(|late| late.for_each(|_, _| ())) } else { windowed };
        windowed.count(name).to_stream().map(|_, n| ((), n)).to(name);
    };
    counted("plain", false);
    counted("gated", true);
    let windowed = grouped.windowed_by(TimeWindows::tumbling(ms(5))).on_late(|late| late.for_each(|_, _| ()));
    windowed.count("windows").to_stream().map(|_, n| ((), Some(n))).to("windows");
    let mut driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    for (key, at) in [(Some("k"), 20), (None, 30), (None, 1), (Some("k"), 20)] {
        let key = key.map(str::to_owned);
        driver.pipe("in", &key, &None::<String>, Timestamp(at)).unwrap();
    }
    for topic in ["plain", "gated", "windows"] {
        let counts: Vec<_> =
            driver.read::<(), Option<u64>>(topic).unwrap().into_iter().map(|r| r.value).collect();
        assert_eq!(counts, [Some(1), Some(2)], "{topic}: a record without a key does not move time");
    }
    assert_eq!((driver.metrics().total().null_keys, driver.metrics().total().late), (6, 0));
}

/// On a topic a key in a session has Kafka's bytes, and lies where its key lies.
#[test]
fn sessions_on_a_topic() {
    let builder = StreamsBuilder::new();
    let windows = SessionWindows::gap(ms(5));
    builder
        .stream::<String, u64>("in")
        .group_by_key()
        .windowed_by(windows)
        .reduce("r", u64::max)
        .to_stream()
        .to("out");
    let mut driver = TopologyTestDriver::with(builder.build().unwrap(), Settings::new("app"), 3).unwrap();
    for at in [0, 3] {
        driver.pipe("in", &"k".to_owned(), &7u64, Timestamp(at)).unwrap();
    }
    let (keys, values) = (session_windowed_serde(String::default_serde()), <Option<u64>>::default_serde());
    let records = driver.read_with("out", &*keys, &*values).unwrap();
    let seen: Vec<_> = records.iter().map(|r| (show(&r.key, r.value), r.headers.is_empty())).collect();
    let expected = ["[k@0/0]=7", "[k@0/0]=null", "[k@0/3]=7"].map(|text| (text.to_owned(), true));
    assert_eq!(seen, expected);
}

/// Sessions survive a restart, and what was closed stays closed.
#[test]
fn sessions_and_their_time_survive_crash_and_restart() {
    for clean in [false, true] {
        let windows = SessionWindows::gap(ms(5)).grace(ms(2));
        let mut driver = TopologyTestDriver::new(sessions(windows, Emit::OnClose)).unwrap();
        for (key, at) in [("a", 1), ("b", 8), ("a", 9), ("c", 4)] {
            pipe(&mut driver, key, at);
        }
        assert_eq!(out(&mut driver), ["[a@1/1]=1@1"]);
        restart(&mut driver, clean);
        // [1, 1] is closed: a record at 1 would be a session of its own, and is late. One at 13 extends [9, 9].
        for (key, at) in [("a", 1), ("b", 3), ("a", 13)] {
            pipe(&mut driver, key, at);
        }
        assert_eq!(driver.metrics().total().late, 1);
        pipe(&mut driver, "z", 100);
        let closed = ["[c@4/4]=1@4", "[b@3/8]=2@8", "[a@9/13]=2@13"];
        assert_eq!(out(&mut driver), closed, "clean: {clean}");
        restart(&mut driver, clean);
        pipe(&mut driver, "a", 20);
        pipe(&mut driver, "z", 200);
        assert_eq!(
            (out(&mut driver), driver.metrics().total().late),
            (vec!["[z@100/100]=1@100".to_owned()], 1)
        );
    }
}

/// Stores far above their budget, and crashes: rows go to the engine and come back from there, and the results are the same.
#[test]
fn stores_without_memory_give_the_same_results() {
    type Make = fn(Emit) -> Topology;
    let made: [Make; 2] = [
        |emit| sessions(SessionWindows::gap(ms(6)).grace(ms(20)), emit),
        |emit| counts(TimeWindows::hopping(ms(50), ms(20)).grace(ms(30)), emit),
    ];
    for make in made {
        for emit in [Emit::OnUpdate, Emit::OnClose, Emit::OnChange] {
            let run = |memory_bytes, crash_every: i64| {
                let settings = Settings { memory_bytes, turn_records_max: 3, ..Settings::new("tight") };
                let mut driver = TopologyTestDriver::with(make(emit), settings, 2).unwrap();
                for i in 0..400_i64 {
                    // Keys come in bursts, out of order, and now and then very late.
                    let at = i + (i * 37 % 11) - if i % 53 == 0 { 120 } else { 0 };
                    pipe(&mut driver, &format!("key-{}", i / 9 * 7 % 23), at.max(0));
                    match i % crash_every {
                        7 => driver.crash().unwrap(),
                        19 => driver.close_and_reopen().unwrap(),
                        _ => {}
                    }
                }
                (out(&mut driver), texts(&mut driver, "late"))
            };
            let (plenty, late) = run(1 << 20, 1000);
            assert!(plenty.len() > 40 && late.len() > 3, "{} {}", plenty.len(), late.len());
            assert_eq!(run(1, 1000), (plenty.clone(), late.clone()), "{emit:?}");
            assert_eq!(run(1, 31), (plenty.clone(), late.clone()), "{emit:?}");
            assert_eq!(run(1 << 20, 31), (plenty, late), "{emit:?}");
        }
    }
}

/// Fails behind the aggregate when a count reaches three.
fn up_to_two<W: headwater_core::Data>(
    stream: &KStream<Windowed<String, W>, Option<u64>>,
    key: fn(Windowed<String, W>, Option<u64>) -> String,
) {
    stream
        .try_map_values(|_, n| if n == Some(3) { Err(Error::processing("three")) } else { Ok(n) })
        .map(move |at, n| (at.key.clone(), key(at, n)))
        .to("out");
}

/// A record that fails leaves nothing in its session, and does not move time.
#[test]
fn a_failed_record_leaves_no_trace_in_sessions() {
    let builder = StreamsBuilder::new();
    let windows = SessionWindows::gap(ms(5));
    let counted =
        builder.stream::<String, u64>("in").group_by_key().windowed_by(windows).count("s").to_stream();
    up_to_two(&counted, |at, n| show(&at, n));
    let settings = Settings { on_error: ErrorPolicy::Skip, ..Settings::new("app") };
    let mut driver = TopologyTestDriver::with(builder.build().unwrap(), settings, 1).unwrap();
    let mut send = |key: &str, at| driver.append("in", &key.to_owned(), &1u64, Timestamp(at)).unwrap();
    // k@8 would be the third of its session; x@6 could not be there any more had it moved time to 12.
    for (key, at) in [("k", 0), ("k", 4), ("k", 8), ("x", 2), ("x", 7), ("k", 15), ("k", 30)] {
        send(key, at);
    }
    driver.run().unwrap();
    let results = out(&mut driver);
    let expected = [
        "[k@0/0]=1@0",
        "[k@0/0]=null@0",
        "[k@0/4]=2@4",
        "[x@2/2]=1@2",
        "[x@2/2]=null@2",
        "[x@2/7]=2@7",
        "[k@15/15]=1@15",
        "[k@30/30]=1@30",
    ];
    assert_eq!(results, expected);
    assert_eq!((driver.metrics().total().skipped, driver.metrics().total().late), (1, 0));
    // And nothing of it is in what was committed either.
    driver.crash().unwrap();
    driver.pipe("in", &"k".to_owned(), &1u64, Timestamp(33)).unwrap();
    assert_eq!(out(&mut driver), ["[k@30/30]=null@30", "[k@30/33]=2@33"]);
}

/// A record that fails in one of its hopping windows is in none of them.
#[test]
fn a_failed_record_leaves_no_trace_in_hopping_windows() {
    let builder = StreamsBuilder::new();
    let windows = TimeWindows::hopping(ms(10), ms(5));
    let counted =
        builder.stream::<String, u64>("in").group_by_key().windowed_by(windows).count("s").to_stream();
    up_to_two(&counted.map_values(|_, n| Some(n)), |at, n| format!("{}={}", at.window.start, n.unwrap()));
    let settings = Settings { on_error: ErrorPolicy::Skip, ..Settings::new("app") };
    let mut driver = TopologyTestDriver::with(builder.build().unwrap(), settings, 1).unwrap();
    for at in [1, 6, 8, 10] {
        driver.append("in", &"k".to_owned(), &1u64, Timestamp(at)).unwrap();
    }
    driver.run().unwrap();
    // The one at 8 is the third of [0, 10), and so not the second of [5, 15) either.
    assert_eq!(out(&mut driver), ["0=1@1", "0=2@6", "5=1@6", "5=2@10", "10=1@10"]);
}

/// What changed goes out once per commit, by window start and key, and no more than the changelog gets.
#[test]
fn on_commit_each_changed_row_is_sent_once() {
    let windows = TimeWindows::hopping(ms(10), ms(5)).grace(ms(5));
    let mut driver = TopologyTestDriver::new(counts(windows, Emit::OnCommit)).unwrap();
    for (key, at) in [("b", 7), ("a", 8), ("b", 7), ("c", 2), ("b", 9), ("a", 21)] {
        append(&mut driver, key, at);
    }
    driver.run().unwrap();
    // Those of [0, 10) and [5, 15) were closed meanwhile.
    let sent =
        [&["a@0=1@8", "b@0=3@9", "c@0=1@2"][..], &["a@5=1@8", "b@5=3@9"], &["a@15=1@21"], &["a@20=1@21"]];
    let mut found = out(&mut driver);
    for window in sent {
        let mut rows: Vec<_> = found.drain(..window.len()).collect();
        rows.sort_unstable();
        assert_eq!(rows, window, "the oldest windows come first");
    }
    assert_eq!(found, [""; 0]);
    pipe(&mut driver, "a", 22);
    assert_eq!(out(&mut driver), ["a@15=2@22", "a@20=2@22"]);
    driver.crash().unwrap();
    driver.run().unwrap();
    assert_eq!(out(&mut driver), [""; 0], "what was committed was sent");
}

#[test]
fn on_commit_sessions_that_nobody_saw_are_not_deleted() {
    let mut driver =
        TopologyTestDriver::new(sessions(SessionWindows::gap(ms(5)).grace(ms(9)), Emit::OnCommit)).unwrap();
    for (key, at) in [("k", 0), ("k", 3), ("a", 6), ("k", 6), ("k", 5)] {
        append(&mut driver, key, at);
    }
    driver.run().unwrap();
    assert_eq!(out(&mut driver), ["[a@6/6]=1@6", "[k@0/6]=4@6"]);
    for (key, at) in [("k", 4), ("a", 8), ("k", 40)] {
        append(&mut driver, key, at);
    }
    driver.run().unwrap();
    // The last one closed all others; what became of them goes out all the same.
    let sent = ["[a@6/6]=null@6", "[k@0/6]=5@6", "[a@6/8]=2@8", "[k@40/40]=1@40"];
    assert_eq!(out(&mut driver), sent);
}

/// Results of a commit go through everything behind them in the same commit: here through windows that close because of
/// them, and another aggregate that sends on commit.
#[test]
fn what_is_sent_on_commit_goes_all_the_way_down() {
    let of_ten = || windowed_serde(String::default_serde(), ms(10));
    let builder = StreamsBuilder::new();
    let second = builder
        .stream::<String, u64>("in")
        .group_by_key()
        .windowed_by(TimeWindows::tumbling(ms(10)))
        .emit(Emit::OnCommit)
        .count("first")
        .to_stream()
        .group_by_key()
        .windowed_by(TimeWindows::tumbling(ms(10)))
        .emit(Emit::OnClose)
        .aggregate_with("second", (of_ten(), u64::default_serde()), u64::default, |_, n, sum| *sum += n)
        .to_stream();
    // With two parents, the last aggregate is asked once, when both are done.
    second
        .filter(|_, n| *n > 1)
        .merge(&second.filter(|_, n| *n <= 1))
        .group_by_key()
        .windowed_by(TimeWindows::tumbling(ms(100)))
        .emit(Emit::OnCommit)
        .count_with("third", windowed_serde(of_ten(), ms(10)))
        .to_stream()
        .map(|at, n| ((), format!("{}:{n}", at.key.key.window.start)))
        .to("out");
    let mut driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    for at in [1, 2, 11, 25] {
        driver.append("in", &"k".to_owned(), &1u64, Timestamp(at)).unwrap();
    }
    driver.run().unwrap();
    let texts = driver.read::<(), String>("out").unwrap();
    assert_eq!(texts.iter().map(|r| r.value.as_str()).collect::<Vec<_>>(), ["0:1", "10:1"]);
}

#[test]
fn a_row_that_fails_on_commit_is_left_out_by_itself() {
    let builder = StreamsBuilder::new();
    builder
        .stream::<String, u64>("in")
        .group_by_key()
        .windowed_by(TimeWindows::tumbling(ms(10)))
        .emit(Emit::OnCommit)
        .count("counts")
        .to_stream()
        .try_map_values(|at, n| if at.key == "bad" { Err(Error::processing("bad")) } else { Ok(n) })
        .map(|at, n| (at.key, n))
        .to("out");
    let settings = Settings { on_error: ErrorPolicy::Skip, ..Settings::new("app") };
    let mut driver = TopologyTestDriver::with(builder.build().unwrap(), settings, 1).unwrap();
    for key in ["a", "bad", "c"] {
        driver.append("in", &key.to_owned(), &1u64, Timestamp(1)).unwrap();
    }
    driver.run().unwrap();
    let keys: Vec<_> = driver.read::<String, u64>("out").unwrap().into_iter().map(|r| r.key).collect();
    assert_eq!((keys, driver.metrics().total().skipped), (vec!["a".to_owned(), "c".to_owned()], 1));
}

/// A maximum that stays the same is sent once per window; a session that only got longer is sent, because its key changed.
#[test]
fn on_change_a_result_is_sent_when_it_is_another() {
    let builder = StreamsBuilder::new();
    let grouped = builder.stream::<String, u64>("in").group_by_key();
    grouped
        .windowed_by(TimeWindows::tumbling(ms(10)))
        .emit(Emit::OnChange)
        .reduce("windows", u64::max)
        .to_stream()
        .map(|at, n| (at.key, format!("{}={n}", at.window.start)))
        .to("out");
    grouped
        .windowed_by(SessionWindows::gap(ms(5)).grace(ms(9)))
        .emit(Emit::OnChange)
        .reduce("sessions", u64::max)
        .to_stream()
        .map(|at, n| (at.key.clone(), show(&at, n)))
        .to("sessions");
    let mut driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    for (n, at) in [(5u64, 1), (5, 4), (3, 2), (7, 3), (6, 4), (7, 11)] {
        driver.pipe("in", &"k".to_owned(), &n, Timestamp(at)).unwrap();
    }
    assert_eq!(out(&mut driver), ["0=5@1", "0=7@4", "10=7@11"]);
    let expected =
        ["[k@1/1]=5@1", "[k@1/1]=null@1", "[k@1/4]=5@4", "[k@1/4]=null@4", "[k@1/4]=7@4", "[k@11/11]=7@11"];
    assert_eq!(texts(&mut driver, "sessions"), expected);
}

/// Says the stream time at which a record came.
struct When;

impl Processor<String, u64, String, String> for When {
    fn process(
        &mut self,
        record: Record<String, u64>,
        cx: &mut ProcessorContext<'_, String, String>,
    ) -> Result<()> {
        let text = format!("{}@{} of {}", record.value, record.timestamp, cx.stream_time());
        cx.forward(record.with_value(text))
    }
}

/// Late records keep headers and timestamp, and see the stream time that the others see; no record is on both sides.
#[test]
fn late_records_are_records_like_any_other() {
    let builder = StreamsBuilder::new();
    let stamped = builder.stream::<String, u64>("in").process(&[], || Stamp).repartition("stamped");
    let seen = |stream: KStream<String, u64>, topic: &str| stream.process(&[], || When).to(topic);
    seen(stamped.clone(), "all");
    stamped
        .group_by_key()
        .windowed_by(TimeWindows::hopping(ms(10), ms(5)))
        .on_late(move |late| {
            late.to("late-raw");
            seen(late, "late");
        })
        .count("counts")
        .to_stream()
        .map(|at, n| (at.key, format!("{}={n}", at.window.start)))
        .to("out");
    let mut driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    for (n, at) in [(1u64, 3), (2, 40), (3, 30), (4, 29), (5, 36), (6, 0)] {
        driver.append("in", &"k".to_owned(), &n, Timestamp(at)).unwrap();
    }
    driver.run().unwrap();
    let values = |driver: &mut TopologyTestDriver, topic| {
        driver.read::<String, String>(topic).unwrap().into_iter().map(|r| r.value).collect::<Vec<_>>()
    };
    assert_eq!(values(&mut driver, "late"), ["3@30 of 40", "4@29 of 40", "6@0 of 40"]);
    assert_eq!(values(&mut driver, "all").len(), 6);
    let raw = driver.read::<String, u64>("late-raw").unwrap();
    assert!(raw.iter().all(|r| r.headers.last("by") == Some(b"test")));
    assert_eq!(raw.iter().map(|r| r.timestamp.0).collect::<Vec<_>>(), [30, 29, 0]);
    assert_eq!(values(&mut driver, "out"), ["0=1", "35=1", "40=1", "35=2"]);
    // Two windows each of 3, 4; one of 6, which is too near to the epoch for two; and one of 5.
    assert_eq!(driver.metrics().total().late, 6);
}

struct Stamp;

impl Processor<String, u64, String, u64> for Stamp {
    fn process(
        &mut self,
        mut record: Record<String, u64>,
        cx: &mut ProcessorContext<'_, String, u64>,
    ) -> Result<()> {
        record.headers = Headers::new().with("by", &b"test"[..]);
        cx.forward(record)
    }
}

#[test]
fn a_plan_with_a_gate_as_text() {
    let builder = StreamsBuilder::new();
    builder
        .stream::<String, f64>("readings")
        .group_by_key()
        .windowed_by(SessionWindows::gap(ms(60_000)))
        .on_late(|late| late.to("late-readings"))
        .count("sessions")
        .to_stream()
        .to("session-counts");
    insta::assert_snapshot!(builder.build().unwrap().describe(), @"
    sub-topology 0
      source     source-0     (topic readings)  -> late-gate-1
      processor  late-gate-1  (store sessions)  -> late-2, count-4
      processor  late-2       -> sink-3
      sink       sink-3       (topic late-readings)
      processor  count-4      (store sessions)  -> sink-5
      sink       sink-5       (topic session-counts)
    ");
}

#[test]
fn windows_that_cannot_be_are_told_by_build() {
    let fails = |make: fn(&StreamsBuilder)| {
        let builder = StreamsBuilder::new();
        make(&builder);
        builder.build().unwrap_err().to_string()
    };
    let wide = fails(|b| {
        let grouped = b.stream::<String, u64>("in").group_by_key();
        drop(grouped.windowed_by(TimeWindows::hopping(ms(10), ms(11))).count("c"));
    });
    assert!(wide.contains("advance=11 ms"), "{wide}");
    let gap = fails(|b| {
        let grouped = b.stream::<String, u64>("in").group_by_key();
        drop(grouped.windowed_by(SessionWindows::gap(Duration::ZERO)).count("c"));
    });
    assert!(gap.contains("gap=0 ms"), "{gap}");
    // A grace without end would make an error of every record.
    let grace = fails(|b| {
        let grouped = b.stream::<String, u64>("in").group_by_key();
        drop(grouped.windowed_by(TimeWindows::tumbling(ms(10)).grace(Duration::MAX)).count("c"));
    });
    assert!(grace.contains("a window or its grace is too long"), "{grace}");
    let grace = fails(|b| {
        let grouped = b.stream::<String, u64>("in").group_by_key();
        drop(grouped.windowed_by(SessionWindows::gap(ms(10)).grace(Duration::MAX)).count("c"));
    });
    assert!(grace.contains("the gap of sessions or their grace is too long"), "{grace}");
}

/// At the end of time no session could close: such a timestamp is the record's own error, and closes nothing.
#[test]
fn the_end_of_time_closes_no_session() {
    let settings = Settings { on_error: ErrorPolicy::Skip, ..Settings::new("app") };
    let topology = sessions(SessionWindows::gap(ms(5)), Emit::OnClose);
    let mut driver = TopologyTestDriver::with(topology, settings, 1).unwrap();
    for at in [1, i64::MAX, 2, 1000] {
        pipe(&mut driver, "a", at);
    }
    assert_eq!((out(&mut driver), driver.metrics().total().skipped), (vec!["[a@1/2]=2@2".to_owned()], 1));
}

/// Takes the later value, and tells it from a combination of both.
fn hundred(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    b.map(|b| a.map_or(1000, |a| a * 100) + b)
}

/// A row that became Kafka's null is none at once, however much memory there is and whenever it restarts.
#[test]
fn a_window_of_nulls_is_the_same_after_a_crash() {
    let run = |emit: Emit, memory_bytes: usize, crashes: bool| {
        let builder = StreamsBuilder::new();
        builder
            .stream::<String, Option<u64>>("in")
            .group_by_key()
            .windowed_by(TimeWindows::tumbling(ms(10)))
            .emit(emit)
            .reduce("last", hundred)
            .to_stream()
            .map(|at, n| (at.key, n.map_or("null".to_owned(), |n| n.to_string())))
            .to("out");
        let settings = Settings { memory_bytes, ..Settings::new("nulls") };
        let mut driver = TopologyTestDriver::with(builder.build().unwrap(), settings, 1).unwrap();
        for (n, at) in [(None, 5), (Some(1u64), 3), (Some(2), 2), (None, 4), (None, 1), (Some(3), 0)] {
            driver.pipe("in", &"k".to_owned(), &n, Timestamp(at)).unwrap();
            if crashes {
                restart(&mut driver, false);
            }
        }
        for (n, at) in [(Some(4u64), 10), (None, 11), (Some(5), 20)] {
            driver.pipe("in", &"k".to_owned(), &n, Timestamp(at)).unwrap();
            if crashes {
                restart(&mut driver, false);
            }
        }
        out(&mut driver)
    };
    let updates = ["null@5", "1@3", "102@3", "null@4", "null@1", "3@0", "4@10", "null@11", "5@20"];
    let changes = ["1@3", "102@3", "null@4", "3@0", "4@10", "null@11", "5@20"];
    for (memory_bytes, crashes) in [(1 << 20, false), (1 << 20, true), (1, true)] {
        let run = |emit| run(emit, memory_bytes, crashes);
        assert_eq!(run(Emit::OnUpdate), updates);
        assert_eq!(run(Emit::OnCommit), updates, "each record is a commit of its own");
        assert_eq!(run(Emit::OnChange), changes);
        assert_eq!(run(Emit::OnClose), ["3@0"], "the second window closes as null");
    }
}

/// A session that became Kafka's null would lose its span with its row: what makes it so is an error, the same after a crash.
#[test]
fn a_session_does_not_become_null() {
    let run = |crashes: bool| {
        let builder = StreamsBuilder::new();
        builder
            .stream::<String, Option<u64>>("in")
            .group_by_key()
            .windowed_by(SessionWindows::gap(ms(10)).grace(ms(100)))
            .reduce("last", hundred)
            .to_stream()
            .map(|at, n| (at.key.clone(), show(&at, n.flatten())))
            .to("out");
        let settings = Settings { on_error: ErrorPolicy::Skip, ..Settings::new("nulls") };
        let mut driver = TopologyTestDriver::with(builder.build().unwrap(), settings, 1).unwrap();
        for (n, at) in [(None, 0), (Some(1u64), 5), (None, 12), (Some(2), 15), (Some(3), 22)] {
            driver.pipe("in", &"k".to_owned(), &n, Timestamp(at)).unwrap();
            if crashes {
                restart(&mut driver, false);
            }
        }
        out(&mut driver)
    };
    let sessions =
        ["[k@5/5]=1@5", "[k@5/5]=null@5", "[k@5/15]=102@15", "[k@5/15]=null@15", "[k@5/22]=10203@22"];
    assert_eq!(run(false), sessions);
    assert_eq!(run(true), sessions);
}

#[test]
fn an_aggregate_of_a_session_that_is_null_says_what_to_do() {
    let builder = StreamsBuilder::new();
    builder.stream::<String, u64>("in").group_by_key().windowed_by(SessionWindows::gap(ms(10))).aggregate(
        "visits",
        || (),
        |_, _, ()| (),
        |_, (), ()| (),
    );
    let mut driver = TopologyTestDriver::new(builder.build().unwrap()).unwrap();
    let error = driver.pipe("in", &"k".to_owned(), &0u64, Timestamp(3)).unwrap_err().to_string();
    assert!(error.contains("filter out the records") && error.contains("start=3, end=3"), "{error}");
}

/// What values of sessions keep on the heap is memory, so they go to the engine like others when they are too many.
#[test]
fn large_values_of_sessions_count_as_memory() {
    let topology = || {
        let builder = StreamsBuilder::new();
        builder
            .stream::<u64, u64>("in")
            .group_by_key()
            .windowed_by(SessionWindows::gap(ms(10)))
            .aggregate("texts", || "x".repeat(100_000), |_, _, _| (), |_, _, _| ())
            .to_stream()
            .map(|at, _| (at.key, 0u64))
            .to("out");
        builder.build().unwrap()
    };
    let bytes = |memory_bytes| {
        let settings = Settings { memory_bytes, ..Settings::new("heap") };
        let mut driver = TopologyTestDriver::with(topology(), settings, 1).unwrap();
        for n in 0..100u64 {
            driver.pipe("in", &n, &n, Timestamp(0)).unwrap();
        }
        driver.metrics().total().state_bytes
    };
    let (much, little) = (bytes(64 << 20), bytes(1 << 20));
    assert!((10_000_000..11_000_000).contains(&much), "10 MB of values are bytes={much}");
    assert!(little < 2_000_000, "with memory for 1 MB there are bytes={little}");
}
