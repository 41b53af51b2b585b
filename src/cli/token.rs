//! `tollgate token inspect`: what a token says, and whether it would pass.

use std::io::{self, Write};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::base::bounds;
use crate::keys::KeyRing;
use crate::tokens::{Expected, TokenFault, Verifier};

/// Whether the inspected token would pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inspection {
    /// It would, as a token of this kind.
    Passes(Expected),
    /// It would not, and why.
    Fails(TokenFault),
}

/// Prints header, claims, key and verdict. The signature is never printed, so what is printed is no token.
///
/// # Errors
///
/// When the output cannot be written.
pub fn inspect(
    verifier: &Verifier,
    ring: &KeyRing,
    token: &str,
    out: &mut dyn Write,
) -> io::Result<Inspection> {
    let (header, payload) = (part(token, 0), part(token, 1));
    writeln!(out, "header:  {}", shown(header.as_ref()))?;
    writeln!(out, "claims:  {}", shown(payload.as_ref()))?;
    writeln!(out, "key:     {}", key_line(verifier, ring, token, header.as_ref()))?;
    let says_refresh =
        payload.as_ref().and_then(|claims| claims.get("token_type")).is_some_and(|kind| kind == "refresh");
    let expected = if says_refresh { Expected::Refresh } else { Expected::Access };
    match verifier.verify(token.as_bytes(), expected) {
        Ok(claims) => {
            let kind = expected.name();
            let user = printable(&claims.user_id);
            writeln!(out, "verdict: passes as {kind} token of user {user}")?;
            Ok(Inspection::Passes(expected))
        }
        Err(fault) => {
            writeln!(out, "verdict: refused, {} ({}: {fault})", fault.message(), fault.reason())?;
            Ok(Inspection::Fails(fault))
        }
    }
}

/// Header or payload for show: as lenient as can be, because a broken token is what one wants to look into.
fn part(token: &str, index: usize) -> Option<Value> {
    if token.len() > bounds::MAX_TOKEN_BYTES {
        return None;
    }
    let text = token.split('.').nth(index)?;
    let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok()?;
    serde_json::from_slice(&bytes).ok()
}

fn shown(part: Option<&Value>) -> String {
    let text = part.and_then(|value| serde_json::to_string_pretty(value).ok());
    text.map_or_else(|| "cannot be read".to_owned(), |text| printable(&text))
}

fn key_line(verifier: &Verifier, ring: &KeyRing, token: &str, header: Option<&Value>) -> String {
    match verifier.signing_key(token.as_bytes()) {
        Ok(key) => format!("{} ({}), the signature is good", printable(key.kid()), key.algorithm()),
        Err(fault) => {
            let named = header.and_then(|header| header.get("kid")).and_then(Value::as_str);
            match named.and_then(|kid| ring.find(kid)) {
                Some(key) => format!("{} ({}): {fault}", printable(key.kid()), key.algorithm()),
                None => fault.to_string(),
            }
        }
    }
}

/// The text without what a terminal obeys or shows in another order.
fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        let reorders =
            matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if (letter.is_control() && letter != '\n') || reorders {
            safe.extend(letter.escape_unicode());
        } else {
            safe.push(letter);
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::algorithm::Algorithm;
    use crate::tokens::tests::{Mint, claims};
    use serde_json::json;

    fn run(mint: &Mint, token: &[u8]) -> (Inspection, String) {
        let mut out = Vec::new();
        let token = std::str::from_utf8(token).unwrap();
        let inspection = inspect(&mint.verifier(), &mint.ring, token, &mut out).unwrap();
        (inspection, String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_sound_token_is_shown_without_its_signature() {
        let mint = Mint::new(Algorithm::HS256);
        let token = mint.token(&claims());
        let (inspection, text) = run(&mint, &token);
        assert_eq!(inspection, Inspection::Passes(Expected::Access));
        assert!(
            text.contains("\"sub\": \"alice\"") && text.contains("rig (HS256), the signature is good"),
            "{text}"
        );
        let signature = std::str::from_utf8(&token).unwrap().rsplit('.').next().unwrap().to_owned();
        assert!(!text.contains(&signature));
    }

    #[test]
    fn the_reason_is_precise_and_the_terminal_safe() {
        let mint = Mint::new(Algorithm::HS256);
        let mut expired = claims();
        expired["exp"] = json!(1);
        expired["name"] = json!("\u{9b}31m\u{202e}");
        let (inspection, text) = run(&mint, &mint.token(&expired));
        assert_eq!(inspection, Inspection::Fails(TokenFault::Expired));
        assert!(text.contains("Token is expired (token_expired"), "{text}");
        assert!(text.contains("\\u{9b}31m\\u{202e}"), "{text}");
        let stranger = mint.token_with(&json!({ "alg": "HS256", "kid": "other" }), &claims());
        let (_, text) = run(&mint, &stranger);
        assert!(text.contains("kid names no known key"), "{text}");
        for broken in ["", "..", "garbage", "a.b.c", &".".repeat(9000)] {
            assert!(matches!(run(&mint, broken.as_bytes()).0, Inspection::Fails(TokenFault::Invalid(_))));
        }
    }
}
