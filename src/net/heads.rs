//! The heads of a connection's requests as they came, for what the HTTP library does not tell of them.
//!
//! The library drops a `Content-Length` beside `Transfer-Encoding: chunked`, and merges lengths that are equal. Such a
//! message has two framings, and others may have read it by the other one (RFC 9112 section 6.3). It also takes a line
//! feed alone as the end of a line, in heads and in trailers, where others see no end (section 2.2). So the bytes of each
//! head are kept until its request is there, and the ends of its lines are looked at. A body is followed to the next head,
//! but not kept.

use std::cell::RefCell;

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName};

/// Heads up to this size leave their memory to the next one, in bytes.
const KEPT_BYTES: usize = 4096;

/// How a head says where its message ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// In one way.
    Single,
    /// In more than one, or it cannot be told.
    Ambiguous,
    /// A line of the head, or of the trailers as far as they came with it, ends with a line feed alone.
    BareLineFeed,
}

/// A line of a trailer section ends with a line feed alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BareLineFeed;

/// Follows the requests of one connection.
#[derive(Debug, Default)]
pub struct Heads(RefCell<State>);

#[derive(Debug, Default)]
struct State {
    /// What was read and is no body: heads, of which the last one may be incomplete.
    raw: Vec<u8>,
    /// Where the first head begins whose request was not taken.
    taken: usize,
    body: Body,
}

/// What is left of a body that is being read.
#[derive(Clone, Copy, Debug, Default)]
enum Body {
    /// Nothing: what comes next is a head.
    #[default]
    None,
    /// So many bytes.
    Length(u64),
    Chunked(Chunked),
    /// It cannot be told where it ends. The library will say so, and the connection ends; until then nothing is trusted.
    Lost,
    /// A line of its trailers ends with a line feed alone, which the library takes. Nothing is trusted either.
    BareLineFeed,
}

/// A place in a chunked body (RFC 9112 section 7.1).
#[derive(Clone, Copy, Debug)]
enum Chunked {
    Size(u64),
    /// Behind the digits, up to the end of the line.
    Extension(u64),
    SizeEnd(u64),
    Data(u64),
    DataCr,
    DataLf,
    LineBegin,
    Trailer,
    TrailerEnd,
    LastLf,
}

impl Heads {
    /// Notes what was read.
    ///
    /// # Errors
    ///
    /// [`BareLineFeed`], when what was read must not be handed on.
    pub fn read(&self, bytes: &[u8]) -> Result<(), BareLineFeed> {
        let mut state = self.0.borrow_mut();
        let rest = state.body.follow(bytes);
        if !rest.is_empty() {
            let taken = state.taken;
            state.forget(taken);
            state.raw.extend_from_slice(rest);
        }
        if matches!(state.body, Body::BareLineFeed) { Err(BareLineFeed) } else { Ok(()) }
    }

    /// Takes the head of a request for which the library has found these fields, and says whether it has told all that
    /// frames the message. To be called once for each request, in their order.
    pub fn take(&self, headers: &HeaderMap) -> Framing {
        let mut state = self.0.borrow_mut();
        let has_body = headers.keys().any(|name| name == CONTENT_LENGTH || name == TRANSFER_ENCODING);
        let Some(head) = head(&state.raw, state.taken, has_body) else {
            return state.lose(Framing::Ambiguous);
        };
        if head.has_bare_line_feed {
            return state.lose(Framing::BareLineFeed);
        }
        if has_body {
            return state.take_with_body(&head, headers);
        }
        state.taken = head.end;
        Framing::Single
    }
}

impl State {
    /// Lets go of so many bytes.
    fn forget(&mut self, bytes: usize) {
        self.taken = 0;
        if bytes < self.raw.len() {
            self.raw.drain(..bytes);
        } else if self.raw.capacity() > KEPT_BYTES {
            self.raw = Vec::new();
        } else {
            self.raw.clear();
        }
    }

    fn lose(&mut self, framing: Framing) -> Framing {
        self.forget(self.raw.len());
        self.body = Body::Lost;
        framing
    }

    fn take_with_body(&mut self, head: &Head, headers: &HeaderMap) -> Framing {
        let Some(body) = Body::of(headers) else { return self.lose(Framing::Ambiguous) };
        self.body = body;
        let behind = self.body.follow(self.raw.get(head.end..).unwrap_or_default()).len();
        self.forget(self.raw.len() - behind);
        match self.body {
            Body::BareLineFeed => Framing::BareLineFeed,
            Body::None | Body::Length(_) | Body::Chunked(_) | Body::Lost if head.framing_fields == 1 => {
                Framing::Single
            }
            Body::None | Body::Length(_) | Body::Chunked(_) | Body::Lost => Framing::Ambiguous,
        }
    }
}

impl Body {
    /// The body of a request with these fields, read as the library reads it.
    fn of(headers: &HeaderMap) -> Option<Self> {
        if headers.contains_key(TRANSFER_ENCODING) {
            return Some(Self::Chunked(Chunked::Size(0)));
        }
        headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok().map(Self::Length)
    }

    /// Reads what belongs to the body, and gives back what does not.
    fn follow<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        match self {
            Self::None => bytes,
            Self::Lost | Self::BareLineFeed => &[],
            Self::Length(left) => {
                let rest = skip(left, bytes);
                if *left == 0 {
                    *self = Self::None;
                }
                rest
            }
            Self::Chunked(_) => self.follow_chunks(bytes),
        }
    }

    fn follow_chunks<'a>(&mut self, mut bytes: &'a [u8]) -> &'a [u8] {
        while let Self::Chunked(place) = self {
            if let Chunked::Data(left) = place {
                bytes = skip(left, bytes);
                if *left == 0 {
                    *place = Chunked::DataCr;
                }
            }
            let Some((&byte, rest)) = bytes.split_first() else { break };
            bytes = rest;
            *self = place.next(byte);
        }
        match self {
            Self::Lost | Self::BareLineFeed => &[],
            Self::None | Self::Length(_) | Self::Chunked(_) => bytes,
        }
    }
}

impl Chunked {
    /// What follows a byte.
    fn next(self, byte: u8) -> Body {
        let digit = || char::from(byte).to_digit(16).map(u64::from);
        Body::Chunked(match (self, byte) {
            (Self::Size(size) | Self::Extension(size), b'\r') => Self::SizeEnd(size),
            (Self::Size(size), b';' | b' ' | b'\t') | (Self::Extension(size), _) => Self::Extension(size),
            (Self::Size(size), _) => match (size.checked_mul(16), digit()) {
                (Some(size), Some(digit)) => Self::Size(size | digit),
                (_, _) => return Body::Lost,
            },
            (Self::SizeEnd(0) | Self::TrailerEnd, b'\n') => Self::LineBegin,
            (Self::SizeEnd(size), b'\n') => Self::Data(size),
            (Self::DataCr, b'\r') => Self::DataLf,
            (Self::DataLf, b'\n') => Self::Size(0),
            (Self::LineBegin, b'\r') => Self::LastLf,
            (Self::Trailer, b'\r') => Self::TrailerEnd,
            (Self::LineBegin | Self::Trailer, b'\n') => return Body::BareLineFeed,
            (Self::LineBegin | Self::Trailer, _) => Self::Trailer,
            (Self::LastLf, b'\n') => return Body::None,
            (
                Self::SizeEnd(_)
                | Self::Data(_)
                | Self::DataCr
                | Self::DataLf
                | Self::TrailerEnd
                | Self::LastLf,
                _,
            ) => return Body::Lost,
        })
    }
}

/// Skips up to so many bytes.
fn skip<'a>(left: &mut u64, bytes: &'a [u8]) -> &'a [u8] {
    let skipped = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
    *left -= skipped as u64;
    bytes.get(skipped..).unwrap_or_default()
}

/// What was found of a head.
struct Head {
    /// Where it ends.
    end: usize,
    /// How many of its fields say where its message ends, if they were counted.
    framing_fields: usize,
    has_bare_line_feed: bool,
}

/// The head that begins here. Empty lines before it belong to it (RFC 9112 section 2.2). Lines end as the library takes
/// them: a carriage return before the line feed may be missing, but nowhere stand alone.
fn head(raw: &[u8], begin: usize, counts_framing: bool) -> Option<Head> {
    let bytes = raw.get(begin..)?;
    let (mut framing_fields, mut has_bare_line_feed) = (0, false);
    let (mut line_begin, mut is_before) = (0, true);
    for line_feed in memchr::memchr_iter(b'\n', bytes) {
        let line = bytes.get(line_begin..line_feed)?;
        line_begin = line_feed + 1;
        has_bare_line_feed |= line.last() != Some(&b'\r');
        match line {
            [] | [b'\r'] if is_before => continue,
            [] | [b'\r'] => {
                return Some(Head { end: begin + line_begin, framing_fields, has_bare_line_feed });
            }
            [b'C' | b'c' | b'T' | b't', ..] if counts_framing && is_framing(line) => framing_fields += 1,
            _ => {}
        }
        is_before = false;
    }
    None
}

fn is_framing(line: &[u8]) -> bool {
    let name = line.split(|byte| *byte == b':').next().unwrap_or_default().trim_ascii_end();
    let is = |framing: &HeaderName| name.eq_ignore_ascii_case(framing.as_str().as_bytes());
    is(&CONTENT_LENGTH) || is(&TRANSFER_ENCODING)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn fields(names: &[(HeaderName, &'static str)]) -> HeaderMap {
        names.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn a_head_with_two_framings_is_known_wherever_it_stands() {
        let chunked = fields(&[(TRANSFER_ENCODING, "chunked")]);
        let five = fields(&[(CONTENT_LENGTH, "5")]);
        let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab\r\n\n";
        let chunks =
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\n\n\r\n\r\n\r\n0\r\nA: b\r\n\r\n";
        for (text, headers) in [
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nCONTENT-LENGTH: 5\r\n\r\n", &chunked),
            ("POST / HTTP/1.1\r\ncontent-length:5\r\ntransfer-encoding:chunked\r\n\r\n", &chunked),
            ("\r\nPOST / HTTP/1.1\r\nContent-Length: 5\r\nX: y\r\ncontent-length: 5\r\n\r\n", &five),
        ] {
            for before in [
                vec![],
                vec![(get, HeaderMap::new())],
                vec![(get, HeaderMap::new()), (post, five.clone()), (get, HeaderMap::new())],
                vec![(chunks, chunked.clone()), (get, HeaderMap::new()), (chunks, chunked.clone())],
            ] {
                let heads = Heads::default();
                let whole: String = before.iter().map(|(text, _)| *text).chain([text]).collect();
                heads.read(whole.as_bytes()).unwrap();
                for (_, headers) in &before {
                    assert_eq!(heads.take(headers), Framing::Single, "{whole:?}");
                }
                assert_eq!(heads.take(headers), Framing::Ambiguous, "{whole:?}");
            }
        }
    }

    #[test]
    fn a_line_feed_ends_no_line_alone_wherever_it_stands() {
        let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let five = fields(&[(CONTENT_LENGTH, "5")]);
        let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\na\n\nb\n";
        for text in [get, post] {
            let headers = if text == get { HeaderMap::new() } else { five.clone() };
            let ends = text.match_indices("\r\n").map(|(at, _)| at);
            for end in ends {
                let bare = format!("{}{}", &text[..end], &text[end + 1..]);
                for before in ["", "\r\n", get, post] {
                    let heads = Heads::default();
                    heads.read(format!("{before}{bare}").as_bytes()).unwrap();
                    if before == get || before == post {
                        let first = if before == get { HeaderMap::new() } else { five.clone() };
                        assert_eq!(heads.take(&first), Framing::Single, "{before:?}");
                    }
                    assert_eq!(heads.take(&headers), Framing::BareLineFeed, "{before:?} {bare:?}");
                    heads.read(get.as_bytes()).unwrap();
                    assert_eq!(
                        heads.take(&HeaderMap::new()),
                        Framing::Ambiguous,
                        "nothing after it is trusted"
                    );
                }
            }
        }
        for (before, framing) in [("\n", Framing::BareLineFeed), ("\r\n\r\n", Framing::Single)] {
            let heads = Heads::default();
            heads.read(format!("{before}{get}").as_bytes()).unwrap();
            assert_eq!(heads.take(&HeaderMap::new()), framing, "{before:?}");
        }
    }

    #[test]
    fn a_line_feed_ends_no_trailer_alone_however_it_comes() {
        let chunked = fields(&[(TRANSFER_ENCODING, "chunked")]);
        let head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        for (body, is_bare) in [
            ("1\r\n\n\r\n0\r\nA: b\r\nC: d\r\n\r\n", false),
            ("1\r\na\r\n0\r\nA: b\nC: d\r\n\r\n", true),
            ("1\r\na\r\n0\r\nA: b\r\nC: d\n\r\n", true),
            ("0\r\n\n", true),
            ("0\r\nA: b\n\n", true),
        ] {
            let together = Heads::default();
            together.read(format!("{head}{body}").as_bytes()).unwrap();
            let framing = if is_bare { Framing::BareLineFeed } else { Framing::Single };
            assert_eq!(together.take(&chunked), framing, "{body:?}");
            let apart = Heads::default();
            apart.read(head.as_bytes()).unwrap();
            assert_eq!(apart.take(&chunked), Framing::Single);
            let outcome: Result<(), BareLineFeed> = body.bytes().try_for_each(|byte| apart.read(&[byte]));
            assert_eq!(outcome.is_err(), is_bare, "{body:?}");
        }
    }

    #[test]
    fn what_a_body_says_is_no_head() {
        let text = "POST / HTTP/1.1\r\nContent-Length: 38\r\n\r\nContent-Length: 5\r\nContent-Length: 5\r\n";
        let heads = Heads::default();
        heads.read(text.as_bytes()).unwrap();
        assert_eq!(heads.take(&fields(&[(CONTENT_LENGTH, "38")])), Framing::Single);
        heads.read(b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
        assert_eq!(heads.take(&fields(&[(TRANSFER_ENCODING, "chunked")])), Framing::Single);
    }

    #[test]
    fn what_cannot_be_followed_is_never_trusted_again() {
        let chunked = fields(&[(TRANSFER_ENCODING, "chunked")]);
        for body in ["x\r\n", "1\r\nab", "fffffffffffffffff\r\n", "1\n", "0\r\n\rX"] {
            let heads = Heads::default();
            heads.read(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
            assert_eq!(heads.take(&chunked), Framing::Single);
            heads.read(body.as_bytes()).unwrap();
            heads.read(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
            assert_eq!(heads.take(&chunked), Framing::Ambiguous, "{body:?}");
        }
    }

    #[test]
    fn heads_that_were_seen_take_no_room() {
        let heads = Heads::default();
        for _ in 0..100 {
            heads.read(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
            assert_eq!(heads.take(&HeaderMap::new()), Framing::Single);
        }
        heads
            .read(format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(2 * KEPT_BYTES)).as_bytes())
            .unwrap();
        heads.take(&HeaderMap::new());
        heads.read(b"G").unwrap();
        assert_eq!(heads.0.borrow().raw, b"G");
        assert!(heads.0.borrow().raw.capacity() < KEPT_BYTES);
    }

    /// A message, what the library finds in it, and whether it has one framing.
    #[derive(Clone, Debug)]
    struct Message {
        bytes: Vec<u8>,
        headers: HeaderMap,
        framing: Framing,
    }

    fn message() -> impl Strategy<Value = Message> {
        let body =
            proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b':'), any::<u8>()], 0..40);
        let double = prop_oneof![9 => Just(false), 1 => Just(true)];
        (0..3, body, double).prop_map(|(kind, body, double)| {
            let mut bytes = b"POST /x HTTP/1.1\r\nHost: a\r\n".to_vec();
            let mut headers = HeaderMap::new();
            match kind {
                0 => bytes.extend_from_slice(b"\r\n"),
                1 => {
                    let length = body.len().to_string();
                    let times = if double { 2 } else { 1 };
                    bytes.extend(format!("Content-Length: {length}\r\n").repeat(times).into_bytes());
                    bytes.extend_from_slice(b"\r\n");
                    bytes.extend_from_slice(&body);
                    headers.insert(CONTENT_LENGTH, length.parse().unwrap());
                }
                _ => {
                    let second = if double { "content-length: 5\r\n" } else { "" };
                    bytes.extend(format!("transfer-encoding: chunked\r\n{second}\r\n").into_bytes());
                    for chunk in body.chunks(7) {
                        bytes.extend(format!("{:X}\r\n", chunk.len()).into_bytes());
                        bytes.extend_from_slice(chunk);
                        bytes.extend_from_slice(b"\r\n");
                    }
                    bytes.extend_from_slice(b"0\r\n\r\n");
                    headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
                }
            }
            let framing = if double && kind > 0 { Framing::Ambiguous } else { Framing::Single };
            Message { bytes, headers, framing }
        })
    }

    proptest! {
        #[test]
        fn every_head_is_judged_by_itself_however_its_bytes_arrive(
            messages in proptest::collection::vec(message(), 1..6),
            pieces in proptest::collection::vec(1..60_usize, 1..200),
        ) {
            let heads = Heads::default();
            let whole: Vec<u8> = messages.iter().flat_map(|message| message.bytes.clone()).collect();
            let mut read = 0;
            let mut pieces = pieces.into_iter().cycle();
            let mut begin = 0;
            for message in &messages {
                // Like the library: read no more than the head needs, then take it, then read the body.
                let head = begin + head(&message.bytes, 0, true).unwrap().end;
                let end = begin + message.bytes.len();
                let mut until = |wanted: usize| {
                    while read < wanted {
                        let next = (read + pieces.next().unwrap()).min(whole.len());
                        heads.read(&whole[read..next]).unwrap();
                        read = next;
                    }
                };
                until(head);
                prop_assert_eq!(heads.take(&message.headers), message.framing);
                until(end);
                begin = end;
            }
        }
    }
}
