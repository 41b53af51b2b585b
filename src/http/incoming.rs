//! A body as it comes in, whichever version of HTTP carries it.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::http1::{Http1Body, Http1ReadError};
use crate::base::field_list::FieldList;

/// A body that is being received: of a client's request, or of an upstream's answer.
#[derive(Debug)]
pub enum Incoming {
    /// Over HTTP/1.1.
    Http1(Http1Body),
    /// Over HTTP/2.
    Http2(Box<Http2Incoming>),
    /// There is none.
    Empty,
}

/// A body on a stream of HTTP/2. What was read is credited to the sender's window at once; since nothing more is read
/// before it was handed on, no more than the window lies in memory.
#[derive(Debug)]
pub struct Http2Incoming {
    stream: h2::RecvStream,
    /// What the head declared and has not come yet, in bytes. That it is kept to is checked by the HTTP/2 library.
    left: Option<u64>,
    data_ended: bool,
    /// Read already, and handed on first.
    first: Bytes,
}

/// Why a body did not come whole.
#[derive(Debug)]
pub enum ReadError {
    /// The HTTP/1.1 connection broke, or what came is no body.
    Http1(Http1ReadError),
    /// The stream was reset, or its connection broke.
    Http2(h2::Error),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http1(error) => error.fmt(f),
            Self::Http2(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ReadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Http1(error) => Some(error),
            Self::Http2(error) => Some(error),
        }
    }
}

impl Incoming {
    /// The body on a stream of HTTP/2. `headers` are those of its message, which may declare a length.
    pub fn http2(stream: h2::RecvStream, headers: &FieldList) -> Self {
        let declared = headers.get(http::header::CONTENT_LENGTH);
        let left = declared.and_then(|value| value.to_str().ok()?.parse().ok());
        Self::Http2(Box::new(Http2Incoming { stream, left, data_ended: false, first: Bytes::new() }))
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = ReadError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ReadError>>> {
        match self.get_mut() {
            Self::Http1(body) => {
                body.poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(ReadError::Http1)))
            }
            Self::Http2(body) => {
                body.poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(ReadError::Http2)))
            }
            Self::Empty => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
            Self::Empty => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(body) => body.size_hint(),
            Self::Http2(body) if body.is_end_stream() => SizeHint::with_exact(0),
            Self::Empty => SizeHint::with_exact(0),
            Self::Http2(body) => body
                .left
                .map_or_else(SizeHint::default, |left| SizeHint::with_exact(left + body.first.len() as u64)),
        }
    }
}

impl Http2Incoming {
    /// Whether everything has come.
    pub fn is_end_stream(&self) -> bool {
        self.first.is_empty() && self.stream.is_end_stream()
    }

    /// Waits for data or the end; `None` is the end of the data.
    ///
    /// # Errors
    ///
    /// When the stream was reset or its connection broke.
    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, h2::Error>>> {
        if !self.first.is_empty() {
            return Poll::Ready(Some(Ok(std::mem::take(&mut self.first))));
        }
        let data = match ready!(self.stream.poll_data(cx)) {
            None => {
                self.data_ended = true;
                return Poll::Ready(None);
            }
            Some(Err(error)) => return Poll::Ready(Some(Err(error))),
            Some(Ok(data)) => data,
        };
        self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
        // A stream that was reset meanwhile takes no credit; the next read tells of it.
        let _credited = self.stream.flow_control().release_capacity(data.len());
        Poll::Ready(Some(Ok(data)))
    }

    /// Waits for the end or for the first byte, whichever comes first; the byte is read later. A frame without data
    /// changes nothing.
    pub fn poll_empty(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.first.is_empty() && !self.is_end_stream() {
            match ready!(self.poll_data(cx)) {
                Some(Ok(data)) => self.first = data,
                // Whoever reads on meets the same error.
                Some(Err(_)) | None => break,
            }
        }
        Poll::Ready(())
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if !self.data_ended
            && let Some(data) = ready!(self.poll_data(cx))
        {
            return Poll::Ready(Some(data.map(Frame::data)));
        }
        match ready!(self.stream.poll_trailers(cx)) {
            Ok(Some(trailers)) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
            Ok(None) => Poll::Ready(None),
            Err(error) => Poll::Ready(Some(Err(error))),
        }
    }
}
