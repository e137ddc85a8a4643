//! Which part of the disk's time a log takes.

use std::{fmt, str::FromStr};

use headwater_core::{Error, Result};

/// A smaller part is refused: it would not come to an end.
const PART_MIN: f64 = 0.001;

/// Which part of the time the disk may be busy for a log, from 0.1 % to all of it: 100 % is no limit.
///
/// ```
/// use headwater_storage::log::DiskShare;
/// let share: DiskShare = "25%".parse()?;
/// assert_eq!(share, DiskShare::new(0.25)?);
/// assert_eq!(share.to_string(), "25%");
/// assert!(DiskShare::new(1.5).is_err());
/// # Ok::<(), headwater_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct DiskShare(f64);

impl DiskShare {
    /// All of it: no limit.
    pub const ALL: Self = Self(1.0);

    /// For a log that is written beside that of a live program, on one disk: what leaves the latency of that program about as it is.
    pub const BESIDE_LIVE: Self = Self(0.05);

    /// So much of 1.
    ///
    /// # Errors
    /// `Invalid` unless it lies between 0.001 and 1.
    pub fn new(part: f64) -> Result<Self> {
        if (PART_MIN..=1.0).contains(&part) {
            return Ok(Self(part));
        }
        Err(Error::invalid(format!("a share of the disk lies between {PART_MIN} and 1. share={part}")))
    }

    /// As a part of 1.
    #[must_use]
    pub fn part(self) -> f64 {
        self.0
    }

    /// Whether it is no limit.
    #[must_use]
    pub fn is_all(self) -> bool {
        self == Self::ALL
    }
}

impl Default for DiskShare {
    fn default() -> Self {
        Self::ALL
    }
}

/// In percent.
impl fmt::Display for DiskShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not more digits than anybody says.
        let percent = (self.0 * 100_000.0).round() / 1000.0;
        write!(f, "{percent}%")
    }
}

/// From `25%` or `0.25`.
impl FromStr for DiskShare {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let text = text.trim();
        let (number, whole) = text.strip_suffix('%').map_or((text, 1.0), |number| (number, 100.0));
        let part = number.trim().parse::<f64>().ok().map(|number| number / whole);
        part.and_then(|part| Self::new(part).ok()).ok_or_else(|| {
            let text = text.escape_debug();
            Error::invalid(format!("between 0.1% and 100%, as in 25% or 0.25. share=`{text}`"))
        })
    }
}

#[cfg(test)]
mod tests {
    use headwater_core::ErrorKind;

    use super::*;

    #[test]
    fn it_is_said_in_percent_or_as_a_part() {
        for (text, part, shown) in [
            ("25%", 0.25, "25%"),
            ("0.25", 0.25, "25%"),
            (" 12.5 % ", 0.125, "12.5%"),
            ("100%", 1.0, "100%"),
            ("1", 1.0, "100%"),
            ("0.1%", 0.001, "0.1%"),
            ("7%", 0.07, "7%"),
        ] {
            let share: DiskShare = text.parse().unwrap();
            assert_eq!((share, share.to_string().as_str()), (DiskShare::new(part).unwrap(), shown), "{text}");
        }
        assert!("100%".parse::<DiskShare>().unwrap().is_all());
    }

    #[test]
    fn what_is_no_share_is_refused() {
        for text in ["", "%", "0", "0%", "-1%", "101%", "25", "NaN", "inf", "1e-300", "a lot", "25%%"] {
            let error = text.parse::<DiskShare>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{text}");
            assert!(error.to_string().contains("as in 25% or 0.25"), "{error}");
        }
        for part in [0.0, -0.5, 1.01, f64::NAN, f64::INFINITY, 0.0001] {
            assert!(DiskShare::new(part).is_err(), "{part}");
        }
    }
}
