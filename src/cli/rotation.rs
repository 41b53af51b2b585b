//! `tollgate key rotate`, `key retire` and `key rewrap`: change the keys in the store, also while gateways run.

use std::io::Write;
use std::path::Path;

use super::arguments::{KeyRetirement, KeyRotation};
use super::error::{CommandError, Exit};
use super::mint::shown_time;
use crate::base::clock::Clock;
use crate::config::{self, Config};
use crate::keys::{self, Rotated, RotationError, Sealed, Wanted};
use crate::store::Store;

/// Makes the next key, and says when it does what.
///
/// # Errors
///
/// A [`CommandError`]; nothing is changed then.
pub fn rotate(
    config: &Config,
    rotation: &KeyRotation,
    clock: &Clock,
    out: &mut dyn Write,
) -> Result<Exit, CommandError> {
    let wanted = Wanted {
        algorithm: rotation.algorithm,
        at_once: rotation.now,
        keep: rotation.keep,
        needs_pair: config.upstreams.iter().any(|upstream| upstream.identity.assertion.is_some()),
    };
    let rotated = on_store(config, async |store| keys::rotate(store, &config.tokens, &wanted, clock).await)?;
    out.write_all(told(&rotated, clock.now_unix_ms()).as_bytes()).map_err(CommandError::Output)?;
    Ok(Exit::Ok)
}

/// Ends a key.
///
/// # Errors
///
/// A [`CommandError`]; nothing is changed then.
pub fn retire(
    config: &Config,
    retirement: &KeyRetirement,
    clock: &Clock,
    out: &mut dyn Write,
) -> Result<Exit, CommandError> {
    let kid = &retirement.kid;
    on_store(config, async |store| keys::retire(store, &config.tokens, kid, clock).await)?;
    writeln!(out, "key {} has ended: what it has signed is refused", super::token::printable(kid))
        .map_err(CommandError::Output)?;
    Ok(Exit::Ok)
}

/// Encrypts all keys with what is in a file.
///
/// # Errors
///
/// A [`CommandError`]; nothing is changed then.
pub fn rewrap(config: &Config, with: &Path, out: &mut dyn Write) -> Result<Exit, CommandError> {
    let new = config::read_key_encryption_key(with);
    let new = new.map_err(|error| CommandError::Rotation(RotationError::NewEncryptionKey(error)))?;
    let count = on_store(config, async |store| keys::rewrap(store, &config.tokens, &new).await)?;
    let plural = if count == 1 { "" } else { "s" };
    writeln!(out, "{count} key{plural} encrypted anew: give the gateways the new key-encryption key now")
        .map_err(CommandError::Output)?;
    Ok(Exit::Ok)
}

/// The keys as they stand in the store; none where keys are not kept there, or there is no store yet.
pub(super) fn sealed(config: &Config) -> Result<Vec<Sealed>, CommandError> {
    if config.tokens.key_encryption_key.is_none() || config.store.is_missing() {
        return Ok(Vec::new());
    }
    on_store(config, async |store| store.sealed_keys().await.map_err(RotationError::Store))
}

fn on_store<T>(
    config: &Config,
    work: impl AsyncFnOnce(&Store) -> Result<T, RotationError>,
) -> Result<T, CommandError> {
    // Without keys in the store, none is made or opened.
    if config.tokens.key_encryption_key.is_none() {
        return Err(CommandError::Rotation(RotationError::NotInStore));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(CommandError::System)?.block_on(async {
        let store = Store::connect(&config.store).await.map_err(CommandError::Store)?;
        let done = work(&store).await;
        store.close().await;
        done.map_err(CommandError::Rotation)
    })
}

fn told(rotated: &Rotated, now_ms: i64) -> String {
    let time = |unix_ms: i64| shown_time(unix_ms.div_euclid(1000));
    let Rotated { kid, algorithm, signs_at_ms, before } = rotated;
    let signs = if signs_at_ms.div_euclid(1000) <= now_ms.div_euclid(1000) {
        format!("key {kid} ({algorithm}) signs from now on\n")
    } else {
        format!("key {kid} ({algorithm}) is published now and signs from {}\n", time(*signs_at_ms))
    };
    match before {
        Some((kid, ends_ms)) => format!("{signs}key {kid} verifies until {}\n", time(*ends_ms)),
        None => signs,
    }
}
