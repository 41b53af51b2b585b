//! Whether a target is given requests, as all threads see it.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// The share of a target that gets all the requests that its weight stands for.
pub(super) const FULL_SHARE: u32 = 1000;

/// The share that a target gets at first when it has come back.
pub(super) const FIRST_SHARE: u32 = 100;

/// The standing of one target. A request reads it without a lock, and writes it only when something has changed.
#[derive(Debug)]
pub(super) struct Standing {
    /// How much of what its weight stands for it gets, in thousandths; 0 is nothing.
    share: AtomicU32,
    /// Requests that failed since the last one that did not, of all threads.
    failures: AtomicU32,
    /// It has failed too often in a row.
    ejected: AtomicBool,
    /// Its health checks fail.
    down: AtomicBool,
}

impl Default for Standing {
    fn default() -> Self {
        Self {
            share: AtomicU32::new(FULL_SHARE),
            failures: AtomicU32::new(0),
            ejected: AtomicBool::new(false),
            down: AtomicBool::new(false),
        }
    }
}

impl Standing {
    /// How much of what its weight stands for the target gets, in thousandths.
    pub(super) fn share(&self) -> u32 {
        self.share.load(Ordering::Relaxed)
    }

    /// Whether it has failed too often in a row.
    pub(super) fn is_ejected(&self) -> bool {
        self.ejected.load(Ordering::Acquire)
    }

    /// Whether its health checks fail.
    pub(super) fn is_down(&self) -> bool {
        self.down.load(Ordering::Acquire)
    }

    /// Notes that a request was answered. Says whether the target was ejected until now.
    pub(super) fn succeeded(&self) -> bool {
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
        self.ejected.load(Ordering::Relaxed) && self.reinstate(0)
    }

    /// Notes that a request failed. How many have failed in a row.
    pub(super) fn failed(&self) -> u32 {
        self.failures.fetch_add(1, Ordering::AcqRel).saturating_add(1)
    }

    /// Gives the target no more requests. Says whether it was given some until now.
    pub(super) fn eject(&self) -> bool {
        let changed = !self.ejected.swap(true, Ordering::AcqRel);
        self.share.store(0, Ordering::Release);
        changed
    }

    /// Gives the target requests again, a few at first. `failures` counts as failed already, so that less than usual
    /// ejects it again. Says whether it was ejected until now.
    pub(super) fn reinstate(&self, failures: u32) -> bool {
        if self.ejected.compare_exchange(true, false, Ordering::AcqRel, Ordering::Acquire).is_err() {
            return false;
        }
        self.failures.store(failures, Ordering::Release);
        self.begin_share();
        true
    }

    /// Takes what the health checks say. Says whether they said something else until now.
    pub(super) fn set_down(&self, down: bool) -> bool {
        let changed = self.down.swap(down, Ordering::AcqRel) != down;
        if down {
            self.share.store(0, Ordering::Release);
        } else if changed {
            self.begin_share();
        }
        changed
    }

    /// Raises the share of a target that is coming back. One that was taken out meanwhile stays out.
    pub(super) fn raise(&self, share: u32) {
        let current = self.share.load(Ordering::Acquire);
        if current > 0 && share > current && !self.is_ejected() && !self.is_down() {
            // Whoever takes the target out stores 0, and this fails.
            let _ = self.share.compare_exchange(current, share, Ordering::AcqRel, Ordering::Acquire);
        }
    }

    /// Stands as another one does. For one that nobody uses yet.
    pub(super) fn copy(&self, other: &Self) {
        self.failures.store(other.failures.load(Ordering::Acquire), Ordering::Release);
        self.ejected.store(other.is_ejected(), Ordering::Release);
        self.down.store(other.is_down(), Ordering::Release);
        self.share.store(other.share(), Ordering::Release);
    }

    fn begin_share(&self) {
        if !self.is_ejected() && !self.is_down() {
            let _ = self.share.compare_exchange(0, FIRST_SHARE, Ordering::AcqRel, Ordering::Acquire);
            // Somebody may have taken it out in between.
            if self.is_ejected() || self.is_down() {
                self.share.store(0, Ordering::Release);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_comes_back_slowly_and_only_when_nothing_stands_against_it() {
        let standing = Standing::default();
        assert_eq!(standing.share(), FULL_SHARE);
        assert!(standing.eject() && !standing.eject());
        assert_eq!(standing.share(), 0);
        standing.raise(500);
        assert_eq!(standing.share(), 0, "who is out stays out");
        assert!(standing.set_down(true) && !standing.set_down(true));
        assert!(standing.reinstate(4) && !standing.reinstate(4));
        assert_eq!(standing.share(), 0, "the checks still fail");
        assert!(standing.set_down(false));
        assert_eq!(standing.share(), FIRST_SHARE);
        standing.raise(500);
        standing.raise(400);
        assert_eq!(standing.share(), 500);
        assert_eq!(standing.failed(), 5, "less than usual ejects it again");
    }

    #[test]
    fn an_answer_forgives_what_was_before() {
        let standing = Standing::default();
        assert_eq!((standing.failed(), standing.failed()), (1, 2));
        assert!(!standing.succeeded());
        assert_eq!(standing.failed(), 1);
        standing.eject();
        assert!(standing.succeeded(), "it was used for want of another, and answered");
        assert_eq!((standing.share(), standing.failed()), (FIRST_SHARE, 1));
    }
}
