//! Numbers as people read them.

use std::time::Duration;

/// `1234567` as `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Three digits at least, and no more than are of use.
pub fn decimal(number: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is rounded and not negative"
    )]
    let whole = |number: f64| count(number.round().max(0.0) as u64);
    match number.abs() {
        size if size >= 100.0 => whole(number),
        size if size >= 10.0 && (number - number.round()).abs() > 1e-9 => format!("{number:.1}"),
        size if size >= 1.0 && (number - number.round()).abs() > 1e-9 => format!("{number:.2}"),
        size if (size - size.round()).abs() < 1e-9 => whole(number),
        _ => format!("{number:.3}"),
    }
}

/// A time in milliseconds, or in seconds from ten on.
pub fn time(time: Duration) -> String {
    match time.as_secs_f64() * 1000.0 {
        ms if ms >= 10_000.0 => format!("{:.1} s", ms / 1000.0),
        ms if ms >= 100.0 => format!("{ms:.0} ms"),
        ms if ms >= 10.0 => format!("{ms:.1} ms"),
        ms if ms >= 1.0 => format!("{ms:.2} ms"),
        ms => format!("{ms:.3} ms"),
    }
}

/// A length of time that somebody has chosen: in whole seconds where it is.
pub fn span(length: Duration) -> String {
    if length.subsec_millis() == 0 {
        return format!("{} s", count(length.as_secs()));
    }
    format!("{} ms", length.as_millis())
}

/// So many of something: `1 login`, `2 logins`, `3 refreshes`.
pub fn counted(number: u64, one: &str) -> String {
    let ending = match one {
        _ if number == 1 => "",
        one if one.ends_with('h') => "es",
        _ => "s",
    };
    format!("{} {one}{ending}", count(number))
}

/// The difference of two times with its sign.
pub fn difference(more: Duration, less: Duration) -> String {
    match more.checked_sub(less) {
        Some(by) => format!("+{}", time(by)),
        None => format!("-{}", time(less.saturating_sub(more))),
    }
}

/// A number of bytes in the unit that suits it.
#[expect(clippy::cast_precision_loss, reason = "it is rounded anyway")]
pub fn bytes(number: u64) -> String {
    let number = number as f64;
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    for (unit, power) in units {
        let factor = 2.0_f64.powi(power);
        if number >= factor {
            return format!("{} {unit}", decimal(number / factor));
        }
    }
    format!("{number} B")
}

/// A percentile without zeros that say nothing: `99.9 %`.
pub fn percent(percentile: f64) -> String {
    format!("{percentile} %")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [0.0, 0.5, 2.0, 2.345, 23.45, 1234.5].map(decimal),
            ["0", "0.500", "2", "2.35", "23.4", "1,235"]
        );
        assert_eq!([0, 1023, 1536, 5 << 30].map(bytes), ["0 B", "1023 B", "1.50 KiB", "5 GiB"]);
        let times = [0, 31, 1500, 15_000, 150_000, 15_000_000].map(Duration::from_micros).map(time);
        assert_eq!(times, ["0.000 ms", "0.031 ms", "1.50 ms", "15.0 ms", "150 ms", "15.0 s"]);
        assert_eq!([4000, 1500].map(Duration::from_millis).map(span), ["4 s", "1500 ms"]);
        assert_eq!(
            [counted(1, "login"), counted(2, "login"), counted(0, "refresh")],
            ["1 login", "2 logins", "0 refreshes"]
        );
        let (more, less) = (Duration::from_millis(3), Duration::from_millis(1));
        assert_eq!(
            (difference(more, less).as_str(), difference(less, more).as_str()),
            ("+2.00 ms", "-2.00 ms")
        );
    }
}
