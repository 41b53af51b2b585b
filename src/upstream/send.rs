//! Sending a request to an upstream and taking its answer.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::num::NonZeroU64;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::{HeaderValue, Method};

use super::UpstreamError;
use super::affinity::{Affinity, Sender};
use super::balance::{Chooser, Pools};
use super::body::UpstreamResponse;
use super::budget::RetryBudget;
use super::course::Course;
use super::http1::{Fate, Sending};
use super::http2::{self, Attempt};
use super::interim::Interim;
use super::outcome::Overdue;
use super::outgoing::Outgoing;
use super::pool::{Leased, Pool};
use super::shared::SharedUpstream;
use super::upgrade::{self, UpgradeAnswer};
use crate::base::field_list::FieldList;
use crate::base::ids::{RandomnessUnavailable, random_bytes};
use crate::config::{Balance, HostHeader};
use crate::http::body::RequestBody;
use crate::identity::UpstreamRequest;
use crate::net::deadline::{Progress, TickClock};
use crate::request::{BodyLength, Pieces};

/// An upstream as one thread uses it.
pub struct Upstream {
    pub(super) shared: Arc<SharedUpstream>,
    host_header: HostChoice,
    clock: Rc<TickClock>,
    pools: RefCell<Rc<Pools>>,
    /// Which version of the endpoints the pools are for.
    version: Cell<u64>,
    pub(super) chooser: Chooser,
    pub(super) budget: RetryBudget,
}

/// What an upstream sees as `Host`.
enum HostChoice {
    Preserve,
    Target,
    Fixed(HeaderValue),
}

/// What a request may take.
#[derive(Clone, Debug)]
pub struct Limits<'a> {
    /// The largest body, in bytes; `None` is no limit.
    pub max_body: Option<NonZeroU64>,
    /// The state of the client's connection, which the body keeps up to date.
    pub progress: &'a Rc<Progress>,
    /// Who is told of informational answers; nobody costs nothing.
    pub interim: Option<&'a Interim>,
    /// What the request is spread by, where requests are spread by anything.
    pub affinity: Option<Affinity>,
}

/// Why one attempt failed, and what may be done about it.
pub(super) enum Failure {
    /// The target had closed the connection while it lay idle. Nothing was sent, and the request is where it was.
    Stale,
    /// Nothing was sent, and the request is where it was.
    NotSent(UpstreamError),
    /// The target refused to process the request now. The request is where it was.
    Refused(UpstreamError),
    /// It broke before an answer. A request that may be sent twice is where it was.
    Broke(UpstreamError),
    /// It makes no sense to try again.
    Final(UpstreamError),
}

impl Upstream {
    /// An upstream without connections.
    ///
    /// # Errors
    ///
    /// When there is no randomness to choose targets by.
    pub fn new(shared: &Arc<SharedUpstream>, clock: &Rc<TickClock>) -> Result<Self, RandomnessUnavailable> {
        let settings = &shared.settings;
        let host_header = match &settings.host_header {
            HostHeader::Preserve => HostChoice::Preserve,
            HostHeader::Target => HostChoice::Target,
            HostHeader::Fixed(name) => {
                HeaderValue::from_str(name).map_or(HostChoice::Preserve, HostChoice::Fixed)
            }
        };
        let version = shared.version.load(Ordering::Acquire);
        let pools = Pools::new(shared.endpoints.load_full(), None, settings, clock);
        let seed = u64::from_ne_bytes(random_bytes::<8>()?);
        Ok(Self {
            shared: Arc::clone(shared),
            host_header,
            clock: Rc::clone(clock),
            pools: RefCell::new(Rc::new(pools)),
            version: Cell::new(version),
            chooser: Chooser::new(seed),
            budget: RetryBudget::new(settings.availability.retry_budget_percent),
        })
    }

    /// Whether this is what all threads know as this upstream.
    pub fn is_of(&self, shared: &Arc<SharedUpstream>) -> bool {
        Arc::ptr_eq(&self.shared, shared)
    }

    /// The upstream's name.
    pub fn name(&self) -> &str {
        &self.shared.settings.name
    }

    /// What a request is spread by; nothing unless requests are spread by a hash, and it has the key.
    pub fn affinity<'a>(&self, sender: impl FnOnce() -> Sender<'a>) -> Option<Affinity> {
        match &self.shared.settings.balance {
            Balance::Hash(key) => Affinity::of(key, sender()),
            Balance::LeastRequest | Balance::RoundRobin => None,
        }
    }

    /// Takes note of the time: lets connections go that nobody has used for a while, ends waiting in vain, and learns where
    /// requests go from now on.
    pub fn tick(&self) {
        let version = self.shared.version.load(Ordering::Acquire);
        if version != self.version.replace(version) {
            let before = self.pools();
            let endpoints = self.shared.endpoints.load_full();
            let pools = Pools::new(endpoints, Some(&before), &self.shared.settings, &self.clock);
            *self.pools.borrow_mut() = Rc::new(pools);
        }
        self.budget.tick();
        for pool in self.pools().all() {
            pool.sweep();
        }
    }

    fn pools(&self) -> Rc<Pools> {
        Rc::clone(&self.pools.borrow())
    }

    /// Sends a request and waits for the head of its answer. It is sent again only where that cannot be noticed: when
    /// nothing was sent, or when the method is idempotent, there is no body and no answer has begun (RFC 9110 section 9.2.2).
    ///
    /// # Errors
    ///
    /// [`UpstreamError`] after the last attempt.
    pub async fn send(
        &self,
        request: UpstreamRequest,
        limits: &Limits<'_>,
    ) -> Result<UpstreamResponse, UpstreamError> {
        let pools = self.pools();
        let mut request = Some(self.compose(request, limits));
        let mut read = Vec::new();
        let mut course = Course::new(self, &pools, limits.affinity)?;
        loop {
            let is_choice = pools.endpoints.is_choice();
            let attempt = Attempt { place: &mut request, read: &mut read, is_choice };
            let pool = pools.at(course.place());
            let overdue = Overdue::watch(&self.shared, &pools, pool, limits.progress);
            let outcome = self.attempt(pool, attempt, limits).await;
            overdue.over();
            let failure = match outcome {
                Ok(response) => {
                    self.shared.answered(&pools.endpoints, pool.shared(), response.head.status);
                    return Ok(response);
                }
                Err(failure) => failure,
            };
            // When the client's body was at fault, the target's connection broke because of it.
            if let Some(error) = failure.error().filter(|_| limits.progress.body_fault().is_none()) {
                self.shared.failed(&pools.endpoints, pool.shared(), error);
            }
            course.go_on(failure, request.is_some())?;
        }
    }

    /// Sends a request that asks for another protocol, on a connection of HTTP/1.1 of its own, and waits for the head of
    /// its answer. `upgrade_fields` sets the fields that ask. It is sent once; only connecting is tried again.
    ///
    /// # Errors
    ///
    /// [`UpstreamError`]; among them that no target speaks HTTP/1.1.
    pub async fn send_upgrade(
        &self,
        request: UpstreamRequest,
        upgrade_fields: impl FnOnce(&mut FieldList),
        limits: &Limits<'_>,
    ) -> Result<UpgradeAnswer, UpstreamError> {
        let pools = self.pools();
        let mut request = self.compose(request, limits);
        let mut course = Course::new(self, &pools, limits.affinity)?;
        let (pool, exclusive) = loop {
            let chosen = Some(pools.at(course.place())).filter(|pool| pool.takes_http1());
            let pool = chosen
                .or_else(|| pools.all().iter().find(|pool| pool.takes_http1()))
                .ok_or(UpstreamError::Unacceptable("no target of the upstream speaks HTTP/1.1"))?;
            match pool.exclusive().await {
                Ok(exclusive) => break (pool, exclusive),
                Err(error @ UpstreamError::Connect(_)) => {
                    self.shared.failed(&pools.endpoints, pool.shared(), &error);
                    course.go_on(Failure::NotSent(error), true)?;
                }
                Err(error) => return Err(error),
            }
        };
        if let HostChoice::Target = self.host_header {
            request.host = pool.authority().clone();
        }
        upgrade_fields(&mut request.headers);
        upgrade::send(exclusive, request, limits).await
    }

    fn compose(&self, request: UpstreamRequest, limits: &Limits<'_>) -> Outgoing {
        let Pieces { method, path, host, headers, body, length, .. } = *request.into_pieces();
        let host = match &self.host_header {
            HostChoice::Preserve | HostChoice::Target => host.value().clone(),
            HostChoice::Fixed(name) => name.clone(),
        };
        let body = RequestBody::streaming(body, Rc::clone(limits.progress), limits.max_body);
        let declares_nothing = length == BodyLength::Exactly(0);
        Outgoing { method, target: path.into_target(), host, headers, declares_nothing, body }
    }

    /// Tries once. After a failure, the request is in its place again if it may be sent again.
    async fn attempt(
        &self,
        pool: &Rc<Pool>,
        attempt: Attempt<'_>,
        limits: &Limits<'_>,
    ) -> Result<UpstreamResponse, Failure> {
        let leased = match pool.lease().await {
            Ok(leased) => leased,
            Err(error @ UpstreamError::Connect(_)) => return Err(Failure::NotSent(error)),
            Err(error) => return Err(Failure::Final(error)),
        };
        if let HostChoice::Target = self.host_header
            && let Some(request) = attempt.place
        {
            request.host = pool.authority().clone();
        }
        let mut lease = match leased {
            Leased::Http1(lease) => lease,
            // On the heap, so that the requests of HTTP/1.1 need no room for it.
            Leased::Http2(stream) => {
                return Box::pin(http2::send(stream, attempt, pool.scheme(), limits)).await;
            }
        };
        let Attempt { place, read, is_choice } = attempt;
        let gone = || Failure::Final(UpstreamError::Unacceptable("the request is gone"));
        // What was read of the body for HTTP/2 is not put in front of it again here.
        let request = place.as_mut().filter(|_| read.is_empty()).ok_or_else(gone)?;
        let reused = lease.is_reused();
        let mut sending = Sending::begin(lease.connection(), request);
        let answered = poll_fn(|cx| sending.poll(cx, lease.connection(), request, limits.interim)).await;
        let error = match answered {
            Ok(head) => {
                let accepted = sending.accept(head, lease, request.take_body());
                return accepted.map_err(Failure::Final);
            }
            Err(error) => error,
        };
        let fate = sending.fate(&error, lease.connection());
        let error = UpstreamError::Broken(error);
        Err(match fate {
            Fate::NotSent => {
                sending.undo(&mut request.body);
                if reused { Failure::Stale } else { Failure::NotSent(error) }
            }
            // A target that has never answered on this connection will hardly do so on the next one.
            Fate::Repeatable if reused || is_choice => Failure::Broke(error),
            Fate::Repeatable | Fate::Final => Failure::Final(error),
        })
    }
}

impl Failure {
    /// What a target is to blame for, if anything.
    fn error(&self) -> Option<&UpstreamError> {
        match self {
            Self::Stale | Self::Refused(_) => None,
            Self::NotSent(error) | Self::Broke(error) | Self::Final(error) => Some(error),
        }
    }
}

/// Whether a request that may have been processed may be sent again: the method is idempotent and there is no body.
pub(super) fn may_be_repeated(method: &Method, body: &RequestBody) -> bool {
    let idempotent =
        matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE);
    idempotent && matches!(body, RequestBody::Empty)
}
