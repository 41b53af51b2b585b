//! What a connection's handshake has settled for all of its requests.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::certificate::Certificate;
use super::client::ClientCertificate;
use crate::config::TlsVersion;

/// What requests need to know of the handshake of their connection.
#[derive(Debug)]
pub struct Session {
    pub(super) asked: Asked,
    pub(super) certificate: Arc<Certificate>,
    pub(super) client: Option<ClientCertificate>,
    pub(super) version: TlsVersion,
    pub(super) resumed: bool,
}

/// The host that a client asked for in its first message (RFC 6066 section 3): in lower case, without a dot at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// It asked for none.
    Nothing,
    /// Some certificate is for this host.
    Known(Box<str>),
    /// No certificate is for this host, so that the first one was shown.
    Unknown(Box<str>),
}

impl Session {
    /// The host that the client asked for: in lower case, without a dot at the end.
    pub fn sni(&self) -> Option<&str> {
        match &self.asked {
            Asked::Nothing => None,
            Asked::Known(name) | Asked::Unknown(name) => Some(name),
        }
    }

    /// The certificate that was shown to the client.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The client's own certificate, when it showed one; it has passed.
    pub fn client(&self) -> Option<&ClientCertificate> {
        self.client.as_ref()
    }

    /// The version that is spoken.
    pub fn version(&self) -> TlsVersion {
        self.version
    }

    /// Whether an earlier session went on, so that no certificate was shown.
    pub fn is_resumed(&self) -> bool {
        self.resumed
    }

    /// Whether a request for this host may come over this connection; if not, it is misdirected (421, RFC 9110 section
    /// 15.5.20). The host is in lower case, without port and without a dot at the end, IPv6 in brackets.
    ///
    /// A connection whose client asked for one host must not carry requests for another, to which another policy may
    /// apply; but one that the same certificate is for is as good, which is how clients of HTTP/2 share connections.
    pub fn serves(&self, host: &str, routes_name_hosts: bool) -> bool {
        match &self.asked {
            Asked::Known(name) => **name == *host || self.certificate.covers(host),
            Asked::Unknown(name) => !routes_name_hosts && **name == *host,
            Asked::Nothing => !routes_name_hosts || is_address(host) || self.certificate.covers(host),
        }
    }
}

fn is_address(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    match bare {
        Some(bare) => bare.parse::<Ipv6Addr>().is_ok(),
        None => host.parse::<Ipv4Addr>().is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::CertificateHost;

    fn session(asked: Asked) -> Session {
        let hosts = ["a.test", "*.wild.test", "192.0.2.1", "2001:db8::1"];
        let hosts = hosts.map(|host| CertificateHost::parse(host).unwrap()).to_vec();
        let certificate = Certificate {
            hosts,
            names: Vec::new(),
            subject: String::new(),
            not_before: 0,
            not_after: 0,
            path: "c.pem".into(),
            exposed_key: None,
        };
        let version = TlsVersion::Tls13;
        Session { asked, certificate: Arc::new(certificate), client: None, version, resumed: false }
    }

    #[test]
    fn a_request_is_served_where_its_host_has_a_right_to_be() {
        let known = || Asked::Known("a.test".into());
        let unknown = || Asked::Unknown("b.test".into());
        // Whom the client asked for, the host, and whether it is served: without routes that name hosts, and with.
        for (asked, host, free, named) in [
            (known(), "a.test", true, true),
            (known(), "x.wild.test", true, true),
            (known(), "192.0.2.1", true, true),
            (known(), "[2001:db8::1]", true, true),
            (known(), "b.test", false, false),
            (known(), "x.y.wild.test", false, false),
            (known(), "192.0.2.2", false, false),
            (unknown(), "b.test", true, false),
            (unknown(), "a.test", false, false),
            (unknown(), "192.0.2.1", false, false),
            (Asked::Nothing, "a.test", true, true),
            (Asked::Nothing, "b.test", true, false),
            (Asked::Nothing, "192.0.2.1", true, true),
            (Asked::Nothing, "203.0.113.9", true, true),
            (Asked::Nothing, "[::1]", true, true),
            (Asked::Nothing, "[x]", true, false),
        ] {
            let session = session(asked);
            assert_eq!(session.serves(host, false), free, "{:?} {host}", session.asked);
            assert_eq!(session.serves(host, true), named, "{:?} {host}, named", session.asked);
        }
    }

    #[test]
    fn what_was_asked_for_is_told() {
        assert_eq!(session(Asked::Unknown("b.test".into())).sni(), Some("b.test"));
        assert_eq!(session(Asked::Known("a.test".into())).sni(), Some("a.test"));
        assert_eq!(session(Asked::Nothing).sni(), None);
    }
}
