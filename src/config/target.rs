//! Where an upstream's requests go, and how that is secured.

use std::fmt;
use std::path::PathBuf;

/// A target of an upstream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// `http://host:port`: HTTP/1.1.
    Http(Authority),
    /// `https://host:port`: over TLS, HTTP/2 or HTTP/1.1 as the target chooses (RFC 7301).
    Https(Authority),
    /// `h2c://host:port`: HTTP/2 with prior knowledge (RFC 9113 section 3.3).
    H2c(Authority),
    /// `unix:/path`: HTTP/1.1 over a socket of this machine.
    Unix(PathBuf),
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Authority {
    /// Host name or address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl Target {
    /// What its requests name as their authority: `host:port`, an IPv6 address in brackets; a socket has no name of its
    /// own and is `localhost`.
    pub fn authority(&self) -> String {
        match self {
            Self::Http(authority) | Self::Https(authority) | Self::H2c(authority) => authority.text(),
            Self::Unix(_) => "localhost".to_owned(),
        }
    }

    /// The host and the port, unless it is a socket of this machine.
    pub fn at(&self) -> Option<&Authority> {
        match self {
            Self::Http(authority) | Self::Https(authority) | Self::H2c(authority) => Some(authority),
            Self::Unix(_) => None,
        }
    }

    /// Whether it is reached over TLS.
    pub fn is_tls(&self) -> bool {
        match self {
            Self::Https(_) => true,
            Self::Http(_) | Self::H2c(_) | Self::Unix(_) => false,
        }
    }
}

impl fmt::Display for Target {
    /// As the file would write it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(authority) => write!(f, "http://{}", authority.text()),
            Self::Https(authority) => write!(f, "https://{}", authority.text()),
            Self::H2c(authority) => write!(f, "h2c://{}", authority.text()),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Authority {
    fn text(&self) -> String {
        let Self { host, port } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

/// `tls` of an upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamTls {
    /// The certificates that sign the target's, in PEM; without it those that the system trusts.
    pub ca: Option<PathBuf>,
    /// The name that the target's certificate must have, and that is asked for; without it the target's host.
    pub server_name: Option<String>,
    /// What the gateway shows to be known by.
    pub client: Option<ClientCertificate>,
}

/// A certificate of the gateway's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate and those between it and its authority, in PEM.
    pub cert: PathBuf,
    /// Its private key, in PEM.
    pub key: PathBuf,
}
