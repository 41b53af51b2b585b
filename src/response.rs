//! Answers on their way to the client, each with the account of its request.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use http_body::{Body, Frame, SizeHint};

use crate::base::field_list::FieldList;
use crate::base::ids::X_REQUEST_ID;
use crate::base::reason::Reason;
use crate::http::grpc;
use crate::http::message::ResponseHead;
use crate::http::spliced::{Spliced, SplicedBody};
use crate::net::deadline::{Phase, Progress};
use crate::net::splice::Pipe;
use crate::streams::{Kind, OpenStream};
use crate::telemetry::access::Ended;
use crate::telemetry::account::Account;
use crate::upgrade::tunnel::Ending;
use crate::upstream::{AnswerError, UpstreamBody, UpstreamResponse};

/// An answer that has no connection and no account yet.
pub enum Answer {
    /// One that the gateway made.
    Own(StatusCode, FieldList, Bytes),
    /// One of an upstream.
    Upstream(UpstreamResponse, Option<(Kind, Rc<OpenStream>)>),
}

/// An answer that is to be written.
pub struct ClientResponse {
    /// Its head.
    pub head: ResponseHead,
    /// Its body.
    pub body: ResponseBody,
}

/// The body of an answer. When it is dropped, the exchange is over and its account is closed.
pub struct ResponseBody {
    source: Source,
    progress: Rc<Progress>,
    account: Account,
    whole: bool,
    /// What ends the answer before its time.
    stream: Option<(Kind, Rc<OpenStream>)>,
}

enum Source {
    Own(Bytes),
    Upstream(UpstreamBody),
}

impl Answer {
    /// Completes the answer: the request id, and the account that ends with the body.
    pub fn complete(
        self,
        request_id: HeaderValue,
        progress: &Rc<Progress>,
        mut account: Account,
    ) -> ClientResponse {
        let (status, mut headers, source, stream) = match self {
            Self::Own(status, headers, body) => (status, headers, Source::Own(body), None),
            Self::Upstream(response, stream) => {
                let UpstreamResponse { head, body } = response;
                (head.status, head.headers, Source::Upstream(body), stream)
            }
        };
        headers.insert(X_REQUEST_ID, request_id);
        account.answered(status.as_u16());
        progress.enter(Phase::Answering);
        let whole = source.is_end();
        let progress = Rc::clone(progress);
        let body = ResponseBody { source, progress, account, whole, stream };
        ClientResponse { head: ResponseHead { status, headers }, body }
    }
}

impl Source {
    fn is_end(&self) -> bool {
        match self {
            Self::Own(body) => body.is_empty(),
            Self::Upstream(body) => body.is_end_stream(),
        }
    }
}

impl ResponseBody {
    fn note(&mut self, frame: Option<&Result<Frame<Bytes>, AnswerError>>) {
        self.whole = frame.is_none() || self.source.is_end();
        self.account.note(|record| match frame {
            Some(Ok(frame)) => record.sent_bytes += frame.data_ref().map_or(0, |data| data.len() as u64),
            Some(Err(_)) => record.ended = Ended::Upstream,
            None => {}
        });
    }
}

impl ResponseBody {
    /// Ends the answer because its token has ended. What it came from is dropped, which ends it at the upstream. gRPC is
    /// told why; of everything else the connection or the stream simply ends.
    fn end(&mut self, kind: Kind, ending: Ending) -> Option<Frame<Bytes>> {
        self.stream = None;
        self.source = Source::Own(Bytes::new());
        let (reason, message) = match ending {
            Ending::TokenExpired => (Some(Reason::TokenExpired), "Token is expired"),
            Ending::Revoked => (Some(Reason::TokenRevoked), "Token is blacklisted"),
            Ending::GoingAway | Ending::Overdue => (None, ""),
        };
        self.account.note(|record| record.ended = Ended::Gateway);
        self.account.refused(reason);
        match kind {
            Kind::Grpc => Some(Frame::trailers(grpc::unauthenticated(message))),
            Kind::Events | Kind::Answer => None,
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = AnswerError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        if let Some((kind, stream)) = &self.stream
            && let Some(ending) = stream.ended()
        {
            let kind = *kind;
            return Poll::Ready(self.end(kind, ending).map(Ok));
        }
        let frame = match &mut self.source {
            Source::Own(body) if body.is_empty() => None,
            Source::Own(body) => Some(Ok(Frame::data(std::mem::take(body)))),
            Source::Upstream(body) => ready!(Pin::new(body).poll_frame(cx)),
        };
        self.note(frame.as_ref());
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.source.is_end()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Own(body) => SizeHint::with_exact(body.len() as u64),
            Source::Upstream(body) => body.size_hint(),
        }
    }
}

impl SplicedBody for ResponseBody {
    fn poll_splice(&mut self, cx: &mut Context<'_>, pipe: &mut Pipe) -> Poll<Spliced> {
        if self.stream.as_ref().is_some_and(|(_, stream)| stream.ended().is_some()) {
            return Poll::Ready(Spliced::Frame);
        }
        let Source::Upstream(body) = &mut self.source else { return Poll::Ready(Spliced::Frame) };
        let spliced = ready!(body.poll_splice(cx, pipe));
        if let Spliced::Bytes(bytes) = spliced {
            self.whole = body.is_end_stream();
            self.account.note(|record| record.sent_bytes += bytes as u64);
        }
        Poll::Ready(spliced)
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        self.progress.enter(Phase::Idle);
        self.account.completed(self.whole);
    }
}
