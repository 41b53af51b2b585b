//! Why a command failed, in plain sentences, and the exit code that says so to scripts.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use super::bench::BenchCommandError;
use super::hash_password::PasswordInputError;
use super::health::HealthError;
use super::mint::MintError;
use super::refused::RefusedError;
use super::reload::ReloadCommandError;
use super::user::UserCommandError;
use crate::app::StartError;
use crate::config::Failure;
use crate::keys::{KeyError, RotationError};
use crate::net::tls::TlsError;
use crate::proof::ProofError;
use crate::rehearsal::RehearsalError;
use crate::store::{StoreError, TransferError};
use crate::users::UsersOpenError;
use crate::users::password::HashError;

/// The exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All is well.
    Ok = 0,
    /// The configuration is invalid, or what was asked for failed or found something.
    Findings = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The gateway could not start, or ended by itself.
    NotStarted = 3,
    /// A test of the configuration has failed.
    TestFailed = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command failed.
#[derive(Debug)]
pub enum CommandError {
    /// The configuration cannot be read or is invalid.
    Config(Failure),
    /// A configured key cannot be used.
    Keys(KeyError),
    /// The keys in the store were not changed.
    Rotation(RotationError),
    /// There is no key yet that a token could be checked with.
    NoKeys(PathBuf),
    /// A certificate, its key or the authorities of clients cannot be used.
    Tls(TlsError),
    /// The identity firewall has not proved itself.
    Identity(ProofError),
    /// What is to be explained is no request, and what to write instead.
    Request(String),
    /// Requests could not be tried out.
    Trial(RehearsalError),
    /// The user file cannot be used.
    Users(UsersOpenError),
    /// Users are in a file that is not changed from here.
    UsersInFile(PathBuf),
    /// Users are in the database of a Django application, which is not changed from here.
    UsersInDjango,
    /// The store cannot be used.
    Store(StoreError),
    /// The store cannot be exported or imported.
    Transfer(TransferError),
    /// A user command failed.
    User(UserCommandError),
    /// No password was read.
    Password(PasswordInputError),
    /// The password was not hashed.
    Hash(HashError),
    /// `--upstream` is no target: what is wrong, and what to do.
    Upstream(String, Option<String>),
    /// `init` found a file already.
    Exists(PathBuf),
    /// `key generate` found a file already.
    KeyExists(PathBuf),
    /// `cert self-signed` found a file already.
    CertificateExists(PathBuf),
    /// No certificate was made, for this reason.
    CertificateNotMade(String),
    /// No token was minted.
    Mint(MintError),
    /// A file cannot be written.
    Write(PathBuf, io::Error),
    /// The gateway is not ready.
    Health(HealthError),
    /// There is no result of a load test.
    Bench(BenchCommandError),
    /// The gateway has not reloaded.
    Reload(ReloadCommandError),
    /// A refusal cannot be explained.
    Refused(RefusedError),
    /// The token cannot be read.
    Input(io::Error),
    /// The result cannot be written.
    Output(io::Error),
    /// The gateway that runs did not hand its sockets over.
    TakeOver(io::Error),
    /// The gateway could not start.
    Start(StartError),
    /// The operating system refused a runtime, a signal handler or a socket.
    System(io::Error),
    /// Every data-plane thread has ended although nobody asked for it.
    Ended,
}

impl CommandError {
    /// The exit code.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Config(_)
            | Self::Keys(_)
            | Self::Rotation(_)
            | Self::NoKeys(_)
            | Self::Tls(_)
            | Self::Identity(_)
            | Self::Users(_)
            | Self::UsersInFile(_)
            | Self::UsersInDjango
            | Self::Store(_)
            | Self::Transfer(_)
            | Self::User(_)
            | Self::Password(_)
            | Self::Hash(_)
            | Self::Exists(_)
            | Self::KeyExists(_)
            | Self::CertificateExists(_)
            | Self::CertificateNotMade(_)
            | Self::Mint(_)
            | Self::Write(..)
            | Self::Health(_)
            | Self::Reload(_)
            | Self::Refused(_)
            | Self::Input(_)
            | Self::Output(_) => Exit::Findings,
            Self::Bench(error) => error.exit(),
            Self::Upstream(..) | Self::Request(_) => Exit::Usage,
            Self::TakeOver(_) | Self::Start(_) | Self::System(_) | Self::Trial(_) | Self::Ended => {
                Exit::NotStarted
            }
        }
    }

    /// Whether nobody is left to be told: the reader of the output has gone, as `head` does.
    pub fn is_closed_output(&self) -> bool {
        let (Self::Output(error) | Self::User(UserCommandError::Output(error))) = self else { return false };
        error.kind() == io::ErrorKind::BrokenPipe
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(failure) => failure.fmt(f),
            Self::Keys(error) => error.fmt(f),
            Self::Rotation(error) => error.fmt(f),
            Self::NoKeys(directory) => write!(
                f,
                "there is no key in {} yet; the gateway makes one when it starts for the first time",
                directory.display()
            ),
            Self::Tls(error) => error.fmt(f),
            Self::Identity(error) => error.fmt(f),
            Self::Request(what) => f.write_str(what),
            Self::Trial(error) => write!(f, "nothing could be tried out: {error}"),
            Self::Users(error) => error.fmt(f),
            Self::UsersInFile(path) => write!(
                f,
                "users.source is \"file\", and this command changes only users of the store; edit {}, the gateway notices",
                path.display()
            ),
            Self::UsersInDjango => f.write_str(
                "users.source is \"django\", and this command changes only users of the store; change them in the Django application, the gateway notices",
            ),
            Self::Store(error) => error.fmt(f),
            Self::Transfer(error) => error.fmt(f),
            Self::User(error) => error.fmt(f),
            Self::Password(error) => error.fmt(f),
            Self::Hash(error) => write!(f, "the password could not be hashed: {error}"),
            Self::Upstream(message, hint) => {
                write!(f, "--upstream: {message}")?;
                hint.as_ref().map_or(Ok(()), |hint| write!(f, "\n  = help: {hint}"))
            }
            Self::Exists(path) => write!(
                f,
                "{} exists already and is left as it is; name another file with --config",
                path.display()
            ),
            Self::KeyExists(path) => write!(
                f,
                "{} exists already and is left as it is; name another file with --out",
                path.display()
            ),
            Self::CertificateExists(path) => write!(
                f,
                "{} exists already and is left as it is; name another directory with --out-dir, or replace it with --force",
                path.display()
            ),
            Self::CertificateNotMade(why) => write!(f, "no certificate was made: {why}"),
            Self::Mint(error) => write!(f, "no token was minted: {error}"),
            Self::Write(path, error) => write!(f, "{} cannot be written: {error}", path.display()),
            Self::Health(error) => error.fmt(f),
            Self::Bench(error) => error.fmt(f),
            Self::Reload(error) => error.fmt(f),
            Self::Refused(error) => error.fmt(f),
            Self::Input(error) => write!(f, "the token cannot be read: {error}"),
            Self::Output(error) => write!(f, "the result cannot be written: {error}"),
            Self::TakeOver(error) => {
                write!(f, "the gateway that runs does not hand its sockets over: {error}")
            }
            Self::Start(error) => error.fmt(f),
            Self::System(error) => write!(f, "the operating system refused: {error}"),
            Self::Ended => f.write_str("a part of the gateway has ended by itself; the log says why"),
        }
    }
}

impl std::error::Error for CommandError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Config(error) => Some(error),
            Self::Keys(error) => Some(error),
            Self::Rotation(error) => Some(error),
            Self::Tls(error) => Some(error),
            Self::Identity(error) => Some(error),
            Self::Trial(error) => Some(error),
            Self::Users(error) => Some(error),
            Self::Store(error) => Some(error),
            Self::Transfer(error) => Some(error),
            Self::User(error) => Some(error),
            Self::Password(error) => Some(error),
            Self::Hash(error) => Some(error),
            Self::Health(error) => Some(error),
            Self::Bench(error) => Some(error),
            Self::Reload(error) => Some(error),
            Self::Refused(error) => Some(error),
            Self::Write(_, error)
            | Self::Input(error)
            | Self::Output(error)
            | Self::TakeOver(error)
            | Self::System(error) => Some(error),
            Self::Mint(error) => Some(error),
            Self::Start(error) => Some(error),
            Self::NoKeys(_)
            | Self::Request(_)
            | Self::UsersInFile(_)
            | Self::UsersInDjango
            | Self::Upstream(..)
            | Self::Exists(_)
            | Self::KeyExists(_)
            | Self::CertificateExists(_)
            | Self::CertificateNotMade(_)
            | Self::Ended => None,
        }
    }
}
