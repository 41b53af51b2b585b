//! What `tollgate check` finds that loads and runs, and that a careful operator would want to know.

use std::fmt;

use crate::config::Ignored;

/// The kinds of findings. Their numbers are stable, and documented in `docs/operations.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// A shared secret that can be guessed.
    WeakSecret = 1,
    /// A private key that everybody on the machine may read.
    ExposedKey = 2,
    /// A certificate that clients refuse for its time.
    CertificateInvalid = 3,
    /// A certificate that expires soon.
    CertificateExpires = 4,
    /// A certificate that does not name a host that it is served for.
    CertificateUnnamed = 5,
    /// A route for everybody.
    PublicRoute = 6,
    /// A route that no request takes.
    RouteNeverReached = 7,
    /// A route that refuses nobody.
    ReportOnly = 8,
    /// A route whose `deny` can be got around.
    DenyOptional = 9,
    /// CORS for every host of a domain, with credentials.
    CorsWildcard = 10,
    /// A limit that no route names.
    LimitUnused = 11,
    /// An upstream that no route names.
    UpstreamUnused = 12,
    /// An admin listener that other machines reach.
    AdminExposed = 13,
    /// Passwords and tokens in the clear.
    PlainHttp = 14,
    /// Every peer is believed.
    TrustsEverybody = 15,
}

impl Code {
    /// Every kind.
    pub const ALL: [Self; 15] = [
        Self::WeakSecret,
        Self::ExposedKey,
        Self::CertificateInvalid,
        Self::CertificateExpires,
        Self::CertificateUnnamed,
        Self::PublicRoute,
        Self::RouteNeverReached,
        Self::ReportOnly,
        Self::DenyOptional,
        Self::CorsWildcard,
        Self::LimitUnused,
        Self::UpstreamUnused,
        Self::AdminExposed,
        Self::PlainHttp,
        Self::TrustsEverybody,
    ];
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "T{:03}", *self as u8)
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Its kind.
    pub code: Code,
    /// What it is about, as `T006:health` names it: a route, a key, a file.
    pub subject: String,
    /// What was found: one sentence without a full stop.
    pub message: String,
    /// What to do about it.
    pub help: String,
}

impl Finding {
    /// A finding about something.
    pub fn new(
        code: Code,
        subject: impl Into<String>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self { code, subject: subject.into(), message: message.into(), help: help.into() }
    }

    /// Whether it is known and not to be told of.
    pub fn is_ignored(&self, ignored: &[Ignored]) -> bool {
        let code = self.code.to_string();
        ignored.iter().any(|ignored| ignored.covers(&code, &self.subject))
    }
}

impl fmt::Display for Finding {
    /// In the form of the configuration's problems.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { code, subject, message, help } = self;
        write!(f, "{code} {message}\n  = help: {help}\n  = ignore: {code}:{subject}\n")
    }
}
