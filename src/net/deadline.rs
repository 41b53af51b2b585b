//! Deadlines without timers: every connection notes what it is doing and since when, and one tick per thread looks.
//!
//! A timer per request would cost an allocation and a place in the timer wheel for something that almost never fires.
//! So a connection only writes numbers into cells. The tick, every [`bounds::TICK_MS`], compares them with the limits,
//! marks a connection that is overdue and wakes its task, which then ends it.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, Waker};

pub use super::tick::TickClock;
use crate::base::bounds;
use crate::config::Limits;

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing was read since the last answer, or ever.
    Idle,
    /// A request's head is being read.
    Head,
    /// A request waits for the head of its answer, until this time.
    Waiting {
        /// On the thread's [`TickClock`]; `u64::MAX` is never.
        until_ms: u64,
    },
    /// An answer is on its way.
    Answering,
    /// Nothing: it belongs to no request, and has no deadline.
    Parked,
}

/// Why a connection was marked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overdue {
    /// `idle_timeout`
    Idle,
    /// `header_timeout`
    Head,
    /// `body_timeout`, or a request body slower than `min_rate`.
    Body,
    /// A response that is read slower than `min_rate`.
    Read,
    /// The upstream's `response_timeout`.
    Answer,
}

/// What was wrong with a request's body while it was sent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFault {
    /// It was longer than allowed.
    TooLarge,
    /// It broke off, or what came was no body.
    Broken,
}

/// The state of one connection that limits look at. Everything is in cells: one thread, no locks.
#[derive(Debug)]
pub struct Progress {
    clock: Rc<TickClock>,
    phase: Cell<Phase>,
    since_ms: Cell<u64>,
    overdue: Cell<Option<Overdue>>,
    body_fault: Cell<Option<BodyFault>>,
    read_bytes: Cell<u64>,
    written_bytes: Cell<u64>,
    write_blocked: Cell<bool>,
    /// Since when a frame or a head on a connection that carries many requests is incomplete.
    partial_since_ms: Cell<Option<u64>>,
    /// Since when the client sends nothing more, and nothing was written to it.
    client_ended_since_ms: Cell<Option<u64>>,
    body_wanted_since_ms: Cell<Option<u64>>,
    uploading: Cell<bool>,
    /// The client waits to be told to send its body.
    continue_awaited: Cell<bool>,
    /// The request's body may pause as long as it likes.
    unhurried: Cell<bool>,
    read_window: Cell<Option<Window>>,
    write_window: Cell<Option<Window>>,
    waker: RefCell<Option<Waker>>,
}

/// The start of a stretch of time over which a rate is measured.
#[derive(Clone, Copy, Debug)]
struct Window {
    start_ms: u64,
    start_bytes: u64,
}

impl Progress {
    /// A connection that has just been accepted.
    pub fn new(clock: Rc<TickClock>) -> Self {
        let now_ms = clock.now_ms();
        Self {
            clock,
            phase: Cell::new(Phase::Idle),
            since_ms: Cell::new(now_ms),
            overdue: Cell::new(None),
            body_fault: Cell::new(None),
            read_bytes: Cell::new(0),
            written_bytes: Cell::new(0),
            write_blocked: Cell::new(false),
            partial_since_ms: Cell::new(None),
            client_ended_since_ms: Cell::new(None),
            body_wanted_since_ms: Cell::new(None),
            uploading: Cell::new(false),
            continue_awaited: Cell::new(false),
            unhurried: Cell::new(false),
            read_window: Cell::new(None),
            write_window: Cell::new(None),
            waker: RefCell::new(None),
        }
    }

    /// Belongs to no request from now on.
    pub fn park(&self) {
        self.enter(Phase::Parked);
        self.waker.take();
    }

    /// Begins anew for another request, as if it had never been used.
    pub fn renew(&self) {
        self.overdue.set(None);
        self.write_blocked.set(false);
        self.client_ended_since_ms.set(None);
        self.continue_awaited.set(false);
        self.upload_ended();
        self.begin();
    }

    /// What the connection is doing.
    pub fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// Enters a phase now.
    pub fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.since_ms.set(self.clock.now_ms());
    }

    /// Enters [`Phase::Waiting`] for at most so many milliseconds from now.
    pub fn wait(&self, at_most_ms: u64) {
        self.enter(Phase::Waiting { until_ms: self.clock.now_ms().saturating_add(at_most_ms) });
    }

    /// Why the connection has to end, when it has to.
    pub fn overdue(&self) -> Option<Overdue> {
        self.overdue.get()
    }

    /// Forgets an overdue answer, after it was turned into a refusal and the connection may go on.
    pub fn forgive(&self) {
        self.overdue.set(None);
    }

    /// What was wrong with the body of the request at hand.
    pub fn body_fault(&self) -> Option<BodyFault> {
        self.body_fault.get()
    }

    /// Notes that the body is longer than allowed.
    pub fn body_too_large(&self) {
        self.body_fault.set(Some(BodyFault::TooLarge));
    }

    /// Notes that the body broke off.
    pub fn body_broke(&self) {
        self.body_fault.set(Some(BodyFault::Broken));
    }

    /// Begins a request: nothing is wrong with its body yet.
    pub fn begin(&self) {
        self.body_fault.set(None);
        self.unhurried.set(false);
        self.enter(Phase::Waiting { until_ms: u64::MAX });
    }

    /// Notes bytes that came from the client.
    pub fn read(&self, bytes: usize) {
        self.read_bytes.set(self.read_bytes.get().wrapping_add(bytes as u64));
        if self.body_wanted_since_ms.get().is_some() {
            self.body_wanted_since_ms.set(Some(self.clock.now_ms()));
        }
        if self.phase.get() == Phase::Idle {
            self.enter(Phase::Head);
        }
    }

    /// Notes whether a frame or a head is incomplete, where one connection carries many requests.
    pub fn partial(&self, is_partial: bool) {
        if !is_partial {
            self.partial_since_ms.set(None);
        } else if self.partial_since_ms.get().is_none() {
            self.partial_since_ms.set(Some(self.clock.now_ms()));
        }
    }

    /// Notes that the client will send nothing more. It may still read.
    pub fn client_ended(&self) {
        if self.client_ended_since_ms.get().is_none() {
            self.client_ended_since_ms.set(Some(self.clock.now_ms()));
        }
    }

    /// Notes what became of writing to the kernel.
    pub fn written(&self, outcome: &Poll<io::Result<usize>>) {
        match outcome {
            Poll::Ready(Ok(bytes)) => self.wrote(*bytes),
            Poll::Pending => self.write_blocked(),
            Poll::Ready(Err(_)) => {}
        }
    }

    /// Notes bytes that were taken, by the kernel or by a stream.
    pub fn wrote(&self, bytes: usize) {
        if self.client_ended_since_ms.get().is_some() {
            self.client_ended_since_ms.set(Some(self.clock.now_ms()));
        }
        self.written_bytes.set(self.written_bytes.get().wrapping_add(bytes as u64));
        self.write_blocked.set(false);
    }

    /// Notes that no more bytes are taken: the client does not read.
    pub fn write_blocked(&self) {
        self.write_blocked.set(true);
    }

    /// Notes that the request's body is waited for: from now on its limits run.
    pub fn body_wanted(&self) {
        if self.continue_awaited.get() {
            self.wake();
        }
        if self.body_wanted_since_ms.get().is_none() {
            self.body_wanted_since_ms.set(Some(self.clock.now_ms()));
        }
    }

    /// Notes that the client waits to be told to send its body (RFC 9110 section 10.1.1). Whoever keeps its waker here is
    /// woken when the body is wanted.
    pub fn await_continue(&self) {
        self.continue_awaited.set(true);
    }

    /// Whether the client has to be told now to send its body. It is told once.
    pub fn takes_continue(&self) -> bool {
        let due = self.continue_awaited.get() && self.body_wanted_since_ms.get().is_some();
        if due {
            self.continue_awaited.set(false);
        }
        due
    }

    /// Notes that a piece of the body was handed on, or that it ended: now it is the upstream's turn.
    pub fn body_served(&self) {
        self.body_wanted_since_ms.set(None);
    }

    /// Notes that the request has a body, which is not sent yet.
    pub fn upload_begins(&self) {
        self.uploading.set(true);
    }

    /// Notes that nobody sends the request's body any more: it came whole, or it never will.
    pub fn upload_ended(&self) {
        self.uploading.set(false);
        self.body_served();
    }

    /// Lets the body of the request at hand pause: it is one side of a conversation, and says something when there is
    /// something to say.
    pub fn take_time(&self) {
        self.unhurried.set(true);
    }

    /// Whether the body of the request at hand is still being sent.
    pub fn is_uploading(&self) -> bool {
        self.uploading.get()
    }

    /// Keeps the waker of the connection's task, so that the tick can wake it.
    pub fn keep_waker(&self, waker: &Waker) {
        let mut kept = self.waker.borrow_mut();
        if !kept.as_ref().is_some_and(|kept| kept.will_wake(waker)) {
            *kept = Some(waker.clone());
        }
    }

    /// Wakes the connection's task.
    pub fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    /// Looks whether a limit is exceeded; if so, marks the connection and wakes its task.
    pub(super) fn check(&self, limits: &Limits) {
        if self.overdue.get().is_some() {
            self.wake();
            return;
        }
        if let Some(overdue) = self.exceeded(limits) {
            self.overdue.set(Some(overdue));
            self.wake();
        }
    }

    fn exceeded(&self, limits: &Limits) -> Option<Overdue> {
        let now_ms = self.clock.now_ms();
        let past = |since_ms: u64, limit: std::time::Duration| {
            u128::from(now_ms.saturating_sub(since_ms)) >= limit.as_millis()
        };
        let stalled = |window: &Cell<Option<Window>>, bytes: u64, waiting: bool| {
            limits.min_rate > 0 && waiting && too_slow(window, now_ms, bytes, limits.min_rate)
        };
        if stalled(&self.write_window, self.written_bytes.get(), self.write_blocked.get()) {
            return Some(Overdue::Read);
        }
        if !self.write_blocked.get() {
            self.write_window.set(None);
        }
        let wanted = self.body_wanted_since_ms.get();
        let hurried = wanted.filter(|_| !self.unhurried.get());
        if hurried.is_none() {
            self.read_window.set(None);
        }
        if hurried.is_some_and(|since_ms| past(since_ms, limits.body_timeout)) {
            return Some(Overdue::Body);
        }
        if stalled(&self.read_window, self.read_bytes.get(), hurried.is_some()) {
            return Some(Overdue::Body);
        }
        if self.partial_since_ms.get().is_some_and(|since_ms| past(since_ms, limits.header_timeout)) {
            return Some(Overdue::Head);
        }
        match self.phase.get() {
            Phase::Idle if past(self.since_ms.get(), limits.idle_timeout) => Some(Overdue::Idle),
            Phase::Head if past(self.since_ms.get(), limits.header_timeout) => Some(Overdue::Head),
            // A body that is being sent is the client's time, not the upstream's.
            Phase::Waiting { until_ms } if now_ms >= until_ms && wanted.is_none() => Some(Overdue::Answer),
            // One who has closed its side may wait for the rest of an answer, or be gone: only writing would tell.
            Phase::Answering
                if self.client_ended_since_ms.get().is_some_and(|ms| past(ms, limits.idle_timeout)) =>
            {
                Some(Overdue::Read)
            }
            Phase::Idle | Phase::Head | Phase::Waiting { .. } | Phase::Answering | Phase::Parked => None,
        }
    }
}

/// Whether fewer bytes than `min_rate` came per second since the window began; begins a new one when it is over.
fn too_slow(window: &Cell<Option<Window>>, now_ms: u64, bytes: u64, min_rate: u64) -> bool {
    let fresh = Window { start_ms: now_ms, start_bytes: bytes };
    let Some(begun) = window.get() else {
        window.set(Some(fresh));
        return false;
    };
    let elapsed_ms = now_ms.saturating_sub(begun.start_ms);
    if elapsed_ms < bounds::RATE_WINDOW_MS {
        return false;
    }
    window.set(Some(fresh));
    let moved = bytes.wrapping_sub(begun.start_bytes);
    moved < min_rate.saturating_mul(elapsed_ms) / 1000
}

/// Waits for something, but no longer than the connection may. It is pinned by the caller, because moving a large future
/// in here would make room for it twice.
///
/// # Errors
///
/// What is overdue, as soon as the tick has found it.
pub async fn in_time<F: Future + Unpin>(progress: &Progress, mut future: F) -> Result<F::Output, Overdue> {
    poll_fn(|cx| match progress.overdue() {
        Some(overdue) => Poll::Ready(Err(overdue)),
        None => Pin::new(&mut future).poll(cx).map(Ok),
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::time::Duration;

    use super::*;

    fn limits() -> Limits {
        Limits {
            max_connections: NonZeroUsize::MIN,
            max_connections_per_network: None,
            max_header_bytes: 8192,
            max_headers: 100,
            max_body: None,
            header_timeout: Duration::from_secs(3),
            body_timeout: Duration::from_secs(4),
            min_rate: 128,
            idle_timeout: Duration::from_secs(6),
        }
    }

    /// A connection and a hand to move its time.
    fn connection() -> (Progress, Rc<TickClock>) {
        let clock = Rc::new(TickClock::default());
        (Progress::new(Rc::clone(&clock)), clock)
    }

    fn at(progress: &Progress, clock: &TickClock, ms: u64) -> Option<Overdue> {
        clock.set(1 + ms);
        progress.exceeded(&limits())
    }

    #[test]
    fn a_silent_connection_ends_after_idle_timeout() {
        let (progress, clock) = connection();
        assert_eq!(at(&progress, &clock, 5_999), None);
        assert_eq!(at(&progress, &clock, 6_000), Some(Overdue::Idle));
    }

    #[test]
    fn a_head_has_a_total_deadline_that_more_bytes_do_not_move() {
        let (progress, clock) = connection();
        progress.read(1);
        for ms in [1_000, 2_000, 2_999] {
            assert_eq!(at(&progress, &clock, ms), None);
            progress.read(1);
        }
        assert_eq!(at(&progress, &clock, 3_000), Some(Overdue::Head));
    }

    #[test]
    fn a_body_may_pause_for_body_timeout_and_must_keep_min_rate() {
        let (progress, clock) = connection();
        progress.wait(u64::MAX);
        progress.body_wanted();
        assert_eq!(at(&progress, &clock, 3_999), None);
        assert_eq!(at(&progress, &clock, 4_000), Some(Overdue::Body));

        let (progress, clock) = connection();
        progress.wait(u64::MAX);
        progress.body_wanted();
        let mut verdict = None;
        for second in 0..12 {
            verdict = verdict.or(at(&progress, &clock, second * 1_000));
            progress.read(10);
        }
        assert_eq!(verdict, Some(Overdue::Body), "ten bytes a second are too few");
    }

    #[test]
    fn one_side_of_a_conversation_may_pause_and_the_next_request_is_hurried_again() {
        let (progress, clock) = connection();
        progress.begin();
        progress.take_time();
        progress.wait(2_000);
        progress.body_wanted();
        assert_eq!(
            at(&progress, &clock, 600_000),
            None,
            "not even an answer is overdue, which may wait for the body"
        );
        progress.body_served();
        progress.begin();
        progress.body_wanted();
        assert_eq!(at(&progress, &clock, 604_000), Some(Overdue::Body));
    }

    #[test]
    fn a_body_that_the_upstream_does_not_take_is_not_the_clients_fault() {
        let (progress, clock) = connection();
        progress.wait(u64::MAX);
        progress.body_wanted();
        progress.body_served();
        assert_eq!(at(&progress, &clock, 60_000), None);
    }

    #[test]
    fn a_client_that_does_not_read_ends_after_the_rate_window() {
        let (progress, clock) = connection();
        progress.enter(Phase::Answering);
        progress.write_blocked();
        assert_eq!(at(&progress, &clock, 0), None);
        assert_eq!(at(&progress, &clock, 9_999), None);
        assert_eq!(at(&progress, &clock, 10_000), Some(Overdue::Read));
    }

    #[test]
    fn half_a_frame_has_the_deadline_of_a_head_whatever_else_is_going_on() {
        let (progress, clock) = connection();
        progress.enter(Phase::Answering);
        progress.partial(true);
        assert_eq!(at(&progress, &clock, 2_000), None);
        progress.partial(true);
        assert_eq!(at(&progress, &clock, 3_000), Some(Overdue::Head), "more bytes of it move nothing");
        progress.partial(false);
        assert_eq!(at(&progress, &clock, 9_000), None);
    }

    #[test]
    fn who_has_closed_its_side_may_read_on_for_as_long_as_something_is_written() {
        let (progress, clock) = connection();
        progress.enter(Phase::Answering);
        progress.client_ended();
        assert_eq!(at(&progress, &clock, 5_999), None);
        progress.wrote(1);
        assert_eq!(at(&progress, &clock, 11_998), None);
        assert_eq!(at(&progress, &clock, 11_999), Some(Overdue::Read));
    }

    #[test]
    fn what_belongs_to_no_request_has_no_deadline_and_begins_anew() {
        let (progress, clock) = connection();
        progress.write_blocked();
        progress.overdue.set(Some(Overdue::Read));
        progress.renew();
        assert_eq!(progress.overdue(), None);
        progress.park();
        assert_eq!(at(&progress, &clock, 1_000_000), None);
    }

    #[test]
    fn an_answer_has_a_deadline() {
        let (progress, clock) = connection();
        progress.wait(2_000);
        assert_eq!(at(&progress, &clock, 1_999), None);
        assert_eq!(at(&progress, &clock, 2_000), Some(Overdue::Answer));
    }
}
