//! `[[tests]]`: what came of each, and what should have.

use super::super::error::CommandError;
use crate::base::reason::Reason;
use crate::config::{Config, Expectation, TestCase};
use crate::rehearsal::RehearsalError;
use crate::trial::{ANYBODY, Account, People, Trial};

/// What came of a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Where it stands in the file.
    pub(super) line: usize,
    /// Its request.
    pub(super) request: String,
    /// What is not as it should be; nothing when it has passed.
    pub(super) failures: Vec<String>,
}

/// Runs every test. Users are who the tests say, so that neither a store nor a key is needed.
pub(super) fn run(config: &Config) -> Result<Vec<Outcome>, CommandError> {
    if config.tests.is_empty() {
        return Ok(Vec::new());
    }
    let trial = Trial::new(config, People::AsTokensSay).map_err(CommandError::Trial)?;
    config.tests.iter().map(|test| run_one(&trial, test).map_err(CommandError::Trial)).collect()
}

fn run_one(trial: &Trial, test: &TestCase) -> Result<Outcome, RehearsalError> {
    let token = test.caller.as_ref().map(|caller| trial.token(caller)).transpose()?;
    let account = trial.send(&test.request, token.as_deref(), ANYBODY);
    let request = format!("{} {}{}", test.request.method, test.request.host, test.request.target);
    Ok(Outcome { line: test.line, request, failures: failures(&test.expect, &account) })
}

/// Everything that differs from what is expected.
fn failures(expect: &Expectation, account: &Account) -> Vec<String> {
    let mut failures = Vec::new();
    let reason = account.told("reason");
    let status = account.status.map(|status| status.to_string());
    let status = match (status, reason) {
        (Some(status), Some(reason)) => Some(format!("{status} ({reason})")),
        (status, _) => status,
    };
    if let Some(wanted) = expect.status
        && account.status != Some(wanted)
    {
        failures.push(differs("status", &wanted.to_string(), status.as_deref()));
    }
    let target = account.seen.as_ref().map(|seen| seen.target.as_str());
    let target = match &expect.upstream_path {
        // A query counts where one is written.
        Some(wanted) if !wanted.contains('?') => target.and_then(|target| target.split('?').next()),
        Some(_) | None => target,
    };
    for (what, wanted, found) in [
        ("route", expect.route.as_deref(), account.told("route")),
        ("reason", expect.reason.map(Reason::word), reason),
        ("would_refuse", expect.would_refuse.map(Reason::word), account.told("would_refuse")),
        ("upstream", expect.upstream.as_deref(), account.told("upstream")),
        ("upstream_path", expect.upstream_path.as_deref(), target),
    ] {
        if let Some(wanted) = wanted.filter(|wanted| found != Some(*wanted)) {
            failures.push(differs(what, wanted, found));
        }
    }
    failures
}

fn differs(what: &str, wanted: &str, found: Option<&str>) -> String {
    format!("{what}: expected {wanted}, got {}", found.unwrap_or("none"))
}
