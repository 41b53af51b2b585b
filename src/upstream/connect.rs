//! New connections to a target.

use std::fmt;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::config::Target;
use crate::http::body::RequestBody;

/// Most bytes of an answer that are read ahead of the client, per connection.
const READ_BUFFER_BYTES: usize = 64 * 1024;

/// Most header fields in an answer.
const MAX_ANSWER_HEADERS: usize = 100;

/// Why no connection could be made.
#[derive(Debug)]
pub enum ConnectError {
    /// `connect_timeout` has passed.
    TimedOut,
    /// The target's name could not be resolved.
    NotFound(io::Error),
    /// The target refused, or cannot be reached.
    Refused(io::Error),
    /// The gateway itself has no descriptor or port left.
    Exhausted(io::Error),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut => f.write_str("no connection within connect_timeout"),
            Self::NotFound(error) => write!(f, "the target's name cannot be resolved: {error}"),
            Self::Refused(error) => write!(f, "cannot connect to the target: {error}"),
            Self::Exhausted(error) => write!(f, "the gateway has no descriptor or port left: {error}"),
        }
    }
}

impl std::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::TimedOut => None,
            Self::NotFound(error) | Self::Refused(error) | Self::Exhausted(error) => Some(error),
        }
    }
}

/// A new connection: the half that sends requests, and the half that has to be driven.
pub(super) type Connection =
    (http1::SendRequest<RequestBody>, http1::Connection<TokioIo<PlainWrites>, RequestBody>);

/// Connects to a target; every address of its name is tried in turn.
pub(super) async fn connect(target: &Target, within: Duration) -> Result<Connection, ConnectError> {
    let stream = match tokio::time::timeout(within, open(target)).await {
        Ok(opened) => opened?,
        Err(_) => return Err(ConnectError::TimedOut),
    };
    stream.set_nodelay(true).map_err(ConnectError::Refused)?;
    http1::Builder::new()
        .max_buf_size(READ_BUFFER_BYTES)
        .max_headers(MAX_ANSWER_HEADERS)
        .handshake(TokioIo::new(PlainWrites(stream)))
        .await
        .map_err(|error| ConnectError::Refused(io::Error::other(error)))
}

/// A connection on which a single piece is written by a plain system call: a vectored one of one piece costs more.
pub(super) struct PlainWrites(TcpStream);

impl AsyncRead for PlainWrites {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for PlainWrites {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match slices {
            [only] => Pin::new(&mut self.0).poll_write(cx, only),
            several => Pin::new(&mut self.0).poll_write_vectored(cx, several),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

async fn open(target: &Target) -> Result<TcpStream, ConnectError> {
    if let Ok(address) = target.host.parse::<IpAddr>() {
        return TcpStream::connect(SocketAddr::new(address, target.port)).await.map_err(failed);
    }
    let addresses =
        tokio::net::lookup_host((target.host.as_str(), target.port)).await.map_err(ConnectError::NotFound)?;
    let mut last = ConnectError::NotFound(io::Error::from(io::ErrorKind::NotFound));
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = failed(error),
        }
    }
    Err(last)
}

fn failed(error: io::Error) -> ConnectError {
    // EMFILE, ENFILE and EADDRNOTAVAIL: nothing the target has done.
    match error.raw_os_error() {
        Some(23 | 24 | 99) => ConnectError::Exhausted(error),
        Some(_) | None => ConnectError::Refused(error),
    }
}
