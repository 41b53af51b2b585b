//! A request and the rates that it is counted by: all of them, or none.

use std::hash::{BuildHasher, Hash};
use std::net::IpAddr;
use std::num::NonZeroU64;

use aws_lc_rs::digest;
use smallvec::SmallVec;

use super::ledger::{Allowance, Name, Source, Taken};
use super::{Rate, Sender};
use crate::base::bounds;
use crate::config::LimitKey;

/// One rate that a request is counted by.
#[derive(Clone, Copy)]
pub(super) struct Step<'a> {
    pub(super) rate: &'a Rate,
    pub(super) key: NonZeroU64,
    pub(super) arrival_ns: u64,
    /// How it may pass.
    pub(super) allowance: Allowance,
    source: Source,
}

/// The rates of a request. There is room for as many as a route may have.
pub(super) type Steps<'a> = SmallVec<[Step<'a>; bounds::MAX_RATES_OF_ROUTE]>;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Every rate has counted it.
    Passed,
    /// It is one too many, and none has counted it.
    Exceeded,
    /// Only the limits store can say, and none has counted it.
    Unknown,
}

/// What a hash is made of.
#[derive(Clone, Copy, Hash)]
pub(super) enum Key<'a> {
    User(&'a str),
    Network4(u32),
    Network6(u64),
    Field(&'a [u8]),
}

impl<'a> Key<'a> {
    /// Whose count a request of this sender belongs to.
    pub(super) fn of(key: &LimitKey, sender: Sender<'a>) -> Self {
        let network = || match sender.client.to_canonical() {
            IpAddr::V4(address) => Key::Network4(address.to_bits()),
            IpAddr::V6(address) => Key::Network6(u64::try_from(address.to_bits() >> 64).unwrap_or(0)),
        };
        match key {
            LimitKey::Network => network(),
            LimitKey::User => sender.user_id.map_or_else(network, Key::User),
            // Of several lines the first one counts: a client that chooses its value may as well send another one.
            LimitKey::Header(name) => {
                sender.headers.get(name).map_or_else(network, |value| Key::Field(value.as_bytes()))
            }
        }
    }

    /// What this process knows it by. Which keys share a bucket is nobody's choice.
    pub(super) fn hashed(self, hasher: &impl BuildHasher) -> NonZeroU64 {
        NonZeroU64::new(hasher.hash_one(self)).unwrap_or(NonZeroU64::MIN)
    }

    /// What all gateways know it by, in the count of a rate that all of them call the same.
    pub(super) fn name(self, rate: &str) -> Name {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(&rate.len().to_be_bytes());
        context.update(rate.as_bytes());
        match self {
            Self::User(id) => {
                context.update(b"u");
                context.update(id.as_bytes());
            }
            Self::Network4(bits) => {
                context.update(b"4");
                context.update(&bits.to_be_bytes());
            }
            Self::Network6(bits) => {
                context.update(b"6");
                context.update(&bits.to_be_bytes());
            }
            Self::Field(value) => {
                context.update(b"f");
                context.update(value);
            }
        }
        let mut name = Name::default();
        for (to, from) in name.iter_mut().zip(context.finish().as_ref()) {
            *to = *from;
        }
        name
    }
}

/// Takes one from every rate, or from none. Where there are several, all are looked at first, so that who is refused
/// costs the others nothing.
pub(super) fn take_all(steps: &mut [Step<'_>], now_ns: u64, name: impl Fn(&Step<'_>) -> Name) -> Outcome {
    if steps.len() > 1 {
        let mut all = true;
        for step in &mut *steps {
            all &= step.look(now_ns);
        }
        if !all {
            return Outcome::Exceeded;
        }
    }
    let mut taken = 0;
    let mut outcome = Outcome::Passed;
    for step in &mut *steps {
        outcome = step.take(now_ns, &name);
        if outcome != Outcome::Passed {
            break;
        }
        taken += 1;
    }
    if outcome == Outcome::Passed {
        return outcome;
    }
    // Another thread took the last one in between, or the store has to be asked.
    for (number, step) in steps.iter_mut().enumerate() {
        if number < taken {
            step.give_back();
        } else {
            step.look(now_ns);
        }
    }
    outcome
}

impl<'a> Step<'a> {
    pub(super) fn new(rate: &'a Rate, key: NonZeroU64, allowance: Allowance) -> Self {
        Self { rate, key, arrival_ns: 0, allowance, source: Source::Gateway }
    }

    /// Whether one could be taken.
    fn look(&mut self, now_ns: u64) -> bool {
        self.arrival_ns = self.rate.table.arrival_ns(self.key);
        match &self.rate.shared {
            Some(shared) => shared.ledger.would_pass(self.key, self.rate.rule, self.arrival_ns, now_ns),
            None => self.rate.rule.after_one_more(self.arrival_ns, now_ns).is_some(),
        }
    }

    fn take(&mut self, now_ns: u64, name: impl Fn(&Self) -> Name) -> Outcome {
        let (rule, table) = (self.rate.rule, &self.rate.table);
        if let Some(shared) = &self.rate.shared {
            let taken = shared.ledger.take(self.key, (rule, table), now_ns, self.allowance, || name(self));
            return match taken {
                Taken::Passed(arrival_ns, source) => {
                    (self.arrival_ns, self.source) = (arrival_ns, source);
                    Outcome::Passed
                }
                Taken::Exceeded(arrival_ns) => {
                    self.arrival_ns = arrival_ns;
                    Outcome::Exceeded
                }
                Taken::Unknown => Outcome::Unknown,
            };
        }
        let taken = table.advance(self.key, |arrival_ns| rule.after_one_more(arrival_ns, now_ns));
        match taken {
            Some(arrival_ns) => self.arrival_ns = arrival_ns,
            None => self.arrival_ns = table.arrival_ns(self.key),
        }
        if taken.is_some() { Outcome::Passed } else { Outcome::Exceeded }
    }

    fn give_back(&mut self) {
        let (rule, table) = (self.rate.rule, &self.rate.table);
        if let Some(shared) = &self.rate.shared {
            shared.ledger.give_back(self.key, (rule, table), self.arrival_ns, self.source);
            self.arrival_ns = table.arrival_ns(self.key);
            return;
        }
        let before_ns = rule.without_the_last(self.arrival_ns);
        table.take_back(self.key, self.arrival_ns, before_ns);
        self.arrival_ns = before_ns;
    }
}
