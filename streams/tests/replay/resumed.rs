//! A replay that was stopped goes on where it was.

use std::{sync::Arc, time::Duration};

use futures::executor::block_on;
use headwater_core::memory::{MemoryBackend, MemoryLog};
use headwater_streams::{
    StreamsBuilder, TimeWindows, Topology,
    replay::{Options, Phase},
};

use crate::world::{Sent, contents, live, plan, replay, send, settings, start};

fn topology() -> Topology {
    let builder = StreamsBuilder::new();
    builder
        .stream::<String, u64>("in")
        .select_key(|_, n| format!("key-{}", n % 3))
        .repartition("by-rest")
        .group_by_key()
        .windowed_by(TimeWindows::tumbling(Duration::from_millis(10)))
        .count("counts")
        .to_stream()
        .map(|at, n| (format!("{}@{}", at.key, at.window.start.0), n))
        .to("out");
    builder.build().unwrap()
}

fn world() -> MemoryLog {
    let log = live(&[("in", 2)]);
    let records: Vec<Sent> = (0..200u64).map(|n| (format!("k{}", n % 7), n, 5 * n.cast_signed())).collect();
    send(&log, "in", &records, 9);
    log
}

#[test]
fn stopped_at_once_and_gone_on_with_it_comes_to_the_same() {
    let log = world();
    let (expected_report, expected) = replay(&topology(), &Options::default(), &log);
    // One record a second: it is stopped with next to nothing taken.
    let slow = Options { pace: Some(0.005), ..Options::default() };
    let plan = plan(&topology(), &slow, &log).unwrap();
    let (own, state) = (MemoryLog::default(), Arc::new(MemoryBackend::default()));
    let run = start(&topology(), settings(), &plan, (&log, &own, &state)).unwrap();
    let stopped = block_on(run.stop()).unwrap();
    assert!(!stopped.finished && stopped.phase == Phase::Range);
    assert!(stopped.sources["in"] < 10, "{stopped}");
    let plan = plan.with_pace(None).unwrap();
    let run = start(&topology(), settings(), &plan, (&log, &own, &state)).unwrap();
    let watch = run.watch();
    let report = block_on(run.finish()).unwrap();
    assert!(report.finished);
    assert_eq!((&report.sources, &report.outputs), (&expected_report.sources, &expected_report.outputs));
    assert_eq!(report.sources["in"], 200);
    let progress = watch.progress();
    assert!(progress.is_finished && progress.read == 200 && progress.to_read == 200, "{progress:?}");
    assert_eq!(contents(&own, "out"), contents(&expected, "out"));
    // Once more: there is nothing left to do.
    let run = start(&topology(), settings(), &plan, (&log, &own, &state)).unwrap();
    let again = block_on(run.finish()).unwrap();
    assert_eq!((again.finished, &again.sources, &again.outputs), (true, &report.sources, &report.outputs));
}
