//! Paths: whoever reads one, and however, reads the same.

use std::borrow::Cow;
use std::path::Path;
use std::sync::LazyLock;

use bytes::Bytes;
use http::{Method, Uri};
use tollgate::base::path::{PathFault, normalise};
use tollgate::config::{self, Environment};
use tollgate::request::NormalPath;
use tollgate::routing::RouteTable;
use unicode_normalization::UnicodeNormalization;

use super::readings::{collapsed, decoded};

/// One route that is open, among others that are not.
static ROUTES: LazyLock<RouteTable> = LazyLock::new(|| {
    let text = r#"
        [upstreams.api]
        targets = ["http://127.0.0.1:9000"]
        [[routes]]
        name = "open"
        path = "/public"
        auth = "public"
        upstream = "api"
        [[routes]]
        name = "rest"
        path = "/"
        auth = "required"
        upstream = "api"
        [[routes]]
        name = "user"
        path = "/users/{id}/public"
        auth = "required"
        upstream = "api"
        [[routes]]
        name = "exact"
        path = "=/public/private"
        auth = "required"
        upstream = "api"
    "#;
    let config = config::parse(text, "gateway.toml", Path::new(""), &Environment::default()).unwrap();
    RouteTable::new(&config)
});

/// Takes the bytes as the target of a request.
pub(crate) fn run(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let path = text.split('?').next().unwrap_or_default();
        match normalise(path) {
            Ok(normal) => has_one_reading(path, &normal),
            Err(fault) => stays_refused(path, fault),
        }
    }
    if let Ok(uri) = Uri::from_maybe_shared(Bytes::copy_from_slice(data)) {
        is_forwarded_as_matched(&uri);
    }
}

fn has_one_reading(path: &str, normal: &str) {
    assert!(
        matches!(normalise(normal), Ok(Cow::Borrowed(twice)) if twice == normal),
        "normalising twice is once"
    );
    assert!(normal.bytes().all(|byte| byte.is_ascii_graphic()), "only what can be seen");
    let plain = decoded(normal.as_bytes());
    assert_eq!(plain, decoded(path.as_bytes()), "the spelling changes, the meaning does not");
    assert_eq!(plain, decoded(&plain), "decoding twice is once");
    assert_eq!(plain, collapsed(&plain), "there is nothing to resolve");
    let text = String::from_utf8(plain).expect("what is decoded is UTF-8");
    assert!(!text.chars().any(char::is_control));
    let folded: String = text.nfkc().collect();
    let segments = |bytes: &[u8]| bytes.split(|byte| *byte == b'/').count();
    assert_eq!(
        segments(&collapsed(folded.as_bytes())),
        segments(text.as_bytes()),
        "look-alikes are no slashes"
    );
    // Every spelling of the same path has the same normal form.
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let escape =
        |byte: u8| if unreserved(byte) { format!("%{byte:02x}") } else { char::from(byte).to_string() };
    // An escape stays as it is, only in lower case.
    let mut escaped = String::new();
    let mut rest = normal.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            escaped.push('%');
            escaped.extend(rest.by_ref().take(2).map(|digit| char::from(digit.to_ascii_lowercase())));
        } else {
            escaped.push_str(&escape(byte));
        }
    }
    assert_eq!(normalise(&escaped).as_deref(), Ok(normal), "{escaped}");
}

/// What was refused is refused as well when somebody has encoded it once more.
fn stays_refused(path: &str, fault: PathFault) {
    match fault {
        PathFault::DotSegment
        | PathFault::ForeignSeparator
        | PathFault::Semicolon
        | PathFault::EmptySegment
        | PathFault::NotUtf8
        | PathFault::ForbiddenByte
        | PathFault::NotAbsolute => {
            let again = path.replace('%', "%25");
            assert!(normalise(&again).is_err(), "{path:?} is refused and {again:?} is not");
        }
        // What is no escape may be meant as it stands, and then has to be encoded.
        PathFault::BadEscape | PathFault::TooManySegments => {}
    }
}

fn is_forwarded_as_matched(uri: &Uri) {
    let Ok(path) = NormalPath::of(uri.clone()) else { return };
    assert_eq!(normalise(uri.path()).as_deref(), Ok(path.path()));
    assert_eq!(path.query(), uri.query(), "a query is passed on as it came");
    let route = ROUTES.find("gw.test", path.path(), &Method::GET).unwrap();
    let boldest = collapsed(&decoded(&decoded(uri.path().as_bytes())));
    let is_open = |path: &[u8]| path == b"/public" || path.starts_with(b"/public/");
    let is_exact = boldest == b"/public/private";
    assert_eq!(&*route.name == "open", is_open(&boldest) && !is_exact, "{} matches {}", uri, route.name);
    let expected = path.query().map_or(path.path().to_owned(), |query| format!("{}?{query}", path.path()));
    let target = path.into_target();
    assert_eq!(target.as_str(), expected, "what is matched is what is forwarded");
    // The upstream reads it again.
    let read = NormalPath::of(Uri::from_maybe_shared(Bytes::from(expected)).unwrap()).unwrap();
    assert_eq!(read.into_target().as_str(), target.as_str());
}
