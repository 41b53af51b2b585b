//! What a route does with a request: `upstream` with what becomes of the path, or `redirect`, or `respond`.

use std::fmt;

use bytes::Bytes;
use http::uri::Authority;
use http::{HeaderName, HeaderValue, StatusCode, header};

use super::Upstream;
use super::complaint::{Complaint, alternatives, nearest, quoted};
use super::fields::{self, OwnedFields};
use super::kind::Kind;
use super::reader::{Table, values};
use crate::base::pattern::{PathPattern, Segment};
use crate::base::template::{PathChange, PathTemplate, TemplateError};

/// Statuses that a redirect may have (RFC 9110 section 15.4).
const REDIRECTS: [u16; 5] = [301, 302, 303, 307, 308];
/// Keys that say something about a request that is forwarded.
const OF_UPSTREAM: [&str; 5] = ["strip_prefix", "rewrite", "request_headers", "timeout", "accept"];

/// What a route does with a request that may pass. A route has exactly one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// `upstream`
    Forward(Forward),
    /// `redirect`
    Redirect(Redirect),
    /// `respond`
    Respond(Respond),
}

impl Action {
    /// The index of the upstream, where there is one.
    pub fn upstream(&self) -> Option<usize> {
        match self {
            Self::Forward(forward) => Some(forward.upstream),
            Self::Redirect(_) | Self::Respond(_) => None,
        }
    }

    /// The same with another index, where there is an upstream.
    #[must_use]
    pub fn with_upstream(self, upstream: usize) -> Self {
        match self {
            Self::Forward(forward) => Self::Forward(Forward { upstream, ..forward }),
            Self::Redirect(_) | Self::Respond(_) => self,
        }
    }
}

/// Requests go to an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// Index into [`super::Config::upstreams`].
    pub upstream: usize,
    /// `strip_prefix`, `rewrite`
    pub path: PathChange,
}

/// Clients are sent elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: StatusCode,
    /// `https://host`, or nothing for the same host.
    origin: Box<str>,
    path: PathTemplate,
    /// A query, a fragment or both, with what they begin with.
    tail: Box<str>,
}

/// A fixed answer.
#[derive(Clone, PartialEq, Eq)]
pub struct Respond {
    /// From 200 to 599.
    pub status: StatusCode,
    /// Its fields; none that frame it.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Its body; empty where the status has none.
    pub body: Bytes,
}

impl fmt::Debug for Respond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What variables hold may be in it.
        f.debug_struct("Respond").field("status", &self.status).finish_non_exhaustive()
    }
}

impl Redirect {
    /// Where a request with this path in normal form and this query is sent. Nothing of the request stands in front of the
    /// first slash of the path. The query goes along where the target has none.
    pub fn location(&self, path: &str, query: Option<&str>) -> String {
        let Self { origin, path: template, tail, .. } = self;
        let path = template.fill(path);
        match query.filter(|_| tail.is_empty()) {
            Some(query) => format!("{origin}{path}?{query}"),
            None => format!("{origin}{path}{tail}"),
        }
    }
}

/// Reads what a route does. `path` is the route's, where it is sound.
pub(super) fn action(
    table: &mut Table<'_>,
    upstreams: &[Upstream],
    path: Option<&PathPattern>,
    owned: &OwnedFields,
) -> Option<Action> {
    let upstream = upstream(table, upstreams);
    let change = path_change(table, path);
    let redirect = redirect(table, path);
    let respond = respond(table, owned);
    let given: Vec<&str> =
        ["upstream", "redirect", "respond"].into_iter().filter(|key| table.has(key)).collect();
    if let [one, others @ ..] = given.as_slice() {
        for other in others {
            let message = format!("a route has either \"{one}\" or \"{other}\"");
            complain(table, other, Complaint::new(message).hint("remove one of the two"));
        }
        if !given.contains(&"upstream") {
            for key in OF_UPSTREAM {
                let message = format!("\"{key}\" is of no use without \"upstream\"");
                complain(table, key, Complaint::new(message).hint("nothing is forwarded here: remove it"));
            }
        }
    }
    match given.first() {
        Some(&"redirect") => redirect.map(Action::Redirect),
        Some(&"respond") => respond.map(Action::Respond),
        Some(_) | None => Some(Action::Forward(Forward { upstream: upstream?, path: change })),
    }
}

/// Notes what is wrong with a key, if it is there.
fn complain(table: &Table<'_>, key: &str, complaint: Complaint) {
    if let Some(place) = table.key_span(key) {
        table.reader.report(&place, complaint);
    }
}

/// The index of the upstream.
fn upstream(table: &mut Table<'_>, upstreams: &[Upstream]) -> Option<usize> {
    let names = || upstreams.iter().map(|upstream| upstream.name.as_str());
    if !table.has("redirect") && !table.has("respond") {
        table.require(
            "upstream",
            match names().next() {
                Some(name) => format!("add upstream = \"{name}\", or the name of another [upstreams.NAME]"),
                None => "add upstream = \"api\", and [upstreams.api] with its targets".to_owned(),
            },
        );
    }
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

fn path_change(table: &mut Table<'_>, path: Option<&PathPattern>) -> PathChange {
    let strip = table.parsed("strip_prefix", Kind::Text, |text| strip_prefix(text, path));
    let rewrite = table.parsed("rewrite", Kind::Text, |text| {
        let Some(path) = path else { return Ok(None) };
        let template = PathTemplate::parse(text, path);
        template.map(Some).map_err(|error| unfit("rewrite", text, path, &error))
    });
    if table.has("strip_prefix") {
        let complaint = Complaint::new("\"rewrite\" and \"strip_prefix\" exclude each other");
        complain(
            table,
            "rewrite",
            complaint.hint("\"rewrite\" says the whole path: remove \"strip_prefix\""),
        );
    }
    match (strip, rewrite.flatten()) {
        (_, Some(template)) => PathChange::Rewrite(template),
        (Some(segments), None) => PathChange::Strip(segments),
        (None, None) => PathChange::None,
    }
}

/// How many segments are cut off.
fn strip_prefix(text: &str, path: Option<&PathPattern>) -> Result<usize, Complaint> {
    let fault = |why: &str| {
        Err(Complaint::new(format!("{} is no prefix that can be cut off", quoted(text))).hint(why))
    };
    if !text.starts_with('/') {
        return fault("a prefix begins with \"/\", such as \"/billing\"");
    }
    let Ok(prefix) = PathPattern::parse(text) else {
        return fault("no path has this prefix; write it as in \"path\"");
    };
    let Some(path) = path else { return Ok(prefix.segments.len()) };
    if prefix.segments.is_empty() {
        return fault("it cuts off nothing: remove it");
    }
    if !path.segments.starts_with(&prefix.segments) || prefix.segments.last() == Some(&empty()) {
        return fault("it must be the beginning of the route's \"path\", in whole segments");
    }
    Ok(prefix.segments.len())
}

fn empty() -> Segment {
    Segment::Literal("".into())
}

fn unfit(key: &str, text: &str, path: &PathPattern, error: &TemplateError) -> Complaint {
    let fault = Complaint::new(format!("{} is no path for \"{key}\"", quoted(text)));
    match error {
        TemplateError::NotAbsolute => fault.hint("a path begins with \"/\", such as \"/v2/users\""),
        TemplateError::NotNormal => fault.hint(
            "write a path without query, dot segments, empty segments and characters that need an escape",
        ),
        TemplateError::BadParameter => fault.hint("a parameter is a whole segment such as {id}"),
        TemplateError::UnknownParameter(name) => {
            let names = || {
                path.segments.iter().filter_map(|segment| match segment {
                    Segment::Parameter(name) => Some(&**name),
                    Segment::Literal(_) => None,
                })
            };
            let message = format!("the route's \"path\" has no parameter {}", quoted(&format!("{{{name}}}")));
            Complaint::new(message).hint(match (nearest(name, names()), names().next()) {
                (Some(near), _) => format!("did you mean {{{near}}}?"),
                (None, Some(_)) => format!("it has {}", alternatives(names())),
                (None, None) => "it has no parameters; one is a segment such as {id}".to_owned(),
            })
        }
    }
}

fn redirect(table: &mut Table<'_>, path: Option<&PathPattern>) -> Option<Redirect> {
    let target = |text: &str| match path {
        Some(path) => redirect_target(text, path).map(Some),
        None => Ok(None),
    };
    if !table.value("redirect").is_some_and(|value| value.get_ref().is_table()) {
        let (origin, path, tail) = table.parsed("redirect", Kind::Text, target)??;
        return Some(Redirect { status: StatusCode::PERMANENT_REDIRECT, origin, path, tail });
    }
    let mut table = table.table("redirect");
    table.require("to", "add to = \"https://new.example.com\", or a path on the same host");
    let to = table.parsed("to", Kind::Text, target);
    let status = status(&mut table, 308, |code| REDIRECTS.contains(&code), "write 301, 302, 303, 307 or 308");
    table.finish();
    let (origin, path, tail) = to??;
    Some(Redirect { status, origin, path, tail })
}

/// The parts of `https://host/path?query`, or of `/path?query`.
fn redirect_target(
    text: &str,
    pattern: &PathPattern,
) -> Result<(Box<str>, PathTemplate, Box<str>), Complaint> {
    let fault = |why: &str| Complaint::new(format!("{} is no target of a redirect", quoted(text))).hint(why);
    let (head, tail) = text.split_at(text.find(['?', '#']).unwrap_or(text.len()));
    let is_sound = |byte: u8| byte.is_ascii_graphic() && !b"\"<>\\^`{}".contains(&byte);
    if !tail.bytes().all(is_sound) {
        return Err(fault("a query or a fragment is fixed, and has no blanks, quotes or parameters"));
    }
    let rest = head.strip_prefix("https://").or_else(|| head.strip_prefix("http://"));
    let (origin, path) = match rest {
        None if head.starts_with('/') => ("", head),
        None => {
            return Err(fault("write a URL such as \"https://new.example.com/x\", or a path such as \"/x\""));
        }
        Some(rest) => {
            let host_length = rest.find('/').unwrap_or(rest.len());
            let (host, path) = rest.split_at(host_length);
            let is_host = host.parse::<Authority>().is_ok() && !host.contains(['@', '{', '}', '%']);
            if !is_host {
                return Err(fault("the host is fixed: a name or an address, perhaps with a port"));
            }
            head.split_at(head.len() - path.len())
        }
    };
    let template = PathTemplate::parse_foreign(path, pattern);
    let template = template.map_err(|error| unfit("redirect", text, pattern, &error))?;
    Ok((origin.into(), template, tail.into()))
}

fn respond(table: &mut Table<'_>, owned: &OwnedFields) -> Option<Respond> {
    let place = table.key_span("respond");
    let mut table = table.table("respond");
    let hint = "write a number from 200 to 599; redirects have \"redirect\" of their own";
    let status =
        status(&mut table, 200, |code| (200..600).contains(&code) && !REDIRECTS.contains(&code), hint);
    let body = table.text("body").map(|body| body.value).unwrap_or_default();
    let headers = table.named_values("headers", |name, value| fields::of_answer(name, value, owned));
    let mut headers = values(fields::once(&table, headers));
    if !body.is_empty() && !headers.iter().any(|(name, _)| *name == header::CONTENT_TYPE) {
        headers.push((header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8")));
    }
    if !body.is_empty() && matches!(status.as_u16(), 204 | 205 | 304) {
        let complaint = Complaint::new(format!("an answer with status {} has no body", status.as_u16()));
        table.reader.report(&table.span, complaint.hint("remove \"body\", or take another status"));
    }
    table.finish();
    place.map(|_| Respond { status, headers, body: body.into() })
}

/// `status`, one of those that fit.
fn status(table: &mut Table<'_>, default: u16, fits: impl Fn(u16) -> bool, hint: &str) -> StatusCode {
    let given: Option<u16> = table.integer("status", 100..=999);
    let code = given.unwrap_or(default);
    if !fits(code)
        && let Some(value) = table.value("status")
    {
        let complaint = Complaint::new(format!("{code} is no status for this"));
        table.reader.report(&value.span(), complaint.hint(hint));
    }
    StatusCode::from_u16(code).unwrap_or(StatusCode::OK)
}
