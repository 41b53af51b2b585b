//! Connections to a target that is in this process.

use std::io;

use tokio::io::DuplexStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Bytes that one side of a connection may write ahead of the other.
const CONNECTION_BYTES: usize = 64 * 1024;

/// The way to a target in this process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Memory(UnboundedSender<DuplexStream>);

/// The target's end: what would be its listener.
#[derive(Debug)]
pub struct MemoryTarget(UnboundedReceiver<DuplexStream>);

impl Memory {
    /// A way, and the target that it leads to.
    pub fn new() -> (Self, MemoryTarget) {
        let (connections, accepted) = unbounded_channel();
        (Self(connections), MemoryTarget(accepted))
    }

    /// Opens a connection. It fails when the target is gone.
    pub(super) fn connect(&self) -> io::Result<DuplexStream> {
        let (near, far) = tokio::io::duplex(CONNECTION_BYTES);
        self.0.send(far).map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
        Ok(near)
    }
}

impl MemoryTarget {
    /// The next connection; `None` when nobody is left who could open one.
    pub async fn accept(&mut self) -> Option<DuplexStream> {
        self.0.recv().await
    }
}
