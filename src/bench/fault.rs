//! Why a request got no answer.

use std::fmt;

/// Why a request got no whole answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// No connection was made.
    Connect,
    /// The TLS handshake failed.
    Tls,
    /// The answer was not there in time.
    Timeout,
    /// The connection was closed or reset before the answer was whole.
    Closed,
    /// What came is no answer of HTTP.
    Protocol,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Connect, Self::Tls, Self::Timeout, Self::Closed, Self::Protocol];

    /// One word, for programs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::Protocol => "protocol",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "no connection",
            Self::Tls => "TLS handshake failed",
            Self::Timeout => "no answer in time",
            Self::Closed => "closed before the answer was whole",
            Self::Protocol => "no answer of HTTP",
        })
    }
}

/// A [`Fault`] with what the system or a library said of it.
#[derive(Debug)]
pub struct Failed {
    /// Which kind.
    pub fault: Fault,
    /// In the words of whoever noticed.
    pub detail: String,
    /// Whether nothing of the request was sent, because the connection had been closed before.
    pub is_unsent: bool,
}

impl Failed {
    /// With what was said.
    pub fn new(fault: Fault, detail: &dyn fmt::Display) -> Self {
        Self { fault, detail: detail.to_string(), is_unsent: false }
    }

    /// The time was up.
    pub fn timeout() -> Self {
        Self::new(Fault::Timeout, &Fault::Timeout)
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.detail == self.fault.to_string() {
            return self.fault.fmt(f);
        }
        write!(f, "{}: {}", self.fault, self.detail)
    }
}
