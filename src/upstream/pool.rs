//! The connections of one thread to one target.

use std::cell::{Cell, RefCell};
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::HeaderValue;
use http::uri::Scheme;

use super::UpstreamError;
use super::connect::{Connection, Http2, connect, connect_http1};
use super::http1;
use super::look_up::LookUps;
use super::multiplex::{Multiplexed, Stream, Waited, drive};
use super::queue::{End, Queue, Ticket};
use super::readings::PoolReadings;
use super::shared::{Place, SharedTarget};
use crate::config::{self, Target};
use crate::net::deadline::TickClock;

/// A connection that nobody uses.
struct Idle {
    connection: Box<http1::Connection>,
    since_ms: u64,
}

/// The connections of one thread to one target.
pub(super) struct Pool {
    shared: Arc<SharedTarget>,
    clock: Rc<TickClock>,
    look_ups: LookUps,
    idle: RefCell<Vec<Idle>>,
    /// `None` where the target speaks HTTP/1.1 only.
    http2: Option<Box<Multiplexed>>,
    readings: Arc<PoolReadings>,
    queue: Rc<Queue>,
    /// No new requests come, because the target is none any more.
    retired: Cell<bool>,
    limits: PoolLimits,
}

/// What a pool may do.
#[derive(Clone, Copy, Debug)]
struct PoolLimits {
    connect_timeout: Duration,
    idle_timeout_ms: u64,
    queue_timeout_ms: u64,
    max_connections: usize,
    max_queue: usize,
    max_requests: Option<usize>,
}

/// A connection that is in use. Dropped before its answer has ended, it closes.
pub(super) struct Lease {
    connection: Box<http1::Connection>,
    in_flight: InFlight,
    reused: bool,
}

/// What a request is sent on.
pub(super) enum Leased {
    /// A connection of its own.
    Http1(Lease),
    /// A stream of a connection that others use too.
    Http2(Stream),
}

/// A connection for one request that may become something else than HTTP.
pub(super) struct Exclusive {
    pub(super) connection: Box<http1::Connection>,
    pub(super) in_flight: InFlight,
}

/// Counts a request as long as it is under way, its waiting for a connection included.
pub(super) struct InFlight {
    pool: Rc<Pool>,
    /// It is one of those that the target may have at once.
    admitted: bool,
}

impl InFlight {
    pub(super) fn begin(pool: &Rc<Pool>) -> Self {
        pool.readings.begin();
        Self { pool: Rc::clone(pool), admitted: false }
    }

    pub(super) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Takes one of the places for requests, where their number is limited. Says whether there was one.
    fn admit(&mut self) -> bool {
        if let Some(most) = self.pool.limits.max_requests
            && !self.admitted
        {
            let more = |active: usize| (active < most).then_some(active + 1);
            let taken =
                self.pool.shared.active.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok();
            self.admitted = taken;
            return taken;
        }
        true
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.pool.readings.end();
        if self.admitted {
            self.pool.shared.active.fetch_sub(1, Ordering::AcqRel);
            self.pool.queue.tell_first();
        }
    }
}

impl Pool {
    pub(super) fn new(
        shared: &Arc<SharedTarget>,
        settings: &config::Upstream,
        clock: &Rc<TickClock>,
    ) -> Self {
        let limits = PoolLimits {
            connect_timeout: settings.connect_timeout,
            idle_timeout_ms: milliseconds(settings.idle_timeout),
            queue_timeout_ms: milliseconds(settings.availability.queue_timeout),
            max_connections: settings.max_connections.get(),
            max_queue: settings.max_queue,
            max_requests: settings.availability.max_requests.map(NonZeroUsize::get),
        };
        let http2 = match shared.target {
            Target::Https(_) | Target::H2c(_) => Some(Box::default()),
            Target::Http(_) | Target::Unix(_) => None,
        };
        Self {
            shared: Arc::clone(shared),
            clock: Rc::clone(clock),
            look_ups: LookUps::default(),
            idle: RefCell::default(),
            http2,
            readings: shared.join(),
            queue: Rc::default(),
            retired: Cell::new(false),
            limits,
        }
    }

    /// Requests of this thread that the target has not answered, those included that wait.
    pub(super) fn in_flight(&self) -> usize {
        self.readings.in_flight()
    }

    /// What all threads know of the target.
    pub(super) fn shared(&self) -> &Arc<SharedTarget> {
        &self.shared
    }

    /// Whether one more request would have to wait.
    pub(super) fn is_busy(&self) -> bool {
        let all_taken = |most: usize| self.shared.active.load(Ordering::Relaxed) >= most;
        if self.limits.max_requests.is_some_and(all_taken) || !self.queue.is_empty() {
            return true;
        }
        self.idle.borrow().is_empty()
            && self.shared.open.load(Ordering::Relaxed) >= self.limits.max_connections
            && !self.http2.as_ref().is_some_and(|http2| http2.has_room())
    }

    /// Takes no new requests: connections close that nobody uses, and the others after their answers.
    pub(super) fn retire(&self) {
        self.retired.set(true);
        self.idle.borrow_mut().clear();
        if let Some(http2) = &self.http2 {
            http2.retire();
        }
    }

    /// The target's `host:port`.
    pub(super) fn authority(&self) -> &HeaderValue {
        &self.shared.authority
    }

    /// How requests name the target's scheme (RFC 9113 section 8.3.1).
    pub(super) fn scheme(&self) -> Scheme {
        if self.shared.target.is_tls() { Scheme::HTTPS } else { Scheme::HTTP }
    }

    /// Whether the target can be spoken to in HTTP/1.1.
    pub(super) fn takes_http1(&self) -> bool {
        !matches!(self.shared.target, Target::H2c(_))
    }

    /// Takes a connection: the one that was used last, or a new one, or the next that is given back. Who waits goes first.
    pub(super) async fn lease(self: &Rc<Self>) -> Result<Leased, UpstreamError> {
        match self.next_free(InFlight::begin(self), None) {
            Ok(leased) => Ok(leased),
            // On the heap, so that the requests that find one need no room for it.
            Err(in_flight) => Box::pin(self.wait_for_lease(in_flight)).await,
        }
    }

    /// One that is free now, if the request may have it.
    fn next_free(&self, mut in_flight: InFlight, ticket: Option<&Ticket>) -> Result<Leased, InFlight> {
        if !self.is_turn(&in_flight, ticket) || !in_flight.admit() {
            return Err(in_flight);
        }
        if let Some(connection) = self.next_fresh() {
            return Ok(Leased::Http1(Lease { connection, in_flight, reused: true }));
        }
        match &self.http2 {
            Some(http2) => http2.next_stream(in_flight).map(Leased::Http2),
            None => Err(in_flight),
        }
    }

    async fn wait_for_lease(self: &Rc<Self>, mut in_flight: InFlight) -> Result<Leased, UpstreamError> {
        let mut ticket = None;
        let mut patient = true;
        loop {
            in_flight = match self.next_free(in_flight, ticket.as_ref()) {
                Ok(leased) => return Ok(leased),
                Err(in_flight) => in_flight,
            };
            if self.is_turn(&in_flight, ticket.as_ref()) && in_flight.admit() {
                if let Some(http2) = &self.http2
                    && patient
                    && http2.is_opening()
                {
                    patient = http2.wait_for_opening().await == Waited::Opened;
                    continue;
                }
                if let Some(place) = Place::take(&self.shared, self.limits.max_connections, &self.queue) {
                    drop(ticket);
                    return self.open(place, in_flight).await;
                }
            }
            self.wait(&mut ticket, &in_flight).await?;
        }
    }

    /// Whether a request may look for a connection: it has waited for its turn, or nobody waits. One that has a place among
    /// the requests already goes before those who wait for one.
    fn is_turn(&self, in_flight: &InFlight, ticket: Option<&Ticket>) -> bool {
        ticket.is_some() || in_flight.admitted || self.queue.is_empty()
    }

    /// Opens a connection of HTTP/1.1 that nobody else uses, before or after. An idle one makes room for it.
    pub(super) async fn exclusive(self: &Rc<Self>) -> Result<Exclusive, UpstreamError> {
        let mut in_flight = InFlight::begin(self);
        let mut ticket = None;
        let place = loop {
            if self.is_turn(&in_flight, ticket.as_ref()) && in_flight.admit() {
                let place = Place::take(&self.shared, self.limits.max_connections, &self.queue);
                if let Some(place) = place {
                    break place;
                }
                let idle = self.idle.borrow_mut().pop();
                if idle.is_some() {
                    continue;
                }
            }
            self.wait(&mut ticket, &in_flight).await?;
        };
        drop(ticket);
        let wire = connect_http1(&self.shared, &self.look_ups, self.limits.connect_timeout).await;
        self.readings.connected(wire.is_ok());
        let wire = wire.map_err(UpstreamError::Connect)?;
        Ok(Exclusive { connection: Box::new(http1::Connection::new(wire, place)), in_flight })
    }

    /// The most recently used connection that is still good. Those that the target has closed are let go.
    fn next_fresh(&self) -> Option<Box<http1::Connection>> {
        loop {
            let mut connection = self.idle.borrow_mut().pop()?.connection;
            if connection.is_fresh() {
                return Some(connection);
            }
        }
    }

    async fn open(self: &Rc<Self>, place: Place, in_flight: InFlight) -> Result<Leased, UpstreamError> {
        let opening = self.http2.as_deref().map(Multiplexed::begin_opening);
        let connected = connect(&self.shared, &self.look_ups, self.limits.connect_timeout, &self.clock).await;
        self.readings.connected(connected.is_ok());
        let connected = match connected {
            Ok(connected) => connected,
            Err(error) => {
                if let Some(opening) = opening {
                    opening.fail();
                }
                return Err(UpstreamError::Connect(error));
            }
        };
        match (connected, &self.http2) {
            (Connection::Http1(wire), http2) => {
                if let Some(http2) = http2 {
                    http2.note_http1();
                }
                let connection = Box::new(http1::Connection::new(wire, place));
                Ok(Leased::Http1(Lease { connection, in_flight, reused: false }))
            }
            (Connection::Http2(opened), Some(http2)) => {
                let Http2 { sender, connection, health } = *opened;
                let stream = http2.add(sender, Rc::clone(&health), in_flight);
                tokio::task::spawn_local(drive(connection, health, place));
                stream
                    .map(Leased::Http2)
                    .ok_or(UpstreamError::Unacceptable("the upstream took its connection back at once"))
            }
            (Connection::Http2(_), None) => {
                Err(UpstreamError::Unacceptable("the upstream speaks HTTP/2 unasked"))
            }
        }
    }

    /// Tells who waits that a stream has ended.
    pub(super) fn stream_ended(&self) {
        self.queue.tell_first();
    }

    /// Waits in the queue until something may be free.
    async fn wait(&self, place: &mut Option<Ticket>, in_flight: &InFlight) -> Result<(), UpstreamError> {
        let until_ms = self.clock.now_ms().saturating_add(self.limits.queue_timeout_ms);
        let ticket = if let Some(ticket) = place.take() {
            ticket
        } else {
            let end = if in_flight.admitted { End::Front } else { End::Back };
            self.queue.join(end, &self.shared, self.limits.max_queue, until_ms)?
        };
        let ticket = place.insert(ticket);
        ticket.turn().await
    }

    /// Lets connections go that nobody has used for `idle_timeout`, or that another thread waits for.
    pub(super) fn sweep(&self) {
        let now_ms = self.clock.now_ms();
        self.queue.tick(now_ms);
        let mut idle = self.idle.borrow_mut();
        idle.retain_mut(|idle| {
            now_ms.saturating_sub(idle.since_ms) < self.limits.idle_timeout_ms && idle.connection.is_fresh()
        });
        let surplus = self.wanted_elsewhere().min(idle.len());
        idle.drain(..surplus);
        if let Some(http2) = &self.http2 {
            http2.sweep(now_ms, self.limits.idle_timeout_ms, self.wanted_elsewhere().saturating_sub(surplus));
        }
    }

    /// Requests of other threads that wait because the target has as many connections as it may have.
    fn wanted_elsewhere(&self) -> usize {
        if self.shared.open.load(Ordering::Relaxed) < self.limits.max_connections {
            return 0;
        }
        self.shared.wanted.load(Ordering::Acquire).saturating_sub(self.queue.len())
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Lease {
    /// Whether the connection has carried a request before, so that the target may have closed it meanwhile.
    pub(super) fn is_reused(&self) -> bool {
        self.reused
    }

    /// The connection.
    pub(super) fn connection(&mut self) -> &mut http1::Connection {
        &mut self.connection
    }

    /// Gives the connection back after an answer was read to its end. A connection belongs to its thread; so that
    /// another thread gets its turn, it is closed when only others wait.
    pub(super) fn give_back(self) {
        let Self { connection, in_flight, .. } = self;
        let pool = in_flight.pool();
        if pool.retired.get() || (pool.queue.is_empty() && pool.wanted_elsewhere() > 0) {
            return;
        }
        let since_ms = pool.clock.now_ms();
        pool.idle.borrow_mut().push(Idle { connection, since_ms });
        pool.queue.tell_first();
    }
}

impl Exclusive {
    /// Makes an ordinary connection of it.
    pub(super) fn into_lease(self) -> Lease {
        Lease { connection: self.connection, in_flight: self.in_flight, reused: false }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use tokio::runtime::{Builder, LocalOptions};

    use super::*;
    use crate::config::{Environment, parse};
    use crate::net::deadline::Progress;
    use crate::upstream::{Interim, Limits, SharedUpstream};

    /// A pool of connections to this target.
    pub(crate) fn pool(target: &str, lines: &str) -> Rc<Pool> {
        let text = format!(
            "[upstreams.a]\ntargets = [\"{target}\"]\n{lines}\n[[routes]]\npath = \"/\"\nauth = \"public\"\nupstream = \"a\""
        );
        let config = parse(&text, "gateway.toml", std::path::Path::new(""), &Environment::default()).unwrap();
        let shared = SharedUpstream::new(&config.upstreams[0]).unwrap();
        Rc::new(Pool::new(&shared.named[0], &shared.settings, &Rc::new(TickClock::default())))
    }

    /// Limits that note the status of every informational answer.
    pub(crate) fn limits(told: &Rc<RefCell<Vec<u16>>>) -> Limits<'static> {
        let told = Rc::clone(told);
        let interim = Interim::new(move |answer| told.borrow_mut().push(answer.status.as_u16()));
        let progress = Rc::new(Progress::new(Rc::new(TickClock::default())));
        // A test needs them to its end.
        let (progress, interim) = (Box::leak(Box::new(progress)), Box::leak(Box::new(interim)));
        Limits { max_body: None, progress, interim: Some(interim), affinity: None }
    }

    impl Pool {
        /// What all threads know of the target.
        pub(crate) fn shared_target(&self) -> Arc<SharedTarget> {
            Arc::clone(&self.shared)
        }
    }

    /// Runs it as a data-plane thread would.
    pub(crate) fn run<F: Future>(future: F) -> F::Output {
        let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
        runtime.unwrap().block_on(future)
    }

    #[test]
    fn certificates_that_cannot_be_used_are_named_at_start() {
        for (ca, message) in [
            ("/nowhere/ca.pem", "the upstream \"a\" cannot be used: /nowhere/ca.pem cannot be read"),
            ("Cargo.toml", "the upstream \"a\" cannot be used: Cargo.toml does not hold certificates in PEM"),
        ] {
            let text = format!(
                "[upstreams.a]\ntargets = [\"https://a\"]\ntls.ca = \"{ca}\"\n[[routes]]\npath = \"/\"\nauth = \"public\"\nupstream = \"a\""
            );
            let config =
                parse(&text, "gateway.toml", std::path::Path::new(""), &Environment::default()).unwrap();
            let error = SharedUpstream::new(&config.upstreams[0]).unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        }
    }
}
