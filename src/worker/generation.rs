//! What a thread makes of one configuration. A request takes it once, at its beginning, and keeps it to its end.

use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderValue, Request};

use super::Thread;
use crate::authn::Authenticator;
use crate::base::ids::RandomnessUnavailable;
use crate::base::reason::Reason;
use crate::config::{CertificatePart, Server};
use crate::connection::ClientConnection;
use crate::endpoints::TokenRoutes;
use crate::http::incoming::Incoming;
use crate::http::problem::Refusal;
use crate::identity::Sealer;
use crate::limits::rates::Rates;
use crate::net::tls::TlsServer;
use crate::routing::{Route, RouteTable};
use crate::snapshot::{Authentication, Snapshot};
use crate::telemetry::access::{AccessLog, Record};
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
    /// `None` where requests are not logged.
    access: Option<Rc<AccessLog>>,
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
            access: config.log.access.then(|| Rc::clone(&thread.access)),
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

    /// Begins the access record of a request, if there is an access log.
    pub fn begin_record(
        &self,
        connection: &ClientConnection,
        request: &Request<Incoming>,
        id: &HeaderValue,
    ) -> Option<Box<Record>> {
        let mut record = self.access.as_ref()?.begin();
        record.request_id = String::from_utf8_lossy(id.as_bytes()).into_owned();
        record.client = Some(connection.peer.address());
        record.method = request.method().to_string();
        request.uri().path().clone_into(&mut record.path);
        Some(record)
    }

    /// Begins the access record of a message that never became a request.
    pub fn begin_last_record(&self) -> Option<Box<Record>> {
        self.access.as_ref().map(AccessLog::begin)
    }
}
