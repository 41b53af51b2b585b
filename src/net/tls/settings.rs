//! The settings of the TLS library, which are the same for every certificate.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    NoClientAuth, ProducesTickets, ServerSessionMemoryCache, StoresServerSessions, WebPkiClientVerifier,
};
use rustls::sign::SingleCertAndKey;
use rustls::time_provider::TimeProvider;
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::certificate::{self, Pair};
use super::error::TlsError;
use crate::base::bounds;
use crate::base::clock::Clock;
use crate::config::{ClientAuth, ClientAuthMode, Tls, TlsVersion};

/// What the client may choose from (RFC 7301), the better one first.
pub(super) const HTTP_2: &[u8] = b"h2";
pub(super) const HTTP_1: &[u8] = b"http/1.1";

const FROM_1_2: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];
const FROM_1_3: &[&SupportedProtocolVersion] = &[&TLS13];

/// What all handshakes have in common, whatever certificate is shown.
#[derive(Clone, Debug)]
pub(super) struct Common {
    pub(super) provider: Arc<CryptoProvider>,
    clock: Clock,
    versions: &'static [&'static SupportedProtocolVersion],
    clients: Clients,
    tickets: Arc<dyn ProducesTickets>,
    sessions: Arc<dyn StoresServerSessions>,
}

/// Who must show a certificate, and by which authorities.
#[derive(Clone, Debug)]
struct Clients {
    verifier: Arc<dyn ClientCertVerifier>,
    authorities: Vec<CertificateDer<'static>>,
}

impl Common {
    /// Reads the authorities of clients. Blocks.
    pub(super) fn load(tls: &Tls, clock: Clock) -> Result<Self, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let clients = Clients::load(tls.client_auth.as_ref(), &provider)?;
        let versions = match tls.min_version {
            TlsVersion::Tls12 => FROM_1_2,
            TlsVersion::Tls13 => FROM_1_3,
        };
        let (tickets, sessions) = resumption()?;
        Ok(Self { provider, clock, versions, clients, tickets, sessions })
    }

    /// The same with other authorities, when the file has others now. Blocks.
    ///
    /// What clients were given to resume a session with is worth nothing then: a resumed session shows no certificate
    /// that the new authorities could refuse.
    pub(super) fn with_authorities_of(&self, auth: &ClientAuth) -> Result<Option<Self>, TlsError> {
        let clients = Clients::load(Some(auth), &self.provider)?;
        if clients.authorities == self.clients.authorities {
            return Ok(None);
        }
        let (tickets, sessions) = resumption()?;
        Ok(Some(Self { clients, tickets, sessions, ..self.clone() }))
    }

    /// The settings for handshakes that show this certificate.
    pub(super) fn for_pair(&self, pair: &Pair) -> Result<Arc<ServerConfig>, TlsError> {
        let time = Arc::new(Time(self.clock.clone()));
        let mut settings = ServerConfig::builder_with_details(Arc::clone(&self.provider), time)
            .with_protocol_versions(self.versions)
            .map_err(TlsError::Settings)?
            .with_client_cert_verifier(Arc::clone(&self.clients.verifier))
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&pair.key))));
        settings.alpn_protocols = vec![HTTP_2.to_vec(), HTTP_1.to_vec()];
        settings.ticketer = Arc::clone(&self.tickets);
        settings.session_storage = Arc::clone(&self.sessions);
        // A client that uses a ticket gets a new one; more than one at a time is for clients that open many at once.
        settings.send_tls13_tickets = 1;
        // Early data may be sent again by anybody who recorded it (RFC 8446 section 8).
        settings.max_early_data_size = 0;
        Ok(Arc::new(settings))
    }
}

impl Clients {
    fn load(auth: Option<&ClientAuth>, provider: &Arc<CryptoProvider>) -> Result<Self, TlsError> {
        let Some(auth) = auth else {
            return Ok(Self { verifier: Arc::new(NoClientAuth), authorities: Vec::new() });
        };
        let authorities = certificate::certificates(&auth.ca)?;
        let verifier = verifier(&authorities, auth.mode, &auth.ca, provider)?;
        Ok(Self { verifier, authorities })
    }
}

fn verifier(
    authorities: &[CertificateDer<'static>],
    mode: ClientAuthMode,
    path: &Path,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let damaged = || TlsError::BadCertificate { path: path.to_owned() };
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority.clone()).map_err(|_| damaged())?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let builder = match mode {
        ClientAuthMode::Optional => builder.allow_unauthenticated(),
        ClientAuthMode::Required => builder,
    };
    let built: Result<Arc<dyn ClientCertVerifier>, _> = builder.build();
    built.map_err(|_| damaged())
}

type Resumption = (Arc<dyn ProducesTickets>, Arc<dyn StoresServerSessions>);

/// New keys for tickets, and an empty memory for clients that have none.
fn resumption() -> Result<Resumption, TlsError> {
    let tickets = aws_lc_rs::Ticketer::new().map_err(TlsError::Settings)?;
    Ok((tickets, ServerSessionMemoryCache::new(bounds::MAX_TLS_SESSIONS)))
}

/// The clock, as the library asks for it.
#[derive(Debug)]
struct Time(Clock);

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        let now = u64::try_from(self.0.now_unix_seconds()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(now)))
    }
}
