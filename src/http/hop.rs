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
    // Going through the names once is cheaper than looking up so many that are rarely there.
    let (mut has_connection, mut has_others) = (false, false);
    for name in headers.keys() {
        has_connection |= *name == header::CONNECTION;
        has_others |= is_hop_by_hop(name);
    }
    if has_connection {
        let plain = headers.get(header::CONNECTION).is_some_and(is_plain_connection);
        if !plain || headers.get_all(header::CONNECTION).iter().nth(1).is_some() {
            for name in connection_names(headers) {
                // What frames the message is decided by the message, not by a list in it.
                if name != header::CONTENT_LENGTH {
                    headers.remove(name);
                }
            }
        }
        headers.remove(header::CONNECTION);
    }
    if has_others {
        for name in &HOP_BY_HOP {
            headers.remove(name);
        }
    }
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    match *name {
        header::PROXY_AUTHENTICATE | header::TE | header::TRANSFER_ENCODING | header::UPGRADE => true,
        _ => matches!(name.as_str(), "keep-alive" | "proxy-connection" | "proxy-authentication-info"),
    }
}

/// Whether `Connection` says only what every connection does, and lists no name.
pub fn is_plain_connection(value: &HeaderValue) -> bool {
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
    fn each_field_for_one_connection_is_found() {
        for name in &HOP_BY_HOP {
            assert!(is_hop_by_hop(name), "{name}");
            let mut headers = HeaderMap::from_iter([(name.clone(), HeaderValue::from_static("1"))]);
            remove_from_response(&mut headers);
            assert!(headers.is_empty(), "{name}");
        }
        assert!(!is_hop_by_hop(&header::TRAILER) && !is_hop_by_hop(&header::AGE));
    }

    #[test]
    fn only_trailers_are_passed_on() {
        let mut headers = HeaderMap::new();
        assert_eq!(takes_trailers(&headers), None);
        headers.append(header::TE, HeaderValue::from_static("gzip, Trailers"));
        assert_eq!(takes_trailers(&headers), Some(HeaderValue::from_static("trailers")));
    }
}
