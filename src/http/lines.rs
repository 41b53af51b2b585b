//! Lines as HTTP/1.1 ends them.

/// What was read is not what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

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
            return Err(Malformed("a line of its head does not end with CRLF"));
        }
        if read.get(at + 1..).is_some_and(|behind| behind.starts_with(b"\r\n")) {
            return Ok(Some(at + 3));
        }
    }
    Ok(None)
}
