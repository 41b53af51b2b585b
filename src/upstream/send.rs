//! Sending a request to an upstream and taking its answer.

use std::cell::Cell;
use std::num::NonZeroU64;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body::{Body, Frame, SizeHint};

use super::UpstreamError;
use super::pool::{Lease, Pool, SharedUpstream};
use super::spare::{Spare, Spares};
use crate::base::ids::{RandomnessUnavailable, random_bytes};
use crate::config::{Balance, HostHeader, IdentityPreset};
use crate::http::body::RequestBody;
use crate::http::hop;
use crate::http::incoming::{Incoming, ReadError};
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
    spares: Spares,
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
}

/// The head of an answer, and its body.
pub type UpstreamResponse = Response<UpstreamBody>;

/// A body that an upstream is sending. Read to its end, it gives its connection back; dropped earlier, it closes it.
pub struct UpstreamBody {
    incoming: Incoming,
    lease: Option<Lease>,
    /// The state of the client's connection, which knows whether the request is sent whole.
    progress: Rc<Progress>,
}

/// Why one attempt failed, and what may be done about it.
enum Failure {
    /// The target had closed the connection while it lay idle. Nothing was sent, and the request is where it was.
    Stale,
    /// Nothing was sent, and the request is where it was.
    NotSent(UpstreamError),
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
        Ok(Self { shared: Arc::clone(shared), host_header, first, pools, turn, spares: Spares::default() })
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
        let mut retries = self.shared.settings.retries;
        loop {
            let error = match self.attempt(self.choose(), &mut request, &limits.progress).await {
                Ok(response) => return Ok(response),
                // That is nobody's failure, and each connection can be stale only once.
                Err(Failure::Stale) => continue,
                Err(Failure::NotSent(error) | Failure::Broke(error)) => error,
                Err(Failure::Final(error)) => return Err(error),
            };
            if retries == 0 || request.is_none() {
                return Err(error);
            }
            retries -= 1;
        }
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
        place: &mut Option<Request<RequestBody>>,
        progress: &Rc<Progress>,
    ) -> Result<UpstreamResponse, Failure> {
        let mut lease = match pool.lease().await {
            Ok(lease) => lease,
            Err(error @ UpstreamError::Connect(_)) => return Err(Failure::NotSent(error)),
            Err(error) => return Err(Failure::Final(error)),
        };
        let gone = || Failure::Final(UpstreamError::Unacceptable("the request is gone"));
        let mut request = place.take().ok_or_else(gone)?;
        if let HostChoice::Target = self.host_header {
            request.headers_mut().insert(header::HOST, pool.authority().clone());
        }
        let reused = lease.is_reused();
        let spare = if reused { self.spares.keep(&request) } else { None };
        let sent = lease.sender().ok_or_else(gone)?.try_send_request(request).await;
        let mut error = match sent {
            Ok(response) => {
                self.spares.forget(spare);
                return accept(response, lease, Rc::clone(progress)).map_err(Failure::Final);
            }
            Err(error) => error,
        };
        *place = error.take_message();
        if place.is_some() {
            let not_sent = UpstreamError::Broken(error.into_error());
            return Err(if reused { Failure::Stale } else { Failure::NotSent(not_sent) });
        }
        *place = spare.and_then(Spare::into_request);
        Err(Failure::Broke(UpstreamError::Broken(error.into_error())))
    }

    /// Chooses a target.
    fn choose(&self) -> &Rc<Pool> {
        let count = self.pools.len() as u64;
        let turn = self.turn.get().wrapping_add(1);
        self.turn.set(turn);
        let at =
            |index: u64| usize::try_from(index % count.max(1)).ok().and_then(|index| self.pools.get(index));
        let chosen = match self.shared.settings.balance {
            Balance::RoundRobin => at(turn),
            Balance::LeastRequest if count < 2 => at(0),
            Balance::LeastRequest => {
                // Two different targets, the second one by a scrambled step (SplitMix64's finaliser).
                let random = scramble(turn);
                let one = at(random);
                let other = at(random + 1 + (random >> 32) % (count - 1));
                match (one, other) {
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

/// Takes an answer that may be passed on, without what was meant for the upstream's connection only.
fn accept(
    response: Response<hyper::body::Incoming>,
    lease: Lease,
    progress: Rc<Progress>,
) -> Result<UpstreamResponse, UpstreamError> {
    let (mut head, incoming) = response.into_parts();
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(UpstreamError::Unacceptable("the upstream switched protocols unasked"));
    }
    if head.headers.contains_key(header::TRANSFER_ENCODING)
        && head.headers.contains_key(header::CONTENT_LENGTH)
    {
        return Err(UpstreamError::Unacceptable("the upstream's answer has two lengths"));
    }
    hop::remove_from_response(&mut head.headers);
    let mut body = UpstreamBody { incoming: Incoming::Http1(incoming), lease: Some(lease), progress };
    if body.incoming.is_end_stream() {
        body.finish();
    }
    Ok(Response::from_parts(head, body))
}

impl UpstreamBody {
    /// Gives the connection back. One on which a request is still being sent would make the next request wait for
    /// another client; it ends with that client's body instead.
    fn finish(&mut self) {
        if let Some(lease) = self.lease.take()
            && !self.progress.is_uploading()
        {
            lease.give_back();
        }
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = ReadError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ReadError>>> {
        let frame = ready!(Pin::new(&mut self.incoming).poll_frame(cx));
        match &frame {
            None => self.finish(),
            Some(Ok(_)) if self.incoming.is_end_stream() => self.finish(),
            Some(Ok(_)) => {}
            Some(Err(_)) => drop(self.lease.take()),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
