//! The story of a request: each stage takes the proof of the one before.

use std::net::IpAddr;
use std::num::NonZeroU64;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::rc::Rc;

use crate::base::field_list::FieldList;
use crate::http::hop;
use crate::http::incoming::Incoming;
use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;
use http::{HeaderName, HeaderValue, StatusCode, header};
use http_body::Body;

use crate::admission;
use crate::authn::Caller;
use crate::authz;
use crate::base::bounds;
use crate::base::ids::X_REQUEST_ID;
use crate::base::path::Oddities;
use crate::base::reason::Reason;
use crate::base::soon::outcome;
use crate::connection::tunnel::Opened;
use crate::connection::{Call, ClientConnection, Purpose, Source};
use crate::endpoints::{Answer as TokenAnswer, Endpoint, TokenRequest};
use crate::fixed;
use crate::http::body::RequestBody;
use crate::http::message::RequestHead;
use crate::http::problem::{Dialect, Refusal};
use crate::identity::{Origin, UpstreamRequest};
use crate::limits::rates::{self, Told, Turn};
use crate::net::deadline::{BodyFault, Progress, in_time};
use crate::net::peer::{Trust, client_of};
use crate::net::tls::Session;
use crate::request::{self, Exchange, IntakeError, Pieces};
use crate::response::{Answer, ClientResponse};
use crate::routing::AnswerRules;
use crate::streams::{Kind, OpenStream};
use crate::telemetry::access::{Ended, Record};
use crate::telemetry::account::Account;
use crate::upgrade::{Answer as Agreed, AnswerFault, Offer};
use crate::upstream::{Limits, Sender, UpgradeAnswer, Upstream, UpstreamResponse};
use crate::worker::{Generation, Worker};

/// How long an answer took (W3C Server Timing).
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// Longest request id that is taken from a trusted proxy, in bytes.
const MAX_REQUEST_ID_BYTES: usize = 128;

/// A request that has come, before anything is waited for. What becomes of it is [`Begun::serve`]'s.
pub struct Begun {
    /// Taken once: whatever is reloaded meanwhile, the request ends as it has begun.
    generation: Rc<Generation>,
    taken: Result<Exchange, IntakeError>,
    dialect: Dialect,
    id: HeaderValue,
    record: Account,
}

/// Takes a request in. There is always an answer, and always one account.
pub fn begin(
    worker: &Worker,
    connection: &ClientConnection,
    progress: &Progress,
    head: Box<RequestHead>,
    body: Incoming,
) -> Begun {
    progress.begin();
    let generation = worker.generation();
    let id = request_id(worker, connection, &head);
    let record = generation.begin_account(connection, &head, &id);
    let dialect = Dialect::of(&head.headers);
    // A redirect to HTTPS passes on what it was asked for, and so takes no path that only some routes do.
    let accepted = match connection.purpose {
        Purpose::Serve => generation.routes.accepted(),
        Purpose::Redirect => Oddities::NONE,
    };
    let taken = request::intake_allowing(head, body, generation.server.limits.max_headers, accepted);
    Begun { generation, taken, dialect, id, record }
}

impl Begun {
    /// Serves the request. It is moved into what is waited for, and not copied there as an argument would be.
    pub fn serve(self, source: Source<'_>) -> impl Future<Output = ClientResponse> + use<'_> {
        let Self { generation, taken, dialect, id, mut record } = self;
        async move {
            let call = &source.call(&generation);
            let (mut told, mut rules) = (Told::default(), AnswerRules::default());
            let outcome = {
                let stages = exchange(call, taken, dialect, &id, &mut record, &mut told, &mut rules);
                unless_panicking(pin!(stages)).await
            };
            let answer = match outcome {
                Ok(mut answer) => {
                    if let Answer::Upstream(response, _) = &mut answer {
                        rules.change(&mut response.head.headers);
                    }
                    answer
                }
                Err(refusal) => refuse(call, dialect, &refusal, &id, &mut record),
            };
            if let Some(mut opened) = call.tunnel.take() {
                // Its exchange ends with the tunnel.
                opened.account = std::mem::take(&mut record);
                call.tunnel.set(Some(opened));
            }
            let timing = generation.tells_times().then(|| record.server_timing()).flatten();
            let mut response = answer.complete(id, call.progress, record);
            if let Some(timing) = timing {
                response.head.headers.append(SERVER_TIMING, timing);
            }
            told.write(&mut response.head.headers);
            rules.tell(&mut response.head.headers);
            response
        }
    }
}

/// Makes a refusal of a panic, so that it costs one request and not all those of its connection. The connection ends, for
/// nobody knows what was read of it.
async fn unless_panicking<T>(
    stages: Pin<&mut impl Future<Output = Result<T, Refusal>>>,
) -> Result<T, Refusal> {
    // What the stages share with other requests is in cells, which are whole between any two steps.
    let caught = AssertUnwindSafe(stages).catch_unwind().await;
    caught.unwrap_or_else(|_| Err(Refusal::new(Reason::InternalError, "The gateway failed.").closing()))
}

/// The stages. Their order matters: nothing is routed that was not checked, nobody is asked for a token who goes to a
/// token route, and an upstream learns of nothing that was not permitted and sealed.
async fn exchange<'a>(
    call: &Call<'a>,
    taken: Result<Exchange, IntakeError>,
    dialect: Dialect,
    id: &HeaderValue,
    record: &mut Account,
    told: &mut Told<'a>,
    rules: &mut AnswerRules<'a>,
) -> Result<Answer, Refusal> {
    let Call { worker, generation, connection, progress, .. } = *call;
    let exchange = taken?;
    note(record, |record| record.took_in(&exchange));
    let trace = generation.begin_trace(connection, &exchange, id, record);
    if connection.purpose == Purpose::Redirect {
        return redirect(worker.https_port, exchange);
    }
    check_directed(call, &exchange)?;
    if let Some(endpoint) = generation.token_routes.matches(exchange.path().path()) {
        // On the heap, so that proxied requests need no room for it.
        return Box::pin(token_route(call, endpoint, exchange, id, record, told)).await;
    }

    if let Some((route, headers)) = generation.routes.preflight(&exchange) {
        record.routed(route.place, &route.name);
        return Ok(Answer::Own(StatusCode::NO_CONTENT, headers, Bytes::new()));
    }
    let routed = generation.routes.route(exchange)?;
    let route = routed.route();
    record.routed(route.place, &route.name);
    *rules = AnswerRules::of(route, routed.exchange().headers());
    if !request::fits(routed.exchange().length(), route.max_body) {
        return Err(Refusal::new(Reason::BodyTooLarge, "The request body is too large.").closing());
    }

    let trusted = &generation.server.trusted_proxies;
    let admitted = outcome!(admission::admit(routed, &connection.peer, trusted, &generation.rates, told))?;
    let identified = outcome!(generation.authenticator.identify(admitted, connection.certified.as_ref()))?;
    record.identified(identified.caller().user_id());
    let permitted = outcome!(authz::permit(identified, &generation.rates, told))?;
    record.permitted();
    if let Some(reason) = permitted.would_refuse() {
        worker.reported.note(&route.name, reason);
        record.reported(reason);
    }
    if let Some((status, headers, body)) = fixed::answer(&permitted)? {
        return Ok(Answer::Own(status, headers, body));
    }

    let upstream = generation.upstream(route)?;
    record.upstream(route.action.upstream(), upstream.name());
    let origin = Origin {
        peer: &connection.peer,
        request_id: id,
        scheme: connection.scheme(),
        certificate: connection.tls.as_ref().and_then(Session::client),
        trace: trace.as_ref(),
    };
    let (mut sealed, caller) = outcome!(generation.sealer.seal(permitted, &origin))?;
    // Where nothing is enforced, nothing ends with its token.
    let caller = if route.is_enforced { caller } else { Caller::Anonymous };

    if dialect == Dialect::Grpc && caller.token().is_some() {
        // It ends with the token, however long its client is silent.
        progress.take_time();
    }
    progress.wait(route.timeout_ms);
    record.upstream_begins();
    let affinity = upstream.affinity(|| sender(call, &caller, sealed.headers()));
    let limits = Limits { max_body: route.max_body, progress, interim: call.interim, affinity };
    if let Some((offer, client)) = sealed.take_opening() {
        let asked = websocket(call, upstream, sealed, &limits, (&offer, client), &caller);
        return Box::pin(asked).await;
    }
    let sent = in_time(progress, pin!(upstream.send(sealed, &limits))).await;
    let response = sent.map_err(Refusal::from)?.map_err(|error| {
        // When the client's body was at fault, the upstream's connection broke because of it.
        progress.body_fault().map_or_else(|| worker.upstream_failed(upstream, error), Refusal::from)
    })?;
    record.upstream_answered();
    let stream = open_stream(call, &response, &caller);
    if let Some(kind) = stream.as_ref().and_then(|(kind, _)| kind.counted()) {
        record.streams(kind);
    }
    Ok(Answer::Upstream(response, stream))
}

/// Asks the upstream for a WebSocket, and leaves the tunnel to the connection when it agrees. What is not an opening that
/// the client asked for is passed on to nobody.
async fn websocket(
    call: &Call<'_>,
    upstream: &Upstream,
    sealed: UpstreamRequest,
    limits: &Limits<'_>,
    (offer, client): (&Offer, Incoming),
    caller: &Caller,
) -> Result<Answer, Refusal> {
    let asked = upstream.send_upgrade(sealed, |headers| offer.request_fields(headers), limits);
    let answered = in_time(call.progress, pin!(asked)).await.map_err(Refusal::from)?;
    let failed = |error| call.worker.upstream_failed(upstream, error);
    match answered.map_err(failed)? {
        UpgradeAnswer::Answered(response) => {
            offer.check_answer(response.head.status, &response.head.headers)?;
            Ok(Answer::Upstream(response, None))
        }
        UpgradeAnswer::Switched { mut head, io, read_ahead } => {
            let Agreed::Switched(switched) = offer.check_answer(head.status, &head.headers)? else {
                return Err(Refusal::from(AnswerFault::NotSwitched));
            };
            hop::remove_from_response(&mut head.headers);
            switched.client_fields(&mut head.headers);
            let stream = caller.token().map(|token| call.worker.streams().open(token.clone(), call.progress));
            let account = Account::default();
            let opened = Opened { upstream: io, read_ahead, client, stream, account };
            call.tunnel.set(Some(Box::new(opened)));
            Ok(Answer::Own(switched.status(), head.headers, Bytes::new()))
        }
    }
}

/// By what a request may be spread among targets: what the upstream gets, and who sent it.
fn sender<'a>(call: &Call<'_>, caller: &'a Caller, headers: &'a FieldList) -> Sender<'a> {
    let client = client_of(&call.connection.peer, headers, &call.generation.server.trusted_proxies);
    Sender { user_id: caller.user_id(), client, headers }
}

/// Sees that an answer that goes on ends with its caller's token. One without a token has none to end with.
fn open_stream(
    call: &Call<'_>,
    response: &UpstreamResponse,
    caller: &Caller,
) -> Option<(Kind, Rc<OpenStream>)> {
    let token = caller.token()?;
    let kind = Kind::of(&response.head.headers);
    (kind != Kind::Answer).then(|| (kind, call.worker.streams().open(token.clone(), call.progress)))
}

/// Refuses a host that the connection's handshake was not for: a client that coalesces connections may try another one
/// (RFC 9110 section 15.5.20).
fn check_directed(call: &Call<'_>, exchange: &Exchange) -> Result<(), Refusal> {
    let Some(session) = &call.connection.tls else { return Ok(()) };
    if session.serves(exchange.host().name(), call.generation.routes.names_hosts()) {
        return Ok(());
    }
    Err(Refusal::new(Reason::MisdirectedRequest, "This connection is not for the requested host."))
}

/// Sends a request in the clear to the same URL with HTTPS. The method stays what it was (RFC 9110 section 15.4.9).
fn redirect(https_port: u16, exchange: Exchange) -> Result<Answer, Refusal> {
    let host = exchange.host().name().to_owned();
    let port = if https_port == 443 { String::new() } else { format!(":{https_port}") };
    let target = exchange.into_pieces().path.into_target();
    let location = HeaderValue::try_from(format!("https://{host}{port}{target}"));
    let location =
        location.map_err(|_| Refusal::new(Reason::RequestMalformed, "The request target is not a path."))?;
    let headers = FieldList::from_iter([(header::LOCATION, location)]);
    Ok(Answer::Own(StatusCode::PERMANENT_REDIRECT, headers, Bytes::new()))
}

/// Answers at a token route. Hashing and the store are the control plane's work, never this thread's.
async fn token_route<'a>(
    call: &Call<'a>,
    endpoint: Endpoint,
    exchange: Exchange,
    id: &HeaderValue,
    record: &mut Account,
    told: &mut Told<'a>,
) -> Result<Answer, Refusal> {
    let Call { generation, connection, .. } = *call;
    record.endpoint(endpoint as usize, endpoint.name());
    if !request::fits(exchange.length(), max_token_request()) {
        return Err(Refusal::new(Reason::BodyTooLarge, "The request body is too large.").closing());
    }
    let client = client_of(&connection.peer, exchange.headers(), &generation.server.trusted_proxies);
    if let Some(plan) = generation.rates.of_token_routes() {
        let sender = rates::Sender { client, headers: exchange.headers(), user_id: None };
        generation.rates.count(plan, Turn::Only, sender, told).await?;
    }
    let answer = token_answer(call, endpoint, exchange, client).await?;
    record.refused(answer.reason);
    note(record, |record| record.user.clone_from(&answer.user));
    let (status, headers, body) = answer.render(id.to_str().unwrap_or_default());
    Ok(Answer::Own(status, headers, body))
}

/// What is answered at a token route. A login that would be refused because too many wait is so here.
async fn token_answer(
    call: &Call<'_>,
    endpoint: Endpoint,
    exchange: Exchange,
    client: IpAddr,
) -> Result<TokenAnswer, Refusal> {
    let routes = call.generation.token_routes.clone();
    if let Some(refusal) = routes.shed(endpoint, exchange.method()) {
        return Ok(refusal);
    }
    let Pieces { method, headers, body, .. } = *exchange.into_pieces();
    let owned = |name| headers.get(name).and_then(|value| value.to_header_value().ok());
    let (content_type, authorization) = (owned(header::CONTENT_TYPE), owned(header::AUTHORIZATION));
    let body = in_time(call.progress, pin!(read_whole(call.progress, body))).await??;
    let request = TokenRequest { endpoint, method, content_type, authorization, body, client };
    let answering = call.worker.control().spawn(async move { routes.answer(request).await });
    answering.await.map_err(|_| Refusal::new(Reason::InternalError, "The gateway failed."))
}

/// Reads the body of a request to a token route, up to [`bounds::MAX_TOKEN_REQUEST_BYTES`].
async fn read_whole(progress: &Rc<Progress>, incoming: Incoming) -> Result<Bytes, Refusal> {
    let streaming = RequestBody::streaming(incoming, Rc::clone(progress), max_token_request());
    let mut body = pin!(streaming);
    let mut whole = BytesMut::new();
    while let Some(frame) = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        let frame = frame.map_err(|_| {
            let fault = progress.body_fault();
            fault.map_or_else(|| Refusal::new(Reason::RequestMalformed, "The body broke off."), Refusal::from)
        })?;
        whole.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
    }
    Ok(whole.freeze())
}

fn max_token_request() -> Option<NonZeroU64> {
    u64::try_from(bounds::MAX_TOKEN_REQUEST_BYTES).ok().and_then(NonZeroU64::new)
}

fn refuse(
    call: &Call<'_>,
    dialect: Dialect,
    refusal: &Refusal,
    id: &HeaderValue,
    record: &mut Account,
) -> Answer {
    // What was overdue has become this refusal; the connection may still carry it.
    call.progress.forgive();
    record.refused(Some(refusal.reason()));
    record.explain(|| refusal.grounds());
    note(record, |record| {
        // Who broke off in the middle of a body will hardly read this answer.
        let left = call.progress.body_fault() == Some(BodyFault::Broken);
        record.ended = if left { Ended::Client } else { Ended::Complete };
    });
    let id = id.to_str().unwrap_or_default();
    let (status, headers, body) = refusal.render_in(dialect, id, &call.generation.realm);
    Answer::Own(status, headers, body)
}

/// The id of a request: a trusted proxy's, or a new one.
fn request_id(worker: &Worker, connection: &ClientConnection, head: &RequestHead) -> HeaderValue {
    if connection.peer.trust() == Trust::Trusted
        && let Some(id) = head.headers.get(X_REQUEST_ID)
        && (1..=MAX_REQUEST_ID_BYTES).contains(&id.as_bytes().len())
        && id.as_bytes().iter().all(u8::is_ascii_graphic)
        && let Ok(id) = id.to_header_value()
    {
        return id;
    }
    worker.next_request_id()
}

fn note(record: &mut Account, write: impl FnOnce(&mut Record)) {
    record.note(write);
}
