//! The WebSocket protocol in bytes: the opening, and frames of RFC 6455 section 5.2.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::wire::{Cut, Wire};
use super::{Then, Upstream};

/// The key of RFC 6455 section 1.3.
pub(crate) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// What goes with it.
pub(crate) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

pub(crate) const TEXT: u8 = 1;
pub(crate) const CLOSE: u8 = 8;

/// The fields that open a WebSocket, and others.
pub(crate) fn opening(fields: &str) -> String {
    format!(
        "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-key: {KEY}\r\nsec-websocket-version: 13\r\n{fields}"
    )
}

/// The answer that opens it, and other fields.
pub(crate) fn agreement(key: &str, fields: &str) -> String {
    let accept = digest::digest(
        &digest::SHA1_FOR_LEGACY_USE_ONLY,
        format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11").as_bytes(),
    );
    let accept = STANDARD.encode(accept);
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: {accept}\r\n{fields}\r\n"
    )
}

/// A frame that is a whole message.
pub(crate) fn frame(kind: u8, masked: bool, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    assert!(length < 126, "a longer one needs more bytes for its length");
    let mut bytes = vec![0x80 | kind, length | if masked { 0x80 } else { 0 }];
    let key: [u8; 4] = if masked { [7, 77, 177, 27] } else { [0; 4] };
    if masked {
        bytes.extend(key);
    }
    bytes.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    bytes
}

/// Takes a whole frame off the front, unmasked: its kind and its payload.
pub(crate) fn take_frame(bytes: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let (kind, length) = (bytes.first()? & 0x0f, bytes.get(1)? & 0x7f);
    assert!(length < 126, "no test sends a longer one");
    let masked = bytes[1] & 0x80 != 0;
    let begin = if masked { 6 } else { 2 };
    let end = begin + usize::from(length);
    if bytes.len() < end {
        return None;
    }
    let frame: Vec<u8> = bytes.drain(..end).collect();
    let key = if masked { [frame[2], frame[3], frame[4], frame[5]] } else { [0; 4] };
    Some((kind, frame[begin..].iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect()))
}

/// Reads a frame.
pub(crate) fn read_frame(wire: &mut Wire) -> Result<(u8, Vec<u8>), Cut> {
    loop {
        if let Some(frame) = take_frame(&mut wire.ahead) {
            return Ok(frame);
        }
        wire.fill()?;
    }
}

/// An upstream that opens every WebSocket and sends back what comes; a close frame is the last.
pub(crate) fn echo(fields: &'static str) -> Upstream {
    Upstream::start(move |talk| {
        let key = talk.head.fields.one("sec-websocket-key").unwrap_or_default().to_owned();
        talk.send(agreement(&key, fields));
        while let Ok((kind, payload)) = read_frame(&mut talk.wire) {
            talk.send(frame(kind, false, &payload));
            if kind == CLOSE {
                break;
            }
        }
        Then::Close
    })
}
