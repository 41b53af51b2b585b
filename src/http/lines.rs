//! Lines as HTTP/1.1 ends them.

/// What was read is not what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

/// A line of a head ends with a line feed alone.
pub const BARE_LINE_END: Malformed = Malformed("a line of its head does not end with CRLF");

/// Where a head ends that is there whole: behind its first empty line. `searched` is how much of it was looked at before.
///
/// # Errors
///
/// [`Malformed`], when a line ends with a line feed alone: others may not take it as an end (RFC 9112 section 2.2), and it
/// may be what somebody has smuggled into a field.
pub fn end_of_head(read: &[u8], searched: usize) -> Result<Option<usize>, Malformed> {
    // The end may have begun in what was searched already.
    let from = searched.saturating_sub(3);
    for at in memchr::memchr_iter(b'\n', read.get(from..).unwrap_or_default()) {
        let at = from + at;
        if !read.get(..at).is_some_and(|before| before.ends_with(b"\r")) {
            return Err(BARE_LINE_END);
        }
        if read.get(at + 1..).is_some_and(|behind| behind.starts_with(b"\r\n")) {
            return Ok(Some(at + 3));
        }
    }
    Ok(None)
}

/// Whether the line in front of a field of a head ends as it should. A parser that takes a line feed alone has not seen to it;
/// that the last line and the head itself end so has to be seen as well.
pub fn is_line_before(head: &[u8], name: &[u8]) -> bool {
    let at = name.as_ptr().addr().wrapping_sub(head.as_ptr().addr());
    head.get(at.wrapping_sub(2)..at) == Some(b"\r\n")
}

/// Whether a head ends with the end of a line and an empty line.
pub fn is_end(head: &[u8]) -> bool {
    head.ends_with(b"\r\n\r\n")
}

/// Writes the line of a field.
pub fn write_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// What the tests of requests' and answers' heads share.
#[cfg(test)]
pub(crate) mod tests {
    use bytes::BytesMut;
    use proptest::prelude::*;

    const ENDS: [&[u8]; 10] =
        [b"\r\n", b"\r\n", b"\r\n", b"\r\n", b"\r\n", b"\r\n", b"\r\n\r\n", b"\n", b"\r", b"\n\r\n"];

    /// Heads of some of these lines, most of which end as they should.
    pub(crate) fn heads(
        starts: &'static [&'static [u8]],
        lines: &'static [&'static [u8]],
    ) -> impl Strategy<Value = Vec<u8>> {
        let line = |lines| (prop::sample::select(lines), prop::sample::select(&ENDS[..]));
        (line(starts), prop::collection::vec(line(lines), 0..5)).prop_map(|(start, lines)| {
            let lines = std::iter::once(start).chain(lines).flat_map(|(line, end)| [line, end]);
            lines.chain([&b"\r\n"[..]]).flatten().copied().collect()
        })
    }

    /// What becomes of bytes that come in pieces of so many, and what is left of them then. `take` is told what was read and how
    /// much of it was looked at, and says something once there is something to say.
    pub(crate) fn in_pieces(
        bytes: &[u8],
        piece: usize,
        take: impl Fn(&mut BytesMut, &mut usize) -> Option<String>,
    ) -> (String, Vec<u8>) {
        let (mut read, mut searched) = (BytesMut::new(), 0);
        for piece in bytes.chunks(piece) {
            read.extend_from_slice(piece);
            if let Some(outcome) = take(&mut read, &mut searched) {
                return (outcome, read.to_vec());
            }
        }
        ("incomplete".to_owned(), Vec::new())
    }

    /// Whether a head ends at its first empty line, and none of its lines otherwise than with CRLF.
    pub(crate) fn has_one_end(head: &[u8]) -> bool {
        let first = head.windows(4).position(|end| end == b"\r\n\r\n");
        let ends = head.windows(2).filter(|end| end == b"\r\n").count();
        first == head.len().checked_sub(4) && memchr::memchr_iter(b'\n', head).count() == ends
    }
}
