//! TLS towards clients: which certificate is shown, what a handshake settles for the requests that follow, and files that
//! are swapped while handshakes go on.
//!
//! A handshake holds the settings that it began with. A swap replaces what the next one begins with, so that it disturbs
//! none.

mod certificate;
mod choice;
mod client;
mod error;
mod files;
mod session;
mod settings;
mod stream;
mod subject;
mod watch;

pub use self::certificate::Certificate;
pub use self::client::{ClientCertificate, Unfit, UnfitPart};
pub use self::error::{HandshakeError, TlsError};
pub use self::files::Stamp;
pub use self::session::{Asked, Session};
pub use self::stream::TlsStream;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::server::Acceptor;
use rustls::{HandshakeKind, ProtocolVersion, ServerConnection};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::MissedTickBehavior;
use tokio_rustls::LazyConfigAcceptor;

use self::certificate::Pair;
use self::choice::{Abilities, Entry};
use self::settings::Common;
use crate::base::bounds;
use crate::base::clock::Clock;
use crate::config::{CertificateHeader, CertificateHost, ClientAuth, Tls, TlsVersion};

/// The TLS side of all listeners: certificates, keys and settings. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct TlsServer {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    tls: Tls,
    clock: Clock,
    served: ArcSwap<Served>,
}

/// What the next handshake begins with. The entries are in the order of the configuration.
#[derive(Debug)]
struct Served {
    entries: Vec<Entry>,
    common: Common,
}

/// A connection after its handshake.
#[derive(Debug)]
pub struct Handshaken<S> {
    /// What is read and written is in the clear here.
    pub stream: TlsStream<S>,
    /// Which HTTP it speaks.
    pub protocol: Protocol,
    /// What requests need to know.
    pub session: Session,
}

/// The HTTP that a client has chosen (RFC 7301).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1, also when the client chose nothing.
    Http1,
    /// HTTP/2.
    Http2,
}

impl Served {
    fn new(pairs: impl IntoIterator<Item = Pair>, common: Common) -> Result<Self, TlsError> {
        let entry = |pair: Pair| {
            let settings = common.for_pair(&pair)?;
            Ok(Entry { pair, settings })
        };
        let entries = pairs.into_iter().map(entry).collect::<Result<_, TlsError>>()?;
        Ok(Self { entries, common })
    }
}

impl TlsServer {
    /// Reads all files. Blocks.
    ///
    /// # Errors
    ///
    /// [`TlsError`], when one of them cannot be used; also when it is that of the authorities of client certificates,
    /// without which everybody could come in.
    pub fn load(tls: &Tls, clock: Clock) -> Result<Self, TlsError> {
        let common = Common::load(tls, clock.clone())?;
        let pairs = tls.certificates.iter().map(|entry| Pair::load(entry, &common.provider));
        let pairs = pairs.collect::<Result<Vec<_>, _>>()?;
        let served = ArcSwap::from_pointee(Served::new(pairs, common)?);
        Ok(Self { shared: Arc::new(Shared { tls: tls.clone(), clock, served }) })
    }

    /// Performs a handshake. It takes as long as the client does: whoever calls this sets an end to it. A swap of files
    /// meanwhile changes nothing for it.
    ///
    /// # Errors
    ///
    /// [`HandshakeError`]; the client has been told by an alert where that was possible.
    pub async fn accept<S>(&self, stream: S) -> Result<Handshaken<S>, HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let failed = |error| HandshakeError::of(&error);
        let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await.map_err(failed)?;
        let hello = start.client_hello();
        let name = choice::asked_name(&hello);
        let (settings, certificate, asked) = {
            let served = self.shared.served.load();
            let chosen = choice::choose(&served.entries, name.as_deref(), &Abilities::of(&hello));
            // The configuration has at least one certificate.
            let (entry, asked) = chosen.ok_or(HandshakeError::NoSharedCipher)?;
            (Arc::clone(&entry.settings), Arc::clone(&entry.pair.certificate), asked)
        };
        let mut stream = TlsStream::handshake(start.accepted, settings, start.io).await.map_err(failed)?;
        stream.send_ticket().await.map_err(failed)?;
        let connection = stream.session();
        let protocol = match connection.alpn_protocol() {
            Some(name) if name == settings::HTTP_2 => Protocol::Http2,
            Some(_) | None => Protocol::Http1,
        };
        let session = Session {
            asked,
            certificate,
            client: self.client_certificate(connection)?,
            version: match connection.protocol_version() {
                Some(ProtocolVersion::TLSv1_2) => TlsVersion::Tls12,
                // There is no third one.
                Some(_) | None => TlsVersion::Tls13,
            },
            resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
        };
        Ok(Handshaken { stream, protocol, session })
    }

    /// Reads files again whenever they change. A pair that cannot be used leaves the old one in place and is told once.
    /// Never ends.
    pub async fn watch(self) {
        let mut watcher = watch::Watcher::new(self);
        let mut ticks = tokio::time::interval(Duration::from_millis(bounds::WATCH_INTERVAL_MS));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let looked = tokio::task::spawn_blocking(move || {
                watcher.look();
                watcher
            });
            // Only a stopping runtime refuses the job.
            let Ok(again) = looked.await else { return };
            watcher = again;
        }
    }

    /// What is shown to clients now, in the order of the configuration.
    pub fn certificates(&self) -> Vec<Arc<Certificate>> {
        let served = self.shared.served.load();
        served.entries.iter().map(|entry| Arc::clone(&entry.pair.certificate)).collect()
    }

    /// The client's certificate, which was verified when it was shown. A session that is resumed later shows none, so the
    /// time is looked at again.
    fn client_certificate(
        &self,
        connection: &ServerConnection,
    ) -> Result<Option<ClientCertificate>, HandshakeError> {
        let Some(der) = connection.peer_certificates().and_then(<[_]>::first) else { return Ok(None) };
        let certificate = ClientCertificate::parse(der, self.headers());
        certificate
            .filter(|certificate| certificate.not_after() >= self.shared.clock.now_unix_seconds())
            .map(Some)
            .ok_or(HandshakeError::ClientCertificateInvalid)
    }

    /// Who must show a certificate.
    pub fn client_auth(&self) -> Option<&ClientAuth> {
        self.shared.tls.client_auth.as_ref()
    }

    fn headers(&self) -> &[CertificateHeader] {
        self.client_auth().map(|auth| auth.headers.as_slice()).unwrap_or_default()
    }
}

/// Hosts as people read them.
fn listed(hosts: &[CertificateHost]) -> String {
    hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
