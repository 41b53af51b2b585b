//! What is kept of a request while it is under way, so that it can be sent again.
//!
//! A copy of the header map would cost allocations for every request, for a case that hardly ever comes. So the fields
//! are written one after the other into a buffer that the next request uses again.

use std::cell::RefCell;

use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method, Request, Uri};
use http_body::Body;

use crate::http::body::RequestBody;

/// Buffers that are kept for further requests, at most.
const MAX_KEPT_BUFFERS: usize = 256;

/// The buffers of one thread.
#[derive(Debug, Default)]
pub(super) struct Spares {
    buffers: RefCell<Vec<Vec<u8>>>,
}

/// A request that may be sent twice.
#[derive(Debug)]
pub(super) struct Spare {
    method: Method,
    target: PathAndQuery,
    /// For each field the lengths of name and value in four bytes each, then both.
    fields: Vec<u8>,
}

impl Spares {
    /// Keeps what is needed to send a request again, if that may be done: the method is idempotent and there is no body.
    pub(super) fn keep(&self, request: &Request<RequestBody>) -> Option<Spare> {
        let idempotent = matches!(
            *request.method(),
            Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE
        );
        if !idempotent || !request.body().is_end_stream() {
            return None;
        }
        let mut fields = self.buffers.borrow_mut().pop().unwrap_or_default();
        fields.clear();
        for (name, value) in request.headers() {
            let (name, value) = (name.as_str().as_bytes(), value.as_bytes());
            fields.extend_from_slice(&u32::try_from(name.len()).ok()?.to_ne_bytes());
            fields.extend_from_slice(&u32::try_from(value.len()).ok()?.to_ne_bytes());
            fields.extend_from_slice(name);
            fields.extend_from_slice(value);
        }
        let target = request.uri().path_and_query()?.clone();
        Some(Spare { method: request.method().clone(), target, fields })
    }

    /// Takes the buffer back of a request that has its answer.
    pub(super) fn forget(&self, spare: Option<Spare>) {
        let mut buffers = self.buffers.borrow_mut();
        if let Some(spare) = spare
            && buffers.len() < MAX_KEPT_BUFFERS
        {
            buffers.push(spare.fields);
        }
    }
}

impl Spare {
    /// The request once more.
    pub(super) fn into_request(self) -> Option<Request<RequestBody>> {
        let mut request = Request::new(RequestBody::Empty);
        let mut rest = self.fields.as_slice();
        while !rest.is_empty() {
            let (name_length, after) = length(rest)?;
            let (value_length, after) = length(after)?;
            let (name, after) = after.split_at_checked(name_length)?;
            let (value, after) = after.split_at_checked(value_length)?;
            let (name, value) = (HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value).ok()?);
            request.headers_mut().append(name, value);
            rest = after;
        }
        *request.method_mut() = self.method;
        *request.uri_mut() = Uri::from(self.target);
        Some(request)
    }
}

fn length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    Some((usize::try_from(u32::from_ne_bytes(*length)).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: Method) -> Request<RequestBody> {
        let mut request = Request::new(RequestBody::Empty);
        *request.method_mut() = method;
        *request.uri_mut() = Uri::from_static("/a?b=c");
        let headers = request.headers_mut();
        headers.append("host", HeaderValue::from_static("gw.test"));
        headers.append("x-a", HeaderValue::from_bytes(b"1\xff").unwrap());
        headers.append("x-a", HeaderValue::from_static(""));
        request
    }

    #[test]
    fn a_kept_request_comes_back_as_it_was() {
        let spares = Spares::default();
        for _ in 0..2 {
            let original = request(Method::GET);
            let again = spares.keep(&original).unwrap().into_request().unwrap();
            assert_eq!((again.method(), again.uri()), (original.method(), original.uri()));
            assert_eq!(again.headers(), original.headers());
            spares.forget(spares.keep(&original));
        }
        assert_eq!(spares.buffers.borrow().len(), 1);
    }

    #[test]
    fn a_request_that_may_not_be_sent_twice_is_not_kept() {
        assert!(Spares::default().keep(&request(Method::POST)).is_none());
        assert!(Spares::default().keep(&request(Method::PATCH)).is_none());
    }
}
