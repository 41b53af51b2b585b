//! Heads of requests and answers.

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode, Version, header};

use super::{Answered, Framing, Http1Error};
use crate::base::field_list::{NotInHead, ParsedFields};
use crate::base::usual_names::header_name;
use crate::http::chunks::Chunks;
use crate::http::lines::{self, BARE_LINE_END};
use crate::http::message::ResponseHead;
use crate::upstream::UpstreamError;
use crate::upstream::outgoing::Outgoing;

/// Most header fields in an answer.
const MAX_FIELDS: usize = 100;

/// Fields that are added to an answer on its way, usually and at most: the request id, two about limits, and the times.
const ADDED_FIELDS: usize = 4;

/// Most bytes of an answer's head.
pub(super) const MAX_HEAD_BYTES: usize = 64 * 1024;

const TOO_LONG: Http1Error = Http1Error::Malformed("its head is too long");

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
    into.extend_from_slice(request.method.as_str().as_bytes());
    into.push(b' ');
    into.extend_from_slice(request.target.as_str().as_bytes());
    into.extend_from_slice(b" HTTP/1.1\r\n");
    lines::write_field(into, b"host", request.host.as_bytes());
    for (name, value) in request.headers.iter() {
        if matches!(*name, header::HOST | header::TRANSFER_ENCODING | header::CONTENT_LENGTH) {
            continue;
        }
        lines::write_field(into, name.as_str().as_bytes(), value.as_bytes());
    }
    match framed {
        Framed::Empty if request.declares_nothing => into.extend_from_slice(b"content-length: 0\r\n"),
        Framed::Empty => {}
        Framed::Length(bytes) => {
            lines::write_field(into, b"content-length", itoa::Buffer::new().format(bytes).as_bytes());
        }
        Framed::Chunked => into.extend_from_slice(b"transfer-encoding: chunked\r\n"),
    }
    into.extend_from_slice(b"\r\n");
}

/// A head that was read, before its bytes are its own.
struct Parsed {
    bytes: usize,
    status: StatusCode,
    version: Version,
    fields: ParsedFields,
    seen: Seen,
}

/// Takes a head from what was read, when it is there whole. `searched` is how much of it was looked at before.
pub(super) fn take(
    read: &mut BytesMut,
    searched: &mut usize,
    method: &Method,
) -> Result<Option<Answered>, Http1Error> {
    if read.is_empty() {
        return Ok(None);
    }
    // What comes in many pieces is not parsed again for each of them.
    if *searched > 0 && length(read, *searched)?.is_none() {
        *searched = read.len();
        return Ok(None);
    }
    let parsed = match parse(read) {
        Ok(parsed) => parsed,
        Err(error) => {
            // Whatever is wrong with it, it has to be there first.
            let Some(_) = length(read, 0)? else {
                *searched = read.len();
                return Ok(None);
            };
            return Err(error);
        }
    };
    *searched = 0;
    if parsed.bytes > MAX_HEAD_BYTES {
        return Err(TOO_LONG);
    }
    let head = read.split_to(parsed.bytes).freeze();
    parsed.answered(head, method).map(Some)
}

/// How long a head is that is there whole.
fn length(read: &[u8], searched: usize) -> Result<Option<usize>, Http1Error> {
    match lines::end_of_head(read, searched)? {
        None if read.len() >= MAX_HEAD_BYTES => Err(TOO_LONG),
        Some(length) if length > MAX_HEAD_BYTES => Err(TOO_LONG),
        length => Ok(length),
    }
}

/// Parses the head that what was read begins with. An error may also mean that it is not there whole.
fn parse(read: &[u8]) -> Result<Parsed, Http1Error> {
    // The parser would skip empty lines, which are nowhere allowed before an answer.
    if !read.starts_with(b"HTTP/1.") {
        return Err(Http1Error::Malformed("its head is not HTTP/1.1"));
    }
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    let outcome =
        httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut parsed, read, &mut fields);
    let bytes = match outcome {
        Ok(httparse::Status::Complete(bytes)) => bytes,
        Ok(httparse::Status::Partial) => return Err(Http1Error::Malformed("its head ends within a line")),
        Err(httparse::Error::TooManyHeaders) => return Err(Http1Error::Malformed("it has too many fields")),
        Err(_) => return Err(Http1Error::Malformed("its head is not HTTP/1.1")),
    };
    // The parser takes line ends that are none.
    if !read.get(..bytes).is_some_and(lines::is_end) {
        return Err(BARE_LINE_END.into());
    }
    let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or(Http1Error::Malformed("its status is none"))?;
    let version = if parsed.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
    let (fields, seen) = collect(read, parsed.headers)?;
    Ok(Parsed { bytes, status, version, fields, seen })
}

impl Parsed {
    /// What is known of an answer, with the bytes of its head.
    fn answered(self, head: Bytes, method: &Method) -> Result<Answered, Http1Error> {
        let Self { status, version, fields, seen, .. } = self;
        let response = ResponseHead { status, headers: fields.of(head) };
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

fn collect(read: &[u8], fields: &[httparse::Header<'_>]) -> Result<(ParsedFields, Seen), Http1Error> {
    const NO_FIELD: Http1Error = Http1Error::Malformed("a field is no field");
    let mut seen = Seen::default();
    let mut headers = ParsedFields::with_capacity(fields.len() + ADDED_FIELDS);
    for field in fields {
        if !lines::is_line_before(read, field.name.as_bytes()) {
            return Err(BARE_LINE_END.into());
        }
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
            // It ends here in any case, and most answers have one.
            header::CONNECTION if matches!(value, b"keep-alive" | b"Keep-Alive" | b"close") => {
                let is_close = value == b"close";
                seen.close |= is_close;
                seen.keep_alive |= !is_close;
                continue;
            }
            header::CONNECTION => {
                for option in value.split(|byte| *byte == b',') {
                    seen.close |= option.trim_ascii().eq_ignore_ascii_case(b"close");
                    seen.keep_alive |= option.trim_ascii().eq_ignore_ascii_case(b"keep-alive");
                }
            }
            _ => {}
        }
        headers.append(read, name, value).map_err(|NotInHead| NO_FIELD)?;
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
    let digit = |number: u64, digit: &u8| number.checked_mul(10)?.checked_add(u64::from(digit - b'0'));
    digits.first().and_then(|_| digits.iter().try_fold(0, digit))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::http::lines::tests::{has_one_end, heads, in_pieces};

    const STARTS: &[&[u8]] =
        &[b"HTTP/1.1 200 OK", b"HTTP/1.0 404 ", b"HTTP/1.1 100 Continue", b"\r\nHTTP/1.1 200 OK"];
    const LINES: &[&[u8]] = &[
        b"a: b",
        b"content-length: 3",
        b"connection: close",
        b"transfer-encoding: chunked",
        b"",
        b" d",
        b"e",
        b"f:\0",
    ];

    /// What is taken of bytes that come in pieces of so many, and what is left of them.
    fn taken(bytes: &[u8], piece: usize) -> (String, Vec<u8>) {
        in_pieces(bytes, piece, |read, searched| match take(read, searched, &Method::GET) {
            Ok(None) => None,
            Ok(Some(Answered::Interim(answer))) => Some(format!("an answer: {answer:?}")),
            Ok(Some(Answered::Final(Head { response, framing, persistent }))) => {
                Some(format!("an answer: {response:?} {framing:?} {persistent}"))
            }
            Err(error) => Some(format!("{error:?}")),
        })
    }

    proptest! {
        /// A head is one that ends at its first empty line and has no line that ends otherwise, and it is the same in whatever
        /// pieces it comes.
        #[test]
        fn a_head_has_one_end_however_it_comes(bytes in heads(STARTS, LINES), cut in 1_usize..40) {
            let (outcome, left) = taken(&bytes, bytes.len());
            if outcome.starts_with("an answer") {
                let head = &bytes[..bytes.len() - left.len()];
                prop_assert!(has_one_end(head));
            }
            let (in_pieces, left_in_pieces) = taken(&bytes, cut);
            prop_assert_eq!(&outcome, &in_pieces);
            prop_assert!(left.starts_with(&left_in_pieces));
        }
    }

    #[test]
    fn a_length_is_a_plain_number() {
        for (digits, number) in
            [("0", 0), ("7", 7), ("1234567890", 1_234_567_890), ("18446744073709551615", u64::MAX)]
        {
            assert_eq!(decimal(digits.as_bytes()), Some(number));
        }
        for other in [
            "",
            "00",
            "07",
            "+7",
            "-7",
            " 7",
            "7 ",
            "7,7",
            "0x7",
            "7.0",
            "18446744073709551616",
            "99999999999999999999",
            "７",
        ] {
            assert_eq!(decimal(other.as_bytes()), None, "{other}");
        }
    }
}
