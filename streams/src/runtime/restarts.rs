//! When a worker that failed is opened again, and when the application stops instead.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use headwater_core::{Error, ErrorKind};

use super::{
    panic::Panic,
    settings::{ErrorPolicy, Settings},
};

/// Waiting longer than this between two attempts helps nobody.
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// Why a worker ended.
pub(crate) enum Failure {
    Error(Error),
    /// Somewhere else than at a record that could have been left out.
    Panic(Panic),
}

impl Failure {
    pub(crate) fn into_error(self) -> Error {
        match self {
            Self::Error(error) => error,
            Self::Panic(panic) => Error::processing(format!(
                "a worker panicked; started again, the application goes on from the last commit: {panic}"
            )),
        }
    }
}

/// The failures of one worker.
pub(crate) struct Restarts {
    max: u32,
    window: Duration,
    backoff: Duration,
    /// A panic comes again under this policy: its record is not left out.
    panics_stop: bool,
    recent: VecDeque<Instant>,
}

impl Restarts {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            max: settings.restarts_max,
            window: settings.restart_window,
            backoff: settings.restart_backoff,
            panics_stop: settings.on_error == ErrorPolicy::Fail,
            recent: VecDeque::new(),
        }
    }

    /// How long to wait before the worker is opened again; `None` when that cannot help, or did not too often.
    pub(crate) fn after(&mut self, failure: &Failure, now: Instant) -> Option<Duration> {
        let counts = match failure {
            Failure::Panic(_) if self.panics_stop => return None,
            Failure::Panic(_) => true,
            Failure::Error(error) => match error.kind() {
                ErrorKind::Unavailable | ErrorKind::Fenced => true,
                // Nothing is wrong but the room, and somebody will make some.
                ErrorKind::Full => false,
                _ => return None,
            },
        };
        if !counts {
            return Some(self.backoff.saturating_mul(8).min(BACKOFF_MAX));
        }
        while self.recent.front().is_some_and(|first| now.duration_since(*first) >= self.window) {
            self.recent.pop_front();
        }
        let before = u32::try_from(self.recent.len()).unwrap_or(u32::MAX);
        if before >= self.max {
            return None;
        }
        self.recent.push_back(now);
        Some(self.backoff.saturating_mul(2u32.saturating_pow(before)).min(BACKOFF_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(kind: ErrorKind) -> Failure {
        Failure::Error(Error::new(kind, "it failed"))
    }

    fn settings() -> Settings {
        let (window, backoff) = (Duration::from_secs(60), Duration::from_millis(100));
        Settings { restarts_max: 3, restart_window: window, restart_backoff: backoff, ..Settings::new("app") }
    }

    #[test]
    fn a_worker_is_replaced_so_often_in_a_window_and_waits_longer_each_time() {
        let mut restarts = Restarts::new(&settings());
        let start = Instant::now();
        let mut after =
            |seconds| restarts.after(&error(ErrorKind::Unavailable), start + Duration::from_secs(seconds));
        let waits =
            [0, 1, 2, 3, 60, 61, 62, 63].map(&mut after).map(|wait| wait.map(|wait| wait.as_millis()));
        let expected = [Some(100), Some(200), Some(400), None, Some(400), Some(400), Some(400), None];
        assert_eq!(waits, expected);
    }

    #[test]
    fn what_would_come_again_stops_and_a_full_disk_is_waited_for() {
        let mut restarts = Restarts::new(&settings());
        let now = Instant::now();
        for kind in [ErrorKind::Invalid, ErrorKind::Corrupt, ErrorKind::Processing, ErrorKind::Closed] {
            assert_eq!(restarts.after(&error(kind), now), None, "{kind:?}");
        }
        for _ in 0..100 {
            assert!(restarts.after(&error(ErrorKind::Full), now).is_some());
        }
        assert!(restarts.after(&error(ErrorKind::Fenced), now).is_some());
    }

    #[test]
    fn a_panic_stops_the_application_where_a_failed_record_does() {
        let panicked = || Failure::Panic(super::super::panic::catch(|| panic!("as a test")).unwrap_err());
        let now = Instant::now();
        assert_eq!(Restarts::new(&settings()).after(&panicked(), now), None);
        let skip = Settings { on_error: ErrorPolicy::Skip, ..settings() };
        assert!(Restarts::new(&skip).after(&panicked(), now).is_some());
    }
}
