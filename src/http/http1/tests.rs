//! A client in memory, whose bytes come in whatever pieces.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use http_body::{Body, Frame, SizeHint};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::*;
use crate::base::field_list::FieldList;
use crate::http::incoming::Incoming;
use crate::http::message::{RequestHead, ResponseHead};
use crate::http::spliced::SplicedBody;
use crate::net::deadline::{Phase, Progress, TickClock};
use crate::net::transport::Transport;

const LIMITS: HeadLimits = HeadLimits { max_bytes: 8192, max_fields: 100 };
const GET: &str = "GET /a?b=c HTTP/1.1\r\nHost: a.test\r\n\r\n";

fn run<F: Future>(test: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

/// A connection, the client's end of it, and what deadlines look at.
fn connection() -> (SharedWire, DuplexStream, Rc<Progress>) {
    let (near, far) = tokio::io::duplex(1024 * 1024);
    let progress = Rc::new(Progress::new(Rc::<TickClock>::default()));
    let transport = Transport::memory(near);
    let wire = Wire::new(transport, Rc::clone(&progress), Scratch::default(), Interim::default());
    (Rc::new(RefCell::new(wire)), far, progress)
}

async fn arrival(wire: &SharedWire) -> Arrival {
    poll_fn(|cx| wire.borrow_mut().poll_request(cx, LIMITS)).await
}

/// Whether nothing has come yet that is a request or none.
fn is_waiting(wire: &SharedWire) -> bool {
    let mut cx = Context::from_waker(std::task::Waker::noop());
    wire.borrow_mut().poll_request(&mut cx, LIMITS).is_pending()
}

/// What is made of the bytes of a client that then closes its side.
fn of(bytes: &[u8]) -> Arrival {
    run(async {
        let (wire, mut client, _) = connection();
        client.write_all(bytes).await.unwrap();
        client.shutdown().await.unwrap();
        arrival(&wire).await
    })
}

fn refused(bytes: &[u8]) -> Unread {
    match of(bytes) {
        Arrival::Unread(unread) => unread,
        other @ (Arrival::Request(..) | Arrival::Ended | Arrival::Overdue) => {
            panic!("{:?}: {other:?}", String::from_utf8_lossy(bytes))
        }
    }
}

async fn request(wire: &SharedWire) -> (Box<RequestHead>, Asked, bool) {
    match arrival(wire).await {
        Arrival::Request(request, asked, has_body) => (request, asked, has_body),
        other @ (Arrival::Unread(_) | Arrival::Ended | Arrival::Overdue) => panic!("{other:?}"),
    }
}

/// The whole body and its trailers, or why there is none.
async fn read(body: &mut Http1Body) -> Result<(Vec<u8>, Option<HeaderMap>), Http1ReadError> {
    let (mut whole, mut trailers) = (Vec::new(), None);
    while let Some(frame) = poll_fn(|cx| body.poll_frame(cx)).await {
        match frame?.into_data() {
            Ok(data) => whole.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    Ok((whole, trailers))
}

/// What a client reads of an answer, and what becomes of the connection.
async fn answered<B>(head: &str, response: (ResponseHead, B), is_last: bool) -> (String, Option<Answered>)
where
    B: SplicedBody,
{
    let (wire, mut client, _) = connection();
    client.write_all(head.as_bytes()).await.unwrap();
    let (_, asked, _) = request(&wire).await;
    let date = || HeaderValue::from_static("today");
    let outcome = answer(&wire, asked, response, is_last, date).await.ok();
    drop(wire);
    let mut text = String::new();
    client.read_to_string(&mut text).await.unwrap();
    (text, outcome)
}

/// A body that is there already.
struct Frames {
    left: std::vec::IntoIter<Result<Frame<Bytes>, &'static str>>,
    bytes: Option<u64>,
}

impl SplicedBody for Frames {}

impl Body for Frames {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        Poll::Ready(self.left.next())
    }

    fn size_hint(&self) -> SizeHint {
        self.bytes.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

fn data(text: &'static str) -> Frame<Bytes> {
    Frame::data(Bytes::from_static(text.as_bytes()))
}

fn response(body: &'static str, fields: &[(&'static str, &'static str)]) -> (ResponseHead, Frames) {
    let frames = if body.is_empty() { Vec::new() } else { vec![Ok(data(body))] };
    let mut headers = FieldList::new();
    for (name, value) in fields {
        headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    let body = Frames { left: frames.into_iter(), bytes: Some(body.len() as u64) };
    (ResponseHead { status: StatusCode::OK, headers }, body)
}

/// An answer without fields.
fn plain(body: Frames) -> (ResponseHead, Frames) {
    (ResponseHead { status: StatusCode::OK, headers: FieldList::new() }, body)
}

/// A body of unknown length.
fn streamed(frames: Vec<Result<Frame<Bytes>, &'static str>>) -> Frames {
    Frames { left: frames.into_iter(), bytes: None }
}

#[test]
fn a_head_becomes_a_request_with_all_its_fields() {
    run(async {
        let (wire, mut client, _) = connection();
        client
            .write_all(b"\r\nGET /a?b=c HTTP/1.1\r\nHost: a\r\nX: 1\r\nx: 2\r\nTE: gzip, trailers\r\n\r\n")
            .await
            .unwrap();
        let (request, asked, has_body) = request(&wire).await;
        assert_eq!((request.method, request.uri.to_string()), (Method::GET, "/a?b=c".to_owned()));
        let values: Vec<_> = request.headers.get_all("x").collect();
        assert_eq!(values, ["1", "2"]);
        assert!(asked.is_persistent && asked.takes_trailers && !asked.is_head && !has_body);
        assert_eq!(asked.version, Version::HTTP_11);
    });
}

#[test]
fn what_a_client_says_of_its_connection_is_heard() {
    for (head, is_persistent) in [
        ("GET / HTTP/1.1\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nConnection: Close\r\n\r\n", false),
        ("GET / HTTP/1.1\r\nConnection: x, close\r\nConnection: keep-alive\r\n\r\n", false),
        ("GET / HTTP/1.0\r\n\r\n", false),
        ("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", false),
        ("CONNECT a:1 HTTP/1.1\r\n\r\n", false),
        ("POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", false),
    ] {
        let Arrival::Request(_, asked, _) = of(head.as_bytes()) else { panic!("{head:?}") };
        assert_eq!(asked.is_persistent, is_persistent, "{head:?}");
    }
}

#[test]
fn what_is_no_head_is_refused() {
    for malformed in [
        "GET  / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.2\r\n\r\n",
        "GET / HTTP/2.0\r\n\r\n",
        "GET /\r\n\r\n",
        "G\x01T / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nno colon\r\n\r\n",
        "GET / HTTP/1.1\r\n: nameless\r\n\r\n",
        "GET / HTTP/1.1\r\nspaced : 1\r\n\r\n",
        "GET / HTTP/1.1\r\nx: a\r\n folded\r\n\r\n",
        "GET / HTTP/1.1\r\nx: a\rb\r\n\r\n",
        "GET / HTTP/1.1\r\nx: a\0b\r\n\r\n",
        " GET / HTTP/1.1\r\n\r\n",
    ] {
        assert_eq!(refused(malformed.as_bytes()), Unread::Malformed, "{malformed:?}");
    }
    for bare in [
        "\nGET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\n\n",
        "GET / HTTP/1.1\r\nx: 1\ny: 2\r\n\r\n",
        "GET / HTTP/1.1\r\n\n",
    ] {
        assert_eq!(refused(bare.as_bytes()), Unread::LineEndBare, "{bare:?}");
    }
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(101));
    assert_eq!(refused(many.as_bytes()), Unread::TooLarge);
    let long = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "a".repeat(8192));
    assert_eq!(refused(long.as_bytes()), Unread::TooLarge);
    assert_eq!(refused("a".repeat(9000).as_bytes()), Unread::TooLarge, "without an end");
}

#[test]
fn a_client_that_leaves_within_a_head_has_asked_nothing() {
    for end in 0..GET.len() {
        assert!(matches!(of(&GET.as_bytes()[..end]), Arrival::Ended), "{end}");
    }
}

#[test]
fn half_a_head_is_under_a_deadline_even_when_it_came_with_the_request_before() {
    run(async {
        let (wire, mut client, progress) = connection();
        client.write_all(format!("{GET}GET / HT").as_bytes()).await.unwrap();
        let (_, asked, _) = request(&wire).await;
        progress.begin();
        answer(&wire, asked, response("", &[]), false, || HeaderValue::from_static("")).await.unwrap();
        progress.enter(Phase::Idle);
        assert!(is_waiting(&wire));
        assert_eq!(progress.phase(), Phase::Head);
    });
}

#[test]
fn a_message_with_two_framings_has_no_body_that_anybody_reads_and_ends_the_connection() {
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length: 5, 5",
        "Content-Length: +5",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: identity",
    ] {
        run(async {
            let (wire, mut client, _) = connection();
            let text = format!("POST / HTTP/1.1\r\n{fields}\r\n\r\n0\r\n\r\n{GET}");
            client.write_all(text.as_bytes()).await.unwrap();
            let (_, asked, has_body) = request(&wire).await;
            assert!(has_body && !asked.is_persistent, "{fields:?}");
            let mut body = Http1Body::of(&wire);
            assert!(!body.is_end_stream() && read(&mut body).await.is_err(), "{fields:?}");
            drop(body);
            let date = || HeaderValue::from_static("today");
            let outcome = answer(&wire, asked, response("no", &[]), false, date).await.unwrap();
            assert_eq!(outcome, Answered::Last, "{fields:?}");
        });
    }
}

#[test]
fn a_body_ends_where_its_head_says_and_the_next_request_begins_there() {
    for (framing, body, trailer) in [
        ("Content-Length: 5", "ab\r\n\n", None),
        ("Transfer-Encoding: chunked", "2;x=y\r\nab\r\n3\r\n\r\n\n\r\n0\r\n\r\n", None),
        ("Transfer-Encoding: Chunked", "5\r\nab\r\n\n\r\n00\r\nx-sum: 1\r\n\r\n", Some("1")),
    ] {
        run(async {
            let (wire, mut client, _) = connection();
            let text = format!("POST / HTTP/1.1\r\n{framing}\r\n\r\n{body}{GET}");
            client.write_all(text.as_bytes()).await.unwrap();
            assert!(request(&wire).await.2);
            let (whole, trailers) = read(&mut Http1Body::of(&wire)).await.unwrap();
            assert_eq!(whole, b"ab\r\n\n", "{framing}");
            let trailers = trailers.unwrap_or_default();
            assert_eq!(trailers.get("x-sum").map(|value| value.to_str().unwrap()), trailer);
            assert_eq!(request(&wire).await.0.uri.path(), "/a");
        });
    }
}

#[test]
fn a_body_that_is_cut_or_malformed_is_none() {
    for (framing, body) in [
        ("Content-Length: 5", "abcd"),
        ("Transfer-Encoding: chunked", "5\r\nabcde\r\n"),
        ("Transfer-Encoding: chunked", "5\r\nabcde\r\n0\r\n"),
        ("Transfer-Encoding: chunked", "5\nabcde\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked", "5\r\nabcde\r\n0\r\nx: 1\n\r\n"),
        ("Transfer-Encoding: chunked", "0x5\r\nabcde\r\n0\r\n\r\n"),
    ] {
        run(async {
            let (wire, mut client, _) = connection();
            let text = format!("POST / HTTP/1.1\r\n{framing}\r\n\r\n{body}");
            client.write_all(text.as_bytes()).await.unwrap();
            client.shutdown().await.unwrap();
            let (_, asked, _) = request(&wire).await;
            let mut body_read = Http1Body::of(&wire);
            assert!(read(&mut body_read).await.is_err(), "{body:?}");
            assert!(read(&mut body_read).await.is_err(), "it does not get better: {body:?}");
            drop(body_read);
            let date = || HeaderValue::from_static("today");
            let outcome = answer(&wire, asked, response("", &[]), false, date).await.unwrap();
            assert_eq!(outcome, Answered::Last);
        });
    }
}

#[test]
fn a_line_feed_ends_no_line_alone_wherever_it_stands() {
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab\n\nc";
    for text in [GET, post] {
        let head = text.find("\r\n\r\n").unwrap() + 4;
        for (end, _) in text[..head].match_indices("\r\n") {
            let bare = format!("{}{}", &text[..end], &text[end + 1..]);
            for before in ["", "\r\n", GET, post] {
                run(async {
                    let (wire, mut client, _) = connection();
                    client.write_all(format!("{before}{bare}").as_bytes()).await.unwrap();
                    if before.len() > 2 && request(&wire).await.2 {
                        assert_eq!(read(&mut Http1Body::of(&wire)).await.unwrap().0, b"ab\n\nc");
                    }
                    let arrival = arrival(&wire).await;
                    assert!(
                        matches!(arrival, Arrival::Unread(Unread::LineEndBare)),
                        "{before:?} {bare:?}: {arrival:?}"
                    );
                });
            }
        }
    }
}

#[test]
fn a_line_feed_ends_no_trailer_alone_however_it_comes() {
    let body = "3\r\nabc\r\n0\r\nx: 1\r\ny: 2\r\n\r\n";
    for (end, _) in body.match_indices("\r\n") {
        let bare = format!("{}{}", &body[..end], &body[end + 1..]);
        for cut in 0..bare.len() {
            run(async {
                let (wire, mut client, _) = connection();
                client.write_all(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
                request(&wire).await;
                let mut body_read = Http1Body::of(&wire);
                let (outcome, ()) = futures_util::future::join(read(&mut body_read), async {
                    for piece in [&bare[..cut], &bare[cut..]] {
                        client.write_all(piece.as_bytes()).await.unwrap();
                        tokio::task::yield_now().await;
                    }
                    client.shutdown().await.unwrap();
                })
                .await;
                assert!(outcome.is_err(), "{bare:?}");
            });
        }
    }
}

#[test]
fn a_body_that_nobody_reads_is_skipped_when_it_is_there_and_ends_the_connection_otherwise() {
    for (body, outcome) in [("abcde", Answered::Persistent), ("abcd", Answered::Last)] {
        run(async {
            let (wire, mut client, _) = connection();
            let text = format!("POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n{body}");
            client.write_all(text.as_bytes()).await.unwrap();
            let (_, asked, _) = request(&wire).await;
            let date = || HeaderValue::from_static("today");
            assert_eq!(answer(&wire, asked, response("", &[]), false, date).await.unwrap(), outcome);
            drop(wire);
            let mut text = String::new();
            client.read_to_string(&mut text).await.unwrap();
            assert_eq!(text.contains("connection: close"), outcome == Answered::Last, "{text}");
        });
    }
}

#[test]
fn a_body_that_nobody_reads_is_skipped_up_to_a_limit() {
    for (bytes, outcome) in [(60_000, Answered::Persistent), (500_000, Answered::Last)] {
        run(async {
            let (wire, mut client, _) = connection();
            let text = format!("POST / HTTP/1.1\r\nContent-Length: {bytes}\r\n\r\n{}", "x".repeat(bytes));
            client.write_all(text.as_bytes()).await.unwrap();
            let (_, asked, _) = request(&wire).await;
            let date = || HeaderValue::from_static("today");
            assert_eq!(answer(&wire, asked, response("", &[]), false, date).await.unwrap(), outcome);
        });
    }
}

#[test]
fn a_body_of_the_request_before_reads_nothing_of_the_next() {
    run(async {
        let (wire, mut client, _) = connection();
        let text = format!(
            "POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nab{}",
            "POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\ncd"
        );
        client.write_all(text.as_bytes()).await.unwrap();
        request(&wire).await;
        let mut first = Http1Body::of(&wire);
        assert_eq!(read(&mut first).await.unwrap().0, b"ab");
        request(&wire).await;
        assert!(matches!(read(&mut first).await, Err(Http1ReadError::Abandoned)));
        assert_eq!(read(&mut Http1Body::of(&wire)).await.unwrap().0, b"cd");
    });
}

#[test]
fn who_waits_to_send_a_body_is_told_once_it_is_wanted() {
    let head = "POST / HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-Continue\r\n\r\n";
    run(async {
        let (wire, mut client, _) = connection();
        client.write_all(head.as_bytes()).await.unwrap();
        request(&wire).await;
        let mut body = Http1Body::of(&wire);
        let (read, ()) = futures_util::future::join(read(&mut body), async {
            let mut told = [0; 25];
            client.read_exact(&mut told).await.unwrap();
            assert_eq!(&told, b"HTTP/1.1 100 Continue\r\n\r\n");
            client.write_all(b"ab").await.unwrap();
        })
        .await;
        assert_eq!(read.unwrap().0, b"ab");
    });
    run(async {
        let (text, outcome) = answered(head, response("no", &[]), false).await;
        assert!(!text.contains("100 Continue"), "{text}");
        assert_eq!(outcome, Some(Answered::Last), "nobody knows whether the body comes");
    });
}

#[test]
fn an_answer_says_its_length_and_nothing_that_came_with_it_contradicts() {
    run(async {
        let lying = [("content-length", "2"), ("transfer-encoding", "chunked"), ("connection", "x")];
        let (text, outcome) = answered(GET, response("hello", &lying), false).await;
        assert_eq!(text, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ndate: today\r\n\r\nhello");
        assert_eq!(outcome, Some(Answered::Persistent));
        let (text, outcome) = answered(GET, response("", &[("date", "then")]), true).await;
        assert_eq!(text, "HTTP/1.1 200 OK\r\ndate: then\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        assert_eq!(outcome, Some(Answered::Last));
        let (_, outcome) = answered(GET, response("", &[("connection", "close")]), false).await;
        assert_eq!(outcome, Some(Answered::Last));
    });
}

#[test]
fn an_answer_without_a_body_has_none() {
    run(async {
        let head = "HEAD / HTTP/1.1\r\n\r\n";
        let (text, _) = answered(head, response("", &[("content-length", "42")]), false).await;
        assert!(text.contains("content-length: 42\r\n") && text.ends_with("\r\n\r\n"), "{text}");
        let (text, _) = answered(head, response("hello", &[]), false).await;
        assert!(text.contains("content-length: 5\r\n") && !text.contains("hello"), "{text}");
        for (status, length) in [(204, false), (304, true)] {
            let mut response = response("", &[("content-length", "42")]);
            response.0.status = StatusCode::from_u16(status).unwrap();
            let (text, outcome) = answered(GET, response, false).await;
            assert_eq!(text.contains("content-length"), length, "{text}");
            assert_eq!(outcome, Some(Answered::Persistent));
        }
    });
}

#[test]
fn an_answer_of_unknown_length_is_chunked_for_who_knows_chunks() {
    let frames = || {
        let sum = HeaderMap::from_iter([
            (header::HeaderName::from_static("x-sum"), HeaderValue::from_static("1")),
            (header::HeaderName::from_static("x-other"), HeaderValue::from_static("2")),
        ]);
        vec![Ok(data("hello")), Ok(data("")), Ok(data(", you")), Ok(Frame::trailers(sum))]
    };
    let with_trailer = |body: Frames| {
        let headers = FieldList::from_iter([(header::TRAILER, HeaderValue::from_static("x-sum"))]);
        (ResponseHead { status: StatusCode::OK, headers }, body)
    };
    run(async {
        let (text, outcome) = answered(GET, with_trailer(streamed(frames())), false).await;
        assert!(text.ends_with("\r\n\r\n5\r\nhello\r\n5\r\n, you\r\n0\r\n\r\n"), "{text}");
        assert_eq!(outcome, Some(Answered::Persistent));
        let asks = "GET / HTTP/1.1\r\nTE: trailers\r\n\r\n";
        let (text, _) = answered(asks, with_trailer(streamed(frames())), false).await;
        assert!(text.ends_with("\r\n0\r\nx-sum: 1\r\n\r\n"), "only what was announced: {text}");
        let (text, outcome) =
            answered("GET / HTTP/1.0\r\n\r\n", with_trailer(streamed(frames())), false).await;
        assert!(text.starts_with("HTTP/1.0 200 OK\r\n") && text.ends_with("\r\n\r\nhello, you"), "{text}");
        assert!(!text.contains("chunked") && text.contains("connection: close"), "{text}");
        assert_eq!(outcome, Some(Answered::Last));
    });
}

#[test]
fn an_answer_that_breaks_off_looks_cut() {
    run(async {
        let frames = vec![Ok(Frame::data(Bytes::from_static(b"hello"))), Err("broken")];
        let (text, outcome) = answered(GET, plain(streamed(frames)), false).await;
        assert!(text.ends_with("5\r\nhello\r\n"), "without the last chunk: {text}");
        assert_eq!(outcome, None);
    });
}

#[test]
fn large_pieces_are_written_whole_however_little_is_taken_at_once() {
    run(async {
        let (near, mut client) = tokio::io::duplex(7);
        let progress = Rc::new(Progress::new(Rc::<TickClock>::default()));
        let wire = Wire::new(Transport::memory(near), progress, Scratch::default(), Interim::default());
        let wire = Rc::new(RefCell::new(wire));
        let writing = async {
            let (_, asked, _) = request(&wire).await;
            let large = Bytes::from(vec![b'x'; 5000]);
            let frames = vec![
                Ok(Frame::data(large.clone())),
                Ok(Frame::data(Bytes::from_static(b"end"))),
                Ok(Frame::data(large)),
            ];
            let date = || HeaderValue::from_static("today");
            answer(&wire, asked, plain(streamed(frames)), true, date).await.unwrap();
            poll_fn(|cx| wire.borrow_mut().poll_shutdown(cx)).await.unwrap();
        };
        let reading = async {
            client.write_all(GET.as_bytes()).await.unwrap();
            let mut text = String::new();
            client.read_to_string(&mut text).await.unwrap();
            text
        };
        let ((), text) = futures_util::future::join(writing, reading).await;
        let large = "x".repeat(5000);
        let body = format!("\r\n\r\n1388\r\n{large}\r\n3\r\nend\r\n1388\r\n{large}\r\n0\r\n\r\n");
        assert!(text.ends_with(&body), "{} bytes", text.len());
    });
}

#[test]
fn nothing_is_held_for_a_client_that_says_nothing() {
    run(async {
        let (wire, mut client, _) = connection();
        client.write_all(b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc").await.unwrap();
        let (_, asked, _) = request(&wire).await;
        assert_eq!(read(&mut Http1Body::of(&wire)).await.unwrap().0, b"abc");
        answer(&wire, asked, response("hello", &[]), false, || HeaderValue::from_static("")).await.unwrap();
        assert!(is_waiting(&wire));
        assert_eq!(wire.borrow().held_bytes(), 0);
    });
}

#[test]
fn a_body_tells_its_length_while_it_is_read() {
    run(async {
        let (wire, mut client, _) = connection();
        client.write_all(b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nab").await.unwrap();
        request(&wire).await;
        let mut body = Incoming::Http1(Http1Body::of(&wire));
        assert_eq!(body.size_hint().exact(), Some(5));
        let frame = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), "ab");
        assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(3), false));
    });
}

proptest! {
    /// However the bytes of requests are cut, the same requests come of them.
    #[test]
    fn requests_come_out_whole_however_they_are_cut(cuts in proptest::collection::vec(1usize..40, 1..30)) {
        run(async {
            let text = format!(
                "{GET}POST /b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nx: 1\r\n\r\n\
                 \r\nPOST /c HTTP/1.1\r\nContent-Length: 4\r\n\r\nfghi{GET}"
            );
            let (wire, mut client, _) = connection();
            let sending = async {
                let (mut rest, mut cuts) = (text.as_bytes(), cuts.iter().cycle());
                while !rest.is_empty() {
                    let (piece, behind) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                    client.write_all(piece).await.unwrap();
                    tokio::task::yield_now().await;
                    rest = behind;
                }
                client.shutdown().await.unwrap();
            };
            let taking = async {
                let mut seen = Vec::new();
                loop {
                    match arrival(&wire).await {
                        Arrival::Request(request, _, has_body) => {
                            let body = if has_body { read(&mut Http1Body::of(&wire)).await.unwrap().0 } else { Vec::new() };
                            seen.push((request.uri.path().to_owned(), String::from_utf8(body).unwrap()));
                        }
                        Arrival::Ended => break seen,
                        other @ (Arrival::Unread(_) | Arrival::Overdue) => panic!("{other:?}"),
                    }
                }
            };
            let ((), seen) = futures_util::future::join(sending, taking).await;
            let seen: Vec<_> = seen.iter().map(|(path, body)| (path.as_str(), body.as_str())).collect();
            assert_eq!(seen, [("/a", ""), ("/b", "abcde"), ("/c", "fghi"), ("/a", "")]);
        });
    }
}
