//! Numbers that one thread counts and others read.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A number that only one thread adds to. Adding is a load and a store of that thread, without a lock and without an
/// instruction that other processors have to agree on; whoever else reads it sees it a moment later.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds to it. Of several threads that do so, some would be lost.
    pub fn add(&self, more: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }

    /// What was added so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How many buckets a [`Histogram`] has.
pub const BUCKETS: usize = 32;

/// How long things took. Bucket `n` holds what took less than 2^n microseconds, and not less than half of that; the last
/// one holds all that took longer. Finding the bucket is counting the bits of a number.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [Count; BUCKETS],
    sum_ns: Count,
}

impl Histogram {
    /// Counts something that took so long.
    pub fn observe(&self, time: Duration) {
        let us = time.as_secs().saturating_mul(1_000_000).saturating_add(time.subsec_micros().into());
        let bits = usize::try_from(u64::BITS - us.leading_zeros()).unwrap_or(BUCKETS);
        if let Some(bucket) = self.buckets.get(bits.min(BUCKETS - 1)) {
            bucket.add(1);
        }
        self.sum_ns.add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    /// How many things fell into each bucket.
    pub fn buckets(&self) -> [u64; BUCKETS] {
        std::array::from_fn(|bucket| self.buckets.get(bucket).map_or(0, Count::get))
    }

    /// How long all of them took together, in seconds.
    pub fn sum_seconds(&self) -> f64 {
        Duration::from_nanos(self.sum_ns.get()).as_secs_f64()
    }

    /// Adds what another one has counted.
    pub fn absorb(&self, other: &Self) {
        absorb(&self.buckets, &other.buckets);
        self.sum_ns.add(other.sum_ns.get());
    }
}

/// The upper end of a bucket, in seconds.
pub fn upper_end_seconds(bucket: usize) -> f64 {
    let us = u32::try_from(bucket).ok().and_then(|bits| 1_u64.checked_shl(bits)).unwrap_or(u64::MAX);
    Duration::from_micros(us).as_secs_f64()
}

/// Adds numbers to those at the same places.
pub(super) fn absorb(own: &[Count], others: &[Count]) {
    for (own, other) in own.iter().zip(others) {
        own.add(other.get());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_falls_into_the_bucket_whose_end_it_does_not_reach() {
        let bucket_of = |time: Duration| {
            let histogram = Histogram::default();
            histogram.observe(time);
            histogram.buckets().iter().position(|count| *count == 1).unwrap()
        };
        assert_eq!(bucket_of(Duration::ZERO), 0);
        assert_eq!(bucket_of(Duration::from_nanos(999)), 0);
        assert_eq!(bucket_of(Duration::from_micros(1)), 1);
        assert_eq!(bucket_of(Duration::from_micros(127)), 7);
        assert_eq!(bucket_of(Duration::from_micros(128)), 8);
        assert_eq!(bucket_of(Duration::MAX), BUCKETS - 1);
        for us in [1, 3, 64, 1000, 999_999, 60_000_000] {
            let time = Duration::from_micros(us);
            let bucket = bucket_of(time);
            assert!(time.as_secs_f64() < upper_end_seconds(bucket));
            assert!(time.as_secs_f64() >= upper_end_seconds(bucket - 1));
        }
    }

    #[test]
    fn what_threads_have_counted_adds_up() {
        let (one, other) = (Histogram::default(), Histogram::default());
        one.observe(Duration::from_millis(1));
        other.observe(Duration::from_millis(1));
        other.observe(Duration::from_secs(2));
        one.absorb(&other);
        assert_eq!(one.buckets().iter().sum::<u64>(), 3);
        assert!((one.sum_seconds() - 2.002).abs() < 1e-9);
    }
}
