//! A replay that ends at any call to any of its logs or its state, and is started again, comes to what an undisturbed one does.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::executor::block_on;
use headwater_core::{Log, StateBackend, memory::MemoryLog};
use headwater_streams::{
    Settings, Topology,
    replay::{Plan, Report, Run},
};

use crate::{
    ports::{Fault, FaultyBackend, FaultyLog},
    same::{options, results, topology, world},
    world::{everything, plan, replay_with, settings},
};

/// No replay needs more, and none may try forever.
const ATTEMPTS_MAX: u32 = 60;

struct Ports {
    own: MemoryLog,
    logs: (Arc<dyn Log>, Arc<dyn Log>),
    state: Arc<dyn StateBackend>,
}

impl Ports {
    fn new(source: &MemoryLog, fault: &Fault) -> Self {
        let own = MemoryLog::default();
        let faulty = |inner: &MemoryLog, small_reads| {
            let (inner, fault) = (inner.clone(), fault.clone());
            Arc::new(FaultyLog { inner, fault, small_reads, fails_at_start: true }) as Arc<dyn Log>
        };
        let state = FaultyBackend::new(fault, 0);
        Self { logs: (faulty(source, false), faulty(&own, false)), own, state: Arc::new(state) }
    }

    async fn attempt(
        &self,
        topology: &Topology,
        settings: Settings,
        plan: &Plan,
    ) -> headwater_core::Result<Report> {
        let (source, own) = (Arc::clone(&self.logs.0), Arc::clone(&self.logs.1));
        Run::start(topology, settings, plan, source, own, Arc::clone(&self.state)).await?.finish().await
    }
}

#[test]
fn a_process_that_ends_at_any_step_changes_no_result() {
    let source = world();
    let before = everything(&source);
    // A few commits in each phase, and state that is written with each of them.
    let settings =
        Settings { memory_bytes: 0, commit_interval: Duration::ZERO, turn_records_max: 200, ..settings() };
    let (expected_report, own) = replay_with(&topology(), settings.clone(), &options(), &source);
    let expected = results(&own);
    let plan = plan(&topology(), &options(), &source).unwrap();
    let (mut places, mut runs) = (BTreeSet::new(), 0);
    // State is written with each commit, or only at the end of a phase, so that a crash leaves changelogs to be read.
    for (times, step, memory_bytes) in [(1, 1, 0), (3, 7, 0), (1, 5, 1 << 20)] {
        let settings = Settings { memory_bytes, ..settings.clone() };
        for at in (1..).step_by(step) {
            let fault = Fault::new(at, times);
            let ports = Ports::new(&source, &fault);
            fault.arm(true);
            let done = (0..ATTEMPTS_MAX)
                .find_map(|_| block_on(ports.attempt(&topology(), settings.clone(), &plan)).ok())
                .unwrap();
            let fired = fault.fired();
            let Some(place) = fired.first() else { break };
            assert!(done.finished);
            assert!(results(&ports.own) == expected, "call {at}, {place}, {times} times");
            assert_eq!(done.sources, expected_report.sources, "call {at}, {place}");
            assert_eq!((&done.before, &done.outputs), (&expected_report.before, &expected_report.outputs));
            assert_eq!(done.reached, expected_report.reached);
            places.insert(*place);
            runs += 1;
        }
    }
    assert_eq!(everything(&source), before);
    for place in [
        "after a commit of positions",
        "after a topic was made",
        "after the log's commit",
        "append",
        "before a commit of positions",
        "before a write of state",
        "look at a committed position",
        "look at the topics",
        "opening of a producer",
        "read of an input",
    ] {
        assert!(places.contains(place), "no run ended at {place}: {places:?}");
    }
    eprintln!("{runs} runs, {} places", places.len());
}
