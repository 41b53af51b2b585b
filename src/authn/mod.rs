//! Who is calling: the Bearer token of a request becomes a user, or a refusal.

pub mod cache;
mod certified;
mod claimed;
pub mod credentials;
mod look_up;
mod standing;

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::runtime::Handle;

use self::cache::{Entry, Epochs, TokenCache};
pub use self::certified::Certified;
use self::credentials::{Credentials, CredentialsMalformed};
use crate::admission::Admitted;
use crate::base::bounds;
use crate::base::clock::Clock;
use crate::base::ids::RandomnessUnavailable;
use crate::base::principal::Principal;
use crate::base::reason::Reason;
use crate::base::soon::Soon;
use crate::config::Auth;
use crate::request::Exchange;
use crate::routing::{AskedClaims, HeldClaims, Route};
use crate::sessions::{Binding, Revocations, Sessions};
use crate::tokens::{TokenFault, Verifier};
use crate::users::Directory;

/// Who a request is from.
#[derive(Clone, Debug)]
pub enum Caller {
    /// Nobody in particular.
    Anonymous,
    /// A user with a token that passes.
    User(Rc<Known>),
}

/// A user, and how long what was shown of it holds. Made once per token, then shared by every request with it.
#[derive(Clone, Debug)]
pub struct Known {
    /// The token.
    pub token: TokenLife,
    /// The user as the record is now.
    pub principal: Principal,
    /// What routes ask for of the token's claims; `None` when they ask for nothing, or there is no token.
    pub claims: Option<Rc<HeldClaims>>,
}

#[cfg(test)]
impl Known {
    /// A user whose token never ends.
    pub(crate) fn of_test(principal: Principal) -> Self {
        let user_id = principal.user().id.as_str().into();
        let binding =
            Binding { session: None, user_id, issued_at_ms: None, recorded: false, verified_by: None };
        let token = TokenLife { valid_until_ms: i64::MAX, binding: Rc::new(binding), revocations_seen: 0 };
        Self { principal, claims: None, token }
    }
}

/// What ends a token, for what goes on after its request was permitted.
#[derive(Clone, Debug)]
pub struct TokenLife {
    valid_until_ms: i64,
    binding: Rc<Binding>,
    revocations_seen: u64,
}

impl TokenLife {
    /// Until when the token passes, in milliseconds since 1970.
    pub fn valid_until_ms(&self) -> i64 {
        self.valid_until_ms
    }
}

/// Whether a token that passed still holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It does.
    Good,
    /// Its time is over.
    Expired,
    /// Its session has ended.
    Revoked,
}

impl Caller {
    /// The user's id, when there is a user.
    pub fn user_id(&self) -> Option<&str> {
        match self {
            Self::Anonymous => None,
            Self::User(known) => Some(&known.principal.user().id),
        }
    }

    /// The token that was shown, when there is a user.
    pub fn token(&self) -> Option<&TokenLife> {
        match self {
            Self::Anonymous => None,
            Self::User(known) => Some(&known.token),
        }
    }
}

/// An admitted request of which is known who sent it. Only [`Authenticator::identify`] makes one.
#[derive(Debug)]
pub struct Identified<'a> {
    admitted: Admitted<'a>,
    caller: Caller,
    /// What the request would have been refused for, where nothing is enforced.
    would_refuse: Option<Reason>,
}

impl<'a> Identified<'a> {
    /// Where nothing is enforced, whoever would be refused is nobody in particular.
    fn of(admitted: Admitted<'a>, caller: Result<Caller, AuthnError>) -> Result<Self, AuthnError> {
        match caller {
            Ok(caller) => Ok(Self { admitted, caller, would_refuse: None }),
            Err(error) if admitted.route().is_enforced => Err(error),
            Err(error) => {
                Ok(Self { admitted, caller: Caller::Anonymous, would_refuse: Some(error.reason()) })
            }
        }
    }

    /// The route.
    pub fn route(&self) -> &'a Route {
        self.admitted.route()
    }

    /// The request as it was admitted.
    pub fn admitted(&self) -> &Admitted<'a> {
        &self.admitted
    }

    /// Who sent it.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// What the request would have been refused for, on a route that enforces nothing.
    pub fn would_refuse(&self) -> Option<Reason> {
        self.would_refuse
    }

    /// Takes it apart, for the stages that follow.
    pub fn into_pieces(self) -> (Exchange, &'a Route, Caller) {
        let route = self.admitted.route();
        (self.admitted.into_routed().into_exchange(), route, self.caller)
    }
}

/// Why it is not known who sent a request.
#[derive(Debug)]
pub enum AuthnError {
    /// The `Authorization` header is not one Bearer token.
    HeaderMalformed,
    /// The token does not pass.
    Token(TokenFault),
    /// The token's session has ended.
    Revoked,
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
            Self::Revoked => Reason::TokenRevoked,
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

/// What a request shows of its sender, where its route asks for it.
enum Shown<'a> {
    Nothing,
    Token(&'a [u8]),
    /// Only where there is no token.
    Certificate(&'a Certified),
}

impl<'a> Shown<'a> {
    fn of(admitted: &'a Admitted<'_>, certified: Option<&'a Certified>) -> Result<Self, AuthnError> {
        if admitted.route().auth == Auth::Public {
            return Ok(Self::Nothing);
        }
        match (credentials::of(admitted.routed().exchange().headers()), certified) {
            (Ok(Credentials::Bearer(token)), _) => Ok(Self::Token(token)),
            (Ok(Credentials::None), Some(certified)) => Ok(Self::Certificate(certified)),
            (Ok(Credentials::None), None) => Ok(Self::Nothing),
            (Err(CredentialsMalformed), _) => Err(AuthnError::HeaderMalformed),
        }
    }
}

/// Authenticates the requests of one thread. It remembers the tokens that passed.
#[derive(Debug)]
pub struct Authenticator {
    verifier: Verifier,
    directory: Directory,
    sessions: Sessions,
    revocations: Revocations,
    users_epoch: Arc<AtomicU64>,
    revocations_epoch: Arc<AtomicU64>,
    control: Handle,
    clock: Clock,
    asked: Arc<AskedClaims>,
    cache: RefCell<TokenCache<Entry>>,
}

impl Authenticator {
    /// An authenticator with an empty memory, for one table of routes: of each token it keeps the claims that they ask for.
    /// User look-ups run on the control plane's runtime.
    ///
    /// # Errors
    ///
    /// When there is no randomness for the cache's keyed hash.
    pub fn new(
        verifier: Verifier,
        directory: Directory,
        sessions: Sessions,
        control: Handle,
        clock: Clock,
        asked: Arc<AskedClaims>,
    ) -> Result<Self, RandomnessUnavailable> {
        let cache = RefCell::new(TokenCache::new(bounds::TOKEN_CACHE_ENTRIES)?);
        let users_epoch = directory.epoch();
        let revocations = sessions.revocations();
        let revocations_epoch = revocations.epoch();
        Ok(Self {
            verifier,
            directory,
            sessions,
            revocations,
            users_epoch,
            revocations_epoch,
            control,
            clock,
            asked,
            cache,
        })
    }

    /// Finds out who sent a request: by its token, or without one by the certificate of its connection. On a public route
    /// nobody asks, and a bad token does not matter. Where nothing is enforced, whoever would be refused is nobody in
    /// particular.
    ///
    /// # Errors
    ///
    /// [`AuthnError`] for credentials that do not pass, on required and optional routes alike.
    pub fn identify<'f, 'a: 'f>(
        &'f self,
        admitted: Admitted<'a>,
        certified: Option<&'f Certified>,
    ) -> Soon<'f, Result<Identified<'a>, AuthnError>> {
        match self.caller_now(&admitted, certified) {
            Some(caller) => Soon::Now(Identified::of(admitted, caller)),
            None => Soon::later(async move {
                let caller = self.caller(&admitted, certified).await;
                Identified::of(admitted, caller)
            }),
        }
    }

    /// Who sent a request, where nothing has to be looked up for it.
    fn caller_now(
        &self,
        admitted: &Admitted<'_>,
        certified: Option<&Certified>,
    ) -> Option<Result<Caller, AuthnError>> {
        match Shown::of(admitted, certified) {
            Ok(Shown::Nothing) => Some(Ok(Caller::Anonymous)),
            Ok(Shown::Token(token)) => self.remembered(token).map(Caller::User).map(Ok),
            Ok(Shown::Certificate(_)) => None,
            Err(error) => Some(Err(error)),
        }
    }

    async fn caller(
        &self,
        admitted: &Admitted<'_>,
        certified: Option<&Certified>,
    ) -> Result<Caller, AuthnError> {
        match Shown::of(admitted, certified)? {
            Shown::Nothing => Ok(Caller::Anonymous),
            Shown::Token(token) => self.user(token).await.map(Caller::User),
            Shown::Certificate(certified) => {
                let known = self.certified(certified).await?;
                Ok(known.map_or(Caller::Anonymous, Caller::User))
            }
        }
    }

    fn epochs(&self) -> Epochs {
        Epochs {
            users: self.users_epoch.load(Ordering::Acquire),
            revocations: self.revocations_epoch.load(Ordering::Acquire),
        }
    }

    /// The user of a token that has passed, of which nothing has changed since. This is the usual case: a hash, a comparison
    /// of bytes and three comparisons of numbers.
    fn remembered(&self, token: &[u8]) -> Option<Rc<Known>> {
        let now = self.epochs();
        let mut cache = self.cache.borrow_mut();
        let entry = cache.find(token)?;
        let is_good = entry.seen() == now && self.clock.now_unix_ms() < entry.known.token.valid_until_ms;
        is_good.then(|| Rc::clone(&entry.known))
    }
}
