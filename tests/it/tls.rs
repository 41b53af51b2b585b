//! TLS towards clients, in the whole gateway: what requests over it may do, who has to show a certificate, and what
//! becomes of those who do not speak it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use socket2::{Domain, Socket, Type};

use crate::support::gateway::events;
use crate::support::tls::{HOST, Hello, Tls};
use crate::support::{Client, DEADLINE, Gateway, Setup, Upstream, eventually, mint};

const NOW_MS: i64 = 1_800_000_000_000;
const NOW: i64 = NOW_MS / 1000;
const CLIENTS: &str = "[tls.client_auth]\nca = \"clients.pem\"";
const HEADERS: &str = "headers = { \"X-Client-Name\" = \"san_dns\" }";

/// A gateway with TLS that asks for a token, and one user.
fn guarded(tls: &Tls, upstream: &Upstream, lines: &str) -> Setup {
    tls.prepare(Setup::guarded(upstream).user("alice").clock(NOW_MS), lines)
}

/// A connection from another address of this machine, by which the log tells it apart.
fn connect_from(address: [u8; 4], gateway: &Gateway) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((address, 0)).into()).unwrap();
    socket.connect(&gateway.address.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

#[test]
fn both_versions_of_http_are_served_with_a_token_as_the_client_chose() {
    let (tls, upstream) = (Tls::new(), Upstream::echo());
    let gateway = guarded(&tls, &upstream, "").start();
    let token = mint::access("1", NOW, 600);
    for (protocols, chosen) in
        [(&[][..], None), (&["http/1.1"], Some("http/1.1")), (&["http/1.1", "h2"], Some("h2"))]
    {
        let dialed = tls.dial(gateway.address, &Hello { protocols, ..Hello::default() }).unwrap();
        let protocol = dialed.protocol.map(|name| String::from_utf8(name).unwrap());
        assert_eq!(protocol.as_deref(), chosen);
        if chosen == Some("h2") {
            continue;
        }
        let mut client = Client::over(dialed.stream, &gateway);
        assert_eq!(client.get_as("/", &token).expect(200).json()["name"], "alice");
        assert_eq!(upstream.last().field("x-forwarded-proto"), "https");
        client.get("/", "").refused(401, "credentials_missing");
    }
    let mut client = tls.http2_client(&gateway, &Hello::default());
    assert_eq!(client.get_as("/", &token).expect(200).json()["name"], "alice");
    let last = upstream.last();
    assert_eq!((last.field("x-forwarded-proto"), last.field("host")), ("https", HOST));
    let seen = upstream.count();
    client.get("/", &[]).refused(401, "credentials_missing");
    client.get("/", &[("x-forwarded-proto", "http")]).refused(401, "credentials_missing");
    assert_eq!(upstream.count(), seen, "nobody came in without a token");
}

#[test]
fn a_client_that_offers_another_protocol_only_is_refused() {
    let (tls, upstream) = (Tls::new(), Upstream::echo());
    let gateway = guarded(&tls, &upstream, "").start();
    assert!(tls.dial(gateway.address, &Hello { protocols: &["spdy/3"], ..Hello::default() }).is_err());
}

#[test]
fn a_host_that_the_certificate_is_not_for_is_misdirected() {
    let (tls, upstream) = (Tls::new(), Upstream::echo());
    let gateway = tls.prepare(Setup::public(&upstream), "").start();
    let mut client = tls.client(&gateway);
    client.get("/", "").expect(200);
    let seen = upstream.count();
    for host in ["other.test", "a.gw.test", "gw.test.evil", "127.0.0.1"] {
        client.send(format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n"));
        client.answer().refused(421, "misdirected_request");
    }
    // The token routes and the published keys are no exception.
    client.send("GET /.well-known/jwks.json HTTP/1.1\r\nhost: other.test\r\n\r\n");
    client.answer().refused(421, "misdirected_request");
    let mut client = tls.http2_client(&gateway, &Hello::default());
    let mut request = client.request("GET", "/", &[]);
    *request.uri_mut() = "https://other.test/".parse().unwrap();
    client.ask(request, None).refused(421, "misdirected_request");
    assert_eq!(upstream.count(), seen, "none of them went on");
    // The connection is good for the host that it is for.
    client.get("/", &[]).expect(200);
}

#[test]
fn an_unknown_host_in_the_handshake_is_served_unless_a_route_names_one() {
    let (tls, upstream) = (Tls::new(), Upstream::echo());
    let hello = Hello { name: "other.test", ..Hello::default() };
    let named = "host = \"gw.test\"\npath = \"/named\"\nauth = \"public\"\nupstream = \"api\"";
    for names_hosts in [false, true] {
        let setup = tls.prepare(Setup::public(&upstream), "");
        let gateway = if names_hosts { setup.route(named) } else { setup }.start();
        let seen = upstream.count();
        let mut client = tls.client_with(&gateway, &hello);
        client.send("GET /a HTTP/1.1\r\nhost: other.test\r\n\r\n");
        let response = client.answer();
        let mut other = tls.http2_client(&gateway, &hello);
        let own_host = other.get("/named", &[]);
        if names_hosts {
            response.refused(421, "misdirected_request");
            own_host.refused(421, "misdirected_request");
            assert_eq!(upstream.count(), seen);
        } else {
            response.expect(200);
            own_host.refused(421, "misdirected_request");
            assert_eq!(upstream.count(), seen + 1);
        }
    }
}

#[test]
fn plain_http_on_the_port_of_tls_gets_no_answer_in_the_clear_and_one_line_in_the_log() {
    let (tls, upstream) = (Tls::new(), Upstream::echo());
    let gateway = guarded(&tls, &upstream, "").start();
    let lines = || {
        let lines = events().into_iter().map(|line| line.to_string());
        lines.filter(|line| line.contains("127.0.0.77")).collect::<Vec<_>>()
    };
    let mut stream = connect_from([127, 0, 0, 77], &gateway);
    stream.write_all(b"GET / HTTP/1.1\r\nhost: gw.test\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    // It may end with a reset, since the gateway has not read everything.
    let _outcome = stream.read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer);
    assert!(!text.contains("HTTP") && !text.contains("gw.test"), "{text:?}");
    assert!(answer.is_empty() || answer[0] == 21, "nothing but an alert: {answer:?}");
    eventually("a line in the log", DEADLINE, || !lines().is_empty());
    let lines = lines();
    assert!(lines.len() == 1 && lines[0].contains("not_tls"), "{lines:?}");
    assert_eq!(upstream.count(), 0);
    assert!(gateway.access_lines().is_empty());
}

#[test]
fn a_handshake_that_does_not_end_is_ended() {
    let (tls, upstream) = (Tls::new(), Upstream::echo());
    let gateway = guarded(&tls, &upstream, "").limits("header_timeout = \"1s\"").start();
    // The head of a record of 512 bytes, and the head of the message in it: nothing, some of it, a byte now and then.
    let begin = [22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3];
    for length in [1, 5, 11] {
        let mut client = gateway.client();
        client.send(&begin[..length]);
        client.expect_end();
    }
    let mut client = gateway.client();
    client.send(begin);
    eventually("a client that trickles is ended", DEADLINE, || client.try_send([0]).is_err());
    assert_eq!(upstream.count(), 0);
}

#[test]
fn where_clients_have_to_show_a_certificate_nobody_comes_in_without() {
    let (tls, upstream) = (Tls::new(), Upstream::echo());
    let lines = format!("{CLIENTS}\nmode = \"required\"\n{HEADERS}");
    let gateway = guarded(&tls, &upstream, &lines).start();
    let (own, strange) = (tls.authority.sign("alice.clients", false), Tls::new());
    let strange = strange.authority.sign("alice.clients", false);
    let expired = tls.authority.sign("alice.clients", true);
    let token = mint::access("1", NOW, 600);
    for shown in [None, Some(&strange), Some(&expired)] {
        // In TLS 1.3 the client has finished before the gateway has seen what it shows.
        let Ok(dialed) = tls.dial(gateway.address, &Hello { own: shown, ..Hello::default() }) else {
            continue;
        };
        let mut client = Client::over(dialed.stream, &gateway);
        let _ended = client
            .try_send(format!("GET / HTTP/1.1\r\nhost: gw.test\r\nauthorization: Bearer {token}\r\n\r\n"));
        client.expect_end();
    }
    assert_eq!(upstream.count(), 0);
    let hello = Hello { own: Some(&own), ..Hello::default() };
    let mut client = tls.client_with(&gateway, &hello);
    client.get_as("/", &token).expect(200);
    assert_eq!(upstream.last().field("x-client-name"), "alice.clients");
    // A certificate is no token.
    client.get("/", "").refused(401, "credentials_missing");
    let mut client = tls.http2_client(&gateway, &hello);
    client.get_as("/", &token).expect(200);
    assert_eq!(upstream.last().field("x-client-name"), "alice.clients");
    assert_eq!(upstream.count(), 2);
}

#[test]
fn nobody_forges_what_a_client_certificate_says() {
    let (tls, upstream) = (Tls::new(), Upstream::echo());
    let lines = format!("{CLIENTS}\nmode = \"optional\"\n{HEADERS}");
    let gateway = tls.prepare(Setup::public(&upstream), &lines).start();
    let own = tls.authority.sign("alice.clients", false);
    let spellings = [
        "x-client-name",
        "X_Client_Name",
        "x_client-name",
        "x.client.name",
        "XClientName",
        "http-x-client-name",
        "HTTP_X_CLIENT_NAME",
    ];
    for own in [None, Some(&own)] {
        let hello = Hello { own, ..Hello::default() };
        let mut client = tls.client_with(&gateway, &hello);
        let mut other = tls.http2_client(&gateway, &hello);
        for spelling in spellings {
            client.get("/", &format!("{spelling}: mallory\r\n")).expect(200);
            let first = upstream.last();
            other.get("/", &[(&spelling.to_ascii_lowercase(), "mallory")]).expect(200);
            for seen in [first, upstream.last()] {
                let fields = String::from_utf8_lossy(&seen.head.raw).into_owned();
                assert!(!fields.contains("mallory"), "{spelling}: {fields}");
                assert_eq!(seen.field("x-client-name"), own.map_or("", |_| "alice.clients"));
            }
        }
    }
}

#[test]
fn plain_http_is_sent_to_https() {
    let (tls, upstream) = (Tls::new(), Upstream::echo());
    let gateway = guarded(&tls, &upstream, "").server("http_redirect = \"127.0.0.1:0\"").start();
    let address = gateway.running().redirect_address().unwrap();
    let connect = || {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Client::over(stream, &gateway)
    };
    let port = gateway.address.port();
    let mut client = connect();
    for (method, target, normal) in [
        ("GET", "/", "/"),
        ("GET", "/a/b?c=d&e=%2f..//", "/a/b?c=d&e=%2f..//"),
        ("POST", "/%61pi/token/?x", "/api/token/?x"),
        ("HEAD", "/.well-known/jwks.json", "/.well-known/jwks.json"),
    ] {
        let response = client.call(method, target, "authorization: Bearer abc\r\n", b"").expect(308);
        assert_eq!(response.field("location"), format!("https://gw.test:{port}{normal}"), "{target}");
    }
    client.send("GET /x HTTP/1.1\r\nhost: a.test:8080\r\n\r\n");
    assert_eq!(client.answer().expect(308).field("location"), format!("https://a.test:{port}/x"));
    for path in ["/../x", "/a%2fb", "//evil.test/", "/a;b", "/%0d%0ax"] {
        connect().get(path, "").refused(400, "path_ambiguous");
    }
    for host in ["host: a@b\r\n", "host: a\r\nhost: b\r\n", ""] {
        let mut client = connect();
        client.send(format!("GET / HTTP/1.1\r\n{host}\r\n"));
        client.answer().refused(400, "host_invalid");
    }
    assert_eq!(upstream.count(), 0);
    assert!(gateway.access_lines().iter().all(|line| line["upstream"].is_null()));
}

#[test]
fn a_certificate_that_was_swapped_is_for_the_next_handshake_and_disturbs_no_connection() {
    let (tls, upstream) = (Tls::new(), Upstream::echo());
    let gateway = tls.prepare(Setup::public(&upstream), "").start();
    let mut open = tls.client(&gateway);
    let mut other = tls.http2_client(&gateway, &Hello::default());
    open.get("/", "").expect(200);
    other.get("/", &[]).expect(200);
    let pair = tls.authority.sign(HOST, false);
    let new = CertificateDer::from_pem_slice(pair.cert.as_bytes()).unwrap();
    let shown = || tls.dial(gateway.address, &Hello::default()).unwrap().shown;
    let old = shown();
    assert_ne!(old, new);
    // Half of a pair is none: the old one stays.
    gateway.write("cert.pem", &pair.cert);
    for _ in 0..3 {
        assert_eq!(shown(), old);
    }
    gateway.write("key.pem", &pair.key);
    eventually("the new certificate is shown", DEADLINE, || shown() == new);
    open.get("/", "").expect(200);
    other.get("/", &[]).expect(200);
    assert_eq!(upstream.count(), 4);
}
