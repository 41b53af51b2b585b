//! A client's connection: what was read and what is to be written.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};

use super::Scratch;
use super::body::Http1ReadError;
use super::head::{self, Asked, HeadLimits, Taken, Unread};
use super::outbox::{Interim, Outbox};
use crate::http::chunks::{Chunks, Piece};
use crate::http::message::RequestHead;
use crate::http::read_size::ReadSize;
use crate::net::deadline::{Overdue, Phase, Progress};
use crate::net::splice::Pipe;
use crate::net::transport::Transport;

/// Bytes of a head that are read at once, at most.
const HEAD_READ_BYTES: usize = 16 * 1024;

/// Bytes of a body that nobody wants which are read so that the connection can go on, at most; those of one read more.
const MAX_SKIPPED_BYTES: usize = 64 * 1024;

/// What a client is told that waits for it before it sends a body (RFC 9110 section 15.2.1).
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A connection, as its requests' bodies share it. It is never borrowed across a wait.
pub type SharedWire = Rc<RefCell<Wire>>;

/// What is left of a request's body.
#[derive(Debug)]
pub(super) enum Left {
    Nothing,
    Length(u64),
    Chunked(Chunks),
    /// It cannot be told where it ends. Nothing more is read as anything.
    Lost,
}

/// What has come from a client.
#[derive(Debug)]
pub enum Arrival {
    /// A request, and whether it has a body that is to be read.
    Request(Box<RequestHead>, Asked, bool),
    /// A head that is none.
    Unread(Unread),
    /// Nothing more: the client has closed its side, or the connection broke.
    Ended,
    /// Nothing in time.
    Overdue,
}

/// A client's connection that speaks HTTP/1.1.
pub struct Wire {
    transport: Transport,
    progress: Rc<Progress>,
    scratch: Scratch,
    /// What was read and belongs to nobody yet.
    read: BytesMut,
    read_size: ReadSize,
    /// How much of a head was looked at already.
    searched: usize,
    /// What is left of the body of the request at hand.
    left: Left,
    /// Which request that is. A body of another one reads nothing.
    number: u64,
    /// The client waits to be told to send the body.
    continue_awaited: bool,
    outbox: Outbox,
}

impl Wire {
    /// A connection on which nothing has happened yet.
    pub fn new(transport: Transport, progress: Rc<Progress>, scratch: Scratch, interim: Interim) -> Self {
        let outbox = Outbox::new(scratch.clone(), interim);
        Self {
            transport,
            progress,
            scratch,
            read: BytesMut::new(),
            read_size: ReadSize::default(),
            searched: 0,
            left: Left::Nothing,
            number: 0,
            continue_awaited: false,
            outbox,
        }
    }

    /// The connection, and what was read on it, when it speaks HTTP no more.
    pub fn into_parts(self) -> (Transport, Bytes) {
        (self.transport, self.read.freeze())
    }

    /// Which request is at hand.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Waits for the next request.
    pub fn poll_request(&mut self, cx: &mut Context<'_>, limits: HeadLimits) -> Poll<Arrival> {
        loop {
            match (self.progress.overdue(), self.progress.phase()) {
                (Some(Overdue::Head), Phase::Head) => return Poll::Ready(Arrival::Unread(Unread::TooSlow)),
                (Some(_), Phase::Idle | Phase::Head) => return Poll::Ready(Arrival::Overdue),
                (None, _) | (Some(_), Phase::Waiting { .. } | Phase::Answering | Phase::Parked) => {}
            }
            if !self.read.is_empty() {
                match head::take(&mut self.read, &mut self.searched, limits) {
                    Ok(Some(taken)) => return Poll::Ready(self.begin(taken)),
                    Ok(None) if self.progress.phase() == Phase::Idle && !self.read.is_empty() => {
                        // It came with the request before.
                        self.progress.enter(Phase::Head);
                    }
                    Ok(None) => {}
                    Err(unread) => return Poll::Ready(Arrival::Unread(unread)),
                }
            }
            match ready!(self.poll_fill_head(cx)) {
                Ok(0) => {
                    self.progress.client_ended();
                    return Poll::Ready(Arrival::Ended);
                }
                Ok(bytes) => self.progress.read(bytes),
                Err(error) => {
                    tracing::debug!(%error, "a client connection broke");
                    return Poll::Ready(Arrival::Ended);
                }
            }
        }
    }

    fn begin(&mut self, taken: Taken) -> Arrival {
        let Taken { head, asked, body, expects_continue } = taken;
        if self.read.is_empty() {
            // An empty end would keep the whole buffer for as long as the connection lives.
            self.read = BytesMut::new();
        }
        self.number += 1;
        let has_body = !matches!(body, Left::Nothing);
        self.left = body;
        self.continue_awaited = expects_continue;
        Arrival::Request(head, asked, has_body)
    }

    /// Reads once into memory of the thread, so that none is held while nothing comes.
    fn poll_fill_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut memory = self.scratch.0.read.borrow_mut();
        if memory.is_empty() {
            memory.resize(HEAD_READ_BYTES, 0);
        }
        let mut buffer = ReadBuf::new(&mut memory);
        if Pin::new(&mut self.transport).poll_read(cx, &mut buffer)?.is_pending() {
            drop(memory);
            return self.poll_reply(cx);
        }
        self.read.extend_from_slice(buffer.filled());
        Poll::Ready(Ok(buffer.filled().len()))
    }

    /// Whether the body of the request with this number is at its end.
    pub(super) fn is_body_end(&self, number: u64) -> bool {
        self.number != number || matches!(self.left, Left::Nothing)
    }

    /// How many bytes of the body are to come, where that is known.
    pub(super) fn body_bytes(&self, number: u64) -> Option<u64> {
        match self.left {
            _ if self.number != number => Some(0),
            Left::Nothing => Some(0),
            Left::Length(bytes) => Some(bytes),
            Left::Chunked(_) | Left::Lost => None,
        }
    }

    /// Waits for the next piece of the body of the request with this number.
    pub(super) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        number: u64,
    ) -> Poll<Result<Piece, Http1ReadError>> {
        if self.number != number {
            return Poll::Ready(Err(Http1ReadError::Abandoned));
        }
        if std::mem::take(&mut self.continue_awaited) && self.read.is_empty() {
            self.outbox.tell(CONTINUE);
            if let Poll::Ready(Err(error)) = self.poll_interim(cx) {
                return Poll::Ready(Err(Http1ReadError::Io(error)));
            }
        }
        loop {
            match self.next_piece()? {
                Piece::Incomplete => {}
                piece @ (Piece::Data(_) | Piece::End(_)) => return Poll::Ready(Ok(piece)),
            }
            match ready!(self.poll_fill_body(cx)).map_err(Http1ReadError::Io)? {
                0 => {
                    self.progress.client_ended();
                    self.left = Left::Lost;
                    return Poll::Ready(Err(Http1ReadError::Closed));
                }
                bytes => self.progress.read(bytes),
            }
        }
    }

    fn next_piece(&mut self) -> Result<Piece, Http1ReadError> {
        let piece = match &mut self.left {
            Left::Nothing => Piece::End(None),
            Left::Lost => return Err(Http1ReadError::Malformed("it cannot be told where it ends")),
            Left::Length(_) if self.read.is_empty() => Piece::Incomplete,
            Left::Length(left) => {
                let bytes = usize::try_from(*left).unwrap_or(usize::MAX).min(self.read.len());
                *left -= bytes as u64;
                if *left == 0 {
                    self.left = Left::Nothing;
                }
                Piece::Data(self.read.split_to(bytes).freeze())
            }
            Left::Chunked(chunks) => match chunks.next(&mut self.read) {
                Ok(piece) => piece,
                Err(malformed) => {
                    self.left = Left::Lost;
                    return Err(Http1ReadError::Malformed(malformed.0));
                }
            },
        };
        if matches!(piece, Piece::End(_)) {
            self.left = Left::Nothing;
        }
        if self.read.is_empty() && matches!(self.left, Left::Nothing) {
            self.read = BytesMut::new();
        }
        Ok(piece)
    }

    /// Reads once. How much at once goes by how much came the last time.
    fn poll_fill_body(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Poll::Ready(bytes) = self.read_size.poll_read(cx, &mut self.transport, &mut self.read)? else {
            return self.poll_reply(cx);
        };
        Poll::Ready(Ok(bytes))
    }

    /// Sends what TLS has to say to what was read, such as that nothing is negotiated again, and waits for more.
    fn poll_reply(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.transport).poll_flush(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
        }
    }

    /// Gives the rest of the body up that nobody reads, as far as it has come. Whether another request can follow it.
    pub(super) fn skip_body(&mut self, cx: &mut Context<'_>) -> bool {
        if matches!(self.left, Left::Nothing) {
            return true;
        }
        let (number, mut skipped) = (self.number, 0);
        // Who waits to be told may send the body, or not.
        while !self.continue_awaited && skipped < MAX_SKIPPED_BYTES {
            match self.poll_body(cx, number) {
                Poll::Ready(Ok(Piece::Data(data))) => skipped += data.len(),
                Poll::Ready(Ok(Piece::End(_))) => return true,
                Poll::Ready(Ok(Piece::Incomplete) | Err(_)) | Poll::Pending => break,
            }
            if matches!(self.left, Left::Nothing) {
                return true;
            }
        }
        self.left = Left::Lost;
        false
    }

    /// Reads what comes and looks at none of it. Ready when nothing more comes.
    pub fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let read = ready!(self.poll_fill_head(cx));
        self.read = BytesMut::new();
        Poll::Ready(read)
    }

    /// Whether a body was to come that nobody has read.
    pub fn is_body_left(&self) -> bool {
        !matches!(self.left, Left::Nothing)
    }

    /// What is written, with what it is written to.
    pub(super) fn outbox(&mut self) -> &mut Outbox {
        &mut self.outbox
    }

    /// Writes everything that waits.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.outbox.poll_flush(cx, &mut self.transport)
    }

    /// An empty pipe for what is to be written, where it is written as it is.
    pub(super) fn pipe(&self) -> Option<Pipe> {
        self.transport.plain_socket().and_then(|_| self.scratch.0.pipes.take())
    }

    /// Writes everything that is in a pipe, with nothing else waiting.
    pub(super) fn poll_drain(&self, cx: &mut Context<'_>, pipe: &mut Pipe) -> Poll<io::Result<()>> {
        self.transport.poll_drain(cx, pipe)
    }

    /// Writes interim answers, all of them or as far as the socket takes them.
    pub fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.outbox.poll_interim(cx, &mut self.transport)
    }

    /// Sends a last answer as far as the socket takes it at once. Nobody waits for a client that is being turned away.
    pub fn turn_away(&mut self, answer: &[u8]) {
        // The connection is closed next, so what the socket does not take is lost, as it would be anyway.
        self.transport.write_at_once(answer);
        self.left = Left::Lost;
    }

    /// Says that nothing more is written.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_shutdown(cx)
    }

    /// Bytes that are held for the client.
    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.read.capacity() + self.outbox.held_bytes()
    }
}
