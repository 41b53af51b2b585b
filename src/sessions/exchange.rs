//! What a refresh token is exchanged for: decided in one transaction, so that it is decided once.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::store::{self, Exchange, NewSession, Recorded};
use super::{Binding, Inner, SessionError, Sessions, adoption, session_of};
use crate::base::ids;
use crate::config;
use crate::store::{MAX_ATTEMPTS, StoreError, Transaction};
use crate::tokens::{Claims, Grant};
use crate::users::CredentialMark;

/// Times of `[tokens]`, in seconds but for the grace.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) access: i64,
    pub(super) refresh: i64,
    pub(super) session: Option<i64>,
    pub(super) rotate: bool,
    pub(super) grace_ms: i64,
}

impl Sessions {
    /// Decides what a refresh token that passed is exchanged for. `mark` is that of the user's password now, when the
    /// gateway knows the user.
    ///
    /// # Errors
    ///
    /// A [`SessionError`]. Using a token again after its time ends its session.
    pub async fn refresh(
        &self,
        claims: &Claims,
        mark: Option<CredentialMark>,
    ) -> Result<Grant, SessionError> {
        let inner = self.inner.as_ref();
        let sid = claims.session.clone().unwrap_or_else(|| session_of(claims));
        if inner.revocations.has_session(&sid) {
            return Err(SessionError::Revoked);
        }
        for _ in 1..MAX_ATTEMPTS {
            match self.refresh_once(claims, &sid, mark).await {
                Err(SessionError::Unavailable(StoreError::Conflict)) => {}
                outcome => return outcome,
            }
        }
        self.refresh_once(claims, &sid, mark).await
    }

    /// Ends the session of a refresh token that passed.
    ///
    /// # Errors
    ///
    /// [`SessionError::Revoked`] when it has ended already or the token was used up before.
    pub async fn end(&self, claims: &Claims) -> Result<(), SessionError> {
        let inner = self.inner.as_ref();
        let sid = claims.session.clone().unwrap_or_else(|| session_of(claims));
        if inner.revocations.has_session(&sid) {
            return Err(SessionError::Revoked);
        }
        for _ in 1..MAX_ATTEMPTS {
            match self.end_once(claims, &sid).await {
                Err(SessionError::Unavailable(StoreError::Conflict)) => {}
                outcome => return outcome,
            }
        }
        self.end_once(claims, &sid).await
    }
}

impl Sessions {
    async fn refresh_once(
        &self,
        claims: &Claims,
        sid: &str,
        mark: Option<CredentialMark>,
    ) -> Result<Grant, SessionError> {
        let inner = self.inner.as_ref();
        let _alone = inner.alone().await?;
        let now_ms = inner.clock.credible_unix_ms().map_err(SessionError::Clock)?;
        let mut transaction = inner.store.begin().await?;
        let session = self.recorded(&mut transaction, sid, claims, mark, now_ms).await?;
        if session.is_outdated(mark) {
            inner.end_with(transaction, sid, &session, "password", now_ms).await?;
            return Err(SessionError::Revoked);
        }
        let absolute_end_ms = self.rules.end_of(&session);
        if absolute_end_ms.is_some_and(|end_ms| end_ms <= now_ms) {
            return Err(SessionError::Expired);
        }
        let used = store::exchange(&mut transaction, sid, &claims.jti).await?;
        let successor = match used {
            Some(exchange) if self.rules.is_reuse(&exchange, now_ms) => {
                inner.reused(transaction, sid, &session, now_ms).await?;
                return Err(SessionError::Revoked);
            }
            Some(exchange) => Some(exchange),
            None if self.rules.rotate => {
                let exchange = self.rules.successor(now_ms, absolute_end_ms)?;
                let expires_at_ms = claims.expires_at_ms;
                store::use_up(&mut transaction, sid, &claims.jti, expires_at_ms, &exchange).await?;
                Some(exchange)
            }
            None => None,
        };
        let mut grant = self.rules.grant(sid.to_owned(), now_ms, absolute_end_ms);
        grant.refresh = successor.map(Exchange::into_refresh);
        let expires_at_ms = grant.last_expiry_ms().max(claims.expires_at_ms);
        store::touch(&mut transaction, &grant.session, expires_at_ms, now_ms).await?;
        transaction.commit().await?;
        Ok(grant)
    }

    async fn end_once(&self, claims: &Claims, sid: &str) -> Result<(), SessionError> {
        let inner = self.inner.as_ref();
        let _alone = inner.alone().await?;
        let now_ms = inner.clock.now_unix_ms();
        let mut transaction = inner.store.begin().await?;
        let session = self.recorded(&mut transaction, sid, claims, None, now_ms).await?;
        let used = store::exchange(&mut transaction, sid, &claims.jti).await?;
        if used.is_some_and(|exchange| self.rules.is_reuse(&exchange, now_ms)) {
            inner.reused(transaction, sid, &session, now_ms).await?;
            return Err(SessionError::Revoked);
        }
        inner.end_with(transaction, sid, &session, "logout", now_ms).await
    }

    /// The session of a refresh token that goes on. One that the store has never seen is recorded.
    async fn recorded(
        &self,
        transaction: &mut Transaction,
        sid: &str,
        claims: &Claims,
        mark: Option<CredentialMark>,
        now_ms: i64,
    ) -> Result<Recorded, SessionError> {
        if let Some(session) = store::session_alone(transaction, sid).await? {
            let revoked = session.has_ended || session.user_id != claims.user_id;
            return if revoked { Err(SessionError::Revoked) } else { Ok(session) };
        }
        self.inner.unless_revoked(&Binding::of(claims))?;
        if adoption::is_revoked(transaction, sid, &claims.user_id, claims.issued_at_ms).await? {
            return Err(SessionError::Revoked);
        }
        let started_at_ms = claims.issued_at_ms.unwrap_or(now_ms).min(now_ms);
        let absolute_end_ms = self.rules.absolute_end_ms(started_at_ms);
        let expires_at_ms = claims.expires_at_ms;
        let new =
            NewSession { sid, user_id: &claims.user_id, started_at_ms, expires_at_ms, absolute_end_ms, mark };
        store::insert(transaction, &new, now_ms).await?;
        Ok(Recorded {
            user_id: claims.user_id.clone(),
            started_at_ms,
            absolute_end_ms,
            mark,
            has_ended: false,
            expires_at_ms,
        })
    }
}

impl Inner {
    async fn reused(
        &self,
        transaction: Transaction,
        sid: &str,
        session: &Recorded,
        now_ms: i64,
    ) -> Result<(), SessionError> {
        self.end_with(transaction, sid, session, "reuse", now_ms).await?;
        self.reuses.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(
            session = sid,
            user = session.user_id,
            "a refresh token was used again: somebody else may have it, so its session has ended"
        );
        Ok(())
    }
}

impl Rules {
    /// Those of `[tokens]`.
    pub(super) fn new(tokens: &config::Tokens) -> Self {
        let seconds = |span: Duration| i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
        Self {
            access: seconds(tokens.access_lifetime),
            refresh: seconds(tokens.refresh_lifetime),
            session: tokens.session_lifetime.map(seconds),
            rotate: tokens.rotate_refresh,
            grace_ms: i64::try_from(tokens.reuse_grace.as_millis()).unwrap_or(i64::MAX),
        }
    }

    pub(super) fn absolute_end_ms(&self, started_at_ms: i64) -> Option<i64> {
        self.session.map(|seconds| started_at_ms.saturating_add(seconds.saturating_mul(1000)))
    }

    /// The absolute end of a session, by what was configured when it began and by what is now.
    pub(super) fn end_of(&self, session: &Recorded) -> Option<i64> {
        let now = self.absolute_end_ms(session.started_at_ms);
        session.absolute_end_ms.into_iter().chain(now).min()
    }

    pub(super) fn grant(&self, session: String, now_ms: i64, absolute_end_ms: Option<i64>) -> Grant {
        let issued_at = now_ms.div_euclid(1000);
        let access_expires_at = within(issued_at.saturating_add(self.access), absolute_end_ms);
        Grant { session, issued_at, access_expires_at, refresh: None }
    }

    /// What a refresh token is exchanged for now.
    pub(super) fn successor(
        &self,
        now_ms: i64,
        absolute_end_ms: Option<i64>,
    ) -> Result<Exchange, SessionError> {
        let issued_at = now_ms.div_euclid(1000);
        Ok(Exchange {
            used_at_ms: now_ms,
            successor_jti: ids::random_id().map_err(SessionError::Randomness)?,
            successor_issued_at: issued_at,
            successor_expires_at: within(issued_at.saturating_add(self.refresh), absolute_end_ms),
            is_superseded: false,
        })
    }

    /// Whether a token that was used once is used too late or too often. The chain counts before the clock, which may have
    /// been read before another request, of another gateway perhaps, had used the token.
    pub(super) fn is_reuse(&self, exchange: &Exchange, now_ms: i64) -> bool {
        let too_late = now_ms >= exchange.used_at_ms.saturating_add(self.grace_ms);
        exchange.is_superseded || self.grace_ms == 0 || too_late
    }
}

/// The earlier of an `exp` in seconds and an end in milliseconds.
fn within(expires_at: i64, end_ms: Option<i64>) -> i64 {
    end_ms.map_or(expires_at, |end_ms| expires_at.min(end_ms.div_euclid(1000)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_grace_nothing_is_used_twice_whatever_the_clocks_say() {
        let rules = Rules { access: 60, refresh: 600, session: None, rotate: true, grace_ms: 0 };
        let exchange = rules.successor(1_001, None).unwrap();
        assert!(rules.is_reuse(&exchange, 1_000), "a clock that was read before the other use");
        assert!(rules.is_reuse(&exchange, 1_001));
        let patient = Rules { grace_ms: 500, ..rules };
        assert!(!patient.is_reuse(&exchange, 1_000) && !patient.is_reuse(&exchange, 1_500));
        assert!(patient.is_reuse(&exchange, 1_501));
    }
}
