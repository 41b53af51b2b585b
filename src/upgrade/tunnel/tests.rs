use std::future::pending;
use std::pin::Pin;
use std::rc::Rc;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadBuf, duplex};
use tokio::sync::oneshot;

use super::*;

/// Long enough for everything that must happen, whatever the machine does besides.
const PATIENCE: Duration = Duration::from_secs(30);

/// A stream that stays on its thread, as those of the gateway do.
struct Local {
    stream: DuplexStream,
    _stays: Rc<()>,
}

impl AsyncRead for Local {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Local {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The far ends of a tunnel, whose connections hold so many bytes.
fn sides(capacity: usize) -> ((DuplexStream, Socket<Local>), (DuplexStream, Socket<Local>)) {
    let side = || {
        let (far, near) = duplex(capacity);
        (far, Socket::new(Local { stream: near, _stays: Rc::new(()) }, Bytes::new()))
    };
    (side(), side())
}

async fn read<const N: usize>(stream: &mut DuplexStream) -> [u8; N] {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await.unwrap();
    bytes
}

async fn rest(stream: &mut DuplexStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    bytes
}

/// The code and the reason of a close frame of a server.
fn server_close(frame: &[u8]) -> (u16, &str) {
    let [CLOSE, length, high, low, reason @ ..] = frame else { panic!("no close frame: {frame:?}") };
    assert_eq!(usize::from(*length), reason.len() + 2);
    (u16::from_be_bytes([*high, *low]), std::str::from_utf8(reason).unwrap())
}

/// The code of a close frame of a client.
fn client_close(frame: &[u8]) -> u16 {
    let [CLOSE, length, a, b, _, _, high, low, reason @ ..] = frame else { panic!("no close: {frame:?}") };
    assert_eq!(usize::from(*length), MASKED as usize + 2 + reason.len());
    u16::from_be_bytes([high ^ a, low ^ b])
}

#[tokio::test]
async fn bytes_go_both_ways_until_both_sides_end() {
    let ((mut client, near), (mut upstream, far)) = sides(64);
    let traffic = Traffic::default();
    let story = async {
        client.write_all(b"\x81\x02hi").await.unwrap();
        assert_eq!(&read::<4>(&mut upstream).await, b"\x81\x02hi");
        upstream.write_all(b"\x81\x03you").await.unwrap();
        assert_eq!(&read::<5>(&mut client).await, b"\x81\x03you");
        drop(client);
        assert_eq!(rest(&mut upstream).await, b"");
        drop(upstream);
    };
    let (ended, ()) = tokio::join!(run(near, far, &traffic, pending()), story);
    assert!(matches!(ended, Ended::Finished), "{ended}");
    assert_eq!((traffic.to_upstream(), traffic.to_client()), (4, 5));
}

#[tokio::test]
async fn bytes_that_were_read_with_the_heads_come_first() {
    let ((mut client, mut near), (mut upstream, mut far)) = sides(64);
    near.read = Bytes::from_static(b"\x81\x01a");
    far.read = Bytes::from_static(b"\x81\x01b");
    let traffic = Traffic::default();
    let story = async {
        client.write_all(b"\x81\x01c").await.unwrap();
        client.shutdown().await.unwrap();
        upstream.write_all(b"\x81\x01d").await.unwrap();
        upstream.shutdown().await.unwrap();
        (rest(&mut client).await, rest(&mut upstream).await)
    };
    let (_, (to_client, to_upstream)) = tokio::join!(run(near, far, &traffic, pending()), story);
    assert_eq!(to_client, b"\x81\x01b\x81\x01d");
    assert_eq!(to_upstream, b"\x81\x01a\x81\x01c");
}

#[tokio::test]
async fn large_messages_pass_both_ways_at_once_through_small_connections() {
    let ((client, near), (upstream, far)) = sides(1000);
    let message: Vec<u8> = [0x82, 127, 0, 0, 0, 0, 0, 0x10, 0, 0]
        .into_iter()
        .chain((0..0x10_0000_u32).map(|number| number.to_le_bytes()[0]))
        .collect();
    let traffic = Traffic::default();
    let both = async |stream: DuplexStream| {
        let (mut from, mut to) = tokio::io::split(stream);
        let send = async {
            to.write_all(&message).await.unwrap();
            to.shutdown().await.unwrap();
        };
        let mut received = Vec::new();
        let receive = from.read_to_end(&mut received);
        let ((), outcome) = tokio::join!(send, receive);
        outcome.unwrap();
        assert!(received == message);
    };
    let (ended, (), ()) = tokio::join!(run(near, far, &traffic, pending()), both(client), both(upstream));
    assert!(matches!(ended, Ended::Finished), "{ended}");
    let size = message.len() as u64;
    assert_eq!((traffic.to_upstream(), traffic.to_client()), (size, size));
}

#[tokio::test]
async fn neither_side_is_read_far_ahead_of_the_other() {
    let ((mut client, near), (_upstream, far)) = sides(100);
    let traffic = Traffic::default();
    let mut tunnel = pin!(run(near, far, &traffic, pending()));
    let mut sent = 0;
    // Nothing may seem blocked only because it has done enough for now.
    tokio::task::unconstrained(poll_fn(|cx| {
        loop {
            assert!(tunnel.as_mut().poll(cx).is_pending());
            match Pin::new(&mut client).poll_write(cx, b"\x81\x00") {
                Poll::Ready(outcome) => sent += outcome.unwrap(),
                Poll::Pending => return Poll::Ready(()),
            }
        }
    }))
    .await;
    assert!(sent <= 16 * 1024 + 100 + 100, "{sent}");
    assert_eq!(traffic.to_upstream(), 100);
}

#[tokio::test]
async fn one_side_may_end_before_the_other() {
    let ((mut client, near), (mut upstream, far)) = sides(64);
    let traffic = Traffic::default();
    let story = async {
        client.write_all(b"\x81\x00").await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(rest(&mut upstream).await, b"\x81\x00");
        upstream.write_all(b"\x81\x04late").await.unwrap();
        assert_eq!(&read::<6>(&mut client).await, b"\x81\x04late");
        upstream.shutdown().await.unwrap();
        assert_eq!(rest(&mut client).await, b"");
    };
    let (ended, ()) = tokio::join!(run(near, far, &traffic, pending()), story);
    assert!(matches!(ended, Ended::Finished), "{ended}");
}

#[tokio::test]
async fn a_side_that_breaks_ends_the_tunnel() {
    let ((mut client, near), (upstream, far)) = sides(64);
    let traffic = Traffic::default();
    let story = async {
        drop(upstream);
        // What is written to it finds nobody.
        client.write_all(b"\x81\x00").await.unwrap();
        assert_eq!(rest(&mut client).await, b"");
    };
    let (ended, ()) = tokio::join!(run(near, far, &traffic, pending()), story);
    assert!(matches!(ended, Ended::Broke(Party::Upstream, _)), "{ended}");
}

#[tokio::test]
async fn what_is_no_frame_ends_the_tunnel() {
    let ((mut client, near), (_upstream, far)) = sides(64);
    let traffic = Traffic::default();
    client.write_all(b"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff").await.unwrap();
    let ended = run(near, far, &traffic, pending()).await;
    assert!(matches!(ended, Ended::Malformed(Party::Client, LengthMalformed)), "{ended}");
}

#[tokio::test]
async fn each_ending_is_told_to_both_sides_with_its_code() {
    for (ending, code, reason) in [
        (Ending::TokenExpired, 1008, "token expired"),
        (Ending::Revoked, 1008, "token revoked"),
        (Ending::GoingAway, 1001, "going away"),
    ] {
        let ((mut client, near), (mut upstream, far)) = sides(64);
        let traffic = Traffic::default();
        let story = async {
            assert_eq!(server_close(&rest(&mut client).await), (code, reason));
            assert_eq!(client_close(&rest(&mut upstream).await), code);
            drop((client, upstream));
        };
        let tunnel = run_and_wait(near, far, &traffic, std::future::ready(ending), PATIENCE);
        let (ended, ()) = tokio::join!(tunnel, story);
        assert!(matches!(ended, Ended::Closed(other) if other == ending), "{ended}");
    }
}

#[tokio::test]
async fn who_is_overdue_is_told_nothing() {
    let ((mut client, near), (mut upstream, far)) = sides(64);
    let traffic = Traffic::default();
    let ended = run(near, far, &traffic, std::future::ready(Ending::Overdue)).await;
    assert!(matches!(ended, Ended::Closed(Ending::Overdue)), "{ended}");
    assert_eq!((rest(&mut client).await, rest(&mut upstream).await), (vec![], vec![]));
}

#[tokio::test]
async fn the_close_frame_comes_after_the_frame_under_way_and_nothing_comes_after_it() {
    let ((mut client, near), (mut upstream, far)) = sides(64);
    let traffic = Traffic::default();
    let (end, ending) = oneshot::channel();
    let story = async {
        upstream.write_all(b"\x82\x05ab").await.unwrap();
        assert_eq!(&read::<4>(&mut client).await, b"\x82\x05ab");
        client.write_all(b"\x82\x84keyz12").await.unwrap();
        assert_eq!(&read::<8>(&mut upstream).await, b"\x82\x84keyz12");
        end.send(Ending::Revoked).unwrap();
        upstream.write_all(b"cde\x81\x06unseen").await.unwrap();
        client.write_all(b"34\x81\x86keyzunseen").await.unwrap();
        let to_client = rest(&mut client).await;
        assert_eq!(to_client.split_at(3).0, b"cde");
        assert_eq!(server_close(to_client.split_at(3).1).0, 1008);
        let to_upstream = rest(&mut upstream).await;
        assert_eq!(to_upstream.split_at(2).0, b"34");
        assert_eq!(client_close(to_upstream.split_at(2).1), 1008);
        drop((client, upstream));
    };
    let ending = async { ending.await.unwrap() };
    let (ended, ()) = tokio::join!(run_and_wait(near, far, &traffic, ending, PATIENCE), story);
    assert!(matches!(ended, Ended::Closed(Ending::Revoked)), "{ended}");
}

#[tokio::test]
async fn a_side_that_has_closed_is_not_closed_again() {
    let ((mut client, near), (mut upstream, far)) = sides(64);
    let traffic = Traffic::default();
    let (end, ending) = oneshot::channel();
    let story = async {
        upstream.write_all(b"\x88\x02\x03\xe8").await.unwrap();
        assert_eq!(&read::<4>(&mut client).await, b"\x88\x02\x03\xe8");
        end.send(Ending::GoingAway).unwrap();
        assert_eq!(rest(&mut client).await, b"");
        assert_eq!(client_close(&rest(&mut upstream).await), 1001);
        drop((client, upstream));
    };
    let ending = async { ending.await.unwrap() };
    tokio::join!(run_and_wait(near, far, &traffic, ending, PATIENCE), story);
}

#[tokio::test]
async fn a_frame_that_never_ends_does_not_hold_the_tunnel() {
    let ((mut client, near), (mut upstream, far)) = sides(64);
    let traffic = Traffic::default();
    upstream.write_all(b"\x82\x05ab").await.unwrap();
    let (end, ending) = oneshot::channel();
    let ending = async { ending.await.unwrap() };
    let story = async {
        assert_eq!(&read::<4>(&mut client).await, b"\x82\x05ab");
        end.send(Ending::TokenExpired).unwrap();
        // The connection is gone, without a frame in the middle of another.
        assert_eq!(rest(&mut client).await, b"");
    };
    let wait = Duration::from_millis(20);
    let (ended, ()) = tokio::join!(run_and_wait(near, far, &traffic, ending, wait), story);
    assert!(matches!(ended, Ended::Closed(Ending::TokenExpired)), "{ended}");
}

#[tokio::test]
async fn a_client_that_does_not_read_does_not_hold_the_tunnel() {
    let ((client, near), (mut upstream, far)) = sides(8);
    let traffic = Traffic::default();
    let story = async {
        let flood = b"\x82\x06floods".repeat(100);
        // It breaks off where the tunnel ends.
        let _outcome = upstream.write_all(&flood).await;
    };
    let ending = async {
        poll_fn(|cx| {
            if traffic.to_client() == 8 {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
        Ending::Revoked
    };
    let wait = Duration::from_millis(20);
    let (ended, ()) = tokio::join!(run_and_wait(near, far, &traffic, ending, wait), story);
    assert!(matches!(ended, Ended::Closed(Ending::Revoked)), "{ended}");
    drop(client);
}
