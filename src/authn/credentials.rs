//! The `Authorization` header (RFC 6750 section 2.1, RFC 9110 section 11.6.2).

use http::header;
use memchr::memchr2;

use crate::base::field_list::FieldList;

/// What a request shows of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credentials<'a> {
    /// Nothing that is meant for the gateway.
    None,
    /// One Bearer token, not yet looked at.
    Bearer(&'a [u8]),
}

/// Two headers, a scheme without a token, or a token of several words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CredentialsMalformed;

/// Reads the credentials. The scheme is compared without case; another scheme is not for the gateway.
///
/// # Errors
///
/// [`CredentialsMalformed`] when it could be told only by guessing which token counts.
pub fn of(headers: &FieldList) -> Result<Credentials<'_>, CredentialsMalformed> {
    let mut values = headers.get_all(header::AUTHORIZATION);
    let Some(value) = values.next() else { return Ok(Credentials::None) };
    // Parsers differ in which of two headers counts.
    if values.next().is_some() {
        return Err(CredentialsMalformed);
    }
    let value = value.as_bytes().trim_ascii();
    // As nearly everybody writes it.
    if let Some(token) = value.strip_prefix(b"Bearer ") {
        return bearer(token.trim_ascii());
    }
    let (scheme, token) = match memchr2(b' ', b'\t', value).and_then(|end| value.split_at_checked(end)) {
        Some((scheme, rest)) => (scheme, rest.trim_ascii()),
        None => (value, &[][..]),
    };
    if !scheme.eq_ignore_ascii_case(b"bearer") {
        return Ok(Credentials::None);
    }
    bearer(token)
}

/// A token of several words is none (RFC 6750 section 2.1).
fn bearer(token: &[u8]) -> Result<Credentials<'_>, CredentialsMalformed> {
    if token.is_empty() || memchr2(b' ', b'\t', token).is_some() {
        return Err(CredentialsMalformed);
    }
    Ok(Credentials::Bearer(token))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn read(values: &[&'static str]) -> Result<Option<String>, CredentialsMalformed> {
        let mut headers = FieldList::new();
        for value in values {
            headers.append(header::AUTHORIZATION, HeaderValue::from_static(value));
        }
        of(&headers).map(|credentials| match credentials {
            Credentials::None => None,
            Credentials::Bearer(token) => Some(String::from_utf8_lossy(token).into_owned()),
        })
    }

    #[test]
    fn one_bearer_token_is_read_in_any_case_and_spacing() {
        for value in ["Bearer a.b.c", "bearer a.b.c", "BEARER   a.b.c ", "Bearer\ta.b.c"] {
            assert_eq!(read(&[value]), Ok(Some("a.b.c".to_owned())), "{value:?}");
        }
    }

    #[test]
    fn other_schemes_are_not_for_the_gateway() {
        for value in ["", " ", "Basic dTpw", "Token a.b.c", "a.b.c", "Bearer: a.b.c", "Bearera.b.c"] {
            assert_eq!(read(&[value]), Ok(None), "{value:?}");
        }
        assert_eq!(read(&[]), Ok(None));
    }

    #[test]
    fn what_is_no_single_token_is_refused() {
        for values in [
            &["Bearer"][..],
            &["Bearer "],
            &["Bearer a b"],
            &["Bearer a,Bearer b"],
            &["Bearer a", "Bearer b"],
            &["Bearer a", "Bearer a"],
            &["Basic x", "Bearer a"],
        ] {
            assert_eq!(read(values), Err(CredentialsMalformed), "{values:?}");
        }
    }
}
