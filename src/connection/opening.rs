//! The beginning of a connection: who is on the other side, and which protocol is spoken.

use std::fmt;
use std::io;
use std::rc::Rc;

use bytes::BytesMut;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use crate::net::deadline::{Overdue, Progress, in_time};
use crate::net::frames::PREFACE;
use crate::net::peer::Peer;
use crate::net::transport::Transport;
use crate::worker::Worker;

/// Bytes that are read to find out which protocol is spoken. A first request mostly fits.
const FIRST_READ_BYTES: usize = 4096;

/// A connection of which is known what it speaks.
pub(super) struct Opened {
    pub(super) transport: Transport,
    pub(super) peer: Peer,
    /// `http` or `https`.
    pub(super) scheme: &'static str,
    pub(super) protocol: Protocol,
}

/// The version of HTTP that a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// HTTP/1.1, or what is no HTTP at all.
    Http1,
    /// HTTP/2.
    Http2,
}

/// Why a connection ended before it spoke.
#[derive(Debug)]
pub(super) enum Closed {
    /// It said nothing, or not enough, in time.
    Overdue(Overdue),
    /// It ended, or broke.
    Broken(io::Error),
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overdue(Overdue::Idle) => f.write_str("it said nothing in time"),
            Self::Overdue(_) => f.write_str("it did not say in time what it wants"),
            Self::Broken(error) => error.fmt(f),
        }
    }
}

/// Finds out what a new connection speaks. In the clear, HTTP/2 begins with its preface (RFC 9113 section 3.3), and
/// everything else is left to HTTP/1.1.
pub(super) async fn open(
    _worker: &Rc<Worker>,
    stream: TcpStream,
    peer: Peer,
    progress: &Rc<Progress>,
) -> Result<Opened, Closed> {
    let mut transport = Transport::tcp(stream);
    let mut read = BytesMut::new();
    let protocol = loop {
        match protocol_of(&read) {
            Some(protocol) => break protocol,
            None => read_more(&mut transport, &mut read, progress).await?,
        }
    };
    let transport = transport.with_read_ahead(read.freeze());
    Ok(Opened { transport, peer, scheme: "http", protocol })
}

/// What the first bytes speak; `None` as long as they may become either.
fn protocol_of(read: &[u8]) -> Option<Protocol> {
    if read.len() >= PREFACE.len() {
        return Some(if read.starts_with(PREFACE) { Protocol::Http2 } else { Protocol::Http1 });
    }
    (!PREFACE.starts_with(read)).then_some(Protocol::Http1)
}

/// Reads what there is, within the deadlines of a connection that says nothing and of a head.
async fn read_more(
    transport: &mut Transport,
    read: &mut BytesMut,
    progress: &Rc<Progress>,
) -> Result<(), Closed> {
    read.reserve(FIRST_READ_BYTES);
    let reading = in_time(progress, transport.read_buf(read)).await;
    match reading.map_err(Closed::Overdue)?.map_err(Closed::Broken)? {
        0 => Err(Closed::Broken(io::ErrorKind::UnexpectedEof.into())),
        bytes => {
            progress.read(bytes);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preface_decides_as_soon_as_it_can() {
        assert_eq!(protocol_of(b""), None);
        assert_eq!(protocol_of(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r"), None);
        assert_eq!(protocol_of(PREFACE), Some(Protocol::Http2));
        assert_eq!(protocol_of(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0"), Some(Protocol::Http2));
        for other in [&b"G"[..], b"PRI * HTTP/1", b"POST / HTTP/1.1\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\r"]
        {
            assert_eq!(protocol_of(other), Some(Protocol::Http1), "{other:?}");
        }
    }
}
