//! How often somebody who looks at a log that others write looks again.

use std::time::Duration;

use headwater_core::{Error, ErrorKind, Result};

/// The same damage so often, with more and more time in between (half a second in all), is no change that was met half
/// way.
const SAME_MAX: u32 = 10;
/// Different failures so often: the owner is faster than we are.
const FAILURES_MAX: u32 = 200;

/// What went wrong so far.
#[derive(Debug, Default)]
pub(super) struct Patience {
    last: Option<String>,
    same: u32,
    failures: u32,
}

impl Patience {
    /// After which time it is worth to look again.
    ///
    /// # Errors
    /// `error`, when it is worth no more.
    pub(super) fn look_again(&mut self, error: Error) -> Result<Duration> {
        let text = error.report();
        self.failures += 1;
        if self.last.as_ref() == Some(&text) {
            self.same += 1;
        } else {
            (self.last, self.same) = (Some(text), 1);
        }
        if error.kind() == ErrorKind::Invalid || self.same >= SAME_MAX {
            return Err(error);
        }
        if self.failures >= FAILURES_MAX {
            let text = format!("log changes faster than it can be read: try again. {}", error.report());
            return Err(Error::new(ErrorKind::Unavailable, text));
        }
        Ok(Duration::from_millis(1 << (self.same - 1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_that_stays_is_damage_and_damage_that_moves_is_change() {
        let mut patience = Patience::default();
        for _ in 1..SAME_MAX {
            patience.look_again(Error::corrupt("a")).unwrap();
        }
        assert_eq!(patience.look_again(Error::corrupt("a")).unwrap_err().kind(), ErrorKind::Corrupt);
        let mut patience = Patience::default();
        for number in 1..FAILURES_MAX {
            patience.look_again(Error::corrupt(number.to_string())).unwrap();
        }
        assert_eq!(patience.look_again(Error::corrupt("x")).unwrap_err().kind(), ErrorKind::Unavailable);
        let mut patience = Patience::default();
        assert_eq!(
            patience.look_again(Error::invalid("no such topic")).unwrap_err().kind(),
            ErrorKind::Invalid
        );
    }
}
