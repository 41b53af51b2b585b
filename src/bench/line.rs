//! What one lane of load sends its requests on: a connection of its own, or a stream of a connection with others.

use std::cell::Cell;
use std::rc::Rc;

use http::HeaderValue;
use tokio::sync::Mutex;

use super::dial::Dialer;
use super::exchange::{Answer, Http1, Http2, Keep, Outgoing};
use super::fault::{Failed, Fault};
use super::stream::Received;

/// What the lines of a thread have in common.
#[derive(Debug)]
pub struct Lines {
    /// Where they lead to.
    pub dialer: Dialer,
    /// What was received on all of them.
    pub received: Received,
    /// Connections that were made.
    pub opened: Cell<u64>,
}

/// A connection that is made anew when it was closed.
#[derive(Debug)]
pub enum Line {
    /// HTTP/1.1.
    Own(Option<Http1>),
    /// HTTP/2.
    Shared(Rc<Shared>),
}

/// A connection of HTTP/2 of several lanes.
#[derive(Debug, Default)]
pub struct Shared(Mutex<Option<(u64, Http2)>>);

impl Line {
    /// Sends a request and reads its answer to the end, on a new connection where there is none.
    ///
    /// # Errors
    ///
    /// Why there is no whole answer.
    pub async fn exchange(
        &mut self,
        lines: &Lines,
        outgoing: &Outgoing,
        authorization: Option<HeaderValue>,
    ) -> Result<Answer, Failed> {
        match self {
            Self::Own(own) => exchange_own(own, lines, outgoing, authorization).await,
            Self::Shared(shared) => shared.exchange(lines, outgoing, authorization).await,
        }
    }
}

/// When this is given up in the middle, the connection is gone, which nobody can use again.
async fn exchange_own(
    own: &mut Option<Http1>,
    lines: &Lines,
    outgoing: &Outgoing,
    authorization: Option<HeaderValue>,
) -> Result<Answer, Failed> {
    if let Some(mut used) = own.take()
        && !used.is_closed().await
    {
        match used.exchange(outgoing, authorization.clone(), Keep::Nothing).await {
            Ok(answer) => {
                *own = Some(used);
                return Ok(answer);
            }
            Err(failed) if failed.is_unsent => {}
            Err(failed) => return Err(failed),
        }
    }
    let mut fresh = lines.dialer.http1(&lines.received).await?;
    lines.opened.set(lines.opened.get() + 1);
    let answer = fresh.exchange(outgoing, authorization, Keep::Nothing).await?;
    *own = Some(fresh);
    Ok(answer)
}

impl Shared {
    async fn exchange(
        &self,
        lines: &Lines,
        outgoing: &Outgoing,
        authorization: Option<HeaderValue>,
    ) -> Result<Answer, Failed> {
        let (number, connection) = self.connection(lines).await?;
        let failed = match connection.exchange(outgoing, authorization.clone(), Keep::Nothing).await {
            Ok(answer) => return Ok(answer),
            Err(failed) => failed,
        };
        // A stream that was reset leaves the connection to the others; one that cannot be begun does not.
        if !failed.is_unsent && failed.fault != Fault::Protocol {
            return Err(failed);
        }
        self.forget(number).await;
        if !failed.is_unsent {
            return Err(failed);
        }
        let (_, connection) = self.connection(lines).await?;
        connection.exchange(outgoing, authorization, Keep::Nothing).await
    }

    async fn connection(&self, lines: &Lines) -> Result<(u64, Http2), Failed> {
        // Whoever comes first makes the connection, and the others wait for it.
        let mut place = self.0.lock().await;
        if let Some(there) = &*place {
            return Ok(there.clone());
        }
        let made = (lines.opened.get(), lines.dialer.http2(&lines.received).await?);
        lines.opened.set(made.0 + 1);
        *place = Some(made.clone());
        Ok(made)
    }

    async fn forget(&self, number: u64) {
        let mut place = self.0.lock().await;
        if place.as_ref().is_some_and(|(other, _)| *other == number) {
            *place = None;
        }
    }
}
