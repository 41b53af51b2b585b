//! The bytes of hostile requests.

use super::probe::{Access, Case, Hostile, Probe, Version, Way};

/// The host of every request.
pub(super) const HOST: &str = "rehearsal.test";

/// A field that is nobody's, and must arrive.
pub(super) const HARMLESS: (&str, &str) = ("x-harmless", "arrives");

/// The flags of frames (RFC 9113 sections 6.1 and 6.2).
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// The types of frames.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;

/// A connection with these requests on it.
pub(super) fn bytes(case: &Case<'_>, probes: &[Probe], token: &str) -> Vec<u8> {
    match case.version {
        Version::Http1 => probes.iter().flat_map(|probe| http1(case, probe, token)).collect(),
        Version::Http2 => {
            let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
            frame(&mut bytes, SETTINGS, 0, 0, &[]);
            for (probe, stream) in probes.iter().zip((1..).step_by(2)) {
                http2(&mut bytes, stream, case, probe, token);
            }
            bytes
        }
    }
}

/// The path and the query of a request, by which it is known again.
pub(super) fn target(case: &Case<'_>, probe: &Probe) -> String {
    format!("{}?{}", case.path(), probe.number)
}

/// Its fields before those that are hostile.
fn sound_fields(case: &Case<'_>, token: &str) -> Vec<(String, String)> {
    let mut fields = vec![(HARMLESS.0.to_owned(), HARMLESS.1.to_owned())];
    match case.access {
        Access::Required => fields.push(("authorization".to_owned(), format!("Bearer {token}"))),
        Access::Reported => fields.push(("authorization".to_owned(), "Bearer no.token.this".to_owned())),
        Access::Optional | Access::Public => {}
    }
    fields
}

fn hostile_fields(probe: &Probe) -> impl Iterator<Item = (&str, String)> {
    let fields = probe.hostile.iter().enumerate();
    fields.map(|(place, field)| (field.spelling.as_str(), Hostile::value(probe, place)))
}

fn http1(case: &Case<'_>, probe: &Probe, token: &str) -> Vec<u8> {
    let has_trailers = probe.way == Way::Trailer;
    let method = if has_trailers { "POST" } else { "GET" };
    let mut text = format!("{method} {} HTTP/1.1\r\nHost: {HOST}\r\n", target(case, probe));
    for (name, value) in sound_fields(case, token) {
        text.extend([name.as_str(), ": ", &value, "\r\n"]);
    }
    if has_trailers {
        text.push_str("Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n");
    }
    for (name, value) in hostile_fields(probe) {
        text.extend([name, ": ", &value, "\r\n"]);
    }
    if probe.way == Way::Listed {
        let names: Vec<&str> = hostile_fields(probe).map(|(name, _)| name).collect();
        text.extend(["Connection: ", &names.join(", "), "\r\n"]);
    }
    text.push_str("\r\n");
    text.into_bytes()
}

fn http2(bytes: &mut Vec<u8>, stream: u32, case: &Case<'_>, probe: &Probe, token: &str) {
    let has_trailers = probe.way == Way::Trailer;
    let method = if has_trailers { "POST" } else { "GET" };
    let mut head = Vec::new();
    let target = target(case, probe);
    for (name, value) in
        [(":method", method), (":scheme", "http"), (":authority", HOST), (":path", target.as_str())]
    {
        field(&mut head, name, value);
    }
    for (name, value) in sound_fields(case, token) {
        field(&mut head, &name, &value);
    }
    let mut hostile = Vec::new();
    for (name, value) in hostile_fields(probe) {
        field(&mut hostile, name, &value);
    }
    if has_trailers {
        frame(bytes, HEADERS, END_HEADERS, stream, &head);
        frame(bytes, DATA, 0, stream, b"x");
        frame(bytes, HEADERS, END_HEADERS | END_STREAM, stream, &hostile);
    } else {
        head.extend_from_slice(&hostile);
        frame(bytes, HEADERS, END_HEADERS | END_STREAM, stream, &head);
    }
}

/// RFC 9113 section 4.1.
fn frame(bytes: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    bytes.extend_from_slice(length.get(1..).unwrap_or_default());
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
}

/// A field that is written out (RFC 7541 section 6.2.2).
fn field(block: &mut Vec<u8>, name: &str, value: &str) {
    block.push(0);
    for text in [name, value] {
        length(block, text.len());
        block.extend_from_slice(text.as_bytes());
    }
}

/// A number of seven bits or more (RFC 7541 section 5.1).
fn length(block: &mut Vec<u8>, length: usize) {
    const MOST: u8 = 0x7f;
    match u8::try_from(length) {
        Ok(small) if small < MOST => block.push(small),
        Ok(_) | Err(_) => {
            block.push(MOST);
            let mut rest = length - usize::from(MOST);
            while rest >= 0x80 {
                block.push(0x80 | u8::try_from(rest & 0x7f).unwrap_or(0));
                rest >>= 7;
            }
            block.push(u8::try_from(rest).unwrap_or(0));
        }
    }
}
