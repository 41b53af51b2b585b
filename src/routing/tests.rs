use proptest::prelude::*;

use super::*;
use crate::base::field_list::FieldList;
use crate::base::path::{Oddity, normalise_allowing};
use crate::base::pattern::{PathEnd, PathPattern, Segment};
use crate::base::template::PathChange;
use crate::config::{Environment, Forward, parse};

/// A route as a test states it: host, path, methods.
type Stated = (&'static str, &'static str, &'static [&'static str]);

struct Naive {
    host: HostPattern,
    path: PathPattern,
    methods: Vec<String>,
}

fn naive((host, path, methods): &Stated) -> Naive {
    Naive {
        host: if host.is_empty() { HostPattern::Any } else { HostPattern::parse(host).unwrap() },
        path: PathPattern::parse(path).unwrap(),
        methods: methods.iter().map(|&method| method.to_owned()).collect(),
    }
}

fn table(stated: &[Stated]) -> RouteTable {
    let mut table = RouteTable::default();
    for (index, route) in stated.iter().map(naive).enumerate() {
        table.routes.push(Route {
            name: index.to_string().into(),
            place: index,
            auth: Auth::Public,
            policy: None,
            is_enforced: true,
            action: Action::Forward(Forward { upstream: index, path: PathChange::None }),
            max_body: None,
            timeout_ms: 0,
            limit: None,
            accept: Oddities::NONE,
            request_headers: None,
            response_headers: None,
            cors: None,
        });
        let trie = match &route.host {
            HostPattern::Exact(name) => table.exact.entry(name.clone()).or_default(),
            HostPattern::Suffix(suffix) => table.suffixes.entry(suffix.clone()).or_default(),
            HostPattern::Any => &mut table.any,
        };
        trie.insert(&route.path, (!route.methods.is_empty()).then_some(&route.methods), &[], index);
    }
    table
}

fn find(table: &RouteTable, method: &str, host: &str, path: &str) -> Result<usize, RoutingError> {
    table.find(host, path, &method.parse().unwrap()).map(|route| route.action.upstream().unwrap())
}

#[test]
fn a_prefix_matches_whole_segments_only() {
    let table = table(&[("", "/public", &[])]);
    for path in ["/public", "/public/", "/public/x/y"] {
        assert_eq!(find(&table, "GET", "a", path), Ok(0), "{path}");
    }
    for path in ["/", "/publicx", "/publi", "/x/public", "/Public"] {
        assert_eq!(find(&table, "GET", "a", path), Err(RoutingError::NotFound), "{path}");
    }
}

#[test]
fn the_most_specific_path_wins() {
    let table = table(&[
        ("", "/", &[]),
        ("", "/users", &[]),
        ("", "/users/{id}", &[]),
        ("", "/users/me", &[]),
        ("", "=/users/me", &[]),
        ("", "=/users/{id}/orders", &[]),
        ("", "=/", &[]),
        ("", "=/users/", &[]),
    ]);
    for (path, route) in [
        ("/x", 0),
        ("/", 6),
        ("/users", 1),
        ("/users/", 7),
        ("/users/7", 2),
        ("/users/7/x", 2),
        ("/users/me", 4),
        ("/users/me/x", 3),
        ("/users/7/orders", 5),
        ("/users/me/orders", 5),
        ("/users/7/orders/1", 2),
    ] {
        assert_eq!(find(&table, "GET", "a", path), Ok(route), "{path}");
    }
}

#[test]
fn the_most_specific_host_wins_and_others_are_fallen_back_to() {
    let table = table(&[
        ("", "/a", &[]),
        ("*.example.com", "/", &[]),
        ("*.eu.example.com", "/", &[]),
        ("api.example.com", "/b", &[]),
    ]);
    assert_eq!(find(&table, "GET", "api.example.com", "/b"), Ok(3));
    assert_eq!(find(&table, "GET", "api.example.com", "/a"), Ok(1));
    assert_eq!(find(&table, "GET", "x.eu.example.com", "/a"), Ok(2));
    assert_eq!(find(&table, "GET", "example.com", "/a"), Ok(0));
    assert_eq!(find(&table, "GET", "example.com", "/b"), Err(RoutingError::NotFound));
    assert_eq!(find(&table, "GET", "notexample.com", "/c"), Err(RoutingError::NotFound));
}

#[test]
fn methods_decide_last_and_are_named_when_none_fits() {
    let table =
        table(&[("", "/a", &["GET", "POST"]), ("", "/a", &[]), ("", "/b", &["GET"]), ("", "/b", &["PUT"])]);
    assert_eq!(find(&table, "POST", "h", "/a"), Ok(0));
    assert_eq!(find(&table, "HEAD", "h", "/a"), Ok(0), "GET includes HEAD");
    assert_eq!(find(&table, "DELETE", "h", "/a"), Ok(1));
    assert_eq!(
        find(&table, "DELETE", "h", "/b"),
        Err(RoutingError::MethodNotAllowed(vec![Method::GET, Method::HEAD, Method::PUT]))
    );
}

/// The rule as it is written, without a tree: the least of all matches in the order of precedence.
fn oracle(stated: &[Stated], host: &str, path: &str) -> Option<usize> {
    let inner = path.strip_prefix('/').unwrap_or(path);
    let segments: Vec<&str> = if inner.is_empty() { Vec::new() } else { inner.split('/').collect() };
    let matches = |route: &Naive| {
        let host_fits = match &route.host {
            HostPattern::Exact(name) => name.as_ref() == host,
            HostPattern::Suffix(suffix) => host.ends_with(suffix.as_ref()) && host.len() > suffix.len(),
            HostPattern::Any => true,
        };
        let length_fits = match route.path.end {
            PathEnd::Exact => route.path.segments.len() == segments.len(),
            PathEnd::Prefix => route.path.segments.len() <= segments.len(),
        };
        let each = route.path.segments.iter().zip(&segments).all(|(pattern, segment)| match pattern {
            Segment::Literal(text) => text.as_ref() == *segment,
            Segment::Parameter(_) => !segment.is_empty(),
        });
        host_fits && length_fits && each
    };
    let rank = |route: &Naive| {
        let host = match &route.host {
            HostPattern::Exact(_) => (0, 0),
            HostPattern::Suffix(suffix) => (1, usize::MAX - suffix.len()),
            HostPattern::Any => (2, 0),
        };
        let kinds: Vec<bool> =
            route.path.segments.iter().map(|segment| matches!(segment, Segment::Parameter(_))).collect();
        (host, usize::MAX - kinds.len(), kinds, route.path.end)
    };
    let routes: Vec<Naive> = stated.iter().map(naive).collect();
    (0..routes.len()).filter(|&index| matches(&routes[index])).min_by_key(|&index| rank(&routes[index]))
}

const STATED: &[Stated] = &[
    ("", "/", &[]),
    ("", "/a", &[]),
    ("", "/{x}/b", &[]),
    ("", "=/a/b", &[]),
    ("", "/a/{y}", &[]),
    ("", "/{x}/{y}/{z}", &[]),
    ("", "=/{x}", &[]),
    ("*.h", "/a/b", &[]),
    ("*.h", "=/{x}/c", &[]),
    ("a.h", "/b", &[]),
    ("a.h", "/{x}/b", &[]),
    ("*.a.h", "/b/{x}/a", &[]),
];

/// What a path may become at an upstream: with any of these done to it, in this order.
fn readings(path: &str) -> Vec<String> {
    let decode = |text: &str| {
        let mut segments = text.split('/').map(|segment| crate::base::path::decoded(segment).into_owned());
        let first = segments.next().unwrap_or_default();
        segments.fold(first, |text, segment| text + "/" + &segment)
    };
    let steps: [&dyn Fn(&str) -> String; 8] = [
        &|text| text.split('?').next().unwrap_or_default().to_owned(),
        &decode,
        &decode,
        &|text| text.replace('\\', "/"),
        &|text| {
            text.split('/')
                .map(|part| part.split(';').next().unwrap_or_default())
                .collect::<Vec<_>>()
                .join("/")
        },
        &|text| {
            let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty()).collect();
            format!("/{}", parts.join("/"))
        },
        &|text| {
            let mut parts = Vec::new();
            for part in text.split('/') {
                match part {
                    "." => {}
                    ".." => drop(parts.pop()),
                    other => parts.push(other),
                }
            }
            parts.join("/")
        },
        &|text| text.to_lowercase(),
    ];
    let mut all = vec![path.to_owned()];
    for step in steps {
        let more: Vec<String> = all.iter().map(|reading| step(reading)).collect();
        all.extend(more);
        all.sort_unstable();
        all.dedup();
    }
    all
}

/// Whether a reading lies in this place, by whole segments.
fn lies_in(reading: &str, place: &str) -> bool {
    reading.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A public place, and what is not public in it.
const PROTECTED: [&str; 4] = ["/public/admin", "/public/a!b", "/public/users:delete", "/public/caf\u{e9} x"];

fn guarded() -> RouteTable {
    table(&[
        ("", "/", &[]),
        ("", "/public", &[]),
        ("", "/public/admin", &[]),
        ("", "/public/a!b", &[]),
        ("", "/public/users%3Adelete", &[]),
        ("", "/public/caf%c3%a9%20x", &[]),
    ])
}

#[test]
fn escapes_do_not_lead_past_a_route() {
    for (path, route) in [
        ("/public/a!b", 3),
        ("/public/a%21b", 3),
        ("/public/%61%21%62/x", 3),
        ("/public/users:delete", 4),
        ("/public/users%3Adelete", 4),
        ("/public/users%3adelete", 4),
        ("/public/caf%C3%A9%20x", 5),
        ("/public/c%61f%c3%A9%20x", 5),
        ("/public/a%2521b", usize::MAX),
        ("/public/a%24b", 1),
    ] {
        let found = crate::base::path::normalise(path).ok();
        let found = found.and_then(|normal| find(&guarded(), "GET", "h", &normal).ok());
        assert_eq!(found.unwrap_or(usize::MAX), route, "{path}");
    }
}

proptest! {
    #[test]
    fn no_reading_of_a_public_path_is_a_protected_one(pieces in prop::collection::vec(prop::sample::select(vec![
        "/", "/", "/public", "/PUBLIC", "public", "admin", "/admin", "a", "!", "b", "%21", "%61", "users", ":", "%3a",
        "delete", "caf", "%c3%a9", "%C3%A9", "%20", "x", ".", "..", "/..", "%2e", "%2E%2e", "%252e", ";", "%3b", "\\",
        "%5c", "%2f", "%25", "%2525", "?", "%3f", "%23", "~", "%7e",
    ]), 0..8)) {
        let path = format!("/public/{}", pieces.concat());
        let (path, _query) = path.split_once('?').unwrap_or((&path, ""));
        if let Ok(normal) = crate::base::path::normalise(path)
            && find(&guarded(), "GET", "h", &normal) == Ok(1)
        {
            for reading in readings(&format!("{normal}?q")) {
                prop_assert!(lies_in(reading.split('?').next().unwrap(), "/public"), "{} is {}", path, reading);
                // A server that does not tell upper from lower case has other paths than its routes say.
                let same_case = !path.bytes().any(|byte| byte.is_ascii_uppercase());
                for place in PROTECTED.iter().filter(|_| same_case) {
                    prop_assert!(!lies_in(&reading, place), "{} is {}", path, reading);
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn the_tree_agrees_with_the_rule(
        host in prop::sample::select(vec!["h", "a.h", "b.h", "b.a.h", "x"]),
        segments in prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 0..5),
        slash in any::<bool>(),
    ) {
        let mut path = format!("/{}", segments.join("/"));
        if slash && !segments.is_empty() {
            path.push('/');
        }
        let table = table(STATED);
        prop_assert_eq!(find(&table, "GET", host, &path).ok(), oracle(STATED, host, &path));
    }
}

/// The table of some routes, each with its lines, in the order of their upstreams.
fn configured(routes: &[&str]) -> RouteTable {
    let mut text = "[upstreams.api]\ntargets = [\"http://127.0.0.1:9\"]\n".to_owned();
    for route in routes {
        text.extend(["[[routes]]\nauth = \"public\"\nupstream = \"api\"\n", route, "\n"]);
    }
    let config = parse(&text, "gateway.toml", std::path::Path::new(""), &Environment::default());
    RouteTable::new(&config.unwrap_or_else(|failure| panic!("{failure}")))
}

/// The number of the route, counted from 1, that a request with these fields takes.
fn taken(table: &RouteTable, method: &str, path: &str, fields: &[(&'static str, &'static str)]) -> usize {
    let mut headers = FieldList::new();
    for (name, value) in fields {
        headers.append(http::HeaderName::from_static(name), http::HeaderValue::from_static(value));
    }
    let route = table.find_with("h", path, &method.parse().unwrap(), &headers);
    route.map_or(0, |route| route.name.strip_prefix("route-").unwrap().parse().unwrap())
}

#[test]
fn conditions_decide_after_methods_and_the_most_specific_of_them_wins() {
    let table = configured(&[
        "path = '/'",
        "path = '/a'",
        "path = '/a'\nheaders = { X-Version = '2' }",
        "path = '/a'\nheaders = { X-Version = '*' }",
        "path = '/a'\nheaders = { X-Version = '2', X-Beta = '*' }",
        "path = '/a'\nmethods = ['GET']",
        "path = '/b'\nheaders = { X-Version = '2' }",
        "path = '=/c'\nmethods = ['PUT']\nheaders = { X-Version = '2' }",
        "path = '=/c'\nmethods = ['POST']",
    ]);
    let (two, beta) = (("x-version", "2"), ("x-beta", ""));
    for (method, path, fields, route) in [
        ("PUT", "/a", &[][..], 2),
        ("PUT", "/a", &[two][..], 3),
        ("PUT", "/a/b", &[("x-version", "3")], 4),
        ("PUT", "/a", &[two, beta], 5),
        ("PUT", "/a", &[beta], 2),
        // A value that comes twice is no exact one, whatever the second is.
        ("PUT", "/a", &[two, two], 4),
        ("PUT", "/a", &[two, ("x-version", "3")], 4),
        // Who names the method comes before who asks for a field.
        ("GET", "/a", &[two, beta], 6),
        ("HEAD", "/a", &[two], 6),
        ("PUT", "/b", &[two], 7),
        ("PUT", "/b", &[("x-version", "02")], 1),
        ("PUT", "/b", &[], 1),
        ("PUT", "/c", &[two], 8),
        ("PUT", "/c", &[], 1),
    ] {
        assert_eq!(taken(&table, method, path, fields), route, "{method} {path} {fields:?}");
    }
    let table = configured(&[
        "path = '=/c'\nmethods = ['PUT']\nheaders = { X-Version = '2' }",
        "path = '=/c'\nmethods = ['POST']",
        "path = '=/d'\nheaders = { X-Version = '2' }",
    ]);
    let find = |path: &str| table.find("h", path, &Method::PUT).map(|route| route.name.clone());
    // A method that is there for other requests only is not told.
    assert_eq!(find("/c"), Err(RoutingError::MethodNotAllowed(vec![Method::POST])));
    assert_eq!(find("/d"), Err(RoutingError::NotFound));
}

/// A legacy place, and what lies in it that is not for everybody.
fn legacy() -> RouteTable {
    let all = "accept = ['encoded_slash', 'semicolon', 'empty_segment']";
    configured(&[
        "path = '/'",
        &format!("path = '/old'\n{all}"),
        "path = '/old/admin'",
        "path = '/old/{id}/secret'",
        "path = '/slashes'\naccept = ['encoded_slash']",
        "path = '/slashes/{id}/own'\naccept = ['encoded_slash']",
        &format!("path = '=/exact/{{id}}'\n{all}"),
        &format!("path = '/api'\n{all}"),
    ])
}

/// The number of the route that a path takes as a client writes it; 0 when it is refused.
fn taken_by_odd(table: &RouteTable, path: &str) -> usize {
    let Ok((_, oddities)) = normalise_allowing(path, table.accepted()) else { return 0 };
    let Ok(path) = NormalPath::allowing(path.parse().unwrap(), table.accepted()) else { return 0 };
    let asked = Asked { method: &Method::GET, headers: &FieldList::new() };
    let index = match oddities.fault() {
        None => table.position("h", path.path(), asked),
        Some(fault) => table.position_of_odd("h", &path, asked, fault),
    };
    index.map_or(0, |index| index + 1)
}

#[test]
fn what_is_odd_is_accepted_only_where_every_reading_is_of_one_route() {
    for (path, route) in [
        ("/old/a%2fb", 2),
        ("/old/a%2Fb;v=1//c", 2),
        ("/old/a;admin", 2),
        ("/old/a;x=%2Fadmin", 2),
        ("/old//a", 2),
        ("/old/a//", 2),
        ("/slashes/a%2Fb", 5),
        // Somebody may read another route's path.
        ("/old/admin;x", 0),
        ("/old%2fadmin", 0),
        ("/old/%2fadmin", 0),
        ("/old//admin", 0),
        ("/old/;/admin", 0),
        ("/old/x;/admin", 2),
        ("/old;x/a", 0),
        ("/old/admin%3bx", 0),
        ("/old/7%2fsecret", 0),
        ("/old/7;x/secret", 0),
        ("/old/7//secret", 0),
        ("/old/7/secret;x", 0),
        ("/slashes/a%2Fown", 0),
        ("/slashes/a/own/b%2Fc", 6),
        ("/exact/a%2Fb", 0),
        ("/exact/a;b", 7),
        // Dots are never accepted, however they are cut off from what stands beside them.
        ("/old/..;/a", 0),
        ("/old/a/..%2fadmin", 0),
        ("/old/.;x/a", 0),
        ("/old/%2e%2e%2fa", 0),
        ("/old/a\u{5c}b", 0),
        ("/old/a%5cb", 0),
        ("/old/a%252fb", 0),
        // What a route accepts it accepts for itself.
        ("/a;b", 0),
        ("/a%2Fb", 0),
        ("//a", 0),
        ("//old/a", 0),
        ("/;/old/a", 0),
        ("/%2Fold/a", 0),
        ("/slashes/a;b", 0),
        ("/slashes//b", 0),
        // The token routes stand before all others.
        ("/api/x;y", 8),
        ("/api/token;x", 0),
        ("/api%2Ftoken", 0),
        ("/api//token/refresh", 0),
    ] {
        assert_eq!(taken_by_odd(&legacy(), path), route, "{path}");
    }
}

proptest! {
    /// Whatever is done to a path that an accepting route takes, it stays a path of that route.
    #[test]
    fn no_reading_of_an_accepted_path_is_another_routes(pieces in prop::collection::vec(prop::sample::select(vec![
        "/", "/", "/old", "old", "admin", "/admin", "secret", "/secret", "7", "a", ";", "%3b", "%2f", "%2F", "..", ".", "%2e",
        "//", "%25", "%5c", ";x=", "%252f", "/slashes", "own", "exact", "api", "token",
    ]), 0..9)) {
        let path = format!("/{}", pieces.concat());
        let table = legacy();
        let route = taken_by_odd(&table, &path);
        if let Ok((normal, oddities)) = normalise_allowing(&path, table.accepted()) && route != 0 {
            // What is forwarded is what was decided about.
            let again = normalise_allowing(&normal, table.accepted()).unwrap();
            prop_assert_eq!(&*again.0, &*normal);
            prop_assert_eq!(taken_by_odd(&table, &normal), route);
            // A path that is not odd takes its route as it stands: with a slash at its end it is not an exact one.
            for reading in readings(&normal).into_iter().filter(|_| !oddities.is_empty()) {
                if reading.starts_with('/') {
                    let name = table.find("h", &reading, &Method::GET).map(|route| route.name.to_string());
                    prop_assert_eq!(name, Ok(format!("route-{route}")), "{} read as {}", path, reading);
                }
            }
        }
    }
}

#[test]
fn without_a_route_that_accepts_something_nothing_odd_is_taken_in() {
    let table = configured(&["path = '/'"]);
    assert!(table.accepted().is_empty());
    assert!(legacy().accepted().has(Oddity::Semicolon));
}
