//! Why a configuration is not applied.

use std::fmt;
use std::path::PathBuf;

use crate::config::Failure;
use crate::keys::KeyError;
use crate::net::tls::TlsError;
use crate::proof::ProofError;
use crate::upstream;
use crate::users::UsersOpenError;

/// Problems of a configuration that are logged in lines of their own; the log says how many there are.
const MAX_LOGGED: usize = 20;

/// Why a configuration is not applied. Nothing has changed then.
#[derive(Debug)]
pub enum ReloadError {
    /// The configuration did not come from a file.
    NoFile,
    /// Another file was meant than the one that is read, or another state of it.
    OtherFile(PathBuf),
    /// The file cannot be read, or what it says is wrong.
    Config(Failure),
    /// These settings can only be changed by a restart.
    NeedsRestart(Vec<&'static str>),
    /// The identity firewall has not proved itself.
    Identity(ProofError),
    /// A certificate cannot be loaded.
    Tls(TlsError),
    /// The certificates of an upstream cannot be used.
    Upstream(upstream::StartError),
    /// A key cannot be loaded or made.
    Keys(KeyError),
    /// The users cannot be read.
    Users(UsersOpenError),
    /// The gateway stops.
    Stopping,
    /// The gateway has a fault, which is in the log.
    Failed,
}

impl fmt::Display for ReloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoFile => f.write_str("the configuration did not come from a file"),
            Self::OtherFile(path) => {
                write!(f, "the gateway reads {}, and what is in it now is something else", path.display())
            }
            Self::Config(failure) => failure.fmt(f),
            Self::NeedsRestart(names) => {
                for name in names {
                    writeln!(f, "{name}: needs a restart")?;
                }
                f.write_str("nothing was changed: the rest can be reloaded once this is as it was")
            }
            Self::Identity(error) => error.fmt(f),
            Self::Tls(error) => error.fmt(f),
            Self::Upstream(error) => error.fmt(f),
            Self::Keys(error) => error.fmt(f),
            Self::Users(error) => error.fmt(f),
            Self::Stopping => f.write_str("the gateway is stopping"),
            Self::Failed => f.write_str("the gateway has a fault, which is in its log"),
        }
    }
}

impl std::error::Error for ReloadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NoFile | Self::OtherFile(_) | Self::NeedsRestart(_) | Self::Stopping | Self::Failed => None,
            Self::Config(error) => Some(error),
            Self::Identity(error) => Some(error),
            Self::Tls(error) => Some(error),
            Self::Upstream(error) => Some(error),
            Self::Keys(error) => Some(error),
            Self::Users(error) => Some(error),
        }
    }
}

impl ReloadError {
    /// Writes it to the log: of a file with problems each one with its place, and then what follows from it.
    pub(super) fn log(&self) {
        const KEPT: &str = "the configuration is not reloaded, the one before stays";
        match self {
            Self::Config(failure) if !failure.problems().is_empty() => {
                for problem in failure.problems().iter().take(MAX_LOGGED) {
                    let place = format!("{}:{}:{}", failure.file_name(), problem.line, problem.column);
                    let (problem, hint) = (&problem.message, problem.hint.as_deref().unwrap_or_default());
                    tracing::error!(place, problem, hint, "a problem of the configuration");
                }
                tracing::error!(problems = failure.problems().len(), "{KEPT}");
            }
            Self::NeedsRestart(names) => tracing::error!(needs_restart = names.join(", "), "{KEPT}"),
            Self::NoFile
            | Self::OtherFile(_)
            | Self::Config(_)
            | Self::Identity(_)
            | Self::Tls(_)
            | Self::Upstream(_)
            | Self::Keys(_)
            | Self::Users(_)
            | Self::Stopping
            | Self::Failed => tracing::error!(error = %self, "{KEPT}"),
        }
    }
}
