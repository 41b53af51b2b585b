//! What is to be done, as the command line or a test says it.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};

use super::dial::Protocol;
use super::endpoint::Endpoint;
use super::pace::Pace;
use super::people::Person;
use super::trust::Trust;
use crate::base::secret::Secret;

/// Most connections and requests at a time of one run.
pub const MAX_LANES: usize = 100_000;

/// A load test.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What is tested.
    pub url: Endpoint,
    /// The same without the gateway, to compare with; it is never sent a token.
    pub direct: Option<Endpoint>,
    /// The method of every request.
    pub method: Method,
    /// Fields of requests to `url`.
    pub fields: HeaderMap,
    /// Fields of requests to `direct`.
    pub direct_fields: HeaderMap,
    /// The body of every request; empty is none.
    pub body: Bytes,
    /// What is spoken.
    pub protocol: Protocol,
    /// Whom to believe over TLS.
    pub trust: Trust,
    /// Who calls.
    pub callers: Callers,
    /// How fast.
    pub pace: Pace,
    /// Connections, of all threads.
    pub connections: usize,
    /// Requests at a time on each connection of HTTP/2.
    pub streams: usize,
    /// Threads; `None` is as many as do not take the processors away from a server on the same machine.
    pub threads: Option<usize>,
    /// How long requests are counted, for each URL.
    pub duration: Duration,
    /// How long requests are made before, in each round.
    pub warm_up: Duration,
    /// How long a request may take.
    pub timeout: Duration,
    /// How often the two URLs take turns.
    pub rounds: NonZeroU32,
}

/// Whose tokens requests carry.
#[derive(Clone, Debug)]
pub enum Callers {
    /// Nobody's.
    Nobody,
    /// These, which are not refreshed.
    Tokens(Vec<Secret>),
    /// Those of users who log in.
    Users {
        /// The users.
        people: Vec<Arc<Person>>,
        /// How many sessions they have together.
        sessions: usize,
        /// Where they log in.
        login: Endpoint,
        /// Where they refresh.
        refresh: Endpoint,
    },
}

impl Plan {
    /// How long each round counts.
    pub fn round_duration(&self) -> Duration {
        self.duration / self.rounds()
    }

    /// One round where there is nothing to take turns with.
    pub fn rounds(&self) -> u32 {
        if self.direct.is_some() { self.rounds.get() } else { 1 }
    }
}
