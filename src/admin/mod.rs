//! The admin listener, apart from what clients can reach: health and readiness, and what the gateway has counted.

mod answer;
mod process;
mod scrape;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use http::{Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use self::answer::Whole;
use crate::snapshot::Snapshot;
use crate::telemetry::metrics::exposition::Format;

/// Connections that the admin listener serves at once.
const MAX_CONNECTIONS: usize = 64;
/// For the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// For everything on one connection.
const CONNECTION_TIMEOUT: Duration = Duration::from_mins(1);

/// What the admin listener tells of.
pub struct Admin {
    ready: Arc<AtomicBool>,
    snapshot: Arc<Snapshot>,
    /// Client connections of the whole process.
    connections: Arc<AtomicUsize>,
    /// When it began to serve, in seconds since 1970.
    began: i64,
}

impl Admin {
    /// An admin listener that tells of this gateway.
    pub fn new(ready: Arc<AtomicBool>, snapshot: Arc<Snapshot>, connections: Arc<AtomicUsize>) -> Self {
        let began = snapshot.clock.now_unix_seconds();
        Self { ready, snapshot, connections, began }
    }

    /// Serves for ever.
    pub async fn serve(self, listener: TcpListener) {
        let admin = Arc::new(self);
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let admin = Arc::clone(&admin);
            tokio::spawn(async move {
                let service = service_fn(|request| {
                    let answer = admin.answer(&request);
                    async move { Ok::<_, Infallible>(answer) }
                });
                let serving = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEAD_TIMEOUT)
                    .serve_connection(TokioIo::new(stream), service);
                // Whether a probe got its answer is for the probe to say.
                let _ended = tokio::time::timeout(CONNECTION_TIMEOUT, serving).await;
                drop(place);
            });
        }
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Whole> {
        let path = request.uri().path();
        if !matches!(path, "/healthz" | "/readyz" | "/metrics") {
            return answer::text(StatusCode::NOT_FOUND, "not found\n");
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return answer::only("GET, HEAD");
        }
        match path {
            "/metrics" => self.metrics(request),
            "/readyz" if !self.ready.load(Ordering::Acquire) => {
                answer::text(StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
            }
            "/readyz" => answer::text(StatusCode::OK, "ready\n"),
            _ => answer::text(StatusCode::OK, "ok\n"),
        }
    }

    fn metrics(&self, request: &Request<Incoming>) -> Response<Whole> {
        let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
        let format = Format::accepted(accept);
        answer::of(StatusCode::OK, format.content_type(), scrape::page(self, format))
    }
}
