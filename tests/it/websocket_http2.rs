//! The WebSocket protocol over streams of HTTP/2 (RFC 8441), with the same policy as over HTTP/1.1.

use bytes::Bytes;
use h2::ext::Protocol;
use h2::{RecvStream, SendStream};
use http::Request;

use crate::support::http2_client::Http2Client;
use crate::support::websocket::{CLOSE, TEXT, echo, frame, take_frame};
use crate::support::{DEADLINE, Setup, eventually, mint};

const NOW_MS: i64 = 1_800_000_000_000;
const NOW: i64 = NOW_MS / 1000;

/// Asks for a WebSocket over HTTP/2.
fn connect(client: &Http2Client, protocol: &'static str, fields: &[(&str, &str)]) -> Request<()> {
    eventually("the gateway has said that it can", DEADLINE, || {
        client.send.is_extended_connect_protocol_enabled()
    });
    let mut request = client.request("CONNECT", "/ws", fields);
    request.extensions_mut().insert(Protocol::from_static(protocol));
    request.headers_mut().insert("sec-websocket-version", "13".parse().unwrap());
    request
}

/// A WebSocket over HTTP/2.
struct Stream {
    send: SendStream<Bytes>,
    receive: RecvStream,
    ahead: Vec<u8>,
}

impl Stream {
    fn open(client: &mut Http2Client, fields: &[(&str, &str)]) -> (Self, Option<String>) {
        let request = connect(client, "websocket", fields);
        let (response, send) = client.begin(request, false);
        let (head, receive) = client.run(response).unwrap().into_parts();
        assert_eq!(head.status, 200);
        for name in ["sec-websocket-accept", "upgrade", "connection", "content-length"] {
            assert!(!head.headers.contains_key(name), "{name}");
        }
        let protocol =
            head.headers.get("sec-websocket-protocol").map(|value| value.to_str().unwrap().to_owned());
        (Self { send, receive, ahead: Vec::new() }, protocol)
    }

    fn read(&mut self, client: &Http2Client) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some(frame) = take_frame(&mut self.ahead) {
                return Some(frame);
            }
            self.ahead.extend_from_slice(&client.run(self.receive.data())?.unwrap());
        }
    }

    fn says(&mut self, client: &Http2Client, message: &str) {
        self.send.send_data(frame(TEXT, true, message.as_bytes()).into(), false).unwrap();
        assert_eq!(self.read(client), Some((TEXT, message.as_bytes().to_vec())));
    }
}

#[test]
fn over_http2_they_are_streams_with_the_same_policy() {
    let upstream = echo("");
    let gateway = Setup::guarded(&upstream).user("alice").clock(NOW_MS).start();
    let mut client = Http2Client::connect(&gateway);
    let token = |lifetime| {
        let token = mint::access("1", NOW, lifetime);
        gateway.ledger.keep_token_secret(&token);
        token
    };
    let (short, long) = (token(60), token(120));
    for (protocol, fields, status, reason) in [
        ("websocket", &[][..], 401, "credentials_missing"),
        ("websocket", &[("authorization", "Bearer abc")], 401, "token_invalid"),
        ("websocket", &[("sec-websocket-protocol", "bearer")], 401, "header_malformed"),
        ("connect-udp", &[], 400, "request_malformed"),
    ] {
        let request = connect(&client, protocol, fields);
        let (response, _stream) = client.begin(request, false);
        client.answer("CONNECT", response).unwrap().refused(status, reason);
    }
    assert_eq!(upstream.connections(), 0);
    let (mut first, protocol) = Stream::open(&mut client, &[("authorization", &format!("Bearer {short}"))]);
    assert_eq!(protocol, None);
    let (mut second, protocol) =
        Stream::open(&mut client, &[("sec-websocket-protocol", &format!("bearer, {long}"))]);
    assert_eq!(protocol.as_deref(), Some("bearer"));
    for message in ["one", "two"] {
        first.says(&client, message);
        second.says(&client, message);
    }
    for seen in upstream.requests() {
        assert_eq!((seen.method(), seen.target(), seen.field("x-user-name")), ("GET", "/ws", "alice"));
        assert_eq!((seen.field("upgrade"), seen.field("sec-websocket-version")), ("websocket", "13"));
        assert!(!seen.head.fields.has("authorization") && !seen.head.fields.has("sec-websocket-protocol"));
    }
    gateway.set_clock(NOW_MS + 60_000);
    let (kind, payload) = first.read(&client).unwrap();
    assert_eq!((kind, &payload[..2]), (CLOSE, &1008_u16.to_be_bytes()[..]));
    second.says(&client, "still here");
    // The client ends the other one, and its connection is good for more.
    second.send.send_data(frame(CLOSE, true, &1000_u16.to_be_bytes()).into(), true).unwrap();
    assert_eq!(second.read(&client), Some((CLOSE, 1000_u16.to_be_bytes().to_vec())));
    assert_eq!(second.read(&client), None);
    client.get("/ws", &[]).refused(401, "credentials_missing");
    let line = gateway.access_line(|line| line["reason"] == "token_expired");
    assert_eq!((&line["status"], &line["ended_by"]), (&200.into(), &"gateway".into()), "{line}");
}
