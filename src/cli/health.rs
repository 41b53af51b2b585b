//! `tollgate health`: asks the admin address of a running gateway whether it is ready, for container health checks.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use super::error::{CommandError, Exit};
use crate::config::Config;

/// For everything: connecting, asking and reading the answer.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Longest status line that is read, in bytes.
const MAX_LINE_BYTES: usize = 256;

/// Why a gateway is not said to be ready.
#[derive(Debug)]
pub enum HealthError {
    /// The configuration switches the admin address off.
    AdminOff,
    /// The configuration leaves the port to the operating system.
    AnyPort,
    /// The address is none.
    Address(String, io::Error),
    /// Nobody answers there, or not in time.
    Silent(SocketAddr, io::Error),
    /// The answer is not that of a gateway.
    Unexpected(SocketAddr),
    /// The gateway starts or drains.
    NotReady(SocketAddr),
}

impl fmt::Display for HealthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AdminOff => {
                f.write_str("server.admin is \"\", so the gateway cannot be asked; give it an address")
            }
            Self::AnyPort => {
                f.write_str("server.admin has port 0, so where it listens is not known; use --address")
            }
            Self::Address(text, error) => write!(f, "\"{text}\" is not an address HOST:PORT: {error}"),
            Self::Silent(address, error) if is_timeout(error) => {
                write!(f, "{address} did not answer within {} seconds", TIMEOUT.as_secs())
            }
            Self::Silent(address, error) => write!(f, "{address} does not answer: {error}"),
            Self::Unexpected(address) => {
                write!(f, "what answers on {address} is no admin address of a gateway")
            }
            Self::NotReady(address) => write!(f, "the gateway on {address} is not ready"),
        }
    }
}

impl std::error::Error for HealthError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Address(_, error) | Self::Silent(_, error) => Some(error),
            Self::AdminOff | Self::AnyPort | Self::Unexpected(_) | Self::NotReady(_) => None,
        }
    }
}

/// Where the admin address of this configuration can be asked: on this machine when it listens everywhere.
///
/// # Errors
///
/// [`HealthError::AdminOff`] and [`HealthError::AnyPort`].
pub fn configured(config: &Config) -> Result<String, CommandError> {
    let mut address = config.server.admin.ok_or(CommandError::Health(HealthError::AdminOff))?;
    if address.port() == 0 {
        return Err(CommandError::Health(HealthError::AnyPort));
    }
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    Ok(address.to_string())
}

/// Asks `/readyz` there.
///
/// # Errors
///
/// A [`HealthError`] unless the answer is that the gateway is ready.
pub fn health(address: &str, out: &mut dyn Write) -> Result<Exit, CommandError> {
    ask(address, TIMEOUT).map_err(CommandError::Health)?;
    writeln!(out, "ready").map_err(CommandError::Output)?;
    Ok(Exit::Ok)
}

fn ask(text: &str, timeout: Duration) -> Result<(), HealthError> {
    let failed = |error| HealthError::Address(text.to_owned(), error);
    let address = text.to_socket_addrs().map_err(failed)?.next();
    let address = address.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
    let line = status_line(address, timeout).map_err(|error| HealthError::Silent(address, error))?;
    let status = line.strip_prefix(b"HTTP/1.1 ").and_then(|rest| rest.get(..3));
    match status {
        Some(b"200") => Ok(()),
        Some(b"503") => Err(HealthError::NotReady(address)),
        Some(_) | None => Err(HealthError::Unexpected(address)),
    }
}

/// The first line of the answer, as far as it comes in time.
fn status_line(address: SocketAddr, timeout: Duration) -> io::Result<Vec<u8>> {
    let deadline = Instant::now() + timeout;
    let left = || {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::Error::from(io::ErrorKind::TimedOut)) } else { Ok(left) }
    };
    let mut stream = TcpStream::connect_timeout(&address, timeout)?;
    stream.set_write_timeout(Some(left()?))?;
    stream.write_all(
        format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes(),
    )?;
    let mut line = Vec::new();
    let mut buffer = [0; MAX_LINE_BYTES];
    while line.len() < MAX_LINE_BYTES && !line.contains(&b'\n') {
        stream.set_read_timeout(Some(left()?))?;
        match stream.read(&mut buffer)? {
            0 => break,
            count => line.extend(buffer.iter().take(count)),
        }
    }
    Ok(line)
}

/// A read that takes too long fails with either, depending on the system.
fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::config::{Environment, parse, starter};

    /// What is said about a server that answers this.
    fn asked(answer: &'static [u8]) -> Result<(), HealthError> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 512];
            let count = stream.read(&mut request).unwrap();
            stream.write_all(answer).unwrap();
            String::from_utf8(request[..count].to_vec()).unwrap()
        });
        let outcome = ask(&address, Duration::from_secs(10));
        assert!(server.join().unwrap().starts_with("GET /readyz HTTP/1.1\r\nHost: "));
        outcome
    }

    #[test]
    fn only_200_is_ready() {
        asked(b"HTTP/1.1 200 OK\r\n\r\nready\n").unwrap();
        assert!(matches!(asked(b"HTTP/1.1 503 Service Unavailable\r\n\r\n"), Err(HealthError::NotReady(_))));
        for answer in [&b"HTTP/1.1 404 Not Found\r\n\r\n"[..], b"SSH-2.0-x\r\n", b"", b"HTTP/1.1 2"] {
            assert!(matches!(asked(answer), Err(HealthError::Unexpected(_))));
        }
    }

    #[test]
    fn nobody_and_silence_are_told_apart() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let error = ask(&address, Duration::from_millis(20)).unwrap_err();
        assert_eq!(error.to_string(), format!("{address} did not answer within 2 seconds"));
        drop(listener);
        let error = ask(&address, Duration::from_secs(10)).unwrap_err();
        assert!(matches!(&error, HealthError::Silent(_, error) if !is_timeout(error)), "{error}");
        assert!(matches!(ask("nowhere", TIMEOUT), Err(HealthError::Address(..))));
    }

    #[test]
    fn the_address_comes_from_the_configuration() {
        let of = |admin: &str| {
            let text = starter("http://127.0.0.1:1").replace("\"127.0.0.1:9911\"", &format!("{admin:?}"));
            configured(&parse(&text, "g", std::path::Path::new(""), &Environment::default()).unwrap())
        };
        assert_eq!(of("127.0.0.1:9911").unwrap(), "127.0.0.1:9911");
        assert_eq!(of("0.0.0.0:9911").unwrap(), "127.0.0.1:9911");
        assert_eq!(of("[::]:9911").unwrap(), "[::1]:9911");
        assert!(matches!(of(""), Err(CommandError::Health(HealthError::AdminOff))));
        assert!(matches!(of("127.0.0.1:0"), Err(CommandError::Health(HealthError::AnyPort))));
    }
}
