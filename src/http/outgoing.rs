//! Sending a body on a stream of HTTP/2.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::Body;

use crate::net::deadline::Progress;

/// Why a body was not sent whole.
#[derive(Debug)]
pub enum SendError<E> {
    /// The body broke where it came from. The stream was reset, so that what was sent looks cut.
    Body(E),
    /// The receiver reset the stream: it wants no more.
    Reset(Reason),
    /// The stream or its connection is gone.
    Stream(h2::Error),
}

impl<E: fmt::Display> fmt::Display for SendError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Body(error) => error.fmt(f),
            Self::Reset(reason) => write!(f, "the stream was reset: {reason}"),
            Self::Stream(error) => error.fmt(f),
        }
    }
}

/// Told about what moves, so that somebody can see whether the receiver still reads.
pub trait Watch {
    /// So many bytes were taken by the stream.
    fn sent(&self, bytes: usize);
    /// The receiver's window is full.
    fn blocked(&self);
}

impl Watch for Progress {
    fn sent(&self, bytes: usize) {
        self.wrote(bytes);
    }

    fn blocked(&self) {
        self.write_blocked();
    }
}

/// Sends a body with its trailers, no faster than the receiver reads, and ends the stream.
///
/// # Errors
///
/// [`SendError`]; the stream has ended in any case.
pub async fn send<B, W>(body: B, stream: &mut SendStream<Bytes>, watch: &W) -> Result<(), SendError<B::Error>>
where
    B: Body<Data = Bytes> + Unpin,
    W: Watch,
{
    let mut sending = Sending { body, chunk: Bytes::new() };
    poll_fn(|cx| sending.poll(stream, watch, cx)).await
}

struct Sending<B> {
    body: B,
    /// What was taken from the body and not yet by the stream.
    chunk: Bytes,
}

impl<B: Body<Data = Bytes> + Unpin> Sending<B> {
    fn poll<W: Watch>(
        &mut self,
        stream: &mut SendStream<Bytes>,
        watch: &W,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), SendError<B::Error>>> {
        loop {
            if !self.chunk.is_empty() {
                ready!(self.poll_send(stream, watch, cx))?;
                if self.chunk.is_empty() && self.body.is_end_stream() {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            if let Poll::Ready(reset) = stream.poll_reset(cx) {
                return Poll::Ready(Err(reset.map_or_else(SendError::Stream, SendError::Reset)));
            }
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => {
                    let ended = stream.send_data(Bytes::new(), true);
                    return Poll::Ready(ended.map_err(SendError::Stream));
                }
                Some(Err(error)) => {
                    stream.send_reset(Reason::INTERNAL_ERROR);
                    return Poll::Ready(Err(SendError::Body(error)));
                }
                Some(Ok(frame)) => frame,
            };
            match frame.into_data() {
                Ok(data) if data.is_empty() && self.body.is_end_stream() => {
                    let ended = stream.send_data(data, true);
                    return Poll::Ready(ended.map_err(SendError::Stream));
                }
                Ok(data) => self.chunk = data,
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        return Poll::Ready(stream.send_trailers(trailers).map_err(SendError::Stream));
                    }
                }
            }
        }
    }

    /// Sends as much of the chunk as the receiver's window takes.
    fn poll_send<W: Watch>(
        &mut self,
        stream: &mut SendStream<Bytes>,
        watch: &W,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), SendError<B::Error>>> {
        stream.reserve_capacity(self.chunk.len());
        while stream.capacity() == 0 {
            match stream.poll_capacity(cx) {
                Poll::Pending => {
                    watch.blocked();
                    return Poll::Pending;
                }
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(SendError::Stream(error))),
                // The stream is closed for sending: the receiver has reset it.
                Poll::Ready(None) => return Poll::Ready(Err(SendError::Reset(Reason::CANCEL))),
            }
        }
        let piece = self.chunk.split_to(stream.capacity().min(self.chunk.len()));
        watch.sent(piece.len());
        let last = self.chunk.is_empty() && self.body.is_end_stream();
        Poll::Ready(stream.send_data(piece, last).map_err(SendError::Stream))
    }
}
