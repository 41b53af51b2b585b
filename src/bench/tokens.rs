//! What a token route answers, and how long an access token is good.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderValue;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::base::secret::Secret;

/// The tokens of an answer.
#[derive(Clone, Debug)]
pub struct Tokens {
    /// `Bearer` and the access token.
    pub authorization: HeaderValue,
    /// The refresh token; an answer to a refresh has one only with rotation.
    pub refresh: Option<Secret>,
    /// How long the access token is good from the moment of the answer, if that can be told.
    pub lifetime: Option<Duration>,
}

/// In the dialect of simplejwt, and as OAuth 2.0 has it (RFC 6749 section 5.1).
#[derive(Deserialize)]
struct Written {
    #[serde(alias = "access_token", alias = "token")]
    access: String,
    #[serde(alias = "refresh_token")]
    refresh: Option<String>,
    expires_in: Option<u64>,
}

#[derive(Deserialize)]
struct Times {
    exp: f64,
    iat: Option<f64>,
}

impl Tokens {
    /// Reads the body of an answer. `now` is in seconds since 1970, for tokens that do not say when they were issued.
    pub fn read(body: &[u8], now: i64) -> Option<Self> {
        let Written { access, refresh, expires_in } = serde_json::from_slice(body).ok()?;
        let lifetime = expires_in.map(Duration::from_secs).or_else(|| lifetime(&access, now));
        let access = Zeroizing::new(access);
        let refresh = refresh.map(Secret::new);
        Some(Self { authorization: bearer(access.as_bytes())?, refresh, lifetime })
    }
}

/// The value of an `Authorization` field, which does not print itself.
pub fn bearer(token: &[u8]) -> Option<HeaderValue> {
    let mut text = Zeroizing::new(b"Bearer ".to_vec());
    text.extend_from_slice(token);
    let mut value = HeaderValue::from_bytes(&text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// From the claims, which are not verified: they are the server's own.
fn lifetime(token: &str, now: i64) -> Option<Duration> {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let Times { exp, iat } = serde_json::from_slice(&claims).ok()?;
    // The server's clock may differ from this one, so both times are its own, where there are both.
    #[expect(clippy::cast_precision_loss, reason = "a time in seconds is far below 2^52")]
    let from = iat.unwrap_or(now as f64);
    Duration::try_from_secs_f64((exp - from).max(0.0)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(claims: &str) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn both_dialects_are_read() {
        let access = token(r#"{"exp":1300,"iat":1000}"#);
        let tokens = Tokens::read(format!(r#"{{"refresh":"r","access":"{access}"}}"#).as_bytes(), 9).unwrap();
        assert_eq!(tokens.authorization, format!("Bearer {access}"));
        assert_eq!(
            (tokens.refresh.unwrap().expose(), tokens.lifetime),
            (&b"r"[..], Some(Duration::from_mins(5)))
        );
        let tokens =
            Tokens::read(br#"{"access_token":"opaque","expires_in":60,"token_type":"Bearer"}"#, 9).unwrap();
        assert!(tokens.authorization.is_sensitive() && tokens.refresh.is_none());
        assert_eq!(tokens.lifetime, Some(Duration::from_mins(1)));
        for body in ["", "{}", "[]", r#"{"access":1}"#, r#"{"access":"a\nb"}"#] {
            assert!(Tokens::read(body.as_bytes(), 0).is_none(), "{body}");
        }
    }

    #[test]
    fn a_lifetime_is_told_by_the_server_clock_where_that_is_possible() {
        for (claims, seconds) in [
            (r#"{"exp":100,"iat":40}"#, Some(60)),
            (r#"{"exp":100}"#, Some(90)),
            (r#"{"exp":100,"iat":200}"#, Some(0)),
            ("{}", None),
            ("x", None),
        ] {
            assert_eq!(lifetime(&token(claims), 10), seconds.map(Duration::from_secs), "{claims}");
        }
        assert_eq!(lifetime("opaque", 10), None);
    }
}
