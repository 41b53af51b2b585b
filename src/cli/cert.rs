//! `tollgate cert`: makes a certificate to try TLS with.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair};
use time::OffsetDateTime;

use super::arguments::{CertVerb, NewCertificate};
use super::error::{CommandError, Exit};
use crate::base::clock::Clock;
use crate::config::CertificateHost;

/// Clocks differ, and a client refuses a certificate that is not valid yet.
const EARLIER_SECONDS: i64 = 60 * 60;
const DAY_SECONDS: i64 = 24 * 60 * 60;

/// Makes a certificate and its key. Only the lines for the configuration go to `out`.
///
/// # Errors
///
/// A [`CommandError`].
pub fn perform(verb: CertVerb, out: &mut dyn Write, told: &mut dyn Write) -> Result<Exit, CommandError> {
    let CertVerb::SelfSigned(wanted) = verb;
    let files = Files::in_directory(&wanted.out_dir);
    let made =
        make(&wanted, &Clock::System).map_err(|error| CommandError::CertificateNotMade(error.to_string()))?;
    files.write(&made, wanted.force)?;
    let says = |error| CommandError::Output(error);
    writeln!(
        told,
        "tollgate: made {} and {}; the certificate is good for {} days; its lines for the configuration:",
        files.cert.display(),
        files.key.display(),
        wanted.days
    )
    .map_err(says)?;
    out.write_all(lines(&wanted.hosts, &files).as_bytes()).map_err(says)?;
    let command = trial(&wanted.hosts, &files.cert);
    writeln!(told, "\nNobody has signed it, so clients must be told to trust it:\n  {command}")
        .map_err(says)?;
    Ok(Exit::Ok)
}

/// Reads a host of the command line.
pub(super) fn parse_host(text: &str) -> Result<CertificateHost, String> {
    CertificateHost::parse(text).ok_or_else(|| {
        "a host is a name, a wildcard such as \"*.example.com\", or an IP address; without scheme and port"
            .to_owned()
    })
}

/// A certificate and its key, in PEM.
struct Made {
    cert: String,
    key: String,
}

/// An ECDSA key on P-256, which every client understands.
fn make(wanted: &NewCertificate, clock: &Clock) -> Result<Made, rcgen::Error> {
    let names: Vec<String> = wanted.hosts.iter().map(ToString::to_string).collect();
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, names.first().map_or("localhost", String::as_str));
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = subject;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let now = clock.now_unix_seconds();
    params.not_before = at(now.saturating_sub(EARLIER_SECONDS))?;
    params.not_after = at(now.saturating_add(i64::from(wanted.days).saturating_mul(DAY_SECONDS)))?;
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    Ok(Made { cert: params.self_signed(&key)?.pem(), key: key.serialize_pem() })
}

fn at(seconds: i64) -> Result<OffsetDateTime, rcgen::Error> {
    OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| rcgen::Error::Time)
}

struct Files {
    cert: PathBuf,
    key: PathBuf,
}

impl Files {
    fn in_directory(directory: &Path) -> Self {
        Self { cert: directory.join("cert.pem"), key: directory.join("key.pem") }
    }

    fn write(&self, made: &Made, replace: bool) -> Result<(), CommandError> {
        for path in [&self.cert, &self.key] {
            if path.symlink_metadata().is_err() {
                continue;
            }
            if !replace {
                return Err(CommandError::CertificateExists(path.clone()));
            }
            std::fs::remove_file(path).map_err(|error| CommandError::Write(path.clone(), error))?;
        }
        if let Some(directory) = self.key.parent().filter(|directory| !directory.as_os_str().is_empty()) {
            std::fs::create_dir_all(directory)
                .map_err(|error| CommandError::Write(directory.to_owned(), error))?;
        }
        for (path, text, mode) in [(&self.key, &made.key, 0o600), (&self.cert, &made.cert, 0o644)] {
            write_new(path, text.as_bytes(), mode)
                .map_err(|error| CommandError::Write(path.clone(), error))?;
        }
        Ok(())
    }
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn lines(hosts: &[CertificateHost], files: &Files) -> String {
    let hosts: Vec<String> = hosts.iter().map(|host| format!("\"{host}\"")).collect();
    let full = |path: &Path| {
        let full = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        format!("{:?}", full.display().to_string())
    };
    format!(
        "\n[[tls.certificates]]\nhosts = [{}]\ncert = {}\nkey = {}\n",
        hosts.join(", "),
        full(&files.cert),
        full(&files.key)
    )
}

/// A command that reaches the gateway on its usual address, whatever the DNS says.
fn trial(hosts: &[CertificateHost], cert: &Path) -> String {
    let cert = cert.display();
    let name = match hosts.first() {
        None => "localhost".to_owned(),
        Some(CertificateHost::Name(name)) => name.to_string(),
        Some(CertificateHost::Wildcard(suffix)) => format!("www{suffix}"),
        Some(CertificateHost::Address(std::net::IpAddr::V4(address))) => address.to_string(),
        Some(CertificateHost::Address(std::net::IpAddr::V6(address))) => format!("[{address}]"),
    };
    let by_name = matches!(hosts.first(), Some(CertificateHost::Name(_) | CertificateHost::Wildcard(_)));
    if by_name && name != "localhost" {
        format!("curl --cacert {cert} --resolve {name}:8080:127.0.0.1 https://{name}:8080/")
    } else {
        format!("curl --cacert {cert} https://{name}:8080/")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Environment};
    use crate::net::tls::TlsServer;
    use crate::store::scratch::Scratch;

    fn wanted(scratch: &Scratch, hosts: &[&str], force: bool) -> NewCertificate {
        let hosts = hosts.iter().map(|host| parse_host(host).unwrap()).collect();
        NewCertificate { hosts, out_dir: scratch.path("new/tls"), days: 30, force }
    }

    fn made(wanted: NewCertificate) -> Result<(String, String), CommandError> {
        let (mut out, mut told) = (Vec::new(), Vec::new());
        perform(CertVerb::SelfSigned(wanted), &mut out, &mut told)?;
        Ok((String::from_utf8(out).unwrap(), String::from_utf8(told).unwrap()))
    }

    #[test]
    fn a_new_pair_is_private_and_loads_as_it_is_printed() {
        let scratch = Scratch::new();
        let hosts = ["api.example.com", "*.example.com", "192.0.2.1", "2001:db8::1"];
        let (lines, told) = made(wanted(&scratch, &hosts, false)).unwrap();
        let key = scratch.path("new/tls/key.pem");
        assert_eq!(Scratch::mode(&key), 0o600);
        let secret = std::fs::read_to_string(&key).unwrap();
        let secret = secret.lines().nth(1).unwrap();
        assert!(!lines.contains(secret) && !told.contains(secret), "no key is printed");
        assert!(told.contains("--resolve api.example.com:8080:127.0.0.1 https://api.example.com:8080/"));
        let text = format!("{lines}\n{}", config::starter("http://127.0.0.1:1"));
        let config = config::parse(&text, "g.toml", &scratch.path(""), &Environment::default()).unwrap();
        let server = TlsServer::load(&config.tls.unwrap(), Clock::System).unwrap();
        let certificates = server.certificates();
        let [certificate] = certificates.as_slice() else { panic!("{certificates:?}") };
        assert_eq!(certificate.hosts, certificate.names);
        assert_eq!(certificate.subject, "CN=api.example.com");
        let days = (certificate.not_after - certificate.not_before) / DAY_SECONDS;
        assert_eq!((days, certificate.exposed_key.as_ref()), (30, None));
    }

    #[test]
    fn a_file_is_overwritten_only_when_that_is_asked_for() {
        let scratch = Scratch::new();
        made(wanted(&scratch, &["localhost"], false)).unwrap();
        let key = scratch.path("new/tls/key.pem");
        let first = std::fs::read(&key).unwrap();
        let error = made(wanted(&scratch, &["localhost"], false)).unwrap_err();
        assert!(matches!(error, CommandError::CertificateExists(_)) && error.exit() == Exit::Findings);
        assert_eq!(std::fs::read(&key).unwrap(), first);
        made(wanted(&scratch, &["localhost"], true)).unwrap();
        assert_ne!(std::fs::read(&key).unwrap(), first);
        assert_eq!(Scratch::mode(&key), 0o600);
    }

    #[test]
    fn only_hosts_get_certificates() {
        for text in ["", "https://a", "a:443", "a b", "*"] {
            assert!(parse_host(text).is_err(), "{text}");
        }
    }
}
