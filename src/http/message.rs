//! Heads of messages, whichever version of HTTP carries them (RFC 9110 section 6).

use h2::ext::Protocol;
use http::header::InvalidHeaderValue;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version, request, response};

use crate::base::field_list::FieldList;

/// The head of a request, as it came.
#[derive(Debug)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// The target.
    pub uri: Uri,
    /// What the client speaks.
    pub version: Version,
    /// The fields.
    pub headers: FieldList,
    /// What an extended CONNECT asks for (RFC 8441 section 4).
    pub protocol: Option<Protocol>,
}

/// The head of an answer.
#[derive(Debug)]
pub struct ResponseHead {
    /// The status.
    pub status: StatusCode,
    /// The fields.
    pub headers: FieldList,
}

impl From<request::Parts> for RequestHead {
    fn from(parts: request::Parts) -> Self {
        let request::Parts { method, uri, version, headers, mut extensions, .. } = parts;
        Self { method, uri, version, headers: headers.into(), protocol: extensions.remove() }
    }
}

impl RequestHead {
    /// A request that was taken apart. The head is on the heap, because it passes through several hands.
    pub fn split<B>(request: Request<B>) -> (Box<Self>, B) {
        let (parts, body) = request.into_parts();
        (Box::new(parts.into()), body)
    }
}

impl From<response::Parts> for ResponseHead {
    fn from(parts: response::Parts) -> Self {
        Self { status: parts.status, headers: parts.headers.into() }
    }
}

impl TryFrom<ResponseHead> for Response<()> {
    type Error = InvalidHeaderValue;

    /// # Errors
    ///
    /// [`InvalidHeaderValue`], when a parser has taken for a value what must not stand in one.
    fn try_from(head: ResponseHead) -> Result<Self, Self::Error> {
        let mut response = Self::new(());
        *response.status_mut() = head.status;
        *response.headers_mut() = HeaderMap::try_from(head.headers)?;
        Ok(response)
    }
}
