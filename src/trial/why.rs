//! Why a request takes its route and not another one: the same table of routes is asked without it.

use http::Method;

use crate::base::field_list::FieldList;
use crate::base::pattern::{PathEnd, Segment};
use crate::config::{Config, Route, TestRequest};
use crate::rehearsal::Walk;
use crate::routing::RouteTable;

/// The route that comes after the one that is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextBest {
    /// Its name.
    pub route: String,
    /// Why it is not taken.
    pub why: String,
}

/// Finds the route that a request would take without the one that it takes.
pub(super) fn next_best(
    config: &Config,
    walk: &Walk,
    request: &TestRequest,
    headers: &FieldList,
) -> Option<NextBest> {
    let (path, taken) = (walk.path.as_deref()?, walk.route.as_deref()?);
    let mut others = config.clone();
    others.routes.retain(|route| route.name != taken);
    let host = request.host.rsplit_once(':').map_or(request.host.as_str(), |(name, _)| name);
    let method = Method::from_bytes(request.method.as_bytes()).ok()?;
    let name = find(&RouteTable::new(&others), &host.to_ascii_lowercase(), path, &method, headers)?;
    let taken = config.routes.iter().find(|route| route.name == taken)?;
    let other = config.routes.iter().find(|route| *route.name == *name)?;
    Some(NextBest { why: why(taken, other).to_owned(), route: name })
}

fn find(table: &RouteTable, host: &str, path: &str, method: &Method, _headers: &FieldList) -> Option<String> {
    table.find(host, path, method).ok().map(|route| route.name.to_string())
}

/// Why the first of two routes goes before the second. Both fit.
fn why(taken: &Route, other: &Route) -> &'static str {
    if taken.host != other.host {
        return "its host is less specific";
    }
    let (segments, others) = (&taken.path.segments, &other.path.segments);
    if segments.len() != others.len() {
        return "its path is shorter";
    }
    for pair in segments.iter().zip(others) {
        if let (Segment::Literal(_), Segment::Parameter(_)) = pair {
            return "it has a parameter where the other has a word";
        }
    }
    if (taken.path.end, other.path.end) == (PathEnd::Exact, PathEnd::Prefix) {
        return "it takes longer paths too";
    }
    if taken.methods.is_some() && other.methods.is_none() {
        return "it does not name the method";
    }
    "it is less specific"
}
