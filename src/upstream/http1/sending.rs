//! One request on a connection, until the head of its answer.

use std::task::{Context, Poll};

use super::{Connection, Head, Http1Error, Reading, Upload};
use crate::http::body::RequestBody;
use crate::upstream::UpstreamError;
use crate::upstream::body::{Source, UpstreamResponse, accept};
use crate::upstream::interim::Interim;
use crate::upstream::outgoing::Outgoing;
use crate::upstream::pool::Lease;
use crate::upstream::send::may_be_repeated;

/// A request that is being sent and waits for its answer.
pub(in super::super) struct Sending {
    upload: Upload,
    /// Whether it may be sent again after the target may have seen it.
    repeatable: bool,
    /// Why the rest of it cannot be sent. The target may have answered all the same.
    broken: Option<Http1Error>,
}

/// What may be done about a request that has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Fate {
    /// Nothing was sent.
    NotSent,
    /// The target may have seen it, and it does no harm to send it again.
    Repeatable,
    /// Nothing.
    Final,
}

impl Sending {
    /// Begins with the head.
    pub(in super::super) fn begin(connection: &mut Connection, request: &Outgoing) -> Self {
        let repeatable = may_be_repeated(&request.method, &request.body);
        Self { upload: connection.begin(request), repeatable, broken: None }
    }

    /// What may be done about an error.
    pub(in super::super) fn fate(&self, error: &Http1Error, connection: &Connection) -> Fate {
        match error {
            Http1Error::Io(_) | Http1Error::Closed if !self.upload.has_begun() => Fate::NotSent,
            Http1Error::Io(_) | Http1Error::Closed if self.repeatable && !connection.has_read() => {
                Fate::Repeatable
            }
            Http1Error::Io(_) | Http1Error::Closed | Http1Error::Body(_) | Http1Error::Malformed(_) => {
                Fate::Final
            }
        }
    }

    /// Gives back what was read of the body, when nothing was sent.
    pub(in super::super) fn undo(&mut self, body: &mut RequestBody) {
        self.upload.undo(body);
    }

    /// Sends, and waits for the head of the answer, which may come before everything was sent.
    ///
    /// # Errors
    ///
    /// [`Http1Error`]: of the client's body, or of the connection.
    pub(in super::super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        connection: &mut Connection,
        request: &mut Outgoing,
        interim: Option<&Interim>,
    ) -> Poll<Result<Head, Http1Error>> {
        if self.broken.is_none() && !self.upload.is_done() {
            match connection.poll_upload(cx, &mut self.upload, &mut request.body) {
                Poll::Ready(Err(error @ Http1Error::Io(_))) if self.upload.has_begun() => {
                    self.broken = Some(error);
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                // The client has sent everything, and its deadlines are over.
                Poll::Ready(Ok(())) => request.body = RequestBody::Empty,
                Poll::Pending => {}
            }
        }
        let head = connection.poll_head(cx, &request.method, interim);
        head.map_err(|error| self.broken.take().unwrap_or(error))
    }

    /// Takes the answer, and goes on with the request where it was not sent whole.
    ///
    /// # Errors
    ///
    /// [`UpstreamError`], when the answer must not be passed on.
    pub(in super::super) fn accept(
        self,
        head: Head,
        mut lease: Lease,
        body: RequestBody,
    ) -> Result<UpstreamResponse, UpstreamError> {
        let Head { response, framing, persistent } = head.unless_switching()?;
        let persistent = persistent && self.broken.is_none();
        let upload = if self.upload.is_done() || self.broken.is_some() {
            lease.connection().sent(self.upload);
            None
        } else {
            Some(Box::new((self.upload, body)))
        };
        Ok(accept(response, Source::http1(Reading::new(lease, framing, persistent, upload))))
    }
}
