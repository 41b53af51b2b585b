//! The immutable view that every data-plane thread works from.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::base::clock::Clock;
use crate::config::{Config, Tokens};
use crate::endpoints::TokenRoutes;
use crate::identity::{Firewall, Plans};
use crate::keys::{KeyError, KeyRing};
use crate::limits::Lockout;
use crate::limits::rates::Rates;
use crate::net::tls::TlsServer;
use crate::routing::{AskedClaims, RouteTable};
use crate::sessions::Sessions;
use crate::store::{Store, StoreError};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::refused::Refusals;
use crate::telemetry::sink::Sink;
use crate::telemetry::trace::SpanSink;
use crate::tokens::{Asserter, Issuer, Verifier};
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
    /// What is set in them.
    pub plans: Arc<Plans>,
    /// Signs statements for upstreams.
    pub asserter: Arc<Asserter>,
    /// TLS towards clients.
    pub tls: Option<TlsServer>,
    /// The port of HTTPS.
    pub https_port: u16,
    /// The keys.
    pub ring: Arc<KeyRing>,
    /// Who is calling. It is the same one as in the snapshot before when the same tokens pass for the same users, so that
    /// what threads remember of tokens still holds.
    pub authentication: Arc<Authentication>,
    /// Counts failed logins.
    pub lockout: Lockout,
    /// Where users, sessions and lockouts are.
    pub store: Store,
    /// The token routes.
    pub token_routes: TokenRoutes,
    /// The time.
    pub clock: Clock,
    /// Where log lines go.
    pub sink: Sink,
    /// What data-plane threads count in; `None` where nobody can ask.
    pub metrics: Option<Arc<Metrics>>,
    /// Where they remember what they have refused; `None` where nobody can ask.
    pub refusals: Option<Arc<Refusals>>,
    /// Where spans go; `None` where nobody wants any.
    pub spans: Option<SpanSink>,
}

/// What a token is checked by.
pub struct Authentication {
    /// Checks tokens.
    pub verifier: Verifier,
    /// Looks users up.
    pub directory: Directory,
    /// Knows what is revoked.
    pub sessions: Sessions,
    /// Which claims of a token are kept.
    pub asked: Arc<AskedClaims>,
}

/// What was opened for the snapshot that follows another one. Where nothing has changed it is what that one has.
pub struct Renewed {
    /// The configuration.
    pub config: Config,
    /// The upstreams, in its order.
    pub upstreams: Vec<Arc<SharedUpstream>>,
    /// What is removed from requests.
    pub firewall: Arc<Firewall>,
    /// TLS towards clients.
    pub tls: Option<TlsServer>,
    /// The keys.
    pub ring: Arc<KeyRing>,
    /// Looks users up.
    pub directory: Directory,
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
    /// Where they remember what they have refused; `None` where nobody can ask.
    pub refusals: Option<Arc<Refusals>>,
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
        let Opened { store, upstreams, firewall, tls, https_port, metrics, refusals, spans } = opened;
        let directory = Directory::open(&config.users, Some(&store), clock.clone()).await;
        let directory = directory.map_err(AssemblyError::Users)?;
        let sessions = Sessions::open(store.clone(), clock.clone(), &config.tokens).await;
        let sessions = sessions.map_err(AssemblyError::Store)?;
        let ring = KeyRing::open(&config.tokens, &store, &clock).await.map_err(AssemblyError::Keys)?;
        let ring = Arc::new(ring);
        let lockout = Lockout::open(&config.users, Some(store.clone()), clock.clone()).await;
        let lockout = lockout.map_err(AssemblyError::Store)?;
        let verifier = Verifier::new(Arc::clone(&ring), &config.tokens, clock.clone());
        let routes = Arc::new(RouteTable::new(&config));
        let asked = routes.asked_claims();
        let plans = Arc::new(Plans::new(&config, &asked));
        let authentication = Arc::new(Authentication { verifier, directory, sessions, asked });
        Ok(Self {
            routes,
            rates: Arc::new(Rates::new(&config, &clock)),
            token_routes: token_routes(&config, &authentication, &ring, &lockout),
            plans,
            asserter: asserter(&config, &ring),
            config,
            upstreams,
            firewall,
            tls,
            https_port,
            ring,
            authentication,
            lockout,
            store,
            clock,
            sink,
            metrics,
            refusals,
            spans,
        })
    }

    /// The same with other keys.
    #[must_use]
    pub fn with_keys(&self, ring: Arc<KeyRing>) -> Self {
        self.followed_by(Renewed {
            config: self.config.clone(),
            upstreams: self.upstreams.clone(),
            firewall: Arc::clone(&self.firewall),
            tls: self.tls.clone(),
            ring,
            directory: self.authentication.directory.clone(),
        })
    }

    /// The snapshot that follows this one. What both have in common goes on: what is counted, what is revoked, who is
    /// locked.
    #[must_use]
    pub fn followed_by(&self, renewed: Renewed) -> Self {
        let Renewed { config, upstreams, firewall, tls, ring, directory } = renewed;
        let (clock, before) = (&self.clock, &self.authentication);
        let routes = Arc::new(RouteTable::new(&config));
        let asked = routes.asked_claims();
        let plans = Arc::new(Plans::new(&config, &asked));
        let same = Arc::ptr_eq(&ring, &self.ring)
            && asked == before.asked
            && directory.is_same(&before.directory)
            && deciding(&config.tokens) == deciding(&self.config.tokens);
        let authentication = if same {
            Arc::clone(before)
        } else {
            let verifier = Verifier::new(Arc::clone(&ring), &config.tokens, clock.clone());
            let sessions = before.sessions.with_rules(&config.tokens);
            Arc::new(Authentication { verifier, directory, sessions, asked })
        };
        Self {
            routes,
            rates: Arc::new(self.rates.renewed(&config)),
            token_routes: token_routes(&config, &authentication, &ring, &self.lockout),
            plans,
            asserter: asserter(&config, &ring),
            config,
            upstreams,
            firewall,
            tls,
            https_port: self.https_port,
            ring,
            authentication,
            lockout: self.lockout.clone(),
            store: self.store.clone(),
            clock: clock.clone(),
            sink: self.sink.clone(),
            metrics: self.metrics.clone(),
            refusals: self.refusals.clone(),
            spans: self.spans.clone(),
        }
    }
}

/// What of `[tokens]` decides which tokens pass, what they bring, and how long they live; not where they are given out.
fn deciding(tokens: &Tokens) -> Tokens {
    Tokens {
        path: String::new(),
        realm: String::new(),
        stream_grace: Duration::ZERO,
        key_rotation_delay: Duration::ZERO,
        limits: Vec::new(),
        ..tokens.clone()
    }
}

fn asserter(config: &Config, ring: &Arc<KeyRing>) -> Arc<Asserter> {
    Arc::new(Asserter::new(Arc::clone(ring), &config.tokens))
}

fn token_routes(
    config: &Config,
    authentication: &Authentication,
    ring: &Arc<KeyRing>,
    lockout: &Lockout,
) -> TokenRoutes {
    let Authentication { verifier, directory, sessions, asked: _ } = authentication;
    let issuer = Issuer::new(Arc::clone(ring), &config.tokens);
    let people = Arc::new(directory.clone());
    let (sessions, verifier) = (sessions.clone(), verifier.clone());
    TokenRoutes::new(people, sessions, lockout.clone(), issuer, verifier, Arc::clone(ring), &config.tokens)
}
