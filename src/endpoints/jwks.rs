//! `GET /.well-known/jwks.json`: the public keys.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, StatusCode};

use super::answer::{self, Answer, Body};
use crate::base::field_list::FieldList;
use crate::keys::KeyRing;

pub(super) fn answer(ring: &KeyRing, method: &Method) -> Answer {
    if method != Method::GET && method != Method::HEAD {
        return answer::method_not_allowed(method, "GET, HEAD");
    }
    let headers = FieldList::from_iter([
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (CACHE_CONTROL, HeaderValue::from_static("public, max-age=300")),
    ]);
    let body = Body::Raw(Bytes::from(ring.jwks_json()));
    Answer { status: StatusCode::OK, headers, body, reason: None, user: None }
}
