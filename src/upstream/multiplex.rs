//! The HTTP/2 connections of one thread to one target, each of which carries several requests at once.

use std::cell::{Cell, RefCell};
use std::future::{Future as _, poll_fn};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use h2::client::{Connection, SendRequest};
use h2::{Ping, PingPong};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use super::io::Wire;
use super::pool::{InFlight, Place, Pool};
use crate::base::bounds;
use crate::net::deadline::TickClock;

/// How long a connection is kept at least before it makes room for another thread's, in milliseconds.
const MIN_AGE_MS: u64 = 1000;

/// How long a silent connection on which no request was begun since is not asked again, in milliseconds. Servers of
/// gRPC end connections that ask more often while streams rest.
const PROBE_INTERVAL_MS: u64 = 5 * 60 * 1000;

/// The state of one connection.
#[derive(Debug)]
pub(super) struct Health {
    clock: Rc<TickClock>,
    opened_ms: u64,
    /// Requests under way.
    streams: Cell<usize>,
    idle_since_ms: Cell<u64>,
    /// Whether any answer has come.
    answered: Cell<bool>,
    written_bytes: Cell<u64>,
    read_ms: Cell<u64>,
    probe: Cell<Probe>,
    /// When it was asked last, unless a request was begun since.
    asked_ms: Cell<Option<u64>>,
    waker: RefCell<Option<Waker>>,
}

/// Whether the other side is asked if it is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Probe {
    /// There is no need.
    None,
    /// A PING is to be sent (RFC 9113 section 6.7).
    Due,
    /// It was sent at this time.
    Sent(u64),
    /// Nothing has come since: the connection is given up.
    Failed,
}

impl Health {
    pub(super) fn new(clock: Rc<TickClock>) -> Self {
        let now_ms = clock.now_ms();
        Self {
            clock,
            opened_ms: now_ms,
            streams: Cell::new(0),
            idle_since_ms: Cell::new(now_ms),
            answered: Cell::new(false),
            written_bytes: Cell::new(0),
            read_ms: Cell::new(now_ms),
            probe: Cell::new(Probe::None),
            asked_ms: Cell::new(None),
            waker: RefCell::new(None),
        }
    }

    /// Bytes that were handed to the connection, so that somebody can see that nothing was.
    pub(super) fn written_bytes(&self) -> u64 {
        self.written_bytes.get()
    }

    /// Whether the connection has ever carried an answer.
    pub(super) fn has_answered(&self) -> bool {
        self.answered.get()
    }

    /// Notes that an answer has come.
    pub(super) fn note_answer(&self) {
        self.answered.set(true);
    }

    /// Has the other side asked whether it is there, when requests wait and nothing has come for long.
    fn check(&self) {
        let now_ms = self.clock.now_ms();
        let silent = |since_ms: u64| now_ms.saturating_sub(since_ms) >= bounds::SILENCE_MS;
        let asked = self.asked_ms.get().is_some_and(|at_ms| now_ms.saturating_sub(at_ms) < PROBE_INTERVAL_MS);
        match self.probe.get() {
            Probe::None if self.streams.get() > 0 && !asked && silent(self.read_ms.get()) => {
                self.set(Probe::Due);
            }
            Probe::Sent(at_ms) if silent(at_ms.max(self.read_ms.get())) => self.set(Probe::Failed),
            Probe::None | Probe::Due | Probe::Sent(_) | Probe::Failed => {}
        }
    }

    fn set(&self, probe: Probe) {
        self.probe.set(probe);
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    /// Sends a PING that is due and takes the answer.
    fn poll_probe(&self, ping_pong: &mut PingPong, cx: &mut Context<'_>) {
        match self.probe.get() {
            Probe::Due if ping_pong.send_ping(Ping::opaque()).is_ok() => {
                self.probe.set(Probe::Sent(self.clock.now_ms()));
                self.asked_ms.set(Some(self.clock.now_ms()));
            }
            Probe::Sent(_) if matches!(ping_pong.poll_pong(cx), Poll::Ready(Ok(_))) => {
                self.probe.set(Probe::None);
            }
            Probe::None | Probe::Due | Probe::Sent(_) | Probe::Failed => {}
        }
    }

    fn keep_waker(&self, waker: &Waker) {
        let mut kept = self.waker.borrow_mut();
        if !kept.as_ref().is_some_and(|kept| kept.will_wake(waker)) {
            *kept = Some(waker.clone());
        }
    }
}

/// Drives a connection to its end.
pub(super) async fn drive(
    mut connection: Connection<Metered, Bytes>,
    health: Rc<Health>,
    place: Place,
    freed: Rc<Notify>,
) {
    let mut ping_pong = connection.ping_pong();
    poll_fn(|cx| {
        health.keep_waker(cx.waker());
        if health.probe.get() == Probe::Failed {
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
    freed.notify_one();
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
        let left = self.health.streams.get().saturating_sub(1);
        self.health.streams.set(left);
        if left == 0 {
            self.health.idle_since_ms.set(self.health.clock.now_ms());
        }
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
    pub(super) fn next_stream(&self, pool: &Rc<Pool>) -> Option<Stream> {
        let mut open = self.open.borrow_mut();
        open.iter_mut().find_map(Open::with_room)?.begin(pool)
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
        pool: &Rc<Pool>,
    ) -> Option<Stream> {
        self.http1.set(false);
        let mut open = Open { sender: Some(sender), health };
        let stream = open.with_room().and_then(|open| open.begin(pool));
        self.open.borrow_mut().push(open);
        stream
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

    fn begin(&self, pool: &Rc<Pool>) -> Option<Stream> {
        let sender = self.sender.clone()?;
        self.health.streams.set(self.health.streams.get() + 1);
        self.health.asked_ms.set(None);
        let used = Used { health: Rc::clone(&self.health), in_flight: InFlight::begin(pool) };
        Some(Stream { sender, used: Rc::new(used) })
    }
}

/// A connection that counts what it carries.
pub(super) struct Metered {
    wire: Wire,
    health: Rc<Health>,
}

impl Metered {
    pub(super) fn new(wire: Wire, health: Rc<Health>) -> Self {
        Self { wire, health }
    }

    fn note(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = written {
            let total = self.health.written_bytes.get().wrapping_add(bytes as u64);
            self.health.written_bytes.set(total);
        }
        written
    }
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.wire).poll_read(cx, buffer);
        if read.is_ready() {
            self.health.read_ms.set(self.health.clock.now_ms());
        }
        read
    }
}

impl AsyncWrite for Metered {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.wire).poll_write(cx, bytes);
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.wire).poll_write_vectored(cx, slices);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.wire.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_shutdown(cx)
    }
}
