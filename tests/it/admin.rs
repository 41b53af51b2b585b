//! The admin page: who may see it, who may end a session, and what a browser on another site gets.

use serde_json::{Value, json};

use crate::support::gateway::PASSWORD;
use crate::support::{Gateway, Setup, Upstream};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

fn gateway(upstream: &Upstream, lines: &str) -> Gateway {
    let setup = Setup::guarded(upstream).user("alice").server(lines);
    std::fs::write(setup.place().join("admin-token"), format!("{TOKEN}\n")).unwrap();
    let gateway = setup.start();
    gateway.ledger.keep_secret(TOKEN);
    gateway
}

fn with_token(upstream: &Upstream) -> Gateway {
    gateway(upstream, "admin_token_file = \"admin-token\"")
}

fn fields(more: &str) -> String {
    format!("host: localhost\r\nx-tollgate-admin: 1{more}")
}

fn authorised() -> String {
    fields(&format!("\r\nauthorization: Bearer {TOKEN}"))
}

fn revoke(gateway: &Gateway, fields: &str, body: &str) -> (u16, String, String) {
    let length = body.len();
    gateway.admin_sent(&format!(
        "POST /api/sessions/revoke HTTP/1.1\r\n{fields}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    ))
}

fn sessions(gateway: &Gateway) -> Vec<Value> {
    let (status, _, body) = gateway.admin_asked("/api/sessions", &authorised());
    assert_eq!(status, 200, "{body}");
    let listed: Value = serde_json::from_str(&body).unwrap();
    listed["sessions"].as_array().unwrap().clone()
}

#[test]
fn the_page_loads_nothing_but_its_own_files() {
    let upstream = Upstream::echo();
    let gateway = with_token(&upstream);
    for (path, kind) in [("/", "text/html"), ("/page.js", "text/javascript"), ("/page.css", "text/css")] {
        let (status, head, body) = gateway.admin_asked(path, "host: 127.0.0.1:9911");
        assert_eq!(status, 200);
        assert!(head.contains(&format!("content-type: {kind}")), "{head}");
        assert!(head.contains("content-security-policy: default-src 'none'; script-src 'self'"), "{head}");
        assert!(head.contains("x-frame-options: DENY") && head.contains("nosniff"), "{head}");
        for forbidden in
            ["http://1", "https://", "//cdn", "onclick=", "style=\"", "<script>", "innerHTML", "localStorage"]
        {
            assert!(!body.contains(forbidden), "{path} has {forbidden}");
        }
    }
}

#[test]
fn a_name_that_was_made_to_point_here_gets_nothing() {
    let upstream = Upstream::echo();
    let gateway = with_token(&upstream);
    for path in ["/", "/page.js", "/api/overview", "/api/sessions"] {
        let evil = authorised().replace("localhost", "evil.test");
        let (status, _, body) = gateway.admin_asked(path, &evil);
        assert_eq!(status, 421, "{path}: {body}");
    }
    let browser = "host: evil.test\r\nsec-fetch-site: same-origin";
    assert_eq!(gateway.admin_asked("/metrics", browser).0, 421);
    assert_eq!(gateway.admin_asked("/metrics", "host: scraped.by.name").0, 200);
    assert_eq!(gateway.admin_asked("/healthz", "host: evil.test").0, 200);
    let named = self::gateway(&upstream, "admin_hosts = [\"gate.internal\"]");
    assert_eq!(named.admin_asked("/", "host: gate.internal").0, 200);
}

#[test]
fn another_sites_page_can_neither_read_nor_act() {
    let upstream = Upstream::echo();
    let gateway = with_token(&upstream);
    gateway.login("alice", PASSWORD);
    let sid = sessions(&gateway)[0]["sid"].as_str().unwrap().to_owned();
    let body = json!({ "sid": sid }).to_string();
    for more in ["\r\nsec-fetch-site: cross-site", "\r\norigin: https://evil.test", "\r\norigin: null"] {
        let fields = format!("{}{more}", authorised());
        assert_eq!(gateway.admin_asked("/api/sessions", &fields).0, 403, "{more}");
        assert_eq!(revoke(&gateway, &fields, &body).0, 403, "{more}");
    }
    // What a form could send has no such field.
    let form = format!("host: localhost\r\nauthorization: Bearer {TOKEN}");
    assert_eq!(revoke(&gateway, &form, &body).0, 403);
    let preflight = "OPTIONS /api/sessions/revoke HTTP/1.1\r\nhost: localhost\r\norigin: https://evil.test\r\n\
                     access-control-request-method: POST\r\nconnection: close\r\n\r\n";
    let (status, head, _) = gateway.admin_sent(preflight);
    assert_eq!(status, 405);
    assert!(!head.contains("access-control"), "{head}");
    assert_eq!(sessions(&gateway).len(), 1);
}

#[test]
fn a_session_ends_on_every_thread_when_it_is_revoked_and_only_with_the_token() {
    let upstream = Upstream::echo();
    let gateway = with_token(&upstream);
    let (access, refresh) = gateway.login("alice", PASSWORD);
    let mut client = gateway.client();
    client.get_as("/", &access).expect(200);
    let listed = sessions(&gateway);
    assert_eq!((listed.len(), &listed[0]["user"]), (1, &Value::from("alice")));
    let body = json!({"sid": listed[0]["sid"]}).to_string();
    for wrong in
        ["", "\r\nauthorization: Bearer 0123456789abcdef0123456789abcdeF", "\r\nauthorization: Basic x"]
    {
        assert_eq!(gateway.admin_asked("/api/sessions", &fields(wrong)).0, 401);
        assert_eq!(gateway.admin_asked("/api/overview", &fields(wrong)).0, 401);
        assert_eq!(revoke(&gateway, &fields(wrong), &body).0, 401);
    }
    client.get_as("/", &access).expect(200);
    assert_eq!(revoke(&gateway, &authorised(), "{\"sid\": 1}").0, 400);
    assert_eq!(revoke(&gateway, &authorised(), "{\"sid\": \"unknown\"}").0, 404);
    assert_eq!(revoke(&gateway, &authorised(), &"x".repeat(5000)).0, 413);
    assert_eq!(revoke(&gateway, &authorised(), &body).0, 200);
    client.get_as("/", &access).refused(401, "token_revoked");
    client.post_json("/api/token/refresh/", &json!({"refresh": refresh})).refused(401, "token_revoked");
    assert_eq!(revoke(&gateway, &authorised(), &body).0, 404, "it ends once");
    assert!(sessions(&gateway).is_empty());
}

#[test]
fn without_a_token_the_page_shows_no_session() {
    let upstream = Upstream::echo();
    let gateway = gateway(&upstream, "");
    gateway.login("alice", PASSWORD);
    let (status, _, body) = gateway.admin_asked("/api/overview", &fields(""));
    assert_eq!(status, 200);
    let overview: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&overview["ready"], &overview["sessions"]), (&Value::from(true), &Value::from(false)));
    let routes = overview["routes"].as_array().unwrap();
    assert_eq!(routes.iter().filter(|route| route["auth"] == "public").count(), 1);
    assert!(!body.contains("alice"));
    for path in ["/api/sessions", "/api/overview/"] {
        assert_ne!(gateway.admin_asked(path, &fields("\r\nauthorization: Bearer ")).0, 200);
    }
    assert_eq!(revoke(&gateway, &fields("\r\nauthorization: Bearer "), "{\"sid\":\"a\"}").0, 401);
}
