//! Answers in whatever pieces they come, over a connection in memory.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;

use bytes::BytesMut;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::*;
use crate::upstream::Interim;
use crate::upstream::io::Wire;
use crate::upstream::outgoing::Outgoing;
use crate::upstream::pool::tests::{pool, run};
use crate::upstream::shared::Place;

fn request(method: Method) -> Outgoing {
    Outgoing { target: PathAndQuery::from_static("/a?b=c"), ..Outgoing::bare(method) }
}

/// A connection, and the target's end of it.
fn connection() -> (Connection, DuplexStream) {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let target = pool("http://127.0.0.1:1", "").shared_target();
    let place = Place::take(&target, 1, &Rc::default()).unwrap();
    (Connection::new(Wire::Memory(near), place), far)
}

/// What is made of an answer that comes in these pieces: its status and its body, and whether the connection goes on.
struct Got {
    status: u16,
    body: Vec<u8>,
    trailers: Option<HeaderMap>,
    told: Vec<u16>,
    persistent: bool,
}

async fn get(method: Method, pieces: &[&[u8]], closes: bool) -> Result<Got, String> {
    let (mut connection, mut far) = connection();
    let mut request = request(method);
    let told = Rc::new(RefCell::new(Vec::new()));
    let notes = Rc::clone(&told);
    let interim = Interim::new(move |answer| notes.borrow_mut().push(answer.status.as_u16()));
    let pieces: Vec<Vec<u8>> = pieces.iter().map(|piece| piece.to_vec()).collect();
    let target = tokio::task::spawn_local(async move {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(far.read_u8().await.unwrap());
        }
        for piece in pieces {
            far.write_all(&piece).await.unwrap();
            // Each piece is read by itself.
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
        }
        (!closes).then_some(far)
    });
    let mut sending = Sending::begin(&mut connection, &request);
    let head = poll_fn(|cx| sending.poll(cx, &mut connection, &mut request, Some(&interim))).await;
    let Head { response, mut framing, persistent } = head.map_err(|error| error.to_string())?;
    let mut body = Vec::new();
    let trailers = loop {
        match poll_fn(|cx| connection.poll_body(cx, &mut framing)).await.map_err(|error| error.to_string())? {
            Piece::Data(data) => body.extend_from_slice(&data),
            Piece::End(trailers) => break trailers,
            Piece::Incomplete => unreachable!(),
        }
    };
    let _far = target.await.unwrap();
    let persistent = persistent && connection.is_fresh();
    Ok(Got { status: response.status.as_u16(), body, trailers, told: told.take(), persistent })
}

const ANSWERS: &[(&[u8], &[u8])] = &[
    (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", b"hello"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n3\r\nhel\r\n02;a=b\r\nlo\r\n0\r\n\r\n", b"hello"),
    (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5 ; x\r\nhello\r\n000\r\nx-sum: 1\r\ny: 2\r\n\r\n", b"hello"),
    (b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", b"ok"),
    (b"HTTP/1.1 204 No Content\r\ncontent-length: 7\r\n\r\n", b""),
    (b"HTTP/1.1 304 Not Modified\r\n\r\n", b""),
    (b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 0\r\n\r\n", b""),
];

#[test]
fn an_answer_is_the_same_in_whatever_pieces_it_comes() {
    run(async {
        for (answer, body) in ANSWERS {
            for at in 1..answer.len() {
                let (first, rest) = answer.split_at(at);
                let got = get(Method::GET, &[first, rest], false).await.unwrap();
                assert_eq!(got.body, *body, "{at} of {}", answer.escape_ascii());
                assert!(got.persistent, "{}", answer.escape_ascii());
                assert_eq!(got.told, if answer.starts_with(b"HTTP/1.1 103") { vec![103] } else { vec![] });
                assert_eq!(got.trailers.is_some(), answer.ends_with(b"y: 2\r\n\r\n"));
            }
            let bytes: Vec<&[u8]> = answer.chunks(1).collect();
            assert_eq!(get(Method::GET, &bytes, false).await.unwrap().body, *body);
        }
    });
}

#[test]
fn what_can_be_read_in_two_ways_is_no_answer() {
    run(async {
        for head in [
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nok",
            "HTTP/1.1 200 OK\r\ncontent-length: 2, 2\r\n\r\nok",
            "HTTP/1.1 200 OK\r\ncontent-length: +2\r\n\r\nok",
            "HTTP/1.1 200 OK\r\ncontent-length: 0x2\r\n\r\nok",
            "HTTP/1.1 200 OK\r\ncontent-length: \r\n\r\nok",
            "HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\nok",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: identity\r\n\r\nok",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nfolded: a\r\n b\r\ncontent-length: 2\r\n\r\nok",
            "HTTP/1.1 200 OK\r\nbad name: a\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length : 2\r\n\r\nok",
            "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
            "HTTP/1.1 000 None\r\n\r\n",
            "HTTP/1.1 2000 Long\r\n\r\n",
            "HTTP/2.0 200 OK\r\n\r\n",
            "220 smtp.example.com ESMTP\r\n\r\n",
            "\r\n\r\n",
            "\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
            "HTTP/1.1 200 OK\ncontent-length: 2\n\nok",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\nx: y\r\n\r\nok",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\nok",
            "HTTP/1.1 200 OK\r\nx: y\rcontent-length: 2\r\n\r\nok",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\na: b\nc: d\r\n\r\n",
        ] {
            assert!(get(Method::GET, &[head.as_bytes()], true).await.is_err(), "{head:?}");
        }
    });
}

#[test]
fn chunks_are_taken_by_the_letter() {
    for malformed in [
        "\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n",
        " 5\r\nhello\r\n",
        "5 5\r\nhello\r\n",
        "g\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5;a\x00b\r\nhello\r\n",
        "5;a\rb\r\nhello\r\n",
        "11111111111111111\r\nx",
        "-1\r\nx",
        "5_0\r\nx",
        "0\r\nno colon\r\n\r\n",
        "0\r\na b: c\r\n\r\n",
    ] {
        let (mut read, mut chunks) = (BytesMut::from(malformed), Chunks::default());
        let failed = loop {
            match chunks.next(&mut read) {
                Ok(Piece::Data(_)) => {}
                Ok(Piece::Incomplete | Piece::End(_)) => break false,
                Err(_) => break true,
            }
        };
        assert!(failed, "{malformed:?}");
    }
    let mut long = BytesMut::from(&b"5;"[..]);
    long.resize(5000, b'a');
    assert!(Chunks::default().next(&mut long).is_err());
    let mut trailers = BytesMut::from(&b"0\r\na: "[..]);
    trailers.resize(20_000, b'a');
    assert!(Chunks::default().next(&mut trailers).is_err());
}

#[test]
fn a_body_that_is_cut_looks_cut() {
    run(async {
        for answer in [
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhell",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
            "HTTP/1.1 200 OK\r\ncontent-le",
            "",
        ] {
            let error = get(Method::GET, &[answer.as_bytes()], true).await.err();
            assert_eq!(
                error.as_deref(),
                Some("the target closed the connection before its answer was whole"),
                "{answer:?}"
            );
        }
        let whole = get(Method::GET, &[b"HTTP/1.1 200 OK\r\n\r\nuntil", b" the end"], true).await.unwrap();
        assert_eq!((whole.body.as_slice(), whole.persistent), (&b"until the end"[..], false));
    });
}

#[test]
fn a_connection_goes_on_only_where_both_sides_know_where_they_are() {
    run(async {
        for (answer, method, persistent) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", Method::GET, true),
            ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: x, Close\r\n\r\nok", Method::GET, false),
            ("HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", Method::GET, false),
            ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n", Method::GET, false),
            ("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n", Method::HEAD, true),
            ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", Method::HEAD, false),
            ("HTTP/1.1 204 No Content\r\n\r\nsurplus", Method::GET, false),
        ] {
            let got = get(method, &[answer.as_bytes()], false).await.unwrap();
            assert_eq!(got.persistent, persistent, "{answer:?}");
        }
        let (mut connection, far) = connection();
        assert!(connection.is_fresh());
        drop(far);
        assert!(!connection.is_fresh(), "the target has closed it");
    });
}

#[test]
fn heads_and_what_comes_before_them_have_an_end() {
    run(async {
        let fields = |count: usize| "a: b\r\n".repeat(count);
        let answer = |fields: &str| format!("HTTP/1.1 200 OK\r\n{fields}content-length: 0\r\n\r\n");
        assert_eq!(get(Method::GET, &[answer(&fields(99)).as_bytes()], false).await.unwrap().status, 200);
        assert!(get(Method::GET, &[answer(&fields(100)).as_bytes()], false).await.is_err());
        let long = format!("HTTP/1.1 200 OK\r\na: {}", "b".repeat(head::MAX_HEAD_BYTES));
        assert!(get(Method::GET, &[long.as_bytes()], false).await.is_err());
        let interim = "HTTP/1.1 102 Processing\r\n\r\n";
        let many = |count: usize| format!("{}{}", interim.repeat(count), answer(""));
        assert_eq!(get(Method::GET, &[many(100).as_bytes()], false).await.unwrap().told.len(), 100);
        assert!(get(Method::GET, &[many(101).as_bytes()], false).await.is_err());
        let switched = get(Method::GET, &[b"HTTP/1.1 101 Switching Protocols\r\n\r\n"], false).await.unwrap();
        assert_eq!((switched.status, switched.persistent), (101, false));
    });
}

#[test]
fn a_request_is_written_with_one_framing() {
    for (declares_nothing, framed, end) in [
        (false, head::Framed::Empty, "\r\n"),
        (true, head::Framed::Empty, "content-length: 0\r\n\r\n"),
        (false, head::Framed::Length(3), "content-length: 3\r\n\r\n"),
        (true, head::Framed::Chunked, "transfer-encoding: chunked\r\n\r\n"),
    ] {
        let mut smuggling = Outgoing { declares_nothing, ..request(Method::PUT) };
        smuggling.headers.insert(header::HOST, HeaderValue::from_static("evil.test"));
        smuggling.headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        smuggling.headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("7"));
        let mut written = Vec::new();
        head::write(&mut written, &smuggling, framed);
        assert_eq!(
            String::from_utf8(written).unwrap(),
            format!("PUT /a?b=c HTTP/1.1\r\nhost: localhost\r\n{end}")
        );
    }
}

#[test]
fn a_request_that_nothing_was_sent_of_may_be_sent_again() {
    run(async {
        for method in [Method::GET, Method::POST] {
            let (mut connection, far) = connection();
            drop(far);
            let mut request = request(method.clone());
            let mut sending = Sending::begin(&mut connection, &request);
            let error =
                poll_fn(|cx| sending.poll(cx, &mut connection, &mut request, None)).await.err().unwrap();
            assert_eq!(sending.fate(&error, &connection), Fate::NotSent);
        }
        for (method, answer, fate) in [
            (Method::GET, "", Fate::Repeatable),
            (Method::POST, "", Fate::Final),
            (Method::GET, "HTTP/1.1 2", Fate::Final),
            (Method::GET, "HTTP/1.1 103 Early Hints\r\n\r\n", Fate::Final),
            (Method::GET, "no HTTP\r\n\r\n", Fate::Final),
        ] {
            let (mut connection, mut far) = connection();
            let mut request = request(method.clone());
            let mut sending = Sending::begin(&mut connection, &request);
            let target = tokio::task::spawn_local(async move {
                let _first = far.read_u8().await.unwrap();
                far.write_all(answer.as_bytes()).await.unwrap();
            });
            let error =
                poll_fn(|cx| sending.poll(cx, &mut connection, &mut request, None)).await.err().unwrap();
            target.await.unwrap();
            assert_eq!(sending.fate(&error, &connection), fate, "{method} {answer:?}");
        }
    });
}

proptest! {
    /// However chunks are cut, the same comes out, and nothing of what follows is taken.
    #[test]
    fn chunks_come_out_whole(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..6), cut in 1usize..30) {
        let mut coded = Vec::new();
        for piece in &pieces {
            coded.extend_from_slice(format!("{:X}\r\n", piece.len()).as_bytes());
            coded.extend_from_slice(piece);
            coded.extend_from_slice(b"\r\n");
        }
        coded.extend_from_slice(b"0\r\n\r\nHTTP/1.1");
        let (mut read, mut chunks, mut whole) = (BytesMut::new(), Chunks::default(), Vec::new());
        let mut input = coded.chunks(cut);
        loop {
            match chunks.next(&mut read).unwrap() {
                Piece::Incomplete => read.extend_from_slice(input.next().unwrap()),
                Piece::Data(data) => whole.extend_from_slice(&data),
                Piece::End(trailers) => {
                    prop_assert!(trailers.is_none());
                    break;
                }
            }
        }
        input.for_each(|rest| read.extend_from_slice(rest));
        prop_assert_eq!(whole, pieces.concat());
        prop_assert_eq!(&read[..], b"HTTP/1.1");
    }

    /// No bytes make it panic, and what is no head is none for good.
    #[test]
    fn any_bytes_are_an_answer_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..200), method in 0usize..2) {
        let method = if method == 0 { Method::GET } else { Method::HEAD };
        let (mut read, mut searched) = (BytesMut::from(&bytes[..]), 0);
        if let Ok(Some(Answered::Final(head))) = head::take(&mut read, &mut searched, &method) {
            prop_assert!(head.response.status >= StatusCode::OK || head.response.status == StatusCode::SWITCHING_PROTOCOLS);
        }
    }
}
