//! Addresses, networks, hosts and the targets of upstreams.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::complaint::{Complaint, nearest, quoted};
use super::{Authority, HostHeader, Network, Target};
use crate::base::pattern::HostPattern;

/// What a host and a port become.
type MakeTarget = fn(Authority) -> Target;

/// Longest path of a socket, in bytes: what the kernel takes, without the zero at its end.
const MAX_SOCKET_PATH_BYTES: usize = 107;

/// An address to listen on: an IP address or `localhost`, and a port.
pub(super) fn listen(text: &str) -> Result<SocketAddr, Complaint> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if text.starts_with("unix:") {
        return Err(
            Complaint::not_supported("unix:").hint("listen on a TCP address such as \"127.0.0.1:8080\"")
        );
    }
    let fault = Complaint::new(format!("{} is not an address with a port", quoted(text)));
    Err(match text.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>())) {
        Some(("localhost", Ok(port))) => return Ok(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)),
        Some(("" | "*", Ok(port))) => {
            fault.hint(format!("for all addresses write \"0.0.0.0:{port}\" or \"[::]:{port}\""))
        }
        Some((host, Ok(port))) if host.parse::<Ipv6Addr>().is_ok() => {
            fault.hint(format!("did you mean \"[{host}]:{port}\"?"))
        }
        Some((host, Err(_))) if host.parse::<IpAddr>().is_ok() || host == "localhost" => {
            fault.hint("a port is a number from 0 to 65535")
        }
        Some((host, Ok(_))) if as_host_name(host).is_some() => {
            fault.hint("listen on an IP address or on \"localhost\", not on a name")
        }
        _ if text.parse::<Ipv6Addr>().is_ok() => fault.hint(format!("add a port: \"[{text}]:8080\"")),
        _ if text.parse::<IpAddr>().is_ok() || text == "localhost" => {
            fault.hint(format!("add a port: \"{text}:8080\""))
        }
        _ if text.parse::<u16>().is_ok() => fault.hint(format!("did you mean \"127.0.0.1:{text}\"?")),
        Some(_) | None => fault.hint("write an IP address and a port: \"127.0.0.1:8080\" or \"[::1]:8080\""),
    })
}

/// A network in CIDR notation, or one address.
pub(super) fn network(text: &str) -> Result<Network, Complaint> {
    let form = "write an address or a network: \"10.0.0.7\", \"10.0.0.0/8\" or \"fd00::/8\"";
    let fault = || Complaint::new(format!("{} is not a network", quoted(text))).hint(form);
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| fault())?;
    let width: u8 = if address.is_ipv4() { 32 } else { 128 };
    let Some(bits) = bits else { return Ok(Network { address, prefix_bits: width }) };
    let plain = !bits.is_empty() && bits.len() <= 3 && bits.bytes().all(|byte| byte.is_ascii_digit());
    let prefix_bits = bits.parse::<u8>().ok().filter(|_| plain).ok_or_else(fault)?;
    if prefix_bits > width {
        return Err(Complaint::new(format!("{} has more than {width} bits", quoted(text))).hint(form));
    }
    let first = first_address(address, prefix_bits);
    if first != address {
        return Err(Complaint::new(format!("{} is not the first address of its network", quoted(text)))
            .hint(format!("did you mean \"{first}/{prefix_bits}\"? a single address has no \"/\"")));
    }
    Ok(Network { address, prefix_bits })
}

fn first_address(address: IpAddr, prefix_bits: u8) -> IpAddr {
    let prefix_bits = u32::from(prefix_bits);
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - prefix_bits.min(32)).unwrap_or(0);
            Ipv4Addr::from_bits(address.to_bits() & mask).into()
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - prefix_bits.min(128)).unwrap_or(0);
            Ipv6Addr::from_bits(address.to_bits() & mask).into()
        }
    }
}

/// A target of an upstream: `http://`, `https://` or `h2c://` with `host[:port]`, or `unix:/path`.
pub(super) fn target(text: &str) -> Result<Target, Complaint> {
    let fault = || Complaint::new(format!("{} is not a target", quoted(text)));
    if let Some(path) = text.strip_prefix("unix:") {
        return socket(path);
    }
    let form =
        "a target is \"http://host:port\", \"https://host:port\", \"h2c://host:port\" or \"unix:/path\"";
    let schemes: [(&str, MakeTarget, Option<u16>); 3] = [
        ("http://", Target::Http, Some(80)),
        ("https://", Target::Https, Some(443)),
        ("h2c://", Target::H2c, None),
    ];
    let found = schemes
        .into_iter()
        .find_map(|(scheme, make, port)| text.strip_prefix(scheme).map(|rest| (scheme, rest, make, port)));
    let Some((scheme, rest, make, default_port)) = found else {
        let looks_sound = !text.contains("://") && authority(text).is_some();
        let correction = format!("did you mean \"http://{text}\"?");
        return Err(fault().hint(if looks_sound { correction } else { form.to_owned() }));
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains('@') {
        return Err(Complaint::new("a target has no user and no password")
            .hint("the gateway sends the upstream no credentials of its own"));
    }
    if let Some(end) = rest.find(['/', '?', '#']) {
        let host = rest.get(..end).unwrap_or_default();
        return Err(Complaint::new(format!("{} has a path or a query", quoted(text))).hint(format!(
            "write \"{scheme}{host}\"; the path that a client sends is the path that the upstream gets"
        )));
    }
    let (host, port) = authority(rest).ok_or_else(|| fault().hint(form))?;
    match port.or(default_port) {
        Some(0) => Err(Complaint::new("a target cannot have port 0").hint(form)),
        Some(port) => Ok(make(Authority { host, port })),
        None => Err(Complaint::new(format!("{} has no port", quoted(text)))
            .hint(format!("there is no usual one: write \"{scheme}{rest}:PORT\""))),
    }
}

/// The path of a socket.
fn socket(path: &str) -> Result<Target, Complaint> {
    let fault = |what: &str| {
        Complaint::new(format!("{} is not a target", quoted(&format!("unix:{path}")))).hint(what)
    };
    if !path.starts_with('/') || path.starts_with("//") {
        return Err(fault("write the whole path of the socket, such as \"unix:/run/app.sock\""));
    }
    if path.ends_with('/') {
        return Err(fault("that is a directory; name the socket in it"));
    }
    if path.len() > MAX_SOCKET_PATH_BYTES || path.contains('\0') {
        return Err(fault("the path of a socket has at most 107 bytes, and no zero byte"));
    }
    Ok(Target::Unix(path.into()))
}

/// A host name or address that a certificate may be made out to, in lower case and without brackets.
pub(super) fn server_name(text: &str) -> Result<String, Complaint> {
    let fault = || Complaint::new(format!("{} is not a host name", quoted(text)));
    match authority(text) {
        Some((host, None)) => Ok(host),
        Some((host, Some(_))) => {
            Err(fault().hint(format!("a certificate has no port: did you mean \"{host}\"?")))
        }
        None => Err(fault().hint("write the name in the target's certificate, such as \"billing.internal\"")),
    }
}

/// `preserve`, `target`, or a host with or without a port.
pub(super) fn host_header(text: &str) -> Result<HostHeader, Complaint> {
    match text {
        "preserve" => return Ok(HostHeader::Preserve),
        "target" => return Ok(HostHeader::Target),
        _ => {}
    }
    // A word without a dot may be a host, but more probably is a misspelt choice.
    if let Some(word) = nearest(text, ["preserve", "target"]) {
        return Err(Complaint::new(format!("unknown value {}", quoted(text)))
            .hint(format!("did you mean \"{word}\"? other values are sent as the host name")));
    }
    let form = "write \"preserve\", \"target\" or a host name such as \"api.internal\"";
    let fault = || Complaint::new(format!("{} is not a host name", quoted(text))).hint(form);
    let (host, port) = authority(text).ok_or_else(fault)?;
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    Ok(HostHeader::Fixed(match port {
        Some(port) => format!("{host}:{port}"),
        None => host,
    }))
}

/// A host in lower case and without brackets, and its port.
fn authority(text: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
            (host, Some(port.parse::<u16>().ok().filter(|_| digits)?))
        }
        Some(_) | None => (text, None),
    };
    let host = as_host_name(host)?;
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    Some((bare.unwrap_or(&host).to_owned(), port))
}

/// A host name or address in lower case; IPv6 in brackets. A name that ends in a number must be an IPv4 address.
pub(super) fn as_host_name(text: &str) -> Option<String> {
    let HostPattern::Exact(host) = HostPattern::parse(text).ok()? else { return None };
    let numeric =
        host.rsplit('.').next().is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit()));
    (!numeric || host.parse::<Ipv4Addr>().is_ok()).then(|| host.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint<T: std::fmt::Debug>(result: Result<T, Complaint>) -> String {
        result.unwrap_err().hint.unwrap()
    }

    #[test]
    fn listeners_are_addresses_with_ports() {
        for (text, expected) in [
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            ("localhost:0", "127.0.0.1:0"),
            ("[::]:443", "[::]:443"),
            ("0.0.0.0:65535", "0.0.0.0:65535"),
        ] {
            assert_eq!(listen(text).unwrap().to_string(), expected);
        }
        for text in [
            "",
            ":",
            "a",
            "a:b",
            "127.0.0.1:65536",
            "127.0.0.1:-1",
            "http://127.0.0.1:80",
            "256.0.0.1:80",
            "[::1]",
        ] {
            assert!(listen(text).is_err(), "{text}");
        }
        assert_eq!(
            listen("unix:/run/x.sock").unwrap_err().message,
            "\"unix:\" is not supported in this version"
        );
    }

    #[test]
    fn a_listener_that_is_nearly_right_is_put_right() {
        assert_eq!(hint(listen(":8080")), "for all addresses write \"0.0.0.0:8080\" or \"[::]:8080\"");
        assert_eq!(hint(listen("::1:8080")), "did you mean \"[::1]:8080\"?");
        assert_eq!(hint(listen("127.0.0.1")), "add a port: \"127.0.0.1:8080\"");
        assert_eq!(
            hint(listen("[::1]:x")),
            "write an IP address and a port: \"127.0.0.1:8080\" or \"[::1]:8080\""
        );
        assert_eq!(hint(listen("fd00::")), "add a port: \"[fd00::]:8080\"");
        assert_eq!(hint(listen("8080")), "did you mean \"127.0.0.1:8080\"?");
        assert_eq!(hint(listen("127.0.0.1:70000")), "a port is a number from 0 to 65535");
        assert_eq!(
            hint(listen("example.com:80")),
            "listen on an IP address or on \"localhost\", not on a name"
        );
    }

    #[test]
    fn networks_are_in_cidr_notation() {
        for (text, address, prefix_bits) in [
            ("10.0.0.0/8", "10.0.0.0", 8),
            ("10.0.0.7", "10.0.0.7", 32),
            ("0.0.0.0/0", "0.0.0.0", 0),
            ("::/0", "::", 0),
            ("fd00::/8", "fd00::", 8),
            ("::1", "::1", 128),
            ("::1/128", "::1", 128),
        ] {
            assert_eq!(
                network(text),
                Ok(Network { address: address.parse().unwrap(), prefix_bits }),
                "{text}"
            );
        }
        for text in [
            "",
            "/8",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "::/129",
            "10/8",
            "a/8",
            "10.0.0.0/8/8",
            "10.0.0.0/256",
        ] {
            assert!(network(text).is_err(), "{text}");
        }
        assert_eq!(hint(network("10.1.2.3/8")), "did you mean \"10.0.0.0/8\"? a single address has no \"/\"");
    }

    #[test]
    fn targets_are_origins_or_sockets() {
        let at = |host: &str, port| Authority { host: host.to_owned(), port };
        for (text, expected) in [
            ("http://10.0.0.5:9000", Target::Http(at("10.0.0.5", 9000))),
            ("http://Backend/", Target::Http(at("backend", 80))),
            ("http://[::1]:9000", Target::Http(at("::1", 9000))),
            ("http://[::1]", Target::Http(at("::1", 80))),
            ("http://a_b-c.example.com:1", Target::Http(at("a_b-c.example.com", 1))),
            ("https://Api.example.com", Target::Https(at("api.example.com", 443))),
            ("https://10.0.0.5:8443/", Target::Https(at("10.0.0.5", 8443))),
            ("h2c://[::1]:50051", Target::H2c(at("::1", 50051))),
            ("unix:/run/app.sock", Target::Unix("/run/app.sock".into())),
        ] {
            assert_eq!(target(text), Ok(expected), "{text}");
        }
        for text in [
            "",
            "http://",
            "http:///",
            "http://:80",
            "http://a:0",
            "http://a:65536",
            "http://a:+1",
            "http://a:",
            "http://a/x",
            "http://a?x",
            "http://a//",
            "http://a#",
            "http://u@a",
            "http://u:p@a",
            "http://a b",
            "http://*.a",
            "http://::1",
            "http://::1:80",
            "http://10.0.0.256",
            "http://1.2.3",
            "HTTP://a",
            "ftp://a",
            "https://a:0",
            "https://u@a",
            "h2c://a",
            "h2c://a:0",
            "h2c://a:1/x",
            "unix:",
            "unix:app.sock",
            "unix://run/app.sock",
            "unix:/run/",
            "unix:/a\0",
        ] {
            assert!(target(text).is_err(), "{text}");
        }
        assert!(target(&format!("unix:/{}", "a".repeat(107))).is_err());
        assert_eq!(hint(target("backend:9000")), "did you mean \"http://backend:9000\"?");
        assert_eq!(hint(target("h2c://backend")), "there is no usual one: write \"h2c://backend:PORT\"");
        assert!(!format!("{:?}", target("http://u:hunter2@a")).contains("hunter2"));
    }

    #[test]
    fn a_target_is_named_by_its_authority() {
        for (text, authority) in [
            ("http://a", "a:80"),
            ("https://[::1]", "[::1]:443"),
            ("h2c://a:1", "a:1"),
            ("unix:/a", "localhost"),
        ] {
            assert_eq!(target(text).unwrap().authority(), authority);
        }
    }

    #[test]
    fn a_server_name_is_a_host_without_a_port() {
        assert_eq!(server_name("Billing.internal"), Ok("billing.internal".to_owned()));
        assert_eq!(server_name("[::1]"), Ok("::1".to_owned()));
        assert_eq!(hint(server_name("a:443")), "a certificate has no port: did you mean \"a\"?");
        for text in ["", "*.a", "a b", "https://a", "1.2.3"] {
            assert!(server_name(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_host_header_is_a_word_or_a_host() {
        assert_eq!(host_header("preserve"), Ok(HostHeader::Preserve));
        assert_eq!(host_header("target"), Ok(HostHeader::Target));
        assert_eq!(host_header("API.internal:8080"), Ok(HostHeader::Fixed("api.internal:8080".into())));
        assert_eq!(host_header("[::1]:80"), Ok(HostHeader::Fixed("[::1]:80".into())));
        assert_eq!(
            hint(host_header("preserv")),
            "did you mean \"preserve\"? other values are sent as the host name"
        );
        for text in ["", "a b", "*.a.b", "http://a.b", "a\r\nX: y"] {
            assert!(host_header(text).is_err(), "{text}");
        }
    }
}
