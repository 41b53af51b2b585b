//! The normal form of a path, on which gateway and upstream cannot disagree (RFC 3986 section 6.2.2).
//!
//! A path with more than one reading is refused, not repaired. What remains is rewritten only where RFC 3986 calls two
//! spellings the same: escapes of unreserved characters are decoded, hexadecimal digits are in upper case.

mod legacy;

use std::borrow::Cow;
use std::fmt;

use unicode_normalization::UnicodeNormalization;

pub use self::legacy::{Oddities, Oddity, readings};
use super::bounds;

/// Why a path has no normal form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathFault {
    /// It does not begin with `/`.
    NotAbsolute,
    /// `.` or `..` in some spelling.
    DotSegment,
    /// A slash or backslash that is not plainly `/`.
    ForeignSeparator,
    /// `;`, plain or encoded.
    Semicolon,
    /// Two slashes in a row.
    EmptySegment,
    /// `%` without two hexadecimal digits, or an escape of an escape.
    BadEscape,
    /// Escapes that are not UTF-8, overlong forms among them.
    NotUtf8,
    /// Control characters, plain or encoded, and raw bytes beyond ASCII.
    ForbiddenByte,
    /// More segments than [`bounds::MAX_PATH_SEGMENTS`].
    TooManySegments,
}

impl PathFault {
    /// What is wrong, for the client.
    pub fn text(self) -> &'static str {
        match self {
            Self::NotAbsolute => "The path does not begin with a slash.",
            Self::DotSegment => "The path has a dot segment.",
            Self::ForeignSeparator => "The path has an encoded slash or a backslash.",
            Self::Semicolon => "The path has a semicolon.",
            Self::EmptySegment => "The path has an empty segment.",
            Self::BadEscape => "The path has a malformed or double escape.",
            Self::NotUtf8 => "The path's escapes are not UTF-8.",
            Self::ForbiddenByte => "The path has a character that no path may have.",
            Self::TooManySegments => "The path has too many segments.",
        }
    }
}

impl fmt::Display for PathFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// Brings a path to its normal form. The result is borrowed when the path is normal already, as nearly all are.
///
/// # Errors
///
/// A [`PathFault`] when the path could be read in more than one way.
pub fn normalise(path: &str) -> Result<Cow<'_, str>, PathFault> {
    if !path.starts_with('/') {
        return Err(PathFault::NotAbsolute);
    }
    if is_plainly_normal(path.as_bytes()) {
        return Ok(Cow::Borrowed(path));
    }
    slowly(path, Oddities::NONE).map(|(normal, _)| normal)
}

/// As [`normalise`], but some paths that may be read in more than one way have a normal form too: what is allowed stays as
/// it is, and is told.
///
/// # Errors
///
/// A [`PathFault`] for everything else.
pub fn normalise_allowing(path: &str, allowed: Oddities) -> Result<(Cow<'_, str>, Oddities), PathFault> {
    if !path.starts_with('/') {
        return Err(PathFault::NotAbsolute);
    }
    if is_plainly_normal(path.as_bytes()) {
        return Ok((Cow::Borrowed(path), Oddities::NONE));
    }
    slowly(path, allowed)
}

/// A segment of a path in normal form without its escapes, as servers read it. Segments that differ only in what is
/// escaped are the same here: `a!b` and `a%21b`.
pub fn decoded(segment: &str) -> Cow<'_, str> {
    if memchr::memchr(b'%', segment.as_bytes()).is_none() {
        return Cow::Borrowed(segment);
    }
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.bytes();
    while let Some(byte) = rest.next() {
        let escaped = (byte == b'%').then(|| hexadecimal(rest.next(), rest.next())).flatten();
        bytes.push(escaped.unwrap_or(byte));
    }
    // Escapes in a normal form are UTF-8.
    String::from_utf8(bytes).map_or(Cow::Borrowed(segment), Cow::Owned)
}

/// A segment with the escapes that it needs.
pub fn escaped(segment: &str) -> String {
    let mut text = String::with_capacity(segment.len());
    for &byte in segment.as_bytes() {
        let is_plain = byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,=:@".contains(&byte);
        if is_plain { text.push(char::from(byte)) } else { push_escape(&mut text, byte) }
    }
    text
}

fn push_escape(text: &mut String, byte: u8) {
    text.push('%');
    for nibble in [byte >> 4, byte & 15] {
        text.extend(char::from_digit(u32::from(nibble), 16).map(|digit| digit.to_ascii_uppercase()));
    }
}

/// One pass for the common case: no escapes, no odd bytes, no dot at the start of a segment, no empty segment.
fn is_plainly_normal(path: &[u8]) -> bool {
    let mut after_slash = false;
    let mut slashes = 0;
    for &byte in path {
        match byte {
            b'/' | b'.' if after_slash => return false,
            b'/' => {
                after_slash = true;
                slashes += 1;
            }
            b'%' | b';' | b'\\' | b'?' | b'#' | 0..=0x20 | 0x7f.. => return false,
            _ => after_slash = false,
        }
    }
    slashes <= bounds::MAX_PATH_SEGMENTS
}

fn slowly(path: &str, allowed: Oddities) -> Result<(Cow<'_, str>, Oddities), PathFault> {
    let mut normal = String::with_capacity(path.len());
    let mut decoded = Vec::with_capacity(path.len());
    let mut found = Oddities::NONE;
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let byte = hexadecimal(rest.next(), rest.next()).ok_or(PathFault::BadEscape)?;
                escape(byte, allowed, &mut found, &mut normal)?;
                decoded.push(byte);
                continue;
            }
            b';' => found.meet(Oddity::Semicolon, allowed)?,
            b'\\' => return Err(PathFault::ForeignSeparator),
            b'?' | b'#' | 0..=0x20 | 0x7f.. => return Err(PathFault::ForbiddenByte),
            _ => {}
        }
        normal.push(char::from(byte));
        decoded.push(byte);
    }
    let decoded = std::str::from_utf8(&decoded).map_err(|_| PathFault::NotUtf8)?;
    check_segments(decoded, allowed, &mut found)?;
    Ok((if normal == path { Cow::Borrowed(path) } else { Cow::Owned(normal) }, found))
}

/// Handles what `%XY` stands for. A percent sign that stands for itself is `%25` and may not begin an escape once decoded.
fn escape(byte: u8, allowed: Oddities, found: &mut Oddities, normal: &mut String) -> Result<(), PathFault> {
    match byte {
        0..=0x1f | 0x7f => return Err(PathFault::ForbiddenByte),
        b'\\' => return Err(PathFault::ForeignSeparator),
        b'/' => found.meet(Oddity::EncodedSlash, allowed)?,
        b';' => found.meet(Oddity::Semicolon, allowed)?,
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            normal.push(char::from(byte));
            return Ok(());
        }
        _ => {}
    }
    push_escape(normal, byte);
    Ok(())
}

/// The byte of two hexadecimal digits.
fn hexadecimal(high: Option<u8>, low: Option<u8>) -> Option<u8> {
    let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

/// Looks at the decoded path, segment by segment.
fn check_segments(decoded: &str, allowed: Oddities, found: &mut Oddities) -> Result<(), PathFault> {
    if has_double_escape(decoded.as_bytes()) {
        return Err(PathFault::BadEscape);
    }
    if decoded.matches('/').count() > bounds::MAX_PATH_SEGMENTS {
        return Err(PathFault::TooManySegments);
    }
    legacy::check_pieces(decoded, allowed, found, check_segment)
}

fn check_segment(segment: &str) -> Result<(), PathFault> {
    // Some file systems drop dots and blanks at the end, so a segment of nothing else can become "." or "..".
    if segment.contains('.') && segment.chars().all(|letter| letter == '.' || letter == ' ') {
        return Err(PathFault::DotSegment);
    }
    if segment.is_ascii() {
        return Ok(());
    }
    if segment.chars().any(char::is_control) {
        return Err(PathFault::ForbiddenByte);
    }
    // A server that folds look-alikes (NFKC) must not find a separator or a dot segment: U+FF0F, U+2025 and their like.
    let folded: String = segment.nfkc().collect();
    if folded.contains(['/', '\\'])
        || segment.contains(['\u{2044}', '\u{2215}', '\u{29f8}', '\u{2216}', '\u{29f5}'])
    {
        return Err(PathFault::ForeignSeparator);
    }
    if folded.contains([';', '\u{37e}']) {
        return Err(PathFault::Semicolon);
    }
    if folded.chars().all(|letter| letter == '.' || letter == ' ') {
        return Err(PathFault::DotSegment);
    }
    if folded.contains(['%', '?', '#']) && !segment.contains(['%', '?', '#']) {
        return Err(PathFault::ForbiddenByte);
    }
    Ok(())
}

fn has_double_escape(decoded: &[u8]) -> bool {
    decoded.windows(3).any(|window| match window {
        [b'%', high, low] => high.is_ascii_hexdigit() && low.is_ascii_hexdigit(),
        _ => false,
    }) || decoded.windows(2).any(|window| matches!(window, [b'%', b'u' | b'U']))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ordinary_paths_are_borrowed_and_unchanged() {
        for path in ["/", "/a", "/a/", "/api/items.json", "/a/b-c_d~e", "/x/a..b", "/~me/:id@2,3=4+5!$&'()*"]
        {
            assert!(matches!(normalise(path), Ok(Cow::Borrowed(same)) if same == path), "{path}");
        }
    }

    #[test]
    fn equal_spellings_become_one() {
        for (path, normal) in [
            ("/%70ublic", "/public"),
            ("/a%2db%5f", "/a-b_"),
            ("/caf%c3%a9", "/caf%C3%A9"),
            ("/100%25", "/100%25"),
            ("/a%20b", "/a%20b"),
            ("/a%2Eb", "/a.b"),
        ] {
            assert_eq!(normalise(path).unwrap(), normal);
        }
    }

    #[test]
    fn every_second_reading_is_refused() {
        use PathFault as F;
        for (path, fault) in [
            ("", F::NotAbsolute),
            ("a", F::NotAbsolute),
            ("/.", F::DotSegment),
            ("/..", F::DotSegment),
            ("/a/../b", F::DotSegment),
            ("/a/%2e%2E/b", F::DotSegment),
            ("/a/.%2e/b", F::DotSegment),
            ("/a/..%20/b", F::DotSegment),
            ("/a/%E2%80%A5/b", F::DotSegment),
            ("/a//b", F::EmptySegment),
            ("//", F::EmptySegment),
            ("/a%2fb", F::ForeignSeparator),
            ("/a%5Cb", F::ForeignSeparator),
            ("/a\\b", F::ForeignSeparator),
            ("/a%EF%BC%8Fb", F::ForeignSeparator),
            ("/a%E2%88%95b", F::ForeignSeparator),
            ("/a;b", F::Semicolon),
            ("/a/..%3b/b", F::Semicolon),
            ("/a%", F::BadEscape),
            ("/a%2", F::BadEscape),
            ("/a%zz", F::BadEscape),
            ("/a%252e", F::BadEscape),
            ("/a%25%32%65", F::BadEscape),
            ("/a%25u002e", F::BadEscape),
            ("/%u002e", F::BadEscape),
            ("/a%c0%ae", F::NotUtf8),
            ("/a%ff", F::NotUtf8),
            ("/a%00", F::ForbiddenByte),
            ("/a%0d%0a", F::ForbiddenByte),
            ("/a%7f", F::ForbiddenByte),
            ("/a%C2%85", F::ForbiddenByte),
            ("/a\u{e9}", F::ForbiddenByte),
            ("/a b", F::ForbiddenByte),
            ("/a?b", F::ForbiddenByte),
            ("/a#b", F::ForbiddenByte),
        ] {
            assert_eq!(normalise(path), Err(fault), "{path}");
        }
        let deep = "/a".repeat(bounds::MAX_PATH_SEGMENTS + 1);
        assert_eq!(normalise(&deep), Err(F::TooManySegments));
        assert!(normalise(&"/a".repeat(bounds::MAX_PATH_SEGMENTS)).is_ok());
    }

    /// Paths of pieces that are read in many ways.
    fn hostile() -> impl Strategy<Value = String> {
        const PIECES: &[&str] = &[
            "/",
            "/",
            "/",
            ".",
            "..",
            "a",
            "B",
            "admin",
            ";",
            "\\",
            "!",
            ":",
            "@",
            "+",
            "=",
            "%2e",
            "%2F",
            "%5c",
            "%3b",
            "%25",
            "%252e",
            "%21",
            "%3A",
            "%20",
            "%c3%a9",
            "%C0%AE",
            "%ff",
            "%00",
            "%e2%80%a5",
            "%EF%BC%8F",
            "%",
            "%u002e",
        ];
        prop::collection::vec(prop::sample::select(PIECES), 0..8)
            .prop_map(|pieces| format!("/{}", pieces.concat()))
    }

    /// Escapes the bytes that the mask tells.
    fn escape_some(path: &str, mask: u64, upper: bool) -> String {
        let byte = |(place, byte): (usize, u8)| match (place > 0 && mask >> (place % 64) & 1 == 1, upper) {
            (true, true) => format!("%{byte:02X}"),
            (true, false) => format!("%{byte:02x}"),
            (false, _) => char::from(byte).to_string(),
        };
        path.bytes().enumerate().map(byte).collect()
    }

    /// The segments as a server reads them.
    fn plainly(normal: &str) -> Vec<String> {
        normal.split('/').map(|segment| decoded(segment).into_owned()).collect()
    }

    proptest! {
        #[test]
        fn normalising_twice_is_normalising_once(path in "/([a-z./;%~ ]|%[0-9a-fA-F]{2}|\\PC){0,24}") {
            if let Ok(normal) = normalise(&path) {
                let twice = normalise(&normal).map(Cow::into_owned);
                prop_assert_eq!(twice.as_deref(), Ok(normal.as_ref()));
            }
        }

        #[test]
        fn what_was_refused_stays_refused_after_encoding_once_more(path in "/([a-z./;\\\\]|%2[eEfF]){0,12}") {
            if normalise(&path).is_err() {
                let encoded: String = path.bytes().enumerate().map(|(index, byte)| {
                    if index == 0 { "/".to_owned() } else if byte == b'%' { "%25".to_owned() } else { char::from(byte).to_string() }
                }).collect();
                prop_assert!(normalise(&encoded).is_err());
            }
        }

        #[test]
        fn nothing_is_accepted_but_what_is_allowed(path in hostile(), bits in 0_u8..8) {
            let all: Vec<Oddity> = Oddity::ALL.into_iter().enumerate().filter(|(bit, _)| bits >> bit & 1 == 1).map(|(_, oddity)| oddity).collect();
            let allowed: Oddities = all.into_iter().collect();
            let strict = normalise(&path).map(Cow::into_owned);
            match normalise_allowing(&path, allowed) {
                // What is not odd is what it always was.
                Ok((normal, found)) if found.is_empty() => prop_assert_eq!(strict.as_deref(), Ok(&*normal)),
                Ok((normal, found)) => {
                    prop_assert!(strict.is_err() && allowed.has_all(found));
                    let again = normalise_allowing(&normal, allowed);
                    prop_assert_eq!(again, Ok((Cow::Borrowed(&*normal), found)));
                    for reading in readings(&normal).unwrap() {
                        prop_assert!(reading.starts_with('/') && !reading.starts_with("//"), "{}", reading);
                        for piece in reading.split(['/', ';']).chain(reading.split('/')) {
                            prop_assert!(!matches!(&*decoded(piece), "." | ".."), "{} is {}", path, reading);
                        }
                    }
                }
                Err(_) => prop_assert!(strict.is_err()),
            }
        }

        /// But for what is refused only because it should have been escaped.
        #[test]
        fn what_was_refused_stays_refused_however_it_is_escaped(
            path in hostile(),
            masks in prop::collection::vec((any::<u64>(), any::<bool>()), 1..3),
        ) {
            use PathFault as F;
            let fault = normalise(&path).err();
            let second_reading = match fault {
                Some(F::DotSegment | F::ForeignSeparator | F::Semicolon | F::EmptySegment | F::NotUtf8) => true,
                Some(F::NotAbsolute | F::BadEscape | F::ForbiddenByte | F::TooManySegments) | None => false,
            };
            prop_assume!(second_reading);
            let mut written = path.clone();
            for (mask, upper) in masks {
                written = escape_some(&written, mask, upper);
                prop_assert!(normalise(&written).is_err(), "{} as {}", path, written);
            }
        }

        #[test]
        fn no_escaping_makes_another_path(path in hostile(), mask in any::<u64>(), upper in any::<bool>()) {
            if let Ok(normal) = normalise(&path)
                && let Ok(other) = normalise(&escape_some(&path, mask, upper))
            {
                prop_assert_eq!(plainly(&normal), plainly(&other));
            }
        }

        #[test]
        fn a_segment_is_escaped_and_decoded_without_loss(segment in "\\PC{0,12}") {
            let escaped = escaped(&segment);
            prop_assert_eq!(decoded(&escaped), segment.as_str());
        }

        #[test]
        fn a_lenient_server_sees_the_same_segments(path in "/([a-z.]|/|%2e|%2f|%70|%25){0,16}") {
            if let Ok(normal) = normalise(&path) {
                let segments: Vec<&str> = normal.split('/').skip(1).collect();
                prop_assert!(segments.iter().all(|segment| *segment != "." && *segment != ".."));
                prop_assert_eq!(path.matches('/').count(), segments.len());
            }
        }
    }
}
