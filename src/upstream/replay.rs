//! A request's body that can be sent from its beginning once more, as long as it is short.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::base::bounds;
use crate::http::body::{BodyError, RequestBody};

/// A body, and what was read of it so far.
pub(super) struct Replay {
    body: RequestBody,
    /// What was read, and below it what of that was sent.
    kept: VecDeque<Bytes>,
    sent: usize,
    kept_bytes: usize,
    keeping: Keeping,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keeping {
    /// Everything that was read is there.
    All,
    /// Nothing needs to be kept any more: an answer has begun.
    Nothing,
    /// Something that was read is gone, or the body is broken.
    Lost,
}

impl Replay {
    /// A body of which these pieces were read before.
    pub(super) fn new(body: RequestBody, read: Vec<Bytes>) -> Self {
        let kept_bytes = read.iter().map(Bytes::len).sum();
        Self { body, kept: read.into(), sent: 0, kept_bytes, keeping: Keeping::All }
    }

    /// Whether there is nothing to send, now and ever.
    pub(super) fn is_empty(&self) -> bool {
        self.kept.is_empty() && self.body.is_end_stream()
    }

    /// How long the whole body is, in bytes, where that is known and nothing was read of it yet.
    pub(super) fn length(&self) -> Option<u64> {
        if self.kept.is_empty() { self.body.size_hint().exact() } else { None }
    }

    /// The body and what was read of it; `None` when it cannot be sent from its beginning.
    pub(super) fn into_parts(self) -> Option<(RequestBody, Vec<Bytes>)> {
        match self.keeping {
            Keeping::All => Some((self.body, self.kept.into())),
            Keeping::Nothing | Keeping::Lost => None,
        }
    }

    fn forget(&mut self, keeping: Keeping) {
        self.kept.drain(..self.sent.min(self.kept.len()));
        self.sent = 0;
        self.keeping = keeping;
    }

    fn next_kept(&mut self) -> Option<Bytes> {
        match self.keeping {
            Keeping::All => {
                let piece = self.kept.get(self.sent).cloned()?;
                self.sent += 1;
                Some(piece)
            }
            Keeping::Nothing | Keeping::Lost => self.kept.pop_front(),
        }
    }

    fn keep(&mut self, frame: Option<&Result<Frame<Bytes>, BodyError>>) {
        match (frame, self.keeping) {
            (Some(Ok(frame)), Keeping::All) => {
                let Some(data) = frame.data_ref() else { return };
                self.kept_bytes += data.len();
                if self.kept_bytes > bounds::MAX_REPLAY_BYTES {
                    self.forget(Keeping::Lost);
                } else {
                    self.kept.push_back(data.clone());
                    self.sent += 1;
                }
            }
            (Some(Err(_)), _) => self.forget(Keeping::Lost),
            (None, _) | (Some(Ok(_)), Keeping::Nothing | Keeping::Lost) => {}
        }
    }
}

/// A body that the one who sends it and the one who may send it again both hold.
#[derive(Clone)]
pub(super) struct Held(Rc<RefCell<Option<Replay>>>);

impl Held {
    pub(super) fn new(replay: Replay) -> Self {
        Self(Rc::new(RefCell::new(Some(replay))))
    }

    /// Keeps nothing any more: an answer has begun, so that the request is not sent again.
    pub(super) fn settle(&self) {
        if let Some(replay) = self.0.borrow_mut().as_mut() {
            replay.forget(Keeping::Nothing);
        }
    }

    /// Takes the body away from the one who sends it.
    pub(super) fn take(&self) -> Option<Replay> {
        self.0.borrow_mut().take()
    }
}

impl Body for Held {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut held = self.0.borrow_mut();
        // Once the body was taken away, nobody sends it here.
        let Some(replay) = held.as_mut() else { return Poll::Pending };
        if let Some(piece) = replay.next_kept() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        let frame = ready!(Pin::new(&mut replay.body).poll_frame(cx));
        replay.keep(frame.as_ref());
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        let held = self.0.borrow();
        held.as_ref().is_some_and(|replay| {
            let all_sent = match replay.keeping {
                Keeping::All => replay.sent >= replay.kept.len(),
                Keeping::Nothing | Keeping::Lost => replay.kept.is_empty(),
            };
            all_sent && replay.body.is_end_stream()
        })
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
