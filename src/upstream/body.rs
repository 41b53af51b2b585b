//! Answers of upstreams, and what they hold while their bodies come.

use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::task::AbortHandle;

use super::http1::{Http1Error, Reading};
use super::multiplex::Used;
use crate::http::hop;
use crate::http::incoming::{Incoming, ReadError};
use crate::http::message::ResponseHead;
use crate::http::spliced::{Spliced, SplicedBody};
use crate::net::splice::Pipe;

/// An answer of an upstream.
pub struct UpstreamResponse {
    /// Its head, without what was meant for the upstream's connection only.
    pub head: ResponseHead,
    /// Its body.
    pub body: UpstreamBody,
}

/// A body that an upstream is sending. Read to its end, it gives its connection back; dropped earlier, it closes it, or
/// resets its stream.
pub struct UpstreamBody {
    source: Source,
    /// Why it breaks off, once everything before has been handed on.
    broken: Option<Box<AnswerError>>,
}

/// What an answer is read from.
pub(super) enum Source {
    /// Nothing is left.
    Empty,
    /// A connection of HTTP/1.1.
    Http1(Box<Reading>),
    /// The same, on which a task still sends the request.
    Uploading(Rc<RefCell<Reading>>, Uploading),
    /// A stream of a connection that others use too.
    Http2(Box<(Incoming, StreamHold)>),
}

/// A stream whose answer is being read, and whose request may still be sent.
pub(super) struct StreamHold {
    pub(super) _used: Rc<Used>,
    pub(super) upload: Option<Uploading>,
}

/// A task that sends a request's body. It ends when this is dropped.
pub(super) struct Uploading(pub(super) AbortHandle);

impl Drop for Uploading {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Why an answer did not come whole.
#[derive(Debug)]
pub enum AnswerError {
    /// The connection of HTTP/1.1 broke, or what came is no body.
    Http1(Http1Error),
    /// The same of a stream of HTTP/2.
    Http2(ReadError),
}

impl fmt::Display for AnswerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http1(error) => error.fmt(f),
            Self::Http2(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for AnswerError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Http1(error) => Some(error),
            Self::Http2(error) => Some(error),
        }
    }
}

/// Takes an answer that may be passed on, without what was meant for the upstream's connection only.
pub(super) fn accept(mut head: ResponseHead, source: Source) -> UpstreamResponse {
    hop::remove_from_response(&mut head.headers);
    let mut body = UpstreamBody { source, broken: None };
    if body.is_end_stream() {
        body.finish();
    }
    UpstreamResponse { head, body }
}

impl Source {
    /// An answer of HTTP/1.1. Where its request is still being sent, a task goes on with that, so that an upstream that wants
    /// the rest before it answers further gets it also from a client that reads nothing before it has sent everything.
    pub(super) fn http1(reading: Reading) -> Self {
        if !reading.is_uploading() {
            return Self::Http1(Box::new(reading));
        }
        let shared = Rc::new(RefCell::new(reading));
        let uploading = Rc::clone(&shared);
        let task = tokio::task::spawn_local(async move {
            poll_fn(|cx| uploading.borrow_mut().poll_upload(cx)).await;
        });
        Self::Uploading(shared, Uploading(task.abort_handle()))
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        let frame = match self {
            Self::Empty => None,
            Self::Http1(reading) => {
                ready!(reading.poll_frame(cx)).map(|frame| frame.map_err(AnswerError::Http1))
            }
            Self::Uploading(reading, _) => {
                ready!(reading.borrow_mut().poll_frame(cx)).map(|frame| frame.map_err(AnswerError::Http1))
            }
            Self::Http2(stream) => {
                ready!(Pin::new(&mut stream.0).poll_frame(cx)).map(|frame| frame.map_err(AnswerError::Http2))
            }
        };
        Poll::Ready(frame)
    }

    fn is_end(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Http1(reading) => reading.is_end(),
            Self::Uploading(reading, _) => reading.borrow().is_end(),
            Self::Http2(stream) => stream.0.is_end_stream(),
        }
    }
}

impl UpstreamBody {
    /// Lets go of what it was read from. A stream on which a request is still being sent ends with the answer's body.
    fn finish(&mut self) {
        match std::mem::replace(&mut self.source, Source::Empty) {
            Source::Empty => {}
            Source::Http1(reading) => reading.finish(),
            Source::Uploading(reading, uploading) => {
                drop(uploading);
                // The task that was ended lets go of its share later: the connection closes then.
                if let Ok(reading) = Rc::try_unwrap(reading) {
                    reading.into_inner().finish();
                }
            }
            Source::Http2(stream) if stream.1.is_uploading() => self.source = Source::Http2(stream),
            Source::Http2(stream) => drop(stream),
        }
    }
}

impl SplicedBody for UpstreamBody {
    fn poll_splice(&mut self, cx: &mut Context<'_>, pipe: &mut Pipe) -> Poll<Spliced> {
        let spliced = match &mut self.source {
            Source::Http1(reading) => ready!(reading.poll_splice(cx, pipe)),
            Source::Uploading(reading, _) => ready!(reading.borrow_mut().poll_splice(cx, pipe)),
            Source::Empty | Source::Http2(_) => Spliced::Frame,
        };
        if matches!(spliced, Spliced::Bytes(_)) && self.source.is_end() {
            self.finish();
        }
        Poll::Ready(spliced)
    }
}

impl StreamHold {
    fn is_uploading(&self) -> bool {
        self.upload.as_ref().is_some_and(|upload| !upload.0.is_finished())
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = AnswerError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        if let Some(error) = self.broken.take() {
            return Poll::Ready(Some(Err(*error)));
        }
        match ready!(self.source.poll_frame(cx)) {
            None => {
                self.finish();
                Poll::Ready(None)
            }
            Some(Ok(frame)) => {
                if self.source.is_end() {
                    self.finish();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                self.source = Source::Empty;
                self.broken = Some(Box::new(error));
                // An error ends the client's connection at once. What came before it is written first.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.broken.is_none() && self.source.is_end()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Empty => SizeHint::with_exact(0),
            Source::Http1(reading) => reading.size_hint(),
            Source::Uploading(reading, _) => reading.borrow().size_hint(),
            Source::Http2(stream) => stream.0.size_hint(),
        }
    }
}
