//! One strict layer between the bytes of a token and its claims.

use std::fmt;
use std::sync::Arc;

use super::claims::{Claims, Rules};
use super::compact::{self, Header, Parts};
use super::json;
use crate::base::clock::Clock;
use crate::base::reason::Reason;
use crate::config;
use crate::keys::{Key, KeyRing};

/// Which kind of token is wanted. A token of another kind never passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// A token for requests.
    Access,
    /// A token that is exchanged for an access token.
    Refresh,
}

impl Expected {
    /// The value of `token_type`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::Refresh => "refresh",
        }
    }
}

/// Which key has verified a token, and in which ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedBy {
    kid: Arc<str>,
    ring: u64,
}

/// Why a token does not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenFault {
    /// It is no token, or not one of ours; the text says more, for the log and `token inspect` only.
    Invalid(&'static str),
    /// Its time is over.
    Expired,
    /// `nbf` or `iat` lie in the future.
    NotYetValid,
    /// There is no `exp`.
    MissingExpiry,
    /// There is no `jti`.
    MissingId,
    /// There is no `token_type`.
    MissingType,
    /// `token_type` is not the one that is wanted.
    WrongType,
    /// There is no user id.
    MissingUser,
}

impl TokenFault {
    /// The message for the client, word for word that of simplejwt.
    pub fn message(self) -> &'static str {
        match self {
            Self::Invalid(_) | Self::NotYetValid => "Token is invalid",
            Self::Expired => "Token is expired",
            Self::MissingExpiry => "Token has no 'exp' claim",
            Self::MissingId => "Token has no id",
            Self::MissingType => "Token has no type",
            Self::WrongType => "Token has wrong type",
            Self::MissingUser => "Token contained no recognizable user identification",
        }
    }

    /// The internal text, which says more than the client is told.
    pub fn cause(self) -> &'static str {
        match self {
            Self::Invalid(detail) => detail,
            Self::NotYetValid => "nbf or iat lie in the future",
            Self::Expired
            | Self::MissingExpiry
            | Self::MissingId
            | Self::MissingType
            | Self::WrongType
            | Self::MissingUser => self.message(),
        }
    }

    /// The reason for log and metrics.
    pub fn reason(self) -> Reason {
        match self {
            Self::Invalid(_)
            | Self::MissingExpiry
            | Self::MissingId
            | Self::MissingType
            | Self::MissingUser => Reason::TokenInvalid,
            Self::Expired => Reason::TokenExpired,
            Self::NotYetValid => Reason::TokenNotYetValid,
            Self::WrongType => Reason::TokenWrongType,
        }
    }
}

impl fmt::Display for TokenFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.cause())
    }
}

impl std::error::Error for TokenFault {}

/// Verifies tokens. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Verifier {
    ring: Arc<KeyRing>,
    rules: Arc<Rules>,
    clock: Clock,
}

impl Verifier {
    /// A verifier by the rules of `[tokens]`.
    pub fn new(ring: Arc<KeyRing>, tokens: &config::Tokens, clock: Clock) -> Self {
        let rules = Rules {
            issuer: tokens.issuer.clone(),
            audience: tokens.audience.clone(),
            leeway_ms: i64::try_from(tokens.leeway.as_millis()).unwrap_or(i64::MAX),
            user_id_claim: tokens.user_id_claim.clone(),
        };
        Self { ring, rules: Arc::new(rules), clock }
    }

    /// The claims of a token that passes every check: form, header, signature, times, binding, kind, user.
    ///
    /// # Errors
    ///
    /// The first [`TokenFault`], in the order of simplejwt.
    pub fn verify(&self, token: &[u8], expected: Expected) -> Result<Claims, TokenFault> {
        self.verify_as(token, Some(expected))
    }

    /// As [`Verifier::verify`], but for a token of any kind, which may also say neither its kind nor its user; what it does
    /// not say is empty then.
    ///
    /// # Errors
    ///
    /// As [`Verifier::verify`].
    pub fn verify_any(&self, token: &[u8]) -> Result<Claims, TokenFault> {
        self.verify_as(token, None)
    }

    fn verify_as(&self, token: &[u8], expected: Option<Expected>) -> Result<Claims, TokenFault> {
        let now_ms = self.clock.now_unix_ms();
        let (key, payload) = self.open(token, now_ms)?;
        let members = json::read_object(&payload).map_err(|_| {
            TokenFault::Invalid("the payload is not one JSON object without repeated members")
        })?;
        let mut claims = self.rules.check(members, expected, now_ms)?;
        claims.verified_by = Some(VerifiedBy { kid: key.shared_kid(), ring: self.ring.number() });
        claims.valid_until_ms = claims.valid_until_ms.min(key.retires_at_ms());
        Ok(claims)
    }

    /// Whether the key that verified a token may still do so, though keys have changed since.
    pub fn still_trusts(&self, by: &VerifiedBy) -> bool {
        let may_verify = |key: &Key| !key.is_retired(self.clock.now_unix_ms());
        by.ring == self.ring.number() || self.ring.find(&by.kid).is_some_and(may_verify)
    }

    /// The key whose signature the token bears. Its claims are not looked at.
    ///
    /// # Errors
    ///
    /// When no key that may still verify has signed it.
    pub fn signing_key(&self, token: &[u8]) -> Result<&Key, TokenFault> {
        self.open(token, self.clock.now_unix_ms()).map(|(key, _)| key)
    }

    /// Checks form, header and signature. The payload is not looked at before the signature is known to be good.
    fn open(&self, token: &[u8], now_ms: i64) -> Result<(&Key, Vec<u8>), TokenFault> {
        let parts = compact::split(token)?;
        let header = compact::read_header(&parts.header)?;
        let key = self.key_that_signed(&header, &parts, now_ms)?;
        Ok((key, parts.payload))
    }

    /// The algorithm is always the key's own. A key id that is not known never falls back to another key.
    fn key_that_signed(&self, header: &Header, parts: &Parts<'_>, now_ms: i64) -> Result<&Key, TokenFault> {
        let signed = |key: &&Key| key.verifies(parts.message, parts.signature);
        let bad_signature = TokenFault::Invalid("the signature is not good");
        let Some(kid) = &header.kid else {
            let mut fitting = self
                .ring
                .keys()
                .filter(|key| key.algorithm().name() == header.algorithm && !key.is_retired(now_ms))
                .peekable();
            if fitting.peek().is_none() {
                return Err(TokenFault::Invalid("no key has the algorithm of alg"));
            }
            return fitting.find(signed).ok_or(bad_signature);
        };
        let key = self.ring.find(kid).ok_or(TokenFault::Invalid("kid names no known key"))?;
        if key.algorithm().name() != header.algorithm {
            return Err(TokenFault::Invalid("alg is not the algorithm of the key"));
        }
        if key.is_retired(now_ms) {
            return Err(TokenFault::Invalid("the key has retired"));
        }
        Some(key).filter(signed).ok_or(bad_signature)
    }
}
