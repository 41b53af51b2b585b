//! Writing the body of an answer.

use std::cell::RefCell;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use http_body::Frame;

use super::answer::{AnswerBroken, Framing, poll_flush};
use super::outbox::Room;
use super::wire::Wire;
use crate::base::bounds::MIN_SPLICED_BYTES;
use crate::http::lines::write_field;
use crate::http::spliced::{Spliced, SplicedBody};
use crate::net::splice::Pipe;

/// Bytes of a body that pass from socket to socket before others on the thread have their turn. Giving it costs nothing that
/// can be measured, as nothing has to stay in the processor's cache.
const TURN_BYTES: usize = 1024 * 1024;

/// A body that is being written.
pub(super) struct Sending<B> {
    /// Dropped once it was written.
    body: Option<B>,
    pub(super) framing: Framing,
    /// The trailers that were announced.
    pub(super) trailers: Vec<HeaderName>,
    /// How many bytes there may still be, at most.
    left: u64,
    /// Nothing can be added to what waits before that was written.
    is_full: bool,
    /// It is so large that it is not copied where that is not needed.
    is_spliced: bool,
    /// What is written once nothing else waits.
    pipe: Option<Pipe>,
}

/// How a body ended.
pub(super) enum Sent {
    Whole,
    /// It broke off where it comes from, or is shorter than was said.
    Cut,
}

/// What comes next of a body.
enum Next<E> {
    Frame(Frame<Bytes>),
    Piped(Pipe, usize),
    End,
    Broken(E),
}

impl<B: SplicedBody> Sending<B> {
    pub(super) fn new(body: B, framing: Framing) -> Self {
        Self {
            left: framing.bytes(),
            body: Some(body),
            framing,
            trailers: Vec::new(),
            is_full: false,
            is_spliced: matches!(framing, Framing::Length(bytes) if bytes >= MIN_SPLICED_BYTES as u64),
            pipe: None,
        }
    }

    /// Lets go of the body, when it was written.
    pub(super) fn end(&mut self) {
        self.body = None;
    }

    /// Puts the body behind its head, and writes what there is no more room for.
    pub(super) fn poll(
        &mut self,
        wire: &RefCell<Wire>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Sent, AnswerBroken>> {
        let is_chunked = self.framing == Framing::Chunked;
        let mut trailers = None;
        let mut piped_bytes = 0;
        loop {
            if self.is_full {
                ready!(self.poll_written(wire, cx))?;
                if piped_bytes >= TURN_BYTES {
                    // It goes on when everybody who is ready has had a turn.
                    ready!(pin!(tokio::task::yield_now()).poll(cx));
                }
            }
            let Poll::Ready(next) = self.poll_next(wire, cx) else {
                // What is there goes out while there is nothing more.
                ready!(poll_flush(wire, cx))?;
                return Poll::Pending;
            };
            let data = match next {
                Next::End => break,
                Next::Broken(_) => return Poll::Ready(Ok(Sent::Cut)),
                Next::Piped(pipe, bytes) => {
                    self.take(bytes)?;
                    piped_bytes += bytes;
                    self.pipe = Some(pipe);
                    self.is_full = true;
                    continue;
                }
                Next::Frame(frame) => match frame.into_data() {
                    Ok(data) => data,
                    Err(frame) => {
                        trailers = frame.into_trailers().ok();
                        break;
                    }
                },
            };
            // An empty chunk would be the last one.
            if data.is_empty() {
                continue;
            }
            self.take(data.len())?;
            self.is_full = wire.borrow_mut().outbox().add(data, is_chunked) == Room::None;
        }
        if is_chunked {
            wire.borrow_mut().outbox().add_small(&last_chunk(trailers.as_ref(), &self.trailers));
        } else if matches!(self.framing, Framing::Length(_)) && self.left > 0 {
            return Poll::Ready(Ok(Sent::Cut));
        }
        Poll::Ready(Ok(Sent::Whole))
    }

    /// Takes so many bytes of those that there may be.
    fn take(&mut self, bytes: usize) -> Result<(), AnswerBroken> {
        self.left = self.left.checked_sub(bytes as u64).ok_or(AnswerBroken::Body)?;
        Ok(())
    }

    /// Writes everything that waits.
    fn poll_written(&mut self, wire: &RefCell<Wire>, cx: &mut Context<'_>) -> Poll<Result<(), AnswerBroken>> {
        ready!(poll_flush(wire, cx))?;
        if let Some(pipe) = &mut self.pipe {
            ready!(wire.borrow().poll_drain(cx, pipe)).map_err(AnswerBroken::Io)?;
            self.pipe = None;
        }
        self.is_full = false;
        Poll::Ready(Ok(()))
    }

    /// Waits for what comes next of the body, in a pipe where that can be.
    fn poll_next(&mut self, wire: &RefCell<Wire>, cx: &mut Context<'_>) -> Poll<Next<B::Error>> {
        let Some(body) = self.body.as_mut().filter(|body| !body.is_end_stream()) else {
            return Poll::Ready(Next::End);
        };
        if self.is_spliced {
            // The wire is free again when the body is asked, whatever that does with it.
            let pipe = wire.borrow().pipe();
            if let Some(mut pipe) = pipe {
                if let Spliced::Bytes(bytes) = ready!(body.poll_splice(cx, &mut pipe)) {
                    return Poll::Ready(Next::Piped(pipe, bytes));
                }
            } else {
                self.is_spliced = false;
            }
        }
        Poll::Ready(match ready!(Pin::new(body).poll_frame(cx)) {
            None => Next::End,
            Some(Ok(frame)) => Next::Frame(frame),
            Some(Err(error)) => Next::Broken(error),
        })
    }
}

fn last_chunk(trailers: Option<&HeaderMap>, announced: &[HeaderName]) -> Vec<u8> {
    let mut last = b"0\r\n".to_vec();
    for (name, value) in trailers.into_iter().flatten().filter(|(name, _)| announced.contains(name)) {
        write_field(&mut last, name.as_str().as_bytes(), value.as_bytes());
    }
    last.extend_from_slice(b"\r\n");
    last
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::poll_fn;
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};
    use std::rc::Rc;
    use std::thread;

    use http::{HeaderValue, StatusCode};
    use http_body::{Body, SizeHint};

    use super::super::answer::answer;
    use super::super::head::{Asked, HeadLimits};
    use super::super::wire::{Arrival, SharedWire};
    use super::super::{Interim, Scratch};
    use super::*;
    use crate::base::bounds::PIPE_BYTES;
    use crate::base::field_list::FieldList;
    use crate::http::message::ResponseHead;
    use crate::net::deadline::{Progress, TickClock};
    use crate::net::transport::Transport;

    const LIMITS: HeadLimits = HeadLimits { max_bytes: 8192, max_fields: 100 };

    fn run<F: Future>(test: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
    }

    /// Two ends of a connection: one that is waited for, and one that waits.
    fn pair() -> (tokio::net::TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let near = listener.accept().unwrap().0;
        near.set_nonblocking(true).unwrap();
        (tokio::net::TcpStream::from_std(near).unwrap(), far)
    }

    /// A connection on which a request has come.
    async fn asked(transport: Transport) -> (SharedWire, Asked) {
        let progress = Rc::new(Progress::new(Rc::<TickClock>::default()));
        let wire = Wire::new(transport, progress, Scratch::default(), Interim::default());
        let wire = SharedWire::new(wire.into());
        match poll_fn(|cx| wire.borrow_mut().poll_request(cx, LIMITS)).await {
            Arrival::Request(_, asked, _) => (wire, asked),
            other @ (Arrival::Unread(_) | Arrival::Ended | Arrival::Overdue) => panic!("{other:?}"),
        }
    }

    /// Writes an answer and ends the connection.
    async fn answered(transport: Transport, body: impl SplicedBody) {
        let (wire, asked) = asked(transport).await;
        let head = ResponseHead { status: StatusCode::OK, headers: FieldList::new() };
        answer(&wire, asked, (head, body), true, || HeaderValue::from_static("today")).await.unwrap();
    }

    /// How many bytes a client gets that asks.
    fn received(mut client: impl std::io::Read + std::io::Write) -> usize {
        client.write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").unwrap();
        let mut whole = Vec::new();
        client.read_to_end(&mut whole).unwrap()
    }

    /// A body of which nothing comes from a socket, and how often it is asked for that.
    struct Made {
        left: Vec<Bytes>,
        bytes: Option<usize>,
        asked: Rc<Cell<usize>>,
    }

    impl Body for Made {
        type Data = Bytes;
        type Error = &'static str;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
            Poll::Ready(self.left.pop().map(|data| Ok(Frame::data(data))))
        }

        fn size_hint(&self) -> SizeHint {
            self.bytes.map_or_else(SizeHint::default, |bytes| SizeHint::with_exact(bytes as u64))
        }
    }

    impl SplicedBody for Made {
        fn poll_splice(&mut self, _: &mut Context<'_>, _: &mut Pipe) -> Poll<Spliced> {
            self.asked.set(self.asked.get() + 1);
            Poll::Ready(Spliced::Frame)
        }
    }

    #[test]
    fn only_large_bodies_of_known_length_for_sockets_in_the_clear_are_not_copied() {
        const LARGE: usize = MIN_SPLICED_BYTES;
        for (bytes, is_length_known, expected) in [(LARGE, true, 3), (LARGE - 1, true, 0), (LARGE, false, 0)]
        {
            let count = Rc::new(Cell::new(0));
            let left = vec![Bytes::from(vec![b'x'; bytes / 2]), Bytes::from(vec![b'x'; bytes - bytes / 2])];
            let body = Made { left, bytes: is_length_known.then_some(bytes), asked: Rc::clone(&count) };
            run(async {
                let (near, far) = pair();
                let client = thread::spawn(move || received(far));
                answered(Transport::tcp(near), body).await;
                assert!(client.join().unwrap() > bytes);
            });
            assert_eq!(count.get(), expected, "{bytes} {is_length_known}");
        }
    }

    #[test]
    fn a_body_for_a_connection_that_is_no_socket_is_copied() {
        let asked = Rc::new(Cell::new(0));
        let left = vec![Bytes::from(vec![b'x'; MIN_SPLICED_BYTES])];
        let body = Made { left, bytes: Some(MIN_SPLICED_BYTES), asked: Rc::clone(&asked) };
        run(async {
            use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
            let (near, mut far) = tokio::io::duplex(2 * MIN_SPLICED_BYTES);
            far.write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await.unwrap();
            answered(Transport::memory(near), body).await;
            assert!(far.read_to_end(&mut Vec::new()).await.unwrap() > MIN_SPLICED_BYTES);
        });
        assert_eq!(asked.get(), 0);
    }

    /// A body that comes from a socket.
    struct Downloaded {
        from: tokio::net::TcpStream,
        left: u64,
        /// Bytes of it that were taken in the turn at hand.
        in_turn: Rc<Cell<usize>>,
    }

    impl Body for Downloaded {
        type Data = Bytes;
        type Error = &'static str;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
            panic!("all of it can be spliced")
        }

        fn is_end_stream(&self) -> bool {
            self.left == 0
        }

        fn size_hint(&self) -> SizeHint {
            SizeHint::with_exact(self.left)
        }
    }

    impl SplicedBody for Downloaded {
        fn poll_splice(&mut self, cx: &mut Context<'_>, pipe: &mut Pipe) -> Poll<Spliced> {
            let bytes = ready!(pipe.poll_fill(cx, &self.from, self.left)).unwrap();
            self.left -= bytes as u64;
            self.in_turn.set(self.in_turn.get() + bytes);
            Poll::Ready(Spliced::Bytes(bytes))
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_body_that_keeps_coming_leaves_others_their_turn() {
        const WHOLE: usize = 64 * TURN_BYTES;
        let (in_turn, mut turns) = (Rc::new(Cell::new(0)), Vec::new());
        run(async {
            let (from, mut upstream) = pair();
            let (near, client) = pair();
            let sending = thread::spawn(move || upstream.write_all(&vec![b'x'; WHOLE]).unwrap());
            let receiving = thread::spawn(move || received(client));
            let body = Downloaded { from, left: WHOLE as u64, in_turn: Rc::clone(&in_turn) };
            let mut answering = pin!(answered(Transport::tcp(near), body));
            poll_fn(|cx| {
                in_turn.set(0);
                let polled = answering.as_mut().poll(cx);
                turns.push(in_turn.get());
                polled
            })
            .await;
            sending.join().unwrap();
            assert!(receiving.join().unwrap() > WHOLE);
        });
        assert_eq!(turns.iter().sum::<usize>(), WHOLE);
        let longest = turns.iter().max().unwrap();
        assert!(*longest < TURN_BYTES + PIPE_BYTES, "{longest}");
    }
}
