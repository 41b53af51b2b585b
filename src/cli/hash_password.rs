//! `tollgate hash-password`, and where passwords come from: a prompt or standard input, never an argument, which others
//! on the machine could read.

use std::fmt;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::Path;

use zeroize::Zeroizing;

use super::arguments::ConfigPath;
use super::error::{CommandError, Exit};
use crate::base::bounds;
use crate::base::secret::Secret;
use crate::config::{self, Environment, Hashing};
use crate::users::HashPool;
use crate::users::password::{PasswordFault, check_new_password};

/// Why no password was read.
#[derive(Debug)]
pub enum PasswordInputError {
    /// What was read cannot be a password.
    Fault(PasswordFault),
    /// The second entry differs from the first.
    Mismatch,
    /// The terminal or standard input cannot be read.
    Input(io::Error),
}

impl fmt::Display for PasswordInputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault(fault) => fault.fmt(f),
            Self::Mismatch => f.write_str("the two passwords differ"),
            Self::Input(error) => write!(f, "the password cannot be read: {error}"),
        }
    }
}

impl std::error::Error for PasswordInputError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Fault(fault) => Some(fault),
            Self::Mismatch => None,
            Self::Input(error) => Some(error),
        }
    }
}

/// Prints the argon2id hash of a password in PHC form, made as `[users.hashing]` says.
///
/// # Errors
///
/// A [`CommandError`].
pub fn perform(
    place: &ConfigPath,
    environment: &Environment,
    out: &mut dyn Write,
) -> Result<Exit, CommandError> {
    let hashing = hashing(place, environment)?;
    let password = read_password(true).map_err(CommandError::Password)?;
    let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(CommandError::System)?;
    let hash = runtime.block_on(HashPool::new(&hashing).hash(&password)).map_err(CommandError::Hash)?;
    writeln!(out, "{}", hash.expose()).map_err(CommandError::Output)?;
    Ok(Exit::Ok)
}

/// The configured parameters; the defaults where nobody named a configuration and there is none.
fn hashing(place: &ConfigPath, environment: &Environment) -> Result<Hashing, CommandError> {
    let config = match place {
        ConfigPath::Default(path) if !path.exists() => {
            let text = config::starter("http://127.0.0.1:9000");
            config::parse(&text, "gateway.toml", Path::new(""), environment)
        }
        ConfigPath::Default(path) | ConfigPath::Named(path) => config::load(path, environment),
    };
    config.map(|config| config.users.hashing).map_err(CommandError::Config)
}

/// Reads a password: from a prompt without echo when standard input is a terminal, and there a second time when
/// `confirm` says so; otherwise the first line of standard input. Nothing but the line end is removed. Blocks.
///
/// # Errors
///
/// A [`PasswordInputError`].
pub fn read_password(confirm: bool) -> Result<Secret, PasswordInputError> {
    let input = io::stdin();
    if !input.is_terminal() {
        return first_line(input.lock());
    }
    let password = prompt("Password: ")?;
    check_new_password(&password).map_err(PasswordInputError::Fault)?;
    if confirm && prompt("Once more: ")?.expose() != password.expose() {
        return Err(PasswordInputError::Mismatch);
    }
    Ok(password)
}

fn prompt(text: &str) -> Result<Secret, PasswordInputError> {
    rpassword::prompt_password(text).map(Secret::new).map_err(PasswordInputError::Input)
}

fn first_line(input: impl BufRead) -> Result<Secret, PasswordInputError> {
    // Room for the longest password, its line end, and one byte that gives a longer one away.
    let room = bounds::MAX_PASSWORD_BYTES + 3;
    let mut line = Zeroizing::new(Vec::with_capacity(room));
    input.take(room as u64).read_until(b'\n', &mut line).map_err(PasswordInputError::Input)?;
    let ended = line.strip_suffix(b"\n").map(|text| text.strip_suffix(b"\r").unwrap_or(text));
    let password = Secret::new(ended.unwrap_or(&line));
    check_new_password(&password).map_err(PasswordInputError::Fault)?;
    Ok(password)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::scratch::Scratch;

    #[test]
    fn the_parameters_come_from_the_configuration_if_there_is_one() {
        let (scratch, environment) = (Scratch::new(), Environment::default());
        let missing = scratch.path("none.toml");
        let defaults = hashing(&ConfigPath::Default(missing.clone()), &environment).unwrap();
        assert_eq!((defaults.memory_kib, defaults.iterations.get()), (19 * 1024, 2));
        assert!(matches!(hashing(&ConfigPath::Named(missing), &environment), Err(CommandError::Config(_))));
        let text =
            format!("{}\n[users.hashing]\nmemory = \"64KiB\"\n", config::starter("http://127.0.0.1:1"));
        let path = scratch.write("g.toml", text);
        assert_eq!(hashing(&ConfigPath::Default(path), &environment).unwrap().memory_kib, 64);
    }

    fn read(input: &[u8]) -> Result<Vec<u8>, PasswordFault> {
        match first_line(input) {
            Ok(password) => Ok(password.expose().to_vec()),
            Err(PasswordInputError::Fault(fault)) => Err(fault),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn only_the_line_end_is_removed() {
        for (input, password) in [
            (&b"secret"[..], &b"secret"[..]),
            (b"secret\n", b"secret"),
            (b"secret\r\n", b"secret"),
            (b"secret\nmore\n", b"secret"),
            (b"  se cret \t\n", b"  se cret \t"),
            (b"secret\r", b"secret\r"),
            (b"secret\r\r\n", b"secret\r"),
        ] {
            assert_eq!(read(input).unwrap(), password);
        }
    }

    #[test]
    fn what_is_no_password_is_refused() {
        for input in [&b""[..], b"\n", b"\r\n", b"\nsecret\n"] {
            assert_eq!(read(input), Err(PasswordFault::Empty));
        }
        assert_eq!(read(b"\xff\n"), Err(PasswordFault::NotUtf8));
        let longest = "x".repeat(bounds::MAX_PASSWORD_BYTES);
        for end in ["", "\n", "\r\n"] {
            assert_eq!(read(format!("{longest}{end}").as_bytes()).unwrap(), longest.as_bytes());
            assert_eq!(read(format!("{longest}x{end}").as_bytes()), Err(PasswordFault::TooLong));
        }
        assert_eq!(read("x".repeat(1_000_000).as_bytes()), Err(PasswordFault::TooLong));
    }
}
