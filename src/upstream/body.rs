//! Answers of upstreams, and what they hold while their bodies come.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::response::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use tokio::task::AbortHandle;

use super::UpstreamError;
use super::multiplex::Used;
use super::pool::Lease;
use crate::http::hop;
use crate::http::incoming::{Incoming, ReadError};
use crate::net::deadline::Progress;

/// The head of an answer, and its body.
pub type UpstreamResponse = Response<UpstreamBody>;

/// A body that an upstream is sending. Read to its end, it gives its connection back; dropped earlier, it closes it, or
/// resets its stream.
pub struct UpstreamBody {
    incoming: Incoming,
    hold: Option<Hold>,
    /// The state of the client's connection, which knows whether the request is sent whole.
    progress: Rc<Progress>,
}

/// What an answer is read from.
pub(super) enum Hold {
    /// A connection of its own.
    Http1(Lease),
    /// A stream of a connection that others use too.
    Http2(StreamHold),
}

/// A stream whose answer is being read, and whose request may still be sent.
pub(super) struct StreamHold {
    pub(super) _used: Rc<Used>,
    pub(super) upload: Option<Uploading>,
}

/// A task that sends a request's body. It ends when this is dropped.
pub(super) struct Uploading(pub(super) AbortHandle);

impl Drop for Uploading {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl StreamHold {
    fn is_uploading(&self) -> bool {
        self.upload.as_ref().is_some_and(|upload| !upload.0.is_finished())
    }
}

/// Takes an answer that may be passed on, without what was meant for the upstream's connection only.
pub(super) fn accept(
    mut head: Parts,
    incoming: Incoming,
    hold: Option<Hold>,
    progress: Rc<Progress>,
) -> Result<UpstreamResponse, UpstreamError> {
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(UpstreamError::Unacceptable("the upstream switched protocols unasked"));
    }
    if head.headers.contains_key(header::TRANSFER_ENCODING)
        && head.headers.contains_key(header::CONTENT_LENGTH)
    {
        return Err(UpstreamError::Unacceptable("the upstream's answer has two lengths"));
    }
    if !has_plain_length(&head.headers) {
        return Err(UpstreamError::Unacceptable(
            "the length of the upstream's answer has more than one reading",
        ));
    }
    hop::remove_from_response(&mut head.headers);
    let mut body = UpstreamBody { incoming, hold, progress };
    if body.incoming.is_end_stream() {
        body.finish();
    }
    Ok(Response::from_parts(head, body))
}

/// Whether there is no length, or one plain number. The HTTP library takes a list of equal ones and leading zeros as well
/// (RFC 9110 section 8.6), and the text is passed on.
fn has_plain_length(headers: &HeaderMap) -> bool {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    match (lengths.next().map(HeaderValue::as_bytes), lengths.next()) {
        (None, _) | (Some(b"0"), None) => true,
        (Some([b'1'..=b'9', rest @ ..]), None) => rest.iter().all(u8::is_ascii_digit),
        (Some(_), _) => false,
    }
}

impl UpstreamBody {
    /// Gives the connection back. One on which a request is still being sent would make the next request wait for
    /// another client; it ends with that client's body instead. A stream on which one is being sent ends with the
    /// answer's body.
    fn finish(&mut self) {
        let Some(hold) = self.hold.take() else { return };
        match hold {
            Hold::Http1(lease) if self.progress.is_uploading() => drop(lease),
            Hold::Http1(lease) => lease.give_back(),
            Hold::Http2(stream) if stream.is_uploading() => self.hold = Some(Hold::Http2(stream)),
            Hold::Http2(stream) => drop(stream),
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
            Some(Err(_)) => drop(self.hold.take()),
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
