//! `[[routes]]`, and which of them tie.

use std::collections::HashMap;

use super::actions::action;
use super::complaint::{Complaint, choose, quoted};
use super::cors::cors;
use super::fields::{self, Condition, OwnedFields};
use super::kind::Kind;
use super::limits;
use super::policy;
use super::reader::{Located, Table, values};
use super::units;
use super::upstreams::check_name;
use super::{Auth, Policy, RateLimit, Route, Upstream};
use crate::base::path::{Oddities, Oddity};
use crate::base::pattern::{HostPattern, PathEnd, PathPattern, Segment};

/// The problem with a value is noted.
struct Faulty;

/// Where a name was used first.
type Lines = HashMap<String, usize>;

/// What routes refer to.
pub(super) struct Surroundings<'a> {
    /// `[upstreams.*]`
    pub(super) upstreams: &'a [Upstream],
    /// `[limits.*]`
    pub(super) limits: &'a [RateLimit],
    /// What the gateway owns besides what it always does.
    pub(super) owned: OwnedFields,
}

/// Reads every route. One with a problem is left out.
pub(super) fn routes(root: &mut Table<'_>, surroundings: &Surroundings<'_>) -> Vec<Route> {
    let mut routes = Vec::new();
    let mut names = Lines::new();
    let mut ties = Ties::default();
    for (index, mut table) in root.tables("routes").into_iter().enumerate() {
        let name = name(&mut table, index, &mut names);
        routes.extend(route(table, name, &mut ties, surroundings));
    }
    routes
}

fn route(
    mut table: Table<'_>,
    name: String,
    ties: &mut Ties,
    surroundings: &Surroundings<'_>,
) -> Option<Route> {
    let Surroundings { upstreams, limits, owned } = surroundings;
    let host = host(&mut table);
    table.require(
        "path",
        "add path = \"/\" for every path, path = \"/x\" for a prefix or path = \"=/x\" for one path",
    );
    let path = table.located("path", Kind::Text, |text| {
        PathPattern::parse(text).map_err(|error| {
            Complaint::new(format!("{} is not a path pattern", quoted(text))).hint(error.text())
        })
    });
    let methods = methods(&mut table);
    let headers = fields::conditions(&mut table, owned);
    let auth = auth(&mut table);
    let policy = policy::policy(&mut table, auth, path.as_ref().map(|path| &path.value));
    let action = action(&mut table, upstreams, path.as_ref().map(|path| &path.value), owned);
    let max_body = table.parsed_or_zero("max_body", Kind::Size, units::size_limit);
    let timeout = table.parsed("timeout", Kind::Duration, units::duration);
    let limits = limits::of_route(&mut table, limits);
    let request_headers = fields::of_requests(&mut table, owned);
    let response_headers = fields::of_answers(&mut table, owned);
    let of_route = methods.as_ref().ok().and_then(|methods| methods.as_deref());
    let cors = cors(&mut table, of_route, owned);
    let accept = accept(&mut table, &policy);
    if let (Some(host), Some(path), Ok(methods)) = (&host, &path, &methods) {
        let line = table.reader.source.position(table.span.start).0;
        let complaint = ties.enter((&name, line), host, &path.value, methods.as_deref(), &headers);
        if let Some(complaint) = complaint {
            table.reader.report(&path.span, complaint);
        }
    }
    table.finish();
    Some(Route {
        name,
        host: host?,
        path: path?.value,
        methods: methods.ok()?,
        headers,
        auth: auth?,
        policy,
        action: action?,
        max_body,
        timeout,
        limits,
        request_headers,
        response_headers,
        cors,
        accept,
    })
}

/// What the paths of a route may have that is refused elsewhere.
fn accept(table: &mut Table<'_>, policy: &Policy) -> Oddities {
    let choices = Oddity::ALL.map(|oddity| (oddity.name(), oddity));
    let accepted = values(table.list("accept", |text| choose(text, &choices)).unwrap_or_default());
    if let Some(place) = table.key_span("accept").filter(|_| !accepted.is_empty()) {
        let terms = policy.allow.iter().chain(&policy.deny);
        let other = if table.has("rewrite") { Some("rewrite") } else { None };
        let other = other.or_else(|| terms.flat_map(|terms| &terms.matches).next().map(|_| "match"));
        if let Some(other) = other {
            let complaint = Complaint::new(format!("\"accept\" and \"{other}\" exclude each other"));
            let hint = "a parameter of such a path may be another one to the upstream; use a route of its own without it";
            table.reader.report(&place, complaint.hint(hint));
        }
    }
    accepted.into_iter().collect()
}

fn name(table: &mut Table<'_>, index: usize, names: &mut Lines) -> String {
    let given = table.located("name", Kind::Text, check_name);
    let span = given.as_ref().map_or(&table.span, |given| &given.span).clone();
    let name = given.map_or_else(|| format!("route-{}", index + 1), |given| given.value);
    let (line, _) = table.reader.source.position(span.start);
    if let Some(earlier) = names.get(&name) {
        let complaint = Complaint::new(format!("two routes have the name \"{name}\""));
        table.reader.report(
            &span,
            complaint.hint(format!(
                "the other one is in line {earlier}; names stand in the log, so each is used once"
            )),
        );
    }
    names.entry(name.clone()).or_insert(line);
    name
}

/// Nothing when the host is faulty.
fn host(table: &mut Table<'_>) -> Option<HostPattern> {
    let given = table.has("host");
    let host = table.parsed("host", Kind::Text, |text| {
        HostPattern::parse(text).map_err(|error| {
            let hint =
                if text.is_empty() || text == "*" { "leave \"host\" out for any host" } else { error.text() };
            Complaint::new(format!("{} is not a host pattern", quoted(text))).hint(hint)
        })
    });
    if given { host } else { Some(HostPattern::Any) }
}

/// The methods, `None` for any.
fn methods(table: &mut Table<'_>) -> Result<Option<Vec<String>>, Faulty> {
    let given = table.has("methods");
    let list = table.filled_list("methods", "leave \"methods\" out for any method", method);
    if !given {
        return Ok(None);
    }
    let mut methods = Vec::new();
    for Located { value, span } in list.ok_or(Faulty)? {
        if methods.contains(&value) {
            let complaint =
                Complaint::new(format!("\"{value}\" is listed twice")).hint("remove one of the two");
            table.reader.report(&span, complaint);
        } else {
            methods.push(value);
        }
    }
    Ok(Some(methods))
}

/// A method (RFC 9110 section 9.1: a token, of which case matters).
pub(super) fn method(text: &str) -> Result<String, Complaint> {
    let fault = Complaint::new(format!("{} is not a method", quoted(text)));
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    match text {
        "CONNECT" | "TRACE" => Err(Complaint::new(format!("\"{text}\" cannot be routed"))
            .hint("CONNECT and TRACE are always answered with 405")),
        "*" => Err(fault.hint("leave \"methods\" out for any method")),
        _ if text.is_empty() || !text.bytes().all(token) => {
            Err(fault.hint("write methods such as \"GET\" and \"POST\""))
        }
        _ if text.bytes().any(|byte| byte.is_ascii_lowercase()) => {
            Err(fault.hint(format!("did you mean \"{}\"? case matters", text.to_ascii_uppercase())))
        }
        _ => Ok(text.to_owned()),
    }
}

fn auth(table: &mut Table<'_>) -> Option<Auth> {
    table.require(
        "auth",
        "there is no default: add auth = \"required\" (a token is needed), \"optional\" or \"public\" (everybody may pass)",
    );
    table.parsed("auth", Kind::Text, |text| {
        choose(text, &[("required", Auth::Required), ("optional", Auth::Optional), ("public", Auth::Public)])
    })
}

/// What decides which of two routes is more specific, with parameters without their names, and one method.
#[derive(PartialEq, Eq, Hash)]
struct Claim {
    host: HostPattern,
    shape: Vec<Option<Box<str>>>,
    end: PathEnd,
    method: Option<String>,
}

/// What the routes so far have claimed.
#[derive(Default)]
struct Ties {
    claims: HashMap<Claim, Vec<Claimant>>,
}

/// The name and the line of a route, and under which conditions it takes a request.
struct Claimant {
    name: String,
    line: usize,
    conditions: Vec<Condition>,
}

impl Ties {
    /// Enters a route, and says with which earlier one it ties.
    fn enter(
        &mut self,
        (name, line): (&str, usize),
        host: &HostPattern,
        path: &PathPattern,
        methods: Option<&[String]>,
        conditions: &[Condition],
    ) -> Option<Complaint> {
        let each: Vec<Option<&String>> =
            methods.map_or_else(|| vec![None], |methods| methods.iter().map(Some).collect());
        let mut complaint = None;
        for method in each {
            let claim =
                Claim { host: host.clone(), shape: shape(path), end: path.end, method: method.cloned() };
            let claimants = self.claims.entry(claim).or_default();
            if let Some(other) = claimants.iter().find(|other| ties(&other.conditions, conditions)) {
                let shared =
                    method.map_or("without \"methods\"".to_owned(), |method| format!("for {method}"));
                let Claimant { name: other, line: other_line, conditions: others } = other;
                let message = format!(
                    "route \"{name}\" ties with route \"{other}\" in line {other_line}: same host and path, {shared}"
                );
                let hint = if conditions.is_empty() && others.is_empty() {
                    "nothing says which of the two is meant: change the host, the path or the methods of one, or remove it"
                } else {
                    "a request may fit the \"headers\" of both: give one of them a header more, or both the same header with different values"
                };
                complaint = complaint.or_else(|| Some(Complaint::new(message).hint(hint)));
            } else {
                let (name, conditions) = (name.to_owned(), conditions.to_vec());
                claimants.push(Claimant { name, line, conditions });
            }
        }
        complaint
    }
}

/// Whether neither of two lists of conditions is more specific, and a request may fulfil both.
fn ties(one: &[Condition], other: &[Condition]) -> bool {
    let excludes = |condition: &Condition| {
        let same = other.iter().find(|other| other.name == condition.name);
        same.is_some_and(|same| {
            same.value.is_some() && condition.value.is_some() && same.value != condition.value
        })
    };
    Condition::rank(one) == Condition::rank(other) && !one.iter().any(excludes)
}

fn shape(path: &PathPattern) -> Vec<Option<Box<str>>> {
    let segment = |segment: &Segment| match segment {
        Segment::Literal(text) => Some(text.clone()),
        Segment::Parameter(_) => None,
    };
    path.segments.iter().map(segment).collect()
}

#[cfg(test)]
mod tests;
