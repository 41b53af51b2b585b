//! HTTP/1.1 to a target, without a task and without a channel: whoever waits for an answer drives the connection.
//!
//! The general HTTP library gives each connection a task of its own and sends requests, answers and bodies through
//! channels, which costs more than everything else that is done for a request outside the system.

mod answer;
mod connection;
mod head;
mod sending;
mod trial;
mod upload;

use std::fmt;
use std::io;

pub(super) use self::answer::Reading;
pub(super) use self::connection::Connection;
pub(super) use self::head::Head;
pub(super) use self::sending::{Fate, Sending};
pub use self::trial::{Trial, TrialEnd, read_answer};
use self::upload::Upload;
use crate::http::body::BodyError;
use crate::http::chunks::{Chunks, Piece};
use crate::http::lines;
use crate::http::message::ResponseHead;

/// Why an exchange of HTTP/1.1 came to nothing.
#[derive(Debug)]
pub enum Http1Error {
    /// The connection broke.
    Io(io::Error),
    /// The target closed the connection before its answer was whole.
    Closed,
    /// What the target sent is no answer.
    Malformed(&'static str),
    /// The client's body broke off, or is too long.
    Body(BodyError),
}

impl fmt::Display for Http1Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Closed => f.write_str("the target closed the connection before its answer was whole"),
            Self::Malformed(what) => write!(f, "what the target sent is no answer: {what}"),
            Self::Body(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Http1Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            Self::Body(error) => Some(error),
            Self::Closed | Self::Malformed(_) => None,
        }
    }
}

impl From<lines::Malformed> for Http1Error {
    fn from(lines::Malformed(what): lines::Malformed) -> Self {
        Self::Malformed(what)
    }
}

/// The head of an answer, or what came before it.
enum Answered {
    /// An informational answer (RFC 9110 section 15.2), other than one that switches protocols.
    Interim(ResponseHead),
    /// The answer.
    Final(Head),
}

/// How much is left of an answer's body.
#[derive(Debug)]
pub(super) enum Framing {
    /// Nothing.
    Nothing,
    /// So many bytes.
    Length(u64),
    /// As its chunks say.
    Chunked(Chunks),
    /// What comes until the target closes the connection.
    UntilClose,
}

#[cfg(test)]
mod tests;
