//! Arrival times by key, for all data-plane threads at once, in memory of a fixed size.
//!
//! A key is a hash of 64 bits, and its hash says in which bucket it is. What is known of a key is read and moved on
//! without waiting for anybody: one compare-and-swap. Only a key that is not there yet is entered by one thread at a time
//! for each bucket, because two entries of one key would let twice as much pass; that takes a few instructions, and
//! nobody waits for it but others that enter a key into the same bucket.

use std::hint::spin_loop;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::base::bounds;

/// Keys in a bucket: as many as fit into two lines of a processor's cache.
const WAYS: usize = 7;
/// The arrival time of a slot whose key is just being replaced.
const REPLACED: u64 = u64::MAX;
/// How often a thread looks whether another one is done before it lets that one run.
const SPINS: u32 = 100;

/// Arrival times in nanoseconds. A key that is not there has never come, which is an arrival time of 0.
pub(super) struct Table {
    /// A power of two.
    buckets: Box<[Bucket]>,
}

/// Slots for the keys that belong here.
#[repr(align(128))]
#[derive(Default)]
struct Bucket {
    slots: [Slot; WAYS],
    /// Whether a key is being entered.
    is_entered: AtomicBool,
}

/// A key and its arrival time; both are 0 while the slot is free.
#[derive(Default)]
struct Slot {
    key: AtomicU64,
    arrival_ns: AtomicU64,
}

impl Table {
    /// A table for [`bounds::RATE_KEYS`].
    pub(super) fn new() -> Self {
        Self::with_buckets(bounds::RATE_KEYS / WAYS)
    }

    fn with_buckets(count: usize) -> Self {
        Self { buckets: (0..count.next_power_of_two()).map(|_| Bucket::default()).collect() }
    }

    /// The arrival time of a key.
    pub(super) fn arrival_ns(&self, key: NonZeroU64) -> u64 {
        self.bucket(key).and_then(|bucket| bucket.find(key)).map_or(0, |(_, arrival_ns)| arrival_ns)
    }

    /// Moves the arrival time of a key on by `step`, and returns the new one; `None` when there is no step from where it
    /// is. To enter a key that is not there, the one is forgotten whose arrival time is the earliest: where time has
    /// passed it there is nothing to forget, and otherwise that one has the least to lose.
    pub(super) fn advance(&self, key: NonZeroU64, step: impl Fn(u64) -> Option<u64>) -> Option<u64> {
        let bucket = self.bucket(key)?;
        loop {
            let Some((slot, arrival_ns)) = bucket.find(key) else {
                let new_ns = step(0)?;
                if bucket.enter(key, new_ns) {
                    return Some(new_ns);
                }
                continue;
            };
            let new_ns = step(arrival_ns)?;
            if slot.swap(arrival_ns, new_ns) {
                return Some(new_ns);
            }
        }
    }

    /// Takes the last step of a key back. When something has happened to the key since, everything stays as it is: others
    /// may have come to rely on it.
    pub(super) fn take_back(&self, key: NonZeroU64, moved_to_ns: u64, before_ns: u64) {
        if let Some((slot, arrival_ns)) = self.bucket(key).and_then(|bucket| bucket.find(key))
            && arrival_ns == moved_to_ns
        {
            // Not done means that it has just been moved on.
            let _done = slot.swap(moved_to_ns, before_ns);
        }
    }

    fn bucket(&self, key: NonZeroU64) -> Option<&Bucket> {
        // The upper half, since the lower half tells keys in a bucket apart as well.
        let index = usize::try_from(key.get() >> 32).unwrap_or(0) & self.buckets.len().wrapping_sub(1);
        self.buckets.get(index)
    }
}

impl Bucket {
    /// The slot of a key and its arrival time, unless the key is not there or is just being replaced.
    fn find(&self, key: NonZeroU64) -> Option<(&Slot, u64)> {
        self.slots.iter().find_map(|slot| {
            if slot.key.load(Ordering::Acquire) != key.get() {
                return None;
            }
            let arrival_ns = slot.arrival_ns.load(Ordering::Acquire);
            // Whether it is this key's: who replaces a key writes its arrival time last.
            let is_its_own = slot.key.load(Ordering::Acquire) == key.get() && arrival_ns != REPLACED;
            is_its_own.then_some((slot, arrival_ns))
        })
    }

    /// Enters a key with its arrival time, unless somebody else has done so.
    fn enter(&self, key: NonZeroU64, arrival_ns: u64) -> bool {
        let mut spins = 0;
        while self.is_entered.swap(true, Ordering::Acquire) {
            spins += 1;
            if spins % SPINS == 0 {
                // It has lost its processor in the middle of a few instructions.
                std::thread::yield_now();
            }
            spin_loop();
        }
        let is_new = self.find(key).is_none();
        if is_new {
            self.replace(key, arrival_ns);
        }
        self.is_entered.store(false, Ordering::Release);
        is_new
    }

    /// Gives the slot with the earliest arrival time to a key. Only the thread that enters one does so.
    fn replace(&self, key: NonZeroU64, arrival_ns: u64) {
        let earliest = || {
            let seen = self.slots.iter().map(|slot| (slot, slot.arrival_ns.load(Ordering::Acquire)));
            seen.min_by_key(|(_, arrival_ns)| *arrival_ns)
        };
        while let Some((slot, old_ns)) = earliest() {
            if slot.swap(old_ns, REPLACED) {
                slot.key.store(key.get(), Ordering::Release);
                // Never the number that was there, by which others would take it for what they have seen.
                let new_ns = if arrival_ns == old_ns { arrival_ns.saturating_add(1) } else { arrival_ns };
                slot.arrival_ns.store(new_ns, Ordering::Release);
                return;
            }
        }
    }
}

impl Slot {
    /// Replaces one arrival time by another; not when it is another one meanwhile.
    fn swap(&self, from_ns: u64, to_ns: u64) -> bool {
        self.arrival_ns.compare_exchange(from_ns, to_ns, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    fn key(number: u64) -> NonZeroU64 {
        // Spread over the buckets as a hash is, and never 0.
        NonZeroU64::new(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1).unwrap()
    }

    fn keys(table: &Table) -> usize {
        let slots = table.buckets.iter().flat_map(|bucket| &bucket.slots);
        slots.filter(|slot| slot.key.load(Ordering::Acquire) != 0).count()
    }

    #[test]
    fn a_bucket_fills_two_lines_and_the_whole_is_as_large_as_is_said() {
        assert_eq!((size_of::<Bucket>(), align_of::<Bucket>()), (128, 128));
        let table = Table::new();
        assert_eq!(table.buckets.len() * WAYS, bounds::RATE_KEYS);
        assert_eq!(size_of_val(&*table.buckets), 1024 * 1024);
    }

    #[test]
    fn a_key_moves_on_from_where_it_is() {
        let table = Table::with_buckets(4);
        assert_eq!(table.arrival_ns(key(1)), 0);
        assert_eq!(table.advance(key(1), |at| Some(at + 5)), Some(5));
        assert_eq!(table.advance(key(1), |at| Some(at + 5)), Some(10));
        assert_eq!(table.advance(key(1), |_| None), None);
        assert_eq!((table.arrival_ns(key(1)), table.arrival_ns(key(2))), (10, 0));
        table.take_back(key(1), 5, 0);
        assert_eq!(table.arrival_ns(key(1)), 10, "another step was taken since");
        table.take_back(key(1), 10, 5);
        assert_eq!(table.arrival_ns(key(1)), 5);
        assert_eq!(table.advance(key(3), |_| None), None);
        assert_eq!(keys(&table), 1, "who may not come is not entered");
    }

    #[test]
    fn memory_is_bounded_and_the_earliest_is_forgotten_first() {
        let table = Table::with_buckets(1);
        for number in 1..=WAYS as u64 {
            table.advance(key(number), |_| Some(number * 100));
        }
        table.advance(key(1), |at| Some(at + 10_000));
        table.advance(key(50), |_| Some(1000));
        assert_eq!(table.arrival_ns(key(2)), 0, "it had the least to lose");
        assert_eq!((table.arrival_ns(key(1)), table.arrival_ns(key(50))), (10_100, 1000));
        // However many come, who has used up everything stays.
        for number in 100..100_000 {
            table.advance(key(number), |_| Some(2000));
            assert!((2000..=2001).contains(&table.arrival_ns(key(number))));
        }
        assert_eq!(table.arrival_ns(key(1)), 10_100);
        assert_eq!(keys(&table), WAYS);
    }

    /// So many threads at once, each with its number.
    fn together(threads: usize, work: impl Fn(usize) + Sync) {
        let begin = Barrier::new(threads);
        std::thread::scope(|scope| {
            for number in 0..threads {
                let (begin, work) = (&begin, &work);
                scope.spawn(move || {
                    begin.wait();
                    work(number);
                });
            }
        });
    }

    #[test]
    fn threads_that_enter_one_key_at_once_take_no_step_twice() {
        const THREADS: usize = 8;
        const MOST: u64 = 5;
        for round in 0..300 {
            let table = Table::with_buckets(8);
            let passed = AtomicU64::new(0);
            together(THREADS, |_| {
                for number in 0..16 {
                    let step = |at| (at < MOST).then_some(at + 1);
                    while table.advance(key(round * 100 + number), step).is_some() {
                        passed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
            assert_eq!(passed.into_inner(), 16 * MOST);
            assert_eq!(keys(&table), 16);
        }
    }

    #[test]
    fn no_step_is_lost_or_taken_twice_while_other_keys_come_and_go() {
        const STEPS: u64 = 20_000;
        // One bucket; the keys that matter are far ahead of all others, so that they are never forgotten.
        let table = Table::with_buckets(1);
        let taken = [AtomicU64::new(0), AtomicU64::new(0)];
        together(4, |thread| {
            for turn in 0..STEPS {
                if thread % 2 == 0 {
                    table.advance(key(1000 + turn * 4 + thread as u64), |at| Some(at.max(turn) + 1));
                    continue;
                }
                for (number, taken) in taken.iter().enumerate() {
                    let ahead = 1 << 40;
                    let step = |at: u64| (at < ahead + STEPS).then_some(at.max(ahead) + 1);
                    if table.advance(key(1 + number as u64), step).is_some() {
                        taken.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        });
        for (number, taken) in taken.into_iter().enumerate() {
            assert_eq!(taken.into_inner(), STEPS, "key {number}");
        }
    }
}
