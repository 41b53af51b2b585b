//! `[tls]`: certificates, versions, and who must show a certificate.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use http::HeaderName;

use super::address::as_host_name;
use super::complaint::{Complaint, choose, quoted};
use super::header_name::{is_same, owned_header, plain};
use super::kind::Kind;
use super::reader::{Located, Table};
use crate::base::pattern::HostPattern;

/// `[tls]`: present is TLS on every address of `server.listen`. Files are named here and not looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The oldest version that is spoken.
    pub min_version: TlsVersion,
    /// What is shown to clients; at least one, and the first is for those who ask for none that is there.
    pub certificates: Vec<CertificateFiles>,
    /// Whether clients show a certificate too.
    pub client_auth: Option<ClientAuth>,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVersion {
    /// RFC 5246.
    Tls12,
    /// RFC 8446.
    Tls13,
}

/// `[[tls.certificates]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// Whom it is for; at least one.
    pub hosts: Vec<CertificateHost>,
    /// The certificate and those between it and the authority, in PEM.
    pub cert: PathBuf,
    /// Its private key, in PEM.
    pub key: PathBuf,
}

/// A host that a certificate is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateHost {
    /// This name, in lower case.
    Name(Box<str>),
    /// `*.example.com`: every name of exactly one label more (RFC 9525 section 6.3). The text begins with the dot.
    Wildcard(Box<str>),
    /// This address.
    Address(IpAddr),
}

impl CertificateHost {
    /// Reads `api.example.com`, `*.example.com`, `192.0.2.1` or `2001:db8::1`, the last one with or without brackets.
    /// `None` for everything else.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(address) = address(text) {
            return Some(Self::Address(address));
        }
        match HostPattern::parse(text).ok()? {
            HostPattern::Exact(_) => as_host_name(text).map(|name| Self::Name(name.into())),
            HostPattern::Suffix(suffix) => Some(Self::Wildcard(suffix)),
            HostPattern::Any => None,
        }
    }

    /// Whether a host is one of these: lower case, without port and without a dot at the end, IPv6 in brackets.
    pub fn covers(&self, host: &str) -> bool {
        match self {
            Self::Name(name) => **name == *host,
            Self::Wildcard(suffix) => {
                host.strip_suffix(&**suffix).is_some_and(|label| !label.is_empty() && !label.contains('.'))
            }
            Self::Address(own) => address(host) == Some(*own),
        }
    }
}

impl fmt::Display for CertificateHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Wildcard(suffix) => write!(f, "*{suffix}"),
            Self::Address(address) => address.fmt(f),
        }
    }
}

fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    match bare {
        Some(bare) => bare.parse().ok().map(IpAddr::V6),
        None => text.parse().ok(),
    }
}

/// `[tls.client_auth]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAuth {
    /// The authorities whose certificates are accepted, in PEM.
    pub ca: PathBuf,
    /// What becomes of a client without a certificate.
    pub mode: ClientAuthMode,
    /// Request headers that the gateway owns, each with the part of the certificate that it gets. No two are the same
    /// to an upstream.
    pub headers: Vec<CertificateHeader>,
    /// The part of the certificate that is a user's name, where a certificate stands for a token.
    pub user: Option<CertificatePart>,
}

/// `mode`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuthMode {
    /// It may come in; one with a certificate that does not pass may not.
    Optional,
    /// It may not.
    Required,
}

/// A request header and what it gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateHeader {
    /// The header.
    pub name: HeaderName,
    /// What it gets.
    pub part: CertificatePart,
}

/// A part of a client certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificatePart {
    /// The whole subject, as RFC 4514 writes it.
    Subject,
    /// The common name in the subject.
    SubjectCn,
    /// DNS names in the subject alternative name.
    SanDns,
    /// E-mail addresses there.
    SanEmail,
    /// URIs there, such as a SPIFFE id.
    SanUri,
    /// The serial number, in hexadecimal.
    Serial,
    /// SHA-256 of the certificate, in hexadecimal.
    Fingerprint,
}

impl CertificatePart {
    /// All parts with their words in the configuration.
    pub const ALL: [(&'static str, Self); 7] = [
        ("subject", Self::Subject),
        ("subject_cn", Self::SubjectCn),
        ("san_dns", Self::SanDns),
        ("san_email", Self::SanEmail),
        ("san_uri", Self::SanUri),
        ("serial", Self::Serial),
        ("fingerprint", Self::Fingerprint),
    ];
}

/// Reads the section; `None` when it is not there.
pub(super) fn tls(root: &mut Table<'_>) -> Option<Tls> {
    let given = root.has("tls");
    let mut table = root.table("tls");
    if given {
        table.require(
            "certificates",
            "add [[tls.certificates]] with \"hosts\", \"cert\" and \"key\"; \"tollgate cert self-signed\" makes a pair to try it out",
        );
    }
    let min_version = table.parsed("min_version", Kind::Text, |text| {
        choose(text, &[("1.2", TlsVersion::Tls12), ("1.3", TlsVersion::Tls13)])
    });
    let certificates = table.tables("certificates").into_iter().filter_map(certificate).collect();
    let client_auth = if table.has("client_auth") {
        client_auth(table.table("client_auth"))
    } else {
        drop(table.table("client_auth"));
        None
    };
    table.finish();
    given.then(|| Tls { min_version: min_version.unwrap_or(TlsVersion::Tls12), certificates, client_auth })
}

fn certificate(mut table: Table<'_>) -> Option<CertificateFiles> {
    table.require("hosts", "add hosts = [\"api.example.com\"], the names that clients connect to");
    table.require("cert", "add the path of a PEM file with the certificate and its chain");
    table.require("key", "add the path of a PEM file with the private key");
    let list = table.filled_list("hosts", "name at least one, such as \"api.example.com\"", host);
    let mut hosts = Vec::new();
    for Located { value, span } in list.unwrap_or_default() {
        if hosts.contains(&value) {
            let complaint = Complaint::new(format!("\"{value}\" is listed twice"));
            table.reader.report(&span, complaint.hint("remove one of the two"));
        } else {
            hosts.push(value);
        }
    }
    let cert = path(&mut table, "cert");
    let key = path(&mut table, "key");
    table.finish();
    Some(CertificateFiles { hosts, cert: cert?, key: key? })
}

fn host(text: &str) -> Result<CertificateHost, Complaint> {
    CertificateHost::parse(text).ok_or_else(|| {
        let hint = if text == "*" || text.is_empty() {
            "the first certificate is for everybody who asks for a host that no other is for".to_owned()
        } else if !text.is_ascii() {
            "write the name as it stands in the DNS, such as \"xn--bcher-kva.example\"".to_owned()
        } else if let Some(correction) = corrected(text) {
            format!("did you mean \"{correction}\"?")
        } else {
            "write a name, a wildcard in front of one, or an address: \"api.example.com\", \"*.example.com\", \"192.0.2.1\"".to_owned()
        };
        Complaint::new(format!("{} is not a host of a certificate", quoted(text))).hint(hint)
    })
}

/// The host in a URL, in front of a port or of a dot at the end.
fn corrected(text: &str) -> Option<CertificateHost> {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let rest = rest.split('/').next()?;
    let host = match rest.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() => host,
        Some(_) | None => rest,
    };
    CertificateHost::parse(host.strip_suffix('.').unwrap_or(host))
}

/// A path of a file. Whether there is one is seen when it is loaded.
fn path(table: &mut Table<'_>, key: &'static str) -> Option<PathBuf> {
    let reader = table.reader;
    table.parsed(key, Kind::Text, |text| match text {
        "" => Err(Complaint::new(format!("\"{key}\" is empty")).hint("write the path of a PEM file")),
        _ => Ok(reader.resolve(text)),
    })
}

fn client_auth(mut table: Table<'_>) -> Option<ClientAuth> {
    table.require("ca", "add the path of a PEM file with the authorities that client certificates come from");
    let ca = path(&mut table, "ca");
    let mode = table.parsed("mode", Kind::Text, |text| {
        choose(text, &[("optional", ClientAuthMode::Optional), ("required", ClientAuthMode::Required)])
    });
    let user = table.parsed("user", Kind::Text, |text| choose(text, &CertificatePart::ALL));
    let mut headers: Vec<CertificateHeader> = Vec::new();
    for Located { value, span } in table.named_values("headers", header) {
        let same = |other: &&CertificateHeader| is_same(&other.name, &value.name);
        if let Some(other) = headers.iter().find(same) {
            let message = format!("the header \"{}\" is there already as \"{}\"", value.name, other.name);
            let hint = "to many servers all names are the same that differ only in case, \"-\" and \"_\"";
            table.reader.report(&span, Complaint::new(message).hint(hint));
        } else {
            headers.push(value);
        }
    }
    table.finish();
    Some(ClientAuth { ca: ca?, mode: mode.unwrap_or(ClientAuthMode::Required), headers, user })
}

fn header(name: &str, part: &str) -> Result<CertificateHeader, Complaint> {
    let part = choose(part, &CertificatePart::ALL)?;
    if ["xuserid", "xusername", "xuseremail", "xusergroups"].contains(&plain(name).as_str()) {
        let complaint = Complaint::new(format!("{} cannot be such a header", quoted(name)));
        return Err(complaint.hint(
            "the gateway gives this header another meaning; take a name such as \"X-Client-Subject\"",
        ));
    }
    Ok(CertificateHeader { name: owned_header(name, "X-Client-Subject")?, part })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Option<String> {
        CertificateHost::parse(text).map(|host| host.to_string())
    }

    #[test]
    fn hosts_are_names_wildcards_and_addresses() {
        for (text, expected) in [
            ("api.example.com", "api.example.com"),
            ("API.Example.COM", "api.example.com"),
            ("localhost", "localhost"),
            ("*.example.com", "*.example.com"),
            ("192.0.2.1", "192.0.2.1"),
            ("2001:DB8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
        ] {
            assert_eq!(shown(text).as_deref(), Some(expected), "{text}");
        }
        for text in [
            "",
            "*",
            "*.",
            "a.*.b",
            "*a.b",
            "a.",
            "a b",
            "a:443",
            "https://a",
            "1.2.3",
            "192.0.2.256",
            "[::",
            "é.fr",
        ] {
            assert_eq!(shown(text), None, "{text}");
        }
    }

    #[test]
    fn a_wildcard_covers_one_label_and_an_address_each_of_its_spellings() {
        for (pattern, host, expected) in [
            ("a.example.com", "a.example.com", true),
            ("a.example.com", "b.example.com", false),
            ("*.example.com", "a.example.com", true),
            ("*.example.com", "a.b.example.com", false),
            ("*.example.com", ".example.com", false),
            ("*.example.com", "example.com", false),
            ("*.example.com", "aexample.com", false),
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("2001:db8::1", "[2001:db8:0::1]", true),
            ("2001:db8::1", "[2001:db8::2]", false),
        ] {
            assert_eq!(CertificateHost::parse(pattern).unwrap().covers(host), expected, "{pattern} {host}");
        }
    }

    #[test]
    fn a_host_that_is_nearly_right_is_put_right() {
        for (text, hint) in [
            ("https://api.example.com/", "did you mean \"api.example.com\"?"),
            ("api.example.com:443", "did you mean \"api.example.com\"?"),
            ("api.example.com.", "did you mean \"api.example.com\"?"),
        ] {
            assert_eq!(host(text).unwrap_err().hint.unwrap(), hint);
        }
    }

    #[test]
    fn a_header_may_have_no_other_meaning() {
        for name in ["X-Client-Subject", "X-SSL-Client-S-DN", "x-forwarded-client-cert"] {
            assert!(header(name, "subject").is_ok(), "{name}");
        }
        for name in [
            "",
            "a b",
            "-",
            "Host",
            "http-host",
            "Content-Length",
            "Transfer_Encoding",
            "Authorization",
            "X_User.Id",
            "X-Forwarded-For",
            "proxy-x",
        ] {
            assert!(header(name, "subject").is_err(), "{name}");
        }
        assert!(header(&"x".repeat(40), "subject").is_ok());
        assert!(header(&"x".repeat(41), "subject").is_err());
        assert_eq!(header("X", "subjekt").unwrap_err().hint.unwrap(), "did you mean \"subject\"?");
    }
}
