//! What there is to say about certificates.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use super::findings::{Code, Finding};
use crate::base::clock::Clock;
use crate::cli::error::CommandError;
use crate::cli::mint::shown_time;
use crate::config::{ClientAuthMode, Config, TlsVersion};
use crate::net::tls::{Certificate, TlsServer};

const DAY_SECONDS: i64 = 24 * 60 * 60;
/// A certificate that ends sooner should have been renewed.
const SOON_DAYS: i64 = 30;

/// The certificates of a configuration, for people.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// A line for each certificate.
    pub(super) text: String,
    /// What is to be said about them.
    pub(super) findings: Vec<Finding>,
    /// The certificates.
    pub(super) certificates: Vec<Arc<Certificate>>,
}

/// Loads all certificates, as the gateway would.
pub(super) fn report(config: &Config, clock: &Clock) -> Result<Report, CommandError> {
    let mut report = Report::default();
    let Some(tls) = &config.tls else { return Ok(report) };
    let server = TlsServer::load(tls, clock.clone()).map_err(CommandError::Tls)?;
    let versions = match tls.min_version {
        TlsVersion::Tls12 => "1.2 and 1.3",
        TlsVersion::Tls13 => "1.3",
    };
    let clients = tls.client_auth.as_ref().map_or_else(String::new, |auth| {
        let mode = match auth.mode {
            ClientAuthMode::Optional => "optional",
            ClientAuthMode::Required => "required",
        };
        format!(", client certificates {mode} from {}", auth.ca.display())
    });
    report.line("tls", &format!("versions {versions}{clients}"));
    for certificate in server.certificates() {
        report.add(&certificate, clock.now_unix_seconds());
        report.certificates.push(certificate);
    }
    Ok(report)
}

impl Report {
    fn line(&mut self, label: &str, what: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "{label:<9}{what}");
    }

    fn add(&mut self, certificate: &Certificate, now: i64) {
        let hosts: Vec<String> = certificate.hosts.iter().map(ToString::to_string).collect();
        let until = shown_time(certificate.not_after);
        self.line("", &format!("{} until {until} ({})", hosts.join(", "), certificate.path.display()));
        if let Some((code, message, help)) = time_finding(certificate, now) {
            self.find(code, &certificate.path, message, help);
        }
        for host in certificate.unnamed_hosts() {
            self.find(
                Code::CertificateUnnamed,
                &certificate.path,
                format!(
                    "the certificate {} does not name {host}, so clients refuse it there",
                    shown(&certificate.path)
                ),
                "get one that names the host, or take the host out of \"hosts\"",
            );
        }
        if let Some(key) = &certificate.exposed_key {
            self.find(
                Code::ExposedKey,
                key,
                format!("everybody on this machine may read the private key {}", shown(key)),
                "chmod 600 the file, and change the key if others have accounts here",
            );
        }
    }

    fn find(&mut self, code: Code, subject: &Path, message: String, help: &str) {
        self.findings.push(Finding::new(code, shown(subject), message, help));
    }
}

/// What is to be said about the time of a certificate.
fn time_finding(certificate: &Certificate, now: i64) -> Option<(Code, String, &'static str)> {
    let path = shown(&certificate.path);
    if certificate.not_after < now {
        let message = format!("the certificate {path} has expired, and clients refuse it");
        return Some((Code::CertificateInvalid, message, "renew it"));
    }
    if certificate.not_before > now {
        let from = shown_time(certificate.not_before);
        let message = format!("the certificate {path} is not valid before {from}, and clients refuse it");
        return Some((Code::CertificateInvalid, message, "see that the clock is right, or wait"));
    }
    let days = certificate.not_after.saturating_sub(now) / DAY_SECONDS;
    let within = match days {
        SOON_DAYS.. => return None,
        0 => "a day".to_owned(),
        days => format!("{} days", days.saturating_add(1)),
    };
    Some((Code::CertificateExpires, format!("the certificate {path} expires within {within}"), "renew it"))
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use Code::{CertificateExpires as Expires, CertificateInvalid as Invalid};

    use super::*;

    #[test]
    fn a_certificate_is_told_by_its_time() {
        let certificate = |not_before, not_after| Certificate {
            hosts: Vec::new(),
            names: Vec::new(),
            subject: String::new(),
            not_before,
            not_after,
            path: "c.pem".into(),
            exposed_key: None,
        };
        for (from_days, until_days, told) in [
            (0, 100, &[][..]),
            (0, 40, &[]),
            (0, 39, &[(Expires, "the certificate c.pem expires within 30 days")]),
            (0, 10, &[(Expires, "the certificate c.pem expires within a day")]),
            (0, 9, &[(Invalid, "the certificate c.pem has expired, and clients refuse it")]),
            (
                11,
                100,
                &[(
                    Invalid,
                    "the certificate c.pem is not valid before 1970-01-12T00:00:00Z, and clients refuse it",
                )],
            ),
        ] {
            let mut report = Report::default();
            report.add(&certificate(from_days * DAY_SECONDS, until_days * DAY_SECONDS), 10 * DAY_SECONDS);
            let found: Vec<_> =
                report.findings.iter().map(|found| (found.code, found.message.as_str())).collect();
            assert_eq!(found, told, "{until_days}");
        }
    }
}
