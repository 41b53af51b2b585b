//! Whom the load generator believes over TLS.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

/// Who may have signed the server's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Whoever the system trusts.
    System,
    /// The authorities in a PEM file.
    Authorities(PathBuf),
    /// Anybody: nothing is verified.
    Anybody,
}

/// Why TLS cannot be used.
#[derive(Debug)]
pub enum TrustError {
    /// The file cannot be read.
    Unreadable(PathBuf, io::Error),
    /// The file holds no certificate, or one that is none.
    NoCertificate(PathBuf),
    /// The system trusts nobody.
    NoRoots,
    /// The cryptography does not offer what TLS needs.
    Provider(rustls::Error),
}

impl fmt::Display for TrustError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(path, error) => write!(f, "{} cannot be read: {error}", path.display()),
            Self::NoCertificate(path) => write!(f, "{} does not hold certificates in PEM", path.display()),
            Self::NoRoots => f.write_str("this system trusts no certificate: name an authority with --ca"),
            Self::Provider(error) => write!(f, "TLS cannot be used: {error}"),
        }
    }
}

impl std::error::Error for TrustError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreadable(_, error) => Some(error),
            Self::Provider(error) => Some(error),
            Self::NoCertificate(_) | Self::NoRoots => None,
        }
    }
}

impl Trust {
    /// The settings of a client that offers one protocol. Blocks.
    ///
    /// # Errors
    ///
    /// [`TrustError`], which names the file.
    pub fn settings(&self, protocol: &[u8]) -> Result<Arc<ClientConfig>, TrustError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(TrustError::Provider)?;
        let builder = match self {
            Self::System => builder.with_root_certificates(system()?),
            Self::Authorities(path) => builder.with_root_certificates(authorities(path)?),
            Self::Anybody => {
                builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified(provider)))
            }
        };
        let mut settings = builder.with_no_client_auth();
        settings.alpn_protocols = vec![protocol.to_vec()];
        Ok(Arc::new(settings))
    }
}

fn system() -> Result<RootCertStore, TrustError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() { Err(TrustError::NoRoots) } else { Ok(roots) }
}

fn authorities(path: &Path) -> Result<RootCertStore, TrustError> {
    let none = || TrustError::NoCertificate(path.to_owned());
    let pem = std::fs::read(path).map_err(|error| TrustError::Unreadable(path.to_owned(), error))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        roots.add(certificate.map_err(|_| none())?).map_err(|_| none())?;
    }
    if roots.is_empty() { Err(none()) } else { Ok(roots) }
}

/// Takes any certificate, as it was asked to. Signatures of the handshake are verified nevertheless.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
