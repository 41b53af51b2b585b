//! A panic, which no code of the gateway means to do, costs one request, or ends the gateway loudly: nothing that is needed
//! dies in silence. The clock is what panics here, on the thread that a test names.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use crate::support::gateway::PASSWORD;
use crate::support::http2_client::Http2Client;
use crate::support::wire::find;
use crate::support::{DEADLINE, Latch, Setup, Then, Upstream, eventually, mint};

const NOW_MS: i64 = 1_800_000_000_000;
const NOW: i64 = NOW_MS / 1000;

/// A clock that panics once when it is armed, on a thread of this name.
fn faulty(setup: Setup, thread: &'static str) -> (Setup, Arc<AtomicBool>) {
    let armed = Arc::new(AtomicBool::new(false));
    let trigger = Arc::clone(&armed);
    let script = move || {
        let here = std::thread::current().name().is_some_and(|name| name.starts_with(thread));
        assert!(!(here && trigger.swap(false, Ordering::AcqRel)), "on purpose");
        NOW_MS
    };
    (setup.script(script), armed)
}

#[test]
fn a_panic_in_a_request_is_that_requests_own() {
    let upstream = Upstream::echo();
    let (setup, armed) = faulty(Setup::guarded(&upstream).user("alice"), "worker-0");
    let gateway = setup.start();
    let token = mint::access("1", NOW, 600);
    let (mut bystander, mut client) = (gateway.client(), gateway.client());
    bystander.get_as("/bystander", &token).expect(200);
    client.get_as("/client", &token).expect(200);
    // Their records are written after their answers.
    gateway.access_line(|line| line["path"] == "/bystander");
    gateway.access_line(|line| line["path"] == "/client");
    armed.store(true, Ordering::Release);
    let response = client.get_as("/fatal", &token).refused(500, "internal_error");
    assert!(!armed.load(Ordering::Acquire));
    assert_eq!(response.field("connection"), "close");
    bystander.get_as("/", &token).expect(200);
    gateway.client().get_as("/", &token).expect(200);
    assert_eq!(gateway.access_line(|line| line["path"] == "/fatal")["reason"], "internal_error");
    assert!(!gateway.running().has_failed());
    assert_eq!(upstream.count(), 4);
}

#[test]
fn a_panic_in_a_stream_of_http2_leaves_the_others_of_its_connection_alone() {
    let latch = Arc::new(Latch::default());
    let upstream = Upstream::start({
        let latch = Arc::clone(&latch);
        move |talk| {
            if talk.head.line.contains("/slow") {
                latch.wait();
            }
            talk.echo()
        }
    });
    let (setup, armed) = faulty(Setup::guarded(&upstream).user("alice"), "worker-0");
    let gateway = setup.start();
    let bearer = format!("Bearer {}", mint::access("1", NOW, 600));
    let fields = [("authorization", bearer.as_str())];
    let mut client = Http2Client::connect(&gateway);
    let request = client.request("GET", "/slow", &fields);
    let slow = client.begin(request, true).0;
    eventually("the first request is there", DEADLINE, || upstream.count() == 1);
    armed.store(true, Ordering::Release);
    let request = client.request("GET", "/fatal", &fields);
    let fatal = client.begin(request, true).0;
    client.answer("GET", fatal).unwrap().refused(500, "internal_error");
    latch.open();
    client.answer("GET", slow).unwrap().expect(200);
}

#[test]
fn a_panic_at_a_token_route_is_that_requests_own() {
    let upstream = Upstream::echo();
    let (setup, armed) = faulty(Setup::guarded(&upstream).user("alice"), "control");
    let gateway = setup.start();
    let (access, _) = gateway.login("alice", PASSWORD);
    armed.store(true, Ordering::Release);
    let body = json!({"username": "alice", "password": PASSWORD});
    gateway.client().post_json("/api/token/", &body).refused(500, "internal_error");
    assert!(!armed.load(Ordering::Acquire));
    gateway.login("alice", PASSWORD);
    gateway.client().get_as("/", &access).expect(200);
    assert!(!gateway.running().has_failed());
}

#[test]
fn a_panic_of_what_looks_at_deadlines_fails_the_gateway() {
    let upstream = Upstream::start(|talk| {
        talk.send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n");
        talk.send("9\r\ndata: 1\n\n\r\n");
        // Until nobody reads any more.
        let _ended = talk.wire.fill();
        Then::Close
    });
    let (setup, armed) = faulty(Setup::guarded(&upstream).user("alice"), "worker-0");
    let gateway = setup.start();
    let mut client = gateway.client();
    let token = mint::access("1", NOW, 600);
    gateway.ledger.keep_token_secret(&token);
    client.send(format!("GET / HTTP/1.1\r\nhost: gw.test\r\nauthorization: Bearer {token}\r\n\r\n"));
    client.head();
    while find(&client.wire.ahead, b"data: 1").is_none() {
        client.wire.fill().unwrap();
    }
    assert!(!gateway.running().has_failed());
    armed.store(true, Ordering::Release);
    eventually("the gateway has failed", DEADLINE, || gateway.running().has_failed());
}

#[test]
fn a_panic_of_what_looks_for_changed_users_fails_the_gateway() {
    let upstream = Upstream::echo();
    let setup = Setup::public(&upstream).htpasswd("");
    let (setup, armed) = faulty(setup, "control");
    armed.store(true, Ordering::Release);
    let gateway = setup.start();
    eventually("the gateway has failed", DEADLINE, || gateway.running().has_failed());
}
