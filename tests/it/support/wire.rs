//! HTTP/1.1 messages read by the letter of RFC 9112, for both sides of the tests. It shares nothing with the gateway.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;

/// Fields in the order in which they came: names as sent, values without surrounding blanks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields(pub(crate) Vec<(String, String)>);

impl Fields {
    /// All values of a field, whatever the case of its name.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.0
            .iter()
            .filter(|(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| &**value)
            .collect()
    }

    /// The only value of a field; `None` when there is none.
    pub(crate) fn one(&self, name: &str) -> Option<&str> {
        let values = self.all(name);
        assert!(values.len() <= 1, "{name} is there {} times: {self:?}", values.len());
        values.first().copied()
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        !self.all(name).is_empty()
    }
}

/// A start line with its fields.
#[derive(Clone, Debug, Default)]
pub(crate) struct Head {
    pub(crate) line: String,
    pub(crate) fields: Fields,
    /// The bytes of all of it, with the empty line.
    pub(crate) raw: Vec<u8>,
}

/// How long a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    None,
    Length(u64),
    Chunked,
    UntilClose,
}

/// Why a message did not come whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The other side closed.
    Closed,
    /// The other side broke the connection.
    Reset,
    /// Nothing came in time.
    Late,
    /// What came is not HTTP.
    Fault(String),
}

/// A connection with what was read ahead.
pub(crate) struct Wire {
    pub(crate) stream: TcpStream,
    pub(crate) ahead: Vec<u8>,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { stream, ahead: Vec::new() }
    }

    /// Reads once more.
    pub(crate) fn fill(&mut self) -> Result<(), Cut> {
        let mut piece = vec![0; 64 * 1024];
        match self.stream.read(&mut piece) {
            Ok(0) => Err(Cut::Closed),
            Ok(read) => {
                self.ahead.extend_from_slice(&piece[..read]);
                Ok(())
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Err(Cut::Late)
            }
            Err(_) => Err(Cut::Reset),
        }
    }

    /// Reads a head. `Closed` when the connection ended before its first byte.
    pub(crate) fn head(&mut self) -> Result<Head, Cut> {
        let mut looked = 0;
        let end = loop {
            if let Some(at) = find(&self.ahead[looked..], b"\r\n\r\n") {
                break looked + at + 4;
            }
            looked = self.ahead.len().saturating_sub(3);
            self.fill().map_err(|cut| match cut {
                Cut::Closed if !self.ahead.is_empty() => {
                    Cut::Fault(format!("half a head: {:?}", String::from_utf8_lossy(&self.ahead)))
                }
                Cut::Closed | Cut::Reset | Cut::Late | Cut::Fault(_) => cut,
            })?;
        };
        let raw: Vec<u8> = self.ahead.drain(..end).collect();
        let text = String::from_utf8_lossy(&raw[..end - 4]).into_owned();
        let mut lines = text.split("\r\n");
        let line = lines.next().unwrap_or_default().to_owned();
        let fields = fields(lines)?;
        if text.split("\r\n").any(|line| line.contains(['\r', '\n', '\0'])) {
            return Err(Cut::Fault(format!("a bare control byte in {text:?}")));
        }
        Ok(Head { line, fields, raw })
    }

    /// Reads a body into `body` as far as it comes, and returns its trailers.
    pub(crate) fn body(&mut self, framing: Framing, body: &mut Vec<u8>) -> Result<Fields, Cut> {
        match framing {
            Framing::None => Ok(Fields::default()),
            Framing::Length(length) => self.take(length, body).map(|()| Fields::default()),
            Framing::UntilClose => loop {
                body.append(&mut self.ahead);
                match self.fill() {
                    Ok(()) => {}
                    Err(Cut::Closed) => return Ok(Fields::default()),
                    Err(cut @ (Cut::Reset | Cut::Late | Cut::Fault(_))) => return Err(cut),
                }
            },
            Framing::Chunked => loop {
                let line = self.line()?;
                let size = line.split(';').next().unwrap_or_default();
                let plain =
                    !size.is_empty() && size.len() <= 8 && size.bytes().all(|byte| byte.is_ascii_hexdigit());
                if !plain {
                    return Err(Cut::Fault(format!("a chunk size of {line:?}")));
                }
                let size = u64::from_str_radix(size, 16).unwrap();
                if size == 0 {
                    return self.trailers();
                }
                self.take(size, body)?;
                if !self.line()?.is_empty() {
                    return Err(Cut::Fault("a chunk that is longer than it says".to_owned()));
                }
            },
        }
    }

    fn take(&mut self, length: u64, body: &mut Vec<u8>) -> Result<(), Cut> {
        let mut left = usize::try_from(length).unwrap();
        loop {
            let here = left.min(self.ahead.len());
            body.extend(self.ahead.drain(..here));
            left -= here;
            if left == 0 {
                return Ok(());
            }
            self.fill()?;
        }
    }

    fn line(&mut self) -> Result<String, Cut> {
        loop {
            if let Some(at) = find(&self.ahead, b"\r\n") {
                let line: Vec<u8> = self.ahead.drain(..at + 2).collect();
                return Ok(String::from_utf8_lossy(&line[..at]).into_owned());
            }
            self.fill()?;
        }
    }

    fn trailers(&mut self) -> Result<Fields, Cut> {
        let mut lines = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return fields(lines.iter().map(String::as_str));
            }
            lines.push(line);
        }
    }
}

/// How long the body of a request is (RFC 9112 section 6.3). Two readings are a fault.
pub(crate) fn request_framing(fields: &Fields) -> Result<Framing, Cut> {
    let (codings, lengths) = (fields.all("transfer-encoding"), fields.all("content-length"));
    match (codings.as_slice(), lengths.as_slice()) {
        ([], []) => Ok(Framing::None),
        ([], [length]) => Ok(Framing::Length(plain_decimal(length)?)),
        (["chunked"], []) => Ok(Framing::Chunked),
        _ => Err(Cut::Fault(format!("two readings of the length: {fields:?}"))),
    }
}

/// How long the body of an answer is (RFC 9112 section 6.3).
pub(crate) fn answer_framing(method: &str, status: u16, fields: &Fields) -> Result<Framing, Cut> {
    if method == "HEAD" || status < 200 || matches!(status, 204 | 304) {
        return Ok(Framing::None);
    }
    match request_framing(fields)? {
        Framing::None => Ok(Framing::UntilClose),
        framing @ (Framing::Length(_) | Framing::Chunked | Framing::UntilClose) => Ok(framing),
    }
}

fn plain_decimal(text: &str) -> Result<u64, Cut> {
    let fault = || Cut::Fault(format!("a length of {text:?}"));
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(fault());
    }
    text.parse().map_err(|_| fault())
}

fn fields<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Fields, Cut> {
    let mut list = Vec::new();
    for line in lines {
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        match line.split_once(':') {
            Some((name, value)) if !name.is_empty() && name.bytes().all(token) => {
                list.push((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()));
            }
            _ => return Err(Cut::Fault(format!("no header field: {line:?}"))),
        }
    }
    Ok(Fields(list))
}

pub(crate) fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
