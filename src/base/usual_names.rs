//! Names of header fields that most messages have, found without looking at each of their letters twice.

use http::header::InvalidHeaderName;
use http::{HeaderName, header};

/// The name that bytes from the wire are, in whatever case.
///
/// # Errors
///
/// [`InvalidHeaderName`], when they are none (RFC 9110 section 5.1).
pub fn header_name(bytes: &[u8]) -> Result<HeaderName, InvalidHeaderName> {
    usual(bytes).map_or_else(|| HeaderName::from_bytes(bytes), Ok)
}

/// What is written in one of the two ways in which programs write it.
fn usual(bytes: &[u8]) -> Option<HeaderName> {
    Some(match bytes {
        b"Host" | b"host" => header::HOST,
        b"Date" | b"date" => header::DATE,
        b"ETag" | b"etag" => header::ETAG,
        b"Vary" | b"vary" => header::VARY,
        b"Accept" | b"accept" => header::ACCEPT,
        b"Cookie" | b"cookie" => header::COOKIE,
        b"Server" | b"server" => header::SERVER,
        b"Origin" | b"origin" => header::ORIGIN,
        b"Referer" | b"referer" => header::REFERER,
        b"Connection" | b"connection" => header::CONNECTION,
        b"User-Agent" | b"user-agent" => header::USER_AGENT,
        b"Set-Cookie" | b"set-cookie" => header::SET_COOKIE,
        b"Content-Type" | b"content-type" => header::CONTENT_TYPE,
        b"Accept-Ranges" | b"accept-ranges" => header::ACCEPT_RANGES,
        b"Authorization" | b"authorization" => header::AUTHORIZATION,
        b"Cache-Control" | b"cache-control" => header::CACHE_CONTROL,
        b"If-None-Match" | b"if-none-match" => header::IF_NONE_MATCH,
        b"Last-Modified" | b"last-modified" => header::LAST_MODIFIED,
        b"Content-Length" | b"content-length" => header::CONTENT_LENGTH,
        b"Accept-Encoding" | b"accept-encoding" => header::ACCEPT_ENCODING,
        b"Accept-Language" | b"accept-language" => header::ACCEPT_LANGUAGE,
        b"Content-Encoding" | b"content-encoding" => header::CONTENT_ENCODING,
        b"If-Modified-Since" | b"if-modified-since" => header::IF_MODIFIED_SINCE,
        b"Transfer-Encoding" | b"transfer-encoding" => header::TRANSFER_ENCODING,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Whether a name is found as the library finds it.
    fn agrees(bytes: &[u8]) -> bool {
        header_name(bytes).ok() == HeaderName::from_bytes(bytes).ok()
    }

    #[test]
    fn a_usual_name_is_the_one_that_it_says() {
        let lower = [
            "host",
            "date",
            "etag",
            "vary",
            "accept",
            "cookie",
            "server",
            "origin",
            "referer",
            "connection",
            "user-agent",
            "set-cookie",
            "content-type",
            "accept-ranges",
            "authorization",
            "cache-control",
            "if-none-match",
            "last-modified",
            "content-length",
            "accept-encoding",
            "accept-language",
            "content-encoding",
            "if-modified-since",
            "transfer-encoding",
        ];
        for name in lower {
            let title: String =
                name.split_inclusive('-').map(|word| word[..1].to_ascii_uppercase() + &word[1..]).collect();
            let written = if name == "etag" { "ETag".to_owned() } else { title };
            for spelling in [name, &written] {
                assert_eq!(usual(spelling.as_bytes()).unwrap().as_str(), name);
            }
            for other in
                [name.to_ascii_uppercase(), format!("{name}s"), name[1..].to_owned(), format!("{name}\0")]
            {
                assert!(agrees(other.as_bytes()), "{other}");
            }
        }
    }

    proptest! {
        #[test]
        fn every_other_name_is_found_as_ever(bytes in prop::collection::vec(any::<u8>(), 0..20)) {
            prop_assert!(agrees(&bytes));
        }
    }
}
