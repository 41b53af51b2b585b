//! What can go wrong with users. No error here holds a password or a hash.

use std::error::Error;
use std::fmt;

use crate::base::ids::RandomnessUnavailable;
use crate::store::StoreError;

use super::django::{DjangoError, OpenError};
use super::file::FileError;
use super::name::{EmailFault, NameFault};
use super::password::HashError;

/// Why nothing can be said about a user now. It never means that the user is unknown or the password wrong.
#[derive(Debug)]
pub enum UsersError {
    /// The source cannot be read, or what it holds cannot be used.
    Unavailable(Unavailable),
    /// The hash queue is full: try again later.
    Overloaded,
}

/// Why users are unavailable.
#[derive(Debug)]
pub enum Unavailable {
    /// The store cannot be read.
    Store(StoreError),
    /// The password's hash cannot be computed.
    Hash(HashError),
    /// The database of the Django application cannot be read.
    Django(DjangoError),
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(error) => error.fmt(f),
            Self::Hash(error) => error.fmt(f),
            Self::Django(error) => error.fmt(f),
        }
    }
}

/// Why the user source cannot be opened.
#[derive(Debug)]
pub enum UsersOpenError {
    /// The source is the store, but none was opened.
    NoStore,
    /// The store cannot be read.
    Store(StoreError),
    /// The file cannot be read or has an error.
    File(FileError),
    /// The database of the Django application cannot be read.
    Django(DjangoError),
    /// The operating system gave no random bytes.
    Randomness(RandomnessUnavailable),
}

impl From<OpenError> for UsersOpenError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Database(error) => Self::Django(error),
            OpenError::Randomness(error) => Self::Randomness(error),
        }
    }
}

impl From<DjangoError> for UsersError {
    fn from(error: DjangoError) -> Self {
        Self::Unavailable(Unavailable::Django(error))
    }
}

/// Why a user of the store was not changed.
#[derive(Debug)]
pub enum UserChangeError {
    /// The name is none.
    Name(NameFault),
    /// The e-mail address is none.
    Email(EmailFault),
    /// A group name is none.
    Group(NameFault),
    /// Another user has this name.
    NameTaken,
    /// No user has this name.
    NoSuchUser,
    /// The store cannot be written.
    Store(StoreError),
}

impl From<StoreError> for UsersError {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(Unavailable::Store(error))
    }
}

impl From<HashError> for UsersError {
    fn from(error: HashError) -> Self {
        match error {
            HashError::Overloaded => Self::Overloaded,
            HashError::TooCostly
            | HashError::Fault(_)
            | HashError::Randomness(_)
            | HashError::Parameters(_)
            | HashError::Stopped => Self::Unavailable(Unavailable::Hash(error)),
        }
    }
}

impl fmt::Display for UsersError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable(Unavailable::Store(error)) => error.fmt(f),
            Self::Unavailable(Unavailable::Django(error)) => error.fmt(f),
            Self::Unavailable(Unavailable::Hash(error)) => {
                write!(f, "the password cannot be verified: {error}")
            }
            Self::Overloaded => f.write_str("too many logins are waiting"),
        }
    }
}

impl Error for UsersError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Unavailable(Unavailable::Store(error)) => Some(error),
            Self::Unavailable(Unavailable::Hash(error)) => Some(error),
            Self::Unavailable(Unavailable::Django(error)) => Some(error),
            Self::Overloaded => None,
        }
    }
}

impl fmt::Display for UsersOpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoStore => f.write_str("users are in the store, but no store is open"),
            Self::Store(error) => error.fmt(f),
            Self::File(error) => error.fmt(f),
            Self::Django(error) => error.fmt(f),
            Self::Randomness(error) => error.fmt(f),
        }
    }
}

impl Error for UsersOpenError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::NoStore => None,
            Self::Store(error) => Some(error),
            Self::File(error) => Some(error),
            Self::Django(error) => Some(error),
            Self::Randomness(error) => Some(error),
        }
    }
}

impl From<StoreError> for UserChangeError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl fmt::Display for UserChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(fault) => write!(f, "the user name cannot be used: {fault}"),
            Self::Email(fault) => write!(f, "the e-mail address cannot be used: {fault}"),
            Self::Group(fault) => write!(f, "a group name cannot be used: {fault}"),
            Self::NameTaken => f.write_str("there is a user of this name already"),
            Self::NoSuchUser => f.write_str("there is no user of this name"),
            Self::Store(error) => error.fmt(f),
        }
    }
}

impl Error for UserChangeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Name(fault) | Self::Group(fault) => Some(fault),
            Self::Email(fault) => Some(fault),
            Self::NameTaken | Self::NoSuchUser => None,
            Self::Store(error) => Some(error),
        }
    }
}
