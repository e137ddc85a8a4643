//! Timestamps as people read and write them: RFC 3339, in UTC. Nothing here reads a clock.

use std::{str::FromStr, time::Duration};

use headwater_core::{Error, Result, Timestamp, date_of_day};

const DAY_MS: i64 = 86_400_000;

/// What the help of a command with an option that takes a time says of it, in lines.
pub const TIME_HELP: &str = "\
TIME is RFC 3339 (2015-09-01, 2015-09-01T11:30:00Z, 2015-09-01T11:30:00+02:00; UTC unless it says otherwise),
milliseconds since 1970, `now`, or a time back from now (90s ago, 2h ago, 7d ago).";

/// A time as somebody says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// This time.
    At(Timestamp),
    /// So many milliseconds before now.
    Ago(i64),
}

impl Moment {
    /// Which time it is when it is `now`.
    #[must_use]
    pub fn at(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(time) => time,
            Self::Ago(ms) => Timestamp(now.0.saturating_sub(ms)),
        }
    }
}

impl FromStr for Moment {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let words = text.trim();
        let parsed = match words.strip_suffix("ago") {
            Some(span) => span_ms(span).map(Self::Ago),
            None if words == "now" => Some(Self::Ago(0)),
            None => words.strip_prefix('@').unwrap_or(words).parse().map(Timestamp).ok().map(Self::At),
        };
        parsed.or_else(|| parse_rfc3339(words).map(Self::At)).ok_or_else(|| {
            Error::invalid(format!(
                "not a time: RFC 3339, milliseconds, `now`, or `2h ago` are. time=`{}`",
                text.escape_debug()
            ))
        })
    }
}

/// How long `90s`, `2 hours`, `7d` or `250ms` is; a bare `0` is nothing.
///
/// # Errors
/// `Invalid` when it is not a number and a unit.
pub fn duration(text: &str) -> Result<Duration> {
    let ms = if text.trim() == "0" { Some(0) } else { span_ms(text) };
    ms.and_then(|ms| u64::try_from(ms).ok()).map(Duration::from_millis).ok_or_else(|| {
        Error::invalid(format!(
            "not a span of time: 250ms, 90s, 15m, 2h or 7d are. span=`{}`",
            text.escape_debug()
        ))
    })
}

/// The milliseconds of `90s`, `2 hours`, `7d`.
fn span_ms(text: &str) -> Option<i64> {
    let text = text.trim();
    let unit_at = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit_at);
    let unit_ms = match unit.trim() {
        "ms" => 1,
        "s" | "sec" | "second" | "seconds" => 1_000,
        "m" | "min" | "minute" | "minutes" => 60_000,
        "h" | "hour" | "hours" => 3_600_000,
        "d" | "day" | "days" => DAY_MS,
        "w" | "week" | "weeks" => 7 * DAY_MS,
        _ => return None,
    };
    number.parse::<i64>().ok()?.checked_mul(unit_ms)
}

/// The time that `text` says: a date, perhaps a time of day down to milliseconds, perhaps how far it is from UTC.
#[must_use]
pub fn parse_rfc3339(text: &str) -> Option<Timestamp> {
    let (date, rest) = text.split_at_checked(10)?;
    let mut parts = date.splitn(3, '-');
    let mut part = |digits| number(parts.next()?, digits);
    let (year, month, day) = (part(4)?, part(2)?, part(2)?);
    let days = days(year, month, day);
    // A day that there is not comes out as another one.
    if !(1..=12).contains(&month) || date_of_day(days) != (year, month, day) {
        return None;
    }
    let Some(rest) = rest.strip_prefix(['T', 't', ' ']) else {
        return rest.is_empty().then_some(Timestamp(days * DAY_MS));
    };
    let zone_at = rest.find(['Z', 'z', '+', '-']).unwrap_or(rest.len());
    let (time, zone) = rest.split_at(zone_at);
    Some(Timestamp(days * DAY_MS + time_of_day_ms(time)? - zone_ms(zone)?))
}

/// `11:30`, `11:30:00`, `11:30:00.25`; what is finer than a millisecond is cut off.
fn time_of_day_ms(text: &str) -> Option<i64> {
    let (text, ms) = match text.split_once('.') {
        None => (text, 0),
        Some((text, fraction)) => {
            let digits = !fraction.is_empty() && fraction.bytes().all(|byte| byte.is_ascii_digit());
            let ms = digits.then(|| format!("{fraction}00"))?;
            (text, ms.get(..3)?.parse().ok()?)
        }
    };
    let mut parts = text.splitn(3, ':');
    let (hour, minute) = (number(parts.next()?, 2)?, number(parts.next()?, 2)?);
    let second = parts.next().map_or((ms == 0).then_some(0), |second| number(second, 2))?;
    // A leap second is the first of the next minute.
    let sane = hour < 24 && minute < 60 && second <= 60;
    sane.then_some(hour * 3_600_000 + minute * 60_000 + second * 1_000 + ms)
}

fn zone_ms(text: &str) -> Option<i64> {
    let sign = match text.chars().next() {
        None | Some('Z' | 'z') => return (text.len() <= 1).then_some(0),
        Some('-') => -1,
        Some(_) => 1,
    };
    let (hour, minute) = text.get(1..)?.split_once(':')?;
    let (hour, minute) = (number(hour, 2)?, number(minute, 2)?);
    (hour < 24 && minute < 60).then_some(sign * (hour * 3_600_000 + minute * 60_000))
}

fn number(text: &str, digits: usize) -> Option<i64> {
    let sound = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    sound.then(|| text.parse().ok())?
}

/// The day counted from 1970-01-01: the inverse of [`date_of_day`].
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month_from_march) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// `2015-09-01T11:30:00.250Z`; `@<milliseconds>` for the years that RFC 3339 cannot write.
#[must_use]
pub fn rfc3339(timestamp: Timestamp) -> String {
    let (year, month, day) = date_of_day(timestamp.0.div_euclid(DAY_MS));
    if !(0..=9999).contains(&year) {
        return format!("@{timestamp}");
    }
    let ms = timestamp.0.rem_euclid(DAY_MS);
    let (hour, minute, second, ms) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60, ms % 1_000);
    let fraction = if ms == 0 { String::new() } else { format!(".{ms:03}") };
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (1_441_107_000_250, "2015-09-01T11:30:00.250Z"),
            (951_782_400_000, "2000-02-29T00:00:00Z"),
            (951_868_799_999, "2000-02-29T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00Z"),
            (-62_167_219_200_000, "0000-01-01T00:00:00Z"),
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
            (253_402_300_800_000, "@253402300800000"),
            (i64::MIN, "@-9223372036854775808"),
            (i64::MAX, "@9223372036854775807"),
        ] {
            assert_eq!(rfc3339(Timestamp(ms)), text);
        }
    }

    #[test]
    fn days_follow_each_other_for_eight_centuries() {
        let mut before = date_of_day(-150_000);
        for days in -149_999..150_000 {
            let (year, month, day) = date_of_day(days);
            let next_day = (year, month) == (before.0, before.1) && day == before.2 + 1;
            let next_month =
                day == 1 && before.2 >= 28 && (year * 12 + month) == (before.0 * 12 + before.1) + 1;
            assert!(next_day || next_month, "{before:?} is followed by {:?}", (year, month, day));
            before = (year, month, day);
        }
    }

    #[test]
    fn what_is_printed_can_be_said() {
        let mut ms = -62_167_219_200_000;
        while ms < 253_402_300_800_000 {
            let time = Timestamp(ms);
            assert_eq!(rfc3339(time).parse::<Moment>().unwrap(), Moment::At(time), "{}", rfc3339(time));
            ms += 7_777_777_777;
        }
        assert_eq!(rfc3339(Timestamp(i64::MAX)).parse::<Moment>().unwrap(), Moment::At(Timestamp(i64::MAX)));
    }

    #[test]
    fn times_are_understood_as_people_say_them() {
        let now = Timestamp(1_441_107_000_000);
        for (text, ms) in [
            ("0", 0),
            ("-5", -5),
            ("1441107000250", 1_441_107_000_250),
            ("2015-09-01", 1_441_065_600_000),
            ("2015-09-01T11:30:00.250Z", 1_441_107_000_250),
            ("2015-09-01 11:30", 1_441_107_000_000),
            ("2015-09-01T11:30:00.2509999", 1_441_107_000_250),
            ("2015-09-01T13:30:00+02:00", 1_441_107_000_000),
            ("2015-09-01T06:00:00-05:30", 1_441_107_000_000),
            ("2000-02-29", 951_782_400_000),
            ("now", now.0),
            ("90s ago", now.0 - 90_000),
            ("2 hours ago", now.0 - 7_200_000),
            ("15m ago", now.0 - 900_000),
            ("7d ago", now.0 - 7 * DAY_MS),
        ] {
            assert_eq!(text.parse::<Moment>().unwrap().at(now), Timestamp(ms), "{text}");
        }
    }

    #[test]
    fn spans_are_understood_as_people_say_them() {
        for (text, ms) in
            [("0", 0), ("250ms", 250), ("90s", 90_000), ("2 hours", 7_200_000), ("1d", 86_400_000)]
        {
            assert_eq!(duration(text).unwrap(), Duration::from_millis(ms), "{text}");
        }
        for text in ["", "5", "-1s", "1.5h", "s", "1 fortnight", "99999999999999999999s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_time_is_refused() {
        for text in [
            "",
            "yesterday",
            "ago",
            "h ago",
            "-1h ago",
            "5 fortnights ago",
            "9999999999999999w ago",
            "2015-02-29",
            "2015-13-01",
            "2015-00-01",
            "2015-9-1",
            "2015-09-01T",
            "2015-09-01T25:00:00Z",
            "2015-09-01T11:61Z",
            "2015-09-01T11:30:00.Z",
            "2015-09-01T11:30.5Z",
            "2015-09-01T11:30:00Zulu",
            "2015-09-01T11:30:00+2",
            "2015-09-01T11:30:00+24:00",
            "2015-09-01x",
            "äääää-09-01",
            "99999999999999999999",
        ] {
            assert!(text.parse::<Moment>().is_err(), "{text}");
        }
    }
}
