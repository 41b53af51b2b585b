//! What is done for upstreams beside the requests, on the control plane: their names are looked up, their targets are
//! checked, and those that were ejected come back.

mod check;
mod names;

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use self::names::Names;
use super::connect::{ConnectError, open_known};
use super::shared::{Reach, SharedTarget, SharedUpstream};
use super::standing::{FIRST_SHARE, FULL_SHARE};
use super::tls::Offer;
use crate::base::bounds;

/// How often it is looked at what has changed.
const LOOK: Duration = Duration::from_millis(bounds::TICK_MS);

/// How long a target that has come back has to do well, at least, before its next ejection is a first one again.
const FORGIVEN_AFTER: Duration = Duration::from_secs(30);

/// Keeps upstreams, for as long as it is polled. It ends only by a fault of its own.
pub async fn keep(upstreams: Vec<Arc<SharedUpstream>>) {
    let mut tasks = JoinSet::new();
    for upstream in upstreams {
        let has_names = upstream.named.iter().any(|target| target.has_name());
        let is_checked = upstream.settings.availability.health_check.is_some();
        if has_names || is_checked || upstream.named.len() > 1 {
            tasks.spawn(Keeper::new(upstream).run());
        }
    }
    if tasks.is_empty() {
        pending::<()>().await;
    }
    let _ended = tasks.join_next().await;
    tracing::error!("nobody keeps an upstream any more");
}

/// Keeps one upstream.
struct Keeper {
    upstream: Arc<SharedUpstream>,
    names: Names,
    version: Option<u64>,
    records: Vec<Record>,
    probes: JoinSet<(Arc<SharedTarget>, Result<(), ConnectError>)>,
}

/// What is known of a target besides its standing.
struct Record {
    target: Arc<SharedTarget>,
    phase: Phase,
    /// Ejections, one soon after the other.
    ejections: u32,
    /// When it came back from the last one.
    returned: Option<Instant>,
    /// Ends with the record.
    _check: Option<Task>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// It gets requests; fewer than usual, when it has come back at this time.
    In(Option<Instant>),
    /// It was ejected, until this time.
    Out(Instant),
    /// It is tried whether it takes a connection.
    Probed,
}

/// A task that ends when this is dropped.
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Keeper {
    fn new(upstream: Arc<SharedUpstream>) -> Self {
        let names = Names::new(&upstream);
        Self { upstream, names, version: None, records: Vec::new(), probes: JoinSet::new() }
    }

    async fn run(mut self) {
        let mut interval = tokio::time::interval(LOOK);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            let now = Instant::now();
            self.names.look(&self.upstream, now).await;
            self.follow_endpoints();
            self.take_probes(now);
            for record in &mut self.records {
                if record.step(&self.upstream, now) {
                    let target = Arc::clone(&record.target);
                    let within = self.upstream.settings.connect_timeout;
                    self.probes.spawn(async move {
                        let opened = tokio::time::timeout(within, open_known(&target, Offer::Both)).await;
                        let outcome = opened.unwrap_or(Err(ConnectError::TimedOut)).map(drop);
                        (target, outcome)
                    });
                }
            }
        }
    }

    /// Keeps a record of each target that there is, and of no other.
    fn follow_endpoints(&mut self) {
        let version = self.upstream.version.load(std::sync::atomic::Ordering::Acquire);
        if self.version.replace(version) == Some(version) {
            return;
        }
        let endpoints = self.upstream.endpoints.load_full();
        let mut before = std::mem::take(&mut self.records);
        for target in &endpoints.all {
            let kept = before.iter().position(|record| Arc::ptr_eq(&record.target, target));
            self.records.push(match kept {
                Some(place) => before.swap_remove(place),
                None => Record::new(&self.upstream, target),
            });
        }
    }

    fn take_probes(&mut self, now: Instant) {
        while let Some(probed) = self.probes.try_join_next() {
            let Ok((target, outcome)) = probed else { continue };
            let record = self.records.iter_mut().find(|record| Arc::ptr_eq(&record.target, &target));
            if let Some(record) = record.filter(|record| record.phase == Phase::Probed) {
                record.probed(&self.upstream, outcome, now);
            }
        }
    }
}

impl Record {
    fn new(upstream: &Arc<SharedUpstream>, target: &Arc<SharedTarget>) -> Self {
        let is_known = !matches!(target.reach, Reach::Named | Reach::Memory(_));
        let check = upstream.settings.availability.health_check.clone().filter(|_| is_known);
        let check = check.map(|check| {
            let checking = check::watch(Arc::clone(upstream), Arc::clone(target), check);
            Task(tokio::spawn(checking).abort_handle())
        });
        Self {
            target: Arc::clone(target),
            phase: Phase::In(None),
            ejections: 0,
            returned: None,
            _check: check,
        }
    }

    /// Does what is due. Says whether it is to be tried if the target takes a connection.
    fn step(&mut self, upstream: &SharedUpstream, now: Instant) -> bool {
        let standing = &self.target.standing;
        match self.phase {
            Phase::In(_) if standing.is_ejected() => {
                let rested = self.duration(upstream).max(FORGIVEN_AFTER);
                if self.returned.is_some_and(|returned| now.duration_since(returned) >= rested) {
                    self.ejections = 0;
                }
                self.rest(upstream, now);
            }
            Phase::In(since) => {
                let share = standing.share();
                self.phase = Phase::In(if share == 0 || share >= FULL_SHARE {
                    None
                } else {
                    let since = since.unwrap_or(now);
                    let slow_start = upstream.settings.availability.slow_start;
                    standing.raise(share_after(now.duration_since(since), slow_start));
                    Some(since)
                });
            }
            // It was used for want of another, and has answered.
            Phase::Out(_) | Phase::Probed if !standing.is_ejected() => self.come_back(now),
            Phase::Out(until) if now >= until => {
                self.phase = Phase::Probed;
                return true;
            }
            Phase::Out(_) | Phase::Probed => {}
        }
        false
    }

    fn probed(&mut self, upstream: &SharedUpstream, outcome: Result<(), ConnectError>, now: Instant) {
        match outcome {
            Ok(()) => {
                // One more failure is enough to eject it again.
                let most = upstream.settings.availability.ejection.failures;
                self.target.standing.reinstate(most.map_or(0, |most| most.get() - 1));
                self.come_back(now);
                let (upstream, target) = (upstream.name(), &self.target);
                tracing::info!(upstream, upstream_target = %target, "a target is used again: it takes connections");
            }
            Err(error) => {
                tracing::debug!(upstream = upstream.name(), upstream_target = %self.target, %error, "a target rests on");
                // Trying costs nobody anything, so one that is dead is soon found when it is back.
                self.phase = Phase::Out(now + upstream.settings.availability.ejection.duration);
            }
        }
    }

    fn come_back(&mut self, now: Instant) {
        self.phase = Phase::In(Some(now));
        self.returned = Some(now);
    }

    fn rest(&mut self, upstream: &SharedUpstream, now: Instant) {
        self.ejections = self.ejections.saturating_add(1);
        self.phase = Phase::Out(now + self.duration(upstream));
    }

    /// How long the ejection at hand lasts: each one that follows soon is twice as long as the one before.
    fn duration(&self, upstream: &SharedUpstream) -> Duration {
        let ejection = &upstream.settings.availability.ejection;
        let doubled = 2_u32.saturating_pow(self.ejections.saturating_sub(1));
        ejection.duration.saturating_mul(doubled).min(ejection.max_duration)
    }
}

/// The share of a target so long after it has come back.
fn share_after(elapsed: Duration, slow_start: Duration) -> u32 {
    let thousandths =
        elapsed.as_millis().saturating_mul(u128::from(FULL_SHARE)).checked_div(slow_start.as_millis());
    let reached = thousandths.map_or(FULL_SHARE, |share| u32::try_from(share).unwrap_or(FULL_SHARE));
    reached.clamp(FIRST_SHARE, FULL_SHARE)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Environment, parse};

    fn upstream(lines: &str) -> Arc<SharedUpstream> {
        let text = format!(
            "[upstreams.a]\ntargets = [\"http://10.0.0.1\", \"http://10.0.0.2\"]\n{lines}\n[[routes]]\npath = \"/\"\nauth = \"public\"\nupstream = \"a\""
        );
        let config = parse(&text, "gateway.toml", Path::new(""), &Environment::default()).unwrap();
        Arc::new(SharedUpstream::new(&config.upstreams[0]).unwrap())
    }

    #[test]
    fn a_share_grows_with_the_time() {
        let after = |seconds| share_after(Duration::from_secs(seconds), Duration::from_secs(10));
        assert_eq!([after(0), after(1), after(5), after(10), after(99)], [100, 100, 500, 1000, 1000]);
        assert_eq!(share_after(Duration::ZERO, Duration::ZERO), FULL_SHARE);
    }

    #[test]
    fn each_ejection_is_longer_until_the_target_has_done_well() {
        let upstream =
            upstream("ejection = { duration = \"1s\", max_duration = \"5s\" }\nslow_start = \"10s\"");
        let target = &upstream.named[0];
        let mut record = Record::new(&upstream, target);
        let begin = Instant::now();
        let at = |seconds: u64| begin + Duration::from_secs(seconds);
        target.standing.eject();
        assert!(!record.step(&upstream, at(0)));
        assert_eq!(record.phase, Phase::Out(at(1)));
        assert!(record.step(&upstream, at(1)) && !record.step(&upstream, at(2)), "it is tried once");
        // While it takes no connection, it is tried again and again.
        for now in [2, 3, 9] {
            record.probed(&upstream, Err(ConnectError::TimedOut), at(now));
            assert_eq!(record.phase, Phase::Out(at(now + 1)));
            assert!(record.step(&upstream, at(now + 1)));
        }
        record.probed(&upstream, Ok(()), at(10));
        assert!(!target.standing.is_ejected());
        record.step(&upstream, at(15));
        assert_eq!(target.standing.share(), 500);
        assert_eq!(target.standing.failed(), 5, "one more failure ejects it");
        for (now, until) in [(16, 18), (18, 22), (22, 27)] {
            target.standing.eject();
            record.step(&upstream, at(now));
            assert_eq!(record.phase, Phase::Out(at(until)), "it is not forgiven yet");
            assert!(record.step(&upstream, at(until)));
            record.probed(&upstream, Ok(()), at(until));
        }
        target.standing.eject();
        record.step(&upstream, at(27));
        // Somebody used it for want of another.
        assert!(target.standing.succeeded());
        record.step(&upstream, at(28));
        record.step(&upstream, at(38));
        assert_eq!((record.phase, target.standing.share()), (Phase::In(Some(at(28))), FULL_SHARE));
        record.step(&upstream, at(39));
        assert_eq!(record.phase, Phase::In(None));
        target.standing.eject();
        record.step(&upstream, at(80));
        assert_eq!(record.phase, Phase::Out(at(81)), "it is a first one again");
    }
}
