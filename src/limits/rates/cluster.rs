//! What several gateways count together: how far each may go before the others know, and what is to be told to the limits
//! store that they share.
//!
//! The store is [`crate::limits::exchange`]'s. Nothing here waits for it but a request of a key of which too much is
//! unsettled, and that only while the store answers.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::ledger::{Allowance, Report, Settlement};
use super::{Limit, Rate};
use crate::base::bounds;
use crate::base::clock::Stopwatch;

/// All limits with `scope = "cluster"` of the process.
#[derive(Default)]
pub struct Cluster {
    /// Those that are served by.
    limits: Mutex<Vec<Arc<Limit>>>,
    watch: Mutex<Option<Stopwatch>>,
    /// Whether the store can be reached.
    is_up: AtomicBool,
    /// Whether somebody has waited in vain since it answered last.
    is_slow: AtomicBool,
    /// Gateways that count together.
    gateways: AtomicU32,
    /// Told when there is something that should not wait for the next interval.
    due: Notify,
    /// Told when the store has answered, or when nobody is to wait for it any more.
    answered: Notify,
    exchanges: AtomicU64,
    failures: AtomicU64,
    waits: AtomicU64,
    timeouts: AtomicU64,
}

/// What is known of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterReading {
    /// Whether the store can be reached.
    pub is_up: bool,
    /// Gateways that count together; 0 while that is not known.
    pub gateways: u32,
    /// Round trips to the store.
    pub exchanges: u64,
    /// Those that came to nothing, and connections that did.
    pub failures: u64,
    /// Requests that waited for the store.
    pub waits: u64,
    /// Those that waited in vain, and were counted by the gateway alone.
    pub timeouts: u64,
}

/// Something that the store is to count.
pub struct Due {
    limit: Arc<Limit>,
    rate: usize,
    report: Report,
    asked_ns: u64,
}

/// The same, in the store's units. Times are microseconds from now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// Whose count it is: a digest.
    pub name: [u8; 16],
    /// Requests that passed.
    pub spent: u32,
    /// The arrival time after them if nothing else had ever come.
    pub ahead_us: i64,
    /// Requests that wait.
    pub wanted: u32,
    /// How far apart requests come, in nanoseconds.
    pub interval_ns: u64,
    /// How far the arrival time may run ahead.
    pub capacity_us: u64,
}

/// What the store says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The arrival time of all gateways together, in microseconds from now.
    pub ahead_us: i64,
    /// How many of those that wait may pass.
    pub granted: u32,
}

/// What came of waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// Nobody waits yet.
    Untried,
    /// The request waits for the store.
    Waiting,
    /// It has waited enough.
    Over,
}

impl Cluster {
    /// How much of a rate this gateway may let pass before the store knows.
    pub(super) fn allowance(&self, rate: &Rate, patience: Patience) -> Allowance {
        if !self.is_up.load(Ordering::Acquire) || self.is_slow.load(Ordering::Acquire) {
            return Allowance::Unbounded;
        }
        let most = most_unsettled(rate.rule.burst(), self.gateways.load(Ordering::Relaxed));
        match patience {
            Patience::Untried => Allowance::Look(most),
            Patience::Waiting => Allowance::Ask(most),
            Patience::Over => Allowance::Unbounded,
        }
    }

    /// Has the store asked without waiting for the interval to end.
    pub(super) fn ask_soon(&self) {
        self.due.notify_one();
    }

    /// A request begins to wait.
    pub(super) fn begin_wait(&self) {
        self.waits.fetch_add(1, Ordering::Relaxed);
    }

    /// A request has waited in vain: nobody else does until the store answers again.
    pub(super) fn give_up(&self) {
        self.timeouts.fetch_add(1, Ordering::Relaxed);
        self.is_slow.store(true, Ordering::Release);
        self.answered.notify_waiters();
    }

    /// Ends when the store has answered.
    pub(super) fn answered(&self) -> tokio::sync::futures::Notified<'_> {
        self.answered.notified()
    }

    /// These are the limits that are served by.
    pub(super) fn serve(&self, limits: Vec<Arc<Limit>>, watch: &Stopwatch) {
        *self.limits.lock().unwrap_or_else(PoisonError::into_inner) = limits;
        *self.watch.lock().unwrap_or_else(PoisonError::into_inner) = Some(watch.clone());
    }

    /// Whether there is anything to count together.
    pub fn is_used(&self) -> bool {
        !self.limits.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Waits until there is something to tell the store at once, or until an interval has ended.
    pub async fn due(&self) {
        let interval = Duration::from_millis(bounds::LIMITS_STORE_INTERVAL_MS);
        // Either will do.
        let _ended = tokio::time::timeout(interval, self.due.notified()).await;
    }

    /// What the store is to be told and asked. Each has to be settled or restored.
    pub fn collect(&self) -> Vec<Due> {
        let limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let now_ns = self.now_ns();
        let mut all = Vec::new();
        for limit in limits {
            for (number, rate) in limit.rates.iter().enumerate() {
                let Some(shared) = &rate.shared else { continue };
                let due = |report| Due { limit: Arc::clone(&limit), rate: number, report, asked_ns: now_ns };
                all.extend(shared.ledger.collect(now_ns).into_iter().map(due));
            }
        }
        all
    }

    /// The store has answered.
    pub fn settle(&self, due: &Due, answer: Answer) {
        let Some((rate, shared)) = due.rate() else { return };
        let now_ns = self.now_ns();
        let ahead_ns = answer.ahead_us.unsigned_abs().saturating_mul(1000);
        let arrival_ns = if answer.ahead_us < 0 {
            now_ns.saturating_sub(ahead_ns)
        } else {
            now_ns.saturating_add(ahead_ns)
        };
        let settlement = Settlement { arrival_ns, granted: answer.granted };
        shared.ledger.settle(&due.report, settlement, (rate.rule, &rate.table), now_ns);
    }

    /// Nobody knows whether the store has counted it.
    pub fn restore(&self, due: &Due) {
        if let Some((rate, shared)) = due.rate() {
            shared.ledger.restore(&due.report, rate.rule);
        }
    }

    /// A round trip has ended well: whoever waits looks again.
    pub fn note_answer(&self) {
        self.exchanges.fetch_add(1, Ordering::Relaxed);
        self.is_slow.store(false, Ordering::Release);
        self.answered.notify_waiters();
    }

    /// So many gateways count together.
    pub fn set_gateways(&self, gateways: u32) {
        self.gateways.store(gateways, Ordering::Relaxed);
    }

    /// The store can be reached.
    pub fn set_up(&self) {
        self.is_slow.store(false, Ordering::Release);
        self.is_up.store(true, Ordering::Release);
    }

    /// The store cannot be reached: nobody waits for it.
    pub fn set_down(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        self.is_up.store(false, Ordering::Release);
        self.answered.notify_waiters();
        let now_ns = self.now_ns();
        for limit in self.limits.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let shared = limit.rates.iter().filter_map(|rate| rate.shared.as_ref());
            shared.for_each(|shared| shared.ledger.forget_old(now_ns));
        }
    }

    /// What is known of it.
    pub fn reading(&self) -> ClusterReading {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ClusterReading {
            is_up: self.is_up.load(Ordering::Acquire),
            gateways: self.gateways.load(Ordering::Relaxed),
            exchanges: count(&self.exchanges),
            failures: count(&self.failures),
            waits: count(&self.waits),
            timeouts: count(&self.timeouts),
        }
    }

    fn now_ns(&self) -> u64 {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map_or(0, Stopwatch::now_ns)
    }
}

/// How many requests of a key one of so many gateways may let pass before the store knows.
fn most_unsettled(burst: u64, gateways: u32) -> u32 {
    let parts = u64::from(bounds::UNSETTLED_PART).saturating_mul(gateways.max(1).into());
    u32::try_from(burst / parts).unwrap_or(u32::MAX).max(1)
}

impl Due {
    fn rate(&self) -> Option<(&Rate, &super::Shared)> {
        let rate = self.limit.rates.get(self.rate)?;
        Some((rate, rate.shared.as_ref()?))
    }

    /// In the store's units; `None` for what is no limit of a cluster, which nothing is.
    pub fn question(&self) -> Option<Question> {
        let (rate, _) = self.rate()?;
        let spent = self.report.spent;
        // Who was counted alone for long has not more to tell than fits into a burst.
        let most = u32::try_from(rate.rule.burst()).unwrap_or(u32::MAX).saturating_mul(2);
        let ahead_us = match spent.count {
            0 => i64::MIN / 1_000_000,
            _ => micros_between(self.asked_ns, spent.arrival_ns),
        };
        Some(Question {
            name: self.report.name,
            spent: spent.count.min(most),
            ahead_us,
            wanted: self.report.wanted,
            interval_ns: rate.rule.interval_ns(),
            capacity_us: rate.rule.capacity_ns() / 1000,
        })
    }
}

/// From one time to another, rounded up.
fn micros_between(from_ns: u64, to_ns: u64) -> i64 {
    match to_ns.checked_sub(from_ns) {
        Some(ahead_ns) => i64::try_from(ahead_ns.div_ceil(1000)).unwrap_or(i64::MAX),
        None => i64::try_from((from_ns - to_ns) / 1000).map_or(i64::MIN, |behind| -behind),
    }
}

#[cfg(test)]
mod tests;
