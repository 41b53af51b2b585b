//! Upstreams over TLS, over HTTP/2 and over sockets of this machine.

use std::collections::HashSet;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use http::HeaderMap;

use crate::support::http2::{Authority, Http2Upstream, Manner, leaving_at_once};
use crate::support::upstream::ok;
use crate::support::{Client, DEADLINE, Scratch, Setup, eventually};

const MIB: usize = 1024 * 1024;
const BOTH: &[&str] = &["h2", "http/1.1"];

fn public(target: &str, lines: &str) -> Setup {
    Setup::new()
        .section(&format!("[upstreams.api]\ntargets = [\"{target}\"]\n{lines}"))
        .route("path = \"/\"\nauth = \"public\"\nupstream = \"api\"")
}

#[test]
fn a_socket_of_this_machine_is_an_upstream() {
    let scratch = Scratch::new();
    let path = scratch.path().join("app.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let heads = Arc::new(Mutex::new(String::new()));
    let seen = Arc::clone(&heads);
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut bytes = [0; 4096];
        while let Ok(length @ 1..) = stream.read(&mut bytes) {
            seen.lock().unwrap().push_str(std::str::from_utf8(&bytes[..length]).unwrap());
            stream.write_all(ok("from a socket").as_bytes()).unwrap();
        }
    });
    let gateway = public(&format!("unix:{}", path.display()), "host_header = \"target\"").start();
    let mut client = gateway.client();
    assert_eq!(client.get("/a", "").expect(200).text(), "from a socket");
    assert_eq!(client.get("/b", "").expect(200).text(), "from a socket");
    let heads = heads.lock().unwrap();
    assert!(heads.contains("GET /a HTTP/1.1") && heads.contains("GET /b HTTP/1.1"), "{heads}");
    assert!(heads.contains("host: localhost\r\n"), "{heads}");
}

#[test]
fn a_socket_that_nobody_listens_on_is_an_upstream_that_cannot_be_reached() {
    let gateway = public("unix:/nowhere/app.sock", "").start();
    gateway.client().get("/", "").refused(502, "upstream_refused");
}

#[test]
fn the_upstream_chooses_the_protocol_over_tls() {
    let authority = Authority::new();
    let pair = authority.sign("127.0.0.1", false);
    for (protocols, http1) in [(BOTH, 0), (&["http/1.1"][..], 2), (&[][..], 2)] {
        let tls = Some(authority.server(&pair, protocols, false));
        let upstream = Http2Upstream::echo(Manner { tls, ..Manner::default() });
        let setup = public(&upstream.https("127.0.0.1"), "tls = { ca = \"ca.pem\" }");
        std::fs::write(setup.place().join("ca.pem"), authority.pem()).unwrap();
        let gateway = setup.start();
        let mut client = gateway.client();
        let first = client.get("/a", "").expect(200);
        client.get("/b", "").expect(200);
        assert_eq!(first.text() == "GET /a ", http1 == 0, "{first:?}");
        assert_eq!((upstream.http1_count(), upstream.count()), (http1, 2 - http1));
        assert_eq!(upstream.connections(), 1);
        if http1 == 0 {
            let last = upstream.last();
            assert_eq!(last.uri().scheme_str(), Some("https"));
            assert_eq!(last.uri().authority().unwrap(), "gw.test");
            assert!(!last.headers().contains_key("host"));
        }
    }
}

#[test]
fn a_certificate_that_does_not_pass_is_refused_before_a_request_is_sent() {
    let (authority, other) = (Authority::new(), Authority::new());
    let right = authority.sign("127.0.0.1", false);
    let cases = [
        ("another authority", other.sign("127.0.0.1", false), ""),
        ("another name", authority.sign("other.test", false), ""),
        ("another name than server_name", right, "server_name = \"billing.internal\", "),
        ("expired", authority.sign("127.0.0.1", true), ""),
    ];
    for (what, pair, settings) in cases {
        let tls = Some(authority.server(&pair, BOTH, false));
        let upstream = Http2Upstream::echo(Manner { tls, ..Manner::default() });
        let setup = public(&upstream.https("127.0.0.1"), &format!("tls = {{ {settings}ca = \"ca.pem\" }}"));
        std::fs::write(setup.place().join("ca.pem"), authority.pem()).unwrap();
        let gateway = setup.start();
        let refused = gateway.client().get("/", "").refused(502, "upstream_refused");
        assert!(!refused.text().contains("certificate"), "{refused:?}");
        assert_eq!((upstream.count(), upstream.http1_count()), (0, 0), "{what}");
    }
}

#[test]
fn the_name_in_the_certificate_may_be_another_than_the_target_s() {
    let authority = Authority::new();
    let tls = Some(authority.server(&authority.sign("billing.internal", false), BOTH, false));
    let upstream = Http2Upstream::echo(Manner { tls, ..Manner::default() });
    let lines = "tls = { ca = \"ca.pem\", server_name = \"billing.internal\" }";
    let setup = public(&upstream.https("127.0.0.1"), lines);
    std::fs::write(setup.place().join("ca.pem"), authority.pem()).unwrap();
    setup.start().client().get("/", "").expect(200);
}

#[test]
fn the_gateway_shows_its_certificate_to_who_asks() {
    let authority = Authority::new();
    let pair = authority.sign("127.0.0.1", false);
    let own = authority.sign("gateway.test", false);
    for (lines, passes) in [("", false), (", client_cert = \"c.pem\", client_key = \"k.pem\"", true)] {
        let tls = Some(authority.server(&pair, BOTH, true));
        let upstream = Http2Upstream::echo(Manner { tls, ..Manner::default() });
        let setup = public(&upstream.https("127.0.0.1"), &format!("tls = {{ ca = \"ca.pem\"{lines} }}"));
        for (name, text) in [("ca.pem", &authority.pem()), ("c.pem", &own.cert), ("k.pem", &own.key)] {
            std::fs::write(setup.place().join(name), text).unwrap();
        }
        let gateway = setup.start();
        let answer = gateway.client().get("/", "");
        if passes {
            answer.expect(200);
        } else {
            answer.refused(502, "upstream_refused");
        }
        assert_eq!(upstream.shown() > 0, passes);
    }
}

#[test]
fn requests_share_one_connection_of_http2() {
    let arrived = Arc::new(AtomicUsize::new(0));
    let all = Arc::new(tokio::sync::Semaphore::new(0));
    let (counted, gate) = (Arc::clone(&arrived), Arc::clone(&all));
    let upstream = Http2Upstream::start(Manner::default(), move |call| {
        let (counted, gate) = (Arc::clone(&counted), Arc::clone(&gate));
        async move {
            // Nobody is answered before all are there.
            if counted.fetch_add(1, Ordering::AcqRel) + 1 == 20 {
                gate.add_permits(20);
            }
            drop(gate.acquire().await);
            call.echo().await;
        }
    });
    let gateway = public(&upstream.h2c(), "").start();
    thread::scope(|scope| {
        for number in 0..20 {
            let mut client = gateway.client();
            scope.spawn(move || {
                let path = format!("/{number}");
                assert_eq!(client.get(&path, "").expect(200).text(), format!("GET {path} "));
            });
        }
    });
    assert_eq!((upstream.count(), upstream.connections()), (20, 1));
    let last = upstream.last();
    assert_eq!(last.uri().scheme_str(), Some("http"));
    for name in ["host", "connection", "te", "transfer-encoding"] {
        assert!(!last.headers().contains_key(name), "{name}");
    }
}

#[test]
fn no_more_streams_are_begun_than_the_upstream_takes() {
    for (max_connections, connections) in [(1, 1), (3, 3)] {
        let now = Arc::new(AtomicUsize::new(0));
        let most = Arc::new(AtomicUsize::new(0));
        let room = Arc::new(tokio::sync::Semaphore::new(0));
        let (here, peak, gate) = (Arc::clone(&now), Arc::clone(&most), Arc::clone(&room));
        let manner = Manner { max_streams: Some(2), ..Manner::default() };
        let upstream = Http2Upstream::start(manner, move |call| {
            let (here, peak, gate) = (Arc::clone(&here), Arc::clone(&peak), Arc::clone(&gate));
            async move {
                peak.fetch_max(here.fetch_add(1, Ordering::AcqRel) + 1, Ordering::AcqRel);
                gate.acquire().await.unwrap().forget();
                here.fetch_sub(1, Ordering::AcqRel);
                call.echo().await;
            }
        });
        let gateway = public(&upstream.h2c(), &format!("max_connections = {max_connections}")).start();
        thread::scope(|scope| {
            for _ in 0..6 {
                let mut client = gateway.client();
                scope.spawn(move || client.get("/", "").expect(200));
            }
            eventually("as many as may", DEADLINE, || now.load(Ordering::Acquire) == 2 * connections);
            room.add_permits(6);
        });
        assert_eq!(upstream.connections(), connections);
        assert_eq!(most.load(Ordering::Acquire), 2 * connections);
    }
}

#[test]
fn an_upstream_that_goes_away_again_and_again_loses_no_request() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&seen);
    let manner = Manner { leaves_after: Some(7), ..Manner::default() };
    let upstream = Http2Upstream::start(manner, move |mut call| {
        let kept = Arc::clone(&kept);
        async move {
            let body = call.read().await;
            kept.lock().unwrap().push(String::from_utf8(body.clone()).unwrap());
            call.ok(&body).await;
        }
    });
    let gateway = public(&upstream.h2c(), "").start();
    thread::scope(|scope| {
        for worker in 0..6 {
            let mut client = gateway.client();
            scope.spawn(move || {
                for number in 0..50 {
                    let body = format!("{worker}/{number}");
                    assert_eq!(client.call("POST", "/", "", body.as_bytes()).expect(200).text(), body);
                }
            });
        }
    });
    let seen = seen.lock().unwrap();
    let distinct: HashSet<&String> = seen.iter().collect();
    assert_eq!((seen.len(), distinct.len()), (300, 300), "every request came once");
    // Those that are under way when it says so are finished: six clients, so six more at most.
    assert!(upstream.connections() >= 300 / 13, "{} connections", upstream.connections());
}

#[test]
fn a_request_that_was_not_processed_is_sent_again_whatever_its_method() {
    let (address, processed, _runtime) = leaving_at_once();
    let gateway = public(&format!("h2c://{address}"), "").start();
    let body = "x".repeat(40_000);
    let answer = gateway.client().call("POST", "/form", "", body.as_bytes()).expect(200);
    assert_eq!(answer.text(), format!("POST /form {body}"));
    assert_eq!(processed.load(Ordering::Acquire), 1);
}

#[test]
fn a_stream_that_is_refused_is_tried_once_more_and_processed_once() {
    let processed = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&processed);
    let upstream = Http2Upstream::start(Manner::default(), move |call| {
        let count = Arc::clone(&count);
        async move {
            if call.number == 0 || call.request.uri().path() == "/never" {
                return call.refuse();
            }
            count.fetch_add(1, Ordering::AcqRel);
            call.echo().await;
        }
    });
    let gateway = public(&upstream.h2c(), "retries = 0").start();
    let mut client = gateway.client();
    assert_eq!(client.call("POST", "/", "", b"once").expect(200).text(), "POST / once");
    assert_eq!((processed.load(Ordering::Acquire), upstream.count()), (1, 2));
    client.call("POST", "/never", "", b"x").refused(502, "upstream_refused");
    assert_eq!((processed.load(Ordering::Acquire), upstream.count()), (1, 4));
}

#[test]
fn a_request_that_may_have_been_processed_is_not_sent_again() {
    let upstream = Http2Upstream::start(Manner::default(), |mut call| async move {
        if call.request.uri().path() == "/broken" {
            call.read().await;
            call.answer.send_reset(h2::Reason::INTERNAL_ERROR);
        } else {
            call.echo().await;
        }
    });
    let gateway = public(&upstream.h2c(), "").start();
    let mut client = gateway.client();
    client.get("/", "").expect(200);
    client.call("POST", "/broken", "", b"x").refused(502, "upstream_refused");
    assert_eq!(upstream.count(), 2);
    // This one may be, once.
    gateway.client().get("/broken", "").refused(502, "upstream_refused");
    assert_eq!((upstream.count(), upstream.connections()), (4, 1));
}

#[test]
fn trailers_of_http2_pass_to_who_takes_them() {
    let upstream = Http2Upstream::start(Manner::default(), |mut call| async move {
        assert_eq!(call.request.headers().get("te").is_some(), call.request.uri().path() == "/taken");
        call.read().await;
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().unwrap());
        let head = http::Response::builder().header("x-upstream", "1").header("trailer", "grpc-status");
        let mut stream = call.answer.send_response(head.body(()).unwrap(), false).unwrap();
        stream.send_data("ok".into(), false).unwrap();
        stream.send_trailers(trailers).unwrap();
    });
    let gateway = public(&upstream.h2c(), "").start();
    let mut client = gateway.client();
    let taken = client.get("/taken", "te: trailers\r\n").expect(200);
    assert_eq!((taken.text(), taken.trailers.all("grpc-status")), ("ok", vec!["0"]));
    assert!(client.get("/", "").expect(200).trailers.0.is_empty());
}

#[test]
fn large_bodies_pass_both_ways_over_http2() {
    let upstream = Http2Upstream::echo(Manner::default());
    let gateway = public(&upstream.h2c(), "").start();
    let body: Vec<u8> = (0..2 * MIB).map(|at| u8::try_from(at % 251).unwrap()).collect();
    thread::scope(|scope| {
        for _ in 0..3 {
            let (mut client, body) = (gateway.client(), &body);
            scope.spawn(move || {
                let answer = client.call("PUT", "/", "", body).expect(200);
                assert!(answer.body[..6] == *b"PUT / " && answer.body[6..] == **body);
            });
        }
    });
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn clients_that_do_not_read_hold_up_nobody_else_on_their_connection() {
    let upstream = Http2Upstream::start(Manner::default(), |call| async move {
        if call.request.uri().path() == "/long" {
            call.ok(&vec![b'x'; 4 * MIB]).await;
        } else {
            call.echo().await;
        }
    });
    let gateway = public(&upstream.h2c(), "").start();
    let mut stuck = Vec::new();
    for _ in 0..8 {
        let mut client = Client::connect_small(&gateway);
        client.send("GET /long HTTP/1.1\r\nhost: gw.test\r\n\r\n");
        client.head();
        stuck.push(client);
    }
    gateway.client().get("/short", "").expect(200);
    // Those who leave end their streams, not the connection.
    drop(stuck);
    gateway.client().get("/short", "").expect(200);
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn an_upstream_that_does_not_speak_http2_is_refused() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let gateway = public(&format!("h2c://{address}"), "").start();
    gateway.client().get("/", "").refused(502, "upstream_refused");
}
