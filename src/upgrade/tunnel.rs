//! The tunnel between a client and an upstream after a WebSocket was opened: bytes both ways, until both sides have ended
//! or the gateway has to end it, which it does as RFC 6455 section 7 asks.

use std::cell::Cell;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};

use super::frames::LengthMalformed;
use super::one_way::{Fault, OneWay};
use crate::base::bounds;
use crate::base::ids;

/// The first byte of a close frame: a whole message, opcode 8 (RFC 6455 section 5.5.1).
const CLOSE: u8 = 0x88;

/// The bit that says that a frame is masked, as all frames of a client are (RFC 6455 section 5.3).
const MASKED: u8 = 0x80;

/// One side of a tunnel.
#[derive(Debug)]
pub struct Socket<S> {
    stream: S,
    read: Bytes,
}

impl<S> Socket<S> {
    /// A stream, and the bytes behind the head of the opening that were read from it already.
    pub fn new(stream: S, read: Bytes) -> Self {
        Self { stream, read }
    }
}

/// Bytes that were written to each side. It is the caller's, so that a tunnel that is dropped is counted too.
#[derive(Debug, Default)]
pub struct Traffic {
    to_client: Cell<u64>,
    to_upstream: Cell<u64>,
}

impl Traffic {
    /// Bytes that the client's stream took.
    pub fn to_client(&self) -> u64 {
        self.to_client.get()
    }

    /// Bytes that the upstream's stream took.
    pub fn to_upstream(&self) -> u64 {
        self.to_upstream.get()
    }
}

/// Why the gateway ends a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The token's time is over.
    TokenExpired,
    /// The session was revoked, or its user may no longer.
    Revoked,
    /// The gateway stops.
    GoingAway,
    /// The client does not read, or nothing moves: nobody is there to be told.
    Overdue,
}

impl Ending {
    /// The code and the reason of the close frame (RFC 6455 section 7.4.1), when there is one.
    pub fn close(self) -> Option<(u16, &'static str)> {
        match self {
            Self::TokenExpired => Some((1008, "token expired")),
            Self::Revoked => Some((1008, "token revoked")),
            Self::GoingAway => Some((1001, "going away")),
            Self::Overdue => None,
        }
    }
}

/// A side of a tunnel, as the one that something happened to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    /// Who opened the WebSocket.
    Client,
    /// Where it goes.
    Upstream,
}

/// How a tunnel ended.
#[derive(Debug)]
pub enum Ended {
    /// Both sides have ended what they send.
    Finished,
    /// The connection of one side broke.
    Broke(Party, io::Error),
    /// One side sent what is no frame.
    Malformed(Party, LengthMalformed),
    /// The gateway ended it.
    Closed(Ending),
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished => f.write_str("both sides ended"),
            Self::Broke(Party::Client, error) => write!(f, "the client's connection broke: {error}"),
            Self::Broke(Party::Upstream, error) => write!(f, "the upstream's connection broke: {error}"),
            Self::Malformed(Party::Client, fault) => write!(f, "from the client: {fault}"),
            Self::Malformed(Party::Upstream, fault) => write!(f, "from the upstream: {fault}"),
            Self::Closed(Ending::TokenExpired) => f.write_str("the token expired"),
            Self::Closed(Ending::Revoked) => f.write_str("the token was revoked"),
            Self::Closed(Ending::GoingAway) => f.write_str("the gateway stops"),
            Self::Closed(Ending::Overdue) => f.write_str("nothing moved"),
        }
    }
}

/// Runs a tunnel to its end. The streams are dropped with it.
///
/// When one side ends what it sends, the other is told and may go on. When `ending` is ready, the gateway ends the tunnel:
/// after the frame that is under way in each direction comes a close frame, and after at most
/// [`bounds::CLOSE_FRAME_WAIT_MS`] the streams are dropped, whoever has not answered. `ending` is polled whenever the tunnel
/// is, so it should cost little.
pub async fn run<C, U, E>(client: Socket<C>, upstream: Socket<U>, traffic: &Traffic, ending: E) -> Ended
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
    E: Future<Output = Ending>,
{
    run_and_wait(client, upstream, traffic, ending, Duration::from_millis(bounds::CLOSE_FRAME_WAIT_MS)).await
}

async fn run_and_wait<C, U, E>(
    client: Socket<C>,
    upstream: Socket<U>,
    traffic: &Traffic,
    ending: E,
    wait: Duration,
) -> Ended
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
    E: Future<Output = Ending>,
{
    let mut tunnel = Tunnel {
        to_upstream: OneWay::new(&client.read, &traffic.to_upstream),
        to_client: OneWay::new(&upstream.read, &traffic.to_client),
        client: client.stream,
        upstream: upstream.stream,
    };
    let ended = {
        let mut ending = pin!(ending);
        poll_fn(|cx| match ending.as_mut().poll(cx) {
            Poll::Ready(ending) => Poll::Ready(Ended::Closed(ending)),
            Poll::Pending => tunnel.poll_copy(cx),
        })
        .await
    };
    if let Ended::Closed(ending) = &ended
        && let Some((code, reason)) = ending.close()
    {
        tunnel.leave(code, reason);
        // Who takes longer finds the connection gone.
        let _outcome = tokio::time::timeout(wait, poll_fn(|cx| tunnel.poll_leave(cx))).await;
    }
    ended
}

struct Tunnel<'a, C, U> {
    client: C,
    upstream: U,
    to_client: OneWay<'a>,
    to_upstream: OneWay<'a>,
}

impl<C, U> Tunnel<'_, C, U>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    fn poll_copy(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        let down = self.to_client.poll_copy(cx, &mut self.upstream, &mut self.client);
        if let Poll::Ready(Err(fault)) = down {
            return Poll::Ready(ended_by(fault, Party::Upstream, Party::Client));
        }
        let up = self.to_upstream.poll_copy(cx, &mut self.client, &mut self.upstream);
        if let Poll::Ready(Err(fault)) = up {
            return Poll::Ready(ended_by(fault, Party::Client, Party::Upstream));
        }
        if down.is_ready() && up.is_ready() { Poll::Ready(Ended::Finished) } else { Poll::Pending }
    }

    fn leave(&mut self, code: u16, reason: &str) {
        self.to_client.leave(close_frame(code, reason, None));
        // Without randomness the upstream only sees the end of the connection.
        let masked = ids::random_bytes().map(|key| close_frame(code, reason, Some(key)));
        self.to_upstream.leave(masked.unwrap_or_default());
    }

    fn poll_leave(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let down = self.to_client.poll_leave(cx, &mut self.upstream, &mut self.client);
        let up = self.to_upstream.poll_leave(cx, &mut self.client, &mut self.upstream);
        if down.is_ready() && up.is_ready() { Poll::Ready(()) } else { Poll::Pending }
    }
}

fn ended_by(fault: Fault, source: Party, sink: Party) -> Ended {
    match fault {
        Fault::Source(error) => Ended::Broke(source, error),
        Fault::Sink(error) => Ended::Broke(sink, error),
        Fault::Malformed(fault) => Ended::Malformed(source, fault),
    }
}

/// A close frame, masked with the key when there is one. The reasons of [`Ending::close`] fit a control frame, which has
/// at most 125 bytes (RFC 6455 section 5.5).
fn close_frame(code: u16, reason: &str, key: Option<[u8; 4]>) -> Bytes {
    let body = code.to_be_bytes().into_iter().chain(reason.bytes());
    let length = u8::try_from(2 + reason.len()).unwrap_or_default();
    let mut frame = BytesMut::new();
    frame.put_u8(CLOSE);
    match key {
        None => {
            frame.put_u8(length);
            frame.extend(body);
        }
        Some(key) => {
            frame.put_u8(MASKED | length);
            frame.put_slice(&key);
            frame.extend(body.zip(key.into_iter().cycle()).map(|(byte, key)| byte ^ key));
        }
    }
    frame.freeze()
}

#[cfg(test)]
mod tests;
