//! HTTP/1.1 towards clients, without a task and without a channel: whoever serves a request reads its body from the
//! connection itself, and whoever answers writes to it.
//!
//! Nothing is kept for a connection on which nothing happens: what is read goes through memory of the thread, and what is
//! written too.

mod answer;
mod body;
mod head;
mod outbox;
mod sending;
mod wire;

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::rc::Rc;

pub use self::answer::{Answered, answer, switch};
pub use self::body::{Http1Body, Http1ReadError};
pub use self::head::{Asked, HeadLimits, Unread};
pub use self::outbox::Interim;
pub use self::wire::{Arrival, SharedWire, Wire};
use crate::net::splice::Pipes;

/// What the connections of one thread use in turn, while they read and while they write: memory, and pipes.
#[derive(Clone, Debug, Default)]
pub struct Scratch(Rc<ScratchMemory>);

#[derive(Debug, Default)]
struct ScratchMemory {
    read: RefCell<Vec<u8>>,
    written: RefCell<Vec<u8>>,
    pipes: Pipes,
}
