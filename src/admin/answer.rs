//! Answers of the admin listener.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};

/// A body that is there as a whole.
pub(super) struct Whole(Option<Bytes>);

impl Body for Whole {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

/// An answer that nobody keeps.
pub(super) fn of(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Whole> {
    let mut response = Response::new(Whole(Some(body.into())));
    *response.status_mut() = status;
    for (name, value) in [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// What the page may do: load its own two files, ask the listener that it came from, and nothing else (CSP level 3).
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

/// A part of the page.
pub(super) fn page(content_type: &'static str, text: &'static str) -> Response<Whole> {
    let mut response = of(StatusCode::OK, content_type, text);
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// An object.
pub(super) fn json(status: StatusCode, value: &serde_json::Value) -> Response<Whole> {
    of(status, "application/json", value.to_string())
}

/// A few words.
pub(super) fn text(status: StatusCode, words: impl Into<Bytes>) -> Response<Whole> {
    of(status, "text/plain; charset=utf-8", words)
}

/// 405 with the methods that would do.
pub(super) fn only(allow: &'static str) -> Response<Whole> {
    let words = if allow == "POST" { "only POST\n" } else { "only GET and HEAD\n" };
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, words);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
    response
}
