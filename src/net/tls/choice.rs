//! Which certificate a client is shown.

use std::sync::Arc;

use rustls::server::ClientHello;
use rustls::sign::SigningKey;
use rustls::{CipherSuite, ServerConfig, SignatureAlgorithm, SignatureScheme};

use super::certificate::Pair;
use super::session::Asked;
use crate::config::CertificateHost;

/// A pair with the settings for the handshakes that show it.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) pair: Pair,
    pub(super) settings: Arc<ServerConfig>,
}

impl Entry {
    fn hosts(&self) -> &[CertificateHost] {
        &self.pair.certificate.hosts
    }

    fn suits(&self, abilities: &Abilities<'_>) -> bool {
        abilities.can_verify(&*self.pair.key.key, &self.settings)
    }

    /// RSA is understood by everybody and costs most, so it is for those who understand nothing else.
    fn is_rsa(&self) -> bool {
        self.pair.key.key.algorithm() == SignatureAlgorithm::RSA
    }
}

/// What a client says that it can do.
pub(super) struct Abilities<'a> {
    pub(super) schemes: &'a [SignatureScheme],
    pub(super) suites: &'a [CipherSuite],
}

impl<'a> Abilities<'a> {
    pub(super) fn of(hello: &'a ClientHello<'_>) -> Self {
        Self { schemes: hello.signature_schemes(), suites: hello.cipher_suites() }
    }

    /// In TLS 1.2 the cipher suite names the kind of key too (RFC 5246 section 7.4.2).
    fn can_verify(&self, key: &dyn SigningKey, settings: &ServerConfig) -> bool {
        let algorithm = key.algorithm();
        let suites = &settings.crypto_provider().cipher_suites;
        let mut shared = suites.iter().filter(|suite| self.suites.contains(&suite.suite()));
        key.choose_scheme(self.schemes).is_some()
            && shared.any(|suite| suite.usable_for_signature_algorithm(algorithm))
    }
}

/// The name that a client asks for, in lower case and without a dot at the end.
pub(super) fn asked_name(hello: &ClientHello<'_>) -> Option<String> {
    let name = hello.server_name()?;
    Some(name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase())
}

/// The entry for a client: one that names the host, then one with a wildcard for it, then the first; among several, one
/// that the client can verify.
pub(super) fn choose<'a>(
    entries: &'a [Entry],
    name: Option<&str>,
    abilities: &Abilities<'_>,
) -> Option<(&'a Entry, Asked)> {
    let exact = |host: &CertificateHost| matches!(host, CertificateHost::Name(own) if name.is_some_and(|name| **own == *name));
    let covering = |host: &CertificateHost| name.is_some_and(|name| host.covers(name));
    let exact: Vec<&Entry> = entries.iter().filter(|entry| entry.hosts().iter().any(exact)).collect();
    let covering: Vec<&Entry> = entries.iter().filter(|entry| entry.hosts().iter().any(covering)).collect();
    if let Some(entry) = best(&exact, abilities).or_else(|| best(&covering, abilities)) {
        return Some((entry, name.map_or(Asked::Nothing, |name| Asked::Known(name.into()))));
    }
    let asked = match name {
        None => Asked::Nothing,
        Some(name) if covering.is_empty() => Asked::Unknown(name.into()),
        Some(name) => Asked::Known(name.into()),
    };
    // From here on a client that can verify none is shown one all the same, and the library tells it that it cannot.
    if let Some(entry) = exact.first().or(covering.first()) {
        return Some((entry, asked));
    }
    let first = entries.first()?;
    let alike = |entry: &&Entry| entry.hosts().iter().any(|host| first.hosts().contains(host));
    let alike: Vec<&Entry> = entries.iter().filter(alike).collect();
    Some((best(&alike, abilities).unwrap_or(first), asked))
}

fn best<'a>(entries: &[&'a Entry], abilities: &Abilities<'_>) -> Option<&'a Entry> {
    let suitable = || entries.iter().filter(|entry| entry.suits(abilities));
    suitable().find(|entry| !entry.is_rsa()).or_else(|| suitable().next()).copied()
}
