//! The body of an answer, and the rest of the request that it answers.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::{Framing, Http1Error, Piece, Upload};
use crate::http::body::RequestBody;
use crate::http::spliced::Spliced;
use crate::net::splice::Pipe;
use crate::upstream::pool::Lease;

/// An answer whose body is being read.
pub(in super::super) struct Reading {
    lease: Lease,
    framing: Framing,
    persistent: bool,
    /// What is still sent of the request.
    upload: Option<Box<(Upload, RequestBody)>>,
}

impl Reading {
    pub(in super::super) fn new(
        lease: Lease,
        framing: Framing,
        persistent: bool,
        upload: Option<Box<(Upload, RequestBody)>>,
    ) -> Self {
        Self { lease, framing, persistent, upload }
    }

    /// Whether everything of the body was read.
    pub(in super::super) fn is_end(&self) -> bool {
        matches!(self.framing, Framing::Nothing)
    }

    /// How much of the body is left, where that is known.
    pub(in super::super) fn size_hint(&self) -> SizeHint {
        match self.framing {
            Framing::Nothing => SizeHint::with_exact(0),
            Framing::Length(bytes) => SizeHint::with_exact(bytes),
            Framing::Chunked(_) | Framing::UntilClose => SizeHint::default(),
        }
    }

    /// Whether the request is still being sent.
    pub(in super::super) fn is_uploading(&self) -> bool {
        self.upload.is_some()
    }

    /// Waits for the next piece of the body.
    pub(in super::super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Http1Error>>> {
        Poll::Ready(match ready!(self.lease.connection().poll_body(cx, &mut self.framing)) {
            Ok(Piece::Data(data)) => Some(Ok(Frame::data(data))),
            Ok(Piece::End(Some(trailers))) => Some(Ok(Frame::trailers(trailers))),
            Ok(Piece::End(None) | Piece::Incomplete) => None,
            Err(error) => Some(Err(error)),
        })
    }

    /// Waits for the next piece of the body, and moves it into an empty pipe if it can.
    pub(in super::super) fn poll_splice(&mut self, cx: &mut Context<'_>, pipe: &mut Pipe) -> Poll<Spliced> {
        self.lease.connection().poll_splice(cx, &mut self.framing, pipe)
    }

    /// Sends more of the request. Ready when there is nothing more to send, or when it cannot be sent.
    pub(in super::super) fn poll_upload(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(sending) = &mut self.upload {
            let (upload, body) = &mut **sending;
            if let Err(error) = ready!(self.lease.connection().poll_upload(cx, upload, body)) {
                tracing::debug!(%error, "a request body was not sent whole");
                self.persistent = false;
            }
            self.upload = None;
        }
        Poll::Ready(())
    }

    /// Gives the connection back, if it can carry another request. One on which a request is still being sent cannot: the
    /// next request would wait for another client.
    pub(in super::super) fn finish(self) {
        let Self { lease, framing, persistent, upload } = self;
        if persistent && upload.is_none() && matches!(framing, Framing::Nothing) {
            lease.give_back();
        }
    }
}
