//! The bytes of an HTTP/2 connection as the watch over them follows them, held against a reading of the whole.

use tollgate::net::frames::{Frames, PREFACE};

const HEADER_BYTES: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

/// Takes the first byte as the size of the slices and the rest as what follows the preface.
pub(crate) fn run(data: &[u8]) {
    let Some((size, bytes)) = data.split_first() else { return };
    let size = usize::from(*size).max(1);
    let (mut at_once, mut in_slices) = (Frames::default(), Frames::default());
    assert!(at_once.is_partial(), "the preface has not come");
    at_once.feed(PREFACE);
    in_slices.feed(PREFACE);
    at_once.feed(bytes);
    for slice in bytes.chunks(size) {
        in_slices.feed(slice);
    }
    assert_eq!(in_slices.is_partial(), at_once.is_partial(), "cuts make no difference");
    assert_eq!(at_once.is_partial(), is_partial(bytes), "{bytes:?}");
}

/// Whether something other than data is incomplete at the end.
fn is_partial(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    let mut in_head = false;
    while !rest.is_empty() {
        let Some((header, payload)) = rest.split_at_checked(HEADER_BYTES) else { return true };
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
        let (kind, flags) = (header[3], header[4]);
        if kind == HEADERS || kind == CONTINUATION {
            in_head = flags & END_HEADERS == 0;
        }
        match payload.get(length..) {
            Some(after) => rest = after,
            None => return in_head || kind != DATA,
        }
    }
    in_head
}
