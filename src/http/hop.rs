//! Fields that are for one connection only and end at the gateway (RFC 9110 section 7.6.1).

use std::collections::HashSet;

use http::{HeaderName, HeaderValue, header};

use crate::base::field_list::FieldList;
use crate::base::field_value::FieldValue;

/// The names that `Connection` lists: what a sender means for this connection only. Most senders list none, for whom no table
/// is made.
#[derive(Debug)]
pub struct Listed(Option<HashSet<HeaderName>>);

impl Listed {
    /// Those of a message. Text that is no name lists none, and `keep-alive` alone, which most senders have, none that is not
    /// removed anyway.
    pub fn of(headers: &FieldList) -> Self {
        let is_list = |value: &FieldValue<'_>| !value.as_bytes().eq_ignore_ascii_case(b"keep-alive");
        let mut values = headers.get_all(header::CONNECTION).filter(is_list).peekable();
        Self(values.peek().is_some().then(|| {
            let names = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
            names.filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok()).collect()
        }))
    }

    /// Whether a name is one of them.
    pub fn contains(&self, name: &HeaderName) -> bool {
        self.0.as_ref().is_some_and(|names| names.contains(name))
    }
}

/// Removes what an upstream meant for its connection to the gateway.
pub fn remove_from_response(headers: &mut FieldList) {
    let mut listed = Listed::of(headers);
    if let Some(names) = &mut listed.0 {
        // What frames the message is decided by the message, not by a list in it.
        names.remove(&header::CONTENT_LENGTH);
    }
    headers.retain(|name| !is_hop_by_hop(name) && !listed.contains(name));
}

/// Whether a field is always for one connection only.
fn is_hop_by_hop(name: &HeaderName) -> bool {
    match *name {
        header::CONNECTION
        | header::PROXY_AUTHENTICATE
        | header::TE
        | header::TRANSFER_ENCODING
        | header::UPGRADE => true,
        _ => matches!(name.as_str(), "keep-alive" | "proxy-connection" | "proxy-authentication-info"),
    }
}

/// Whether the client takes trailers, which is all of `TE` that a gateway passes on (RFC 9110 section 10.1.4).
pub fn takes_trailers(headers: &FieldList) -> Option<HeaderValue> {
    let asks = |value: FieldValue<'_>| {
        value
            .as_bytes()
            .split(|byte| *byte == b',')
            .any(|item| item.trim_ascii().eq_ignore_ascii_case(b"trailers"))
    };
    headers.get_all(header::TE).any(asks).then(|| HeaderValue::from_static("trailers"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_connection_lists_is_removed_with_the_hop_by_hop_fields() {
        let mut headers = FieldList::new();
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
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        remove_from_response(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["content-length", "server", "trailer"]);
    }

    #[test]
    fn each_field_for_one_connection_is_found() {
        for name in [
            "connection",
            "keep-alive",
            "proxy-authenticate",
            "proxy-authentication-info",
            "proxy-connection",
            "te",
            "transfer-encoding",
            "upgrade",
        ] {
            let field = (HeaderName::from_static(name), HeaderValue::from_static("close"));
            let mut headers = FieldList::from_iter([field]);
            remove_from_response(&mut headers);
            assert!(headers.is_empty(), "{name}");
        }
    }

    #[test]
    fn only_trailers_are_passed_on() {
        let mut headers = FieldList::new();
        assert_eq!(takes_trailers(&headers), None);
        headers.append(header::TE, HeaderValue::from_static("gzip, Trailers"));
        assert_eq!(takes_trailers(&headers), Some(HeaderValue::from_static("trailers")));
    }
}
