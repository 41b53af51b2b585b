//! Requests that ask an upstream to change to another protocol (RFC 9110 section 7.8).

use std::fmt;
use std::future::poll_fn;

use bytes::Bytes;
use http::StatusCode;

use super::UpstreamError;
use super::body::UpstreamResponse;
use super::http1::Sending;
use super::io::UpstreamIo;
use super::outgoing::Outgoing;
use super::pool::Exclusive;
use super::send::Limits;
use crate::http::message::ResponseHead;

/// What an upstream says to a request that asks for another protocol.
pub enum UpgradeAnswer {
    /// It has switched. The head is as it came, with the fields that are for this connection only.
    Switched {
        /// The head of its 101.
        head: ResponseHead,
        /// The connection.
        io: UpstreamIo,
        /// What came on it behind the head.
        read_ahead: Bytes,
    },
    /// It has not; this is an answer like any other.
    Answered(UpstreamResponse),
}

impl fmt::Debug for UpgradeAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Switched { head, .. } => f.debug_tuple("Switched").field(head).finish(),
            Self::Answered(answer) => f.debug_tuple("Answered").field(&answer.head.status).finish(),
        }
    }
}

/// Sends a request on a connection of its own and waits for the head of the answer.
pub(super) async fn send(
    mut exclusive: Exclusive,
    mut request: Outgoing,
    limits: &Limits<'_>,
) -> Result<UpgradeAnswer, UpstreamError> {
    let connection = &mut *exclusive.connection;
    let mut sending = Sending::begin(connection, &request);
    let answered = poll_fn(|cx| sending.poll(cx, connection, &mut request, limits.interim)).await;
    let head = answered.map_err(UpstreamError::Broken)?;
    if head.response.status != StatusCode::SWITCHING_PROTOCOLS {
        return sending.accept(head, exclusive.into_lease(), request.body).map(UpgradeAnswer::Answered);
    }
    let Exclusive { connection, in_flight } = exclusive;
    let (wire, read_ahead, place) = connection.into_parts();
    let io = UpstreamIo::new(wire, place, in_flight);
    Ok(UpgradeAnswer::Switched { head: head.response, io, read_ahead })
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use http::{HeaderValue, Method, header};
    use http_body::Body as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::upstream::pool::tests::{limits, pool, run};

    /// One that answers every request with these bytes, and then sends back what it gets.
    async fn upstream(answer: &'static [u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = format!("http://{}", listener.local_addr().unwrap());
        tokio::task::spawn_local(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::task::spawn_local(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        let Ok(byte) = stream.read_u8().await else { return };
                        head.push(byte);
                    }
                    assert!(String::from_utf8(head).unwrap().contains("upgrade: websocket"));
                    stream.write_all(answer).await.unwrap();
                    let (mut read, mut write) = stream.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        target
    }

    fn request() -> Outgoing {
        let mut request = Outgoing::bare(Method::GET);
        let headers = &mut request.headers;
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        request
    }

    #[test]
    fn a_switched_connection_is_handed_over_and_counts_until_it_is_dropped() {
        run(async {
            let target = upstream(
                b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhello",
            )
            .await;
            let pool = pool(&target, "max_connections = 1\nmax_queue = 0");
            let told = Rc::new(RefCell::new(Vec::new()));
            let exclusive = pool.exclusive().await.unwrap();
            let answer = send(exclusive, request(), &limits(&told)).await.unwrap();
            let UpgradeAnswer::Switched { head, mut io, read_ahead } = answer else { panic!("{answer:?}") };
            assert_eq!(head.headers.get(header::UPGRADE).unwrap(), "websocket");
            assert_eq!(head.headers.get(header::CONNECTION).unwrap(), "upgrade");
            assert_eq!(*told.borrow(), [103]);
            io.write_all(b" world").await.unwrap();
            let mut rest = vec![0; 11 - read_ahead.len()];
            io.read_exact(&mut rest).await.unwrap();
            assert_eq!([&read_ahead[..], &rest].concat(), b"hello world");
            assert_eq!(pool.in_flight(), 1);
            assert!(matches!(pool.exclusive().await.err(), Some(UpstreamError::QueueFull)));
            drop(io);
            assert_eq!(pool.in_flight(), 0);
            assert!(pool.exclusive().await.is_ok());
        });
    }

    #[test]
    fn any_other_answer_is_an_answer_like_any_other() {
        run(async {
            let target =
                upstream(b"HTTP/1.1 403 Forbidden\r\nkeep-alive: timeout=5\r\ncontent-length: 2\r\n\r\nno")
                    .await;
            let pool = pool(&target, "");
            let exclusive = pool.exclusive().await.unwrap();
            let limits = limits(&Rc::default());
            let answer = send(exclusive, request(), &limits).await.unwrap();
            let UpgradeAnswer::Answered(mut answer) = answer else { panic!("{answer:?}") };
            assert_eq!(answer.head.status, 403);
            assert!(!answer.head.headers.contains_key("keep-alive"));
            let frame = poll_fn(|cx| std::pin::Pin::new(&mut answer.body).poll_frame(cx)).await;
            assert_eq!(frame.unwrap().unwrap().into_data().unwrap(), "no");
        });
    }

    #[test]
    fn a_target_of_http2_alone_takes_no_such_request() {
        assert!(!pool("h2c://127.0.0.1:1", "").takes_http1());
        assert!(pool("http://127.0.0.1:1", "").takes_http1());
    }
}
