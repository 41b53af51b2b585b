//! Everything of one thread that has deadlines.

use std::cell::RefCell;
use std::rc::{Rc, Weak};

use super::deadline::{Phase, Progress};
use crate::config::Limits;

/// The connections of one thread, and the streams of those that carry several.
#[derive(Debug, Default)]
pub struct Watchlist {
    connections: RefCell<Vec<Weak<Progress>>>,
}

impl Watchlist {
    /// Puts a connection under watch until it is dropped.
    pub fn add(&self, progress: &Rc<Progress>) {
        self.connections.borrow_mut().push(Rc::downgrade(progress));
    }

    /// Looks at every connection once.
    pub fn check(&self, limits: &Limits) {
        self.connections.borrow_mut().retain(|weak| match weak.upgrade() {
            Some(progress) => {
                progress.check(limits);
                true
            }
            None => false,
        });
    }

    /// Whether a request of any connection waits for its answer.
    pub fn is_waiting(&self) -> bool {
        let connections = self.connections.borrow();
        let mut phases = connections.iter().filter_map(Weak::upgrade).map(|progress| progress.phase());
        phases.any(|phase| matches!(phase, Phase::Waiting { .. }))
    }

    /// Wakes every connection, so that each sees that the gateway is stopping.
    pub fn wake_all(&self) {
        for progress in self.connections.borrow().iter().filter_map(Weak::upgrade) {
            progress.wake();
        }
    }
}
