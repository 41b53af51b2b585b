//! A connection that speaks HTTP/1.1.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use http::{HeaderValue, Request, StatusCode, Version, header};
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use super::tunnel::Slot;
use super::{ClientConnection, Source, is_over};
use crate::config::Limits;
use crate::http::incoming::{BareLineFeed, Incoming};
use crate::last_words::LastAnswer;
use crate::net::deadline::{Phase, Progress};
use crate::net::guarded::{GuardedStream, Interim as GuardedInterim};
use crate::net::heads::{Framing, Heads};
use crate::net::transport::Transport;
use crate::pipeline;
use crate::upgrade::tunnel::Socket;
use crate::upstream::Interim;
use crate::worker::Worker;

/// Bytes of a request's body that are read ahead of the upstream.
const READ_BUFFER_BYTES: usize = 64 * 1024;

/// Stands for a length that the HTTP library has dropped because it found another one, so that the intake sees that there
/// were two.
const DROPPED_LENGTH: HeaderValue = HeaderValue::from_static("dropped");

/// Tells a client that this is the last answer on its connection (RFC 9112 section 9.6).
const CLOSE: HeaderValue = HeaderValue::from_static("close");

/// Serves the requests of a connection, one after the other.
pub(super) async fn serve(
    worker: Rc<Worker>,
    transport: Transport,
    connection: Rc<ClientConnection>,
    progress: Rc<Progress>,
) {
    let interim: GuardedInterim = Rc::new(RefCell::default());
    let heads = Rc::new(Heads::default());
    let last_words = LastAnswer { worker: Rc::clone(&worker), connection: Rc::clone(&connection) };
    let stream = GuardedStream::new(
        transport,
        Rc::clone(&progress),
        worker.scratch(),
        Rc::clone(&interim),
        Rc::clone(&heads),
        last_words,
    );
    let tunnel = Slot::default();
    let told = interim_answers(interim);
    let service = service_fn(|mut request| {
        mark(&mut request, &heads);
        let request = Request::map(request, Incoming::Http1);
        // HTTP/1.0 has no interim answers (RFC 9110 section 15.2).
        let interim = (request.version() == Version::HTTP_11).then_some(&told);
        let source = Source {
            worker: &worker,
            connection: &connection,
            progress: &progress,
            interim,
            tunnel: &tunnel,
        };
        let serving = pipeline::serve(source, request);
        let (worker, connection) = (&worker, &connection);
        async move {
            let mut answer = serving.await;
            if connection.is_ending(worker) && answer.status() != StatusCode::SWITCHING_PROTOCOLS {
                answer.headers_mut().insert(header::CONNECTION, CLOSE);
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let mut serving =
        builder(&worker.generation().server.limits).serve_connection(TokioIo::new(stream), service);
    let mut told_to_stop = false;
    poll_fn(|cx| {
        progress.keep_waker(cx.waker());
        if is_over(&progress) {
            return Poll::Ready(());
        }
        if connection.is_over_when_idle(&worker) && !told_to_stop {
            // The HTTP library would wait for a first request, or for the rest of a head; neither is in flight.
            match progress.phase() {
                Phase::Idle if connection.answers.get() == 0 => return Poll::Ready(()),
                Phase::Head => return Poll::Ready(()),
                Phase::Idle | Phase::Waiting { .. } | Phase::Answering | Phase::Parked => {}
            }
            Pin::new(&mut serving).graceful_shutdown();
            told_to_stop = true;
        }
        Pin::new(&mut serving).poll(cx).map(|ended| {
            if let Err(error) = ended {
                tracing::debug!(%error, "a client connection ended");
            }
        })
    })
    .await;
    // With the answer that opens a WebSocket, HTTP has ended on the connection.
    if let Some(mut opened) = tunnel.take() {
        opened.answered(StatusCode::SWITCHING_PROTOCOLS);
        let parts = serving.into_parts();
        opened.run(Socket::new(parts.io.into_inner(), parts.read_buf), &worker, &progress).await;
    }
}

/// Tells the intake what the HTTP library does not say of a head.
fn mark<B>(request: &mut Request<B>, heads: &Heads) {
    match heads.take(Request::headers(request)) {
        Framing::Single => {}
        Framing::Ambiguous => {
            request.headers_mut().append(header::CONTENT_LENGTH, DROPPED_LENGTH);
        }
        Framing::BareLineFeed => {
            request.extensions_mut().insert(BareLineFeed);
        }
    }
}

/// Writes interim answers where the connection takes them from when it is written to next, which is at the end of the
/// very poll in which they are told.
fn interim_answers(waiting: GuardedInterim) -> Interim {
    Interim::new(move |answer| {
        let mut waiting = waiting.borrow_mut();
        waiting.extend_from_slice(b"HTTP/1.1 ");
        waiting.extend_from_slice(answer.status().to_string().as_bytes());
        for (name, value) in answer.headers() {
            for piece in [b"\r\n", name.as_str().as_bytes(), b": ", value.as_bytes()] {
                waiting.extend_from_slice(piece);
            }
        }
        waiting.extend_from_slice(b"\r\n\r\n");
    })
}

fn builder(limits: &Limits) -> Builder {
    let mut builder = Builder::new();
    builder
        .max_header_size(limits.max_header_bytes)
        .max_buf_size(limits.max_header_bytes.max(READ_BUFFER_BYTES))
        .max_headers(limits.max_headers)
        // A client that has closed its side may still wait for its answer.
        .half_close(true)
        // Heads have a deadline of their own, which needs no timer.
        .header_read_timeout(None)
        // With it, the HTTP library would buffer an answer without limit for a client that does not read.
        .pipeline_flush(false);
    builder
}
