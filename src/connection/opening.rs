//! The beginning of a connection: who is on the other side, and which protocol is spoken.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;

use bytes::{Buf as _, BytesMut};
use tokio::io::AsyncReadExt as _;

use super::Purpose;
use crate::net::crowd::{Crowded, Place};
use crate::net::deadline::{Overdue, Phase, Progress, in_time};
use crate::net::frames::PREFACE;
use crate::net::peer::{Peer, Trust};
use crate::net::proxy_protocol::{self, Introduction};
use crate::net::tls::{HandshakeError, Handshaken, Protocol, Session, TlsServer};
use crate::net::transport::Transport;
use crate::worker::Worker;

/// Bytes that are read to find out which protocol is spoken. A first request mostly fits.
const FIRST_READ_BYTES: usize = 4096;

/// A connection of which is known what it speaks.
pub(super) struct Opened {
    pub(super) transport: Transport,
    pub(super) peer: Peer,
    /// What the handshake has settled, where there was one.
    pub(super) tls: Option<Session>,
    pub(super) protocol: Protocol,
    /// Where a trusted proxy has introduced the client: its place among the connections of its network.
    pub(super) place: Option<Place>,
}

/// Why a connection ended before it spoke.
#[derive(Debug)]
pub(super) enum Closed {
    /// It said nothing, or not enough, in time.
    Overdue(Overdue),
    /// It ended, or broke.
    Broken(io::Error),
    /// A trusted proxy began what is no header of the PROXY protocol.
    IntroductionMalformed,
    /// A trusted proxy has introduced a client whose network has too many connections already.
    Crowded,
    /// No TLS came about.
    Handshake(HandshakeError),
}

impl Closed {
    /// Writes it to the log. What clients do all the time is worth a line only to who looks for it.
    pub(super) fn log(&self, address: SocketAddr) {
        let client = address.ip();
        match self {
            // They are counted, and told of together.
            Self::Crowded => {}
            Self::Handshake(HandshakeError::Closed | HandshakeError::Io) | Self::Broken(_) => {
                tracing::debug!(%client, reason = %self, "a connection ended before its first request");
            }
            Self::Handshake(_) | Self::IntroductionMalformed | Self::Overdue(_) => {
                tracing::info!(%client, reason = %self, "a connection was closed before its first request");
            }
        }
    }
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overdue(Overdue::Idle) => f.write_str("it said nothing in time"),
            Self::Overdue(_) => f.write_str("it did not say in time what it wants"),
            Self::Broken(error) => error.fmt(f),
            Self::IntroductionMalformed => f.write_str("the header of the PROXY protocol is malformed"),
            Self::Crowded => f.write_str("its network has too many connections"),
            Self::Handshake(error) => write!(f, "no TLS: {error}"),
        }
    }
}

/// Finds out who is on the other side of a new connection, and what it speaks. With TLS that is settled by the handshake
/// (RFC 7301); in the clear, HTTP/2 begins with its preface (RFC 9113 section 3.3), and everything else is left to
/// HTTP/1.1.
pub(super) async fn open(
    worker: &Worker,
    transport: Transport,
    address: SocketAddr,
    purpose: Purpose,
    progress: &Rc<Progress>,
) -> Result<Opened, Closed> {
    let mut beginning = Beginning { transport, read: BytesMut::new(), progress };
    let generation = worker.generation();
    let trusted = &generation.server.trusted_proxies;
    let mut peer = Peer::new(address, trusted);
    let mut place = None;
    if peer.trust() == Trust::Trusted
        && let Some(client) = beginning.introduction().await?
    {
        peer = Peer::new(client, trusted);
        place = place_for(worker, &peer)?;
    }
    let opened = match (purpose, &generation.tls) {
        (Purpose::Serve, Some(tls)) => beginning.handshake(tls, peer).await,
        (Purpose::Serve, None) | (Purpose::Redirect, _) => beginning.in_the_clear(peer).await,
    };
    opened.map(|opened| Opened { place, ..opened })
}

/// A place among the connections of the network of a client that was introduced. Another trusted proxy needs none.
fn place_for(worker: &Worker, peer: &Peer) -> Result<Option<Place>, Closed> {
    match peer.trust() {
        Trust::Trusted => Ok(None),
        Trust::Untrusted => worker.crowd.enter(peer.address()).map_err(|Crowded| {
            worker.turned_away.note(peer.address());
            Closed::Crowded
        }),
    }
}

/// A connection of which little is known.
struct Beginning<'a> {
    transport: Transport,
    /// What was read and belongs to nobody yet.
    read: BytesMut,
    progress: &'a Rc<Progress>,
}

impl Beginning<'_> {
    /// What a trusted proxy says of its client.
    async fn introduction(&mut self) -> Result<Option<SocketAddr>, Closed> {
        loop {
            match proxy_protocol::read(&self.read) {
                Introduction::None => return Ok(None),
                Introduction::Incomplete => self.read_more().await?,
                Introduction::Malformed => return Err(Closed::IntroductionMalformed),
                Introduction::Header { bytes, client } => {
                    self.read.advance(bytes);
                    return Ok(client);
                }
            }
        }
    }

    async fn handshake(self, tls: &TlsServer, peer: Peer) -> Result<Opened, Closed> {
        let Self { transport, read, progress } = self;
        // From its first byte to its last it may take as long as a head.
        progress.enter(Phase::Head);
        let handshake = in_time(progress, pin!(tls.accept(transport.with_read_ahead(read.freeze())))).await;
        let Handshaken { stream, protocol, session } =
            handshake.map_err(Closed::Overdue)?.map_err(Closed::Handshake)?;
        progress.enter(Phase::Idle);
        Ok(Opened { transport: Transport::tls(stream), peer, tls: Some(session), protocol, place: None })
    }

    async fn in_the_clear(mut self, peer: Peer) -> Result<Opened, Closed> {
        let protocol = loop {
            match protocol_of(&self.read) {
                Some(protocol) => break protocol,
                None => self.read_more().await?,
            }
        };
        let transport = self.transport.with_read_ahead(self.read.freeze());
        Ok(Opened { transport, peer, tls: None, protocol, place: None })
    }

    /// Reads what there is, within the deadlines of a connection that says nothing and of a head.
    async fn read_more(&mut self) -> Result<(), Closed> {
        self.read.reserve(FIRST_READ_BYTES);
        let reading = in_time(self.progress, pin!(self.transport.read_buf(&mut self.read))).await;
        match reading.map_err(Closed::Overdue)?.map_err(Closed::Broken)? {
            0 => Err(Closed::Broken(io::ErrorKind::UnexpectedEof.into())),
            bytes => {
                self.progress.read(bytes);
                Ok(())
            }
        }
    }
}

/// What the first bytes speak; `None` as long as they may become either.
fn protocol_of(read: &[u8]) -> Option<Protocol> {
    if read.len() >= PREFACE.len() {
        return Some(if read.starts_with(PREFACE) { Protocol::Http2 } else { Protocol::Http1 });
    }
    (!PREFACE.starts_with(read)).then_some(Protocol::Http1)
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
