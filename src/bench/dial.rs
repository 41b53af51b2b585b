//! Connections to one endpoint.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::endpoint::Endpoint;
use super::exchange::{Http1, Http2};
use super::fault::{Failed, Fault};
use super::stream::{Received, Stream, Transport};
use super::trust::{Trust, TrustError};

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, in the clear with prior knowledge.
    Http2,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http1 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
        })
    }
}

/// Makes connections to one endpoint; may be used by all threads.
#[derive(Clone)]
pub struct Dialer {
    endpoint: Arc<Endpoint>,
    addresses: Arc<[SocketAddr]>,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    protocol: Protocol,
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// Why nothing can be sent to an endpoint.
#[derive(Debug)]
pub enum DialerError {
    /// Its host is not known.
    Host(String, std::io::Error),
    /// No certificate can have the name of its host.
    Name(String),
    /// TLS cannot be used.
    Tls(TrustError),
}

impl fmt::Display for DialerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(host, error) => write!(f, "the host {host} has no address: {error}"),
            Self::Name(host) => write!(f, "no certificate can have the name {host:?}"),
            Self::Tls(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for DialerError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Host(_, error) => Some(error),
            Self::Name(_) => None,
            Self::Tls(error) => Some(error),
        }
    }
}

impl Dialer {
    /// Looks the host up and reads authorities. Blocks.
    ///
    /// # Errors
    ///
    /// A [`DialerError`].
    pub fn new(endpoint: &Endpoint, trust: &Trust, protocol: Protocol) -> Result<Self, DialerError> {
        let host = endpoint.host().to_owned();
        let addresses = endpoint.resolve().map_err(|error| DialerError::Host(host.clone(), error))?;
        let alpn: &[u8] = match protocol {
            Protocol::Http1 => b"http/1.1",
            Protocol::Http2 => b"h2",
        };
        let tls = if endpoint.is_secure() {
            let settings = trust.settings(alpn).map_err(DialerError::Tls)?;
            let name = ServerName::try_from(host.clone()).map_err(|_| DialerError::Name(host))?;
            Some((TlsConnector::from(settings), name))
        } else {
            None
        };
        Ok(Self { endpoint: Arc::new(endpoint.clone()), addresses: addresses.into(), tls, protocol })
    }

    /// Where it leads to.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// What is spoken there.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Whether the other side is on this machine.
    pub fn is_local(&self) -> bool {
        self.addresses.iter().all(|address| address.ip().is_loopback())
    }

    /// A connection of HTTP/1.1.
    ///
    /// # Errors
    ///
    /// [`Fault::Connect`], [`Fault::Tls`] or [`Fault::Protocol`].
    pub async fn http1(&self, received: &Received) -> Result<Http1, Failed> {
        Http1::begin(self.stream(received).await?).await
    }

    /// A connection of HTTP/2, driven by a task of its own.
    ///
    /// # Errors
    ///
    /// As [`Dialer::http1`].
    pub async fn http2(&self, received: &Received) -> Result<Http2, Failed> {
        Http2::begin(self.stream(received).await?).await
    }

    /// Whether a connection can be made; it is closed again.
    ///
    /// # Errors
    ///
    /// As [`Dialer::http1`].
    pub async fn can_connect(&self, received: &Received) -> Result<(), Failed> {
        match self.protocol {
            Protocol::Http1 => self.http1(received).await.map(drop),
            Protocol::Http2 => self.http2(received).await.map(drop),
        }
    }

    async fn stream(&self, received: &Received) -> Result<Stream, Failed> {
        let connected = TcpStream::connect(&*self.addresses).await;
        let tcp = connected.map_err(|error| Failed::new(Fault::Connect, &error))?;
        tcp.set_nodelay(true).map_err(|error| Failed::new(Fault::Connect, &error))?;
        let Some((connector, name)) = &self.tls else {
            return Ok(Stream::new(Transport::Plain(tcp), received.clone()));
        };
        let shaken = connector.connect(name.clone(), tcp).await;
        let tls = shaken.map_err(|error| Failed::new(Fault::Tls, &error))?;
        if self.protocol == Protocol::Http2 && tls.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(Failed::new(Fault::Tls, &"the server does not offer HTTP/2"));
        }
        Ok(Stream::new(Transport::Tls(Box::new(tls)), received.clone()))
    }
}
