//! The WebSocket protocol through the whole gateway: who may open one, what both sides see of the opening, and what ends it.

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tollgate::cli::arguments::WhichSessions;
use tollgate::cli::session;

use crate::support::client::request;
use crate::support::gateway::PASSWORD;
use crate::support::http2_client::Http2Client;
use crate::support::websocket::{ACCEPT, CLOSE, KEY, TEXT, agreement, echo, frame, opening, read_frame};
use crate::support::wire::Head;
use crate::support::{Client, DEADLINE, Gateway, Setup, Then, Upstream, eventually, mint};

const NOW_MS: i64 = 1_800_000_000_000;
const NOW: i64 = NOW_MS / 1000;

fn guarded(upstream: &Upstream) -> Setup {
    Setup::guarded(upstream).user("alice").user("bob").clock(NOW_MS)
}

/// A token of the first user, which is looked for in the log.
fn token(gateway: &Gateway, lifetime: i64) -> String {
    let token = mint::access("1", NOW, lifetime);
    gateway.ledger.keep_token_secret(&token);
    token
}

fn bearer(token: &str) -> String {
    format!("authorization: Bearer {token}\r\n")
}

/// Opens a WebSocket over HTTP/1.1, which has to succeed.
#[track_caller]
fn open(client: &mut Client, fields: &str) -> Head {
    client.send(request("GET", "/ws?room=1", &opening(fields), b""));
    let head = client.head();
    assert_eq!(head.line, "HTTP/1.1 101 Switching Protocols", "{head:?}");
    assert_eq!(head.fields.one("sec-websocket-accept"), Some(ACCEPT));
    assert_eq!(head.fields.one("upgrade"), Some("websocket"));
    head
}

/// A message goes there and back.
#[track_caller]
fn says(client: &mut Client, message: &str) {
    client.send(frame(TEXT, true, message.as_bytes()));
    assert_eq!(read_frame(&mut client.wire), Ok((TEXT, message.as_bytes().to_vec())));
}

/// The WebSocket is closed by the gateway with this code, and ends when the client agrees.
#[track_caller]
fn is_closed(client: &mut Client, code: u16, why: &str) {
    let (kind, payload) = read_frame(&mut client.wire).unwrap();
    assert_eq!((kind, &payload[..2], &payload[2..]), (CLOSE, &code.to_be_bytes()[..], why.as_bytes()));
    let _ended = client.try_send(frame(CLOSE, true, &code.to_be_bytes()));
    client.expect_end();
}

#[test]
fn one_is_opened_with_a_token_in_the_usual_field() {
    let upstream = echo("");
    let gateway = guarded(&upstream).start();
    let token = token(&gateway, 600);
    let mut client = gateway.client();
    let head = open(&mut client, &bearer(&token));
    assert!(!head.fields.has("sec-websocket-protocol"));
    let id = head.fields.one("x-request-id").unwrap().to_owned();
    for message in ["one", "", "three"] {
        says(&mut client, message);
    }
    let seen = upstream.last();
    assert_eq!((seen.target(), seen.field("x-user-name")), ("/ws?room=1", "alice"));
    assert_eq!(seen.field("sec-websocket-key"), KEY);
    assert!(!seen.head.fields.has("authorization"));
    // The close of the client goes through, and both sides end.
    client.send(frame(CLOSE, true, &1000_u16.to_be_bytes()));
    assert_eq!(read_frame(&mut client.wire), Ok((CLOSE, 1000_u16.to_be_bytes().to_vec())));
    client.expect_end();
    drop(client);
    upstream.wait_until_left();
    let line = gateway.access_line(|line| line["request_id"] == id);
    assert_eq!((&line["status"], &line["user"]), (&101.into(), &"1".into()));
    assert!(line["reason"].is_null() && line["ended_by"] == "complete", "{line}");
}

#[test]
fn one_is_opened_with_a_token_among_the_protocols_which_nobody_else_sees() {
    for (answer, others, chosen) in [
        ("", "", "bearer"),
        ("", "chat, ", "bearer"),
        ("sec-websocket-protocol: chat\r\n", "chat, v2, ", "chat"),
    ] {
        let upstream = echo(answer);
        let gateway = guarded(&upstream).start();
        let token = token(&gateway, 600);
        let mut client = gateway.client();
        let head = open(&mut client, &format!("sec-websocket-protocol: {others}bearer, {token}\r\n"));
        assert_eq!(head.fields.one("sec-websocket-protocol"), Some(chosen));
        says(&mut client, "hello");
        let seen = upstream.last();
        assert_eq!(seen.field("x-user-name"), "alice");
        assert_eq!(seen.field("sec-websocket-protocol"), others.trim_end_matches(", "));
        let raw = String::from_utf8_lossy(&seen.head.raw).into_owned();
        assert!(!raw.contains(&token) && !raw.contains("bearer"), "{raw}");
    }
}

#[test]
fn who_may_not_come_in_opens_none_and_the_upstream_hears_nothing() {
    let upstream = echo("");
    let gateway = Setup::new()
        .upstream("api", &upstream, "")
        .route("path = \"/ws\"\nauth = \"required\"\nupstream = \"api\"")
        .route("path = \"/post\"\nmethods = [\"POST\"]\nauth = \"public\"\nupstream = \"api\"")
        .user("alice")
        .clock(NOW_MS)
        .start();
    let (good, old) = (token(&gateway, 600), token(&gateway, -1));
    let refused = |target: &str, fields: &str, status, reason: &str| {
        let mut client = gateway.client();
        client.get(target, &opening(fields)).refused(status, reason)
    };
    refused("/ws", "", 401, "credentials_missing");
    refused("/ws", "authorization: Bearer abc\r\n", 401, "token_invalid");
    refused("/ws", &bearer(&old), 401, "token_expired");
    refused("/ws", &format!("sec-websocket-protocol: bearer, {old}\r\n"), 401, "token_expired");
    refused("/ws", "sec-websocket-protocol: bearer\r\n", 401, "header_malformed");
    refused("/ws", "sec-websocket-protocol: chat\r\n", 401, "credentials_missing");
    let both = format!("sec-websocket-protocol: bearer, {good}\r\n{}", bearer(&good));
    refused("/ws", &both, 401, "header_malformed");
    refused("/post", &bearer(&good), 405, "method_not_allowed");
    refused("/other", &bearer(&good), 404, "route_not_found");
    refused("/ws/../x", &bearer(&good), 400, "path_ambiguous");
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn a_malformed_opening_is_refused_before_anybody_is_asked() {
    let upstream = echo("");
    let gateway = Setup::public(&upstream).start();
    for (method, fields, status, reason) in [
        ("POST", opening(""), 400, "request_malformed"),
        ("GET", opening("").replace(KEY, "abc"), 400, "request_malformed"),
        ("GET", opening("").replace("version: 13", "version: 8"), 426, "upgrade_required"),
        ("GET", opening("").replace("connection: Upgrade", "connection: close"), 400, "request_malformed"),
        ("GET", opening("content-length: 1\r\n"), 400, "request_malformed"),
    ] {
        let mut client = gateway.client();
        client.send(request(method, "/ws", &fields, b""));
        let response = client.answer_to(method).refused(status, reason);
        assert_eq!(response.field("sec-websocket-version"), if status == 426 { "13" } else { "" });
    }
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn an_upgrade_to_anything_else_is_an_ordinary_request() {
    let upstream = Upstream::echo();
    let gateway = Setup::public(&upstream).start();
    let mut client = gateway.client();
    for fields in [
        "connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n",
        "connection: Upgrade\r\nupgrade: websocket, h2c\r\n",
        "connection: Upgrade\r\nupgrade: TLS/1.2\r\n",
    ] {
        client.get("/", fields).expect(200);
        let seen = upstream.last();
        for name in ["upgrade", "http2-settings", "connection"] {
            assert!(!seen.head.fields.has(name), "{name}: {seen:?}");
        }
    }
}

#[test]
fn an_upstream_that_agrees_to_something_else_is_a_bad_one() {
    let good = agreement(KEY, "");
    for answer in [
        agreement("AAAAAAAAAAAAAAAAAAAAAA==", ""),
        agreement(KEY, "sec-websocket-protocol: other\r\n"),
        agreement(KEY, "sec-websocket-extensions: permessage-deflate\r\n"),
        good.replace("upgrade: websocket", "upgrade: h2c"),
        good.replace("connection: Upgrade\r\n", ""),
        good.replace("sec-websocket-accept", "x-accept"),
    ] {
        let upstream = Upstream::start(move |talk| {
            talk.send(&answer);
            talk.send(frame(TEXT, false, b"hello"));
            // Nothing comes any more, and its connection is not used again.
            assert!(talk.wire.fill().is_err(), "the gateway goes on");
            Then::Close
        });
        let gateway = Setup::public(&upstream).start();
        let mut client = gateway.client();
        client.get("/ws", &opening("")).refused(502, "upstream_refused");
        upstream.wait_until_left();
        assert_eq!(upstream.count(), 1, "it is not asked twice");
    }
}

#[test]
fn an_opening_that_the_upstream_does_not_answer_has_the_time_of_a_request() {
    let upstream = Upstream::says("", Then::Next);
    let gateway = Setup::new()
        .upstream("api", &upstream, "response_timeout = \"300ms\"")
        .route("path = \"/\"\nauth = \"public\"\nupstream = \"api\"")
        .start();
    gateway.client().get("/ws", &opening("")).refused(504, "upstream_timeout");
}

#[test]
fn an_upstream_may_decline() {
    let answer = "HTTP/1.1 403 Forbidden\r\nx-upstream: 1\r\ncontent-length: 2\r\n\r\nno";
    let upstream = Upstream::says(answer, Then::Next);
    let gateway = Setup::public(&upstream).start();
    let mut client = gateway.client();
    for _ in 0..2 {
        assert_eq!(client.get("/ws", &opening("")).expect(403).text(), "no");
    }
    assert_eq!(client.get("/", "").expect(403).text(), "no");
}

#[test]
fn a_change_of_protocol_that_nobody_asked_for_is_a_bad_answer() {
    let upstream = Upstream::says(agreement(KEY, ""), Then::Next);
    let gateway = Setup::public(&upstream).start();
    let mut client = gateway.client();
    client.get("/", "").refused(502, "upstream_refused");
    client.get("/", "connection: Upgrade\r\nupgrade: h2c\r\n").refused(502, "upstream_refused");
    client.call("POST", "/", "", b"hello").refused(502, "upstream_refused");
    Http2Client::connect(&gateway).get("/", &[]).refused(502, "upstream_refused");
}

#[test]
fn one_ends_with_its_token_and_not_before() {
    let upstream = echo("");
    let gateway = guarded(&upstream).start();
    let mut clients = [30, 60, 120].map(|lifetime| {
        let mut client = gateway.client();
        open(&mut client, &bearer(&token(&gateway, lifetime)));
        client
    });
    // That the first one has ended says that the others were looked at as well.
    gateway.set_clock(NOW_MS + 59_999);
    is_closed(&mut clients[0], 1008, "token expired");
    says(&mut clients[1], "still here");
    gateway.set_clock(NOW_MS + 60_000);
    is_closed(&mut clients[1], 1008, "token expired");
    says(&mut clients[2], "still here");
    let ended = |line: &serde_json::Value| line["ended_by"] == "gateway" && line["reason"] == "token_expired";
    eventually("two lines", DEADLINE, || {
        gateway.access_lines().iter().filter(|line| ended(line)).count() == 2
    });
}

#[test]
fn one_ends_when_its_session_is_revoked_and_no_other() {
    let upstream = echo("");
    let gateway = guarded(&upstream).start();
    let mut clients = ["alice", "bob"].map(|name| {
        let (token, _) = gateway.login(name, PASSWORD);
        let mut client = gateway.client();
        open(&mut client, &format!("sec-websocket-protocol: bearer, {token}\r\n"));
        says(&mut client, name);
        client
    });
    let which = WhichSessions { sid: None, user: Some("alice".to_owned()), all: false };
    gateway.change(async |store| session::revoke(store, true, which, &mut std::io::sink()).await.unwrap());
    is_closed(&mut clients[0], 1008, "token revoked");
    says(&mut clients[1], "still here");
    let line = gateway.access_line(|line| line["path"] == "/ws");
    assert_eq!(line["status"], 101, "{line}");
    assert_eq!((&line["ended_by"], &line["reason"]), (&"gateway".into(), &"token_revoked".into()));
}

#[test]
fn a_gateway_that_stops_says_so() {
    let upstream = echo("");
    let gateway = Setup::public(&upstream).start();
    let mut client = gateway.client();
    open(&mut client, "");
    says(&mut client, "hello");
    gateway.running().drain();
    is_closed(&mut client, 1001, "going away");
    eventually("every thread has ended", DEADLINE, || gateway.running().has_ended());
}

#[test]
fn a_client_and_a_server_of_others_understand_each_other_through_the_gateway() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let server = listener.local_addr().unwrap();
    runtime.spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
        while let Some(Ok(message)) = socket.next().await {
            if message.is_text() || message.is_binary() {
                socket.send(message).await.unwrap();
            }
        }
    });
    let gateway = Setup::new()
        .section(&format!("[upstreams.api]\ntargets = [\"http://{server}\"]"))
        .route("path = \"/\"\nauth = \"required\"\nupstream = \"api\"")
        .user("alice")
        .clock(NOW_MS)
        .start();
    let token = token(&gateway, 600);
    runtime.block_on(async {
        let mut opening = "ws://gw.test/echo".into_client_request().unwrap();
        opening.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        let stream = tokio::net::TcpStream::connect(gateway.address).await.unwrap();
        let (mut socket, _) = tokio_tungstenite::client_async(opening, stream).await.unwrap();
        for size in [0, 1, 125, 126, 65_535, 65_536, 1_000_000] {
            let message = Message::binary(vec![7; size]);
            socket.send(message.clone()).await.unwrap();
            assert!(socket.next().await.unwrap().unwrap() == message, "{size} bytes");
        }
        socket.send(Message::Ping(Bytes::from_static(b"?"))).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::Pong(Bytes::from_static(b"?")));
        socket.close(None).await.unwrap();
        while let Some(Ok(_)) = socket.next().await {}
    });
}
