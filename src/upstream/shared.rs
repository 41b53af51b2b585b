//! What all threads know of upstreams and their targets.

use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use http::HeaderValue;

use super::StartError;
use super::endpoints::Endpoints;
use super::memory::Memory;
use super::queue::Queue;
use super::readings::{PoolReadings, UpstreamCounts};
use super::standing::Standing;
use super::tls::{self, TargetTls, TlsClient, TlsError};
use crate::config::{self, Target, WeightedTarget};

/// What all threads know of an upstream.
#[derive(Debug)]
pub struct SharedUpstream {
    pub(super) settings: config::Upstream,
    /// What the files held that its TLS was made of.
    files: TlsFiles,
    /// Each target that the configuration names, as it is before anything is known of the addresses of its name.
    pub(super) named: Vec<Arc<SharedTarget>>,
    /// Where requests go at the moment. Threads look at every tick whether it is another one.
    pub(super) endpoints: ArcSwap<Endpoints>,
    /// Rises with every change of `endpoints`.
    pub(super) version: AtomicU64,
    /// A connection to an address failed that a name has led to: it may lead elsewhere.
    pub(super) doubtful: AtomicBool,
    pub(super) counts: UpstreamCounts,
}

/// How a target is reached.
#[derive(Clone, Debug)]
pub(super) enum Reach {
    /// At these addresses, of which the first that takes a connection is used.
    At(Arc<[SocketAddr]>),
    /// By its name, which is looked up for each connection, because nothing is known of it yet.
    Named,
    /// At a socket of this machine.
    Socket,
    /// In this process.
    Memory(Memory),
}

/// What all threads know of a target: of one address, where it has a name. But for its standing, it is touched when a
/// connection opens or closes, never per request.
#[derive(Debug)]
pub struct SharedTarget {
    pub(super) target: Target,
    pub(super) reach: Reach,
    pub(super) authority: HeaderValue,
    pub(super) tls: Option<TargetTls>,
    pub(super) weight: u32,
    /// What it is told apart by when requests are spread by a hash: the same on every thread and in every gateway.
    pub(super) identity: u64,
    pub(super) standing: Standing,
    pub(super) open: AtomicUsize,
    /// Requests of all threads that wait for a connection.
    pub(super) wanted: AtomicUsize,
    /// Requests of all threads that are under way; counted only where they are limited.
    pub(super) active: AtomicUsize,
    /// What each thread tells of its connections.
    pub(super) readings: ArcSwap<Vec<Arc<PoolReadings>>>,
}

/// Digests of the files of `tls`; `None` for one that cannot be read.
#[derive(Debug, Default, PartialEq, Eq)]
struct TlsFiles(Vec<Option<[u8; 32]>>);

impl TlsFiles {
    fn of(settings: &config::Upstream) -> Self {
        let config::UpstreamTls { ca, client, server_name: _ } = &settings.tls;
        let client = client.iter().flat_map(|client| [&client.cert, &client.key]);
        Self(ca.iter().chain(client).map(|path| tls::digest(path)).collect())
    }
}

impl SharedUpstream {
    /// An upstream without connections. The certificates that it needs are read.
    ///
    /// # Errors
    ///
    /// [`StartError`], which names the upstream.
    pub fn new(settings: &config::Upstream) -> Result<Self, StartError> {
        let failed = |cause| StartError { upstream: settings.name.clone(), cause };
        let files = TlsFiles::of(settings);
        let needed = settings.targets.iter().any(|one| one.target.is_tls());
        let tls = needed.then(|| TlsClient::load(&settings.tls)).transpose().map_err(failed)?;
        let targets = settings.targets.iter().map(|target| SharedTarget::new(target, tls.as_ref()));
        let named = targets.collect::<Result<Vec<_>, _>>().map_err(failed)?;
        // No checked configuration has an upstream without a target.
        let none = || failed(TlsError::Name(String::new()));
        let endpoints = Endpoints::new(named.clone()).ok_or_else(none)?;
        Ok(Self { files, ..Self::around(settings, named, endpoints) })
    }

    /// The same upstream with one target, which is in this process and speaks HTTP/1.1. The address of the first target is
    /// only what requests may name.
    #[must_use]
    pub fn in_memory(settings: &config::Upstream, memory: &Memory) -> Self {
        let authority =
            settings.targets.first().map_or_else(|| "localhost".to_owned(), |one| one.target.authority());
        let authority = HeaderValue::from_str(&authority).unwrap_or(HeaderValue::from_static("localhost"));
        let target = SharedTarget::in_memory(authority, memory);
        let endpoints = Endpoints::one(&target);
        Self::around(settings, vec![target], endpoints)
    }

    fn around(settings: &config::Upstream, named: Vec<Arc<SharedTarget>>, endpoints: Endpoints) -> Self {
        Self {
            settings: settings.clone(),
            files: TlsFiles::default(),
            named,
            endpoints: ArcSwap::from_pointee(endpoints),
            version: AtomicU64::new(0),
            doubtful: AtomicBool::new(false),
            counts: UpstreamCounts::default(),
        }
    }

    /// The upstream's name.
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// Whether an upstream with these settings would be this one: also the files that they name hold the same. Blocks.
    pub fn is_of(&self, settings: &config::Upstream) -> bool {
        self.settings == *settings && self.files == TlsFiles::of(settings)
    }

    /// Takes over what is known of the same targets under another configuration, so that one that is dead need not be found
    /// dead again after a reload. To be done before anybody uses this upstream.
    pub fn inherit(&self, before: &Self) {
        let known = before.endpoints.load();
        let all = self.named.iter().flat_map(|named| {
            let same = known.all.iter().filter(|other| other.target == named.target && named.has_name());
            let at = same.filter_map(|other| Some(named.at(Arc::clone(other.addresses()?))));
            let at: Vec<_> = at.collect();
            if at.is_empty() { vec![Arc::clone(named)] } else { at }
        });
        let Some(endpoints) = Endpoints::new(all.collect()) else { return };
        let is_checked = self.settings.availability.health_check.is_some();
        let is_choice = endpoints.is_choice();
        for target in &endpoints.all {
            let other = known.all.iter().find(|other| other.identity == target.identity);
            // Who is out has to have a way back.
            let has_way_back = |standing: &Standing| {
                (!standing.is_down() || is_checked) && (!standing.is_ejected() || is_choice)
            };
            if let Some(other) = other.filter(|other| has_way_back(&other.standing)) {
                target.standing.copy(&other.standing);
            }
        }
        self.replace(endpoints);
    }

    /// Sends requests elsewhere from the next tick of each thread on.
    pub(super) fn replace(&self, endpoints: Endpoints) {
        self.endpoints.store(Arc::new(endpoints));
        self.version.fetch_add(1, Ordering::AcqRel);
    }
}

impl SharedTarget {
    fn new(one: &WeightedTarget, tls: Option<&TlsClient>) -> Result<Arc<Self>, TlsError> {
        let WeightedTarget { target, weight } = one;
        let authority = target.authority();
        let authority = HeaderValue::from_str(&authority).map_err(|_| TlsError::Name(authority))?;
        let tls = match (target, tls) {
            (Target::Https(at), Some(tls)) => Some(tls.target(&at.host)?),
            (Target::Http(_) | Target::Https(_) | Target::H2c(_) | Target::Unix(_), _) => None,
        };
        let reach = match target {
            Target::Unix(_) => Reach::Socket,
            Target::Http(at) | Target::Https(at) | Target::H2c(at) => at
                .host
                .parse()
                .map_or(Reach::Named, |address| Reach::At(Arc::new([SocketAddr::new(address, at.port)]))),
        };
        Ok(Arc::new(Self::around(target.clone(), reach, authority, tls, weight.get())))
    }

    /// A target in this process.
    pub(super) fn in_memory(authority: HeaderValue, memory: &Memory) -> Arc<Self> {
        let reach = Reach::Memory(memory.clone());
        Arc::new(Self::around(Target::Unix("memory".into()), reach, authority, None, 1))
    }

    /// The same target at some of the addresses of its name.
    pub(super) fn at(&self, addresses: Arc<[SocketAddr]>) -> Arc<Self> {
        let Self { target, authority, tls, weight, .. } = self;
        let reach = Reach::At(addresses);
        Arc::new(Self::around(target.clone(), reach, authority.clone(), tls.clone(), *weight))
    }

    fn around(
        target: Target,
        reach: Reach,
        authority: HeaderValue,
        tls: Option<TargetTls>,
        weight: u32,
    ) -> Self {
        let mut shared = Self {
            target,
            reach,
            authority,
            tls,
            weight,
            identity: 0,
            standing: Standing::default(),
            open: AtomicUsize::new(0),
            wanted: AtomicUsize::new(0),
            active: AtomicUsize::new(0),
            readings: ArcSwap::default(),
        };
        shared.identity = super::affinity::stable_hash(shared.to_string().as_bytes());
        shared
    }

    /// Its addresses, where they are known.
    pub(super) fn addresses(&self) -> Option<&Arc<[SocketAddr]>> {
        match &self.reach {
            Reach::At(addresses) => Some(addresses),
            Reach::Named | Reach::Socket | Reach::Memory(_) => None,
        }
    }

    /// Whether its configuration has a name in place of an address.
    pub(super) fn has_name(&self) -> bool {
        match &self.target {
            Target::Http(at) | Target::Https(at) | Target::H2c(at) => {
                at.host.parse::<std::net::IpAddr>().is_err()
            }
            Target::Unix(_) => false,
        }
    }
}

impl fmt::Display for SharedTarget {
    /// As the file writes it, and the address that its name has led to.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.target.fmt(f)?;
        match self.addresses().and_then(|addresses| addresses.first()) {
            Some(first) if self.has_name() => write!(f, " ({})", first.ip()),
            Some(_) | None => Ok(()),
        }
    }
}

/// A place among the connections that a target may have; given back when the connection is gone. Then who waits for it
/// longest on the same thread is told.
#[derive(Debug)]
pub(super) struct Place {
    target: Arc<SharedTarget>,
    queue: Rc<Queue>,
}

impl Place {
    pub(super) fn take(target: &Arc<SharedTarget>, most: usize, queue: &Rc<Queue>) -> Option<Self> {
        let more = |open: usize| (open < most).then_some(open + 1);
        target.open.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
        Some(Self { target: Arc::clone(target), queue: Rc::clone(queue) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.target.open.fetch_sub(1, Ordering::AcqRel);
        self.queue.tell_first();
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Environment, parse};
    use crate::upstream::standing::FULL_SHARE;

    fn upstream(targets: &str, lines: &str) -> SharedUpstream {
        let text = format!(
            "[upstreams.a]\ntargets = [{targets}]\n{lines}\n[[routes]]\npath = \"/\"\nauth = \"public\"\nupstream = \"a\""
        );
        let config = parse(&text, "gateway.toml", Path::new(""), &Environment::default()).unwrap();
        SharedUpstream::new(&config.upstreams[0]).unwrap()
    }

    #[test]
    fn what_is_known_of_a_target_outlives_a_configuration() {
        let checked = "health_check = { path = \"/\" }";
        let before = upstream(r#""http://10.0.0.1", "http://10.0.0.2", "http://app.test""#, checked);
        let addresses: Arc<[SocketAddr]> = Arc::new(["10.0.0.7:80".parse().unwrap()]);
        let mut all = before.named.clone();
        all[2] = before.named[2].at(addresses);
        before.replace(Endpoints::new(all).unwrap());
        let known = before.endpoints.load_full();
        known.all[0].standing.set_down(true);
        known.all[2].standing.eject();
        let targets = r#""http://app.test", "http://10.0.0.1", "http://10.0.0.3""#;
        let shares = |after: &SharedUpstream| -> Vec<(String, u32)> {
            after.inherit(&before);
            let all = &after.endpoints.load().all;
            all.iter().map(|target| (target.to_string(), target.standing.share())).collect()
        };
        let named = |shares: [u32; 3]| -> Vec<(String, u32)> {
            let names = ["http://app.test:80 (10.0.0.7)", "http://10.0.0.1:80", "http://10.0.0.3:80"];
            names.into_iter().map(str::to_owned).zip(shares).collect()
        };
        assert_eq!(shares(&upstream(targets, checked)), named([0, 0, FULL_SHARE]));
        // Nobody would find out that it is well again.
        assert_eq!(shares(&upstream(targets, "")), named([0, FULL_SHARE, FULL_SHARE]));
        let alone = upstream(r#""http://app.test""#, "");
        assert_eq!(shares(&alone), named([FULL_SHARE; 3])[..1]);
    }
}
