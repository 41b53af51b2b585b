//! Configurations: any text loads or is refused with places, and no value of the environment is told.

use std::path::Path;
use std::sync::LazyLock;

use http::Method;
use tollgate::base::path::escaped;
use tollgate::base::pattern::{HostPattern, PathEnd, Segment};
use tollgate::config::{self, Config, Environment, Failure, Route};
use tollgate::routing::RouteTable;

use super::stack::contains;

/// A value of the environment that nobody may read in a message.
const CANARY: &str = "canary-8d1f6a0c52b94e7fb3a1";

static ENVIRONMENT: LazyLock<Environment> = LazyLock::new(|| {
    Environment::from_pairs([("SECRET", CANARY), ("PORT", "9000"), ("EMPTY", ""), ("HOST", "gw.test")])
});

/// Takes the bytes as the text of a file.
pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match config::parse(text, "gateway.toml", Path::new("/srv"), &ENVIRONMENT) {
        Ok(config) => check_loaded(&config),
        Err(failure) => check_failure(text, &failure),
    }
}

fn check_failure(text: &str, failure: &Failure) {
    let shown = failure.to_string();
    // The fuzzer sees what is compared, and may have written it into the file by itself.
    let is_guessed = CANARY.as_bytes().windows(6).any(|part| contains(text.as_bytes(), part));
    assert!(is_guessed || !shown.contains(CANARY), "a message tells a value of the environment:\n{shown}");
    let deceives = |letter: char| letter.is_control() && letter != '\n';
    assert!(!shown.contains(deceives), "a message holds control characters: {shown:?}");
    let lines: Vec<&str> = text.split('\n').collect();
    assert!(!failure.problems().is_empty(), "something is wrong, and it has a place");
    let mut before = (0, 0);
    for problem in failure.problems() {
        let line = lines.get(problem.line - 1).expect("the line is one of the file");
        assert!((1..=line.chars().count() + 1).contains(&problem.column), "the column is one of the line");
        assert!(!problem.message.is_empty() && !problem.message.contains('\n'), "{:?}", problem.message);
        assert!(shown.contains(&format!("gateway.toml:{}:{}: ", problem.line, problem.column)));
        assert!(before <= (problem.line, problem.column), "problems are in the order of the file");
        before = (problem.line, problem.column);
    }
}

fn check_loaded(config: &Config) {
    assert!(!format!("{config:?}").is_empty());
    assert!(!config.server.listen.is_empty() && !config.upstreams.is_empty() && !config.routes.is_empty());
    let table = RouteTable::new(config);
    for route in &config.routes {
        let upstream = route.action.upstream();
        assert!(
            upstream.is_none_or(|upstream| upstream < config.upstreams.len()),
            "{} has an upstream",
            route.name
        );
        let (host, path, method) = request_for(route);
        let found = table.find(&host, &path, &method);
        if !route.headers.is_empty() {
            continue;
        }
        assert!(found.is_ok(), "nothing is found for {method} {host}{path}, for which {} is", route.name);
    }
}

/// A request that this route is for, though another may be nearer.
fn request_for(route: &Route) -> (String, String, Method) {
    let host = match &route.host {
        HostPattern::Exact(name) => name.to_string(),
        HostPattern::Suffix(suffix) => format!("a{suffix}"),
        HostPattern::Any => "any.invalid".to_owned(),
    };
    let segments = route.path.segments.iter().map(|segment| match segment {
        Segment::Literal(text) => escaped(text),
        Segment::Parameter(name) => format!("a-{name}"),
    });
    let mut path = format!("/{}", segments.collect::<Vec<_>>().join("/"));
    if route.path.end == PathEnd::Prefix && path != "/" {
        path.push_str("/below");
    }
    let method = route.methods.as_ref().and_then(|methods| methods.first());
    let method = method.map_or(Method::GET, |name| name.parse().expect("a method"));
    (host, path, method)
}
