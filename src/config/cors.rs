//! `cors`: which scripts of other origins a browser lets use a route (Fetch standard, section "CORS protocol").

use std::time::Duration;

use http::uri::Authority;
use http::{HeaderName, HeaderValue};

use super::complaint::{Complaint, quoted};
use super::fields::{self, OwnedFields};
use super::kind::Kind;
use super::reader::{Located, Table, values};
use super::units;

/// What browsers may keep an answer to a preflight for, when nothing else is said.
const DEFAULT_MAX_AGE: Duration = Duration::from_mins(10);
/// The methods of a route that takes any.
const ANY_METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];
/// The fields that a script may send when nothing else is said: what a client of an API with tokens needs.
const DEFAULT_HEADERS: &str = "authorization, content-type";

/// `cors` of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cors {
    /// Whose scripts.
    pub origins: Origins,
    /// The value of `Access-Control-Allow-Methods`.
    pub methods: HeaderValue,
    /// The value of `Access-Control-Allow-Headers`; `None` allows whatever is asked for.
    pub headers: Option<HeaderValue>,
    /// The value of `Access-Control-Expose-Headers`, where there is one.
    pub expose: Option<HeaderValue>,
    /// The value of `Access-Control-Max-Age`.
    pub max_age: HeaderValue,
    /// Whether browsers send cookies and client certificates along.
    pub credentials: bool,
}

/// `origins`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origins {
    /// Everybody.
    Any,
    /// These; one at least.
    Only(Vec<OriginPattern>),
}

/// Origins as browsers write them: lower case, without a port that is the scheme's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OriginPattern {
    /// This one.
    Exact(Box<str>),
    /// `https://*.example.com`: what begins and ends so, with one label or more between.
    Suffix {
        /// The scheme with `://`.
        scheme: Box<str>,
        /// What follows the labels, with its dot, and the port.
        rest: Box<str>,
    },
}

impl OriginPattern {
    /// Whether it is one of these.
    pub fn has(&self, origin: &str) -> bool {
        match self {
            Self::Exact(text) => **text == *origin,
            Self::Suffix { scheme, rest } => {
                let labels = origin.strip_prefix(&**scheme).and_then(|host| host.strip_suffix(&**rest));
                let sound = |byte: u8| {
                    byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.')
                };
                labels.is_some_and(|labels| {
                    labels.bytes().all(sound) && labels.split('.').all(|label| !label.is_empty())
                })
            }
        }
    }
}

/// Reads `cors`. `route_methods` are those of the route.
pub(super) fn cors(
    route: &mut Table<'_>,
    route_methods: Option<&[String]>,
    owned: &OwnedFields,
) -> Option<Cors> {
    let given = route.has("cors");
    let mut table = route.table("cors");
    if given {
        table.require(
            "origins",
            "add origins = [\"https://app.example.com\"], or origins = [\"*\"] for everybody",
        );
    }
    let origins = origins(&mut table);
    let methods =
        table.filled_list("methods", "leave \"methods\" out for those of the route", super::routes::method);
    let methods = methods.map_or_else(|| defaults(route_methods), values);
    let headers = request_headers(&mut table);
    let expose = table.list("expose", |name| fields::exposed(name, owned)).unwrap_or_default();
    let expose = joined(expose.iter().map(|name| name.value.as_str())).filter(|value| !value.is_empty());
    let max_age = table.parsed("max_age", Kind::Duration, units::seconds_or_none);
    let max_age = max_age.map_or(DEFAULT_MAX_AGE, Option::unwrap_or_default);
    let credentials = table.boolean("credentials").unwrap_or(false);
    if credentials
        && origins == Some(Origins::Any)
        && let Some(place) = table.key_span("credentials")
    {
        let complaint = Complaint::new("\"credentials\" and origins = [\"*\"] exclude each other");
        table.reader.report(
            &place,
            complaint.hint("name the origins; whoever is logged in would be open to every page"),
        );
    }
    table.finish();
    let origins = origins.filter(|_| given)?;
    let methods = joined(methods.iter().map(String::as_str))?;
    let max_age = HeaderValue::from(max_age.as_secs());
    Some(Cors { origins, methods, headers, expose, max_age, credentials })
}

/// The methods of a route, for scripts that name theirs; `GET` includes `HEAD`.
fn defaults(route_methods: Option<&[String]>) -> Vec<String> {
    let Some(methods) = route_methods else { return ANY_METHODS.map(str::to_owned).to_vec() };
    let mut all = methods.to_vec();
    if methods.iter().any(|method| method == "GET") && methods.iter().all(|method| method != "HEAD") {
        all.push("HEAD".to_owned());
    }
    all
}

fn joined<'a>(words: impl Iterator<Item = &'a str>) -> Option<HeaderValue> {
    HeaderValue::from_str(&words.collect::<Vec<_>>().join(", ")).ok()
}

/// `headers`: what a script may send. `["*"]` is whatever it asks for.
fn request_headers(table: &mut Table<'_>) -> Option<HeaderValue> {
    let given = table.list("headers", |name| match HeaderName::from_bytes(name.as_bytes()) {
        Ok(name) => Ok(name),
        Err(_) => Err(Complaint::new(format!("{} is no name of a header", quoted(name)))
            .hint("write names such as \"X-Requested-With\", or \"*\" for all")),
    });
    let Some(names) = given else { return Some(HeaderValue::from_static(DEFAULT_HEADERS)) };
    if let [Located { value, .. }] = names.as_slice()
        && value.as_str() == "*"
    {
        return None;
    }
    if let Some(star) = names.iter().find(|name| name.value.as_str() == "*") {
        let complaint = Complaint::new("\"*\" stands beside other names");
        table.reader.report(&star.span, complaint.hint("it means every header: write headers = [\"*\"]"));
    }
    joined(names.iter().map(|name| name.value.as_str()))
}

fn origins(table: &mut Table<'_>) -> Option<Origins> {
    let hint = "name at least one, such as \"https://app.example.com\"";
    let list = table.filled_list("origins", hint, |text| match text {
        "*" => Ok(None),
        _ => origin(text).map(Some),
    })?;
    let Some(star) = list.iter().find(|origin| origin.value.is_none()) else {
        return Some(Origins::Only(list.into_iter().filter_map(|origin| origin.value).collect()));
    };
    if list.len() > 1 {
        let complaint = Complaint::new("\"*\" stands beside other origins");
        table.reader.report(&star.span, complaint.hint("it means everybody: write origins = [\"*\"]"));
    }
    Some(Origins::Any)
}

fn origin(text: &str) -> Result<OriginPattern, Complaint> {
    let fault = |why: &str| Complaint::new(format!("{} is no origin", quoted(text))).hint(why);
    let form = "write scheme and host as a browser does, such as \"https://app.example.com\"";
    if text == "null" {
        return Err(fault(
            "\"null\" is the origin of every sandboxed page and of local files: it names nobody",
        ));
    }
    let lower = text.to_ascii_lowercase();
    if lower != text {
        return Err(fault(&format!("did you mean {}? browsers write origins in lower case", quoted(&lower))));
    }
    let Some((scheme, host)) = text.split_once("://") else { return Err(fault(form)) };
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_lowercase())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    if let Some(host) = host.strip_suffix('/') {
        return Err(fault(&format!("did you mean \"{scheme}://{host}\"? an origin has no path")));
    }
    let default_port = matches!(scheme, "http" if host.ends_with(":80"))
        || matches!(scheme, "https" if host.ends_with(":443"));
    if default_port {
        return Err(fault("browsers leave out the port that is the scheme's own"));
    }
    let plain = host.strip_prefix("*.").unwrap_or(host);
    let is_host =
        plain.parse::<Authority>().is_ok() && !plain.contains(['@', '*', '%']) && !plain.starts_with('.');
    if !is_scheme || !is_host {
        return Err(fault(form));
    }
    if plain.len() == host.len() {
        return Ok(OriginPattern::Exact(text.into()));
    }
    Ok(OriginPattern::Suffix { scheme: format!("{scheme}://").into(), rest: format!(".{plain}").into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_those_that_browsers_write() {
        let exact = origin("https://app.example.com:8443").unwrap();
        assert!(exact.has("https://app.example.com:8443") && !exact.has("https://app.example.com"));
        let suffix = origin("https://*.example.com").unwrap();
        for (text, expected) in [
            ("https://a.example.com", true),
            ("https://a.b.example.com", true),
            ("https://example.com", false),
            ("https://.example.com", false),
            ("https://a..example.com", false),
            ("http://a.example.com", false),
            ("https://evilexample.com", false),
            ("https://a.example.com:444", false),
            ("https://evil.test/.example.com", false),
            ("https://evil.test#.example.com", false),
            ("https://A.example.com", false),
            ("null", false),
        ] {
            assert_eq!(suffix.has(text), expected, "{text}");
        }
        for text in [
            "null",
            "app.example.com",
            "https://App.example.com",
            "https://app.example.com/",
            "https://app.example.com:443",
            "http://app.example.com:80",
            "https://*",
            "https://a.*.com",
            "https://u@app.example.com",
            "https://",
            "*.example.com",
            "https://app.example.com/x",
        ] {
            assert!(origin(text).is_err(), "{text}");
        }
    }
}
