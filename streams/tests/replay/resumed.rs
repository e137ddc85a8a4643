//! A replay that was stopped goes on where it was.

use std::{sync::Arc, time::Duration};

use futures::executor::block_on;
use headwater_core::{
    ManualClock,
    memory::{MemoryBackend, MemoryLog},
};
use headwater_streams::{
    Ports, StreamsBuilder, TimeWindows, Topology,
    replay::{Options, Phase, Run},
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

/// A clock that stands: a replay at its pace goes no further than it says.
#[test]
fn stopped_again_and_again_it_comes_to_the_same() {
    let log = crate::same::world();
    let (topology, options) = (crate::same::topology(), crate::same::options());
    let (expected_report, expected) = replay(&topology, &options, &log);
    let plan = plan(&topology, &Options { pace: Some(1.0), ..options }, &log).unwrap();
    let (own, state) = (MemoryLog::default(), Arc::new(MemoryBackend::default()));
    let mut stops = 0;
    // How far the last run came: what the next one begins with is no progress of its own.
    let mut last = (Phase::Tables, 0);
    loop {
        let clock = Arc::new(ManualClock::default());
        let ports =
            Ports { log: Arc::new(own.clone()), state: Arc::clone(&state) as _, clock: clock.clone() };
        let run = Run::start_on(&topology, settings(), &plan, Arc::new(log.clone()), ports);
        let run = block_on(run).unwrap();
        let watch = run.watch();
        // Until some of the few records are committed that the clock lets through, or a phase is over.
        clock.advance_ms(12);
        let enough = futures::future::poll_fn(|cx| {
            let now = watch.progress();
            if now.is_finished || (now.phase, now.records) > last {
                return std::task::Poll::Ready(());
            }
            std::thread::yield_now();
            cx.waker().wake_by_ref();
            std::task::Poll::Pending
        });
        let report = block_on(run.run_until(enough)).unwrap();
        if report.finished {
            assert_eq!(report.sources, expected_report.sources);
            assert_eq!(
                (&report.before, &report.outputs),
                (&expected_report.before, &expected_report.outputs)
            );
            assert_eq!((&report.dropped, report.late), (&expected_report.dropped, expected_report.late));
            break;
        }
        let now = watch.progress();
        last = last.max((now.phase, now.records));
        stops += 1;
        assert!(stops < 200, "{report}");
    }
    // The range is longer than 190 ms, and two phases come before it.
    assert!(stops > 15, "{stops}");
    assert!(crate::same::results(&own) == crate::same::results(&expected));
}
