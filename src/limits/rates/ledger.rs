//! What of a cluster's counts this gateway has not settled with the limits store.
//!
//! A request of a limit with `scope = "cluster"` passes by what the gateway knows, which is a [`Table`] as for any other
//! limit, and is written down here until the store has counted it. So that what others do not know stays small, only a few
//! requests of a key may be unsettled at a time; who comes then waits for the store, or passes where nobody waits for it.
//!
//! A key's entry is changed under the lock of its shard, which is held for a few instructions and never while anybody
//! waits. Limits of one gateway have no ledger.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hashbrown::HashTable;

use super::gcra::Rule;
use super::table::Table;
use crate::base::bounds;

/// Locks, a power of two.
const SHARDS: usize = 64;

/// A key as the store knows it: 128 bits of a digest, from which nothing can be read.
pub(super) type Name = [u8; 16];

/// The keys of a rate that are not settled.
pub(super) struct Ledger {
    first: Shard,
    /// There is one less than [`SHARDS`].
    others: Box<[Shard]>,
    /// In all shards, so that nobody looks through them for nothing.
    entries: AtomicUsize,
}

type Shard = Mutex<HashTable<Entry>>;

struct Entry {
    key: NonZeroU64,
    name: Name,
    /// What passed since the last report.
    open: Spent,
    /// What the report says that is under way.
    reported: Spent,
    /// Requests that wait for the store to say whether they pass.
    waiting: u32,
    /// How many of them it lets pass. They are counted already.
    granted: u32,
    granted_at_ns: u64,
}

/// Requests that passed, as a function of the arrival time before them: it becomes that and an interval for each, and at
/// least `arrival_ns`. This is all that there is to know of them, whenever they came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Spent {
    /// How many.
    pub(super) count: u32,
    /// The arrival time if they were all that has ever come.
    pub(super) arrival_ns: u64,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It passes, and this is the arrival time now.
    Passed(u64, Source),
    /// It is one too many; the arrival time is as it was.
    Exceeded(u64),
    /// Only the store can say.
    Unknown,
}

/// By what a request passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// What this gateway knows. Where there is a ledger, it says so to the store later.
    Gateway,
    /// The store has said so.
    Granted,
}

/// How a request may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Allowance {
    /// While no more than so many of its key are unsettled; then only the store can say, which is not asked yet.
    Look(u32),
    /// The same, and it waits for the store.
    Ask(u32),
    /// Whatever is unsettled.
    Unbounded,
}

impl Allowance {
    fn most(self) -> u32 {
        match self {
            Self::Look(most) | Self::Ask(most) => most,
            Self::Unbounded => u32::MAX,
        }
    }
}

/// What the store is told of a key, and asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) key: NonZeroU64,
    pub(super) name: Name,
    pub(super) spent: Spent,
    /// How many requests wait.
    pub(super) wanted: u32,
}

/// What the store says of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Settlement {
    /// The arrival time of all gateways together, by this gateway's clock, with what was granted.
    pub(super) arrival_ns: u64,
    /// How many of those that wait may pass.
    pub(super) granted: u32,
}

impl Spent {
    /// One more at this time.
    fn one_more(self, rule: Rule, now_ns: u64) -> Self {
        let arrival_ns = self.arrival_ns.max(now_ns).saturating_add(rule.interval_ns());
        Self { count: self.count.saturating_add(1), arrival_ns }
    }

    fn one_less(self, rule: Rule) -> Self {
        match self.count {
            0 | 1 => Self::default(),
            count => Self { count: count - 1, arrival_ns: rule.without_the_last(self.arrival_ns) },
        }
    }

    /// These, and others after them.
    fn then(self, rule: Rule, others: Self) -> Self {
        if others.count == 0 {
            return self;
        }
        Self {
            count: self.count.saturating_add(others.count),
            arrival_ns: others.after(rule, self.arrival_ns),
        }
    }

    /// The arrival time after them.
    fn after(self, rule: Rule, before_ns: u64) -> u64 {
        if self.count == 0 {
            return before_ns;
        }
        let spent_ns = rule.interval_ns().saturating_mul(self.count.into());
        before_ns.saturating_add(spent_ns).max(self.arrival_ns)
    }
}

impl Ledger {
    pub(super) fn new() -> Self {
        let others = (1..SHARDS).map(|_| Shard::default()).collect();
        Self { first: Shard::default(), others, entries: AtomicUsize::new(0) }
    }

    /// Whether a request would pass, or would have to wait.
    pub(super) fn would_pass(&self, key: NonZeroU64, rule: Rule, arrival_ns: u64, now_ns: u64) -> bool {
        rule.after_one_more(arrival_ns, now_ns).is_some()
            || self
                .shard(key)
                .find(key.get(), |entry| entry.key == key)
                .is_some_and(|entry| entry.has_grant(now_ns))
    }

    /// Takes one, if there is one. Its name is asked for when nothing of the key is written down yet.
    pub(super) fn take(
        &self,
        key: NonZeroU64,
        (rule, table): (Rule, &Table),
        now_ns: u64,
        allowance: Allowance,
        name: impl FnOnce() -> Name,
    ) -> Taken {
        let mut shard = self.shard(key);
        let known = shard.find_mut(key.get(), |entry| entry.key == key);
        let advance = || table.advance(key, |arrival_ns| rule.after_one_more(arrival_ns, now_ns));
        if let Some(entry) = known {
            if entry.has_grant(now_ns) {
                entry.granted -= 1;
                return Taken::Passed(table.arrival_ns(key), Source::Granted);
            }
            let arrival_ns = table.arrival_ns(key);
            if rule.after_one_more(arrival_ns, now_ns).is_none() {
                return Taken::Exceeded(arrival_ns);
            }
            if entry.unsettled() >= allowance.most() {
                if matches!(allowance, Allowance::Ask(_)) {
                    entry.waiting = entry.waiting.saturating_add(1);
                }
                return Taken::Unknown;
            }
            let Some(arrival_ns) = advance() else { return Taken::Exceeded(table.arrival_ns(key)) };
            entry.open = entry.open.one_more(rule, now_ns);
            return Taken::Passed(arrival_ns, Source::Gateway);
        }
        let Some(arrival_ns) = advance() else { return Taken::Exceeded(table.arrival_ns(key)) };
        if shard.len() < bounds::UNSETTLED_KEYS / SHARDS {
            let open = Spent::default().one_more(rule, now_ns);
            let entry = Entry {
                key,
                name: name(),
                open,
                reported: Spent::default(),
                waiting: 0,
                granted: 0,
                granted_at_ns: 0,
            };
            shard.insert_unique(key.get(), entry, |entry| entry.key.get());
            self.entries.fetch_add(1, Ordering::Relaxed);
        }
        Taken::Passed(arrival_ns, Source::Gateway)
    }

    /// Takes back what [`Ledger::take`] has given.
    pub(super) fn give_back(
        &self,
        key: NonZeroU64,
        (rule, table): (Rule, &Table),
        arrival_ns: u64,
        source: Source,
    ) {
        let mut shard = self.shard(key);
        let known = shard.find_mut(key.get(), |entry| entry.key == key);
        match (source, known) {
            (Source::Granted, Some(entry)) => entry.granted = entry.granted.saturating_add(1),
            // Reported meanwhile: it stays counted.
            (Source::Gateway, Some(entry)) if entry.open.count == 0 => {}
            (Source::Gateway, Some(entry)) => {
                entry.open = entry.open.one_less(rule);
                table.take_back(key, arrival_ns, rule.without_the_last(arrival_ns));
            }
            // Settled meanwhile, or never written down because too much was.
            (Source::Granted | Source::Gateway, None) => {}
        }
    }

    /// How much of a key is unsettled.
    pub(super) fn unsettled(&self, key: NonZeroU64) -> u32 {
        self.shard(key).find(key.get(), |entry| entry.key == key).map_or(0, Entry::unsettled)
    }

    /// What the store is to be told. Until it is settled or restored, it counts as unsettled.
    pub(super) fn collect(&self, now_ns: u64) -> Vec<Report> {
        let mut reports = Vec::new();
        self.retain(|entry| {
            if entry.open.count == 0 && entry.waiting == 0 {
                // What was granted to nobody is gone, or it would pass at another time than it was counted at.
                return entry.has_grant(now_ns);
            }
            entry.reported = std::mem::take(&mut entry.open);
            let wanted = std::mem::take(&mut entry.waiting);
            reports.push(Report { key: entry.key, name: entry.name, spent: entry.reported, wanted });
            true
        });
        reports
    }

    /// The store has counted what a report said.
    pub(super) fn settle(
        &self,
        report: &Report,
        settlement: Settlement,
        (rule, table): (Rule, &Table),
        now_ns: u64,
    ) {
        let mut shard = self.shard(report.key);
        let Ok(mut found) = shard.find_entry(report.key.get(), |entry| entry.key == report.key) else {
            return;
        };
        let entry = found.get_mut();
        entry.reported = Spent::default();
        if settlement.granted > 0 {
            entry.granted = settlement.granted;
            entry.granted_at_ns = now_ns;
        }
        let arrival_ns = entry.open.after(rule, settlement.arrival_ns);
        if entry.open.count == 0 && entry.waiting == 0 && entry.granted == 0 {
            found.remove();
            self.entries.fetch_sub(1, Ordering::Relaxed);
        }
        // Still under the lock, so that no request comes in between.
        let _set = table.advance(report.key, |_| Some(arrival_ns));
    }

    /// Nobody knows whether the store has counted what a report said: it is told again.
    pub(super) fn restore(&self, report: &Report, rule: Rule) {
        let mut shard = self.shard(report.key);
        if let Some(entry) = shard.find_mut(report.key.get(), |entry| entry.key == report.key) {
            entry.open = std::mem::take(&mut entry.reported).then(rule, entry.open);
        }
    }

    /// Forgets what makes no difference any more, because time has passed it.
    pub(super) fn forget_old(&self, now_ns: u64) {
        self.retain(|entry| entry.open.arrival_ns > now_ns || entry.reported.arrival_ns > now_ns);
    }

    fn retain(&self, mut keeps: impl FnMut(&mut Entry) -> bool) {
        if self.entries.load(Ordering::Relaxed) == 0 {
            return;
        }
        for shard in std::iter::once(&self.first).chain(&self.others) {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let before = shard.len();
            shard.retain(&mut keeps);
            self.entries.fetch_sub(before - shard.len(), Ordering::Relaxed);
        }
    }

    fn shard(&self, key: NonZeroU64) -> MutexGuard<'_, HashTable<Entry>> {
        // Other bits than those that choose a bucket of the table, or a place in the shard.
        let index = usize::try_from(key.get() >> 20).unwrap_or(0) % SHARDS;
        let shard = self.others.get(index).unwrap_or(&self.first);
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn unsettled(&self) -> u32 {
        self.open.count.saturating_add(self.reported.count)
    }

    /// Whether somebody may pass by what the store has granted. Who waited has come for it within the time that it waits.
    fn has_grant(&self, now_ns: u64) -> bool {
        self.granted > 0
            && now_ns.saturating_sub(self.granted_at_ns) <= bounds::LIMITS_STORE_WAIT_MS * 1_000_000
    }
}
