//! Failures by what they are counted for, with a bound on how many are remembered. It knows no threads and no clock.

use hashbrown::HashMap;

use crate::config;

/// What failures are counted for: a digest of a name and where it was tried from.
pub(super) type Id = [u8; 16];

/// How many failures end in a lock, and for how long. Times are milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    pub(super) attempts: u32,
    pub(super) window_ms: i64,
    pub(super) duration_ms: i64,
}

impl Rule {
    /// The rule of `[users.lockout]`, with so many times its attempts.
    pub(super) fn new(lockout: &config::Lockout, factor: u32) -> Self {
        let ms = |duration: std::time::Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        let attempts = lockout.attempts.get().saturating_mul(factor);
        Self { attempts, window_ms: ms(lockout.window), duration_ms: ms(lockout.duration) }
    }
}

/// Failures of one id.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    /// Since the first one, or since the last success.
    failures: u32,
    /// Attempts that were let through and have not ended yet: each may become a failure.
    pending: u32,
    began_ms: i64,
    locked_until_ms: i64,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It proved who it was: what failed before does not count any more.
    Cleared,
    /// It counts for nothing.
    Returned,
    /// It failed.
    Failed,
}

/// What an id may do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Make an attempt.
    Free,
    /// Wait: those that were let through could use up what is left.
    Busy,
    /// Nothing until this time.
    LockedUntil(i64),
}

/// Failures of many ids under one rule.
#[derive(Debug)]
pub(super) struct Counters {
    entries: HashMap<Id, Entry, foldhash::fast::RandomState>,
    rule: Rule,
    capacity: usize,
}

impl Counters {
    pub(super) fn new(rule: Rule, capacity: usize) -> Self {
        Self { entries: HashMap::default(), rule, capacity }
    }

    /// Counts by another rule from here on. What has failed stays counted, and a lock ends no later than one that begins
    /// now would.
    pub(super) fn rule(&self) -> Rule {
        self.rule
    }

    pub(super) fn set_rule(&mut self, rule: Rule) {
        self.rule = rule;
    }

    /// What the id may do now.
    pub(super) fn standing(&mut self, id: &Id, now_ms: i64) -> Standing {
        let rule = self.rule;
        let Some(entry) = self.entries.get_mut(id) else { return Standing::Free };
        // A clock that was set back must not make a lock longer than it is.
        entry.locked_until_ms = entry.locked_until_ms.min(now_ms.saturating_add(rule.duration_ms));
        if entry.locked_until_ms > now_ms {
            return Standing::LockedUntil(entry.locked_until_ms);
        }
        if entry.is_over(&rule, now_ms) {
            entry.failures = 0;
        }
        let free = entry.failures.saturating_add(entry.pending) < rule.attempts;
        if free { Standing::Free } else { Standing::Busy }
    }

    /// Lets an attempt through, which [`Counters::end`] has to hear of.
    pub(super) fn begin(&mut self, id: Id, now_ms: i64) {
        self.make_room(&id, now_ms);
        let entry = self.entries.entry(id).or_default();
        if entry.failures == 0 {
            entry.began_ms = now_ms;
        }
        entry.pending = entry.pending.saturating_add(1);
    }

    /// Ends an attempt. When it was the last that was allowed, the time that the lock ends.
    pub(super) fn end(&mut self, id: &Id, outcome: Outcome, now_ms: i64) -> Option<i64> {
        let rule = self.rule;
        let entry = self.entries.get_mut(id)?;
        entry.pending = entry.pending.saturating_sub(1);
        let mut began = None;
        match outcome {
            Outcome::Cleared => entry.failures = 0,
            Outcome::Returned => {}
            Outcome::Failed => {
                if entry.is_over(&rule, now_ms) {
                    (entry.failures, entry.began_ms) = (0, now_ms);
                }
                entry.failures = entry.failures.saturating_add(1);
                if entry.failures >= rule.attempts {
                    entry.failures = 0;
                    entry.locked_until_ms = now_ms.saturating_add(rule.duration_ms);
                    began = Some(entry.locked_until_ms);
                }
            }
        }
        if entry.is_idle(now_ms) {
            self.entries.remove(id);
        }
        began
    }

    /// Takes over a lock of an earlier process.
    pub(super) fn restore(&mut self, id: Id, locked_until_ms: i64, now_ms: i64) {
        self.make_room(&id, now_ms);
        self.entries.entry(id).or_default().locked_until_ms = locked_until_ms;
    }

    /// Makes room for one more: first what is over goes, then, a sixteenth at a time, what is not locked and oldest,
    /// then the locks that end soonest. An attempt that has not ended is never forgotten.
    fn make_room(&mut self, id: &Id, now_ms: i64) {
        if self.entries.len() < self.capacity || self.entries.contains_key(id) {
            return;
        }
        let rule = self.rule;
        self.entries.retain(|_, entry| {
            entry.pending > 0 || entry.locked_until_ms > now_ms || !entry.is_over(&rule, now_ms)
        });
        if self.entries.len() < self.capacity {
            return;
        }
        let idle = self.entries.iter().filter(|(_, entry)| entry.pending == 0);
        let mut oldest: Vec<_> = idle
            .map(|(id, entry)| {
                let locked = entry.locked_until_ms > now_ms;
                (locked, if locked { entry.locked_until_ms } else { entry.began_ms }, *id)
            })
            .collect();
        oldest.sort_unstable();
        for (_, _, id) in oldest.into_iter().take((self.capacity / 16).max(1)) {
            self.entries.remove(&id);
        }
    }
}

impl Entry {
    fn is_over(&self, rule: &Rule, now_ms: i64) -> bool {
        // Also when the clock was set back by more than the window.
        now_ms.abs_diff(self.began_ms) >= rule.window_ms.unsigned_abs()
    }

    fn is_idle(&self, now_ms: i64) -> bool {
        self.failures == 0 && self.pending == 0 && self.locked_until_ms <= now_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Rule = Rule { attempts: 3, window_ms: 1000, duration_ms: 500 };

    fn id(number: u16) -> Id {
        let mut id = [0; 16];
        id[..2].copy_from_slice(&number.to_be_bytes());
        id
    }

    fn fail(counters: &mut Counters, id: Id, now_ms: i64) -> Option<i64> {
        assert_eq!(counters.standing(&id, now_ms), Standing::Free);
        counters.begin(id, now_ms);
        counters.end(&id, Outcome::Failed, now_ms)
    }

    #[test]
    fn the_last_attempt_locks_for_the_duration_and_then_counting_begins_anew() {
        let mut counters = Counters::new(RULE, 10);
        assert_eq!(fail(&mut counters, id(1), 0), None);
        assert_eq!(fail(&mut counters, id(1), 10), None);
        assert_eq!(fail(&mut counters, id(1), 20), Some(520));
        assert_eq!(counters.standing(&id(1), 519), Standing::LockedUntil(520));
        assert_eq!(counters.standing(&id(2), 519), Standing::Free);
        assert_eq!(fail(&mut counters, id(1), 520), None);
        assert_eq!(fail(&mut counters, id(1), 521), None);
        assert_eq!(fail(&mut counters, id(1), 522), Some(1022));
    }

    #[test]
    fn failures_are_forgotten_with_their_window_and_by_a_success() {
        let mut counters = Counters::new(RULE, 10);
        for now_ms in [0, 999, 1000, 1999, 2000] {
            assert_eq!(fail(&mut counters, id(1), now_ms), None, "{now_ms}");
        }
        assert_eq!(fail(&mut counters, id(1), 2001), None);
        counters.begin(id(1), 2002);
        counters.end(&id(1), Outcome::Cleared, 2002);
        assert!(counters.entries.is_empty());
        assert_eq!(fail(&mut counters, id(1), 2003), None);
    }

    #[test]
    fn attempts_in_progress_count_until_they_end() {
        let mut counters = Counters::new(RULE, 10);
        for _ in 0..3 {
            assert_eq!(counters.standing(&id(1), 0), Standing::Free);
            counters.begin(id(1), 0);
        }
        assert_eq!(counters.standing(&id(1), 0), Standing::Busy);
        // The window may end meanwhile: what is in progress goes on to count.
        assert_eq!(counters.standing(&id(1), 5000), Standing::Busy);
        counters.end(&id(1), Outcome::Returned, 0);
        assert_eq!(counters.standing(&id(1), 0), Standing::Free);
        counters.end(&id(1), Outcome::Failed, 0);
        counters.end(&id(1), Outcome::Failed, 0);
        assert_eq!(fail(&mut counters, id(1), 1), Some(501));
    }

    #[test]
    fn a_clock_that_is_set_back_makes_no_lock_longer() {
        let mut counters = Counters::new(RULE, 10);
        counters.restore(id(1), 1_000_000, 0);
        assert_eq!(counters.standing(&id(1), 0), Standing::LockedUntil(500));
        assert_eq!(counters.standing(&id(1), 500), Standing::Free);
    }

    #[test]
    fn memory_is_bounded_and_locks_and_attempts_outlive_counts() {
        let mut counters = Counters::new(RULE, 32);
        counters.restore(id(1), 400, 0);
        counters.begin(id(2), 0);
        for number in 10..2000 {
            assert_eq!(fail(&mut counters, id(number), 100), None);
            assert!(counters.entries.len() <= 32);
        }
        assert_eq!(counters.standing(&id(1), 100), Standing::LockedUntil(400));
        assert_eq!(counters.entries[&id(2)].pending, 1);
        // Nothing but locks: they are bounded too.
        for number in 2000..3000 {
            counters.restore(id(number), 600, 200);
            assert!(counters.entries.len() <= 32);
        }
    }
}
