//! The immutable view that every data-plane thread works from.

use std::fmt;
use std::sync::Arc;

use crate::base::clock::Clock;
use crate::config::Config;
use crate::endpoints::TokenRoutes;
use crate::identity::Firewall;
use crate::keys::{KeyError, KeyRing};
use crate::limits::Lockout;
use crate::limits::rates::Rates;
use crate::net::tls::TlsServer;
use crate::routing::RouteTable;
use crate::sessions::Sessions;
use crate::store::{Store, StoreError};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::sink::Sink;
use crate::telemetry::trace::SpanSink;
use crate::tokens::{Issuer, Verifier};
use crate::upstream::SharedUpstream;
use crate::users::{Directory, UsersOpenError};

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
    /// What is removed from requests.
    pub firewall: Arc<Firewall>,
    /// TLS towards clients.
    pub tls: Option<TlsServer>,
    /// The port of HTTPS.
    pub https_port: u16,
    /// The keys.
    pub ring: Arc<KeyRing>,
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
    /// What data-plane threads count in; `None` where nobody can ask.
    pub metrics: Option<Arc<Metrics>>,
    /// Where spans go; `None` where nobody wants any.
    pub spans: Option<SpanSink>,
}

/// What was opened already when a snapshot is put together.
pub struct Opened {
    /// Where users, sessions and lockouts are.
    pub store: Store,
    /// The upstreams, in the order of the configuration.
    pub upstreams: Vec<Arc<SharedUpstream>>,
    /// What is removed from requests.
    pub firewall: Arc<Firewall>,
    /// TLS towards clients.
    pub tls: Option<TlsServer>,
    /// The port of HTTPS.
    pub https_port: u16,
    /// What data-plane threads count in; `None` where nobody can ask.
    pub metrics: Option<Arc<Metrics>>,
    /// Where spans go; `None` where nobody wants any.
    pub spans: Option<SpanSink>,
}

/// Why a snapshot cannot be put together.
#[derive(Debug)]
pub enum AssemblyError {
    /// The store cannot be read.
    Store(StoreError),
    /// The users cannot be read.
    Users(UsersOpenError),
    /// A key cannot be loaded or made.
    Keys(KeyError),
}

impl fmt::Display for AssemblyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(error) => error.fmt(f),
            Self::Users(error) => error.fmt(f),
            Self::Keys(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for AssemblyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Store(error) => Some(error),
            Self::Users(error) => Some(error),
            Self::Keys(error) => Some(error),
        }
    }
}

impl Snapshot {
    /// Loads the users, the keys and what is revoked, and puts everything together.
    ///
    /// # Errors
    ///
    /// [`AssemblyError`].
    pub async fn assemble(
        config: Config,
        clock: Clock,
        sink: Sink,
        opened: Opened,
    ) -> Result<Self, AssemblyError> {
        let Opened { store, upstreams, firewall, tls, https_port, metrics, spans } = opened;
        let directory = Directory::open(&config.users, Some(&store), clock.clone()).await;
        let directory = directory.map_err(AssemblyError::Users)?;
        let sessions = Sessions::open(store.clone(), clock.clone(), &config.tokens).await;
        let sessions = sessions.map_err(AssemblyError::Store)?;
        let ring = Arc::new(KeyRing::load(&config.tokens, &clock).map_err(AssemblyError::Keys)?);
        let verifier = Verifier::new(Arc::clone(&ring), &config.tokens, clock.clone());
        let issuer = Issuer::new(Arc::clone(&ring), &config.tokens);
        let people = Arc::new(directory.clone());
        let lockout = Lockout::open(&config.users, Some(store), clock.clone()).await;
        let lockout = lockout.map_err(AssemblyError::Store)?;
        let (recorded, checked) = (sessions.clone(), verifier.clone());
        let token_routes =
            TokenRoutes::new(people, recorded, lockout, issuer, checked, Arc::clone(&ring), &config.tokens);
        Ok(Self {
            routes: Arc::new(RouteTable::new(&config)),
            rates: Arc::new(Rates::new(&config, &clock)),
            config,
            upstreams,
            firewall,
            tls,
            https_port,
            verifier,
            directory,
            sessions,
            token_routes,
            ring,
            clock,
            sink,
            metrics,
            spans,
        })
    }
}
