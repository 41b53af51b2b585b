//! What may arrive, and whether it does.

use super::probe::{Access, Case, Hostile, Probe, Way};
use super::wire::{HARMLESS, HOST, target};
use super::{ProofError, address};
use crate::config::IdentityPreset;
use crate::rehearsal::{Field, Seen, SeenRequest};

/// A field that must arrive, once.
struct Expected {
    name: &'static str,
    value: Value,
}

enum Value {
    Is(String),
    /// An id of the gateway's own making.
    Id,
}

/// Compares what the upstream saw with what it may see: every request once, with these fields and no others.
pub(super) fn judge(case: &Case, probes: &[Probe], seen: &[Seen]) -> Result<(), ProofError> {
    for probe in probes {
        let target = target(case, probe);
        let mut arrived = seen.iter().filter_map(|seen| match seen {
            Seen::Request(request) if request.target == target => Some(request),
            Seen::Request(_) | Seen::Incomplete(_) | Seen::Malformed(_) => None,
        });
        match (arrived.next(), arrived.next()) {
            (Some(request), None) => judge_one(case, probe, request)?,
            (None, _) | (Some(_), Some(_)) => return Err(not_forwarded(case, probe)),
        }
    }
    match probes.first() {
        Some(probe) if seen.len() != probes.len() => Err(not_forwarded(case, probe)),
        Some(_) | None => Ok(()),
    }
}

fn not_forwarded(case: &Case, probe: &Probe) -> ProofError {
    let hostile = probe.hostile.first();
    let way = hostile.map_or_else(String::new, |hostile| {
        format!("with fields such as {}, {} ", hostile.spelling, hostile.describe(probe.way))
    });
    ProofError::NotForwarded { way: format!("{way}{case}") }
}

fn judge_one(case: &Case, probe: &Probe, request: &SeenRequest) -> Result<(), ProofError> {
    let arrived = || request.fields.iter().chain(&request.trailers);
    // What a client has sent is known by its value, wherever it stands now.
    if let Some(hostile) = arrived().find_map(|field| find_hostile(probe, &field.value)) {
        let way = format!("{} {case}", hostile.describe(probe.way));
        return Err(ProofError::Leak { header: hostile.owned.clone(), way });
    }
    let expected = expected(case, probe);
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
        }
    }
}

/// All that an upstream may see of a request.
fn expected(case: &Case, probe: &Probe) -> Vec<Expected> {
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
    match (case.access, case.identity) {
        (Access::Required, IdentityPreset::Default) => expected.extend([
            is("x-user-id", "the-id"),
            is("x-user-name", "the-name"),
            is("x-user-email", "the@e-mail"),
            is("x-user-groups", "group-1,group-2"),
        ]),
        (Access::Required, IdentityPreset::None)
        | (Access::Optional | Access::Public | Access::Reported, _) => {}
    }
    expected
}
