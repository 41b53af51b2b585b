//! Sending a request to an upstream and taking its answer.

use std::cell::Cell;
use std::future::poll_fn;
use std::num::NonZeroU64;
use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Request, Uri, header};

use super::UpstreamError;
use super::body::UpstreamResponse;
use super::http1::{Fate, Sending};
use super::http2::{self, Attempt};
use super::interim::Interim;
use super::pool::{Lease, Leased, Pool};
use super::shared::SharedUpstream;
use super::upgrade::{self, UpgradeAnswer};
use crate::base::ids::{RandomnessUnavailable, random_bytes};
use crate::config::{Balance, HostHeader, IdentityPreset};
use crate::http::body::RequestBody;
use crate::identity::UpstreamRequest;
use crate::net::deadline::{Progress, TickClock};
use crate::request::{BodyLength, Pieces};

/// An upstream as one thread uses it.
pub struct Upstream {
    shared: Arc<SharedUpstream>,
    host_header: HostChoice,
    first: Rc<Pool>,
    pools: Vec<Rc<Pool>>,
    turn: Cell<u64>,
}

/// What an upstream sees as `Host`.
enum HostChoice {
    Preserve,
    Target,
    Fixed(HeaderValue),
}

/// What a request may take.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The largest body, in bytes; `None` is no limit.
    pub max_body: Option<NonZeroU64>,
    /// The state of the client's connection, which the body keeps up to date.
    pub progress: Rc<Progress>,
    /// Who is told of informational answers; nobody costs nothing.
    pub interim: Option<Interim>,
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
        let pool = |target| Rc::new(Pool::new(target, settings, clock));
        let first = pool(&shared.first);
        let mut pools = vec![Rc::clone(&first)];
        pools.extend(shared.others.iter().map(pool));
        let turn = Cell::new(u64::from_ne_bytes(random_bytes::<8>()?));
        Ok(Self { shared: Arc::clone(shared), host_header, first, pools, turn })
    }

    /// Whether this is what all threads know as this upstream.
    pub fn is_of(&self, shared: &Arc<SharedUpstream>) -> bool {
        Arc::ptr_eq(&self.shared, shared)
    }

    /// The upstream's name.
    pub fn name(&self) -> &str {
        &self.shared.settings.name
    }

    /// Which identity headers it gets.
    pub fn identity(&self) -> IdentityPreset {
        self.shared.settings.identity
    }

    /// Lets connections go that nobody has used for a while.
    pub fn sweep(&self) {
        for pool in &self.pools {
            pool.sweep();
        }
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
        limits: &Limits,
    ) -> Result<UpstreamResponse, UpstreamError> {
        let mut request = Some(self.compose(request, limits));
        let mut read = Vec::new();
        let mut retries = self.shared.settings.retries;
        let mut refused = false;
        let mut failed = None;
        loop {
            let attempt = Attempt { place: &mut request, read: &mut read };
            let pool = self.choose(failed);
            let error = match self.attempt(pool, attempt, limits).await {
                Ok(response) => return Ok(response),
                // That is nobody's failure, and each connection can be stale only once.
                Err(Failure::Stale) => continue,
                // Nor is the first refusal: the target was full for a moment.
                Err(Failure::Refused(_)) if !refused => {
                    refused = true;
                    continue;
                }
                Err(Failure::NotSent(error) | Failure::Broke(error) | Failure::Refused(error)) => error,
                Err(Failure::Final(error)) => return Err(error),
            };
            if retries == 0 || request.is_none() {
                return Err(error);
            }
            retries -= 1;
            failed = Some(pool);
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
        upgrade_fields: impl FnOnce(&mut HeaderMap),
        limits: &Limits,
    ) -> Result<UpgradeAnswer, UpstreamError> {
        let mut request = self.compose(request, limits);
        let mut retries = self.shared.settings.retries;
        let mut failed = None;
        let (pool, exclusive) = loop {
            let chosen = Some(self.choose(failed)).filter(|pool| pool.takes_http1());
            let pool = chosen
                .or_else(|| self.pools.iter().find(|pool| pool.takes_http1()))
                .ok_or(UpstreamError::Unacceptable("no target of the upstream speaks HTTP/1.1"))?;
            match pool.exclusive().await {
                Ok(exclusive) => break (pool, exclusive),
                Err(UpstreamError::Connect(_)) if retries > 0 => {
                    retries -= 1;
                    failed = Some(pool);
                }
                Err(error) => return Err(error),
            }
        };
        if let HostChoice::Target = self.host_header {
            request.headers_mut().insert(header::HOST, pool.authority().clone());
        }
        upgrade_fields(request.headers_mut());
        upgrade::send(exclusive, request, limits).await
    }

    fn compose(&self, request: UpstreamRequest, limits: &Limits) -> Request<RequestBody> {
        let Pieces { method, path, host, mut headers, body, length, .. } = *request.into_pieces();
        let host = match &self.host_header {
            HostChoice::Preserve | HostChoice::Target => host.value().clone(),
            HostChoice::Fixed(name) => name.clone(),
        };
        headers.insert(header::HOST, host);
        // The HTTP library frames every body but one that is empty; some servers ask for its length all the same (411).
        if length == BodyLength::Exactly(0) {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        let body = RequestBody::streaming(body, Rc::clone(&limits.progress), limits.max_body);
        let mut composed = Request::new(body);
        *composed.method_mut() = method;
        *composed.uri_mut() = Uri::from(path.into_target());
        *composed.headers_mut() = headers;
        composed
    }

    /// Tries once. After a failure, the request is in its place again if it may be sent again.
    async fn attempt(
        &self,
        pool: &Rc<Pool>,
        attempt: Attempt<'_>,
        limits: &Limits,
    ) -> Result<UpstreamResponse, Failure> {
        let leased = match pool.lease().await {
            Ok(leased) => leased,
            Err(error @ UpstreamError::Connect(_)) => return Err(Failure::NotSent(error)),
            Err(error) => return Err(Failure::Final(error)),
        };
        if let HostChoice::Target = self.host_header
            && let Some(request) = attempt.place
        {
            request.headers_mut().insert(header::HOST, pool.authority().clone());
        }
        match leased {
            Leased::Http1(lease) => self.attempt_http1(lease, attempt, limits).await,
            // On the heap, so that the requests of HTTP/1.1 need no room for it.
            Leased::Http2(stream) => Box::pin(http2::send(stream, attempt, pool.scheme(), limits)).await,
        }
    }

    async fn attempt_http1(
        &self,
        mut lease: Lease,
        attempt: Attempt<'_>,
        limits: &Limits,
    ) -> Result<UpstreamResponse, Failure> {
        let Attempt { place, read } = attempt;
        let gone = || Failure::Final(UpstreamError::Unacceptable("the request is gone"));
        // What was read of the body for HTTP/2 is not put in front of it again here.
        let mut request = place.take().filter(|_| read.is_empty()).ok_or_else(gone)?;
        let reused = lease.is_reused();
        let mut sending = Sending::begin(lease.connection(), &request);
        let answered =
            poll_fn(|cx| sending.poll(cx, lease.connection(), &mut request, limits.interim.as_ref())).await;
        let error = match answered {
            Ok(head) => return sending.accept(head, lease, request).map_err(Failure::Final),
            Err(error) => error,
        };
        let fate = sending.fate(&error, lease.connection());
        let error = UpstreamError::Broken(error);
        Err(match fate {
            Fate::NotSent => {
                sending.undo(request.body_mut());
                *place = Some(request);
                if reused { Failure::Stale } else { Failure::NotSent(error) }
            }
            // A target that has never answered on this connection will hardly do so on the next one.
            Fate::Repeatable if reused => {
                *place = Some(request);
                Failure::Broke(error)
            }
            Fate::Repeatable | Fate::Final => Failure::Final(error),
        })
    }

    /// Chooses a target; where there are several, not the one that has just failed: with nothing in flight it would look
    /// like the best of all.
    fn choose(&self, failed: Option<&Rc<Pool>>) -> &Rc<Pool> {
        let has_failed =
            |pool: Option<&Rc<Pool>>| pool.zip(failed).is_some_and(|(pool, failed)| Rc::ptr_eq(pool, failed));
        let count = self.pools.len() as u64;
        let turn = self.turn.get().wrapping_add(1);
        self.turn.set(turn);
        let at =
            |index: u64| usize::try_from(index % count.max(1)).ok().and_then(|index| self.pools.get(index));
        let chosen = match self.shared.settings.balance {
            Balance::RoundRobin if has_failed(at(turn)) => at(turn.wrapping_add(1)),
            Balance::RoundRobin => at(turn),
            Balance::LeastRequest if count < 2 => at(0),
            Balance::LeastRequest => {
                // Two different targets, the second one by a scrambled step (SplitMix64's finaliser).
                let random = scramble(turn);
                let one = at(random);
                let other = at(random + 1 + (random >> 32) % (count - 1));
                match (one, other) {
                    (one, other) if has_failed(one) => other,
                    (one, other) if has_failed(other) => one,
                    (Some(one), Some(other)) if other.in_flight() < one.in_flight() => Some(other),
                    (one, other) => one.or(other),
                }
            }
        };
        chosen.unwrap_or(&self.first)
    }
}

fn scramble(seed: u64) -> u64 {
    let mut mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
