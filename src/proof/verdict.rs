//! What may arrive, and whether it does.

use super::probe::{Access, Case, Hostile, Probe, Way};
use super::wire::{HARMLESS, HOST, target};
use super::{ProofError, address};
use crate::base::user::Attribute;
use crate::config::IdentitySource;
use crate::identity::X_TOLLGATE_ASSERTION;
use crate::rehearsal::{Field, Seen, SeenRequest};

/// A field that must arrive, once.
struct Expected<'a> {
    name: &'a str,
    value: Value,
}

enum Value {
    Is(String),
    /// An id of the gateway's own making.
    Id,
    /// A signed statement.
    Signed,
}

/// Compares what the upstream saw with what it may see: every request once, with these fields and no others.
pub(super) fn judge(case: &Case<'_>, probes: &[Probe], token: &str, seen: &[Seen]) -> Result<(), ProofError> {
    for probe in probes {
        let target = target(case, probe);
        let mut arrived = seen.iter().filter_map(|seen| match seen {
            Seen::Request(request) if request.target == target => Some(request),
            Seen::Request(_) | Seen::Incomplete(_) | Seen::Malformed(_) => None,
        });
        match (arrived.next(), arrived.next()) {
            (Some(request), None) => judge_one(case, probe, token, request)?,
            (None, _) | (Some(_), Some(_)) => return Err(not_forwarded(case, probe)),
        }
    }
    match probes.first() {
        Some(probe) if seen.len() != probes.len() => Err(not_forwarded(case, probe)),
        Some(_) | None => Ok(()),
    }
}

fn not_forwarded(case: &Case<'_>, probe: &Probe) -> ProofError {
    let hostile = probe.hostile.first();
    let way = hostile.map_or_else(String::new, |hostile| {
        format!("with fields such as {}, {} ", hostile.spelling, hostile.describe(probe.way))
    });
    ProofError::NotForwarded { way: format!("{way}{case}") }
}

fn judge_one(case: &Case<'_>, probe: &Probe, token: &str, request: &SeenRequest) -> Result<(), ProofError> {
    let arrived = || request.fields.iter().chain(&request.trailers);
    // What a client has sent is known by its value, wherever it stands now.
    if let Some(hostile) = arrived().find_map(|field| find_hostile(probe, &field.value)) {
        let way = format!("{} {case}", hostile.describe(probe.way));
        return Err(ProofError::Leak { header: hostile.owned.clone(), way });
    }
    let expected = expected(case, probe, token);
    let altered = |header: &str| {
        let way = probe.hostile.first().map_or_else(String::new, |hostile| {
            format!("beside fields such as {}, {} ", hostile.spelling, hostile.describe(probe.way))
        });
        Err(ProofError::Altered { header: header.to_owned(), way: format!("{way}{case}") })
    };
    for expected in &expected {
        let mut named = request.fields.iter().filter(|field| field.name == expected.name);
        match (named.next(), named.next()) {
            (Some(field), None) if expected.value.is(field) => {}
            (_, _) => return altered(expected.name),
        }
    }
    let expects = |field: &&Field| expected.iter().any(|expected| expected.name == field.name);
    let unexpected = request.fields.iter().find(|field| !expects(field));
    match unexpected.or(request.trailers.first()) {
        Some(field) => altered(&field.name),
        None => Ok(()),
    }
}

fn find_hostile<'a>(probe: &'a Probe, value: &[u8]) -> Option<&'a Hostile> {
    memchr::memmem::find(value, b"leak-")?;
    let text = String::from_utf8_lossy(value);
    let mut all = probe.hostile.iter().enumerate();
    // The longer of two values that begin alike is the later one.
    all.rfind(|(place, _)| text.contains(&Hostile::value(probe, *place))).map(|(_, hostile)| hostile)
}

impl Value {
    fn is(&self, field: &Field) -> bool {
        match self {
            Self::Is(value) => field.value == value.as_bytes(),
            Self::Id => field.value.len() == 32 && field.value.iter().all(u8::is_ascii_hexdigit),
            Self::Signed => {
                let mut parts = field.value.split(|byte| *byte == b'.');
                parts.clone().count() == 3 && parts.all(|part| !part.is_empty())
            }
        }
    }
}

/// All that an upstream may see of a request. The token has none of the claims that headers are made of.
fn expected<'a>(case: &Case<'a>, probe: &Probe, token: &str) -> Vec<Expected<'a>> {
    let is = |name, value: &str| Expected { name, value: Value::Is(value.to_owned()) };
    let mut expected = vec![
        is("host", HOST),
        is(HARMLESS.0, HARMLESS.1),
        is("x-forwarded-for", &address(case.trusted).ip().to_string()),
        is("x-forwarded-proto", "http"),
        is("x-forwarded-host", HOST),
        Expected { name: "x-request-id", value: Value::Id },
    ];
    if probe.way == Way::Trailer {
        expected.push(is("transfer-encoding", "chunked"));
    }
    let identity = case.identity;
    if let Some(credentials) = &identity.credentials {
        let value = String::from_utf8_lossy(credentials.value.as_bytes());
        expected.push(is(credentials.name.as_str(), &value));
    }
    if case.access != Access::Required {
        return expected;
    }
    if identity.forward_token {
        expected.push(is("authorization", &format!("Bearer {token}")));
    }
    if identity.assertion.is_some() {
        expected.push(Expected { name: X_TOLLGATE_ASSERTION.as_str(), value: Value::Signed });
    }
    for header in &identity.headers {
        let value = match header.source {
            IdentitySource::User(Attribute::Id) => "the-id",
            IdentitySource::User(Attribute::Name) => "the-name",
            IdentitySource::User(Attribute::Email) => "the@e-mail",
            IdentitySource::User(Attribute::Groups) => "group-1,group-2",
            IdentitySource::Claim(_) => continue,
        };
        expected.push(is(header.name.as_str(), value));
    }
    expected
}
