//! Statements for upstreams about who is calling: tokens that the gateway itself never accepts.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use super::issue::{IssueError, seal};
use super::json::Members;
use crate::base::ids;
use crate::base::user::User;
use crate::config;
use crate::keys::KeyRing;

/// What stands in `token_type`, so that neither the gateway nor who knows its tokens takes a statement for one of them.
pub const TOKEN_TYPE: &str = "assertion";

/// `iss` where `tokens.issuer` is not set.
const USUAL_ISSUER: &str = "tollgate";

/// Signs statements with the first key of the ring, which everybody can verify with the published keys.
#[derive(Debug)]
pub struct Asserter {
    ring: Arc<KeyRing>,
    issuer: String,
    user_id_claim: String,
}

/// What a statement says.
#[derive(Clone, PartialEq, Eq)]
pub struct Statement {
    /// For whom it is.
    pub audience: String,
    /// Who is calling.
    pub user: User,
    /// `iat`, in seconds since 1970.
    pub issued_at: i64,
    /// `exp`, in seconds since 1970.
    pub expires_at: i64,
}

impl fmt::Debug for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Statement").field("audience", &self.audience).finish_non_exhaustive()
    }
}

impl Asserter {
    /// One by the rules of `[tokens]`.
    pub fn new(ring: Arc<KeyRing>, tokens: &config::Tokens) -> Self {
        let issuer = tokens.issuer.clone().unwrap_or_else(|| USUAL_ISSUER.to_owned());
        Self { ring, issuer, user_id_claim: tokens.user_id_claim.clone() }
    }

    /// Signs a statement. This takes from a few hundredths of a millisecond to one, by the kind of the key.
    ///
    /// # Errors
    ///
    /// An [`IssueError`].
    pub fn sign(&self, statement: &Statement) -> Result<String, IssueError> {
        let Statement { audience, user, issued_at, expires_at } = statement;
        let jti = ids::random_id().map_err(IssueError::Randomness)?;
        let mut members = Members::new()
            .with("token_type", TOKEN_TYPE)
            .with("iss", self.issuer.as_str())
            .with("aud", audience.as_str())
            .with("sub", user.id.as_str())
            .with("iat", *issued_at)
            .with("exp", *expires_at)
            .with("jti", jti.as_str());
        let mut say = |name: &str, value: Value| {
            if members.get(name).is_none() {
                members.push(name.to_owned(), value);
            }
        };
        say(&self.user_id_claim, Value::from(user.id.as_str()));
        if !user.name.is_empty() {
            say("username", Value::from(user.name.as_str()));
        }
        if let Some(email) = &user.email {
            say("email", Value::from(email.as_str()));
        }
        say("groups", Value::from(user.groups.clone()));
        seal(&self.ring, &members)
    }
}
