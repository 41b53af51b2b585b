//! Upstreams: where permitted requests go, over connections that one thread owns.

mod affinity;
mod balance;
mod body;
mod budget;
mod connect;
mod course;
mod endpoints;
mod health;
mod http1;
mod http2;
mod interim;
mod io;
mod keeper;
mod look_up;
mod memory;
mod multiplex;
mod outcome;
mod outgoing;
mod pool;
mod queue;
mod readings;
mod replay;
mod send;
mod shared;
mod standing;
mod tls;
mod upgrade;

use std::fmt;

use crate::base::proxy_error::ProxyError;
use crate::base::reason::Reason;

pub use self::affinity::{Affinity, Sender};
pub use self::body::{AnswerError, UpstreamBody, UpstreamResponse};
pub use self::connect::ConnectError;
pub use self::http1::{Http1Error, Trial, TrialEnd, read_answer};
pub use self::interim::Interim;
pub use self::io::UpstreamIo;
pub use self::keeper::keep;
pub use self::memory::{Memory, MemoryTarget};
pub use self::readings::{TargetReading, UpstreamReading};
pub use self::send::{Limits, Upstream};
pub use self::shared::{SharedTarget, SharedUpstream};
pub use self::tls::TlsError;
pub use self::upgrade::UpgradeAnswer;

/// Why an upstream cannot be used at all.
#[derive(Debug)]
pub struct StartError {
    /// Its name.
    pub upstream: String,
    /// What is wrong with its certificates or names.
    pub cause: TlsError,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the upstream {:?} cannot be used: {}", self.upstream, self.cause)
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}

/// Why there is no answer of an upstream.
#[derive(Debug)]
pub enum UpstreamError {
    /// No connection could be made.
    Connect(ConnectError),
    /// No target may be given requests: the health checks of all of them fail.
    NoTarget,
    /// All connections are busy and as many requests as may are waiting already.
    QueueFull,
    /// No connection became free in time.
    QueueTimeout,
    /// The connection broke before the head of an answer, or the answer is no HTTP.
    Broken(Http1Error),
    /// The same of a stream of HTTP/2.
    BrokenStream(h2::Error),
    /// The answer is HTTP that must not be passed on.
    Unacceptable(&'static str),
}

impl UpstreamError {
    /// The stable reason.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Connect(ConnectError::TimedOut) => Reason::UpstreamTimeout,
            Self::Connect(ConnectError::Exhausted(_)) | Self::QueueFull | Self::QueueTimeout => {
                Reason::Overloaded
            }
            Self::NoTarget => Reason::UpstreamUnavailable,
            Self::Connect(
                ConnectError::Refused(_)
                | ConnectError::NotFound(_)
                | ConnectError::Tls(_)
                | ConnectError::Http2(_),
            )
            | Self::Broken(_)
            | Self::BrokenStream(_)
            | Self::Unacceptable(_) => Reason::UpstreamRefused,
        }
    }

    /// What happened, in the words of `Proxy-Status` (RFC 9209 section 2.3).
    pub fn proxy_error(&self) -> ProxyError {
        match self {
            Self::Connect(error) => error.proxy_error(),
            Self::NoTarget => ProxyError::DestinationUnavailable,
            Self::QueueFull | Self::QueueTimeout => ProxyError::ConnectionLimitReached,
            Self::Broken(Http1Error::Io(_) | Http1Error::Closed | Http1Error::Body(_))
            | Self::BrokenStream(_) => ProxyError::ConnectionTerminated,
            Self::Broken(Http1Error::Malformed(_)) | Self::Unacceptable(_) => ProxyError::HttpProtocolError,
        }
    }

    /// What happened, for the client: nothing of the upstream's address or the system's words.
    pub fn detail(&self) -> &'static str {
        match self {
            Self::Connect(ConnectError::TimedOut) => "The upstream did not accept a connection in time.",
            Self::Connect(
                ConnectError::Refused(_)
                | ConnectError::NotFound(_)
                | ConnectError::Tls(_)
                | ConnectError::Http2(_),
            ) => "The upstream cannot be reached.",
            Self::Connect(ConnectError::Exhausted(_)) => "The gateway has no connection left.",
            Self::NoTarget => "No target of the upstream is well.",
            Self::QueueFull | Self::QueueTimeout => "All connections to the upstream are busy.",
            Self::Broken(_) | Self::BrokenStream(_) => "The upstream broke off or did not answer in HTTP.",
            Self::Unacceptable(_) => "The upstream's answer cannot be passed on.",
        }
    }
}

impl fmt::Display for UpstreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => error.fmt(f),
            Self::NoTarget => f.write_str("the health checks of all targets fail"),
            Self::QueueFull => f.write_str("the queue for connections is full"),
            Self::QueueTimeout => f.write_str("no connection became free in time"),
            Self::Broken(error) => write!(f, "the connection broke: {error}"),
            Self::BrokenStream(error) => write!(f, "the stream broke: {error}"),
            Self::Unacceptable(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for UpstreamError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Connect(error) => Some(error),
            Self::Broken(error) => Some(error),
            Self::BrokenStream(error) => Some(error),
            Self::NoTarget | Self::QueueFull | Self::QueueTimeout | Self::Unacceptable(_) => None,
        }
    }
}
