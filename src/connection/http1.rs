//! A connection that speaks HTTP/1.1.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;

use http::{StatusCode, Version};

use super::tunnel::{Opened, Slot};
use super::{ClientConnection, Source, is_over};
use crate::config::Limits;
use crate::http::http1::{
    Answered, Arrival, Asked, HeadLimits, Http1Body, Interim as Waiting, SharedWire, Unread, Wire, answer,
    switch,
};
use crate::http::incoming::Incoming;
use crate::last_words;
use crate::net::deadline::{Phase, Progress};
use crate::net::transport::Transport;
use crate::pipeline::{self, Begun};
use crate::upgrade::tunnel::Socket;
use crate::upstream::Interim;
use crate::worker::Worker;

/// Bytes that are read and thrown away of a client that goes on sending after its last answer, at most. Without reading
/// them the kernel would take that answer back (RFC 9112 section 9.6).
const MAX_DISCARDED_BYTES: usize = 512 * 1024;

/// A client whose requests are served one after the other.
struct Client {
    worker: Rc<Worker>,
    connection: Rc<ClientConnection>,
    progress: Rc<Progress>,
    wire: SharedWire,
    interim: Interim,
}

/// What comes after an exchange.
enum Next {
    /// Another request.
    Request,
    /// Nothing: what the client still sends is not looked at.
    End,
    /// Nothing: the connection broke.
    Broken,
    /// HTTP has ended on the connection, and a WebSocket begins.
    Tunnel(Box<Opened>),
}

/// Serves the requests of a connection, one after the other.
pub(super) async fn serve(
    worker: Rc<Worker>,
    transport: Transport,
    connection: Rc<ClientConnection>,
    progress: Rc<Progress>,
) {
    let waiting = Waiting::default();
    let wire = Wire::new(transport, Rc::clone(&progress), worker.scratch(), Rc::clone(&waiting));
    let wire = SharedWire::new(wire.into());
    let interim = interim_answers(waiting);
    let client = Client { worker, connection, progress, wire, interim };
    let opened = {
        let mut served = pin!(client.serve());
        poll_fn(|cx| {
            client.progress.keep_waker(cx.waker());
            if is_over(&client.progress) {
                return Poll::Ready(None);
            }
            served.as_mut().poll(cx)
        })
        .await
    };
    if let Some(opened) = opened {
        Box::pin(client.carry(*opened)).await;
    }
}

impl Client {
    /// Serves requests until there are no more. A WebSocket is given back when one was opened.
    async fn serve(&self) -> Option<Box<Opened>> {
        loop {
            let (head, asked, has_body) = match self.arrival().await {
                Arrival::Request(head, asked, has_body) => (head, asked, has_body),
                Arrival::Unread(unread) => {
                    self.turn_away(unread);
                    Box::pin(self.leave()).await;
                    return None;
                }
                Arrival::Overdue => {
                    Box::pin(self.leave()).await;
                    return None;
                }
                Arrival::Ended => return None,
            };
            let body = if has_body { Incoming::Http1(Http1Body::of(&self.wire)) } else { Incoming::Empty };
            let begun = pipeline::begin(&self.worker, &self.connection, &self.progress, head, body);
            match self.exchange_on_heap(begun, asked).await {
                Next::Request => {}
                Next::End => {
                    Box::pin(self.leave()).await;
                    return None;
                }
                Next::Broken => return None,
                Next::Tunnel(opened) => return Some(opened),
            }
        }
    }

    /// Waits for a request. When the gateway leaves its clients, none is waited for: nothing is in flight here.
    async fn arrival(&self) -> Arrival {
        poll_fn(|cx| {
            if self.connection.is_over_when_idle(&self.worker) {
                return Poll::Ready(Arrival::Overdue);
            }
            let limits = &self.worker.generation().server.limits;
            self.wire.borrow_mut().poll_request(cx, head_limits(limits))
        })
        .await
    }

    /// Serves one request on the heap, and only as long as there is one. The room is there before the future, so that the compiler
    /// makes it in its place: it would be copied there whole if it had to be dropped where there is no room.
    fn exchange_on_heap(&self, begun: Begun, asked: Asked) -> Pin<Box<impl Future<Output = Next>>> {
        let room = Box::new_uninit();
        Box::into_pin(Box::write(room, self.exchange(begun, asked)))
    }

    /// Serves one request from its head to the end of its answer.
    async fn exchange(&self, begun: Begun, asked: Asked) -> Next {
        let tunnel = Slot::default();
        let source = Source {
            worker: &self.worker,
            connection: &self.connection,
            progress: &self.progress,
            // HTTP/1.0 has no interim answers (RFC 9110 section 15.2).
            interim: (asked.version == Version::HTTP_11).then_some(&self.interim),
            tunnel: &tunnel,
        };
        let response = {
            let mut serving = pin!(begun.serve(source));
            poll_fn(|cx| {
                let served = serving.as_mut().poll(cx);
                if served.is_pending()
                    && let Poll::Ready(Err(error)) = self.wire.borrow_mut().poll_interim(cx)
                {
                    tracing::debug!(%error, "a client did not take an interim answer");
                }
                served
            })
            .await
        };
        let date = || self.worker.date();
        if let Some(mut opened) = tunnel.take() {
            opened.answered(StatusCode::SWITCHING_PROTOCOLS);
            return match switch(&self.wire, &response.head, date).await {
                Ok(()) => Next::Tunnel(opened),
                Err(error) => broken(&error),
            };
        }
        let is_last = self.connection.is_ending(&self.worker);
        match answer(&self.wire, asked, (response.head, response.body), is_last, date).await {
            Ok(Answered::Persistent) => Next::Request,
            Ok(Answered::Last) => Next::End,
            Err(error) => broken(&error),
        }
    }

    /// Answers what was no request.
    fn turn_away(&self, unread: Unread) {
        let answer = last_words::answer(&self.worker, &self.connection, unread);
        self.wire.borrow_mut().turn_away(&answer);
    }

    /// Ends the connection so that the client gets its last answer, whatever it still sends.
    async fn leave(&self) {
        let mut left = MAX_DISCARDED_BYTES;
        // What comes now has as much time as a head.
        self.progress.enter(Phase::Head);
        let shut = poll_fn(|cx| self.unless_overdue(self.wire.borrow_mut().poll_shutdown(cx))).await;
        if shut.is_err() || !self.wire.borrow().is_body_left() {
            return;
        }
        while let Ok(bytes @ 1..) =
            poll_fn(|cx| self.unless_overdue(self.wire.borrow_mut().poll_discard(cx))).await
            && bytes < left
        {
            left -= bytes;
        }
    }

    fn unless_overdue<T>(&self, polled: Poll<std::io::Result<T>>) -> Poll<std::io::Result<T>> {
        if polled.is_pending() && self.progress.overdue().is_some() {
            return Poll::Ready(Err(std::io::ErrorKind::TimedOut.into()));
        }
        polled
    }

    /// Carries a WebSocket.
    async fn carry(self, opened: Opened) {
        let Self { worker, progress, wire, .. } = self;
        // No request is left that could share it.
        let Some(wire) = Rc::into_inner(wire) else { return };
        let (transport, read_ahead) = wire.into_inner().into_parts();
        opened.run(Socket::new(transport, read_ahead), &worker, &progress).await;
    }
}

fn broken(error: &dyn std::error::Error) -> Next {
    tracing::debug!(%error, "a client connection ended within an answer");
    Next::Broken
}

fn head_limits(limits: &Limits) -> HeadLimits {
    HeadLimits { max_bytes: limits.max_header_bytes, max_fields: limits.max_headers }
}

/// Writes interim answers where the connection takes them from at the end of the very poll in which they are told.
fn interim_answers(waiting: Waiting) -> Interim {
    Interim::new(move |answer| {
        let mut waiting = waiting.borrow_mut();
        waiting.extend_from_slice(b"HTTP/1.1 ");
        waiting.extend_from_slice(answer.status.to_string().as_bytes());
        for (name, value) in answer.headers.iter() {
            for piece in [b"\r\n", name.as_str().as_bytes(), b": ", value.as_bytes()] {
                waiting.extend_from_slice(piece);
            }
        }
        waiting.extend_from_slice(b"\r\n\r\n");
    })
}
