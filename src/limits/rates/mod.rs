//! Rate limits: how many requests a user, a client network or whoever sends some header may make.
//!
//! The counts are those of the whole process and exact whichever thread a request comes to. Counting takes no lock and no
//! allocation: each rate is a [`table::Table`] of arrival times. A request passes when all of its rates let it, and is
//! counted by none of them otherwise.
//!
//! With `scope = "cluster"` a rate has a [`ledger::Ledger`] beside its table, and [`cluster`] says how far a gateway may go
//! by itself.

use std::hash::RandomState;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::HeaderValue;

use self::cluster::Cluster;
use self::gcra::Rule;
use self::ledger::Ledger;
use self::step::Key;
use self::table::Table;
pub use self::told::Told;
use crate::base::clock::{Clock, Stopwatch};
use crate::base::field_list::FieldList;
use crate::config::{self, Config, LimitKey, LimitScope};

pub mod cluster;
mod count;
mod gcra;
mod ledger;
mod step;
mod table;
mod told;

/// Every limit, with what is counted. It is shared by all data-plane threads.
pub struct Rates {
    limits: Box<[Arc<Limit>]>,
    /// By index of the route.
    routes: Box<[Option<Plan>]>,
    token_routes: Option<Plan>,
    /// With a key that nobody knows: which keys share a bucket is nobody's choice.
    hasher: RandomState,
    watch: Stopwatch,
    cluster: Arc<Cluster>,
}

struct Limit {
    settings: config::RateLimit,
    /// None where nobody uses it.
    rates: Box<[Rate]>,
}

struct Rate {
    /// Unique on a route, as an item of structured fields (RFC 9651 section 3.3.3): `"per-user"`.
    label: Box<str>,
    /// Whose requests are counted together.
    key: LimitKey,
    rule: Rule,
    table: Table,
    /// Requests that it has refused.
    refused: AtomicU64,
    /// `None` where this gateway counts for itself.
    shared: Option<Shared>,
}

/// What a rate is at all gateways together.
struct Shared {
    /// What all gateways call it: they count together what has the same name and the same rate.
    name: String,
    ledger: Ledger,
}

/// What came of counting a request without waiting.
enum Counted {
    Passed,
    Exceeded(Exceeded),
    /// Only the limits store can say.
    Unknown,
}

/// What limits one route.
#[derive(Debug)]
pub struct Plan {
    limits: Box<[usize]>,
    policy: HeaderValue,
    is_told: bool,
    /// Whether a limit is one of several gateways.
    is_shared: bool,
}

/// At which point a request is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Before anybody asks who sent it: what goes by network or header counts, so that guessing credentials is limited.
    Arrival,
    /// When it is known who sent it, or that nobody did: what goes by user counts.
    Known,
    /// All at once, where nobody asks who sent it.
    Only,
}

/// Whose requests a request is counted with.
#[derive(Clone, Copy, Debug)]
pub struct Sender<'a> {
    /// The address of the client, behind trusted proxies if there are any. IPv4 counts as it is, IPv6 by its first 64 bits.
    pub client: IpAddr,
    /// What it sent.
    pub headers: &'a FieldList,
    /// The user's id.
    pub user_id: Option<&'a str>,
}

/// A request too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exceeded {
    /// Whole seconds until one passes, at least 1.
    pub retry_after_seconds: u64,
}

impl Rates {
    /// The limits of a configuration. Nothing is counted yet.
    pub fn new(config: &Config, clock: &Clock) -> Self {
        Self::of(config, &[], RandomState::new(), Stopwatch::start(clock), Arc::default())
    }

    /// The limits of another configuration. A limit that is in both, with the same rates by the same key, goes on with
    /// what it has counted.
    #[must_use]
    pub fn renewed(&self, config: &Config) -> Self {
        let cluster = Arc::clone(&self.cluster);
        Self::of(config, &self.limits, self.hasher.clone(), self.watch.clone(), cluster)
    }

    fn of(
        config: &Config,
        before: &[Arc<Limit>],
        hasher: RandomState,
        watch: Stopwatch,
        cluster: Arc<Cluster>,
    ) -> Self {
        let plan = |indices: &[usize]| Plan::new(indices, &config.limits);
        let limits = config.limits.iter().enumerate().map(|(index, settings)| {
            let routes = config.routes.iter().map(|route| &route.limits);
            let is_used = routes.chain([&config.tokens.limits]).any(|limits| limits.contains(&index));
            // What nobody uses takes no memory.
            let limit = |rates| Limit::new(settings, rates);
            let same = before.iter().find(|limit| limit.settings == *settings && !limit.rates.is_empty());
            match (is_used, same) {
                (true, Some(same)) => Arc::clone(same),
                (true, None) => Arc::new(limit(settings.rates.as_slice())),
                (false, _) => Arc::new(limit(&[])),
            }
        });
        Self {
            limits: limits.collect(),
            routes: config.routes.iter().map(|route| plan(&route.limits)).collect(),
            token_routes: plan(&config.tokens.limits),
            hasher,
            watch,
            cluster,
        }
    }

    /// What is counted together with other gateways, from here on for these limits.
    pub fn serve_cluster(&self) -> Arc<Cluster> {
        let shared = self.limits.iter().filter(|limit| limit.rates.iter().any(|rate| rate.shared.is_some()));
        self.cluster.serve(shared.map(Arc::clone).collect(), &self.watch);
        Arc::clone(&self.cluster)
    }

    /// What is counted together with other gateways.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// What limits the route with this index in the configuration.
    pub fn of_route(&self, index: usize) -> Option<&Plan> {
        self.routes.get(index)?.as_ref()
    }

    /// The names of the limits, with the unit where one has several rates, and how many requests each has refused.
    pub fn refused(&self) -> impl Iterator<Item = (&str, u64)> {
        let rates = self.limits.iter().flat_map(|limit| &limit.rates);
        rates.map(|rate| (rate.label.trim_matches('"'), rate.refused.load(Ordering::Relaxed)))
    }

    /// What limits the token routes.
    pub fn of_token_routes(&self) -> Option<&Plan> {
        self.token_routes.as_ref()
    }
}

impl Rate {
    /// What all gateways call the count of a sender.
    fn name(&self, sender: Sender<'_>) -> ledger::Name {
        let shared = self.shared.as_ref().map_or("", |shared| &shared.name);
        Key::of(&self.key, sender).name(shared)
    }
}

impl Turn {
    fn is_for(self, key: &LimitKey) -> bool {
        match (self, key) {
            (Self::Only, _)
            | (Self::Arrival, LimitKey::Network | LimitKey::Header(_))
            | (Self::Known, LimitKey::User) => true,
            (Self::Arrival, LimitKey::User) | (Self::Known, LimitKey::Network | LimitKey::Header(_)) => false,
        }
    }
}

impl Limit {
    fn new(limit: &config::RateLimit, rates: &[config::Rate]) -> Self {
        let rates = rates.iter().map(|rate| Rate {
            label: label(limit, rate).into(),
            key: limit.key.clone(),
            rule: Rule::new(rate),
            table: Table::new(),
            refused: AtomicU64::new(0),
            shared: match limit.scope {
                LimitScope::Node => None,
                LimitScope::Cluster => Some(Shared::new(limit, rate)),
            },
        });
        Self { settings: limit.clone(), rates: rates.collect() }
    }
}

impl Shared {
    fn new(limit: &config::RateLimit, rate: &config::Rate) -> Self {
        let config::Rate { count, unit, burst } = rate;
        let key = match &limit.key {
            LimitKey::User => "user",
            LimitKey::Network => "ip",
            LimitKey::Header(name) => name.as_str(),
        };
        let name = format!("{} {key} {count}/{} {burst}", limit.name, unit.letter());
        Self { name, ledger: Ledger::new() }
    }
}

/// The name of a limit, with the unit where it has several rates.
fn label(limit: &config::RateLimit, rate: &config::Rate) -> String {
    match limit.rates.as_slice() {
        [_] => format!("\"{}\"", limit.name),
        _ => format!("\"{}/{}\"", limit.name, rate.unit.letter()),
    }
}

impl Plan {
    fn new(indices: &[usize], limits: &[config::RateLimit]) -> Option<Self> {
        let used = || indices.iter().filter_map(|index| limits.get(*index));
        let items: Vec<String> = used()
            .flat_map(|limit| limit.rates.iter().map(move |rate| (limit, rate)))
            .map(|(limit, rate)| format!("{};q={};w={}", label(limit, rate), rate.count, rate.unit.seconds()))
            .collect();
        // Names are plain ASCII, and without a rate there is nothing to tell or to limit.
        let policy = HeaderValue::try_from(items.join(", ")).ok().filter(|_| !items.is_empty())?;
        let is_told = used().all(|limit| limit.is_told);
        let is_shared = used().any(|limit| limit.scope == LimitScope::Cluster);
        Some(Self { limits: indices.into(), policy, is_told, is_shared })
    }
}

#[cfg(test)]
mod tests;
