//! What HTTP/2 can carry and HTTP/1.1 cannot, or says otherwise (RFC 9113 sections 8.2 and 8.3). The HTTP/2 library has
//! refused what is malformed as such; this is what it lets pass.

use http::{HeaderValue, Method, Uri, header};
use http_body::Body as _;

use super::IntakeError;
use crate::base::field_list::FieldList;
use crate::base::field_value::FieldValue;
use crate::http::incoming::Incoming;

/// Checks a request of HTTP/2, and puts its fields in the form that they have in HTTP/1.1.
pub(super) fn check(
    method: &Method,
    uri: &Uri,
    headers: &mut FieldList,
    body: &Incoming,
) -> Result<(), IntakeError> {
    // The library turns "?x" and "x" into paths; nobody else reads them so.
    if uri.path_and_query().is_some_and(|target| !target.as_str().starts_with('/')) {
        return Err(IntakeError::TargetMalformed);
    }
    // RFC 9113 section 8.2.1: a value begins and ends with a letter that is to be seen.
    if headers.values().any(|value| is_padded(value.as_bytes())) {
        return Err(IntakeError::FieldMalformed("A header value begins or ends with white space."));
    }
    // The library lets a quotation mark pass, which is in no name (RFC 9110 section 5.6.2).
    if headers.keys().any(|name| memchr::memchr(b'"', name.as_str().as_bytes()).is_some()) {
        return Err(IntakeError::FieldMalformed("A header name is no token."));
    }
    // A body without a length would be dropped on its way over HTTP/1.1, and some servers read it as a request.
    if (method == Method::GET || method == Method::HEAD) && !body.is_end_stream() {
        return Err(IntakeError::FramingAmbiguous("GET and HEAD have no body."));
    }
    join_cookies(headers)
}

fn is_padded(value: &[u8]) -> bool {
    let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    is_space(value.first()) || is_space(value.last())
}

/// Puts the cookies in one field again, which HTTP/2 allows to be sent in several (RFC 9113 section 8.2.3).
fn join_cookies(headers: &mut FieldList) -> Result<(), IntakeError> {
    if headers.get_all(header::COOKIE).nth(1).is_none() {
        return Ok(());
    }
    let cookies: Vec<&[u8]> = headers.get_all(header::COOKIE).map(FieldValue::as_bytes).collect();
    let joined = HeaderValue::from_bytes(&cookies.join(&b"; "[..]))
        .map_err(|_| IntakeError::FieldMalformed("The cookies cannot be joined."))?;
    headers.insert(header::COOKIE, joined);
    Ok(())
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn checked(
        method: &Method,
        target: &str,
        fields: &[(&'static str, &[u8])],
    ) -> Result<FieldList, IntakeError> {
        let mut headers = FieldList::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap());
        }
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(http::uri::Scheme::HTTP);
        parts.authority = Some("gw.test".parse().unwrap());
        parts.path_and_query = Some(http::uri::PathAndQuery::try_from(target).unwrap());
        let uri = Uri::from_parts(parts).unwrap();
        check(method, &uri, &mut headers, &Incoming::Empty).map(|()| headers)
    }

    #[test]
    fn a_sound_request_passes() {
        assert!(checked(&Method::GET, "/a?b", &[("accept", b"*/*"), ("x", b""), ("y", b"a b")]).is_ok());
    }

    #[test]
    fn a_path_begins_with_a_slash() {
        for target in ["?x", "*"] {
            assert!(checked(&Method::GET, target, &[]).is_err(), "{target}");
        }
    }

    #[test]
    fn values_with_white_space_at_their_ends_are_refused() {
        for value in [&b" a"[..], b"a ", b"\ta", b"a\t", b" "] {
            assert!(checked(&Method::GET, "/", &[("foo", value)]).is_err(), "{value:?}");
        }
    }

    #[test]
    fn a_name_is_a_token() {
        let uri = Uri::from_static("/");
        for name in [&b"fo\"o"[..], b"\"", b"x-user\"id"] {
            let mut headers = FieldList::new();
            // As the HTTP/2 library makes names.
            headers.insert(HeaderName::from_lowercase(name).unwrap(), HeaderValue::from_static("a"));
            let refused = check(&Method::GET, &uri, &mut headers, &Incoming::Empty);
            assert!(refused.is_err(), "{name:?}");
        }
        assert!(checked(&Method::GET, "/", &[("!#$%&'*+-.^_`|~", b"a")]).is_ok());
    }

    #[test]
    fn cookies_become_one_field() {
        let headers = checked(&Method::GET, "/", &[("cookie", b"a=b"), ("cookie", b"c=d")]).unwrap();
        let cookies: Vec<_> = headers.get_all("cookie").collect();
        assert_eq!(cookies, ["a=b; c=d"]);
    }
}
