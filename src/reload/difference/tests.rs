use std::path::Path;

use super::*;
use crate::config::{Environment, parse};

const BASE: &str = r#"
[upstreams.api]
targets = ["http://a:1", "http://b:1"]
[upstreams.other]
targets = ["http://c:1"]
[limits.slow]
key = "user"
rate = "1/s"
[[routes]]
path = "/billing"
auth = "required"
upstream = "api"
limit = "slow"
[[routes]]
name = "docs"
host = "*.example.com"
path = "=/docs/{page}"
methods = ["GET"]
auth = "public"
upstream = "other"
"#;

fn parsed(text: &str) -> Config {
    let parsed = parse(text, "gateway.toml", Path::new(""), &Environment::default());
    parsed.unwrap_or_else(|failure| panic!("{failure}"))
}

/// What changes when the first text stands for the second one in the file.
fn told(replaced: &str, by: &str) -> Vec<String> {
    assert!(BASE.contains(replaced), "{replaced}");
    let (before, after) = (parsed(BASE), parsed(&BASE.replacen(replaced, by, 1)));
    let side = |config| Side { config, ring: None };
    between(side(&before), side(&after)).iter().map(ToString::to_string).collect()
}

#[test]
fn nothing_is_said_of_what_is_the_same() {
    assert_eq!(told("\n", "\n# a comment\n"), Vec::<String>::new());
    let first = "[[routes]]\nname = \"docs\"\nhost = \"*.example.com\"\npath = \"=/docs/{page}\"\nmethods = [\"GET\"]\nauth = \"public\"\nupstream = \"other\"\n";
    let turned = BASE.replace(first, "").replacen("[[routes]]", &format!("{first}[[routes]]"), 1);
    let (before, after) = (parsed(BASE), parsed(&turned));
    let side = |config| Side { config, ring: None };
    assert_eq!(between(side(&before), side(&after)), [], "the order of the file does not matter");
}

#[test]
fn routes_are_told_by_what_they_take() {
    let with = |path: &str, auth: &str| {
        format!(
            "[[routes]]\npath = \"{path}\"\nauth = \"{auth}\"\nupstream = \"api\"\n[[routes]]\nname = \"docs\""
        )
    };
    let docs = "[[routes]]\nname = \"docs\"";
    assert_eq!(told(docs, &with("/export", "public")), ["1 route added: /export becomes PUBLIC"]);
    assert_eq!(told(docs, &with("/export", "optional")), ["1 route added: /export asks for no token"]);
    assert_eq!(told(docs, &with("/export", "required")), ["1 route added: /export needs a token"]);
    assert_eq!(
        told("auth = \"required\"", "auth = \"public\""),
        ["route /billing becomes PUBLIC (a token was required)"]
    );
    assert_eq!(
        told("auth = \"public\"", "auth = \"required\""),
        ["route GET *.example.com=/docs/{page} needs a token (it was PUBLIC)"]
    );
    assert_eq!(
        told("\"/billing\"", "\"/bills\""),
        ["1 route added: /bills needs a token", "1 route removed: /billing"]
            .map(str::to_owned)
            .into_iter()
            .rev()
            .collect::<Vec<_>>()
    );
    assert_eq!(
        told("=/docs/{page}", "/docs"),
        ["route GET *.example.com/docs takes other requests (was GET *.example.com=/docs/{page})"]
    );
    assert_eq!(
        told("upstream = \"api\"", "upstream = \"other\""),
        ["route /billing goes to upstream other (was api)"]
    );
    assert_eq!(told("limit = \"slow\"", ""), ["route /billing has the limits none (was slow)"]);
    assert_eq!(
        told("limit = \"slow\"", "limit = \"slow\"\nmax_body = \"1B\""),
        ["route /billing: other settings change"]
    );
}

#[test]
fn who_may_use_a_route_is_told() {
    let route = "auth = \"required\"";
    let allow = format!("{route}\nallow = {{ groups = [\"staff\"] }}");
    assert_eq!(told(route, &allow), ["route /billing: who may use it changes"]);
    let reports = format!("{allow}\nenforce = \"report\"");
    assert_eq!(
        told(route, &reports),
        [
            "route /billing: who may use it changes",
            "route /billing REPORTS what it would refuse, and lets it pass"
        ]
    );
}

#[test]
fn what_matters_most_comes_first_and_many_are_counted() {
    let many: Vec<String> = (0..25)
        .map(|number| format!("[[routes]]\npath = \"/r{number}\"\nauth = \"public\"\nupstream = \"api\"\n"))
        .collect();
    let many = many.concat();
    let text =
        format!("server.drain_timeout = \"1s\"\ntokens.issuer = \"me\"\nlog.level = \"debug\"\n{BASE}{many}");
    let (before, after) = (parsed(BASE), parsed(&text));
    let side = |config| Side { config, ring: None };
    let told: Vec<String> = between(side(&before), side(&after)).iter().map(ToString::to_string).collect();
    assert!(
        told[0].starts_with("25 routes added: /r0, /r1, ") && told[0].ends_with(", and 5 more become PUBLIC"),
        "{told:?}"
    );
    assert_eq!(told[1..], ["tokens.issuer changes", "server.drain_timeout changes", "log changes"]);
}

#[test]
fn upstreams_and_limits_are_told_by_name() {
    assert_eq!(
        told("\"http://b:1\"", "\"http://d:1\""),
        ["upstream api has the new target http://d:1", "upstream api loses the target http://b:1"]
    );
    assert_eq!(
        told("[\"http://c:1\"]", "[\"http://c:1\"]\nretries = 3"),
        ["upstream other: settings change"]
    );
    assert_eq!(
        told("[\"http://c:1\"]", "[\"http://c:1\"]\nidentity = \"none\""),
        ["upstream other: identity changes"]
    );
    assert_eq!(
        told("rate = \"1/s\"", "rate = [\"2/s\", \"100/h\"]"),
        ["limit slow becomes 2/s, 100/h (was 1/s), and counts from nothing"]
    );
    assert_eq!(
        told("rate = \"1/s\"", "rate = \"1/s\"\nburst = 5"),
        ["limit slow: settings change, and it counts from nothing"]
    );
    let shared = "rate = \"1/s\"\nscope = \"cluster\"\n[limits_store]\nurl = \"redis://a\"";
    assert_eq!(
        told("rate = \"1/s\"", shared),
        ["limit slow becomes 1/s at all gateways together (was 1/s), and counts from nothing"]
    );
}

#[test]
fn whose_word_is_taken_is_told() {
    let top = |line: &str| told("\n", &format!("\n{line}\n"));
    assert_eq!(
        top("server.trusted_proxies = [\"10.0.0.0/8\"]"),
        ["server.trusted_proxies: 10.0.0.0/8 is believed as a proxy"]
    );
    assert_eq!(top("tokens.rotate_refresh = true"), ["tokens.rotate_refresh becomes true (was false)"]);
    assert_eq!(top("users.lockout.attempts = 3"), ["users.lockout changes"]);
    assert_eq!(top("server.limits.max_body = \"1B\""), ["server.limits.max_body changes"]);
    assert_eq!(top("server.watch_config = false"), ["server: settings change"]);
}
