//! The claims of a token whose signature is good: their types, their times, and what they are bound to.

use serde_json::{Map, Number, Value};

use super::verify::{Expected, TokenFault, VerifiedBy};
use crate::base::bounds;

/// The claims of a token that passed.
#[derive(Clone, Debug, PartialEq)]
pub struct Claims {
    /// `token_type`.
    pub token_type: String,
    /// `exp`, in milliseconds since 1970.
    pub expires_at_ms: i64,
    /// Until when the token passes, in milliseconds since 1970: `exp` with the leeway, or the end of the key that
    /// verified it, whichever comes first.
    pub valid_until_ms: i64,
    /// The key that verified it.
    pub verified_by: Option<VerifiedBy>,
    /// `iat`, in milliseconds since 1970.
    pub issued_at_ms: Option<i64>,
    /// `jti`: the id of the token.
    pub jti: String,
    /// The user id, as text even where the token has a number.
    pub user_id: String,
    /// `sid`: the session. Tokens of other issuers have none.
    pub session: Option<String>,
    /// All other members, `aud`, `iss` and `nbf` among them.
    pub other: Map<String, Value>,
}

/// What the claims are held against.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) issuer: Option<String>,
    pub(super) audience: Vec<String>,
    pub(super) leeway_ms: i64,
    pub(super) user_id_claim: String,
}

impl Rules {
    /// Checks the claims, in the order of simplejwt, so that a token with several faults gets the message it gets there.
    pub(super) fn check(
        &self,
        mut members: Map<String, Value>,
        expected: Option<Expected>,
        now_ms: i64,
    ) -> Result<Claims, TokenFault> {
        let issued_at_ms = self.begun(&members, "iat", "iat is not a number", now_ms)?;
        self.begun(&members, "nbf", "nbf is not a number", now_ms)?;
        let expires_at_ms = self.expiry(&members, now_ms)?;
        self.check_issuer(&members)?;
        self.check_audience(&members)?;
        let jti = identifier(&mut members, "jti", "jti is not an identifier")?;
        let session = identifier(&mut members, "sid", "sid is not an identifier")?;
        let expires_at_ms = expires_at_ms.ok_or(TokenFault::MissingExpiry)?;
        let jti = jti.ok_or(TokenFault::MissingId)?;
        let token_type = match (members.remove("token_type"), expected) {
            (None, Some(_)) => return Err(TokenFault::MissingType),
            (Some(Value::String(token_type)), Some(expected)) if token_type == expected.name() => token_type,
            (Some(_), Some(_)) => return Err(TokenFault::WrongType),
            (Some(Value::String(token_type)), None) => token_type,
            (Some(_) | None, None) => String::new(),
        };
        let user_id = match (user_id(members.remove(&self.user_id_claim)), expected) {
            (Err(_), None) => String::new(),
            (user_id, _) => user_id?,
        };
        members.remove("exp");
        members.remove("iat");
        let valid_until_ms = expires_at_ms.saturating_add(self.leeway_ms);
        Ok(Claims {
            verified_by: None,
            token_type,
            expires_at_ms,
            valid_until_ms,
            issued_at_ms,
            jti,
            user_id,
            session,
            other: members,
        })
    }

    /// A time that must not lie in the future.
    fn begun(
        &self,
        members: &Map<String, Value>,
        name: &str,
        fault: &'static str,
        now_ms: i64,
    ) -> Result<Option<i64>, TokenFault> {
        let Some(value) = members.get(name) else { return Ok(None) };
        let Value::Number(number) = value else { return Err(TokenFault::Invalid(fault)) };
        let at_ms = milliseconds(number);
        if at_ms > now_ms.saturating_add(self.leeway_ms) {
            Err(TokenFault::NotYetValid)
        } else {
            Ok(Some(at_ms))
        }
    }

    fn expiry(&self, members: &Map<String, Value>, now_ms: i64) -> Result<Option<i64>, TokenFault> {
        let Some(value) = members.get("exp") else { return Ok(None) };
        let Value::Number(number) = value else { return Err(TokenFault::Invalid("exp is not a number")) };
        let at_ms = milliseconds(number);
        if at_ms <= 0 {
            return Err(TokenFault::Invalid("exp is not a time since 1970"));
        }
        if is_expired(at_ms, self.leeway_ms, now_ms) {
            return Err(TokenFault::Expired);
        }
        if at_ms > now_ms.saturating_add(bounds::MAX_TOKEN_LIFETIME_SECONDS * 1000) {
            return Err(TokenFault::Invalid("exp is too far away"));
        }
        Ok(Some(at_ms))
    }

    fn check_issuer(&self, members: &Map<String, Value>) -> Result<(), TokenFault> {
        let Some(issuer) = &self.issuer else { return Ok(()) };
        match members.get("iss") {
            Some(Value::String(iss)) if iss == issuer => Ok(()),
            Some(_) | None => Err(TokenFault::Invalid("iss is not the issuer that is required")),
        }
    }

    fn check_audience(&self, members: &Map<String, Value>) -> Result<(), TokenFault> {
        if self.audience.is_empty() {
            return Ok(());
        }
        let ours = |audience: &str| self.audience.iter().any(|known| known == audience);
        let fits = match members.get("aud") {
            Some(Value::String(audience)) => ours(audience),
            Some(Value::Array(list)) => {
                list.iter().all(Value::is_string) && list.iter().filter_map(Value::as_str).any(ours)
            }
            Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => false,
        };
        if fits { Ok(()) } else { Err(TokenFault::Invalid("aud names no audience that is required")) }
    }
}

/// Whether a token's time is over: from the millisecond of `exp` on, moved by the leeway.
pub(super) fn is_expired(expires_at_ms: i64, leeway_ms: i64, now_ms: i64) -> bool {
    expires_at_ms <= now_ms.saturating_sub(leeway_ms)
}

/// A `NumericDate` (RFC 7519 section 2) in milliseconds. What is out of range becomes the end of the range.
fn milliseconds(seconds: &Number) -> i64 {
    if let Some(whole) = seconds.as_i64() {
        return whole.saturating_mul(1000);
    }
    if seconds.is_u64() {
        return i64::MAX;
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "such a cast saturates, and NaN cannot be written in JSON"
    )]
    seconds.as_f64().map_or(i64::MAX, |seconds| (seconds * 1000.0).floor() as i64)
}

fn identifier(
    members: &mut Map<String, Value>,
    name: &str,
    fault: &'static str,
) -> Result<Option<String>, TokenFault> {
    match members.remove(name) {
        None => Ok(None),
        Some(Value::String(text)) if is_identifier(&text) => Ok(Some(text)),
        Some(_) => Err(TokenFault::Invalid(fault)),
    }
}

/// A user id stands in a header later: so no control characters, and no white space that would be trimmed there.
fn user_id(value: Option<Value>) -> Result<String, TokenFault> {
    let fault = TokenFault::Invalid("the user id is not an identifier");
    match value {
        None | Some(Value::Null) => Err(TokenFault::MissingUser),
        Some(Value::String(text)) if is_identifier(&text) && text.trim() == text => Ok(text),
        Some(Value::Number(number)) if number.is_i64() || number.is_u64() => Ok(number.to_string()),
        Some(Value::String(_) | Value::Number(_) | Value::Bool(_) | Value::Array(_) | Value::Object(_)) => {
            Err(fault)
        }
    }
}

fn is_identifier(text: &str) -> bool {
    !text.is_empty() && text.len() <= bounds::MAX_IDENTIFIER_BYTES && !text.chars().any(char::is_control)
}
