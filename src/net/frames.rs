//! An HTTP/2 connection under watch: it counts bytes for the deadlines and sees when a frame or a head stays incomplete.
//!
//! The HTTP/2 library says nothing of a head before it is whole, so a client could take for ever over one. Frames are
//! only counted here, never read (RFC 9113 section 4.1).

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::deadline::Progress;
use super::transport::Transport;

/// What every connection begins with (RFC 9113 section 3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const HEADER_BYTES: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

/// Follows the frames of one direction.
#[derive(Debug)]
pub struct Frames {
    header: [u8; HEADER_BYTES],
    /// Bytes of the header that were seen.
    seen: usize,
    /// Bytes of the preface or of the frame's payload that are still to come.
    left: usize,
    kind: u8,
    /// A head has begun and the frame that ends it has not come.
    in_head: bool,
}

impl Default for Frames {
    /// Before the preface.
    fn default() -> Self {
        Self { header: [0; HEADER_BYTES], seen: 0, left: PREFACE.len(), kind: HEADERS, in_head: false }
    }
}

impl Frames {
    /// Follows the bytes, which may begin and end anywhere.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let skipped = self.left.min(bytes.len());
                self.left -= skipped;
                bytes = bytes.get(skipped..).unwrap_or_default();
                continue;
            }
            let taken = (HEADER_BYTES - self.seen).min(bytes.len());
            let (head, rest) = bytes.split_at_checked(taken).unwrap_or((bytes, &[]));
            for (place, byte) in self.header.iter_mut().skip(self.seen).zip(head) {
                *place = *byte;
            }
            self.seen += taken;
            bytes = rest;
            if self.seen == HEADER_BYTES {
                self.begin_frame();
            }
        }
    }

    fn begin_frame(&mut self) {
        let [high, middle, low, kind, flags, ..] = self.header;
        self.seen = 0;
        self.left = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        self.kind = kind;
        if kind == HEADERS || kind == CONTINUATION {
            self.in_head = flags & END_HEADERS == 0;
        }
    }

    /// Whether something other than data is incomplete. How slow data may be is for the deadlines of its request.
    pub fn is_partial(&self) -> bool {
        self.in_head || self.seen > 0 || (self.left > 0 && self.kind != DATA)
    }
}

/// Bytes that are gathered before they are written whatever else is to come: what one record of TLS holds.
const GATHERED_BYTES: usize = 16 * 1024;

/// Whether frames are gathered instead of being written one by one. The HTTP/2 library writes each by itself, which over
/// TLS is a record and a system call for each answer; so whoever polls it lets it gather first, and then write.
pub type Gathering = Rc<Cell<bool>>;

/// A client's connection that speaks HTTP/2.
#[derive(Debug)]
pub struct WatchedFrames {
    transport: Transport,
    progress: Rc<Progress>,
    frames: Frames,
    gathering: Gathering,
    gathered: BytesMut,
}

impl WatchedFrames {
    /// Puts a connection under watch, of which nothing was read.
    pub fn new(transport: Transport, progress: Rc<Progress>, gathering: Gathering) -> Self {
        Self { transport, progress, frames: Frames::default(), gathering, gathered: BytesMut::new() }
    }

    /// Writes what was gathered.
    fn poll_gathered(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.gathered.is_empty() {
            let written = ready!(Pin::new(&mut self.transport).poll_write(cx, &self.gathered))?;
            self.gathered.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    /// Whether so many more bytes are gathered.
    fn takes(&self, bytes: usize) -> bool {
        self.gathering.get() && self.gathered.len() + bytes <= GATHERED_BYTES
    }
}

impl AsyncRead for WatchedFrames {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.transport).poll_read(cx, buffer);
        let read = buffer.filled().get(before..).unwrap_or_default();
        if !read.is_empty() {
            self.frames.feed(read);
            self.progress.partial(self.frames.is_partial());
        }
        outcome
    }
}

impl AsyncWrite for WatchedFrames {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.takes(bytes.len()) {
            self.gathered.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        ready!(self.poll_gathered(cx))?;
        Pin::new(&mut self.transport).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bytes = slices.iter().map(|slice| slice.len()).sum();
        if self.takes(bytes) {
            for slice in slices {
                self.gathered.extend_from_slice(slice);
            }
            return Poll::Ready(Ok(bytes));
        }
        ready!(self.poll_gathered(cx))?;
        Pin::new(&mut self.transport).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.gathering.get() {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_gathered(cx))?;
        Pin::new(&mut self.transport).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_gathered(cx))?;
        Pin::new(&mut self.transport).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).unwrap().to_be_bytes();
        let mut bytes = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, 1];
        bytes.resize(HEADER_BYTES + payload, 0);
        bytes
    }

    /// After each byte, whether something is incomplete.
    fn partial(bytes: &[u8]) -> Vec<bool> {
        let mut frames = Frames::default();
        frames.feed(PREFACE);
        let each = |byte: &u8| {
            frames.feed(std::slice::from_ref(byte));
            frames.is_partial()
        };
        bytes.iter().map(each).collect()
    }

    #[test]
    fn a_frame_is_incomplete_until_its_last_byte() {
        let ping = partial(&frame(6, 0, 8));
        assert_eq!(ping.len(), 17);
        assert!(ping[..16].iter().all(|partial| *partial));
        assert!(!ping[16]);
        assert!(!partial(&frame(4, 0, 0)).pop().unwrap(), "settings without payload");
    }

    #[test]
    fn a_head_is_incomplete_until_the_frame_that_ends_it() {
        let mut bytes = frame(HEADERS, 0, 20);
        assert!(partial(&bytes).pop().unwrap());
        bytes.extend(frame(CONTINUATION, 0, 0));
        assert!(partial(&bytes).pop().unwrap());
        bytes.extend(frame(CONTINUATION, END_HEADERS, 3));
        assert!(!partial(&bytes).pop().unwrap());
    }

    #[test]
    fn data_is_nobodys_head() {
        let data = partial(&frame(DATA, 0, 5));
        assert!(data[0] && data[7], "its frame header is");
        assert!(!data[8] && !data[10]);
    }

    #[test]
    fn how_the_bytes_are_cut_makes_no_difference() {
        let mut bytes = PREFACE.to_vec();
        for (kind, flags, payload) in
            [(4, 0, 18), (HEADERS, END_HEADERS, 70), (DATA, 1, 300), (HEADERS, 0, 9)]
        {
            bytes.extend(frame(kind, flags, payload));
        }
        for size in 1..bytes.len() {
            let mut frames = Frames::default();
            for piece in bytes.chunks(size) {
                frames.feed(piece);
            }
            assert!(frames.is_partial() && frames.left == 0 && frames.seen == 0, "{size}");
        }
    }
}
