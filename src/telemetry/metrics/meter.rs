//! Counting on one thread.

use std::cell::OnceCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::Method;

use super::counts::{self, Counts, RouteCounts, UpstreamCounts};
use crate::base::reason::Reason;
use crate::config::Config;

/// The place of requests that have no route.
const NO_ROUTE: usize = 0;

/// What a data-plane thread counts with, for one configuration. What it has counted stays when another one follows.
#[derive(Debug)]
pub struct Meter {
    counts: Arc<Counts>,
    /// No route, then the token routes, then those of the configuration.
    routes: Vec<Slot<RouteCounts>>,
    first_route: usize,
    upstreams: Vec<Slot<UpstreamCounts>>,
}

/// Counts that are looked up when they are needed for the first time, so that what nobody uses takes no memory.
#[derive(Debug)]
struct Slot<T> {
    name: Box<str>,
    counts: OnceCell<Arc<T>>,
}

impl<T> Slot<T> {
    fn new(name: &str) -> Self {
        Self { name: name.into(), counts: OnceCell::new() }
    }
}

impl Meter {
    /// A meter of the thread with these counts. `endpoints` are the names of the token routes.
    pub fn new(counts: Arc<Counts>, config: &Config, endpoints: &[&str]) -> Self {
        let routes = config.routes.iter().map(|route| route.name.as_str());
        let named = [""].into_iter().chain(endpoints.iter().copied()).chain(routes);
        let upstreams = config.upstreams.iter().map(|upstream| Slot::new(&upstream.name)).collect();
        Self { counts, routes: named.map(Slot::new).collect(), first_route: 1 + endpoints.len(), upstreams }
    }

    fn route(&self, place: usize) -> Option<&RouteCounts> {
        let slot = self.routes.get(place)?;
        Some(slot.counts.get_or_init(|| self.counts.route(&slot.name)))
    }

    fn upstream(&self, place: usize) -> Option<&UpstreamCounts> {
        let slot = self.upstreams.get(place)?;
        Some(slot.counts.get_or_init(|| self.counts.upstream(&slot.name)))
    }
}

/// A stream that a request has become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamKind {
    /// A WebSocket.
    WebSocket,
    /// Server-sent events.
    Events,
    /// gRPC.
    Grpc,
}

/// What is counted of one request, at its end.
#[derive(Debug)]
pub(in crate::telemetry) struct Tally {
    meter: Rc<Meter>,
    method: usize,
    route: usize,
    upstream: Option<usize>,
    endpoint: Option<usize>,
    /// Whether a user has sent it, and not just anybody.
    pub(in crate::telemetry) has_user: bool,
    pub(in crate::telemetry) permitted: bool,
    stream: Option<StreamKind>,
    /// Why it was refused.
    pub(in crate::telemetry) reason: Option<Reason>,
    /// The status that was sent; 0 when none was.
    pub(in crate::telemetry) status: u16,
}

/// How long a request took.
#[derive(Clone, Copy, Debug)]
pub(in crate::telemetry) struct Took {
    /// From its head to the end of its answer.
    pub(in crate::telemetry) whole: Duration,
    /// From its head to its sending to an upstream.
    pub(in crate::telemetry) before: Option<Duration>,
    /// From its sending to the head of the upstream's answer.
    pub(in crate::telemetry) upstream: Option<Duration>,
}

impl Tally {
    pub(in crate::telemetry) fn begin(meter: &Rc<Meter>, method: Option<&Method>) -> Self {
        meter.counts.begun.add(1);
        Self {
            meter: Rc::clone(meter),
            method: method.map_or(counts::METHODS.len() - 1, counts::method_place),
            route: NO_ROUTE,
            upstream: None,
            endpoint: None,
            has_user: false,
            permitted: false,
            stream: None,
            reason: None,
            status: 0,
        }
    }

    /// The place of its route in the configuration.
    pub(in crate::telemetry) fn routed(&mut self, place: usize) {
        self.route = self.meter.first_route + place;
    }

    /// It is for a token route.
    pub(in crate::telemetry) fn endpoint(&mut self, place: usize) {
        self.route = NO_ROUTE + 1 + place;
        self.endpoint = Some(place);
    }

    /// The place of its upstream in the configuration.
    pub(in crate::telemetry) fn upstream(&mut self, place: Option<usize>) {
        self.upstream = place;
    }

    /// What its route would have refused it for, if the route did not only report.
    pub(in crate::telemetry) fn reported(&self, reason: Reason) {
        if let Some(route) = self.meter.route(self.route) {
            route.reported.add(reason);
        }
    }

    pub(in crate::telemetry) fn streams(&mut self, kind: StreamKind) {
        if self.stream.is_none()
            && let Some(opened) = self.meter.counts.streams_opened.get(kind as usize)
        {
            opened.add(1);
            self.stream = Some(kind);
        }
    }

    /// Counts the request, which has ended.
    pub(in crate::telemetry) fn end(&self, took: Took) {
        let counts = self.meter.counts.as_ref();
        let class = counts::class_place(self.status);
        if let Some(route) = self.meter.route(self.route) {
            route.add(self.method, class);
            if let Some(reason) = self.reason {
                route.refusals.add(reason);
            }
            if self.stream.is_none() {
                route.duration.observe(took.whole);
            }
        }
        if let Some(upstream) = self.upstream.and_then(|place| self.meter.upstream(place)) {
            upstream.add(class);
            if let Some(time) = took.upstream {
                upstream.duration.observe(time);
            }
        }
        if let Some(time) = took.before {
            counts.overhead.observe(time);
        }
        match (self.permitted, self.reason) {
            (true, _) if self.has_user => counts.allowed.add(1),
            (true, _) => counts.anonymous.add(1),
            (false, Some(reason)) if self.endpoint.is_none() && reason.is_about_the_caller() => {
                counts.unauthorised.add(reason);
            }
            (false, _) => {}
        }
        if let Some(endpoint) = self.endpoint.and_then(|place| counts.endpoints.get(place)) {
            match self.reason {
                Some(reason) => endpoint.refused.add(reason),
                None => endpoint.served.add(1),
            }
        }
        if let Some(closed) = self.stream.and_then(|kind| counts.streams_closed.get(kind as usize)) {
            closed.add(1);
        }
        counts.ended.add(1);
    }
}
