//! Requests that ask an upstream to change to another protocol (RFC 9110 section 7.8).

use std::fmt;
use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;
use http::response::Parts;
use http::{Request, StatusCode};

use super::UpstreamError;
use super::body::{Hold, UpstreamResponse, accept};
use super::io::UpstreamIo;
use super::pool::{Exclusive, Pool};
use super::send::Limits;
use crate::http::body::RequestBody;
use crate::http::incoming::Incoming;

/// What an upstream says to a request that asks for another protocol.
pub enum UpgradeAnswer {
    /// It has switched. The head is as it came, with the fields that are for this connection only.
    Switched {
        /// The head of its 101.
        head: Parts,
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
            Self::Answered(answer) => f.debug_tuple("Answered").field(&answer.status()).finish(),
        }
    }
}

/// Sends a request on a connection of its own and waits for the head of the answer.
pub(super) async fn send(
    pool: &Rc<Pool>,
    exclusive: Exclusive,
    mut request: Request<RequestBody>,
    limits: &Limits,
) -> Result<UpgradeAnswer, UpstreamError> {
    let Exclusive { http1: (mut sender, mut connection), place, in_flight } = exclusive;
    let listening = limits.interim.as_ref().map(|interim| interim.listen(&mut request));
    let sent = {
        let mut sending = pin!(async {
            let sending = sender.send_request(request);
            match listening {
                Some(listening) => listening.until(sending).await,
                None => sending.await,
            }
        });
        let mut ended = None;
        let sent = poll_fn(|cx| {
            if ended.is_none()
                && let Poll::Ready(end) = connection.poll_without_shutdown(cx)
            {
                ended = Some(end);
            }
            sending.as_mut().poll(cx)
        })
        .await;
        sent.map(|response| (response, ended))
    };
    let (response, ended) = sent.map_err(UpstreamError::Broken)?;
    let (head, body) = response.into_parts();
    if head.status != StatusCode::SWITCHING_PROTOCOLS {
        // A connection that has ended already has nothing left to drive; what came on it is in the body.
        let hold = match ended {
            None => Some(Hold::Http1(pool.adopt((sender, connection), place, in_flight))),
            Some(_) => None,
        };
        let accepted = accept(head, Incoming::Http1(body), hold, Rc::clone(&limits.progress))?;
        return Ok(UpgradeAnswer::Answered(accepted));
    }
    // The HTTP library lets go of the connection at the head of a 101.
    match ended {
        Some(end) => end.map_err(UpstreamError::Broken)?,
        None => poll_fn(|cx| connection.poll_without_shutdown(cx)).await.map_err(UpstreamError::Broken)?,
    }
    let parts = connection.into_parts();
    let io = UpstreamIo::new(parts.io.into_inner(), place, in_flight);
    Ok(UpgradeAnswer::Switched { head, io, read_ahead: parts.read_buf })
}
