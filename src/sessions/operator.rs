//! What an operator does with sessions while the gateway runs.

use super::store::{Listed, Which};
use super::{SessionError, Sessions};
use crate::store::{MAX_ATTEMPTS, Store, StoreError};

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

impl Store {
    /// Ends sessions, and revokes what was issued to these users outside of any session that is known. Returns how many
    /// sessions were ended.
    ///
    /// # Errors
    ///
    /// A [`StoreError`]; nothing has ended then.
    pub async fn end_sessions(&self, which: &Which, reason: &str) -> Result<u64, StoreError> {
        // Whoever ends many at once meets those who refresh some of them, and is given up for them.
        for _ in 1..MAX_ATTEMPTS {
            match self.try_end_sessions(which, reason).await {
                Err(StoreError::Conflict) => {}
                outcome => return outcome,
            }
        }
        self.try_end_sessions(which, reason).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::query;
    use crate::store::scratch::Place;

    #[tokio::test]
    async fn ending_all_sessions_outlasts_a_deadlock() {
        let Some(place) = Place::postgres() else {
            println!("no PostgreSQL on this machine, nothing was tested");
            return;
        };
        let (store, other) = (place.open().await, place.open().await);
        for sid in ["s1", "s2"] {
            let insert = "INSERT INTO sessions (sid, user_id, started_at, last_used_at, expires_at) VALUES ($1, 'u', 1, 1, $2)";
            let insert = query(insert).bind(sid).bind(i64::MAX - 600_000);
            insert.execute(&mut store.connection().await.unwrap()).await.unwrap();
        }
        let touch = "UPDATE sessions SET last_used_at = 2 WHERE sid = $1";
        let mut transaction = store.begin().await.unwrap();
        query(touch).bind("s2").execute(&mut transaction).await.unwrap();
        // It has the first one, and waits for the second.
        let ending = tokio::spawn(async move { other.end_sessions(&Which::All, "revoked").await });
        let waiting = "SELECT count(*) AS value FROM pg_locks JOIN pg_class ON pg_class.oid = relation \
                       WHERE relname = 'sessions' AND relnamespace = current_schema()::regnamespace \
                       AND locktype = 'tuple' AND granted";
        while store.number(waiting).await == 0 {
            tokio::task::yield_now().await;
        }
        // One of the two is given up for the other, which is most often the one that has waited longer.
        let touched = query(touch).bind("s1").execute(&mut transaction).await;
        assert!(matches!(touched, Ok(1) | Err(StoreError::Conflict)), "{touched:?}");
        if touched.is_ok() {
            transaction.commit().await.unwrap();
        } else {
            drop(transaction);
        }
        assert_eq!(ending.await.unwrap().unwrap(), 2);
        assert_eq!(store.number("SELECT count(*) AS value FROM sessions WHERE ended_at IS NULL").await, 0);
    }
}
