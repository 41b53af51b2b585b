//! A sign of life of a data-plane thread.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a thread raises at each of its ticks. Others see by it that the thread still goes round.
#[derive(Debug, Default)]
pub struct Pulse(AtomicU64);

impl Pulse {
    /// One more tick. Only the thread itself says so.
    pub fn beat(&self) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// How many ticks there were.
    pub fn beats(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
