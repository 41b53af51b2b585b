//! `[[routes]]`, and which of them tie.

use std::collections::HashMap;

use super::complaint::{Complaint, alternatives, choose, nearest, quoted};
use super::kind::Kind;
use super::limits;
use super::policy;
use super::reader::{Located, Table};
use super::units;
use super::upstreams::check_name;
use super::{Auth, RateLimit, Route, Upstream};
use crate::base::pattern::{HostPattern, PathEnd, PathPattern, Segment};

/// Keys of the contract that this version does not have, and what holds without them.
const UNSUPPORTED: [(&str, &str); 8] = [
    ("strip_prefix", "remove it; the upstream gets the path that the client sent"),
    ("accept", "remove it; ambiguous paths are refused"),
    ("cors", "remove it; a preflight request is a request like any other"),
    ("request_headers", "remove it; request headers are forwarded as the client sent them"),
    ("response_headers", "remove it; response headers are forwarded as the upstream sent them"),
    ("rewrite", "remove it; the upstream gets the path that the client sent"),
    ("header", "remove it; routes are told apart by host, path and method"),
    ("headers", "remove it; routes are told apart by host, path and method"),
];

/// The problem with a value is noted.
struct Faulty;

/// Where a name was used first.
type Lines = HashMap<String, usize>;

/// Reads every route. One with a problem is left out.
pub(super) fn routes(root: &mut Table<'_>, upstreams: &[Upstream], limits: &[RateLimit]) -> Vec<Route> {
    let mut routes = Vec::new();
    let mut names = Lines::new();
    let mut ties = Ties::default();
    for (index, mut table) in root.tables("routes").into_iter().enumerate() {
        let name = name(&mut table, index, &mut names);
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
        let auth = auth(&mut table);
        let policy = policy::policy(&mut table, auth, path.as_ref().map(|path| &path.value));
        let upstream = upstream(&mut table, upstreams);
        let max_body = table.parsed_or_zero("max_body", Kind::Size, units::size_limit);
        let timeout = table.parsed("timeout", Kind::Duration, units::duration);
        let limits = limits::of_route(&mut table, limits);
        for (key, hint) in UNSUPPORTED {
            table.unsupported(key, hint);
        }
        if let (Some(host), Some(path), Ok(methods)) = (&host, &path, &methods) {
            let complaint = ties.enter(
                table.reader.source.position(table.span.start).0,
                &name,
                host,
                &path.value,
                methods.as_deref(),
            );
            if let Some(complaint) = complaint {
                table.reader.report(&path.span, complaint);
            }
        }
        table.finish();
        if let (Some(host), Some(path), Ok(methods), Some(auth), Some(upstream)) =
            (host, path, methods, auth, upstream)
        {
            let path = path.value;
            routes.push(Route {
                name,
                host,
                path,
                methods,
                auth,
                policy,
                upstream,
                max_body,
                timeout,
                limits,
            });
        }
    }
    routes
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
fn method(text: &str) -> Result<String, Complaint> {
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

/// The index of the upstream.
fn upstream(table: &mut Table<'_>, upstreams: &[Upstream]) -> Option<usize> {
    let names = || upstreams.iter().map(|upstream| upstream.name.as_str());
    table.require(
        "upstream",
        match names().next() {
            Some(name) => format!("add upstream = \"{name}\", or the name of another [upstreams.NAME]"),
            None => "add upstream = \"api\", and [upstreams.api] with its targets".to_owned(),
        },
    );
    let name = table.located("upstream", Kind::Text, |text| Ok(text.to_owned()))?;
    let index = names().position(|known| known == name.value);
    // Without any upstream there is a problem already, which says more.
    if index.is_none() && !upstreams.is_empty() {
        let hint = match nearest(&name.value, names()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!("write {}, or add an upstream of that name", alternatives(names())),
        };
        table.reader.report(
            &name.span,
            Complaint::new(format!("no upstream is named {}", quoted(&name.value))).hint(hint),
        );
    }
    index
}

/// What decides which of two routes is more specific, with parameters without their names, and one method.
#[derive(PartialEq, Eq, Hash)]
struct Claim {
    host: HostPattern,
    shape: Vec<Option<Box<str>>>,
    end: PathEnd,
    method: Option<String>,
}

/// What the routes so far have claimed, and the name and line of who did.
#[derive(Default)]
struct Ties {
    claims: HashMap<Claim, (String, usize)>,
}

impl Ties {
    /// Enters a route, and says with which earlier one it ties.
    fn enter(
        &mut self,
        line: usize,
        name: &str,
        host: &HostPattern,
        path: &PathPattern,
        methods: Option<&[String]>,
    ) -> Option<Complaint> {
        let each: Vec<Option<&String>> =
            methods.map_or_else(|| vec![None], |methods| methods.iter().map(Some).collect());
        let mut complaint = None;
        for method in each {
            let claim =
                Claim { host: host.clone(), shape: shape(path), end: path.end, method: method.cloned() };
            if let Some((other, other_line)) = self.claims.get(&claim) {
                let shared =
                    method.map_or("without \"methods\"".to_owned(), |method| format!("for {method}"));
                let message = format!(
                    "route \"{name}\" ties with route \"{other}\" in line {other_line}: same host and path, {shared}"
                );
                complaint = complaint.or_else(|| Some(Complaint::new(message).hint("nothing says which of the two is meant: change the host, the path or the methods of one, or remove it")));
            } else {
                self.claims.insert(claim, (name.to_owned(), line));
            }
        }
        complaint
    }
}

fn shape(path: &PathPattern) -> Vec<Option<Box<str>>> {
    let segment = |segment: &Segment| match segment {
        Segment::Literal(text) => Some(text.clone()),
        Segment::Parameter(_) => None,
    };
    path.segments.iter().map(segment).collect()
}
