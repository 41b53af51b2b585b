//! Rate limits: how many requests a user, a client network or whoever sends some header may make.
//!
//! The counts are those of the whole process and exact whichever thread a request comes to. Counting takes no lock and no
//! allocation: each rate is a [`table::Table`] of arrival times. A request passes when all of its rates let it, and is
//! counted by none of them otherwise.

use std::fmt::Write as _;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::BytesMut;
use http::{HeaderMap, HeaderName, HeaderValue};

use self::gcra::{Rule, Standing};
use self::table::Table;
use crate::base::bounds;
use crate::base::clock::{Clock, Stopwatch};
use crate::config::{self, Config, LimitKey};

mod gcra;
mod table;

/// What the policy is, and how much of it is left (draft-ietf-httpapi-ratelimit-headers, sections 3 and 4).
const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// Every limit, with what is counted. It is shared by all data-plane threads.
pub struct Rates {
    limits: Box<[Arc<Limit>]>,
    /// By index of the route.
    routes: Box<[Option<Plan>]>,
    token_routes: Option<Plan>,
    /// With a key that nobody knows: which keys share a bucket is nobody's choice.
    hasher: RandomState,
    watch: Stopwatch,
}

struct Limit {
    settings: config::RateLimit,
    /// None where nobody uses it.
    rates: Box<[Rate]>,
}

struct Rate {
    /// Unique on a route, as an item of structured fields (RFC 9651 section 3.3.3): `"per-user"`.
    label: Box<str>,
    rule: Rule,
    table: Table,
    /// Requests that it has refused.
    refused: AtomicU64,
}

/// What limits one route.
#[derive(Debug)]
pub struct Plan {
    limits: Box<[usize]>,
    policy: HeaderValue,
    is_told: bool,
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
    pub headers: &'a HeaderMap,
    /// The user's id.
    pub user_id: Option<&'a str>,
}

/// A request too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exceeded {
    /// Whole seconds until one passes, at least 1.
    pub retry_after_seconds: u64,
}

/// What the client is told of its limits, whatever becomes of its request.
#[derive(Debug, Default)]
pub struct Told<'a> {
    policy: Option<&'a HeaderValue>,
    standing: BytesMut,
}

/// One rate that a request is counted by.
#[derive(Clone, Copy)]
struct Step<'a> {
    rate: &'a Rate,
    key: NonZeroU64,
    arrival_ns: u64,
}

type Steps<'a> = [Option<Step<'a>>; bounds::MAX_RATES_OF_ROUTE];

/// What a hash is made of.
#[derive(Hash)]
enum Key<'a> {
    User(&'a str),
    Network4(u32),
    Network6(u64),
    Field(&'a [u8]),
}

impl Rates {
    /// The limits of a configuration. Nothing is counted yet.
    pub fn new(config: &Config, clock: &Clock) -> Self {
        Self::of(config, &[], RandomState::new(), Stopwatch::start(clock))
    }

    /// The limits of another configuration. A limit that is in both, with the same rates by the same key, goes on with
    /// what it has counted.
    #[must_use]
    pub fn renewed(&self, config: &Config) -> Self {
        Self::of(config, &self.limits, self.hasher.clone(), self.watch.clone())
    }

    fn of(config: &Config, before: &[Arc<Limit>], hasher: RandomState, watch: Stopwatch) -> Self {
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
        }
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

    /// Counts a request by those limits of a plan whose turn it is.
    ///
    /// # Errors
    ///
    /// [`Exceeded`] when one of their rates lets it not pass; then none has counted it.
    pub fn count<'a>(
        &self,
        plan: &'a Plan,
        turn: Turn,
        sender: Sender<'_>,
        told: &mut Told<'a>,
    ) -> Result<(), Exceeded> {
        if plan.is_told {
            told.policy = Some(&plan.policy);
        }
        let mut steps = self.steps(plan, turn, sender);
        if steps.iter().all(Option::is_none) {
            return Ok(());
        }
        let now_ns = self.watch.now_ns();
        let passed = take_all(&mut steps, now_ns);
        if passed && !plan.is_told {
            return Ok(());
        }
        told.policy = Some(&plan.policy);
        let mut retry_after_ns = 0;
        for step in steps.iter().flatten() {
            let standing = step.rate.rule.standing(step.arrival_ns, now_ns);
            if !passed && standing.left == 0 {
                step.rate.refused.fetch_add(1, Ordering::Relaxed);
            }
            retry_after_ns = standing.next_ns.max(retry_after_ns);
            told.add(&step.rate.label, standing);
        }
        if passed { Ok(()) } else { Err(Exceeded { retry_after_seconds: seconds(retry_after_ns).max(1) }) }
    }

    fn steps(&self, plan: &Plan, turn: Turn, sender: Sender<'_>) -> Steps<'_> {
        let mut steps = [None; bounds::MAX_RATES_OF_ROUTE];
        let mut free = steps.iter_mut();
        for limit in plan.limits.iter().filter_map(|index| self.limits.get(*index)) {
            if !turn.is_for(&limit.settings.key) {
                continue;
            }
            let key = self.key(&limit.settings.key, sender);
            for (rate, step) in limit.rates.iter().zip(&mut free) {
                *step = Some(Step { rate, key, arrival_ns: 0 });
            }
        }
        steps
    }

    fn key(&self, key: &LimitKey, sender: Sender<'_>) -> NonZeroU64 {
        let network = || match sender.client.to_canonical() {
            IpAddr::V4(address) => Key::Network4(address.to_bits()),
            IpAddr::V6(address) => Key::Network6(u64::try_from(address.to_bits() >> 64).unwrap_or(0)),
        };
        let key = match key {
            LimitKey::Network => network(),
            LimitKey::User => sender.user_id.map_or_else(network, Key::User),
            // Of several lines the first one counts: a client that chooses its value may as well send another one.
            LimitKey::Header(name) => {
                sender.headers.get(name).map_or_else(network, |value| Key::Field(value.as_bytes()))
            }
        };
        NonZeroU64::new(self.hasher.hash_one(key)).unwrap_or(NonZeroU64::MIN)
    }
}

/// Takes one from every rate, or from none. Where there are several, all are looked at first, so that who is refused
/// costs the others nothing.
fn take_all(steps: &mut Steps<'_>, now_ns: u64) -> bool {
    let several = steps.iter().flatten().nth(1).is_some();
    if several {
        let mut all = true;
        for step in steps.iter_mut().flatten() {
            all &= step.look(now_ns);
        }
        if !all {
            return false;
        }
    }
    let mut taken = 0;
    for step in steps.iter_mut().flatten() {
        if !step.take(now_ns) {
            break;
        }
        taken += 1;
    }
    if steps.iter().flatten().count() == taken {
        return true;
    }
    // Another thread took the last one in between.
    for (number, step) in steps.iter_mut().flatten().enumerate() {
        if number < taken {
            step.give_back();
        } else {
            step.look(now_ns);
        }
    }
    false
}

impl Step<'_> {
    /// Whether one could be taken.
    fn look(&mut self, now_ns: u64) -> bool {
        self.arrival_ns = self.rate.table.arrival_ns(self.key);
        self.rate.rule.after_one_more(self.arrival_ns, now_ns).is_some()
    }

    fn take(&mut self, now_ns: u64) -> bool {
        let rule = self.rate.rule;
        let taken = self.rate.table.advance(self.key, |arrival_ns| rule.after_one_more(arrival_ns, now_ns));
        match taken {
            Some(arrival_ns) => self.arrival_ns = arrival_ns,
            None => self.arrival_ns = self.rate.table.arrival_ns(self.key),
        }
        taken.is_some()
    }

    fn give_back(&mut self) {
        let before_ns = self.rate.rule.without_the_last(self.arrival_ns);
        self.rate.table.take_back(self.key, self.arrival_ns, before_ns);
        self.arrival_ns = before_ns;
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
            rule: Rule::new(rate),
            table: Table::new(),
            refused: AtomicU64::new(0),
        });
        Self { settings: limit.clone(), rates: rates.collect() }
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
        Some(Self { limits: indices.into(), policy, is_told })
    }
}

impl Told<'_> {
    /// Adds how a rate stands: `"per-user";r=49;t=1`. While something is left, `t` says when all of it is back, and
    /// otherwise when one request may come, as `Retry-After` does.
    fn add(&mut self, label: &str, standing: Standing) {
        let separator = if self.standing.is_empty() { "" } else { ", " };
        let (left, until_ns) = match standing.left {
            0 => (0, standing.next_ns),
            left => (left, standing.whole_ns),
        };
        // Writing into memory cannot fail.
        let _written = write!(self.standing, "{separator}{label};r={left};t={}", seconds(until_ns));
    }

    /// Adds the fields to an answer. What an upstream tells of its own limits stays beside them.
    pub fn write(self, headers: &mut HeaderMap) {
        let Some(policy) = self.policy else { return };
        headers.append(RATELIMIT_POLICY, policy.clone());
        if let Ok(standing) = HeaderValue::from_maybe_shared(self.standing.freeze())
            && !standing.is_empty()
        {
            headers.append(RATELIMIT, standing);
        }
    }
}

/// Whole seconds, rounded up, so that who waits as long is not too early.
fn seconds(ns: u64) -> u64 {
    ns.div_ceil(1_000_000_000)
}

#[cfg(test)]
mod tests;
