//! Who is calling: the Bearer token of a request becomes a user, or a refusal.

mod cache;
mod credentials;

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;
use tokio::runtime::Handle;

use self::cache::{Entry, TokenCache};
use self::credentials::{Credentials, CredentialsMalformed};
use crate::base::bounds;
use crate::base::clock::Clock;
use crate::base::ids::RandomnessUnavailable;
use crate::base::principal::Principal;
use crate::base::reason::Reason;
use crate::base::user::User;
use crate::config::Auth;
use crate::request::Exchange;
use crate::routing::{Route, Routed};
use crate::tokens::{Claims, Expected, TokenFault, Verifier};
use crate::users::{Directory, Lookup};

/// Who a request is from.
#[derive(Clone, Debug)]
pub enum Caller {
    /// Nobody in particular.
    Anonymous,
    /// A user with a token that passes.
    User(Rc<Principal>),
}

impl Caller {
    /// The user's id, when there is a user.
    pub fn user_id(&self) -> Option<&str> {
        match self {
            Self::Anonymous => None,
            Self::User(principal) => Some(&principal.user().id),
        }
    }
}

/// A routed request of which is known who sent it. Only [`Authenticator::identify`] makes one.
#[derive(Debug)]
pub struct Identified<'a> {
    routed: Routed<'a>,
    caller: Caller,
}

impl<'a> Identified<'a> {
    /// The route.
    pub fn route(&self) -> &'a Route {
        self.routed.route()
    }

    /// Who sent it.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Takes it apart, for the stages that follow.
    pub fn into_pieces(self) -> (Exchange, &'a Route, Caller) {
        let route = self.routed.route();
        (self.routed.into_exchange(), route, self.caller)
    }
}

/// Why it is not known who sent a request.
#[derive(Debug)]
pub enum AuthnError {
    /// The `Authorization` header is not one Bearer token.
    HeaderMalformed,
    /// The token does not pass.
    Token(TokenFault),
    /// The token's user does not exist.
    UserNotFound,
    /// The token's user is switched off.
    UserInactive,
    /// It cannot be found out whether the user may still call.
    StoreUnavailable,
}

impl AuthnError {
    /// The stable reason.
    pub fn reason(&self) -> Reason {
        match self {
            Self::HeaderMalformed => Reason::HeaderMalformed,
            Self::Token(fault) => fault.reason(),
            Self::UserNotFound => Reason::UserNotFound,
            Self::UserInactive => Reason::UserInactive,
            Self::StoreUnavailable => Reason::StoreUnavailable,
        }
    }
}

impl fmt::Display for AuthnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason().word())
    }
}

impl std::error::Error for AuthnError {}

/// Authenticates the requests of one thread. It remembers the tokens that passed.
#[derive(Debug)]
pub struct Authenticator {
    verifier: Verifier,
    directory: Directory,
    users_epoch: Arc<AtomicU64>,
    control: Handle,
    clock: Clock,
    cache: RefCell<TokenCache>,
}

impl Authenticator {
    /// An authenticator with an empty memory. User look-ups run on the control plane's runtime.
    ///
    /// # Errors
    ///
    /// When there is no randomness for the cache's keyed hash.
    pub fn new(
        verifier: Verifier,
        directory: Directory,
        control: Handle,
        clock: Clock,
    ) -> Result<Self, RandomnessUnavailable> {
        let cache = RefCell::new(TokenCache::new(bounds::TOKEN_CACHE_ENTRIES)?);
        let users_epoch = directory.epoch();
        Ok(Self { verifier, directory, users_epoch, control, clock, cache })
    }

    /// Finds out who sent a request. On a public route nobody asks, and a bad token does not matter.
    ///
    /// # Errors
    ///
    /// [`AuthnError`] for credentials that do not pass, on required and optional routes alike.
    pub async fn identify<'a>(&self, routed: Routed<'a>) -> Result<Identified<'a>, AuthnError> {
        let caller = match routed.route().auth {
            Auth::Public => Caller::Anonymous,
            Auth::Required | Auth::Optional => self.caller(&routed).await?,
        };
        Ok(Identified { routed, caller })
    }

    async fn caller(&self, routed: &Routed<'_>) -> Result<Caller, AuthnError> {
        match credentials::of(routed.exchange().headers()) {
            Ok(Credentials::None) => Ok(Caller::Anonymous),
            Ok(Credentials::Bearer(token)) => self.user(token).await.map(Caller::User),
            Err(CredentialsMalformed) => Err(AuthnError::HeaderMalformed),
        }
    }

    /// The user of a token. The usual case is a hash, a comparison of bytes and two comparisons of numbers.
    async fn user(&self, token: &[u8]) -> Result<Rc<Principal>, AuthnError> {
        let epoch = self.users_epoch.load(Ordering::Acquire);
        let known = self.cache.borrow_mut().find(token);
        match known {
            Some(entry) => {
                if entry.valid_until_ms <= self.clock.now_unix_ms() {
                    self.cache.borrow_mut().remove(token);
                    // Verified once more so that the refusal names what is wrong now.
                    return self.user_of_unknown_token(token, epoch).await;
                }
                if entry.epoch == epoch {
                    return Ok(entry.principal);
                }
                self.look_up_again(token, entry, epoch).await
            }
            None => self.user_of_unknown_token(token, epoch).await,
        }
    }

    async fn user_of_unknown_token(&self, token: &[u8], epoch: u64) -> Result<Rc<Principal>, AuthnError> {
        let claims = self.verifier.verify(token, Expected::Access).map_err(AuthnError::Token)?;
        let record = self.look_up(claims.user_id.clone()).await?;
        let principal = Rc::new(Principal::new(record.unwrap_or_else(|| claimed_user(&claims))));
        let valid_until_ms = claims.valid_until_ms;
        let entry = Entry { principal: Rc::clone(&principal), valid_until_ms, epoch };
        self.cache.borrow_mut().insert(token, entry);
        Ok(principal)
    }

    /// Some user has changed since the token was last looked at: is it this one?
    async fn look_up_again(
        &self,
        token: &[u8],
        entry: Entry,
        epoch: u64,
    ) -> Result<Rc<Principal>, AuthnError> {
        match self.look_up(entry.principal.user().id.clone()).await {
            Ok(record) => {
                let principal = record.map_or(entry.principal, |user| Rc::new(Principal::new(user)));
                let renewed = Entry { principal: Rc::clone(&principal), epoch, ..entry };
                self.cache.borrow_mut().insert(token, renewed);
                Ok(principal)
            }
            // A token that is known goes on while the store cannot be read; what is known of revocations still holds.
            Err(AuthnError::StoreUnavailable) => Ok(entry.principal),
            Err(error) => {
                self.cache.borrow_mut().remove(token);
                Err(error)
            }
        }
    }

    /// The user's record as it is now; `None` where the gateway has no users of its own.
    async fn look_up(&self, id: String) -> Result<Option<User>, AuthnError> {
        let directory = self.directory.clone();
        let task = self.control.spawn(async move { directory.find(&id).await });
        match task.await {
            Ok(Ok(Lookup::Active(account))) => Ok(Some(account.user)),
            Ok(Ok(Lookup::Unmanaged)) => Ok(None),
            Ok(Ok(Lookup::Inactive)) => Err(AuthnError::UserInactive),
            Ok(Ok(Lookup::Unknown)) => Err(AuthnError::UserNotFound),
            Ok(Err(_)) | Err(_) => Err(AuthnError::StoreUnavailable),
        }
    }
}

/// The user that a token speaks of, where there is no record to ask.
fn claimed_user(claims: &Claims) -> User {
    let text = |name: &str| claims.other.get(name).and_then(Value::as_str).map(str::to_owned);
    let groups = claims.other.get("groups").and_then(Value::as_array);
    let mut groups: Vec<String> =
        groups.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    groups.sort_unstable();
    groups.dedup();
    User {
        id: claims.user_id.clone(),
        name: text("username").unwrap_or_default(),
        email: text("email"),
        groups,
    }
}
