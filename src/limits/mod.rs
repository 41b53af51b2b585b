//! What is counted to protect the gateway and what is behind it: logins here, requests in [`rates`], those that several
//! gateways count together through [`exchange`].
//!
//! Login protection: failed logins are counted by user and client network, and too many of them lock for a while.
//!
//! A login takes a place in the count before its password is hashed and gives it back when the password was right, so
//! that no more passwords are tried at once than may fail. What is over is forgotten; what is locked is kept in the
//! store, so that a restart unlocks nobody.

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest;
use tokio::sync::Notify;

use crate::base::bounds;
use crate::base::clock::Clock;
use crate::config;
use crate::store::{Store, StoreError};

mod counters;
pub mod exchange;
pub mod rates;
mod shared;
mod store;

use counters::{Counters, Id, Outcome, Rule, Standing};

/// Where a login comes from, as far as counting goes.
#[derive(Clone, Copy, Debug)]
pub enum Origin<'a> {
    /// An address: IPv4 counts as it is, IPv6 by its first 64 bits, which one client commonly has to itself.
    Network(IpAddr),
    /// A live session of the very user who is to log in: it has a count of its own, wherever it comes from.
    Session(&'a str),
}

/// Why no login may be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocked {
    /// Too many have failed.
    Locked {
        /// Whole seconds until the lock ends, at least 1.
        retry_after_seconds: i64,
    },
    /// Too many are waiting for others to end.
    Overloaded,
}

/// Counts failed logins of the whole process. Cheap to clone.
#[derive(Clone)]
pub struct Lockout(Arc<Inner>);

struct Inner {
    counts: Mutex<Counts>,
    /// Told whenever an attempt ends, while somebody waits for that.
    ended: Notify,
    waiting: AtomicUsize,
    max_waiting: AtomicUsize,
    clock: Clock,
    store: Option<Store>,
}

struct Counts {
    logins: Counters,
    networks: Counters,
}

/// The right to try one password. Dropped without a word it counts as a failure.
#[derive(Debug)]
pub struct Attempt {
    lockout: Lockout,
    login: Id,
    network: Option<Id>,
    open: bool,
}

impl Lockout {
    /// Nothing is counted yet; locks that an earlier process has left in the store hold on.
    ///
    /// # Errors
    ///
    /// A [`StoreError`] when the store cannot be read.
    pub async fn open(users: &config::Users, store: Option<Store>, clock: Clock) -> Result<Self, StoreError> {
        let (login_rule, network_rule) = rules(users);
        let mut logins = Counters::new(login_rule, bounds::MAX_TRACKED_LOGINS);
        let mut networks = Counters::new(network_rule, bounds::MAX_TRACKED_LOGINS);
        if let Some(store) = &store {
            let now_ms = clock.now_unix_ms();
            for (id, locked_until_ms) in store.locks(now_ms).await? {
                // Which of the two it is follows from the id, so it does no harm in the other one.
                logins.restore(id, locked_until_ms, now_ms);
                networks.restore(id, locked_until_ms, now_ms);
            }
        }
        Ok(Self(Arc::new(Inner {
            counts: Mutex::new(Counts { logins, networks }),
            ended: Notify::new(),
            waiting: AtomicUsize::new(0),
            max_waiting: AtomicUsize::new(users.hashing.max_queue),
            clock,
            store,
        })))
    }

    /// Counts by the rules of another configuration from here on. What has failed stays counted, and who is locked stays so.
    pub fn set_rules(&self, users: &config::Users) {
        let (login_rule, network_rule) = rules(users);
        let mut counts = self.0.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.logins.set_rule(login_rule);
        counts.networks.set_rule(network_rule);
        drop(counts);
        self.0.max_waiting.store(users.hashing.max_queue, Ordering::Release);
        // More may be allowed, for those who wait.
        self.0.ended.notify_waiters();
    }

    /// Takes a place for one try of this name, which is in normal form. Where others that are being tried could use up
    /// what is left it waits for them.
    ///
    /// # Errors
    ///
    /// [`Blocked`]; it is the same whether there is such a user or not.
    pub async fn admit(&self, name: &str, origin: Origin<'_>) -> Result<Attempt, Blocked> {
        let (login, network) = ids(name, origin);
        let mut place = None;
        loop {
            // Made before looking, so that nothing that ends in between is missed.
            let ended = self.0.ended.notified();
            match self.try_begin(login, network) {
                Standing::Free => {
                    let attempt = Attempt { lockout: self.clone(), login, network, open: true };
                    return attempt.unless_locked_elsewhere().await;
                }
                Standing::LockedUntil(until_ms) => return Err(self.locked(until_ms)),
                Standing::Busy => {}
            }
            if place.is_none() {
                place = Some(Place::take(&self.0).ok_or(Blocked::Overloaded)?);
            }
            ended.await;
        }
    }

    /// The rule for a login, and the one for a network.
    fn rules(&self) -> (Rule, Rule) {
        let counts = self.0.counts.lock().unwrap_or_else(PoisonError::into_inner);
        (counts.logins.rule(), counts.networks.rule())
    }

    fn locked(&self, until_ms: i64) -> Blocked {
        let left_ms = until_ms.saturating_sub(self.0.clock.now_unix_ms()).max(1);
        Blocked::Locked { retry_after_seconds: left_ms.saturating_add(999).div_euclid(1000) }
    }

    fn try_begin(&self, login: Id, network: Option<Id>) -> Standing {
        let now_ms = self.0.clock.now_unix_ms();
        let mut counts = self.0.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let by_network = network.map_or(Standing::Free, |network| counts.networks.standing(&network, now_ms));
        let standing = match (counts.logins.standing(&login, now_ms), by_network) {
            (Standing::LockedUntil(one), Standing::LockedUntil(other)) => {
                Standing::LockedUntil(one.max(other))
            }
            (locked @ Standing::LockedUntil(_), _) | (_, locked @ Standing::LockedUntil(_)) => locked,
            (Standing::Busy, _) | (_, Standing::Busy) => Standing::Busy,
            (Standing::Free, Standing::Free) => Standing::Free,
        };
        if standing == Standing::Free {
            counts.logins.begin(login, now_ms);
            if let Some(network) = network {
                counts.networks.begin(network, now_ms);
            }
        }
        standing
    }

    /// Ends an attempt in both counts; returns the locks that begin.
    fn end(&self, login: &Id, network: Option<&Id>, outcome: Outcome) -> Vec<(Id, i64)> {
        let now_ms = self.0.clock.now_unix_ms();
        // Somebody who knows one password of a network may not clear the failures of its others.
        let network_outcome = if outcome == Outcome::Cleared { Outcome::Returned } else { outcome };
        let mut counts = self.0.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let by_login = counts.logins.end(login, outcome, now_ms).map(|until_ms| (*login, until_ms));
        let by_network = network
            .and_then(|network| Some((*network, counts.networks.end(network, network_outcome, now_ms)?)));
        drop(counts);
        self.0.ended.notify_waiters();
        by_login.into_iter().chain(by_network).collect()
    }
}

/// The rule for users and the one for networks.
fn rules(users: &config::Users) -> (Rule, Rule) {
    (Rule::new(&users.lockout, 1), Rule::new(&users.lockout, bounds::NETWORK_ATTEMPTS_FACTOR))
}

impl fmt::Debug for Lockout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lockout").finish_non_exhaustive()
    }
}

impl Attempt {
    /// The password was right: failures of this user from this origin do not count any more.
    pub fn succeed(mut self) {
        self.forget_together();
        self.close(Outcome::Cleared);
    }

    /// No password was tried, so nothing is counted.
    pub fn give_back(mut self) {
        self.close(Outcome::Returned);
    }

    /// The password was wrong. A lock that begins is written down before this returns; where that fails it holds until
    /// the process ends.
    pub async fn fail(mut self) {
        let mut locks = self.close(Outcome::Failed);
        let Some(store) = self.lockout.0.store.clone() else { return };
        match self.count_together(&store).await {
            Ok(more) => locks.extend(more),
            Err(error) => tracing::warn!(%error, "a failed login is not counted at other gateways"),
        }
        if locks.is_empty() {
            return;
        }
        let now_ms = self.lockout.0.clock.now_unix_ms();
        if let Err(error) = store.add_locks(&locks, now_ms).await {
            tracing::warn!(%error, "a lockout is not in the store: it ends with this process");
        }
    }

    fn close(&mut self, outcome: Outcome) -> Vec<(Id, i64)> {
        if !std::mem::take(&mut self.open) {
            return Vec::new();
        }
        let locks = self.lockout.end(&self.login, self.network.as_ref(), outcome);
        if !locks.is_empty() {
            tracing::warn!("logins are locked after too many failures");
        }
        locks
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.close(Outcome::Failed);
    }
}

/// A place among those that wait.
struct Place<'a>(&'a Inner);

impl<'a> Place<'a> {
    fn take(inner: &'a Inner) -> Option<Self> {
        let most = inner.max_waiting.load(Ordering::Acquire);
        let step = |waiting: usize| (waiting < most).then_some(waiting.saturating_add(1));
        inner.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step).ok().map(|_| Self(inner))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What is counted for a login: the name and its origin, and the network alone.
fn ids(name: &str, origin: Origin<'_>) -> (Id, Option<Id>) {
    match origin {
        Origin::Network(address) => {
            let network = network_of(address);
            (id(&["login", &network, name]), Some(id(&["network", &network])))
        }
        Origin::Session(session) => (id(&["session", session, name]), None),
    }
}

fn network_of(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("{:x}/64", address.to_bits() >> 64),
    }
}

/// 128 bits of a digest: of one size however long a name is, and nothing to be read from the store.
fn id(parts: &[&str]) -> Id {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(&part.len().to_be_bytes());
        context.update(part.as_bytes());
    }
    let digest = context.finish();
    let mut id = [0; 16];
    for (to, from) in id.iter_mut().zip(digest.as_ref()) {
        *to = *from;
    }
    id
}

#[cfg(test)]
mod tests;
