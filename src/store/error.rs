//! What can go wrong with the store.

use std::error::Error;
use std::fmt;
use std::path::PathBuf;

use sqlx::migrate::MigrateError;

/// Why the store could not be opened, read or written. It never holds values out of the store.
#[derive(Debug)]
pub enum StoreError {
    /// Another process has locked the store for longer than is waited for. Trying again may help.
    Locked,
    /// The store was written by a newer version of this program.
    NewerSchema {
        /// The migration that this version does not know.
        version: i64,
    },
    /// The store's schema is not what this program made: a migration differs or was broken off.
    AlteredSchema {
        /// The migration in question.
        version: i64,
    },
    /// The file cannot be made or opened, or is no SQLite file.
    CannotOpen {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
    /// There is no file any more where the store was opened, or another one. What is in that one is not what was read.
    Replaced {
        /// Where it was opened.
        path: PathBuf,
    },
    /// Others wrote the same at the same time, and this was given up for them. Trying again will help.
    Conflict,
    /// The database does not answer in time: it hangs, or nothing reaches it.
    Silent,
    /// The URL of the database cannot be understood. It may hold a password, so no more is told.
    Url,
    /// The database cannot be connected to, or is not what this program can use.
    CannotConnect {
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
    /// A statement failed.
    Unavailable {
        /// Why.
        source: sqlx::Error,
    },
}

impl StoreError {
    pub(super) fn on_open(path: &std::path::Path, error: sqlx::Error) -> Self {
        if let sqlx::Error::Migrate(error) = error {
            return Self::on_migrate(path, *error);
        }
        match Self::from(error) {
            Self::Unavailable { source } => Self::CannotOpen { path: path.to_owned(), source: source.into() },
            other @ (Self::Locked
            | Self::Conflict
            | Self::Silent
            | Self::Url
            | Self::CannotConnect { .. }
            | Self::NewerSchema { .. }
            | Self::AlteredSchema { .. }
            | Self::Replaced { .. }
            | Self::CannotOpen { .. }) => other,
        }
    }

    pub(super) fn on_migrate(path: &std::path::Path, error: MigrateError) -> Self {
        if let MigrateError::VersionMissing(version) = error {
            return Self::NewerSchema { version };
        }
        if let MigrateError::VersionMismatch(version) | MigrateError::Dirty(version) = error {
            return Self::AlteredSchema { version };
        }
        if let MigrateError::Execute(source) | MigrateError::ExecuteMigration(source, _) = error {
            return Self::on_open(path, source);
        }
        Self::CannotOpen { path: path.to_owned(), source: error.into() }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(source: sqlx::Error) -> Self {
        match kind(&source) {
            Kind::Busy => Self::Locked,
            Kind::Conflict => Self::Conflict,
            Kind::Other => Self::Unavailable { source },
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked => f.write_str("the store is locked by another process"),
            Self::NewerSchema { version } => write!(
                f,
                "the store was written by a newer version of this program (it has migration {version}); run that version"
            ),
            Self::AlteredSchema { version } => {
                write!(f, "the store's schema was altered by something else (migration {version})")
            }
            Self::CannotOpen { path, source } => {
                write!(f, "the store {} cannot be opened: {source}", path.display())
            }
            Self::Replaced { path } => write!(
                f,
                "the store {} is not the file that was opened: put that file back, or restart the gateway to use this one",
                path.display()
            ),
            Self::Conflict => f.write_str("the store was written by others at the same time"),
            Self::Silent => f.write_str("the store does not answer in time"),
            Self::Url => f.write_str("the URL of the store cannot be understood"),
            Self::CannotConnect { source } => write!(f, "the store cannot be connected to: {source}"),
            Self::Unavailable { source } => write!(f, "the store cannot be used: {source}"),
        }
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Locked
            | Self::Conflict
            | Self::Silent
            | Self::Url
            | Self::NewerSchema { .. }
            | Self::AlteredSchema { .. }
            | Self::Replaced { .. } => None,
            Self::CannotOpen { source, .. } | Self::CannotConnect { source } => Some(source.as_ref()),
            Self::Unavailable { source } => Some(source),
        }
    }
}

enum Kind {
    Busy,
    Conflict,
    Other,
}

/// SQLite has numbers: those of `SQLITE_BUSY` and `SQLITE_LOCKED` stand in the low byte of their extended codes. PostgreSQL
/// has five letters or digits (its manual, appendix A).
fn kind(error: &sqlx::Error) -> Kind {
    let Some(error) = error.as_database_error() else { return Kind::Other };
    let Some(code) = error.code() else { return Kind::Other };
    if error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>().is_some() {
        return match code.as_ref() {
            // A serialization failure, a deadlock, and two who insert the same.
            "40001" | "40P01" | "23505" => Kind::Conflict,
            // A lock, or a statement, that took too long.
            "55P03" | "57014" => Kind::Busy,
            _ => Kind::Other,
        };
    }
    match code.parse::<u32>() {
        Ok(code) if matches!(code & 0xff, 5 | 6) => Kind::Busy,
        Ok(_) | Err(_) => Kind::Other,
    }
}
