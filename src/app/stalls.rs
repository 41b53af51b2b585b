//! Whether every data-plane thread still goes round. One that stands still serves nobody, and yet has not ended.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::bounds;
use crate::worker::Pulse;

/// Most time that passes from one look to the next. Where more has passed, whoever looks has stood still as well, such as with
/// the whole machine.
const MAX_STEP: Duration = Duration::from_millis(500);

/// The data-plane threads, and since when each of them has given no sign of life.
#[derive(Debug)]
pub struct Stalls {
    threads: Vec<Thread>,
    looked: Option<Instant>,
}

#[derive(Debug)]
struct Thread {
    name: String,
    pulse: Arc<Pulse>,
    beats: u64,
    still: Duration,
}

/// What was seen at a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// All go round, as far as is known.
    AllGoRound,
    /// One at least stands still.
    OneStandsStill,
}

impl Stalls {
    /// Threads with their names.
    pub(super) fn new(threads: impl IntoIterator<Item = (String, Arc<Pulse>)>) -> Self {
        let threads = threads.into_iter().map(|(name, pulse)| {
            let beats = pulse.beats();
            Thread { name, pulse, beats, still: Duration::ZERO }
        });
        Self { threads: threads.collect(), looked: None }
    }

    /// Looks at all of them. A thread that has begun to stand still is named in the log, and so is one that goes on.
    pub fn look(&mut self, now: Instant) -> Seen {
        let since = self.looked.map_or(Duration::ZERO, |looked| now.saturating_duration_since(looked));
        self.looked = Some(now);
        let step = since.min(MAX_STEP);
        let mut seen = Seen::AllGoRound;
        for thread in &mut self.threads {
            thread.look(step);
            if thread.stands_still() {
                seen = Seen::OneStandsStill;
            }
        }
        seen
    }

    /// How many signs of life the thread of this name has given; `None` when there is none of it.
    pub fn beats(&self, name: &str) -> Option<u64> {
        let thread = self.threads.iter().find(|thread| thread.name == name);
        thread.map(|thread| thread.pulse.beats())
    }

    /// The names of those that stand still.
    pub fn still(&self) -> impl Iterator<Item = &str> {
        self.threads.iter().filter(|thread| thread.stands_still()).map(|thread| thread.name.as_str())
    }
}

impl Thread {
    fn stands_still(&self) -> bool {
        self.still >= Duration::from_millis(bounds::STALL_MS)
    }

    fn look(&mut self, step: Duration) {
        let (beats, was_still) = (self.pulse.beats(), self.stands_still());
        let before = self.still;
        self.still = if beats == self.beats { self.still.saturating_add(step) } else { Duration::ZERO };
        self.beats = beats;
        let thread = self.name.as_str();
        match (was_still, self.stands_still()) {
            (false, true) => tracing::error!(
                thread,
                "a data-plane thread stands still: the service manager is not told any more that the gateway is alive"
            ),
            (true, false) => {
                let stood_ms = u64::try_from(before.as_millis()).unwrap_or(u64::MAX);
                tracing::warn!(thread, stood_ms, "a data-plane thread goes on that stood still");
            }
            (false, false) | (true, true) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Threads with these names, and their signs of life.
    fn watching(names: &[&str]) -> (Stalls, Vec<Arc<Pulse>>) {
        let pulses: Vec<Arc<Pulse>> = names.iter().map(|_| Arc::default()).collect();
        let threads = names.iter().map(|&name| name.to_owned()).zip(pulses.iter().map(Arc::clone));
        (Stalls::new(threads), pulses)
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_thread_that_gives_no_sign_for_long_stands_still_until_it_gives_one() {
        let (mut watched, pulses) = watching(&["worker-0", "worker-1"]);
        let begin = Instant::now();
        assert_eq!(watched.look(begin), Seen::AllGoRound);
        let mut now_ms = 0;
        while now_ms + 250 < bounds::STALL_MS {
            now_ms += 250;
            pulses[0].beat();
            assert_eq!(watched.look(begin + ms(now_ms)), Seen::AllGoRound, "{now_ms}");
        }
        pulses[0].beat();
        assert_eq!(watched.look(begin + ms(bounds::STALL_MS)), Seen::OneStandsStill);
        assert_eq!(watched.still().collect::<Vec<_>>(), ["worker-1"]);
        pulses[1].beat();
        assert_eq!(watched.look(begin + ms(bounds::STALL_MS + 250)), Seen::AllGoRound);
        assert_eq!(watched.still().count(), 0);
    }

    #[test]
    fn nobody_is_said_to_stand_still_because_whoever_looks_did() {
        let (mut watched, pulses) = watching(&["worker-0"]);
        let begin = Instant::now();
        watched.look(begin);
        // The process was stopped for an hour; the thread has its first tick after it a little later.
        assert_eq!(watched.look(begin + ms(3_600_000)), Seen::AllGoRound);
        pulses[0].beat();
        assert_eq!(watched.look(begin + ms(3_600_100)), Seen::AllGoRound);
        let more = bounds::STALL_MS / 500 - 1;
        for look in 1..=more {
            assert_eq!(watched.look(begin + ms(3_600_100 + look * 600_000)), Seen::AllGoRound, "{look}");
        }
        assert_eq!(watched.look(begin + ms(3_600_100 + (more + 1) * 600_000)), Seen::OneStandsStill);
    }
}
