//! Cross-origin requests: the gateway answers preflights, and tells browsers who may read what.

use crate::support::client::Response;
use crate::support::websocket::echo;
use crate::support::{Client, Setup, Then, Upstream, mint};

const NOW_MS: i64 = 1_800_000_000_000;
const NOW: i64 = NOW_MS / 1000;
const APP: &str = "origin: https://app.example.com\r\n";

fn preflight(client: &mut Client, target: &str, origin: &str, method: &str, headers: &str) -> Response {
    let asked = if headers.is_empty() {
        String::new()
    } else {
        format!("access-control-request-headers: {headers}\r\n")
    };
    client.call(
        "OPTIONS",
        target,
        &format!("origin: {origin}\r\naccess-control-request-method: {method}\r\n{asked}"),
        b"",
    )
}

/// The fields of an answer that are for browsers.
fn told(answer: &Response) -> Vec<String> {
    let mut fields: Vec<String> = answer
        .head
        .fields
        .0
        .iter()
        .filter_map(|(name, value)| {
            Some(format!("{}: {value}", name.to_lowercase().strip_prefix("access-control-")?))
        })
        .collect();
    fields.sort();
    fields
}

fn setup(upstream: &Upstream) -> Setup {
    Setup::new()
        .clock(NOW_MS)
        .user("alice")
        .upstream("api", upstream, "")
        .route("path = \"/\"\nauth = \"required\"\nupstream = \"api\"")
        .route(
            "path = \"/app\"\nauth = \"required\"\nupstream = \"api\"\n\
             cors = { origins = [\"https://app.example.com\", \"https://*.apps.example.com\"], credentials = true, expose = [\"X-Total\", \"X-Request-Id\"], max_age = \"1h\" }",
        )
        .route("path = \"/app/write\"\nmethods = [\"PUT\"]\nauth = \"required\"\nupstream = \"api\"\ncors = { origins = [\"*\"], headers = [\"*\"] }")
        .route("path = \"/fixed\"\nauth = \"public\"\nrespond = { body = \"x\" }\ncors = { origins = [\"*\"] }")
}

#[test]
fn a_preflight_is_answered_without_a_token() {
    let upstream = Upstream::echo();
    let gateway = setup(&upstream).start();
    let mut client = gateway.client();
    let varies = "origin, access-control-request-method, access-control-request-headers";
    for origin in ["https://app.example.com", "https://a.b.apps.example.com"] {
        let answer = preflight(&mut client, "/app/x", origin, "DELETE", "authorization").expect(204);
        assert_eq!(
            told(&answer),
            [
                "allow-credentials: true",
                "allow-headers: authorization, content-type",
                "allow-methods: GET, HEAD, POST, PUT, PATCH, DELETE",
                &format!("allow-origin: {origin}"),
                "max-age: 3600",
            ]
        );
        assert_eq!(answer.field("vary"), varies);
        assert!(answer.body.is_empty());
    }
    // Which route it is for is said by the method of the request that is to come.
    let answer = preflight(&mut client, "/app/write", "https://any.test", "PUT", "x-a, X-B").expect(204);
    assert_eq!(
        told(&answer),
        ["allow-headers: x-a, X-B", "allow-methods: PUT", "allow-origin: *", "max-age: 600"]
    );
    let answer = preflight(&mut client, "/app/write", "https://app.example.com", "GET", "").expect(204);
    assert!(told(&answer).contains(&"max-age: 3600".to_owned()));
    let answer = preflight(&mut client, "/app/write", "https://any.test", "PUT", "x a, \"b\"").expect(204);
    assert!(!answer.head.fields.has("access-control-allow-headers"));
    // Who is not allowed is told nothing.
    for origin in [
        "https://evil.test",
        "null",
        "https://app.example.com.evil.test",
        "http://app.example.com",
        "https://APP.example.com",
    ] {
        let answer = preflight(&mut client, "/app/x", origin, "GET", "").expect(204);
        assert_eq!((told(&answer), answer.field("vary")), (Vec::new(), varies), "{origin}");
    }
    assert_eq!(upstream.count(), 0);
    let line = gateway.access_line(|line| line["status"] == 204);
    assert_eq!((line["route"].as_str(), line["reason"].is_null()), (Some("route-2"), true));
}

#[test]
fn what_is_no_preflight_for_a_route_with_cors_is_a_request_like_any_other() {
    let upstream = Upstream::echo();
    let gateway = setup(&upstream).start();
    let mut client = gateway.client();
    preflight(&mut client, "/x", "https://app.example.com", "GET", "").refused(401, "credentials_missing");
    for fields in [
        "",
        APP,
        "access-control-request-method: GET\r\n",
        "origin: https://app.example.com\r\norigin: https://app.example.com\r\naccess-control-request-method: GET\r\n",
        "origin: https://app.example.com\r\naccess-control-request-method: GET, PUT\r\n",
        "origin: https://app.example.com\r\naccess-control-request-method: CONNECT\r\n",
    ] {
        client.call("OPTIONS", "/app/x", fields, b"").refused(401, "credentials_missing");
    }
    let fields = format!("{APP}access-control-request-method: GET\r\n");
    client.call("GET", "/app/x", &fields, b"").refused(401, "credentials_missing");
    assert_eq!(upstream.count(), 0);
}

#[test]
fn answers_and_refusals_tell_who_may_read_them() {
    let upstream = Upstream::says(
        "HTTP/1.1 200 OK\r\nx-upstream: 1\r\nvary: accept\r\naccess-control-allow-origin: *\r\nAccess-Control-Expose-Headers: x-user-id\r\naccess-control-allow-credentials: true\r\ncontent-length: 0\r\n\r\n",
        Then::Next,
    );
    let gateway = setup(&upstream).start();
    let mut client = gateway.client();
    let token = mint::access("1", NOW, 600);
    gateway.ledger.keep_token_secret(&token);
    let bearer = format!("authorization: Bearer {token}\r\n");
    let answer = client.get("/app/x", &format!("{APP}{bearer}")).expect(200);
    let granted = [
        "allow-credentials: true",
        "allow-origin: https://app.example.com",
        "expose-headers: x-total, x-request-id",
    ];
    assert_eq!(told(&answer), granted);
    assert_eq!(answer.head.fields.all("vary"), ["accept", "origin"]);
    let refused = client.get("/app/x", APP).refused(401, "credentials_missing");
    assert_eq!((told(&refused), refused.field("vary")), (granted.map(str::to_owned).to_vec(), "origin"));
    // Without an origin, or with another one, nothing of the upstream's own is left either.
    for fields in [bearer.clone(), format!("origin: https://evil.test\r\n{bearer}")] {
        let answer = client.get("/app/x", &fields).expect(200);
        assert_eq!((told(&answer), answer.head.fields.all("vary")), (Vec::new(), vec!["accept", "origin"]));
    }
    let answer = client.get("/fixed", "origin: https://any.test\r\n").expect(200);
    assert_eq!(told(&answer), ["allow-origin: *"]);
    // A route without it passes on what the upstream says.
    let answer = client.get("/x", &bearer).expect(200);
    assert_eq!(answer.field("access-control-allow-origin"), "*");
}

#[test]
fn a_websocket_is_opened_under_cors_too() {
    let upstream = echo("");
    let gateway = Setup::new()
        .upstream("api", &upstream, "")
        .route("path = \"/\"\nauth = \"public\"\nupstream = \"api\"\ncors = { origins = [\"https://app.example.com\"] }")
        .start();
    let mut client = gateway.client();
    client.send(crate::support::client::request("GET", "/ws", &crate::support::websocket::opening(APP), b""));
    assert_eq!(client.head().line, "HTTP/1.1 101 Switching Protocols");
}
