//! Sending a request on a stream of HTTP/2 and taking its answer.

use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;
use h2::Reason;
use h2::client::ResponseFuture;
use http::uri::{Authority, Scheme};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, header};

use super::UpstreamError;
use super::body::{Source, StreamHold, Uploading, UpstreamResponse, accept};
use super::interim::Interim;
use super::multiplex::Stream;
use super::outgoing::Outgoing;
use super::replay::{Held, Replay};
use super::send::{Failure, Limits, may_be_repeated};
use crate::base::field_list::FieldList;
use crate::base::field_value::FieldValue;
use crate::http::incoming::Incoming;
use crate::http::message::ResponseHead;
use crate::http::outgoing::{self, Watch};

/// What an attempt takes and, when it fails, puts back if it may be made again.
pub(super) struct Attempt<'a> {
    /// The request.
    pub(super) place: &'a mut Option<Outgoing>,
    /// What was read of its body already.
    pub(super) read: &'a mut Vec<Bytes>,
    /// Whether another target could have it.
    pub(super) is_choice: bool,
}

/// Sends a request on a stream. After a failure, the request is in its place again if it may be sent again: an upstream
/// that refused the stream, that goes away without having processed it, or that nothing was written to, has not seen it
/// (RFC 9113 section 8.7).
pub(super) async fn send(
    stream: Stream,
    attempt: Attempt<'_>,
    scheme: Scheme,
    limits: &Limits<'_>,
) -> Result<UpstreamResponse, Failure> {
    let gone = |what| Failure::Final(UpstreamError::Unacceptable(what));
    let is_choice = attempt.is_choice;
    let mut request = attempt.place.take().ok_or_else(|| gone("the request is gone"))?;
    let body = request.take_body();
    let replay = Replay::new(body, std::mem::take(attempt.read));
    let empty = replay.is_empty();
    let length = if empty { request.declares_nothing.then_some(0) } else { replay.length() };
    let composed = compose(&request, length, scheme).ok_or_else(|| gone("the request has no authority"))?;
    let Stream { mut sender, used } = stream;
    let reused = used.health().has_answered();
    let written_bytes = used.health().written_bytes();
    let shared = Held::new(replay);
    let begun = sender.send_request(composed, empty);
    drop(sender);
    let (result, upload) = match begun {
        Ok((answer, sending)) => {
            let upload = (!empty).then(|| {
                let (body, used) = (shared.clone(), Rc::clone(&used));
                let mut sending = sending;
                let task = tokio::task::spawn_local(async move {
                    if let Err(error) = outgoing::send(body, &mut sending, &Unwatched).await {
                        tracing::debug!(%error, "a request body was not sent whole");
                    }
                    drop(used);
                });
                Uploading(task.abort_handle())
            });
            (receive(answer, limits.interim).await, upload)
        }
        Err(error) => (Err(error), None),
    };
    let error = match result {
        Ok(response) => {
            used.health().note_answer();
            shared.settle();
            let (head, incoming) = response.into_parts();
            let head = ResponseHead::from(head);
            check(&head).map_err(Failure::Final)?;
            let incoming = Incoming::http2(incoming, &head.headers);
            let source = Source::Http2(Box::new((incoming, StreamHold { _used: used, upload })));
            return Ok(accept(head, source));
        }
        Err(error) => error,
    };
    drop(upload);
    let untouched = used.health().written_bytes() == written_bytes;
    let fate = Fate::of(&error, untouched, reused);
    let error = UpstreamError::BrokenStream(error);
    let Some((body, read)) = shared.take().and_then(Replay::into_parts) else {
        return Err(Failure::Final(error));
    };
    // A target that has never answered on this connection will hardly do so on the next one.
    if fate == Fate::Unknown && !((reused || is_choice) && may_be_repeated(&request.method, &body)) {
        return Err(Failure::Broke(error));
    }
    request.body = body;
    *attempt.place = Some(request);
    *attempt.read = read;
    Err(match fate {
        Fate::Stale => Failure::Stale,
        Fate::NotSent => Failure::NotSent(error),
        Fate::Refused => Failure::Refused(error),
        Fate::Unknown => Failure::Broke(error),
    })
}

/// What became of a request that has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It was not processed, since the connection, which had carried others, was about to end.
    Stale,
    /// It was not processed, and the connection has never carried any.
    NotSent,
    /// It was not processed, since the upstream did not want it now.
    Refused,
    /// It may have been processed.
    Unknown,
}

impl Fate {
    fn of(error: &h2::Error, untouched: bool, reused: bool) -> Self {
        // What the library itself will not send, such as a field that HTTP/2 forbids, it would not send again.
        let of_connection = error.is_io() || error.is_go_away() || error.is_reset();
        // Of the streams that a GOAWAY ends, the library ends only those above the last one that it names.
        if (untouched && of_connection) || (error.is_go_away() && error.is_remote()) {
            return if reused { Self::Stale } else { Self::NotSent };
        }
        if error.is_reset() && error.is_remote() && error.reason() == Some(Reason::REFUSED_STREAM) {
            return Self::Refused;
        }
        Self::Unknown
    }
}

/// The head as HTTP/2 has it: with the scheme, and with the authority in place of `Host` (RFC 9113 section 8.3.1).
fn compose(request: &Outgoing, length: Option<u64>, scheme: Scheme) -> Option<Request<()>> {
    let mut uri = http::uri::Parts::default();
    uri.scheme = Some(scheme);
    uri.authority = Some(Authority::try_from(request.host.as_bytes()).ok()?);
    uri.path_and_query = Some(request.target.clone());
    let mut composed = Request::new(());
    *composed.method_mut() = request.method.clone();
    *composed.uri_mut() = Uri::from_parts(uri).ok()?;
    *composed.version_mut() = http::Version::HTTP_2;
    let mut headers = HeaderMap::try_from(request.headers.clone()).ok()?;
    if let Some(bytes) = length {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes));
    }
    *composed.headers_mut() = headers;
    Some(composed)
}

/// Whether an answer with this head may be passed on. What the reader of HTTP/1.1 refuses, the library may let pass.
fn check(head: &ResponseHead) -> Result<(), UpstreamError> {
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(UpstreamError::Unacceptable("the upstream switched protocols unasked"));
    }
    if !has_plain_length(&head.headers) {
        return Err(UpstreamError::Unacceptable(
            "the length of the upstream's answer has more than one reading",
        ));
    }
    // A quotation mark is in no name (RFC 9110 section 5.6.2).
    if head.headers.keys().any(|name| memchr::memchr(b'"', name.as_str().as_bytes()).is_some()) {
        return Err(UpstreamError::Unacceptable("a field of the upstream's answer has no name"));
    }
    Ok(())
}

/// Whether there is no length, or one plain number. The library takes a list of equal ones and leading zeros as well
/// (RFC 9110 section 8.6), and the text is passed on.
fn has_plain_length(headers: &FieldList) -> bool {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH);
    match (lengths.next().map(FieldValue::as_bytes), lengths.next()) {
        (None, _) | (Some(b"0"), None) => true,
        (Some([b'1'..=b'9', rest @ ..]), None) => rest.iter().all(u8::is_ascii_digit),
        (Some(_), _) => false,
    }
}

/// Waits for the head of the answer, and tells of those before it.
async fn receive(
    mut answer: ResponseFuture,
    interim: Option<&Interim>,
) -> Result<Response<h2::RecvStream>, h2::Error> {
    poll_fn(|cx| {
        if let Some(interim) = interim {
            while let Poll::Ready(Some(Ok(head))) = answer.poll_informational(cx) {
                interim.tell(head.into_parts().0.into());
            }
        }
        Pin::new(&mut answer).poll(cx)
    })
    .await
}

/// What a client sends is watched where it comes in.
struct Unwatched;

impl Watch for Unwatched {
    fn sent(&self, _: usize) {}
    fn blocked(&self) {}
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use http::Method;
    use tokio::net::TcpListener;

    use super::*;
    use crate::upstream::pool::Leased;
    use crate::upstream::pool::tests::{limits, pool, run};

    #[test]
    fn informational_answers_are_told_before_the_answer() {
        run(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let target = format!("h2c://{}", listener.local_addr().unwrap());
            tokio::task::spawn_local(async move {
                let mut connection = h2::server::handshake(listener.accept().await.unwrap().0).await.unwrap();
                while let Some(Ok((_, mut answer))) = connection.accept().await {
                    for status in [103, 103] {
                        let head = Response::builder().status(status).body(()).unwrap();
                        answer.send_informational(head).unwrap();
                    }
                    answer.send_response(Response::new(()), true).unwrap();
                }
            });
            let told = Rc::new(RefCell::new(Vec::new()));
            let pool = pool(&target, "");
            let Leased::Http2(stream) = pool.lease().await.unwrap() else { panic!("it is HTTP/2") };
            let (mut place, mut read) = (Some(Outgoing::bare(Method::GET)), Vec::new());
            let attempt = Attempt { place: &mut place, read: &mut read, is_choice: false };
            let sent = send(stream, attempt, pool.scheme(), &limits(&told)).await;
            assert!(sent.is_ok_and(|answer| answer.head.status == 200));
            assert_eq!(*told.borrow(), [103, 103]);
            assert_eq!(pool.in_flight(), 0);
        });
    }
}
