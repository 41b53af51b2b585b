//! New tokens, with the claims that simplejwt writes, in its order.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::claims::Claims;
use super::json::Members;
use super::verify::Expected;
use crate::base::bounds;
use crate::base::clock::{ClockIsWrong, EARLIEST_UNIX_MS};
use crate::base::ids::{self, RandomnessUnavailable};
use crate::base::user::{User, UserField};
use crate::config;
use crate::keys::{KeyRing, SigningFailed};

/// Claims that a new access token never takes over from its refresh token: they are written anew or belong to the old one.
const RESERVED: [&str; 8] = ["token_type", "exp", "iat", "nbf", "jti", "sid", "aud", "iss"];

/// What may be issued: for which session, and until when. Times are seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The session.
    pub session: String,
    /// `iat` of the access token.
    pub issued_at: i64,
    /// `exp` of the access token.
    pub access_expires_at: i64,
    /// The refresh token to be issued, if there is to be one.
    pub refresh: Option<NewRefresh>,
}

/// A refresh token that is decided on. The same decision makes the same claims however often it is issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRefresh {
    /// Its id.
    pub jti: String,
    /// Its `iat`.
    pub issued_at: i64,
    /// Its `exp`.
    pub expires_at: i64,
}

impl Grant {
    /// When the last of these tokens expires, in milliseconds since 1970.
    pub fn last_expiry_ms(&self) -> i64 {
        let refresh = self.refresh.as_ref().map_or(i64::MIN, |refresh| refresh.expires_at);
        self.access_expires_at.max(refresh).saturating_mul(1000)
    }
}

/// What a login or a refresh gives.
#[derive(Clone)]
pub struct TokenPair {
    /// The refresh token, where there is a new one.
    pub refresh: Option<String>,
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
    /// The clock is not believed.
    Clock(ClockIsWrong),
    /// The token would be longer than [`bounds::MAX_TOKEN_BYTES`], so nobody would accept it.
    TooLong,
}

impl fmt::Display for IssueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Randomness(source) => write!(f, "no token could be issued: {source}"),
            Self::Signing(source) => write!(f, "no token could be issued: {source}"),
            Self::Clock(source) => write!(f, "no token could be issued: {source}"),
            Self::TooLong => f.write_str("no token could be issued: its claims are too long"),
        }
    }
}

impl std::error::Error for IssueError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Randomness(source) => Some(source),
            Self::Signing(source) => Some(source),
            Self::Clock(source) => Some(source),
            Self::TooLong => None,
        }
    }
}

/// Makes tokens, signed with the first key of the ring.
#[derive(Debug)]
pub struct Issuer {
    ring: Arc<KeyRing>,
    user_id_claim: String,
    claims: Vec<UserField>,
    iss: Option<String>,
    audience: Vec<String>,
}

impl Issuer {
    /// An issuer by the rules of `[tokens]`.
    pub fn new(ring: Arc<KeyRing>, tokens: &config::Tokens) -> Self {
        Self {
            ring,
            user_id_claim: tokens.user_id_claim.clone(),
            claims: tokens.claims.clone(),
            iss: tokens.issuer.clone(),
            audience: tokens.audience.clone(),
        }
    }

    /// The tokens of a new session.
    ///
    /// # Errors
    ///
    /// An [`IssueError`]; then nothing was issued.
    pub fn login(&self, user: &User, grant: &Grant) -> Result<TokenPair, IssueError> {
        let refresh = grant.refresh.as_ref().map(|new| self.finish(self.begin_refresh(new, user, grant)));
        let mut access = self.begin_access(user, grant)?;
        self.add_user_fields(&mut access, user);
        Ok(TokenPair { refresh: refresh.transpose()?, access: self.finish(access)? })
    }

    /// The tokens for the session of a refresh token that has passed.
    ///
    /// Other claims of the refresh token are taken over, but in the access token never those that `tokens.claims` reads
    /// from the user.
    ///
    /// # Errors
    ///
    /// An [`IssueError`]; then nothing was issued.
    pub fn refresh(&self, old: &Claims, user: &User, grant: &Grant) -> Result<TokenPair, IssueError> {
        let others = || {
            let others = old.other.iter();
            others.filter(|(name, _)| !RESERVED.contains(&name.as_str()) && **name != self.user_id_claim)
        };
        let mut access = self.begin_access(user, grant)?;
        self.add_user_fields(&mut access, user);
        let read = |name: &str| self.claims.iter().any(|field| field.name() == name);
        for (name, value) in others().filter(|(name, _)| !read(name)) {
            access.push(name.clone(), value.clone());
        }
        let successor = |new| {
            let mut refresh = self.begin_refresh(new, user, grant);
            for (name, value) in others() {
                refresh.push(name.clone(), value.clone());
            }
            self.finish(refresh)
        };
        let refresh = grant.refresh.as_ref().map(successor).transpose()?;
        Ok(TokenPair { refresh, access: self.finish(access)? })
    }

    fn begin_access(&self, user: &User, grant: &Grant) -> Result<Members, IssueError> {
        let jti = ids::random_id().map_err(IssueError::Randomness)?;
        let times = (grant.issued_at, grant.access_expires_at);
        Ok(self.begin(Expected::Access, &jti, times, &user.id, &grant.session))
    }

    fn begin_refresh(&self, new: &NewRefresh, user: &User, grant: &Grant) -> Members {
        let times = (new.issued_at, new.expires_at);
        self.begin(Expected::Refresh, &new.jti, times, &user.id, &grant.session)
    }

    /// Whether the gateway itself writes this claim, so that nobody else may.
    pub fn writes(&self, name: &str) -> bool {
        RESERVED.contains(&name)
            || name == self.user_id_claim
            || self.claims.iter().any(|field| field.name() == name)
    }

    /// A token without a login, from one time to another in seconds since 1970, with further claims that the gateway does
    /// not write itself.
    ///
    /// # Errors
    ///
    /// An [`IssueError`]; then nothing was issued.
    pub fn mint(
        &self,
        kind: Expected,
        user: &User,
        (issued_at, expires_at): (i64, i64),
        claims: Vec<(String, Value)>,
    ) -> Result<Minted, IssueError> {
        if issued_at < EARLIEST_UNIX_MS.div_euclid(1000) {
            return Err(IssueError::Clock(ClockIsWrong));
        }
        let id = || ids::random_id().map_err(IssueError::Randomness);
        let mut members = self.begin(kind, &id()?, (issued_at, expires_at), &user.id, &id()?);
        if kind == Expected::Access {
            self.add_user_fields(&mut members, user);
        }
        for (name, value) in claims {
            members.push(name, value);
        }
        Ok(Minted { text: self.finish(members)?, expires_at })
    }

    fn begin(
        &self,
        kind: Expected,
        jti: &str,
        (issued_at, expires_at): (i64, i64),
        user_id: &str,
        session: &str,
    ) -> Members {
        Members::new()
            .with("token_type", kind.name())
            .with("exp", expires_at)
            .with("iat", issued_at)
            .with("jti", jti)
            .with(self.user_id_claim.clone(), user_id)
            .with("sid", session)
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
        seal(&self.ring, &members)
    }
}

/// Signs claims with the first key.
pub(super) fn seal(ring: &KeyRing, members: &Members) -> Result<String, IssueError> {
    let key = ring.signer();
    let header = Members::new().with("alg", key.algorithm().name()).with("typ", "JWT").with("kid", key.kid());
    let encode = |members: &Members| URL_SAFE_NO_PAD.encode(members.to_string());
    let message = format!("{}.{}", encode(&header), encode(members));
    let signature = key.sign(message.as_bytes()).map_err(IssueError::Signing)?;
    let token = format!("{message}.{signature}");
    if token.len() > bounds::MAX_TOKEN_BYTES { Err(IssueError::TooLong) } else { Ok(token) }
}
