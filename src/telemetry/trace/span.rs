//! The span of one request.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use http::Method;

use super::{Parent, Tracer};
use crate::base::reason::Reason;

/// What is known of a request when its span begins.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The method.
    pub method: Method,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// The host.
    pub host: String,
    /// The path without the query.
    pub path: String,
    /// The client's address.
    pub client: IpAddr,
    /// The id that the client and the upstream know it by.
    pub request_id: String,
}

/// The span of a request that has not ended.
#[derive(Debug)]
pub struct Span {
    tracer: Rc<Tracer>,
    data: Data,
}

/// What is exported of a span.
#[derive(Debug)]
pub(super) struct Data {
    pub(super) trace: u128,
    pub(super) id: u64,
    pub(super) parent: Option<u64>,
    /// In nanoseconds since 1970.
    pub(super) start_ns: u64,
    pub(super) duration: Duration,
    pub(super) facts: Facts,
    /// The route's name.
    pub(super) route: Option<String>,
    /// The upstream's name.
    pub(super) upstream: Option<String>,
    pub(super) upstream_duration: Option<Duration>,
    /// 0 when none was sent.
    pub(super) status: u16,
    pub(super) reason: Option<Reason>,
}

impl Span {
    pub(super) fn new(tracer: &Rc<Tracer>, parent: Option<u64>, own: Parent, facts: Facts) -> Self {
        let data = Data {
            trace: own.trace,
            id: own.span,
            parent,
            start_ns: tracer.clock.now_unix_ns(),
            duration: Duration::ZERO,
            facts,
            route: None,
            upstream: None,
            upstream_duration: None,
            status: 0,
            reason: None,
        };
        Self { tracer: Rc::clone(tracer), data }
    }

    /// The route's name.
    pub fn routed(&mut self, name: &str) {
        self.data.route = Some(name.to_owned());
    }

    /// The upstream's name.
    pub fn upstream(&mut self, name: &str) {
        self.data.upstream = Some(name.to_owned());
    }

    /// Why the request was refused.
    pub fn refused(&mut self, reason: Option<Reason>) {
        self.data.reason = reason;
    }

    /// The status that is sent.
    pub fn answered(&mut self, status: u16) {
        self.data.status = status;
    }

    /// Ends the span of a request that took so long, and so long to the head of the upstream's answer.
    pub fn end(mut self, duration: Duration, upstream_duration: Option<Duration>) {
        (self.data.duration, self.data.upstream_duration) = (duration, upstream_duration);
        self.tracer.keep(self.data);
    }
}
