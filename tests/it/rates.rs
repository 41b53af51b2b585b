//! Limits of how many requests may come: whose are counted together, what who has made too many is told, and that nobody
//! else notices. The clock stands still unless a test moves it.

use std::sync::Arc;

use serde_json::json;

use crate::support::client::request;
use crate::support::gateway::PASSWORD;
use crate::support::http2_client::Http2Client;
use crate::support::{Gateway, Setup, Upstream, mint, websocket};

const NOW_MS: i64 = 1_800_000_000_000;
const TRUSTING: &str = "trusted_proxies = [\"127.0.0.1\"]";

/// A gateway for alice and bob with a limit named `most` on every path but `/free`.
fn limited(upstream: &Upstream, auth: &str, limit: &str) -> Setup {
    let route = |path: &str| {
        format!("path = \"{path}\"\nauth = \"{auth}\"\nupstream = \"api\"\nname = \"r{}\"", path.len())
    };
    Setup::new()
        .upstream("api", upstream, "")
        .route(&format!("{}\nlimit = \"most\"", route("/")))
        .route(&route("/free"))
        .section(&format!("[limits.most]\n{limit}"))
        .user("alice")
        .user("bob")
        .clock(NOW_MS)
}

/// A token of the user with this id.
fn token(gateway: &Gateway, id: &str) -> String {
    let token = mint::access(id, NOW_MS / 1000, 7200);
    gateway.ledger.keep_token_secret(&token);
    token
}

/// The statuses of as many requests with these fields, each over a connection of its own.
fn statuses(gateway: &Gateway, fields: &str, times: usize) -> Vec<u16> {
    (0..times).map(|_| gateway.client().get("/", fields).status).collect()
}

fn forwarded(client: &str) -> String {
    format!("x-forwarded-for: {client}\r\n")
}

#[test]
fn a_user_who_has_made_enough_requests_is_told_when_to_come_again_and_others_go_on() {
    let upstream = Upstream::echo();
    let gateway = limited(&upstream, "required", "key = \"user\"\nrate = \"3/m\"").start();
    let (alice, bob) = (token(&gateway, "1"), token(&gateway, "2"));
    for left in [2, 1, 0] {
        let response = gateway.client().get_as("/", &alice).expect(200);
        assert_eq!(response.field("ratelimit-policy"), "\"most\";q=3;w=60");
        let until = if left == 0 { 20 } else { (3 - left) * 20 };
        assert_eq!(response.field("ratelimit"), format!("\"most\";r={left};t={until}"));
        assert_eq!(response.field("retry-after"), "");
    }
    let response = gateway.client().get_as("/", &alice).refused(429, "rate_limited");
    assert_eq!(response.field("content-type"), "application/problem+json");
    assert_eq!(response.field("retry-after"), "20");
    assert_eq!(response.field("ratelimit-policy"), "\"most\";q=3;w=60");
    assert_eq!(response.field("ratelimit"), "\"most\";r=0;t=20");
    assert_eq!(response.json()["detail"], "Request was throttled. Expected available in 20 seconds.");
    let line = gateway.access_line(|line| line["request_id"] == response.request_id());
    assert_eq!((line["reason"].as_str(), line["user"].as_str()), (Some("rate_limited"), Some("1")));
    assert_eq!(upstream.count(), 3, "what is refused reaches nobody");
    // Neither another user nor a route without the limit notices.
    gateway.client().get_as("/", &bob).expect(200);
    let free = gateway.client().get_as("/free", &alice).expect(200);
    assert_eq!((free.field("ratelimit"), free.field("ratelimit-policy")), ("", ""));
    // A second before, it is still too early; then exactly one passes.
    gateway.set_clock(NOW_MS + 19_000);
    assert_eq!(gateway.client().get_as("/", &alice).refused(429, "rate_limited").field("retry-after"), "1");
    gateway.set_clock(NOW_MS + 20_000);
    gateway.client().get_as("/", &alice).expect(200);
    gateway.client().get_as("/", &alice).refused(429, "rate_limited");
}

#[test]
fn a_network_is_that_of_the_connection_or_of_the_right_most_hop_that_is_no_proxy() {
    let upstream = Upstream::echo();
    let limit = "key = \"ip\"\nrate = \"2/m\"";
    let gateway = limited(&upstream, "public", limit).server(TRUSTING).start();
    for (number, hops) in [
        ["192.0.2.1", "198.51.100.7, 192.0.2.1", "192.0.2.1, 127.0.0.1"],
        ["2001:db8:1:2::1", "[2001:db8:1:2:3::9]:80", "9.9.9.9,2001:db8:1:2:ffff::"],
    ]
    .into_iter()
    .enumerate()
    {
        let told = hops.map(|hops| gateway.client().get("/", &forwarded(hops)).status);
        assert_eq!(told, [200, 200, 429], "{number}");
    }
    assert_eq!(statuses(&gateway, &forwarded("192.0.2.2"), 1), [200]);
    assert_eq!(statuses(&gateway, &forwarded("2001:db8:1:3::1"), 1), [200]);
    assert_eq!(statuses(&gateway, "", 3), [200, 200, 429], "the proxy itself");
    // From anybody else the field changes nothing.
    let gateway = limited(&upstream, "public", limit).start();
    for (number, expected) in [200, 200, 429, 429].into_iter().enumerate() {
        let hop = forwarded(&format!("192.0.2.{number}"));
        assert_eq!(statuses(&gateway, &hop, 1), [expected], "{number}");
    }
}

#[test]
fn a_header_is_counted_by_its_value_and_its_absence_by_network() {
    let upstream = Upstream::echo();
    let limit = "key = \"header:X-Api-Key\"\nrate = \"1/m\"";
    let gateway = limited(&upstream, "public", limit).server(TRUSTING).start();
    let keyed = |key: &str, client: &str| format!("x-api-key: {key}\r\n{}", forwarded(client));
    assert_eq!(statuses(&gateway, &keyed("one", "192.0.2.1"), 2), [200, 429]);
    assert_eq!(statuses(&gateway, &keyed("one", "192.0.2.2"), 1), [429], "wherever it comes from");
    assert_eq!(statuses(&gateway, &keyed("two", "192.0.2.1"), 2), [200, 429]);
    assert_eq!(statuses(&gateway, &forwarded("192.0.2.1"), 2), [200, 429]);
    assert_eq!(statuses(&gateway, &forwarded("192.0.2.2"), 2), [200, 429]);
}

#[test]
fn whoever_is_no_user_is_counted_by_network() {
    let upstream = Upstream::echo();
    for auth in ["optional", "public"] {
        let gateway = limited(&upstream, auth, "key = \"user\"\nrate = \"1/m\"").server(TRUSTING).start();
        for client in ["192.0.2.1", "192.0.2.2"] {
            assert_eq!(statuses(&gateway, &forwarded(client), 2), [200, 429], "{auth}");
        }
        let alice = format!("authorization: Bearer {}\r\n{}", token(&gateway, "1"), forwarded("192.0.2.1"));
        // Where nobody asks, a token makes nobody a user.
        let expected = if auth == "public" { [429, 429] } else { [200, 429] };
        assert_eq!(statuses(&gateway, &alice, 2), expected, "{auth}");
    }
}

#[test]
fn guessing_tokens_is_counted_by_network_before_anybody_looks_at_them() {
    let upstream = Upstream::echo();
    let gateway = limited(&upstream, "required", "key = \"ip\"\nrate = \"3/m\"").start();
    let mut client = gateway.client();
    let guess = client.get("/", "authorization: Bearer a.b.c\r\n").refused(401, "token_invalid");
    assert_eq!(guess.field("ratelimit"), "\"most\";r=2;t=20");
    client.get("/", "").refused(401, "credentials_missing");
    client.get("/", "authorization: Bearer\r\n").refused(401, "header_malformed");
    client.get("/", "authorization: Bearer a.b.c\r\n").refused(429, "rate_limited");
    // Also for whoever has a good one, as nobody has looked.
    let alice = token(&gateway, "1");
    client.get_as("/", &alice).refused(429, "rate_limited");
    assert_eq!(upstream.count(), 0);
    // A limit by user is one of users: who is refused uses up nobody's.
    let gateway = limited(&upstream, "required", "key = \"user\"\nrate = \"1/m\"").start();
    assert_eq!(statuses(&gateway, "authorization: Bearer a.b.c\r\n", 3), [401, 401, 401]);
    gateway.client().get_as("/", &token(&gateway, "1")).expect(200);
}

#[test]
fn of_two_rates_each_is_kept_and_a_burst_comes_at_once() {
    let upstream = Upstream::echo();
    let limit = "key = \"user\"\nrate = [\"2/s\", \"6/h\"]\nburst = 3";
    let gateway = limited(&upstream, "required", limit).start();
    let alice = format!("authorization: Bearer {}\r\n", token(&gateway, "1"));
    assert_eq!(statuses(&gateway, &alice, 5), [200, 200, 200, 429, 429]);
    let refused = gateway.client().get("/", &alice).refused(429, "rate_limited");
    assert_eq!(refused.field("ratelimit-policy"), "\"most/s\";q=2;w=1, \"most/h\";q=6;w=3600");
    assert_eq!(refused.field("ratelimit"), "\"most/s\";r=0;t=1, \"most/h\";r=3;t=1800");
    assert_eq!(refused.field("retry-after"), "1");
    gateway.set_clock(NOW_MS + 500);
    assert_eq!(statuses(&gateway, &alice, 2), [200, 429]);
    gateway.set_clock(NOW_MS + 60_000);
    // What was refused has cost nothing of the hour: two are left of six.
    assert_eq!(statuses(&gateway, &alice, 3), [200, 200, 429]);
    let refused = gateway.client().get("/", &alice).refused(429, "rate_limited");
    assert_eq!(
        (refused.field("retry-after"), refused.field("ratelimit")),
        ("540", "\"most/s\";r=1;t=1, \"most/h\";r=0;t=540")
    );
    gateway.set_clock(NOW_MS + 600_000);
    assert_eq!(statuses(&gateway, &alice, 2), [200, 429]);
}

#[test]
fn a_list_of_limits_has_to_be_kept_whole() {
    let upstream = Upstream::echo();
    let gateway = Setup::new()
        .upstream("api", &upstream, "")
        .route("path = \"/\"\nauth = \"required\"\nupstream = \"api\"\nlimit = [\"per-user\", \"per-ip\"]")
        .section("[limits.per-user]\nkey = \"user\"\nrate = \"2/m\"\n[limits.per-ip]\nkey = \"ip\"\nrate = \"4/m\"")
        .user("alice")
        .user("bob")
        .clock(NOW_MS)
        .start();
    let (alice, bob) = (token(&gateway, "1"), token(&gateway, "2"));
    let response = gateway.client().get_as("/", &alice).expect(200);
    assert_eq!(response.field("ratelimit-policy"), "\"per-user\";q=2;w=60, \"per-ip\";q=4;w=60");
    assert_eq!(response.field("ratelimit"), "\"per-ip\";r=3;t=15, \"per-user\";r=1;t=30");
    gateway.client().get_as("/", &alice).expect(200);
    gateway.client().get_as("/", &alice).refused(429, "rate_limited");
    gateway.client().get_as("/", &bob).expect(200);
    gateway.client().get_as("/", &bob).refused(429, "rate_limited");
}

#[test]
fn counts_are_of_all_threads_and_protocols_together() {
    let upstream = Upstream::echo();
    let gateway = limited(&upstream, "required", "key = \"user\"\nrate = \"100/m\"").workers(2).start();
    let (alice, bob) = (token(&gateway, "1"), token(&gateway, "2"));
    let passed: usize = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..8)
            .map(|number| {
                let (gateway, alice) = (&gateway, &alice);
                scope.spawn(move || {
                    let mut over_http2 = (number % 2 == 0).then(|| Http2Client::connect(gateway));
                    let mut over_http1 = gateway.client();
                    let mut ask = || match &mut over_http2 {
                        Some(client) => client.get_as("/", alice),
                        None => over_http1.get_as("/", alice),
                    };
                    (0..25).filter(|_| ask().status == 200).count()
                })
            })
            .collect();
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    });
    assert_eq!((passed, upstream.count()), (100, 100));
    let mut client = Http2Client::connect(&gateway);
    let refused = client.get_as("/", &alice).refused(429, "rate_limited");
    assert_eq!((refused.field("retry-after"), refused.field("ratelimit")), ("1", "\"most\";r=0;t=1"));
    client.get_as("/", &bob).expect(200);
}

#[test]
fn grpc_is_told_by_its_own_status() {
    let upstream = Upstream::echo();
    let gateway = limited(&upstream, "required", "key = \"user\"\nrate = \"1/m\"").start();
    let mut client = Http2Client::connect(&gateway);
    client.get_as("/", &token(&gateway, "1")).expect(200);
    let bearer = format!("Bearer {}", token(&gateway, "1"));
    let fields = [("content-type", "application/grpc"), ("te", "trailers"), ("authorization", &bearer)];
    let call = client.request("POST", "/echo.Echo/Unary", &fields);
    let response = client.ask(call, Some(b"")).expect(200);
    assert_eq!(response.field("grpc-status"), "8", "RESOURCE_EXHAUSTED");
    assert_eq!(response.field("grpc-message"), "Request was throttled. Expected available in 60 seconds.");
    assert_eq!((response.field("retry-after"), response.field("ratelimit")), ("60", "\"most\";r=0;t=60"));
    let line = gateway.access_line(|line| line["path"] == "/echo.Echo/Unary");
    assert_eq!((&line["status"], &line["reason"]), (&json!(200), &json!("rate_limited")));
}

#[test]
fn what_an_upstream_tells_of_its_own_limits_stays_beside() {
    let upstream = Upstream::start(|talk| {
        talk.read_body();
        talk.send("HTTP/1.1 200 OK\r\nx-upstream: 1\r\nratelimit: \"own\";r=7\r\ncontent-length: 0\r\n\r\n");
        crate::support::Then::Next
    });
    let gateway = limited(&upstream, "public", "key = \"ip\"\nrate = \"9/s\"").start();
    let response = gateway.client().get("/", "").expect(200);
    assert_eq!(response.head.fields.all("ratelimit"), ["\"own\";r=7", "\"most\";r=8;t=1"]);
}

#[test]
fn a_websocket_counts_once_and_one_too_many_is_not_opened() {
    let upstream = websocket::echo("");
    let gateway = limited(&upstream, "public", "key = \"ip\"\nrate = \"1/m\"").start();
    let opening = websocket::opening("");
    let mut client = gateway.client();
    client.send(request("GET", "/ws", &opening, b""));
    let head = client.head();
    assert_eq!(head.line, "HTTP/1.1 101 Switching Protocols");
    assert_eq!(head.fields.one("ratelimit"), Some("\"most\";r=0;t=60"));
    for _ in 0..5 {
        client.send(websocket::frame(websocket::TEXT, true, b"one more"));
        assert_eq!(websocket::read_frame(&mut client.wire), Ok((websocket::TEXT, b"one more".to_vec())));
    }
    gateway.client().get("/ws", &opening).refused(429, "rate_limited");
    assert_eq!(upstream.count(), 1);
}

#[test]
fn who_is_refused_with_a_body_is_heard_again_or_knows_that_the_connection_ends() {
    let upstream = Upstream::echo();
    let gateway =
        limited(&upstream, "public", "key = \"ip\"\nrate = \"1/m\"").tokens("limit = \"most\"").start();
    gateway.client().get("/", "").expect(200);
    for target in ["/", "/api/token/"] {
        // What the body holds is no request, whether it is read or not.
        let body = request("GET", "/free", "", b"");
        let mut client = gateway.client();
        let refused = client.call("POST", target, "", &body).refused(429, "rate_limited");
        if refused.field("connection") == "close" {
            client.expect_end();
        } else {
            client.get("/free", "").expect(200);
        }
    }
    assert!(upstream.requests().iter().skip(1).all(|request| request.target() == "/free"));
    assert!(upstream.count() <= 3);
}

fn login(gateway: &Gateway, fields: &str) -> crate::support::Response {
    let body = json!({"username": "alice", "password": "wrong-password"}).to_string();
    let fields = format!("content-type: application/json\r\n{fields}");
    gateway.client().call("POST", "/api/token/", &fields, body.as_bytes())
}

#[test]
fn the_token_routes_have_the_limit_that_they_are_given() {
    let upstream = Upstream::echo();
    // By user means by network there, since nobody is one before the login.
    for key in ["ip", "user"] {
        let gateway = limited(&upstream, "required", &format!("key = \"{key}\"\nrate = \"3/m\""))
            .tokens("limit = \"most\"")
            .server(TRUSTING)
            .start();
        let home = forwarded("192.0.2.1");
        assert_eq!(
            login(&gateway, &home).refused(401, "credentials_invalid").field("ratelimit"),
            "\"most\";r=2;t=20"
        );
        gateway.client().get("/.well-known/jwks.json", &home).expect(200);
        gateway.client().call("GET", "/api/token/refresh", &home, b"").refused(405, "method_not_allowed");
        let refused = login(&gateway, &home).refused(429, "rate_limited");
        assert_eq!((refused.field("retry-after"), refused.field("ratelimit")), ("20", "\"most\";r=0;t=20"));
        let line = gateway.access_line(|line| line["request_id"] == refused.request_id());
        assert_eq!((&line["route"], &line["reason"]), (&json!("token"), &json!("rate_limited")));
        login(&gateway, &forwarded("192.0.2.2")).refused(401, "credentials_invalid");
        gateway.set_clock(NOW_MS + 20_000);
        login(&gateway, &home).refused(401, "credentials_invalid");
    }
    let gateway =
        limited(&upstream, "required", "key = \"ip\"\nrate = \"1/m\"").tokens("limit = \"\"").start();
    for _ in 0..3 {
        assert_eq!(login(&gateway, "").refused(401, "credentials_invalid").field("ratelimit"), "");
    }
}

#[test]
fn without_a_setting_the_token_routes_have_a_generous_limit_that_is_told_to_who_reaches_it() {
    const MOST: usize = 10_000;
    let upstream = Upstream::echo();
    let gateway = Setup::guarded(&upstream).server(TRUSTING).user("alice").clock(NOW_MS).start();
    let ask = Arc::new(request("GET", "/.well-known/jwks.json", &forwarded("192.0.2.1"), b""));
    let mut client = gateway.client();
    for _ in 0..MOST / 100 {
        client.send(ask.repeat(100));
        for _ in 0..100 {
            let response = client.answer().expect(200);
            assert_eq!((response.field("ratelimit"), response.field("ratelimit-policy")), ("", ""));
        }
    }
    client.send(&*ask);
    let refused = client.answer().refused(429, "rate_limited");
    assert_eq!(refused.field("retry-after"), "1");
    assert_eq!(refused.field("ratelimit-policy"), "\"token-routes\";q=10000;w=1");
    gateway.client().get("/.well-known/jwks.json", &forwarded("192.0.2.2")).expect(200);
    // Routes that are proxied are not meant, and from elsewhere users log in.
    gateway.login("alice", PASSWORD);
    gateway.client().get("/public", &forwarded("192.0.2.1")).expect(200);
    gateway.set_clock(NOW_MS + 1);
    client.send(&*ask);
    client.answer().expect(200);
}
