//! Members of JSON objects, written without a document of them. A member's name comes as it is written, with the comma before
//! it and what stands between it and its value, so that it is copied in one piece of known length.

use std::io::Write as _;
use std::net::IpAddr;

use super::escape::json_string;

/// Adds a member with a text, if there is one: `,"path":` and the text.
pub(super) fn text<const N: usize>(line: &mut Vec<u8>, name: &[u8; N], text: Option<&str>) {
    if let Some(text) = text {
        line.extend_from_slice(name);
        json_string(line, text);
    }
}

/// Adds a member with a number.
pub(super) fn number<const N: usize>(line: &mut Vec<u8>, name: &[u8; N], number: u64) {
    line.extend_from_slice(name);
    line.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Adds a member with an address.
pub(super) fn address<const N: usize>(line: &mut Vec<u8>, name: &[u8; N], address: IpAddr) {
    line.extend_from_slice(name);
    line.push(b'"');
    match address {
        // The library's way, made for any width and padding, took a sixth of a whole line of the log.
        IpAddr::V4(address) => {
            let mut separator: &[u8] = b"";
            for number in address.octets() {
                line.extend_from_slice(separator);
                line.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
                separator = b".";
            }
        }
        // Writing to memory does not fail.
        IpAddr::V6(address) => drop(write!(line, "{address}")),
    }
    line.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_written_as_everywhere() {
        for text in ["0.0.0.0", "127.0.0.1", "192.168.10.255", "::", "2001:db8::7", "::ffff:1.2.3.4"] {
            let mut line = Vec::new();
            address(&mut line, br#","client":"#, text.parse().unwrap());
            assert_eq!(String::from_utf8(line).unwrap(), format!(",\"client\":\"{text}\""));
        }
    }

    #[test]
    fn what_is_not_there_is_no_member() {
        let mut line = Vec::new();
        text(&mut line, br#","route":"#, None);
        assert!(line.is_empty());
        text(&mut line, br#","route":"#, Some("a\"b"));
        number(&mut line, br#","status":"#, u64::MAX);
        assert_eq!(
            String::from_utf8(line).unwrap(),
            format!(",\"route\":\"a\\\"b\",\"status\":{}", u64::MAX)
        );
    }
}
