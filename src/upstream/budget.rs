//! How much may be tried again: a share of the requests, so that retries cannot multiply what a failing upstream gets.

use std::cell::Cell;

/// What one retry takes out of a budget.
const RETRY: u64 = 100_000;

/// Retries that are always there after a while, so that an upstream with few requests has some.
const RESERVE: u64 = 10 * RETRY;

/// Of what is left above the reserve, this part is forgotten at every tick: after ten seconds a third is left.
const FORGOTTEN_PER_TICK: u64 = 100;

/// What comes back of the reserve at every tick: one retry a second.
const RESERVE_PER_TICK: u64 = RETRY / 10;

/// The budget of one thread for one upstream, in parts of a retry.
#[derive(Debug)]
pub(super) struct RetryBudget {
    left: Cell<u64>,
    /// What each request adds.
    per_request: u64,
}

impl RetryBudget {
    /// A budget of so many hundredths of the requests.
    pub(super) fn new(percent: u32) -> Self {
        Self {
            left: Cell::new(if percent == 0 { 0 } else { RESERVE }),
            per_request: u64::from(percent) * RETRY / 100,
        }
    }

    /// Notes a request.
    pub(super) fn deposit(&self) {
        self.left.set(self.left.get().saturating_add(self.per_request));
    }

    /// Takes one retry, if there is one.
    pub(super) fn withdraw(&self) -> bool {
        let rest = self.left.get().checked_sub(RETRY);
        self.left.set(rest.unwrap_or(self.left.get()));
        rest.is_some()
    }

    /// Forgets what requests of long ago have added.
    pub(super) fn tick(&self) {
        let left = self.left.get();
        let left = match left.checked_sub(RESERVE) {
            Some(above) => left - above / FORGOTTEN_PER_TICK,
            None if self.per_request == 0 => left,
            None => left.saturating_add(RESERVE_PER_TICK).min(RESERVE),
        };
        self.left.set(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_of(budget: &RetryBudget) -> usize {
        (0..1_000_000).take_while(|_| budget.withdraw()).count()
    }

    #[test]
    fn a_tenth_of_the_requests_and_a_small_reserve_may_be_tried_again() {
        let budget = RetryBudget::new(10);
        assert_eq!(all_of(&budget), 10);
        for _ in 0..1000 {
            budget.deposit();
        }
        assert_eq!(all_of(&budget), 100);
        // One a second comes back, up to the reserve.
        for _ in 0..25 {
            budget.tick();
        }
        assert_eq!(all_of(&budget), 2);
        for _ in 0..10_000 {
            budget.tick();
        }
        assert_eq!(all_of(&budget), 10);
    }

    #[test]
    fn requests_of_long_ago_do_not_count() {
        let budget = RetryBudget::new(10);
        for _ in 0..100_000 {
            budget.deposit();
        }
        for _ in 0..100 {
            budget.tick();
        }
        let after_ten_seconds = all_of(&budget);
        assert!((3000..4500).contains(&after_ten_seconds), "{after_ten_seconds}");
    }

    #[test]
    fn a_budget_of_nothing_has_nothing() {
        let budget = RetryBudget::new(0);
        budget.deposit();
        budget.tick();
        assert_eq!(all_of(&budget), 0);
    }
}
