//! What is wrong with a configuration file, and how it is shown.

use std::fmt;
use std::io;

use super::complaint::Complaint;
use super::excerpt::{Excerpt, Source, Span, presentable};

/// One thing that is wrong in a configuration file, and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// What is wrong: one line in lower case, without a full stop and without secrets.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    excerpt: Option<Excerpt>,
}

/// A configuration that cannot be used: everything that is wrong with it, or why its file cannot be read.
///
/// Its `Display` shows every problem with its line, a caret and a hint. No secret of the file or of the environment is in it.
#[derive(Debug)]
pub struct Failure {
    file_name: String,
    cause: Cause,
}

#[derive(Debug)]
enum Cause {
    Unreadable(io::Error),
    Invalid(Vec<Problem>),
}

impl Failure {
    /// The problems, in the order of their places. There are none when the file could not be read.
    pub fn problems(&self) -> &[Problem] {
        match &self.cause {
            Cause::Unreadable(_) => &[],
            Cause::Invalid(problems) => problems,
        }
    }

    /// The file.
    pub fn file_name(&self) -> &str {
        &self.file_name
    }

    pub(super) fn unreadable(file_name: &str, error: io::Error) -> Self {
        Self { file_name: file_name.to_owned(), cause: Cause::Unreadable(error) }
    }

    /// Puts the problems in the order of their places.
    pub(super) fn invalid(file_name: &str, source: &Source<'_>, faults: Vec<(Span, Complaint)>) -> Self {
        let mut faults = faults;
        faults.sort_by_key(|(span, _)| (span.start, span.end));
        let problems =
            faults.into_iter().map(|(span, complaint)| problem(source, &span, complaint)).collect();
        Self { file_name: file_name.to_owned(), cause: Cause::Invalid(problems) }
    }

    fn show_unreadable(&self, error: &io::Error, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: cannot be read: {error}", self.file_name)?;
        if error.kind() == io::ErrorKind::NotFound {
            f.write_str(
                "\n  = help: \"tollgate init --upstream URL\" writes one; --config FILE names another",
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let problems = match &self.cause {
            Cause::Unreadable(error) => return self.show_unreadable(error, f),
            Cause::Invalid(problems) => problems,
        };
        for problem in problems {
            writeln!(f, "{}:{}:{}: {}", self.file_name, problem.line, problem.column, problem.message)?;
            let gutter = problem.line.to_string().len();
            if let Some(excerpt) = &problem.excerpt {
                let blank = "";
                writeln!(f, "{blank:gutter$} |")?;
                writeln!(f, "{} | {}", problem.line, excerpt.line)?;
                let (start, width) = (excerpt.caret_start, excerpt.caret_width);
                writeln!(f, "{blank:gutter$} | {blank:start$}{blank:^^width$}")?;
            }
            if let Some(hint) = &problem.hint {
                writeln!(f, "{:gutter$} = help: {hint}", "")?;
            }
            writeln!(f)?;
        }
        match problems.len() {
            1 => f.write_str("1 problem found"),
            count => write!(f, "{count} problems found"),
        }
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.cause {
            Cause::Unreadable(error) => Some(error),
            Cause::Invalid(_) => None,
        }
    }
}

fn problem(source: &Source<'_>, span: &Span, complaint: Complaint) -> Problem {
    let (line, column) = source.position(span.start);
    Problem {
        line,
        column,
        message: presentable(&complaint.message),
        hint: complaint.hint.map(|hint| presentable(&hint)),
        excerpt: source.excerpt(span),
    }
}
