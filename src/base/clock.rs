//! The clock, as a value that is passed in: tests move time, nothing waits for it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, UNIX_EPOCH};

/// No token is issued by a clock that shows an earlier time than this, in milliseconds since 1970: 2026-11-01T00:00:00Z,
/// when there was no such version yet.
pub const EARLIEST_UNIX_MS: i64 = 1_793_491_200_000;

/// Wall-clock time, in milliseconds since 1970-01-01T00:00:00Z. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The clock of the machine.
    #[default]
    System,
    /// A clock that only tests move.
    Manual(Arc<AtomicI64>),
    /// A clock that does what a test has written, such as fail on a certain thread.
    Scripted(Script),
}

/// What a scripted clock does when it is asked.
#[derive(Clone)]
pub struct Script(Arc<dyn Fn() -> i64 + Send + Sync>);

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Script(..)")
    }
}

/// The clock of the machine shows a time before [`EARLIEST_UNIX_MS`], so that nobody can say when a token ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockIsWrong;

impl fmt::Display for ClockIsWrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the clock of this machine is wrong: it shows a time before this version was made, so set it",
        )
    }
}

impl std::error::Error for ClockIsWrong {}

impl Clock {
    /// A clock that stands at `unix_ms` until the returned handle is stored to.
    pub fn manual(unix_ms: i64) -> (Self, Arc<AtomicI64>) {
        let hand = Arc::new(AtomicI64::new(unix_ms));
        (Self::Manual(Arc::clone(&hand)), hand)
    }

    /// A clock that asks a function of a test, which returns milliseconds since 1970.
    pub fn scripted(script: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        Self::Scripted(Script(Arc::new(script)))
    }

    /// Milliseconds since 1970, where a token is issued by them.
    ///
    /// # Errors
    ///
    /// [`ClockIsWrong`]
    pub fn credible_unix_ms(&self) -> Result<i64, ClockIsWrong> {
        let now_ms = self.now_unix_ms();
        if now_ms < EARLIEST_UNIX_MS { Err(ClockIsWrong) } else { Ok(now_ms) }
    }

    /// Milliseconds since 1970. A machine set before 1970 reads as 0.
    pub fn now_unix_ms(&self) -> i64 {
        match self {
            Self::System => system_unix_ms(),
            Self::Manual(hand) => hand.load(Ordering::Acquire),
            Self::Scripted(Script(script)) => script(),
        }
    }

    /// Nanoseconds since 1970, as finely as the clock shows them.
    pub fn now_unix_ns(&self) -> u64 {
        match self {
            Self::System => u64::try_from(system_time().as_nanos()).unwrap_or(u64::MAX),
            Self::Manual(_) | Self::Scripted(_) => {
                u64::try_from(self.now_unix_ms()).unwrap_or(0).saturating_mul(1_000_000)
            }
        }
    }

    /// Whole seconds since 1970 (RFC 7519 `NumericDate`), rounded down.
    pub fn now_unix_seconds(&self) -> i64 {
        self.now_unix_ms().div_euclid(1000)
    }
}

/// Time that is not set back or forward with the machine's clock. Cheap to clone; clones agree.
#[derive(Clone, Debug)]
pub enum Stopwatch {
    /// Measured from this moment on.
    System(Instant),
    /// That of a clock that only tests move, as far as it has ever come.
    Manual(Arc<AtomicI64>, Arc<AtomicU64>),
}

impl Stopwatch {
    /// Begins to measure; a clock that only tests move is followed.
    pub fn start(clock: &Clock) -> Self {
        match clock {
            Clock::System | Clock::Scripted(_) => Self::System(Instant::now()),
            Clock::Manual(hand) => Self::Manual(Arc::clone(hand), Arc::default()),
        }
    }

    /// Nanoseconds since some moment before. On Linux reading them is no system call.
    pub fn now_ns(&self) -> u64 {
        match self {
            Self::System(began) => u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX),
            Self::Manual(hand, furthest) => {
                let now_ms = u64::try_from(hand.load(Ordering::Acquire)).unwrap_or(0);
                let shown_ns = now_ms.saturating_mul(1_000_000);
                furthest.fetch_max(shown_ns, Ordering::AcqRel).max(shown_ns)
            }
        }
    }
}

fn system_unix_ms() -> i64 {
    i64::try_from(system_time().as_millis()).unwrap_or(0)
}

/// The time since 1970; nothing on a machine that is set before.
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the system's clock")]
fn system_time() -> Duration {
    std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_by_hand() {
        let (clock, hand) = Clock::manual(1_999);
        assert_eq!((clock.now_unix_ms(), clock.now_unix_seconds()), (1_999, 1));
        hand.store(2_000, Ordering::Release);
        assert_eq!(clock.clone().now_unix_seconds(), 2);
    }

    #[test]
    fn a_stopwatch_follows_a_manual_clock_and_runs_by_itself_otherwise() {
        let (clock, hand) = Clock::manual(5);
        let watch = Stopwatch::start(&clock);
        assert_eq!(watch.now_ns(), 5_000_000);
        hand.store(6, Ordering::Release);
        assert_eq!(watch.clone().now_ns(), 6_000_000);
        hand.store(4, Ordering::Release);
        assert_eq!(watch.now_ns(), 6_000_000, "it is never set back");
        let watch = Stopwatch::start(&Clock::System);
        let before = watch.now_ns();
        assert!(watch.clone().now_ns() >= before);
    }

    #[test]
    fn a_clock_that_begins_in_1970_is_not_believed() {
        let (clock, hand) = Clock::manual(86_400_000);
        assert_eq!(clock.credible_unix_ms(), Err(ClockIsWrong));
        hand.store(EARLIEST_UNIX_MS - 1, Ordering::Release);
        assert_eq!(clock.credible_unix_ms(), Err(ClockIsWrong));
        hand.store(EARLIEST_UNIX_MS, Ordering::Release);
        assert_eq!(clock.credible_unix_ms(), Ok(EARLIEST_UNIX_MS));
    }

    #[test]
    fn a_scripted_clock_does_as_it_is_written() {
        assert_eq!(Clock::scripted(|| 7_000).clone().now_unix_seconds(), 7);
    }
}
