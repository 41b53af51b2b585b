//! The clock, as a value that is passed in: tests move time, nothing waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::UNIX_EPOCH;

/// Wall-clock time, in milliseconds since 1970-01-01T00:00:00Z. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The clock of the machine.
    #[default]
    System,
    /// A clock that only tests move.
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// A clock that stands at `unix_ms` until the returned handle is stored to.
    pub fn manual(unix_ms: i64) -> (Self, Arc<AtomicI64>) {
        let hand = Arc::new(AtomicI64::new(unix_ms));
        (Self::Manual(Arc::clone(&hand)), hand)
    }

    /// Milliseconds since 1970. A machine set before 1970 reads as 0.
    pub fn now_unix_ms(&self) -> i64 {
        match self {
            Self::System => system_unix_ms(),
            Self::Manual(hand) => hand.load(Ordering::Acquire),
        }
    }

    /// Whole seconds since 1970 (RFC 7519 `NumericDate`), rounded down.
    pub fn now_unix_seconds(&self) -> i64 {
        self.now_unix_ms().div_euclid(1000)
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the system's clock")]
fn system_unix_ms() -> i64 {
    std::time::SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|elapsed| i64::try_from(elapsed.as_millis()).ok())
        .unwrap_or(0)
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
}
