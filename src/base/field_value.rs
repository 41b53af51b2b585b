//! The value of a header field, where it stands.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use http::HeaderValue;
use http::header::InvalidHeaderValue;

/// The value of a field: a value by itself, or bytes of a head in which a parser has found it.
#[derive(Clone, Copy)]
pub struct FieldValue<'a> {
    bytes: &'a [u8],
    owner: Owner<'a>,
}

#[derive(Clone, Copy)]
enum Owner<'a> {
    Value(&'a HeaderValue),
    Head(&'a Bytes),
}

/// A value has bytes that are not visible ASCII.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotText;

impl<'a> FieldValue<'a> {
    /// What stands there in a head; nothing where the head ends before.
    pub(super) fn within(head: &'a Bytes, place: Range<usize>) -> Self {
        Self { bytes: head.get(place).unwrap_or_default(), owner: Owner::Head(head) }
    }

    /// The bytes.
    pub const fn as_bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// The text.
    ///
    /// # Errors
    ///
    /// [`NotText`]
    pub fn to_str(self) -> Result<&'a str, NotText> {
        let is_text = self.bytes.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\t'));
        if is_text { std::str::from_utf8(self.bytes).map_err(|_| NotText) } else { Err(NotText) }
    }

    /// The value by itself. Its bytes are shared, not copied.
    ///
    /// # Errors
    ///
    /// [`InvalidHeaderValue`], when a parser has taken for a value what must not stand in one.
    pub fn to_header_value(self) -> Result<HeaderValue, InvalidHeaderValue> {
        match self.owner {
            Owner::Value(value) => Ok(value.clone()),
            Owner::Head(head) => HeaderValue::from_maybe_shared(head.slice_ref(self.bytes)),
        }
    }
}

impl<'a> From<&'a HeaderValue> for FieldValue<'a> {
    fn from(value: &'a HeaderValue) -> Self {
        Self { bytes: value.as_bytes(), owner: Owner::Value(value) }
    }
}

impl PartialEq for FieldValue<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for FieldValue<'_> {}

/// Text, or a value by itself, of the same bytes.
impl<T: AsRef<[u8]> + ?Sized> PartialEq<T> for FieldValue<'_> {
    fn eq(&self, other: &T) -> bool {
        self.bytes == other.as_ref()
    }
}

/// As a value by itself shows itself, which may keep a secret.
impl fmt::Debug for FieldValue<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_header_value() {
            Ok(value) => value.fmt(formatter),
            Err(error) => error.fmt(formatter),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// What the parser of heads takes for a value is one, so what is passed on as it stands need not be looked at again.
        #[test]
        fn what_the_parser_takes_is_a_value(value in prop::collection::vec(any::<u8>(), 0..40)) {
            let head = Bytes::from([b"GET / HTTP/1.1\r\nx: ", &value[..], b"\r\n\r\n"].concat());
            let mut fields = [httparse::EMPTY_HEADER; 4];
            let mut parsed = httparse::Request::new(&mut fields);
            if parsed.parse(&head).is_ok_and(|status| status.is_complete()) {
                for field in parsed.headers.iter() {
                    prop_assert!(HeaderValue::from_bytes(field.value).is_ok());
                }
            }
        }

        /// In a head it is seen as it is by itself.
        #[test]
        fn a_value_is_the_same_in_a_head(before in 0_usize..9, value in "[\\t -~\u{e9}]{0,40}") {
            let own = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            let head = Bytes::from([&[b'x'; 9][..before], value.as_bytes(), b"\r\n"].concat());
            let there = FieldValue::within(&head, before..before + value.len());
            prop_assert_eq!(there, &own);
            prop_assert_eq!(FieldValue::from(&own), there);
            prop_assert_eq!(there.to_str().ok(), own.to_str().ok());
            prop_assert_eq!(there.to_header_value().unwrap(), own);
        }
    }

    #[test]
    fn each_byte_is_in_a_value_for_the_parser_where_it_is_for_everybody() {
        for byte in 0..=u8::MAX {
            let head = [b"GET / HTTP/1.1\r\nx: a", &[byte][..], b"z\r\n\r\n"].concat();
            let mut fields = [httparse::EMPTY_HEADER; 4];
            let mut parsed = httparse::Request::new(&mut fields);
            let is_taken = parsed.parse(&head).is_ok_and(|status| status.is_complete());
            let is_value = HeaderValue::from_bytes(&[b'a', byte, b'z']).is_ok();
            assert!(!is_taken || is_value, "{byte}");
        }
    }

    #[test]
    fn what_is_no_value_does_not_become_one() {
        let head = Bytes::from_static(b"a\nb");
        let value = FieldValue::within(&head, 0..3);
        assert!(value.to_header_value().is_err() && value.to_str().is_err());
        assert_eq!(FieldValue::within(&head, 2..9).as_bytes(), b"");
    }
}
