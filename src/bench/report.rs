//! What came of a load test.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::figures;
use super::pace::Pace;
use super::sessions::Counts;
use super::tally::Tally;
use super::worker::Effort;

/// The percentiles that are told.
pub const PERCENTILES: [f64; 6] = [50.0, 75.0, 90.0, 99.0, 99.9, 99.99];

/// A thread that is busy for so much of the time is a limit by itself.
const BUSY: f64 = 0.9;

/// Requests that are issued so much too late make times look longer than they are.
const LATE: Duration = Duration::from_millis(1);

/// What came of a load test.
#[derive(Debug)]
pub struct Report {
    /// The settings, in words.
    pub settings: String,
    /// Whether times count from when a request was due.
    pub pace: Pace,
    /// The URL under test; behind it the one to compare with, if there is one.
    pub measured: Vec<Measured>,
    /// What happened to tokens, if there were any that could be refreshed.
    pub tokens: Option<TokenCounts>,
    /// What a reader has to know of the figures.
    pub notes: Vec<String>,
}

/// What came of one URL.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// Which one, in a word.
    pub name: &'static str,
    /// The URL.
    pub url: String,
    /// Everything that was counted.
    pub total: Tally,
    /// Each stretch of time, in the order of the rounds.
    pub stretches: Vec<Stretch>,
    /// What it took, of all threads.
    pub efforts: Vec<Effort>,
    /// The share of the machine's processors that was busy.
    pub machine: Option<f64>,
}

/// A stretch of time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stretch {
    /// How long it was.
    pub length: Duration,
    /// Requests that were answered.
    pub answered: u64,
    /// Requests that did not succeed.
    pub failures: u64,
    /// Half of the times were no longer.
    pub median: Duration,
    /// 99 of 100 times were no longer.
    pub p99: Duration,
}

/// What happened to tokens during the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenCounts {
    /// Sessions, each with tokens of its own.
    pub sessions: u64,
    /// Logins.
    pub logins: u64,
    /// Refreshes.
    pub refreshes: u64,
    /// Refreshes that brought another refresh token.
    pub rotations: u64,
    /// Logins and refreshes that failed.
    pub failures: u64,
    /// Answers 429 and 503 of token routes.
    pub deferrals: u64,
}

impl TokenCounts {
    /// What has been counted so far.
    pub fn of(counts: &Counts, sessions: u64) -> Self {
        Self {
            sessions,
            logins: counts.logins.load(Ordering::Relaxed),
            refreshes: counts.refreshes.load(Ordering::Relaxed),
            rotations: counts.rotations.load(Ordering::Relaxed),
            failures: counts.failures.load(Ordering::Relaxed),
            deferrals: counts.deferrals.load(Ordering::Relaxed),
        }
    }
}

impl Measured {
    /// How long it was counted, all rounds together.
    pub fn counted(&self) -> Duration {
        self.stretches.iter().map(|stretch| stretch.length).sum()
    }

    /// Answers a second while it was counted; those that came after the end are not among them.
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    pub fn rate(&self) -> f64 {
        let answered: u64 = self.stretches.iter().map(|stretch| stretch.answered).sum();
        let seconds = self.counted().as_secs_f64();
        if seconds > 0.0 { answered as f64 / seconds } else { 0.0 }
    }

    /// The share of requests that did not succeed; 1 when there was no request.
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    pub fn failure_share(&self) -> f64 {
        let requests = self.total.requests();
        if requests == 0 { 1.0 } else { self.total.failures() as f64 / requests as f64 }
    }

    /// The share of time in which the busiest thread of the load generator worked.
    pub fn busiest(&self) -> f64 {
        let share = |effort: &Effort| {
            let counted = effort.counted.as_secs_f64();
            if counted > 0.0 { effort.processor.as_secs_f64() / counted } else { 0.0 }
        };
        self.efforts.iter().map(share).fold(0.0, f64::max)
    }
}

impl Report {
    /// The URL under test.
    pub fn main(&self) -> Option<&Measured> {
        self.measured.first()
    }

    /// With what it is compared.
    pub fn direct(&self) -> Option<&Measured> {
        self.measured.get(1)
    }

    /// Whether times count from when requests were due.
    pub fn is_open(&self) -> bool {
        matches!(self.pace, Pace::Rate(_))
    }

    /// What times are counted from.
    pub fn time_name(&self) -> &'static str {
        if self.is_open() {
            "response time, from when a request was due"
        } else {
            "service time, from when a request was sent"
        }
    }

    /// Writes down what has to be known of the figures.
    pub fn judge(&mut self, is_local: bool) {
        let mut notes = Vec::new();
        for measured in &self.measured {
            notes.extend(measured.notes(self.pace));
        }
        if !self.is_open() {
            notes.push(
                "closed loop: a connection sends its next request when the one before it is answered, so while the server stalls it is asked less, and the percentiles show too little of it. Use --rate for times that count from when a request was due".to_owned(),
            );
        }
        if self.direct().is_some() {
            notes.push(
                "what the gateway adds is the difference of two percentiles, not the percentile of a difference: it is told for the whole, not for single requests".to_owned(),
            );
            if !self.is_open() {
                notes.push("without --rate the two were asked at different rates, each as fast as it answered: compare times at one rate".to_owned());
            }
        }
        if is_local {
            notes.push("the load generator and the server share the processors of this machine: the server alone could do more".to_owned());
        }
        self.notes.append(&mut notes);
    }
}

impl Measured {
    fn notes(&self, pace: Pace) -> Vec<String> {
        let (name, total) = (self.name, &self.total);
        let mut notes = Vec::new();
        let busiest = self.busiest();
        if busiest >= BUSY {
            notes.push(format!(
                "warning: {name}: a thread of the load generator was busy for {:.0} % of the time, so that it may be the limit, and not the server: use more --threads, another machine, or a lower rate",
                busiest * 100.0
            ));
        } else if let Some(machine) = self.machine.filter(|share| *share >= BUSY) {
            notes.push(format!(
                "warning: {name}: this machine's processors were busy for {:.0} % of the time",
                machine * 100.0
            ));
        }
        if total.lateness.at(0.99) >= LATE {
            notes.push(format!(
                "warning: {name}: one request in a hundred was issued {} or more after it was due, because the load generator was too slow",
                figures::time(total.lateness.at(0.99))
            ));
        }
        if let Pace::Rate(rate) = pace
            && self.rate() < rate.per_second() * 0.98
        {
            notes.push(format!(
                "{name}: {} a second were asked for and {} a second were answered",
                figures::decimal(rate.per_second()),
                figures::decimal(self.rate())
            ));
        }
        if total.queued > 0 {
            notes.push(format!(
                "{name}: {} requests found every connection busy when they were due; their wait counts",
                figures::count(total.queued)
            ));
        }
        let refused: u64 = total.statuses.range(400..).map(|(_, count)| count).sum();
        if refused > 0 {
            notes.push(format!(
                "{name}: the times are those of all answers, of {} with a status of 400 or above too",
                figures::count(refused)
            ));
        }
        let count = total.response.count();
        if (1..10_000).contains(&count) {
            notes.push(format!(
                "{name}: {} times are few: a percentile that leaves less than one of them is the longest",
                figures::count(count)
            ));
        }
        notes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::pace::Rate;
    use crate::bench::tally::Outcome;
    use crate::bench::timing::ServerTiming;

    fn measured(answers: u64, processor_ms: u64) -> Measured {
        let mut total = Tally::default();
        for _ in 0..answers {
            let end = Ok((200, ServerTiming::default()));
            total.count(&Outcome { response: Duration::from_millis(1), service: None, end });
        }
        let length = Duration::from_secs(1);
        let effort = Effort { counted: length, processor: Duration::from_millis(processor_ms) };
        Measured {
            name: "gateway",
            total,
            stretches: vec![Stretch { length, answered: answers, ..Stretch::default() }],
            efforts: vec![Effort::default(), effort],
            ..Measured::default()
        }
    }

    fn notes(measured: Measured, pace: Pace) -> String {
        let mut report = Report {
            settings: String::new(),
            pace,
            measured: vec![measured],
            tokens: None,
            notes: Vec::new(),
        };
        report.judge(false);
        report.notes.join("\n")
    }

    #[test]
    fn a_generator_that_is_its_own_limit_says_so() {
        let rate = Pace::Rate(Rate::parse("100").unwrap());
        assert!(notes(measured(100, 950), rate).contains("busy for 95 % of the time"));
        assert!(!notes(measured(100, 500), rate).contains("busy"));
        let machine = Measured { machine: Some(0.99), ..measured(100, 100) };
        assert!(notes(machine, rate).contains("this machine's processors were busy for 99 %"));
        let mut late = measured(100, 0);
        late.total.lateness.add(Duration::from_millis(7));
        assert!(notes(late, rate).contains("issued 7.00 ms or more after it was due"));
    }

    #[test]
    fn what_was_not_reached_and_what_is_not_corrected_is_said() {
        let rate = Pace::Rate(Rate::parse("500").unwrap());
        assert!(notes(measured(100, 0), rate).contains("500 a second were asked for and 100 a second"));
        assert!(!notes(measured(500, 0), rate).contains("asked for"));
        assert!(notes(measured(100, 0), Pace::Closed).contains("closed loop"));
        assert!(!notes(measured(100, 0), rate).contains("closed loop"));
    }

    #[test]
    fn rates_and_shares_are_of_what_was_counted() {
        let mut measured = measured(300, 0);
        measured.total.count_unsent(Duration::from_secs(1));
        assert!((measured.rate() - 300.0).abs() < 1e-9);
        assert!((measured.failure_share() - 1.0 / 301.0).abs() < 1e-9);
        assert!((Measured::default().failure_share() - 1.0).abs() < 1e-9);
    }
}
