//! `[[tests]]` and `[check]`: what `tollgate check` is to try out, and what it is not to tell of.

use serde_json::{Map, Value};
use toml::de::DeValue;

use super::Route;
use super::complaint::{Complaint, alternatives, choose, nearest, quoted};
use super::kind::Kind;
use super::reader::{Located, Table};
use crate::base::reason::Reason;

/// One of `[[tests]]`: a request, who sends it, and what has to come of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestCase {
    /// Where it stands in the file, counted from 1.
    pub line: usize,
    /// The request.
    pub request: TestRequest,
    /// Who sends it; `None` is somebody without a token.
    pub caller: Option<TestCaller>,
    /// What has to come of it. There is one thing at least.
    pub expect: Expectation,
}

/// A request as a person writes it: `GET https://api.example.com/invoices/7?all=1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestRequest {
    /// The method.
    pub method: String,
    /// Whether it is sent over HTTPS; `None` where nothing is said, and the listener decides.
    pub is_https: Option<bool>,
    /// The value of `Host`.
    pub host: String,
    /// The path and the query.
    pub target: String,
    /// Header fields.
    pub headers: Vec<(String, String)>,
}

/// Who sends a request of a test.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TestCaller {
    /// The user id.
    pub id: String,
    /// The login name.
    pub user: String,
    /// The e-mail address.
    pub email: Option<String>,
    /// The groups.
    pub groups: Vec<String>,
    /// The scopes of the token.
    pub scopes: Vec<String>,
    /// Other claims of the token.
    pub claims: Map<String, Value>,
}

/// What has to come of a request. What is not said is not looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expectation {
    /// The route's name.
    pub route: Option<String>,
    /// The status. Upstreams answer 200 to everything.
    pub status: Option<u16>,
    /// Why it is refused.
    pub reason: Option<Reason>,
    /// Why it would be refused, on a route that only reports.
    pub would_refuse: Option<Reason>,
    /// The upstream's name.
    pub upstream: Option<String>,
    /// The path that the upstream sees, with its query where one is written.
    pub upstream_path: Option<String>,
}

/// `[check]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Check {
    /// Findings that are known and not told of.
    pub ignore: Vec<Ignored>,
}

/// A finding that is not told of: `T007`, or of one thing only `T007:health`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ignored {
    /// Its code.
    pub code: String,
    /// What it is about; `None` is anything.
    pub subject: Option<String>,
}

impl Ignored {
    /// Reads `T007` or `T007:health`.
    ///
    /// # Errors
    ///
    /// What is wrong, for a person.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (code, subject) = match text.split_once(':') {
            Some((code, subject)) => (code, Some(subject.to_owned())),
            None => (text, None),
        };
        let is_code = code
            .strip_prefix('T')
            .is_some_and(|number| number.len() == 3 && number.bytes().all(|byte| byte.is_ascii_digit()));
        if is_code && subject.as_deref() != Some("") {
            return Ok(Self { code: code.to_owned(), subject });
        }
        Err("write the code of a finding such as \"T007\", or \"T007:NAME\" for one route, key or file"
            .to_owned())
    }

    /// Whether a finding is meant.
    pub fn covers(&self, code: &str, subject: &str) -> bool {
        self.code == code && self.subject.as_deref().is_none_or(|wanted| wanted == subject)
    }
}

impl TestRequest {
    /// Reads a method and a URL; a path alone goes to `localhost`.
    ///
    /// # Errors
    ///
    /// What is wrong, and what to write instead.
    pub fn parse(method: &str, url: &str) -> Result<Self, String> {
        if method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-') {
            return Err(format!("{} is not a method: write one such as GET or POST", quoted(method)));
        }
        // A fragment never leaves the client (RFC 9110 section 7.1).
        let url = url.split('#').next().unwrap_or_default();
        if !url.bytes().all(|byte| (0x21..0x7f).contains(&byte)) {
            return Err(format!(
                "{} has characters that are escaped in a URL: write %20 for a blank",
                quoted(url)
            ));
        }
        let (is_https, rest) = match url.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (Some(true), rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (Some(false), rest),
            Some(_) | None if url.starts_with('/') => {
                let request = Self {
                    method: method.to_owned(),
                    is_https: None,
                    host: "localhost".to_owned(),
                    target: url.to_owned(),
                    headers: Vec::new(),
                };
                return Ok(request);
            }
            Some(_) | None => {
                return Err(format!(
                    "{} is not a URL: begin it with http://, https:// or a slash",
                    quoted(url)
                ));
            }
        };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (host, target) = rest.split_at_checked(end).unwrap_or((rest, ""));
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        Ok(Self { method: method.to_owned(), is_https, host: host.to_owned(), target, headers: Vec::new() })
    }
}

/// Reads `[check]`.
pub(super) fn check(root: &mut Table<'_>) -> Check {
    let mut table = root.table("check");
    let ignore = table.list("ignore", |text| {
        Ignored::parse(text)
            .map_err(|hint| Complaint::new(format!("{} is not a finding", quoted(text))).hint(hint))
    });
    table.finish();
    Check { ignore: ignore.unwrap_or_default().into_iter().map(|ignored| ignored.value).collect() }
}

/// Reads every test. One with a problem is left out.
pub(super) fn tests(root: &mut Table<'_>, routes: &[Route], upstreams: &[String]) -> Vec<TestCase> {
    let tables = root.tables("tests");
    tables.into_iter().filter_map(|table| test(table, routes, upstreams)).collect()
}

fn test(mut table: Table<'_>, routes: &[Route], upstreams: &[String]) -> Option<TestCase> {
    let (line, _) = table.reader.source.position(table.span.start);
    table.require("request", "add request = \"GET https://api.example.com/path\"");
    let request = table.parsed("request", Kind::Text, |text| {
        let (method, url) = text.split_once(' ').unwrap_or(("", text));
        TestRequest::parse(method, url.trim()).map_err(|hint| {
            Complaint::new(format!("{} is not a request", quoted(text))).hint(if method.is_empty() {
                "write a method and a URL: \"GET https://api.example.com/path\"".to_owned()
            } else {
                hint
            })
        })
    });
    let headers = table.named_values("headers", |name, value| {
        let sound = http::HeaderName::from_bytes(name.as_bytes()).is_ok()
            && http::HeaderValue::from_str(value).is_ok();
        let complaint = || Complaint::new(format!("{} is not a header field", quoted(name)));
        if sound { Ok((name.to_owned(), value.to_owned())) } else { Err(complaint()) }
    });
    let caller = table.has("as").then(|| caller(&mut table));
    table.require("expect", "add expect = { status = 200 }, or a route, a reason, an upstream_path");
    let expect = expectation(&mut table, routes, upstreams);
    table.finish();
    let headers = headers.into_iter().map(|field| field.value).collect();
    Some(TestCase { line, request: TestRequest { headers, ..request? }, caller: caller.flatten(), expect })
}

fn caller(test: &mut Table<'_>) -> Option<TestCaller> {
    let mut table = test.table("as");
    let plain = |text: &str| {
        if text.is_empty() { Err(Complaint::new("an empty text")) } else { Ok(text.to_owned()) }
    };
    let user = table.parsed("user", Kind::Text, plain);
    let id = table.parsed("id", Kind::Text, plain);
    let email = table.parsed("email", Kind::Text, plain);
    let list = |list: Option<Vec<Located<String>>>| {
        list.unwrap_or_default().into_iter().map(|text| text.value).collect::<Vec<_>>()
    };
    let groups = list(table.list("groups", plain));
    let scopes = list(table.list("scopes", plain));
    let mut claims = Map::new();
    if let Some(value) = table.value("claims").map(|value| (value.span(), json(value.get_ref()))) {
        match value {
            (_, Some(Value::Object(members))) => claims = members,
            (span, _) => {
                let complaint = Complaint::new("\"claims\" must be a table of what a token can hold");
                table.reader.report(&span, complaint.hint("write claims = { tenant = \"acme\" }"));
            }
        }
    }
    // It is known, and what it holds is not looked for.
    let _known = table.table("claims");
    if let Some(place) = test.key_span("as")
        && user.is_none()
        && id.is_none()
        && !table.has("user")
        && !table.has("id")
    {
        let complaint = Complaint::new("\"as\" names nobody");
        let hint = "add user = \"alice\"; for a request without a token leave \"as\" out";
        table.reader.report(&place, complaint.hint(hint));
    }
    table.finish();
    // Whoever has no id of its own is known by the name.
    let name = user.clone().or_else(|| id.clone())?;
    Some(TestCaller {
        id: id.unwrap_or_else(|| name.clone()),
        user: user.unwrap_or(name),
        email,
        groups,
        scopes,
        claims,
    })
}

/// What a token can hold: JSON has no times.
fn json(value: &DeValue<'_>) -> Option<Value> {
    match value {
        DeValue::String(text) => Some(text.as_ref().into()),
        DeValue::Boolean(value) => Some((*value).into()),
        DeValue::Integer(number) => {
            i64::from_str_radix(number.as_str(), number.radix()).ok().map(Value::from)
        }
        DeValue::Float(number) => number.as_str().parse::<f64>().ok().map(Value::from),
        DeValue::Array(list) => {
            list.iter().map(|value| json(value.get_ref())).collect::<Option<Vec<_>>>().map(Value::Array)
        }
        DeValue::Table(table) => {
            let members = table
                .iter()
                .map(|(name, value)| Some((name.get_ref().clone().into_owned(), json(value.get_ref())?)));
            members.collect::<Option<Map<_, _>>>().map(Value::Object)
        }
        DeValue::Datetime(_) => None,
    }
}

fn expectation(test: &mut Table<'_>, routes: &[Route], upstreams: &[String]) -> Expectation {
    let place = test.key_span("expect");
    let mut table = test.table("expect");
    let route = table.parsed("route", Kind::Text, |text| {
        known("route", text, routes.iter().map(|route| route.name.as_str()))
    });
    let upstream = table
        .parsed("upstream", Kind::Text, |text| known("upstream", text, upstreams.iter().map(String::as_str)));
    let status = table.integer::<u16>("status", 200..=599);
    let words = Reason::ALL.map(|reason| (reason.word(), reason));
    let reason = table.parsed("reason", Kind::Text, |text| choose_reason(text, &words));
    let would_refuse = table.parsed("would_refuse", Kind::Text, |text| choose_reason(text, &words));
    let upstream_path = table.parsed("upstream_path", Kind::Text, |text| {
        if text.starts_with('/') {
            return Ok(text.to_owned());
        }
        Err(Complaint::new(format!("{} is not a path", quoted(text))).hint("a path begins with a slash"))
    });
    let keys = ["route", "upstream", "status", "reason", "would_refuse", "upstream_path"];
    if let Some(place) = place
        && !keys.into_iter().any(|key| table.has(key))
    {
        let complaint = Complaint::new("\"expect\" expects nothing");
        table
            .reader
            .report(&place, complaint.hint("add status = 200, or a route, a reason, an upstream_path"));
    }
    table.finish();
    Expectation { route, status, reason, would_refuse, upstream, upstream_path }
}

fn choose_reason(text: &str, words: &[(&'static str, Reason)]) -> Result<Reason, Complaint> {
    // All of them are too many to be listed.
    choose(text, words).map_err(|complaint| Complaint {
        hint: complaint
            .hint
            .filter(|hint| hint.starts_with("did you mean"))
            .or_else(|| Some("write one of the reasons that docs/operations.md lists".to_owned())),
        ..complaint
    })
}

fn known<'a>(
    what: &str,
    text: &str,
    names: impl Iterator<Item = &'a str> + Clone,
) -> Result<String, Complaint> {
    if names.clone().any(|name| name == text) {
        return Ok(text.to_owned());
    }
    let hint = match nearest(text, names.clone()) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("write {}", alternatives(names)),
    };
    Err(Complaint::new(format!("no {what} is named {}", quoted(text))).hint(hint))
}
