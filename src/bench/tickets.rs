//! What is due and not yet sent, on one thread. It is two numbers, because the schedule says the rest.

use std::cell::Cell;
use std::time::Instant;

use tokio::sync::Notify;

use super::pace::Schedule;

/// The requests of a thread at a fixed rate: issued when they are due, taken by whichever connection is free.
#[derive(Debug)]
pub struct Tickets {
    schedule: Schedule,
    issued: Cell<u64>,
    taken: Cell<u64>,
    idle: Cell<u64>,
    is_over: Cell<bool>,
    issue: Notify,
}

/// A request that has come due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Issue {
    /// When it was due.
    pub due: Instant,
    /// Whether no connection was free for it.
    pub is_queued: bool,
}

/// What comes after the tickets that were issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The next one is due then.
    At(Instant),
    /// There are no more.
    Never,
}

impl Tickets {
    /// None is issued yet.
    pub fn new(schedule: Schedule) -> Self {
        Self {
            schedule,
            issued: Cell::new(0),
            taken: Cell::new(0),
            idle: Cell::new(0),
            is_over: Cell::new(false),
            issue: Notify::new(),
        }
    }

    /// Issues all that are due, and tells of each.
    pub fn issue_until(&self, now: Instant, mut told: impl FnMut(Issue)) -> Next {
        loop {
            let Some(due) = self.schedule.due(self.issued.get()) else { return Next::Never };
            if due > now {
                return Next::At(due);
            }
            self.issued.set(self.issued.get() + 1);
            told(Issue { due, is_queued: self.waiting() > self.idle.get() });
            self.issue.notify_one();
        }
    }

    /// When the next request to be sent was due, if there is one.
    pub fn take(&self) -> Option<Instant> {
        let number = self.taken.get();
        if number >= self.issued.get() {
            return None;
        }
        self.taken.set(number + 1);
        self.schedule.due(number)
    }

    /// Waits for the next one; `None` when there will be none, or nobody is to take any more.
    pub async fn next(&self) -> Option<Instant> {
        loop {
            if self.is_over.get() {
                return None;
            }
            if let Some(due) = self.take() {
                return Some(due);
            }
            self.idle.set(self.idle.get() + 1);
            self.issue.notified().await;
            self.idle.set(self.idle.get() - 1);
        }
    }

    /// Nobody takes any more. What is left is what [`Tickets::take`] tells.
    pub fn close(&self) {
        self.is_over.set(true);
        self.issue.notify_waiters();
        // For one that is just about to wait.
        self.issue.notify_one();
    }

    /// Due and not taken.
    pub fn waiting(&self) -> u64 {
        self.issued.get() - self.taken.get()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::bench::pace::Rate;

    #[test]
    fn what_is_due_while_nobody_is_free_keeps_its_time() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let schedule = Schedule::new(start, at(1000), Rate::parse("100").unwrap(), 0, 1);
        let tickets = Tickets::new(schedule);
        let mut lateness = Vec::new();
        assert_eq!(tickets.issue_until(at(5), |issue| lateness.push(at(5) - issue.due)), Next::At(at(10)));
        assert_eq!(tickets.take(), Some(at(0)));
        assert_eq!(tickets.take(), None);
        // Nothing is looked at for half a second: fifty requests came due, each at its time.
        let mut queued = 0;
        let next = tickets.issue_until(at(505), |issue| queued += u32::from(issue.is_queued));
        assert_eq!((next, queued), (Next::At(at(510)), 50));
        assert_eq!(tickets.waiting(), 50);
        for number in 1..=50 {
            assert_eq!(tickets.take(), Some(at(number * 10)));
        }
        assert_eq!(tickets.issue_until(at(5000), |_| {}), Next::Never);
        assert_eq!(tickets.waiting(), 49);
        assert_eq!(lateness, [Duration::from_millis(5)]);
    }

    #[tokio::test]
    async fn everybody_who_waits_is_woken_at_the_end() {
        let start = Instant::now();
        let schedule = Schedule::new(start, start + Duration::from_secs(1), Rate::parse("1").unwrap(), 0, 1);
        let tickets = Tickets::new(schedule);
        let (first, second, ()) = tokio::join!(tickets.next(), tickets.next(), async {
            tickets.issue_until(start, |issue| assert!(!issue.is_queued));
            while tickets.waiting() > 0 {
                tokio::task::yield_now().await;
            }
            tickets.close();
        });
        assert_eq!((first, second), (Some(start), None));
    }
}
