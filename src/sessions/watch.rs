//! What happens without being asked: noticing revocations by others, and forgetting what has expired.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use super::{Inner, Seen, Sessions};
use crate::base::bounds;
use crate::store::StoreError;
use crate::users::{Directory, Lookup};

/// How often expired rows are deleted.
const SWEEP_INTERVAL: Duration = Duration::from_mins(1);

impl Sessions {
    /// Looks for revocations by others every [`bounds::WATCH_INTERVAL_MS`] milliseconds and deletes what has expired every
    /// minute, until it is dropped.
    pub async fn watch(&self) {
        let mut ticks = tokio::time::interval(Duration::from_millis(bounds::WATCH_INTERVAL_MS));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut sweeps = tokio::time::interval(SWEEP_INTERVAL);
        sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => self.look().await,
                _ = sweeps.tick() => {
                    if let Err(error) = self.sweep().await {
                        tracing::warn!(%error, "expired sessions are not deleted");
                    }
                }
            }
        }
    }

    /// Looks once for revocations by others.
    pub async fn look(&self) {
        let mut seen = self.0.seen.lock().await;
        match self.0.load(&mut seen).await {
            Ok(()) => seen.failing = false,
            Err(error) => {
                if !seen.failing {
                    tracing::error!(%error, "revocations by others are not noticed");
                }
                seen.failing = true;
            }
        }
    }

    /// Deletes what has expired, in batches.
    ///
    /// # Errors
    ///
    /// A [`StoreError`].
    pub async fn sweep(&self) -> Result<(), StoreError> {
        let now_ms = self.0.clock.now_unix_ms();
        self.0.revocations.forget(now_ms);
        loop {
            let alone = self.0.alone().await?;
            let more = self.0.store.sweep_sessions(now_ms).await?;
            drop(alone);
            if !more {
                return Ok(());
            }
        }
    }

    /// Ends sessions of users of another source than the store as they lose their account or change their password, until
    /// it is dropped. (Of users of the store, the store itself does that.)
    pub async fn follow(&self, directory: Directory) {
        let epoch = directory.epoch();
        let mut settled = None;
        let mut ticks = tokio::time::interval(Duration::from_millis(bounds::WATCH_INTERVAL_MS));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let now = epoch.load(Ordering::Acquire);
            if settled != Some(now) && self.reconcile(&directory).await.is_ok() {
                settled = Some(now);
            }
        }
    }

    /// Ends sessions of users who are not what they were.
    async fn reconcile(&self, directory: &Directory) -> Result<(), StoreError> {
        let now_ms = self.0.clock.now_unix_ms();
        let mut ended = 0;
        for user_id in self.0.store.users_with_sessions(now_ms).await? {
            let (mark, reason) = match directory.find(&user_id).await {
                Ok(Lookup::Active(account)) => (Some(account.mark), "password"),
                Ok(Lookup::Inactive) => (None, "disabled"),
                Ok(Lookup::Unknown) => (None, "deleted"),
                // Who cannot be asked for now is asked for again when a token is used.
                Ok(Lookup::Unmanaged) | Err(_) => continue,
            };
            let _alone = self.0.alone().await?;
            ended += self.0.store.end_outdated(&user_id, mark, reason, now_ms).await?;
        }
        if ended > 0 {
            tracing::info!(ended, "sessions of changed users have ended");
            self.look().await;
        }
        Ok(())
    }
}

impl Inner {
    async fn load(&self, seen: &mut Seen) -> Result<(), StoreError> {
        let data_version = self.store.data_version().await?;
        if data_version == seen.data_version {
            return Ok(());
        }
        // Read after the version: what is committed in between is seen at the next look once more.
        let (seq, revoked) = self.store.revocations(seen.seq).await?;
        self.revocations.add(revoked);
        (seen.data_version, seen.seq) = (data_version, seq);
        Ok(())
    }
}
