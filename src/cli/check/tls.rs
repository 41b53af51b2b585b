//! What there is to say about certificates.

use std::fmt::Write as _;

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
    /// A line for each certificate, and for what is to be said about it.
    pub(super) text: String,
    /// Certificates that every client refuses.
    pub(super) problems: usize,
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
        if certificate.not_after < now {
            self.problems += 1;
            self.line("", "  problem: it has expired, and clients refuse it");
        } else if certificate.not_before > now {
            self.problems += 1;
            let from = shown_time(certificate.not_before);
            self.line("", &format!("  problem: it is not valid before {from}, and clients refuse it"));
        } else if certificate.not_after.saturating_sub(now) < SOON_DAYS * DAY_SECONDS {
            let days = certificate.not_after.saturating_sub(now) / DAY_SECONDS;
            let within = match days {
                0 => "a day".to_owned(),
                days => format!("{} days", days.saturating_add(1)),
            };
            self.line("", &format!("  note: it expires within {within}"));
        }
        for host in certificate.unnamed_hosts() {
            self.line(
                "",
                &format!("  note: the certificate does not name {host}, so clients refuse it there"),
            );
        }
        if let Some(key) = &certificate.exposed_key {
            self.line(
                "",
                &format!("  note: everybody on this machine may read {}: chmod 600", key.display()),
            );
        }
    }
}

#[cfg(test)]
mod tests {
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
        for (from_days, until_days, problems, told) in [
            (0, 100, 0, ""),
            (0, 40, 0, ""),
            (0, 39, 0, "note: it expires within 30 days"),
            (0, 10, 0, "note: it expires within a day"),
            (0, 9, 1, "problem: it has expired, and clients refuse it"),
            (11, 100, 1, "problem: it is not valid before 1970-01-12T00:00:00Z, and clients refuse it"),
        ] {
            let mut report = Report::default();
            report.add(&certificate(from_days * DAY_SECONDS, until_days * DAY_SECONDS), 10 * DAY_SECONDS);
            assert_eq!(report.problems, problems, "{until_days}");
            assert_eq!(report.text.lines().nth(1).unwrap_or_default().trim(), told);
        }
    }
}
