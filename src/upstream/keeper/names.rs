//! The names of an upstream's targets, and what they lead to.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::config::Authority;
use crate::upstream::endpoints::{Endpoints, grouped};
use crate::upstream::shared::{SharedTarget, SharedUpstream};

/// How long after a look-up the next one begins at the earliest.
const PAUSE: Duration = Duration::from_secs(1);

/// What the targets of an upstream lead to, in their order.
pub(super) struct Names(Vec<Name>);

struct Name {
    /// As the configuration has it.
    target: Arc<SharedTarget>,
    /// What it leads to: itself, where it has no name or nothing is known of that.
    leads_to: Vec<Arc<SharedTarget>>,
    /// How the name is looked up; nothing where there is none.
    look_up: Option<LookUp>,
}

struct LookUp {
    at: Authority,
    began: Option<Instant>,
    due: Instant,
    /// Look-ups in a row that found nothing.
    failures: u32,
    running: Option<JoinHandle<io::Result<Vec<SocketAddr>>>>,
}

impl Names {
    pub(super) fn new(upstream: &SharedUpstream) -> Self {
        let now = Instant::now();
        let known = upstream.endpoints.load();
        let name = |target: &Arc<SharedTarget>| {
            let at = target.target.at().filter(|_| target.has_name());
            let look_up =
                |at: &Authority| LookUp { at: at.clone(), began: None, due: now, failures: 0, running: None };
            let known = known.all.iter().filter(|one| one.target == target.target && target.has_name());
            let mut leads_to: Vec<_> = known.cloned().collect();
            if leads_to.is_empty() {
                leads_to.push(Arc::clone(target));
            }
            Name { target: Arc::clone(target), leads_to, look_up: at.map(look_up) }
        };
        Self(upstream.named.iter().map(name).collect())
    }

    /// Takes what was found, and looks up what is due. Never waits for a resolver.
    pub(super) async fn look(&mut self, upstream: &SharedUpstream, now: Instant) {
        let is_doubtful = upstream.doubtful.swap(false, Ordering::AcqRel);
        let mut changed = false;
        for name in &mut self.0 {
            changed |= name.look(upstream, now, is_doubtful).await;
        }
        if changed {
            let all = self.0.iter().flat_map(|name| name.leads_to.iter().cloned()).collect();
            if let Some(endpoints) = Endpoints::new(all) {
                upstream.replace(endpoints);
            }
        }
    }
}

impl Name {
    /// Whether the name leads elsewhere from now on.
    async fn look(&mut self, upstream: &SharedUpstream, now: Instant, is_doubtful: bool) -> bool {
        let Some(look_up) = &mut self.look_up else { return false };
        let found = match &mut look_up.running {
            Some(running) if running.is_finished() => {
                running.await.unwrap_or_else(|error| Err(io::Error::other(error)))
            }
            Some(_) => return false,
            None => {
                let is_early = look_up.began.is_some_and(|began| now.duration_since(began) < PAUSE);
                if now >= look_up.due || (is_doubtful && !is_early) {
                    look_up.begin(now);
                } else if is_doubtful {
                    look_up.due = look_up.due.min(now + PAUSE);
                }
                return false;
            }
        };
        look_up.running = None;
        let groups = found.map(|addresses| grouped(&addresses));
        let interval = upstream.settings.availability.resolve_interval;
        let nothing = || io::Error::from(io::ErrorKind::NotFound);
        match groups.and_then(|groups| if groups.is_empty() { Err(nothing()) } else { Ok(groups) }) {
            Ok(groups) => {
                look_up.failures = 0;
                look_up.due = now + interval;
                self.lead_to(upstream, groups)
            }
            Err(error) => {
                if look_up.failures == 0 {
                    let (upstream, target) = (upstream.name(), &self.target);
                    tracing::warn!(upstream, upstream_target = %target, %error, "a name cannot be resolved: what was known of it holds");
                }
                let later = PAUSE.saturating_mul(2_u32.saturating_pow(look_up.failures));
                look_up.failures = look_up.failures.saturating_add(1);
                look_up.due = now + later.min(interval);
                false
            }
        }
    }

    fn lead_to(&mut self, upstream: &SharedUpstream, groups: Vec<Arc<[SocketAddr]>>) -> bool {
        let same = |target: &Arc<SharedTarget>, group: &Arc<[SocketAddr]>| target.addresses() == Some(group);
        let is_same = self.leads_to.len() == groups.len()
            && self.leads_to.iter().zip(&groups).all(|(target, group)| same(target, group));
        if is_same {
            return false;
        }
        let addresses: Vec<String> =
            groups.iter().filter_map(|group| group.first()).map(|first| first.ip().to_string()).collect();
        let (name, target) = (upstream.name(), &self.target);
        tracing::info!(upstream = name, upstream_target = %target, addresses = addresses.join(", "), "a name leads to these addresses");
        let kept_or_new = |group: Arc<[SocketAddr]>| {
            let kept = self.leads_to.iter().find(|target| same(target, &group));
            kept.map_or_else(|| self.target.at(Arc::clone(&group)), Arc::clone)
        };
        self.leads_to = groups.into_iter().map(kept_or_new).collect();
        true
    }
}

impl LookUp {
    fn begin(&mut self, now: Instant) {
        let Authority { host, port } = self.at.clone();
        self.began = Some(now);
        self.running =
            Some(tokio::spawn(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) }));
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Environment, parse};

    fn upstream() -> SharedUpstream {
        let text = "[upstreams.a]\ntargets = [\"http://app.test:81\", \"http://10.0.0.9\"]\n[[routes]]\npath = \"/\"\nauth = \"public\"\nupstream = \"a\"";
        let config = parse(text, "gateway.toml", Path::new(""), &Environment::default()).unwrap();
        SharedUpstream::new(&config.upstreams[0]).unwrap()
    }

    /// One pass at a time at which the look-up has found this.
    async fn find(names: &mut Names, upstream: &SharedUpstream, now: Instant, found: io::Result<Vec<&str>>) {
        let found = found.map(|texts| texts.iter().map(|text| text.parse().unwrap()).collect());
        let look_up = names.0[0].look_up.as_mut().unwrap();
        let running = tokio::spawn(async move { found });
        while !running.is_finished() {
            tokio::task::yield_now().await;
        }
        look_up.running = Some(running);
        names.look(upstream, now).await;
    }

    fn shown(upstream: &SharedUpstream) -> Vec<String> {
        upstream.endpoints.load().all.iter().map(ToString::to_string).collect()
    }

    #[tokio::test]
    async fn every_address_of_a_name_is_a_target_until_the_name_leads_elsewhere() {
        let upstream = upstream();
        let mut names = Names::new(&upstream);
        let begin = Instant::now();
        assert_eq!(shown(&upstream), ["http://app.test:81", "http://10.0.0.9:80"]);
        let unknown = || Err(io::ErrorKind::NotFound.into());
        find(&mut names, &upstream, begin, unknown()).await;
        assert_eq!(upstream.version.load(Ordering::Acquire), 0);
        find(&mut names, &upstream, begin, Ok(vec!["10.0.0.2:81", "10.0.0.1:81"])).await;
        let two = ["http://app.test:81 (10.0.0.1)", "http://app.test:81 (10.0.0.2)", "http://10.0.0.9:80"];
        assert_eq!(shown(&upstream), two);
        let kept = Arc::clone(&upstream.endpoints.load().all[1]);
        for same in [Ok(vec!["10.0.0.1:81", "10.0.0.2:81"]), unknown(), Ok(Vec::new())] {
            find(&mut names, &upstream, begin, same).await;
            assert_eq!(
                (shown(&upstream), upstream.version.load(Ordering::Acquire)),
                (two.map(str::to_owned).to_vec(), 1)
            );
        }
        find(&mut names, &upstream, begin, Ok(vec!["10.0.0.2:81", "10.0.0.3:81"])).await;
        assert!(Arc::ptr_eq(&kept, &upstream.endpoints.load().all[0]), "who stays keeps its connections");
        assert_eq!(shown(&upstream)[1], "http://app.test:81 (10.0.0.3)");
    }

    #[tokio::test]
    async fn a_name_is_looked_up_again_in_time_and_soon_after_a_failure() {
        let upstream = upstream();
        let mut names = Names::new(&upstream);
        let begin = Instant::now();
        let after = |seconds| begin + Duration::from_secs(seconds);
        find(&mut names, &upstream, begin, Ok(vec!["10.0.0.1:81"])).await;
        let due = |names: &Names| names.0[0].look_up.as_ref().unwrap().due;
        assert_eq!(due(&names), after(30));
        for expected in [1, 2, 4, 8, 16, 30, 30] {
            find(&mut names, &upstream, begin, Err(io::ErrorKind::NotFound.into())).await;
            assert_eq!(due(&names), after(expected));
        }
        // A connection that fails is a reason to look, but not more often than once a second.
        names.0[0].look_up.as_mut().unwrap().began = Some(begin);
        upstream.doubtful.store(true, Ordering::Release);
        names.look(&upstream, begin + Duration::from_millis(500)).await;
        assert!(names.0[0].look_up.as_ref().unwrap().running.is_none());
        assert_eq!(due(&names), begin + Duration::from_millis(1500));
    }
}
