//! What a gateway remembers of the requests that it has refused, and who may ask for it.

use serde_json::{Value, json};
use tollgate::base::bounds;
use tollgate::cli::error::{CommandError, Exit};
use tollgate::cli::refused;
use tollgate::reload::Mode;

use crate::support::gateway::PASSWORD;
use crate::support::{DEADLINE, Gateway, Setup, Then, Upstream, eventually, mint};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const NOW_MS: i64 = 1_800_000_000_000;
const NOW: i64 = NOW_MS / 1000;

/// Routes for everybody, for those with a scope who own what they ask for, and to an upstream that breaks off.
fn setup(upstream: &Upstream, broken: &Upstream) -> Setup {
    let setup = Setup::new()
        .upstream("api", upstream, "")
        .upstream("broken", broken, "retries = 0")
        .route("name = \"all\"\npath = \"/\"\nauth = \"public\"\nupstream = \"api\"")
        .route(
            "name = \"users\"\npath = \"/users/{id}\"\nauth = \"required\"\nupstream = \"api\"\n\
             allow = { scopes = [\"read\"], match = { user_id = \"{id}\" } }",
        )
        .route("name = \"broken\"\npath = \"/broken\"\nauth = \"public\"\nupstream = \"broken\"")
        .route(
            "name = \"trial\"\npath = \"/trial\"\nauth = \"required\"\nenforce = \"report\"\nupstream = \"api\"",
        )
        .user("alice")
        .clock(NOW_MS);
    std::fs::write(setup.place().join("admin-token"), format!("{TOKEN}\n")).unwrap();
    setup
}

fn with_token(setup: Setup) -> Gateway {
    let gateway = setup.server("admin_token_file = \"admin-token\"").start();
    gateway.ledger.keep_secret(TOKEN);
    gateway
}

fn fields() -> String {
    format!("host: localhost\r\nx-tollgate-admin: 1\r\nauthorization: Bearer {TOKEN}")
}

/// What is remembered, the latest first, and the text in which that was told.
fn remembered(gateway: &Gateway) -> (Vec<Value>, String) {
    let (status, _, body) = gateway.admin_asked("/api/refusals", &fields());
    assert_eq!(status, 200, "{body}");
    let told: Value = serde_json::from_str(&body).unwrap();
    (told["refusals"].as_array().unwrap().clone(), body)
}

/// What is remembered of one request. It is when its answer has left, which its client may notice before.
#[track_caller]
fn refusal(gateway: &Gateway, id: &str) -> Value {
    let mut found = Value::Null;
    eventually(&format!("the refusal of {id} is remembered"), DEADLINE, || {
        let (status, _, body) = gateway.admin_asked(&format!("/api/refusals?request_id={id}"), &fields());
        assert!(matches!(status, 200 | 404), "{status} {body}");
        if status == 200 {
            let told: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(told["refusals"].as_array().unwrap().len(), 1);
            found = told["refusals"][0].clone();
        }
        status == 200
    });
    assert_eq!(found["request_id"], id);
    found
}

/// What the command tells of one request.
fn explained(gateway: &Gateway, id: &str) -> Result<(String, Exit), CommandError> {
    let address = gateway.running().admin_address().unwrap().to_string();
    let mut out = Vec::new();
    let exit = refused::perform(&gateway.config, id, Some(address), &mut out)?;
    Ok((String::from_utf8(out).unwrap(), exit))
}

#[test]
fn a_refusal_is_found_by_its_id_with_what_explains_it_and_with_no_secret() {
    let (upstream, broken) = (Upstream::echo(), Upstream::start(|_| Then::Close));
    let gateway = with_token(setup(&upstream, &broken));
    let token = mint::access("1", NOW, 60);
    let mut client = gateway.client();
    let id = |answer: &crate::support::Response| answer.request_id().to_owned();
    let passed = id(&client.get("/open?q=hidden-query", "").expect(200));
    let reported = id(&client.get("/trial", "").expect(200));
    let unknown = id(&client.get("/users/1?q=hidden-query", "").refused(401, "credentials_missing"));
    let not_allowed = id(&client.get_as("/users/%32?q=hidden-query", &token).refused(403, "scope_missing"));
    let forged = format!("{}A", mint::access("1", NOW, 60));
    let invalid = id(&client.get_as("/users/1", &forged).refused(401, "token_invalid"));
    let ambiguous = id(&client.get("/a/../b?q=hidden-query", "").refused(400, "path_ambiguous"));
    let login = json!({"username": "alice", "password": "wrong-password"});
    let login = id(&client.post_json("/api/token/", &login).refused(401, "credentials_invalid"));
    let cut = id(&gateway.client().get("/broken", "").refused(502, "upstream_refused"));

    let found = refusal(&gateway, &unknown);
    assert_eq!((&found["method"], &found["path"]), (&json!("GET"), &json!("/users/1")));
    assert_eq!((&found["route"], &found["user"]), (&json!("users"), &Value::Null));
    assert_eq!((&found["status"], &found["reason"]), (&json!(401), &json!("credentials_missing")));
    assert_eq!((&found["at_ms"], &found["client"]), (&json!(NOW_MS), &json!("127.0.0.1")));
    let found = refusal(&gateway, &not_allowed);
    assert_eq!((&found["path"], &found["user"]), (&json!("/users/2"), &json!("1")), "in normal form");
    let rules = json!([
        {"rule": "allow: scope read", "refuses": "scope_missing"},
        {"rule": "allow: claim user_id = {id} of the path", "refuses": "claim_mismatch"},
    ]);
    assert_eq!(found["rules"], rules, "also what would have refused it after that");
    let found = refusal(&gateway, &invalid);
    assert_eq!((&found["reason"], &found["user"]), (&json!("token_invalid"), &Value::Null));
    assert!(found["cause"].as_str().unwrap().contains("signature"), "more than the client is told: {found}");
    let found = refusal(&gateway, &ambiguous);
    assert_eq!((&found["route"], &found["detail"]), (&Value::Null, &json!("The path has a dot segment.")));
    let found = refusal(&gateway, &login);
    assert_eq!((&found["route"], &found["reason"]), (&json!("token"), &json!("credentials_invalid")));
    let found = refusal(&gateway, &cut);
    assert_eq!((&found["upstream"], &found["status"]), (&json!("broken"), &json!(502)));
    assert!(found["cause"].as_str().unwrap().contains("the connection broke"), "{found}");

    let (all, text) = remembered(&gateway);
    assert_eq!(all.len(), 6);
    assert!(!text.contains(&passed) && !text.contains(&reported), "who has passed is not remembered");
    let signature = token.rsplit('.').next().unwrap();
    for secret in
        ["hidden-query", "wrong-password", &token, &forged, signature, mint::SECRET, TOKEN, PASSWORD]
    {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    for id in [&passed, &reported, "unknown"] {
        let error = explained(&gateway, id).unwrap_err();
        assert_eq!(error.exit(), Exit::Findings);
        assert!(error.to_string().contains(&format!("knows of no refused request {id}")), "{error}");
    }
    let (text, exit) = explained(&gateway, &not_allowed).unwrap();
    assert_eq!(exit, Exit::Ok);
    assert!(
        text.starts_with(&format!(
            "GET gw.test/users/2\n\nrequest   {not_allowed}, ended 2027-01-15T08:00:00.000Z, from 127.0.0.1\n"
        )),
        "{text}"
    );
    assert!(text.contains("\nroute     users\ncaller    a user (id 1)\npolicy    refuses  allow: scope read (scope_missing)\n"), "{text}");
    assert!(text.ends_with("\nupstream  nothing was sent\n"), "{text}");
}

#[test]
fn what_never_became_a_request_is_remembered_too() {
    let (upstream, broken) = (Upstream::echo(), Upstream::echo());
    let gateway = with_token(setup(&upstream, &broken));
    let mut client = gateway.client();
    client.send(b"GET / HTTP/1.1\r\nno field\r\n\r\n");
    let answer = client.answer().refused(400, "request_malformed");
    let found = refusal(&gateway, answer.request_id());
    assert_eq!((&found["method"], &found["path"]), (&json!(""), &json!("")));
    assert_eq!(found["detail"], "The request is not well-formed HTTP.");
}

#[test]
fn only_who_has_the_admin_token_may_ask() {
    let (upstream, broken) = (Upstream::echo(), Upstream::echo());
    let gateway = with_token(setup(&upstream, &broken));
    let id = gateway.client().get("/users/1", "").refused(401, "credentials_missing").request_id().to_owned();
    refusal(&gateway, &id);
    let without = "host: localhost\r\nx-tollgate-admin: 1";
    for path in ["/api/refusals".to_owned(), format!("/api/refusals?request_id={id}")] {
        assert_eq!(gateway.admin_asked(&path, without).0, 401);
        let wrong = format!("{without}\r\nauthorization: Bearer {}", TOKEN.replace('f', "e"));
        assert_eq!(gateway.admin_asked(&path, &wrong).0, 401);
        assert_eq!(gateway.admin_asked(&path, &fields().replace("localhost", "evil.test")).0, 421);
        assert_eq!(gateway.admin_asked(&path, &format!("{}\r\norigin: https://evil.test", fields())).0, 403);
        assert_eq!(gateway.admin_asked(&path, &fields().replace("x-tollgate-admin", "x-other")).0, 403);
    }
    let post = format!(
        "POST /api/refusals HTTP/1.1\r\n{}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        fields()
    );
    assert_eq!(gateway.admin_sent(&post).0, 405);
}

#[test]
fn nothing_is_remembered_where_nobody_may_ask() {
    let (upstream, broken) = (Upstream::echo(), Upstream::echo());
    let gateway = with_token(setup(&upstream, &broken));
    let before = gateway.client().get("/users/1", "").refused(401, "credentials_missing");
    let found = refusal(&gateway, before.request_id());
    assert_eq!((&found["path"], &found["route"]), (&json!("/users/1"), &json!("users")));
    // It outlives a configuration, but what comes under one without a token is not kept.
    let without = gateway.text.replace("admin_token_file = \"admin-token\"", "");
    gateway.reload(&without, Mode::Apply).unwrap();
    let meanwhile = gateway.client().get("/users/2", "").refused(401, "credentials_missing");
    assert_eq!(gateway.admin_asked("/api/refusals", &fields()).0, 401);
    gateway.reload(&gateway.text.clone(), Mode::Apply).unwrap();
    let after = gateway.client().get("/users/3", "").refused(401, "credentials_missing");
    refusal(&gateway, after.request_id());
    refusal(&gateway, before.request_id());
    let (all, text) = remembered(&gateway);
    assert!(all.len() == 2 && !text.contains(meanwhile.request_id()), "{text}");
}

#[test]
fn the_oldest_are_forgotten() {
    let (upstream, broken) = (Upstream::echo(), Upstream::echo());
    let gateway = with_token(setup(&upstream, &broken));
    let mut client = gateway.client();
    let first = client.get("/users/1", "").refused(401, "credentials_missing").request_id().to_owned();
    refusal(&gateway, &first);
    for _ in 0..bounds::REMEMBERED_REFUSALS {
        client.get("/users/1", "").refused(401, "credentials_missing");
    }
    let last = client.get("/users/1", "").refused(401, "credentials_missing").request_id().to_owned();
    refusal(&gateway, &last);
    let (status, _, body) = gateway.admin_asked(&format!("/api/refusals?request_id={first}"), &fields());
    assert_eq!((status, body.as_str()), (404, "no refusal with this id is remembered\n"));
    assert_eq!(remembered(&gateway).0.len(), 200, "not all are told at once");
}

#[test]
fn the_threads_tell_together() {
    let (upstream, broken) = (Upstream::echo(), Upstream::echo());
    let gateway = with_token(setup(&upstream, &broken).workers(3));
    let ids: Vec<String> = (0..12)
        .map(|_| {
            gateway.client().get("/users/1", "").refused(401, "credentials_missing").request_id().to_owned()
        })
        .collect();
    for id in &ids {
        refusal(&gateway, id);
    }
    assert_eq!(remembered(&gateway).0.len(), 12);
}
