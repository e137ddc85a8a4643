//! Which records belong to the range, and which of them depend on records beyond it.

use headwater_core::{Timestamp, serdes::KeyWindow};

use super::Scope;
use crate::{Output, topology::Carried};

/// Why a result cannot be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Border {
    /// It depends on all that was ever before.
    Everything,
    /// It may depend on records before the range and its warm-up.
    Before,
    /// It may depend on records after the range, or be waiting for time to pass.
    After,
}

impl Border {
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Everything => "depends on everything before the range",
            Self::Before => "reaches back before the range and its warm-up",
            Self::After => "is not over at the end of the range",
        }
    }
}

/// The borders, for one output.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    from: Option<Timestamp>,
    until: Option<Timestamp>,
    /// The first instant of which the replay knew the records.
    known_from: Option<Timestamp>,
    /// Up to when time has passed in the run that may not have sent what waits for it: the replay, or the live run, if the replay
    /// closed its windows.
    passed: Option<Timestamp>,
    carried: Carried,
}

impl Bounds {
    /// `latest_live`: up to when time has passed in the live run, as far as its results show it.
    pub(super) fn new(scope: &Scope, output: &Output, latest_live: Option<Timestamp>) -> Self {
        let warm_up_ms = i64::try_from(scope.warm_up.as_millis()).unwrap_or(i64::MAX);
        Self {
            from: scope.from,
            until: scope.until,
            known_from: scope.from.map(|from| Timestamp(from.0.saturating_sub(warm_up_ms))),
            passed: if scope.windows_closed { latest_live } else { scope.until },
            carried: output.carried,
        }
    }

    pub(super) fn in_range(&self, timestamp: Timestamp) -> bool {
        self.from.is_none_or(|from| from <= timestamp) && self.until.is_none_or(|until| timestamp < until)
    }

    /// Whether a result reaches over a border, and which.
    pub(super) fn border(&self, window: Option<KeyWindow>, timestamp: Timestamp) -> Option<Border> {
        let (start, end, reach) = match (window, self.carried.window) {
            (Some(window), Some(known)) => {
                (window.start(), window.end().unwrap_or(window.start().plus_ms(1)), known.reach)
            }
            _ => (timestamp, timestamp.plus_ms(1), self.carried.reach),
        };
        if let Some(known_from) = self.known_from {
            if reach.back_ms == i64::MAX {
                return Some(Border::Everything);
            }
            if start.0.saturating_sub(reach.back_ms) < known_from.0 {
                return Some(Border::Before);
            }
        }
        let end = end.plus_ms(reach.ahead_ms);
        let over = self.until.is_some_and(|until| end > until);
        let waiting =
            reach.waits_ms > 0 && self.passed.is_some_and(|passed| end.plus_ms(reach.waits_ms) > passed);
        (over || waiting).then_some(Border::After)
    }
}
