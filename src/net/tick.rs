//! The time that deadlines go by.

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::base::bounds;

/// A clock that is read at every tick, in milliseconds since the thread began. Reading it costs nothing.
///
/// It stands still while its thread does, but for [`MAX_STEP_MS`]: what a client sent meanwhile waits to be read, and
/// nobody is too slow because the machine was suspended.
#[derive(Debug)]
pub struct TickClock {
    /// The last tick.
    ticked: Cell<Instant>,
    now_ms: Cell<u64>,
}

/// Most milliseconds that pass from one tick to the next.
const MAX_STEP_MS: u64 = 5 * bounds::TICK_MS;

impl Default for TickClock {
    fn default() -> Self {
        Self { ticked: Cell::new(Instant::now()), now_ms: Cell::new(1) }
    }
}

impl TickClock {
    /// The time of the last tick.
    pub fn now_ms(&self) -> u64 {
        self.now_ms.get()
    }

    /// Takes the time.
    pub fn tick(&self) {
        self.tick_at(Instant::now());
    }

    /// Shows this time, in milliseconds.
    #[cfg(test)]
    pub(super) fn set(&self, now_ms: u64) {
        self.now_ms.set(now_ms);
    }

    fn tick_at(&self, now: Instant) {
        let last = self.ticked.get();
        let elapsed = u64::try_from(now.saturating_duration_since(last).as_millis()).unwrap_or(u64::MAX);
        // What is left of a millisecond counts at the next tick.
        let counted = if elapsed > MAX_STEP_MS { now } else { last + Duration::from_millis(elapsed) };
        self.ticked.set(counted);
        self.now_ms.set(self.now_ms.get().saturating_add(elapsed.min(MAX_STEP_MS)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_with_the_time_but_stands_still_while_its_thread_does() {
        let clock = TickClock::default();
        let begin = clock.ticked.get();
        let at = |micros: u64| {
            clock.tick_at(begin + Duration::from_micros(micros));
            clock.now_ms()
        };
        assert_eq!(at(0), 1);
        assert_eq!(at(100_600), 101);
        // What is left of a millisecond is not lost.
        assert_eq!(at(200_400), 201);
        assert_eq!(at(201_000), 202);
        assert_eq!(at(701_000), 702);
        // The process was stopped for an hour.
        assert_eq!(at(3_600_701_000), 702 + MAX_STEP_MS);
        assert_eq!(at(3_600_801_000), 802 + MAX_STEP_MS);
    }
}
