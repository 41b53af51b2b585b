//! Answers that go on: server-sent events pass at once and end with their token, and ordinary answers do not.

use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tollgate::cli::arguments::WhichSessions;
use tollgate::cli::session;

use crate::support::gateway::PASSWORD;
use crate::support::http2_client::{Http2Client, read_body};
use crate::support::tls::Tls;
use crate::support::wire::find;
use crate::support::{Client, DEADLINE, Gateway, Latch, Setup, Then, Upstream, eventually, mint};

const NOW_MS: i64 = 1_800_000_000_000;
const NOW: i64 = NOW_MS / 1000;

/// How many events say that a stream goes on.
const SOME: usize = 20;

/// An upstream that sends an event every few milliseconds until nobody takes them any more.
fn events() -> Upstream {
    Upstream::start(|talk| {
        talk.send("HTTP/1.1 200 OK\r\nx-upstream: 1\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n");
        while talk.try_send("9\r\ndata: 1\n\n\r\n").is_ok() {
            std::thread::park_timeout(Duration::from_millis(10));
        }
        Then::Close
    })
}

fn guarded(upstream: &Upstream) -> Setup {
    Setup::guarded(upstream).user("alice").user("bob").clock(NOW_MS)
}

/// A client that has begun to read events.
fn listener(gateway: &Gateway, token: &str) -> Client {
    gateway.ledger.keep_token_secret(token);
    let mut client = gateway.client();
    client.send(format!("GET /events HTTP/1.1\r\nhost: gw.test\r\nauthorization: Bearer {token}\r\n\r\n"));
    let head = client.head();
    assert!(head.line.starts_with("HTTP/1.1 200"), "{head:?}");
    assert!(goes_on(&mut client, 1));
    client
}

/// Reads so many events, unless the answer ends before.
fn goes_on(client: &mut Client, count: usize) -> bool {
    for _ in 0..count {
        loop {
            if let Some(at) = find(&client.wire.ahead, b"data: 1\n\n") {
                client.wire.ahead.drain(..at + 9);
                break;
            }
            if find(&client.wire.ahead, b"0\r\n\r\n").is_some() || client.wire.fill().is_err() {
                return false;
            }
        }
    }
    true
}

/// Reads until the answer has ended.
#[track_caller]
fn ends(client: &mut Client) {
    let most = 10_000;
    assert!(!goes_on(client, most), "it goes on");
}

fn lines_of(gateway: &Gateway, reason: &str) -> usize {
    let ended = |line: &&serde_json::Value| line["ended_by"] == "gateway" && line["reason"] == reason;
    gateway.access_lines().iter().filter(ended).count()
}

#[test]
fn events_end_with_their_token_and_not_before() {
    let upstream = events();
    let gateway = guarded(&upstream).start();
    let mut clients = [30, 60, 120].map(|lifetime| listener(&gateway, &mint::access("1", NOW, lifetime)));
    // That the first one has ended says that the others were looked at as well.
    gateway.set_clock(NOW_MS + 59_999);
    ends(&mut clients[0]);
    assert!(goes_on(&mut clients[1], SOME) && goes_on(&mut clients[2], SOME));
    gateway.set_clock(NOW_MS + 60_000);
    ends(&mut clients[1]);
    assert!(goes_on(&mut clients[2], SOME));
    eventually("two lines", DEADLINE, || lines_of(&gateway, "token_expired") == 2);
    gateway.set_clock(NOW_MS + 120_000);
    ends(&mut clients[2]);
    upstream.wait_until_left();
}

#[test]
fn events_over_http2_end_with_their_token_and_their_connection_goes_on() {
    let upstream = events();
    let gateway = guarded(&upstream).start();
    let mut client = Http2Client::connect(&gateway);
    let mut bodies = [60, 120].map(|lifetime| {
        let token = format!("Bearer {}", mint::access("1", NOW, lifetime));
        let request = client.request("GET", "/events", &[("authorization", &token)]);
        let (response, _) = client.begin(request, true);
        let mut body = client.run(response).unwrap().into_body();
        assert!(client.run(body.data()).unwrap().is_ok());
        body
    });
    gateway.set_clock(NOW_MS + 60_000);
    client.run(async {
        while let Some(Ok(data)) = bodies[0].data().await {
            bodies[0].flow_control().release_capacity(data.len()).unwrap();
        }
        for _ in 0..SOME {
            let data = bodies[1].data().await.unwrap().unwrap();
            bodies[1].flow_control().release_capacity(data.len()).unwrap();
        }
    });
    client.get("/events", &[]).refused(401, "credentials_missing");
    eventually("one line", DEADLINE, || lines_of(&gateway, "token_expired") == 1);
}

#[test]
fn events_end_when_their_session_does_and_no_others() {
    let upstream = events();
    let gateway = guarded(&upstream).start();
    let pairs = ["alice", "alice", "bob"].map(|name| gateway.login(name, PASSWORD));
    let mut clients = pairs.each_ref().map(|(access, _)| listener(&gateway, access));
    let refresh = json!({"refresh": pairs[0].1});
    gateway.client().post_json("/api/token/blacklist/", &refresh).expect(200);
    ends(&mut clients[0]);
    assert!(goes_on(&mut clients[1], SOME) && goes_on(&mut clients[2], SOME));
    let which = WhichSessions { sid: None, user: Some("alice".to_owned()), all: false };
    gateway.change(async |store| session::revoke(store, true, which, &mut std::io::sink()).await.unwrap());
    ends(&mut clients[1]);
    assert!(goes_on(&mut clients[2], SOME));
    eventually("two lines", DEADLINE, || lines_of(&gateway, "token_revoked") == 2);
}

#[test]
fn events_may_outlive_their_token_by_the_grace_and_a_revoked_one_by_nothing() {
    let upstream = events();
    let gateway = guarded(&upstream).tokens("stream_grace = \"5s\"").start();
    let mut clients = [30, 60].map(|lifetime| listener(&gateway, &mint::access("1", NOW, lifetime)));
    gateway.set_clock(NOW_MS + 64_999);
    ends(&mut clients[0]);
    assert!(goes_on(&mut clients[1], SOME));
    // A request has no grace.
    gateway.client().get_as("/events", &mint::access("1", NOW, 60)).refused(401, "token_expired");
    gateway.set_clock(NOW_MS + 65_000);
    ends(&mut clients[1]);
    let (access, refresh) = gateway.login("bob", PASSWORD);
    let mut client = listener(&gateway, &access);
    gateway.client().post_json("/api/token/blacklist/", &json!({ "refresh": refresh })).expect(200);
    ends(&mut client);
}

#[test]
fn events_of_everybody_end_with_no_token() {
    let upstream = events();
    let gateway = guarded(&upstream).start();
    let mut witness = listener(&gateway, &mint::access("1", NOW, 60));
    let mut client = gateway.client();
    client.send("GET /public/events HTTP/1.1\r\nhost: gw.test\r\n\r\n");
    assert!(goes_on(&mut client, 1));
    gateway.set_clock(NOW_MS + 86_400_000);
    ends(&mut witness);
    assert!(goes_on(&mut client, SOME));
}

#[test]
fn a_download_is_finished_though_its_token_has_expired() {
    let go_on = Arc::new(Latch::default());
    let told = Arc::clone(&go_on);
    let upstream = Upstream::start(move |talk| {
        talk.send("HTTP/1.1 200 OK\r\nx-upstream: 1\r\ncontent-type: application/octet-stream\r\ncontent-length: 8\r\n\r\nhalf");
        told.wait();
        talk.send("half");
        Then::Next
    });
    let others = events();
    let gateway = guarded(&upstream)
        .upstream("events", &others, "")
        .route("path = \"/events\"\nauth = \"required\"\nupstream = \"events\"")
        .start();
    let token = mint::access("1", NOW, 60);
    let mut witness = listener(&gateway, &token);
    let bearer = format!("authorization: Bearer {token}\r\n");
    let mut client = gateway.client();
    client.send(format!("GET /file HTTP/1.1\r\nhost: gw.test\r\n{bearer}\r\n"));
    let mut http2 = Http2Client::connect(&gateway);
    let request = http2.request("GET", "/file", &[("authorization", &format!("Bearer {token}"))]);
    let (response, _) = http2.begin(request, true);
    upstream.wait_for(2);
    gateway.set_clock(NOW_MS + 60_000);
    ends(&mut witness);
    go_on.open();
    assert_eq!(client.answer().expect(200).text(), "halfhalf");
    assert_eq!(http2.answer("GET", response).unwrap().expect(200).text(), "halfhalf");
}

#[test]
fn the_first_event_passes_while_the_answer_is_open() {
    let go_on = Arc::new(Latch::default());
    let told = Arc::clone(&go_on);
    let upstream = Upstream::start(move |talk| {
        talk.send("HTTP/1.1 200 OK\r\nx-upstream: 1\r\ncontent-type: text/event-stream\r\n\r\n");
        talk.send("data: 1\n\n");
        told.wait();
        Then::Close
    });
    let gateway = Setup::public(&upstream).start();
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nhost: gw.test\r\n\r\n");
    client.head();
    assert!(goes_on(&mut client, 1));
    let mut http2 = Http2Client::connect(&gateway);
    let request = http2.request("GET", "/", &[]);
    let (response, _) = http2.begin(request, true);
    let mut body = http2.run(response).unwrap().into_body();
    assert_eq!(http2.run(body.data()).unwrap().unwrap(), "data: 1\n\n");
    go_on.open();
    ends(&mut client);
    assert_eq!(http2.run(read_body(&mut body)).unwrap(), b"");
}

#[test]
fn a_client_that_sends_nothing_more_gets_its_answer() {
    let go_on = Arc::new(Latch::default());
    let told = Arc::clone(&go_on);
    let upstream = Upstream::start(move |talk| {
        talk.read_body();
        told.wait();
        talk.ok("done")
    });
    let (plain, tls) = (Setup::public(&upstream).start(), Tls::new());
    let secure = tls.prepare(Setup::public(&upstream), "").start();
    let mut clients = [plain.client(), tls.client(&secure)];
    for client in &mut clients {
        client.send("POST / HTTP/1.1\r\nhost: gw.test\r\ncontent-length: 5\r\n\r\nhello");
        client.wire.stream.shutdown(Shutdown::Write).unwrap();
    }
    upstream.wait_for(2);
    go_on.open();
    for client in &mut clients {
        assert_eq!(client.answer().expect(200).text(), "done");
        client.expect_end();
    }
}
