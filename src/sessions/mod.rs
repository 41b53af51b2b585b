//! Sessions: every login begins one, every token of it carries its id, and when it has ended none of them passes.
//!
//! The store decides, in one transaction for each decision, and an answer is given only after the commit. What was
//! revoked is also in memory ([`Revocations`]), where data-plane threads look, and stays true while the store is away.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};
use tokio::time::Instant;

use crate::base::clock::{Clock, ClockIsWrong};
use crate::base::ids::{self, RandomnessUnavailable};
use crate::config;
use crate::store::{Store, StoreError, Transaction, Version};
use crate::tokens::{Claims, Expected, Grant, NewRefresh, VerifiedBy};
use crate::users::CredentialMark;

mod adoption;
mod exchange;
mod operator;
mod revoked;
mod store;
mod watch;

pub use revoked::Revocations;
pub use store::{Listed, Which};

use exchange::Rules;
use revoked::Revocation;
use store::{AFTERLIFE_MS, Exchange, NewSession, Recorded};

/// How long a request waits for those before it that write.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a token is revoked by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The session that it belongs to.
    pub session: Option<Box<str>>,
    /// Whose it is.
    pub user_id: Box<str>,
    /// When it was issued, in milliseconds since 1970.
    pub issued_at_ms: Option<i64>,
    /// Whether the store knows the session.
    pub recorded: bool,
    /// The key that has verified it; `None` for what is no token.
    pub verified_by: Option<VerifiedBy>,
}

impl Binding {
    /// That of a token which passed. A refresh token without a session has one that is made of its id.
    pub fn of(claims: &Claims) -> Self {
        let derived = || (claims.token_type == Expected::Refresh.name()).then(|| session_of(claims));
        let session = claims.session.clone().or_else(derived).map(String::into_boxed_str);
        let (user_id, issued_at_ms) = (claims.user_id.clone().into_boxed_str(), claims.issued_at_ms);
        let verified_by = claims.verified_by.clone();
        Self { session, user_id, issued_at_ms, recorded: false, verified_by }
    }
}

/// Why a token gives nothing.
#[derive(Debug)]
pub enum SessionError {
    /// Its session has ended, or it was used before.
    Revoked,
    /// The absolute end of its session has come.
    Expired,
    /// The store cannot be read or written.
    Unavailable(StoreError),
    /// There was no randomness for an id.
    Randomness(RandomnessUnavailable),
    /// The clock is not believed.
    Clock(ClockIsWrong),
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Revoked => f.write_str("the session has ended"),
            Self::Expired => f.write_str("the session has come to its absolute end"),
            Self::Unavailable(error) => error.fmt(f),
            Self::Randomness(error) => error.fmt(f),
            Self::Clock(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for SessionError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Revoked | Self::Expired => None,
            Self::Unavailable(error) => Some(error),
            Self::Randomness(error) => Some(error),
            Self::Clock(error) => Some(error),
        }
    }
}

impl<E: Into<StoreError>> From<E> for SessionError {
    fn from(error: E) -> Self {
        Self::Unavailable(error.into())
    }
}

/// The sessions of the store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Sessions {
    inner: Arc<Inner>,
    rules: Rules,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    clock: Clock,
    revocations: Revocations,
    /// Held while something is written to a store of one gateway: SQLite lets one write, and this queue is fair. Several
    /// gateways wait for each other in their database.
    writing: Mutex<()>,
    seen: Mutex<Seen>,
    /// When the store said what is known of revocations by others.
    known_as_of: std::sync::Mutex<Instant>,
    reuses: AtomicU64,
}

/// What the last look at the store saw.
#[derive(Debug)]
struct Seen {
    version: Version,
    seq: i64,
    failing: bool,
}

impl Sessions {
    /// Reads what is revoked. From here on every revocation is noticed.
    ///
    /// # Errors
    ///
    /// A [`StoreError`].
    pub async fn open(store: Store, clock: Clock, tokens: &config::Tokens) -> Result<Self, StoreError> {
        let version = store.version().await?;
        let revocations = Revocations::default();
        let (seq, revoked) = store.revocations(0).await?;
        // None is forgotten yet, by a clock that may have to be set first.
        revocations.add(revoked);
        let seen = Mutex::new(Seen { version, seq, failing: false });
        let (writing, reuses) = (Mutex::new(()), AtomicU64::new(0));
        let known_as_of = std::sync::Mutex::new(version.as_of);
        let inner = Inner { store, clock, revocations, writing, seen, known_as_of, reuses };
        Ok(Self { inner: Arc::new(inner), rules: Rules::new(tokens) })
    }

    /// The same sessions by the rules of another configuration.
    #[must_use]
    pub fn with_rules(&self, tokens: &config::Tokens) -> Self {
        Self { inner: Arc::clone(&self.inner), rules: Rules::new(tokens) }
    }

    /// What is revoked, for data-plane threads.
    pub fn revocations(&self) -> Revocations {
        self.inner.revocations.clone()
    }

    /// How long ago the store last said what others have revoked. It is asked all the time, so this is short while the
    /// store can be read.
    pub fn behind(&self) -> Duration {
        self.inner.known_as_of.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// How often a refresh token was used again after its time, since the start.
    pub fn reuses(&self) -> u64 {
        self.inner.reuses.load(Ordering::Relaxed)
    }

    /// Begins the session of a login.
    ///
    /// # Errors
    ///
    /// [`SessionError::Unavailable`], [`SessionError::Randomness`] and [`SessionError::Clock`]; no token may be given out
    /// then.
    pub async fn begin(&self, user_id: &str, mark: CredentialMark) -> Result<Grant, SessionError> {
        let inner = self.inner.as_ref();
        let now_ms = inner.clock.credible_unix_ms().map_err(SessionError::Clock)?;
        let sid = ids::random_id().map_err(SessionError::Randomness)?;
        let absolute_end_ms = self.rules.absolute_end_ms(now_ms);
        let mut grant = self.rules.grant(sid, now_ms, absolute_end_ms);
        grant.refresh = Some(self.rules.successor(now_ms, absolute_end_ms)?.into_refresh());
        let new = NewSession {
            sid: &grant.session,
            user_id,
            started_at_ms: now_ms,
            expires_at_ms: grant.last_expiry_ms(),
            absolute_end_ms,
            mark: Some(mark),
        };
        let _alone = inner.alone().await?;
        let mut transaction = inner.store.begin().await?;
        store::insert(&mut transaction, &new, now_ms).await?;
        transaction.commit().await?;
        Ok(grant)
    }

    /// Whether a token that passed may go on as far as its session is concerned: what is known in memory and in the store.
    /// A session that was begun with another password than the user has now, by `mark`, is ended.
    ///
    /// # Errors
    ///
    /// [`SessionError::Revoked`] and [`SessionError::Unavailable`].
    pub async fn admit(
        &self,
        mut binding: Binding,
        mark: Option<CredentialMark>,
    ) -> Result<Binding, SessionError> {
        let inner = self.inner.as_ref();
        if let Some(sid) = &binding.session {
            if inner.revocations.has_session(sid) {
                return Err(SessionError::Revoked);
            }
            if let Some(session) = inner.store.session(sid).await? {
                if session.has_ended || *session.user_id != *binding.user_id {
                    return Err(SessionError::Revoked);
                }
                if session.is_outdated(mark) {
                    let _alone = inner.alone().await?;
                    let now_ms = inner.clock.now_unix_ms();
                    let transaction = inner.store.begin().await?;
                    inner.end_with(transaction, sid, &session, "password", now_ms).await?;
                    return Err(SessionError::Revoked);
                }
                binding.recorded = true;
            }
        }
        if inner.revocations.has(&binding) { Err(SessionError::Revoked) } else { Ok(binding) }
    }

    /// Whether a token of any kind that passed is still good. Nothing is changed.
    ///
    /// # Errors
    ///
    /// [`SessionError::Revoked`] and [`SessionError::Unavailable`].
    pub async fn check(&self, claims: &Claims) -> Result<(), SessionError> {
        let inner = self.inner.as_ref();
        let mut binding = Binding::of(claims);
        let Some(sid) = binding.session.clone() else { return inner.unless_revoked(&binding) };
        if inner.revocations.has_session(&sid) {
            return Err(SessionError::Revoked);
        }
        let mut connection = inner.store.connection().await?;
        if let Some(session) = store::session(&mut connection, &sid).await? {
            if session.has_ended {
                return Err(SessionError::Revoked);
            }
            binding.recorded = true;
        }
        if claims.token_type == Expected::Refresh.name() {
            let used = store::exchange(&mut connection, &sid, &claims.jti).await?;
            let now_ms = inner.clock.now_unix_ms();
            if used.is_some_and(|exchange| self.rules.is_reuse(&exchange, now_ms)) {
                return Err(SessionError::Revoked);
            }
        }
        inner.unless_revoked(&binding)
    }
}

impl Inner {
    async fn alone(&self) -> Result<Option<MutexGuard<'_, ()>>, StoreError> {
        if self.store.is_shared() {
            return Ok(None);
        }
        let waited = tokio::time::timeout(PATIENCE, self.writing.lock()).await;
        waited.map(Some).map_err(|_| StoreError::Locked)
    }

    fn unless_revoked(&self, binding: &Binding) -> Result<(), SessionError> {
        if self.revocations.has(binding) { Err(SessionError::Revoked) } else { Ok(()) }
    }

    /// Ends a session and commits. It holds on every thread when this returns.
    async fn end_with(
        &self,
        mut transaction: Transaction,
        sid: &str,
        session: &Recorded,
        reason: &str,
        now_ms: i64,
    ) -> Result<(), SessionError> {
        store::end(&mut transaction, &Which::One(sid.to_owned()), reason, now_ms).await?;
        transaction.commit().await?;
        let until_ms = session.expires_at_ms.saturating_add(AFTERLIFE_MS);
        self.revocations.add([Revocation::Session { sid: sid.into(), until_ms }]);
        Ok(())
    }
}

impl Exchange {
    fn into_refresh(self) -> NewRefresh {
        let (issued_at, expires_at) = (self.successor_issued_at, self.successor_expires_at);
        NewRefresh { jti: self.successor_jti, issued_at, expires_at }
    }
}

impl Recorded {
    /// Whether the password was changed since the session began.
    fn is_outdated(&self, mark: Option<CredentialMark>) -> bool {
        self.mark.zip(mark).is_some_and(|(begun_with, now)| begun_with != now)
    }
}

/// The session of a refresh token that names none: made of its id, so that every use of it finds the same one.
fn session_of(claims: &Claims) -> String {
    let text = format!("session of\0{}\0{}", claims.user_id, claims.jti);
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    digest.as_ref().iter().take(16).fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

#[cfg(test)]
mod tests;
