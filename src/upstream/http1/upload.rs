//! Sending a request: its head, and its body as it comes.

use std::future::Future as _;
use std::io::IoSlice;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use http_body::Body as _;
use tokio::io::{AsyncWrite as _, AsyncWriteExt as _};

use super::Http1Error;
use super::head::{self, Framed};
use crate::http::body::RequestBody;
use crate::upstream::io::Wire;
use crate::upstream::outgoing::Outgoing;

/// A request that is being sent.
#[derive(Debug)]
pub(in super::super) struct Upload {
    /// What is written first: the head, or the line with the size of a chunk.
    lead: Vec<u8>,
    lead_written: usize,
    /// What is written behind it: a piece of the body.
    piece: Bytes,
    /// And the end of it, where it is a chunk.
    tail: &'static [u8],
    left: Left,
    /// The connection may hold back what it has taken.
    unflushed: bool,
    /// Bytes that the connection has taken.
    written_bytes: u64,
}

/// What is still to come of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    Nothing,
    Length(u64),
    Chunks,
}

impl Upload {
    /// Begins with the head. `buffer` is used for it.
    pub(super) fn new(mut buffer: Vec<u8>, request: &Outgoing) -> Self {
        let body = &request.body;
        let framed = match body.size_hint().exact() {
            _ if body.is_end_stream() => Framed::Empty,
            Some(bytes) => Framed::Length(bytes),
            None => Framed::Chunked,
        };
        let left = match framed {
            Framed::Empty | Framed::Length(0) => Left::Nothing,
            Framed::Length(bytes) => Left::Length(bytes),
            Framed::Chunked => Left::Chunks,
        };
        buffer.clear();
        head::write(&mut buffer, request, framed);
        Self {
            lead: buffer,
            lead_written: 0,
            piece: Bytes::new(),
            tail: b"",
            left,
            unflushed: false,
            written_bytes: 0,
        }
    }

    /// Whether everything was written.
    pub(in super::super) fn is_done(&self) -> bool {
        self.left == Left::Nothing && !self.has_ready() && !self.unflushed
    }

    /// Whether the connection has taken anything of it, so that the target may have seen it.
    pub(in super::super) fn has_begun(&self) -> bool {
        self.written_bytes > 0
    }

    /// The buffer, for the next request.
    pub(super) fn into_buffer(self) -> Vec<u8> {
        self.lead
    }

    /// Gives back the piece of the body that was read, when nothing was written.
    pub(in super::super) fn undo(&mut self, body: &mut RequestBody) {
        if !self.has_begun() {
            body.put_back(std::mem::take(&mut self.piece));
        }
    }

    /// Writes as much as there is and the connection takes.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        wire: &mut Wire,
        body: &mut RequestBody,
    ) -> Poll<Result<(), Http1Error>> {
        loop {
            if self.piece.is_empty() && self.left != Left::Nothing {
                match self.poll_piece(cx, body) {
                    Poll::Ready(Ok(())) => continue,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending if !self.has_ready() && !self.unflushed => return Poll::Pending,
                    // What is there does not wait for the rest.
                    Poll::Pending => {}
                }
            }
            while self.has_ready() {
                ready!(self.poll_write(cx, wire)).map_err(Http1Error::Io)?;
            }
            if self.unflushed {
                ready!(Pin::new(&mut *wire).poll_flush(cx)).map_err(Http1Error::Io)?;
                self.unflushed = false;
            }
            if self.left == Left::Nothing {
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn has_ready(&self) -> bool {
        self.lead_written < self.lead.len() || !self.piece.is_empty() || !self.tail.is_empty()
    }

    /// Takes the next piece of the body, when nothing but a lead is waiting.
    fn poll_piece(&mut self, cx: &mut Context<'_>, body: &mut RequestBody) -> Poll<Result<(), Http1Error>> {
        if !self.tail.is_empty() {
            return Poll::Pending;
        }
        let frame = match ready!(Pin::new(&mut *body).poll_frame(cx)) {
            Some(Err(error)) => return Poll::Ready(Err(Http1Error::Body(error))),
            Some(Ok(frame)) => frame.into_data().ok(),
            None => None,
        };
        self.reclaim();
        match (frame, self.left) {
            (Some(piece), _) if piece.is_empty() => {}
            (Some(piece), Left::Length(left)) => {
                let Some(rest) = left.checked_sub(piece.len() as u64) else {
                    return Poll::Ready(Err(Http1Error::Malformed("the request's body is too long")));
                };
                self.left = if rest == 0 { Left::Nothing } else { Left::Length(rest) };
                self.piece = piece;
            }
            (Some(piece), Left::Chunks) => {
                self.lead.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                self.piece = piece;
                self.tail = if body.is_end_stream() { b"\r\n0\r\n\r\n" } else { b"\r\n" };
                self.left = if body.is_end_stream() { Left::Nothing } else { Left::Chunks };
            }
            (None, Left::Chunks) => {
                self.lead.extend_from_slice(b"0\r\n\r\n");
                self.left = Left::Nothing;
            }
            (None, Left::Length(_)) => {
                return Poll::Ready(Err(Http1Error::Malformed("the request's body is too short")));
            }
            (_, Left::Nothing) => {}
        }
        Poll::Ready(Ok(()))
    }

    /// Uses the buffer again once everything in it was written.
    fn reclaim(&mut self) {
        if self.lead_written >= self.lead.len() {
            self.lead.clear();
            self.lead_written = 0;
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, wire: &mut Wire) -> Poll<std::io::Result<()>> {
        let lead = self.lead.get(self.lead_written..).unwrap_or_default();
        let written = if self.piece.is_empty() && self.tail.is_empty() {
            ready!(pin!(wire.write(lead)).poll(cx))?
        } else {
            let slices = [IoSlice::new(lead), IoSlice::new(&self.piece), IoSlice::new(self.tail)];
            // The system is given no empty pieces.
            let from = usize::from(lead.is_empty());
            let to = if self.tail.is_empty() { 2 } else { 3 };
            ready!(pin!(wire.write_vectored(slices.get(from..to).unwrap_or_default())).poll(cx))?
        };
        if written == 0 {
            return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into()));
        }
        self.written_bytes += written as u64;
        self.unflushed = true;
        let of_lead = written.min(lead.len());
        self.lead_written += of_lead;
        let of_piece = (written - of_lead).min(self.piece.len());
        self.piece.advance(of_piece);
        self.tail = self.tail.get(written - of_lead - of_piece..).unwrap_or_default();
        Poll::Ready(Ok(()))
    }
}
