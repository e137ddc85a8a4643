//! Times as people write them: `2014-01-07 02:55:00`, read as UTC, to milliseconds since 1970 and back.
//! What lives here is the little of the calendar that the example needs; no time zones, no leap seconds.

/// Milliseconds of one second.
pub(crate) const SECOND_MS: i64 = 1_000;
/// Milliseconds of one minute.
pub(crate) const MINUTE_MS: i64 = 60 * SECOND_MS;
/// Milliseconds of one hour.
pub(crate) const HOUR_MS: i64 = 60 * MINUTE_MS;
/// Milliseconds of one day.
pub(crate) const DAY_MS: i64 = 24 * HOUR_MS;

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A day of the (proleptic Gregorian) calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Date {
    /// The year, astronomical: 0 is 1 BC.
    pub(crate) year: i64,
    /// The month, 1 to 12.
    pub(crate) month: i64,
    /// The day of the month, from 1.
    pub(crate) day: i64,
}

impl Date {
    /// The day that `timestamp_ms` is in.
    pub(crate) fn of(timestamp_ms: i64) -> Date {
        // The calendar is cut into eras of 400 years that begin on a 1 March, so that the leap day comes last.
        let days = timestamp_ms.div_euclid(DAY_MS) + 719_468;
        let era = days.div_euclid(146_097);
        let day_of_era = days.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        Date { year: era * 400 + year_of_era + i64::from(month <= 2), month, day }
    }

    /// The first millisecond of the day.
    pub(crate) fn start_ms(self) -> i64 {
        let year = self.year - i64::from(self.month <= 2);
        let era = year.div_euclid(400);
        let year_of_era = year.rem_euclid(400);
        let month_from_march = (self.month + 9) % 12;
        let day_of_year = (153 * month_from_march + 2) / 5 + self.day - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        (era * 146_097 + day_of_era - 719_468) * DAY_MS
    }

    /// The month's name in three letters.
    pub(crate) fn month_name(self) -> &'static str {
        MONTHS[(self.month - 1).rem_euclid(12) as usize]
    }
}

/// Reads `YYYY-MM-DD HH:MM:SS`, with an optional fraction of a second, as UTC. `None` if it is anything else or
/// a time that does not exist (30 February).
pub(crate) fn parse(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let (whole, fraction) = (bytes.get(..19)?, &bytes[19..]);
    let separators = [(4, b'-'), (7, b'-'), (10, b' '), (13, b':'), (16, b':')];
    if separators.iter().any(|&(at, byte)| whole[at] != byte) {
        return None;
    }
    let date = Date { year: digits(&whole[..4])?, month: digits(&whole[5..7])?, day: digits(&whole[8..10])? };
    let (hour, minute, second) = (digits(&whole[11..13])?, digits(&whole[14..16])?, digits(&whole[17..19])?);
    // A day that the month does not have lands in the next month, and so reads back as another date.
    if !(1..=12).contains(&date.month) || Date::of(date.start_ms()) != date {
        return None;
    }
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let time_ms = hour * HOUR_MS + minute * MINUTE_MS + second * SECOND_MS;
    Some(date.start_ms() + time_ms + fraction_ms(fraction)?)
}

/// Writes `timestamp_ms` as `YYYY-MM-DD HH:MM:SS`, UTC; a fraction of a second is cut off.
pub(crate) fn format(timestamp_ms: i64) -> String {
    let Date { year, month, day } = Date::of(timestamp_ms);
    let (hour, minute) = hour_and_minute(timestamp_ms);
    let second = timestamp_ms.rem_euclid(MINUTE_MS) / SECOND_MS;
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

/// The hour and the minute of the day.
pub(crate) fn hour_and_minute(timestamp_ms: i64) -> (i64, i64) {
    let of_day = timestamp_ms.rem_euclid(DAY_MS);
    (of_day / HOUR_MS, of_day % HOUR_MS / MINUTE_MS)
}

fn digits(bytes: &[u8]) -> Option<i64> {
    bytes
        .iter()
        .try_fold(0, |number, byte| byte.is_ascii_digit().then(|| number * 10 + i64::from(byte - b'0')))
}

/// The milliseconds of `.ffffff`, one to nine digits; of nothing, 0.
fn fraction_ms(bytes: &[u8]) -> Option<i64> {
    match bytes {
        [] => Some(0),
        [b'.', fraction @ ..] if (1..=9).contains(&fraction.len()) => {
            digits(fraction).map(|number| number * SECOND_MS / 10_i64.pow(fraction.len() as u32))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times_are_read() {
        // The expected numbers are those of `date -u -d TIME +%s`.
        for (text, seconds) in [
            ("1970-01-01 00:00:00", 0),
            ("1969-12-31 23:59:59", -1),
            ("2000-02-29 12:00:00", 951_825_600),
            ("2013-12-02 21:15:00", 1_386_018_900),
            ("2014-01-07 02:55:00", 1_389_063_300),
            ("2015-09-17 17:10:00", 1_442_509_800),
            ("9999-12-31 23:59:59", 253_402_300_799),
        ] {
            assert_eq!(parse(text), Some(seconds * 1_000), "{text}");
            assert_eq!(format(seconds * 1_000), text);
        }
    }

    #[test]
    fn a_fraction_is_cut_to_milliseconds() {
        assert_eq!(parse("1970-01-01 00:00:01.5"), Some(1_500));
        assert_eq!(parse("1970-01-01 00:00:01.000000"), Some(1_000));
        assert_eq!(parse("1970-01-01 00:00:01.123999999"), Some(1_123));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "2014-01-07",
            "2014-01-07 02:55",
            "2014-01-07T02:55:00",
            "2014-1-07 02:55:00 ",
            "2014-00-07 02:55:00",
            "2014-13-07 02:55:00",
            "2014-02-29 02:55:00",
            "2014-04-31 02:55:00",
            "2014-04-00 02:55:00",
            "2014-01-07 24:00:00",
            "2014-01-07 02:60:00",
            "2014-01-07 02:55:60",
            "2014-01-07 02:55:00.",
            "2014-01-07 02:55:00.1234567890",
            "2014-01-07 02:55:00Z",
            "+014-01-07 02:55:00",
            "ü014-01-07 02:55:00",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn every_day_of_eight_centuries_reads_back_and_follows_the_one_before() {
        let mut date = Date { year: 1599, month: 12, day: 31 };
        let mut at = date.start_ms();
        for _ in 0..(2 * 146_097) {
            at += DAY_MS;
            let next = Date::of(at);
            assert_eq!(next.start_ms(), at);
            assert_eq!(Date::of(at + DAY_MS - 1), next);
            let same_month = next.month == date.month && next.day == date.day + 1;
            assert!(same_month || next.day == 1 && (27..=31).contains(&date.day), "{date:?} {next:?}");
            date = next;
        }
        assert_eq!(date, Date { year: 2399, month: 12, day: 31 });
    }
}
