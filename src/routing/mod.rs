//! Which route a request takes, by host, path and method.
//!
//! The most specific route wins: the exact host, then the longest wildcard, then any host; on one host the longer path,
//! segment by segment literal before parameter, an exact end before a prefix; and a route that names the method before
//! one that takes any; then more conditions on header fields before fewer. The order in the configuration never matters.
//!
//! A path that is odd (it has an encoded slash, a semicolon or an empty segment) takes a route only if that route accepts
//! it, and only if all that it may mean to anybody else leads to the same route: what is data to an accepting route can never
//! be the path of another one.

mod changes;
mod cors;
mod policy;
mod trie;

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::sync::Arc;

use http::Method;

pub use self::changes::{AnswerRules, HeaderChanges};
use self::cors::Grant;
pub use self::policy::{AskedClaims, ClaimPlace, ClaimTerm, HeldClaims, MatchTerm, Policy, Terms};
use self::trie::{Asked, Found, PathTrie};
use crate::base::field_list::FieldList;
use crate::base::path::{self, Oddities, PathFault};
use crate::base::pattern::HostPattern;
use crate::config::{Action, Auth, Config, Cors};
use crate::request::{Exchange, IntakeError, NormalPath};

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
    /// What becomes of a request that may pass.
    pub action: Action,
    /// The largest request body, in bytes; `None` is no limit.
    pub max_body: Option<NonZeroU64>,
    /// How long the head of an answer may take, in milliseconds.
    pub timeout_ms: u64,
    /// Where there are limits of how many requests may come: the index of the route in the configuration.
    pub limit: Option<usize>,
    /// What its paths may have that is refused elsewhere.
    pub accept: Oddities,
    /// What becomes of the fields of a request, after it was sealed.
    pub request_headers: Option<Box<HeaderChanges>>,
    /// What becomes of the fields of an answer.
    pub response_headers: Option<Box<HeaderChanges>>,
    /// Which scripts of other origins may use it.
    pub cors: Option<Box<Cors>>,
}

impl Route {
    /// The path that an upstream sees; `None` when it is the client's.
    ///
    /// # Errors
    ///
    /// An [`IntakeError`] when no path in normal form comes of it.
    pub fn forwarded(&self, path: &NormalPath) -> Result<Option<NormalPath>, IntakeError> {
        let Action::Forward(forward) = &self.action else { return Ok(None) };
        forward.path.apply(path.path()).map(|changed| path.with_path(&changed)).transpose()
    }
}

/// Every route, compiled: finding one costs the same with ten as with ten thousand.
#[derive(Debug, Default)]
pub struct RouteTable {
    routes: Vec<Route>,
    asked: Arc<AskedClaims>,
    exact: HashMap<Box<str>, PathTrie, foldhash::fast::RandomState>,
    suffixes: HashMap<Box<str>, PathTrie, foldhash::fast::RandomState>,
    any: PathTrie,
    /// What some route accepts.
    accept: Oddities,
    /// The prefix of the token routes, which stand before all others.
    token_path: Box<str>,
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
    /// Its path has more than one reading, and no route accepts it in all of them.
    PathAmbiguous(PathFault),
}

impl RouteTable {
    /// Compiles the routes of a configuration.
    pub fn new(config: &Config) -> Self {
        let mut table = Self { token_path: config.tokens.path.as_str().into(), ..Self::default() };
        let mut asked = AskedClaims::default();
        for (index, route) in config.routes.iter().enumerate() {
            let upstream = route.action.upstream().and_then(|upstream| config.upstreams.get(upstream));
            let upstream_timeout = upstream.map(|upstream| upstream.response_timeout);
            let timeout = route.timeout.or(upstream_timeout).unwrap_or_default();
            table.routes.push(Route {
                name: route.name.as_str().into(),
                place: index,
                auth: route.auth,
                policy: Policy::compile(&route.policy, &route.path, &config.tokens.user_id_claim, &mut asked),
                is_enforced: policy::is_enforced(&route.policy),
                action: route.action.clone(),
                max_body: route.max_body.unwrap_or(config.server.limits.max_body),
                timeout_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
                limit: (!route.limits.is_empty()).then_some(index),
                accept: route.accept,
                request_headers: route.request_headers.as_ref().map(HeaderChanges::of_requests).map(Box::new),
                response_headers: route
                    .response_headers
                    .as_ref()
                    .map(HeaderChanges::of_answers)
                    .map(Box::new),
                cors: route.cors.clone().map(Box::new),
            });
            table.accept = table.accept.with(route.accept);
            let trie = match &route.host {
                HostPattern::Exact(name) => table.exact.entry(name.clone()).or_default(),
                HostPattern::Suffix(suffix) => table.suffixes.entry(suffix.clone()).or_default(),
                HostPattern::Any => &mut table.any,
            };
            trie.insert(&route.path, route.methods.as_deref(), &route.headers, index);
        }
        for path in config.upstreams.iter().flat_map(|upstream| upstream.identity.claims()) {
            asked.place(path, &config.tokens.user_id_claim);
        }
        table.asked = Arc::new(asked);
        table
    }

    /// The claims that any route, or what any upstream is told, asks for.
    pub fn asked_claims(&self) -> Arc<AskedClaims> {
        Arc::clone(&self.asked)
    }

    /// Whether any route is for some hosts only, so that what a request may depends on its host.
    pub fn names_hosts(&self) -> bool {
        !self.exact.is_empty() || !self.suffixes.is_empty()
    }

    /// What paths may have for the sake of some route.
    pub fn accepted(&self) -> Oddities {
        self.accept
    }

    /// Finds the route of a request.
    ///
    /// # Errors
    ///
    /// [`RoutingError`] when there is none.
    pub fn route(&self, exchange: Exchange) -> Result<Routed<'_>, RoutingError> {
        let asked = Asked { method: exchange.method(), headers: exchange.headers() };
        let route = self.route_of(&exchange, asked)?;
        Ok(Routed { exchange, route })
    }

    /// The route that a preflight asks for, and the fields of its answer. Every other request is nothing of the kind, nor is
    /// one for a route without `cors`. Which values the later request will have is not known, so routes with conditions on
    /// them are not found.
    pub fn preflight(&self, exchange: &Exchange) -> Option<(&Route, FieldList)> {
        let method = cors::asked_method(exchange.method(), exchange.headers())?;
        let asked = Asked { method: &method, headers: &FieldList::new() };
        let route = self.route_of(exchange, asked).ok()?;
        let cors = route.cors.as_deref()?;
        let headers = exchange.headers();
        Some((route, Grant::of(cors, headers).preflight(headers)))
    }

    fn route_of(&self, exchange: &Exchange, asked: Asked<'_>) -> Result<&Route, RoutingError> {
        // Where no route names a host, none is looked at.
        let host = if self.names_hosts() { exchange.host().name() } else { "" };
        let path = exchange.path();
        let index = match path.oddities().fault() {
            None => self.position(host, path.path(), asked)?,
            Some(fault) => self.position_of_odd(host, path, asked, fault)?,
        };
        self.routes.get(index).ok_or(RoutingError::NotFound)
    }

    /// Finds the route of a host, a path in normal form and a method, for a request without fields that a route asks for.
    ///
    /// # Errors
    ///
    /// [`RoutingError`] when there is none.
    pub fn find(&self, host: &str, path: &str, method: &Method) -> Result<&Route, RoutingError> {
        self.find_with(host, path, method, &FieldList::new())
    }

    /// The same for a request with these fields.
    ///
    /// # Errors
    ///
    /// [`RoutingError`] when there is none.
    pub fn find_with(
        &self,
        host: &str,
        path: &str,
        method: &Method,
        headers: &FieldList,
    ) -> Result<&Route, RoutingError> {
        let index = self.position(host, path, Asked { method, headers })?;
        self.routes.get(index).ok_or(RoutingError::NotFound)
    }

    fn position(&self, host: &str, path: &str, asked: Asked<'_>) -> Result<usize, RoutingError> {
        let mut allowed = Vec::new();
        for trie in self.tries(host) {
            match trie.find(path, asked) {
                Found::Route(index) => return Ok(index),
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

    /// The one route of all readings of a path that is odd.
    fn position_of_odd(
        &self,
        host: &str,
        path: &NormalPath,
        asked: Asked<'_>,
        fault: PathFault,
    ) -> Result<usize, RoutingError> {
        const AMBIGUOUS: fn(PathFault) -> RoutingError = RoutingError::PathAmbiguous;
        let readings = path::readings(path.path()).map_err(AMBIGUOUS)?;
        let mut found = None;
        for reading in readings {
            let index = self.position(host, &reading, asked).map_err(|_| AMBIGUOUS(fault))?;
            if self.is_of_gateway(&reading) || *found.get_or_insert(index) != index {
                return Err(AMBIGUOUS(fault));
            }
        }
        let accepts = |index: &usize| {
            self.routes.get(*index).is_some_and(|route| route.accept.has_all(path.oddities()))
        };
        found.filter(accepts).ok_or(AMBIGUOUS(fault))
    }

    /// Whether a path is one of those that the gateway answers itself.
    fn is_of_gateway(&self, path: &str) -> bool {
        let rest = path.strip_prefix(&*self.token_path);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) || path.starts_with("/.well-known/")
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
