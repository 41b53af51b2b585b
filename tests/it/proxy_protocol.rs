//! The PROXY protocol, in the whole gateway: whom it is believed from, and what becomes of what is none.

use std::io::Write as _;
use std::net::TcpStream;

use crate::support::tls::{Hello, Tls};
use crate::support::{Client, DEADLINE, Setup, Upstream, eventually};

const TRUST: &str = "trusted_proxies = [\"127.0.0.0/8\"]";
const LINE: &[u8] = b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 80\r\n";

/// A header of version 2 for the same client, with an extension behind the addresses.
fn binary() -> Vec<u8> {
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x10".to_vec();
    bytes.extend([192, 0, 2, 7, 127, 0, 0, 1, 0x12, 0x67, 0, 80]);
    bytes.extend([0xea, 0, 1, b'x']);
    bytes
}

#[test]
fn a_trusted_proxy_says_who_the_client_is() {
    let upstream = Upstream::echo();
    let gateway = Setup::public(&upstream).server(TRUST).start();
    for header in [LINE, &binary(), b"PROXY TCP6 2001:db8::7 ::1 4711 80\r\n"] {
        let expected = if header.starts_with(b"PROXY TCP6") { "2001:db8::7" } else { "192.0.2.7" };
        // Byte by byte, and together with the request.
        let mut slow = gateway.client();
        for byte in header {
            slow.send([*byte]);
        }
        slow.get("/", "").expect(200);
        assert_eq!(upstream.last().field("x-forwarded-for"), expected);
        let mut client = gateway.client();
        client.send([header, b"GET / HTTP/1.1\r\nhost: a\r\nx-forwarded-for: 198.51.100.1\r\n\r\n"].concat());
        client.answer().expect(200);
        // The client itself is no trusted proxy, so what it says of others is dropped.
        assert_eq!(upstream.last().field("x-forwarded-for"), expected);
        client.get("/again", "").expect(200);
        assert_eq!(upstream.last().field("x-forwarded-for"), expected, "it holds for the whole connection");
    }
    assert!(gateway.stop().iter().all(|line| line["client"] != "127.0.0.1"));
}

#[test]
fn a_trusted_proxy_may_leave_it_out_or_speak_for_itself() {
    let upstream = Upstream::echo();
    let gateway = Setup::public(&upstream).server(TRUST).start();
    for header in [&b""[..], b"PROXY UNKNOWN\r\n", b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"] {
        let mut client = gateway.client();
        client.send(header);
        client.get("/", "").expect(200);
        assert_eq!(upstream.last().field("x-forwarded-for"), "127.0.0.1");
    }
}

#[test]
fn half_a_header_has_the_time_of_a_head() {
    let upstream = Upstream::echo();
    let gateway = Setup::public(&upstream).server(TRUST).limits("header_timeout = \"300ms\"").start();
    for half in [&LINE[..20], &binary()[..14]] {
        let mut client = gateway.client();
        client.send(half);
        client.expect_end();
    }
    // More bytes do not buy more time.
    let mut slow = gateway.client();
    slow.send(b"PROXY TCP4 ");
    eventually("one that trickles is ended", DEADLINE, || slow.try_send(b"1").is_err());
    assert_eq!(upstream.count(), 0);
}

#[test]
fn connections_count_for_the_network_of_the_client_and_not_for_the_proxys() {
    let upstream = Upstream::echo();
    let gateway =
        Setup::public(&upstream).server(TRUST).workers(1).limits("max_connections_per_network = 1").start();
    let introduced = |line: &[u8]| {
        let mut client = gateway.client();
        client.send(line);
        client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        client
    };
    let mut one = introduced(LINE);
    one.answer().expect(200);
    introduced(LINE).expect_end();
    introduced(&binary()).expect_end();
    let mut neighbour = introduced(b"PROXY TCP4 192.0.2.8 127.0.0.1 4711 80\r\n");
    neighbour.answer().expect(200);
    let mut six = introduced(b"PROXY TCP6 2001:db8::7 ::1 4711 80\r\n");
    six.answer().expect(200);
    introduced(b"PROXY TCP6 2001:db8::ffff:9 ::1 4711 80\r\n").expect_end();
    // The proxy speaks for itself as often as it likes.
    let mut own: Vec<Client> = (0..4).map(|_| gateway.client()).collect();
    for client in &mut own {
        client.get("/", "").expect(200);
    }
    one.get("/", "").expect(200);
}

#[test]
fn what_begins_like_a_header_and_is_none_ends_the_connection() {
    let upstream = Upstream::echo();
    let gateway = Setup::public(&upstream).server(TRUST).start();
    let request = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    for header in [
        &b"PROXY TCP4 192.0.2.700 127.0.0.1 4711 80\r\n"[..],
        b"PROXY TCP4 192.0.2.7\r\n",
        b"PROXY \r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c\xc0\0\x02\x07\x7f\0\0\x01\x12\x67\0\x50",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x04\xc0\0\x02\x07",
    ] {
        let mut client = gateway.client();
        let _ended = client.try_send([header, request].concat());
        client.expect_end();
    }
    // A second one is not believed.
    let mut client = gateway.client();
    client.send([LINE, LINE, request].concat());
    client.answer().refused(400, "request_malformed");
    assert_eq!(upstream.count(), 0);
}

#[test]
fn nobody_else_says_who_the_client_is() {
    let upstream = Upstream::echo();
    let gateway = Setup::public(&upstream).server("trusted_proxies = [\"192.0.2.0/24\"]").start();
    for header in [LINE, &binary()] {
        let mut client = gateway.client();
        client.send([header, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"].concat());
        client.answer().refused(400, "request_malformed");
    }
    assert_eq!(upstream.count(), 0);
}

#[test]
fn over_tls_it_comes_before_the_handshake() {
    let (tls, upstream) = (Tls::new(), Upstream::echo());
    let gateway = tls.prepare(Setup::public(&upstream).server(TRUST), "").start();
    let binary = binary();
    for introduction in [LINE, &binary] {
        let hello = Hello { introduction, ..Hello::default() };
        tls.client_with(&gateway, &hello).get("/", "").expect(200);
        assert_eq!(upstream.last().field("x-forwarded-for"), "192.0.2.7");
        tls.http2_client(&gateway, &hello).get("/", &[]).expect(200);
        assert_eq!(upstream.last().field("x-forwarded-for"), "192.0.2.7");
    }
    tls.client(&gateway).get("/", "").expect(200);
    assert_eq!(upstream.last().field("x-forwarded-for"), "127.0.0.1");
    // In TLS it is no header any more.
    let mut client = tls.client(&gateway);
    client.send([LINE, b"GET / HTTP/1.1\r\nhost: gw.test\r\n\r\n"].concat());
    client.answer().refused(400, "request_malformed");
    assert_eq!(upstream.count(), 5);
    // From anybody else it is no beginning of a handshake.
    let gateway = tls.prepare(Setup::public(&upstream), "").start();
    let mut stream = TcpStream::connect(gateway.address).unwrap();
    stream.write_all(LINE).unwrap();
    let hello = Hello { introduction: LINE, ..Hello::default() };
    assert!(tls.dial(gateway.address, &hello).is_err());
    let mut client = Client::over(stream, &gateway);
    let alert = client.wire.fill();
    assert!(alert.is_err() || client.wire.ahead[0] == 21, "nothing but an alert");
    assert_eq!(upstream.count(), 5);
}
