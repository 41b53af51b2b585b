//! Answers that come before the answer, such as 103 (RFC 8297).
//!
//! The HTTP/1.1 library has a call-back for them, which costs allocations for every request. So the connection looks at
//! the first bytes of what it reads instead, and the library is left to skip them.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Waker;

use http::{HeaderName, HeaderValue, Response, StatusCode};

use crate::http::hop;

/// Informational answers that wait to be told, at most; further ones are dropped.
const MAX_WAITING: usize = 16;

/// Most header fields in one of them.
const MAX_FIELDS: usize = 64;

/// How one begins.
const BEGIN: &[u8] = b"HTTP/1.1 1";

/// Told of every informational answer (RFC 9110 section 15.2) of an upstream, before the final one. Fields that were
/// meant for the upstream's connection are removed.
#[derive(Clone)]
pub struct Interim(Rc<dyn Fn(Response<()>)>);

impl fmt::Debug for Interim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Interim")
    }
}

impl Interim {
    /// Calls this for each.
    pub fn new(told: impl Fn(Response<()>) + 'static) -> Self {
        Self(Rc::new(told))
    }

    pub(super) fn tell(&self, mut answer: Response<()>) {
        // The client's expectation was met here and not sent on; a switch of protocols is no interim answer.
        if matches!(answer.status(), StatusCode::CONTINUE | StatusCode::SWITCHING_PROTOCOLS) {
            return;
        }
        hop::remove_from_response(answer.headers_mut());
        (self.0)(answer);
    }
}

/// The informational answers that a connection of HTTP/1.1 has read and nobody was told of.
#[derive(Debug, Default)]
pub(super) struct Heard {
    any: Cell<bool>,
    answers: RefCell<Vec<Response<()>>>,
    waker: RefCell<Option<Waker>>,
}

impl Heard {
    /// Looks at what was read at once. One that comes in pieces is not told: it is only a hint.
    pub(super) fn listen(&self, mut read: &[u8]) {
        while read.starts_with(BEGIN) {
            let Some((answer, length)) = parse(read) else { return };
            let mut answers = self.answers.borrow_mut();
            if answers.len() < MAX_WAITING {
                answers.push(answer);
                self.any.set(true);
            }
            read = read.get(length..).unwrap_or_default();
        }
        if self.any.get()
            && let Some(waker) = self.waker.take()
        {
            waker.wake();
        }
    }

    /// Tells of them until the final answer is there. What was heard before belongs to no request.
    pub(super) async fn until<F: Future + Unpin>(&self, mut answered: F, interim: &Interim) -> F::Output {
        self.forget();
        poll_fn(|cx| {
            let polled = Pin::new(&mut answered).poll(cx);
            if self.any.get() {
                let answers = std::mem::take(&mut *self.answers.borrow_mut());
                self.any.set(false);
                for answer in answers {
                    interim.tell(answer);
                }
            }
            if polled.is_pending() {
                self.keep_waker(cx.waker());
            }
            polled
        })
        .await
    }

    fn forget(&self) {
        if self.any.replace(false) {
            self.answers.borrow_mut().clear();
        }
    }

    fn keep_waker(&self, waker: &Waker) {
        let mut kept = self.waker.borrow_mut();
        if !kept.as_ref().is_some_and(|kept| kept.will_wake(waker)) {
            *kept = Some(waker.clone());
        }
    }
}

/// The head that the bytes begin with, and how long it is.
fn parse(bytes: &[u8]) -> Option<(Response<()>, usize)> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut head = httparse::Response::new(&mut fields);
    let Ok(httparse::Status::Complete(length)) = head.parse(bytes) else { return None };
    let mut answer = Response::new(());
    *answer.status_mut() = StatusCode::from_u16(head.code?).ok()?;
    for field in head.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        answer.headers_mut().append(name, HeaderValue::from_bytes(field.value).ok()?);
    }
    Some((answer, length))
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use super::*;

    const HINTS: &[u8] =
        b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\nconnection: x-hop\r\nx-hop: 1\r\n\r\n";

    /// What is told of these reads, each of which is polled for, with the final answer last.
    fn told(reads: &[&[u8]]) -> Vec<String> {
        let told = Rc::new(RefCell::new(Vec::new()));
        let kept = Rc::clone(&told);
        let interim = Interim::new(move |answer| {
            let fields = answer.headers().keys().map(HeaderName::as_str).collect::<Vec<_>>().join(",");
            kept.borrow_mut().push(format!("{} {fields}", answer.status().as_u16()));
        });
        let heard = Heard::default();
        heard.listen(b"HTTP/1.1 102 Processing\r\n\r\n");
        let mut left = reads.iter();
        let answered = poll_fn(|cx| match left.next() {
            Some(read) => {
                heard.listen(read);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            None => Poll::Ready(()),
        });
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(heard.until(answered, &interim));
        told.take()
    }

    #[test]
    fn what_comes_before_the_answer_is_told_without_fields_of_the_connection() {
        assert_eq!(told(&[HINTS]), ["103 link"]);
        assert_eq!(told(&[HINTS, HINTS]), ["103 link", "103 link"]);
        let both = [HINTS, b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"].concat();
        assert_eq!(told(&[&both]), ["103 link", "102 "]);
    }

    #[test]
    fn nothing_else_is_told() {
        for other in [
            &b"HTTP/1.1 200 OK\r\n\r\n"[..],
            b"HTTP/1.1 100 Continue\r\n\r\n",
            b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
            b"HTTP/1.1 103 Early",
            b"HTTP/1.1 1x3 \r\n\r\n",
            b"",
        ] {
            assert!(told(&[other]).is_empty(), "{other:?}");
        }
        assert_eq!(told(&[HINTS.repeat(100).as_slice()]).len(), MAX_WAITING);
    }
}
