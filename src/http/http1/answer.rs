//! Writing answers.

use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use http::{HeaderName, HeaderValue, StatusCode, Version, header};
use http_body::Body;

use super::head::Asked;
use super::sending::{Sending, Sent};
use super::wire::{SharedWire, Wire};
use crate::base::field_list::FieldList;
use crate::http::lines::write_field;
use crate::http::message::ResponseHead;
use crate::http::spliced::SplicedBody;

/// What becomes of a connection after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// Another request may come.
    Persistent,
    /// It was the last one.
    Last,
}

/// How the body of an answer is framed (RFC 9112 section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is none.
    Nothing,
    /// It is not sent. Its length is what the head says, or this.
    Unsent(Option<u64>),
    /// It has so many bytes.
    Length(u64),
    /// Its length is not known.
    Chunked,
    /// Its length is not known, and the client knows no chunks.
    UntilClose,
}

/// Why an answer was not written whole.
#[derive(Debug)]
pub enum AnswerBroken {
    /// The connection broke.
    Io(io::Error),
    /// The body broke off where it comes from, or is not as long as was said. The client sees that it is cut.
    Body,
}

impl fmt::Display for AnswerBroken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Body => f.write_str("the body of the answer broke off"),
        }
    }
}

impl std::error::Error for AnswerBroken {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            Self::Body => None,
        }
    }
}

/// Writes an answer. `is_last` says that the connection ends with it, whatever the client wants; `date` is for an answer
/// that has none. When it fails, the connection is of no more use.
pub fn answer<B, D>(
    wire: &SharedWire,
    asked: Asked,
    (head, body): (ResponseHead, B),
    is_last: bool,
    date: D,
) -> impl Future<Output = Result<Answered, AnswerBroken>>
where
    B: SplicedBody,
    D: Fn() -> HeaderValue,
{
    let framing = Framing::of(&head, asked, &body);
    let body = Sending::new(body, framing);
    let mut answering = Answering { wire, asked, step: Step::Head(head), body, is_last, date };
    poll_fn(move |cx| answering.poll(cx))
}

/// An answer that is being written.
struct Answering<'a, B, D> {
    wire: &'a SharedWire,
    asked: Asked,
    step: Step,
    body: Sending<B>,
    is_last: bool,
    date: D,
}

/// What is written next.
enum Step {
    Head(ResponseHead),
    Body,
    /// What waits, and nothing behind it.
    End,
    /// What waits, before the client sees that the rest is missing.
    Cut,
}

impl<B, D> Answering<'_, B, D>
where
    B: SplicedBody,
    D: Fn() -> HeaderValue,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Answered, AnswerBroken>> {
        loop {
            self.step = match &self.step {
                Step::Head(head) => {
                    self.is_last = Self::is_last(self.wire, self.asked, head, &self.body, self.is_last, cx);
                    self.body.trailers = self.body.framing.trailers(head, self.asked);
                    let mut wire = self.wire.borrow_mut();
                    let out = wire.outbox().begin();
                    write_head(out, head, self.body.framing, self.asked.version, self.is_last);
                    write_date(out, &head.headers, &self.date);
                    if self.body.framing.has_body() { Step::Body } else { Step::End }
                }
                Step::Body => match ready!(self.body.poll(self.wire, cx))? {
                    Sent::Whole => Step::End,
                    Sent::Cut => Step::Cut,
                },
                Step::End => {
                    ready!(poll_flush(self.wire, cx))?;
                    return Poll::Ready(Ok(self.end(cx)));
                }
                Step::Cut => {
                    ready!(poll_flush(self.wire, cx))?;
                    return Poll::Ready(Err(AnswerBroken::Body));
                }
            };
        }
    }

    /// Whether the connection ends with the answer. The client is told, so what is left of its request is given up first.
    fn is_last(
        wire: &SharedWire,
        asked: Asked,
        head: &ResponseHead,
        body: &Sending<B>,
        is_last: bool,
        cx: &mut Context<'_>,
    ) -> bool {
        is_last
            || !asked.is_persistent
            || body.framing == Framing::UntilClose
            || says_close(&head.headers)
            || (is_body_left_over(wire) && !wire.borrow_mut().skip_body(cx))
    }

    /// What becomes of the connection, once everything was written.
    fn end(&mut self, cx: &mut Context<'_>) -> Answered {
        self.wire.borrow_mut().outbox().end();
        self.body.end();
        if !self.is_last && self.wire.borrow().is_body_left() {
            // What is still being sent elsewhere would be read by two.
            let is_free = Rc::strong_count(self.wire) == 1;
            self.is_last = !is_free || !self.wire.borrow_mut().skip_body(cx);
        }
        if self.is_last { Answered::Last } else { Answered::Persistent }
    }
}

/// Writes the head of an answer that switches protocols. HTTP ends with it.
///
/// # Errors
///
/// [`AnswerBroken::Io`]
pub async fn switch(
    wire: &SharedWire,
    head: &ResponseHead,
    date: impl FnOnce() -> HeaderValue,
) -> Result<(), AnswerBroken> {
    {
        let mut wire = wire.borrow_mut();
        let out = wire.outbox().begin();
        status_line(out, head.status, Version::HTTP_11);
        for (name, value) in head.headers.iter() {
            write_field(out, name.as_str().as_bytes(), value.as_bytes());
        }
        write_date(out, &head.headers, date);
    }
    poll_fn(|cx| poll_flush(wire, cx)).await?;
    wire.borrow_mut().outbox().end();
    Ok(())
}

pub(super) fn poll_flush(wire: &RefCell<Wire>, cx: &mut Context<'_>) -> Poll<Result<(), AnswerBroken>> {
    wire.borrow_mut().poll_flush(cx).map_err(AnswerBroken::Io)
}

/// Whether a body was to come, and nobody is there any more who reads it.
fn is_body_left_over(wire: &SharedWire) -> bool {
    wire.borrow().is_body_left() && Rc::strong_count(wire) == 1
}

impl Framing {
    fn of(head: &ResponseHead, asked: Asked, body: &impl Body) -> Self {
        // RFC 9110 section 6.4.1.
        match head.status.as_u16() {
            // No content, and not modified.
            204 => return Self::Nothing,
            304 => return Self::Unsent(None),
            _ if asked.is_head => {
                let is_told = head.headers.contains_key(header::CONTENT_LENGTH);
                let told = body.size_hint().exact().filter(|bytes| *bytes > 0 && !is_told);
                return Self::Unsent(told);
            }
            _ => {}
        }
        match body.size_hint().exact() {
            Some(bytes) => Self::Length(bytes),
            None if asked.version == Version::HTTP_10 => Self::UntilClose,
            None => Self::Chunked,
        }
    }

    fn has_body(self) -> bool {
        !matches!(self, Self::Nothing | Self::Unsent(_))
    }

    /// How many bytes of a body there may be, at most.
    pub(super) fn bytes(self) -> u64 {
        match self {
            Self::Length(bytes) => bytes,
            Self::Nothing | Self::Unsent(_) | Self::Chunked | Self::UntilClose => u64::MAX,
        }
    }

    /// The trailers that are sent.
    fn trailers(self, head: &ResponseHead, asked: Asked) -> Vec<HeaderName> {
        if self == Self::Chunked && asked.takes_trailers { announced(&head.headers) } else { Vec::new() }
    }
}

fn says_close(headers: &FieldList) -> bool {
    headers.get_all(header::CONNECTION).any(|value| value.as_bytes().eq_ignore_ascii_case(b"close"))
}

/// The trailers that a head announces: others are not sent (RFC 9110 section 6.6.2).
fn announced(headers: &FieldList) -> Vec<HeaderName> {
    let values = headers.get_all(header::TRAILER);
    let names = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    names.filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok()).collect()
}

/// Everything of a head but its end. How the body is framed, and whether the connection goes on, is said here and comes
/// from nowhere else.
fn write_head(out: &mut Vec<u8>, head: &ResponseHead, framing: Framing, version: Version, is_last: bool) {
    status_line(out, head.status, version);
    for (name, value) in head.headers.iter() {
        let is_written = match *name {
            header::CONNECTION | header::TRANSFER_ENCODING => false,
            // What the length of the answer to a GET would be (RFC 9110 section 8.6).
            header::CONTENT_LENGTH => framing == Framing::Unsent(None),
            header::TRAILER => framing == Framing::Chunked,
            _ => true,
        };
        if is_written {
            write_field(out, name.as_str().as_bytes(), value.as_bytes());
        }
    }
    match framing {
        Framing::Length(bytes) | Framing::Unsent(Some(bytes)) => {
            write_field(out, b"content-length", itoa::Buffer::new().format(bytes).as_bytes());
        }
        Framing::Chunked => write_field(out, b"transfer-encoding", b"chunked"),
        Framing::Nothing | Framing::Unsent(None) | Framing::UntilClose => {}
    }
    if is_last {
        // RFC 9112 section 9.6.
        write_field(out, b"connection", b"close");
    }
}

/// The date, where the answer has none (RFC 9110 section 6.6.1), and the end of the head.
fn write_date(out: &mut Vec<u8>, headers: &FieldList, date: impl FnOnce() -> HeaderValue) {
    if !headers.contains_key(header::DATE) {
        write_field(out, b"date", date().as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

fn status_line(out: &mut Vec<u8>, status: StatusCode, version: Version) {
    out.extend_from_slice(if version == Version::HTTP_10 { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
}
