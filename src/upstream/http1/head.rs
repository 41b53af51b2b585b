//! Heads of requests and answers.

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode, Version, header};

use super::{Answered, Framing, Http1Error};
use crate::base::field_list::{FieldList, NotInHead};
use crate::base::usual_names::header_name;
use crate::http::chunks::Chunks;
use crate::http::hop;
use crate::http::lines;
use crate::http::message::ResponseHead;
use crate::upstream::UpstreamError;
use crate::upstream::outgoing::Outgoing;

/// Most header fields in an answer.
const MAX_FIELDS: usize = 100;

/// Fields that are added to an answer on its way, usually and at most: the request id, two about limits, and the times.
const ADDED_FIELDS: usize = 4;

/// Most bytes of an answer's head.
pub(super) const MAX_HEAD_BYTES: usize = 64 * 1024;

/// The head of an answer.
pub(in super::super) struct Head {
    /// Status and fields, as they came.
    pub(in super::super) response: ResponseHead,
    /// How its body ends.
    pub(in super::super) framing: Framing,
    /// The connection can carry another request.
    pub(in super::super) persistent: bool,
}

impl Head {
    /// Itself, unless it switches protocols, which nobody has asked for who reads an answer.
    ///
    /// # Errors
    ///
    /// [`UpstreamError::Unacceptable`]
    pub(super) fn unless_switching(self) -> Result<Self, UpstreamError> {
        if self.response.status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(UpstreamError::Unacceptable("the upstream switched protocols unasked"));
        }
        Ok(self)
    }
}

/// How the body of a request is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framed {
    /// There is none, or an empty one.
    Empty,
    /// It has so many bytes.
    Length(u64),
    /// Its length is not known.
    Chunked,
}

/// Writes the head of a request. Its framing is made here and comes from nowhere else.
pub(super) fn write(into: &mut Vec<u8>, request: &Outgoing, framed: Framed) {
    let line = [request.method.as_str(), " ", request.target.as_str(), " HTTP/1.1\r\nhost: "];
    for piece in line.map(str::as_bytes).into_iter().chain([request.host.as_bytes(), b"\r\n"]) {
        into.extend_from_slice(piece);
    }
    for (name, value) in request.headers.iter() {
        if matches!(*name, header::HOST | header::TRANSFER_ENCODING | header::CONTENT_LENGTH) {
            continue;
        }
        for piece in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            into.extend_from_slice(piece);
        }
    }
    match framed {
        Framed::Empty if request.declares_nothing => into.extend_from_slice(b"content-length: 0\r\n"),
        Framed::Empty => {}
        Framed::Length(bytes) => {
            into.extend_from_slice(b"content-length: ");
            into.extend_from_slice(itoa::Buffer::new().format(bytes).as_bytes());
            into.extend_from_slice(b"\r\n");
        }
        Framed::Chunked => into.extend_from_slice(b"transfer-encoding: chunked\r\n"),
    }
    into.extend_from_slice(b"\r\n");
}

/// Takes a head from what was read, when it is there whole. `searched` is how much of it was looked at before.
pub(super) fn take(
    read: &mut BytesMut,
    searched: &mut usize,
    method: &Method,
) -> Result<Option<Answered>, Http1Error> {
    let Some(length) = lines::end_of_head(read, *searched)? else {
        *searched = read.len();
        if read.len() >= MAX_HEAD_BYTES {
            return Err(Http1Error::Malformed("its head is too long"));
        }
        return Ok(None);
    };
    *searched = 0;
    if length > MAX_HEAD_BYTES {
        return Err(Http1Error::Malformed("its head is too long"));
    }
    parse(&read.split_to(length).freeze(), method).map(Some)
}

fn parse(head: &Bytes, method: &Method) -> Result<Answered, Http1Error> {
    // The parser would skip empty lines, which are nowhere allowed before an answer.
    if !head.starts_with(b"HTTP/1.") {
        return Err(Http1Error::Malformed("its head is not HTTP/1.1"));
    }
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    let outcome =
        httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut parsed, head, &mut fields);
    match outcome {
        Ok(httparse::Status::Complete(length)) if length == head.len() => {}
        Ok(_) => return Err(Http1Error::Malformed("its head ends within a line")),
        Err(httparse::Error::TooManyHeaders) => return Err(Http1Error::Malformed("it has too many fields")),
        Err(_) => return Err(Http1Error::Malformed("its head is not HTTP/1.1")),
    }
    let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or(Http1Error::Malformed("its status is none"))?;
    let version = if parsed.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
    let (headers, seen) = collect(head, parsed.headers)?;
    let response = ResponseHead { status, headers };
    if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(Answered::Interim(response));
    }
    let framing = framing(status, version, method, &seen)?;
    // RFC 9112 section 9.3.
    let persistent = (version == Version::HTTP_11 || seen.keep_alive)
        && !seen.close
        && !matches!(framing, Framing::UntilClose)
        && status != StatusCode::SWITCHING_PROTOCOLS;
    Ok(Answered::Final(Head { response, framing, persistent }))
}

/// What the fields of an answer say of its framing and of the connection.
#[derive(Default)]
struct Seen {
    codings: usize,
    lengths: usize,
    /// What the last of the codings is.
    is_chunked: bool,
    /// What the last of the lengths is, where it is a number.
    length: Option<u64>,
    close: bool,
    keep_alive: bool,
}

fn collect(head: &Bytes, fields: &[httparse::Header<'_>]) -> Result<(FieldList, Seen), Http1Error> {
    const NO_FIELD: Http1Error = Http1Error::Malformed("a field is no field");
    let mut seen = Seen::default();
    let mut headers = FieldList::of_head(head.clone(), fields.len() + ADDED_FIELDS);
    for field in fields {
        let name = header_name(field.name.as_bytes()).map_err(|_| NO_FIELD)?;
        let value = field.value;
        match name {
            header::TRANSFER_ENCODING => {
                seen.codings += 1;
                seen.is_chunked = value.eq_ignore_ascii_case(b"chunked");
            }
            header::CONTENT_LENGTH => {
                seen.lengths += 1;
                seen.length = decimal(value);
            }
            header::CONNECTION => {
                for option in value.split(|byte| *byte == b',') {
                    seen.close |= option.trim_ascii().eq_ignore_ascii_case(b"close");
                    seen.keep_alive |= option.trim_ascii().eq_ignore_ascii_case(b"keep-alive");
                }
                // It ends here in any case, and most answers have one.
                if hop::is_plain_connection(value) {
                    continue;
                }
            }
            _ => {}
        }
        headers.append_parsed(name, value).map_err(|NotInHead| NO_FIELD)?;
    }
    Ok((headers, seen))
}

/// How the body of an answer ends (RFC 9112 section 6.3). One that could be read in two ways is none.
fn framing(
    status: StatusCode,
    version: Version,
    method: &Method,
    seen: &Seen,
) -> Result<Framing, Http1Error> {
    if seen.codings > 1 || seen.lengths > 1 {
        return Err(Http1Error::Malformed("its length is given twice"));
    }
    let framing = match (seen.codings, seen.lengths) {
        (0, 0) => Framing::UntilClose,
        (0, _) => match seen.length {
            Some(0) => Framing::Nothing,
            Some(bytes) => Framing::Length(bytes),
            None => return Err(Http1Error::Malformed("its length is no number")),
        },
        (_, 0) if version == Version::HTTP_11 && seen.is_chunked => Framing::Chunked(Chunks::default()),
        (_, 0) => return Err(Http1Error::Malformed("its transfer coding is not known")),
        (_, _) => return Err(Http1Error::Malformed("it has two lengths")),
    };
    // A switch of protocols, no content, and not modified (RFC 9110 section 6.4.1).
    let bodyless = matches!(status.as_u16(), 101 | 204 | 304);
    Ok(if bodyless || *method == Method::HEAD { Framing::Nothing } else { framing })
}

/// A plain number: the text is passed on, and others may read a leading zero as the mark of another base.
fn decimal(digits: &[u8]) -> Option<u64> {
    if !digits.iter().all(u8::is_ascii_digit) || matches!(digits, [b'0', _, ..]) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}
