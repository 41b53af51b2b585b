//! `tollgate reload`: has a running gateway read its configuration again, and tells what that changes.

use std::fmt;
use std::io::{self, Read as _, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::path::Path;
use std::time::Duration;

use super::error::{CommandError, Exit};
use super::health;
use crate::admin::CONFIG_DIGEST;
use crate::config::{Config, Environment, Text};

/// For connecting to the gateway.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// For the answer. A reload waits for whatever the configuration names, such as a database of users.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);
/// Longest answer that is read, in bytes.
const MAX_ANSWER_BYTES: u64 = 1024 * 1024;

/// Why it is not known that a gateway has reloaded.
#[derive(Debug)]
pub enum ReloadCommandError {
    /// The address is none.
    Address(String, io::Error),
    /// Nobody answers there, or not in time.
    Silent(SocketAddr, io::Error),
    /// The answer is not that of a gateway.
    Unexpected(SocketAddr),
    /// The gateway refuses the configuration, or to be asked; in its words.
    Refused(String),
}

impl fmt::Display for ReloadCommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(text, error) => write!(f, "\"{text}\" is not an address HOST:PORT: {error}"),
            Self::Silent(address, error) => write!(f, "{address} does not answer: {error}"),
            Self::Unexpected(address) => {
                write!(f, "what answers on {address} is no admin address of a gateway that reloads")
            }
            Self::Refused(words) => write!(f, "not reloaded: {words}"),
        }
    }
}

impl std::error::Error for ReloadCommandError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Address(_, error) | Self::Silent(_, error) => Some(error),
            Self::Unexpected(_) | Self::Refused(_) => None,
        }
    }
}

/// Checks the configuration, so that whatever is wrong with it is told here, and then has the gateway read it: the one on
/// `address`, or where the configuration has it.
///
/// # Errors
///
/// [`CommandError::Config`] for a configuration that is wrong, [`CommandError::Reload`] and [`CommandError::Health`] when the
/// gateway does not take it or is not there.
pub fn reload(
    path: &Path,
    environment: &Environment,
    is_dry_run: bool,
    address: Option<String>,
    out: &mut dyn Write,
) -> Result<Exit, CommandError> {
    let text = Text::read(path).map_err(CommandError::Config)?;
    let config: Config = text.parse(environment).map_err(CommandError::Config)?;
    let address = address.map_or_else(|| health::configured(&config), Ok)?;
    let told = ask(&address, &text.digest(), is_dry_run).map_err(CommandError::Reload)?;
    out.write_all(told.as_bytes()).map_err(CommandError::Output)?;
    Ok(Exit::Ok)
}

/// What a gateway says that has reloaded.
fn ask(text: &str, digest: &str, is_dry_run: bool) -> Result<String, ReloadCommandError> {
    let failed = |error| ReloadCommandError::Address(text.to_owned(), error);
    let address = text.to_socket_addrs().map_err(failed)?.next();
    let address = address.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
    let target = if is_dry_run { "/reload?dry_run=true" } else { "/reload" };
    let request = format!(
        "POST {target} HTTP/1.1\r\nHost: {address}\r\n{CONFIG_DIGEST}: {digest}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    let answer = exchange(address, &request).map_err(|error| ReloadCommandError::Silent(address, error))?;
    let unexpected = || ReloadCommandError::Unexpected(address);
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(unexpected)?;
    match head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)) {
        Some("200") => Ok(body.to_owned()),
        Some("403" | "409" | "503") => Err(ReloadCommandError::Refused(body.trim_end().to_owned())),
        Some(_) | None => Err(unexpected()),
    }
}

/// Sends a request whose answer ends with its connection, and returns that.
pub(super) fn exchange(address: SocketAddr, request: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)?;
    stream.set_write_timeout(Some(CONNECT_TIMEOUT))?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.take(MAX_ANSWER_BYTES).read_to_string(&mut answer)?;
    Ok(answer)
}
