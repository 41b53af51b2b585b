#![expect(clippy::too_many_lines, reason = "a snapshot is as long as what it shows")]

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
assertion = { audience = "", lifetime = "1s", life = "2s" }"#), @r##"
    gateway.toml:4:28: "" is not the name of a claim
      |
    4 | identity = { "X-Account" = "claim:", "X_Account" = "user:id", "x-account" = "user:name", "Cookie" = "user:id", "X-Tollga…
      |                            ^^^^^^^^
      = help: write "claim:account_id", "claim:account.id" for a member of an object, or a URL, which is one name

    gateway.toml:4:77: the header "x-account" is there already as "x_account"
      |
    4 | … "X_Account" = "user:id", "x-account" = "user:name", "Cookie" = "user:id", "X-Tollgate-Assertion" = "user:id", "X-Mail" …
      |                                          ^^^^^^^^^^^
      = help: to many servers all names are the same that differ only in case, "-" and "_"

    gateway.toml:4:101: "Cookie" cannot be such a header
      |
    4 | …, "x-account" = "user:name", "Cookie" = "user:id", "X-Tollgate-Assertion" = "user:id", "X-Mail" = "user:mail", "X-Fixed"…
      |                                          ^^^^^^^^^
      = help: the gateway or HTTP itself gives this header another meaning; take a name such as "X-Account"

    gateway.toml:4:137: "X-Tollgate-Assertion" cannot be such a header
      |
    4 | …" = "user:id", "X-Tollgate-Assertion" = "user:id", "X-Mail" = "user:mail", "X-Fixed" = "yes", "authorization" = "user:id…
      |                                          ^^^^^^^^^
      = help: the gateway or HTTP itself gives this header another meaning; take a name such as "X-Account"

    gateway.toml:4:159: "user:mail" is nothing that a header can say
      |
    4 | …gate-Assertion" = "user:id", "X-Mail" = "user:mail", "X-Fixed" = "yes", "authorization" = "user:id" }
      |                                          ^^^^^^^^^^^
      = help: did you mean "user:email"?

    gateway.toml:4:184: "yes" is nothing that a header can say
      |
    4 | …d", "X-Mail" = "user:mail", "X-Fixed" = "yes", "authorization" = "user:id" }
      |                                          ^^^^^
      = help: write "user:id", "user:name", "user:email", "user:groups", or "claim:" and the name of a claim

    gateway.toml:4:209: "Authorization" says nothing of users
      |
    4 | …", "X-Fixed" = "yes", "authorization" = "user:id" }
      |                                          ^^^^^^^^^
      = help: "forward_token" passes the client's on, "credentials" sets the gateway's own

    gateway.toml:5:21: unknown value "utf-8"
      |
    5 | identity_encoding = "utf-8"
      |                     ^^^^^^^
      = help: did you mean "utf8"?

    gateway.toml:6:22: "1MiB" is too much for headers
      |
    6 | identity_max_bytes = "1MiB"
      |                      ^^^^^^
      = help: the most is "64KiB"; most servers take 8 KiB

    gateway.toml:7:26: "" is not an audience
      |
    7 | assertion = { audience = "", lifetime = "1s", life = *** }
      |                          ^^
      = help: write the name by which the upstream knows itself, such as "billing"

    gateway.toml:7:41: "1s" is out of range
      |
    7 | assertion = { audience = "", lifetime = "1s", life = *** }
      |                                         ^^^^
      = help: an assertion lives from "5s" to "1h"; it is made anew when half of that is over

    gateway.toml:7:47: unknown key "life" in [upstreams.api.assertion]
      |
    7 | assertion = { audience = "", lifetime = "1s", life = *** }
      |                                               ^^^^
      = help: [upstreams.api.assertion] has audience, lifetime

    12 problems found
    "##);
    assert_snapshot!(told("identity = {}\nassertion = \"yes\""), @r##"
    gateway.toml:4:12: "identity" names no header
      |
    4 | identity = {}
      |            ^^
      = help: write identity = "none" for no headers

    gateway.toml:5:13: "assertion" must be true or false, not a string
      |
    5 | assertion = "yes"
      |             ^^^^^

    2 problems found
    "##);
    assert_snapshot!(told("identity = \"user:id\""), @r##"
    gateway.toml:4:12: unknown value "user:id"
      |
    4 | identity = "user:id"
      |            ^^^^^^^^^
      = help: a table says what headers hold: identity = { "X-Account" = "claim:account_id" }

    1 problem found
    "##);
}

#[test]
fn a_secret_cannot_sign_what_others_verify() {
    let keys = "[[tokens.keys]]\nalg = \"HS256\"\nsecret = \"0123456789abcdef0123456789abcdef\"";
    assert_snapshot!(parsed_with(keys, "assertion = true").unwrap_err().to_string(), @r##"
    gateway.toml:6:1: an assertion cannot be signed with HS256
      |
    6 | assertion = true
      | ^^^^^^^^^
      = help: the upstream could verify it only with the secret that signs tokens: let an EdDSA or ES256 key be the first of [[tokens.keys]]; "tollgate key generate" makes one

    1 problem found
    "##);
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
