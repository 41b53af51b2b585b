//! HTTP/2 from clients, in the clear with prior knowledge: what a request means is the same as over HTTP/1.1.

use std::future::poll_fn;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;

use crate::support::http2_client::{Http2Client, read_body};
use crate::support::{Latch, Setup, Then, Upstream, mint};

const NOW_MS: i64 = 1_800_000_000_000;
const NOW: i64 = NOW_MS / 1000;

#[test]
fn many_users_on_one_connection_are_never_mixed_up() {
    const USERS: usize = 20;
    let upstream = Upstream::echo();
    let names: Vec<String> = (1..=USERS).map(|number| format!("user{number}")).collect();
    let setup = Setup::guarded(&upstream).clock(NOW_MS);
    let gateway = names.iter().fold(setup, |setup, name| setup.user(name)).start();
    let tokens: Vec<String> = (1..=USERS).map(|id| mint::access(&id.to_string(), NOW, 600)).collect();
    let mut client = Http2Client::connect(&gateway);
    for round in 0..5 {
        let mut begun = Vec::new();
        for turn in 0..4 * USERS {
            // Each fifth one shows no token, and the order is another one in each round.
            let user = (turn * (2 * round + 3)) % USERS;
            let bearer = format!("Bearer {}", tokens[user]);
            let fields = [("authorization", bearer.as_str())];
            let is_anonymous = turn % 5 == 4;
            let fields = if is_anonymous { &[] } else { &fields[..] };
            let request = client.request("GET", &format!("/{round}/{turn}"), fields);
            begun.push((turn, user, is_anonymous, client.begin(request, true).0));
        }
        for (turn, user, is_anonymous, response) in begun {
            let response = client.answer("GET", response).unwrap();
            if is_anonymous {
                response.refused(401, "credentials_missing");
                continue;
            }
            let seen = response.expect(200).json();
            assert_eq!(seen["name"], names[user]);
            assert_eq!(seen["id"], (user + 1).to_string());
            assert_eq!(seen["line"], format!("GET /{round}/{turn} HTTP/1.1"));
        }
    }
    assert_eq!(upstream.count(), 5 * 4 * USERS * 4 / 5);
}

#[test]
fn bodies_and_trailers_go_the_way_they_go_over_http1() {
    let upstream = Upstream::echo();
    let gateway = Setup::public(&upstream).start();
    let mut client = Http2Client::connect(&gateway);
    let body = vec![b'b'; 40_000];
    for (fields, framing) in
        [(&[("content-length", "40000")][..], "content-length"), (&[], "transfer-encoding")]
    {
        let request = client.request("POST", "/", fields);
        let (response, mut stream) = client.begin(request, false);
        stream.send_data(Bytes::from(body.clone()), false).unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-trailer", "1".parse().unwrap());
        trailers.insert("x-user-id", "1".parse().unwrap());
        stream.send_trailers(trailers).unwrap();
        client.answer("POST", response).unwrap().expect(200);
        let seen = upstream.last();
        assert!(seen.whole && seen.body == body);
        assert!(seen.head.fields.has(framing), "{:?}", seen.head);
        assert!(seen.trailers.0.is_empty() && !seen.head.fields.has("x-trailer"), "{seen:?}");
    }
    for name in ["te", "trailer", "x-user-id"] {
        assert!(upstream.requests().iter().all(|request| !request.head.fields.has(name)), "{name}");
    }
}

#[test]
fn two_tokens_are_none() {
    let upstream = Upstream::echo();
    let gateway = Setup::guarded(&upstream).user("alice").clock(NOW_MS).start();
    let token = format!("Bearer {}", mint::access("1", NOW, 600));
    let mut client = Http2Client::connect(&gateway);
    let once = ("authorization", token.as_str());
    client.get("/", &[once, once]).refused(401, "header_malformed");
    client.get("/", &[once, ("authorization", "Basic eDp5")]).refused(401, "header_malformed");
    assert_eq!(upstream.count(), 0);
    client.get("/", &[once]).expect(200);
}

#[test]
fn a_get_with_a_body_is_refused_and_one_with_an_empty_frame_is_none() {
    let upstream = Upstream::echo();
    let gateway = Setup::public(&upstream).start();
    let mut client = Http2Client::connect(&gateway);
    for method in ["GET", "HEAD"] {
        for fields in [&[][..], &[("content-length", "5")]] {
            let request = client.request(method, "/", fields);
            let response = client.ask(request, Some(b"hello"));
            assert_eq!(response.status, 400, "{response:?}");
        }
    }
    let request = client.request("GET", "/", &[]);
    client.ask(request, Some(b"hello")).refused(400, "framing_ambiguous");
    assert_eq!(upstream.count(), 0);
    for method in ["GET", "HEAD"] {
        let request = client.request(method, "/", &[]);
        client.ask(request, Some(b"")).expect(200);
        let seen = upstream.last();
        assert!(seen.body.is_empty(), "{seen:?}");
        assert!(!seen.head.fields.has("content-length") && !seen.head.fields.has("transfer-encoding"));
    }
    // Trailers could be of a body only, and would be lost.
    let request = client.request("GET", "/", &[]);
    let (response, mut stream) = client.begin(request, false);
    stream.send_trailers(HeaderMap::new()).unwrap();
    client.answer("GET", response).unwrap().refused(400, "framing_ambiguous");
    assert_eq!(upstream.count(), 2);
}

#[test]
fn a_host_field_says_what_the_authority_says() {
    let upstream = Upstream::echo();
    let gateway = Setup::public(&upstream).start();
    let mut client = Http2Client::connect(&gateway);
    for fields in [
        &[("host", "other.test")][..],
        &[("host", "gw.test:80")],
        &[("host", "gw.test"), ("host", "other.test")],
        &[("host", "")],
    ] {
        client.get("/", fields).refused(400, "host_invalid");
    }
    assert_eq!(upstream.count(), 0);
    client.get("/", &[("host", "gw.test")]).expect(200);
    assert_eq!(upstream.last().field("host"), "gw.test");
}

#[test]
fn cookies_are_one_field_again() {
    let upstream = Upstream::echo();
    let gateway = Setup::public(&upstream).start();
    let mut client = Http2Client::connect(&gateway);
    client
        .get("/", &[("cookie", "a=1"), ("x-between", "1"), ("cookie", "b=2; c=3"), ("cookie", "d=4")])
        .expect(200);
    assert_eq!(upstream.last().field("cookie"), "a=1; b=2; c=3; d=4");
}

#[test]
fn a_stream_that_is_reset_ends_its_request_and_no_other() {
    let left = Arc::new(Latch::default());
    let seen = Arc::clone(&left);
    let upstream = Upstream::start(move |talk| {
        if !talk.head.line.contains("/slow") {
            return talk.echo();
        }
        talk.send("HTTP/1.1 200 OK\r\nx-upstream: 1\r\ncontent-length: 100\r\n\r\nsome");
        assert!(talk.wire.fill().is_err(), "nothing more is sent to it");
        seen.open();
        Then::Close
    });
    let gateway = Setup::public(&upstream).start();
    let mut client = Http2Client::connect(&gateway);
    let request = client.request("GET", "/slow", &[]);
    let (response, mut slow) = client.begin(request, true);
    upstream.wait_for(1);
    client.get("/other", &[]).expect(200);
    // After its answer has begun.
    let mut body = client.run(response).unwrap().into_body();
    assert_eq!(client.run(body.data()).unwrap().unwrap(), "some");
    slow.send_reset(h2::Reason::CANCEL);
    left.wait();
    client.get("/other", &[]).expect(200);
    let line = gateway.access_line(|line| line["path"] == "/slow");
    assert_eq!(line["ended_by"], "client", "{line}");
}

#[test]
fn a_stream_that_is_reset_before_its_answer_ends_its_request_as_well() {
    let left = Arc::new(Latch::default());
    let seen = Arc::clone(&left);
    let upstream = Upstream::start(move |talk| {
        assert!(talk.wire.fill().is_err(), "nothing more is sent to it");
        seen.open();
        Then::Close
    });
    let gateway = Setup::public(&upstream).start();
    let mut client = Http2Client::connect(&gateway);
    let request = client.request("GET", "/slow", &[]);
    let (_response, mut slow) = client.begin(request, true);
    upstream.wait_for(1);
    slow.send_reset(h2::Reason::CANCEL);
    left.wait();
}

#[test]
fn refusals_are_those_of_http1() {
    let upstream = Upstream::echo();
    let gateway = Setup::new()
        .upstream("api", &upstream, "")
        .route("path = \"/a\"\nmethods = [\"GET\"]\nauth = \"required\"\nupstream = \"api\"")
        .route("path = \"/small\"\nauth = \"public\"\nmax_body = \"10B\"\nupstream = \"api\"")
        .start();
    let mut client = Http2Client::connect(&gateway);
    client.get("/a", &[]).refused(401, "credentials_missing");
    client.get("/b", &[]).refused(404, "route_not_found");
    client.get("/a/../b", &[]).refused(400, "path_ambiguous");
    let response = client.call("DELETE", "/a", &[]).refused(405, "method_not_allowed");
    assert_eq!(response.field("allow"), "GET, HEAD");
    client.call("TRACE", "/a", &[]).refused(405, "method_not_allowed");
    let request = client.request("POST", "/small", &[("content-length", "11")]);
    client.ask(request, Some(b"hello world")).refused(413, "body_too_large");
    let request = client.request("POST", "/small", &[]);
    client.ask(request, Some(b"hello world")).refused(413, "body_too_large");
    client.get(&format!("/{}", "a".repeat(16 * 1024)), &[]).refused(414, "target_too_long");
    client.get("/small", &[("expect", "a miracle")]).refused(417, "expectation_failed");
    let head = client.call("HEAD", "/a", &[]);
    assert!(head.status == 401 && head.body.is_empty(), "{head:?}");
    assert!(upstream.requests().iter().all(|request| !request.whole), "nothing was sent whole");
    client.get("/small", &[]).expect(200);
    // Each answer has a line of its own with its id, which the end of the gateway checks.
    assert_eq!(gateway.stop().len(), 11);
}

#[test]
fn answers_without_a_body_have_none() {
    let upstream = Upstream::start(|talk| {
        if talk.head.line.contains("/none") {
            talk.send("HTTP/1.1 204 No Content\r\nx-upstream: 1\r\nkeep-alive: timeout=5\r\n\r\n");
            return Then::Next;
        }
        talk.echo()
    });
    let gateway = Setup::public(&upstream).start();
    let mut client = Http2Client::connect(&gateway);
    let head = client.call("HEAD", "/", &[]).expect(200);
    assert!(head.body.is_empty() && head.field("content-length").parse::<usize>().unwrap() > 50, "{head:?}");
    let none = client.get("/none", &[]).expect(204);
    assert!(none.body.is_empty() && !none.field("date").is_empty(), "{none:?}");
    client.get("/", &[]).expect(200);
}

#[test]
fn a_client_that_asks_first_is_told_to_go_on_before_it_sends() {
    let upstream = Upstream::echo();
    let gateway =
        Setup::public(&upstream).route("path = \"/closed\"\nauth = \"required\"\nupstream = \"api\"").start();
    let mut client = Http2Client::connect(&gateway);
    let request = client.request("POST", "/", &[("expect", "100-continue"), ("content-length", "5")]);
    let (mut response, mut stream) = client.begin(request, false);
    let interim = client.run(poll_fn(|cx| response.poll_informational(cx))).unwrap().unwrap();
    assert_eq!(interim.status(), 100);
    stream.send_data(Bytes::from_static(b"hello"), true).unwrap();
    client.answer("POST", response).unwrap().expect(200);
    assert_eq!(upstream.last().body, b"hello");
    // Who is refused is not told to go on.
    let request = client.request("POST", "/closed", &[("expect", "100-continue"), ("content-length", "5")]);
    let (mut response, _stream) = client.begin(request, false);
    assert!(client.run(poll_fn(|cx| response.poll_informational(cx))).is_none());
    client.answer("POST", response).unwrap().refused(401, "credentials_missing");
}

#[test]
fn early_hints_arrive_before_the_answer() {
    let go_on = Arc::new(Latch::default());
    let told = Arc::clone(&go_on);
    let upstream = Upstream::start(move |talk| {
        talk.send("HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n\r\n");
        told.wait();
        talk.ok("done")
    });
    let gateway = Setup::public(&upstream).start();
    let mut client = Http2Client::connect(&gateway);
    let request = client.request("GET", "/", &[]);
    let (mut response, _stream) = client.begin(request, true);
    let hints = client.run(poll_fn(|cx| response.poll_informational(cx))).unwrap().unwrap();
    assert_eq!(
        (hints.status().as_u16(), &hints.headers()["link"]),
        (103, &"</style.css>; rel=preload".parse().unwrap())
    );
    go_on.open();
    let mut body = client.run(response).unwrap().into_body();
    assert_eq!(client.run(read_body(&mut body)).unwrap(), b"done");
}
