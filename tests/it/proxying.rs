//! Requests and answers pass through unchanged, and whatever breaks, breaks alone.

use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use crate::support::client::request;
use crate::support::upstream::ok;
use crate::support::wire::{Cut, find};
use crate::support::{Client, Latch, Setup, Then, Upstream, eventually};

/// How long a writer is stuck before it counts as held back.
const STUCK: Duration = Duration::from_millis(400);
const MIB: usize = 1024 * 1024;

#[test]
fn requests_share_connections_on_both_sides() {
    let upstream = Upstream::echo();
    let gateway = Setup::public(&upstream).start();
    let mut client = gateway.client();
    let got = client.get("/a/b?c=%2F&d", "accept: */*\r\n").expect(200);
    assert_eq!(got.json()["line"], "GET /a/b?c=%2F&d HTTP/1.1");
    let length = got.field("content-length").to_owned();

    let head = client.call("HEAD", "/a/b?c=%2F&d", "", b"").expect(200);
    assert!(head.body.is_empty());
    assert_eq!(head.field("content-length").parse::<usize>().unwrap(), length.parse::<usize>().unwrap() + 1);

    let posted = client.call("POST", "/form", "content-type: text/plain\r\n", b"some body").expect(200);
    assert_eq!(posted.json()["line"], "POST /form HTTP/1.1");
    let last = upstream.last();
    assert_eq!((last.body.as_slice(), last.field("content-length")), (&b"some body"[..], "9"));
    assert_eq!(last.field("content-type"), "text/plain");

    for method in ["PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"] {
        client.call(method, "/x", "", b"").expect(200);
        assert_eq!(upstream.last().method(), method);
    }
    assert_eq!(upstream.connections(), 1);
    let sent: Vec<_> = gateway.stop().into_iter().filter(|line| line["ended_by"] != "complete").collect();
    assert!(sent.is_empty(), "{sent:?}");
}

#[test]
fn a_body_of_length_zero_stays_one() {
    let upstream = Upstream::echo();
    let gateway = Setup::public(&upstream).start();
    gateway.client().call("POST", "/", "content-length: 0\r\n", b"").expect(200);
    assert_eq!(upstream.last().field("content-length"), "0");
    gateway.client().get("/", "").expect(200);
    assert!(!upstream.last().head.fields.has("content-length"));
    assert!(!upstream.last().head.fields.has("transfer-encoding"));
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let upstream = Upstream::echo();
    let gateway = Setup::public(&upstream).start();
    let mut client = gateway.client();
    let mut bytes = Vec::new();
    for number in 0..30 {
        bytes.extend(request(
            if number % 3 == 0 { "POST" } else { "GET" },
            &format!("/{number}"),
            "",
            &b"body"[..number % 3 * 2],
        ));
    }
    client.send(bytes);
    for number in 0..30 {
        let line = client.answer().expect(200).json()["line"].as_str().unwrap().to_owned();
        assert!(line.contains(&format!(" /{number} ")), "{line} instead of {number}");
    }
}

#[test]
fn answers_without_a_body_end_at_once() {
    let upstream = Upstream::start(|talk| {
        talk.read_body();
        talk.send(match talk.head.line.split(' ').nth(1).unwrap() {
            "/204" => "HTTP/1.1 204 No Content\r\nx-upstream: 1\r\n\r\n",
            "/304" => {
                "HTTP/1.1 304 Not Modified\r\nx-upstream: 1\r\netag: \"x\"\r\ncontent-length: 77\r\n\r\n"
            }
            _ => "HTTP/1.1 200 OK\r\nx-upstream: 1\r\ncontent-length: 0\r\n\r\n",
        });
        Then::Next
    });
    let gateway = Setup::public(&upstream).start();
    let mut client = gateway.client();
    let empty = client.get("/204", "").expect(204);
    assert!(!empty.head.fields.has("content-length") && !empty.head.fields.has("transfer-encoding"));
    let unchanged = client.get("/304", "").expect(304);
    assert_eq!(unchanged.field("etag"), "\"x\"");
    client.get("/200", "").expect(200);
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn chunked_bodies_pass_both_ways_without_request_trailers() {
    let upstream = Upstream::says(
        "HTTP/1.1 200 OK\r\nx-upstream: 1\r\ntransfer-encoding: chunked\r\n\r\n3;ext=1\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n",
        Then::Next,
    );
    let gateway = Setup::public(&upstream).start();
    let mut client = gateway.client();
    client.send(
        "POST /x HTTP/1.1\r\nhost: gw.test\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n\
         5;q=\"a\"\r\nhello\r\n1\r\n \r\n5\r\nworld\r\n0\r\nx-user-id: 1\r\nx-sum: 7\r\n\r\n",
    );
    let response = client.answer().expect(200);
    assert_eq!(response.text(), "abc0123456789abcdef");
    let last = upstream.last();
    assert_eq!((last.body.as_slice(), last.field("transfer-encoding")), (&b"hello world"[..], "chunked"));
    assert!(last.trailers.0.is_empty() && !last.head.fields.has("trailer"), "{last:?}");
    client.get("/next", "").expect(200);
}

#[test]
fn a_chunked_body_of_a_get_is_not_lost() {
    let upstream = Upstream::echo();
    let gateway = Setup::public(&upstream).start();
    let mut client = gateway.client();
    for method in ["GET", "HEAD", "DELETE"] {
        client.send(format!(
            "{method} /x HTTP/1.1\r\nhost: gw.test\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        ));
        client.try_answer_to(method).unwrap().expect(200);
        let last = upstream.last();
        assert_eq!(
            (last.body.as_slice(), last.field("transfer-encoding")),
            (&b"hello"[..], "chunked"),
            "{method}"
        );
    }
}

#[test]
fn response_trailers_pass_to_who_takes_them() {
    let upstream = Upstream::says(
        "HTTP/1.1 200 OK\r\nx-upstream: 1\r\ntrailer: grpc-status\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\ngrpc-status: 0\r\n\r\n",
        Then::Next,
    );
    let gateway = Setup::public(&upstream).start();
    let mut client = gateway.client();
    let taken = client.get("/", "te: gzip, trailers\r\n").expect(200);
    assert_eq!(upstream.last().field("te"), "trailers");
    assert_eq!(taken.trailers.all("grpc-status"), ["0"]);
    let not_taken = client.get("/", "").expect(200);
    assert!(!upstream.last().head.fields.has("te"));
    assert!(not_taken.trailers.0.is_empty());
}

#[test]
fn a_body_is_asked_for_before_it_is_sent() {
    let upstream = Upstream::echo();
    let gateway = Setup::guarded(&upstream).start();
    let mut client = gateway.client();
    client
        .send("POST /public HTTP/1.1\r\nhost: gw.test\r\nexpect: 100-Continue\r\ncontent-length: 5\r\n\r\n");
    assert_eq!(client.head().line, "HTTP/1.1 100 Continue");
    client.send("hello");
    client.answer().expect(200);
    let last = upstream.last();
    assert_eq!(last.body, b"hello");
    assert!(!last.head.fields.has("expect"));

    let other = gateway.client().call("POST", "/public", "expect: 200-ok\r\n", b"x");
    other.refused(417, "expectation_failed");
    // Whoever is refused is not asked for the body first.
    client.send("POST / HTTP/1.1\r\nhost: gw.test\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n");
    let refused = client.answer().refused(401, "credentials_missing");
    assert!(refused.interim.is_empty(), "{refused:?}");
    assert_eq!(upstream.count(), 1);
}

#[test]
fn a_refused_body_is_not_read_as_a_request() {
    let upstream = Upstream::echo();
    let gateway = Setup::guarded(&upstream).start();
    let mut client = gateway.client();
    let smuggled = "GET /public/smuggled HTTP/1.1\r\nhost: gw.test\r\n\r\n";
    client.call("POST", "/", "", smuggled.as_bytes()).refused(401, "credentials_missing");
    // The connection either goes on after the body, or ends.
    if client.try_send(request("GET", "/public/next", "", b"")).is_ok()
        && let Ok(next) = client.try_answer_to("GET")
    {
        assert_eq!(next.expect(200).json()["line"], "GET /public/next HTTP/1.1");
    }
    assert!(upstream.requests().iter().all(|request| !request.target().contains("smuggled")));
}

#[test]
fn a_download_is_held_back_by_a_client_that_does_not_read() {
    const WHOLE: usize = 64 * MIB;
    let blocked = Arc::new(std::sync::Mutex::new(0));
    let noted = Arc::clone(&blocked);
    let upstream = Upstream::start_small(move |talk| {
        talk.read_body();
        talk.send(format!("HTTP/1.1 200 OK\r\nx-upstream: 1\r\ncontent-length: {WHOLE}\r\n\r\n"));
        let piece = vec![b'x'; 64 * 1024];
        let sent = talk.send_until_blocked(&piece, WHOLE, STUCK);
        *noted.lock().unwrap() = sent;
        talk.send_until_blocked(&piece, WHOLE - sent, Duration::from_secs(15));
        Then::Next
    });
    let gateway = Setup::public(&upstream).start();
    let mut client = Client::connect_small(&gateway);
    client.send(request("GET", "/", "", b""));
    eventually("the upstream is held back", Duration::from_secs(15), || *blocked.lock().unwrap() > 0);
    let buffered = *blocked.lock().unwrap();
    // The system lets the gateway's two sockets hold some of it.
    assert!(buffered < 16 * MIB, "{buffered} bytes were read ahead of the client");
    let response = client.answer().expect(200);
    assert_eq!(response.body.len(), WHOLE);
    client.get("/healthy", "").head.fields.one("content-length").unwrap();
}

#[test]
fn an_upload_is_held_back_by_an_upstream_that_does_not_read() {
    const WHOLE: usize = 64 * MIB;
    let go_on = Arc::new(Latch::default());
    let wait = Arc::clone(&go_on);
    let upstream = Upstream::start_small(move |talk| {
        wait.wait();
        talk.ok("taken")
    });
    let gateway = Setup::public(&upstream).limits("max_body = \"0\"").start();
    let mut client = Client::connect_small(&gateway);
    client.send(format!("POST / HTTP/1.1\r\nhost: gw.test\r\ncontent-length: {WHOLE}\r\n\r\n"));
    let piece = vec![b'x'; 64 * 1024];
    client.wire.stream.set_write_timeout(Some(STUCK)).unwrap();
    let mut sent = 0;
    while sent < WHOLE {
        match client.wire.stream.write(&piece[..piece.len().min(WHOLE - sent)]) {
            Ok(taken) => sent += taken,
            Err(_) => break,
        }
    }
    // The client's own buffer, which the system lets grow, is part of it.
    assert!(sent < 12 * MIB, "{sent} bytes were read ahead of the upstream");
    go_on.open();
    client.wire.stream.set_write_timeout(Some(Duration::from_secs(15))).unwrap();
    while sent < WHOLE {
        sent += client.wire.stream.write(&piece[..piece.len().min(WHOLE - sent)]).unwrap();
    }
    assert_eq!(client.answer().expect(200).text(), "taken");
    assert_eq!(upstream.last().body.len(), WHOLE);
    drop(client);
    let line = gateway.access_line(|line| line["method"] == "POST");
    assert_eq!(line["received_bytes"], WHOLE);
}

#[test]
fn a_client_that_leaves_within_its_body_breaks_nothing_else() {
    let upstream = Upstream::echo();
    let gateway = Setup::public(&upstream).start();
    let mut leaver = gateway.client();
    leaver.send("POST /half HTTP/1.1\r\nhost: gw.test\r\ncontent-length: 100\r\n\r\nhalf of it");
    upstream.wait_for(1);
    drop(leaver);
    upstream.wait_until_left();
    let half = upstream.last();
    assert!(!half.whole && half.body.len() <= 10, "{half:?}");
    gateway.client().get("/next", "").expect(200);
    // The answer would have been this, if anybody had been there to read it.
    let line = gateway.access_line(|line| line["path"] == "/half");
    assert_eq!(
        (line["status"].as_u64(), line["reason"].as_str()),
        (Some(400), Some("request_malformed")),
        "{line}"
    );
    assert_eq!(upstream.count(), 2);
}

#[test]
fn a_client_that_leaves_within_a_download_ends_it_at_the_upstream() {
    let upstream = Upstream::start(|talk| {
        talk.read_body();
        talk.send("HTTP/1.1 200 OK\r\nx-upstream: 1\r\ncontent-length: 1000000000\r\n\r\n");
        let piece = vec![b'x'; 64 * 1024];
        while talk.try_send(&piece).is_ok() {}
        Then::Close
    });
    let gateway = Setup::public(&upstream).start();
    let mut leaver = gateway.client();
    leaver.send(request("GET", "/long", "", b""));
    leaver.head();
    drop(leaver);
    upstream.wait_until_left();
    let line = gateway.access_line(|line| line["path"] == "/long");
    assert_eq!((line["ended_by"].as_str(), line["status"].as_u64()), (Some("client"), Some(200)), "{line}");
}

#[test]
fn an_answer_that_breaks_off_is_cut_for_one_client_only() {
    for (framing, sent) in
        [("content-length: 100", "half of it"), ("transfer-encoding: chunked", "5\r\nhello\r\n")]
    {
        for then in [Then::Close, Then::Reset] {
            let upstream = Upstream::start(move |talk| {
                if talk.head.line.contains("/whole") {
                    return talk.echo();
                }
                talk.read_body();
                talk.send(format!("HTTP/1.1 200 OK\r\nx-upstream: 1\r\n{framing}\r\n\r\n{sent}"));
                then
            });
            let gateway = Setup::public(&upstream).start();
            let mut client = gateway.client();
            client.send(request("GET", "/half", "", b""));
            match client.try_answer_to("GET") {
                Ok(response) if response.status == 200 => {
                    assert!(matches!(response.cut, Some(Cut::Closed | Cut::Reset)), "{response:?}");
                    let line = gateway.access_line(|line| line["path"] == "/half");
                    assert_eq!(line["ended_by"], "upstream", "{line}");
                }
                // The reset overtook the head.
                Ok(response) => drop(response.refused(502, "upstream_refused")),
                Err(cut) => panic!("{cut:?}"),
            }
            let other = gateway.client().get("/whole", "").expect(200);
            assert_eq!(other.json()["line"], "GET /whole HTTP/1.1");
        }
    }
}

#[test]
fn what_is_no_answer_is_a_bad_gateway() {
    for (bytes, then) in [
        ("", Then::Close),
        ("", Then::Reset),
        ("220 smtp.example.com ESMTP\r\n\r\n", Then::Next),
        ("HTTP/1.1 200 OK\r\ncontent-le", Then::Close),
        ("HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n", Then::Next),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            Then::Next,
        ),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok!", Then::Next),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nok", Then::Next),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2,2\r\n\r\nok", Then::Next),
        ("HTTP/1.1 200 OK\r\ncontent-length: 02\r\n\r\nok", Then::Next),
        ("HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n", Then::Next),
        ("HTTP/1.1 200 OK\r\nbad header\r\n\r\n", Then::Next),
        ("HTTP/1.1 999999 OK\r\n\r\n", Then::Next),
    ] {
        let upstream = Upstream::says(bytes, then);
        let gateway = Setup::public(&upstream).start();
        let mut client = gateway.client();
        let refusal = client.call("POST", "/x", "", b"body").refused(502, "upstream_refused");
        assert!(!refusal.text().contains("127.0.0.1"), "{bytes:?}: {refusal:?}");
        // It is the upstream's fault: the client's connection goes on.
        client.call("POST", "/y", "", b"body").refused(502, "upstream_refused");
        let line = gateway.access_line(|line| line["path"] == "/x");
        assert_eq!(line["reason"], "upstream_refused", "{bytes:?}");
    }
}

#[test]
fn the_rest_of_a_bad_answer_goes_to_nobody() {
    let upstream = Upstream::start(|talk| {
        if talk.head.line.contains("/whole") {
            return talk.echo();
        }
        talk.read_body();
        talk.send(format!("{}{}", ok("mine"), ok("someone else's")));
        Then::Next
    });
    let gateway = Setup::public(&upstream).start();
    for _ in 0..5 {
        assert_eq!(gateway.client().get("/two", "").expect(200).text(), "mine");
        let next = gateway.client().get("/whole", "").expect(200);
        assert_eq!(next.json()["line"], "GET /whole HTTP/1.1");
    }
}

#[test]
fn interim_answers_do_not_end_the_wait() {
    let upstream = Upstream::start(|talk| {
        talk.send("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n");
        talk.ok("final")
    });
    let gateway = Setup::public(&upstream).start();
    let mut client = gateway.client();
    assert_eq!(client.call("POST", "/", "", b"body").expect(200).text(), "final");
    assert_eq!(client.get("/", "").expect(200).text(), "final");
}

#[test]
fn an_answer_may_come_before_the_body_is_sent() {
    let upstream = Upstream::start(|talk| {
        talk.send("HTTP/1.1 413 Content Too Large\r\nx-upstream: 1\r\ncontent-length: 3\r\nconnection: close\r\n\r\nbig");
        Then::Close
    });
    let gateway = Setup::public(&upstream).start();
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nhost: gw.test\r\ncontent-length: 1000\r\n\r\nthe beginning");
    let early = client.answer();
    assert_eq!((early.status, early.text()), (413, "big"), "{early:?}");
    assert_eq!(gateway.client().get("/", "").status, 413);
}

#[test]
fn hop_by_hop_fields_of_an_answer_stay_behind() {
    let upstream = Upstream::says(
        "HTTP/1.1 200 OK\r\nx-upstream: 1\r\nconnection: X-Hop, keep-alive\r\nx-hop: 1\r\nkeep-alive: timeout=5\r\n\
         proxy-connection: keep-alive\r\nupgrade: h2c\r\nx-request-id: theirs\r\nset-cookie: a=1\r\nset-cookie: b=2\r\n\
         server: up\r\ncontent-length: 2\r\n\r\nok",
        Then::Next,
    );
    let gateway = Setup::public(&upstream).start();
    let response = gateway.client().get("/", "").expect(200);
    assert!(!response.head.fields.has("x-hop"));
    assert_eq!(response.head.fields.all("set-cookie"), ["a=1", "b=2"]);
    assert_eq!(response.field("server"), "up");
}

#[test]
fn an_answer_until_the_end_of_the_connection_is_whole() {
    let upstream = Upstream::says("HTTP/1.1 200 OK\r\nx-upstream: 1\r\n\r\nuntil the end", Then::Close);
    let gateway = Setup::public(&upstream).start();
    let mut client = gateway.client();
    for _ in 0..2 {
        let response = client.get("/", "").expect(200);
        assert_eq!((response.text(), response.field("transfer-encoding")), ("until the end", "chunked"));
    }
    client.send("GET / HTTP/1.0\r\nhost: gw.test\r\n\r\n");
    let old = client.answer().expect(200);
    assert_eq!((old.text(), old.field("transfer-encoding")), ("until the end", ""));
    client.expect_end();
}

#[test]
fn a_connection_that_the_upstream_has_closed_is_not_used() {
    let upstream = Upstream::echo();
    let gateway = Setup::public(&upstream).start();
    let mut client = gateway.client();
    for _ in 0..5 {
        client.get("/", "").expect(200);
        upstream.hang_up();
        client.call("POST", "/", "", b"once").expect(200);
        upstream.hang_up();
    }
    let posts = upstream.requests().into_iter().filter(|request| request.method() == "POST");
    assert_eq!(posts.count(), 5);
}

#[test]
fn a_connection_that_dies_with_the_request_is_tried_again_only_where_that_is_safe() {
    // The first request of each connection is answered, the second one finds it dead.
    let upstream = Upstream::start(|talk| {
        let whole = talk.read_body();
        if !whole || talk.head.line.contains("/warm") {
            return talk.ok("warm");
        }
        if talk.number % 2 == 1 { Then::Close } else { talk.ok("second try") }
    });
    let gateway = Setup::public(&upstream).start();
    let mut client = gateway.client();
    client.get("/warm", "").expect(200);
    assert_eq!(client.get("/again", "").expect(200).text(), "second try");
    assert_eq!(upstream.count(), 3);

    for body in [&b"body"[..], b""] {
        let upstream = Upstream::start(|talk| {
            talk.read_body();
            if talk.head.line.contains("/warm") { talk.ok("warm") } else { Then::Close }
        });
        let gateway = Setup::public(&upstream).start();
        let mut client = gateway.client();
        client.get("/warm", "").expect(200);
        client.call("POST", "/once", "", body).refused(502, "upstream_refused");
        assert_eq!(upstream.count(), 2, "a POST is sent once");
        client.get("/warm", "").expect(200);
        client.call("PUT", "/once", "", b"body").refused(502, "upstream_refused");
        assert_eq!(upstream.count(), 4, "a body is sent once");
    }
}

#[test]
fn an_upstream_that_refuses_is_a_bad_gateway() {
    let upstream = Upstream::echo();
    let setup = Setup::public(&upstream);
    drop(upstream);
    let gateway = setup.start();
    let mut client = gateway.client();
    client.get("/", "").refused(502, "upstream_refused");
    client.call("POST", "/", "", b"body").refused(502, "upstream_refused");
    client.get("/", "").refused(502, "upstream_refused");
}

#[test]
fn a_target_that_refuses_is_passed_over() {
    for balance in ["round_robin", "least_request"] {
        let (up, down) = (Upstream::echo(), Upstream::echo());
        let targets = format!("targets = [\"{}\", \"{}\"]\nbalance = \"{balance}\"", up.url(), down.url());
        drop(down);
        let gateway = Setup::new()
            .section(&format!("[upstreams.api]\n{targets}"))
            .route("path = \"/\"\nauth = \"public\"\nupstream = \"api\"")
            .start();
        let mut client = gateway.client();
        // By chance a target is chosen twice: one that has nothing in flight because it is away would be, again and again.
        for _ in 0..30 {
            client.call("POST", "/", "", b"").expect(200);
        }
        assert_eq!(up.count(), 30, "{balance}");
    }
}

#[test]
fn an_upstream_that_is_too_slow_is_a_timeout() {
    let upstream = Upstream::start(|talk| {
        if talk.head.line.contains("/fast") {
            return talk.ok("fast");
        }
        talk.read_body();
        // Until the gateway has given up.
        let mut byte = [0];
        let _ = talk.wire.stream.read(&mut byte);
        Then::Close
    });
    let gateway = Setup::new()
        .upstream("api", &upstream, "response_timeout = \"300ms\"")
        .route("path = \"/\"\nauth = \"public\"\nupstream = \"api\"")
        .route("path = \"/longer\"\nauth = \"public\"\nupstream = \"api\"\ntimeout = \"500ms\"")
        .start();
    let mut client = gateway.client();
    for (method, target, least) in [("GET", "/slow", 300), ("POST", "/slow", 300), ("GET", "/longer", 500)] {
        let began = std::time::Instant::now();
        client.call(method, target, "", b"").refused(504, "upstream_timeout");
        let elapsed = began.elapsed();
        // Deadlines are counted in ticks, of which the first one may be almost over.
        assert!((least - 110..least + 1500).contains(&elapsed.as_millis()), "{elapsed:?}");
        assert_eq!(client.get("/fast", "").expect(200).text(), "fast");
    }
    assert_eq!(upstream.requests().iter().filter(|request| request.target() == "/slow").count(), 2);
}

#[test]
fn requests_wait_for_a_connection_in_order_of_room() {
    for (lines, status) in [("max_connections = 1", 200), ("max_connections = 1\nmax_queue = 0", 503)] {
        let go_on = Arc::new(Latch::default());
        let wait = Arc::clone(&go_on);
        let upstream = Upstream::start(move |talk| {
            wait.wait();
            talk.echo()
        });
        let gateway = Setup::new()
            .workers(2)
            .upstream("api", &upstream, lines)
            .route("path = \"/\"\nauth = \"public\"\nupstream = \"api\"")
            .start();
        let mut first = gateway.client();
        first.send(request("GET", "/first", "", b""));
        upstream.wait_for(1);
        let mut others: Vec<Client> = (0..4).map(|_| gateway.client()).collect();
        for other in &mut others {
            other.send(request("GET", "/other", "", b""));
        }
        if status == 503 {
            for other in &mut others {
                other.answer().refused(503, "overloaded");
            }
        }
        assert_eq!((upstream.count(), upstream.connections()), (1, 1));
        let began = std::time::Instant::now();
        go_on.open();
        first.answer().expect(200);
        if status == 200 {
            // The one connection belongs to one of two threads; the other one gets its turn, too.
            for other in &mut others {
                other.answer().expect(200);
            }
            for _ in 0..6 {
                gateway.client().get("/later", "").expect(200);
            }
            assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        } else {
            assert_eq!(upstream.connections(), 1);
        }
    }
}

#[test]
fn one_thread_hands_its_one_connection_from_request_to_request() {
    let go_on = Arc::new(Latch::default());
    let wait = Arc::clone(&go_on);
    let upstream = Upstream::start(move |talk| {
        wait.wait();
        talk.echo()
    });
    let gateway = Setup::new()
        .upstream("api", &upstream, "max_connections = 1")
        .route("path = \"/\"\nauth = \"public\"\nupstream = \"api\"")
        .start();
    let mut clients: Vec<Client> = (0..8).map(|_| gateway.client()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(request("GET", &format!("/{number}"), "", b""));
    }
    upstream.wait_for(1);
    go_on.open();
    for (number, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.answer().expect(200).json()["line"], format!("GET /{number} HTTP/1.1"));
    }
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn two_clients_are_served_by_two_threads() {
    // By chance alone it would be one thread every other time.
    for _ in 0..10 {
        let upstream = Upstream::echo();
        let gateway = Setup::public(&upstream).workers(2).start();
        let mut clients = [gateway.client(), gateway.client()];
        for client in &mut clients {
            client.get("/", "").expect(200);
        }
        // A thread uses its connection to the upstream again, and gives it to no other.
        assert_eq!(upstream.connections(), 2);
        for client in &mut clients {
            client.get("/again", "").expect(200);
        }
        assert_eq!((upstream.connections(), upstream.count()), (2, 4));
    }
}

#[test]
fn many_requests_at_once_get_their_own_answers() {
    let upstream = Upstream::start(|talk| {
        talk.read_body();
        let target = talk.head.line.split(' ').nth(1).unwrap().to_owned();
        talk.send(ok(&target));
        Then::Next
    });
    let gateway = Setup::public(&upstream).workers(2).start();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let gateway = &gateway;
            let mut client = gateway.client();
            scope.spawn(move || {
                for number in 0..60 {
                    let target = format!("/{thread}/{number}");
                    assert_eq!(client.get(&target, "").expect(200).text(), target);
                }
            });
        }
    });
    assert_eq!(upstream.count(), 480);
    assert!(upstream.connections() <= 16);
}

#[test]
fn the_host_header_is_what_the_upstream_is_told_to_see() {
    let upstream = Upstream::echo();
    let authority = upstream.address.to_string();
    for (lines, expected) in [
        ("", "gw.test"),
        ("host_header = \"target\"", authority.as_str()),
        ("host_header = \"inner.example.com\"", "inner.example.com"),
    ] {
        let gateway = Setup::new()
            .upstream("api", &upstream, lines)
            .route("path = \"/\"\nauth = \"public\"\nupstream = \"api\"")
            .start();
        gateway.client().get("/", "").expect(200);
        let last = upstream.last();
        assert_eq!((last.field("host"), last.field("x-forwarded-host")), (expected, "gw.test"));
    }
}

#[test]
fn the_first_bytes_of_a_stream_come_before_its_last() {
    let go_on = Arc::new(Latch::default());
    let wait = Arc::clone(&go_on);
    let upstream = Upstream::start(move |talk| {
        talk.read_body();
        talk.send("HTTP/1.1 200 OK\r\nx-upstream: 1\r\ntransfer-encoding: chunked\r\n\r\n6\r\nevent1\r\n");
        wait.wait();
        talk.send("6\r\nevent2\r\n0\r\n\r\n");
        Then::Next
    });
    let gateway = Setup::public(&upstream).start();
    let mut client = gateway.client();
    client.send(request("GET", "/events", "", b""));
    while find(&client.wire.ahead, b"event1").is_none() {
        client.wire.fill().unwrap();
    }
    go_on.open();
    assert_eq!(client.answer().expect(200).text(), "event1event2");
}

#[test]
fn a_body_that_looks_like_a_refusal_passes() {
    let refusal = "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";
    let go_on = Arc::new(Latch::default());
    let wait = Arc::clone(&go_on);
    let upstream = Upstream::start(move |talk| {
        talk.read_body();
        let length = 5 + refusal.len();
        talk.send(format!("HTTP/1.1 200 OK\r\nx-upstream: 1\r\ncontent-length: {length}\r\n\r\nhello"));
        wait.wait();
        talk.send(refusal);
        Then::Next
    });
    let gateway = Setup::public(&upstream).start();
    let mut client = gateway.client();
    client.send(request("GET", "/", "", b""));
    while find(&client.wire.ahead, b"hello").is_none() {
        client.wire.fill().unwrap();
    }
    // The next request comes before the end of this answer.
    client.send("GET /next HTTP/1.1\r\n");
    go_on.open();
    assert_eq!(client.answer().expect(200).text(), format!("hello{refusal}"));
    client.send("host: gw.test\r\n\r\n");
    assert_eq!(client.answer().expect(200).body.len(), 5 + refusal.len());
}

#[test]
fn an_upload_that_was_answered_early_blocks_nobody() {
    let upstream = Upstream::start(|talk| {
        if talk.head.line.starts_with("GET") {
            return talk.echo();
        }
        // Answered at once; the rest of the body is still awaited on this connection.
        talk.send(ok("early"));
        talk.read_body();
        Then::Next
    });
    let gateway = Setup::public(&upstream).start();
    let mut uploader = gateway.client();
    uploader.send("POST / HTTP/1.1\r\nhost: gw.test\r\ncontent-length: 100000\r\n\r\nthe beginning");
    assert_eq!(uploader.answer().expect(200).text(), "early");
    // Somebody else does not wait for the rest of it.
    let began = std::time::Instant::now();
    for _ in 0..3 {
        assert_eq!(gateway.client().get("/other", "").expect(200).json()["line"], "GET /other HTTP/1.1");
    }
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    // Whether the rest is still taken or not, it is never read as a request.
    let _ = uploader.try_send("GET /smuggled HTTP/1.1\r\nhost: gw.test\r\n\r\n".repeat(10));
    gateway.client().get("/other", "").expect(200);
    assert!(upstream.requests().iter().all(|request| request.target() != "/smuggled"));
}
