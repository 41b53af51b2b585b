//! Nobody but the gateway says who is calling.

use serde_json::json;

use crate::support::mint;
use crate::support::upstream::Recorded;
use crate::support::{Gateway, Setup, Upstream};

/// When the tokens of these tests are made.
const NOW_MS: i64 = 1_800_000_000_000;
const NOW: i64 = NOW_MS / 1000;

/// Names that some server maps to a header of the gateway, and what they must never carry.
const ALIASES: &[&str] = &[
    "X-User-Id",
    "x-user-id",
    "X_USER_ID",
    "x_user-id",
    "x-user_id",
    "X.User.Id",
    "X-User--Id",
    "X-User-Id-",
    "-X-User-Id",
    "HTTP_X_USER_ID",
    "Http-X-User-Id",
    "X!User!Id",
    "x~user~id",
    "XUserId",
    "X-User-Name",
    "x_user_name",
    "X-User-Email",
    "X-User-Groups",
    "X_User_Groups",
    "x+user+groups",
    "X-Forwarded-User",
    "X-Forwarded-Email",
    "X-Forwarded-Groups",
    "X-Forwarded-Preferred-Username",
    "Remote-User",
    "REMOTE_USER",
    "Http_Remote_User",
    "Remote-Groups",
    "Remote-Name",
    "Remote-Email",
    "X-WEBAUTH-USER",
    "X-Remote-User",
    "X-Auth-Request-User",
    "X-Auth-Request-Email",
    "X-Client-Cert",
    "X-Forwarded-Client-Cert",
    "X-Forwarded-Access-Token",
    "Proxy-Authorization",
    "Proxy_Authorization",
    "X-HTTP-Method-Override",
    "X-Method-Override",
    "X_Forwarded_For",
    "X-Forwarded_Proto",
    "X.Forwarded.Host",
    "Forwarded",
    "X-Real-IP",
    "X_Real_Ip",
    "X-Original-URL",
    "X-Rewrite-URL",
    "X-Forwarded-Prefix",
    "X-Forwarded-Port",
    "True-Client-IP",
    "X-Request_Id",
    "X-Tollgate-Assertion",
    "Te",
    "Upgrade",
    "Keep-Alive",
    "Proxy-Connection",
    "HTTP2-Settings",
];

fn squeezed(name: &str) -> String {
    let plain: String =
        name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    plain.strip_prefix("http").unwrap_or(&plain).to_owned()
}

/// Nothing forged is left, under whatever name.
#[track_caller]
fn nothing_forged(request: &Recorded) {
    for (name, value) in &request.head.fields.0 {
        assert!(!value.contains("forged"), "{name}: {value} on {}", request.target());
    }
}

fn guarded(upstream: &Upstream) -> Gateway {
    Setup::guarded(upstream)
        .clock(NOW_MS)
        .person("alice", Some("alice@example.com"), &["staff", "finance"], "secure-password", true)
        .person("zoë", None, &[], "secure-password", true)
        .start()
}

#[test]
fn identity_headers_tell_who_is_calling() {
    let upstream = Upstream::echo();
    let gateway = guarded(&upstream);
    let mut client = gateway.client();
    client.get_as("/", &mint::access("1", NOW, 600)).expect(200);
    let alice = upstream.last();
    assert_eq!((alice.field("x-user-id"), alice.field("x-user-name")), ("1", "alice"));
    assert_eq!(
        (alice.field("x-user-email"), alice.field("x-user-groups")),
        ("alice@example.com", "finance,staff")
    );
    client.get_as("/", &mint::access("2", NOW, 600)).expect(200);
    let zoe = upstream.last();
    assert_eq!((zoe.field("x-user-id"), zoe.field("x-user-name")), ("2", "zoë"));
    assert!(!zoe.head.fields.has("x-user-email"), "{zoe:?}");
    assert_eq!(zoe.field("x-user-groups"), "");
    client.get("/optional", "").expect(200);
    let nobody = upstream.last();
    for name in ["x-user-id", "x-user-name", "x-user-email", "x-user-groups"] {
        assert!(!nobody.head.fields.has(name), "{nobody:?}");
    }
}

#[test]
fn the_record_counts_and_not_the_token() {
    let upstream = Upstream::echo();
    let gateway = guarded(&upstream);
    let mut claims = mint::claims("1", NOW, 600);
    for (name, value) in
        [("username", json!("root")), ("email", json!("root@x.test")), ("groups", json!(["admin"]))]
    {
        claims[name] = value;
    }
    let token = mint::sign(&json!({"alg": "HS256"}), &claims, mint::SECRET);
    gateway.client().get_as("/", &token).expect(200);
    let seen = upstream.last();
    assert_eq!((seen.field("x-user-name"), seen.field("x-user-groups")), ("alice", "finance,staff"));
}

#[test]
fn no_alias_of_an_owned_header_arrives_on_any_route() {
    let upstream = Upstream::echo();
    let gateway = guarded(&upstream);
    let token = mint::access("1", NOW, 600);
    gateway.ledger.keep_token_secret(&token);
    let bearer = format!("authorization: Bearer {token}\r\n");
    for target in ["/", "/optional", "/optional/anonymous", "/public"] {
        let credentials = if target.len() > 1 && target != "/optional" { "" } else { bearer.as_str() };
        let mut client = gateway.client();
        for alias in ALIASES {
            // Some servers fold the name, some take the first of two, some the last.
            for fields in [
                format!("{alias}: forged\r\n"),
                format!("{alias}: forged\r\n{alias}: forged-too\r\n"),
                format!("{}: forged\r\n{}: forged\r\n", alias.to_uppercase(), alias.to_lowercase()),
                format!("connection: {alias}\r\n{alias}: forged\r\n"),
            ] {
                client.get(target, &format!("{fields}{credentials}")).expect(200);
                let seen = upstream.last();
                nothing_forged(&seen);
                let owner = if credentials.is_empty() { "" } else { "1" };
                assert_eq!(seen.field("x-user-id"), owner, "{fields:?} on {target}");
            }
        }
        // All of them in one request.
        let all: String = ALIASES.iter().map(|alias| format!("{alias}: forged\r\n")).collect();
        client.get(target, &format!("{all}{credentials}")).expect(200);
        let seen = upstream.last();
        nothing_forged(&seen);
        let owned: Vec<String> = ALIASES.iter().map(|alias| squeezed(alias)).collect();
        let set = [
            "x-user-id",
            "x-user-name",
            "x-user-email",
            "x-user-groups",
            "x-forwarded-for",
            "x-forwarded-proto",
            "x-forwarded-host",
            "x-request-id",
        ];
        for (name, _) in &seen.head.fields.0 {
            assert!(!owned.contains(&squeezed(name)) || set.contains(&name.as_str()), "{name} arrived");
        }
    }
}

#[test]
fn connection_cannot_remove_what_the_gateway_sets() {
    let upstream = Upstream::echo();
    let gateway = guarded(&upstream);
    let token = mint::access("1", NOW, 600);
    let fields = format!(
        "connection: x-user-id, X-User-Groups, x-forwarded-for, host, content-length, authorization, x-request-id, x-hop\r\n\
         x-hop: forged\r\nauthorization: Bearer {token}\r\n"
    );
    gateway.ledger.keep_token_secret(&token);
    gateway.client().call("POST", "/", &fields, b"body").expect(200);
    let seen = upstream.last();
    nothing_forged(&seen);
    assert_eq!((seen.field("x-user-id"), seen.field("x-user-groups")), ("1", "finance,staff"));
    assert_eq!((seen.field("x-forwarded-for"), seen.field("host")), ("127.0.0.1", "gw.test"));
    assert_eq!((seen.body.as_slice(), seen.field("x-request-id").len()), (&b"body"[..], 32));
}

#[test]
fn trailers_cannot_forge() {
    let upstream = Upstream::echo();
    let gateway = guarded(&upstream);
    let mut client = gateway.client();
    client.send(
        "POST /public HTTP/1.1\r\nhost: gw.test\r\ntransfer-encoding: chunked\r\ntrailer: x-user-id\r\n\r\n\
         2\r\nok\r\n0\r\nX-User-Id: forged\r\nAuthorization: forged\r\n\r\n",
    );
    client.answer().expect(200);
    let seen = upstream.last();
    nothing_forged(&seen);
    assert!(seen.trailers.0.is_empty() && !seen.head.fields.has("trailer"), "{seen:?}");
}

#[test]
fn a_public_route_ignores_tokens_and_still_removes() {
    let upstream = Upstream::echo();
    let gateway = guarded(&upstream);
    let mut client = gateway.client();
    let expired = mint::access("1", NOW - 1000, 10);
    let good = mint::access("1", NOW, 600);
    for authorization in [
        "",
        "Bearer garbage",
        "Bearer",
        "Basic eDp5",
        &format!("Bearer {expired}"),
        &format!("Bearer {good}"),
    ] {
        let fields =
            format!("authorization: {authorization}\r\nx-user-id: forged\r\nx-user-groups: forged\r\n");
        client.get("/public", &fields).expect(200);
        let seen = upstream.last();
        nothing_forged(&seen);
        for name in ["x-user-id", "x-user-groups", "authorization"] {
            assert!(!seen.head.fields.has(name), "{authorization:?}: {seen:?}");
        }
    }
}

#[test]
fn credentials_stay_at_the_gateway_and_cookies_pass() {
    let upstream = Upstream::echo();
    let gateway = guarded(&upstream);
    let token = mint::access("1", NOW, 600);
    gateway.ledger.keep_token_secret(&token);
    let fields = format!(
        "Authorization: Bearer {token}\r\nCookie: a=b\r\nTraceparent: 00-x\r\nX-Custom_Name: kept\r\n"
    );
    gateway.client().get("/", &fields).expect(200);
    let seen = upstream.last();
    assert!(!seen.head.fields.has("authorization"));
    assert!(!String::from_utf8_lossy(&seen.head.raw).contains(&token));
    assert_eq!(
        (seen.field("cookie"), seen.field("traceparent"), seen.field("x-custom_name")),
        ("a=b", "00-x", "kept")
    );
}

#[test]
fn the_origin_is_made_anew_for_an_untrusted_peer() {
    let upstream = Upstream::echo();
    let gateway = guarded(&upstream);
    let response = gateway.client().get(
        "/public",
        "X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-For: 10.0.0.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil.test\r\n\
         X-Request-Id: chosen\r\nForwarded: for=1.2.3.4\r\nX-Real-IP: 1.2.3.4\r\n",
    );
    let response = response.expect(200);
    let seen = upstream.last();
    assert_eq!((seen.field("x-forwarded-for"), seen.field("x-forwarded-proto")), ("127.0.0.1", "http"));
    assert_eq!(
        (seen.field("x-forwarded-host"), seen.field("x-request-id")),
        ("gw.test", response.request_id())
    );
    assert!(!seen.head.fields.has("forwarded") && !seen.head.fields.has("x-real-ip"));
}

#[test]
fn the_origin_is_believed_from_a_trusted_peer() {
    let upstream = Upstream::echo();
    let gateway = Setup::public(&upstream).server("trusted_proxies = [\"127.0.0.1/32\"]").start();
    let mut client = gateway.client();
    gateway.ledger.choose_id("proxy-id-1");
    let response = client.get(
        "/",
        "X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: shop.example.com\r\nX-Request-Id: proxy-id-1\r\n\
         Forwarded: for=203.0.113.9\r\nX-Real-IP: 203.0.113.9\r\nX_Forwarded_For: forged\r\nX-User-Id: forged\r\n",
    );
    assert_eq!(response.expect(200).request_id(), "proxy-id-1");
    let seen = upstream.last();
    nothing_forged(&seen);
    assert_eq!(seen.head.fields.all("x-forwarded-for").join(", "), "203.0.113.9, 127.0.0.1");
    assert_eq!(
        (seen.field("x-forwarded-proto"), seen.field("x-forwarded-host")),
        ("https", "shop.example.com")
    );
    assert_eq!((seen.field("x-request-id"), seen.field("forwarded")), ("proxy-id-1", "for=203.0.113.9"));
    assert_eq!(seen.field("x-real-ip"), "203.0.113.9");
    // What a trusted peer leaves out is filled in.
    let response = client.get("/", "").expect(200);
    let seen = upstream.last();
    assert_eq!((seen.field("x-forwarded-for"), seen.field("x-forwarded-proto")), ("127.0.0.1", "http"));
    assert_eq!(
        (seen.field("x-forwarded-host"), seen.field("x-request-id")),
        ("gw.test", response.request_id())
    );
}

#[test]
fn client_upstream_and_log_know_a_request_by_one_id() {
    let upstream = Upstream::echo();
    let gateway = Setup::public(&upstream).server("trusted_proxies = [\"127.0.0.1/32\"]").start();
    let mut client = gateway.client();
    let long = "x".repeat(129);
    for fields in [
        format!("x-request-id: {long}\r\n"),
        "x-request-id: two words\r\n".to_owned(),
        "x-request-id:\r\n".to_owned(),
    ] {
        let response = client.get("/", &fields).expect(200);
        assert_eq!(response.request_id().len(), 32);
        assert_eq!(upstream.last().head.fields.all("x-request-id"), [response.request_id()], "{fields:?}");
    }
    gateway.ledger.choose_id("first");
    let response = client.get("/", "x-request-id: first\r\nx-request-id: second\r\n").expect(200);
    assert_eq!(upstream.last().head.fields.all("x-request-id"), [response.request_id()]);
}

#[test]
fn a_network_that_is_not_the_peers_is_not_trusted() {
    let upstream = Upstream::echo();
    let gateway = Setup::public(&upstream).server("trusted_proxies = [\"10.0.0.0/8\", \"::1/128\"]").start();
    gateway.client().get("/", "X-Forwarded-For: 10.0.0.1\r\nX-Request-Id: 1\r\n").expect(200);
    assert_eq!(upstream.last().field("x-forwarded-for"), "127.0.0.1");
}

#[test]
fn an_upstream_without_identity_gets_none_at_all() {
    let upstream = Upstream::echo();
    let gateway = Setup::new()
        .upstream("api", &upstream, "identity = \"none\"")
        .route("path = \"/\"\nauth = \"required\"\nupstream = \"api\"")
        .clock(NOW_MS)
        .user("alice")
        .start();
    let token = mint::access("1", NOW, 600);
    gateway.ledger.keep_token_secret(&token);
    let fields = format!(
        "authorization: Bearer {token}\r\nX-User-Id: forged\r\nX_User_Name: forged\r\nRemote-User: forged\r\n"
    );
    gateway.client().get("/", &fields).expect(200);
    let seen = upstream.last();
    nothing_forged(&seen);
    assert!(!seen.head.fields.0.iter().any(|(name, _)| squeezed(name).starts_with("xuser")), "{seen:?}");
    assert_eq!(seen.field("x-forwarded-for"), "127.0.0.1");
}

#[test]
fn an_identity_that_does_not_fit_a_header_is_not_cut() {
    let upstream = Upstream::echo();
    // Nobody was ever added, so the claims say who somebody is.
    let gateway = Setup::guarded(&upstream).clock(NOW_MS).start();
    let mut client = gateway.client();
    for (name, value) in [
        ("groups", json!(["a,b"])),
        ("groups", json!(["a\r\nx-user-id: 1"])),
        ("username", json!("a\nb")),
        ("username", json!("a\u{0}b")),
        ("email", json!("a\r\nb")),
        ("user_id", json!("1\r\nx-evil: 1")),
    ] {
        let mut claims = mint::claims("1", NOW, 600);
        claims[name] = value.clone();
        let token = mint::sign(&json!({"alg": "HS256"}), &claims, mint::SECRET);
        let refused = client.get_as("/", &token);
        assert!(matches!(refused.status, 401 | 502), "{name} {value}: {refused:?}");
        if name != "user_id" {
            refused.refused(502, "identity_unfit");
        }
    }
    assert_eq!(upstream.count(), 0);
}
