//! The Gregorian calendar, in UTC.

/// Year, month and day of a day counted from 1970-01-01.
///
/// ```
/// use headwater_core::date_of_day;
/// assert_eq!(date_of_day(0), (1970, 1, 1));
/// assert_eq!(date_of_day(11_016), (2000, 2, 29));
/// ```
#[must_use]
pub fn date_of_day(days: i64) -> (i64, i64, i64) {
    // Counted in eras of 400 years that begin on a 1 March: the leap day then is the last day of a year.
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}
