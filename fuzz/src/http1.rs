//! Bytes of HTTP/1 through the whole gateway: the upstream sees what a strict reader finds in them, and nothing else.

use std::time::Duration;

use http::Uri;
use tollgate::net::frames::PREFACE;
use tollgate::net::proxy_protocol::{self, Introduction};
use tollgate::rehearsal::{Seen, SeenRequest};
use tollgate::request::NormalPath;

use super::stack::{From, with_stack};

/// A request by the letter of RFC 9112.
#[derive(Debug)]
struct Strict {
    method: String,
    target: String,
    body: Vec<u8>,
}

/// Takes the first byte as a choice of client and the rest as what it sends.
pub(crate) fn run(data: &[u8]) {
    let Some((choice, text)) = data.split_first() else { return };
    let from = if choice & 1 == 0 { From::Anybody } else { From::TrustedProxy };
    with_stack(|stack| {
        let (bytes, has_token) = stack.with_token(text);
        if bytes.starts_with(&PREFACE[..4]) {
            return;
        }
        let outcome = stack.send(from, &bytes, has_token);
        let start = match (from, proxy_protocol::read(&bytes)) {
            (From::TrustedProxy, Introduction::Header { bytes, .. }) => bytes,
            _ => 0,
        };
        let expected = strict_requests(&bytes[start..]);
        let seen = outcome.seen.iter().filter_map(|seen| match seen {
            Seen::Request(request) => Some(request),
            Seen::Incomplete(_) | Seen::Malformed(_) => None,
        });
        check_order(seen, &expected);
        check_answer(&outcome.answer);
        stack.check_sound_request(Duration::ZERO);
    });
}

/// Everything that was seen was sent, in the same order.
fn check_order<'a>(seen: impl Iterator<Item = &'a SeenRequest>, expected: &[Strict]) {
    let mut left = expected.iter();
    for request in seen {
        let is_same = |strict: &Strict| {
            let target = strict.target.parse::<Uri>().ok().and_then(|uri| NormalPath::of(uri).ok());
            strict.method == request.method
                && target.is_some_and(|target| target.into_target().as_str() == request.target)
                && strict.body == request.body
        };
        assert!(left.any(is_same), "nobody sent {request:?}\nbut {expected:?}");
    }
}

/// The requests at the beginning of the bytes, up to the first that is not plain.
fn strict_requests(bytes: &[u8]) -> Vec<Strict> {
    let mut requests = Vec::new();
    let mut rest = bytes;
    while let Some((request, after)) = strict_request(rest) {
        requests.push(request);
        rest = after;
    }
    requests
}

/// A line without its end, and what follows. A line feed or carriage return alone ends nothing.
fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    let line = &bytes[..end];
    (!line.contains(&b'\r') && !line.contains(&b'\n')).then_some((line, &bytes[end + 2..]))
}

fn strict_request(bytes: &[u8]) -> Option<(Strict, &[u8])> {
    let (mut start, mut rest) = line(bytes)?;
    // Empty lines before a request are ignored (RFC 9112 section 2.2).
    while start.is_empty() {
        (start, rest) = line(rest)?;
    }
    let start = std::str::from_utf8(start).ok()?;
    let [method, target, version] = start.split(' ').collect::<Vec<_>>()[..] else { return None };
    let (mut lengths, mut codings) = (Vec::new(), Vec::new());
    loop {
        let (field, after) = line(rest)?;
        rest = after;
        if field.is_empty() {
            break;
        }
        let colon = field.iter().position(|byte| *byte == b':')?;
        let (name, value) = (&field[..colon], field[colon + 1..].trim_ascii().to_ascii_lowercase());
        match &name.to_ascii_lowercase()[..] {
            b"content-length" => lengths.push(value),
            b"transfer-encoding" => codings.push(value),
            _ => {}
        }
    }
    let (body, rest) = match (&lengths[..], &codings[..], version) {
        ([], [], "HTTP/1.1" | "HTTP/1.0") => (Vec::new(), rest),
        ([length], [], "HTTP/1.1" | "HTTP/1.0") => {
            let length: usize = std::str::from_utf8(length).ok()?.parse().ok()?;
            let (body, rest) = rest.split_at_checked(length)?;
            (body.to_vec(), rest)
        }
        ([], [coding], "HTTP/1.1") if coding == b"chunked" => chunks(rest)?,
        _ => return None,
    };
    Some((Strict { method: method.to_owned(), target: target.to_owned(), body }, rest))
}

fn chunks(bytes: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut body = Vec::new();
    let mut rest = bytes;
    loop {
        let (head, after) = line(rest)?;
        let digits = head.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let size = usize::from_str_radix(std::str::from_utf8(&head[..digits]).ok()?, 16).ok()?;
        if size == 0 {
            rest = after;
            break;
        }
        let (chunk, after) = after.split_at_checked(size)?;
        body.extend_from_slice(chunk);
        rest = after.strip_prefix(b"\r\n")?;
    }
    loop {
        let (trailer, after) = line(rest)?;
        rest = after;
        if trailer.is_empty() {
            return Some((body, rest));
        }
    }
}

/// An answer begins as one and never is an error of the gateway's own.
fn check_answer(answer: &[u8]) {
    if answer.is_empty() {
        return;
    }
    let shown = String::from_utf8_lossy(answer);
    // A client of HTTP/1.0 is answered in its own version.
    assert!(shown.starts_with("HTTP/1.1 ") || shown.starts_with("HTTP/1.0 "), "{shown}");
    for fault in ["HTTP/1.1 500 ", "HTTP/1.0 500 ", "HTTP/1.1 502 ", "HTTP/1.0 502 "] {
        assert!(!shown.contains(fault), "{shown}");
    }
}
