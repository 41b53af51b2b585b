//! What the gateway counts, as Prometheus reads it from the admin listener.

use std::sync::Arc;

use serde_json::json;

use crate::support::client::request;
use crate::support::gateway::PASSWORD;
use crate::support::websocket::{CLOSE, echo, frame, opening};
use crate::support::{DEADLINE, Gateway, Latch, Setup, Then, Upstream, eventually, mint};

const NOW_MS: i64 = 1_800_000_000_000;
const NOW: i64 = NOW_MS / 1000;

fn guarded(upstream: &Upstream) -> Setup {
    Setup::new()
        .upstream("api", upstream, "")
        .route("name = \"guarded\"\npath = \"/\"\nauth = \"required\"\nupstream = \"api\"")
        .route("name = \"open\"\npath = \"/open\"\nauth = \"public\"\nupstream = \"api\"")
        .user("alice")
        .clock(NOW_MS)
}

/// Waits until a sample has this value. A request is counted when its answer has left, which its client may notice before.
#[track_caller]
fn becomes(gateway: &Gateway, sample: &str, value: f64) {
    let mut seen = 0.0;
    eventually(&format!("{sample} becomes {value}"), DEADLINE, || {
        seen = gateway.metric(sample);
        (seen - value).abs() < f64::EPSILON
    });
}

#[test]
fn requests_are_counted_by_route_method_and_code_never_by_path_or_user() {
    let upstream = Upstream::echo();
    let gateway = guarded(&upstream).start();
    let token = mint::access("1", NOW, 60);
    let mut client = gateway.client();
    for path in ["/secret-path/1", "/secret-path/2?key=value"] {
        client.get_as(path, &token).expect(200);
    }
    client.call("POST", "/open/here", "", b"x").expect(200);
    client.call("PROPFIND", "/open/here", "", b"").expect(200);
    client.get("/open//x", "").refused(400, "path_ambiguous");
    becomes(&gateway, "tollgate_requests_total{route=\"guarded\",method=\"GET\",code=\"2xx\"}", 2.0);
    becomes(&gateway, "tollgate_requests_total{route=\"open\",method=\"POST\",code=\"2xx\"}", 1.0);
    becomes(&gateway, "tollgate_requests_total{route=\"open\",method=\"other\",code=\"2xx\"}", 1.0);
    becomes(&gateway, "tollgate_requests_total{method=\"GET\",code=\"4xx\"}", 1.0);
    becomes(&gateway, "tollgate_refusals_total{reason=\"path_ambiguous\"}", 1.0);
    becomes(&gateway, "tollgate_request_duration_seconds_count{route=\"guarded\"}", 2.0);
    becomes(&gateway, "tollgate_request_duration_seconds_bucket{route=\"guarded\",le=\"+Inf\"}", 2.0);
    becomes(&gateway, "tollgate_upstream_requests_total{upstream=\"api\",code=\"2xx\"}", 4.0);
    becomes(&gateway, "tollgate_upstream_duration_seconds_count{upstream=\"api\"}", 4.0);
    becomes(&gateway, "tollgate_gateway_overhead_seconds_count", 4.0);
    becomes(&gateway, "tollgate_requests_in_flight", 0.0);
    becomes(&gateway, "tollgate_client_connections", 1.0);
    let (_, page) = gateway.admin("/metrics");
    for word in ["secret-path", "PROPFIND", "alice", "key=value", mint::SECRET] {
        assert!(!page.contains(word), "{word} in {page}");
    }
}

#[test]
fn decisions_logins_and_limits_are_counted_with_their_reasons() {
    let upstream = Upstream::echo();
    let gateway = guarded(&upstream)
        .section("[limits.slow]\nkey = \"ip\"\nrate = \"1/h\"")
        .route("name = \"limited\"\npath = \"/limited\"\nauth = \"public\"\nupstream = \"api\"\nlimit = \"slow\"")
        .start();
    let mut client = gateway.client();
    client.get("/", "").refused(401, "credentials_missing");
    client.get_as("/", &mint::access("1", NOW - 120, 60)).refused(401, "token_expired");
    client.get_as("/", &mint::access("1", NOW, 60)).expect(200);
    client.get("/open", "").expect(200);
    client.get("/limited", "").expect(200);
    client.get("/limited", "").refused(429, "rate_limited");
    let (_, refresh) = gateway.login("alice", PASSWORD);
    let wrong = json!({"username": "alice", "password": "wrong-password"});
    client.post_json("/api/token/", &wrong).refused(401, "credentials_invalid");
    client.post_json("/api/token/refresh/", &json!({"refresh": refresh})).expect(200);
    client.post_json("/api/token/blacklist/", &json!({"refresh": refresh})).expect(200);
    let decision = |decision: &str, reason: &str| {
        format!("tollgate_auth_decisions_total{{decision=\"{decision}\"{reason}}}")
    };
    becomes(&gateway, &decision("refused", ",reason=\"credentials_missing\""), 1.0);
    becomes(&gateway, &decision("refused", ",reason=\"token_expired\""), 1.0);
    becomes(&gateway, &decision("allowed", ""), 1.0);
    becomes(&gateway, &decision("anonymous", ""), 2.0);
    becomes(&gateway, &decision("refused", ",reason=\"credentials_invalid\""), 0.0);
    becomes(&gateway, "tollgate_refusals_total{route=\"guarded\",reason=\"token_expired\"}", 1.0);
    becomes(&gateway, "tollgate_refusals_total{route=\"limited\",reason=\"rate_limited\"}", 1.0);
    becomes(&gateway, "tollgate_rate_limited_total{limit=\"slow\"}", 1.0);
    becomes(&gateway, "tollgate_logins_total{result=\"ok\"}", 1.0);
    becomes(&gateway, "tollgate_logins_total{result=\"credentials_invalid\"}", 1.0);
    becomes(&gateway, "tollgate_token_requests_total{endpoint=\"token-refresh\",result=\"ok\"}", 1.0);
    becomes(&gateway, "tollgate_requests_total{route=\"token\",method=\"POST\",code=\"4xx\"}", 1.0);
    becomes(&gateway, "tollgate_revocations_total", 1.0);
    becomes(&gateway, "tollgate_revocations_held", 1.0);
}

#[test]
fn reuse_of_a_refresh_token_is_counted() {
    let upstream = Upstream::echo();
    let gateway = guarded(&upstream).tokens("rotate_refresh = true\nreuse_grace = \"1s\"").start();
    let (_, refresh) = gateway.login("alice", PASSWORD);
    let again = json!({"refresh": refresh});
    gateway.tokens_of(&gateway.client().post_json("/api/token/refresh/", &again).expect(200));
    gateway.set_clock(NOW_MS + 5_000);
    gateway.client().post_json("/api/token/refresh/", &again).refused(401, "token_revoked");
    becomes(&gateway, "tollgate_refresh_reuse_total", 1.0);
}

#[test]
fn what_is_open_is_told_while_it_is_open() {
    let upstream = echo("");
    let gateway = guarded(&upstream).start();
    let mut client = gateway.client();
    client.send(request("GET", "/open/ws", &opening(""), b""));
    assert_eq!(client.head().line, "HTTP/1.1 101 Switching Protocols");
    becomes(&gateway, "tollgate_open_streams{kind=\"websocket\"}", 1.0);
    becomes(&gateway, "tollgate_requests_in_flight", 1.0);
    let target = format!("{{upstream=\"api\",target=\"{}\"}}", upstream.url());
    becomes(&gateway, &format!("tollgate_upstream_connections{target}"), 1.0);
    client.send(frame(CLOSE, true, &1000_u16.to_be_bytes()));
    drop(client);
    becomes(&gateway, "tollgate_open_streams{kind=\"websocket\"}", 0.0);
    becomes(&gateway, "tollgate_requests_total{route=\"open\",method=\"GET\",code=\"1xx\"}", 1.0);
    becomes(&gateway, "tollgate_request_duration_seconds_count{route=\"open\"}", 0.0);
    becomes(&gateway, &format!("tollgate_upstream_connections{target}"), 0.0);
}

#[test]
fn a_request_that_is_cut_off_is_counted_without_a_status() {
    let latch = Arc::new(Latch::default());
    let waiting = Arc::clone(&latch);
    let upstream = Upstream::start(move |_| {
        waiting.wait();
        Then::Close
    });
    let gateway = guarded(&upstream).start();
    let mut client = gateway.client();
    client.send(request("GET", "/open", "", b""));
    becomes(&gateway, "tollgate_requests_in_flight", 1.0);
    client.wire.stream.shutdown(std::net::Shutdown::Both).unwrap();
    drop(client);
    latch.open();
    becomes(&gateway, "tollgate_requests_in_flight", 0.0);
}

#[test]
fn threads_are_added_up() {
    let upstream = Upstream::echo();
    let gateway = guarded(&upstream).workers(3).start();
    for _ in 0..12 {
        gateway.client().get("/open", "").expect(200);
    }
    becomes(&gateway, "tollgate_requests_total{route=\"open\",method=\"GET\",code=\"2xx\"}", 12.0);
    becomes(&gateway, "tollgate_workers", 3.0);
}

#[test]
fn both_formats_are_served() {
    let upstream = Upstream::echo();
    let gateway = guarded(&upstream).start();
    let (status, head, page) = gateway.admin_asked("/metrics", "host: 127.0.0.1");
    assert_eq!(status, 200);
    assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
    assert!(!page.contains("# EOF") && page.contains("# TYPE tollgate_requests_total counter"), "{page}");
    let asked = "host: 127.0.0.1\r\naccept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5";
    let (_, head, page) = gateway.admin_asked("/metrics", asked);
    assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0"), "{head}");
    assert!(page.ends_with("# EOF\n") && page.contains("# TYPE tollgate_requests counter"), "{page}");
    let version = format!("tollgate_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION"));
    assert!(page.contains(&version), "{page}");
    let post = "POST /metrics HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    assert_eq!(gateway.admin_sent(post).0, 405);
}
