//! Whoever is too slow, too many or still there at the end.

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::client::request;
use crate::support::gateway::events;
use crate::support::tls::Tls;
use crate::support::wire::Cut;
use crate::support::{Client, DEADLINE, Latch, Setup, Then, Upstream, eventually, mint, websocket};

/// How late a limit of 300 ms may be: one tick, and a busy machine.
const LATE: Duration = Duration::from_millis(2500);

/// The time until the gateway has ended a connection without another word.
fn silence_until_end(client: &mut Client, began: Instant) -> Duration {
    match client.wire.fill() {
        Err(Cut::Closed | Cut::Reset) => began.elapsed(),
        other => panic!("{other:?} {:?}", String::from_utf8_lossy(&client.wire.ahead)),
    }
}

/// Nothing comes for a while.
fn stays_silent(client: &mut Client, time: Duration) {
    client.wire.stream.set_read_timeout(Some(time)).unwrap();
    assert_eq!(client.wire.fill(), Err(Cut::Late), "{:?}", String::from_utf8_lossy(&client.wire.ahead));
    client.wire.stream.set_read_timeout(Some(DEADLINE)).unwrap();
}

#[test]
fn a_head_has_a_time() {
    let upstream = Upstream::echo();
    let gateway = Setup::public(&upstream).limits("header_timeout = \"300ms\"").start();
    for beginning in ["G", "GET / HTTP/1.1\r\nhost: gw.test\r\nx: ", "GET / HTTP/1.1\r\nhost: gw.test\r\n"] {
        let mut client = gateway.client();
        let began = Instant::now();
        client.send(beginning);
        let response = client.answer().refused(408, "request_timeout");
        assert_eq!(response.field("connection"), "close");
        client.expect_end();
        let elapsed = began.elapsed();
        assert!(elapsed > Duration::from_millis(190) && elapsed < LATE, "{elapsed:?}");
    }
    // More bytes do not buy more time.
    let mut client = gateway.client();
    client.get("/", "").expect(200);
    let began = Instant::now();
    let mut dripping = client.wire.stream.try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let _ = dripping.write_all(b"GET / HTTP/1.1\r\nx: ");
            while dripping.write_all(b"y").is_ok() && began.elapsed() < DEADLINE {
                std::thread::park_timeout(Duration::from_millis(20));
            }
        });
        client.answer().refused(408, "request_timeout");
        assert!(began.elapsed() < LATE);
        drop(client);
    });
    assert_eq!(upstream.count(), 1);
}

#[test]
fn a_silent_connection_ends_without_a_word() {
    let upstream = Upstream::echo();
    let gateway = Setup::public(&upstream).limits("idle_timeout = \"300ms\"").start();
    let mut new = gateway.client();
    let elapsed = silence_until_end(&mut new, Instant::now());
    assert!(elapsed > Duration::from_millis(190) && elapsed < LATE, "{elapsed:?}");
    let mut used = gateway.client();
    for _ in 0..2 {
        used.get("/", "").expect(200);
    }
    let elapsed = silence_until_end(&mut used, Instant::now());
    assert!(elapsed > Duration::from_millis(190) && elapsed < LATE, "{elapsed:?}");
    assert_eq!(gateway.stop().len(), 2, "silence is no request");
}

#[test]
fn a_busy_connection_is_not_idle() {
    let upstream = Upstream::start(|talk| {
        talk.read_body();
        std::thread::park_timeout(Duration::from_millis(700));
        talk.send("HTTP/1.1 200 OK\r\nx-upstream: 1\r\ncontent-length: 8\r\n\r\nhalf");
        std::thread::park_timeout(Duration::from_millis(700));
        talk.send("half");
        Then::Next
    });
    let gateway = Setup::public(&upstream)
        .limits("idle_timeout = \"300ms\"\nheader_timeout = \"300ms\"\nbody_timeout = \"300ms\"")
        .start();
    let mut client = gateway.client();
    assert_eq!(client.get("/", "").expect(200).text(), "halfhalf");
    assert_eq!(client.call("POST", "/", "", b"body").expect(200).text(), "halfhalf");
}

#[test]
fn a_body_may_not_pause_for_long() {
    let upstream = Upstream::echo();
    let gateway = Setup::guarded(&upstream).limits("body_timeout = \"300ms\"").user("alice").start();
    for head in [
        "POST /public HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhello",
        "POST /public HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n",
        "POST /public HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhel",
        "POST /api/token/ HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 10\r\n\r\n{",
    ] {
        let mut client = gateway.client();
        let began = Instant::now();
        client.send(head);
        client.answer().refused(408, "request_timeout");
        client.expect_end();
        let elapsed = began.elapsed();
        assert!(elapsed > Duration::from_millis(190) && elapsed < LATE, "{elapsed:?}");
    }
    upstream.wait_until_left();
    assert!(upstream.requests().iter().all(|request| !request.whole));
    // Pauses that are short enough do not add up.
    let mut client = gateway.client();
    client.send("POST /public HTTP/1.1\r\nhost: a\r\ncontent-length: 8\r\n\r\n");
    for _ in 0..8 {
        std::thread::park_timeout(Duration::from_millis(80));
        client.send("x");
    }
    client.answer().expect(200);
}

#[test]
fn a_body_that_the_upstream_does_not_take_is_not_the_clients_fault() {
    const WHOLE: usize = 24 * 1024 * 1024;
    let upstream = Upstream::start_small(|talk| {
        std::thread::park_timeout(Duration::from_secs(1));
        talk.ok("taken")
    });
    let gateway = Setup::public(&upstream)
        .limits("body_timeout = \"300ms\"\nidle_timeout = \"300ms\"\nmax_body = \"0\"")
        .start();
    let mut client = Client::connect_small(&gateway);
    assert_eq!(client.call("POST", "/", "", &vec![b'x'; WHOLE]).expect(200).text(), "taken");
    assert_eq!(upstream.last().body.len(), WHOLE);
}

#[test]
fn a_body_and_a_reader_keep_a_least_rate() {
    let upstream = Upstream::start(|talk| {
        if talk.head.line.starts_with("POST") {
            return talk.ok("read");
        }
        talk.read_body();
        talk.send("HTTP/1.1 200 OK\r\nx-upstream: 1\r\ncontent-length: 1000000000\r\n\r\n");
        let piece = vec![b'x'; 64 * 1024];
        while talk.try_send(&piece).is_ok() {}
        Then::Close
    });
    let gateway = Setup::public(&upstream).limits("min_rate = \"128B/s\"").start();
    let began = Instant::now();
    let mut reader = Client::connect_small(&gateway);
    reader.send(request("GET", "/long", "", b""));
    let mut sender = gateway.client();
    sender.send("POST /slow HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n");
    let mut dripping = sender.wire.stream.try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while dripping.write_all(b"x").is_ok() && began.elapsed() < DEADLINE {
                std::thread::park_timeout(Duration::from_millis(100));
            }
        });
        // The reader takes nothing, so its download ends, and with it the upstream's work.
        let line = gateway.access_line(|line| line["path"] == "/long");
        assert_eq!(line["ended_by"], "client", "{line}");
        let elapsed = began.elapsed();
        assert!((Duration::from_secs(9)..Duration::from_secs(15)).contains(&elapsed), "{elapsed:?}");
        // It is reset, so that the kernel does not keep what it has not read.
        let cut = loop {
            if let Err(cut) = reader.wire.fill() {
                break cut;
            }
        };
        assert_eq!(cut, Cut::Reset);
        sender.answer().refused(408, "request_timeout");
        let elapsed = began.elapsed();
        assert!((Duration::from_secs(9)..Duration::from_secs(15)).contains(&elapsed), "{elapsed:?}");
        drop(sender);
    });
    upstream.wait_until_left();
}

/// An upstream whose answers have no end, in pieces of as many bytes as the path says; a WebSocket that does not stop talking.
fn endless() -> Upstream {
    Upstream::start(|talk| {
        let piece = if let Some(key) = talk.head.fields.one("sec-websocket-key").map(str::to_owned) {
            talk.send(websocket::agreement(&key, ""));
            websocket::frame(websocket::TEXT, false, &[b'x'; 100]).repeat(100)
        } else {
            talk.send("HTTP/1.1 200 OK\r\nx-upstream: 1\r\ncontent-length: 1000000000000\r\n\r\n");
            let size = talk.head.line.split([' ', '/']).find_map(|part| part.parse().ok());
            vec![b'x'; size.expect("the path is a number")]
        };
        while talk.try_send(&piece).is_ok() {}
        Then::Close
    })
}

#[test]
fn a_client_that_does_not_read_is_ended_whatever_is_between() {
    // TLS takes some pieces that it cannot send, and how much that is goes by their sizes.
    const PATHS: [&str; 4] = ["/1000", "/16384", "/50000", "/1000000"];
    let (tls, upstream) = (Tls::new(), endless());
    let clear = Setup::public(&upstream).start();
    let secure = tls.prepare(Setup::public(&upstream), "").start();
    let began = Instant::now();
    let mut held = Vec::new();
    for (gateway, over_tls) in [(&clear, false), (&secure, true)] {
        let connect = || if over_tls { tls.client(gateway) } else { gateway.client() };
        for path in PATHS {
            held.push(connect());
            held.last_mut().unwrap().send(request("GET", path, "", b""));
        }
        held.push(connect());
        held.last_mut().unwrap().send(request("GET", "/ws", &websocket::opening(""), b""));
    }
    for gateway in [&clear, &secure] {
        for path in PATHS.iter().chain(&["/ws"]) {
            let line = gateway.access_line(|line| line["path"] == *path);
            assert_eq!(line["ended_by"], "client", "{line}");
            assert!(began.elapsed() > Duration::from_secs(9), "{:?}", began.elapsed());
        }
    }
    upstream.wait_until_left();
    drop(held);
}

#[test]
fn connections_have_a_number() {
    let upstream = Upstream::echo();
    let gateway = Setup::public(&upstream).workers(2).limits("max_connections = 2").start();
    let mut one = gateway.client();
    one.get("/", "").expect(200);
    let mut two = gateway.client();
    two.get("/", "").expect(200);
    let mut three = gateway.client();
    three.send(request("GET", "/three", "", b""));
    stays_silent(&mut three, Duration::from_millis(300));
    assert_eq!(upstream.count(), 2);
    one.get("/", "").expect(200);
    drop(two);
    three.answer().expect(200);
}

#[test]
fn a_network_has_a_number_of_connections_and_the_others_do_not_suffer() {
    let upstream = Upstream::echo();
    let limits = "max_connections_per_network = 2";
    let gateway = Setup::public(&upstream).workers(2).limits(limits).start();
    let mut one = gateway.client();
    one.get("/", "").expect(200);
    let mut two = gateway.client();
    two.get("/", "").expect(200);
    for _ in 0..20 {
        let mut further = gateway.client();
        further.send(request("GET", "/further", "", b""));
        further.expect_end();
    }
    assert_eq!(upstream.count(), 2, "nobody else got through");
    one.get("/", "").expect(200);
    eventually("it is told of", DEADLINE, || {
        let told = |event: &serde_json::Value| {
            event["message"] == "connections were closed: their network has too many"
                && event["client"] == "127.0.0.1"
        };
        events().iter().filter(|event| told(event)).filter_map(|event| event["count"].as_u64()).sum::<u64>()
            >= 20
    });
    let lines = events()
        .iter()
        .filter(|event| event["message"].as_str().is_some_and(|text| text.contains("too many")))
        .count();
    assert!(lines < 10, "{lines} lines for 20 connections");
    drop(two);
    eventually("a place becomes free", DEADLINE, || {
        let mut next = gateway.client();
        next.send(request("GET", "/next", "", b""));
        next.wire.fill().is_ok()
    });
}

#[test]
fn draining_finishes_what_is_in_flight_and_takes_nothing_new() {
    let go_on = Arc::new(Latch::default());
    let wait = Arc::clone(&go_on);
    let upstream = Upstream::start(move |talk| {
        if talk.head.line.contains("/wait") {
            wait.wait();
        }
        talk.echo()
    });
    let gateway = Setup::public(&upstream).workers(2).start();
    assert_eq!(gateway.admin("/readyz").0, 200);
    let mut idle = gateway.client();
    idle.get("/", "").expect(200);
    let mut busy = gateway.client();
    busy.send(request("GET", "/wait", "", b""));
    upstream.wait_for(2);
    gateway.running().drain();
    assert_eq!(gateway.admin("/readyz").0, 503);
    assert_eq!(gateway.admin("/healthz").0, 200);
    idle.expect_end();
    eventually("new connections are refused", Duration::from_secs(2), || {
        TcpStream::connect(gateway.address).is_err()
    });
    assert!(!gateway.running().has_ended(), "a request is in flight");
    go_on.open();
    let response = busy.answer().expect(200);
    assert_eq!(response.field("connection"), "close");
    busy.expect_end();
    eventually("the gateway has ended", Duration::from_secs(2), || gateway.running().has_ended());
}

#[test]
fn a_drain_without_requests_ends_soon() {
    let upstream = Upstream::echo();
    let gateway = Setup::public(&upstream).start();
    let mut idle = gateway.client();
    idle.get("/", "").expect(200);
    let _silent = gateway.client();
    // What has not arrived is not in flight.
    let mut half = gateway.client();
    half.send("GET / HT");
    gateway.running().drain();
    eventually("the gateway has ended", Duration::from_secs(3), || gateway.running().has_ended());
}

#[test]
fn stopping_ends_everything_and_leaves_a_line_of_it() {
    let upstream = Upstream::start(|talk| {
        talk.read_body();
        if talk.head.line.contains("/body") {
            talk.send("HTTP/1.1 200 OK\r\nx-upstream: 1\r\ncontent-length: 100\r\n\r\nhalf");
        }
        // Until the gateway has gone.
        let _ = talk.wire.fill();
        Then::Close
    });
    let gateway = Setup::public(&upstream).start();
    let mut waiting = gateway.client();
    waiting.send(request("GET", "/wait", "", b""));
    let mut reading = gateway.client();
    reading.send(request("GET", "/body", "", b""));
    assert_eq!(reading.head().line, "HTTP/1.1 200 OK");
    upstream.wait_for(2);
    let (began, address) = (Instant::now(), gateway.address);
    let lines = gateway.stop();
    assert!(began.elapsed() < Duration::from_secs(5));
    assert!(TcpStream::connect(address).is_err());
    assert_eq!(waiting.wire.fill().unwrap_err(), Cut::Closed);
    for path in ["/wait", "/body"] {
        let line =
            lines.iter().find(|line| line["path"] == path).unwrap_or_else(|| panic!("no line of {path}"));
        assert_eq!(line["ended_by"], "gateway", "{line}");
    }
}

#[test]
fn the_admin_listener_answers_what_it_has_and_no_more() {
    let upstream = Upstream::echo();
    let gateway = Setup::public(&upstream).start();
    assert_eq!(gateway.admin("/healthz"), (200, "ok\n".to_owned()));
    let (status, text) = gateway.admin("/readyz");
    assert!(status == 200 && text.starts_with("ready\nstore: "), "{text}");
    for path in ["/index.html", "/healthz/", "/api/token/", "/api", "/x"] {
        assert_eq!(gateway.admin(path).0, 404, "{path}");
    }
    // Clients cannot reach it through the gateway.
    gateway.client().get("/healthz", "").expect(200);
    assert_eq!(upstream.last().target(), "/healthz");
}

#[test]
fn logins_in_a_flood_do_not_hold_up_requests() {
    let upstream = Upstream::echo();
    let gateway = Setup::guarded(&upstream).user("alice").start();
    let (access, _) = gateway.login("alice", crate::support::gateway::PASSWORD);
    assert_eq!(mint::payload(&access)["user_id"], "1");
    let body = format!("username=alice&password={}", crate::support::gateway::PASSWORD);
    let login = request(
        "POST",
        "/api/token/",
        "content-type: application/x-www-form-urlencoded\r\n",
        body.as_bytes(),
    );
    let mut flood: Vec<Client> = (0..60).map(|_| gateway.client()).collect();
    for client in &mut flood {
        client.send(&login);
    }
    let mut client = gateway.client();
    for _ in 0..50 {
        client.get_as("/", &access).expect(200);
    }
    for client in &mut flood {
        let response = client.answer();
        match response.status {
            200 => drop(gateway.tokens_of(&response)),
            503 => drop(response.refused(503, "overloaded")),
            _ => panic!("{response:?}"),
        }
    }
}
