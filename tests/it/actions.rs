//! What routes make of requests: other paths, redirects, fixed answers, other header fields.

use crate::support::client::request;
use crate::support::http2::{Http2Upstream, Manner};
use crate::support::http2_client::Http2Client;
use crate::support::websocket::{TEXT, echo, frame, opening, read_frame};
use crate::support::{Setup, Then, Upstream, mint};

const NOW_MS: i64 = 1_800_000_000_000;
const NOW: i64 = NOW_MS / 1000;

/// A public route to the usual upstream.
fn open(lines: &str) -> String {
    format!("auth = \"public\"\nupstream = \"api\"\n{lines}")
}

#[test]
fn an_upstream_sees_the_path_that_the_route_makes_and_the_log_that_of_the_client() {
    let upstream = Upstream::echo();
    let gateway = Setup::new()
        .upstream("api", &upstream, "")
        .route(&open("path = \"/billing\"\nstrip_prefix = \"/billing\""))
        .route(&open("path = \"/t/{tenant}/x\"\nstrip_prefix = \"/t/{tenant}\""))
        .route(&open("path = \"/users/{id}\"\nrewrite = \"/v2/people/{id}\""))
        .route(&open("path = \"=/one/{a}/{b}\"\nrewrite = \"/{b}/{a}\""))
        .start();
    let mut client = gateway.client();
    for (target, seen) in [
        ("/billing", "/"),
        ("/billing/", "/"),
        ("/billing?a=//;%2e", "/?a=//;%2e"),
        ("/billing/invoices/7?x", "/invoices/7?x"),
        ("/billing/%61%20b/", "/a%20b/"),
        ("/t/acme/x/y", "/x/y"),
        ("/users/7", "/v2/people/7"),
        ("/users/7/", "/v2/people/7/"),
        ("/users/a%20b%c3%a9/orders?page=2", "/v2/people/a%20b%C3%A9/orders?page=2"),
        ("/one/1/2", "/2/1"),
    ] {
        client.get(target, "").expect(200);
        let last = upstream.last();
        assert_eq!(last.target(), seen, "{target}");
        assert_eq!(last.field("host"), "gw.test", "{target}");
    }
    for target in ["/billing/../x", "/users/..", "/users/%2e%2e", "/users/a%2fb", "/users/a;b", "/users//x"] {
        client.get(target, "").refused(400, "path_ambiguous");
    }
    let line = gateway.access_line(|line| line["path"] == "/users/7/");
    assert_eq!(line["route"], "route-3");
    assert!(gateway.access_lines().iter().all(|line| !line["path"].as_str().unwrap().contains("v2")));
}

#[test]
fn a_path_is_changed_for_http2_and_websockets_as_well() {
    let (upstream, sockets) = (Http2Upstream::echo(Manner::default()), echo(""));
    let gateway = Setup::new()
        .section(&format!("[upstreams.api]\ntargets = [\"{}\"]", upstream.h2c()))
        .upstream("ws", &sockets, "")
        .route(&open("path = \"/users/{id}\"\nrewrite = \"/v2/{id}\""))
        .route("path = \"/chat\"\nstrip_prefix = \"/chat\"\nauth = \"public\"\nupstream = \"ws\"\nrequest_headers = { set = { X-Env = \"prod\" } }")
        .start();
    let mut client = Http2Client::connect(&gateway);
    let answer = client.get("/users/7/x?q", &[]);
    assert_eq!((answer.status, answer.text()), (200, "GET /v2/7/x "));

    let mut client = gateway.client();
    client.send(request("GET", "/chat/room?id=1", &opening("x_env: dev\r\n"), b""));
    assert!(client.head().line.contains("101"));
    client.send(frame(TEXT, true, b"hello"));
    assert_eq!(read_frame(&mut client.wire), Ok((TEXT, b"hello".to_vec())));
    let seen = sockets.last();
    assert_eq!((seen.target(), seen.field("x-env")), ("/room?id=1", "prod"));
    assert!(!seen.head.fields.has("x_env"));
}

#[test]
fn a_redirect_leads_where_the_route_says_and_nowhere_else() {
    let upstream = Upstream::echo();
    let gateway = Setup::public(&upstream)
        .clock(NOW_MS)
        .user("alice")
        .route("path = \"/old/{id}\"\nauth = \"public\"\nredirect = \"https://new.example.com/people/{id}\"")
        .route("path = \"/here\"\nauth = \"public\"\nredirect = { to = \"/there\", status = 307 }")
        .route("path = \"=/gone\"\nauth = \"public\"\nredirect = { to = \"https://new.example.com?from=old#top\", status = 301 }")
        .route("path = \"/all\"\nauth = \"required\"\nredirect = { to = \"https://new.example.com\", status = 302 }\nresponse_headers = { set = { Cache-Control = \"no-cache\" } }")
        .start();
    let mut client = gateway.client();
    for (target, status, location) in [
        ("/old/7", 308, "https://new.example.com/people/7"),
        ("/old/7/x/?a=b&c", 308, "https://new.example.com/people/7/x/?a=b&c"),
        ("/old/@evil.test", 308, "https://new.example.com/people/@evil.test"),
        ("/old/evil.test%3a80", 308, "https://new.example.com/people/evil.test%3A80"),
        ("/here", 307, "/there"),
        ("/here/@evil.test/?x", 307, "/there/@evil.test/?x"),
        ("/gone?a=b", 301, "https://new.example.com?from=old#top"),
    ] {
        let answer = client.get(target, "").expect(status);
        assert_eq!(answer.field("location"), location, "{target}");
        assert!(answer.body.is_empty());
    }
    for target in
        ["/old//evil.test", "/here//evil.test", "/here/%2fevil.test", "/here/\\evil.test", "/here/..//evil"]
    {
        client.get(target, "").refused(400, "path_ambiguous");
    }
    // Who may not pass learns nothing of where it leads.
    assert!(!client.get("/all/x", "").refused(401, "credentials_missing").head.fields.has("location"));
    let answer = client.get_as("/all/x", &mint::access("1", NOW, 600)).expect(302);
    assert_eq!(answer.field("location"), "https://new.example.com/x");
    assert_eq!(answer.field("cache-control"), "no-cache");
    assert_eq!(upstream.count(), 0);
}

#[test]
fn a_fixed_answer_is_what_the_route_says_over_both_versions() {
    let upstream = Upstream::echo();
    let gateway = Setup::public(&upstream)
        .clock(NOW_MS)
        .user("alice")
        .route("path = \"=/robots.txt\"\nauth = \"public\"\nrespond = { body = \"User-agent: *\\n\" }")
        .route("path = \"/moved\"\nauth = \"public\"\nrespond = { status = 410, body = \"{}\", headers = { Content-Type = \"application/json\", X-Upstream = \"1\" } }")
        .route("path = \"/empty\"\nauth = \"public\"\nrespond = { status = 204 }")
        .route("path = \"/mine\"\nauth = \"required\"\nrespond = { body = \"for users\" }")
        .start();
    let mut client = gateway.client();
    let answer = client.get("/robots.txt", "").expect(200);
    assert_eq!(
        (answer.text(), answer.field("content-type")),
        ("User-agent: *\n", "text/plain; charset=utf-8")
    );
    let head = client.call("HEAD", "/robots.txt", "", b"").expect(200);
    assert!(head.body.is_empty());
    let answer = client.call("POST", "/moved/x", "", b"a body that nobody wants").expect(410);
    assert_eq!((answer.text(), answer.field("content-type")), ("{}", "application/json"));
    let mut client = gateway.client();
    let answer = client.get("/empty", "").expect(204);
    assert!(answer.body.is_empty() && !answer.head.fields.has("content-length"));
    client.get("/mine", "").refused(401, "credentials_missing");
    assert_eq!(client.get_as("/mine", &mint::access("1", NOW, 600)).expect(200).text(), "for users");

    let mut http2 = Http2Client::connect(&gateway);
    for (target, status, body) in [("/robots.txt", 200, "User-agent: *\n"), ("/empty", 204, "")] {
        let answer = http2.get(target, &[]);
        assert_eq!((answer.status, answer.text()), (status, body));
    }
    assert_eq!(upstream.count(), 0);
    let line = gateway.access_line(|line| line["status"] == 410);
    assert_eq!((line["route"].as_str(), line["upstream"].is_null()), (Some("route-3"), true));
}

#[test]
fn no_websocket_is_opened_where_nobody_is_behind_it() {
    let upstream = echo("");
    let gateway = Setup::public(&upstream)
        .route("path = \"/fixed\"\nauth = \"public\"\nrespond = { body = \"x\" }")
        .start();
    gateway.client().call("GET", "/fixed", &opening(""), b"").refused(404, "route_not_found");
    let mut http2 = Http2Client::connect(&gateway);
    crate::support::eventually("the gateway has said that it can", crate::support::DEADLINE, || {
        http2.send.is_extended_connect_protocol_enabled()
    });
    let mut request = http2.request("CONNECT", "/fixed", &[("sec-websocket-version", "13")]);
    request.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
    let (answer, _stream) = http2.begin(request, false);
    let answer = http2.answer("CONNECT", answer).unwrap();
    assert_eq!(answer.status, 404);
}

#[test]
fn header_rules_change_requests_in_every_spelling_and_answers_of_upstreams() {
    let upstream = Upstream::says(
        "HTTP/1.1 200 OK\r\nx-upstream: 1\r\nserver: secret/1.0\r\nx-powered-by: y\r\nset-cookie: a=1\r\nx-user-id: 7\r\ncontent-length: 0\r\n\r\n",
        Then::Next,
    );
    let gateway = Setup::new()
        .clock(NOW_MS)
        .user("alice")
        .upstream("api", &upstream, "")
        .route(
            "path = \"/\"\nauth = \"required\"\nupstream = \"api\"\n\
             request_headers = { set = { X-Env = \"prod\", \"X-Api-Key\" = \"k\" }, add = { X-Via = \"gw\" }, remove = [\"X-Debug\", \"Cookie\"] }\n\
             response_headers = { set = { Server = \"gw\", Strict-Transport-Security = \"max-age=1\" }, add = { Set-Cookie = \"b=2\" }, remove = [\"X-Powered-By\", \"X-User-Id\"] }",
        )
        .start();
    let mut client = gateway.client();
    let token = mint::access("1", NOW, 600);
    gateway.ledger.keep_token_secret(&token);
    let fields = format!(
        "authorization: Bearer {token}\r\nx-env: dev\r\nX_ENV: dev\r\nhttp-x-env: dev\r\nx.debug: 1\r\nX-Debug: 2\r\ncookie: c\r\nx-via: me\r\nx-other: 1\r\nx-user-id: 9\r\n"
    );
    let answer = client.get("/", &fields).expect(200);
    let seen = upstream.last().head.fields;
    for (name, value) in [
        ("x-env", Some("prod")),
        ("x_env", None),
        ("http-x-env", None),
        ("x.debug", None),
        ("x-debug", None),
        ("cookie", None),
        ("authorization", None),
        ("x-api-key", Some("k")),
        ("x-other", Some("1")),
        ("x-user-id", Some("1")),
        ("host", Some("gw.test")),
    ] {
        assert_eq!(seen.one(name), value, "{name}");
    }
    assert_eq!(seen.all("x-via"), ["me", "gw"]);
    let fields = &answer.head.fields;
    assert_eq!(
        (fields.one("server"), fields.one("strict-transport-security")),
        (Some("gw"), Some("max-age=1"))
    );
    assert_eq!(fields.all("set-cookie"), ["a=1", "b=2"]);
    assert!(!fields.has("x-powered-by") && !fields.has("x-user-id"));
    // A refusal is the gateway's own.
    let refused = client.get("/", "").refused(401, "credentials_missing");
    assert!(!refused.head.fields.has("server") && !refused.head.fields.has("strict-transport-security"));
}

#[test]
fn routes_are_told_apart_by_header_fields() {
    let (old, new) = (Upstream::echo(), Upstream::echo());
    let gateway = Setup::new()
        .upstream("old", &old, "")
        .upstream("new", &new, "")
        .route("path = \"/\"\nauth = \"public\"\nupstream = \"old\"")
        .route("path = \"/\"\nauth = \"public\"\nupstream = \"new\"\nheaders = { X-Version = \"2\" }")
        .start();
    let mut client = gateway.client();
    for (fields, is_new) in [
        ("", false),
        ("x-version: 1\r\n", false),
        ("X-Version: 2\r\n", true),
        ("x-version: 2\r\nx-version: 2\r\n", false),
        ("x_version: 2\r\n", false),
    ] {
        let before = (old.count(), new.count());
        client.get("/", fields).expect(200);
        let expected = if is_new { (before.0, before.1 + 1) } else { (before.0 + 1, before.1) };
        assert_eq!((old.count(), new.count()), expected, "{fields}");
    }
}

#[test]
fn a_legacy_path_is_forwarded_as_it_was_decided_about() {
    let upstream = Upstream::echo();
    let all = "accept = [\"encoded_slash\", \"semicolon\", \"empty_segment\"]";
    let gateway = Setup::new()
        .clock(NOW_MS)
        .upstream("api", &upstream, "")
        .route("path = \"/\"\nauth = \"required\"\nupstream = \"api\"")
        .route(&open(&format!("path = \"/old\"\n{all}")))
        .route(&open(&format!("path = \"/cut\"\nstrip_prefix = \"/cut\"\n{all}")))
        .route("path = \"/old/admin\"\nauth = \"required\"\nupstream = \"api\"")
        .start();
    let mut client = gateway.client();
    for (target, seen) in [
        ("/old/a%2fb;v=1//c/?q=;", "/old/a%2Fb;v=1//c/?q=;"),
        ("/old/a%3bb", "/old/a%3Bb"),
        ("/cut/a%2Fb", "/a%2Fb"),
        ("/cut/a//b;c", "/a//b;c"),
    ] {
        client.get(target, "").expect(200);
        assert_eq!(upstream.last().target(), seen, "{target}");
    }
    let count = upstream.count();
    for target in [
        "/old/admin;x",
        "/old//admin",
        "/old/%2fadmin",
        "/old/x%2f..%2fadmin",
        "/old/..;/old/admin",
        "/other/a%2Fb",
        "/other;x",
        "//old",
        "/cut//a",
        "/api/token/;x",
    ] {
        client.get(target, "").refused(400, "path_ambiguous");
    }
    assert_eq!(upstream.count(), count);
    let line = gateway.access_line(|line| line["path"] == "/old/a%2Fb;v=1//c/");
    assert_eq!(line["route"], "route-2");
}
