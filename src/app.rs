//! The composition root: the only module that knows everybody. It binds everything first, and only then serves.

mod bound;

use std::fmt;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::watch;

use self::bound::Bound;
use crate::admin::Admin;
use crate::base::clock::Clock;
use crate::config::{Config, UserSource};
use crate::connection::Purpose;
use crate::identity::Firewall;
use crate::keys::KeyError;
use crate::net::crowd::Crowd;
use crate::net::listener::BindError;
use crate::net::tls::{TlsError, TlsServer};
use crate::proof::{self, ProofError};
use crate::snapshot::{AssemblyError, Opened, Snapshot};
use crate::store::{Store, StoreError};
use crate::telemetry::events;
use crate::telemetry::sink::{Sink, Writer};
use crate::telemetry::trace::{SpanSink, export};
use crate::upstream::{self, SharedUpstream};
use crate::users::UsersOpenError;
use crate::worker::{self, Stopping};

/// Threads of the control plane.
const CONTROL_THREADS: usize = 2;

/// What is said of a private key that is not private.
const EXPOSED_KEY: &str = "everybody on this machine may read this private key: set its file's mode to 0600";

/// How long the end waits for the store to close.
const STORE_CLOSE: Duration = Duration::from_secs(1);

/// How long the end waits for what the control plane is still doing, such as asking for the name of a database.
const CONTROL_STOP: Duration = Duration::from_millis(250);

/// How long the end waits for the last spans to be exported.
const SPAN_FLUSH: Duration = Duration::from_millis(500);

/// How long the end waits for the log to be written.
const LOG_FLUSH: Duration = Duration::from_millis(500);

/// A gateway that runs.
pub struct Gateway {
    addresses: Vec<SocketAddr>,
    admin: Option<SocketAddr>,
    redirect: Option<SocketAddr>,
    drain_timeout: Duration,
    stopping: watch::Sender<Stopping>,
    ready: Arc<AtomicBool>,
    threads: Vec<JoinHandle<io::Result<()>>>,
    /// What runs on the control plane for as long as the gateway does.
    watchers: Vec<tokio::task::JoinHandle<()>>,
    control: Option<Runtime>,
    store: Store,
    spans: Option<SpanSink>,
    log: Writer,
}

/// Why the gateway could not start.
#[derive(Debug)]
pub enum StartError {
    /// An address could not be bound.
    Bind(BindError),
    /// The store could not be opened.
    Store(StoreError),
    /// The users could not be read.
    Users(UsersOpenError),
    /// A key could not be loaded or made.
    Keys(KeyError),
    /// A certificate could not be loaded.
    Tls(TlsError),
    /// The certificates of an upstream cannot be used.
    Upstream(upstream::StartError),
    /// The identity firewall has not proved itself.
    Identity(ProofError),
    /// The system refused a thread or a runtime.
    System(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind(error) => error.fmt(f),
            Self::Store(error) => error.fmt(f),
            Self::Users(error) => error.fmt(f),
            Self::Keys(error) => error.fmt(f),
            Self::Tls(error) => error.fmt(f),
            Self::Upstream(error) => error.fmt(f),
            Self::Identity(error) => error.fmt(f),
            Self::System(error) => write!(f, "the system refused a thread: {error}"),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Bind(error) => Some(error),
            Self::Store(error) => Some(error),
            Self::Users(error) => Some(error),
            Self::Keys(error) => Some(error),
            Self::Tls(error) => Some(error),
            Self::Upstream(error) => Some(error),
            Self::Identity(error) => Some(error),
            Self::System(error) => Some(error),
        }
    }
}

impl From<AssemblyError> for StartError {
    fn from(error: AssemblyError) -> Self {
        match error {
            AssemblyError::Store(error) => Self::Store(error),
            AssemblyError::Users(error) => Self::Users(error),
            AssemblyError::Keys(error) => Self::Keys(error),
        }
    }
}

impl Gateway {
    /// Starts a gateway: sees the identity firewall prove itself, opens the store, loads keys and users, binds every
    /// address, and then serves.
    ///
    /// # Errors
    ///
    /// [`StartError`]; nothing is left running then.
    pub fn start(
        config: Config,
        clock: Clock,
        output: impl Write + Send + 'static,
    ) -> Result<Self, StartError> {
        let firewall = Firewall::new(config.tls.as_ref());
        Self::start_behind(Arc::new(firewall), config, clock, output)
    }

    /// The firewall that is proved is the one that every thread uses.
    fn start_behind(
        firewall: Arc<Firewall>,
        config: Config,
        clock: Clock,
        output: impl Write + Send + 'static,
    ) -> Result<Self, StartError> {
        proof::prove(&config, &firewall).map_err(StartError::Identity)?;
        let (sink, log) = Sink::start(output).map_err(StartError::System)?;
        events::install(sink.clone(), config.log, clock.clone());
        let control = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(CONTROL_THREADS)
            .thread_name("control")
            .enable_all()
            .build()
            .map_err(StartError::System)?;
        let bound = Bound::bind(&config)?;
        let drain_timeout = config.server.drain_timeout;
        let https_port = bound.addresses.first().map_or(443, SocketAddr::port);
        let (snapshot, store) = control.block_on(assemble(config, clock, sink, https_port, firewall))?;
        let snapshot = Arc::new(snapshot);
        let mut watchers = spawn_watchers(&snapshot, &control);
        let ready = Arc::new(AtomicBool::new(false));
        let connections = Arc::new(AtomicUsize::new(0));
        let admin = match bound.admin {
            Some((listener, address)) => {
                let _entered = control.enter();
                let listener = tokio::net::TcpListener::from_std(listener).map_err(StartError::System)?;
                let (ready, connections) = (Arc::clone(&ready), Arc::clone(&connections));
                let admin = Admin::new(ready, Arc::clone(&snapshot), connections);
                watchers.push(control.spawn(admin.serve(listener)));
                Some(address)
            }
            None => None,
        };
        let (stopping, stop) = watch::channel(Stopping::No);
        let threads = spawn_workers(&snapshot, bound.workers, &control, &connections, &stop)?;
        ready.store(true, Ordering::Release);
        let listed = |addresses: &[SocketAddr]| {
            addresses.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(", ")
        };
        let (clients, probes) = (listed(&bound.addresses), listed(admin.as_slice()));
        tracing::info!(listen = clients, admin = probes, workers = threads.len(), "the gateway serves");
        let control = Some(control);
        let Bound { addresses, redirect, .. } = bound;
        Ok(Self {
            addresses,
            admin,
            redirect,
            drain_timeout,
            stopping,
            ready,
            threads,
            watchers,
            control,
            store,
            spans: snapshot.spans.clone(),
            log,
        })
    }

    /// The addresses that clients connect to.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The address of health and readiness.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// The address that sends its clients to HTTPS.
    pub fn redirect_address(&self) -> Option<SocketAddr> {
        self.redirect
    }

    /// How long draining may take.
    pub fn drain_timeout(&self) -> Duration {
        self.drain_timeout
    }

    /// The control plane's runtime, to wait on signals with.
    pub fn control(&self) -> Option<&Runtime> {
        self.control.as_ref()
    }

    /// Takes no new connections from now on and finishes what is in flight. `/readyz` says so.
    pub fn drain(&self) {
        self.ready.store(false, Ordering::Release);
        self.stopping.send_replace(Stopping::Draining);
        tracing::info!("the gateway drains");
    }

    /// Whether every data-plane thread has ended.
    pub fn has_ended(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }

    /// Whether something has ended though nobody told it to: a data-plane thread, whose share of the clients is not served,
    /// what looks for revocations and other changes, or the log.
    pub fn has_failed(&self) -> bool {
        *self.stopping.borrow() == Stopping::No
            && (self.threads.iter().any(JoinHandle::is_finished)
                || self.watchers.iter().any(tokio::task::JoinHandle::is_finished)
                || !self.log.is_running())
    }

    /// Ends everything now and waits until it has ended.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.ready.store(false, Ordering::Release);
        self.stopping.send_replace(Stopping::Now);
        for thread in self.threads.drain(..) {
            match thread.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, "a data-plane thread failed"),
                Err(_) => tracing::error!("a data-plane thread panicked"),
            }
        }
        if let Some(control) = self.control.take() {
            if let Some(spans) = &self.spans {
                // The other end is dropped when it is done; it never sends.
                let _flushed = spans.flush().recv_timeout(SPAN_FLUSH);
            }
            // Nobody looks for changes any more when the store is closed. Who ended before has panicked, and that was told.
            self.watchers.drain(..).for_each(|watcher| watcher.abort());
            self.close_store(&control);
            control.shutdown_timeout(CONTROL_STOP);
            tracing::info!("the gateway has stopped");
            self.log.flush(LOG_FLUSH);
        }
    }
}

impl Gateway {
    /// Closes the store, so that everything is in its one file. Whatever keeps it open is not waited for long.
    fn close_store(&self, control: &Runtime) {
        let (closed, done) = std::sync::mpsc::channel::<()>();
        let store = self.store.clone();
        control.spawn(async move {
            store.close().await;
            drop(closed);
        });
        // The other end is dropped when the store is closed; it never sends.
        let _closed = done.recv_timeout(STORE_CLOSE);
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.end();
    }
}

/// Opens and loads what the configuration names.
async fn assemble(
    config: Config,
    clock: Clock,
    sink: Sink,
    https_port: u16,
    firewall: Arc<Firewall>,
) -> Result<(Snapshot, Store), StartError> {
    let tls = config.tls.as_ref().map(|tls| TlsServer::load(tls, clock.clone()));
    let tls = tls.transpose().map_err(StartError::Tls)?;
    for certificate in tls.iter().flat_map(TlsServer::certificates) {
        if let Some(key) = &certificate.exposed_key {
            tracing::warn!(key = %key.display(), "{EXPOSED_KEY}");
        }
    }
    if let Err(error) = clock.credible_unix_ms() {
        tracing::error!(%error, "no token is issued until the clock is set");
    }
    let store = Store::open(&config.store.path).await.map_err(StartError::Store)?;
    let upstreams = config.upstreams.iter().map(|settings| SharedUpstream::new(settings).map(Arc::new));
    let upstreams = upstreams.collect::<Result<_, _>>().map_err(StartError::Upstream)?;
    let metrics = config.server.admin.map(|_| Arc::default());
    let spans = config.otlp.clone().map(|settings| {
        let (spans, queue) = SpanSink::new(settings.sample_millionths);
        tokio::spawn(export::run(queue, settings));
        spans
    });
    let opened = Opened { store: store.clone(), upstreams, firewall, tls, https_port, metrics, spans };
    let snapshot = Snapshot::assemble(config, clock, sink, opened).await?;
    for key in snapshot.ring.keys().filter(|key| key.is_exposed()) {
        tracing::warn!(kid = key.kid(), "{EXPOSED_KEY}");
    }
    Ok((snapshot, store))
}

/// Starts what looks for changes: of certificates, of users, of sessions, and of users whose sessions are not kept beside them.
fn spawn_watchers(snapshot: &Snapshot, control: &Runtime) -> Vec<tokio::task::JoinHandle<()>> {
    let (users, sessions) = (snapshot.directory.clone(), snapshot.sessions.clone());
    let mut watchers = vec![
        control.spawn(async move { users.watch().await }),
        control.spawn(async move { sessions.watch().await }),
    ];
    if let Some(tls) = snapshot.tls.clone() {
        watchers.push(control.spawn(async move { tls.watch().await }));
    }
    // Users of the store end their sessions in the store itself.
    if snapshot.config.users.source != UserSource::Store {
        let (sessions, directory) = (snapshot.sessions.clone(), snapshot.directory.clone());
        watchers.push(control.spawn(async move { sessions.follow(directory).await }));
    }
    watchers
}

/// Starts one thread per worker and waits until all serve.
fn spawn_workers(
    snapshot: &Arc<Snapshot>,
    listeners: Vec<Vec<(TcpListener, Purpose)>>,
    control: &Runtime,
    connections: &Arc<AtomicUsize>,
    stop: &watch::Receiver<Stopping>,
) -> Result<Vec<JoinHandle<io::Result<()>>>, StartError> {
    let crowd = Crowd::new(snapshot.config.server.limits.max_connections_per_network);
    let (serving, served) = std::sync::mpsc::channel();
    let mut threads = Vec::new();
    for (number, listeners) in listeners.into_iter().enumerate() {
        let parts = worker::Parts {
            snapshot: Arc::clone(snapshot),
            listeners,
            control: control.handle().clone(),
            connections: Arc::clone(connections),
            crowd: Arc::clone(&crowd),
            stopping: stop.clone(),
        };
        let serving = serving.clone();
        let work = move || worker::run(parts, move || serving.send(()).unwrap_or_default());
        let thread = std::thread::Builder::new().name(format!("worker-{number}")).spawn(work);
        threads.push(thread.map_err(StartError::System)?);
    }
    drop(serving);
    // A thread that cannot begin drops its end without a word.
    if served.iter().count() < threads.len() {
        return Err(StartError::System(io::Error::other("a data-plane thread could not begin")));
    }
    Ok(threads)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::error::{CommandError, Exit};
    use crate::config::{Environment, parse};
    use crate::store::scratch::Scratch;

    #[test]
    fn a_firewall_that_leaks_refuses_the_start() {
        let scratch = Scratch::new();
        let text = "[server]\nlisten = [\"127.0.0.1:0\"]\nadmin = \"127.0.0.1:0\"\nworkers = 1\n\
                    [upstreams.a]\ntargets = [\"http://127.0.0.1:9\"]\n\
                    [[routes]]\npath = \"/\"\nauth = \"public\"\nupstream = \"a\"\n";
        let config = parse(text, "gateway.toml", &scratch.path(""), &Environment::default()).unwrap();
        let leaking = Arc::new(Firewall::ignorant_of(None, "x-user-email"));
        let refused = Gateway::start_behind(leaking, config.clone(), Clock::System, io::sink());
        let Err(error) = refused else { panic!("it started") };
        let error = CommandError::Start(error);
        assert_eq!(error.exit(), Exit::NotStarted);
        let told = error.to_string();
        assert!(told.contains("a client's x-user-email reaches the upstream when it is sent as "), "{told}");
        assert!(!scratch.path("data").exists(), "nothing was made");
        let sound = Arc::new(Firewall::new(None));
        Gateway::start_behind(sound, config, Clock::System, io::sink()).unwrap().stop();
    }
}
