//! Answers read from bytes in memory, as they are read from a target's connection.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use http::{HeaderMap, HeaderValue, Method, StatusCode};
use tokio::io::{AsyncWrite as _, DuplexStream};

use super::{Connection, Framing, Head, Http1Error, Piece, Sending};
use crate::base::field_list::FieldList;
use crate::upstream::io::Wire;
use crate::upstream::outgoing::Outgoing;
use crate::upstream::shared::{Place, SharedTarget};
use crate::upstream::{Interim, Memory};

/// Room for the request, which nobody reads, in bytes.
const REQUEST_BYTES: usize = 1024;

/// What was read of an answer.
#[derive(Debug, Default)]
pub struct Trial {
    /// The informational answers that are passed on.
    pub informational: Vec<StatusCode>,
    /// Status and fields of the answer, if its head is passed on.
    pub head: Option<(StatusCode, FieldList)>,
    /// The body, as far as it is passed on.
    pub body: Vec<u8>,
    /// The trailers.
    pub trailers: Option<HeaderMap>,
    /// How it ended.
    pub end: TrialEnd,
}

/// How the reading of an answer ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrialEnd {
    /// More is waited for.
    #[default]
    Waiting,
    /// It is no answer, must not be passed on, or was cut.
    Broken,
    /// It came whole.
    Whole {
        /// The connection would carry another request.
        reusable: bool,
    },
}

/// Reads the answer to a request of this method that comes in these pieces. Behind them the target says nothing more, or
/// closes the connection.
pub fn read_answer<'a>(method: Method, pieces: impl IntoIterator<Item = &'a [u8]>, closes: bool) -> Trial {
    let mut trial = Trial::default();
    trial.end = match trial.read(method, pieces, closes) {
        Ok(Some(reusable)) => TrialEnd::Whole { reusable },
        Ok(None) => TrialEnd::Waiting,
        Err(()) => TrialEnd::Broken,
    };
    trial
}

impl Trial {
    /// Whether the connection would carry another request, if the answer came whole.
    fn read<'a>(
        &mut self,
        method: Method,
        pieces: impl IntoIterator<Item = &'a [u8]>,
        closes: bool,
    ) -> Result<Option<bool>, ()> {
        let pieces: Vec<&[u8]> = pieces.into_iter().collect();
        let (mut connection, far) = connection(pieces.iter().map(|piece| piece.len()).sum())?;
        let mut far = Some(far);
        let mut request = Outgoing::bare(method);
        let told = Rc::new(RefCell::new(Vec::new()));
        let notes = Rc::clone(&told);
        let interim = Interim::new(move |answer| notes.borrow_mut().push(answer.status));
        let mut sending = Sending::begin(&mut connection, &request);
        let mut reading = None;
        let mut pieces = pieces.into_iter();
        loop {
            let cx = &mut Context::from_waker(Waker::noop());
            let outcome = if let Some((framing, _)) = &mut reading {
                self.poll_body(cx, &mut connection, framing)
            } else {
                let head = sending.poll(cx, &mut connection, &mut request, Some(&interim));
                self.informational.append(&mut told.borrow_mut());
                if let Poll::Ready(head) = head {
                    let head = head.map_err(drop)?.unless_switching().map_err(drop)?;
                    let Head { response, framing, persistent } = head;
                    self.head = Some((response.status, response.headers));
                    reading = Some((framing, persistent));
                    continue;
                }
                Poll::Pending
            };
            match (outcome, &reading) {
                (Poll::Ready(Err(_)), _) => return Err(()),
                (Poll::Ready(Ok(())), Some((Framing::Nothing, persistent))) => {
                    let rest = pieces.try_for_each(|piece| say(far.as_mut(), piece));
                    drop(far.take_if(|_| closes));
                    return rest.map(|()| Some(*persistent && connection.is_fresh())).map_err(drop);
                }
                (Poll::Ready(Ok(())), _) => {}
                (Poll::Pending, _) => match pieces.next() {
                    Some(piece) => say(far.as_mut(), piece).map_err(drop)?,
                    None if closes && far.take().is_some() => {}
                    None => return Ok(None),
                },
            }
        }
    }

    fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        connection: &mut Connection,
        framing: &mut Framing,
    ) -> Poll<Result<(), Http1Error>> {
        connection.poll_body(cx, framing).map_ok(|piece| match piece {
            Piece::Incomplete => {}
            Piece::Data(data) => self.body.extend_from_slice(&data),
            Piece::End(trailers) => self.trailers = trailers,
        })
    }
}

/// A connection on which so many bytes can come, and the target's end of it.
fn connection(bytes: usize) -> Result<(Connection, DuplexStream), ()> {
    let (near, far) = tokio::io::duplex(bytes.max(REQUEST_BYTES));
    let target = SharedTarget::in_memory(HeaderValue::from_static("localhost"), &Memory::new().0);
    let place = Place::take(&target, 1, &Rc::default()).ok_or(())?;
    Ok((Connection::new(Wire::Memory(near), place), far))
}

/// The target says something. There is room for all of it.
fn say(target: Option<&mut DuplexStream>, bytes: &[u8]) -> io::Result<()> {
    let Some(target) = target else { return Ok(()) };
    match Pin::new(target).poll_write(&mut Context::from_waker(Waker::noop()), bytes) {
        Poll::Ready(Ok(said)) if said == bytes.len() => Ok(()),
        Poll::Ready(Err(error)) => Err(error),
        Poll::Ready(Ok(_)) | Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}
