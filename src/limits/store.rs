//! Locks in the store.

use super::counters::Id;
use crate::store::{Store, StoreError};

impl Store {
    /// The locks that hold at this time, in milliseconds since 1970.
    pub(super) async fn locks(&self, now_ms: i64) -> Result<Vec<(Id, i64)>, StoreError> {
        let rows: Vec<(Vec<u8>, i64)> =
            sqlx::query_as("SELECT id, locked_until FROM lockouts WHERE locked_until > ?1")
                .bind(now_ms)
                .fetch_all(self.pool()?)
                .await?;
        Ok(rows.into_iter().filter_map(|(id, until_ms)| Some((id.try_into().ok()?, until_ms))).collect())
    }

    /// Writes locks down, and forgets those that are over.
    pub(super) async fn add_locks(&self, locks: &[(Id, i64)], now_ms: i64) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        sqlx::query("DELETE FROM lockouts WHERE locked_until <= ?1")
            .bind(now_ms)
            .execute(&mut *transaction)
            .await?;
        for (id, locked_until_ms) in locks {
            sqlx::query(
                "INSERT INTO lockouts (id, locked_until) VALUES (?1, ?2) \
                 ON CONFLICT (id) DO UPDATE SET locked_until = excluded.locked_until",
            )
            .bind(id.as_slice())
            .bind(locked_until_ms)
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        Ok(())
    }
}
