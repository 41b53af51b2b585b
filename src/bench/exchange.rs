//! A request and its whole answer, over HTTP/1.1 and HTTP/2.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, header, request};
use http_body::{Body, Frame, SizeHint};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use super::endpoint::Endpoint;
use super::fault::{Failed, Fault};
use super::stream::Stream;

/// Most bytes of an answer of a token route that are kept.
pub const MAX_KEPT_BYTES: usize = 256 * 1024;

/// What is read ahead of one stream of HTTP/2 and of one connection, in bytes.
const HTTP2_WINDOW_BYTES: u32 = 1024 * 1024;

/// A request that is sent again and again.
#[derive(Clone, Debug)]
pub struct Outgoing {
    method: Method,
    endpoint: Endpoint,
    fields: HeaderMap,
    body: Bytes,
}

/// The head of an answer, after the whole of it has come, and its body where that was to be kept.
#[derive(Debug)]
pub struct Answer {
    /// Status and fields.
    pub head: http::response::Parts,
    /// What was kept of the body.
    pub body: Vec<u8>,
}

/// Whether a body is kept, or only read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// The first [`MAX_KEPT_BYTES`].
    Body,
    /// Nothing.
    Nothing,
}

impl Outgoing {
    /// A request with these fields. Those that belong to the connection are not for the caller to set.
    pub fn new(method: Method, endpoint: Endpoint, fields: HeaderMap, body: Bytes) -> Self {
        Self { method, endpoint, fields, body }
    }

    fn http1(&self, authorization: Option<HeaderValue>) -> Request<Once> {
        let mut request = Request::new(Once(Some(self.body.clone()).filter(|body| !body.is_empty())));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = origin_form(self.endpoint.target());
        let mut fields = self.fields.clone();
        if !fields.contains_key(header::HOST)
            && let Ok(host) = HeaderValue::try_from(self.endpoint.authority().as_str())
        {
            fields.insert(header::HOST, host);
        }
        *request.headers_mut() = fields;
        authorize(request.headers_mut(), authorization);
        request
    }

    fn http2(&self, authorization: Option<HeaderValue>) -> Request<()> {
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(self.endpoint.scheme());
        parts.authority = Some(self.endpoint.authority().clone());
        parts.path_and_query = Some(self.endpoint.target().clone());
        let (mut head, ()) = Request::new(()).into_parts();
        head.method = self.method.clone();
        // The three of them make a URI.
        head.uri = Uri::from_parts(parts).unwrap_or_default();
        head.version = http::Version::HTTP_2;
        head.headers = self.fields.clone();
        self.authority_from_host(&mut head);
        if !self.body.is_empty() {
            head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(self.body.len()));
        }
        authorize(&mut head.headers, authorization);
        Request::from_parts(head, ())
    }

    /// A `Host` of the caller's is the authority over HTTP/2 (RFC 9113 section 8.3.1).
    fn authority_from_host(&self, head: &mut request::Parts) {
        let Some(host) = head.headers.remove(header::HOST) else { return };
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(self.endpoint.scheme());
        parts.authority = host.to_str().ok().and_then(|host| host.parse().ok());
        parts.path_and_query = Some(self.endpoint.target().clone());
        if let Ok(uri) = Uri::from_parts(parts) {
            head.uri = uri;
        }
    }
}

fn origin_form(target: &PathAndQuery) -> Uri {
    let mut parts = http::uri::Parts::default();
    parts.path_and_query = Some(target.clone());
    Uri::from_parts(parts).unwrap_or_default()
}

fn authorize(fields: &mut HeaderMap, authorization: Option<HeaderValue>) {
    if let Some(value) = authorization {
        fields.insert(header::AUTHORIZATION, value);
    }
}

/// A connection of HTTP/1.1, which carries one request at a time. It moves only within [`Http1::exchange`].
#[derive(Debug)]
pub struct Http1 {
    sender: http1::SendRequest<Once>,
    connection: Pin<Box<http1::Connection<TokioIo<Stream>, Once>>>,
}

impl Http1 {
    /// Speaks HTTP/1.1 on a stream.
    ///
    /// # Errors
    ///
    /// [`Fault::Protocol`]
    pub async fn begin(stream: Stream) -> Result<Self, Failed> {
        let begun = http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = begun.map_err(|error| Failed::new(Fault::Protocol, &error))?;
        Ok(Self { sender, connection: Box::pin(connection) })
    }

    /// Whether it was closed since the last answer.
    pub async fn is_closed(&mut self) -> bool {
        poll_fn(|cx| Poll::Ready(self.connection.as_mut().poll(cx).is_ready())).await
    }

    /// Sends a request and reads its answer to the end. The connection is good for another one only after an answer.
    ///
    /// # Errors
    ///
    /// [`Fault::Closed`] or [`Fault::Protocol`].
    pub async fn exchange(
        &mut self,
        outgoing: &Outgoing,
        authorization: Option<HeaderValue>,
        keep: Keep,
    ) -> Result<Answer, Failed> {
        let Self { sender, connection } = self;
        let request = outgoing.http1(authorization);
        let exchange = async {
            let unsent = |error| Failed { is_unsent: true, ..http1_fault(&error) };
            sender.ready().await.map_err(unsent)?;
            let response = sender.send_request(request).await.map_err(|error| http1_fault(&error))?;
            let (head, body) = response.into_parts();
            Ok::<_, Failed>(Answer {
                head,
                body: read(body, keep).await.map_err(|error| http1_fault(&error))?,
            })
        };
        let mut exchange = pin!(exchange);
        poll_fn(|cx| {
            // The connection is no task of its own, so that a request wakes one task and not two.
            if let Poll::Ready(answer) = exchange.as_mut().poll(cx) {
                return Poll::Ready(answer);
            }
            let ended = connection.as_mut().poll(cx);
            match (exchange.as_mut().poll(cx), ended) {
                (Poll::Ready(answer), _) => Poll::Ready(answer),
                (Poll::Pending, Poll::Ready(_)) => {
                    Poll::Ready(Err(Failed::new(Fault::Closed, &"the connection ended")))
                }
                (Poll::Pending, Poll::Pending) => Poll::Pending,
            }
        })
        .await
    }
}

fn http1_fault(error: &hyper::Error) -> Failed {
    let fault = if error.is_parse() { Fault::Protocol } else { Fault::Closed };
    Failed { is_unsent: error.is_canceled(), ..Failed::new(fault, error) }
}

async fn read(mut body: hyper::body::Incoming, keep: Keep) -> Result<Vec<u8>, hyper::Error> {
    let mut kept = Vec::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        if let (Ok(data), Keep::Body) = (frame?.into_data(), keep) {
            append(&mut kept, &data);
        }
    }
    Ok(kept)
}

fn append(kept: &mut Vec<u8>, data: &[u8]) {
    let room = MAX_KEPT_BYTES - kept.len();
    kept.extend(data.iter().take(room));
}

/// A connection of HTTP/2, which carries many requests at a time.
#[derive(Clone, Debug)]
pub struct Http2 {
    sender: h2::client::SendRequest<Bytes>,
}

impl Http2 {
    /// Speaks HTTP/2 on a stream, in a task of the local set.
    ///
    /// # Errors
    ///
    /// [`Fault::Protocol`]
    pub async fn begin(stream: Stream) -> Result<Self, Failed> {
        let begun = h2::client::Builder::new()
            .initial_window_size(HTTP2_WINDOW_BYTES)
            .initial_connection_window_size(HTTP2_WINDOW_BYTES)
            .enable_push(false)
            .handshake(stream)
            .await;
        let (sender, connection) = begun.map_err(|error| http2_fault(&error))?;
        // How it ends is seen by the requests that it carries.
        tokio::task::spawn_local(async move { drop(connection.await) });
        Ok(Self { sender })
    }

    /// Sends a request and reads its answer to the end.
    ///
    /// # Errors
    ///
    /// [`Fault::Closed`] or [`Fault::Protocol`].
    pub async fn exchange(
        &self,
        outgoing: &Outgoing,
        authorization: Option<HeaderValue>,
        keep: Keep,
    ) -> Result<Answer, Failed> {
        let request = outgoing.http2(authorization);
        let unsent = |error| Failed { is_unsent: true, ..http2_fault(&error) };
        let mut sender = self.sender.clone().ready().await.map_err(unsent)?;
        let is_whole = outgoing.body.is_empty();
        let (response, mut upload) =
            sender.send_request(request, is_whole).map_err(|error| http2_fault(&error))?;
        drop(sender);
        if !is_whole {
            upload.send_data(outgoing.body.clone(), true).map_err(|error| http2_fault(&error))?;
        }
        let response: Response<h2::RecvStream> = response.await.map_err(|error| http2_fault(&error))?;
        let (head, mut body) = response.into_parts();
        let mut kept = Vec::new();
        while let Some(data) = body.data().await {
            let data = data.map_err(|error| http2_fault(&error))?;
            // That the stream has ended meanwhile is no fault.
            let _released = body.flow_control().release_capacity(data.len());
            if keep == Keep::Body {
                append(&mut kept, &data);
            }
        }
        Ok(Answer { head, body: kept })
    }
}

fn http2_fault(error: &h2::Error) -> Failed {
    let closed = error.is_io() || error.is_go_away() || error.is_reset();
    Failed::new(if closed { Fault::Closed } else { Fault::Protocol }, error)
}

/// A body that is there as a whole.
#[derive(Debug)]
pub struct Once(Option<Bytes>);

impl Body for Once {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(self.0.take().map(|data| Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().and_then(|data| u64::try_from(data.len()).ok()).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outgoing(body: &'static str) -> Outgoing {
        let mut fields = HeaderMap::new();
        fields.insert("x-a", HeaderValue::from_static("1"));
        Outgoing::new(
            Method::POST,
            "https://api.test:8443/a?b=c".parse().unwrap(),
            fields,
            Bytes::from_static(body.as_bytes()),
        )
    }

    #[test]
    fn a_request_is_the_same_over_both_protocols() {
        let token = || Some(HeaderValue::from_static("Bearer t"));
        let one = outgoing("x").http1(token());
        assert_eq!(
            (one.uri().to_string(), &one.headers()["host"]),
            ("/a?b=c".to_owned(), &"api.test:8443".parse::<HeaderValue>().unwrap())
        );
        assert_eq!(one.body().size_hint().exact(), Some(1));
        let two = outgoing("x").http2(token());
        assert_eq!(two.uri().to_string(), "https://api.test:8443/a?b=c");
        assert!(!two.headers().contains_key("host") && two.headers()["content-length"] == "1");
        for fields in [one.headers(), two.headers()] {
            assert!(fields["x-a"] == "1" && fields["authorization"] == "Bearer t");
        }
        assert!(outgoing("").http1(None).body().is_end_stream());
    }

    #[test]
    fn a_host_of_the_caller_counts_over_both_protocols() {
        let mut outgoing = outgoing("");
        outgoing.fields.insert(header::HOST, HeaderValue::from_static("other.test"));
        assert_eq!(outgoing.http1(None).headers()["host"], "other.test");
        assert_eq!(outgoing.http2(None).uri().to_string(), "https://other.test/a?b=c");
    }
}
