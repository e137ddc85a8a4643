//! Numbers with units, as people read and write them.

use std::time::Duration;

use headwater_core::{Error, Result};

/// `512 B`, `1.5 MB`: three digits are enough.
#[must_use]
pub fn size(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "it is shown with three digits")]
    let mut shown = bytes as f64;
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut unit = "B";
    for larger in ["kB", "MB", "GB", "TB", "PB", "EB"] {
        // What would be rounded to 1000 of this unit is one of the next.
        if shown < 999.5 {
            break;
        }
        (shown, unit) = (shown / 1000.0, larger);
    }
    if shown < 9.95 { format!("{shown:.1} {unit}") } else { format!("{shown:.0} {unit}") }
}

/// `61 s` as `1 min 1 s`; rounded up.
pub(crate) fn span_of(seconds: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative, and cut off")]
    let seconds = seconds.ceil() as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (hours, ..) if hours > 24_000 => "over 1000 days".into(),
        (48.., ..) => format!("{} days", seconds / 86_400),
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

/// `12 s`, `1 min 1 s`, `2 h 1 min`, `3 days`: two parts are enough; rounded up to seconds.
#[must_use]
pub fn span(time: Duration) -> String {
    span_of(time.as_secs_f64())
}

/// `44,499`: digits in threes.
#[must_use]
pub fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// How many bytes `512MB`, `1.5 GiB`, `64k` or `1048576` are: steps of 1000, and of 1024 for `KiB`, `MiB`, `GiB`, `TiB`.
///
/// # Errors
/// `Invalid` when it is no number of bytes, or too many to count.
pub fn bytes(text: &str) -> Result<u64> {
    let wrong = || {
        let text = text.escape_debug();
        Error::invalid(format!("not a number of bytes: 512MB, 1.5GiB or 1048576 are. bytes=`{text}`"))
    };
    let words = text.trim();
    let unit_at = words.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(words.len());
    let (digits, unit) = words.split_at(unit_at);
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1_000,
        "m" | "mb" => 1_000_000,
        "g" | "gb" => 1_000_000_000,
        "t" | "tb" => 1_000_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => return Err(wrong()),
    };
    if let Ok(whole) = digits.parse::<u64>() {
        return whole.checked_mul(factor).ok_or_else(wrong);
    }
    let (whole, fraction) = digits.split_once('.').ok_or_else(wrong)?;
    let whole: u64 = whole.parse().map_err(|_| wrong())?;
    // Nobody means more than thousandths, and no float decides how much memory there is.
    if fraction.is_empty() || fraction.len() > 3 {
        return Err(wrong());
    }
    let scale = [10, 100, 1000][fraction.len() - 1];
    let part = fraction.parse::<u64>().map_err(|_| wrong())? * factor / scale;
    whole.checked_mul(factor).and_then(|bytes| bytes.checked_add(part)).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (9_949, "9.9 kB"),
            (9_950, "10 kB"),
            (999_499, "999 kB"),
            (999_500, "1.0 MB"),
            (64 << 20, "67 MB"),
            (u64::MAX, "18 EB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn spans_are_rounded_up() {
        for (seconds, text) in [
            (0.0, "0 s"),
            (0.2, "1 s"),
            (59.5, "1 min 0 s"),
            (61.0, "1 min 1 s"),
            (7265.0, "2 h 1 min"),
            (172_800.0, "2 days"),
        ] {
            assert_eq!(span_of(seconds), text);
        }
    }

    #[test]
    fn digits_stand_in_threes() {
        for (value, text) in
            [(0, "0"), (999, "999"), (1000, "1,000"), (44_499, "44,499"), (1_234_567, "1,234,567")]
        {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn bytes_are_understood_as_people_say_them() {
        for (text, count) in [
            ("0", 0),
            ("1048576", 1 << 20),
            ("64k", 64_000),
            ("512MB", 512_000_000),
            ("1.5 GiB", 3 << 29),
            ("2 tb", 2_000_000_000_000),
            ("1.005kB", 1_005),
        ] {
            assert_eq!(bytes(text).unwrap(), count, "{text}");
        }
        for text in [
            "",
            "MB",
            "-1",
            "1.2.3MB",
            "1.",
            ".5MB",
            "1.0001GB",
            "12 parsecs",
            "99999999TB",
            "99999999999999999999",
        ] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }
}
