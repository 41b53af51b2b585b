//! The immutable view that every data-plane thread works from.

use std::sync::Arc;

use crate::base::clock::Clock;
use crate::config::Config;
use crate::endpoints::TokenRoutes;
use crate::limits::rates::Rates;
use crate::net::tls::TlsServer;
use crate::routing::RouteTable;
use crate::sessions::Sessions;
use crate::telemetry::sink::Sink;
use crate::tokens::Verifier;
use crate::upstream::SharedUpstream;
use crate::users::Directory;

/// A configuration and what was made of it. It never changes.
pub struct Snapshot {
    /// The configuration.
    pub config: Config,
    /// The compiled routes.
    pub routes: Arc<RouteTable>,
    /// How many requests may come.
    pub rates: Arc<Rates>,
    /// The upstreams, in the order of the configuration.
    pub upstreams: Vec<Arc<SharedUpstream>>,
    /// TLS towards clients.
    pub tls: Option<TlsServer>,
    /// The port of HTTPS.
    pub https_port: u16,
    /// Checks tokens.
    pub verifier: Verifier,
    /// Looks users up.
    pub directory: Directory,
    /// Knows what is revoked.
    pub sessions: Sessions,
    /// The token routes.
    pub token_routes: TokenRoutes,
    /// The time.
    pub clock: Clock,
    /// Where log lines go.
    pub sink: Sink,
}
