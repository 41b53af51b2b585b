//! Answers to messages that never became a request: a head that cannot be read, is too large or did not come in time.

use crate::base::ids::X_REQUEST_ID;
use crate::base::reason::Reason;
use crate::connection::ClientConnection;
use crate::http::http1::Unread;
use crate::http::problem::Refusal;
use crate::telemetry::access::{Ended, Text};
use crate::worker::Worker;

/// Words the last answer on a connection, and sees that it is recorded.
pub fn answer(worker: &Worker, connection: &ClientConnection, why: Unread) -> Vec<u8> {
    let refusal = refusal(why);
    let id_value = worker.next_request_id();
    let id = id_value.to_str().unwrap_or_default();
    let generation = worker.generation();
    let (headers, body) = refusal.render(id, &generation.realm);
    let mut account = generation.begin_last_account();
    account.refused(Some(refusal.reason()));
    account.explain(|| refusal.grounds());
    account.answered(refusal.status().as_u16());
    account.note(|record| {
        record.request_id = Text::of(&id_value);
        record.client = Some(connection.peer.address());
        record.sent_bytes = body.len() as u64;
        record.ended = Ended::Complete;
    });
    let mut answer = format!("HTTP/1.1 {}\r\n{X_REQUEST_ID}: {id}\r\n", refusal.status()).into_bytes();
    for (name, value) in headers.iter() {
        answer.extend_from_slice(name.as_str().as_bytes());
        answer.extend_from_slice(b": ");
        answer.extend_from_slice(value.as_bytes());
        answer.extend_from_slice(b"\r\n");
    }
    answer.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
    answer.extend_from_slice(&body);
    answer
}

fn refusal(why: Unread) -> Refusal {
    let refusal = match why {
        Unread::TooSlow => Refusal::new(Reason::RequestTimeout, "The request did not come in time."),
        Unread::TargetTooLong => Refusal::new(Reason::TargetTooLong, "The request target is too long."),
        Unread::TooLarge => Refusal::new(Reason::HeaderTooLarge, "The header section is too large."),
        Unread::LineEndBare => Refusal::new(Reason::RequestMalformed, "A line does not end with CRLF."),
        Unread::Malformed => Refusal::new(Reason::RequestMalformed, "The request is not well-formed HTTP."),
    };
    refusal.closing()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_reason_and_ends_the_connection() {
        for (unread, reason) in [
            (Unread::Malformed, Reason::RequestMalformed),
            (Unread::LineEndBare, Reason::RequestMalformed),
            (Unread::TargetTooLong, Reason::TargetTooLong),
            (Unread::TooLarge, Reason::HeaderTooLarge),
            (Unread::TooSlow, Reason::RequestTimeout),
        ] {
            assert_eq!(refusal(unread).reason(), reason);
            let (headers, _) = refusal(unread).render("1", "");
            assert_eq!(headers.get("connection").unwrap(), "close");
        }
    }
}
