//! `tollgate token inspect`: what a token says, and whether it would pass.

use std::fmt;
use std::io::{self, Read, Write};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::error::{CommandError, Exit};
use super::{key, people};
use crate::base::bounds;
use crate::base::clock::Clock;
use crate::base::reason::Reason;
use crate::base::user::User;
use crate::config::Config;
use crate::keys::KeyRing;
use crate::sessions::{SessionError, Sessions};
use crate::store::Store;
use crate::tokens::{Expected, TokenFault, Verifier};
use crate::users::Lookup;

/// Inspects the token that was given, or else standard input holds, with the configured keys.
///
/// # Errors
///
/// A [`CommandError`]. A token that does not pass is no error, but has another exit code.
pub fn perform(config: &Config, token: Option<String>, out: &mut dyn Write) -> Result<Exit, CommandError> {
    let clock = Clock::System;
    let ring = Arc::new(key::load(config)?);
    let verifier = Verifier::new(Arc::clone(&ring), &config.tokens, clock);
    let token = match token.filter(|token| token != "-") {
        Some(token) => token,
        None => read_token(io::stdin().lock()).map_err(CommandError::Input)?,
    };
    let token = bare(&token);
    let owner = match claimed_id(token, &config.tokens.user_id_claim) {
        Some(id) => people::look_up(config, |users| async move { users.find(&id).await })?
            .map_or_else(|error| Owner::Unreadable(error.to_string()), Owner::Found),
        None => Owner::Unnamed,
    };
    let owner = match owner {
        Owner::Found(lookup @ (Lookup::Active(_) | Lookup::Unmanaged))
            if is_revoked(config, &verifier, token)? =>
        {
            Owner::LoggedOut(lookup)
        }
        owner @ (Owner::Found(_) | Owner::LoggedOut(_) | Owner::Unnamed | Owner::Unreadable(_)) => owner,
    };
    match inspect(&verifier, &ring, token, &owner, out).map_err(CommandError::Output)? {
        Inspection::Passes(_) => Ok(Exit::Ok),
        Inspection::Fails(_) | Inspection::Barred(_) => Ok(Exit::Findings),
    }
}

/// Whether the session of a sound token has ended, or the token was used up.
fn is_revoked(config: &Config, verifier: &Verifier, token: &str) -> Result<bool, CommandError> {
    let Ok(claims) = verifier.verify_any(token.as_bytes()) else { return Ok(false) };
    // Looking at a token makes no store.
    if config.store.is_missing() {
        return Ok(false);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(CommandError::System)?.block_on(async {
        let store = Store::connect(&config.store).await.map_err(CommandError::Store)?;
        let sessions = Sessions::open(store.clone(), Clock::System, &config.tokens).await;
        let checked = sessions.map_err(CommandError::Store)?.check(&claims).await;
        store.close().await;
        match checked {
            Err(SessionError::Unavailable(error)) => Err(CommandError::Store(error)),
            outcome => Ok(outcome.is_err()),
        }
    })
}

/// The user id that a token claims, sound or not: whose a token is matters most when it is refused.
fn claimed_id(token: &str, claim: &str) -> Option<String> {
    match part(token, 1)?.get(claim)? {
        Value::String(id) => Some(id.clone()),
        Value::Number(id) => Some(id.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Reads a little more than the longest token, so that one that is too long is seen to be.
pub(super) fn read_token(input: impl Read) -> io::Result<String> {
    let mut bytes = Vec::new();
    input.take(2 * bounds::MAX_TOKEN_BYTES as u64).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The token itself, also out of a copied header or a quoted JSON string.
pub(super) fn bare(text: &str) -> &str {
    let text = text.trim().trim_matches('"');
    let scheme = text.get(..7).filter(|scheme| scheme.eq_ignore_ascii_case("bearer "));
    scheme.and_then(|_| text.get(7..)).unwrap_or(text).trim()
}

/// Whether the inspected token would pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inspection {
    /// It would, as a token of this kind.
    Passes(Expected),
    /// It would not, and why.
    Fails(TokenFault),
    /// The token is sound, but its user may not call now.
    Barred(Reason),
}

/// Whose a token is, as the configured user source says now.
#[derive(Debug)]
pub enum Owner {
    /// The token names nobody.
    Unnamed,
    /// What the source says of the id.
    Found(Lookup),
    /// As [`Owner::Found`], but the session of the token has ended.
    LoggedOut(Lookup),
    /// The source cannot be asked, and why.
    Unreadable(String),
}

impl Owner {
    /// Why no token of this user passes now.
    fn bar(&self) -> Option<Reason> {
        match self {
            Self::Found(Lookup::Inactive) => Some(Reason::UserInactive),
            Self::Found(Lookup::Unknown) => Some(Reason::UserNotFound),
            Self::LoggedOut(_) => Some(Reason::TokenRevoked),
            Self::Unreadable(_) => Some(Reason::StoreUnavailable),
            Self::Unnamed | Self::Found(Lookup::Active(_) | Lookup::Unmanaged) => None,
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unnamed => f.write_str("the token names none"),
            Self::Found(Lookup::Active(account)) | Self::LoggedOut(Lookup::Active(account)) => {
                let User { id, name, groups, .. } = &account.user;
                write!(f, "{} (id {}), active", printable(name), printable(id))?;
                if groups.is_empty() { Ok(()) } else { write!(f, ", in {}", printable(&groups.join(", "))) }
            }
            Self::Found(Lookup::Inactive) | Self::LoggedOut(Lookup::Inactive) => f.write_str("switched off"),
            Self::Found(Lookup::Unknown) | Self::LoggedOut(Lookup::Unknown) => {
                f.write_str("there is no user of this id")
            }
            Self::Found(Lookup::Unmanaged) | Self::LoggedOut(Lookup::Unmanaged) => {
                f.write_str("taken at the token's word, because there has never been a user")
            }
            Self::Unreadable(error) => write!(f, "cannot be looked up: {error}"),
        }
    }
}

/// Prints header, claims, key, user and verdict. The signature is never printed, so what is printed is no token.
///
/// # Errors
///
/// When the output cannot be written.
pub fn inspect(
    verifier: &Verifier,
    ring: &KeyRing,
    token: &str,
    owner: &Owner,
    out: &mut dyn Write,
) -> io::Result<Inspection> {
    let (header, payload) = (part(token, 0), part(token, 1));
    writeln!(out, "header:  {}", shown(header.as_ref()))?;
    writeln!(out, "claims:  {}", shown(payload.as_ref()))?;
    writeln!(out, "key:     {}", key_line(verifier, ring, token, header.as_ref()))?;
    writeln!(out, "user:    {owner}")?;
    let says_refresh =
        payload.as_ref().and_then(|claims| claims.get("token_type")).is_some_and(|kind| kind == "refresh");
    let expected = if says_refresh { Expected::Refresh } else { Expected::Access };
    match (verifier.verify(token.as_bytes(), expected), owner.bar()) {
        (Ok(claims), None) => {
            let kind = expected.name();
            let user = printable(&claims.user_id);
            writeln!(out, "verdict: passes as {kind} token of user {user}")?;
            Ok(Inspection::Passes(expected))
        }
        (Ok(_), Some(reason @ Reason::TokenRevoked)) => {
            writeln!(out, "verdict: refused, the token is sound, but its session has ended ({reason})")?;
            Ok(Inspection::Barred(reason))
        }
        (Ok(_), Some(reason)) => {
            writeln!(out, "verdict: refused, the token is sound, but its user may not call ({reason})")?;
            Ok(Inspection::Barred(reason))
        }
        (Err(fault), _) => {
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
pub(super) fn printable(text: &str) -> String {
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
    use crate::users::{Account, CredentialMark};
    use serde_json::json;

    fn run(mint: &Mint, token: &[u8]) -> (Inspection, String) {
        run_of(mint, token, &Owner::Found(Lookup::Unmanaged))
    }

    fn run_of(mint: &Mint, token: &[u8], owner: &Owner) -> (Inspection, String) {
        let mut out = Vec::new();
        let token = std::str::from_utf8(token).unwrap();
        let inspection = inspect(&mint.verifier(), &mint.ring, token, owner, &mut out).unwrap();
        (inspection, String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_sound_token_of_somebody_who_may_not_call_is_refused() {
        let mint = Mint::new(Algorithm::HS256);
        let token = mint.token(&claims());
        let user = User {
            id: "7".to_owned(),
            name: "zo\u{202e}e".to_owned(),
            email: None,
            groups: vec!["a".to_owned(), "b".to_owned()],
        };
        let account = Account { user, mark: CredentialMark::of("x") };
        let (inspection, text) = run_of(&mint, &token, &Owner::Found(Lookup::Active(account)));
        assert_eq!(inspection, Inspection::Passes(Expected::Access));
        assert!(text.contains("user:    zo\\u{202e}e (id 7), active, in a, b\n"), "{text}");
        for (owner, reason) in [
            (Owner::Found(Lookup::Inactive), Reason::UserInactive),
            (Owner::Found(Lookup::Unknown), Reason::UserNotFound),
            (Owner::Unreadable("locked".to_owned()), Reason::StoreUnavailable),
        ] {
            let (inspection, text) = run_of(&mint, &token, &owner);
            assert_eq!(inspection, Inspection::Barred(reason));
            assert!(text.contains(reason.word()) && text.contains("verdict: refused"), "{text}");
        }
        let token = std::str::from_utf8(&token).unwrap();
        assert_eq!(claimed_id(token, "sub").as_deref(), Some("alice"));
        assert_eq!(claimed_id(token, "nothing"), None);
        assert_eq!(claimed_id("a.b.c", "sub"), None);
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
    fn a_copied_token_is_read_as_it_is_meant() {
        for text in ["a.b.c", " a.b.c\n", "\"a.b.c\"\n", "Bearer a.b.c", "bearer  a.b.c "] {
            assert_eq!(bare(text), "a.b.c", "{text:?}");
        }
        assert_eq!(bare("Bearer"), "Bearer");
        let long = "x".repeat(100_000);
        assert!(read_token(long.as_bytes()).unwrap().len() > bounds::MAX_TOKEN_BYTES);
        assert_eq!(read_token(&b"\xff"[..]).unwrap(), "\u{fffd}");
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
