//! Fields that are lists with commas, over as many lines as the sender likes (RFC 9110 section 5.6.1).

use http::HeaderName;

use crate::base::field_list::FieldList;

/// The items of all lines in order, without blanks around them and without empty ones.
pub(super) fn items<'a>(headers: &'a FieldList, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    headers
        .get_all(name)
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|item| !item.is_empty())
}

/// Whether the field is exactly one item, which is this one in any case.
pub(super) fn is_only(headers: &FieldList, name: &HeaderName, item: &[u8]) -> bool {
    let mut items = items(headers, name);
    items.next().is_some_and(|first| first.eq_ignore_ascii_case(item)) && items.next().is_none()
}

/// Whether one of the items is this one in any case.
pub(super) fn has(headers: &FieldList, name: &HeaderName, item: &[u8]) -> bool {
    items(headers, name).any(|other| other.eq_ignore_ascii_case(item))
}

/// Whether the bytes are a `token` (RFC 9110 section 5.6.2).
pub(super) fn is_token(bytes: &[u8]) -> bool {
    let is_token_byte = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !bytes.is_empty() && bytes.iter().all(is_token_byte)
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, header};

    use super::*;

    #[test]
    fn a_list_may_be_on_several_lines_and_have_empty_items() {
        let mut headers = FieldList::new();
        for value in ["a,,b", " , ", "C"] {
            headers.append(header::UPGRADE, HeaderValue::from_static(value));
        }
        assert_eq!(items(&headers, &header::UPGRADE).collect::<Vec<_>>(), [b"a", b"b", b"C"]);
        assert!(has(&headers, &header::UPGRADE, b"c"));
        assert!(!has(&headers, &header::UPGRADE, b"d"));
        assert!(!is_only(&headers, &header::UPGRADE, b"a"));
    }

    #[test]
    fn a_token_has_no_separators() {
        assert!(is_token(b"a.B-9_~"));
        for other in [&b""[..], b"a b", b"a=", b"a/b", b"a\"b", b"\xe4"] {
            assert!(!is_token(other), "{other:?}");
        }
    }
}
