//! What went wrong between the gateway and an upstream, in the words of `Proxy-Status` (RFC 9209 section 2.3).

/// A proxy error type. Its word is registered, so others can read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyError {
    /// The target's name cannot be resolved (section 2.3.2).
    DnsError,
    /// No target may be used at the moment (section 2.3.4).
    DestinationUnavailable,
    /// The target refused the connection, or cannot be reached (section 2.3.7).
    ConnectionRefused,
    /// The connection ended before the answer was whole (section 2.3.8).
    ConnectionTerminated,
    /// No connection was made in time (section 2.3.9).
    ConnectionTimeout,
    /// There are as many connections as there may be (section 2.3.12).
    ConnectionLimitReached,
    /// The handshake of TLS failed (section 2.3.13).
    TlsProtocolError,
    /// The target's certificate does not pass (section 2.3.14).
    TlsCertificateError,
    /// The answer did not begin in time (section 2.3.26).
    HttpResponseTimeout,
    /// The target did not switch protocols as it was asked to (section 2.3.27).
    HttpUpgradeFailed,
    /// What the target sent is no HTTP, or none that may be passed on (section 2.3.28).
    HttpProtocolError,
    /// No target was asked (section 2.3.29).
    ProxyInternalResponse,
    /// The gateway itself could not go on (section 2.3.30).
    ProxyInternalError,
}

impl ProxyError {
    /// Every type.
    pub const ALL: [Self; 13] = [
        Self::DnsError,
        Self::DestinationUnavailable,
        Self::ConnectionRefused,
        Self::ConnectionTerminated,
        Self::ConnectionTimeout,
        Self::ConnectionLimitReached,
        Self::TlsProtocolError,
        Self::TlsCertificateError,
        Self::HttpResponseTimeout,
        Self::HttpUpgradeFailed,
        Self::HttpProtocolError,
        Self::ProxyInternalResponse,
        Self::ProxyInternalError,
    ];

    /// The registered word.
    pub fn word(self) -> &'static str {
        match self {
            Self::DnsError => "dns_error",
            Self::DestinationUnavailable => "destination_unavailable",
            Self::ConnectionRefused => "connection_refused",
            Self::ConnectionTerminated => "connection_terminated",
            Self::ConnectionTimeout => "connection_timeout",
            Self::ConnectionLimitReached => "connection_limit_reached",
            Self::TlsProtocolError => "tls_protocol_error",
            Self::TlsCertificateError => "tls_certificate_error",
            Self::HttpResponseTimeout => "http_response_timeout",
            Self::HttpUpgradeFailed => "http_upgrade_failed",
            Self::HttpProtocolError => "http_protocol_error",
            Self::ProxyInternalResponse => "proxy_internal_response",
            Self::ProxyInternalError => "proxy_internal_error",
        }
    }

    /// The whole value of the field. It names the gateway and the error, and nothing of the target.
    pub fn field_value(self) -> &'static str {
        match self {
            Self::DnsError => "tollgate; error=dns_error",
            Self::DestinationUnavailable => "tollgate; error=destination_unavailable",
            Self::ConnectionRefused => "tollgate; error=connection_refused",
            Self::ConnectionTerminated => "tollgate; error=connection_terminated",
            Self::ConnectionTimeout => "tollgate; error=connection_timeout",
            Self::ConnectionLimitReached => "tollgate; error=connection_limit_reached",
            Self::TlsProtocolError => "tollgate; error=tls_protocol_error",
            Self::TlsCertificateError => "tollgate; error=tls_certificate_error",
            Self::HttpResponseTimeout => "tollgate; error=http_response_timeout",
            Self::HttpUpgradeFailed => "tollgate; error=http_upgrade_failed",
            Self::HttpProtocolError => "tollgate; error=http_protocol_error",
            Self::ProxyInternalResponse => "tollgate; error=proxy_internal_response",
            Self::ProxyInternalError => "tollgate; error=proxy_internal_error",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_says_the_word_and_no_more() {
        for error in ProxyError::ALL {
            assert_eq!(error.field_value(), format!("tollgate; error={}", error.word()));
        }
    }
}
