//! Bodies that need not be copied.

use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Body;

use crate::net::splice::Pipe;

/// A body whose bytes may go from the socket that they come from to the client's without being copied into this process.
pub trait SplicedBody: Body<Data = Bytes> + Unpin {
    /// Moves what comes next of the body into an empty pipe. Nothing of a body that is made here.
    fn poll_splice(&mut self, _: &mut Context<'_>, _: &mut Pipe) -> Poll<Spliced> {
        Poll::Ready(Spliced::Frame)
    }
}

/// What comes next of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spliced {
    /// So many bytes that are in the pipe now.
    Bytes(usize),
    /// A frame: it was read already, or does not come from a socket in the clear, or is the end.
    Frame,
}
