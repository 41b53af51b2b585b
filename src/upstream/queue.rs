//! Requests of one thread that wait for a connection to a target: who came first goes first.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Poll, Waker};

use super::UpstreamError;
use super::shared::SharedTarget;

/// Those who wait, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Queue(RefCell<VecDeque<Rc<Waiter>>>);

#[derive(Debug)]
struct Waiter {
    /// Something may be free.
    told: Cell<bool>,
    /// Nothing became free in time.
    late: Cell<bool>,
    /// On the thread's clock, in milliseconds.
    until_ms: u64,
    waker: RefCell<Option<Waker>>,
}

/// Where somebody joins the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Behind all others.
    Back,
    /// Before all others: they wait for what this one has already.
    Front,
}

/// A place in the queue, left when dropped.
pub(super) struct Ticket {
    queue: Rc<Queue>,
    target: Arc<SharedTarget>,
    waiter: Rc<Waiter>,
}

impl Waiter {
    fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }
}

impl Queue {
    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.0.borrow().len()
    }

    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// Tells who came first that something may be free.
    pub(super) fn tell_first(&self) {
        if let Some(first) = self.0.borrow().front() {
            first.told.set(true);
            first.wake();
        }
    }

    /// Has who came first look again, since another thread may have freed something, and ends the waiting of those whose
    /// time is over.
    pub(super) fn tick(&self, now_ms: u64) {
        self.tell_first();
        for waiter in self.0.borrow().iter().filter(|waiter| now_ms >= waiter.until_ms) {
            waiter.late.set(true);
            waiter.wake();
        }
    }

    /// Joins the queue, unless so many wait already for the target on all threads.
    pub(super) fn join(
        self: &Rc<Self>,
        end: End,
        target: &Arc<SharedTarget>,
        most: usize,
        until_ms: u64,
    ) -> Result<Ticket, UpstreamError> {
        let more = |waiting: usize| (waiting < most).then_some(waiting + 1);
        if target.wanted.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_err() {
            return Err(UpstreamError::QueueFull);
        }
        let waiter = Rc::new(Waiter {
            told: Cell::new(false),
            late: Cell::new(false),
            until_ms,
            waker: RefCell::new(None),
        });
        match end {
            End::Back => self.0.borrow_mut().push_back(Rc::clone(&waiter)),
            End::Front => self.0.borrow_mut().push_front(Rc::clone(&waiter)),
        }
        Ok(Ticket { queue: Rc::clone(self), target: Arc::clone(target), waiter })
    }
}

impl Ticket {
    /// Waits until it is its turn and something may be free.
    ///
    /// # Errors
    ///
    /// [`UpstreamError::QueueTimeout`]
    pub(super) async fn turn(&self) -> Result<(), UpstreamError> {
        poll_fn(|cx| {
            if self.waiter.told.take() {
                return Poll::Ready(Ok(()));
            }
            if self.waiter.late.get() {
                return Poll::Ready(Err(UpstreamError::QueueTimeout));
            }
            *self.waiter.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.queue.0.borrow_mut().retain(|waiter| !Rc::ptr_eq(waiter, &self.waiter));
        self.target.wanted.fetch_sub(1, Ordering::AcqRel);
        // There may be enough for the next one too, and who leaves untold may have been told.
        self.queue.tell_first();
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::Context;

    use super::*;
    use crate::upstream::pool::tests::pool;

    fn poll(ticket: &Ticket) -> Option<Result<(), UpstreamError>> {
        match pin!(ticket.turn()).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(outcome) => Some(outcome),
            Poll::Pending => None,
        }
    }

    #[test]
    fn who_came_first_goes_first() {
        let queue = Rc::new(Queue::default());
        let target = pool("http://127.0.0.1:1", "").shared_target();
        let tickets: Vec<_> = (0..3).map(|_| queue.join(End::Back, &target, 3, 100).unwrap()).collect();
        assert!(matches!(queue.join(End::Back, &target, 3, 100).err(), Some(UpstreamError::QueueFull)));
        queue.tell_first();
        queue.tell_first();
        assert!(poll(&tickets[1]).is_none());
        assert!(matches!(poll(&tickets[0]), Some(Ok(()))));
        assert!(poll(&tickets[0]).is_none(), "it looked, and nothing was free");
        let mut tickets = tickets.into_iter();
        drop(tickets.next());
        let second = tickets.next().unwrap();
        assert!(matches!(poll(&second), Some(Ok(()))), "the next one looks, too");
        drop(second);
        assert_eq!((queue.len(), target.wanted.load(Ordering::Acquire)), (1, 1));
    }

    #[test]
    fn who_has_already_what_others_wait_for_goes_before_them() {
        let queue = Rc::new(Queue::default());
        let target = pool("http://127.0.0.1:1", "").shared_target();
        let other = queue.join(End::Back, &target, 3, 100).unwrap();
        let admitted = queue.join(End::Front, &target, 3, 100).unwrap();
        queue.tell_first();
        assert!(poll(&other).is_none());
        assert!(matches!(poll(&admitted), Some(Ok(()))));
    }

    #[test]
    fn waiting_has_an_end() {
        let queue = Rc::new(Queue::default());
        let target = pool("http://127.0.0.1:1", "").shared_target();
        let (soon, later) = (
            queue.join(End::Back, &target, 9, 100).unwrap(),
            queue.join(End::Back, &target, 9, 200).unwrap(),
        );
        queue.tick(100);
        assert!(matches!(poll(&soon), Some(Ok(()))), "it looks a last time");
        assert!(matches!(poll(&soon), Some(Err(UpstreamError::QueueTimeout))));
        assert!(poll(&later).is_none());
        drop((soon, later));
        assert_eq!(target.wanted.load(Ordering::Acquire), 0);
    }
}
