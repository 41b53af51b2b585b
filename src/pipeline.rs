//! The story of a request: each stage takes the proof of the one before.

use std::cell::Cell;
use std::num::NonZeroU64;
use std::rc::Rc;

use crate::http::incoming::Incoming;
use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Request, Response, header};
use http_body::Body;

use crate::authz;
use crate::base::bounds;
use crate::base::ids::X_REQUEST_ID;
use crate::base::reason::Reason;
use crate::endpoints::{Endpoint, TokenRequest};
use crate::http::body::RequestBody;
use crate::http::problem::Refusal;
use crate::identity::{self, Origin};
use crate::net::deadline::{BodyFault, Progress, in_time};
use crate::net::peer::{Peer, Trust, client_of};
use crate::request::{self, Exchange, Pieces};
use crate::response::{Answer, ResponseBody};
use crate::telemetry::access::{Ended, Record};
use crate::upstream::Limits;
use crate::worker::Worker;

/// Longest request id that is taken from a trusted proxy, in bytes.
const MAX_REQUEST_ID_BYTES: usize = 128;

/// A client's connection, as its requests see it.
#[derive(Debug)]
pub struct ClientConnection {
    /// The other side.
    pub peer: Peer,
    /// What the deadlines look at.
    pub progress: Rc<Progress>,
    /// Answers that were given.
    pub answers: Cell<u64>,
}

/// Serves one request. There is always an answer, and always one record.
pub async fn serve(
    worker: &Worker,
    connection: &ClientConnection,
    request: Request<Incoming>,
) -> Response<ResponseBody> {
    connection.progress.begin();
    let id = request_id(worker, connection, &request);
    let mut record = worker.begin_record(connection, &request, &id);
    let answer = match exchange(worker, connection, request, &id, &mut record).await {
        Ok(answer) => answer,
        Err(refusal) => refuse(worker, connection, &refusal, &id, &mut record),
    };
    connection.answers.set(connection.answers.get() + 1);
    answer.complete(id, &connection.progress, record)
}

/// The stages. Their order matters: nothing is routed that was not checked, nobody is asked for a token who goes to a
/// token route, and an upstream learns of nothing that was not permitted and sealed.
async fn exchange(
    worker: &Worker,
    connection: &ClientConnection,
    request: Request<Incoming>,
    id: &HeaderValue,
    record: &mut Option<Box<Record>>,
) -> Result<Answer, Refusal> {
    let exchange = request::intake(request)?;
    note(record, |record| record.took_in(&exchange));
    if let Some(endpoint) = worker.token_routes.matches(exchange.path().path()) {
        return token_route(worker, connection, endpoint, exchange, id, record).await;
    }

    let routed = worker.routes.route(exchange)?;
    let route = routed.route();
    note(record, |record| record.route = Some(route.name.to_string()));
    if !request::fits(routed.exchange().length(), route.max_body) {
        return Err(Refusal::new(Reason::BodyTooLarge, "The request body is too large.").closing());
    }

    let identified = worker.authenticator.identify(routed).await?;
    note(record, |record| record.user = identified.caller().user_id().map(str::to_owned));
    let permitted = authz::permit(identified)?;

    let upstream = worker.upstream(route)?;
    note(record, |record| record.upstream = Some(upstream.name().to_owned()));
    let origin = Origin { peer: &connection.peer, request_id: id, scheme: "http" };
    let sealed = identity::seal(permitted, &worker.firewall, upstream.identity(), &origin)?;

    connection.progress.wait(route.timeout_ms);
    note(record, Record::upstream_begins);
    let limits = Limits { max_body: route.max_body, progress: Rc::clone(&connection.progress) };
    let sent = in_time(&connection.progress, upstream.send(sealed, &limits)).await;
    let response = sent.map_err(Refusal::from)?.map_err(|error| {
        // When the client's body was at fault, the upstream's connection broke because of it.
        connection
            .progress
            .body_fault()
            .map_or_else(|| worker.upstream_failed(upstream, error), Refusal::from)
    })?;
    note(record, Record::upstream_answered);
    Ok(Answer::Upstream(Box::new(response)))
}

/// Answers at a token route. Hashing and the store are the control plane's work, never this thread's.
async fn token_route(
    worker: &Worker,
    connection: &ClientConnection,
    endpoint: Endpoint,
    exchange: Exchange,
    id: &HeaderValue,
    record: &mut Option<Box<Record>>,
) -> Result<Answer, Refusal> {
    note(record, |record| record.route = Some(endpoint.name().to_owned()));
    if !request::fits(exchange.length(), max_token_request()) {
        return Err(Refusal::new(Reason::BodyTooLarge, "The request body is too large.").closing());
    }
    let Pieces { method, headers, body, .. } = *exchange.into_pieces();
    let content_type = headers.get(header::CONTENT_TYPE).cloned();
    let authorization = headers.get(header::AUTHORIZATION).cloned();
    let client = client_of(&connection.peer, &headers, &worker.server.trusted_proxies);
    let body = in_time(&connection.progress, read_whole(connection, body)).await??;
    let routes = worker.token_routes.clone();
    let request = TokenRequest { endpoint, method, content_type, authorization, body, client };
    let answer = worker.control.spawn(async move { routes.answer(request).await }).await;
    let answer = answer.map_err(|_| Refusal::new(Reason::InternalError, "The gateway failed."))?;
    note(record, |record| {
        record.reason = answer.reason;
        record.user.clone_from(&answer.user);
    });
    let (status, headers, body) = answer.render(id.to_str().unwrap_or_default());
    Ok(Answer::Own(status, headers, body))
}

/// Reads the body of a request to a token route, up to [`bounds::MAX_TOKEN_REQUEST_BYTES`].
async fn read_whole(connection: &ClientConnection, incoming: Incoming) -> Result<Bytes, Refusal> {
    let progress = Rc::clone(&connection.progress);
    let mut body = std::pin::pin!(RequestBody::streaming(incoming, progress, max_token_request()));
    let mut whole = BytesMut::new();
    while let Some(frame) = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        let frame = frame.map_err(|_| {
            let fault = connection.progress.body_fault();
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
    worker: &Worker,
    connection: &ClientConnection,
    refusal: &Refusal,
    id: &HeaderValue,
    record: &mut Option<Box<Record>>,
) -> Answer {
    // What was overdue has become this refusal; the connection may still carry it.
    connection.progress.forgive();
    note(record, |record| {
        record.reason = Some(refusal.reason());
        // Who broke off in the middle of a body will hardly read this answer.
        let left = connection.progress.body_fault() == Some(BodyFault::Broken);
        record.ended = if left { Ended::Client } else { Ended::Complete };
    });
    let (headers, body) = refusal.render(id.to_str().unwrap_or_default(), &worker.realm);
    Answer::Own(refusal.status(), headers, body)
}

/// The id of a request: a trusted proxy's, or a new one.
fn request_id(worker: &Worker, connection: &ClientConnection, request: &Request<Incoming>) -> HeaderValue {
    if connection.peer.trust() == Trust::Trusted
        && let Some(id) = request.headers().get(X_REQUEST_ID)
        && (1..=MAX_REQUEST_ID_BYTES).contains(&id.len())
        && id.as_bytes().iter().all(u8::is_ascii_graphic)
    {
        return id.clone();
    }
    worker.next_request_id()
}

fn note(record: &mut Option<Box<Record>>, write: impl FnOnce(&mut Record)) {
    if let Some(record) = record {
        write(record);
    }
}
