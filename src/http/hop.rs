//! Fields that are for one connection only and end at the gateway (RFC 9110 section 7.6.1).

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// The fields that are always for one connection only.
static HOP_BY_HOP: [HeaderName; 7] = [
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    HeaderName::from_static("proxy-authentication-info"),
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// The names that `Connection` lists: what a sender means for this connection only. Text that is no name lists none.
pub fn connection_names(headers: &HeaderMap) -> Vec<HeaderName> {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .collect()
}

/// Removes what an upstream meant for its connection to the gateway.
pub fn remove_from_response(headers: &mut HeaderMap) {
    if let Some(value) = headers.get(header::CONNECTION) {
        if !is_plain_connection(value) || headers.get_all(header::CONNECTION).iter().nth(1).is_some() {
            for name in connection_names(headers) {
                // What frames the message is decided by the message, not by a list in it.
                if name != header::CONTENT_LENGTH {
                    headers.remove(name);
                }
            }
        }
        headers.remove(header::CONNECTION);
    }
    // Looking once is cheaper than removing so many times what is rarely there.
    if headers.keys().any(|name| HOP_BY_HOP.contains(name)) {
        for name in &HOP_BY_HOP {
            headers.remove(name);
        }
    }
}

/// Whether `Connection` says only what every connection does, and lists no name.
fn is_plain_connection(value: &HeaderValue) -> bool {
    [&b"keep-alive"[..], b"close"].iter().any(|plain| value.as_bytes().eq_ignore_ascii_case(plain))
}

/// Whether the client takes trailers, which is all of `TE` that a gateway passes on (RFC 9110 section 10.1.4).
pub fn takes_trailers(headers: &HeaderMap) -> Option<HeaderValue> {
    let asks = |value: &HeaderValue| {
        value
            .as_bytes()
            .split(|byte| *byte == b',')
            .any(|item| item.trim_ascii().eq_ignore_ascii_case(b"trailers"))
    };
    // Going through the names costs less than looking up one that is rarely there.
    if !headers.keys().any(|name| name == header::TE) {
        return None;
    }
    headers.get_all(header::TE).iter().any(asks).then(|| HeaderValue::from_static("trailers"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_connection_lists_is_removed_with_the_hop_by_hop_fields() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Hop"),
            ("connection", "content-length"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("te", "trailers"),
            ("proxy-authenticate", "Basic"),
            ("content-length", "3"),
            ("server", "up"),
            ("trailer", "x-sum"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        remove_from_response(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["content-length", "server", "trailer"]);
    }

    #[test]
    fn only_trailers_are_passed_on() {
        let mut headers = HeaderMap::new();
        assert_eq!(takes_trailers(&headers), None);
        headers.append(header::TE, HeaderValue::from_static("gzip, Trailers"));
        assert_eq!(takes_trailers(&headers), Some(HeaderValue::from_static("trailers")));
    }
}
