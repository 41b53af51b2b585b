//! The admin listener, apart from what clients can reach: health and readiness, what the gateway has counted, a page that
//! shows it, and asking for a reload.

mod answer;
mod guard;
mod overview;
mod process;
mod refusals;
mod reload;
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
pub use self::guard::FROM_PAGE;
use self::guard::{Denied, Guard};
pub use self::refusals::{ASKED_ID, REFUSALS};
pub use self::reload::{Ask, Asks, CONFIG_DIGEST, Told};
use crate::snapshot::Snapshot;
use crate::telemetry::metrics::exposition::Format;
use crate::telemetry::reloads::Reloads;

/// Connections that the admin listener serves at once.
const MAX_CONNECTIONS: usize = 64;
/// For the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// For everything on one connection.
const CONNECTION_TIMEOUT: Duration = Duration::from_mins(1);

/// What the admin listener tells of.
pub struct Admin {
    parts: Parts,
    /// When it began to serve, in seconds since 1970.
    began: i64,
}

/// What it is told by others.
pub struct Parts {
    /// Whether clients are served.
    pub ready: Arc<AtomicBool>,
    /// Tells what is served by now.
    pub current: Box<dyn Fn() -> Arc<Snapshot> + Send + Sync>,
    /// Client connections of the whole process.
    pub connections: Arc<AtomicUsize>,
    /// How often the configuration was read again.
    pub reloads: Arc<Reloads>,
    /// Who reads it.
    pub asks: Asks,
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
    Refusals,
    Sessions,
    Revoke,
    Reload,
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
            REFUSALS => Self::Refusals,
            "/api/sessions" => Self::Sessions,
            "/api/sessions/revoke" => Self::Revoke,
            "/reload" => Self::Reload,
            _ => return None,
        })
    }

    /// Whether it is asked for with this method.
    fn takes(self, method: &Method) -> bool {
        match self {
            Self::Revoke | Self::Reload => *method == Method::POST,
            Self::Health
            | Self::Readiness
            | Self::Metrics
            | Self::Page
            | Self::Script
            | Self::Style
            | Self::Overview
            | Self::Refusals
            | Self::Sessions => matches!(*method, Method::GET | Method::HEAD),
        }
    }
}

impl Admin {
    /// An admin listener that tells of this gateway.
    pub fn new(parts: Parts) -> Self {
        let began = (parts.current)().clock.now_unix_seconds();
        Self { parts, began }
    }

    /// What is served by now.
    fn snapshot(&self) -> Arc<Snapshot> {
        (self.parts.current)()
    }

    fn is_ready(&self) -> bool {
        self.parts.ready.load(Ordering::Acquire)
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
            return answer::only(if asked.takes(&Method::POST) { "POST" } else { "GET, HEAD" });
        }
        if let Err(denied) = self.check(asked, &request) {
            return refuse(denied);
        }
        match asked {
            Asked::Health => answer::text(StatusCode::OK, "ok\n"),
            Asked::Readiness => self.readiness(),
            Asked::Metrics => self.metrics(&request),
            Asked::Page => answer::page("text/html; charset=utf-8", include_str!("page/index.html")),
            Asked::Script => answer::page("text/javascript; charset=utf-8", include_str!("page/page.js")),
            Asked::Style => answer::page("text/css; charset=utf-8", include_str!("page/page.css")),
            Asked::Overview => answer::json(StatusCode::OK, &overview::overview(self)),
            Asked::Refusals => refusals::list(self, request.uri().query()),
            Asked::Sessions => sessions::list(self).await,
            Asked::Revoke => sessions::revoke(self, request.into_body()).await,
            Asked::Reload => {
                let (status, text) = reload::answer(&request, &self.parts.asks).await;
                answer::text(status, text)
            }
        }
    }

    fn check(&self, asked: Asked, request: &Request<Incoming>) -> Result<(), Denied> {
        let (uri, headers) = (request.uri(), request.headers());
        let guard = Guard::of(&self.snapshot().config.server);
        match asked {
            // The first two say nothing that a stranger could use, and the last one has a rule of its own.
            Asked::Health | Asked::Readiness | Asked::Reload => Ok(()),
            Asked::Metrics => guard.check_reader(uri, headers),
            Asked::Page | Asked::Script | Asked::Style => guard.check_page(uri, headers),
            Asked::Overview => guard.check_call(uri, headers),
            Asked::Refusals | Asked::Sessions | Asked::Revoke => guard.check_operator(uri, headers),
        }
    }

    /// Whether clients are served, and how far the gateway is behind the store that others write as well.
    fn readiness(&self) -> Response<Whole> {
        let snapshot = self.snapshot();
        let sessions = &snapshot.authentication.sessions;
        let behind_ms = sessions.behind().as_millis();
        if self.is_ready() && !sessions.revocations().is_stale() {
            return answer::text(StatusCode::OK, format!("ready\nstore: {behind_ms} ms behind\n"));
        }
        let text = format!("not ready\nstore: {behind_ms} ms behind\n");
        answer::text(StatusCode::SERVICE_UNAVAILABLE, text)
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
