//! What can be read of upstreams while they are in use, without a lock and without disturbing who uses them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::shared::{SharedTarget, SharedUpstream};
use super::standing::FULL_SHARE;

/// What one thread tells of one target. Only that thread writes it, so that writing is a plain store.
#[derive(Debug, Default)]
pub(super) struct PoolReadings {
    in_flight: AtomicUsize,
    requests: AtomicU64,
    connects: AtomicU64,
    connect_failures: AtomicU64,
}

impl PoolReadings {
    /// Requests under way, those included that wait for a connection.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub(super) fn begin(&self) {
        self.in_flight.store(self.in_flight().wrapping_add(1), Ordering::Relaxed);
        add_one(&self.requests);
    }

    pub(super) fn end(&self) {
        self.in_flight.store(self.in_flight().saturating_sub(1), Ordering::Relaxed);
    }

    pub(super) fn connected(&self, succeeded: bool) {
        add_one(&self.connects);
        if !succeeded {
            add_one(&self.connect_failures);
        }
    }
}

/// For a counter that only one thread writes.
fn add_one(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
}

/// What is counted of an upstream when something goes wrong.
#[derive(Debug, Default)]
pub(super) struct UpstreamCounts {
    pub(super) retries: AtomicU64,
    pub(super) failovers: AtomicU64,
    pub(super) out_of_budget: AtomicU64,
    pub(super) ejections: AtomicU64,
}

impl UpstreamCounts {
    /// Counts one more.
    pub(super) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// An upstream at one moment. Counters count from the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamReading {
    /// Its name.
    pub upstream: String,
    /// Requests that were sent once more after a target may have seen them or refused them.
    pub retries: u64,
    /// Requests that went to another target because the first one took no connection.
    pub failovers: u64,
    /// Requests that would have been tried again if the budget had allowed it.
    pub retries_over_budget: u64,
    /// How often a target was ejected.
    pub ejections: u64,
    /// Its targets, each address of a name by itself.
    pub targets: Vec<TargetReading>,
}

/// A target at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetReading {
    /// The target as the file writes it, and the address that its name has led to.
    pub target: String,
    /// Its health checks pass, or there are none.
    pub healthy: bool,
    /// It has failed too often in a row and rests.
    pub ejected: bool,
    /// How much of what its weight stands for it gets, in thousandths.
    pub share_permille: u32,
    /// Requests under way, those included that wait.
    pub in_flight: usize,
    /// Requests that wait for a connection.
    pub queued: usize,
    /// Connections that are open.
    pub connections: usize,
    /// Requests that were begun.
    pub requests: u64,
    /// Connections that were tried.
    pub connects: u64,
    /// Of those, the ones that came to nothing.
    pub connect_failures: u64,
}

impl SharedUpstream {
    /// What can be read of it now.
    pub fn reading(&self) -> UpstreamReading {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        UpstreamReading {
            upstream: self.name().to_owned(),
            retries: read(&self.counts.retries),
            failovers: read(&self.counts.failovers),
            retries_over_budget: read(&self.counts.out_of_budget),
            ejections: read(&self.counts.ejections),
            targets: self.endpoints.load().all.iter().map(|target| target.reading()).collect(),
        }
    }
}

impl SharedTarget {
    /// What a thread that begins to use the target writes to.
    pub(super) fn join(&self) -> Arc<PoolReadings> {
        let readings = Arc::new(PoolReadings::default());
        self.readings.rcu(|others| {
            let mut all = Vec::clone(others);
            all.push(Arc::clone(&readings));
            all
        });
        readings
    }

    fn reading(&self) -> TargetReading {
        let threads = self.readings.load();
        let sum = |counter: fn(&PoolReadings) -> &AtomicU64| {
            threads.iter().map(|thread| counter(thread).load(Ordering::Relaxed)).sum()
        };
        TargetReading {
            target: self.to_string(),
            healthy: !self.standing.is_down(),
            ejected: self.standing.is_ejected(),
            share_permille: self.standing.share().min(FULL_SHARE),
            in_flight: threads.iter().map(|thread| thread.in_flight()).sum(),
            queued: self.wanted.load(Ordering::Relaxed),
            connections: self.open.load(Ordering::Relaxed),
            requests: sum(|thread| &thread.requests),
            connects: sum(|thread| &thread.connects),
            connect_failures: sum(|thread| &thread.connect_failures),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::config::{Environment, parse};
    use crate::upstream::pool::{InFlight, Pool};

    #[test]
    fn what_every_thread_tells_is_read_as_one() {
        let text = "[upstreams.a]\ntargets = [\"http://10.0.0.1\", \"http://10.0.0.2\"]\n[[routes]]\npath = \"/\"\nauth = \"public\"\nupstream = \"a\"";
        let config = parse(text, "gateway.toml", std::path::Path::new(""), &Environment::default()).unwrap();
        let shared = SharedUpstream::new(&config.upstreams[0]).unwrap();
        let thread = || Rc::new(Pool::new(&shared.named[1], &shared.settings, &Rc::default()));
        let (one, other) = (thread(), thread());
        let under_way = [InFlight::begin(&one), InFlight::begin(&one), InFlight::begin(&other)];
        drop(InFlight::begin(&other));
        shared.named[0].standing.eject();
        shared.named[1].standing.set_down(true);
        UpstreamCounts::count(&shared.counts.retries);
        let reading = shared.reading();
        assert_eq!((reading.upstream.as_str(), reading.retries, reading.failovers), ("a", 1, 0));
        let [first, second] = &reading.targets[..] else { panic!("{reading:?}") };
        assert_eq!((first.healthy, first.ejected, first.share_permille, first.in_flight), (true, true, 0, 0));
        assert_eq!(second.target, "http://10.0.0.2:80");
        assert_eq!((second.healthy, second.ejected), (false, false));
        assert_eq!((second.in_flight, second.requests), (3, 4));
        drop(under_way);
        assert_eq!(shared.reading().targets[1].in_flight, 0);
    }
}
