//! One direction of a tunnel.

use std::cell::Cell;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use super::frames::{Frames, LengthMalformed};

/// How much of one direction is held at most, in bytes. What does not fit waits at its sender.
const BUFFER_BYTES: usize = 16 * 1024;

/// What one direction does: bytes are read from its source, held, written to its sink and counted.
#[derive(Debug)]
pub(super) struct OneWay<'a> {
    /// What was read and not written. It has no memory while nothing moves, so that silent tunnels cost little.
    held: BytesMut,
    /// Follows what was written.
    frames: Frames,
    stage: Stage,
    written: &'a Cell<u64>,
    /// What to say to the sink before it is shut down, when the tunnel has to end.
    farewell: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Bytes come and go.
    Open,
    /// The source has ended.
    SourceEnded,
    /// The tunnel has to end: what is held is the last that the sink gets.
    Leaving,
    /// The sink has all it gets; the source is read so that it does not see its connection reset.
    Discarding,
    /// Nothing is left to do.
    Done,
}

/// Why a direction cannot go on.
#[derive(Debug)]
pub(super) enum Fault {
    /// The source broke.
    Source(io::Error),
    /// The sink broke.
    Sink(io::Error),
    /// The source sends what no frame is.
    Malformed(LengthMalformed),
}

impl<'a> OneWay<'a> {
    /// A direction that begins with bytes that were read already.
    pub(super) fn new(read: &Bytes, written: &'a Cell<u64>) -> Self {
        Self {
            held: BytesMut::from(&read[..]),
            frames: Frames::default(),
            stage: Stage::Open,
            written,
            farewell: Bytes::new(),
        }
    }

    /// Moves bytes until there are none to move. Ready when the source has ended and the sink was told.
    pub(super) fn poll_copy<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut R,
        sink: &mut W,
    ) -> Poll<Result<(), Fault>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            if !self.held.is_empty() {
                ready!(self.poll_write(cx, sink, self.held.len()))?;
                continue;
            }
            match self.stage {
                Stage::Open => match self.poll_read(cx, source) {
                    Poll::Ready(Ok(0)) => {
                        self.held = BytesMut::new();
                        self.stage = Stage::SourceEnded;
                    }
                    Poll::Ready(Ok(_)) => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(Fault::Source(error))),
                    Poll::Pending => {
                        self.held = BytesMut::new();
                        ready!(Pin::new(sink).poll_flush(cx)).map_err(Fault::Sink)?;
                        return Poll::Pending;
                    }
                },
                Stage::SourceEnded | Stage::Leaving => {
                    ready!(Pin::new(&mut *sink).poll_shutdown(cx)).map_err(Fault::Sink)?;
                    self.stage = Stage::Done;
                }
                Stage::Discarding | Stage::Done => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Lets the direction end, with these bytes as the last that the sink gets, at the end of a frame.
    pub(super) fn leave(&mut self, farewell: Bytes) {
        self.farewell = farewell;
    }

    /// Ends the direction: sends the rest of the frame that is under way, then the farewell, then reads the source to its
    /// end without keeping anything. To be called after [`Self::leave`]. Ready when that is done or cannot be done.
    pub(super) fn poll_leave<R, W>(&mut self, cx: &mut Context<'_>, source: &mut R, sink: &mut W) -> Poll<()>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let outcome = ready!(self.poll_leave_in_order(cx, source, sink));
        if outcome.is_err() {
            self.stage = Stage::Done;
        }
        Poll::Ready(())
    }

    fn poll_leave_in_order<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut R,
        sink: &mut W,
    ) -> Poll<Result<(), Fault>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            match self.stage {
                Stage::Open | Stage::SourceEnded if self.frames.is_between() => {
                    // Nothing may come after a close frame (RFC 6455 section 5.5.1).
                    let closed = self.frames.is_closed();
                    let last = if closed { Bytes::new() } else { std::mem::take(&mut self.farewell) };
                    self.held = BytesMut::from(&last[..]);
                    self.stage = Stage::Leaving;
                }
                Stage::Open | Stage::SourceEnded if !self.held.is_empty() => {
                    let mut ahead = self.frames;
                    let frame = ahead.follow_one(&self.held).map_err(Fault::Malformed)?;
                    ready!(self.poll_write(cx, sink, frame))?;
                }
                Stage::Open => {
                    if ready!(self.poll_read(cx, source)).map_err(Fault::Source)? == 0 {
                        self.stage = Stage::SourceEnded;
                    }
                }
                // A frame that will never be whole: nothing can be said after it.
                Stage::SourceEnded => self.stage = Stage::Leaving,
                Stage::Leaving => {
                    if !self.held.is_empty() {
                        ready!(self.poll_write(cx, sink, self.held.len()))?;
                        continue;
                    }
                    ready!(Pin::new(&mut *sink).poll_shutdown(cx)).map_err(Fault::Sink)?;
                    self.stage = Stage::Discarding;
                }
                Stage::Discarding => {
                    self.held.clear();
                    if ready!(self.poll_read(cx, source)).map_err(Fault::Source)? == 0 {
                        self.stage = Stage::Done;
                    }
                }
                Stage::Done => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Reads into what is held; 0 bytes are the end.
    fn poll_read<R>(&mut self, cx: &mut Context<'_>, source: &mut R) -> Poll<io::Result<usize>>
    where
        R: AsyncRead + Unpin,
    {
        self.held.reserve(BUFFER_BYTES - self.held.len().min(BUFFER_BYTES));
        let room = BUFFER_BYTES - self.held.len().min(BUFFER_BYTES);
        let mut into = (&mut self.held).limit(room);
        // The future keeps nothing between two polls.
        pin!(source.read_buf(&mut into)).poll(cx)
    }

    /// Writes as much of the first so many bytes as the sink takes at once.
    fn poll_write<W>(&mut self, cx: &mut Context<'_>, sink: &mut W, at_most: usize) -> Poll<Result<(), Fault>>
    where
        W: AsyncWrite + Unpin,
    {
        let bytes = self.held.get(..at_most).unwrap_or(&self.held);
        let written = ready!(Pin::new(sink).poll_write(cx, bytes)).map_err(Fault::Sink)?;
        if written == 0 {
            return Poll::Ready(Err(Fault::Sink(io::ErrorKind::WriteZero.into())));
        }
        self.written.set(self.written.get().wrapping_add(written as u64));
        self.frames.follow(bytes.get(..written).unwrap_or(bytes)).map_err(Fault::Malformed)?;
        self.held.advance(written);
        Poll::Ready(Ok(()))
    }
}
