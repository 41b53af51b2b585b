//! What happens without being asked: noticing revocations by others, and forgetting what has expired.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};

use super::{Inner, Seen, Sessions};
use crate::base::bounds;
use crate::store::StoreError;
use crate::users::{Directory, Lookup};

/// How often expired rows are deleted.
const SWEEP_INTERVAL: Duration = Duration::from_mins(1);

/// How long after the start nothing is deleted. A machine that has just started may have its clock set yet.
const SWEEP_DELAY: Duration = Duration::from_mins(10);

/// The time by which rows are deleted. It follows the clock, but when that jumps ahead only at twice the speed at which
/// time passes: what is deleted by a clock that is wrong for a moment would be valid again when the clock is right.
#[derive(Debug)]
struct SweepTime {
    unix_ms: i64,
    taken: Instant,
}

impl SweepTime {
    fn new(unix_ms: i64, taken: Instant) -> Self {
        Self { unix_ms, taken }
    }

    /// The time by which to delete, when the clock shows `unix_ms`.
    fn at(&mut self, unix_ms: i64, now: Instant) -> i64 {
        let passed_ms = now.saturating_duration_since(self.taken).as_millis();
        let most = i64::try_from(passed_ms).unwrap_or(i64::MAX).saturating_mul(2);
        self.unix_ms = unix_ms.min(self.unix_ms.saturating_add(most));
        self.taken = now;
        self.unix_ms
    }
}

impl Sessions {
    /// Looks for revocations by others every [`bounds::WATCH_INTERVAL_MS`] milliseconds and deletes what has expired every
    /// minute, the first time ten minutes after the start, until it is dropped.
    ///
    /// With `refuse_after`, nothing passes any more when the store has said nothing for so long, until it does.
    pub async fn watch(&self, refuse_after: Option<Duration>) {
        let mut ticks = tokio::time::interval(Duration::from_millis(bounds::WATCH_INTERVAL_MS));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut sweeps = tokio::time::interval_at(Instant::now() + SWEEP_DELAY, SWEEP_INTERVAL);
        let mut time = SweepTime::new(self.inner.clock.now_unix_ms(), Instant::now());
        sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut changes = self.inner.store.changes();
        loop {
            tokio::select! {
                _ = ticks.tick() => self.look_and_judge(refuse_after).await,
                () = changes.next() => self.look_and_judge(refuse_after).await,
                _ = sweeps.tick() => {
                    let before_ms = time.at(self.inner.clock.now_unix_ms(), Instant::now());
                    if let Err(error) = self.sweep_until(before_ms).await {
                        tracing::warn!(%error, "expired sessions are not deleted");
                    }
                }
            }
        }
    }

    pub(super) async fn look_and_judge(&self, refuse_after: Option<Duration>) {
        self.look().await;
        let is_stale = refuse_after.is_some_and(|limit| self.behind() > limit);
        if is_stale != self.inner.revocations.is_stale() {
            self.inner.revocations.set_stale(is_stale);
            if is_stale {
                tracing::error!("nothing is known of revocations by others for too long: tokens are refused");
            } else {
                tracing::info!("revocations by others are known again: tokens pass");
            }
        }
    }

    /// Looks once for revocations by others.
    pub async fn look(&self) {
        let mut seen = self.inner.seen.lock().await;
        match self.inner.load(&mut seen).await {
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
        self.sweep_until(self.inner.clock.now_unix_ms()).await
    }

    async fn sweep_until(&self, now_ms: i64) -> Result<(), StoreError> {
        self.inner.revocations.forget(now_ms);
        loop {
            let alone = self.inner.alone().await?;
            let more = self.inner.store.sweep_sessions(now_ms).await?;
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
        let now_ms = self.inner.clock.now_unix_ms();
        let mut ended = 0;
        for user_id in self.inner.store.users_with_sessions(now_ms).await? {
            let (mark, reason) = match directory.find(&user_id).await {
                Ok(Lookup::Active(account)) => (Some(account.mark), "password"),
                Ok(Lookup::Inactive) => (None, "disabled"),
                Ok(Lookup::Unknown) => (None, "deleted"),
                // Who cannot be asked for now is asked for again when a token is used.
                Ok(Lookup::Unmanaged) | Err(_) => continue,
            };
            let _alone = self.inner.alone().await?;
            ended += self.inner.store.end_outdated(&user_id, mark, reason, now_ms).await?;
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
        let version = self.store.version().await?;
        let is_another = version.generation != seen.version.generation;
        if is_another || version.sessions != seen.version.sessions {
            // Behind a new connection there may be a copy of the database that gives some numbers once more.
            let after = if is_another { 0 } else { seen.seq };
            // Read after the version: what is committed in between is seen at the next look once more.
            let (seq, revoked) = self.store.revocations(after).await?;
            self.revocations.add(revoked);
            seen.seq = seq;
        }
        seen.version = version;
        *self.known_as_of.lock().unwrap_or_else(PoisonError::into_inner) = version.as_of;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_jumps_makes_nobody_forget() {
        const DAY_MS: i64 = 86_400_000;
        let (start_ms, begin) = (1_800_000_000_000, Instant::now());
        let minutes = |count: i64| (count * 60_000, begin + SWEEP_INTERVAL * u32::try_from(count).unwrap());
        let mut time = SweepTime::new(start_ms, begin);
        let mut at = |ahead_ms: i64, (passed_ms, now): (i64, Instant)| {
            time.at(start_ms + passed_ms + ahead_ms, now) - start_ms
        };
        assert_eq!(at(0, minutes(10)), 600_000);
        // Ahead, it is followed at twice the speed.
        assert_eq!(at(3 * DAY_MS, minutes(11)), 720_000);
        assert_eq!(at(3 * DAY_MS, minutes(12)), 840_000);
        // When it is right again, or late, so is this.
        assert_eq!(at(0, minutes(13)), 780_000);
        assert_eq!(at(-DAY_MS, minutes(14)), 840_000 - DAY_MS);
        assert_eq!(at(0, minutes(15)), 960_000 - DAY_MS);
    }
}
