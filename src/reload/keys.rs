//! Keys of the store that others have changed are taken in as a configuration is: all threads go over to them between two
//! requests.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use super::Reloader;
use super::difference::{self, Side};
use crate::base::bounds;
use crate::keys::{KeyError, KeyWatch, News};
use crate::worker::Stopping;

/// Looks for other keys in the store every [`bounds::WATCH_INTERVAL_MS`] milliseconds, and when it tells of something, for
/// ever.
pub(super) async fn watch(reloader: &Reloader) {
    let store = reloader.current().store.clone();
    let mut changes = store.changes();
    let mut watch = KeyWatch::new(store);
    let mut ticks = tokio::time::interval(Duration::from_millis(bounds::WATCH_INTERVAL_MS));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = changes.next() => {}
        }
        // That the store cannot be read is told by who looks for revocations; the keys that are known go on.
        let _later = look(reloader, &mut watch).await.is_err();
    }
}

async fn look(reloader: &Reloader, watch: &mut KeyWatch) -> Result<(), KeyError> {
    if reloader.current().config.tokens.key_encryption_key.is_none() {
        return Ok(());
    }
    let News::Some(look) = watch.look().await.map_err(KeyError::Store)? else { return Ok(()) };
    // While a configuration is read nothing else is taken in, and what it has read is older than what follows.
    let _alone = reloader.0.alone.lock().await;
    let current = reloader.current();
    let sealed = current.store.sealed_keys().await.map_err(KeyError::Store)?;
    watch.settle(look);
    if *reloader.0.stopping.borrow() != Stopping::No {
        return Ok(());
    }
    let ring = match current.ring.with_stored(&current.config.tokens, &sealed) {
        Ok(ring) => ring,
        Err(error) => {
            tracing::error!(%error, "the keys of the store are not taken in, those before stay");
            return Ok(());
        }
    };
    if ring.is_same(&current.ring) {
        return Ok(());
    }
    let then = Side { config: &current.config, ring: Some(&current.ring) };
    for change in difference::between(then, Side { ring: Some(&ring), ..then }) {
        tracing::info!(%change, "the keys of the store change");
    }
    let next = Arc::new(current.with_keys(Arc::new(ring)));
    reloader.commit(&current, next).await;
    Ok(())
}
