//! What is counted and timed.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::fault::Fault;
use super::timing::ServerTiming;

/// Significant decimal digits of a time.
const DIGITS: u8 = 3;

/// Times in microseconds, each to three digits.
#[derive(Clone, Debug)]
pub struct Times(Histogram<u64>);

impl Default for Times {
    fn default() -> Self {
        #[expect(clippy::expect_used, reason = "it fails only for a number of digits that it cannot do")]
        let made = Histogram::new(DIGITS).expect("three digits are possible");
        Self(made)
    }
}

impl Times {
    /// Adds one.
    pub fn add(&mut self, time: Duration) {
        let microseconds = u64::try_from((time.as_nanos() + 500) / 1000).unwrap_or(u64::MAX / 4);
        // It grows as it has to; beyond that there is no memory.
        let _recorded = self.0.record(microseconds);
    }

    /// Adds all of another one.
    pub fn merge(&mut self, other: &Self) {
        let _merged = self.0.add(&other.0);
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The time that this share of all does not exceed.
    pub fn at(&self, share: f64) -> Duration {
        Duration::from_micros(self.0.value_at_quantile(share))
    }

    /// The longest.
    pub fn longest(&self) -> Duration {
        Duration::from_micros(self.0.max())
    }

    /// The arithmetic mean.
    pub fn mean(&self) -> Duration {
        Duration::try_from_secs_f64(self.0.mean() / 1e6).unwrap_or_default()
    }
}

/// What happened in a stretch of time.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// From when a request was due to the end of its answer; without a rate, from when it was sent. Requests that got
    /// no answer in time are in it with the time that was waited.
    pub response: Times,
    /// From when a request was sent to the end of its answer; only with a rate.
    pub service: Times,
    /// What the gateway says that it took by itself.
    pub gateway: Times,
    /// What the gateway says that its upstream took.
    pub upstream: Times,
    /// How much later than it was due a request was issued, which is the load generator's own fault.
    pub lateness: Times,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Requests without an answer.
    pub faults: BTreeMap<Fault, u64>,
    /// Requests that found all connections busy when they were due.
    pub queued: u64,
    /// Due before the end and never sent, because all connections were busy.
    pub unsent: u64,
    /// Sent before the end and not answered when everything else was over.
    pub unanswered: u64,
    /// Connections that were made.
    pub connections: u64,
    /// Bytes of answers.
    pub received: u64,
}

/// How one request went.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// From when it was due; without a rate, from when it was sent.
    pub response: Duration,
    /// From when it was sent; `None` without a rate, where it is the same.
    pub service: Option<Duration>,
    /// The status and the times that the answer tells, or why there is none.
    pub end: Result<(u16, ServerTiming), Fault>,
}

impl Tally {
    /// Counts one request.
    pub fn count(&mut self, outcome: &Outcome) {
        match outcome.end {
            Ok((status, timing)) => {
                *self.statuses.entry(status).or_default() += 1;
                self.time(outcome);
                if let Some(time) = timing.gateway {
                    self.gateway.add(time);
                }
                if let Some(time) = timing.upstream {
                    self.upstream.add(time);
                }
            }
            Err(fault) => {
                *self.faults.entry(fault).or_default() += 1;
                // It would have taken that long at least. Those that failed at once tell nothing of the time.
                if fault == Fault::Timeout {
                    self.time(outcome);
                }
            }
        }
    }

    fn time(&mut self, outcome: &Outcome) {
        self.response.add(outcome.response);
        if let Some(time) = outcome.service {
            self.service.add(time);
        }
    }

    /// Counts one that was due and never sent.
    pub fn count_unsent(&mut self, waited: Duration) {
        self.unsent += 1;
        self.response.add(waited);
    }

    /// Counts one that was sent and has no answer yet.
    pub fn count_unanswered(&mut self, waited: Duration, since_sent: Option<Duration>) {
        self.unanswered += 1;
        self.response.add(waited);
        if let Some(time) = since_sent {
            self.service.add(time);
        }
    }

    /// Adds all of another one.
    pub fn merge(&mut self, other: &Self) {
        self.response.merge(&other.response);
        self.service.merge(&other.service);
        self.gateway.merge(&other.gateway);
        self.upstream.merge(&other.upstream);
        self.lateness.merge(&other.lateness);
        for (status, count) in &other.statuses {
            *self.statuses.entry(*status).or_default() += count;
        }
        for (fault, count) in &other.faults {
            *self.faults.entry(*fault).or_default() += count;
        }
        self.queued += other.queued;
        self.unsent += other.unsent;
        self.unanswered += other.unanswered;
        self.connections += other.connections;
        self.received += other.received;
    }

    /// Requests that were answered, whatever the answer.
    pub fn answered(&self) -> u64 {
        self.statuses.values().sum()
    }

    /// Requests that were due.
    pub fn requests(&self) -> u64 {
        self.answered() + self.faults.values().sum::<u64>() + self.unsent + self.unanswered
    }

    /// Requests that did not succeed: without an answer, or with one of status 400 or above.
    pub fn failures(&self) -> u64 {
        self.requests() - self.statuses.range(..400).map(|(_, count)| count).sum::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(ms: u64, end: Result<u16, Fault>) -> Outcome {
        let end = end.map(|status| (status, ServerTiming::default()));
        Outcome { response: Duration::from_millis(ms), service: None, end }
    }

    #[test]
    fn every_request_is_counted_once_and_failures_are_told_apart() {
        let mut tally = Tally::default();
        for (ms, end) in [
            (1, Ok(200)),
            (2, Ok(304)),
            (3, Ok(401)),
            (4, Ok(503)),
            (9, Err(Fault::Connect)),
            (30_000, Err(Fault::Timeout)),
        ] {
            tally.count(&outcome(ms, end));
        }
        tally.count_unsent(Duration::from_secs(40));
        tally.count_unanswered(Duration::from_secs(50), None);
        assert_eq!((tally.requests(), tally.answered(), tally.failures()), (8, 4, 6));
        // All but the one that failed at once have a time.
        assert_eq!(tally.response.count(), 7);
        assert!(tally.response.longest() >= Duration::from_secs(50));
        let mut both = tally.clone();
        both.merge(&tally);
        assert_eq!((both.requests(), both.response.count(), both.statuses[&401]), (16, 14, 2));
    }

    #[test]
    fn times_have_three_digits() {
        let mut times = Times::default();
        for ms in 1..=1000 {
            times.add(Duration::from_millis(ms));
        }
        let near = |time: Duration, ms: f64| (time.as_secs_f64() * 1000.0 / ms - 1.0).abs() < 0.001;
        assert!(near(times.at(0.5), 500.0) && near(times.at(0.99), 990.0), "{:?}", times.at(0.5));
        assert!(near(times.longest(), 1000.0) && near(times.mean(), 500.5));
        assert!(Times::default().is_empty() && Times::default().at(0.99).is_zero());
    }
}
