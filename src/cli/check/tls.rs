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
            self.line("", &format!("  note: it expires within {} days", days.saturating_add(1)));
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
