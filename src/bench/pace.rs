//! How fast requests are made: at a rate whatever comes of them, or each when the one before it is answered.

use std::fmt;
use std::time::{Duration, Instant};

/// The highest rate, in requests a second.
pub const MAX_RATE: u64 = 10_000_000;

/// When requests are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Open loop: so many at equal distances, whatever comes of them.
    Rate(Rate),
    /// Closed loop: the next one of a connection when the one before it is answered.
    Closed,
}

/// So many requests in a unit of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    count: u64,
    unit: Duration,
}

impl Rate {
    /// Reads `5000/s`, `300/m`, or `5000`, which is for each second.
    ///
    /// # Errors
    ///
    /// What a rate looks like, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (count, unit) = text.split_once('/').unwrap_or((text, "s"));
        let unit = match unit {
            "s" => Duration::from_secs(1),
            "m" => Duration::from_mins(1),
            "h" => Duration::from_hours(1),
            _ => return Err("a rate is a whole number and a unit: 5000/s, 300/m or 100/h".to_owned()),
        };
        let digits = !count.is_empty() && count.bytes().all(|byte| byte.is_ascii_digit());
        let count = count.parse::<u64>().ok().filter(|count| digits && (1..=MAX_RATE).contains(count));
        let count = count.ok_or_else(|| format!("a rate is 1 to {MAX_RATE} requests, such as 5000/s"))?;
        Ok(Self { count, unit })
    }

    /// Requests a second.
    #[expect(clippy::cast_precision_loss, reason = "the highest rate is far below 2^52")]
    pub fn per_second(self) -> f64 {
        self.count as f64 / self.unit.as_secs_f64()
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.unit.as_secs() {
            1 => "s",
            60 => "m",
            _ => "h",
        };
        write!(f, "{}/{unit}", self.count)
    }
}

/// When the requests of one thread are due. It never moves: a server that stalls does not put off what is due meanwhile.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    start: Instant,
    end: Instant,
    rate: Rate,
    thread: u64,
    threads: u64,
}

impl Schedule {
    /// The share of one thread of so many, the first of which is number 0.
    pub fn new(start: Instant, end: Instant, rate: Rate, thread: usize, threads: usize) -> Self {
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        Self { start, end, rate, thread: number(thread), threads: number(threads).max(1) }
    }

    /// When the request with this number of this thread is due; `None` when that is not before the end.
    pub fn due(&self, number: u64) -> Option<Instant> {
        let number = u128::from(number) * u128::from(self.threads) + u128::from(self.thread);
        let after = number * self.rate.unit.as_nanos() / u128::from(self.rate.count);
        let due = self.start.checked_add(Duration::from_nanos(u64::try_from(after).ok()?))?;
        (due < self.end).then_some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_number_and_a_unit() {
        for (text, per_second, shown) in
            [("5000/s", 5000.0, "5000/s"), ("5000", 5000.0, "5000/s"), ("30/m", 0.5, "30/m")]
        {
            let rate = Rate::parse(text).unwrap();
            assert!((rate.per_second() - per_second).abs() < 1e-9);
            assert_eq!(rate.to_string(), shown);
        }
        for text in ["", "0", "0/s", "-1/s", "+1", "1.5", "5k", "1/d", "1/", "/s", "10000001", "1/s/s"] {
            assert!(Rate::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_threads_share_one_schedule_that_has_no_gap() {
        let (start, rate) = (Instant::now(), Rate::parse("1000").unwrap());
        let end = start + Duration::from_millis(100);
        let mut due: Vec<Instant> = (0..3)
            .flat_map(|thread| {
                let schedule = Schedule::new(start, end, rate, thread, 3);
                (0..).map_while(move |number| schedule.due(number))
            })
            .collect();
        due.sort();
        assert_eq!(due.len(), 100);
        for (number, due) in (0..).zip(due) {
            assert_eq!(due, start + Duration::from_millis(number));
        }
    }
}
