//! New connections to a target.

use std::fmt;
use std::future::{Future as _, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::{TcpStream, UnixStream};

use super::health::{Health, Metered};
use super::io::Wire;
use super::look_up::LookUps;
use super::shared::{Reach, SharedTarget};
use super::tls::{ALPN_HTTP2, Offer};
use crate::base::bounds;
use crate::base::proxy_error::ProxyError;
use crate::config::{Authority, Target};
use crate::net::deadline::TickClock;

/// Most bytes of an answer that are read ahead of the client, per stream of HTTP/2.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;

/// As much as all streams of a connection together: the streams' windows alone limit what lies in memory. With less,
/// a few clients that do not read would hold up everybody else's answers on the same connection.
const CONNECTION_WINDOW_BYTES: u32 = 1 << 30;

/// Most bytes of a request's body that wait to be written, per stream of HTTP/2.
const SEND_BUFFER_BYTES: usize = 64 * 1024;

/// Why no connection could be made.
#[derive(Debug)]
pub enum ConnectError {
    /// `connect_timeout` has passed.
    TimedOut,
    /// The target's name could not be resolved.
    NotFound(io::Error),
    /// The target refused, or cannot be reached.
    Refused(io::Error),
    /// There is no TLS with the target, or its certificate does not pass.
    Tls(io::Error),
    /// The target does not speak HTTP/2.
    Http2(h2::Error),
    /// The gateway itself has no descriptor or port left.
    Exhausted(io::Error),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut => f.write_str("no connection within connect_timeout"),
            Self::NotFound(error) => write!(f, "the target's name cannot be resolved: {error}"),
            Self::Refused(error) => write!(f, "cannot connect to the target: {error}"),
            Self::Tls(error) => write!(f, "no TLS with the target: {error}"),
            Self::Http2(error) => write!(f, "no HTTP/2 with the target: {error}"),
            Self::Exhausted(error) => write!(f, "the gateway has no descriptor or port left: {error}"),
        }
    }
}

impl ConnectError {
    /// The registered word (RFC 9209 section 2.3).
    pub fn proxy_error(&self) -> ProxyError {
        match self {
            Self::TimedOut => ProxyError::ConnectionTimeout,
            Self::NotFound(_) => ProxyError::DnsError,
            Self::Refused(_) => ProxyError::ConnectionRefused,
            Self::Tls(error) if is_about_certificate(error) => ProxyError::TlsCertificateError,
            Self::Tls(_) => ProxyError::TlsProtocolError,
            Self::Http2(_) => ProxyError::HttpProtocolError,
            Self::Exhausted(_) => ProxyError::ProxyInternalError,
        }
    }
}

fn is_about_certificate(error: &io::Error) -> bool {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    matches!(cause, Some(rustls::Error::InvalidCertificate(_)))
}

impl std::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::TimedOut => None,
            Self::NotFound(error) | Self::Refused(error) | Self::Tls(error) | Self::Exhausted(error) => {
                Some(error)
            }
            Self::Http2(error) => Some(error),
        }
    }
}

/// A connection of HTTP/2 whose other side has said how many streams it takes.
pub(super) struct Http2 {
    pub(super) sender: h2::client::SendRequest<Bytes>,
    pub(super) connection: h2::client::Connection<Metered, Bytes>,
    pub(super) health: Rc<Health>,
}

/// A new connection.
pub(super) enum Connection {
    Http1(Wire),
    Http2(Box<Http2>),
}

/// Connects to a target, with TLS where it has any, in the protocol that it speaks.
pub(super) async fn connect(
    target: &SharedTarget,
    look_ups: &LookUps,
    within: Duration,
    clock: &Rc<TickClock>,
) -> Result<Connection, ConnectError> {
    let opening = async {
        let wire = open(target, look_ups, Offer::Both).await?;
        if speaks_http2(&target.target, &wire) {
            return http2(wire, clock).await.map(|http2| Connection::Http2(Box::new(http2)));
        }
        Ok(Connection::Http1(wire))
    };
    tokio::time::timeout(within, opening).await.unwrap_or(Err(ConnectError::TimedOut))
}

/// Connects to a target in HTTP/1.1, which one of `h2c://` does not speak.
pub(super) async fn connect_http1(
    target: &SharedTarget,
    look_ups: &LookUps,
    within: Duration,
) -> Result<Wire, ConnectError> {
    let opening = open(target, look_ups, Offer::Http1);
    tokio::time::timeout(within, opening).await.unwrap_or(Err(ConnectError::TimedOut))
}

pub(super) fn speaks_http2(target: &Target, wire: &Wire) -> bool {
    match (target, wire) {
        (Target::H2c(_), _) => true,
        (_, Wire::Tls(stream)) => stream.get_ref().1.alpn_protocol() == Some(ALPN_HTTP2),
        (_, Wire::Tcp(_) | Wire::Unix(_) | Wire::Memory(_)) => false,
    }
}

async fn http2(wire: Wire, clock: &Rc<TickClock>) -> Result<Http2, ConnectError> {
    let health = Rc::new(Health::new(Rc::clone(clock)));
    let mut builder = h2::client::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(bounds::MAX_ANSWER_HEADER_BYTES)
        .max_send_buffer_size(SEND_BUFFER_BYTES)
        .enable_push(false)
        // Clients that leave while an answer comes make the library reset streams late, which is no fault of the target.
        .max_local_error_reset_streams(None)
        // None before the other side has said how many it takes.
        .initial_max_send_streams(0);
    let wire = Metered::new(wire, Rc::clone(&health));
    let (sender, mut connection) = builder.handshake(wire).await.map_err(ConnectError::Http2)?;
    poll_fn(|cx| match Pin::new(&mut connection).poll(cx) {
        Poll::Ready(Err(error)) => Poll::Ready(Err(ConnectError::Http2(error))),
        Poll::Ready(Ok(())) => Poll::Ready(Err(ConnectError::Refused(io::ErrorKind::UnexpectedEof.into()))),
        Poll::Pending if sender.current_max_send_streams() > 0 => Poll::Ready(Ok(())),
        Poll::Pending => Poll::Pending,
    })
    .await?;
    Ok(Http2 { sender, connection, health })
}

async fn open(target: &SharedTarget, look_ups: &LookUps, offer: Offer) -> Result<Wire, ConnectError> {
    if let (Reach::Named, Some(Authority { host, port })) = (&target.reach, target.target.at()) {
        let addresses = look_ups.addresses(host, *port).await.map_err(ConnectError::NotFound)?;
        return secured(target, open_tcp(&addresses).await?, offer).await;
    }
    open_known(target, offer).await
}

/// Opens a connection to a target whose addresses are known.
pub(super) async fn open_known(target: &SharedTarget, offer: Offer) -> Result<Wire, ConnectError> {
    match (&target.reach, &target.target) {
        (Reach::Memory(memory), _) => memory.connect().map(Wire::Memory).map_err(ConnectError::Refused),
        (Reach::At(addresses), _) => secured(target, open_tcp(addresses).await?, offer).await,
        (_, Target::Unix(path)) => UnixStream::connect(path).await.map(Wire::Unix).map_err(failed),
        (Reach::Named | Reach::Socket, _) => {
            Err(ConnectError::NotFound(io::Error::from(io::ErrorKind::NotFound)))
        }
    }
}

/// With TLS, where the target has any.
async fn secured(target: &SharedTarget, stream: TcpStream, offer: Offer) -> Result<Wire, ConnectError> {
    stream.set_nodelay(true).map_err(ConnectError::Refused)?;
    let Some(tls) = &target.tls else { return Ok(Wire::Tcp(stream)) };
    let stream = tls.connector(offer).connect(tls.name(), stream).await.map_err(ConnectError::Tls)?;
    Ok(Wire::Tls(Box::new(stream)))
}

/// Every address is tried in turn.
async fn open_tcp(addresses: &[SocketAddr]) -> Result<TcpStream, ConnectError> {
    let mut last = ConnectError::NotFound(io::Error::from(io::ErrorKind::NotFound));
    for address in addresses {
        match TcpStream::connect(*address).await {
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
