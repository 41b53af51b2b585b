//! A connection that carries one request after the other.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::Method;

use super::head::{self, Head};
use super::{Answered, Framing, Http1Error, Piece, Upload};
use crate::http::body::RequestBody;
use crate::http::read_size::ReadSize;
use crate::http::spliced::Spliced;
use crate::net::splice::Pipe;
use crate::upstream::interim::Interim;
use crate::upstream::io::Wire;
use crate::upstream::outgoing::Outgoing;
use crate::upstream::shared::Place;

/// Informational answers before an answer, at most.
const MAX_INTERIM_ANSWERS: u32 = 100;

/// A connection of HTTP/1.1 to a target.
pub(in super::super) struct Connection {
    wire: Wire,
    /// What was read and belongs to nobody yet.
    read: BytesMut,
    read_size: ReadSize,
    /// How much of a head was looked at already.
    searched: usize,
    /// For the head of the next request.
    buffer: Vec<u8>,
    interim_answers: u32,
    place: Place,
}

impl Connection {
    pub(in super::super) fn new(wire: Wire, place: Place) -> Self {
        Self {
            wire,
            read: BytesMut::new(),
            read_size: ReadSize::default(),
            searched: 0,
            buffer: Vec::new(),
            interim_answers: 0,
            place,
        }
    }

    /// Whether it can carry a request: the target has neither closed it nor said anything unasked. Costs no system call
    /// as long as nothing has happened on it.
    pub(in super::super) fn is_fresh(&mut self) -> bool {
        self.read.is_empty() && self.wire.is_silent()
    }

    /// Begins to send a request.
    pub(in super::super) fn begin(&mut self, request: &Outgoing) -> Upload {
        self.interim_answers = 0;
        Upload::new(std::mem::take(&mut self.buffer), request)
    }

    /// Sends more of a request.
    ///
    /// # Errors
    ///
    /// When the client's body or the connection breaks.
    pub(in super::super) fn poll_upload(
        &mut self,
        cx: &mut Context<'_>,
        upload: &mut Upload,
        body: &mut RequestBody,
    ) -> Poll<Result<(), Http1Error>> {
        upload.poll(cx, &mut self.wire, body)
    }

    /// Keeps what a request that was sent has left for the next one.
    pub(in super::super) fn sent(&mut self, upload: Upload) {
        self.buffer = upload.into_buffer();
    }

    /// Whether anything of an answer was read.
    pub(in super::super) fn has_read(&self) -> bool {
        !self.read.is_empty() || self.interim_answers > 0
    }

    /// Waits for the head of an answer. Who asked is told of what comes before it.
    ///
    /// # Errors
    ///
    /// When the connection breaks, or what comes is no answer.
    pub(in super::super) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        method: &Method,
        interim: Option<&Interim>,
    ) -> Poll<Result<Head, Http1Error>> {
        loop {
            match head::take(&mut self.read, &mut self.searched, method)? {
                Some(Answered::Final(head)) => return Poll::Ready(Ok(head)),
                Some(Answered::Interim(answer)) => {
                    self.interim_answers += 1;
                    if self.interim_answers > MAX_INTERIM_ANSWERS {
                        return Poll::Ready(Err(Http1Error::Malformed("it never comes to its answer")));
                    }
                    if let Some(interim) = interim {
                        interim.tell(answer);
                    }
                }
                None => {
                    if ready!(self.poll_fill(cx))? == 0 {
                        return Poll::Ready(Err(Http1Error::Closed));
                    }
                }
            }
        }
    }

    /// Waits for the next piece of an answer's body.
    pub(super) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        framing: &mut Framing,
    ) -> Poll<Result<Piece, Http1Error>> {
        loop {
            let piece = match framing {
                Framing::Nothing => return Poll::Ready(Ok(Piece::End(None))),
                Framing::Chunked(chunks) => chunks.next(&mut self.read)?,
                Framing::Length(_) | Framing::UntilClose if self.read.is_empty() => Piece::Incomplete,
                Framing::Length(left) => {
                    let bytes = usize::try_from(*left).unwrap_or(usize::MAX).min(self.read.len());
                    *left -= bytes as u64;
                    if *left == 0 {
                        *framing = Framing::Nothing;
                    }
                    Piece::Data(self.read.split_to(bytes).freeze())
                }
                Framing::UntilClose => Piece::Data(self.read.split().freeze()),
            };
            match piece {
                Piece::Incomplete => {}
                Piece::Data(_) => return Poll::Ready(Ok(piece)),
                Piece::End(_) => {
                    *framing = Framing::Nothing;
                    return Poll::Ready(Ok(piece));
                }
            }
            if ready!(self.poll_fill(cx))? == 0 {
                return Poll::Ready(match framing {
                    Framing::UntilClose => {
                        *framing = Framing::Nothing;
                        Ok(Piece::End(None))
                    }
                    Framing::Nothing | Framing::Length(_) | Framing::Chunked(_) => Err(Http1Error::Closed),
                });
            }
        }
    }

    /// Waits for the next piece of a body whose length is known, and moves it into an empty pipe.
    pub(super) fn poll_splice(
        &mut self,
        cx: &mut Context<'_>,
        framing: &mut Framing,
        pipe: &mut Pipe,
    ) -> Poll<Spliced> {
        let (Framing::Length(left), Wire::Tcp(socket)) = (&mut *framing, &self.wire) else {
            return Poll::Ready(Spliced::Frame);
        };
        if !self.read.is_empty() {
            return Poll::Ready(Spliced::Frame);
        }
        // What comes behind the body is not taken with it. Reading tells what is wrong where this fails.
        let bytes = ready!(pipe.poll_fill(cx, socket, *left)).unwrap_or(0);
        *left = left.saturating_sub(bytes as u64);
        if *left == 0 {
            *framing = Framing::Nothing;
        }
        Poll::Ready(if bytes == 0 { Spliced::Frame } else { Spliced::Bytes(bytes) })
    }

    /// The connection, what was read on it, and its place among the target's connections.
    pub(in super::super) fn into_parts(self) -> (Wire, Bytes, Place) {
        (self.wire, self.read.freeze(), self.place)
    }

    /// Reads once. How much at once goes by how much came the last time.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, Http1Error>> {
        self.read_size.poll_read(cx, &mut self.wire, &mut self.read).map_err(|error| {
            // Some targets end so, and what they sent before is gone with it.
            if error.kind() == io::ErrorKind::UnexpectedEof {
                Http1Error::Closed
            } else {
                Http1Error::Io(error)
            }
        })
    }
}
