//! Failures that several gateways count together, in the store that they share.
//!
//! Each gateway counts its own as well, with the attempts in progress; the store adds what has failed at the others. A
//! store that cannot be asked stops no login here, for a login that cannot be written down is refused anyway.

use super::counters::{Id, Rule};
use super::{Attempt, Blocked};
use crate::store::{MAX_ATTEMPTS, Store, StoreError, query};

impl Attempt {
    /// Gives the attempt back when another gateway has locked what it counts for.
    pub(super) async fn unless_locked_elsewhere(self) -> Result<Self, Blocked> {
        let inner = self.lockout.0.as_ref();
        let Some(store) = inner.store.clone().filter(Store::is_shared) else { return Ok(self) };
        match store.locked_until(&self.login, self.network.as_ref(), inner.clock.now_unix_ms()).await {
            Ok(Some(until_ms)) => {
                let blocked = self.lockout.locked(until_ms);
                self.give_back();
                Err(blocked)
            }
            Ok(None) | Err(_) => Ok(self),
        }
    }

    /// Counts a failure where all gateways see it. Returns the locks that begin with it.
    pub(super) async fn count_together(&self, store: &Store) -> Result<Vec<(Id, i64)>, StoreError> {
        if !store.is_shared() {
            return Ok(Vec::new());
        }
        let now_ms = self.lockout.0.clock.now_unix_ms();
        let (login, network) = self.lockout.rules();
        let mut locks =
            store.count_failure(&self.login, &login, now_ms).await?.into_iter().collect::<Vec<_>>();
        if let Some(id) = &self.network {
            locks.extend(store.count_failure(id, &network, now_ms).await?);
        }
        Ok(locks)
    }

    /// Forgets what has failed, after the right password.
    pub(super) fn forget_together(&self) {
        let Some(store) = self.lockout.0.store.clone().filter(Store::is_shared) else { return };
        let login = self.login;
        tokio::spawn(async move {
            if let Err(error) = store.forget_failures(&login).await {
                tracing::warn!(%error, "failed logins stay counted although one has succeeded");
            }
        });
    }
}

impl Store {
    /// Until when one of these is locked, in milliseconds since 1970.
    async fn locked_until(
        &self,
        login: &Id,
        network: Option<&Id>,
        now_ms: i64,
    ) -> Result<Option<i64>, StoreError> {
        let row = query(
            "SELECT max(locked_until) AS locked_until FROM lockouts WHERE locked_until > $1 AND (id = $2 OR id = $3)",
        )
        .bind(now_ms)
        .bind(login.as_slice())
        .bind(network.map(Id::as_slice))
        .fetch_one(&mut self.connection().await?)
        .await?;
        row.get("locked_until")
    }

    /// Counts one failure more; the last one that there may be begins a lock.
    async fn count_failure(
        &self,
        id: &Id,
        rule: &Rule,
        now_ms: i64,
    ) -> Result<Option<(Id, i64)>, StoreError> {
        for _ in 1..MAX_ATTEMPTS {
            match self.try_count_failure(id, rule, now_ms).await {
                Err(StoreError::Conflict) => {}
                outcome => return outcome,
            }
        }
        self.try_count_failure(id, rule, now_ms).await
    }

    async fn try_count_failure(
        &self,
        id: &Id,
        rule: &Rule,
        now_ms: i64,
    ) -> Result<Option<(Id, i64)>, StoreError> {
        let over_ms = now_ms.saturating_sub(rule.window_ms);
        let mut transaction = self.begin().await?;
        query("DELETE FROM login_failures WHERE began_at <= $1 AND id <> $2")
            .bind(over_ms)
            .bind(id.as_slice())
            .execute(&mut transaction)
            .await?;
        let row = query(
            "INSERT INTO login_failures AS known (id, failures, began_at) VALUES ($1, 1, $2) \
             ON CONFLICT (id) DO UPDATE SET \
             failures = CASE WHEN known.began_at <= $3 THEN 1 ELSE known.failures + 1 END, \
             began_at = CASE WHEN known.began_at <= $3 THEN $2 ELSE known.began_at END RETURNING failures",
        )
        .bind(id.as_slice())
        .bind(now_ms)
        .bind(over_ms)
        .fetch_one(&mut transaction)
        .await?;
        let failures: i64 = row.get("failures")?;
        let lock =
            (failures >= i64::from(rule.attempts)).then(|| (*id, now_ms.saturating_add(rule.duration_ms)));
        if lock.is_some() {
            query("DELETE FROM login_failures WHERE id = $1")
                .bind(id.as_slice())
                .execute(&mut transaction)
                .await?;
        }
        transaction.commit().await?;
        Ok(lock)
    }

    async fn forget_failures(&self, id: &Id) -> Result<(), StoreError> {
        let forget = query("DELETE FROM login_failures WHERE id = $1").bind(id.as_slice());
        forget.execute(&mut self.connection().await?).await?;
        Ok(())
    }
}
