//! How far a replay is.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
};

use headwater_core::Timestamp;
use serde::Serialize;

use super::plan::{Phase, Plan};

/// How far a replay is. Offsets are those of the phase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// What it is doing; the last one also when it is done.
    pub phase: Phase,
    /// All of its phases.
    pub phases: Vec<Phase>,
    /// Offsets that were read and committed of the sources, with those whose records lie outside of the range.
    pub read: u64,
    /// Offsets of the sources that are to be read in all.
    pub to_read: u64,
    /// Records that were taken from the sources.
    pub records: u64,
    /// Up to where it has come in event time: that of the source partition which is furthest back and not done.
    pub reached: Option<Timestamp>,
    /// Where the range begins in event time.
    pub from: Option<Timestamp>,
    /// Where the range ends in event time.
    pub until: Option<Timestamp>,
    /// Whether all is done.
    pub is_finished: bool,
}

/// Looks at a replay while somebody else waits for its end. A clone looks at the same one.
#[derive(Debug, Clone)]
pub struct Watch(Arc<Mutex<Watched>>);

#[derive(Debug)]
struct Watched {
    phase: usize,
    phases: Vec<Phase>,
    range: (Option<Timestamp>, Option<Timestamp>),
    sources: Arc<[Gauge]>,
    is_finished: bool,
}

/// How far one source partition is in the current phase.
#[derive(Debug, Default)]
pub(super) struct Gauge {
    pub(super) begin: u64,
    pub(super) end: u64,
    position: AtomicU64,
    records: AtomicU64,
    /// Of the lane.
    time: AtomicI64,
}

impl Gauge {
    pub(super) fn new(begin: u64, end: u64) -> Self {
        Self { begin, end, position: begin.into(), records: 0.into(), time: i64::MIN.into() }
    }

    /// Everything before was looked at.
    pub(super) fn looked_at(&self, position: u64) {
        self.position.fetch_max(position.min(self.end), Relaxed);
    }

    pub(super) fn committed(&self, position: u64, records: u64, time: i64) {
        self.looked_at(position);
        self.records.store(records, Relaxed);
        self.time.store(time, Relaxed);
    }
}

impl Watch {
    pub(super) fn new(plan: &Plan) -> Self {
        Self(Arc::new(Mutex::new(Watched {
            phase: 0,
            phases: plan.phases.clone(),
            range: (plan.from, plan.until),
            sources: Arc::default(),
            is_finished: false,
        })))
    }

    pub(super) fn begin(&self, phase: usize, sources: Arc<[Gauge]>) {
        let mut watched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (watched.phase, watched.sources) = (phase, sources);
    }

    pub(super) fn finish(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_finished = true;
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let watched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = watched.phases.last().copied().unwrap_or(Phase::Range);
        let mut progress = Progress {
            phase: watched.phases.get(watched.phase).copied().unwrap_or(last),
            phases: watched.phases.clone(),
            read: 0,
            to_read: 0,
            records: 0,
            reached: None,
            from: watched.range.0,
            until: watched.range.1,
            is_finished: watched.is_finished,
        };
        let (mut behind, mut newest) = (None, None);
        for gauge in watched.sources.iter() {
            let all = gauge.end.saturating_sub(gauge.begin);
            let position = gauge.position.load(Relaxed);
            progress.to_read += all;
            progress.read += if watched.is_finished { all } else { position.saturating_sub(gauge.begin) };
            progress.records += gauge.records.load(Relaxed);
            let time = Some(gauge.time.load(Relaxed)).filter(|time| *time != i64::MIN);
            newest = newest.max(time);
            if position < gauge.end && !watched.is_finished {
                behind = Some(behind.map_or(time, |so_far: Option<i64>| so_far.min(time)));
            }
        }
        progress.reached = behind.unwrap_or(newest).map(Timestamp);
        progress
    }
}
