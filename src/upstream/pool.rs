//! The connections of one thread to one target.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::HeaderValue;
use hyper::client::conn::http1::SendRequest;
use tokio::sync::Notify;

use super::UpstreamError;
use super::connect::connect;
use crate::base::bounds;
use crate::config::{self, Target};
use crate::http::body::RequestBody;
use crate::net::deadline::TickClock;

/// What all threads know of an upstream.
#[derive(Debug)]
pub struct SharedUpstream {
    pub(super) settings: config::Upstream,
    pub(super) first: Arc<SharedTarget>,
    pub(super) others: Vec<Arc<SharedTarget>>,
}

/// What all threads know of a target. It is touched when a connection opens or closes, never per request.
#[derive(Debug)]
pub struct SharedTarget {
    target: Target,
    authority: HeaderValue,
    open: AtomicUsize,
    /// Requests of all threads that wait for a connection.
    wanted: AtomicUsize,
}

impl SharedUpstream {
    /// An upstream without connections; `None` when it has no target, which no checked configuration says.
    pub fn new(settings: &config::Upstream) -> Option<Self> {
        let mut targets = settings.targets.iter().map(|target| {
            let authority = HeaderValue::from_str(&target.authority()).ok()?;
            let (open, wanted) = (AtomicUsize::new(0), AtomicUsize::new(0));
            Some(Arc::new(SharedTarget { target: target.clone(), authority, open, wanted }))
        });
        let first = targets.next()??;
        let others = targets.collect::<Option<_>>()?;
        Some(Self { settings: settings.clone(), first, others })
    }
}

/// A place among the connections that a target may have; given back when the connection is gone.
#[derive(Debug)]
struct Place(Arc<SharedTarget>);

impl Place {
    fn take(target: &Arc<SharedTarget>, most: usize) -> Option<Self> {
        let more = |open: usize| (open < most).then_some(open + 1);
        target.open.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
        Some(Self(Arc::clone(target)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A connection that nobody uses.
struct Idle {
    sender: SendRequest<RequestBody>,
    since_ms: u64,
}

/// The connections of one thread to one target.
pub(super) struct Pool {
    shared: Arc<SharedTarget>,
    clock: Rc<TickClock>,
    idle: RefCell<Vec<Idle>>,
    in_flight: Cell<usize>,
    waiting: Cell<usize>,
    freed: Rc<Notify>,
    limits: PoolLimits,
}

/// What a pool may do.
#[derive(Clone, Copy, Debug)]
struct PoolLimits {
    connect_timeout: Duration,
    idle_timeout_ms: u64,
    max_connections: usize,
    max_queue: usize,
}

/// A connection that is in use. Dropped before its answer has ended, it closes.
pub(super) struct Lease {
    sender: Option<SendRequest<RequestBody>>,
    pool: Rc<Pool>,
    reused: bool,
}

impl Pool {
    pub(super) fn new(
        shared: &Arc<SharedTarget>,
        settings: &config::Upstream,
        clock: &Rc<TickClock>,
    ) -> Self {
        let limits = PoolLimits {
            connect_timeout: settings.connect_timeout,
            idle_timeout_ms: u64::try_from(settings.idle_timeout.as_millis()).unwrap_or(u64::MAX),
            max_connections: settings.max_connections.get(),
            max_queue: settings.max_queue,
        };
        Self {
            shared: Arc::clone(shared),
            clock: Rc::clone(clock),
            idle: RefCell::default(),
            in_flight: Cell::new(0),
            waiting: Cell::new(0),
            freed: Rc::new(Notify::new()),
            limits,
        }
    }

    /// Requests of this thread that the target has not answered.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.get()
    }

    /// The target's `host:port`.
    pub(super) fn authority(&self) -> &HeaderValue {
        &self.shared.authority
    }

    /// Takes a connection: the one that was used last, or a new one, or the next that is given back.
    pub(super) async fn lease(self: &Rc<Self>) -> Result<Lease, UpstreamError> {
        loop {
            if let Some(sender) = self.next_ready().await {
                return Ok(self.lend(sender, true));
            }
            if let Some(place) = Place::take(&self.shared, self.limits.max_connections) {
                return self.open(place).await.map(|sender| self.lend(sender, false));
            }
            self.wait().await?;
        }
    }

    /// The most recently used connection that is still good. Those that the target has closed are let go.
    async fn next_ready(&self) -> Option<SendRequest<RequestBody>> {
        loop {
            let mut sender = self.idle.borrow_mut().pop()?.sender;
            if sender.is_ready() || (!sender.is_closed() && sender.ready().await.is_ok()) {
                return Some(sender);
            }
        }
    }

    async fn open(self: &Rc<Self>, place: Place) -> Result<SendRequest<RequestBody>, UpstreamError> {
        let (sender, connection) = connect(&self.shared.target, self.limits.connect_timeout)
            .await
            .map_err(UpstreamError::Connect)?;
        let freed = Rc::clone(&self.freed);
        tokio::task::spawn_local(async move {
            // How it ended is known to the request that it ended; an unused one may end as it likes.
            if let Err(error) = connection.await {
                tracing::debug!(%error, "an upstream connection ended");
            }
            drop(place);
            freed.notify_one();
        });
        Ok(sender)
    }

    fn lend(self: &Rc<Self>, sender: SendRequest<RequestBody>, reused: bool) -> Lease {
        self.in_flight.set(self.in_flight.get() + 1);
        Lease { sender: Some(sender), pool: Rc::clone(self), reused }
    }

    /// Waits until a connection may be free. Another thread may have freed it, so now and then one looks.
    async fn wait(&self) -> Result<(), UpstreamError> {
        if self.waiting.get() >= self.limits.max_queue {
            return Err(UpstreamError::QueueFull);
        }
        let _queued = Queued::join(self);
        let deadline_ms = self.clock.now_ms()
            + u64::try_from(self.limits.connect_timeout.as_millis()).unwrap_or(u64::MAX / 2);
        loop {
            let look = Duration::from_millis(bounds::TICK_MS);
            let told = tokio::time::timeout(look, self.freed.notified()).await.is_ok();
            let room = self.shared.open.load(Ordering::Acquire) < self.limits.max_connections;
            if told || room || !self.idle.borrow().is_empty() {
                return Ok(());
            }
            if self.clock.now_ms() >= deadline_ms {
                return Err(UpstreamError::QueueTimeout);
            }
        }
    }

    /// Lets connections go that nobody has used for `idle_timeout`, or that another thread waits for.
    pub(super) fn sweep(&self) {
        let now_ms = self.clock.now_ms();
        let mut idle = self.idle.borrow_mut();
        idle.retain(|idle| {
            now_ms.saturating_sub(idle.since_ms) < self.limits.idle_timeout_ms && !idle.sender.is_closed()
        });
        let surplus = self.wanted_elsewhere().min(idle.len());
        idle.drain(..surplus);
    }

    /// Requests of other threads that wait because the target has as many connections as it may have.
    fn wanted_elsewhere(&self) -> usize {
        self.shared.wanted.load(Ordering::Acquire).saturating_sub(self.waiting.get())
    }
}

/// A place in the queue, left when dropped.
struct Queued<'a>(&'a Pool);

impl<'a> Queued<'a> {
    fn join(pool: &'a Pool) -> Self {
        pool.waiting.set(pool.waiting.get() + 1);
        pool.shared.wanted.fetch_add(1, Ordering::AcqRel);
        Self(pool)
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.waiting.set(self.0.waiting.get().saturating_sub(1));
        self.0.shared.wanted.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Lease {
    /// Whether the connection has carried a request before, so that the target may have closed it meanwhile.
    pub(super) fn is_reused(&self) -> bool {
        self.reused
    }

    /// The half that sends requests.
    pub(super) fn sender(&mut self) -> Option<&mut SendRequest<RequestBody>> {
        self.sender.as_mut()
    }

    /// Gives the connection back after an answer was read to its end. A connection belongs to its thread; so that
    /// another thread gets its turn, it is closed when only others wait.
    pub(super) fn give_back(mut self) {
        let wanted_here = self.pool.waiting.get() > 0 || self.pool.wanted_elsewhere() == 0;
        if let Some(sender) = self.sender.take()
            && !sender.is_closed()
            && wanted_here
        {
            let since_ms = self.pool.clock.now_ms();
            self.pool.idle.borrow_mut().push(Idle { sender, since_ms });
            if self.pool.waiting.get() > 0 {
                self.pool.freed.notify_one();
            }
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.pool.in_flight.set(self.pool.in_flight.get().saturating_sub(1));
    }
}
