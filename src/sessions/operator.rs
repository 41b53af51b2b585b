//! What an operator does with sessions while the gateway runs.

use super::store::Listed;
use super::{SessionError, Sessions};

impl Sessions {
    /// Sessions that go on, those that were used last first; at most so many.
    ///
    /// # Errors
    ///
    /// [`SessionError::Unavailable`]
    pub async fn latest(&self, most: u32) -> Result<Vec<Listed>, SessionError> {
        let inner = self.inner.as_ref();
        Ok(inner.store.latest_sessions(inner.clock.now_unix_ms(), most).await?)
    }

    /// Ends a session, on every thread when this returns. Says whether there was one that went on.
    ///
    /// # Errors
    ///
    /// [`SessionError::Unavailable`]; it has not ended then.
    pub async fn revoke(&self, sid: &str) -> Result<bool, SessionError> {
        let inner = self.inner.as_ref();
        let _alone = inner.alone().await?;
        let Some(session) = inner.store.session(sid).await?.filter(|session| !session.has_ended) else {
            return Ok(false);
        };
        let transaction = inner.store.begin().await?;
        inner.end_with(transaction, sid, &session, "revoked", inner.clock.now_unix_ms()).await?;
        Ok(true)
    }
}
