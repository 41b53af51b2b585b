use std::path::Path;

use insta::assert_snapshot;

use super::*;
use crate::config::{Config, Environment, Failure, parse};

fn parsed(lines: &str) -> Result<Config, Failure> {
    parsed_with("", lines)
}

fn parsed_with(before: &str, lines: &str) -> Result<Config, Failure> {
    let text = format!(
        "{before}\n[upstreams.api]\ntargets = [\"http://127.0.0.1:9000\"]\n{lines}\n\
         [[routes]]\npath = \"/\"\nauth = \"required\"\nupstream = \"api\"\n"
    );
    let environment = Environment::from_pairs([("KEY", "swordfish in a variable"), ("EMPTY", "")]);
    parse(&text, "gateway.toml", Path::new("/nowhere"), &environment)
}

fn identity(lines: &str) -> Identity {
    let config = parsed(lines).unwrap_or_else(|failure| panic!("{failure}"));
    config.upstreams[0].identity.clone()
}

fn told(lines: &str) -> String {
    parsed(lines).unwrap_err().to_string()
}

fn names(identity: &Identity) -> Vec<&str> {
    identity.names().map(HeaderName::as_str).collect()
}

#[test]
fn a_table_says_what_headers_hold() {
    let identity = identity(
        r#"identity = { "X-Account" = "claim:account.id", "Remote-User" = "user:name", "X-Roles" = "claim:https://example.com/roles" }"#,
    );
    assert_eq!(names(&identity), ["remote-user", "x-account", "x-roles"]);
    assert_eq!(identity.headers[0].source, IdentitySource::User(Attribute::Name));
    let path = |text| IdentitySource::Claim(ClaimPath::parse(text).unwrap());
    assert_eq!(identity.headers[1].source, path("account.id"));
    assert_eq!(identity.headers[2].source, path("https://example.com/roles"));
}

#[test]
fn everything_else_that_an_upstream_is_told_has_a_default() {
    let usual = identity("");
    assert_eq!(usual, identity("identity = \"default\"\nassertion = false\nforward_token = false"));
    assert_eq!((usual.encoding, usual.max_bytes), (IdentityEncoding::Utf8, 8192));
    assert!(names(&identity("identity = \"none\"")).is_empty());
    let stated = identity("assertion = true\nidentity_encoding = \"percent\"\nidentity_max_bytes = \"4KiB\"");
    assert_eq!((stated.encoding, stated.max_bytes), (IdentityEncoding::Percent, 4096));
    let assertion = Assertion { audience: "api".to_owned(), lifetime: Duration::from_secs(30) };
    assert_eq!(stated.assertion, Some(assertion));
    let assertion = identity("assertion = { audience = \"billing\", lifetime = \"2m\" }").assertion;
    let expected = Assertion { audience: "billing".to_owned(), lifetime: Duration::from_mins(2) };
    assert_eq!(assertion, Some(expected));
    assert!(identity("forward_token = true").forward_token);
}

#[test]
fn credentials_become_a_header_that_does_not_print_itself() {
    for (lines, name, value) in [
        (
            "{ basic = { username = \"gateway\", password = \"p:w\" } }",
            "authorization",
            "Basic Z2F0ZXdheTpwOnc=",
        ),
        ("{ bearer = \"swordfish\" }", "authorization", "Bearer swordfish"),
        ("{ header = \"X-Api-Key\", value_env = \"KEY\" }", "x-api-key", "swordfish in a variable"),
        ("{ header = \"Authorization\", value = \"Token abc\" }", "authorization", "Token abc"),
    ] {
        let identity = identity(&format!("credentials = {lines}"));
        let credentials = identity.credentials.clone().unwrap();
        assert_eq!((credentials.name.as_str(), credentials.value.to_str().unwrap()), (name, value));
        let shown = format!("{identity:?}");
        assert!(!shown.contains(value) && !shown.contains("swordfish"), "{shown}");
    }
}

#[test]
fn what_is_wrong_with_identity_is_told_at_once() {
    assert_snapshot!(told(r#"identity = { "X-Account" = "claim:", "X_Account" = "user:id", "x-account" = "user:name", "Cookie" = "user:id", "X-Tollgate-Assertion" = "user:id", "X-Mail" = "user:mail", "X-Fixed" = "yes", "authorization" = "user:id" }
identity_encoding = "utf-8"
identity_max_bytes = "1MiB"
assertion = { audience = "", lifetime = "1s", life = "2s" }"#), @"");
    assert_snapshot!(told("identity = {}\nassertion = \"yes\""), @"");
    assert_snapshot!(told("identity = \"user:id\""), @"");
}

#[test]
fn a_secret_cannot_sign_what_others_verify() {
    let keys = "[[tokens.keys]]\nalg = \"HS256\"\nsecret = \"0123456789abcdef0123456789abcdef\"";
    assert_snapshot!(parsed_with(keys, "assertion = true").unwrap_err().to_string(), @"");
    assert!(parsed_with(keys, "assertion = false").is_ok());
}

#[test]
fn a_header_has_one_meaning() {
    let tls = r#"
[tls.client_auth]
ca = "ca.pem"
headers = { "Remote_User" = "subject_cn", "X-Key" = "serial" }
[[tls.certificates]]
hosts = ["a.test"]
cert = "a.pem"
key = "a.key"
"#;
    assert!(parsed_with(tls, "").is_ok());
    for lines in ["identity = \"remote-user\"", "credentials = { header = \"x.key\", value = \"k\" }"] {
        let failure = parsed_with(tls, lines).unwrap_err();
        let [problem] = failure.problems() else { panic!("{failure}") };
        assert!(problem.message.ends_with("is there already in [tls.client_auth]"), "{failure}");
    }
    let both = "forward_token = true\ncredentials = { bearer = \"swordfish\" }";
    assert!(told(both).contains("\"forward_token\" and \"credentials\" both set Authorization"));
    let other = "forward_token = true\ncredentials = { header = \"X-Key\", value = \"swordfish\" }";
    assert!(parsed(other).is_ok());
    let same = r#"identity = { "X-Key" = "user:id" }
credentials = { header = "x_key", value = "swordfish" }"#;
    assert!(told(same).contains("the header \"x_key\" already tells of users"), "{}", told(same));
}

#[test]
fn credentials_that_cannot_be_used_are_refused_without_being_told() {
    for (lines, message) in [
        ("{}", "\"credentials\" holds none"),
        (
            "{ basic = { username = \"a\", password = \"hunter2\" }, bearer = \"hunter2\" }",
            "\"credentials\" has both \"basic\" and \"bearer\"",
        ),
        ("{ bearer = \"hunter2\", bearer_env = \"KEY\" }", "there is both \"bearer\" and \"bearer_env\""),
        ("{ basic = { username = \"a\" } }", "\"basic\" has no password"),
        (
            "{ basic = { username = \"a:b\", password = \"hunter2\" } }",
            "this cannot be a user name of HTTP Basic",
        ),
        (
            "{ basic = { username = \"a\", password = \"hunter2\\n\" } }",
            "this cannot be a password of HTTP Basic",
        ),
        ("{ bearer = \"Bearer hunter2\" }", "a bearer token has no blanks"),
        ("{ bearer = \"\" }", "the token does not fit a header"),
        ("{ header = \"X-Key\" }", "\"header\" has no value"),
        ("{ header = \"X-Key\", value = \" hunter2\" }", "the value does not fit a header"),
        ("{ header = \"X-Key\", value = \"hunter2\\r\\nx: y\" }", "the value does not fit a header"),
        ("{ header = \"Host\", value = \"hunter2\" }", "\"Host\" cannot be such a header"),
        (
            "{ header = \"X-Key\", value_file = \"hunter2\" }",
            "the secret file cannot be read: No such file or directory (os error 2)",
        ),
        (
            "{ header = \"X-Key\", value_env = \"hunter-2\" }",
            "\"value_env\" is not the name of an environment variable",
        ),
        ("{ header = \"X-Key\", valu = \"hunter2\" }", "unknown key \"valu\" in [upstreams.api.credentials]"),
        ("\"hunter2\"", "\"credentials\" must be a table, not a string"),
    ] {
        let failure = parsed(&format!("credentials = {lines}")).unwrap_err();
        assert!(failure.problems().iter().any(|problem| problem.message == message), "{lines}\n{failure}");
        assert!(!failure.to_string().contains("hunter"), "{failure}");
    }
    let misspelt = told("credental = { header = \"X-Key\", value = \"hunter2\" }");
    assert!(!misspelt.contains("hunter2"), "{misspelt}");
}
