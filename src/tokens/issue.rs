//! New tokens, with the claims that simplejwt writes, in its order.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::claims::Claims;
use super::json::Members;
use super::verify::Expected;
use crate::base::bounds;
use crate::base::clock::Clock;
use crate::base::ids::{self, RandomnessUnavailable};
use crate::base::user::{User, UserField};
use crate::config;
use crate::keys::{KeyRing, SigningFailed};

/// Claims that a new access token never takes over from its refresh token: they are written anew or belong to the old one.
const RESERVED: [&str; 8] = ["token_type", "exp", "iat", "nbf", "jti", "sid", "aud", "iss"];

/// What a login gives.
#[derive(Clone)]
pub struct TokenPair {
    /// The refresh token.
    pub refresh: String,
    /// The access token of the same session.
    pub access: String,
}

impl fmt::Debug for TokenPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenPair(..)")
    }
}

/// A token that nobody logged in for.
#[derive(Clone)]
pub struct Minted {
    /// The token.
    pub text: String,
    /// Its end, in seconds since 1970.
    pub expires_at: i64,
}

impl fmt::Debug for Minted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Minted").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

/// Why no token was made.
#[derive(Debug)]
pub enum IssueError {
    /// There was no randomness for an id.
    Randomness(RandomnessUnavailable),
    /// The key could not sign.
    Signing(SigningFailed),
    /// The token would be longer than [`bounds::MAX_TOKEN_BYTES`], so nobody would accept it.
    TooLong,
}

impl fmt::Display for IssueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Randomness(source) => write!(f, "no token could be issued: {source}"),
            Self::Signing(source) => write!(f, "no token could be issued: {source}"),
            Self::TooLong => f.write_str("no token could be issued: its claims are too long"),
        }
    }
}

impl std::error::Error for IssueError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Randomness(source) => Some(source),
            Self::Signing(source) => Some(source),
            Self::TooLong => None,
        }
    }
}

/// Makes tokens, signed with the first key of the ring.
#[derive(Debug)]
pub struct Issuer {
    ring: Arc<KeyRing>,
    clock: Clock,
    access_seconds: i64,
    refresh_seconds: i64,
    user_id_claim: String,
    claims: Vec<UserField>,
    iss: Option<String>,
    audience: Vec<String>,
}

impl Issuer {
    /// An issuer by the rules of `[tokens]`.
    pub fn new(ring: Arc<KeyRing>, tokens: &config::Tokens, clock: Clock) -> Self {
        Self {
            ring,
            clock,
            access_seconds: whole_seconds(tokens.access_lifetime),
            refresh_seconds: whole_seconds(tokens.refresh_lifetime),
            user_id_claim: tokens.user_id_claim.clone(),
            claims: tokens.claims.clone(),
            iss: tokens.issuer.clone(),
            audience: tokens.audience.clone(),
        }
    }

    /// The two tokens of a new session.
    ///
    /// # Errors
    ///
    /// An [`IssueError`]; then nothing was issued.
    pub fn login(&self, user: &User) -> Result<TokenPair, IssueError> {
        let session = ids::random_id().map_err(IssueError::Randomness)?;
        let now = self.clock.now_unix_seconds();
        let refresh = self.begin(Expected::Refresh, now, &user.id, Some(&session))?;
        let mut access = self.begin(Expected::Access, now, &user.id, Some(&session))?;
        self.add_user_fields(&mut access, user);
        Ok(TokenPair { refresh: self.finish(refresh)?, access: self.finish(access)? })
    }

    /// An access token for the session of a refresh token that has passed.
    ///
    /// Other claims of the refresh token are taken over, but never those that `tokens.claims` reads from the user.
    ///
    /// # Errors
    ///
    /// An [`IssueError`]; then nothing was issued.
    pub fn refresh(&self, refresh: &Claims, user: &User) -> Result<String, IssueError> {
        let now = self.clock.now_unix_seconds();
        let mut access = self.begin(Expected::Access, now, &user.id, refresh.session.as_deref())?;
        self.add_user_fields(&mut access, user);
        for (name, value) in refresh.other.iter().filter(|(name, _)| !self.writes(name)) {
            access.push(name.clone(), value.clone());
        }
        self.finish(access)
    }

    /// Whether the gateway itself writes this claim, so that nobody else may.
    pub fn writes(&self, name: &str) -> bool {
        RESERVED.contains(&name)
            || name == self.user_id_claim
            || self.claims.iter().any(|field| field.name() == name)
    }

    /// A token without a login, with further claims that the gateway does not write itself.
    ///
    /// # Errors
    ///
    /// An [`IssueError`]; then nothing was issued.
    pub fn mint(
        &self,
        kind: Expected,
        user: &User,
        lifetime: Option<Duration>,
        claims: Vec<(String, Value)>,
    ) -> Result<Minted, IssueError> {
        let lifetime = lifetime.map_or_else(|| self.lifetime(kind), whole_seconds);
        let now = self.clock.now_unix_seconds();
        let expires_at = now.saturating_add(lifetime);
        let id = || ids::random_id().map_err(IssueError::Randomness);
        let mut members = Members::new()
            .with("token_type", kind.name())
            .with("exp", expires_at)
            .with("iat", now)
            .with("jti", id()?)
            .with(self.user_id_claim.clone(), user.id.as_str())
            .with("sid", id()?);
        if kind == Expected::Access {
            self.add_user_fields(&mut members, user);
        }
        for (name, value) in claims {
            members.push(name, value);
        }
        Ok(Minted { text: self.finish(members)?, expires_at })
    }

    fn lifetime(&self, kind: Expected) -> i64 {
        match kind {
            Expected::Access => self.access_seconds,
            Expected::Refresh => self.refresh_seconds,
        }
    }

    fn begin(
        &self,
        kind: Expected,
        now: i64,
        user_id: &str,
        session: Option<&str>,
    ) -> Result<Members, IssueError> {
        let lifetime = self.lifetime(kind);
        let mut members = Members::new()
            .with("token_type", kind.name())
            .with("exp", now.saturating_add(lifetime))
            .with("iat", now)
            .with("jti", ids::random_id().map_err(IssueError::Randomness)?)
            .with(self.user_id_claim.clone(), user_id);
        if let Some(session) = session {
            members.push("sid", session);
        }
        Ok(members)
    }

    fn add_user_fields(&self, members: &mut Members, user: &User) {
        for field in &self.claims {
            let value = match field {
                UserField::Username => Some(Value::from(user.name.as_str())),
                UserField::Email => user.email.as_deref().map(Value::from),
                UserField::Groups => Some(Value::from(user.groups.clone())),
            };
            // A user id claim that is named like a field keeps its value.
            if let Some(value) = value.filter(|_| field.name() != self.user_id_claim) {
                members.push(field.name(), value);
            }
        }
    }

    /// Adds the binding and signs.
    fn finish(&self, mut members: Members) -> Result<String, IssueError> {
        match self.audience.as_slice() {
            [] => {}
            [one] => members.push("aud", one.as_str()),
            several => members.push("aud", several.to_vec()),
        }
        if let Some(issuer) = &self.iss {
            members.push("iss", issuer.as_str());
        }
        let key = self.ring.signer();
        let header =
            Members::new().with("alg", key.algorithm().name()).with("typ", "JWT").with("kid", key.kid());
        let encode = |members: &Members| URL_SAFE_NO_PAD.encode(members.to_string());
        let message = format!("{}.{}", encode(&header), encode(&members));
        let signature = key.sign(message.as_bytes()).map_err(IssueError::Signing)?;
        let token = format!("{message}.{signature}");
        if token.len() > bounds::MAX_TOKEN_BYTES { Err(IssueError::TooLong) } else { Ok(token) }
    }
}

/// Rounded up, so that a lifetime is never shorter than configured.
fn whole_seconds(lifetime: Duration) -> i64 {
    i64::try_from(lifetime.as_millis().div_ceil(1000)).unwrap_or(i64::MAX)
}
