//! What a thread makes of one configuration. A request takes it once, at its beginning, and keeps it to its end.

use std::rc::Rc;
use std::sync::Arc;

use super::Thread;
use crate::authn::Authenticator;
use crate::base::ids::RandomnessUnavailable;
use crate::base::reason::Reason;
use crate::config::{CertificatePart, Server};
use crate::endpoints::{Endpoint, TokenRoutes};
use crate::http::problem::Refusal;
use crate::identity::Sealer;
use crate::limits::rates::Rates;
use crate::net::tls::TlsServer;
use crate::routing::{Route, RouteTable};
use crate::snapshot::{Authentication, Snapshot};
use crate::telemetry::access::{AccessLog, Purpose};
use crate::telemetry::metrics::Meter;
use crate::telemetry::trace::Tracer;
use crate::upstream::Upstream;

/// What belongs to one configuration. Nothing in it is shared between threads but what is immutable, and the counts of
/// requests.
pub struct Generation {
    /// The routes.
    pub routes: Arc<RouteTable>,
    /// How many requests may come.
    pub rates: Arc<Rates>,
    /// The token routes, served by the control plane.
    pub token_routes: TokenRoutes,
    /// Who is calling.
    pub authenticator: Rc<Authenticator>,
    /// What is removed from requests, and what is set.
    pub sealer: Sealer,
    /// The realm in challenges.
    pub realm: String,
    /// `[server]`
    pub server: Server,
    /// `[tls]`
    pub tls: Option<TlsServer>,
    /// By which part of their certificates clients are known.
    pub certified_by: Option<CertificatePart>,
    /// How long a stream may outlive its token, in milliseconds.
    pub stream_grace_ms: i64,
    /// What the authenticator was made of.
    authentication: Arc<Authentication>,
    /// In the order of the configuration.
    pub(super) upstreams: Vec<Rc<Upstream>>,
    /// `None` where requests are neither logged nor remembered.
    pub(super) access: Option<(Rc<AccessLog>, Purpose)>,
    /// `None` where nobody can ask what was counted.
    pub(super) meter: Option<Rc<Meter>>,
    /// `None` where nobody records traces.
    pub(super) tracer: Option<Rc<Tracer>>,
    pub(super) server_timing: bool,
}

impl Generation {
    /// A thread's part of a configuration. What did not change goes on as it is in the part before: connections to
    /// upstreams, and what is remembered of tokens.
    ///
    /// # Errors
    ///
    /// When there is no randomness.
    pub(super) fn new(
        snapshot: &Snapshot,
        thread: &Thread,
        before: Option<&Self>,
    ) -> Result<Self, RandomnessUnavailable> {
        let upstreams = snapshot.upstreams.iter().map(|shared| {
            let mut known = before.iter().flat_map(|before| &before.upstreams);
            let same = known.find(|upstream| upstream.is_of(shared)).map(Rc::clone);
            same.map_or_else(|| Upstream::new(shared, &thread.clock).map(Rc::new), Ok)
        });
        let upstreams = upstreams.collect::<Result<_, _>>()?;
        let authentication = Arc::clone(&snapshot.authentication);
        let same = before.filter(|before| Arc::ptr_eq(&before.authentication, &authentication));
        let authenticator = match same {
            Some(before) => Rc::clone(&before.authenticator),
            None => Rc::new(Authenticator::new(
                authentication.verifier.clone(),
                authentication.directory.clone(),
                authentication.sessions.clone(),
                thread.control.clone(),
                snapshot.clock.clone(),
                Arc::clone(&authentication.asked),
            )?),
        };
        let config = &snapshot.config;
        // Only who has the admin token may ask for refusals.
        let remembers = config.server.admin_token.is_some() && thread.access.can_remember();
        let purpose = Purpose::of(config.log.access, remembers);
        Ok(Self {
            routes: Arc::clone(&snapshot.routes),
            rates: Arc::clone(&snapshot.rates),
            token_routes: snapshot.token_routes.clone(),
            authenticator,
            sealer: Sealer {
                firewall: Arc::clone(&snapshot.firewall),
                plans: Arc::clone(&snapshot.plans),
                asserter: Arc::clone(&snapshot.asserter),
                control: thread.control.clone(),
                clock: snapshot.clock.clone(),
            },
            realm: config.tokens.realm.clone(),
            server: config.server.clone(),
            tls: snapshot.tls.clone(),
            certified_by: config.tls.as_ref().and_then(|tls| tls.client_auth.as_ref()?.user),
            stream_grace_ms: i64::try_from(config.tokens.stream_grace.as_millis()).unwrap_or(i64::MAX),
            authentication,
            upstreams,
            access: purpose.map(|purpose| (Rc::clone(&thread.access), purpose)),
            meter: thread.counts.clone().map(|counts| {
                let endpoints = Endpoint::ALL.map(Endpoint::name);
                Rc::new(Meter::new(counts, config, &endpoints))
            }),
            tracer: thread.tracer.clone(),
            server_timing: config.log.server_timing,
        })
    }

    /// The upstream of a route.
    ///
    /// # Errors
    ///
    /// A refusal when the route names none, which no checked configuration does.
    pub fn upstream(&self, route: &Route) -> Result<&Upstream, Refusal> {
        let missing = || Refusal::new(Reason::InternalError, "The route has no upstream.");
        let upstream = route.action.upstream().and_then(|upstream| self.upstreams.get(upstream));
        upstream.map(Rc::as_ref).ok_or_else(missing)
    }
}
