//! A certificate and its key, as they were read from their files.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

use super::error::TlsError;
use super::files;
use crate::config::{CertificateFiles, CertificateHost};

/// What there is to know about a certificate that is shown to clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The hosts that the configuration names for it.
    pub hosts: Vec<CertificateHost>,
    /// The names and addresses in the certificate (RFC 5280 section 4.2.1.6).
    pub names: Vec<CertificateHost>,
    /// Its subject, for people.
    pub subject: String,
    /// From when on it is valid, in seconds since 1970.
    pub not_before: i64,
    /// Until when it is valid, in seconds since 1970.
    pub not_after: i64,
    /// The file that it was read from.
    pub path: PathBuf,
    /// The file of its private key, when everybody on this machine may read it.
    pub exposed_key: Option<PathBuf>,
}

impl Certificate {
    /// Whether it is served for a host: in lower case, without port and without a dot at the end.
    pub fn covers(&self, host: &str) -> bool {
        self.hosts.iter().any(|own| own.covers(host))
    }

    /// The configured hosts that the certificate itself does not have, so that clients refuse it for them.
    pub fn unnamed_hosts(&self) -> impl Iterator<Item = &CertificateHost> {
        self.hosts.iter().filter(|host| {
            let text = host.to_string();
            !self.names.iter().any(|name| name == *host || name.covers(&text))
        })
    }
}

/// A certificate with its key, which belong together.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    pub(super) key: Arc<CertifiedKey>,
    pub(super) certificate: Arc<Certificate>,
}

impl Pair {
    /// Reads both files. Blocks.
    pub(super) fn load(entry: &CertificateFiles, provider: &CryptoProvider) -> Result<Self, TlsError> {
        let chain = certificates(&entry.cert)?;
        let mut certificate = describe(&chain, entry)?;
        let (key, is_exposed) = private_key(&entry.key)?;
        certificate.exposed_key = is_exposed.then(|| entry.key.clone());
        let key = CertifiedKey::from_der(chain, key, provider)
            .map_err(|error| TlsError::of_pair(&error, &entry.cert, &entry.key))?;
        Ok(Self { key: Arc::new(key), certificate: Arc::new(certificate) })
    }

    /// Whether clients would see no difference.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.key.cert == other.key.cert
    }
}

/// All certificates of a PEM file; at least one.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let content = files::read(path);
    let content = content.map_err(|source| TlsError::Unreadable { path: path.to_owned(), source })?;
    let found: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&content.bytes).collect();
    let found = found.map_err(|_| TlsError::NotPem { path: path.to_owned() })?;
    if found.is_empty() { Err(TlsError::NoCertificate { path: path.to_owned() }) } else { Ok(found) }
}

/// The first private key of a PEM file, and whether everybody may read it.
fn private_key(path: &Path) -> Result<(PrivateKeyDer<'static>, bool), TlsError> {
    let content = files::read(path);
    let content = content.map_err(|source| TlsError::Unreadable { path: path.to_owned(), source })?;
    match PrivateKeyDer::from_pem_slice(&content.bytes) {
        Ok(key) => Ok((key, content.is_exposed)),
        Err(pem::Error::NoItemsFound) => Err(TlsError::NoKey { path: path.to_owned() }),
        // What the library says may repeat a line of the key.
        Err(_) => Err(TlsError::NotPem { path: path.to_owned() }),
    }
}

fn describe(chain: &[CertificateDer<'_>], entry: &CertificateFiles) -> Result<Certificate, TlsError> {
    let damaged = || TlsError::BadCertificate { path: entry.cert.clone() };
    let first = chain.first().ok_or_else(damaged)?;
    let (_, parsed) = X509Certificate::from_der(first).map_err(|_| damaged())?;
    let alternative = parsed.subject_alternative_name().map_err(|_| damaged())?;
    let names = alternative.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
    Ok(Certificate {
        hosts: entry.hosts.clone(),
        names: names.iter().filter_map(name).collect(),
        subject: parsed.subject().to_string(),
        not_before: parsed.validity().not_before.timestamp(),
        not_after: parsed.validity().not_after.timestamp(),
        path: entry.cert.clone(),
        exposed_key: None,
    })
}

fn name(name: &GeneralName<'_>) -> Option<CertificateHost> {
    if let GeneralName::DNSName(name) = name {
        return CertificateHost::parse(name);
    }
    let GeneralName::IPAddress(bytes) = name else { return None };
    address(bytes).map(CertificateHost::Address)
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = || <[u8; 4]>::try_from(bytes).ok().map(Ipv4Addr::from).map(IpAddr::V4);
    let v6 = || <[u8; 16]>::try_from(bytes).ok().map(Ipv6Addr::from).map(IpAddr::V6);
    v4().or_else(v6)
}
