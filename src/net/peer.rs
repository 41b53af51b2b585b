//! Who is on the other side of a connection, and whether its forwarding headers are believed.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderName, HeaderValue};

use crate::base::field_list::FieldList;
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
        let trust = trust(address, trusted);
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

/// Whether an address is in one of the trusted networks. An IPv4 address inside IPv6 counts as IPv4.
pub fn trust(address: IpAddr, trusted: &[Network]) -> Trust {
    let address = address.to_canonical();
    if trusted.iter().any(|network| contains(network, address)) { Trust::Trusted } else { Trust::Untrusted }
}

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The client of a request: the peer, or, when that is a trusted proxy, the right-most address in `X-Forwarded-For` that
/// is none. What stands to the left of it was written by the client itself. Where every hop is trusted it is the first
/// one; what is no address ends the search, and the last proxy that was found counts.
pub fn client_of(peer: &Peer, headers: &FieldList, trusted: &[Network]) -> IpAddr {
    let mut client = peer.address();
    if peer.trust() == Trust::Untrusted {
        return client;
    }
    let lines = headers.get_all(X_FORWARDED_FOR).rev();
    for hop in lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b',')) {
        let Some(address) = hop_address(hop) else { return client };
        client = address;
        if !trusted.iter().any(|network| contains(network, address)) {
            return client;
        }
    }
    client
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1` or `[2001:db8::1]:80`.
fn hop_address(hop: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(hop).ok()?.trim_matches([' ', '\t']);
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().or_else(|_| text.parse().map(|socket: SocketAddr| socket.ip()));
    address.ok().map(|address| address.to_canonical())
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

    fn trust_in(network: &str, prefix_bits: u8, peer: &str) -> Trust {
        let network = Network { address: network.parse().unwrap(), prefix_bits };
        Peer::new(SocketAddr::new(peer.parse().unwrap(), 1), &[network]).trust()
    }

    #[test]
    fn a_network_holds_its_addresses_and_no_other() {
        assert_eq!(trust_in("10.0.0.0", 8, "10.255.0.1"), Trust::Trusted);
        assert_eq!(trust_in("10.0.0.0", 8, "11.0.0.1"), Trust::Untrusted);
        assert_eq!(trust_in("10.0.0.7", 32, "10.0.0.7"), Trust::Trusted);
        assert_eq!(trust_in("10.0.0.7", 32, "10.0.0.6"), Trust::Untrusted);
        assert_eq!(trust_in("0.0.0.0", 0, "203.0.113.9"), Trust::Trusted);
        assert_eq!(trust_in("0.0.0.0", 0, "2001:db8::1"), Trust::Untrusted);
        assert_eq!(trust_in("2001:db8::", 32, "2001:db8:1::1"), Trust::Trusted);
        assert_eq!(trust_in("10.0.0.0", 8, "::ffff:10.0.0.1"), Trust::Trusted);
        assert_eq!(Peer::new("127.0.0.1:1".parse().unwrap(), &[]).trust(), Trust::Untrusted);
    }

    fn client(peer: &str, lines: &[&str]) -> String {
        let trusted = ["10.0.0.0", "fd00::"]
            .map(|address| Network { address: address.parse().unwrap(), prefix_bits: 8 });
        let peer = Peer::new(SocketAddr::new(peer.parse().unwrap(), 1), &trusted);
        let mut headers = FieldList::new();
        for line in lines {
            headers.append(X_FORWARDED_FOR, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        client_of(&peer, &headers, &trusted).to_string()
    }

    #[test]
    fn the_client_is_the_right_most_hop_that_no_trusted_proxy_is() {
        assert_eq!(client("10.0.0.1", &["192.0.2.7"]), "192.0.2.7");
        assert_eq!(client("10.0.0.1", &["198.51.100.1, 192.0.2.7"]), "192.0.2.7");
        assert_eq!(client("10.0.0.1", &["198.51.100.1,192.0.2.7 , 10.0.0.9"]), "192.0.2.7");
        assert_eq!(client("10.0.0.1", &["198.51.100.1", "192.0.2.7", "10.0.0.9"]), "192.0.2.7");
        assert_eq!(client("10.0.0.1", &["10.0.0.3, 10.0.0.2"]), "10.0.0.3");
        for hop in ["192.0.2.7:4711", "::ffff:192.0.2.7", "[::ffff:192.0.2.7]:80"] {
            assert_eq!(client("10.0.0.1", &[hop]), "192.0.2.7", "{hop}");
        }
        for hop in ["2001:db8::1", "[2001:db8::1]", "[2001:db8::1]:80"] {
            assert_eq!(client("fd00::1", &[hop]), "2001:db8::1", "{hop}");
        }
    }

    #[test]
    fn an_untrusted_peer_is_the_client_whatever_it_says() {
        assert_eq!(client("192.0.2.1", &["192.0.2.7"]), "192.0.2.1");
        assert_eq!(client("192.0.2.1", &[]), "192.0.2.1");
    }

    #[test]
    fn what_is_no_address_ends_the_search() {
        for line in ["", "unknown", "1.2.3", "192.0.2.7, ", "192.0.2.7, _x", "192.0.2.7,\u{e9}"] {
            assert_eq!(client("10.0.0.1", &[line]), "10.0.0.1", "{line:?}");
        }
        assert_eq!(client("10.0.0.1", &["192.0.2.7, x, 10.0.0.2"]), "10.0.0.2");
    }
}
