//! A connection that speaks HTTP/2. All of its streams are served by the connection's own task.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, Stream};
use h2::server::{Connection, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::{Method, Request, Response, StatusCode, header};
use http_body::Body as _;

use super::tunnel::{Opened, Slot, StreamSide};
use super::{ClientConnection, Source};
use crate::base::bounds;
use crate::config::Limits;
use crate::http::hop;
use crate::http::incoming::Incoming;
use crate::http::message::{RequestHead, ResponseHead};
use crate::http::outgoing;
use crate::net::deadline::{Overdue, Phase, Progress, in_time};
use crate::net::frames::{Gathering, WatchedFrames};
use crate::net::transport::Transport;
use crate::pipeline;
use crate::response::{ClientResponse, ResponseBody};
use crate::upgrade::tunnel::Socket;
use crate::upstream::Interim;
use crate::worker::Worker;

/// Serves the requests of a connection, many at a time.
pub(super) async fn serve(
    worker: Rc<Worker>,
    transport: Transport,
    connection: Rc<ClientConnection>,
    progress: Rc<Progress>,
) {
    // What has come is the preface, which is no head of a request.
    progress.enter(Phase::Idle);
    let gathering = Gathering::default();
    let frames = WatchedFrames::new(transport, Rc::clone(&progress), Rc::clone(&gathering));
    let handshake = builder(&worker.generation().server.limits).handshake::<_, Bytes>(frames);
    let handshake =
        super::unless_stopping(&worker, &progress, pin!(in_time(&progress, pin!(handshake)))).await;
    let Some(Ok(Ok(frames))) = handshake else { return };
    let home = Home { worker, connection, progress, spare: Vec::new() };
    let streams = FuturesUnordered::new();
    let mut serving = Serving { frames, gathering, streams, home, ending: false };
    // On the heap, because each is moved several times before it begins.
    poll_fn(|cx| serving.poll(cx, |arrived| Box::pin(serve_stream(arrived)))).await;
}

fn builder(limits: &Limits) -> h2::server::Builder {
    let mut builder = h2::server::Builder::new();
    builder
        .max_concurrent_streams(bounds::HTTP2_MAX_STREAMS)
        .initial_window_size(bounds::HTTP2_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(bounds::HTTP2_CONNECTION_WINDOW_BYTES)
        .max_send_buffer_size(bounds::HTTP2_SEND_BUFFER_BYTES)
        .max_header_list_size(u32::try_from(limits.max_header_bytes).unwrap_or(u32::MAX))
        .max_concurrent_reset_streams(bounds::HTTP2_MAX_RESET_STREAMS)
        .max_pending_accept_reset_streams(bounds::HTTP2_MAX_RESET_STREAMS)
        .max_local_error_reset_streams(Some(bounds::HTTP2_MAX_ERROR_RESETS))
        .enable_connect_protocol();
    builder
}

/// What the streams of a connection have in common.
struct Home {
    worker: Rc<Worker>,
    connection: Rc<ClientConnection>,
    progress: Rc<Progress>,
    /// For further streams.
    spare: Vec<Kit>,
}

/// What a stream is served with beside its request, and what can be used again.
struct Kit {
    /// Under watch already.
    progress: Rc<Progress>,
    /// Informational answers that were told and wait to be sent.
    told: Rc<RefCell<Vec<ResponseHead>>>,
    interim: Interim,
}

/// A stream of its own, that is to be served.
struct Arrived {
    worker: Rc<Worker>,
    connection: Rc<ClientConnection>,
    kit: Kit,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
}

type Accepted = Result<(Request<RecvStream>, SendResponse<Bytes>), h2::Error>;

struct Serving<F> {
    frames: Connection<WatchedFrames, Bytes>,
    gathering: Gathering,
    streams: FuturesUnordered<F>,
    home: Home,
    /// No further streams are taken.
    ending: bool,
}

impl<F: Future<Output = Kit>> Serving<F> {
    /// Goes on until the connection has ended.
    fn poll(&mut self, cx: &mut Context<'_>, serve: impl Fn(Arrived) -> F) -> Poll<()> {
        self.home.progress.keep_waker(cx.waker());
        match self.home.progress.overdue() {
            // Once the client was told, whatever is left to say is said by the next tick.
            Some(Overdue::Idle) if !self.ending => self.end(),
            Some(_) => return Poll::Ready(()),
            None if self.home.connection.is_ending(&self.home.worker) && !self.ending => self.end(),
            None => {}
        }
        loop {
            self.poll_streams(cx);
            let accepted = match self.accept(cx, true) {
                // What this poll has to say is written at once when nothing more is to be read.
                Poll::Pending => ready!(self.accept(cx, false)),
                Poll::Ready(accepted) => accepted,
            };
            match accepted {
                Some(Ok((request, respond))) => {
                    self.home.progress.forgive();
                    let arrived = self.home.arrive(request, respond);
                    self.streams.push(serve(arrived));
                    self.home.progress.enter(Phase::Waiting { until_ms: u64::MAX });
                }
                Some(Err(error)) => {
                    tracing::debug!(%error, "a client connection ended");
                    return Poll::Ready(());
                }
                None => return Poll::Ready(()),
            }
        }
    }

    /// Reads and writes; says which request came next. While frames are gathered, none is written.
    fn accept(&mut self, cx: &mut Context<'_>, gather: bool) -> Poll<Option<Accepted>> {
        self.gathering.set(gather);
        let accepted = self.frames.poll_accept(cx);
        self.gathering.set(false);
        accepted
    }

    /// Tells the client that nothing more is taken, and finishes what was.
    fn end(&mut self) {
        self.ending = true;
        self.frames.graceful_shutdown();
    }

    fn poll_streams(&mut self, cx: &mut Context<'_>) {
        let mut streams = std::pin::Pin::new(&mut self.streams);
        while let Poll::Ready(Some(kit)) = streams.as_mut().poll_next(cx) {
            self.home.keep(kit);
        }
        if streams.is_empty() && self.home.progress.phase() != Phase::Idle {
            self.home.progress.enter(Phase::Idle);
        }
    }
}

impl Home {
    fn arrive(&mut self, request: Request<RecvStream>, respond: SendResponse<Bytes>) -> Arrived {
        let kit = self.spare.pop().unwrap_or_else(|| Kit::new(self.worker.watch()));
        kit.progress.renew();
        let (worker, connection) = (Rc::clone(&self.worker), Rc::clone(&self.connection));
        Arrived { worker, connection, kit, request, respond }
    }

    /// Keeps what a stream was served with, unless something still refers to it.
    fn keep(&mut self, kit: Kit) {
        kit.progress.park();
        if Rc::strong_count(&kit.progress) == 1 {
            kit.told.borrow_mut().clear();
            self.spare.push(kit);
        }
    }
}

impl Kit {
    fn new(progress: Rc<Progress>) -> Self {
        let told = Rc::new(RefCell::new(Vec::new()));
        let waiting = Rc::clone(&told);
        let interim = Interim::new(move |answer| waiting.borrow_mut().push(answer));
        Self { progress, told, interim }
    }
}

/// Serves one request from its head to the end of its answer.
async fn serve_stream(arrived: Arrived) -> Kit {
    let Arrived { worker, connection, kit, request, mut respond } = arrived;
    let progress = &kit.progress;
    let (head, stream) = RequestHead::split(request);
    if head.headers.contains_key(header::EXPECT) {
        progress.await_continue();
    }
    let is_head = head.method == Method::HEAD;
    let mut body = Incoming::http2(stream, &head.headers);
    if (head.method == Method::GET || head.method == Method::HEAD) && !body.is_end_stream() {
        Box::pin(super::keep_waker(progress, pin!(wait_for_end(&mut body, progress)))).await;
    }
    let tunnel = Slot::default();
    let source = Source {
        worker: &worker,
        connection: &connection,
        progress,
        interim: Some(&kit.interim),
        tunnel: &tunnel,
    };
    let served = {
        let mut serving = pin!(pipeline::begin(&worker, &connection, progress, head, body).serve(source));
        poll_fn(|cx| {
            progress.keep_waker(cx.waker());
            if respond.poll_reset(cx).is_ready() {
                return Poll::Ready(None);
            }
            let served = serving.as_mut().poll(cx);
            if served.is_pending() && progress.takes_continue() {
                send_continue(&mut respond);
            }
            for answer in kit.told.borrow_mut().drain(..) {
                // A stream that is gone meanwhile is found by the next poll.
                let _sent = Response::try_from(answer).map(|answer| respond.send_informational(answer));
            }
            served.map(Some)
        })
        .await
    };
    // A client that has reset its stream wants no answer; dropping what was under way ends it at the upstream as well.
    if let Some(response) = served {
        answer(&worker, response, is_head, tunnel.take(), &mut respond, progress).await;
    }
    kit
}

/// Waits for the end of a body that should be at its end, so that an empty frame at the end counts as none.
async fn wait_for_end(body: &mut Incoming, progress: &Progress) {
    let Incoming::Http2(body) = body else { return };
    progress.body_wanted();
    // A body that does not come in time is one all the same.
    let _overdue = in_time(progress, poll_fn(|cx| body.poll_empty(cx))).await.is_err();
    progress.body_served();
}

async fn answer(
    worker: &Worker,
    response: ClientResponse,
    is_head: bool,
    opened: Option<Box<Opened>>,
    respond: &mut SendResponse<Bytes>,
    progress: &Rc<Progress>,
) {
    let ClientResponse { mut head, body } = response;
    // HTTP/2 has no fields of the connection (RFC 9113 section 8.2.2), which an answer of the gateway's own may have.
    hop::remove_from_response(&mut head.headers);
    head.headers.insert_if_absent(header::DATE, || worker.date());
    // HEAD is answered without a body (RFC 9110 section 9.3.2), which an answer of the gateway's own has.
    let is_whole = opened.is_none() && (is_head || body.is_end_stream());
    let Ok(head) = Response::try_from(head) else {
        respond.send_reset(Reason::INTERNAL_ERROR);
        return;
    };
    let Ok(mut stream) = respond.send_response(head, is_whole) else { return };
    match opened {
        Some(opened) => Box::pin(carry(*opened, &mut stream, worker, progress)).await,
        None if is_whole => {}
        None => send(body, &mut stream, progress).await,
    }
}

/// Carries the frames of a WebSocket on a stream.
async fn carry(mut opened: Opened, stream: &mut SendStream<Bytes>, worker: &Worker, progress: &Progress) {
    // Only an extended CONNECT opens one, and that leaves its stream there.
    let Incoming::Http2(receive) = std::mem::replace(&mut opened.client, Incoming::Empty) else { return };
    opened.answered(StatusCode::OK);
    let client = StreamSide::new(receive, stream, progress);
    opened.run(Socket::new(client, Bytes::new()), worker, progress).await;
}

fn send_continue(respond: &mut SendResponse<Bytes>) {
    let mut go_on = Response::new(());
    *go_on.status_mut() = StatusCode::CONTINUE;
    // A stream that is gone meanwhile is found by the next poll.
    let _sent = respond.send_informational(go_on);
}

async fn send(body: ResponseBody, stream: &mut SendStream<Bytes>, progress: &Progress) {
    let sent = {
        let sending = pin!(outgoing::send(body, stream, progress));
        let in_time = pin!(in_time(progress, sending));
        super::keep_waker(progress, in_time).await
    };
    match sent {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "an answer was not sent whole"),
        Err(_) => stream.send_reset(Reason::CANCEL),
    }
}
