//! What waits to be written to a client.

use std::cell::RefCell;
use std::io::{self, IoSlice, Write as _};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use tokio::io::AsyncWrite as _;

use super::Scratch;
use crate::net::transport::Transport;

/// Pieces that together are no larger are put together before they are written, in bytes: copying them costs less than a
/// vectored system call.
const JOINED_BYTES: usize = 4096;

/// Memory for writing that is kept for the next answer, at most, in bytes.
const KEPT_BYTES: usize = 16 * 1024;

/// Interim answers (RFC 9110 section 15.2) as bytes that wait to be written before the answer at hand.
pub type Interim = Rc<RefCell<Vec<u8>>>;

/// Small things put together, a piece of a body behind them, and what ends that.
pub(super) struct Outbox {
    scratch: Scratch,
    interim: Interim,
    small: Vec<u8>,
    /// How much of the small things was written.
    written: usize,
    piece: Bytes,
    behind: &'static [u8],
    /// An answer was begun: nothing may come before it any more.
    is_answering: bool,
}

/// Whether more can be added to what waits to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    Left,
    None,
}

impl Outbox {
    pub(super) fn new(scratch: Scratch, interim: Interim) -> Self {
        Self {
            scratch,
            interim,
            small: Vec::new(),
            written: 0,
            piece: Bytes::new(),
            behind: b"",
            is_answering: false,
        }
    }

    /// Tells the client something before its answer, unless that has begun.
    pub(super) fn tell(&mut self, bytes: &[u8]) {
        if !self.is_answering {
            self.interim.borrow_mut().extend_from_slice(bytes);
        }
    }

    /// Begins an answer with its head, which is put together in memory of the thread.
    pub(super) fn begin(&mut self) -> &mut Vec<u8> {
        self.is_answering = true;
        self.small = std::mem::take(&mut *self.scratch.0.written.borrow_mut());
        self.small.clear();
        self.written = 0;
        &mut self.small
    }

    /// Ends an answer that was written, and gives its memory back.
    pub(super) fn end(&mut self) {
        self.is_answering = false;
        let small = std::mem::take(&mut self.small);
        if small.capacity() <= KEPT_BYTES {
            *self.scratch.0.written.borrow_mut() = small;
        }
    }

    /// Adds a piece of a body. Without room left, everything has to be written before anything else is added.
    pub(super) fn add(&mut self, piece: Bytes, is_chunk: bool) -> Room {
        let mut behind: &[u8] = b"";
        if is_chunk {
            // Writing to memory does not fail.
            let _written = write!(self.small, "{:x}\r\n", piece.len());
            behind = b"\r\n";
        }
        if self.small.len() + piece.len() + behind.len() <= JOINED_BYTES {
            self.small.extend_from_slice(&piece);
            self.small.extend_from_slice(behind);
            return Room::Left;
        }
        self.piece = piece;
        self.behind = behind;
        Room::None
    }

    /// Adds what is small and is no piece of a body.
    pub(super) fn add_small(&mut self, bytes: &[u8]) {
        self.small.extend_from_slice(bytes);
    }

    /// Writes everything that waits.
    pub(super) fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        transport: &mut Transport,
    ) -> Poll<io::Result<()>> {
        if self.written == 0 {
            ready!(self.poll_interim(cx, transport))?;
        }
        loop {
            let small = self.small.get(self.written..).unwrap_or_default();
            let written = if self.piece.is_empty() && self.behind.is_empty() {
                if small.is_empty() {
                    break;
                }
                Pin::new(&mut *transport).poll_write(cx, small)
            } else {
                let slices = [small, &self.piece, self.behind].map(IoSlice::new);
                Pin::new(&mut *transport).poll_write_vectored(cx, &slices)
            };
            self.took(ready!(written)?);
        }
        self.small.clear();
        self.written = 0;
        Pin::new(transport).poll_flush(cx)
    }

    /// So many bytes of what waits were written.
    fn took(&mut self, mut bytes: usize) {
        let small = (self.small.len() - self.written).min(bytes);
        self.written += small;
        bytes -= small;
        let piece = self.piece.len().min(bytes);
        self.piece.advance(piece);
        self.behind = self.behind.get(bytes - piece..).unwrap_or_default();
        if self.piece.is_empty() {
            self.piece = Bytes::new();
        }
    }

    /// Writes interim answers, all of them or as far as the socket takes them.
    pub(super) fn poll_interim(
        &mut self,
        cx: &mut Context<'_>,
        transport: &mut Transport,
    ) -> Poll<io::Result<()>> {
        let mut waiting = self.interim.borrow_mut();
        if waiting.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while !waiting.is_empty() {
            let written = ready!(Pin::new(&mut *transport).poll_write(cx, &waiting))?;
            waiting.drain(..written);
        }
        *waiting = Vec::new();
        Pin::new(transport).poll_flush(cx)
    }

    /// Bytes that are held for the client.
    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.small.capacity() + self.piece.len() + self.interim.borrow().capacity()
    }
}
