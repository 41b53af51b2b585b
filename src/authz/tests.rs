//! What policies decide.

use std::path::Path;
use std::rc::Rc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::authn::{Caller, Known};
use crate::base::principal::Principal;
use crate::base::user::User;
use crate::config::{Environment, parse};
use crate::routing::RouteTable;

/// A table with one route with these lines.
fn table(lines: &str) -> RouteTable {
    let text = format!(
        "[upstreams.a]\ntargets = [\"http://127.0.0.1:9\"]\n\
         [[routes]]\npath = \"/users/{{id}}/{{other}}\"\nupstream = \"a\"\n{lines}\n"
    );
    let config = parse(&text, "gateway.toml", Path::new(""), &Environment::default());
    RouteTable::new(&config.unwrap_or_else(|failure| panic!("{failure}")))
}

fn user(groups: &[&str]) -> User {
    User {
        id: "7".to_owned(),
        name: "zoe".to_owned(),
        email: Some("zoe@example.com".to_owned()),
        groups: groups.iter().map(|&group| group.to_owned()).collect(),
    }
}

/// The reason of the decision about a user with a token of these claims; `None` when the user may pass.
fn decided_for(lines: &str, user: User, claims: &Value, path: &str) -> Option<Reason> {
    let table = table(lines);
    let held = table.asked_claims().hold(claims.as_object().unwrap());
    let known = Known { claims: held, ..Known::of_test(Principal::new(user)) };
    decided_for_caller(&table, &Caller::User(Rc::new(known)), path)
}

fn decided_for_caller(table: &RouteTable, caller: &Caller, path: &str) -> Option<Reason> {
    let route = table.find("any", path, &http::Method::GET).unwrap();
    decide(route, caller, path).err().map(|error| error.reason())
}

fn decided(policy: &str, claims: &Value) -> Option<Reason> {
    decided_for(&format!("auth = \"required\"\n{policy}"), user(&["staff"]), claims, "/users/7/x")
}

#[test]
fn only_routes_that_need_somebody_ask_for_a_user() {
    let somebody = || Caller::User(Rc::new(Known::of_test(Principal::new(user(&[])))));
    let missing = Some(Reason::CredentialsMissing);
    for (lines, known, anonymous) in [
        ("auth = \"required\"", None, missing),
        ("auth = \"optional\"", None, None),
        ("auth = \"public\"", None, None),
        ("auth = \"optional\"\ndeny = { groups = [\"a\"] }", None, None),
        ("auth = \"optional\"\nallow = { groups = [\"a\"] }", Some(Reason::GroupMissing), missing),
        ("auth = \"required\"\nallow = { groups = [\"a\"] }", Some(Reason::GroupMissing), missing),
    ] {
        let table = table(lines);
        assert_eq!(decided_for_caller(&table, &somebody(), "/users/7/x"), known, "{lines}");
        assert_eq!(decided_for_caller(&table, &Caller::Anonymous, "/users/7/x"), anonymous, "{lines}");
    }
}

#[test]
fn one_of_the_groups_is_enough_and_comes_from_the_user() {
    let missing = Some(Reason::GroupMissing);
    for (groups, reason) in [
        (r#"["staff"]"#, None),
        (r#"["admin", "staff"]"#, None),
        (r#"["admin"]"#, missing),
        (r#"["Staff"]"#, missing),
        (r#"["staf"]"#, missing),
    ] {
        let policy = format!("allow = {{ groups = {groups} }}");
        assert_eq!(decided(&policy, &json!({"groups": ["admin"]})), reason, "{groups}");
    }
    // In whichever Unicode form it is written.
    let lines = "auth = \"required\"\nallow = { groups = [\"cafe\u{301}\"] }";
    for group in ["caf\u{e9}", "cafe\u{301}"] {
        assert_eq!(decided_for(lines, user(&[group]), &json!({}), "/users/7/x"), None);
    }
}

#[test]
fn all_scopes_are_needed() {
    let missing = Some(Reason::ScopeMissing);
    for (claims, reason) in [
        (json!({"scope": "read write"}), None),
        (json!({"scope": "write other read"}), None),
        (json!({"scp": ["read", "write"]}), None),
        (json!({"scope": "read"}), missing),
        (json!({"scope": "readwrite"}), missing),
        (json!({"scope": "READ WRITE"}), missing),
        (json!({"scope": ["read write"]}), missing),
        (json!({"scope": "read", "scp": "write"}), missing),
        (json!({}), missing),
    ] {
        assert_eq!(decided("allow = { scopes = [\"read\", \"write\"] }", &claims), reason, "{claims}");
    }
}

#[test]
fn a_claim_has_one_of_its_values() {
    let differs = Some(Reason::ClaimMismatch);
    for (claims, value, reason) in [
        (r#"tenant = "acme""#, json!("acme"), None),
        (r#"tenant = ["acme", "other"]"#, json!("acme"), None),
        (r#"tenant = "acme""#, json!(["x", "acme"]), None),
        (r#"tenant = "acme""#, json!("Acme"), differs),
        (r#"tenant = "acme""#, json!(["x"]), differs),
        (r#"tenant = "acme""#, json!([]), differs),
        (r#"tenant = "acme""#, json!({"acme": true}), differs),
        (r#"tenant = "acme""#, json!(["acme", {}]), differs),
        (r#"tenant = "acme""#, Value::Null, differs),
        ("tenant = 7", json!(7), None),
        ("tenant = 7", json!("7"), None),
        ("tenant = 7", json!(7.0), differs),
        ("tenant = 7", json!("07"), differs),
        ("tenant = true", json!(true), None),
        ("tenant = true", json!("true"), None),
        ("tenant = true", json!(false), differs),
        ("tenant = true", json!(1), differs),
    ] {
        let policy = format!("allow = {{ claims = {{ {claims} }} }}");
        assert_eq!(decided(&policy, &json!({"tenant": value})), reason, "{claims} {value}");
    }
    let nested = "allow = { claims = { \"realm_access.roles\" = \"admin\", plan = \"gold\" } }";
    let roles = |roles: Value, plan: &str| json!({"realm_access": {"roles": roles}, "plan": plan});
    assert_eq!(decided(nested, &roles(json!(["user", "admin"]), "gold")), None);
    assert_eq!(decided(nested, &roles(json!(["user"]), "gold")), differs);
    assert_eq!(decided(nested, &roles(json!(["admin"]), "free")), differs, "each of them counts");
    assert_eq!(decided(nested, &json!({"realm_access.roles": "admin", "plan": "gold"})), differs);
    // What the record says counts, and not the token.
    let ours = "allow = { claims = { username = \"zoe\", email = \"zoe@example.com\", groups = \"staff\", user_id = 7 } }";
    assert_eq!(decided(ours, &json!({"username": "x", "email": "x", "groups": []})), None);
    assert_eq!(
        decided("allow = { claims = { groups = \"admin\" } }", &json!({"groups": ["admin"]})),
        differs
    );
}

#[test]
fn a_parameter_is_equal_to_a_claim_as_text() {
    let own = "auth = \"required\"\nallow = { match = { user_id = \"{id}\" } }";
    let differs = Some(Reason::ClaimMismatch);
    for (path, reason) in [
        ("/users/7/x", None),
        ("/users/7/7", None),
        ("/users/7/x/more", None),
        ("/users/8/7", differs),
        ("/users/07/x", differs),
        ("/users/7%20/x", differs),
        ("/users/%2B7/x", differs),
        ("/users/7,8/x", differs),
        ("/users/7.0/x", differs),
        ("/users/\u{ff17}/x", differs),
    ] {
        assert_eq!(decided_for(own, user(&[]), &json!({}), path), reason, "{path}");
    }
    let account = "auth = \"required\"\nallow = { match = { account = \"{other}\" } }";
    for (claim, segment, reason) in [
        (json!("a b"), "a%20b", None),
        (json!("a+b"), "a+b", None),
        (json!("caf\u{e9}"), "caf%C3%A9", None),
        (json!(12), "12", None),
        (json!(-12), "-12", None),
        (json!("a"), "A", differs),
        (json!("a%20b"), "a%20b", differs),
        (json!(12.0), "12", differs),
        (json!(12.0), "12.0", differs),
        (json!(true), "true", differs),
        (json!(["12"]), "12", differs),
        (json!({"12": 1}), "12", differs),
        (Value::Null, "null", differs),
        (json!(""), "x", differs),
    ] {
        let path = format!("/users/1/{segment}");
        assert_eq!(
            decided_for(account, user(&[]), &json!({"account": claim}), &path),
            reason,
            "{claim} {segment}"
        );
    }
    assert_eq!(decided_for(account, user(&[]), &json!({}), "/users/1/x"), differs);
}

#[test]
fn whoever_has_what_is_denied_is_refused_also_when_it_cannot_be_told() {
    let denied = Some(Reason::PolicyDenied);
    for (deny, claims, reason) in [
        (r#"groups = ["staff", "x"]"#, json!({}), denied),
        (r#"groups = ["x"]"#, json!({}), None),
        (r#"scopes = ["read", "write"]"#, json!({"scope": "read"}), denied),
        (r#"scopes = ["read"]"#, json!({}), None),
        ("claims = { banned = true }", json!({"banned": true}), denied),
        ("claims = { banned = true }", json!({"banned": {"since": 7}}), denied),
        ("claims = { banned = true }", json!({"banned": false}), None),
        ("claims = { banned = true }", json!({}), None),
        (r#"match = { account = "{id}" }"#, json!({"account": 7}), denied),
        (r#"match = { account = "{id}" }"#, json!({"account": [7]}), denied),
        (r#"match = { account = "{id}" }"#, json!({"account": 8}), None),
        (r#"groups = ["x"], claims = { a = 1 }"#, json!({"a": 1}), denied),
    ] {
        assert_eq!(decided(&format!("deny = {{ {deny} }}"), &claims), reason, "{deny} {claims}");
    }
    let both = "allow = { groups = [\"staff\"] }\ndeny = { claims = { banned = true } }";
    assert_eq!(decided(both, &json!({"banned": true})), denied, "it counts whatever else is allowed");
    assert_eq!(decided(both, &json!({})), None);
}

#[test]
fn every_member_has_to_hold() {
    let policy = r#"allow = { groups = ["staff"], scopes = ["s"], claims = { t = "x" }, match = { user_id = "{id}" } }"#;
    let lines = format!("auth = \"required\"\n{policy}");
    let good = json!({"scope": "s", "t": "x"});
    let of = |groups: &[&str], claims: &Value, path| decided_for(&lines, user(groups), claims, path);
    assert_eq!(of(&["staff"], &good, "/users/7/x"), None);
    assert_eq!(of(&[], &good, "/users/7/x"), Some(Reason::GroupMissing));
    assert_eq!(of(&["staff"], &json!({"t": "x"}), "/users/7/x"), Some(Reason::ScopeMissing));
    assert_eq!(of(&["staff"], &json!({"scope": "s"}), "/users/7/x"), Some(Reason::ClaimMismatch));
    assert_eq!(of(&["staff"], &good, "/users/8/x"), Some(Reason::ClaimMismatch));
    let table = table(&lines);
    let route = table.find("any", "/users/7/x", &http::Method::GET).unwrap();
    let shown: Vec<_> = rules(route.policy.as_ref().unwrap()).map(|rule| rule.to_string()).collect();
    assert_eq!(
        shown,
        [
            "allow: groups, any of staff",
            "allow: scope s",
            "allow: claim t = x",
            "allow: claim user_id = {id} of the path"
        ]
    );
}

#[test]
fn whoever_shows_a_certificate_has_neither_scopes_nor_claims() {
    let table = table("auth = \"required\"\nallow = { scopes = [\"s\"] }");
    let known = Caller::User(Rc::new(Known::of_test(Principal::new(user(&["staff"])))));
    assert_eq!(decided_for_caller(&table, &known, "/users/7/x"), Some(Reason::ScopeMissing));
}

proptest! {
    #[test]
    fn nobody_reaches_an_object_under_another_name(id in "[a-z0-9%+/ .]{1,4}", segment in "[a-z0-9%+ .]{1,6}") {
        let path = format!("/users/{segment}/x");
        let Ok(normal) = crate::base::path::normalise(&path) else { return Ok(()) };
        let lines = "auth = \"required\"\nallow = { match = { user_id = \"{id}\" } }";
        let caller = User { id: id.clone(), ..user(&[]) };
        let passes = decided_for(lines, caller, &json!({}), &normal).is_none();
        let decoded = crate::base::path::decoded(normal.split('/').nth(2).unwrap());
        prop_assert_eq!(passes, decoded == id);
    }

    #[test]
    fn no_claims_make_it_panic(text in "\\PC{0,40}") {
        let claims = serde_json::from_str::<Value>(&text).unwrap_or(Value::Null);
        let policy = r#"allow = { scopes = ["s"], claims = { "a.b" = "x" }, match = { c = "{id}" } }"#;
        let refused = decided(policy, &json!({"a": {"b": claims}, "c": claims, "scope": claims}));
        prop_assert!(refused.is_some());
    }
}
