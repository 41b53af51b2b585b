//! Reading, opening and proving what is to follow, beside what runs.

use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;

use super::error::ReloadError;
use super::{Mode, Source, fixed};
use crate::config::{Config, Text};
use crate::identity::Firewall;
use crate::keys::{KeyError, KeyRing, Sealed};
use crate::net::tls::TlsServer;
use crate::proof;
use crate::snapshot::Snapshot;
use crate::upstream::SharedUpstream;

/// What could follow, but for the users. Where nothing has changed it is what runs.
pub(super) struct Prepared {
    pub(super) config: Config,
    pub(super) digest: String,
    pub(super) upstreams: Vec<Arc<SharedUpstream>>,
    pub(super) firewall: Arc<Firewall>,
    pub(super) tls: Option<TlsServer>,
    /// `None` in a dry run where a key would be made.
    pub(super) ring: Option<Arc<KeyRing>>,
}

/// Reads the configuration and what it names; `sealed` are the keys of the store. `looked_at` hears the digest of the text, whatever comes of it. Blocks.
pub(super) fn prepare(
    before: &Snapshot,
    sealed: Result<Vec<Sealed>, KeyError>,
    source: &Source,
    mode: Mode,
    expected: Option<&str>,
    looked_at: impl FnOnce(&str),
) -> Result<Prepared, ReloadError> {
    let text = Text::read(&source.path).map_err(ReloadError::Config)?;
    let digest = text.digest();
    if expected.is_some_and(|expected| !is_same(expected, &digest)) {
        return Err(ReloadError::OtherFile(source.path.clone()));
    }
    looked_at(&digest);
    let config = text.parse(&source.environment).map_err(ReloadError::Config)?;
    let differing = fixed::differing(&before.config, &config);
    if !differing.is_empty() {
        return Err(ReloadError::NeedsRestart(differing));
    }
    let firewall = Arc::new(Firewall::new(&config));
    proof::prove(&config, &firewall).map_err(ReloadError::Identity)?;
    let tls = tls(before, &config)?;
    let upstreams = config.upstreams.iter().map(|settings| {
        let same = before.upstreams.iter().find(|upstream| upstream.is_of(settings)).map(Arc::clone);
        let renewed = || {
            let renewed = SharedUpstream::new(settings)?;
            let known = before.upstreams.iter().find(|upstream| upstream.name() == settings.name);
            known.inspect(|known| renewed.inherit(known));
            Ok(Arc::new(renewed))
        };
        same.map_or_else(renewed, Ok)
    });
    let upstreams = upstreams.collect::<Result<_, _>>().map_err(ReloadError::Upstream)?;
    let ring = ring(before, &config, sealed, mode)?;
    Ok(Prepared { config, digest, upstreams, firewall, tls, ring })
}

/// Takes as long for one that is nearly right as for any other.
fn is_same(one: &str, other: &str) -> bool {
    verify_slices_are_equal(one.as_bytes(), other.as_bytes()).is_ok()
}

/// Certificates have a watcher of their own; only settings are looked at here.
fn tls(before: &Snapshot, config: &Config) -> Result<Option<TlsServer>, ReloadError> {
    if before.config.tls == config.tls {
        return Ok(before.tls.clone());
    }
    let tls = config.tls.as_ref().map(|tls| TlsServer::load(tls, before.clock.clone()));
    tls.transpose().map_err(ReloadError::Tls)
}

/// Keys are read again always, because their files may hold others.
fn ring(
    before: &Snapshot,
    config: &Config,
    sealed: Result<Vec<Sealed>, KeyError>,
    mode: Mode,
) -> Result<Option<Arc<KeyRing>>, ReloadError> {
    let sealed = match (sealed, &config.tokens.key_encryption_key) {
        (Ok(sealed), _) => sealed,
        // Nobody needs what cannot be read.
        (Err(_), None) => Vec::new(),
        (Err(error), Some(_)) => return Err(ReloadError::Keys(error)),
    };
    let loaded = match mode {
        Mode::Apply => KeyRing::load_with(&config.tokens, &sealed, &before.clock).map(Some),
        Mode::DryRun => KeyRing::load_existing(&config.tokens, &sealed, &before.clock),
    };
    let loaded = loaded.map_err(ReloadError::Keys)?;
    Ok(loaded.map(|ring| if ring.is_same(&before.ring) { Arc::clone(&before.ring) } else { Arc::new(ring) }))
}
