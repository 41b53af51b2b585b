//! Heads of requests.

use std::mem::MaybeUninit;

use bytes::{Buf as _, Bytes, BytesMut};
use http::{Method, Uri, Version, header};

use super::wire::Left;
use crate::base::field_list::{FieldList, NotInHead};
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

/// Takes a head from what was read, when it is there whole. `searched` is how much of it was looked at before.
pub(super) fn take(
    read: &mut BytesMut,
    searched: &mut usize,
    limits: HeadLimits,
) -> Result<Option<Taken>, Unread> {
    if *searched == 0 {
        // Some clients send an empty line behind a body (RFC 9112 section 2.2).
        while read.starts_with(b"\r\n") {
            read.advance(2);
        }
    }
    let Some(length) = lines::end_of_head(read, *searched).map_err(|_| Unread::LineEndBare)? else {
        *searched = read.len();
        return if read.len() > limits.max_bytes { Err(Unread::TooLarge) } else { Ok(None) };
    };
    *searched = 0;
    if length > limits.max_bytes {
        return Err(Unread::TooLarge);
    }
    let head = if length == read.len() { std::mem::take(read) } else { read.split_to(length) };
    parse(&head.freeze(), limits.max_fields).map(Some)
}

fn parse(head: &Bytes, max_fields: usize) -> Result<Taken, Unread> {
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
        httparse::ParserConfig::default().parse_request_with_uninit_headers(&mut parsed, head, fields);
    match outcome {
        Ok(httparse::Status::Complete(length)) if length == head.len() => {}
        Err(httparse::Error::TooManyHeaders) => return Err(Unread::TooLarge),
        Ok(_) | Err(_) => return Err(Unread::Malformed),
    }
    let (Some(method), Some(target)) = (parsed.method, parsed.path) else { return Err(Unread::Malformed) };
    if target.len() > MAX_TARGET_BYTES {
        return Err(Unread::TargetTooLong);
    }
    let version = if parsed.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| Unread::Malformed)?;
    let uri = Uri::from_maybe_shared(head.slice_ref(target.as_bytes())).map_err(|_| Unread::Malformed)?;
    let (headers, seen) = collect(head, parsed.headers)?;
    let body = if seen.framing_fields > 0 { body(&headers, version) } else { Left::Nothing };
    let is_http_10 = version == Version::HTTP_10;
    let is_connect = method == Method::CONNECT;
    let asked = Asked {
        is_head: method == Method::HEAD,
        version,
        // Behind the head of a CONNECT there may be what is no request. A client of HTTP/1.0 may be a proxy that passes on
        // what was meant for its own connection (RFC 9112 section 9.3).
        is_persistent: !seen.close && !is_http_10 && !is_connect && !matches!(body, Left::Lost),
        takes_trailers: seen.takes_trailers,
    };
    let expects_continue = seen.expects_continue && !is_http_10 && !matches!(body, Left::Nothing);
    let head = Box::new(RequestHead { method, uri, version, headers, protocol: None });
    Ok(Taken { head, asked, body, expects_continue })
}

/// What a head says to the connection.
#[derive(Default)]
struct Seen {
    framing_fields: usize,
    close: bool,
    takes_trailers: bool,
    expects_continue: bool,
}

fn collect(head: &Bytes, fields: &[httparse::Header<'_>]) -> Result<(FieldList, Seen), Unread> {
    let mut seen = Seen::default();
    let mut headers = FieldList::of_head(head.clone(), fields.len() + ADDED_FIELDS);
    for field in fields {
        let name = header_name(field.name.as_bytes()).map_err(|_| Unread::Malformed)?;
        let value = field.value;
        match name {
            header::CONTENT_LENGTH | header::TRANSFER_ENCODING => seen.framing_fields += 1,
            header::CONNECTION => seen.close |= lists(value, b"close"),
            header::TE => seen.takes_trailers |= lists(value, b"trailers"),
            header::EXPECT => seen.expects_continue = value.eq_ignore_ascii_case(b"100-continue"),
            _ => {}
        }
        headers.append_parsed(name, value).map_err(|NotInHead| Unread::Malformed)?;
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
