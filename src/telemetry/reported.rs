//! What routes with `enforce = "report"` let pass that they would have refused.

use std::cell::{Cell, RefCell};

use crate::base::reason::Reason;

/// How often it is told of at most, in milliseconds.
const TELL_MS: u64 = 1000;

/// The requests that one thread has let pass. Many of them become one line a second.
#[derive(Debug, Default)]
pub struct Reported {
    total: Cell<u64>,
    untold: Cell<u64>,
    last: RefCell<Option<Passed>>,
    told_ms: Cell<u64>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    /// The route's name.
    pub route: Box<str>,
    /// Why it would have been refused.
    pub reason: Reason,
}

impl Reported {
    /// Counts one.
    pub fn note(&self, route: &str, reason: Reason) {
        self.total.set(self.total.get().saturating_add(1));
        self.untold.set(self.untold.get().saturating_add(1));
        let mut last = self.last.borrow_mut();
        match &mut *last {
            // The usual case allocates nothing.
            Some(passed) if *passed.route == *route => passed.reason = reason,
            Some(_) | None => *last = Some(Passed { route: route.into(), reason }),
        }
    }

    /// How many there were since the start.
    pub fn total(&self) -> u64 {
        self.total.get()
    }

    /// How many there were since the last time, and the last of them, when it is time to tell.
    pub fn due(&self, now_ms: u64) -> Option<(u64, Passed)> {
        let told_ms = self.told_ms.get();
        if self.untold.get() == 0 || (told_ms > 0 && now_ms.saturating_sub(told_ms) < TELL_MS) {
            return None;
        }
        self.told_ms.set(now_ms);
        Some((self.untold.take(), self.last.borrow().clone()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_let_pass_is_told_of_once_a_second() {
        let reported = Reported::default();
        let passed = |route: &str, reason| Passed { route: route.into(), reason };
        assert_eq!(reported.due(5), None);
        reported.note("a", Reason::TokenExpired);
        assert_eq!(reported.due(10), Some((1, passed("a", Reason::TokenExpired))), "the first at once");
        reported.note("a", Reason::GroupMissing);
        reported.note("b", Reason::ScopeMissing);
        assert_eq!(reported.due(900), None);
        assert_eq!(reported.due(1010), Some((2, passed("b", Reason::ScopeMissing))));
        assert_eq!((reported.due(9000), reported.total()), (None, 3));
    }
}
