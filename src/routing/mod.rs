//! Which route a request takes, by host, path and method.
//!
//! The most specific route wins: the exact host, then the longest wildcard, then any host; on one host the longer path,
//! segment by segment literal before parameter, an exact end before a prefix; and a route that names the method before
//! one that takes any. The order in the configuration never matters.

mod policy;
mod trie;

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::sync::Arc;

use http::Method;

pub use self::policy::{AskedClaims, ClaimPlace, ClaimTerm, HeldClaims, MatchTerm, Policy, Terms};
use self::trie::{Found, PathTrie};
use crate::base::pattern::HostPattern;
use crate::config::{Auth, Config};
use crate::request::Exchange;

/// A route, as the data path needs it.
#[derive(Clone, Debug)]
pub struct Route {
    /// Its name, for logs.
    pub name: Box<str>,
    /// Its place in the configuration.
    pub place: usize,
    /// Who may pass.
    pub auth: Auth,
    /// Who of those who are known may pass; `None` is everybody.
    pub policy: Option<Box<Policy>>,
    /// Whether a request is refused for who sent it; otherwise it passes, and what it would have been refused for is told.
    pub is_enforced: bool,
    /// Index of its upstream.
    pub upstream: usize,
    /// The largest request body, in bytes; `None` is no limit.
    pub max_body: Option<NonZeroU64>,
    /// How long the head of an answer may take, in milliseconds.
    pub timeout_ms: u64,
    /// Where there are limits of how many requests may come: the index of the route in the configuration.
    pub limit: Option<usize>,
}

/// Every route, compiled: finding one costs the same with ten as with ten thousand.
#[derive(Debug, Default)]
pub struct RouteTable {
    routes: Vec<Route>,
    asked: Arc<AskedClaims>,
    exact: HashMap<Box<str>, PathTrie, foldhash::fast::RandomState>,
    suffixes: HashMap<Box<str>, PathTrie, foldhash::fast::RandomState>,
    any: PathTrie,
}

/// A request with the route that it takes. Only [`RouteTable::route`] makes one.
#[derive(Debug)]
pub struct Routed<'a> {
    exchange: Exchange,
    route: &'a Route,
}

impl<'a> Routed<'a> {
    /// The request.
    pub fn exchange(&self) -> &Exchange {
        &self.exchange
    }

    /// The route.
    pub fn route(&self) -> &'a Route {
        self.route
    }

    /// Takes it apart, for the stages that follow.
    pub fn into_exchange(self) -> Exchange {
        self.exchange
    }
}

/// Why a request has no route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoutingError {
    /// No route has this host and path.
    NotFound,
    /// Some do, but with other methods: these, in order.
    MethodNotAllowed(Vec<Method>),
}

impl RouteTable {
    /// Compiles the routes of a configuration.
    pub fn new(config: &Config) -> Self {
        let mut table = Self::default();
        let mut asked = AskedClaims::default();
        for (index, route) in config.routes.iter().enumerate() {
            let upstream_timeout =
                config.upstreams.get(route.upstream).map(|upstream| upstream.response_timeout);
            let timeout = route.timeout.or(upstream_timeout).unwrap_or_default();
            table.routes.push(Route {
                name: route.name.as_str().into(),
                place: index,
                auth: route.auth,
                policy: Policy::compile(&route.policy, &route.path, &config.tokens.user_id_claim, &mut asked),
                is_enforced: policy::is_enforced(&route.policy),
                upstream: route.upstream,
                max_body: route.max_body.unwrap_or(config.server.limits.max_body),
                timeout_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
                limit: (!route.limits.is_empty()).then_some(index),
            });
            let trie = match &route.host {
                HostPattern::Exact(name) => table.exact.entry(name.clone()).or_default(),
                HostPattern::Suffix(suffix) => table.suffixes.entry(suffix.clone()).or_default(),
                HostPattern::Any => &mut table.any,
            };
            trie.insert(&route.path, route.methods.as_deref(), index);
        }
        table.asked = Arc::new(asked);
        table
    }

    /// The claims that any route asks for.
    pub fn asked_claims(&self) -> Arc<AskedClaims> {
        Arc::clone(&self.asked)
    }

    /// Whether any route is for some hosts only, so that what a request may depends on its host.
    pub fn names_hosts(&self) -> bool {
        !self.exact.is_empty() || !self.suffixes.is_empty()
    }

    /// Finds the route of a request.
    ///
    /// # Errors
    ///
    /// [`RoutingError`] when there is none.
    pub fn route(&self, exchange: Exchange) -> Result<Routed<'_>, RoutingError> {
        let route = self.find(exchange.host().name(), exchange.path().path(), exchange.method())?;
        Ok(Routed { exchange, route })
    }

    /// Finds the route of a host, a path in normal form and a method.
    ///
    /// # Errors
    ///
    /// [`RoutingError`] when there is none.
    pub fn find(&self, host: &str, path: &str, method: &Method) -> Result<&Route, RoutingError> {
        let mut allowed = Vec::new();
        for trie in self.tries(host) {
            match trie.find(path, method) {
                Found::Route(index) => return self.routes.get(index).ok_or(RoutingError::NotFound),
                Found::OtherMethods(methods) => allowed.extend(methods),
                Found::Nothing => {}
            }
        }
        if allowed.is_empty() {
            return Err(RoutingError::NotFound);
        }
        allowed.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
        allowed.dedup();
        Err(RoutingError::MethodNotAllowed(allowed))
    }

    /// The tries that a host looks into, the most specific first.
    fn tries<'a>(&'a self, host: &'a str) -> impl Iterator<Item = &'a PathTrie> {
        let exact = if self.exact.is_empty() { None } else { self.exact.get(host) };
        let dots = if self.suffixes.is_empty() { "" } else { host };
        let wildcards = dots
            .match_indices('.')
            .filter_map(|(dot, _)| host.get(dot..))
            .filter_map(|suffix| self.suffixes.get(suffix));
        exact.into_iter().chain(wildcards).chain(std::iter::once(&self.any))
    }
}

#[cfg(test)]
mod tests;
