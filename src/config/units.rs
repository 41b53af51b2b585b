//! Durations, sizes and rates, as `gateway.toml` writes them.

use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use super::complaint::{Complaint, quoted};
use super::{Rate, RateUnit};

/// The longest duration of any setting.
const MAX_DURATION: Duration = Duration::from_secs(366 * DAY / 1000);
const DAY: u64 = 24 * 60 * 60 * 1000;
/// In milliseconds.
const DURATION_UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1000), ("m", 60 * 1000), ("h", 60 * 60 * 1000), ("d", DAY)];
/// In bytes.
const SIZE_UNITS: [(&str, u64); 7] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("KB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
];
/// Of requests.
const RATE_UNITS: [(&str, RateUnit); 4] =
    [("s", RateUnit::Second), ("m", RateUnit::Minute), ("h", RateUnit::Hour), ("d", RateUnit::Day)];
/// Most requests in a rate or a burst.
pub(super) const MAX_REQUESTS: u32 = 1_000_000_000;
const DURATION_FORM: &str =
    "a duration is a whole number and one unit: \"500ms\", \"30s\", \"10m\", \"1h\" or \"1d\"";
const SIZE_FORM: &str = "a size is a whole number and one unit: \"512B\", \"32KiB\", \"16MiB\" or \"1GiB\" (or KB, MB, GB, in powers of 1000)";
const RATE_FORM: &str = "a rate is a size for each second: \"128B/s\" or \"1KiB/s\"; \"0\" is no limit";

/// A duration that is longer than zero and at most 366 days.
pub(super) fn duration(text: &str) -> Result<Duration, Complaint> {
    let duration = duration_or_zero(text)?;
    if duration.is_zero() {
        return Err(
            Complaint::new("a duration of zero").hint("it cannot be switched off; the longest is \"366d\"")
        );
    }
    Ok(duration)
}

/// The life of a token as it is written in the configuration: `"30m"`.
///
/// # Errors
///
/// What is wrong and what would be right, in words.
pub fn lifetime(text: &str) -> Result<Duration, String> {
    whole_seconds(text).map_err(in_words)
}

/// A duration of the command line, written as in the configuration: `"30s"`. It is longer than zero.
///
/// # Errors
///
/// What is wrong and what would be right, in words.
pub fn span(text: &str) -> Result<Duration, String> {
    duration(text).map_err(in_words)
}

/// As [`span`], from zero on.
///
/// # Errors
///
/// As [`span`].
pub fn span_or_none(text: &str) -> Result<Duration, String> {
    duration_or_zero(text).map_err(in_words)
}

fn in_words(Complaint { message, hint }: Complaint) -> String {
    match hint {
        Some(hint) => format!("{message}: {hint}"),
        None => message,
    }
}

/// As [`duration`], in whole seconds, since tokens count in them.
pub(super) fn whole_seconds(text: &str) -> Result<Duration, Complaint> {
    let duration = duration(text)?;
    in_whole_seconds(text, duration)
}

/// As [`whole_seconds`], from zero to five minutes.
pub(super) fn leeway(text: &str) -> Result<Duration, Complaint> {
    let duration = in_whole_seconds(text, duration_or_zero(text)?)?;
    if duration > Duration::from_mins(5) {
        return Err(Complaint::new(format!("{} is too long for a leeway", quoted(text))).hint(
            "clocks differ by seconds, and every expired token lives longer by the leeway; the longest is \"5m\"",
        ));
    }
    Ok(duration)
}

/// A duration from zero on.
pub(super) fn from_zero(text: &str) -> Result<Duration, Complaint> {
    duration_or_zero(text)
}

/// As [`whole_seconds`]; zero is none.
pub(super) fn seconds_or_none(text: &str) -> Result<Option<Duration>, Complaint> {
    let duration = in_whole_seconds(text, duration_or_zero(text)?)?;
    Ok((!duration.is_zero()).then_some(duration))
}

/// A size of at least one byte.
pub(super) fn size(text: &str) -> Result<NonZeroU64, Complaint> {
    size_or_zero(text).and_then(|bytes| {
        NonZeroU64::new(bytes).ok_or_else(|| Complaint::new("a size of zero").hint(SIZE_FORM))
    })
}

/// A size, or `0` for no limit.
pub(super) fn size_limit(text: &str) -> Result<Option<NonZeroU64>, Complaint> {
    size_or_zero(text).map(NonZeroU64::new)
}

/// Bytes per second, or 0 for no limit.
pub(super) fn rate(text: &str) -> Result<u64, Complaint> {
    if text == "0" {
        return Ok(0);
    }
    match (text.strip_suffix("/s"), size_or_zero(text)) {
        (Some(size), _) => size_or_zero(size)
            .map_err(|_| Complaint::new(format!("{} is not a rate", quoted(text))).hint(RATE_FORM)),
        (None, Ok(_)) => Err(Complaint::new(format!("{} is a size, not a rate", quoted(text)))
            .hint(format!("did you mean \"{text}/s\"?"))),
        (None, Err(_)) => Err(Complaint::new(format!("{} is not a rate", quoted(text))).hint(RATE_FORM)),
    }
}

/// Requests in a unit of time: `"100/s"`. As many as in the unit may come at once.
pub(super) fn requests(text: &str) -> Result<Rate, Complaint> {
    const FORM: &str = "a rate is a whole number and a unit: \"100/s\", \"60/m\", \"1000/h\" or \"5000/d\"";
    let fault = || Complaint::new(format!("{} is not a rate", quoted(text)));
    let (digits, rest) = split(text);
    let unit = rest.strip_prefix('/').unwrap_or_default();
    let Some((_, unit)) = RATE_UNITS.iter().find(|(name, _)| *name == unit) else {
        let meant = if rest.is_empty() { Some("s") } else { rate_alias(rest) };
        return Err(match meant.filter(|_| !digits.is_empty()) {
            Some(unit) if rest.is_empty() => Complaint::new(format!("{} has no unit", quoted(text)))
                .hint(format!("did you mean \"{digits}/{unit}\"? units are s, m, h and d")),
            Some(unit) => fault().hint(format!("did you mean \"{digits}/{unit}\"?")),
            None => fault().hint(FORM),
        });
    };
    if digits.is_empty() {
        return Err(fault().hint(FORM));
    }
    let number = digits.parse::<u32>().ok().filter(|number| *number <= MAX_REQUESTS);
    let number = number.ok_or_else(|| {
        Complaint::new(format!("{} is too high", quoted(text)))
            .hint(format!("the highest number is {MAX_REQUESTS}; leave the limit out for none"))
    })?;
    let count = NonZeroU32::new(number).ok_or_else(|| {
        Complaint::new("a rate of zero")
            .hint("it would let nobody pass; remove the route, or write a rate such as \"1/m\"")
    })?;
    Ok(Rate { count, unit: *unit, burst: count })
}

/// What people write elsewhere behind the number, and the unit that they mean.
fn rate_alias(rest: &str) -> Option<&'static str> {
    let rest = rest.trim().to_ascii_lowercase();
    let rest = rest.strip_prefix("req").or(rest.strip_prefix('r')).unwrap_or(&rest).trim_start();
    let unit = rest.strip_prefix('/').or(rest.strip_prefix("per "))?;
    duration_alias(unit).filter(|unit| RATE_UNITS.iter().any(|(name, _)| name == unit))
}

/// A duration as the file would write it, in the largest unit that is exact.
pub(super) fn shown(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    let exact = |(_, factor): &&(&str, u64)| milliseconds.is_multiple_of(u128::from(*factor));
    match DURATION_UNITS.iter().rev().find(exact) {
        Some((unit, factor)) => format!("{}{unit}", milliseconds / u128::from(*factor)),
        None => format!("{milliseconds}ms"),
    }
}

fn duration_or_zero(text: &str) -> Result<Duration, Complaint> {
    let (digits, unit) = split(text);
    let fault = || Complaint::new(format!("{} is not a duration", quoted(text)));
    if digits.is_empty() {
        return Err(fault().hint(DURATION_FORM));
    }
    let Some((_, factor)) = DURATION_UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err(match duration_alias(unit) {
            Some("") => Complaint::new(format!("{} has no unit", quoted(text)))
                .hint(format!("did you mean \"{digits}s\"? units are ms, s, m, h and d")),
            Some(unit) => fault().hint(format!("did you mean \"{digits}{unit}\"?")),
            None => fault().hint(DURATION_FORM),
        });
    };
    digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(*factor))
        .map(Duration::from_millis)
        .filter(|duration| *duration <= MAX_DURATION)
        .ok_or_else(|| {
            Complaint::new(format!("{} is too long", quoted(text))).hint("the longest duration is \"366d\"")
        })
}

/// What people write elsewhere, and the unit that they mean.
fn duration_alias(unit: &str) -> Option<&'static str> {
    match unit.trim().to_ascii_lowercase().as_str() {
        "" => Some(""),
        "ms" | "msec" | "msecs" | "millis" | "milliseconds" => Some("ms"),
        "s" | "sec" | "secs" | "second" | "seconds" => Some("s"),
        "m" | "min" | "mins" | "minute" | "minutes" => Some("m"),
        "h" | "hr" | "hrs" | "hour" | "hours" => Some("h"),
        "d" | "day" | "days" => Some("d"),
        _ => None,
    }
}

fn in_whole_seconds(text: &str, duration: Duration) -> Result<Duration, Complaint> {
    if duration.subsec_millis() == 0 {
        return Ok(duration);
    }
    Err(Complaint::new(format!("{} is not a whole number of seconds", quoted(text)))
        .hint("the times in tokens are whole seconds"))
}

fn size_or_zero(text: &str) -> Result<u64, Complaint> {
    if text == "0" {
        return Ok(0);
    }
    let (digits, unit) = split(text);
    let fault = || Complaint::new(format!("{} is not a size", quoted(text)));
    if digits.is_empty() {
        return Err(fault().hint(SIZE_FORM));
    }
    let Some((_, factor)) = SIZE_UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err(match size_alias(unit) {
            Some("") => Complaint::new(format!("{} has no unit", quoted(text)))
                .hint(format!("did you mean \"{digits}B\"? units are B, KiB, MiB and GiB, or KB, MB and GB")),
            Some(unit) => fault().hint(format!("did you mean \"{digits}{unit}\"?")),
            None => fault().hint(SIZE_FORM),
        });
    };
    digits.parse::<u64>().ok().and_then(|number| number.checked_mul(*factor)).ok_or_else(|| {
        Complaint::new(format!("{} is too large", quoted(text))).hint("nothing here has that many bytes")
    })
}

fn size_alias(unit: &str) -> Option<&'static str> {
    match unit.trim().to_ascii_lowercase().as_str() {
        "" => Some(""),
        "b" | "byte" | "bytes" => Some("B"),
        "k" | "ki" | "kib" => Some("KiB"),
        "m" | "mi" | "mib" => Some("MiB"),
        "g" | "gi" | "gib" => Some("GiB"),
        "kb" => Some("KB"),
        "mb" => Some("MB"),
        "gb" => Some("GB"),
        _ => None,
    }
}

/// The digits in front, and what follows them.
fn split(text: &str) -> (&str, &str) {
    text.split_at(text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told<T: std::fmt::Debug>(result: Result<T, Complaint>) -> (String, String) {
        let complaint = result.unwrap_err();
        (complaint.message, complaint.hint.unwrap())
    }

    #[test]
    fn durations_have_a_number_and_a_unit() {
        for (text, milliseconds) in [
            ("1ms", 1),
            ("500ms", 500),
            ("30s", 30_000),
            ("30m", 1_800_000),
            ("1h", 3_600_000),
            ("1d", 86_400_000),
            ("366d", 366 * 86_400_000),
            ("007s", 7_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in [
            "",
            " ",
            "s",
            "-5s",
            "+5s",
            "1.5s",
            "1h30m",
            "30 s",
            "30S",
            "30sec",
            "1w",
            "30",
            "0",
            "0s",
            "0ms",
            "367d",
            "99999999999999999999999s",
            "18446744073709551615d",
            "٣s",
            "5µs",
            "30s ",
            " 30s",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_duration_that_is_nearly_right_is_put_right() {
        let hint = |text| told(duration(text)).1;
        assert_eq!(hint("30"), "did you mean \"30s\"? units are ms, s, m, h and d");
        assert_eq!(hint("5 min"), "did you mean \"5m\"?");
        assert_eq!(hint("2Hours"), "did you mean \"2h\"?");
        assert_eq!(hint("1h30m"), DURATION_FORM);
        assert_eq!(told(duration("0s")).0, "a duration of zero");
        assert_eq!(told(duration("400d")).0, "\"400d\" is too long");
    }

    #[test]
    fn durations_are_shown_in_the_largest_unit() {
        for text in ["1ms", "1500ms", "90s", "30m", "36h", "366d"] {
            assert_eq!(shown(duration(text).unwrap()), text);
        }
        assert_eq!(shown(duration("3600s").unwrap()), "1h");
    }

    #[test]
    fn token_times_are_whole_seconds() {
        assert_eq!(whole_seconds("2000ms"), Ok(Duration::from_secs(2)));
        assert_eq!(told(whole_seconds("1500ms")).0, "\"1500ms\" is not a whole number of seconds");
        assert!(whole_seconds("0s").is_err());
        assert_eq!(leeway("0s"), Ok(Duration::ZERO));
        assert_eq!(leeway("5m"), Ok(Duration::from_mins(5)));
        assert!(leeway("301s").is_err());
    }

    #[test]
    fn sizes_have_a_number_and_a_unit() {
        for (text, bytes) in [
            ("1B", 1),
            ("128B", 128),
            ("32KiB", 32_768),
            ("16MiB", 16_777_216),
            ("1GiB", 1_073_741_824),
            ("1KB", 1_000),
            ("2MB", 2_000_000),
            ("3GB", 3_000_000_000),
        ] {
            assert_eq!(size(text).map(NonZeroU64::get), Ok(bytes), "{text}");
            assert_eq!(size_limit(text), Ok(NonZeroU64::new(bytes)), "{text}");
            assert_eq!(rate(&format!("{text}/s")), Ok(bytes), "{text}");
        }
        for text in
            ["", "KiB", "1", "1K", "1kib", "1 KiB", "-1B", "1.5MiB", "1TiB", "20000000000GiB", "128B/s"]
        {
            assert!(size(text).is_err(), "{text}");
            assert!(size_limit(text).is_err(), "{text}");
        }
        assert!(size("0").is_err());
        assert!(size("0B").is_err());
        assert_eq!(size_limit("0"), Ok(None));
        assert_eq!(size_limit("0MiB"), Ok(None));
    }

    #[test]
    fn a_size_that_is_nearly_right_is_put_right() {
        let hint = |text| told(size(text)).1;
        assert_eq!(hint("16M"), "did you mean \"16MiB\"?");
        assert_eq!(hint("16mb"), "did you mean \"16MB\"?");
        assert_eq!(hint("64 kb"), "did you mean \"64KB\"?");
        assert_eq!(hint("1024"), "did you mean \"1024B\"? units are B, KiB, MiB and GiB, or KB, MB and GB");
        assert_eq!(hint("lots"), SIZE_FORM);
    }

    #[test]
    fn rates_are_sizes_for_each_second() {
        assert_eq!(rate("0"), Ok(0));
        assert_eq!(rate("0B/s"), Ok(0));
        assert_eq!(
            told(rate("128B")),
            ("\"128B\" is a size, not a rate".into(), "did you mean \"128B/s\"?".into())
        );
        for text in ["", "/s", "128/s", "128B/m", "1KiB/s/s"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }
}
