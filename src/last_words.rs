//! Answers to messages that never became a request: a head that cannot be read, is too large or did not come in time.

use std::rc::Rc;

use crate::base::ids::X_REQUEST_ID;
use crate::base::reason::Reason;
use crate::connection::ClientConnection;
use crate::http::problem::Refusal;
use crate::net::guarded::{LastWords, Unread};
use crate::telemetry::access::Ended;
use crate::worker::Worker;

/// Words the last answer on a connection, and sees that it is recorded.
pub struct LastAnswer {
    /// The thread.
    pub worker: Rc<Worker>,
    /// The connection that ends.
    pub connection: Rc<ClientConnection>,
}

impl LastWords for LastAnswer {
    fn answer(&self, why: Unread) -> Vec<u8> {
        let refusal = refusal(why);
        let id = self.worker.next_request_id();
        let id = id.to_str().unwrap_or_default();
        let generation = self.worker.generation();
        let (headers, body) = refusal.render(id, &generation.realm);
        let mut account = generation.begin_last_account();
        account.refused(Some(refusal.reason()));
        account.explain(|| refusal.grounds());
        account.answered(refusal.status().as_u16());
        account.note(|record| {
            id.clone_into(&mut record.request_id);
            record.client = Some(self.connection.peer.address());
            record.sent_bytes = body.len() as u64;
            record.ended = Ended::Complete;
        });
        let mut answer = format!("HTTP/1.1 {}\r\n{X_REQUEST_ID}: {id}\r\n", refusal.status()).into_bytes();
        for (name, value) in &headers {
            answer.extend_from_slice(name.as_str().as_bytes());
            answer.extend_from_slice(b": ");
            answer.extend_from_slice(value.as_bytes());
            answer.extend_from_slice(b"\r\n");
        }
        answer.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
        answer.extend_from_slice(&body);
        answer
    }
}

fn refusal(why: Unread) -> Refusal {
    let refusal = match why {
        Unread::TooSlow => Refusal::new(Reason::RequestTimeout, "The request did not come in time."),
        Unread::Malformed(414) => Refusal::new(Reason::TargetTooLong, "The request target is too long."),
        Unread::Malformed(431) => Refusal::new(Reason::HeaderTooLarge, "The header section is too large."),
        Unread::Malformed(_) => {
            Refusal::new(Reason::RequestMalformed, "The request is not well-formed HTTP.")
        }
    };
    refusal.closing()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_librarys_status_becomes_a_reason() {
        for (status, reason) in [
            (400, Reason::RequestMalformed),
            (414, Reason::TargetTooLong),
            (431, Reason::HeaderTooLarge),
            (505, Reason::RequestMalformed),
        ] {
            assert_eq!(refusal(Unread::Malformed(status)).reason(), reason);
        }
        assert_eq!(refusal(Unread::TooSlow).reason(), Reason::RequestTimeout);
    }
}
