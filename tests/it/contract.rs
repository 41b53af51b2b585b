//! The answers of a real djangorestframework-simplejwt server, recorded, against a gateway with the same users.

use std::fmt::Write as _;

use serde_json::{Value, json};
use tollgate::base::clock::Clock;

use crate::support::{Gateway, Setup, Then, Upstream, mint};

const OTHER_KEY: &str = "another-key-that-the-server-does-not-know-000";
const DATABASE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/contract/django-auth.sqlite3");

fn cases() -> Vec<Value> {
    serde_json::from_str(include_str!("../contract/simplejwt-cases.json")).unwrap()
}

fn gateway(profile: &str, upstream: &Upstream) -> Gateway {
    let setup = Setup::guarded(upstream);
    std::fs::copy(DATABASE, setup.place().join("django-auth.sqlite3")).unwrap();
    let setup = setup.django("url = \"sqlite://django-auth.sqlite3\"");
    let setup = match profile {
        "audience" => {
            setup.tokens("issuer = \"https://issuer.example\"\naudience = [\"api\"]\nleeway = \"30s\"")
        }
        "rotate" => setup.tokens("rotate_refresh = true\nreuse_grace = \"0s\""),
        _ => setup,
    };
    setup.start()
}

/// An upstream that answers with the identity as the recorded one did.
fn upstream() -> Upstream {
    Upstream::start(|talk| {
        talk.read_body();
        let id: Value = talk.head.fields.one("x-user-id").and_then(|id| id.parse().ok()).unwrap_or_default();
        let body = json!({"id": id, "username": talk.head.fields.one("x-user-name")});
        talk.send(crate::support::upstream::ok(&body.to_string()));
        Then::Next
    })
}

#[test]
fn the_default_profile_is_answered_as_recorded() {
    run("default", 62);
}

#[test]
fn the_audience_profile_is_answered_as_recorded() {
    run("audience", 5);
}

#[test]
fn the_rotating_profile_is_answered_as_recorded() {
    run("rotate", 2);
}

#[test]
fn every_case_has_a_profile_that_is_run() {
    let cases = cases();
    assert_eq!(cases.len(), 69);
    for case in &cases {
        let profile = case["profile"].as_str().unwrap();
        assert!(["default", "audience", "rotate"].contains(&profile), "{profile}");
    }
}

fn run(profile: &str, expected_cases: usize) {
    let upstream = upstream();
    let gateway = gateway(profile, &upstream);
    let mut wrong = String::new();
    let mut run = 0;
    for case in cases() {
        let id = case["id"].as_str().unwrap();
        if case["profile"] != profile {
            continue;
        }
        run += 1;
        let steps = case["steps"].as_array().unwrap();
        let fresh = if case["steps"].to_string().contains("\"$") { login(&gateway) } else { json!({}) };
        for (step, expected) in steps.iter().zip(case["expect"].as_array().unwrap()) {
            let expected = bettered(expected, &case["better"]);
            for difference in differences(&gateway, step, &expected, &case["better"]["keys"], &fresh) {
                writeln!(wrong, "{id}: {difference}").unwrap();
            }
        }
    }
    assert_eq!(run, expected_cases);
    assert!(wrong.is_empty(), "{run} cases of {profile}:\n{wrong}");
}

fn login(gateway: &Gateway) -> Value {
    let (access, refresh) = gateway.login("user1", "secure-password");
    json!({"access": access, "refresh": refresh})
}

/// Where simplejwt fails, the recording says what is better.
fn bettered(expected: &Value, better: &Value) -> Value {
    let mut expected = expected.clone();
    if better.is_object() {
        expected["status"] = better["status"].clone();
        expected["body"] = better["body"].clone();
    }
    expected
}

fn differences(
    gateway: &Gateway,
    step: &Value,
    expected: &Value,
    keys: &Value,
    fresh: &Value,
) -> Vec<String> {
    let mut fields = String::new();
    for (name, value) in step["headers"].as_object().into_iter().flatten() {
        let value = filled(value, fresh);
        fields += &format!("{name}: {}\r\n", value.as_str().unwrap());
    }
    let (kind, body) = if let Some(raw) = step["raw"].as_str() {
        (step["content_type"].as_str().unwrap().to_owned(), raw.to_owned())
    } else if let Value::Object(form) = filled(&step["form"], fresh) {
        let pairs =
            form.iter().map(|(name, value)| format!("{name}={}", value.as_str().unwrap().replace(' ', "+")));
        ("application/x-www-form-urlencoded".to_owned(), pairs.collect::<Vec<_>>().join("&"))
    } else if step["json"].is_null() {
        (String::new(), String::new())
    } else {
        ("application/json".to_owned(), filled(&step["json"], fresh).to_string())
    };
    if !kind.is_empty() {
        fields += &format!("content-type: {kind}\r\n");
    }
    let (method, path) = (step["method"].as_str().unwrap(), step["path"].as_str().unwrap());
    let response = gateway.client().call(method, path, &fields, body.as_bytes());
    let got: Value = serde_json::from_slice(&response.body).unwrap_or_default();
    let mut found = Vec::new();
    if expected["status"] != response.status {
        found.push(format!("status {}, expected {}", response.status, expected["status"]));
    }
    if response.status == 401 && !response.field("www-authenticate").starts_with("Bearer realm=\"api\"") {
        found.push(format!("challenge {:?}", response.field("www-authenticate")));
    }
    if let Some(keys) = keys.as_array() {
        let mut members: Vec<&String> = got.as_object().unwrap().keys().collect();
        members.sort();
        if keys.iter().ne(members.iter().map(|name| json!(name)).collect::<Vec<_>>().iter()) {
            found.push(format!("members {members:?}, expected {keys:?}"));
        }
        return found;
    }
    if expected["status"] == 406 {
        return found;
    }
    for (name, value) in expected["body"].as_object().into_iter().flatten() {
        if !same(value, &got[name]) {
            found.push(format!("{name}: {}, expected {value}", got[name]));
        }
    }
    if response.status == 200
        && let (Some(got), Some(expected)) = (got.as_object(), expected["body"].as_object())
    {
        found.extend(
            got.keys().filter(|name| !expected.contains_key(*name)).map(|name| format!("extra {name}")),
        );
    }
    found
}

fn same(expected: &Value, got: &Value) -> bool {
    const PYTHON: &str = "JSON parse error - ";
    match (expected.as_str(), got.as_str()) {
        (Some("<jwt>"), Some(token)) => token.starts_with("ey") && token.split('.').count() == 3,
        (Some(expected), Some(got)) if expected.starts_with(PYTHON) => got.starts_with(PYTHON),
        _ => expected == got,
    }
}

/// Puts tokens where the recording names them.
fn filled(value: &Value, fresh: &Value) -> Value {
    match value {
        Value::Object(members) => {
            if let Some(wanted) = members.get("mint") {
                return json!(minted(wanted));
            }
            if let Some(token) = members.get("bearer") {
                return json!(format!("Bearer {}", filled(token, fresh).as_str().unwrap()));
            }
            if let (Some(token), Some(prefix)) = (members.get("token"), members.get("prefix")) {
                let token = filled(token, fresh);
                let suffix = members.get("suffix").and_then(Value::as_str).unwrap_or_default();
                return json!(format!("{}{}{suffix}", prefix.as_str().unwrap(), token.as_str().unwrap()));
            }
            members.iter().map(|(name, value)| (name.clone(), filled(value, fresh))).collect()
        }
        Value::Array(items) => items.iter().map(|item| filled(item, fresh)).collect(),
        Value::String(text) if text == "$access" || text == "$refresh" => fresh[&text[1..]].clone(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

fn minted(wanted: &Value) -> String {
    let now = Clock::System.now_unix_ms() / 1000;
    let kind = wanted["type"].as_str().unwrap();
    let life = match kind {
        "access" => 1800,
        "refresh" => 86_400,
        _ => 600,
    };
    let id = tollgate::base::ids::random_bytes::<16>().unwrap();
    let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut claims = json!({"token_type": kind, "exp": now + life, "iat": now, "jti": id, "user_id": "1"});
    for (name, value) in wanted["set"].as_object().into_iter().flatten() {
        match name.strip_suffix("_in") {
            Some(name) => claims[name] = json!(now + value.as_i64().unwrap()),
            None => claims[name] = value.clone(),
        }
    }
    for name in wanted["drop"].as_array().into_iter().flatten() {
        claims.as_object_mut().unwrap().remove(name.as_str().unwrap());
    }
    let mut header = json!({"alg": wanted["alg"].as_str().unwrap_or("HS256"), "typ": "JWT"});
    for (name, value) in wanted["header"].as_object().into_iter().flatten() {
        header[name] = value.clone();
    }
    let own = matches!(wanted["key"].as_str(), None | Some("signing"));
    mint::sign(&header, &claims, if own { mint::SECRET } else { OTHER_KEY })
}
