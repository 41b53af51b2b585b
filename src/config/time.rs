//! Dates of TOML as seconds since 1970.

use toml::value::{Datetime, Offset};

use super::complaint::{Complaint, quoted};

/// Seconds since 1970-01-01T00:00:00Z. `literal` is what the file writes.
pub(super) fn unix_seconds(time: &Datetime, literal: &str) -> Result<i64, Complaint> {
    let (Some(date), Some(clock)) = (time.date, time.time) else {
        let correction = if time.date.is_some() { format!("{literal}T00:00:00Z") } else { FORM.to_owned() };
        return Err(Complaint::new(format!("{} is not a date with a time", quoted(literal)))
            .hint(format!("write {correction}, without quotes")));
    };
    let offset_minutes = match time.offset {
        Some(Offset::Z) => 0,
        Some(Offset::Custom { minutes }) => i64::from(minutes),
        None => {
            return Err(Complaint::new(format!("{} has no time zone", quoted(literal)))
                .hint(format!("add \"Z\" for UTC, or an offset: {FORM} or 2027-01-31T00:00:00+01:00")));
        }
    };
    let days = days_since_1970(i64::from(date.year), i64::from(date.month), i64::from(date.day));
    let second_of_day =
        i64::from(clock.hour) * 3600 + i64::from(clock.minute) * 60 + i64::from(clock.second.unwrap_or(0));
    Ok(days * 86_400 + second_of_day - offset_minutes * 60)
}

const FORM: &str = "2027-01-31T00:00:00Z";

/// Days of the Gregorian calendar. The year is counted from March, so that the leap day is its last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    year * 365 + leap_days + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(text: &str) -> Result<i64, String> {
        unix_seconds(&text.parse().unwrap(), text).map_err(|complaint| complaint.message)
    }

    #[test]
    fn dates_become_seconds() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1969-12-31T23:59:59Z", -1),
            ("2000-02-29T12:00:00Z", 951_825_600),
            ("2000-03-01T00:00:00Z", 951_868_800),
            ("2026-12-15T00:00:00Z", 1_797_292_800),
            ("2026-12-15T01:30:00.75+01:30", 1_797_292_800),
            ("2026-12-14T19:00:00-05:00", 1_797_292_800),
            ("9999-12-31T23:59:59Z", 253_402_300_799),
        ] {
            assert_eq!(seconds(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_time_without_date_or_zone_is_refused() {
        assert_eq!(seconds("2026-12-15").unwrap_err(), "\"2026-12-15\" is not a date with a time");
        assert_eq!(seconds("07:32:00").unwrap_err(), "\"07:32:00\" is not a date with a time");
        assert_eq!(seconds("2026-12-15T00:00:00").unwrap_err(), "\"2026-12-15T00:00:00\" has no time zone");
    }
}
