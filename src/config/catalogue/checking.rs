//! `[[tests]]`, `[check]`.

use super::Shape::{Integer, Names, Table, Tables, Text, Tree};
use super::Unset::{Nothing, Required, Value};
use super::{Entry, TEXTS, key, table};

/// The keys of these sections.
#[rustfmt::skip] // One line a key.
pub(super) const KEYS: &[Entry] = &[
    table("tests", Tables, "Requests and what has to become of them; `tollgate check` tries them."),
    key("tests[].request", Text, Required, r#""GET https://api.example.com/billing/invoices/7""#, "A method and a URL."),
    key("tests[].headers", Names, Nothing, r#"{ X-Version = "2" }"#, "Its header fields."),
    table("tests[].as", Table, "Who sends it; without it nobody who is known."),
    key("tests[].as.user", Text, Nothing, r#""alice""#, "The user's name."),
    key("tests[].as.id", Text, Nothing, r#""7""#, "The user's id; without it the name."),
    key("tests[].as.email", Text, Nothing, r#""alice@example.com""#, "The user's e-mail address."),
    key("tests[].as.groups", TEXTS, Nothing, r#"["finance"]"#, "The user's groups."),
    key("tests[].as.scopes", TEXTS, Nothing, r#"["invoices"]"#, "The scopes of the token."),
    key("tests[].as.claims", Tree, Nothing, r#"{ tenant = "acme" }"#, "Further claims of the token."),
    table("tests[].expect", Table, "What has to become of it; at least one of these."),
    key("tests[].expect.route", Text, Nothing, r#""invoices""#, "The name of the route."),
    key("tests[].expect.status", Integer(200, 599), Nothing, "200", "The status of the answer; 200 for what an upstream would get."),
    key("tests[].expect.reason", Text, Nothing, r#""group_missing""#, "Why it is refused."),
    key("tests[].expect.would_refuse", Text, Nothing, r#""credentials_missing""#, "Why it would be refused if that were enforced."),
    key("tests[].expect.upstream", Text, Nothing, r#""billing""#, "The name of the upstream."),
    key("tests[].expect.upstream_path", Text, Nothing, r#""/invoices/7""#, "The path that the upstream sees."),
    table("check", Table, "What `tollgate check` does not tell of."),
    key("check.ignore", TEXTS, Value("[]"), r#"["T006:health"]"#, "Findings: \"T006\", or \"T006:NAME\" for one thing."),
];
