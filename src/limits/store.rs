//! Locks in the store.

use super::counters::Id;
use crate::store::{Store, StoreError, query};

impl Store {
    /// The locks that hold at this time, in milliseconds since 1970.
    pub(super) async fn locks(&self, now_ms: i64) -> Result<Vec<(Id, i64)>, StoreError> {
        let rows = query("SELECT id, locked_until FROM lockouts WHERE locked_until > $1")
            .bind(now_ms)
            .fetch_all(&mut self.connection().await?)
            .await?;
        let mut locks = Vec::with_capacity(rows.len());
        for row in rows {
            let id: Vec<u8> = row.get("id")?;
            if let Ok(id) = id.try_into() {
                locks.push((id, row.get("locked_until")?));
            }
        }
        Ok(locks)
    }

    /// Writes locks down, and forgets those that are over.
    pub(super) async fn add_locks(&self, locks: &[(Id, i64)], now_ms: i64) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        query("DELETE FROM lockouts WHERE locked_until <= $1").bind(now_ms).execute(&mut transaction).await?;
        for (id, locked_until_ms) in locks {
            query(
                "INSERT INTO lockouts (id, locked_until) VALUES ($1, $2) \
                 ON CONFLICT (id) DO UPDATE SET locked_until = excluded.locked_until",
            )
            .bind(id.as_slice())
            .bind(*locked_until_ms)
            .execute(&mut transaction)
            .await?;
        }
        transaction.commit().await
    }
}
