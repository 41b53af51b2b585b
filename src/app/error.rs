//! Why a gateway does not start.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use crate::keys::KeyError;
use crate::net::listener::BindError;
use crate::net::tls::TlsError;
use crate::proof::ProofError;
use crate::snapshot::AssemblyError;
use crate::store::StoreError;
use crate::upstream;
use crate::users::UsersOpenError;

/// Why the gateway could not start.
#[derive(Debug)]
pub enum StartError {
    /// An address could not be bound.
    Bind(BindError),
    /// The service manager has passed a socket for an address that the configuration does not name.
    Inherited(SocketAddr),
    /// The store could not be opened.
    Store(StoreError),
    /// The users could not be read.
    Users(UsersOpenError),
    /// A key could not be loaded or made.
    Keys(KeyError),
    /// A certificate could not be loaded.
    Tls(TlsError),
    /// The certificates of an upstream cannot be used.
    Upstream(upstream::StartError),
    /// The identity firewall has not proved itself.
    Identity(ProofError),
    /// The system refused a thread or a runtime.
    System(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind(error) => error.fmt(f),
            Self::Inherited(address) => write!(
                f,
                "the service manager passes a socket for {address}, which is none of server.listen, server.http_redirect and server.admin"
            ),
            Self::Store(error) => error.fmt(f),
            Self::Users(error) => error.fmt(f),
            Self::Keys(error) => error.fmt(f),
            Self::Tls(error) => error.fmt(f),
            Self::Upstream(error) => error.fmt(f),
            Self::Identity(error) => error.fmt(f),
            Self::System(error) => write!(f, "the system refused a thread: {error}"),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Inherited(_) => None,
            Self::Bind(error) => Some(error),
            Self::Store(error) => Some(error),
            Self::Users(error) => Some(error),
            Self::Keys(error) => Some(error),
            Self::Tls(error) => Some(error),
            Self::Upstream(error) => Some(error),
            Self::Identity(error) => Some(error),
            Self::System(error) => Some(error),
        }
    }
}

impl From<AssemblyError> for StartError {
    fn from(error: AssemblyError) -> Self {
        match error {
            AssemblyError::Store(error) => Self::Store(error),
            AssemblyError::Users(error) => Self::Users(error),
            AssemblyError::Keys(error) => Self::Keys(error),
        }
    }
}
