//! How long a request's body is, said once and plainly (RFC 9112 section 6).

use http::{Version, header};

use super::lines::Malformed;
use crate::base::field_list::FieldList;

/// The length of a request's body, as its head declares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// There is no body.
    None,
    /// So many bytes; may be 0.
    Exactly(u64),
    /// As long as its chunks, or as its stream of HTTP/2.
    Chunked,
}

/// Reads the fields that frame a body.
///
/// # Errors
///
/// [`Malformed`] for everything but one plain `Content-Length` or one `chunked`.
pub fn declared(headers: &FieldList, version: Version) -> Result<BodyLength, Malformed> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING);
    let mut lengths = headers.get_all(header::CONTENT_LENGTH);
    match (codings.next(), lengths.next()) {
        (None, None) => Ok(BodyLength::None),
        (None, Some(length)) => {
            if lengths.next().is_some() {
                return Err(Malformed("Content-Length is given more than once."));
            }
            plain_decimal(length.as_bytes()).map(BodyLength::Exactly)
        }
        (Some(coding), None) => {
            if codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
                return Err(Malformed("Transfer-Encoding is not exactly one \"chunked\"."));
            }
            if version != Version::HTTP_11 {
                return Err(Malformed("Transfer-Encoding needs HTTP/1.1."));
            }
            Ok(BodyLength::Chunked)
        }
        (Some(_), Some(_)) => Err(Malformed("Content-Length and Transfer-Encoding are given together.")),
    }
}

/// Whether any field is there that frames a body. Most requests have none; going through the names costs less than looking
/// up two that are not there.
pub fn is_declared(headers: &FieldList) -> bool {
    headers.keys().any(|name| name == header::TRANSFER_ENCODING || name == header::CONTENT_LENGTH)
}

fn plain_decimal(digits: &[u8]) -> Result<u64, Malformed> {
    let plain = match digits {
        [] | [b'0', _, ..] => false,
        digits => digits.iter().all(u8::is_ascii_digit),
    };
    let value = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
    match value {
        Some(value) if plain => Ok(value),
        Some(_) | None => Err(Malformed("Content-Length is not a plain decimal number.")),
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn length(fields: &[(HeaderName, &[u8])], version: Version) -> Result<BodyLength, Malformed> {
        let mut headers = FieldList::new();
        for (name, value) in fields {
            headers.append(name, HeaderValue::from_bytes(value).unwrap());
        }
        declared(&headers, version)
    }

    #[test]
    fn one_plain_framing_is_understood() {
        let (cl, te) = (header::CONTENT_LENGTH, header::TRANSFER_ENCODING);
        assert_eq!(length(&[], Version::HTTP_11), Ok(BodyLength::None));
        assert_eq!(length(&[(cl.clone(), b"0")], Version::HTTP_11), Ok(BodyLength::Exactly(0)));
        assert_eq!(
            length(&[(cl, b"18446744073709551615")], Version::HTTP_10),
            Ok(BodyLength::Exactly(u64::MAX))
        );
        assert_eq!(length(&[(te, b"Chunked")], Version::HTTP_11), Ok(BodyLength::Chunked));
    }

    #[test]
    fn every_other_framing_is_refused() {
        let (cl, te) = (header::CONTENT_LENGTH, header::TRANSFER_ENCODING);
        for value in
            [&b""[..], b"+5", b"05", b"00", b"5,5", b"5 5", b"0x5", b"5.0", b"18446744073709551616", b"5\xa0"]
        {
            assert!(length(&[(cl.clone(), value)], Version::HTTP_11).is_err(), "{value:?}");
        }
        assert!(length(&[(cl.clone(), b"5"), (cl.clone(), b"5")], Version::HTTP_11).is_err());
        for value in [
            &b"gzip, chunked"[..],
            b"chunked, chunked",
            b"identity",
            b"",
            b"\"chunked\"",
            b"chunked;q=1",
            b"xchunked",
        ] {
            assert!(length(&[(te.clone(), value)], Version::HTTP_11).is_err(), "{value:?}");
        }
        assert!(length(&[(te.clone(), b"chunked"), (te.clone(), b"chunked")], Version::HTTP_11).is_err());
        assert!(length(&[(te.clone(), b"chunked"), (cl, b"5")], Version::HTTP_11).is_err());
        assert!(length(&[(te, b"chunked")], Version::HTTP_10).is_err());
    }
}
