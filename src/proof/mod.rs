//! The identity firewall proves itself: before the gateway serves, hostile requests go through the whole of it in memory,
//! and nothing of them may reach the upstream under a name that the gateway owns.
//!
//! Of every owned name, every spelling is sent that servers read as the same, twice, listed in `Connection`, and in
//! trailers; over both versions of HTTP, from trusted proxies and from anybody, on routes of every kind, to upstreams with
//! each identity that the configuration uses. What arrives is compared with all that may arrive, field by field, so a
//! gateway that forwards nothing, or nobody's identity, does not pass either.

mod probe;
mod spelling;
mod verdict;
mod wire;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;

use self::probe::{Access, Case};
use crate::base::user::User;
use crate::config::{Config, Environment, Failure, HostHeader, Identity, parse};
use crate::identity::Firewall;
use crate::rehearsal::{Client, Rehearsal, RehearsalError};

/// Requests on one connection: fewer than the streams that HTTP/2 may have.
const REQUESTS_PER_CONNECTION: usize = 40;

/// How long one connection may take. Only the first request of all waits for another thread.
const PATIENCE: Duration = Duration::from_secs(5);

/// Somebody, and a proxy that is believed (RFC 5737).
const ANYBODY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const TRUSTED: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

/// What was proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof {
    /// Requests that were sent, each of which arrived as it should.
    pub requests: usize,
    /// Fields and trailers that a client must not send, none of which arrived.
    pub fields: usize,
}

/// Why the firewall cannot be relied on.
#[derive(Debug)]
pub enum ProofError {
    /// A field of a client's has reached the upstream.
    Leak {
        /// The name that the gateway owns.
        header: String,
        /// How it was sent.
        way: String,
    },
    /// The identity, or something else that the gateway says, did not arrive as it should.
    Altered {
        /// The field.
        header: String,
        /// By which request.
        way: String,
    },
    /// A request that should have reached the upstream did not, or not as one request.
    NotForwarded {
        /// Which request.
        way: String,
    },
    /// The requests could not be sent.
    Rehearsal(RehearsalError),
    /// The configuration of the rehearsal is none.
    Config(Failure),
}

impl fmt::Display for ProofError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("identity headers are not safe: ")?;
        match self {
            Self::Leak { header, way } => write!(f, "a client's {header} reaches the upstream {way}"),
            Self::Altered { header, way } => {
                write!(f, "the gateway's own {header} does not reach the upstream as it should {way}")
            }
            Self::NotForwarded { way } => write!(f, "a sound request does not reach the upstream {way}"),
            Self::Rehearsal(error) => write!(f, "it could not be proved: {error}"),
            Self::Config(failure) => write!(f, "it could not be proved: {failure}"),
        }
    }
}

impl std::error::Error for ProofError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Leak { .. } | Self::Altered { .. } | Self::NotForwarded { .. } => None,
            Self::Rehearsal(error) => Some(error),
            Self::Config(failure) => Some(failure),
        }
    }
}

/// Proves a firewall, with the identities and the client certificates of a configuration. It takes a few milliseconds, and
/// is not to be called inside a runtime.
///
/// # Errors
///
/// [`ProofError`] for the first thing that is not as it should be; then nothing may be served with it.
pub fn prove(config: &Config, firewall: &Arc<Firewall>) -> Result<Proof, ProofError> {
    let identities = identities(config);
    let rehearsed = rehearsed(config, &identities)?;
    let names = crate::identity::owned_names(config);
    let rehearsal = Rehearsal::behind(Arc::clone(firewall), rehearsed).map_err(ProofError::Rehearsal)?;
    let token = rehearsal.token(&caller()).map_err(ProofError::Rehearsal)?;
    let mut proof = Proof { requests: 0, fields: 0 };
    for (place, identity) in identities.iter().enumerate() {
        for case in Case::all(place, identity) {
            let probes = probe::probes(&names, &case);
            for connection in probes.chunks(REQUESTS_PER_CONNECTION) {
                let bytes = wire::bytes(&case, connection, &token);
                let client = Client { address: address(case.trusted), patience: PATIENCE };
                verdict::judge(&case, connection, &token, &rehearsal.send(client, &bytes).seen)?;
                proof.requests += connection.len();
                proof.fields += connection.iter().map(|probe| probe.hostile.len()).sum::<usize>();
            }
        }
    }
    Ok(proof)
}

/// The user of the rehearsal, with a value for every field.
fn caller() -> User {
    User {
        id: "the-id".to_owned(),
        name: "the-name".to_owned(),
        email: Some("the@e-mail".to_owned()),
        groups: vec!["group-1".to_owned(), "group-2".to_owned()],
    }
}

fn address(trusted: bool) -> SocketAddr {
    SocketAddr::from((if trusted { TRUSTED } else { ANYBODY }, 1024))
}

/// The identities that the upstreams use, each once: without what decides about no header, and without secrets.
fn identities(config: &Config) -> Vec<Identity> {
    let mut identities = Vec::new();
    for upstream in &config.upstreams {
        let mut identity = upstream.identity.clone();
        identity.max_bytes = u32::MAX;
        if let Some(assertion) = &mut identity.assertion {
            assertion.audience.clear();
        }
        if let Some(credentials) = &mut identity.credentials {
            credentials.value = HeaderValue::from_static("the-credentials");
        }
        if !identities.contains(&identity) {
            identities.push(identity);
        }
    }
    identities
}

/// A configuration with one upstream for each identity and routes of every kind to it; all else is as usual, but for what
/// decides about identity headers.
fn rehearsed(config: &Config, identities: &[Identity]) -> Result<Config, ProofError> {
    let mut text = format!("[server]\ntrusted_proxies = [\"{TRUSTED}/32\"]\n");
    for place in 0..identities.len() {
        text.extend([format!("[upstreams.u{place}]\ntargets = [\"http://{TRUSTED}:80\"]\n")]);
    }
    for place in 0..identities.len() {
        for access in Access::ALL {
            let (segment, auth) = (access.segment(), access.auth());
            text.extend([format!(
                "[[routes]]\npath = \"/{place}/{segment}\"\nauth = \"{auth}\"\nupstream = \"u{place}\"\n"
            )]);
            if access == Access::Reported {
                text.push_str("enforce = \"report\"\n");
            }
        }
    }
    let parsed = parse(&text, "rehearsal", Path::new(""), &Environment::default());
    let mut rehearsed = parsed.map_err(ProofError::Config)?;
    for (place, identity) in identities.iter().enumerate() {
        let name = format!("u{place}");
        for upstream in rehearsed.upstreams.iter_mut().filter(|upstream| upstream.name == name) {
            upstream.identity.clone_from(identity);
            upstream.host_header = HostHeader::Preserve;
        }
    }
    rehearsed.tls.clone_from(&config.tls);
    Ok(rehearsed)
}

#[cfg(test)]
mod tests;
