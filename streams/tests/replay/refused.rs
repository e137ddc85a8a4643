//! What cannot be replayed is refused, with what there is, and nothing was changed.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::executor::block_on;
use headwater_core::{
    Admin as _, ErrorKind, Log, Offset, Timestamp, TopicSpec,
    memory::{MemoryBackend, MemoryLog},
};
use headwater_streams::{
    Settings, StreamsBuilder, Topology,
    replay::{Options, Position},
};

use crate::world::{NOW, Sent, everything, live, partition, plan, send, settings, start};

fn topology() -> Topology {
    let builder = StreamsBuilder::new();
    builder.stream::<String, u64>("in").to("out");
    builder.build().unwrap()
}

/// Records from 100 to 199 ms in one partition, ten to a batch; those before 150 are deleted.
fn cut_off() -> MemoryLog {
    let log = live(&[("in", 1), ("other", 1)]);
    let records: Vec<Sent> = (100..200).map(|n| ("k".to_owned(), 0, n)).collect();
    send(&log, "in", &records, 10);
    block_on(log.delete_records(&partition("in", 0), Offset(50))).unwrap();
    log
}

/// Why options are refused.
fn refused(log: &MemoryLog, options: &Options) -> String {
    let before = everything(log);
    let error = plan(&topology(), options, log).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(everything(log), before);
    error.report()
}

fn from(from: Position) -> Options {
    Options { from, ..Options::default() }
}

fn at(topic: &str, offset: u64) -> Position {
    Position::Offsets(BTreeMap::from([(partition(topic, 0), Offset(offset))]))
}

fn time(millis: i64) -> Position {
    Position::Time(Timestamp(millis))
}

#[test]
fn what_is_not_in_the_log_is_refused_with_what_is() {
    let log = cut_off();
    let says = |options: &Options, parts: &[&str]| {
        let text = refused(&log, options);
        assert!(parts.iter().all(|part| text.contains(part)), "{text}");
    };
    let there = "offsets 50 to 100";
    says(&from(time(149)), &["deleted", "in-0", there, "1970-01-01T00:00:00.150Z on"]);
    let ago = Position::Ago(Duration::from_millis(u64::try_from(NOW.0 - 149).unwrap()));
    says(&from(ago), &["deleted", there]);
    let warm_up = Options { warm_up: Duration::from_millis(11), ..from(time(160)) };
    says(&warm_up, &["deleted", "warm-up", "00:00:00.149Z", there]);
    let of_offsets = Options { warm_up: Duration::from_millis(11), ..from(at("in", 60)) };
    says(&of_offsets, &["deleted", there]);
    says(&from(at("in", 49)), &["outside", "position=49", there]);
    says(&from(at("in", 101)), &["outside", "position=101", there]);
    says(&from(at("in", 100)), &["nothing", "00:00:00.150Z to 1970-01-01T00:00:00.199Z"]);
    says(&from(time(200)), &["nothing", "00:00:00.200Z", "00:00:00.199Z"]);
    says(&from(at("other", 0)), &["does not read", "other-0", "in-0"]);
    says(&from(Position::End), &["at the end"]);
    says(&from(Position::Offsets(BTreeMap::new())), &["at least one"]);
    says(&Options { until: Position::Earliest, ..Options::default() }, &["until the earliest"]);
    says(&Options { until: time(159), ..from(time(160)) }, &["begins after it ends", ".160Z", ".159Z"]);
    says(&Options { until: at("in", 59), ..from(at("in", 60)) }, &["begins after it ends", "60", "59"]);
    for pace in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        says(&Options { pace: Some(pace), ..Options::default() }, &["pace"]);
    }
    // What is there is taken.
    for options in [from(time(150)), from(at("in", 50)), Options::default()] {
        plan(&topology(), &options, &log).unwrap();
    }
}

#[test]
fn a_source_that_does_not_exist_is_refused_with_those_that_do() {
    let text = refused(&live(&[("im", 1), ("inn", 2)]), &Options::default());
    assert!(text.contains("topics=in; what there is: im, inn"), "{text}");
    let text = refused(&live(&[]), &Options::default());
    assert!(text.contains("no topic"), "{text}");
}

#[test]
fn what_does_not_fit_the_plan_or_what_was_begun_is_refused() {
    let log = cut_off();
    let begun = plan(&topology(), &Options::default(), &log).unwrap();
    let (own, state) = (MemoryLog::default(), Arc::new(MemoryBackend::default()));
    let run = start(&topology(), settings(), &begun, (&log, &own, &state)).unwrap();
    block_on(run.stop()).unwrap();
    let before = everything(&own);
    let refuse = |topology: &Topology, settings, plan, live: &MemoryLog, own: &MemoryLog, part: &str| {
        let result = start(topology, settings, plan, (live, own, &Arc::new(MemoryBackend::default())));
        let error = result.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.report().contains(part), "{}", error.report());
    };
    let other = plan(&topology(), &from(time(160)), &log).unwrap();
    refuse(&topology(), settings(), &other, &log, &own, "holds another one");
    let builder = StreamsBuilder::new();
    builder.stream::<String, u64>("in").filter(|_, n| *n > 0).to("out");
    let filtered = builder.build().unwrap();
    refuse(&filtered, settings(), &begun, &log, &own, "not the one that the replay was planned for");
    refuse(&topology(), Settings::new("others"), &begun, &log, &own, "another application");
    refuse(&topology(), settings(), &begun, &live(&[("im", 1)]), &own, "not there any more");
    assert_eq!(everything(&own), before);
    // A log that is no replay's.
    refuse(&topology(), settings(), &begun, &log, &log, "holds something else");
    let used = MemoryLog::default();
    block_on(used.create_topic(&TopicSpec::new("used", 1).unwrap())).unwrap();
    let before = everything(&used);
    refuse(&topology(), settings(), &begun, &log, &used, "topic=used");
    assert_eq!(everything(&used), before);
}
