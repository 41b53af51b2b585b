//! The PROXY protocol: a trusted proxy that passes bytes on says first whose they are (HAProxy, proxy-protocol.txt).

use std::net::SocketAddr;

use ppp::{HeaderResult, PartialResult as _, v1, v2};

/// Longest line of version 1, with its end.
const MAX_V1_BYTES: usize = 107;

/// How a line of version 1 begins.
const V1_PREFIX: &[u8] = b"PROXY ";

/// Longest header of version 2 that is read. Its addresses take 36 bytes at most, the rest are extensions.
const MAX_V2_BYTES: usize = 4096;

/// What the beginning of a connection says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Introduction {
    /// Nothing: what has come is the client's.
    None,
    /// More has to come before it can be told.
    Incomplete,
    /// A header of so many bytes.
    Header {
        /// How long it is.
        bytes: usize,
        /// The client; `None` when the proxy speaks for itself (a health check) or does not know.
        client: Option<SocketAddr>,
    },
    /// What begins like a header and is none.
    Malformed,
}

/// Reads the first bytes of a connection from a trusted proxy. A header is optional, because not everything that a proxy
/// connects for begins with one, and nothing else begins like one.
pub fn read(bytes: &[u8]) -> Introduction {
    let (most, is_whole) = if begins_alike(bytes, V1_PREFIX) {
        (MAX_V1_BYTES, memchr::memmem::find(bytes, b"\r\n").is_some())
    } else if begins_alike(bytes, v2::PROTOCOL_PREFIX) {
        (MAX_V2_BYTES, !HeaderResult::parse(bytes).is_incomplete())
    } else {
        return Introduction::None;
    };
    if !is_whole {
        return if bytes.len() < most { Introduction::Incomplete } else { Introduction::Malformed };
    }
    let parsed = HeaderResult::parse(bytes);
    let (length, client) = match &parsed {
        // The parser takes a carriage return and whatever follows it for the end of the line.
        HeaderResult::V1(Ok(header)) if header.header.ends_with("\r\n") => {
            (header.header.len(), client_of_v1(header))
        }
        HeaderResult::V2(Ok(header)) => (header.len(), client_of_v2(header)),
        HeaderResult::V1(_) | HeaderResult::V2(Err(_)) => return Introduction::Malformed,
    };
    if length > most { Introduction::Malformed } else { Introduction::Header { bytes: length, client } }
}

/// Whether the shorter one of two is the beginning of the other.
fn begins_alike(bytes: &[u8], prefix: &[u8]) -> bool {
    bytes.iter().zip(prefix).all(|(one, other)| one == other)
}

fn client_of_v1(header: &v1::Header<'_>) -> Option<SocketAddr> {
    match header.addresses {
        v1::Addresses::Tcp4(addresses) => {
            Some(SocketAddr::new(addresses.source_address.into(), addresses.source_port))
        }
        v1::Addresses::Tcp6(addresses) => {
            Some(SocketAddr::new(addresses.source_address.into(), addresses.source_port))
        }
        v1::Addresses::Unknown => None,
    }
}

fn client_of_v2(header: &v2::Header<'_>) -> Option<SocketAddr> {
    if header.command == v2::Command::Local {
        return None;
    }
    match header.addresses {
        v2::Addresses::IPv4(addresses) => {
            Some(SocketAddr::new(addresses.source_address.into(), addresses.source_port))
        }
        v2::Addresses::IPv6(addresses) => {
            Some(SocketAddr::new(addresses.source_address.into(), addresses.source_port))
        }
        v2::Addresses::Unspecified | v2::Addresses::Unix(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(bytes: &[u8]) -> (usize, Option<String>) {
        let Introduction::Header { bytes, client } = read(bytes) else { panic!("{bytes:?} is a header") };
        (bytes, client.map(|client| client.to_string()))
    }

    /// A header of version 2 with this command and family, and these addresses.
    fn v2(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let length = u16::try_from(addresses.len()).unwrap().to_be_bytes();
        [v2::PROTOCOL_PREFIX, &[command, family], &length, addresses].concat()
    }

    const TCP4: [u8; 12] = [192, 0, 2, 7, 127, 0, 0, 1, 0x12, 0x67, 0, 80];

    #[test]
    fn a_header_names_the_client() {
        let line = b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 80\r\nGET / HTTP/1.1\r\n";
        assert_eq!(header(line), (40, Some("192.0.2.7:4711".to_owned())));
        let line = b"PROXY TCP6 2001:db8::1 ::1 4711 80\r\n";
        assert_eq!(header(line), (line.len(), Some("[2001:db8::1]:4711".to_owned())));
        let mut bytes = v2(0x21, 0x11, &TCP4);
        assert_eq!(header(&bytes), (28, Some("192.0.2.7:4711".to_owned())));
        bytes.extend_from_slice(b"GET");
        assert_eq!(header(&bytes).0, 28);
    }

    #[test]
    fn a_proxy_may_speak_for_itself() {
        assert_eq!(header(b"PROXY UNKNOWN\r\n"), (15, None));
        assert_eq!(header(&v2(0x20, 0x00, &[])), (16, None));
        assert_eq!(header(&v2(0x20, 0x11, &TCP4)), (28, None), "a health check");
    }

    #[test]
    fn half_a_header_is_waited_for_but_not_for_ever() {
        let line = b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 80\r\n";
        let bytes = v2(0x21, 0x11, &TCP4);
        for whole in [&line[..], &bytes] {
            for end in 0..whole.len() {
                assert_eq!(read(&whole[..end]), Introduction::Incomplete, "{end}");
            }
        }
        let endless = [&b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 "[..], &[b'8'; 100]].concat();
        assert_eq!(read(&endless), Introduction::Malformed);
        assert_eq!(read(&v2(0x21, 0x11, &[0; 8000])), Introduction::Malformed);
    }

    #[test]
    fn what_is_no_header_is_told_apart() {
        for other in
            [&b"GET / HTTP/1.1\r\n"[..], b"PRI * HTTP/2.0\r\n", b"\x16\x03\x01", b"\r\nGET", b"PROXYX"]
        {
            assert_eq!(read(other), Introduction::None, "{other:?}");
        }
        for bad in [
            &b"PROXY TCP4 192.0.2.700 127.0.0.1 4711 80\r\n"[..],
            b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 80 x\r\n",
            b"PROXY UDP4 192.0.2.7 127.0.0.1 4711 80\r\n",
            b"PROXY UNKNOWN\rGET / HTTP/1.1\r\n",
            &v2(0x31, 0x11, &TCP4),
            &v2(0x21, 0x11, &TCP4[..4]),
        ] {
            assert_eq!(read(bad), Introduction::Malformed, "{bad:?}");
        }
    }
}
