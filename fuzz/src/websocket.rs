//! The frames of a WebSocket: where they end is the same however the bytes are cut.

use tollgate::upgrade::frames::{Frames, LengthMalformed};

/// Takes the first byte as the size of the slices and the rest as one direction of a WebSocket.
pub(crate) fn run(data: &[u8]) {
    let Some((size, bytes)) = data.split_first() else { return };
    let expected = read(bytes);
    let told = |frames: &Frames| (frames.is_between(), frames.is_closed());
    let mut at_once = Frames::default();
    let outcome = at_once.follow(bytes).map(|()| told(&at_once));
    assert_eq!(outcome, expected, "at once");
    let mut in_slices = Frames::default();
    let mut slices = bytes.chunks(usize::from(*size).max(1));
    let outcome = slices.try_for_each(|slice| in_slices.follow(slice));
    assert_eq!(outcome.map(|()| told(&in_slices)), expected, "in slices");
    let mut one_by_one = Frames::default();
    let mut rest = bytes;
    let outcome = loop {
        if rest.is_empty() {
            break Ok(told(&one_by_one));
        }
        match one_by_one.follow_one(rest) {
            Ok(used) => {
                assert!((1..=rest.len()).contains(&used));
                assert!(used == rest.len() || one_by_one.is_between(), "it stops between frames");
                rest = &rest[used..];
            }
            Err(fault) => break Err(fault),
        }
    };
    assert_eq!(outcome, expected, "frame by frame");
}

/// Whether the bytes end between frames, and whether there was a close frame among them.
fn read(bytes: &[u8]) -> Result<(bool, bool), LengthMalformed> {
    let mut rest = bytes;
    let mut closed = false;
    loop {
        let (Some(first), second) = (rest.first(), rest.get(1)) else { return Ok((true, closed)) };
        closed |= first & 0x0f == 8;
        let Some(second) = second else { return Ok((false, closed)) };
        let extended = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        if extended == 8 && rest.get(2).is_some_and(|byte| byte & 0x80 != 0) {
            return Err(LengthMalformed);
        }
        let Some(digits) = rest.get(2..2 + extended) else { return Ok((false, closed)) };
        let long = digits.iter().fold(0_u64, |length, digit| length << 8 | u64::from(*digit));
        let length = if extended == 0 { u64::from(second & 0x7f) } else { long };
        let key = if second & 0x80 == 0 { 0 } else { 4 };
        let size = u64::try_from(2 + extended + key).unwrap() + length;
        match usize::try_from(size).ok().and_then(|size| rest.get(size..)) {
            Some(after) => rest = after,
            None => return Ok((false, closed)),
        }
    }
}
