//! The composition root: the only module that knows everybody. It binds everything first, and only then serves.

mod bound;
mod error;
mod outward;
mod scheduling;
mod stalls;
mod threads;

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::AbortHandle;

use self::bound::Bound;
pub use self::error::StartError;
pub use self::stalls::{Seen, Stalls};
use self::threads::{Shared, spawn_workers, thread_name};
use crate::admin;
use crate::base::clock::Clock;
use crate::config::Config;
use crate::handover::{self, Named, Offered};
use crate::identity::Firewall;
use crate::net::crowd::Crowd;
use crate::net::tls::TlsServer;
use crate::proof;
use crate::reload::{self, Reloader, Source};
use crate::snapshot::{Opened, Snapshot};
use crate::store::Store;
use crate::telemetry::events;
use crate::telemetry::sink::{Sink, Writer};
use crate::upstream::SharedUpstream;
use crate::worker::{Handed, Pulse, Stopping};

/// Threads of the control plane.
const CONTROL_THREADS: usize = 2;

/// What is said of a private key that is not private.
const EXPOSED_KEY: &str = "everybody on this machine may read this private key: set its file's mode to 0600";

/// How long the end waits for the store to close.
const STORE_CLOSE: Duration = Duration::from_secs(1);

/// How long the end waits for what the control plane is still doing, such as asking for the name of a database.
const CONTROL_STOP: Duration = Duration::from_millis(250);

/// How long the end waits for the log to be written.
const LOG_FLUSH: Duration = Duration::from_millis(500);

/// Where a gateway comes from, beside its configuration.
#[derive(Debug, Default)]
pub struct Origin {
    /// The file that the configuration is read again from.
    pub source: Option<Source>,
    /// Sockets that are bound already.
    pub inherited: Inherited,
    /// Where another process may ask for the sockets.
    pub handover: Option<PathBuf>,
}

/// Listening sockets that others have bound.
#[derive(Debug, Default)]
pub struct Inherited {
    /// By a process whose place this one takes.
    pub handed_over: Vec<Named>,
    /// By a service manager.
    pub passed: Vec<TcpListener>,
}

/// A gateway that runs.
pub struct Gateway {
    addresses: Vec<SocketAddr>,
    admin: Option<SocketAddr>,
    redirect: Option<SocketAddr>,
    stopping: watch::Sender<Stopping>,
    ready: Arc<AtomicBool>,
    threads: Vec<JoinHandle<io::Result<()>>>,
    /// Of each thread.
    pulses: Vec<Arc<Pulse>>,
    reloader: Reloader,
    offered: Arc<Offered>,
    /// Told when another process has taken over.
    succeeded: Arc<Notify>,
    /// What accepts on the admin listener.
    admin_task: Option<AbortHandle>,
    control: Option<Runtime>,
    log: Writer,
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
        origin: Origin,
        clock: Clock,
        output: impl Write + Send + 'static,
    ) -> Result<Self, StartError> {
        let firewall = Firewall::new(&config);
        Self::start_behind(Arc::new(firewall), config, origin, clock, output)
    }

    /// The firewall that is proved is the one that every thread uses.
    fn start_behind(
        firewall: Arc<Firewall>,
        config: Config,
        origin: Origin,
        clock: Clock,
        output: impl Write + Send + 'static,
    ) -> Result<Self, StartError> {
        proof::prove(&config, &firewall).map_err(StartError::Identity)?;
        let (sink, log) = Sink::start(output).map_err(StartError::System)?;
        let events = events::install(sink.clone(), config.log, clock.clone());
        let control = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(CONTROL_THREADS)
            .thread_name("control")
            .on_thread_start(scheduling::give_way)
            .enable_all()
            .build()
            .map_err(StartError::System)?;
        let Origin { source, inherited, handover } = origin;
        let Bound { addresses, admin, redirect, workers, offered } = Bound::bind(&config, inherited)?;
        let https_port = addresses.first().map_or(443, SocketAddr::port);
        let assembling = assemble(config, clock, sink, https_port, firewall);
        let snapshot = Arc::new(scheduling::giving_way(|| control.block_on(assembling))??);
        let (stopping, stop) = watch::channel(Stopping::No);
        let crowd = Crowd::new(snapshot.config.server.limits.max_connections_per_network);
        let (taken, _) = mpsc::unbounded_channel();
        let (handed, snapshots) = watch::channel(Handed { snapshot: Arc::clone(&snapshot), taken });
        let threads = workers.len();
        let reloader = Reloader::start(reload::Parts {
            source,
            snapshot,
            handed,
            threads,
            stopping: stop.clone(),
            crowd: Arc::clone(&crowd),
            events,
            control: control.handle().clone(),
        });
        let ready = Arc::new(AtomicBool::new(false));
        let connections = Arc::new(AtomicUsize::new(0));
        let told = admin::Parts {
            ready: Arc::clone(&ready),
            current: outward::current(&snapshots),
            connections: Arc::clone(&connections),
            reloads: reloader.reloads(),
            asks: reloader.asks(),
        };
        let (admin, admin_task) = outward::serve_admin(&control, &reloader, told, admin)?.unzip();
        let shared = Shared { snapshots, control: control.handle().clone(), connections, crowd, stop };
        let pulses: Vec<Arc<Pulse>> = workers.iter().map(|_| Arc::default()).collect();
        let threads = spawn_workers(&shared, workers, &pulses)?;
        let (offered, succeeded) = (Arc::new(Offered::new(offered)), Arc::default());
        if let Some(place) = handover {
            offer(&control, &reloader, &place, &offered, &succeeded);
        }
        ready.store(true, Ordering::Release);
        let listed = |addresses: &[SocketAddr]| {
            addresses.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(", ")
        };
        let (clients, probes) = (listed(&addresses), listed(admin.as_slice()));
        tracing::info!(listen = clients, admin = probes, workers = threads.len(), "the gateway serves");
        let control = Some(control);
        Ok(Self {
            addresses,
            admin,
            redirect,
            stopping,
            ready,
            threads,
            pulses,
            reloader,
            offered,
            succeeded,
            admin_task,
            control,
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
        self.reloader.current().config.server.drain_timeout
    }

    /// What reads the configuration again.
    pub fn reloader(&self) -> &Reloader {
        &self.reloader
    }

    /// The control plane's runtime, to wait on signals with.
    pub fn control(&self) -> Option<&Runtime> {
        self.control.as_ref()
    }

    /// Waits until another process has taken over.
    pub async fn succeeded(&self) {
        self.succeeded.notified().await;
    }

    /// Leaves the admin listener to the process that has taken over, and drains.
    pub fn leave(&self) {
        self.drain();
        if let Some(task) = &self.admin_task {
            task.abort();
        }
    }

    /// Takes no new connections from now on and finishes what is in flight. `/readyz` says so.
    pub fn drain(&self) {
        self.ready.store(false, Ordering::Release);
        // Before the threads let go of theirs: a copy would keep the sockets open, and clients waiting.
        self.offered.close();
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
                || self.reloader.has_failed()
                || !self.log.is_running())
    }

    /// What looks whether every data-plane thread still goes round.
    pub fn stalls(&self) -> Stalls {
        let named = self.pulses.iter().enumerate();
        Stalls::new(named.map(|(number, pulse)| (thread_name(number), Arc::clone(pulse))))
    }

    /// Ends everything now and waits until it has ended.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.ready.store(false, Ordering::Release);
        self.offered.close();
        self.stopping.send_replace(Stopping::Now);
        for thread in self.threads.drain(..) {
            match thread.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, "a data-plane thread failed"),
                Err(_) => tracing::error!("a data-plane thread panicked"),
            }
        }
        if let Some(control) = self.control.take() {
            outward::flush_spans(&self.reloader.current());
            // Nobody looks for changes any more when the store is closed. Who ended before has panicked, and that was told.
            self.reloader.stop();
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
        let store = self.reloader.current().store.clone();
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
) -> Result<Snapshot, StartError> {
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
    let store = Store::connect(&config.store).await.map_err(StartError::Store)?;
    let upstreams = config.upstreams.iter().map(|settings| SharedUpstream::new(settings).map(Arc::new));
    let upstreams = upstreams.collect::<Result<_, _>>().map_err(StartError::Upstream)?;
    let metrics = config.server.admin.map(|_| Arc::default());
    let refusals = config.server.admin.map(|_| Arc::default());
    let spans = config.otlp.clone().map(outward::export_spans);
    let opened = Opened { store, upstreams, firewall, tls, https_port, metrics, refusals, spans };
    let snapshot = Snapshot::assemble(config, clock, sink, opened).await?;
    for key in snapshot.ring.keys().filter(|key| key.is_exposed()) {
        tracing::warn!(kid = key.kid(), "{EXPOSED_KEY}");
    }
    Ok(snapshot)
}

/// Lets another process of this user ask for the sockets. A gateway serves without that as well.
fn offer(
    control: &Runtime,
    reloader: &Reloader,
    place: &Path,
    offered: &Arc<Offered>,
    succeeded: &Arc<Notify>,
) {
    let _entered = control.enter();
    match handover::listen(place) {
        Ok(listener) => {
            let offering = handover::offer(listener, Arc::clone(offered), Arc::clone(succeeded));
            reloader.run_beside(offering);
        }
        Err(error) => {
            tracing::warn!(%error, place = %place.display(), "no other process can take over while this one runs");
        }
    }
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
        let leaking = Arc::new(Firewall::ignorant_of(&config, "x-user-email"));
        let refused =
            Gateway::start_behind(leaking, config.clone(), Origin::default(), Clock::System, io::sink());
        let Err(error) = refused else { panic!("it started") };
        let error = CommandError::Start(error);
        assert_eq!(error.exit(), Exit::NotStarted);
        let told = error.to_string();
        assert!(told.contains("a client's x-user-email reaches the upstream when it is sent as "), "{told}");
        assert!(!scratch.path("data").exists(), "nothing was made");
        let sound = Arc::new(Firewall::new(&config));
        Gateway::start_behind(sound, config, Origin::default(), Clock::System, io::sink()).unwrap().stop();
    }
}
