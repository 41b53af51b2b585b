//! Frames of HTTP/2 through the whole gateway: whatever is made of them, the upstream sees sound requests only.

use std::time::Duration;

use tollgate::net::frames::PREFACE;

use super::stack::{From, Stack, with_stack};

/// Bit of a record's kind: its payload is text that is written as fields (RFC 7541).
const IS_TEXT: u8 = 0x80;

/// Takes the first byte as a choice: what the rest is.
pub(crate) fn run(data: &[u8]) {
    let Some((choice, rest)) = data.split_first() else { return };
    with_stack(|stack| {
        let mut bytes = PREFACE.to_vec();
        let mut has_token = false;
        if choice & 1 == 0 {
            bytes.extend_from_slice(rest);
        } else {
            bytes.extend(frame(4, 0, 0, &[]));
            has_token = frames(stack, rest, &mut bytes);
        }
        let outcome = stack.send(From::Anybody, &bytes, has_token);
        check_answer(&outcome.answer);
        stack.check_sound_request(Duration::ZERO);
    });
}

/// Writes records as frames: kind, flags, stream, and a payload whose length is one byte. Of text, every line is a field.
fn frames(stack: &Stack, records: &[u8], bytes: &mut Vec<u8>) -> bool {
    let mut has_token = false;
    let mut rest = records;
    while let [kind, flags, stream, length, after @ ..] = rest {
        let (payload, after) = after.split_at(usize::from(*length).min(after.len()));
        rest = after;
        if kind & IS_TEXT == 0 {
            bytes.extend(frame(*kind, *flags, *stream, payload));
            continue;
        }
        let mut block = Vec::new();
        for line in payload.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            // The colon in front of a pseudo-header belongs to its name.
            let colon = line.iter().skip(1).position(|byte| *byte == b':').map_or(line.len(), |at| at + 1);
            let value = line.get(colon + 1..).unwrap_or_default();
            let (value, is_token) = stack.with_token(value);
            has_token |= is_token;
            block.push(0x10);
            literal(&line[..colon], &mut block);
            literal(&value, &mut block);
        }
        bytes.extend(frame(kind & !IS_TEXT, *flags, *stream, &block));
    }
    has_token
}

/// A text in plain bytes (RFC 7541 section 5.2).
fn literal(text: &[u8], block: &mut Vec<u8>) {
    let mut length = text.len();
    if length < 127 {
        block.push(u8::try_from(length).unwrap());
    } else {
        block.push(127);
        length -= 127;
        while length >= 128 {
            block.push(u8::try_from(length % 128).unwrap() | 0x80);
            length /= 128;
        }
        block.push(u8::try_from(length).unwrap());
    }
    block.extend_from_slice(text);
}

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, stream];
    frame.extend_from_slice(payload);
    frame
}

/// What the client gets is whole frames of a known kind, the first of them settings (RFC 9113 section 3.4).
fn check_answer(answer: &[u8]) {
    let mut rest = answer;
    let mut first = true;
    while let Some((header, after)) = rest.split_at_checked(9) {
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
        assert!(length <= 16_384, "a frame is longer than the client allows");
        assert!(header[3] <= 9, "a frame of kind {}", header[3]);
        assert!(!first || header[3] == 4, "settings come first");
        first = false;
        rest = after.get(length..).expect("a frame is whole");
    }
    assert!(rest.is_empty(), "a frame is whole");
}
