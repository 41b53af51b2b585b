//! TLS to targets: whom the gateway believes, and what it shows to be known by.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use crate::base::bounds;
use crate::config::{ClientCertificate, UpstreamTls};

/// The names of the protocols in the handshake (RFC 7301 section 6).
pub(super) const ALPN_HTTP2: &[u8] = b"h2";
const ALPN_HTTP1: &[u8] = b"http/1.1";

/// Why the TLS settings of an upstream cannot be used.
#[derive(Debug)]
pub enum TlsError {
    /// A file cannot be read.
    Unreadable(PathBuf, io::Error),
    /// A file that should hold certificates holds none, or one that is none.
    NoCertificate(PathBuf),
    /// A file that should hold a private key holds none.
    NoKey(PathBuf),
    /// The certificate and the key of the gateway do not belong together, or the key is of no known kind.
    Unusable(PathBuf, rustls::Error),
    /// The system trusts no certificate at all, so every target would be refused.
    NoRoots,
    /// No certificate can be made out to this host.
    Name(String),
    /// The cryptography does not offer what TLS needs.
    Provider(rustls::Error),
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(path, error) => write!(f, "{} cannot be read: {error}", path.display()),
            Self::NoCertificate(path) => write!(f, "{} does not hold certificates in PEM", path.display()),
            Self::NoKey(path) => write!(f, "{} does not hold a private key in PEM", path.display()),
            Self::Unusable(path, error) => {
                write!(f, "{} cannot be used with its private key: {error}", path.display())
            }
            Self::NoRoots => {
                f.write_str("this system trusts no certificate: set \"ca\", or install its certificates")
            }
            Self::Name(name) => write!(f, "no certificate can have the name {name:?}: set \"server_name\""),
            Self::Provider(error) => write!(f, "TLS cannot be used: {error}"),
        }
    }
}

impl std::error::Error for TlsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreadable(_, error) => Some(error),
            Self::Unusable(_, error) | Self::Provider(error) => Some(error),
            Self::NoCertificate(_) | Self::NoKey(_) | Self::NoRoots | Self::Name(_) => None,
        }
    }
}

/// Which protocols the gateway offers in a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offer {
    /// HTTP/2 and HTTP/1.1.
    Both,
    /// HTTP/1.1 only.
    Http1,
}

/// The TLS settings of an upstream, of all threads. Sessions are resumed.
pub(super) struct TlsClient {
    both: TlsConnector,
    http1: TlsConnector,
    server_name: Option<String>,
}

/// What a handshake with one target needs.
#[derive(Clone)]
pub(super) struct TargetTls {
    both: TlsConnector,
    http1: TlsConnector,
    name: ServerName<'static>,
}

impl fmt::Debug for TargetTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TargetTls").field("name", &self.name).finish_non_exhaustive()
    }
}

impl TlsClient {
    /// Reads what the settings name.
    ///
    /// # Errors
    ///
    /// [`TlsError`], which names the file.
    pub(super) fn load(settings: &UpstreamTls) -> Result<Self, TlsError> {
        let both = config(settings)?;
        let mut http1 = both.clone();
        // A session belongs to the protocol that it was agreed on with.
        http1.resumption = rustls::client::Resumption::default();
        let with = |mut config: ClientConfig, protocols: &[&[u8]]| {
            config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
            TlsConnector::from(Arc::new(config))
        };
        Ok(Self {
            both: with(both, &[ALPN_HTTP2, ALPN_HTTP1]),
            http1: with(http1, &[ALPN_HTTP1]),
            server_name: settings.server_name.clone(),
        })
    }

    /// For the target at this host.
    ///
    /// # Errors
    ///
    /// When no certificate can have the name.
    pub(super) fn target(&self, host: &str) -> Result<TargetTls, TlsError> {
        let name = self.server_name.as_deref().unwrap_or(host);
        let name = ServerName::try_from(name.to_owned()).map_err(|_| TlsError::Name(name.to_owned()))?;
        Ok(TargetTls { both: self.both.clone(), http1: self.http1.clone(), name })
    }
}

impl TargetTls {
    /// Who makes the handshake.
    pub(super) fn connector(&self, offer: Offer) -> &TlsConnector {
        match offer {
            Offer::Both => &self.both,
            Offer::Http1 => &self.http1,
        }
    }

    /// The name that the target's certificate must have.
    pub(super) fn name(&self) -> ServerName<'static> {
        self.name.clone()
    }
}

fn config(settings: &UpstreamTls) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Provider)?
        .with_root_certificates(roots(settings.ca.as_deref())?);
    let Some(ClientCertificate { cert, key }) = &settings.client else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = certificates(cert)?;
    let private = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|_| TlsError::NoKey(key.clone()))?;
    builder.with_client_auth_cert(chain, private).map_err(|error| TlsError::Unusable(cert.clone(), error))
}

/// Those who may sign the target's certificate.
fn roots(ca: Option<&Path>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = ca {
        for certificate in certificates(path)? {
            roots.add(certificate).map_err(|_| TlsError::NoCertificate(path.to_owned()))?;
        }
        return Ok(roots);
    }
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        tracing::warn!(%error, "some certificates of the system cannot be read");
    }
    roots.add_parsable_certificates(system.certs);
    if roots.is_empty() { Err(TlsError::NoRoots) } else { Ok(roots) }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let none = || TlsError::NoCertificate(path.to_owned());
    let pem = read(path)?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().map_err(|_| none())?;
    if found.is_empty() { Err(none()) } else { Ok(found) }
}

/// Tells one content of a file from another; `None` when it cannot be read.
pub(super) fn digest(path: &Path) -> Option<[u8; 32]> {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &read(path).ok()?);
    digest.as_ref().try_into().ok()
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    let unreadable = |error| TlsError::Unreadable(path.to_owned(), error);
    let mut bytes = Zeroizing::new(Vec::new());
    let file = File::open(path).map_err(unreadable)?;
    file.take(bounds::MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length <= bounds::MAX_FILE_BYTES) {
        return Ok(bytes);
    }
    Err(unreadable(io::Error::other(format!("it is larger than {} bytes", bounds::MAX_FILE_BYTES))))
}
