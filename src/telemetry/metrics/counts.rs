//! What one data-plane thread has counted.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::Method;

use super::count::{Count, Histogram, absorb};
use crate::base::reason::Reason;

/// The methods that are told apart.
pub const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other"];
/// The classes of a status; `none` is a request that was never answered.
pub const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];
/// The kinds of streams.
pub const STREAMS: [&str; 3] = ["websocket", "events", "grpc"];
/// Most token routes that can be told apart.
pub(super) const ENDPOINTS: usize = 8;
/// How many reasons there are.
const REASONS: usize = Reason::ALL.len();

/// A number for each reason.
#[derive(Debug)]
pub struct ByReason([Count; REASONS]);

impl Default for ByReason {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Count::default()))
    }
}

impl ByReason {
    /// Counts one.
    pub fn add(&self, reason: Reason) {
        if let Some(count) = self.0.get(reason as usize) {
            count.add(1);
        }
    }

    /// Those that have occurred.
    pub fn iter(&self) -> impl Iterator<Item = (Reason, u64)> {
        let counted = Reason::ALL.into_iter().zip(self.0.iter().map(Count::get));
        counted.filter(|(_, count)| *count > 0)
    }

    fn absorb(&self, other: &Self) {
        absorb(&self.0, &other.0);
    }
}

/// What belongs to one route.
#[derive(Debug, Default)]
pub struct RouteCounts {
    /// Requests by method and class of the status.
    requests: [[Count; CLASSES.len()]; METHODS.len()],
    /// Refusals.
    pub refusals: ByReason,
    /// What would have been refused if the route did not only report.
    pub reported: ByReason,
    /// From the head of a request to the end of its answer.
    pub duration: Histogram,
}

impl RouteCounts {
    /// Counts a request.
    pub(super) fn add(&self, method: usize, class: usize) {
        if let Some(count) = self.requests.get(method).and_then(|classes| classes.get(class)) {
            count.add(1);
        }
    }

    /// Requests that there were: method, class, how many.
    pub fn requests(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        let methods = METHODS.into_iter().zip(&self.requests);
        let each = methods.flat_map(|(method, classes)| {
            let classes = CLASSES.into_iter().zip(classes);
            classes.map(move |(class, count)| (method, class, count.get()))
        });
        each.filter(|(.., count)| *count > 0)
    }

    fn absorb(&self, other: &Self) {
        for (own, other) in self.requests.iter().zip(&other.requests) {
            absorb(own, other);
        }
        self.refusals.absorb(&other.refusals);
        self.reported.absorb(&other.reported);
        self.duration.absorb(&other.duration);
    }
}

/// What belongs to one upstream.
#[derive(Debug, Default)]
pub struct UpstreamCounts {
    requests: [Count; CLASSES.len()],
    /// From sending a request to the head of its answer.
    pub duration: Histogram,
}

impl UpstreamCounts {
    /// Counts a request by what its client was answered.
    pub(super) fn add(&self, class: usize) {
        if let Some(count) = self.requests.get(class) {
            count.add(1);
        }
    }

    /// Requests that there were: class, how many.
    pub fn requests(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let each = CLASSES.into_iter().zip(self.requests.iter().map(Count::get));
        each.filter(|(_, count)| *count > 0)
    }

    fn absorb(&self, other: &Self) {
        absorb(&self.requests, &other.requests);
        self.duration.absorb(&other.duration);
    }
}

/// What belongs to one token route.
#[derive(Debug, Default)]
pub struct EndpointCounts {
    /// Requests that got what they asked for.
    pub served: Count,
    /// The others.
    pub refused: ByReason,
}

/// What one data-plane thread has counted, or the sum of what all have.
#[derive(Debug, Default)]
pub struct Counts {
    routes: Named<RouteCounts>,
    upstreams: Named<UpstreamCounts>,
    pub(super) endpoints: [EndpointCounts; ENDPOINTS],
    /// Requests that have begun.
    pub begun: Count,
    /// Requests that have ended.
    pub ended: Count,
    /// Requests with a user that were permitted.
    pub allowed: Count,
    /// Requests without a user that were permitted.
    pub anonymous: Count,
    /// Requests that were refused for who sent them, or because nobody could tell.
    pub unauthorised: ByReason,
    /// From the head of a request to its sending to the upstream.
    pub overhead: Histogram,
    pub(super) streams_opened: [Count; STREAMS.len()],
    pub(super) streams_closed: [Count; STREAMS.len()],
}

/// Counts under names. A thread looks one up once and keeps it; the lock is taken then, and by whoever reads all of them.
#[derive(Debug)]
struct Named<T>(Mutex<BTreeMap<Box<str>, Arc<T>>>);

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Default> Named<T> {
    fn all(&self) -> MutexGuard<'_, BTreeMap<Box<str>, Arc<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, name: &str) -> Arc<T> {
        Arc::clone(self.all().entry(name.into()).or_default())
    }

    fn absorb(&self, other: &Self, absorb: impl Fn(&T, &T)) {
        for (name, other) in other.all().iter() {
            absorb(&self.of(name), other);
        }
    }

    fn listed(&self) -> Vec<(Box<str>, Arc<T>)> {
        self.all().iter().map(|(name, counts)| (name.clone(), Arc::clone(counts))).collect()
    }
}

impl Counts {
    /// What belongs to the route of this name; the empty name is no route.
    pub(super) fn route(&self, name: &str) -> Arc<RouteCounts> {
        self.routes.of(name)
    }

    /// What belongs to the upstream of this name.
    pub(super) fn upstream(&self, name: &str) -> Arc<UpstreamCounts> {
        self.upstreams.of(name)
    }

    /// Every route that was used, in the order of the names.
    pub fn routes(&self) -> Vec<(Box<str>, Arc<RouteCounts>)> {
        self.routes.listed()
    }

    /// Every upstream that was used, in the order of the names.
    pub fn upstreams(&self) -> Vec<(Box<str>, Arc<UpstreamCounts>)> {
        self.upstreams.listed()
    }

    /// What belongs to the token route at this place.
    pub fn endpoint(&self, place: usize) -> Option<&EndpointCounts> {
        self.endpoints.get(place)
    }

    /// Streams that are open: kind, how many.
    pub fn open_streams(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let ends = self.streams_opened.iter().zip(&self.streams_closed);
        let open = ends.map(|(opened, closed)| opened.get().saturating_sub(closed.get()));
        STREAMS.into_iter().zip(open)
    }

    /// Adds what another one has counted. Nobody else may add to this one meanwhile.
    pub(super) fn absorb(&self, other: &Self) {
        self.routes.absorb(&other.routes, RouteCounts::absorb);
        self.upstreams.absorb(&other.upstreams, UpstreamCounts::absorb);
        for (own, other) in self.endpoints.iter().zip(&other.endpoints) {
            own.served.add(other.served.get());
            own.refused.absorb(&other.refused);
        }
        // What has ended is read first: it has begun before, so that never more have ended than begun.
        self.ended.add(other.ended.get());
        self.begun.add(other.begun.get());
        self.allowed.add(other.allowed.get());
        self.anonymous.add(other.anonymous.get());
        self.unauthorised.absorb(&other.unauthorised);
        self.overhead.absorb(&other.overhead);
        absorb(&self.streams_closed, &other.streams_closed);
        absorb(&self.streams_opened, &other.streams_opened);
    }
}

/// The place of a method in [`METHODS`].
pub(super) fn method_place(method: &Method) -> usize {
    match *method {
        Method::GET => 0,
        Method::HEAD => 1,
        Method::POST => 2,
        Method::PUT => 3,
        Method::PATCH => 4,
        Method::DELETE => 5,
        Method::OPTIONS => 6,
        _ => 7,
    }
}

/// The place of a status in [`CLASSES`]; 0 is none.
pub(super) fn class_place(status: u16) -> usize {
    usize::from(status / 100).min(CLASSES.len() - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_stand_at_their_places() {
        for (place, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, place);
            let counts = ByReason::default();
            counts.add(reason);
            assert_eq!(counts.iter().collect::<Vec<_>>(), [(reason, 1)]);
        }
    }

    #[test]
    fn a_method_of_somebodys_own_is_just_another_one() {
        let place = |name: &str| method_place(&Method::from_bytes(name.as_bytes()).unwrap());
        for (at, name) in METHODS.into_iter().enumerate().take(7) {
            assert_eq!(place(name), at);
        }
        for name in ["CONNECT", "get", "PROPFIND", "X-0123456789"] {
            assert_eq!(METHODS[place(name)], "other");
        }
        for (status, class) in
            [(0, "none"), (101, "1xx"), (204, "2xx"), (308, "3xx"), (404, "4xx"), (599, "5xx")]
        {
            assert_eq!(CLASSES[class_place(status)], class);
        }
        assert_eq!(CLASSES[class_place(999)], "5xx");
    }
}
