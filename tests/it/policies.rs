//! Who of those who are known may use a route: by groups, scopes, claims and parameters of the path; and routes that only
//! report whom they would refuse.

use std::io;
use std::time::Duration;

use serde_json::{Value, json};
use tollgate::cli::user;

use crate::support::client::request;
use crate::support::gateway::{PASSWORD, events};
use crate::support::http2_client::Http2Client;
use crate::support::tls::{Hello, Tls};
use crate::support::{Gateway, Setup, Upstream, eventually, mint, websocket};

const NOW_MS: i64 = 1_800_000_000_000;
const NOW: i64 = NOW_MS / 1000;
/// How soon a change is effective, at the latest.
const AT_ONCE: Duration = Duration::from_secs(1);

/// A gateway with routes for members of groups, bearers of scopes, holders of claims, and owners.
fn guarded(upstream: &Upstream) -> Setup {
    let route = |path: &str, policy: &str| {
        format!("path = \"{path}\"\nauth = \"required\"\nupstream = \"api\"\n{policy}")
    };
    Setup::new()
        .upstream("api", upstream, "")
        .route(&route("/groups", "allow = { groups = [\"finance\", \"admin\"] }"))
        .route(&route("/scopes", "allow = { scopes = [\"invoices\", \"write\"] }"))
        .route(&route("/claims", "allow = { claims = { tenant = \"acme\", \"realm_access.roles\" = [\"a\", \"b\"] } }"))
        .route(&route("/users/{id}", "allow = { match = { user_id = \"{id}\" } }"))
        .route(&route("/outside", "deny = { groups = [\"suspended\"] }"))
        .route("path = \"/optional\"\nauth = \"optional\"\nupstream = \"api\"\nallow = { groups = [\"finance\"] }")
        .clock(NOW_MS)
}

/// A token of the user with this id that says more.
fn token(gateway: &Gateway, id: &str, more: &Value) -> String {
    let mut claims = mint::claims(id, NOW, 600);
    for (name, value) in more.as_object().unwrap() {
        claims[name] = value.clone();
    }
    let token = mint::sign(&json!({"alg": "HS256", "kid": mint::KID}), &claims, mint::SECRET);
    gateway.ledger.keep_token_secret(&token);
    token
}

#[test]
fn groups_come_from_the_record_and_one_of_them_is_enough() {
    let upstream = Upstream::echo();
    let gateway = guarded(&upstream)
        .person("alice", None, &["finance", "x"], PASSWORD, true)
        .person("bob", None, &["sales"], PASSWORD, true)
        .start();
    let alice = token(&gateway, "1", &json!({"groups": []}));
    let bob = token(&gateway, "2", &json!({"groups": ["admin"]}));
    let mut client = gateway.client();
    client.get_as("/groups", &alice).expect(200);
    client.get_as("/optional", &alice).expect(200);
    let seen = upstream.count();
    let refused = client.get_as("/groups", &bob).refused(403, "group_missing");
    assert_eq!(refused.field("www-authenticate"), "Bearer realm=\"api\", error=\"insufficient_scope\"");
    let body = refused.json();
    assert_eq!(body["detail"], "You do not have permission to perform this action.");
    assert_eq!(body["code"], "permission_denied");
    client.get_as("/optional", &bob).refused(403, "group_missing");
    client.get("/optional", "").refused(401, "credentials_missing");
    client.get("/groups", "").refused(401, "credentials_missing");
    assert_eq!(upstream.count(), seen, "what is refused reaches nobody");
    let line = gateway.access_line(|line| line["request_id"] == refused.request_id());
    assert_eq!((line["reason"].as_str(), line["user"].as_str()), (Some("group_missing"), Some("2")));
    // Over HTTP/2, as a WebSocket and for gRPC it is the same decision.
    let mut other = Http2Client::connect(&gateway);
    other.get_as("/groups", &bob).refused(403, "group_missing");
    other.get_as("/groups", &alice).expect(200);
    let bearer = format!("authorization: Bearer {bob}\r\n");
    gateway.client().get("/groups", &websocket::opening(&bearer)).refused(403, "group_missing");
    let bearer = format!("Bearer {bob}");
    let fields =
        [("content-type", "application/grpc"), ("te", "trailers"), ("authorization", bearer.as_str())];
    let grpc = other.call("POST", "/groups", &fields).expect(200);
    assert_eq!((grpc.field("grpc-status"), upstream.count()), ("7", seen + 1));
}

#[test]
fn a_changed_group_takes_effect_at_once_on_open_connections() {
    let upstream = Upstream::echo();
    let gateway = guarded(&upstream).person("alice", None, &["finance"], PASSWORD, true).start();
    let alice = token(&gateway, "1", &json!({}));
    let (mut client, mut other) = (gateway.client(), Http2Client::connect(&gateway));
    client.get_as("/groups", &alice).expect(200);
    client.get_as("/groups", &alice).expect(200);
    other.get_as("/groups", &alice).expect(200);
    let change = |add: &[&str], remove: &[&str]| {
        let groups = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let (add, remove) = (groups(add), groups(remove));
        gateway.change(async |store| {
            user::groups(store, "alice", &add, &remove, &mut io::sink()).await.unwrap();
        });
    };
    change(&["suspended"], &["finance"]);
    eventually("alice is refused", AT_ONCE, || client.get_as("/groups", &alice).status == 403);
    client.get_as("/groups", &alice).refused(403, "group_missing");
    other.get_as("/groups", &alice).refused(403, "group_missing");
    client.get_as("/outside", &alice).refused(403, "policy_denied");
    change(&["admin"], &["suspended"]);
    eventually("alice may come back", AT_ONCE, || client.get_as("/groups", &alice).status == 200);
    other.get_as("/outside", &alice).expect(200);
}

#[test]
fn scopes_and_claims_come_from_the_token() {
    let upstream = Upstream::echo();
    let gateway = guarded(&upstream).user("alice").start();
    let mut client = gateway.client();
    let mut ask = |target: &str, claims: &Value| client.get_as(target, &token(&gateway, "1", claims));
    ask("/scopes", &json!({"scope": "write read invoices"})).expect(200);
    ask("/scopes", &json!({"scp": ["invoices", "write"]})).expect(200);
    for claims in [json!({}), json!({"scope": "invoices"}), json!({"scope": ["invoices write"]})] {
        let refused = ask("/scopes", &claims).refused(403, "scope_missing");
        assert_eq!(
            refused.field("www-authenticate"),
            "Bearer realm=\"api\", error=\"insufficient_scope\", scope=\"invoices write\""
        );
    }
    ask("/claims", &json!({"tenant": "acme", "realm_access": {"roles": ["z", "b"]}})).expect(200);
    for claims in [
        json!({}),
        json!({"tenant": "acme"}),
        json!({"tenant": "other", "realm_access": {"roles": ["a"]}}),
        json!({"tenant": "acme", "realm_access": {"roles": ["z"]}}),
        json!({"tenant": "acme", "realm_access.roles": ["a"]}),
    ] {
        ask("/claims", &claims).refused(403, "claim_mismatch");
    }
}

#[test]
fn users_reach_only_their_own_objects() {
    let upstream = Upstream::echo();
    let gateway = guarded(&upstream).user("alice").user("bob").start();
    let bob = token(&gateway, "2", &json!({}));
    let mut client = gateway.client();
    for target in ["/users/2", "/users/2/", "/users/2/orders?user=1", "/users/%32/orders"] {
        client.get_as(target, &bob).expect(200);
    }
    let seen = upstream.count();
    for target in ["/users/1", "/users/1/2", "/users/02", "/users/2%20", "/users/2,1", "/users/%EF%BC%92"] {
        client.get_as(target, &bob).refused(403, "claim_mismatch");
    }
    for target in ["/users/2;1", "/users/2%2f..%2f1", "/users/1/../2", "/users/2%00"] {
        client.get_as(target, &bob).refused(400, "path_ambiguous");
    }
    assert_eq!(upstream.count(), seen);
}

#[test]
fn without_users_of_its_own_the_gateway_takes_groups_from_the_token() {
    let upstream = Upstream::echo();
    let gateway = guarded(&upstream).start();
    let mut client = gateway.client();
    let mut ask =
        |target: &str, id: &str, claims: &Value| client.get_as(target, &token(&gateway, id, claims));
    ask("/groups", "x", &json!({"groups": ["admin"]})).expect(200);
    ask("/groups", "x", &json!({"groups": ["other"]})).refused(403, "group_missing");
    ask("/groups", "x", &json!({})).refused(403, "group_missing");
    ask("/users/x", "x", &json!({})).expect(200);
    ask("/users/y", "x", &json!({})).refused(403, "claim_mismatch");
}

#[test]
fn whoever_is_known_by_a_certificate_is_held_to_the_same_policies() {
    let (tls, upstream) = (Tls::new(), Upstream::echo());
    let lines = "[tls.client_auth]\nca = \"clients.pem\"\nmode = \"optional\"\nuser = \"san_dns\"";
    let setup = guarded(&upstream).person("alice", None, &["finance"], PASSWORD, true).user("bob");
    let gateway = tls.prepare(setup, lines).start();
    let (alice, bob) = (tls.authority.sign("alice", false), tls.authority.sign("bob", false));
    let mut client = tls.client_with(&gateway, &Hello { own: Some(&alice), ..Hello::default() });
    client.get("/groups", "").expect(200);
    client.get("/users/1", "").expect(200);
    client.get("/users/2", "").refused(403, "claim_mismatch");
    client.get("/scopes", "").refused(403, "scope_missing");
    client.get("/claims", "").refused(403, "claim_mismatch");
    let mut other = tls.client_with(&gateway, &Hello { own: Some(&bob), ..Hello::default() });
    other.get("/groups", "").refused(403, "group_missing");
    let finance = ["finance".to_owned()];
    gateway.change(async |store| user::groups(store, "alice", &[], &finance, &mut io::sink()).await.unwrap());
    eventually("alice is refused", AT_ONCE, || client.get("/groups", "").status == 403);
}

/// A gateway with a route that would be for the finance department if it refused anybody.
fn reporting(upstream: &Upstream) -> Setup {
    Setup::new()
        .upstream("api", upstream, "")
        .route(
            "name = \"trial\"\npath = \"/\"\nauth = \"required\"\nupstream = \"api\"\nenforce = \"report\"\n\
             allow = { groups = [\"finance\"] }",
        )
        .route(
            "path = \"/limited\"\nauth = \"required\"\nupstream = \"api\"\nenforce = \"report\"\nlimit = \"most\"",
        )
        .section("[limits.most]\nkey = \"ip\"\nrate = \"1/m\"")
        .person("alice", None, &["finance"], PASSWORD, true)
        .user("bob")
        .person("carol", None, &["finance"], PASSWORD, false)
        .clock(NOW_MS)
}

#[test]
fn what_is_only_reported_passes_without_an_identity_and_is_told() {
    let upstream = Upstream::echo();
    let gateway = reporting(&upstream).start();
    let alice = token(&gateway, "1", &json!({}));
    let bob = token(&gateway, "2", &json!({}));
    let carol = token(&gateway, "3", &json!({}));
    let expired = mint::access("1", NOW - 600, 60);
    let two = format!("authorization: Bearer {alice}\r\nauthorization: Bearer {alice}\r\n");
    let bearer = |token: &str| format!("authorization: Bearer {token}\r\n");
    let mut client = gateway.client();
    for (fields, user, reason) in [
        (String::new(), "", Some("credentials_missing")),
        (bearer("no.token.this"), "", Some("token_invalid")),
        (bearer(&expired), "", Some("token_expired")),
        (two, "", Some("header_malformed")),
        (bearer(&carol), "", Some("user_inactive")),
        (bearer(&bob), "2", Some("group_missing")),
        (bearer(&alice), "1", None),
    ] {
        let forged = "x-user-id: 1\r\nX_User_Groups: finance\r\n";
        let response = client.get("/a", &format!("{forged}{fields}")).expect(200);
        let seen = upstream.last();
        assert_eq!(seen.field("x-user-id"), user, "{reason:?}");
        let raw = String::from_utf8_lossy(&seen.head.raw).to_ascii_lowercase();
        assert!(!raw.contains("authorization") && !raw.contains("x_user"), "{raw}");
        let line = gateway.access_line(|line| line["request_id"] == response.request_id());
        assert_eq!((line["would_refuse"].as_str(), &line["reason"]), (reason, &Value::Null), "{line}");
        assert_eq!(line["user"].as_str().unwrap_or_default(), user);
    }
    let told = || {
        let events = events();
        events.into_iter().find(|line| {
            line["message"] == "requests passed that would have been refused" && line["route"] == "trial"
        })
    };
    eventually("the log tells of it", AT_ONCE * 3, || told().is_some());
    assert!(told().unwrap()["count"].as_u64() >= Some(1));
}

#[test]
fn where_nothing_is_enforced_malformed_requests_and_limits_are_all_the_same() {
    let upstream = Upstream::echo();
    let gateway = reporting(&upstream).start();
    let mut client = gateway.client();
    client.get("/limited", "").expect(200);
    client.get("/limited", "").refused(429, "rate_limited");
    client.get("/a/../b", "").refused(400, "path_ambiguous");
    assert_eq!(upstream.count(), 1);
    Http2Client::connect(&gateway).get("/a", &[("x-user-id", "1")]).expect(200);
    assert_eq!(upstream.last().field("x-user-id"), "");
}

#[test]
fn where_nothing_is_enforced_a_websocket_outlives_its_token() {
    let upstream = websocket::echo("");
    let enforced = "path = \"/enforced\"\nauth = \"required\"\nupstream = \"api\"";
    let gateway = reporting(&upstream).route(enforced).start();
    let alice = token(&gateway, "1", &json!({}));
    let bearer = format!("authorization: Bearer {alice}\r\n");
    let open = |target: &str| {
        let mut client = gateway.client();
        client.send(request("GET", target, &websocket::opening(&bearer), b""));
        assert_eq!(client.head().line, "HTTP/1.1 101 Switching Protocols");
        client
    };
    let (mut reported, mut enforced) = (open("/reported"), open("/enforced"));
    gateway.set_clock(NOW_MS + 3_600_000);
    let (kind, _) = websocket::read_frame(&mut enforced.wire).unwrap();
    assert_eq!(kind, websocket::CLOSE, "the one that was opened later ends with its token");
    reported.send(websocket::frame(websocket::TEXT, true, b"still here"));
    let echoed = websocket::read_frame(&mut reported.wire);
    assert_eq!(echoed, Ok((websocket::TEXT, b"still here".to_vec())));
}
