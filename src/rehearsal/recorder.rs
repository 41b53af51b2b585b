//! An upstream in memory that speaks HTTP/1.1, writes down what it sees and answers every request with an empty 200. It
//! reads by the letter of RFC 9112; what does not keep to it is a fault of the gateway.

use std::cell::RefCell;
use std::rc::Rc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use crate::upstream::MemoryTarget;

/// Most fields that are read of a head or of trailers.
const MAX_FIELDS: usize = 256;

/// What every request is answered with.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// What the upstream saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A whole request.
    Request(SeenRequest),
    /// The connection ended before the request did.
    Incomplete(Vec<u8>),
    /// What is no request of HTTP/1.1, or one with more than one framing.
    Malformed(Vec<u8>),
}

/// A whole request as the upstream saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeenRequest {
    /// The method.
    pub method: String,
    /// The request target.
    pub target: String,
    /// The fields of the head, in their order, with names as they were written.
    pub fields: Vec<Field>,
    /// The body, without its framing.
    pub body: Vec<u8>,
    /// The fields behind a chunked body.
    pub trailers: Vec<Field>,
}

/// A header field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name as it was written.
    pub name: String,
    /// Its value.
    pub value: Vec<u8>,
}

/// Reads from every connection until nobody is left who could open one.
pub(super) async fn serve(mut target: MemoryTarget, seen: Rc<RefCell<Vec<Seen>>>) {
    while let Some(connection) = target.accept().await {
        tokio::task::spawn_local(record(connection, Rc::clone(&seen)));
    }
}

async fn record(mut connection: DuplexStream, seen: Rc<RefCell<Vec<Seen>>>) {
    let mut read = Vec::new();
    loop {
        match request(&read) {
            Parsed::Whole(request, bytes) => {
                read.drain(..bytes);
                seen.borrow_mut().push(Seen::Request(request));
                if connection.write_all(ANSWER).await.is_err() {
                    return;
                }
            }
            Parsed::Malformed => {
                seen.borrow_mut().push(Seen::Malformed(read));
                return;
            }
            Parsed::Partial => match connection.read_buf(&mut read).await {
                Ok(0) | Err(_) if read.is_empty() => return,
                Ok(0) | Err(_) => {
                    seen.borrow_mut().push(Seen::Incomplete(read));
                    return;
                }
                Ok(_) => {}
            },
        }
    }
}

/// What the bytes of a connection begin with.
enum Parsed {
    /// A request, and how many bytes it has.
    Whole(SeenRequest, usize),
    Partial,
    Malformed,
}

/// How a body is framed.
enum Framing {
    Length(usize),
    Chunked,
}

fn request(read: &[u8]) -> Parsed {
    let mut headers = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut head = httparse::Request::new(&mut headers);
    let head_bytes = match head.parse(read) {
        Ok(httparse::Status::Complete(bytes)) => bytes,
        Ok(httparse::Status::Partial) => return Parsed::Partial,
        Err(_) => return Parsed::Malformed,
    };
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    let mut request = SeenRequest {
        method: text(head.method),
        target: text(head.path),
        fields: fields(head.headers),
        ..SeenRequest::default()
    };
    let rest = read.get(head_bytes..).unwrap_or_default();
    match framing(&request.fields) {
        None => Parsed::Malformed,
        Some(_) if head.version != Some(1) => Parsed::Malformed,
        Some(Framing::Length(length)) => match rest.get(..length) {
            None => Parsed::Partial,
            Some(body) => {
                request.body = body.to_vec();
                Parsed::Whole(request, head_bytes + length)
            }
        },
        Some(Framing::Chunked) => chunked(request, rest, head_bytes),
    }
}

/// `None` unless there is one framing (RFC 9112 section 6).
fn framing(fields: &[Field]) -> Option<Framing> {
    let of = |name: &str| {
        let named = fields.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
        named.map(|field| field.value.as_slice()).collect::<Vec<_>>()
    };
    match (of("content-length").as_slice(), of("transfer-encoding").as_slice()) {
        ([], []) => Some(Framing::Length(0)),
        ([length], []) if length.iter().all(u8::is_ascii_digit) => {
            std::str::from_utf8(length).ok()?.parse().ok().map(Framing::Length)
        }
        ([], [b"chunked"]) => Some(Framing::Chunked),
        _ => None,
    }
}

/// Reads chunks and what stands behind them (RFC 9112 section 7.1).
fn chunked(mut request: SeenRequest, mut rest: &[u8], head_bytes: usize) -> Parsed {
    let whole = rest.len();
    loop {
        let (line_bytes, size) = match httparse::parse_chunk_size(rest) {
            Ok(httparse::Status::Complete(line)) => line,
            Ok(httparse::Status::Partial) => return Parsed::Partial,
            Err(_) => return Parsed::Malformed,
        };
        let Ok(size) = usize::try_from(size) else { return Parsed::Malformed };
        rest = rest.get(line_bytes..).unwrap_or_default();
        if size == 0 {
            break;
        }
        let Some(chunk) = rest.get(..size) else { return Parsed::Partial };
        match rest.get(size..).and_then(|behind| behind.get(..2)) {
            None => return Parsed::Partial,
            Some(b"\r\n") => {}
            Some(_) => return Parsed::Malformed,
        }
        request.body.extend_from_slice(chunk);
        rest = rest.get(size + 2..).unwrap_or_default();
    }
    let mut trailers = [httparse::EMPTY_HEADER; MAX_FIELDS];
    match httparse::parse_headers(rest, &mut trailers) {
        Ok(httparse::Status::Partial) => Parsed::Partial,
        Err(_) => Parsed::Malformed,
        Ok(httparse::Status::Complete((bytes, trailers))) => {
            request.trailers = fields(trailers);
            Parsed::Whole(request, head_bytes + whole - rest.len() + bytes)
        }
    }
}

fn fields(headers: &[httparse::Header<'_>]) -> Vec<Field> {
    let field =
        |header: &httparse::Header<'_>| Field { name: header.name.to_owned(), value: header.value.to_vec() };
    headers.iter().map(field).collect()
}
