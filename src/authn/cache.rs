//! The tokens that passed on this thread: bounded, keyed by the whole token, never by what it says.

use std::hash::BuildHasher;
use std::rc::Rc;

use foldhash::quality::FixedState;
use hashbrown::HashTable;

use super::Known;
use crate::base::ids::{RandomnessUnavailable, random_bytes};

/// What is remembered of a token.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Its user, and what ends it.
    pub(super) known: Rc<Known>,
    /// When its user was last looked up.
    pub(super) users_seen: u64,
}

impl Entry {
    /// When its user and its session were last looked up.
    pub(super) fn seen(&self) -> Epochs {
        Epochs { users: self.users_seen, revocations: self.known.token.revocations_seen }
    }
}

/// How many places are looked at, at most, for one that was not used lately. A request waits for it.
const MOST_PLACES: usize = 1024;

/// Counts of changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Epochs {
    /// Of users.
    pub(super) users: u64,
    /// Of revocations.
    pub(super) revocations: u64,
}

#[derive(Debug)]
struct Slot<T> {
    hash: u64,
    token: Box<[u8]>,
    entry: T,
    used: bool,
}

/// A table of fixed capacity that forgets what has not been asked for lately (CLOCK, second chance). What is remembered lies
/// in the table itself: thousands of tokens do not stay in a processor's cache, so each step from one place to another counts.
#[derive(Debug)]
pub struct TokenCache<T> {
    hasher: FixedState,
    table: HashTable<Slot<T>>,
    /// Where it is looked next for what can be forgotten.
    hand: usize,
    capacity: usize,
}

impl<T> TokenCache<T> {
    /// An empty cache for so many tokens, with a hash that nobody else can compute.
    ///
    /// # Errors
    ///
    /// When there is no randomness for that hash.
    pub fn new(capacity: usize) -> Result<Self, RandomnessUnavailable> {
        let hasher = FixedState::with_seed(u64::from_ne_bytes(random_bytes::<8>()?));
        Ok(Self { hasher, table: HashTable::new(), hand: 0, capacity: capacity.max(1) })
    }

    /// What is remembered of a token.
    pub fn find(&mut self, token: &[u8]) -> Option<&T> {
        let hash = self.hasher.hash_one(token);
        let slot = self.table.find_mut(hash, |slot| slot.is(hash, token))?;
        slot.used = true;
        Some(&slot.entry)
    }

    /// Remembers a token, and forgets another one when there is no room.
    pub fn insert(&mut self, token: &[u8], entry: T) {
        let hash = self.hasher.hash_one(token);
        if let Some(slot) = self.table.find_mut(hash, |slot| slot.is(hash, token)) {
            slot.entry = entry;
            return;
        }
        if self.table.len() >= self.capacity {
            self.make_room();
        }
        let slot = Slot { hash, token: token.into(), entry, used: false };
        self.table.insert_unique(hash, slot, |slot| slot.hash);
    }

    /// Forgets a token.
    pub fn remove(&mut self, token: &[u8]) {
        let hash = self.hasher.hash_one(token);
        if let Ok(found) = self.table.find_entry(hash, |slot| slot.is(hash, token)) {
            found.remove();
        }
    }

    /// Moves the hand to what was not used since it last came by, and forgets that. Where it finds nothing such among
    /// [`MOST_PLACES`], it forgets what comes next.
    fn make_room(&mut self) {
        let places = self.table.num_buckets();
        for step in 0..places.saturating_add(MOST_PLACES) {
            let place = self.hand.checked_rem(places).unwrap_or(0);
            self.hand = place + 1;
            match self.table.get_bucket_mut(place) {
                Some(slot) if slot.used && step < MOST_PLACES => slot.used = false,
                Some(_) => {
                    if let Ok(found) = self.table.get_bucket_entry(place) {
                        found.remove();
                    }
                    return;
                }
                None => {}
            }
        }
    }
}

impl<T> Slot<T> {
    fn is(&self, hash: u64, token: &[u8]) -> bool {
        self.hash == hash && *self.token == *token
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_used_stays_and_the_cache_does_not_grow() {
        let mut cache = TokenCache::new(4).unwrap();
        cache.insert(b"kept", 0);
        for number in 1..100_i64 {
            cache.insert(format!("token {number}").as_bytes(), number);
            assert_eq!(cache.find(b"kept"), Some(&0));
            assert!(cache.table.len() <= 4);
        }
        assert!(cache.find(b"token 1").is_none());
    }

    #[test]
    fn nobody_waits_while_everything_is_looked_at() {
        let capacity = 4 * MOST_PLACES;
        let mut cache = TokenCache::new(capacity).unwrap();
        for number in 0..capacity {
            cache.insert(&number.to_be_bytes(), number);
            cache.find(&number.to_be_bytes());
        }
        cache.insert(b"another one", 0);
        assert_eq!(cache.table.len(), capacity);
        let used = cache.table.iter().filter(|slot| slot.used).count();
        assert!(used >= capacity - MOST_PLACES - 1, "{used}");
        assert!(cache.find(b"another one").is_some());
    }

    proptest! {
        #[test]
        fn a_token_finds_its_own_entry_or_none(steps in prop::collection::vec((0..3_u8, 0..12_i64), 0..200)) {
            let mut cache = TokenCache::new(5).unwrap();
            for (step, number) in steps {
                let token = format!("token {number}");
                match step {
                    0 => cache.insert(token.as_bytes(), number),
                    1 => {
                        cache.remove(token.as_bytes());
                        prop_assert!(cache.find(token.as_bytes()).is_none());
                    }
                    _ => {
                        let found = cache.find(token.as_bytes()).copied();
                        prop_assert!(found.is_none_or(|found| found == number));
                    }
                }
                prop_assert!(cache.table.len() <= 5);
            }
        }
    }
}
