//! What can go wrong with files at the start and with clients later.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rustls::{AlertDescription, InconsistentKeys, InvalidMessage, PeerIncompatible};

/// Why a certificate, a key or the authorities of clients cannot be used. It never holds a key.
#[derive(Debug)]
pub enum TlsError {
    /// The file cannot be read.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is damaged: a section of it is no PEM.
    NotPem {
        /// The file.
        path: PathBuf,
    },
    /// The file holds no certificate.
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// The file holds no private key that is not encrypted.
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// A certificate in the file is damaged.
    BadCertificate {
        /// The file.
        path: PathBuf,
    },
    /// The private key is damaged, or of a kind that is not supported.
    BadKey {
        /// The file.
        path: PathBuf,
    },
    /// The private key is that of another certificate.
    Mismatch {
        /// The file of the certificate.
        cert: PathBuf,
        /// The file of the key.
        key: PathBuf,
    },
    /// The library refuses the settings, which is a fault of the gateway.
    Settings(rustls::Error),
}

impl TlsError {
    /// What the library says about a pair.
    pub(super) fn of_pair(error: &rustls::Error, cert: &Path, key: &Path) -> Self {
        if let rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) = error {
            return Self::Mismatch { cert: cert.to_owned(), key: key.to_owned() };
        }
        if let rustls::Error::InvalidCertificate(_) = error {
            return Self::BadCertificate { path: cert.to_owned() };
        }
        // There is no telling what it is, but the certificate has been looked into already.
        Self::BadKey { path: key.to_owned() }
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, source } => write!(f, "{} cannot be read: {source}", path.display()),
            Self::NotPem { path } => write!(f, "{} is damaged: it is no PEM file", path.display()),
            Self::NoCertificate { path } => {
                write!(f, "{} holds no certificate (-----BEGIN CERTIFICATE-----)", path.display())
            }
            Self::NoKey { path } => write!(
                f,
                "{} holds no private key (-----BEGIN PRIVATE KEY-----); an encrypted one cannot be used",
                path.display()
            ),
            Self::BadCertificate { path } => write!(f, "a certificate in {} is damaged", path.display()),
            Self::BadKey { path } => write!(
                f,
                "the private key in {} is damaged or of a kind that is not supported: RSA, ECDSA (P-256, P-384, P-521) and Ed25519 are",
                path.display()
            ),
            Self::Mismatch { cert, key } => write!(
                f,
                "the private key in {} is not that of the first certificate in {}",
                key.display(),
                cert.display()
            ),
            Self::Settings(error) => write!(f, "TLS cannot be set up: {error}"),
        }
    }
}

impl std::error::Error for TlsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreadable { source, .. } => Some(source),
            Self::Settings(error) => Some(error),
            Self::NotPem { .. }
            | Self::NoCertificate { .. }
            | Self::NoKey { .. }
            | Self::BadCertificate { .. }
            | Self::BadKey { .. }
            | Self::Mismatch { .. } => None,
        }
    }
}

/// Why a handshake failed. The client has been told by an alert where that was possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeError {
    /// What came is no TLS; mostly it is plain HTTP.
    NotTls,
    /// The client speaks no version that is allowed here.
    NoSharedVersion,
    /// There is no cipher suite, group or signature scheme that both have.
    NoSharedCipher,
    /// The client speaks neither HTTP/1.1 nor HTTP/2 (RFC 7301).
    NoSharedProtocol,
    /// The client showed no certificate where one is required.
    ClientCertificateMissing,
    /// The client's certificate is of none of the authorities, has expired, or is damaged.
    ClientCertificateInvalid,
    /// The client ended the handshake with an alert: it does not trust the certificate.
    ServerCertificateRefused,
    /// The client ended the handshake with another alert.
    Alert,
    /// The client broke the protocol.
    Malformed,
    /// The client closed the connection.
    Closed,
    /// The connection failed.
    Io,
}

impl HandshakeError {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::NotTls,
        Self::NoSharedVersion,
        Self::NoSharedCipher,
        Self::NoSharedProtocol,
        Self::ClientCertificateMissing,
        Self::ClientCertificateInvalid,
        Self::ServerCertificateRefused,
        Self::Alert,
        Self::Malformed,
        Self::Closed,
        Self::Io,
    ];

    /// The one word that the log has for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::NotTls => "not_tls",
            Self::NoSharedVersion => "no_shared_version",
            Self::NoSharedCipher => "no_shared_cipher",
            Self::NoSharedProtocol => "no_shared_protocol",
            Self::ClientCertificateMissing => "client_certificate_missing",
            Self::ClientCertificateInvalid => "client_certificate_invalid",
            Self::ServerCertificateRefused => "server_certificate_refused",
            Self::Alert => "alert",
            Self::Malformed => "malformed",
            Self::Closed => "closed",
            Self::Io => "io",
        }
    }

    /// What the library says, which wraps its own errors.
    pub(super) fn of(error: &io::Error) -> Self {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match (inner, error.kind()) {
            (Some(inner), _) => Self::of_tls(inner),
            (
                None,
                io::ErrorKind::UnexpectedEof
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe,
            ) => Self::Closed,
            (None, _) => Self::Io,
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "what remains is said by a client that breaks the rules"
    )]
    fn of_tls(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => Self::NotTls,
            // Clients of TLS 1.1 send no signature algorithms.
            rustls::Error::PeerIncompatible(
                PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls12NotOfferedOrEnabled
                | PeerIncompatible::SupportedVersionsExtensionRequired
                | PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
                | PeerIncompatible::SignatureAlgorithmsExtensionRequired,
            ) => Self::NoSharedVersion,
            rustls::Error::PeerIncompatible(_) => Self::NoSharedCipher,
            rustls::Error::NoApplicationProtocol => Self::NoSharedProtocol,
            rustls::Error::NoCertificatesPresented => Self::ClientCertificateMissing,
            // None is verified here but those of clients.
            rustls::Error::InvalidCertificate(_) => Self::ClientCertificateInvalid,
            rustls::Error::AlertReceived(alert) => Self::of_alert(*alert),
            _ => Self::Malformed,
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "what remains says nothing of the certificate")]
    fn of_alert(alert: AlertDescription) -> Self {
        match alert {
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::BadCertificateStatusResponse => Self::ServerCertificateRefused,
            AlertDescription::ProtocolVersion => Self::NoSharedVersion,
            AlertDescription::CloseNotify | AlertDescription::UserCanceled => Self::Closed,
            _ => Self::Alert,
        }
    }
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl std::error::Error for HandshakeError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_has_a_word_of_its_own() {
        let mut words = HandshakeError::ALL.map(HandshakeError::word).to_vec();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), HandshakeError::ALL.len());
    }

    #[test]
    fn what_the_library_says_is_understood() {
        let tls =
            |error: rustls::Error| HandshakeError::of(&io::Error::new(io::ErrorKind::InvalidData, error));
        assert_eq!(tls(rustls::Error::NoCertificatesPresented), HandshakeError::ClientCertificateMissing);
        assert_eq!(
            tls(rustls::Error::AlertReceived(AlertDescription::UnknownCA)),
            HandshakeError::ServerCertificateRefused
        );
        assert_eq!(tls(rustls::Error::AlertReceived(AlertDescription::DecodeError)), HandshakeError::Alert);
        assert_eq!(tls(rustls::Error::DecryptError), HandshakeError::Malformed);
        assert_eq!(HandshakeError::of(&io::ErrorKind::UnexpectedEof.into()), HandshakeError::Closed);
        assert_eq!(HandshakeError::of(&io::ErrorKind::OutOfMemory.into()), HandshakeError::Io);
    }
}
