//! What a replay writes, and where.

use std::time::Duration;

use futures::executor::block_on;
use headwater_core::{BatchBuilder, Headers, Log, ProducerName, Timestamp, memory::MemoryLog};
use headwater_streams::{
    ErrorPolicy, Settings, StreamsBuilder,
    replay::{Options, Phase, Position},
};

use crate::world::{Sent, contents, live, partition, plan, replay, replay_with, send, settings};

fn from(millis: i64) -> Options {
    Options { from: Position::Time(Timestamp(millis)), ..Options::default() }
}

fn widths(log: &MemoryLog) -> Vec<(String, u32)> {
    let topics = block_on(log.topics()).unwrap();
    topics.into_iter().map(|spec| (spec.name.to_string(), spec.partitions.get())).collect()
}

#[test]
fn outputs_are_as_wide_as_live_and_dead_letters_are_one_of_them() {
    let log = live(&[("in", 2), ("out", 3), ("letters", 5), ("unrelated", 1)]);
    let builder = StreamsBuilder::new();
    builder.stream::<String, u64>("in").to("out");
    let topology = builder.build().unwrap();
    let mut producer = block_on(log.producer(&ProducerName("bad".into()))).unwrap();
    for time in 10..20 {
        let mut batch = BatchBuilder::default();
        let value: &[u8] = if time % 3 == 0 { b"bad" } else { &[0, 0, 0, 0, 0, 0, 0, 1] };
        batch.push(Timestamp(time), Some(b"k"), Some(value), &Headers::new());
        producer.append(&partition("in", 0), &mut batch).unwrap();
    }
    block_on(producer.commit(None)).unwrap();
    let settings = Settings { on_error: ErrorPolicy::DeadLetter("letters".into()), ..settings() };
    let options = Options { warm_up: Duration::from_millis(3), ..from(15) };
    let (report, own) = replay_with(&topology, settings, &options, &log);
    // 12 fails in the warm-up; 15 and 18 in the range.
    assert_eq!((report.outputs["letters"], report.dropped["letters"], report.dead_letters), (2, 1, 3));
    assert_eq!((report.outputs["out"], report.dropped["out"]), (3, 2));
    let mut expected = vec![("app-replay-positions".to_owned(), 5), ("letters".to_owned(), 5)];
    expected.push(("out".to_owned(), 3));
    assert_eq!(widths(&own), expected);
}

#[test]
fn topics_that_records_decide_are_those_that_there_are_live() {
    let log = live(&[("in", 1), ("of-a", 2), ("of-b", 1), ("of-c", 1)]);
    let builder = StreamsBuilder::new();
    builder.stream::<String, u64>("in").to_each(|key, _| format!("of-{key}"));
    let topology = builder.build().unwrap();
    let sent: Vec<Sent> = ["a", "b", "a"].into_iter().zip(1..).map(|(k, t)| (k.to_owned(), 1, t)).collect();
    send(&log, "in", &sent, 2);
    let (report, own) = replay(&topology, &Options::default(), &log);
    assert_eq!((report.outputs["of-a"], report.outputs["of-b"], report.outputs.get("of-c")), (2, 1, None));
    assert_eq!(contents(&own, "of-a").len(), 2);
}

#[test]
fn a_plan_and_a_report_read_well_and_a_plan_comes_back() {
    let log = live(&[("facts", 2), ("rows", 2)]);
    let builder = StreamsBuilder::new();
    let rows = builder.table::<String, u64>("rows", "row-store");
    builder.stream::<String, u64>("facts").join_table(&rows, |_, _, row| *row).to("out");
    let topology = builder.build().unwrap();
    let day = 86_400_000;
    let sent =
        |step: i64| -> Vec<Sent> { (0..8).map(|n| (format!("k{}", n % 5), 1, day + n * step)).collect() };
    send(&log, "rows", &sent(1), 3);
    send(&log, "facts", &sent(60_000), 3);
    let options = Options {
        until: Position::Time(Timestamp(day + 300_000)),
        warm_up: Duration::from_secs(60),
        pace: Some(1e9),
        ..from(day + 120_000)
    };
    let planned = plan(&topology, &options, &log).unwrap();
    assert_eq!(planned.phases(), [Phase::Tables, Phase::WarmUp, Phase::Range]);
    assert_eq!(planned.topics().collect::<Vec<_>>(), ["facts", "rows"]);
    let range = planned.range().unwrap();
    assert_eq!((range.from, range.until), (Some(Timestamp(day + 120_000)), Some(Timestamp(day + 300_000))));
    insta::assert_snapshot!(planned, @"
    replay of app
    from 1970-01-02T00:02:00.000Z
    until 1970-01-02T00:05:00.000Z
    at 1000000000 times the pace of its events
    phase    partition      from offset      to offset  times
    tables   rows-0                   0              2  before 1970-01-02T00:01:00.000Z
    tables   rows-1                   0              6  before 1970-01-02T00:01:00.000Z
    warm-up  facts-0                  0              2  1970-01-02T00:01:00.000Z .. 1970-01-02T00:02:00.000Z
    warm-up  facts-1                  1              6  1970-01-02T00:01:00.000Z .. 1970-01-02T00:02:00.000Z
    range    facts-0                  0              2  1970-01-02T00:02:00.000Z .. 1970-01-02T00:05:00.000Z
    range    facts-1                  2              6  1970-01-02T00:02:00.000Z .. 1970-01-02T00:05:00.000Z
    ");
    let text = serde_json::to_string(&planned).unwrap();
    assert_eq!(serde_json::from_str::<headwater_streams::replay::Plan>(&text).unwrap(), planned);
    let (mut report, _) = replay(&topology, &options, &log);
    report.duration = Duration::from_millis(1_250);
    insta::assert_snapshot!(report, @"
    replay finished after 1.250 s
    from    1970-01-02T00:02:00.000Z
    until   1970-01-02T00:05:00.000Z
    reached 1970-01-02T00:04:00.000Z
                     topic        records
    before the range facts              1
    before the range rows               8
    not written      out                1
    read             facts              3
    read             rows               0
    written          out                3
    ");
    insta::assert_snapshot!(serde_json::to_string(&report).unwrap(), @r#"{"finished":true,"phase":"range","sources":{"facts":3,"rows":0},"outputs":{"out":3},"before":{"facts":1,"rows":8},"dropped":{"out":1},"late":0,"skipped":0,"dead_letters":0,"null_keys":0,"null_values":0,"from":86520000,"until":86700000,"reached":86640000,"duration_ms":1250}"#);
}
