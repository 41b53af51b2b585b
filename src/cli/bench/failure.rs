//! What may go wrong with a load test, and how much of it is too much.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::bench::{BenchError, ListError, Report};
use crate::cli::error::Exit;

/// How many requests may fail.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum MaxErrors {
    /// So many.
    Count(u64),
    /// This share of all.
    Share(f64),
}

/// Why there is no result.
#[derive(Debug)]
pub enum BenchCommandError {
    /// The arguments do not go together.
    Usage(String),
    /// A file cannot be read.
    Unreadable(PathBuf, io::Error),
    /// A list of users or tokens is none.
    List(PathBuf, ListError),
    /// The run failed.
    Run(BenchError),
}

impl fmt::Display for BenchCommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(what) => f.write_str(what),
            Self::Unreadable(path, error) => write!(f, "{} cannot be read: {error}", path.display()),
            Self::List(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Run(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for BenchCommandError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Usage(_) => None,
            Self::Unreadable(_, error) => Some(error),
            Self::List(_, error) => Some(error),
            Self::Run(error) => Some(error),
        }
    }
}

impl BenchCommandError {
    /// The exit code.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::Unreadable(..) | Self::List(..) | Self::Run(_) => Exit::Findings,
        }
    }
}

impl MaxErrors {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let fault = || "this is a number such as 0 or 100, or a share such as 0.1%".to_owned();
        if let Some(percent) = text.strip_suffix('%') {
            let percent = percent.parse::<f64>().ok().filter(|percent| (0.0..=100.0).contains(percent));
            return percent.map(|percent| Self::Share(percent / 100.0)).ok_or_else(fault);
        }
        text.parse().map(Self::Count).map_err(|_| fault())
    }

    pub(super) fn are_exceeded(self, report: &Report) -> bool {
        report.measured.iter().any(|measured| match self {
            Self::Count(most) => measured.total.failures() > most || measured.total.requests() == 0,
            Self::Share(most) => measured.failure_share() > most,
        })
    }
}

impl fmt::Display for MaxErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(most) => write!(f, "{most}"),
            Self::Share(most) => write!(f, "{}%", most * 100.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_many_may_fail_is_a_number_or_a_share() {
        for (text, most) in
            [("0", MaxErrors::Count(0)), ("100", MaxErrors::Count(100)), ("0.5%", MaxErrors::Share(0.005))]
        {
            assert_eq!(MaxErrors::parse(text), Ok(most));
            assert_eq!(most.to_string(), text);
        }
        for text in ["", "%", "x", "-1", "101%", "NaN%", "1.5"] {
            assert!(MaxErrors::parse(text).is_err(), "{text}");
        }
    }
}
