//! Bodies of requests on their way to an upstream.

use std::num::NonZeroU64;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::incoming::{Incoming, ReadError};
use crate::net::deadline::Progress;

/// A request's body: bounded in size, watched by the deadlines, without trailers.
#[derive(Debug)]
pub enum RequestBody {
    /// There is none.
    Empty,
    /// What the client sends.
    Streaming(Box<Upload>),
}

/// A body that a client is sending.
#[derive(Debug)]
pub struct Upload {
    incoming: Incoming,
    progress: Rc<Progress>,
    left: Option<u64>,
    /// Read already, and handed on first.
    first: Bytes,
}

/// Why a body did not come whole.
#[derive(Debug)]
pub enum BodyError {
    /// It is longer than allowed.
    TooLarge,
    /// The client broke off, or what it sent is no body.
    Broken(ReadError),
}

impl std::fmt::Display for BodyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::TooLarge => "the request body is larger than allowed",
            Self::Broken(_) => "the request body broke off",
        })
    }
}

impl std::error::Error for BodyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::TooLarge => None,
            Self::Broken(source) => Some(source),
        }
    }
}

impl RequestBody {
    /// A client's body with a limit in bytes; `None` is no limit.
    pub fn streaming(incoming: Incoming, progress: Rc<Progress>, limit: Option<NonZeroU64>) -> Self {
        if incoming.is_end_stream() {
            return Self::Empty;
        }
        progress.upload_begins();
        let left = limit.map(NonZeroU64::get);
        Self::Streaming(Box::new(Upload { incoming, progress, left, first: Bytes::new() }))
    }

    /// Takes back a piece that was read and not sent, so that it is read again.
    pub fn put_back(&mut self, piece: Bytes) {
        match self {
            Self::Streaming(upload) => upload.first = piece,
            // Nothing was read of it.
            Self::Empty => {}
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Streaming(upload) => upload.poll_data(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Streaming(upload) => upload.first.is_empty() && upload.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Streaming(upload) => {
                let hint = upload.incoming.size_hint();
                let exact = hint.exact().map(|bytes| bytes + upload.first.len() as u64);
                exact.map_or_else(SizeHint::default, SizeHint::with_exact)
            }
        }
    }
}

impl Upload {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if !self.first.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.first)))));
        }
        loop {
            self.progress.body_wanted();
            let frame = ready!(Pin::new(&mut self.incoming).poll_frame(cx));
            if let (Incoming::Http2(_), Some(Ok(frame))) = (&self.incoming, &frame) {
                // In HTTP/1.1 the connection has counted what was read.
                self.progress.read(frame.data_ref().map_or(0, Bytes::len));
            }
            self.progress.body_served();
            let data = match frame {
                None => return Poll::Ready(None),
                Some(Err(error)) => {
                    self.progress.body_broke();
                    return Poll::Ready(Some(Err(BodyError::Broken(error))));
                }
                // Request trailers could carry what a header may not; none are passed on.
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => data,
                    Err(_) => continue,
                },
            };
            if let Some(left) = &mut self.left {
                let Some(rest) = left.checked_sub(data.len() as u64) else {
                    self.progress.body_too_large();
                    return Poll::Ready(Some(Err(BodyError::TooLarge)));
                };
                *left = rest;
            }
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.progress.upload_ended();
    }
}
