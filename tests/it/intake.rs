//! What has two readings is refused, in our own words, and never reaches an upstream.

use crate::support::client::request;
use crate::support::wire::Cut;
use crate::support::{Client, Setup, Upstream};

/// Sends bytes on a connection of their own; every answer that comes until the connection ends or rests.
fn refused(client: &mut Client, bytes: &[u8], status: u16, reasons: &[&str]) {
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
    // A gateway that has already answered may have closed.
    let _ = client.try_send(bytes);
    let response = match client.try_answer_to("GET") {
        Ok(response) => response,
        Err(cut) => panic!("{shown:?}: {cut:?}"),
    };
    assert_eq!(response.status, status, "{shown:?}: {response:?}");
    let reason = response.json()["reason"].as_str().unwrap_or_default().to_owned();
    assert!(reasons.contains(&&*reason), "{shown:?}: {reason}");
}

fn closes(client: &mut Client) {
    match client.try_answer_to("GET") {
        Err(Cut::Closed | Cut::Reset) => {}
        other => panic!("the connection goes on: {other:?}"),
    }
}

#[test]
fn there_is_exactly_one_sound_host() {
    let upstream = Upstream::echo();
    let gateway = Setup::public(&upstream).start();
    for fields in [
        "",
        "host: a\r\nhost: a\r\n",
        "host: a\r\nHost: b\r\n",
        "host:\r\n",
        "host: a b\r\n",
        "host: a,b\r\n",
        "host: a/b\r\n",
        "host: user@a\r\n",
        "host: a:0\r\n",
        "host: a:99999\r\n",
        "host: a:80:80\r\n",
        "host: a:x\r\n",
        "host: [::1\r\n",
        "host: a..b\r\n",
        "host: http://a\r\n",
        "host: a#b\r\n",
        "host: a?b\r\n",
        "host: a\\b\r\n",
        "host: \"a\"\r\n",
        "host: a%00\r\n",
    ] {
        refused(
            &mut gateway.client(),
            format!("GET / HTTP/1.1\r\n{fields}\r\n").as_bytes(),
            400,
            &["host_invalid"],
        );
    }
    refused(&mut gateway.client(), b"GET / HTTP/1.0\r\n\r\n", 400, &["host_invalid"]);
    for target in ["http://b/", "http://a:81/", "http://user@a/", "ftp://a/", "http://a.evil/"] {
        let bytes = format!("GET {target} HTTP/1.1\r\nhost: a\r\n\r\n");
        refused(&mut gateway.client(), bytes.as_bytes(), 400, &["host_invalid", "request_malformed"]);
    }
    assert_eq!(upstream.count(), 0);
    let mut client = gateway.client();
    for (target, host) in
        [("/", "a"), ("http://a/", "a"), ("/", "A.example.com:8080"), ("/", "[::1]:80"), ("http://A/", "a")]
    {
        client.send(format!("GET {target} HTTP/1.1\r\nhost: {host}\r\n\r\n"));
        client.answer().expect(200);
        assert_eq!(upstream.last().target(), "/");
        assert_eq!(upstream.last().field("host"), host.to_ascii_lowercase());
    }
}

#[test]
fn ambiguous_paths_are_refused() {
    let upstream = Upstream::echo();
    let gateway = Setup::public(&upstream).start();
    let mut client = gateway.client();
    for path in [
        "/a/../b",
        "/a/./b",
        "/..",
        "/.",
        "/a/..",
        "/%2e%2e/b",
        "/a/%2E%2e",
        "/a/.%2e/b",
        "/a%2fb",
        "/a%2Fb",
        "/a%5cb",
        "/a\\b",
        "/a;b",
        "/a;jsessionid=1/b",
        "/a%3bb",
        "//a",
        "/a//b",
        "/a//",
        "/%",
        "/%1",
        "/%zz",
        "/%c0%ae%c0%ae/",
        "/%c0%af",
        "/%e0%80%af",
        "/%ff",
        "/%00",
        "/a%0d%0ab",
        "/%7f",
        "/a%25%32%66b/..",
        "/a%c3",
        "/%ed%a0%80",
    ] {
        client.get(path, "").refused(400, "path_ambiguous");
    }
    for target in ["*", "a", "?a", "a/b"] {
        let mut other = gateway.client();
        refused(
            &mut other,
            &request("GET", target, "", b""),
            400,
            &["path_ambiguous", "request_malformed", "host_invalid"],
        );
    }
    for raw in [
        &b"GET /a\xc3\xa9 HTTP/1.1\r\nhost: a\r\n\r\n"[..],
        b"GET /a\xff HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET /a\x01b HTTP/1.1\r\nhost: a\r\n\r\n",
    ] {
        refused(&mut gateway.client(), raw, 400, &["path_ambiguous", "request_malformed"]);
    }
    assert_eq!(upstream.count(), 0);
}

#[test]
fn a_path_arrives_in_one_form() {
    let upstream = Upstream::echo();
    let gateway = Setup::public(&upstream).start();
    let mut client = gateway.client();
    for (path, normal) in [
        ("/", "/"),
        ("/a", "/a"),
        ("/a/", "/a/"),
        ("/%61%62", "/ab"),
        ("/a%20b", "/a%20b"),
        ("/%C3%A9", "/%C3%A9"),
        ("/a/b?x=../..//;%2f", "/a/b?x=../..//;%2f"),
        ("/a...b/.c/c.", "/a...b/.c/c."),
        ("/~a/%7eb", "/~a/~b"),
        ("/a?", "/a?"),
        ("/a??b", "/a??b"),
    ] {
        client.get(path, "").expect(200);
        assert_eq!(upstream.last().target(), normal, "{path}");
    }
}

#[test]
fn a_message_has_one_length_and_nothing_is_smuggled() {
    let upstream = Upstream::echo();
    let gateway = Setup::public(&upstream).start();
    let smuggled = "GET /smuggled HTTP/1.1\r\nhost: gw.test\r\n\r\n";
    for fields in [
        "content-length: 5\r\ncontent-length: 6\r\n",
        "content-length: 5, 5\r\n",
        "content-length: +5\r\n",
        "content-length: 05\r\n",
        "content-length: -1\r\n",
        "content-length: 0x5\r\n",
        "content-length: 5 5\r\n",
        "content-length:\r\n",
        "content-length: 99999999999999999999\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: gzip, chunked\r\n",
        "transfer-encoding: chunked, identity\r\n",
        "transfer-encoding: identity\r\n",
        "transfer-encoding: xchunked\r\n",
        "transfer-encoding: \"chunked\"\r\n",
        "transfer-encoding:\r\n",
        "transfer-encoding: chunked;q=1\r\n",
        "transfer-encoding : chunked\r\n",
        "content-length : 5\r\n",
        " content-length: 5\r\n",
        "transfer-encoding:\x0bchunked\r\n",
        "transfer-encoding: chunked\0\r\n",
    ] {
        let bytes = format!("POST /x HTTP/1.1\r\nhost: gw.test\r\n{fields}\r\n0\r\n\r\n{smuggled}");
        let mut client = gateway.client();
        refused(&mut client, bytes.as_bytes(), 400, &["framing_ambiguous", "request_malformed"]);
        closes(&mut client);
    }
    let mut client = gateway.client();
    let bytes =
        format!("POST /x HTTP/1.0\r\nhost: gw.test\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}");
    refused(&mut client, bytes.as_bytes(), 400, &["framing_ambiguous", "request_malformed"]);
    closes(&mut client);
    assert_eq!(upstream.count(), 0);
}

/// What has two lengths is refused even where the HTTP library drops one of them.
#[test]
fn two_lengths_are_refused_wherever_their_head_stands() {
    let upstream = Upstream::echo();
    let gateway = Setup::public(&upstream).start();
    let smuggled = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
    let befores = [
        "",
        "\r\n",
        "GET /one HTTP/1.1\r\nhost: a\r\n\r\n",
        "POST /one HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello",
        "POST /one HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ];
    for fields in [
        "content-length: 5\r\ntransfer-encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 5\r\nconnection: keep-alive\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 0\r\n",
        "transfer-encoding: chunked\r\ncontent-length: nonsense\r\n",
        "content-length: 5\r\ncontent-length: 5\r\n",
        "content-length: 5\r\nx: y\r\nCONTENT-LENGTH:5\r\n",
        "content-length: 0\r\ncontent-length: 0\r\n",
    ] {
        for before in befores {
            let mut client = gateway.client();
            let bytes = format!("{before}POST /x HTTP/1.1\r\nhost: a\r\n{fields}\r\n0\r\n\r\n{smuggled}");
            if before.len() > 2 {
                client.send(&bytes);
                client.answer().expect(200);
                refused(&mut client, b"", 400, &["framing_ambiguous"]);
            } else {
                refused(&mut client, bytes.as_bytes(), 400, &["framing_ambiguous"]);
            }
            closes(&mut client);
        }
    }
    assert!(
        upstream.requests().iter().all(|request| request.target() == "/one"),
        "{:?}",
        upstream.requests()
    );
}

/// The same for a head that comes in pieces, between others that are sound.
#[test]
fn one_length_is_enough_however_its_head_arrives() {
    let upstream = Upstream::echo();
    let gateway = Setup::public(&upstream).start();
    let mut client = gateway.client();
    let sound = "POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 40\r\n\r\ncontent-length: 5\r\n\r\ncontent-length: 5\n\
                 POST /y HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1;a=b\r\n\n\r\n0\r\n\r\n\
                 GET /z HTTP/1.1\r\nhost: a\r\n\r\n";
    for size in [1, 7, 64, sound.len()] {
        for piece in sound.as_bytes().chunks(size) {
            client.send(piece);
        }
        for _ in 0..3 {
            client.answer().expect(200);
        }
    }
    let double = "POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\na";
    for piece in double.as_bytes().chunks(11) {
        client.send(piece);
    }
    refused(&mut client, b"", 400, &["framing_ambiguous"]);
    closes(&mut client);
    assert_eq!(upstream.count(), 12);
}

#[test]
fn a_malformed_chunk_ends_the_request_and_the_connection() {
    let upstream = Upstream::echo();
    let gateway = Setup::public(&upstream).start();
    for body in [
        "zz\r\nhello\r\n0\r\n\r\n",
        "-1\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "ffffffffffffffffff\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "5 \x01\r\nhello\r\n0\r\n\r\n",
        "\r\n0\r\n\r\n",
    ] {
        let mut client = gateway.client();
        let bytes = format!(
            "POST /x HTTP/1.1\r\nhost: gw.test\r\ntransfer-encoding: chunked\r\n\r\n{body}GET /smuggled HTTP/1.1\r\nhost: gw.test\r\n\r\n"
        );
        refused(&mut client, bytes.as_bytes(), 400, &["request_malformed"]);
        closes(&mut client);
    }
    let requests = upstream.requests();
    assert!(requests.iter().all(|request| request.target() == "/x" && !request.whole), "{requests:?}");
}

/// The HTTP library takes a line feed alone as the end of a line; others do not, and would see another message.
#[test]
fn a_line_ends_with_crlf_or_the_message_is_refused() {
    let upstream = Upstream::echo();
    let gateway = Setup::public(&upstream).start();
    let smuggled = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
    let before = "GET /one HTTP/1.1\r\nhost: a\r\n\r\n";
    for text in [
        "GET /x HTTP/1.1\nhost: a\n\n",
        "GET /x HTTP/1.0\nhost: a\n\n",
        "GET /x HTTP/1.1\nhost: a\r\n\r\n",
        "GET /x HTTP/1.1\r\nhost: a\n\r\n",
        "GET /x HTTP/1.1\r\nhost: a\r\nx: y\nz: z\r\n\r\n",
        "GET /x HTTP/1.1\r\nhost: a\r\n\n",
        "GET /x HTTP/1.1\r\nhost: a\r\nx: y\n\n",
        "POST /x HTTP/1.1\r\nhost: a\ncontent-length: 5\r\n\r\nhello",
        "POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "\nGET /x HTTP/1.1\r\nhost: a\r\n\r\n",
        "\r\rGET /x HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET /x HTTP/1.1\rhost: a\r\n\r\n",
        "GET /x HTTP/1.1\r\nhost: a\r\r\n\r\n",
        "GET /x HTTP/1.1\r\nhost: a\rx: y\r\n\r\n",
    ] {
        for before in ["", before] {
            // In pieces only what ends with the head: what comes behind a refusal would reset the connection.
            for size in if text.starts_with("POST") { &[4096][..] } else { &[3, 4096] } {
                let mut client = gateway.client();
                let behind = if *size == 4096 { smuggled } else { "" };
                for piece in format!("{before}{text}{behind}").as_bytes().chunks(*size) {
                    let _ = client.try_send(piece);
                }
                if !before.is_empty() {
                    client.answer().expect(200);
                }
                refused(&mut client, b"", 400, &["request_malformed"]);
                closes(&mut client);
            }
        }
    }
    let requests = upstream.requests();
    assert!(requests.iter().all(|request| request.target() == "/one"), "{requests:?}");
    // Empty lines before a request are ignored (RFC 9112 section 2.2).
    let mut client = gateway.client();
    client.send(b"\r\n\r\nGET /y HTTP/1.1\r\nhost: a\r\n\r\n");
    client.answer().expect(200);
}

#[test]
fn a_trailer_ends_with_crlf_or_the_message_is_refused() {
    let upstream = Upstream::echo();
    let gateway = Setup::public(&upstream).start();
    let head = "POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    let smuggled = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
    for body in [
        "5\r\nhello\r\n0\r\nx: y\nz: z\r\n\r\n",
        "5\r\nhello\r\n0\r\nx: y\r\nz: z\n\r\n",
        "5\r\nhello\r\n0\r\n\nx: y\r\n\r\n",
        "5\r\nhello\r\n0\r\nx: y\rz: z\r\n\r\n",
    ] {
        for apart in [false, true] {
            let mut client = gateway.client();
            if apart {
                let arrived = upstream.count();
                client.send(head);
                client.send(b"1\r\na\r\n");
                upstream.wait_for(arrived + 1);
                let _ = client.try_send(format!("{body}{smuggled}"));
            } else {
                client.send(format!("{head}{body}{smuggled}"));
            }
            refused(&mut client, b"", 400, &["request_malformed"]);
            closes(&mut client);
        }
    }
    let requests = upstream.requests();
    assert!(requests.iter().all(|request| request.target() == "/x" && !request.whole), "{requests:?}");
    let mut client = gateway.client();
    client.send(format!("{head}5\r\nhello\r\n0\r\nx: y\r\nz: z\r\n\r\n"));
    client.answer().expect(200);
}

#[test]
fn connect_and_trace_are_not_served() {
    let upstream = Upstream::echo();
    let gateway = Setup::public(&upstream).start();
    for line in ["CONNECT gw.test:443", "CONNECT /", "TRACE /", "TRACE http://gw.test/"] {
        let bytes = format!(
            "{line} HTTP/1.1\r\nhost: gw.test\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: gw.test\r\n\r\n"
        );
        let mut client = gateway.client();
        client.send(&bytes);
        let response = client.answer_to("GET");
        assert!(matches!(response.status, 400 | 405), "{line}: {response:?}");
        if line != "CONNECT /" {
            response.refused(405, "method_not_allowed");
        }
        closes(&mut client);
    }
    assert_eq!(upstream.count(), 0);
}

#[test]
fn heads_have_a_size() {
    let upstream = Upstream::echo();
    let gateway = Setup::public(&upstream).start();
    let many: String = (0..101).map(|number| format!("x-{number}: 1\r\n")).collect();
    let large = format!("x-large: {}\r\n", "x".repeat(40 * 1024));
    let spread: String = (0..50).map(|number| format!("x-{number}: {}\r\n", "x".repeat(1000))).collect();
    for fields in [&many, &large, &spread] {
        let mut client = gateway.client();
        let bytes = request("GET", "/", fields, b"");
        refused(&mut client, &bytes, 431, &["header_too_large"]);
        closes(&mut client);
    }
    // An endless head ends too.
    let mut client = gateway.client();
    let _ = client.try_send("GET / HTTP/1.1\r\nhost: a\r\nx: ");
    let piece = [b'x'; 4096];
    while client.try_send(piece).is_ok() {}
    assert_eq!(upstream.count(), 0);
    // As many as are allowed pass.
    let many: String = (0..99).map(|number| format!("x-{number}: 1\r\n")).collect();
    gateway.client().get("/", &many).expect(200);
    let large = format!("x-large: {}\r\n", "x".repeat(30 * 1024));
    gateway.client().get("/", &large).expect(200);
}

#[test]
fn targets_have_a_length() {
    let upstream = Upstream::echo();
    let gateway = Setup::public(&upstream).start();
    let path = |length: usize| format!("/{}", "a".repeat(length - 1));
    refused(&mut gateway.client(), &request("GET", &path(16 * 1024 + 1), "", b""), 414, &["target_too_long"]);
    let mut client = gateway.client();
    refused(&mut client, &request("GET", &path(1024 * 1024), "", b""), 431, &["header_too_large"]);
    assert_eq!(upstream.count(), 0);
    gateway.client().get(&path(16 * 1024), "").expect(200);
    assert_eq!(upstream.last().target().len(), 16 * 1024);
}

#[test]
fn what_is_not_http_is_told_so_in_our_words() {
    let upstream = Upstream::echo();
    let gateway = Setup::public(&upstream).start();
    for bytes in [
        &b"GET\r\n\r\n"[..],
        b"GET / HTTP/9.9\r\nhost: a\r\n\r\n",
        b"GET / HTTX/1.1\r\nhost: a\r\n\r\n",
        b"GET  / HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET / \r\nhost: a\r\n\r\n",
        b"G\0T / HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\n: no name\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nx: 1\r\n folded\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nx y: 1\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nx: a\0b\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nx: a\rb\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"{\"json\": true}\r\n\r\n",
    ] {
        let mut client = gateway.client();
        refused(&mut client, bytes, 400, &["request_malformed"]);
        closes(&mut client);
    }
    assert_eq!(upstream.count(), 0);
}

#[test]
fn garbage_after_a_request_is_told_so_too() {
    let upstream = Upstream::echo();
    let gateway = Setup::public(&upstream).start();
    // In one write, and in a write of its own after the answer.
    let mut together = gateway.client();
    let mut bytes = request("GET", "/good", "", b"");
    bytes.extend_from_slice(b"garbage\r\n\r\n");
    together.send(&bytes);
    together.answer().expect(200);
    together.answer().refused(400, "request_malformed");
    closes(&mut together);
    let mut apart = gateway.client();
    apart.get("/good", "").expect(200);
    apart.send("garbage\r\n\r\n");
    apart.answer().refused(400, "request_malformed");
    closes(&mut apart);
    assert_eq!(upstream.count(), 2);
}

#[test]
fn bodies_have_a_size_for_the_gateway_and_for_a_route() {
    let upstream = Upstream::echo();
    let gateway = Setup::public(&upstream)
        .limits("max_body = \"10KiB\"")
        .route("path = \"/small\"\nauth = \"public\"\nupstream = \"api\"\nmax_body = \"10B\"")
        .route("path = \"/any\"\nauth = \"public\"\nupstream = \"api\"\nmax_body = \"0\"")
        .start();
    for (target, fits) in [("/", 10 * 1024), ("/small", 10)] {
        let mut client = gateway.client();
        client.call("POST", target, "", &vec![b'x'; fits]).expect(200);
        let seen = upstream.count();
        refused(&mut client, &request("POST", target, "", &vec![b'x'; fits + 1]), 413, &["body_too_large"]);
        assert_eq!(upstream.count(), seen, "what is too large is not begun");
        // As chunks, where nothing says it beforehand.
        let mut client = gateway.client();
        let whole = "x".repeat(fits);
        client.send(format!("POST {target} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{fits:x}\r\n{whole}\r\n0\r\n\r\n"));
        client.answer().expect(200);
        let bytes = format!(
            "POST {target} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{fits:x}\r\n{whole}\r\n1\r\nx\r\n0\r\n\r\n"
        );
        refused(&mut client, bytes.as_bytes(), 413, &["body_too_large"]);
        closes(&mut client);
    }
    gateway.client().call("POST", "/any", "", &vec![b'x'; 100 * 1024]).expect(200);
    // A declared length is believed, so whoever asks first is told before sending.
    let mut client = gateway.client();
    client.send("POST /small HTTP/1.1\r\nhost: a\r\ncontent-length: 11\r\nexpect: 100-continue\r\n\r\n");
    let response = client.answer().refused(413, "body_too_large");
    assert!(response.interim.is_empty());
}

#[test]
fn routes_decide_by_path_and_method() {
    let upstream = Upstream::echo();
    let gateway = Setup::new()
        .upstream("api", &upstream, "")
        .route("path = \"/a\"\nmethods = [\"GET\", \"POST\"]\nauth = \"public\"\nupstream = \"api\"")
        .route("path = \"=/exact\"\nauth = \"public\"\nupstream = \"api\"")
        .route("host = \"*.example.com\"\npath = \"/\"\nauth = \"public\"\nupstream = \"api\"")
        .start();
    let mut client = gateway.client();
    for path in ["/", "/b", "/ab", "/exact/more", "/api/token/other"] {
        client.get(path, "").refused(404, "route_not_found");
    }
    let refused = client.call("DELETE", "/a/x", "", b"").refused(405, "method_not_allowed");
    assert_eq!(refused.field("allow"), "GET, HEAD, POST");
    client.get("/a/x", "").expect(200);
    client.get("/exact", "").expect(200);
    client.send("GET /b HTTP/1.1\r\nhost: x.example.com\r\n\r\n");
    client.answer().expect(200);
    client.send("GET /b HTTP/1.1\r\nhost: example.com\r\n\r\n");
    client.answer().refused(404, "route_not_found");
}
