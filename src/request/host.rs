//! The one host that a request is for (RFC 9110 section 7.2, RFC 9112 section 3.2).

use bytes::Bytes;
use http::uri::Authority;
use http::{HeaderValue, Uri, Version, header};

use super::IntakeError;
use crate::base::bounds;
use crate::base::field_list::FieldList;
use crate::base::field_value::FieldValue;

/// A checked host with an optional port: lower case, without a dot at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    value: HeaderValue,
    name_length: usize,
}

impl Host {
    /// Reads the one `Host` header and compares it with the authority of an absolute target. In HTTP/2 the authority may
    /// stand alone (RFC 9113 section 8.3.1).
    pub(super) fn of(headers: &FieldList, uri: &Uri, version: Version) -> Result<Self, IntakeError> {
        let mut values = headers.get_all(header::HOST);
        let Some(value) = values.next() else {
            return match uri.authority() {
                Some(authority) if version == Version::HTTP_2 => Self::of_authority(authority, uri),
                Some(_) | None => Err(IntakeError::HostInvalid("The Host header is missing.")),
            };
        };
        if values.next().is_some() {
            return Err(IntakeError::HostInvalid("The Host header is given more than once."));
        }
        let host = Self::parse(value)?;
        let is_same = |authority: &Authority| {
            is_served(uri) && authority.as_str().eq_ignore_ascii_case(value.to_str().unwrap_or_default())
        };
        if !uri.authority().is_none_or(is_same) {
            return Err(IntakeError::HostInvalid("The target names another host than the Host header."));
        }
        Ok(host)
    }

    fn of_authority(authority: &Authority, uri: &Uri) -> Result<Self, IntakeError> {
        if !is_served(uri) {
            return Err(IntakeError::HostInvalid("The target has another scheme than http or https."));
        }
        let malformed = |_| IntakeError::HostInvalid("The authority is malformed.");
        Self::parse(FieldValue::from(&HeaderValue::from_str(authority.as_str()).map_err(malformed)?))
    }

    /// Checks `name[:port]`.
    fn parse(value: FieldValue<'_>) -> Result<Self, IntakeError> {
        const MALFORMED: IntakeError = IntakeError::HostInvalid("The Host header is malformed.");
        let bytes = value.as_bytes();
        if bytes.is_empty() || bytes.len() > bounds::MAX_HOST_BYTES {
            return Err(MALFORMED);
        }
        if let Some(name_length) = plain_name_length(bytes) {
            return Ok(Self { value: value.to_header_value().map_err(|_| MALFORMED)?, name_length });
        }
        let text = std::str::from_utf8(bytes).map_err(|_| MALFORMED)?;
        let (name, port) = split_port(text).ok_or(MALFORMED)?;
        if !port.map(str::as_bytes).is_none_or(is_port) || !is_name(name) {
            return Err(MALFORMED);
        }
        let plain = !name.ends_with('.') && !bytes.iter().any(u8::is_ascii_uppercase);
        if plain {
            return Ok(Self {
                value: value.to_header_value().map_err(|_| MALFORMED)?,
                name_length: name.len(),
            });
        }
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        if name.is_empty() || name.ends_with('.') {
            return Err(MALFORMED);
        }
        let name_length = name.len();
        let rebuilt = port.map_or_else(|| name.clone(), |port| format!("{name}:{port}"));
        let value = HeaderValue::from_maybe_shared(Bytes::from(rebuilt)).map_err(|_| MALFORMED)?;
        Ok(Self { value, name_length })
    }

    /// The name without the port, in lower case.
    pub fn name(&self) -> &str {
        let name = self.value.as_bytes().get(..self.name_length).unwrap_or_default();
        std::str::from_utf8(name).unwrap_or_default()
    }

    /// The host and the port as a header value.
    pub fn value(&self) -> &HeaderValue {
        &self.value
    }
}

/// Whether the scheme of an absolute target is one of a request to this gateway.
fn is_served(uri: &Uri) -> bool {
    matches!(uri.scheme_str(), Some("http" | "https"))
}

/// Cuts the port off. An IPv6 address keeps its brackets.
fn split_port(text: &str) -> Option<(&str, Option<&str>)> {
    if text.starts_with('[') {
        let end = text.find(']')? + 1;
        let (name, rest) = text.split_at_checked(end)?;
        return match rest.strip_prefix(':') {
            Some(port) => Some((name, Some(port))),
            None if rest.is_empty() => Some((name, None)),
            None => None,
        };
    }
    match text.split_once(':') {
        Some((name, port)) => Some((name, Some(port))),
        None => Some((text, None)),
    }
}

/// How long the name is in a host that needs no change, as most are: a lower-case name, perhaps with a port. Decided in
/// one pass.
fn plain_name_length(bytes: &[u8]) -> Option<usize> {
    let mut in_label = false;
    for (index, byte) in bytes.iter().enumerate() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => in_label = true,
            b'.' if in_label => in_label = false,
            b':' if in_label => {
                return is_port(bytes.get(index + 1..)?).then_some(index);
            }
            _ => return None,
        }
    }
    in_label.then_some(bytes.len())
}

/// Whether it is a port, written in the one way that everybody reads alike: without leading zeros.
fn is_port(port: &[u8]) -> bool {
    if !matches!(port, [b'1'..=b'9', ..]) || port.len() > 5 || !port.iter().all(u8::is_ascii_digit) {
        return false;
    }
    // Five digits at most.
    let number = port.iter().fold(0, |number, digit| number * 10 + u32::from(digit - b'0'));
    u16::try_from(number).is_ok()
}

fn is_name(name: &str) -> bool {
    if let Some(address) = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    name.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn host(values: &[&[u8]], target: &str) -> Result<String, IntakeError> {
        let mut headers = FieldList::new();
        for value in values {
            headers.append(header::HOST, HeaderValue::from_bytes(value).unwrap());
        }
        let host = Host::of(&headers, &target.parse().unwrap(), Version::HTTP_11)?;
        Ok(format!("{} {}", host.name(), host.value().to_str().unwrap()))
    }

    #[test]
    fn sound_hosts_have_one_form() {
        assert_eq!(host(&[b"gw.test"], "/").unwrap(), "gw.test gw.test");
        assert_eq!(host(&[b"GW.Test:8080"], "/").unwrap(), "gw.test gw.test:8080");
        assert_eq!(host(&[b"gw.test."], "/").unwrap(), "gw.test gw.test");
        assert_eq!(host(&[b"gw.test:65535"], "/").unwrap(), "gw.test gw.test:65535");
        assert_eq!(host(&[b"[::1]:80"], "/").unwrap(), "[::1] [::1]:80");
        assert_eq!(host(&[b"127.0.0.1:80"], "/").unwrap(), "127.0.0.1 127.0.0.1:80");
        assert_eq!(host(&[b"gw.test"], "http://GW.test/x").unwrap(), "gw.test gw.test");
    }

    #[test]
    fn everything_else_is_refused() {
        for bad in [
            &b""[..],
            b"gw.test, evil.test",
            b"gw.test@evil",
            b"a b",
            b"gw.test:",
            b"gw.test:0",
            b"gw.test:99999",
            b"gw.test:65536",
            b"gw.test:4294967376",
            b"gw.test:000000000000000000000000000000000000080",
            b"gw.test:1:2",
            b"gw.test/x",
            b"..",
            b".",
            b"a..b",
            b"a..",
            b"gw.test:+80",
            b"[::1",
            b"[x]",
            b"\xff",
            b"gw.test:080x",
            b"gw.test:080",
            b"gw.test:0",
            b"127.0.0.1:@9",
        ] {
            assert!(host(&[bad], "/").is_err(), "{bad:?}");
        }
        assert!(host(&[], "/").is_err());
        assert!(host(&[b"gw.test", b"gw.test"], "/").is_err());
        assert!(host(&[b"gw.test"], "http://evil.test/").is_err());
        assert!(host(&[b"gw.test"], "http://user@gw.test/").is_err());
        assert!(host(&[b"gw.test"], "ftp://gw.test/").is_err());
    }

    proptest! {
        #[test]
        fn what_is_taken_as_a_host_has_one_reading(
            text in "([a-zA-Z0-9.:@_-]|\\[|\\]|::1|%2e|[ /?#,\\\\\u{e9}]){0,12}(:[0-9]{0,6})?",
        ) {
            let Ok(value) = HeaderValue::from_bytes(text.as_bytes()) else { return Ok(()) };
            let Ok(host) = Host::parse(FieldValue::from(&value)) else { return Ok(()) };
            let shown = host.value().to_str().unwrap();
            let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_:[]".contains(&byte);
            prop_assert!(shown.bytes().all(fits), "{}", shown);
            // It names what was asked for, and so does what is forwarded.
            let dropped = text.to_ascii_lowercase().replacen(".:", ":", 1);
            prop_assert_eq!(dropped.strip_suffix('.').unwrap_or(&dropped), shown);
            prop_assert_eq!(Host::parse(FieldValue::from(host.value())), Ok(host.clone()));
            // Another reader of authorities finds the same name and port.
            let authority: Authority = shown.parse().unwrap();
            prop_assert_eq!(authority.host(), host.name());
            let rest = shown.strip_prefix(host.name()).unwrap();
            prop_assert_eq!(authority.port().map(|port| format!(":{port}")).unwrap_or_default(), rest);
            // HTTP/2 says the same with its authority alone.
            let uri: Uri = format!("http://{text}/x").parse().unwrap();
            let alone = Host::of(&FieldList::new(), &uri, Version::HTTP_2);
            prop_assert_eq!(alone, Ok(host));
        }
    }

    #[test]
    fn in_http2_the_authority_may_stand_alone() {
        let host = |target: &str| {
            Host::of(&FieldList::new(), &target.parse().unwrap(), Version::HTTP_2)
                .map(|host| host.value().to_str().unwrap().to_owned())
        };
        assert_eq!(host("https://GW.test:8443/x").unwrap(), "gw.test:8443");
        for bad in ["https://user@gw.test/", "ftp://gw.test/", "/x"] {
            assert!(host(bad).is_err(), "{bad}");
        }
    }
}
