//! What was counted, and what must not be.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;

use crate::people::Ticket;

/// How many faults are told in words.
const MAX_TOLD: usize = 20;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Count {
    /// Requests that were sent whole.
    Sent,
    /// Whole answers with the right nonce and the right user.
    Right,
    /// Answers with the nonce, the user or the body of somebody else; also requests that the upstream saw so.
    Wrong,
    /// Tokens that passed after their session's end had been answered.
    Revived,
    /// Tokens that were refused after their session's end had been answered.
    Refused,
    /// Requests with POST that reached an upstream twice.
    Twice,
    /// Requests with POST that reached an upstream.
    Posts,
    /// Answers that nothing here explains.
    Unexpected,
    /// Answers that did not come in time.
    Stuck,
    /// 502, 503 and 504.
    Unavailable,
    /// Requests whose connection or stream ended before the end of the answer.
    Broken,
    /// Requests that the client broke off in the middle of its body or of the answer.
    Cut,
    /// Upstreams that were killed.
    Killed,
    /// Refreshes that were answered.
    Refreshed,
    /// Logouts that were answered.
    Revoked,
    /// Right messages on `WebSocket`s.
    Messages,
}

const COUNTS: usize = Count::Messages as usize + 1;

/// How a client talks to the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// HTTP/1.1, one request after the other.
    KeepAlive,
    /// HTTP/1.1, several requests at once.
    Pipelined,
    /// HTTP/2, many streams.
    Http2,
    /// The opening of a WebSocket.
    WebSocket,
}

pub(crate) const WAYS: [Way; 4] = [Way::KeepAlive, Way::Pipelined, Way::Http2, Way::WebSocket];

/// The counts of all clients and upstreams.
#[derive(Default)]
pub(crate) struct Ledger {
    counts: [AtomicU64; COUNTS],
    ways: [[AtomicU64; WAYS.len()]; 2],
    refusals: Mutex<BTreeMap<String, u64>>,
    told: Mutex<Vec<String>>,
}

/// The counts at one time, or between two.
#[derive(Clone, Copy)]
pub(crate) struct Counts([u64; COUNTS]);

impl Counts {
    pub(crate) fn of(&self, count: Count) -> u64 {
        self.0[count as usize]
    }

    pub(crate) fn since(&self, before: &Self) -> Self {
        Self(std::array::from_fn(|place| self.0[place] - before.0[place]))
    }
}

impl Ledger {
    pub(crate) fn add(&self, count: Count) {
        self.counts[count as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts(std::array::from_fn(|place| self.counts[place].load(Ordering::SeqCst)))
    }

    /// Counts a fault and tells of it in words.
    pub(crate) fn fault(&self, count: Count, words: impl FnOnce() -> String) {
        self.add(count);
        let mut told = self.told.lock().unwrap();
        if told.len() < MAX_TOLD {
            told.push(format!("{count:?}: {}", words()));
        }
    }

    /// The words of the faults since the last time.
    pub(crate) fn take_told(&self) -> Vec<String> {
        std::mem::take(&mut *self.told.lock().unwrap())
    }

    /// Right answers of one way of talking, in the clear or over TLS.
    pub(crate) fn right_by(&self, tls: bool, way: Way) -> u64 {
        self.ways[usize::from(tls)][way as usize].load(Ordering::Relaxed)
    }

    /// Judges a whole answer.
    pub(crate) fn judge(&self, ticket: &Ticket, answer: &Answer) {
        let said = || {
            let body = String::from_utf8_lossy(&answer.body[..answer.body.len().min(160)]).into_owned();
            format!("{} got {} with {:?} and {body:?}", ticket.describe(), answer.status, answer.nonce)
        };
        match answer.status {
            200 | 101 if ticket.ended_before => self.fault(Count::Revived, said),
            200 if answer.nonce.as_deref() == Some(ticket.nonce.as_str())
                && answer.body == ticket.expected().as_bytes() =>
            {
                self.right(ticket);
            }
            101 if answer.nonce.as_deref() == Some(ticket.nonce.as_str()) => self.right(ticket),
            200 | 101 => self.fault(Count::Wrong, said),
            401 if ticket.ended_before => self.add(Count::Refused),
            401 if ticket.session.ends() => {}
            502..=504 if !ticket.ended_before => self.unavailable(answer),
            _ => self.fault(Count::Unexpected, said),
        }
    }

    fn unavailable(&self, answer: &Answer) {
        self.add(Count::Unavailable);
        let problem: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let reason = format!("{} {}", answer.status, problem["reason"].as_str().unwrap_or("of the upstream"));
        *self.refusals.lock().unwrap().entry(reason).or_default() += 1;
    }

    /// Why requests were refused since the last time, and how many.
    pub(crate) fn take_refusals(&self) -> BTreeMap<String, u64> {
        std::mem::take(&mut *self.refusals.lock().unwrap())
    }

    fn right(&self, ticket: &Ticket) {
        self.add(Count::Right);
        self.ways[usize::from(ticket.tls)][ticket.way as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// An answer as far as it is judged.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The nonce of the request, as the upstream saw it.
    pub(crate) nonce: Option<String>,
    pub(crate) body: Vec<u8>,
}
