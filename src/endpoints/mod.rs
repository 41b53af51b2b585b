//! The token routes, in the dialect of djangorestframework-simplejwt: login, refresh, verify, logout, and the published keys.
//!
//! They run on the control plane, because a login hashes a password. The data plane hands over a whole request, whose
//! body it has limited to [`crate::base::bounds::MAX_TOKEN_REQUEST_BYTES`], and writes the answer.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderValue, Method};

use crate::base::secret::Secret;
use crate::config;
use crate::keys::KeyRing;
use crate::limits::Lockout;
use crate::sessions::Sessions;
use crate::tokens::{Issuer, Verifier};
use crate::users::{Directory, Login, Lookup, UsersError};

pub mod answer;
mod blacklist;
pub mod body;
mod form;
mod jwks;
mod login;
mod refresh;
mod verify;

pub use answer::{Answer, Body};

/// Where the published keys are (RFC 8615; the name is that of `OpenID` Connect Discovery).
const JWKS_PATH: &str = "/.well-known/jwks.json";

/// Who may log in, and what is known of them: the user source as the token routes see it.
pub trait People: Send + Sync {
    /// Checks a password. It takes the same time whoever is asked for.
    fn authenticate<'a>(
        &'a self,
        name: &'a str,
        password: &'a Secret,
    ) -> BoxFuture<'a, Result<Login, PeopleError>>;

    /// Looks a user up by the id that tokens carry.
    fn find<'a>(&'a self, user_id: &'a str) -> BoxFuture<'a, Result<Lookup, PeopleError>>;

    /// Whether so many passwords wait to be checked that another one would be refused.
    fn is_overloaded(&self) -> bool;
}

impl People for Directory {
    fn authenticate<'a>(
        &'a self,
        name: &'a str,
        password: &'a Secret,
    ) -> BoxFuture<'a, Result<Login, PeopleError>> {
        Box::pin(async move { Self::authenticate(self, name, password).await.map_err(PeopleError::from) })
    }

    fn find<'a>(&'a self, user_id: &'a str) -> BoxFuture<'a, Result<Lookup, PeopleError>> {
        Box::pin(async move { Self::find(self, user_id).await.map_err(PeopleError::from) })
    }

    fn is_overloaded(&self) -> bool {
        Self::is_overloaded(self)
    }
}

/// Why nobody could be asked. What the source says of it is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeopleError {
    /// The user source cannot be read.
    Unavailable,
    /// Too many passwords are being checked already.
    Overloaded,
}

impl From<UsersError> for PeopleError {
    fn from(error: UsersError) -> Self {
        match error {
            UsersError::Overloaded => Self::Overloaded,
            UsersError::Unavailable(error) => {
                tracing::error!(%error, "users cannot be looked up");
                Self::Unavailable
            }
        }
    }
}

/// One of the routes that the gateway answers itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A password for a pair of tokens.
    Login,
    /// A refresh token for an access token.
    Refresh,
    /// Whether a token is good.
    Verify,
    /// A refresh token for the end of its session.
    Blacklist,
    /// The public keys.
    Jwks,
}

/// A whole request to a token route.
#[derive(Clone)]
pub struct TokenRequest {
    /// Which route.
    pub endpoint: Endpoint,
    /// The method as sent.
    pub method: Method,
    /// The `Content-Type` as sent.
    pub content_type: Option<HeaderValue>,
    /// `Authorization` as sent, which a login may have.
    pub authorization: Option<HeaderValue>,
    /// The whole body.
    pub body: Bytes,
    /// The address of the client, behind trusted proxies if there are any.
    pub client: IpAddr,
}

impl Endpoint {
    /// Every token route.
    pub const ALL: [Self; 5] = [Self::Login, Self::Refresh, Self::Verify, Self::Blacklist, Self::Jwks];

    /// Which token route a path is where they are under `prefix`, with or without a slash at the end.
    pub fn at(prefix: &str, path: &str) -> Option<Self> {
        if path == JWKS_PATH {
            return Some(Self::Jwks);
        }
        match path.strip_prefix(prefix)? {
            "" | "/" => Some(Self::Login),
            "/refresh" | "/refresh/" => Some(Self::Refresh),
            "/verify" | "/verify/" => Some(Self::Verify),
            "/blacklist" | "/blacklist/" => Some(Self::Blacklist),
            _ => None,
        }
    }

    /// Its name in logs, in place of a route's.
    pub fn name(self) -> &'static str {
        match self {
            Self::Login => "token",
            Self::Refresh => "token-refresh",
            Self::Verify => "token-verify",
            Self::Blacklist => "token-blacklist",
            Self::Jwks => "jwks",
        }
    }
}

impl fmt::Debug for TokenRequest {
    /// Without the body, which holds a password or a token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { endpoint, method, content_type, client, authorization: _, body: _ } = self;
        let mut debug = f.debug_struct("TokenRequest");
        debug.field("endpoint", endpoint).field("method", method).field("content_type", content_type);
        debug.field("client", client).finish_non_exhaustive()
    }
}

/// The token routes with all that they need. Cheap to clone.
#[derive(Clone)]
pub struct TokenRoutes(Arc<Inner>);

struct Inner {
    people: Arc<dyn People>,
    sessions: Sessions,
    lockout: Lockout,
    issuer: Issuer,
    verifier: Verifier,
    ring: Arc<KeyRing>,
    path: String,
    realm: String,
}

impl TokenRoutes {
    /// The routes under `tokens.path`.
    pub fn new(
        people: Arc<dyn People>,
        sessions: Sessions,
        lockout: Lockout,
        issuer: Issuer,
        verifier: Verifier,
        ring: Arc<KeyRing>,
        tokens: &config::Tokens,
    ) -> Self {
        let (path, realm) = (tokens.path.clone(), tokens.realm.clone());
        Self(Arc::new(Inner { people, sessions, lockout, issuer, verifier, ring, path, realm }))
    }

    /// Which token route this path is, with or without a slash at the end.
    pub fn matches(&self, path: &str) -> Option<Endpoint> {
        Endpoint::at(&self.0.path, path)
    }

    /// The refusal of a login that would only find that too many wait, so that nothing is done for it: a flood of logins
    /// costs the threads that serve requests little, and those that work on logins nothing.
    pub fn shed(&self, endpoint: Endpoint, method: &Method) -> Option<Answer> {
        let is_shed = endpoint == Endpoint::Login && *method == Method::POST && self.0.people.is_overloaded();
        is_shed.then(|| answer::people_unavailable(PeopleError::Overloaded))
    }

    /// Answers a request.
    pub async fn answer(&self, request: TokenRequest) -> Answer {
        let routes = self.0.as_ref();
        let outcome = match request.endpoint {
            Endpoint::Jwks => Ok(jwks::answer(&routes.ring, &request.method)),
            Endpoint::Login | Endpoint::Refresh | Endpoint::Verify | Endpoint::Blacklist
                if request.method != Method::POST =>
            {
                Err(answer::method_not_allowed(&request.method, "POST"))
            }
            Endpoint::Login => login::answer(routes, request).await,
            Endpoint::Refresh => refresh::answer(routes, request).await,
            Endpoint::Verify => verify::answer(routes, request).await,
            Endpoint::Blacklist => blacklist::answer(routes, request).await,
        };
        outcome.unwrap_or_else(|refusal| refusal)
    }
}

impl fmt::Debug for TokenRoutes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenRoutes").field("path", &self.0.path).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
