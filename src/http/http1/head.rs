//! Heads of requests.

use std::mem::MaybeUninit;
use std::ops::Range;

use bytes::{Buf as _, Bytes, BytesMut};
use http::{Method, Uri, Version, header};

use super::wire::Left;
use crate::base::field_list::{FieldList, NotInHead, ParsedFields};
use crate::base::usual_names::header_name;
use crate::http::chunks::Chunks;
use crate::http::framing::{self, BodyLength};
use crate::http::lines;
use crate::http::message::RequestHead;

/// Fields for which a head is read without an allocation.
const USUAL_FIELDS: usize = 128;

/// Fields that are added to a request on its way, at most and usually. There is room for them from the beginning.
const ADDED_FIELDS: usize = 11;

/// Most bytes of a request target: what the type of a URI holds.
const MAX_TARGET_BYTES: usize = u16::MAX as usize - 1;

/// How large a head may be.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// In bytes.
    pub max_bytes: usize,
    /// In fields.
    pub max_fields: usize,
}

/// Why there is no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// The head is none of HTTP/1.1.
    Malformed,
    /// A line of it ends with a line feed alone (RFC 9112 section 2.2), which others may not take as its end.
    LineEndBare,
    /// The request target is longer than anybody takes.
    TargetTooLong,
    /// It has too many bytes or fields.
    TooLarge,
    /// It did not come in time.
    TooSlow,
}

/// What the connection has to know of a request to answer it.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// The answer has no body (RFC 9110 section 9.3.2).
    pub is_head: bool,
    /// What the client speaks: HTTP/1.1 or HTTP/1.0.
    pub version: Version,
    /// The client would send another request on the connection (RFC 9112 section 9.3).
    pub is_persistent: bool,
    /// The client takes trailers (RFC 9110 section 10.1.4).
    pub takes_trailers: bool,
}

/// A request that was taken from a connection.
pub(super) struct Taken {
    /// On the heap, because it passes through several hands.
    pub(super) head: Box<RequestHead>,
    pub(super) asked: Asked,
    /// What is to come of its body.
    pub(super) body: Left,
    /// The client waits to be told to send it (RFC 9110 section 10.1.1).
    pub(super) expects_continue: bool,
}

/// A head that was read, before its bytes are its own.
struct Parsed {
    bytes: usize,
    method: Method,
    /// Where the target stands.
    target: Range<usize>,
    version: Version,
    fields: ParsedFields,
    seen: Seen,
}

/// Takes a head from what was read, when it is there whole. `searched` is how much of it was looked at before.
pub(super) fn take(
    read: &mut BytesMut,
    searched: &mut usize,
    limits: HeadLimits,
) -> Result<Option<Taken>, Unread> {
    // Some clients send an empty line behind a body (RFC 9112 section 2.2).
    while read.starts_with(b"\r\n") {
        read.advance(2);
        *searched = searched.saturating_sub(2);
    }
    if *searched > 0 && length(read, *searched, limits)?.is_none() {
        // What comes in many pieces is not parsed again for each of them.
        *searched = read.len();
        return Ok(None);
    }
    let parsed = match parse(read, limits.max_fields) {
        Ok(parsed) => parsed,
        Err(unread) => {
            // Whatever is wrong with it, it has to be there first.
            let Some(_) = length(read, 0, limits)? else {
                *searched = read.len();
                return Ok(None);
            };
            return Err(unread);
        }
    };
    *searched = 0;
    if parsed.bytes > limits.max_bytes {
        return Err(Unread::TooLarge);
    }
    let head = if parsed.bytes == read.len() { std::mem::take(read) } else { read.split_to(parsed.bytes) };
    parsed.taken(head.freeze()).map(Some)
}

/// How long a head is that is there whole.
fn length(read: &[u8], searched: usize, limits: HeadLimits) -> Result<Option<usize>, Unread> {
    let length = lines::end_of_head(read, searched).map_err(|_| Unread::LineEndBare)?;
    if length.unwrap_or(read.len()) > limits.max_bytes { Err(Unread::TooLarge) } else { Ok(length) }
}

/// Parses the head that what was read begins with. An error may also mean that it is not there whole.
fn parse(read: &[u8], max_fields: usize) -> Result<Parsed, Unread> {
    let mut usual = [const { MaybeUninit::uninit() }; USUAL_FIELDS];
    let mut many = Vec::new();
    let fields = if let Some(fields) = usual.get_mut(..max_fields) {
        fields
    } else {
        many.resize(max_fields, MaybeUninit::uninit());
        &mut many
    };
    let mut parsed = httparse::Request::new(&mut []);
    let outcome =
        httparse::ParserConfig::default().parse_request_with_uninit_headers(&mut parsed, read, fields);
    let bytes = match outcome {
        Ok(httparse::Status::Complete(bytes)) => bytes,
        Err(httparse::Error::TooManyHeaders) => return Err(Unread::TooLarge),
        Ok(httparse::Status::Partial) | Err(_) => return Err(Unread::Malformed),
    };
    let (Some(method), Some(target)) = (parsed.method, parsed.path) else { return Err(Unread::Malformed) };
    // The parser takes line ends that are none, and skips empty lines in front.
    if !read.starts_with(method.as_bytes()) || !read.get(..bytes).is_some_and(lines::is_end) {
        return Err(Unread::Malformed);
    }
    if target.len() > MAX_TARGET_BYTES {
        return Err(Unread::TargetTooLong);
    }
    let version = if parsed.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
    // Between them is one space.
    let target = method.len() + 1..method.len() + 1 + target.len();
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| Unread::Malformed)?;
    let (fields, seen) = collect(read, parsed.headers)?;
    Ok(Parsed { bytes, method, target, version, fields, seen })
}

impl Parsed {
    /// What is known of a request, with the bytes of its head.
    fn taken(self, head: Bytes) -> Result<Taken, Unread> {
        let Self { method, target, version, fields, seen, .. } = self;
        let uri = Uri::from_maybe_shared(head.slice(target)).map_err(|_| Unread::Malformed)?;
        let headers = fields.of(head);
        let body = if seen.framing_fields > 0 { body(&headers, version) } else { Left::Nothing };
        let is_http_10 = version == Version::HTTP_10;
        let is_connect = method == Method::CONNECT;
        let asked = Asked {
            is_head: method == Method::HEAD,
            version,
            // Behind the head of a CONNECT there may be what is no request. A client of HTTP/1.0 may be a proxy that passes
            // on what was meant for its own connection (RFC 9112 section 9.3).
            is_persistent: !seen.close && !is_http_10 && !is_connect && !matches!(body, Left::Lost),
            takes_trailers: seen.takes_trailers,
        };
        let expects_continue = seen.expects_continue && !is_http_10 && !matches!(body, Left::Nothing);
        let head = Box::new(RequestHead { method, uri, version, headers, protocol: None });
        Ok(Taken { head, asked, body, expects_continue })
    }
}

/// What a head says to the connection.
#[derive(Default)]
struct Seen {
    framing_fields: usize,
    close: bool,
    takes_trailers: bool,
    expects_continue: bool,
}

fn collect(read: &[u8], fields: &[httparse::Header<'_>]) -> Result<(ParsedFields, Seen), Unread> {
    let mut seen = Seen::default();
    let mut headers = ParsedFields::with_capacity(fields.len() + ADDED_FIELDS);
    for field in fields {
        if !lines::is_line_before(read, field.name.as_bytes()) {
            return Err(Unread::LineEndBare);
        }
        let name = header_name(field.name.as_bytes()).map_err(|_| Unread::Malformed)?;
        let value = field.value;
        match name {
            header::CONTENT_LENGTH | header::TRANSFER_ENCODING => seen.framing_fields += 1,
            header::CONNECTION => seen.close |= lists(value, b"close"),
            header::TE => seen.takes_trailers |= lists(value, b"trailers"),
            header::EXPECT => seen.expects_continue = value.eq_ignore_ascii_case(b"100-continue"),
            _ => {}
        }
        headers.append(read, name, value).map_err(|NotInHead| Unread::Malformed)?;
    }
    Ok((headers, seen))
}

/// Whether a list has this item.
fn lists(value: &[u8], item: &[u8]) -> bool {
    value.split(|byte| *byte == b',').any(|listed| listed.trim_ascii().eq_ignore_ascii_case(item))
}

/// What is to come of a body. Where that has two readings, nothing is read: the request is refused, and the connection ends.
fn body(headers: &FieldList, version: Version) -> Left {
    match framing::declared(headers, version) {
        Ok(BodyLength::None | BodyLength::Exactly(0)) => Left::Nothing,
        Ok(BodyLength::Exactly(bytes)) => Left::Length(bytes),
        Ok(BodyLength::Chunked) => Left::Chunked(Chunks::default()),
        Err(_) => Left::Lost,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::http::lines::tests::{has_one_end, heads, in_pieces};

    const LIMITS: HeadLimits = HeadLimits { max_bytes: 200, max_fields: 4 };
    const STARTS: &[&[u8]] =
        &[b"GET / HTTP/1.1", b"POST /a?b HTTP/1.0", b"\r\nGET / HTTP/1.1", b"GET  / HTTP/1.1"];
    const LINES: &[&[u8]] =
        &[b"a: b", b"host: c", b"content-length: 3", b"connection:close", b"", b" d", b"e", b"f:\0"];

    /// What is taken of bytes that come in pieces of so many, and what is left of them.
    fn taken(bytes: &[u8], piece: usize) -> (String, Vec<u8>) {
        in_pieces(bytes, piece, |read, searched| match take(read, searched, LIMITS) {
            Ok(None) => None,
            Ok(Some(taken)) => Some(format!("{:?} {:?} {:?}", taken.head, taken.asked, taken.body)),
            Err(unread) => Some(format!("{unread:?}")),
        })
    }

    proptest! {
        /// A head is one that ends at its first empty line and has no line that ends otherwise, and it is the same in whatever
        /// pieces it comes.
        #[test]
        fn a_head_has_one_end_however_it_comes(bytes in heads(STARTS, LINES), cut in 1_usize..40) {
            let (outcome, left) = taken(&bytes, bytes.len());
            if outcome.starts_with("RequestHead") {
                let head = &bytes[..bytes.len() - left.len()];
                let begin = head.iter().position(|byte| !b"\r\n".contains(byte)).unwrap();
                prop_assert!(head[..begin].chunks(2).all(|line| line == b"\r\n"));
                let head = &head[begin..];
                prop_assert!(has_one_end(head));
            }
            let (in_pieces, left_in_pieces) = taken(&bytes, cut);
            prop_assert_eq!(&outcome, &in_pieces);
            prop_assert!(left.starts_with(&left_in_pieces));
        }
    }

    #[test]
    fn an_empty_line_in_front_may_come_in_pieces() {
        let head = b"\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n";
        assert!(taken(head, head.len()).0.starts_with("RequestHead"));
        for piece in 1..head.len() {
            assert_eq!(taken(head, piece), taken(head, head.len()));
        }
    }
}
