//! The compact form of a token, by the letter (RFC 7515 sections 3.1 and 7.1), and its header.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::json;
use super::verify::TokenFault;
use crate::base::bounds;

/// A token taken apart. Nothing of it is trusted yet.
pub(super) struct Parts<'a> {
    /// Header, dot and payload: what is signed.
    pub(super) message: &'a [u8],
    /// The decoded header.
    pub(super) header: Vec<u8>,
    /// The decoded payload.
    pub(super) payload: Vec<u8>,
    /// The signature in base64url, which is known to decode.
    pub(super) signature: &'a str,
}

/// Takes a token apart: three parts in base64url without padding, whose unused bits are zero.
pub(super) fn split(token: &[u8]) -> Result<Parts<'_>, TokenFault> {
    if token.len() > bounds::MAX_TOKEN_BYTES {
        return Err(TokenFault::Invalid("the token is longer than any that is looked at"));
    }
    let not_three = TokenFault::Invalid("the token does not have three parts");
    let mut parts = token.split(|&byte| byte == b'.');
    let (Some(header), Some(payload), Some(signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(not_three);
    };
    let message = token.get(..header.len() + 1 + payload.len()).ok_or(not_three)?;
    // This engine takes neither padding nor unused bits, so every token has one spelling only.
    let decode = |part: &[u8], fault| URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenFault::Invalid(fault));
    decode(signature, "the signature is not base64url")?;
    Ok(Parts {
        message,
        header: decode(header, "the header is not base64url")?,
        payload: decode(payload, "the payload is not base64url")?,
        signature: std::str::from_utf8(signature)
            .map_err(|_| TokenFault::Invalid("the signature is not base64url"))?,
    })
}

/// What counts in a header. Keys in it (`jwk`, `jku`, `x5u`, `x5c`) are never looked at.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// The algorithm that the token claims.
    pub(super) algorithm: String,
    /// The key that the token claims.
    pub(super) kid: Option<String>,
}

/// Reads a header and refuses what is not understood.
pub(super) fn read_header(bytes: &[u8]) -> Result<Header, TokenFault> {
    let mut members =
        json::read_object(bytes).map_err(|_| TokenFault::Invalid("the header is not one JSON object"))?;
    check_extensions(&members)?;
    let Some(Value::String(algorithm)) = members.remove("alg") else {
        return Err(TokenFault::Invalid("alg is missing or not a string"));
    };
    let kid = match members.remove("kid") {
        None => None,
        Some(Value::String(kid)) => Some(kid),
        Some(_) => return Err(TokenFault::Invalid("kid is not a string")),
    };
    Ok(Header { algorithm, kid })
}

fn check_extensions(members: &Map<String, Value>) -> Result<(), TokenFault> {
    // No critical extension is understood, and an empty list is forbidden (RFC 7515 section 4.1.11).
    if members.contains_key("crit") {
        return Err(TokenFault::Invalid("crit names extensions that are not understood"));
    }
    if members.get("b64").is_some_and(|b64| *b64 != Value::Bool(true)) {
        return Err(TokenFault::Invalid("b64 asks for an unencoded payload"));
    }
    if members.contains_key("enc") || members.contains_key("zip") {
        return Err(TokenFault::Invalid("the header is that of an encrypted token"));
    }
    let known = |typ: &str| {
        ["JWT", "at+jwt", "application/at+jwt"].iter().any(|known| known.eq_ignore_ascii_case(typ))
    };
    match members.get("typ") {
        None => Ok(()),
        Some(Value::String(typ)) if known(typ) => Ok(()),
        Some(_) => Err(TokenFault::Invalid("typ is that of another kind of token")),
    }
}
