//! One data-plane thread: its listeners, connections, pools and memory. A request never leaves it.

mod accept;

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use crate::http::incoming::Incoming;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use http::{HeaderValue, Request};
use tokio::net::TcpListener;
use tokio::runtime::{Handle, LocalOptions};
use tokio::sync::watch;

use crate::authn::Authenticator;
use crate::base::bounds;
use crate::base::clock::Clock;
use crate::base::ids::{RandomnessUnavailable, RequestIds};
use crate::base::reason::Reason;
use crate::config::{CertificatePart, Server};
use crate::connection::{ClientConnection, Purpose};
use crate::endpoints::{Endpoint, TokenRoutes};
use crate::http::date::DateLine;
use crate::http::problem::Refusal;
use crate::identity::Firewall;
use crate::limits::rates::Rates;
use crate::net::crowd::{Crowd, TurnedAway};
use crate::net::deadline::{Progress, TickClock};
use crate::net::guarded::Scratch;
use crate::net::peer::Trust;
use crate::net::tls::TlsServer;
use crate::net::watchlist::Watchlist;
use crate::request::Exchange;
use crate::routing::{Route, RouteTable};
use crate::snapshot::Snapshot;
use crate::streams::Streams;
use crate::telemetry::access::{AccessLog, Record};
use crate::telemetry::account::{Account, Needs};
use crate::telemetry::metrics::Meter;
use crate::telemetry::trace::{self, Facts, Say, Tracer};
use crate::upstream::{Upstream, UpstreamError};

/// How far the gateway has come in stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopping {
    /// It runs.
    No,
    /// No new connections; requests in flight are finished.
    Draining,
    /// Everything ends now.
    Now,
}

/// What a data-plane thread works with. Nothing in it is shared but what is immutable, and the counts of requests.
pub struct Worker {
    /// The routes.
    pub routes: Arc<RouteTable>,
    /// How many requests may come.
    pub rates: Arc<Rates>,
    /// The token routes, served by the control plane.
    pub token_routes: TokenRoutes,
    /// Who is calling.
    pub authenticator: Authenticator,
    /// What is removed from requests.
    pub firewall: Arc<Firewall>,
    /// Where the control plane runs.
    pub control: Handle,
    /// The realm in challenges.
    pub realm: String,
    /// `[server]`
    pub server: Server,
    /// `[tls]`
    pub tls: Option<TlsServer>,
    /// By which part of their certificates clients are known.
    pub certified_by: Option<CertificatePart>,
    /// Where `http_redirect` sends to: the port of HTTPS.
    pub https_port: u16,
    upstreams: Vec<Upstream>,
    ids: RefCell<RequestIds>,
    access: Option<Rc<AccessLog>>,
    /// What it counts with; nobody can ask without an admin listener.
    meter: Option<Rc<Meter>>,
    tracer: Option<Rc<Tracer>>,
    /// Whether answers say how long they took.
    server_timing: bool,
    clock: Rc<TickClock>,
    watchlist: Watchlist,
    streams: Streams,
    scratch: Scratch,
    date: DateLine,
    /// Client connections of the whole process.
    connections: Arc<AtomicUsize>,
    /// Client connections of each network, of the whole process.
    pub crowd: Arc<Crowd>,
    /// Connections that this thread has turned away for their network.
    pub turned_away: TurnedAway,
    /// Client connections of this thread.
    own_connections: Cell<usize>,
    stopping: Cell<bool>,
}

/// What a thread is given to begin with.
pub struct Parts {
    /// The immutable view of the configuration and what was made of it.
    pub snapshot: Arc<Snapshot>,
    /// The listeners of this thread, each with what it is for.
    pub listeners: Vec<(std::net::TcpListener, Purpose)>,
    /// Where the control plane runs.
    pub control: Handle,
    /// Client connections of the whole process.
    pub connections: Arc<AtomicUsize>,
    /// Client connections of each network.
    pub crowd: Arc<Crowd>,
    /// Tells when to stop.
    pub stopping: watch::Receiver<Stopping>,
}

/// Runs a data-plane thread until it is told to stop. `ready` is called once it serves.
///
/// # Errors
///
/// When the thread cannot begin: no runtime, no listener, no randomness. When it cannot go on, because what accepts
/// clients or looks at deadlines has failed.
pub fn run(parts: Parts, ready: impl FnOnce()) -> io::Result<()> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_io().enable_time().build_local(LocalOptions::default())?;
    let outcome = runtime.block_on(async move {
        let Parts { snapshot, listeners, control, connections, crowd, mut stopping } = parts;
        let worker = Worker::new(&snapshot, control, connections, crowd).map_err(io::Error::other)?;
        let worker = Rc::new(worker);
        let mut accepting = FuturesUnordered::new();
        for (listener, purpose) in listeners {
            let listener = TcpListener::from_std(listener)?;
            accepting.push(tokio::task::spawn_local(accept::accept(Rc::clone(&worker), listener, purpose)));
        }
        let mut ticking = tokio::task::spawn_local(tick(Rc::clone(&worker)));
        ready();
        // Neither ends by itself. Without them the thread would look alive and serve nobody, or hold back nobody.
        let failure = tokio::select! {
            () = wait_for(&mut stopping, Stopping::Draining) => None,
            Some(_) = accepting.next() => Some("nobody accepts clients any more"),
            _ = &mut ticking => Some("nobody looks at deadlines any more"),
        };
        for task in accepting {
            task.abort();
        }
        if failure.is_none() {
            worker.drain(&mut stopping).await;
        }
        ticking.abort();
        worker.end();
        failure.map_or(Ok(()), |failure| Err(io::Error::other(failure)))
    });
    // Whoever still asks a resolver that does not answer is not waited for.
    runtime.shutdown_background();
    outcome
}

/// Waits until the gateway has come at least so far. A sender that is gone means the end.
async fn wait_for(stopping: &mut watch::Receiver<Stopping>, wanted: Stopping) {
    let far_enough = |stopping: &Stopping| match wanted {
        Stopping::No => true,
        Stopping::Draining => *stopping != Stopping::No,
        Stopping::Now => *stopping == Stopping::Now,
    };
    // An error says that nobody is left to tell: that is the end as well.
    let _ended = stopping.wait_for(far_enough).await.is_err();
}

impl Worker {
    /// A thread's state before it has listeners.
    ///
    /// # Errors
    ///
    /// When there is no randomness.
    pub fn new(
        snapshot: &Snapshot,
        control: Handle,
        connections: Arc<AtomicUsize>,
        crowd: Arc<Crowd>,
    ) -> Result<Self, RandomnessUnavailable> {
        let clock = Rc::new(TickClock::default());
        let upstreams = snapshot
            .upstreams
            .iter()
            .map(|shared| Upstream::new(shared, &clock))
            .collect::<Result<_, _>>()?;
        let authenticator = Authenticator::new(
            snapshot.verifier.clone(),
            snapshot.directory.clone(),
            snapshot.sessions.clone(),
            control.clone(),
            snapshot.clock.clone(),
        )?;
        let access = snapshot.config.log.access.then(|| {
            Rc::new(AccessLog::new(
                snapshot.sink.clone(),
                Clock::clone(&snapshot.clock),
                snapshot.config.log.format,
            ))
        });
        let meter = snapshot.metrics.as_ref().map(|metrics| {
            let endpoints = Endpoint::ALL.map(Endpoint::name);
            Rc::new(Meter::new(metrics.thread(), &snapshot.config, &endpoints))
        });
        let tracer =
            snapshot.spans.as_ref().map(|spans| Tracer::new(spans.clone(), Clock::clone(&snapshot.clock)));
        let tracer = tracer.transpose()?.map(Rc::new);
        Ok(Self {
            routes: Arc::clone(&snapshot.routes),
            rates: Arc::clone(&snapshot.rates),
            token_routes: snapshot.token_routes.clone(),
            authenticator,
            firewall: Arc::clone(&snapshot.firewall),
            control,
            realm: snapshot.config.tokens.realm.clone(),
            server: snapshot.config.server.clone(),
            tls: snapshot.tls.clone(),
            certified_by: snapshot.config.tls.as_ref().and_then(|tls| tls.client_auth.as_ref()?.user),
            https_port: snapshot.https_port,
            upstreams,
            ids: RefCell::new(RequestIds::new()?),
            access,
            meter,
            tracer,
            server_timing: snapshot.config.log.server_timing,
            clock,
            watchlist: Watchlist::default(),
            streams: Streams::new(snapshot.config.tokens.stream_grace),
            scratch: Scratch::default(),
            date: DateLine::new(Clock::clone(&snapshot.clock)),
            connections,
            crowd,
            turned_away: TurnedAway::default(),
            own_connections: Cell::new(0),
            stopping: Cell::new(false),
        })
    }

    /// A new request id.
    pub fn next_request_id(&self) -> HeaderValue {
        let id = self.ids.borrow_mut().next_id();
        HeaderValue::from_bytes(&id).unwrap_or(HeaderValue::from_static("unknown"))
    }

    /// The upstream of a route.
    ///
    /// # Errors
    ///
    /// A refusal when the route names none, which no checked configuration does.
    pub fn upstream(&self, route: &Route) -> Result<&Upstream, Refusal> {
        let missing = || Refusal::new(Reason::InternalError, "The route has no upstream.");
        self.upstreams.get(route.upstream).ok_or_else(missing)
    }

    /// Logs an upstream's failure and makes a refusal of it.
    pub fn upstream_failed(&self, upstream: &Upstream, error: UpstreamError) -> Refusal {
        tracing::debug!(upstream = upstream.name(), %error, "an upstream failed");
        Refusal::from(error)
    }

    /// Begins the account of a request.
    pub fn begin_account(
        &self,
        connection: &ClientConnection,
        request: &Request<Incoming>,
        id: &HeaderValue,
    ) -> Account {
        let record = self.access.as_ref().map(AccessLog::begin);
        let mut account = Account::begin(record, self.meter.as_ref(), Some(request.method()), self.needs());
        account.note(|record| {
            record.request_id = String::from_utf8_lossy(id.as_bytes()).into_owned();
            record.client = Some(connection.peer.address());
            record.method = request.method().to_string();
            request.uri().path().clone_into(&mut record.path);
        });
        account
    }

    /// Begins the account of a message that never became a request.
    pub fn begin_last_account(&self) -> Account {
        Account::begin(self.access.as_ref().map(AccessLog::begin), self.meter.as_ref(), None, self.needs())
    }

    fn needs(&self) -> Needs {
        if self.server_timing || self.tracer.is_some() { Needs::Times } else { Needs::Nothing }
    }

    /// Begins a request's part in its trace, if there is somebody to tell of it; says what the upstream is told.
    pub fn begin_trace(
        &self,
        connection: &ClientConnection,
        exchange: &Exchange,
        id: &HeaderValue,
        account: &mut Account,
    ) -> Option<trace::Told> {
        let tracer = self.tracer.as_ref()?;
        let say = if connection.peer.trust() == Trust::Trusted { Say::Decides } else { Say::None };
        let facts = Facts {
            method: exchange.method().clone(),
            scheme: connection.scheme(),
            host: exchange.host().name().to_owned(),
            path: exchange.path().path().to_owned(),
            client: connection.peer.address(),
            request_id: String::from_utf8_lossy(id.as_bytes()).into_owned(),
        };
        Some(account.trace(tracer, exchange.headers(), say, facts))
    }

    /// Whether answers say how long they took.
    pub fn tells_times(&self) -> bool {
        self.server_timing
    }

    /// Puts a new connection, or a stream of one, under watch until it is dropped.
    pub fn watch(&self) -> Rc<Progress> {
        let progress = Rc::new(Progress::new(Rc::clone(&self.clock)));
        self.watchlist.add(&progress);
        progress
    }

    /// The streams of this thread that end with their tokens.
    pub fn streams(&self) -> &Streams {
        &self.streams
    }

    /// Where small answers are put together.
    pub fn scratch(&self) -> Scratch {
        Rc::clone(&self.scratch)
    }

    /// Whether requests in flight are the last ones.
    pub fn is_stopping(&self) -> bool {
        self.stopping.get()
    }

    /// Whether a request of this thread waits for its answer.
    pub fn is_waiting(&self) -> bool {
        self.watchlist.is_waiting()
    }

    /// The time for a `Date` field (RFC 9110 section 6.6.1).
    pub fn date(&self) -> HeaderValue {
        self.date.now()
    }

    /// Lets requests in flight finish, until all are done or there is no more time.
    async fn drain(&self, stopping: &mut watch::Receiver<Stopping>) {
        self.stopping.set(true);
        self.watchlist.wake_all();
        let finished = async {
            while self.own_connections.get() > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            () = finished => {}
            () = wait_for(stopping, Stopping::Now) => {}
        }
    }

    fn end(&self) {
        if let Some(access) = &self.access {
            access.stop();
            access.flush();
        }
        if let Some(tracer) = &self.tracer {
            tracer.flush();
        }
    }
}

/// Looks at deadlines and idle connections, and hands the access log on.
async fn tick(worker: Rc<Worker>) {
    let mut interval = tokio::time::interval(Duration::from_millis(bounds::TICK_MS));
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        worker.clock.tick();
        worker.watchlist.check(&worker.server.limits);
        if let Some((count, address)) = worker.turned_away.due(worker.clock.now_ms()) {
            let most = worker.server.limits.max_connections_per_network;
            tracing::warn!(count, client = %address, most, "connections were closed: their network has too many");
        }
        worker.streams.check(&worker.authenticator);
        for upstream in &worker.upstreams {
            upstream.sweep();
        }
        if let Some(access) = &worker.access {
            access.flush();
        }
        if let Some(tracer) = &worker.tracer {
            tracer.flush();
        }
    }
}

impl Record {
    /// Notes what the intake has found.
    pub fn took_in(&mut self, exchange: &Exchange) {
        exchange.host().name().clone_into(&mut self.host);
        exchange.path().path().clone_into(&mut self.path);
        if let crate::request::BodyLength::Exactly(bytes) = exchange.length() {
            self.received_bytes = bytes;
        }
    }
}
