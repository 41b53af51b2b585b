//! Whether a connection of HTTP/2 is alive, and what it has carried.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use h2::{Ping, PingPong};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::io::Wire;
use crate::base::bounds;
use crate::net::deadline::TickClock;

/// How long a silent connection on which no request was begun since is not asked again, in milliseconds. Servers of
/// gRPC end connections that ask more often while streams rest.
const PROBE_INTERVAL_MS: u64 = 5 * 60 * 1000;

/// The state of one connection.
#[derive(Debug)]
pub(super) struct Health {
    pub(super) clock: Rc<TickClock>,
    pub(super) opened_ms: u64,
    /// Requests under way.
    pub(super) streams: Cell<usize>,
    pub(super) idle_since_ms: Cell<u64>,
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

    /// Notes that a request is begun.
    pub(super) fn begin(&self) {
        self.streams.set(self.streams.get() + 1);
        self.asked_ms.set(None);
    }

    /// Notes that a request has ended.
    pub(super) fn end(&self) {
        let left = self.streams.get().saturating_sub(1);
        self.streams.set(left);
        if left == 0 {
            self.idle_since_ms.set(self.clock.now_ms());
        }
    }

    /// Whether the other side was asked in vain.
    pub(super) fn is_lost(&self) -> bool {
        self.probe.get() == Probe::Failed
    }

    /// Has the other side asked whether it is there, when requests wait and nothing has come for long.
    pub(super) fn check(&self) {
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
    pub(super) fn poll_probe(&self, ping_pong: &mut PingPong, cx: &mut Context<'_>) {
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

    pub(super) fn keep_waker(&self, waker: &Waker) {
        let mut kept = self.waker.borrow_mut();
        if !kept.as_ref().is_some_and(|kept| kept.will_wake(waker)) {
            *kept = Some(waker.clone());
        }
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
