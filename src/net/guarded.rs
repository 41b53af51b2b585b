//! A client's socket under watch: it counts bytes for the deadlines and answers for a request that never became one.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::base::ids::X_REQUEST_ID;

use super::deadline::{Overdue, Phase, Progress};
use super::heads::Heads;
use super::transport::Transport;

/// Why a message was refused before there was a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// The HTTP library could not read the head and would have answered with this status.
    Malformed(u16),
    /// The head did not come in time.
    TooSlow,
}

/// Words the answers to messages that were refused before there was a request.
pub trait LastWords {
    /// The bytes of the answer.
    fn answer(&self, why: Unread) -> Vec<u8>;
}

/// Answers up to this size are put together before they are written, in bytes: for a few small pieces, copying costs
/// less than a vectored system call.
const JOINED_BYTES: usize = 4096;

/// Where the connections of one thread put small answers together.
pub type Scratch = Rc<RefCell<Vec<u8>>>;

/// Interim answers (RFC 9110 section 15.2) as bytes that wait to be written before the answer at hand.
pub type Interim = Rc<RefCell<Vec<u8>>>;

/// A client's connection that speaks HTTP/1.1.
pub struct GuardedStream<W> {
    stream: Transport,
    progress: Rc<Progress>,
    scratch: Scratch,
    interim: Interim,
    heads: Rc<Heads>,
    last_words: W,
    /// Whether what is written next begins an answer: everything of the one before it has been written.
    between_answers: bool,
}

impl<W: LastWords> GuardedStream<W> {
    /// Puts a connection under watch.
    pub fn new(
        stream: Transport,
        progress: Rc<Progress>,
        scratch: Scratch,
        interim: Interim,
        heads: Rc<Heads>,
        last_words: W,
    ) -> Self {
        Self { stream, progress, scratch, interim, heads, last_words, between_answers: true }
    }

    /// Gives the connection back, when it speaks HTTP no more.
    pub fn into_transport(self) -> Transport {
        self.stream
    }

    /// Sends a last answer as far as the socket takes it at once. Nobody waits for a client that is being turned away.
    fn turn_away(&mut self, why: Unread) {
        let answer = self.last_words.answer(why);
        // The connection is closed next, so what the socket does not take is lost, as it would be anyway.
        let sent = self.stream.write_at_once(&answer);
        self.progress.wrote(sent);
    }

    /// Whether the connection is overdue between requests or inside a head: then the client counts as gone.
    fn is_over(&mut self) -> bool {
        match (self.progress.overdue(), self.progress.phase()) {
            (Some(Overdue::Head), Phase::Head) => {
                self.turn_away(Unread::TooSlow);
                true
            }
            (Some(_), Phase::Idle | Phase::Head) => true,
            (None, _) | (Some(_), Phase::Waiting { .. } | Phase::Answering | Phase::Parked) => false,
        }
    }

    /// Replaces an answer that the HTTP library wrote by itself. It has no request id, which all of ours have, and
    /// comes while no request is being answered. The head it answers may have been read together with the request
    /// before, so the connection may seem idle; what a body happens to begin with is never an answer.
    fn replaces(&mut self, begin: &[u8]) -> bool {
        if !self.is_unoccupied() {
            self.between_answers = false;
            return false;
        }
        let begins_answer = std::mem::replace(&mut self.between_answers, false);
        match library_answer(begin) {
            Some(status) if begins_answer => {
                self.between_answers = true;
                self.turn_away(Unread::Malformed(status));
                true
            }
            Some(_) | None => false,
        }
    }

    /// Whether there is no request at hand.
    fn is_unoccupied(&self) -> bool {
        match self.progress.phase() {
            Phase::Idle | Phase::Head => true,
            Phase::Waiting { .. } | Phase::Answering | Phase::Parked => false,
        }
    }

    /// Writes interim answers, all of them or as far as the socket takes them.
    fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let waiting = Rc::clone(&self.interim);
        let mut waiting = waiting.borrow_mut();
        while !waiting.is_empty() {
            let outcome = Pin::new(&mut self.stream).poll_write(cx, &waiting);
            let written = ready!(self.count(outcome))?;
            waiting.drain(..written);
        }
        Poll::Ready(Ok(()))
    }

    /// Whether interim answers go before what the HTTP library writes now. While a request still waits for its answer,
    /// that can only be the rest of the answer before.
    fn interim_goes_first(&self) -> bool {
        !matches!(self.progress.phase(), Phase::Waiting { .. }) && !self.interim.borrow().is_empty()
    }

    fn count(&self, outcome: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &outcome {
            Poll::Ready(Ok(written)) => self.progress.wrote(*written),
            Poll::Pending => self.progress.write_blocked(),
            Poll::Ready(Err(_)) => {}
        }
        outcome
    }
}

/// The status of an answer that is none of ours: an error status, and no request id behind it.
fn library_answer(written: &[u8]) -> Option<u16> {
    let status =
        written.strip_prefix(b"HTTP/1.1 ").or_else(|| written.strip_prefix(b"HTTP/1.0 "))?.get(..3)?;
    let status: u16 = std::str::from_utf8(status).ok()?.parse().ok()?;
    // Nearly all answers are no refusals, and are not searched.
    (status >= 400 && memchr::memmem::find(written, X_REQUEST_ID.as_str().as_bytes()).is_none())
        .then_some(status)
}

impl<W: LastWords + Unpin> AsyncRead for GuardedStream<W> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_over() {
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let read = buffer.filled().len() - before;
        if read > 0 {
            self.progress.read(read);
            if self.heads.read(buffer.filled().get(before..).unwrap_or_default()).is_err() {
                // To the HTTP library the body breaks off here, as with any other that is malformed.
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
        } else if outcome.is_ready() && buffer.remaining() > 0 {
            self.progress.client_ended();
        }
        outcome
    }
}

impl<W: LastWords + Unpin> AsyncWrite for GuardedStream<W> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.replaces(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        if self.interim_goes_first() {
            ready!(self.poll_interim(cx))?;
        }
        let outcome = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.count(outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if slices.first().is_some_and(|first| self.replaces(first)) {
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        if self.interim_goes_first() {
            ready!(self.poll_interim(cx))?;
        }
        if let [only] = slices {
            let outcome = Pin::new(&mut self.stream).poll_write(cx, only);
            return self.count(outcome);
        }
        if slices.iter().map(|slice| slice.len()).sum::<usize>() > JOINED_BYTES {
            let outcome = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
            return self.count(outcome);
        }
        let scratch = Rc::clone(&self.scratch);
        let mut joined = scratch.borrow_mut();
        joined.clear();
        for slice in slices {
            joined.extend_from_slice(slice);
        }
        let outcome = Pin::new(&mut self.stream).poll_write(cx, &joined);
        self.count(outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The HTTP library flushes when it has nothing left to write.
        if self.is_unoccupied() {
            self.between_answers = true;
        }
        if !self.interim.borrow().is_empty() {
            ready!(self.poll_interim(cx))?;
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_librarys_own_refusals_are_replaced() {
        assert_eq!(library_answer(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n"), Some(400));
        assert_eq!(library_answer(b"HTTP/1.1 431 Request Header Fields Too Large\r\n\r\n"), Some(431));
        assert_eq!(library_answer(b"HTTP/1.1 401 Unauthorized\r\nx-request-id: 1\r\n\r\n"), None);
        assert_eq!(library_answer(b"HTTP/1.1 200 OK\r\n\r\n"), None);
        assert_eq!(library_answer(b"HTTP/1.1 100 Continue\r\n\r\n"), None);
        assert_eq!(library_answer(b"some body"), None);
    }
}
