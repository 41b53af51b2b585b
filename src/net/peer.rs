//! Who is on the other side of a connection, and whether its forwarding headers are believed.

use std::net::{IpAddr, SocketAddr};

use http::HeaderValue;

use crate::config::Network;

/// The other side of a client connection.
#[derive(Debug)]
pub struct Peer {
    address: IpAddr,
    text: HeaderValue,
    trust: Trust,
}

/// Whether a peer's `X-Forwarded-*` headers are believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// It is in `server.trusted_proxies`.
    Trusted,
    /// It is not: what it says of others is dropped.
    Untrusted,
}

impl Peer {
    /// Looks the address up in the trusted networks. An IPv4 address inside IPv6 counts as IPv4.
    pub fn new(address: SocketAddr, trusted: &[Network]) -> Self {
        let address = address.ip().to_canonical();
        let trust = if trusted.iter().any(|network| contains(network, address)) {
            Trust::Trusted
        } else {
            Trust::Untrusted
        };
        let text = HeaderValue::from_str(&address.to_string()).unwrap_or(HeaderValue::from_static("unknown"));
        Self { address, text, trust }
    }

    /// The address, without port.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// The address as a header value.
    pub fn text(&self) -> &HeaderValue {
        &self.text
    }

    /// Whether its forwarding headers are believed.
    pub fn trust(&self) -> Trust {
        self.trust
    }
}

fn contains(network: &Network, address: IpAddr) -> bool {
    let bits = u32::from(network.prefix_bits);
    match (network.address.to_canonical(), address) {
        (IpAddr::V4(first), IpAddr::V4(address)) => {
            let shift = 32_u32.saturating_sub(bits);
            first.to_bits().checked_shr(shift).unwrap_or(0)
                == address.to_bits().checked_shr(shift).unwrap_or(0)
        }
        (IpAddr::V6(first), IpAddr::V6(address)) => {
            let shift = 128_u32.saturating_sub(bits);
            first.to_bits().checked_shr(shift).unwrap_or(0)
                == address.to_bits().checked_shr(shift).unwrap_or(0)
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trust(network: &str, prefix_bits: u8, peer: &str) -> Trust {
        let network = Network { address: network.parse().unwrap(), prefix_bits };
        Peer::new(SocketAddr::new(peer.parse().unwrap(), 1), &[network]).trust()
    }

    #[test]
    fn a_network_holds_its_addresses_and_no_other() {
        assert_eq!(trust("10.0.0.0", 8, "10.255.0.1"), Trust::Trusted);
        assert_eq!(trust("10.0.0.0", 8, "11.0.0.1"), Trust::Untrusted);
        assert_eq!(trust("10.0.0.7", 32, "10.0.0.7"), Trust::Trusted);
        assert_eq!(trust("10.0.0.7", 32, "10.0.0.6"), Trust::Untrusted);
        assert_eq!(trust("0.0.0.0", 0, "203.0.113.9"), Trust::Trusted);
        assert_eq!(trust("0.0.0.0", 0, "2001:db8::1"), Trust::Untrusted);
        assert_eq!(trust("2001:db8::", 32, "2001:db8:1::1"), Trust::Trusted);
        assert_eq!(trust("10.0.0.0", 8, "::ffff:10.0.0.1"), Trust::Trusted);
        assert_eq!(Peer::new("127.0.0.1:1".parse().unwrap(), &[]).trust(), Trust::Untrusted);
    }
}
