//! The admin listener, apart from what clients can reach: health and readiness, what the gateway has counted, and a page
//! that shows it.

mod answer;
mod guard;
mod overview;
mod process;
mod scrape;
mod sessions;

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
use self::guard::{Denied, Guard};
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
    guard: Guard,
}

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Health,
    Readiness,
    Metrics,
    Page,
    Script,
    Style,
    Overview,
    Sessions,
    Revoke,
}

impl Asked {
    fn of(path: &str) -> Option<Self> {
        Some(match path {
            "/healthz" => Self::Health,
            "/readyz" => Self::Readiness,
            "/metrics" => Self::Metrics,
            "/" => Self::Page,
            "/page.js" => Self::Script,
            "/page.css" => Self::Style,
            "/api/overview" => Self::Overview,
            "/api/sessions" => Self::Sessions,
            "/api/sessions/revoke" => Self::Revoke,
            _ => return None,
        })
    }

    /// Whether it is asked for with this method.
    fn takes(self, method: &Method) -> bool {
        match self {
            Self::Revoke => *method == Method::POST,
            Self::Health
            | Self::Readiness
            | Self::Metrics
            | Self::Page
            | Self::Script
            | Self::Style
            | Self::Overview
            | Self::Sessions => matches!(*method, Method::GET | Method::HEAD),
        }
    }
}

impl Admin {
    /// An admin listener that tells of this gateway.
    pub fn new(ready: Arc<AtomicBool>, snapshot: Arc<Snapshot>, connections: Arc<AtomicUsize>) -> Self {
        let began = snapshot.clock.now_unix_seconds();
        let server = &snapshot.config.server;
        let guard = Guard::new(server.admin_token.clone(), server.admin_hosts.clone());
        Self { ready, snapshot, connections, began, guard }
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
                    let admin = Arc::clone(&admin);
                    async move { Ok::<_, Infallible>(admin.answer(request).await) }
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

    async fn answer(&self, request: Request<Incoming>) -> Response<Whole> {
        let Some(asked) = Asked::of(request.uri().path()) else {
            return answer::text(StatusCode::NOT_FOUND, "not found\n");
        };
        if !asked.takes(request.method()) {
            return answer::only(if asked == Asked::Revoke { "POST" } else { "GET, HEAD" });
        }
        if let Err(denied) = self.check(asked, &request) {
            return refuse(denied);
        }
        match asked {
            Asked::Health => answer::text(StatusCode::OK, "ok\n"),
            Asked::Readiness if self.ready.load(Ordering::Acquire) => answer::text(StatusCode::OK, "ready\n"),
            Asked::Readiness => answer::text(StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
            Asked::Metrics => self.metrics(&request),
            Asked::Page => answer::page("text/html; charset=utf-8", include_str!("page/index.html")),
            Asked::Script => answer::page("text/javascript; charset=utf-8", include_str!("page/page.js")),
            Asked::Style => answer::page("text/css; charset=utf-8", include_str!("page/page.css")),
            Asked::Overview => answer::json(StatusCode::OK, &overview::overview(self)),
            Asked::Sessions => sessions::list(self).await,
            Asked::Revoke => sessions::revoke(self, request.into_body()).await,
        }
    }

    fn check(&self, asked: Asked, request: &Request<Incoming>) -> Result<(), Denied> {
        let (uri, headers) = (request.uri(), request.headers());
        match asked {
            // They say nothing that a stranger could use.
            Asked::Health | Asked::Readiness => Ok(()),
            Asked::Metrics => self.guard.check_reader(uri, headers),
            Asked::Page | Asked::Script | Asked::Style => self.guard.check_page(uri, headers),
            Asked::Overview => self.guard.check_call(uri, headers),
            Asked::Sessions | Asked::Revoke => self.guard.check_operator(uri, headers),
        }
    }

    fn metrics(&self, request: &Request<Incoming>) -> Response<Whole> {
        let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
        let format = Format::accepted(accept);
        answer::of(StatusCode::OK, format.content_type(), scrape::page(self, format))
    }
}

fn refuse(denied: Denied) -> Response<Whole> {
    match denied {
        Denied::Host => answer::text(
            StatusCode::MISDIRECTED_REQUEST,
            "this host is not the admin listener's: use its address, or name it in server.admin_hosts\n",
        ),
        Denied::Site => answer::text(StatusCode::FORBIDDEN, "only the admin page may ask for this\n"),
        Denied::Token => answer::text(StatusCode::UNAUTHORIZED, "this needs the admin token\n"),
    }
}
