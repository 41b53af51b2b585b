//! The chunked transfer coding (RFC 9112 section 7.1), as it is read from clients and from upstreams.

use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::lines::Malformed;

/// Longest line with the size of a chunk and its extensions, in bytes.
const MAX_LINE_BYTES: usize = 4096;

/// Longest trailer section, in bytes.
const MAX_TRAILER_BYTES: usize = 16 * 1024;

/// Most fields in a trailer section.
const MAX_TRAILERS: usize = 128;

/// What comes next of a body.
#[derive(Debug)]
pub enum Piece {
    /// Nothing yet.
    Incomplete,
    /// Some of it.
    Data(Bytes),
    /// Its end, with its trailers if it has any.
    End(Option<HeaderMap>),
}

/// Where a body in chunks is.
#[derive(Debug, Default)]
pub enum Chunks {
    /// Before the size of a chunk.
    #[default]
    Size,
    /// In a chunk of which so many bytes are left.
    Data(u64),
    /// Before the line end behind a chunk.
    DataEnd,
    /// Behind the last chunk.
    Trailers,
}

impl Chunks {
    /// Takes what comes next from what was read.
    ///
    /// # Errors
    ///
    /// [`Malformed`], when that is not the coding by the letter.
    pub fn next(&mut self, read: &mut BytesMut) -> Result<Piece, Malformed> {
        loop {
            match self {
                Self::Size => match take_size(read)? {
                    None => return Ok(Piece::Incomplete),
                    Some(0) => *self = Self::Trailers,
                    Some(bytes) => *self = Self::Data(bytes),
                },
                Self::Data(left) => {
                    if read.is_empty() {
                        return Ok(Piece::Incomplete);
                    }
                    let bytes = usize::try_from(*left).unwrap_or(usize::MAX).min(read.len());
                    *left -= bytes as u64;
                    if *left == 0 {
                        *self = Self::DataEnd;
                    }
                    return Ok(Piece::Data(read.split_to(bytes).freeze()));
                }
                Self::DataEnd => match read.get(..2) {
                    None if read.first().is_none_or(|byte| *byte == b'\r') => return Ok(Piece::Incomplete),
                    Some(b"\r\n") => {
                        read.advance(2);
                        *self = Self::Size;
                    }
                    None | Some(_) => {
                        return Err(Malformed("a chunk does not end with its line"));
                    }
                },
                Self::Trailers => return take_trailers(read),
            }
        }
    }
}

/// The size of the next chunk, when its line is there whole.
fn take_size(read: &mut BytesMut) -> Result<Option<u64>, Malformed> {
    let searched = read.get(..MAX_LINE_BYTES.min(read.len())).unwrap_or_default();
    let Some(end) = memchr::memchr(b'\n', searched) else {
        if read.len() >= MAX_LINE_BYTES {
            return Err(Malformed("the line of a chunk is too long"));
        }
        return Ok(None);
    };
    let size = searched.get(..end).and_then(size);
    read.advance(end + 1);
    size.map(Some).ok_or(Malformed("the size of a chunk is no number"))
}

fn size(line: &[u8]) -> Option<u64> {
    let line = line.strip_suffix(b"\r")?;
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (digits, rest) = line.split_at_checked(digits)?;
    // What stands behind the size is for nobody here, but it must be an extension.
    let is_extension = rest.trim_ascii_start().first().is_none_or(|byte| *byte == b';');
    let is_text = rest.iter().all(|byte| *byte == b'\t' || !byte.is_ascii_control());
    if digits.is_empty() || digits.len() > 16 || !is_extension || !is_text {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// The fields behind the last chunk, when they are there whole.
fn take_trailers(read: &mut BytesMut) -> Result<Piece, Malformed> {
    if read.starts_with(b"\r\n") {
        read.advance(2);
        return Ok(Piece::End(None));
    }
    let malformed = || Malformed("the trailer section is malformed");
    let mut fields = [httparse::EMPTY_HEADER; MAX_TRAILERS];
    let whole =
        memchr::memmem::find(read.get(..MAX_TRAILER_BYTES.min(read.len())).unwrap_or_default(), b"\r\n\r\n");
    let Some(end) = whole else {
        return if read.len() >= MAX_TRAILER_BYTES { Err(malformed()) } else { Ok(Piece::Incomplete) };
    };
    let section = read.split_to(end + 4).freeze();
    // The parser takes a line feed alone as the end of a line.
    let is_bare = |at: usize| !section.get(..at).is_some_and(|before| before.ends_with(b"\r"));
    if memchr::memchr_iter(b'\n', &section).any(is_bare) {
        return Err(malformed());
    }
    let Ok(httparse::Status::Complete((length, fields))) = httparse::parse_headers(&section, &mut fields)
    else {
        return Err(malformed());
    };
    if length != section.len() {
        return Err(malformed());
    }
    let mut trailers = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| malformed())?;
        let value =
            HeaderValue::from_maybe_shared(section.slice_ref(field.value)).map_err(|_| malformed())?;
        trailers.append(name, value);
    }
    Ok(Piece::End(Some(trailers)))
}
