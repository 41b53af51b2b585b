//! A WebSocket that is open: the connection, or the stream, becomes one side of a tunnel.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use h2::{Reason, SendStream};
use http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::base::reason::Reason as Refused;
use crate::http::incoming::{Http2Incoming, Incoming};
use crate::net::deadline::{Phase, Progress};
use crate::streams::OpenStream;
use crate::telemetry::access::Ended as RecordEnded;
use crate::telemetry::account::Account;
use crate::telemetry::metrics::StreamKind;
use crate::upgrade::tunnel::{self, Ended, Ending, Party, Socket, Traffic};
use crate::upstream::UpstreamIo;
use crate::worker::Worker;

/// Where a request leaves a tunnel that begins with its answer.
pub type Slot = Cell<Option<Box<Opened>>>;

/// A tunnel that begins when the client has its answer.
#[derive(Debug)]
pub struct Opened {
    /// The upstream's side.
    pub upstream: UpstreamIo,
    /// What the upstream sent behind the head of its answer.
    pub read_ahead: Bytes,
    /// What the client's side is read from, when that is a stream of HTTP/2.
    pub client: Incoming,
    /// What ends it before its time.
    pub stream: Option<Rc<OpenStream>>,
    /// Its account, which ends with it.
    pub account: Account,
}

impl Opened {
    /// Notes what the client was answered: the tunnel is open.
    pub(super) fn answered(&mut self, status: StatusCode) {
        self.account.answered(status.as_u16());
        self.account.streams(StreamKind::WebSocket);
    }

    /// Carries bytes both ways until both sides have ended, or the tunnel has to end.
    pub(super) async fn run<C>(self, client: Socket<C>, worker: &Worker, progress: &Progress)
    where
        C: AsyncRead + AsyncWrite + Unpin,
    {
        let Self { upstream, read_ahead, stream, mut account, .. } = self;
        progress.enter(Phase::Answering);
        let ending = poll_fn(|cx| {
            progress.keep_waker(cx.waker());
            let ended = stream.as_ref().and_then(|stream| stream.ended());
            let stopping = worker.is_stopping().then_some(Ending::GoingAway);
            let overdue = progress.overdue().map(|_| Ending::Overdue);
            ended.or(stopping).or(overdue).map_or(Poll::Pending, Poll::Ready)
        });
        let traffic = Traffic::default();
        let ended = tunnel::run(client, Socket::new(upstream, read_ahead), &traffic, ending).await;
        tracing::debug!(%ended, "a WebSocket has ended");
        let (ended, reason) = blame(&ended);
        account.refused(reason);
        account.note(|record| {
            record.sent_bytes = traffic.to_client();
            record.received_bytes = traffic.to_upstream();
            record.ended = ended;
        });
    }
}

/// Who has ended a tunnel, and why, when it was the gateway.
fn blame(ended: &Ended) -> (RecordEnded, Option<Refused>) {
    match ended {
        Ended::Finished => (RecordEnded::Complete, None),
        Ended::Broke(Party::Client, _)
        | Ended::Malformed(Party::Client, _)
        | Ended::Closed(Ending::Overdue) => (RecordEnded::Client, None),
        Ended::Broke(Party::Upstream, _) | Ended::Malformed(Party::Upstream, _) => {
            (RecordEnded::Upstream, None)
        }
        Ended::Closed(Ending::TokenExpired) => (RecordEnded::Gateway, Some(Refused::TokenExpired)),
        Ended::Closed(Ending::Revoked) => (RecordEnded::Gateway, Some(Refused::TokenRevoked)),
        Ended::Closed(Ending::GoingAway) => (RecordEnded::Gateway, None),
    }
}

/// A stream of HTTP/2 as one side of a tunnel (RFC 8441 section 5).
pub(super) struct StreamSide<'a> {
    receive: Box<Http2Incoming>,
    send: &'a mut SendStream<Bytes>,
    progress: &'a Progress,
    read: Bytes,
}

impl<'a> StreamSide<'a> {
    pub(super) fn new(
        receive: Box<Http2Incoming>,
        send: &'a mut SendStream<Bytes>,
        progress: &'a Progress,
    ) -> Self {
        Self { receive, send, progress, read: Bytes::new() }
    }
}

impl AsyncRead for StreamSide<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.read.is_empty() {
            match ready!(self.receive.poll_data(cx)) {
                Some(Ok(data)) => self.read = data,
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                None => {
                    self.progress.client_ended();
                    return Poll::Ready(Ok(()));
                }
            }
        }
        let piece = self.read.len().min(buffer.remaining());
        buffer.put_slice(self.read.get(..piece).unwrap_or_default());
        self.read.advance(piece);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for StreamSide<'_> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Self { send, progress, .. } = self.get_mut();
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        send.reserve_capacity(bytes.len());
        while send.capacity() == 0 {
            match send.poll_capacity(cx) {
                Poll::Pending => {
                    progress.write_blocked();
                    return Poll::Pending;
                }
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(io::Error::other(error))),
                Poll::Ready(None) => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
        let piece = bytes.get(..send.capacity().min(bytes.len())).unwrap_or_default();
        send.send_data(Bytes::copy_from_slice(piece), false).map_err(io::Error::other)?;
        progress.wrote(piece.len());
        Poll::Ready(Ok(piece.len()))
    }

    /// The connection writes by itself.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.get_mut().send.send_data(Bytes::new(), true).map_err(io::Error::other))
    }
}

impl Drop for StreamSide<'_> {
    /// What has not ended in order is cut off (RFC 8441 section 5). Where it has, this changes nothing.
    fn drop(&mut self) {
        if !self.receive.is_end_stream() {
            self.send.send_reset(Reason::CANCEL);
        }
    }
}
