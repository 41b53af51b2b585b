//! Answers that go on: a WebSocket, server-sent events, gRPC. Such a stream ends with the token that opened it.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

use http::header;

use crate::authn::{Authenticator, Standing, TokenLife};
use crate::base::field_list::FieldList;
use crate::http::grpc;
use crate::net::deadline::Progress;
use crate::telemetry::metrics::StreamKind;
use crate::upgrade::tunnel::Ending;

/// What kind of stream an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An ordinary answer, which may be finished however long it takes.
    Answer,
    /// Server-sent events (WHATWG HTML, section 9.2).
    Events,
    /// gRPC.
    Grpc,
}

impl Kind {
    /// As what it is counted while it is open; an ordinary answer is none.
    pub fn counted(self) -> Option<StreamKind> {
        match self {
            Self::Answer => None,
            Self::Events => Some(StreamKind::Events),
            Self::Grpc => Some(StreamKind::Grpc),
        }
    }

    /// What an answer with these fields is.
    pub fn of(headers: &FieldList) -> Self {
        const EVENTS: &[u8] = b"text/event-stream";
        let Some(content_type) = headers.get(header::CONTENT_TYPE) else { return Self::Answer };
        let begins = content_type.as_bytes().get(..EVENTS.len());
        if begins.is_some_and(|begin| begin.eq_ignore_ascii_case(EVENTS)) {
            Self::Events
        } else if grpc::is_grpc(content_type) {
            Self::Grpc
        } else {
            Self::Answer
        }
    }
}

/// A stream that is open.
#[derive(Debug)]
pub struct OpenStream {
    token: RefCell<TokenLife>,
    progress: Rc<Progress>,
    ended: Cell<Option<Ending>>,
}

impl OpenStream {
    /// Why it has to end, when it has to.
    pub fn ended(&self) -> Option<Ending> {
        self.ended.get()
    }
}

/// The streams of one thread.
#[derive(Debug, Default)]
pub struct Streams {
    open: RefCell<Vec<Weak<OpenStream>>>,
}

impl Streams {
    /// Opens a stream, of which the token is looked at until it is dropped. Whoever waits for its progress is woken when
    /// it has to end.
    pub fn open(&self, token: TokenLife, progress: &Rc<Progress>) -> Rc<OpenStream> {
        let stream =
            OpenStream { token: RefCell::new(token), progress: Rc::clone(progress), ended: Cell::new(None) };
        let stream = Rc::new(stream);
        self.open.borrow_mut().push(Rc::downgrade(&stream));
        stream
    }

    /// Looks at every stream once. Each may outlive its token by `grace_ms`.
    pub fn check(&self, authenticator: &Authenticator, grace_ms: i64) {
        self.open.borrow_mut().retain(|weak| {
            let Some(stream) = weak.upgrade() else { return false };
            let ending = match authenticator.standing(&mut stream.token.borrow_mut(), grace_ms) {
                Standing::Good => return true,
                Standing::Expired => Ending::TokenExpired,
                Standing::Revoked => Ending::Revoked,
            };
            stream.ended.set(Some(ending));
            stream.progress.wake();
            // It is told once, which is enough.
            false
        });
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn events_and_grpc_are_streams() {
        let kind = |value: &'static str| {
            Kind::of(&FieldList::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(value))]))
        };
        assert_eq!(kind("text/event-stream"), Kind::Events);
        assert_eq!(kind("Text/Event-Stream; charset=utf-8"), Kind::Events);
        assert_eq!(kind("application/grpc+proto"), Kind::Grpc);
        assert_eq!(kind("application/json"), Kind::Answer);
        assert_eq!(Kind::of(&FieldList::new()), Kind::Answer);
    }
}
