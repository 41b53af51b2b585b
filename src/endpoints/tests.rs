//! The token routes against what a real simplejwt server answered, and beyond it.

use std::sync::Mutex;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use serde_json::{Map, Value, json};

use super::*;
use crate::base::algorithm::Algorithm;
use crate::base::clock::Clock;
use crate::base::field_list::FieldList;
use crate::base::reason::Reason;
use crate::base::user::User;
use crate::keys::tests::{secret_key, settings};
use crate::store::Store;
use crate::store::scratch::Scratch;
use crate::tokens::Expected;
use crate::users::{Account, CredentialMark};

const NOW: i64 = 1_795_000_000;
const SIGNING: &[u8] = b"contract-secret-key-0123456789abcdef-0123456789";
const STRANGER: &[u8] = b"another-key-that-the-server-does-not-know-000";

/// Users as in the recordings. It remembers what it was asked.
#[derive(Default)]
struct Fake {
    failing: Option<PeopleError>,
    asked: Mutex<Vec<(String, Vec<u8>)>>,
}

fn account(id: &str, name: &str) -> Account {
    let user = User { id: id.to_owned(), name: name.to_owned(), email: None, groups: Vec::new() };
    Account { user, mark: CredentialMark::of(name) }
}

impl People for Fake {
    fn authenticate<'a>(
        &'a self,
        name: &'a str,
        password: &'a Secret,
    ) -> BoxFuture<'a, Result<Login, PeopleError>> {
        Box::pin(async move {
            self.asked.lock().unwrap().push((name.to_owned(), password.expose().to_vec()));
            if let Some(error) = self.failing {
                return Err(error);
            }
            Ok(match (name, std::str::from_utf8(password.expose()).unwrap()) {
                ("user1", "secure-password") => Login::Accepted(account("1", "user1")),
                ("zoë", "pässwörd ☃") => Login::Accepted(account("3", "zoë")),
                (" edge ", " correct horse ") => Login::Accepted(account("9", " edge ")),
                _ => Login::Refused,
            })
        })
    }

    fn find<'a>(&'a self, user_id: &'a str) -> BoxFuture<'a, Result<Lookup, PeopleError>> {
        Box::pin(async move {
            if let Some(error) = self.failing {
                return Err(error);
            }
            Ok(match user_id {
                "1" => Lookup::Active(account("1", "user1")),
                "2" => Lookup::Inactive,
                "elsewhere" => Lookup::Unmanaged,
                _ => Lookup::Unknown,
            })
        })
    }

    fn is_overloaded(&self) -> bool {
        matches!(self.failing, Some(PeopleError::Overloaded))
    }
}

struct Rig {
    routes: TokenRoutes,
    people: Arc<Fake>,
    verifier: Verifier,
    runtime: tokio::runtime::Runtime,
    _scratch: Scratch,
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn rig(failing: Option<PeopleError>) -> Rig {
    let tokens = settings(vec![secret_key("contract", Algorithm::HS256, SIGNING)]);
    let clock = Clock::manual(NOW * 1000).0;
    let ring = Arc::new(KeyRing::load(&tokens, &clock).unwrap());
    let verifier = Verifier::new(Arc::clone(&ring), &tokens, clock.clone());
    let issuer = Issuer::new(Arc::clone(&ring), &tokens);
    let users = config::Users {
        source: config::UserSource::Store,
        hashing: crate::users::password::tests::cheap_hashing(),
        lockout: config::Lockout::default(),
    };
    let (runtime, scratch) = (runtime(), Scratch::new());
    let (sessions, lockout) = runtime.block_on(async {
        let store = Store::open(&scratch.path("s.db")).await.unwrap();
        let lockout = Lockout::open(&users, None, clock.clone()).await.unwrap();
        (Sessions::open(store, clock, &tokens).await.unwrap(), lockout)
    });
    let people = Arc::new(Fake { failing, asked: Mutex::default() });
    let shared: Arc<dyn People> = Arc::<Fake>::clone(&people);
    let routes = TokenRoutes::new(shared, sessions, lockout, issuer, verifier.clone(), ring, &tokens);
    Rig { routes, people, verifier, runtime, _scratch: scratch }
}

struct Seen {
    status: u16,
    headers: FieldList,
    text: String,
    body: Value,
    reason: Option<Reason>,
    user: Option<String>,
}

impl Rig {
    fn send(&self, method: &str, path: &str, content_type: Option<&str>, body: &[u8]) -> Seen {
        let request = TokenRequest {
            endpoint: self.routes.matches(path).unwrap(),
            method: method.parse().unwrap(),
            content_type: content_type.map(|value| HeaderValue::from_bytes(value.as_bytes()).unwrap()),
            authorization: None,
            body: Bytes::copy_from_slice(body),
            client: IpAddr::from([192, 0, 2, 1]),
        };
        let answer = self.runtime.block_on(self.routes.answer(request));
        let (reason, user) = (answer.reason, answer.user.clone());
        let (status, headers, bytes) = answer.render("0123");
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let body = serde_json::from_str(&text).unwrap();
        let status = status.as_u16();
        assert_eq!(headers.at(CONTENT_TYPE), "application/json");
        assert_eq!(status == 200, reason.is_none());
        if status == 401 {
            assert!(headers.at(WWW_AUTHENTICATE).to_str().unwrap().starts_with("Bearer realm=\"api\""));
        }
        Seen { status, headers, text, body, reason, user }
    }

    fn login(&self, content_type: &str, body: &[u8]) -> Seen {
        let seen = self.send("POST", "/api/token/", Some(content_type), body);
        assert_eq!(seen.headers.at(CACHE_CONTROL), "no-store");
        seen
    }

    fn json(&self, path: &str, body: &Value) -> Seen {
        let seen = self.send("POST", path, Some("application/json"), body.to_string().as_bytes());
        assert_eq!(seen.headers.at(CACHE_CONTROL), "no-store");
        seen
    }

    fn fresh(&self) -> Value {
        self.json("/api/token/", &json!({ "username": "user1", "password": "secure-password" })).body
    }
}

fn mint(spec: &Value) -> String {
    let kind = spec["type"].as_str().unwrap();
    let life = if kind == "access" { 1800 } else { 86_400 };
    let mut claims =
        json!({ "token_type": kind, "exp": NOW + life, "iat": NOW, "jti": "0f", "user_id": "1" });
    let members = claims.as_object_mut().unwrap();
    for (name, value) in spec["set"].as_object().unwrap_or(&Map::new()) {
        match name.strip_suffix("_in") {
            Some(time) => members.insert(time.to_owned(), json!(NOW + value.as_i64().unwrap())),
            None => members.insert(name.clone(), value.clone()),
        };
    }
    for name in spec["drop"].as_array().unwrap_or(&Vec::new()) {
        members.remove(name.as_str().unwrap());
    }
    let algorithm = spec["alg"].as_str().unwrap_or("HS256");
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", encode(&json!({ "alg": algorithm, "typ": "JWT" })), encode(&claims));
    if algorithm == "none" {
        return format!("{message}.");
    }
    let secret = if spec["key"].as_str() == Some("other") { STRANGER } else { SIGNING };
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret);
    let tag = aws_lc_rs::hmac::sign(&key, message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag.as_ref()))
}

/// Puts tokens where a recorded case names them.
fn filled(value: &Value, fresh: &Value) -> Value {
    match value {
        Value::String(text) if text == "$refresh" || text == "$access" => fresh[&text[1..]].clone(),
        Value::Object(object) => match object.get("mint") {
            Some(spec) => json!(mint(spec)),
            None => object.iter().map(|(name, value)| (name.clone(), filled(value, fresh))).collect(),
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => value.clone(),
    }
}

#[test]
fn recorded_logins_and_refreshes_are_answered_alike() {
    let cases: Vec<Value> =
        serde_json::from_str(include_str!("../../tests/contract/simplejwt-cases.json")).unwrap();
    let mut compared = 0;
    for case in &cases {
        let id = case["id"].as_str().unwrap();
        if case["profile"] != "default"
            || !["login-", "refresh-", "verify-"].iter().any(|kind| id.starts_with(kind))
        {
            continue;
        }
        let rig = rig(None);
        let fresh = rig.fresh();
        let step = &case["steps"][0];
        let path = step["path"].as_str().unwrap().split('?').next().unwrap();
        let (content_type, body) = if let Some(value) = step.get("json") {
            (Some("application/json"), filled(value, &fresh).to_string())
        } else if let Some(form) = step.get("form") {
            let form = filled(form, &fresh);
            let pairs = form.as_object().unwrap().iter().map(|(name, value)| (name, value.as_str().unwrap()));
            let text = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
            (Some("application/x-www-form-urlencoded"), text)
        } else {
            (step["content_type"].as_str(), step["raw"].as_str().unwrap_or("").to_owned())
        };
        let seen = rig.send(step["method"].as_str().unwrap(), path, content_type, body.as_bytes());
        compare(id, case, &seen);
        compared += 1;
    }
    assert_eq!(compared, 42);
}

fn compare(id: &str, case: &Value, seen: &Seen) {
    let better = case.get("better");
    let want = better.unwrap_or(&case["expect"][0]);
    assert_eq!(json!(seen.status), want["status"], "{id}: {}", seen.text);
    if let Some(keys) = better.and_then(|better| better.get("keys")) {
        assert_eq!(json!(seen.body.as_object().unwrap().keys().collect::<Vec<_>>()), *keys);
    }
    let Some(members) = want["body"].as_object() else { return };
    for (name, value) in members {
        let got = &seen.body[name];
        let is_token = value == "<jwt>" && got.as_str().is_some_and(|text| text.starts_with("eyJ"));
        let prefix = "JSON parse error - ";
        let is_parse_error =
            [value, got].iter().all(|text| text.as_str().is_some_and(|text| text.starts_with(prefix)));
        assert!(is_token || is_parse_error || got == value, "{id}: {}", seen.text);
    }
    if seen.status == 200 || !members.contains_key("detail") {
        assert_eq!(seen.body.as_object().unwrap().len(), members.len(), "{id}: {}", seen.text);
    }
}

#[test]
fn a_login_gives_a_pair_of_one_session() {
    let rig = rig(None);
    let seen =
        rig.json("/api/token", &json!({ "username": "user1", "password": "secure-password", "x": {} }));
    assert!(seen.text.starts_with("{\"refresh\":\""), "the order of simplejwt");
    assert_eq!(seen.user.as_deref(), Some("1"));
    let verify =
        |name: &str, kind| rig.verifier.verify(seen.body[name].as_str().unwrap().as_bytes(), kind).unwrap();
    let (access, refresh) = (verify("access", Expected::Access), verify("refresh", Expected::Refresh));
    assert_eq!((access.session.as_ref(), access.user_id.as_str()), (refresh.session.as_ref(), "1"));
    let seen = rig.json(
        "/api/token/refresh",
        &json!({ "refresh": format!(" {}\n", seen.body["refresh"].as_str().unwrap()) }),
    );
    assert_eq!((seen.status, seen.body.as_object().unwrap().len()), (200, 1));
    let again =
        rig.verifier.verify(seen.body["access"].as_str().unwrap().as_bytes(), Expected::Access).unwrap();
    assert_eq!(again.session, access.session);
    assert_ne!(again.jti, access.jti);
}

#[test]
fn names_and_passwords_are_not_trimmed() {
    let rig = rig(None);
    let trimmed = rig.json("/api/token/", &json!({ "username": " edge ", "password": "correct horse" }));
    assert_eq!(trimmed.status, 401);
    assert_eq!(
        rig.json("/api/token/", &json!({ "username": " edge ", "password": " correct horse " })).status,
        200
    );
    assert_eq!(
        rig.login("application/x-www-form-urlencoded", b"username=+edge+&password=%20correct+horse%20")
            .status,
        200
    );
}

#[test]
fn every_refused_login_is_the_same() {
    let rig = rig(None);
    let answer = |name: &str| rig.json("/api/token/", &json!({ "username": name, "password": "nope" }));
    let (one, other) = (answer("user1"), answer("nobody"));
    assert_eq!(one.text, other.text);
    assert!(
        one.text.starts_with(r#"{"detail":"No active account found with the given credentials","type":"#)
    );
    assert!(one.body.get("code").is_none() && one.body["reason"] == "credentials_invalid");
    assert_eq!(one.headers, other.headers);
    assert_eq!(one.headers.at(WWW_AUTHENTICATE), "Bearer realm=\"api\"");
}

#[test]
fn forms_are_read_as_django_does() {
    let rig = rig(None);
    let form = "application/x-www-form-urlencoded";
    for (content_type, body) in [
        (form, &b"username=user1&password=secure-password"[..]),
        ("APPLICATION/X-WWW-FORM-URLENCODED; charset=utf-8", b"username=user1&password=secure%2Dpassword"),
        (form, b"username=nobody&username=user1&password=secure-password&&x"),
        (form, "username=zoë&password=pässwörd+☃".as_bytes()),
        (form, b"username=zo%C3%AB&password=p%C3%A4ssw%c3%b6rd%20%E2%98%83"),
        ("application/json;charset=latin-1", "{\"username\":\"zoë\",\"password\":\"pässwörd ☃\"}".as_bytes()),
    ] {
        assert_eq!(rig.login(content_type, body).status, 200, "{content_type}");
    }
    let latin1 = "application/x-www-form-urlencoded; charset=\"ISO-8859-1\"";
    rig.login(latin1, b"username=zo%EB&password=100%25+%zz%");
    let asked = rig.people.asked.lock().unwrap().last().cloned().unwrap();
    assert_eq!(asked, ("zoë".to_owned(), b"100% %zz%".to_vec()));
    let many = "a=b&".repeat(bounds_fields() + 1);
    let seen = rig.login(form, many.as_bytes());
    assert_eq!((seen.status, seen.reason), (400, Some(Reason::RequestMalformed)));
    assert_eq!(rig.login(form, b"=&&&%").body["username"], json!(["This field is required."]));
}

fn bounds_fields() -> usize {
    crate::base::bounds::MAX_FORM_FIELDS
}

#[test]
fn multipart_is_read_and_files_are_no_text() {
    let rig = rig(None);
    let part = |name: &str, extra: &str, value: &str| {
        format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"{extra}\r\n\r\n{value}\r\n")
    };
    let kind = "multipart/form-data; boundary=b";
    let name = part("username", "", "user1");
    let sound = format!("{name}{}--b--\r\n", part("password", "", "secure-password"));
    assert_eq!(rig.login(kind, sound.as_bytes()).status, 200);
    assert_eq!(rig.login("Multipart/Form-Data; boundary=\"b\"", sound.as_bytes()).status, 200);
    let file = format!("{name}{}--b--\r\n", part("password", "; filename=\"p\"", "secure-password"));
    assert_eq!(rig.login(kind, file.as_bytes()).text, r#"{"password":["Not a valid string."]}"#);
    let seen = rig.login("multipart/form-data", sound.as_bytes());
    assert_eq!(
        (seen.status, &seen.body["detail"]),
        (400, &json!("Multipart form parse error - Invalid boundary in multipart: None"))
    );
    for broken in [
        "x",
        "--b",
        "--b\r\n",
        "--b\r\nContent-Disposition: form-data\r\n\r\n",
        sound.trim_end_matches("--b--\r\n"),
    ] {
        let seen = rig.login(kind, broken.as_bytes());
        assert_eq!(seen.status, 400, "{broken}");
    }
    let many = part("x", "", "y").repeat(bounds_fields() + 1);
    assert_eq!(rig.login(kind, format!("{many}--b--\r\n").as_bytes()).status, 400);
}

#[test]
fn fields_are_validated_in_the_words_of_rest_framework() {
    let rig = rig(None);
    for (body, text) in [
        (
            r#"{"username":"","password":" \t\u00a0"}"#,
            r#"{"username":["This field may not be blank."],"password":["This field may not be blank."]}"#,
        ),
        (
            r#"{"password":null}"#,
            r#"{"username":["This field is required."],"password":["This field may not be null."]}"#,
        ),
        (
            r#"{"username":["x"],"password":{}}"#,
            r#"{"username":["Not a valid string."],"password":["Not a valid string."]}"#,
        ),
        (
            r#"{"username":"a\u0000","password":false}"#,
            r#"{"username":["Null characters are not allowed."],"password":["Not a valid string."]}"#,
        ),
        (
            r#"{"username":"a\ud800","password":"x"}"#,
            r#"{"username":["Surrogate characters are not allowed: U+D800."]}"#,
        ),
        (
            r#"{"username":"\u0000\udfff\ud800","password":"x"}"#,
            r#"{"username":["Null characters are not allowed.","Surrogate characters are not allowed: U+DFFF."]}"#,
        ),
        (
            r#"{"username":"x","password":1,"password":null}"#,
            r#"{"password":["This field may not be null."]}"#,
        ),
        ("[]", r#"{"non_field_errors":["Invalid data. Expected a dictionary, but got list."]}"#),
        ("\"x\"", r#"{"non_field_errors":["Invalid data. Expected a dictionary, but got str."]}"#),
        ("1", r#"{"non_field_errors":["Invalid data. Expected a dictionary, but got int."]}"#),
        ("1.5", r#"{"non_field_errors":["Invalid data. Expected a dictionary, but got float."]}"#),
        ("true", r#"{"non_field_errors":["Invalid data. Expected a dictionary, but got bool."]}"#),
        ("null", r#"{"non_field_errors":["No data provided"]}"#),
    ] {
        let seen = rig.login("application/json", body.as_bytes());
        assert_eq!((seen.status, seen.text.as_str()), (400, text), "{body}");
    }
    assert!(rig.people.asked.lock().unwrap().is_empty());
    // Numbers are taken as text, surrogates in pairs are characters, and private characters are nothing special.
    rig.login("application/json", r#"{"username":"\ud83d\ude00","password":12345}"#.as_bytes());
    rig.login("application/json", "{\"username\":\"\u{10d800}\",\"password\":1.5}".as_bytes());
    let asked = rig.people.asked.lock().unwrap();
    assert_eq!(*asked, [("😀".to_owned(), b"12345".to_vec()), ("\u{10d800}".to_owned(), b"1.5".to_vec())]);
}

#[test]
fn malformed_bodies_are_400_and_never_repeated() {
    let rig = rig(None);
    let deep = format!("{{\"username\":{}", "[".repeat(5000));
    for body in [
        &b"{\"username\":\"hunter2\""[..],
        b"hunter2",
        b"{\"a\":NaN}",
        b"{\"a\":Infinity}",
        b"\xff\xfe{\x00}\x00",
        b"\xef\xbb\xbf{}",
        b"{\"a\":\"\xff\"}",
        b"{} hunter2",
        b"{'a':1}",
        b"{\"a\":\"\\uD8\"}",
        b"\\ud800",
        b" ",
        deep.as_bytes(),
    ] {
        let seen = rig.login("application/json", body);
        assert_eq!((seen.status, seen.reason), (400, Some(Reason::RequestMalformed)), "{body:?}");
        assert!(seen.text.starts_with(r#"{"detail":"JSON parse error - "#) && !seen.text.contains("hunter2"));
    }
}

#[test]
fn other_types_are_415_and_an_empty_body_is_an_empty_object() {
    let rig = rig(None);
    for (content_type, shown) in [
        (Some("text/plain"), "text/plain"),
        (Some("application/vnd.api+json"), "application/vnd.api+json"),
        (None, ""),
        (Some("application/jsonp"), "application/jsonp"),
        (Some("text/<b>"), ""),
        (Some("é/é"), ""),
        (Some(""), ""),
    ] {
        let seen = rig.send("POST", "/api/token/", content_type, b"x");
        assert_eq!((seen.status, seen.reason), (415, Some(Reason::MediaTypeUnsupported)));
        assert_eq!(seen.body["detail"], format!("Unsupported media type \"{shown}\" in request."));
    }
    for content_type in
        [None, Some("text/plain"), Some("application/json"), Some("multipart/form-data"), Some("é")]
    {
        let seen = rig.send("POST", "/api/token/refresh/", content_type, b"");
        assert_eq!((seen.status, seen.text.as_str()), (400, r#"{"refresh":["This field is required."]}"#));
    }
}

#[test]
fn only_post_is_allowed() {
    let rig = rig(None);
    for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"] {
        for path in ["/api/token/", "/api/token/refresh"] {
            let seen = rig.send(method, path, Some("application/json"), b"{");
            assert_eq!((seen.status, seen.headers.at(ALLOW).to_str().unwrap()), (405, "POST"));
            assert_eq!(seen.body["detail"], format!("Method \"{method}\" not allowed."));
        }
    }
    for method in ["eyJhbGciOiJIUzI1NiJ9.e30.c2VjcmV0", "get", &"A".repeat(33)] {
        let seen = rig.send(method, "/api/token/", Some("application/json"), b"{");
        assert_eq!((seen.status, &seen.body["detail"]), (405, &json!("Method not allowed.")));
    }
}

#[test]
fn refused_refreshes_say_why() {
    let rig = rig(None);
    let refresh = |set: Value| {
        rig.json(
            "/api/token/refresh/",
            &json!({ "refresh": mint(&json!({ "type": "refresh", "set": set })) }),
        )
    };
    for (set, status, reason) in [
        (json!({}), 200, None),
        (json!({ "user_id": "elsewhere" }), 200, None),
        (json!({ "user_id": "2" }), 401, Some(Reason::UserInactive)),
        (json!({ "user_id": "abc" }), 401, Some(Reason::UserNotFound)),
        (json!({ "user_id": null }), 401, Some(Reason::TokenInvalid)),
        (json!({ "exp_in": -10 }), 401, Some(Reason::TokenExpired)),
        (json!({ "iat_in": 10 }), 401, Some(Reason::TokenNotYetValid)),
        (json!({ "exp": "123" }), 401, Some(Reason::TokenInvalid)),
        (json!({ "exp": 1_000_000_000_000_000_000_i64 }), 401, Some(Reason::TokenInvalid)),
        (json!({ "token_type": "sliding" }), 401, Some(Reason::TokenWrongType)),
    ] {
        let seen = refresh(set.clone());
        assert_eq!((seen.status, seen.reason), (status, reason), "{set}");
    }
    let expired = refresh(json!({ "exp_in": 0 }));
    assert_eq!(expired.headers.at(WWW_AUTHENTICATE), "Bearer realm=\"api\", error=\"invalid_token\"");
    assert!(
        expired
            .text
            .starts_with(r#"{"detail":"Token is expired","code":"token_not_valid","type":"about:blank","#)
    );
    let inactive = refresh(json!({ "user_id": "2" }));
    assert!(inactive.body.get("code").is_none());
    assert_eq!(inactive.headers.at(WWW_AUTHENTICATE), "Bearer realm=\"api\"");
    let blank = rig.json("/api/token/refresh/", &json!({ "refresh": "  " }));
    assert_eq!(blank.text, r#"{"refresh":["This field may not be blank."]}"#);
}

#[test]
fn a_claim_of_its_own_survives_a_refresh() {
    let rig = rig(None);
    let old = mint(&json!({ "type": "refresh", "set": { "role": "boss", "user_id": 1 } }));
    let seen = rig.json("/api/token/refresh/", &json!({ "refresh": old }));
    let claims =
        rig.verifier.verify(seen.body["access"].as_str().unwrap().as_bytes(), Expected::Access).unwrap();
    assert_eq!((claims.other.get("role"), claims.user_id.as_str()), (Some(&json!("boss")), "1"));
}

#[test]
fn trouble_with_the_user_source_is_503() {
    for (error, reason) in
        [(PeopleError::Overloaded, Reason::Overloaded), (PeopleError::Unavailable, Reason::StoreUnavailable)]
    {
        let rig = rig(Some(error));
        let login = rig.json("/api/token/", &json!({ "username": "user1", "password": "secure-password" }));
        let refresh =
            rig.json("/api/token/refresh/", &json!({ "refresh": mint(&json!({ "type": "refresh" })) }));
        for seen in [login, refresh] {
            assert_eq!((seen.status, seen.reason), (StatusCode::SERVICE_UNAVAILABLE.as_u16(), Some(reason)));
            assert_eq!(seen.headers.at(RETRY_AFTER), "1");
        }
    }
}

#[test]
fn a_login_is_shed_without_a_look_at_it_when_too_many_wait() {
    for failing in [None, Some(PeopleError::Unavailable), Some(PeopleError::Overloaded)] {
        let rig = rig(failing);
        for endpoint in Endpoint::ALL {
            for method in [Method::POST, Method::GET] {
                let shed = rig.routes.shed(endpoint, &method);
                let is_login = endpoint == Endpoint::Login && method == Method::POST;
                assert_eq!(shed.is_some(), is_login && failing == Some(PeopleError::Overloaded));
                if let Some(answer) = shed {
                    assert_eq!(
                        (answer.status, answer.reason),
                        (StatusCode::SERVICE_UNAVAILABLE, Some(Reason::Overloaded))
                    );
                    assert_eq!(answer.headers.at(RETRY_AFTER), "1");
                }
            }
        }
        assert!(rig.people.asked.lock().unwrap().is_empty());
    }
}

#[test]
fn the_key_set_is_public_and_empty_of_secrets() {
    let rig = rig(None);
    for method in ["GET", "HEAD"] {
        let seen = rig.send(method, "/.well-known/jwks.json", None, b"");
        assert_eq!((seen.status, seen.text.as_str()), (200, r#"{"keys":[]}"#));
        assert_eq!(seen.headers.at(CACHE_CONTROL), "public, max-age=300");
    }
    let seen = rig.send("POST", "/.well-known/jwks.json", None, b"");
    assert_eq!((seen.status, seen.headers.at(ALLOW).to_str().unwrap()), (405, "GET, HEAD"));
}

#[test]
fn only_the_exact_paths_are_token_routes() {
    let routes = rig(None).routes;
    for (path, endpoint) in [
        ("/api/token", Some(Endpoint::Login)),
        ("/api/token/", Some(Endpoint::Login)),
        ("/api/token/refresh", Some(Endpoint::Refresh)),
        ("/api/token/refresh/", Some(Endpoint::Refresh)),
        ("/.well-known/jwks.json", Some(Endpoint::Jwks)),
        ("/api/tokens", None),
        ("/api/token//", None),
        ("/api/token/refresh/x", None),
        ("/api/token/verify/", Some(Endpoint::Verify)),
        ("/api/token/blacklist", Some(Endpoint::Blacklist)),
        ("/api/token/blacklist/x", None),
        ("/api", None),
        ("/.well-known/jwks.json/", None),
    ] {
        assert_eq!(routes.matches(path), endpoint, "{path}");
    }
}

#[test]
fn nothing_prints_a_password_or_a_token() {
    let request = TokenRequest {
        endpoint: Endpoint::Login,
        method: Method::POST,
        content_type: None,
        authorization: Some(HeaderValue::from_static("Bearer hunter2")),
        body: Bytes::from_static(b"hunter2"),
        client: IpAddr::from([192, 0, 2, 1]),
    };
    assert!(!format!("{request:?}").contains("hunter2"));
    assert!(!format!("{:?}", Body::Raw(Bytes::from_static(b"hunter2"))).contains("hunter2"));
}
