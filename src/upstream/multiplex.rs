//! The HTTP/2 connections of one thread to one target, each of which carries several requests at once.

use std::cell::{Cell, RefCell};
use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use h2::client::{Connection, SendRequest};
use tokio::sync::Notify;

use super::health::{Health, Metered};
use super::pool::InFlight;
use super::shared::Place;

/// How long a connection is kept at least before it makes room for another thread's, in milliseconds.
const MIN_AGE_MS: u64 = 1000;

/// Drives a connection to its end.
pub(super) async fn drive(mut connection: Connection<Metered, Bytes>, health: Rc<Health>, place: Place) {
    let mut ping_pong = connection.ping_pong();
    poll_fn(|cx| {
        health.keep_waker(cx.waker());
        if health.is_lost() {
            tracing::debug!("an upstream connection is silent and given up");
            return Poll::Ready(());
        }
        if let Some(ping_pong) = &mut ping_pong {
            health.poll_probe(ping_pong, cx);
        }
        Pin::new(&mut connection).poll(cx).map(|ended| {
            // How it ended is known to the requests that it ended; an unused one may end as it likes.
            if let Err(error) = ended {
                tracing::debug!(%error, "an upstream connection ended");
            }
        })
    })
    .await;
    drop(connection);
    drop(place);
}

/// A connection that takes requests, or finishes those that it has.
struct Open {
    /// `None` once it takes no more.
    sender: Option<SendRequest<Bytes>>,
    health: Rc<Health>,
}

/// The connections of one thread to one target.
pub(super) struct Multiplexed {
    open: RefCell<Vec<Open>>,
    opening: Cell<bool>,
    opened: Notify,
    /// Whether the last one that was opened failed.
    failed: Cell<bool>,
    /// Whether the last one that was opened speaks HTTP/1.1, which carries one request at a time.
    http1: Cell<bool>,
}

/// A stream that is not begun yet: leave to send one request on a connection.
pub(super) struct Stream {
    pub(super) sender: SendRequest<Bytes>,
    pub(super) used: Rc<Used>,
}

/// A stream that is in use; others may use it once this is dropped.
pub(super) struct Used {
    health: Rc<Health>,
    in_flight: InFlight,
}

impl Used {
    pub(super) fn health(&self) -> &Health {
        &self.health
    }
}

impl Drop for Used {
    fn drop(&mut self) {
        self.health.end();
        self.in_flight.pool().stream_ended();
    }
}

impl Default for Multiplexed {
    fn default() -> Self {
        let (opening, failed, http1) = (Cell::new(false), Cell::new(false), Cell::new(false));
        Self { open: RefCell::default(), opening, opened: Notify::new(), failed, http1 }
    }
}

impl Multiplexed {
    /// A stream on the first connection that takes one more: they fill one after the other, so that the last can
    /// fall idle.
    pub(super) fn next_stream(&self, in_flight: InFlight) -> Result<Stream, InFlight> {
        let mut open = self.open.borrow_mut();
        match open.iter_mut().find_map(Open::with_room) {
            Some(open) => open.begin(in_flight),
            None => Err(in_flight),
        }
    }

    /// Whether there is a connection that takes one more request.
    pub(super) fn has_room(&self) -> bool {
        self.open.borrow_mut().iter_mut().any(|open| open.with_room().is_some())
    }

    /// Adds a connection, on which the one who opened it has the first stream.
    pub(super) fn add(
        &self,
        sender: SendRequest<Bytes>,
        health: Rc<Health>,
        in_flight: InFlight,
    ) -> Option<Stream> {
        self.http1.set(false);
        let mut open = Open { sender: Some(sender), health };
        let stream = open.with_room().and_then(|open| open.begin(in_flight).ok());
        self.open.borrow_mut().push(open);
        stream
    }

    /// Begins nothing more. What is under way goes on.
    pub(super) fn retire(&self) {
        for open in self.open.borrow_mut().iter_mut() {
            open.sender = None;
        }
    }

    /// Whether a connection is being opened that will probably carry several requests.
    pub(super) fn is_opening(&self) -> bool {
        self.opening.get() && !self.http1.get()
    }

    /// Notes that the target chose HTTP/1.1.
    pub(super) fn note_http1(&self) {
        self.http1.set(true);
    }

    /// Waits while a connection is being opened: it will carry this request too. Who has waited in vain opens one of its own.
    pub(super) async fn wait_for_opening(&self) -> Waited {
        self.opened.notified().await;
        if self.failed.get() { Waited::InVain } else { Waited::Opened }
    }

    /// Notes that a connection is being opened.
    pub(super) fn begin_opening(&self) -> Opening<'_> {
        self.opening.set(true);
        Opening { connections: self, failed: false }
    }

    /// Lets connections go that nobody has used for so long, and asks silent ones whether they are there. Of `wanted`
    /// by other threads, those that nobody uses go first; otherwise one takes no more requests.
    pub(super) fn sweep(&self, now_ms: u64, idle_timeout_ms: u64, mut wanted: usize) {
        let mut open = self.open.borrow_mut();
        open.retain_mut(|open| {
            open.health.check();
            if open.health.streams.get() > 0 {
                return true;
            }
            let idle_ms = now_ms.saturating_sub(open.health.idle_since_ms.get());
            let unwanted = wanted == 0 && idle_ms < idle_timeout_ms;
            wanted = wanted.saturating_sub(usize::from(!unwanted));
            open.sender.is_some() && unwanted
        });
        let old = |open: &&mut Open| {
            open.sender.is_some() && now_ms.saturating_sub(open.health.opened_ms) >= MIN_AGE_MS
        };
        if wanted > 0
            && let Some(one) = open.iter_mut().find(old)
        {
            one.sender = None;
        }
    }
}

/// How waiting for another's connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waited {
    /// It is open, or nobody waits for it any more.
    Opened,
    /// It failed.
    InVain,
}

/// A connection is being opened, until this is dropped.
pub(super) struct Opening<'a> {
    connections: &'a Multiplexed,
    failed: bool,
}

impl Opening<'_> {
    /// Notes that it could not be opened, so that nobody waits for the next one in vain.
    pub(super) fn fail(mut self) {
        self.failed = true;
    }
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.connections.opening.set(false);
        self.connections.failed.set(self.failed);
        self.connections.opened.notify_waiters();
    }
}

impl Open {
    /// Itself, when it takes one more request. One whose other side has said that it goes away takes none.
    fn with_room(&mut self) -> Option<&mut Self> {
        let sender = self.sender.as_mut()?;
        match sender.poll_ready(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Err(_)) => {
                self.sender = None;
                None
            }
            Poll::Ready(Ok(())) | Poll::Pending => {
                (self.health.streams.get() < sender.current_max_send_streams()).then_some(self)
            }
        }
    }

    fn begin(&self, in_flight: InFlight) -> Result<Stream, InFlight> {
        let Some(sender) = self.sender.clone() else { return Err(in_flight) };
        self.health.begin();
        let used = Used { health: Rc::clone(&self.health), in_flight };
        Ok(Stream { sender, used: Rc::new(used) })
    }
}
