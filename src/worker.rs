//! One data-plane thread: its listeners, connections, pools and memory. A request never leaves it.

mod accept;
mod accounts;
mod balance;
mod generation;
mod pulse;
mod renewal;

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use http::HeaderValue;
use tokio::net::TcpListener;
use tokio::runtime::{Handle, LocalOptions};
use tokio::sync::watch;

pub use self::balance::{Seat, seats};
pub use self::generation::Generation;
pub use self::pulse::Pulse;
pub use self::renewal::Handed;
use crate::base::bounds;
use crate::base::clock::Clock;
use crate::base::ids::{RandomnessUnavailable, RequestIds};
use crate::connection::Purpose;
use crate::http::date::DateLine;
use crate::http::http1::Scratch;
use crate::http::problem::Refusal;
use crate::net::crowd::{Crowd, TurnedAway};
use crate::net::deadline::{Progress, TickClock};
use crate::net::watchlist::Watchlist;
use crate::request::Exchange;
use crate::snapshot::Snapshot;
use crate::streams::Streams;
use crate::telemetry::access::{AccessLog, Record, Text};
use crate::telemetry::metrics::Counts;
use crate::telemetry::reported::{Passed, Reported};
use crate::telemetry::trace::Tracer;
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

/// What a data-plane thread works with as long as it lives. Nothing in it is shared but counts.
pub struct Worker {
    thread: Thread,
    /// What requests that begin work with.
    generation: RefCell<Rc<Generation>>,
    /// Where `http_redirect` sends to: the port of HTTPS.
    pub https_port: u16,
    ids: RefCell<RequestIds>,
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
    /// Requests that this thread has let pass on routes that enforce nothing.
    pub reported: Reported,
    /// Client connections of this thread, and of the others.
    seat: Seat,
    leaving: Cell<Leaving>,
    /// Rises when something is trusted no longer, or otherwise, that is found out at the beginning of a connection.
    trust: Cell<u64>,
}

/// How far a thread has come in sending its clients away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    /// It serves.
    No,
    /// Each answer says that it is the last one on its connection. Clients that are silent may still ask once, since they
    /// could be doing so right now.
    Announced,
    /// Who is silent is left.
    Now,
}

/// How long a connection on which nothing is in flight still waits for a request when the gateway drains; half of
/// `drain_timeout` when that is shorter.
const IDLE_GRACE: Duration = Duration::from_secs(1);

/// What every generation of a thread is made with.
struct Thread {
    /// Where the control plane runs.
    control: Handle,
    clock: Rc<TickClock>,
    access: Rc<AccessLog>,
    /// What it counts in; nobody can ask without an admin listener.
    counts: Option<Arc<Counts>>,
    tracer: Option<Rc<Tracer>>,
}

/// What a thread is given to begin with.
pub struct Parts {
    /// The immutable view of the configuration and what was made of it, and those that follow.
    pub snapshots: watch::Receiver<Handed>,
    /// The listeners of this thread, each with what it is for.
    pub listeners: Vec<(std::net::TcpListener, Purpose)>,
    /// Where the control plane runs.
    pub control: Handle,
    /// Client connections of the whole process.
    pub connections: Arc<AtomicUsize>,
    /// Client connections of each network.
    pub crowd: Arc<Crowd>,
    /// Its place among all threads, for as long as one of them runs.
    pub seat: Seat,
    /// Tells when to stop.
    pub stopping: watch::Receiver<Stopping>,
    /// What it raises as long as it goes round.
    pub pulse: Arc<Pulse>,
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
        let Parts { mut snapshots, listeners, control, connections, crowd, mut seat, mut stopping, pulse } =
            parts;
        let snapshot = Arc::clone(&snapshots.borrow_and_update().snapshot);
        let arriving = seat.arriving().ok_or_else(|| io::Error::other("the place of a thread is taken"))?;
        let worker = Worker::new(&snapshot, control, connections, crowd, seat).map_err(io::Error::other)?;
        let worker = Rc::new(worker);
        let mut accepting = FuturesUnordered::new();
        for (listener, purpose) in listeners {
            let listener = TcpListener::from_std(listener)?;
            let accept = accept::accept(Rc::clone(&worker), listener, purpose, stopping.clone());
            accepting.push(tokio::task::spawn_local(accept));
        }
        let mut taking_over = tokio::task::spawn_local(accept::take_over(Rc::clone(&worker), arriving));
        // A thread keeps nothing of a snapshot that its generation does not need.
        drop(snapshot);
        let mut ticking = tokio::task::spawn_local(tick(Rc::clone(&worker), pulse));
        let mut renewing = tokio::task::spawn_local(renewal::renew(Rc::clone(&worker), snapshots));
        ready();
        // None ends by itself. Without them the thread would look alive and serve nobody, or hold back nobody.
        let failure = tokio::select! {
            () = wait_for(&mut stopping, Stopping::Draining) => None,
            Some(_) = accepting.next() => Some("nobody accepts clients any more"),
            _ = &mut taking_over => Some("nobody takes over clients any more"),
            _ = &mut ticking => Some("nobody looks at deadlines any more"),
            _ = &mut renewing => Some("nobody takes in configurations any more"),
        };
        // Those who accept end with the gateway, and may hear of it before this does.
        let failure = failure.filter(|_| *stopping.borrow() == Stopping::No);
        // They take in who has connected already, which they do not wait for.
        while failure.is_none() && accepting.next().await.is_some() {}
        for task in accepting {
            task.abort();
        }
        if failure.is_none() {
            worker.drain(&mut stopping).await;
        }
        for task in [renewing, ticking, taking_over] {
            task.abort();
        }
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
        seat: Seat,
    ) -> Result<Self, RandomnessUnavailable> {
        let (clock, format) = (Clock::clone(&snapshot.clock), snapshot.config.log.format);
        let refusals = snapshot.refusals.as_ref().map(|refusals| refusals.thread());
        let access = Rc::new(AccessLog::new(snapshot.sink.clone(), clock.clone(), format, refusals));
        let counts = snapshot.metrics.as_ref().map(|metrics| metrics.thread());
        let tracer = snapshot.spans.as_ref().map(|spans| Tracer::new(spans.clone(), clock.clone()));
        let tracer = tracer.transpose()?.map(Rc::new);
        let thread = Thread { control, clock: Rc::new(TickClock::default()), access, counts, tracer };
        let generation = Generation::new(snapshot, &thread, None)?;
        Ok(Self {
            thread,
            generation: RefCell::new(Rc::new(generation)),
            https_port: snapshot.https_port,
            ids: RefCell::new(RequestIds::new()?),
            watchlist: Watchlist::default(),
            streams: Streams::default(),
            scratch: Scratch::default(),
            date: DateLine::new(clock),
            connections,
            crowd,
            turned_away: TurnedAway::default(),
            reported: Reported::default(),
            seat,
            leaving: Cell::new(Leaving::No),
            trust: Cell::new(0),
        })
    }

    /// What a request works with that begins now. It keeps this to its end.
    pub fn generation(&self) -> Rc<Generation> {
        Rc::clone(&self.generation.borrow())
    }

    /// Where the control plane runs.
    pub fn control(&self) -> &Handle {
        &self.thread.control
    }

    /// A new request id.
    pub fn next_request_id(&self) -> HeaderValue {
        let id = self.ids.borrow_mut().next_id();
        // It is cloned for the upstream and for the client: bytes that have an owner are shared without an allocation for it.
        HeaderValue::from_maybe_shared(Bytes::from_owner(id)).unwrap_or(HeaderValue::from_static("unknown"))
    }

    /// Logs an upstream's failure and makes a refusal of it.
    pub fn upstream_failed(&self, upstream: &Upstream, error: UpstreamError) -> Refusal {
        tracing::debug!(upstream = upstream.name(), %error, "an upstream failed");
        Refusal::from(error)
    }

    /// Puts a new connection, or a stream of one, under watch until it is dropped.
    pub fn watch(&self) -> Rc<Progress> {
        let progress = Rc::new(Progress::new(Rc::clone(&self.thread.clock)));
        self.watchlist.add(&progress);
        progress
    }

    /// The streams of this thread that end with their tokens.
    pub fn streams(&self) -> &Streams {
        &self.streams
    }

    /// Memory that connections use in turn while they read and write.
    pub fn scratch(&self) -> Scratch {
        self.scratch.clone()
    }

    /// Whether requests in flight are the last ones on their connections.
    pub fn is_stopping(&self) -> bool {
        self.leaving.get() != Leaving::No
    }

    /// Whether connections end on which nothing is in flight.
    pub fn is_leaving(&self) -> bool {
        self.leaving.get() == Leaving::Now
    }

    /// Tells connections apart that began when something else was trusted.
    pub fn trust(&self) -> u64 {
        self.trust.get()
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
        self.leave(Leaving::Announced);
        let grace = IDLE_GRACE.min(self.generation().server.drain_timeout / 2);
        let all_gone = || async {
            while self.seat.connections() > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let finished = async {
            if tokio::time::timeout(grace, all_gone()).await.is_err() {
                self.leave(Leaving::Now);
                all_gone().await;
            }
        };
        tokio::select! {
            () = finished => {}
            () = wait_for(stopping, Stopping::Now) => {}
        }
    }

    /// Hands the log what was logged of requests.
    pub fn flush_log(&self) {
        self.thread.access.flush();
    }

    fn leave(&self, leaving: Leaving) {
        self.leaving.set(leaving);
        self.watchlist.wake_all();
    }

    fn end(&self) {
        self.thread.access.stop();
        self.thread.access.flush();
        if let Some(tracer) = &self.thread.tracer {
            tracer.flush();
        }
    }
}

/// Looks at deadlines and idle connections, hands the access log on, and shows that the thread goes round.
async fn tick(worker: Rc<Worker>, pulse: Arc<Pulse>) {
    let mut interval = tokio::time::interval(Duration::from_millis(bounds::TICK_MS));
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        pulse.beat();
        let generation = worker.generation();
        let Thread { clock, access, tracer, .. } = &worker.thread;
        clock.tick();
        let limits = &generation.server.limits;
        worker.watchlist.check(limits);
        if let Some((count, address)) = worker.turned_away.due(clock.now_ms()) {
            let most = limits.max_connections_per_network;
            tracing::warn!(count, client = %address, most, "connections were closed: their network has too many");
        }
        if let Some((count, Passed { route, reason })) = worker.reported.due(clock.now_ms()) {
            tracing::warn!(count, %route, %reason, "requests passed that would have been refused");
        }
        worker.streams.check(&generation.authenticator, generation.stream_grace_ms);
        for upstream in &generation.upstreams {
            upstream.tick();
        }
        access.flush();
        if let Some(tracer) = tracer {
            tracer.flush();
        }
    }
}

impl Record {
    /// Notes what the intake has found.
    pub fn took_in(&mut self, exchange: &Exchange) {
        self.host = Text::beginning(exchange.host().value(), exchange.host().name().len());
        self.target = Some(exchange.path().target().clone());
        if let crate::request::BodyLength::Exactly(bytes) = exchange.length() {
            self.received_bytes = bytes;
        }
    }
}
