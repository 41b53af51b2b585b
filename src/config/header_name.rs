//! Names of request headers that the gateway sets and clients do not: each becomes one that no client can send.

use http::HeaderName;

use super::complaint::{Complaint, quoted};
pub(super) use crate::base::fields::plain;

/// The longest name of such a header, in letters and digits.
pub(super) const MAX_HEADER_LETTERS: usize = 40;

/// Reads a name that has no other meaning. `example` is one that would do.
pub(super) fn owned_header(name: &str, example: &str) -> Result<HeaderName, Complaint> {
    let fault =
        |why: &str| Err(Complaint::new(format!("{} cannot be such a header", quoted(name))).hint(why));
    let Ok(header) = HeaderName::from_bytes(name.as_bytes()) else {
        return fault(&format!("a header name has letters, digits and \"-\", such as \"{example}\""));
    };
    let plain = plain(name);
    if plain.is_empty() || plain.len() > MAX_HEADER_LETTERS {
        return fault(&format!("a name has from 1 to {MAX_HEADER_LETTERS} letters and digits"));
    }
    if is_taken(&plain) {
        return fault(&format!(
            "the gateway or HTTP itself gives this header another meaning; take a name such as \"{example}\""
        ));
    }
    Ok(header)
}

/// Whether two names are the same to some upstream.
pub(super) fn is_same(one: &HeaderName, other: &HeaderName) -> bool {
    plain(one.as_str()) == plain(other.as_str())
}

/// Whether a header frames or routes a message, or the gateway says something else in it.
fn is_taken(plain: &str) -> bool {
    const NAMES: [&str; 22] = [
        "accept",
        "authorization",
        "connection",
        "cookie",
        "date",
        "expect",
        "forwarded",
        "host",
        "keepalive",
        "origin",
        "range",
        "referer",
        "te",
        "traceparent",
        "trailer",
        "transferencoding",
        "upgrade",
        "useragent",
        "via",
        "xrealip",
        "xrequestid",
        "xtollgateassertion",
    ];
    const BEGINNINGS: [&str; 6] =
        ["content", "proxy", "secwebsocket", "xforwardedfor", "xforwardedhost", "xforwardedproto"];
    NAMES.contains(&plain) || BEGINNINGS.iter().any(|beginning| plain.starts_with(beginning))
}
