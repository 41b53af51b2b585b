//! The token routes, as clients of djangorestframework-simplejwt know them.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};
use tollgate::base::clock::Clock;
use tollgate::keys::KeyRing;
use tollgate::tokens::{Expected, Verifier};

use crate::support::client::request;
use crate::support::gateway::PASSWORD;
use crate::support::{Client, Gateway, Response, Setup, Upstream, mint};

const FORM: &str = "content-type: application/x-www-form-urlencoded\r\n";

fn gateway(upstream: &Upstream) -> Gateway {
    Setup::guarded(upstream).user("alice").person("gone", None, &[], PASSWORD, false).start()
}

#[test]
fn a_login_is_a_form_json_or_multipart_with_and_without_a_slash() {
    let upstream = Upstream::echo();
    let gateway = gateway(&upstream);
    let multipart = format!(
        "--b\r\ncontent-disposition: form-data; name=\"username\"\r\n\r\nalice\r\n\
         --b\r\ncontent-disposition: form-data; name=\"password\"\r\n\r\n{PASSWORD}\r\n--b--\r\n"
    );
    let json = json!({"username": "alice", "password": PASSWORD}).to_string();
    let form = format!("username=alice&password={PASSWORD}");
    for target in ["/api/token/", "/api/token"] {
        for (fields, body) in [
            ("content-type: application/json\r\n", &json),
            (FORM, &form),
            ("content-type: multipart/form-data; boundary=b\r\n", &multipart),
        ] {
            let response = gateway.client().call("POST", target, fields, body.as_bytes()).expect(200);
            assert_eq!(response.field("content-type"), "application/json");
            assert_eq!(response.field("cache-control"), "no-store");
            let members: BTreeSet<String> = response.json().as_object().unwrap().keys().cloned().collect();
            assert_eq!(members, BTreeSet::from(["access".to_owned(), "refresh".to_owned()]));
            let (access, refresh) = gateway.tokens_of(&response);
            gateway.client().get_as("/", &access).expect(200);
            assert_eq!(upstream.last().field("x-user-name"), "alice");
            gateway.client().get_as("/", &refresh).refused(401, "token_wrong_type");
        }
    }
}

#[test]
fn tokens_say_what_simplejwt_says() {
    let upstream = Upstream::echo();
    let gateway = Setup::guarded(&upstream).clock(1_800_000_000_500).user("alice").start();
    let (access, refresh) = gateway.login("alice", PASSWORD);
    for (token, kind, lifetime) in [(&access, "access", 1800), (&refresh, "refresh", 86_400)] {
        let claims = mint::payload(token);
        assert_eq!(claims["token_type"], kind);
        assert_eq!(claims["user_id"], "1");
        assert_eq!(claims["iat"], 1_800_000_000);
        assert_eq!(claims["exp"], 1_800_000_000 + lifetime);
        assert_eq!(claims["jti"].as_str().unwrap().len(), 32);
        assert_eq!(
            (&mint::header(token)["alg"], &mint::header(token)["kid"]),
            (&json!("HS256"), &json!(mint::KID))
        );
    }
    assert_ne!(mint::payload(&access)["jti"], mint::payload(&refresh)["jti"]);
}

#[test]
fn a_refresh_token_works_until_it_expires() {
    let upstream = Upstream::echo();
    let gateway = Setup::guarded(&upstream).clock(1_800_000_000_000).user("alice").start();
    let (first, refresh) = gateway.login("alice", PASSWORD);
    let mut seen = BTreeSet::from([first]);
    for target in ["/api/token/refresh/", "/api/token/refresh", "/api/token/refresh/"] {
        let response = gateway.client().post_json(target, &json!({ "refresh": refresh })).expect(200);
        assert_eq!(response.json().as_object().unwrap().len(), 1);
        let (access, _) = gateway.tokens_of(&response);
        gateway.client().get_as("/", &access).expect(200);
        assert!(seen.insert(access), "every access token is another one");
    }
    let at = |ms: i64| {
        gateway.set_clock(1_800_000_000_000 + ms);
        gateway.client().post_json("/api/token/refresh/", &json!({ "refresh": refresh }))
    };
    gateway.tokens_of(&at(86_399_999).expect(200));
    at(86_400_000).refused(401, "token_expired");
}

#[test]
fn an_access_token_refreshes_nothing_and_a_lost_user_neither() {
    let upstream = Upstream::echo();
    let gateway = gateway(&upstream);
    let (access, refresh) = gateway.login("alice", PASSWORD);
    let mut client = gateway.client();
    client.post_json("/api/token/refresh/", &json!({ "refresh": access })).refused(401, "token_wrong_type");
    client.post_json("/api/token/refresh/", &json!({ "refresh": "garbage" })).refused(401, "token_invalid");
    gateway.change(async |store| {
        tollgate::cli::user::disable(store, "alice", &mut std::io::sink()).await.unwrap();
    });
    // The store is asked every time, so this holds at once.
    client.post_json("/api/token/refresh/", &json!({ "refresh": refresh })).refused(401, "user_inactive");
    client
        .post_json("/api/token/", &json!({"username": "alice", "password": PASSWORD}))
        .refused(401, "credentials_invalid");
}

#[test]
fn who_cannot_log_in_is_told_nothing() {
    let upstream = Upstream::echo();
    let gateway = gateway(&upstream);
    let mut answers = BTreeSet::new();
    for (name, password) in [
        ("alice", "wrong-password"),
        ("nobody", PASSWORD),
        ("gone", PASSWORD),
        ("gone", "wrong-password"),
        ("alice", " secure-password"),
        ("ALICE", PASSWORD),
        ("1", PASSWORD),
    ] {
        let response =
            gateway.client().post_json("/api/token/", &json!({"username": name, "password": password}));
        let response = response.refused(401, "credentials_invalid");
        let mut body = response.json();
        body.as_object_mut().unwrap().remove("request_id");
        let fields: Vec<_> = response
            .head
            .fields
            .0
            .iter()
            .filter(|(name, _)| !["x-request-id", "date", "content-length"].contains(&&**name))
            .collect();
        answers.insert(format!("{body} {fields:?} {}", response.field("content-length")));
    }
    assert_eq!(answers.len(), 1, "{answers:?}");
}

#[test]
fn token_routes_take_only_what_they_are_for() {
    let upstream = Upstream::echo();
    let gateway = gateway(&upstream);
    let mut client = gateway.client();
    for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"] {
        for target in ["/api/token/", "/api/token/refresh"] {
            let response = client.call(method, target, "", b"").expect(405);
            assert_eq!(response.field("allow"), "POST");
        }
    }
    let response = client.call("POST", "/.well-known/jwks.json", "", b"").expect(405);
    assert!(response.field("allow").contains("GET"));
    client
        .call("POST", "/api/token/", "content-type: application/xml\r\n", b"<x/>")
        .refused(415, "media_type_unsupported");
    // What lies beside them belongs to the routes.
    client.get("/api/token/refresh/more", "").refused(401, "credentials_missing");
    client.get("/api/tokens", "").refused(401, "credentials_missing");
    assert_eq!(upstream.count(), 0);
}

#[test]
fn a_login_has_a_size() {
    let upstream = Upstream::echo();
    let gateway = gateway(&upstream);
    let body = json!({"username": "alice", "password": "x".repeat(100_000)}).to_string();
    for chunked in [false, true] {
        let mut client = gateway.client();
        let bytes = if chunked {
            let head = "POST /api/token/ HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n";
            format!("{head}\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len()).into_bytes()
        } else {
            request("POST", "/api/token/", "content-type: application/json\r\n", body.as_bytes())
        };
        let _ = client.try_send(bytes);
        client.answer().refused(413, "body_too_large");
    }
    let long = json!({"username": "alice", "password": "x".repeat(1025)});
    gateway.client().post_json("/api/token/", &long).refused(401, "credentials_invalid");
}

#[test]
fn a_login_with_a_bad_token_is_a_login() {
    let upstream = Upstream::echo();
    let gateway = gateway(&upstream);
    let fields = format!("authorization: Bearer garbage\r\n{FORM}");
    let body = format!("username=alice&password={PASSWORD}");
    let response = gateway.client().call("POST", "/api/token/", &fields, body.as_bytes()).expect(200);
    gateway.tokens_of(&response);
}

#[test]
fn published_keys_verify_what_is_issued() {
    let upstream = Upstream::echo();
    let gateway = Setup::guarded(&upstream).generated_key().user("alice").start();
    let (access, _) = gateway.login("alice", PASSWORD);
    let response = gateway.client().get("/.well-known/jwks.json", "").expect(200);
    let set: jsonwebtoken::jwk::JwkSet = serde_json::from_slice(&response.body).unwrap();
    let header = jsonwebtoken::decode_header(&access).unwrap();
    let key = set.find(header.kid.as_deref().unwrap()).expect("the key is published");
    let mut validation = jsonwebtoken::Validation::new(header.alg);
    validation.validate_aud = false;
    let decoding = jsonwebtoken::DecodingKey::from_jwk(key).unwrap();
    let token = jsonwebtoken::decode::<Value>(&access, &decoding, &validation).unwrap();
    assert_eq!(token.claims["user_id"], "1");
    let text = response.text();
    assert!(!text.contains("\"d\"") && !text.contains("\"k\""), "{text}");
    gateway.client().get_as("/", &access).expect(200);

    // The key is kept: who starts next takes the token.
    let ring = Arc::new(KeyRing::load(&gateway.config.tokens, &Clock::System).unwrap());
    let verifier = Verifier::new(ring, &gateway.config.tokens, Clock::System);
    assert_eq!(verifier.verify(access.as_bytes(), Expected::Access).unwrap().user_id, "1");
}

#[test]
fn symmetric_keys_are_not_published() {
    let upstream = Upstream::echo();
    let gateway = gateway(&upstream);
    assert_eq!(gateway.client().get("/.well-known/jwks.json", "").expect(200).json(), json!({"keys": []}));
    assert!(gateway.client().call("HEAD", "/.well-known/jwks.json", "", b"").expect(200).body.is_empty());
}

#[test]
fn recorded_answers_of_simplejwt_hold() {
    let upstream = Upstream::start(|talk| {
        talk.read_body();
        let id: Value = talk.head.fields.one("x-user-id").and_then(|id| id.parse().ok()).unwrap_or_default();
        let body = json!({"id": id, "username": talk.head.fields.one("x-user-name")});
        talk.send(crate::support::upstream::ok(&body.to_string()));
        crate::support::Then::Next
    });
    let cases: Vec<Value> = serde_json::from_str(include_str!("../contract/simplejwt-cases.json")).unwrap();
    let mut differences = Vec::new();
    let mut run = 0;
    for (profile, lines) in [
        ("default", ""),
        ("rotate", "rotate_refresh = true\nreuse_grace = \"0s\""),
        ("audience", "issuer = \"https://issuer.example\"\naudience = [\"api\"]\nleeway = \"30s\""),
    ] {
        let gateway = Setup::new()
            .upstream("api", &upstream, "")
            .route("path = \"/\"\nauth = \"required\"\nupstream = \"api\"")
            .tokens(lines)
            .user("user1")
            .person("gone", None, &[], PASSWORD, false)
            .person("zoë", None, &[], "pässwörd ☃", true)
            .person("alice", None, &["finance"], PASSWORD, true)
            .start();
        // Hashes of a Django application need its table of users.
        let wanted =
            |case: &&Value| case["profile"] == profile && !case["id"].as_str().unwrap().starts_with("hash");
        for case in cases.iter().filter(wanted) {
            run += 1;
            differences.extend(case_differs(&gateway, case));
        }
    }
    assert!(run >= 60, "only {run} cases were run");
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

fn case_differs(gateway: &Gateway, case: &Value) -> Vec<String> {
    let (access, refresh) = gateway.login("user1", PASSWORD);
    let fresh = Fresh { access, refresh };
    let mut differences = Vec::new();
    let steps = case["steps"].as_array().unwrap();
    for (step, expected) in steps.iter().zip(case["expect"].as_array().unwrap()) {
        let response = fresh.send(&mut gateway.client(), step);
        if response.is_json() && response.json().get("access").is_some() {
            gateway.tokens_of(&response);
        }
        let found = differs(expected, case.get("better"), &response);
        differences.extend(found.map(|text| format!("{}: {text}", case["id"])));
    }
    differences
}

/// The tokens of a login before each case.
struct Fresh {
    access: String,
    refresh: String,
}

impl Fresh {
    fn send(&self, client: &mut Client, step: &Value) -> Response {
        let mut fields = String::new();
        for (name, value) in step["headers"].as_object().into_iter().flatten() {
            fields += &format!("{name}: {}\r\n", self.filled(value).as_str().unwrap());
        }
        let has = |name: &str| step.get(name).is_some();
        let text = |name: &str| step[name].as_str().unwrap();
        let (kind, body) = if has("json") {
            ("application/json", self.filled(&step["json"]).to_string().into_bytes())
        } else if has("form") {
            let form = self.filled(&step["form"]);
            let pairs = form.as_object().unwrap().iter().map(|(name, value)| (name, value.as_str().unwrap()));
            (
                "application/x-www-form-urlencoded",
                form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish().into_bytes(),
            )
        } else if has("raw") {
            (text("content_type"), text("raw").as_bytes().to_vec())
        } else if has("raw_hex") {
            let digits = text("raw_hex");
            let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
            (text("content_type"), (0..digits.len()).step_by(2).map(byte).collect())
        } else {
            assert!(!has("multipart"), "no case of these has one");
            ("", Vec::new())
        };
        if !kind.is_empty() {
            fields += &format!("content-type: {kind}\r\n");
        }
        client.call(text("method"), text("path"), &fields, &body)
    }

    /// The value with its tokens in place.
    fn filled(&self, value: &Value) -> Value {
        match value {
            Value::String(text) if text == "$access" => self.access.clone().into(),
            Value::String(text) if text == "$refresh" => self.refresh.clone().into(),
            Value::Object(members) => {
                let filled = |name: &str| self.filled(&members[name]);
                if let Some(spec) = members.get("mint") {
                    return minted(spec).into();
                }
                if members.contains_key("bearer") {
                    return format!("Bearer {}", filled("bearer").as_str().unwrap()).into();
                }
                if members.contains_key("token") && members.contains_key("prefix") {
                    let suffix = members.get("suffix").and_then(Value::as_str).unwrap_or_default();
                    let prefix = members["prefix"].as_str().unwrap();
                    return format!("{prefix}{}{suffix}", filled("token").as_str().unwrap()).into();
                }
                members.iter().map(|(name, value)| (name.clone(), self.filled(value))).collect()
            }
            Value::Array(list) => list.iter().map(|value| self.filled(value)).collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
        }
    }
}

/// A token as a case states it.
fn minted(spec: &Value) -> String {
    let now = Clock::System.now_unix_seconds();
    let kind = spec["type"].as_str().unwrap();
    let lifetime = match kind {
        "access" => 1800,
        "refresh" => 86_400,
        _ => 600,
    };
    let jti = "0123456789abcdef0123456789abcdef";
    let mut claims =
        json!({"token_type": kind, "exp": now + lifetime, "iat": now, "jti": jti, "user_id": "1"});
    for (name, value) in spec.get("set").and_then(Value::as_object).into_iter().flatten() {
        match name.strip_suffix("_in") {
            Some(claim) => claims[claim] = json!(now + value.as_i64().unwrap()),
            None => claims[name.as_str()] = value.clone(),
        }
    }
    for name in spec.get("drop").and_then(Value::as_array).into_iter().flatten() {
        claims.as_object_mut().unwrap().remove(name.as_str().unwrap());
    }
    let mut header = json!({"alg": spec.get("alg").cloned().unwrap_or("HS256".into()), "typ": "JWT"});
    for (name, value) in spec.get("header").and_then(Value::as_object).into_iter().flatten() {
        header[name.as_str()] = value.clone();
    }
    let signing = spec.get("key").is_none_or(|key| key == "signing");
    mint::sign(
        &header,
        &claims,
        if signing { mint::SECRET } else { "another-key-that-the-server-does-not-know-000" },
    )
}

/// How an answer differs from the recorded one. The gateway may add members to refusals, and never change or drop one.
fn differs<'a>(
    expected: &'a Value,
    better: Option<&'a Value>,
    response: &'a Response,
) -> impl Iterator<Item = String> + 'a {
    let mut found = Vec::new();
    let want = better.unwrap_or(expected);
    let got = if response.is_json() { normal(&response.json()) } else { Value::Null };
    if want["status"] != response.status {
        found.push(format!("status {}, want {}", response.status, want["status"]));
    }
    if want["status"] == 401 && !response.field("www-authenticate").starts_with("Bearer realm=\"api\"") {
        found.push(format!("challenge {:?}", response.field("www-authenticate")));
    }
    if let Some(keys) = want.get("keys") {
        let names: Vec<&String> = got.as_object().map(|got| got.keys().collect()).unwrap_or_default();
        if json!(names) != *keys {
            found.push(format!("members {names:?}, want {keys}"));
        }
    }
    for (name, value) in want["body"].as_object().into_iter().flatten() {
        let alike =
            |value: &Value| value.as_str().is_some_and(|text| text.starts_with("JSON parse error - "));
        if got[name] != *value && !(alike(&got[name]) && alike(value)) {
            found.push(format!("{name} is {}, want {value}", got[name]));
        }
    }
    if want["status"] == 200
        && let (Some(want), Some(got)) = (want["body"].as_object(), got.as_object())
        && got.len() > want.len()
    {
        found.push(format!("more members than {want:?}"));
    }
    found.into_iter()
}

/// The value with tokens replaced by what stands for one.
fn normal(value: &Value) -> Value {
    match value {
        Value::String(text) if text.starts_with("ey") && text.split('.').count() == 3 => "<jwt>".into(),
        Value::Object(members) => members.iter().map(|(name, value)| (name.clone(), normal(value))).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => value.clone(),
    }
}
