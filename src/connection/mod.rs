//! A client's connection, from accepting it to its end: which protocol it speaks, and how that is served.

mod http1;
mod http2;
mod opening;
pub mod tunnel;

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use self::opening::Opened;
use crate::authn::Certified;
use crate::config::CertificatePart;
use crate::net::deadline::{Overdue, Phase, Progress};
use crate::net::peer::Peer;
use crate::net::tls::{Protocol, Session};
use crate::net::transport::Transport;
use crate::upstream::Interim;
use crate::worker::{Generation, Worker};

/// A client's connection, as its requests see it.
#[derive(Debug)]
pub struct ClientConnection {
    /// The other side.
    pub peer: Peer,
    /// What its requests are for.
    pub purpose: Purpose,
    /// What its TLS handshake has settled, if there was one.
    pub tls: Option<Session>,
    /// The user whom the client's certificate names, where certificates do.
    pub certified: Option<Certified>,
    /// What was trusted when it began, by [`Worker::trust`].
    trust: u64,
}

/// What the requests on a listener are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To be served.
    Serve,
    /// To be sent to HTTPS.
    Redirect,
}

impl ClientConnection {
    /// Whether its next answer is its last one: the gateway stops, or trusts something else than when it began.
    fn is_ending(&self, worker: &Worker) -> bool {
        worker.is_stopping() || self.trust != worker.trust()
    }

    /// Whether it ends when nothing is in flight.
    fn is_over_when_idle(&self, worker: &Worker) -> bool {
        worker.is_leaving() || self.trust != worker.trust()
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> &'static str {
        match self.tls {
            None => "http",
            Some(_) => "https",
        }
    }
}

/// Where a request comes from.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// The thread.
    pub worker: &'a Worker,
    /// The connection.
    pub connection: &'a ClientConnection,
    /// What the deadlines of this request look at. In HTTP/1.1 it is that of its connection.
    pub progress: &'a Rc<Progress>,
    /// Who is told of informational answers, if the client understands them.
    pub interim: Option<&'a Interim>,
    /// Where it leaves a WebSocket that it has opened.
    pub tunnel: &'a tunnel::Slot,
}

/// What one request is served with.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// The thread.
    pub worker: &'a Worker,
    /// What the thread has made of the configuration in which the request has begun.
    pub generation: &'a Generation,
    /// The connection.
    pub connection: &'a ClientConnection,
    /// What the deadlines of this request look at.
    pub progress: &'a Rc<Progress>,
    /// Who is told of informational answers, if the client understands them.
    pub interim: Option<&'a Interim>,
    /// Where it leaves a WebSocket that it has opened.
    pub tunnel: &'a tunnel::Slot,
}

impl<'a> Source<'a> {
    /// A request from here, which keeps to one generation.
    pub fn call(self, generation: &'a Generation) -> Call<'a> {
        let Self { worker, connection, progress, interim, tunnel } = self;
        Call { worker, generation, connection, progress, interim, tunnel }
    }
}

/// Serves one client until either side has had enough.
pub async fn serve(worker: Rc<Worker>, transport: Transport, address: SocketAddr, purpose: Purpose) {
    let (progress, trust) = (worker.watch(), worker.trust());
    let opening =
        Box::pin(opening::open(&worker, transport.watched_by(&progress), address, purpose, &progress));
    let Opened { transport, peer, tls, protocol, place } =
        match unless_stopping(&worker, &progress, opening).await {
            Some(Ok(opened)) => opened,
            Some(Err(closed)) => return closed.log(address),
            None => return,
        };
    let certified = tls.as_ref().and_then(|session| certified(session, worker.generation().certified_by?));
    let connection = Rc::new(ClientConnection { peer, purpose, tls, certified, trust });
    match protocol {
        Protocol::Http1 => http1::serve(worker, transport, connection, progress).await,
        // On the heap, so that connections of HTTP/1.1 need no room for it.
        Protocol::Http2 => Box::pin(http2::serve(worker, transport, connection, progress)).await,
    }
    drop(place);
}

/// The user whom a client's certificate names by one of its parts. A part that is not there, or has no one meaning, names
/// nobody.
fn certified(session: &Session, part: CertificatePart) -> Option<Certified> {
    let certificate = session.client()?;
    match certificate.part(part) {
        Ok(name) => name.map(|name| Certified::new(name, certificate.not_after())),
        Err(unfit) => {
            tracing::debug!(%unfit, "a client certificate names no user");
            None
        }
    }
}

/// Lets the deadlines wake whoever waits for the future, which the caller pins.
async fn keep_waker<F: Future + Unpin>(progress: &Progress, mut future: F) -> F::Output {
    poll_fn(|cx| {
        progress.keep_waker(cx.waker());
        Pin::new(&mut future).poll(cx)
    })
    .await
}

/// Waits for what comes before the first request, within the deadlines. `None` when the gateway leaves its clients first:
/// nothing is in flight then.
async fn unless_stopping<F: Future + Unpin>(
    worker: &Worker,
    progress: &Progress,
    mut future: F,
) -> Option<F::Output> {
    poll_fn(|cx| {
        progress.keep_waker(cx.waker());
        match Pin::new(&mut future).poll(cx) {
            Poll::Pending if worker.is_leaving() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
            Poll::Ready(output) => Poll::Ready(Some(output)),
        }
    })
    .await
}

/// Whether a connection has to be dropped, answer or not.
fn is_over(progress: &Progress) -> bool {
    match (progress.overdue(), progress.phase()) {
        (Some(Overdue::Read), _) | (Some(_), Phase::Answering) => true,
        // The HTTP library reads once more and finds the end; a request in flight turns it into a refusal.
        (Some(_), Phase::Idle | Phase::Head | Phase::Waiting { .. } | Phase::Parked) | (None, _) => false,
    }
}
