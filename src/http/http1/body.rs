//! Bodies of requests, read from the connection by whoever wants them.

use std::fmt;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::wire::SharedWire;
use crate::http::chunks::Piece;

/// The body of one request.
pub struct Http1Body {
    wire: SharedWire,
    number: u64,
}

impl fmt::Debug for Http1Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Http1Body")
    }
}

/// Why a body did not come whole.
#[derive(Debug)]
pub enum Http1ReadError {
    /// The connection broke.
    Io(io::Error),
    /// The client closed its side in the middle of it.
    Closed,
    /// What came is no body.
    Malformed(&'static str),
    /// The connection has gone on without it.
    Abandoned,
}

impl fmt::Display for Http1ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Closed => f.write_str("the client closed the connection before the body was whole"),
            Self::Malformed(what) => write!(f, "the body is malformed: {what}"),
            Self::Abandoned => f.write_str("the connection has gone on without the body"),
        }
    }
}

impl std::error::Error for Http1ReadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            Self::Closed | Self::Malformed(_) | Self::Abandoned => None,
        }
    }
}

impl Http1Body {
    /// The body of the request that has just come.
    pub fn of(wire: &SharedWire) -> Self {
        Self { number: wire.borrow().number(), wire: Rc::clone(wire) }
    }

    /// Whether everything of it was read.
    pub fn is_end_stream(&self) -> bool {
        self.wire.borrow().is_body_end(self.number)
    }

    /// How much is left of it, where that is known.
    pub fn size_hint(&self) -> SizeHint {
        self.wire.borrow().body_bytes(self.number).map_or_else(SizeHint::default, SizeHint::with_exact)
    }

    /// Waits for the next piece.
    ///
    /// # Errors
    ///
    /// [`Http1ReadError`]
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Http1ReadError>>> {
        let piece = ready!(self.wire.borrow_mut().poll_body(cx, self.number));
        Poll::Ready(match piece {
            Ok(Piece::Data(data)) => Some(Ok(Frame::data(data))),
            Ok(Piece::End(Some(trailers))) => Some(Ok(Frame::trailers(trailers))),
            Ok(Piece::End(None) | Piece::Incomplete) => None,
            Err(error) => Some(Err(error)),
        })
    }
}
