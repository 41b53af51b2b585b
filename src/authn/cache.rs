//! The tokens that passed on this thread: bounded, keyed by the whole token, never by what it says.

use std::hash::BuildHasher;
use std::rc::Rc;

use foldhash::quality::FixedState;
use hashbrown::HashTable;

use super::{Known, TokenLife};
use crate::base::ids::{RandomnessUnavailable, random_bytes};
use crate::base::principal::Principal;
use crate::routing::HeldClaims;
use crate::sessions::Binding;

/// What is remembered of a token.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Its user.
    pub(super) principal: Rc<Principal>,
    /// What routes ask for of its claims.
    pub(super) claims: Option<Rc<HeldClaims>>,
    /// When the token, or the key that verified it, ends; in milliseconds since 1970.
    pub(super) valid_until_ms: i64,
    /// What it is revoked by.
    pub(super) binding: Rc<Binding>,
    /// When its user and its session were last looked up.
    pub(super) seen: Epochs,
}

impl Entry {
    /// The user and what ends the token.
    pub(super) fn known(&self) -> Known {
        Known {
            principal: Rc::clone(&self.principal),
            claims: self.claims.clone(),
            token: TokenLife {
                valid_until_ms: self.valid_until_ms,
                binding: Rc::clone(&self.binding),
                revocations_seen: self.seen.revocations,
            },
        }
    }
}

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

/// A table of fixed capacity that forgets what has not been asked for lately (CLOCK, second chance).
#[derive(Debug)]
pub struct TokenCache<T> {
    hasher: FixedState,
    table: HashTable<usize>,
    slots: Vec<Slot<T>>,
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
        Ok(Self { hasher, table: HashTable::new(), slots: Vec::new(), hand: 0, capacity: capacity.max(1) })
    }

    /// What is remembered of a token.
    pub fn find(&mut self, token: &[u8]) -> Option<&T> {
        let hash = self.hasher.hash_one(token);
        let slots = &self.slots;
        let index = *self.table.find(hash, |&index| is(slots, index, hash, token))?;
        let slot = self.slots.get_mut(index)?;
        slot.used = true;
        Some(&slot.entry)
    }

    /// Remembers a token, and forgets another one when there is no room.
    pub fn insert(&mut self, token: &[u8], entry: T) {
        let hash = self.hasher.hash_one(token);
        let slots = &self.slots;
        if let Some(&index) = self.table.find(hash, |&index| is(slots, index, hash, token)) {
            if let Some(slot) = self.slots.get_mut(index) {
                slot.entry = entry;
            }
            return;
        }
        let slot = Slot { hash, token: token.into(), entry, used: false };
        let index = if self.slots.len() < self.capacity {
            self.slots.push(slot);
            self.slots.len() - 1
        } else {
            let index = self.make_room();
            if let Some(place) = self.slots.get_mut(index) {
                *place = slot;
            }
            index
        };
        let slots = &self.slots;
        self.table.insert_unique(hash, index, |&index| slots.get(index).map_or(0, |slot| slot.hash));
    }

    /// Forgets a token.
    pub fn remove(&mut self, token: &[u8]) {
        let hash = self.hasher.hash_one(token);
        let slots = &self.slots;
        let Ok(found) = self.table.find_entry(hash, |&index| is(slots, index, hash, token)) else { return };
        let (index, _) = found.remove();
        let last = self.slots.len() - 1;
        self.slots.swap_remove(index);
        // What was last has moved; the table has to know where.
        if index != last
            && let Some(moved) = self.slots.get(index)
            && let Some(place) = self.table.find_mut(moved.hash, |&candidate| candidate == last)
        {
            *place = index;
        }
    }

    /// Moves the hand to a slot that was not used since it last came by, and unlinks it.
    fn make_room(&mut self) -> usize {
        loop {
            let index = self.hand;
            self.hand = (self.hand + 1) % self.slots.len().max(1);
            let Some(slot) = self.slots.get_mut(index) else { return 0 };
            if slot.used {
                slot.used = false;
                continue;
            }
            if let Ok(found) = self.table.find_entry(slot.hash, |&candidate| candidate == index) {
                found.remove();
            }
            return index;
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.table.len()
    }
}

fn is<T>(slots: &[Slot<T>], index: usize, hash: u64, token: &[u8]) -> bool {
    slots.get(index).is_some_and(|slot| slot.hash == hash && *slot.token == *token)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::user::User;

    fn entry(mark: i64) -> Entry {
        let user = User { id: mark.to_string(), name: String::new(), email: None, groups: Vec::new() };
        let binding = Binding {
            session: None,
            user_id: "u".into(),
            issued_at_ms: None,
            recorded: false,
            verified_by: None,
        };
        let seen = Epochs { users: 0, revocations: 0 };
        let principal = Rc::new(Principal::new(user));
        Entry { principal, claims: None, valid_until_ms: mark, binding: Rc::new(binding), seen }
    }

    #[test]
    fn what_is_used_stays_and_the_cache_does_not_grow() {
        let mut cache = TokenCache::new(4).unwrap();
        cache.insert(b"kept", entry(0));
        for number in 1..100_i64 {
            cache.insert(format!("token {number}").as_bytes(), entry(number));
            assert_eq!(cache.find(b"kept").map(|entry| entry.valid_until_ms), Some(0));
            assert!(cache.len() <= 4);
        }
        assert!(cache.find(b"token 1").is_none());
    }

    proptest! {
        #[test]
        fn a_token_finds_its_own_entry_or_none(steps in prop::collection::vec((0..3_u8, 0..12_i64), 0..200)) {
            let mut cache = TokenCache::new(5).unwrap();
            for (step, number) in steps {
                let token = format!("token {number}");
                match step {
                    0 => cache.insert(token.as_bytes(), entry(number)),
                    1 => {
                        cache.remove(token.as_bytes());
                        prop_assert!(cache.find(token.as_bytes()).is_none());
                    }
                    _ => {
                        let found = cache.find(token.as_bytes()).map(|entry| entry.valid_until_ms);
                        prop_assert!(found.is_none_or(|found| found == number));
                    }
                }
                prop_assert!(cache.len() <= 5 && cache.len() == cache.slots.len());
            }
        }
    }
}
