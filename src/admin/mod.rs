//! The admin listener: health, readiness and reload, apart from what clients can reach.

mod reload;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

pub use self::reload::{Ask, Asks, CONFIG_DIGEST, Told};

/// Connections that the admin listener serves at once.
const MAX_CONNECTIONS: usize = 64;
/// For the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// For everything on one connection.
const CONNECTION_TIMEOUT: Duration = Duration::from_mins(1);

/// Serves `/healthz`, `/readyz` and `/reload` for ever.
pub async fn serve(listener: TcpListener, ready: Arc<AtomicBool>, asks: Asks) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let (ready, asks) = (Arc::clone(&ready), asks.clone());
        tokio::spawn(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let (is_ready, asks) = (ready.load(Ordering::Acquire), &asks);
                async move {
                    Ok::<_, Infallible>(match request.uri().path() {
                        "/reload" => {
                            let (status, text) = reload::answer(&request, asks).await;
                            response(status, text, "POST")
                        }
                        _ => answer(&request, is_ready),
                    })
                }
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

fn answer(request: &Request<Incoming>, ready: bool) -> Response<Text> {
    let (status, text) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/healthz") => (StatusCode::OK, "ok\n"),
        (&Method::GET | &Method::HEAD, "/readyz") if ready => (StatusCode::OK, "ready\n"),
        (&Method::GET | &Method::HEAD, "/readyz") => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
        (_, "/healthz" | "/readyz") => (StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n"),
        (_, _) => (StatusCode::NOT_FOUND, "not found\n"),
    };
    response(status, text, "GET, HEAD")
}

/// A short answer, with the methods that there are where another one was used.
fn response(status: StatusCode, text: impl Into<Bytes>, methods: &'static str) -> Response<Text> {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(header::ALLOW, HeaderValue::from_static(methods));
    }
    let mut response = Response::new(Text(Some(text.into())));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// A short text as a body.
struct Text(Option<Bytes>);

impl Body for Text {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        std::task::Poll::Ready(self.0.take().map(|text| Ok(Frame::data(text))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |text| text.len() as u64))
    }
}
