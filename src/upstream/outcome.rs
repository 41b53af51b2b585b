//! What the outcome of requests says of targets: who fails too often in a row is given no more of them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::StatusCode;

use super::UpstreamError;
use super::balance::Pools;
use super::connect::ConnectError;
use super::endpoints::Endpoints;
use super::http1::Http1Error;
use super::pool::Pool;
use super::readings::UpstreamCounts;
use super::shared::{SharedTarget, SharedUpstream};
use crate::net::deadline::{self, Progress};

impl SharedUpstream {
    /// Notes that a target has answered.
    pub(super) fn answered(&self, endpoints: &Endpoints, target: &SharedTarget, status: StatusCode) {
        if !endpoints.is_choice() {
            return;
        }
        if self.settings.availability.ejection.statuses.contains(&status.as_u16()) {
            self.note_failure(endpoints, target, &format_args!("it answered {}", status.as_u16()));
        } else if target.standing.succeeded() {
            tracing::info!(upstream = self.name(), upstream_target = %target, "a target is used again: it has answered");
        }
    }

    /// Notes that a request to a target came to nothing.
    pub(super) fn failed(&self, endpoints: &Endpoints, target: &SharedTarget, error: &UpstreamError) {
        let blame = Blame::of(error);
        if blame == Blame::Unreachable && target.has_name() {
            self.doubtful.store(true, Ordering::Release);
        }
        if blame != Blame::Nobody && endpoints.is_choice() {
            self.note_failure(endpoints, target, error);
        }
    }

    /// Ejects a target that has failed often enough in a row, unless too many are out already. One is always left.
    fn note_failure(&self, endpoints: &Endpoints, target: &SharedTarget, cause: &dyn fmt::Display) {
        let ejection = &self.settings.availability.ejection;
        let Some(most) = ejection.failures else { return };
        if target.standing.failed() < most.get() || target.standing.is_ejected() {
            return;
        }
        let others = || endpoints.all.iter().filter(|other| !std::ptr::eq(Arc::as_ptr(other), target));
        let ejected = others().filter(|other| other.standing.is_ejected()).count();
        let percent = ejection.max_ejected_percent as usize;
        // One may always be out, unless none may.
        let within = percent > 0 && (ejected == 0 || (ejected + 1) * 100 <= endpoints.all.len() * percent);
        let one_is_left = others().any(|other| other.standing.share() > 0);
        if within && one_is_left && target.standing.eject() {
            UpstreamCounts::count(&self.counts.ejections);
            tracing::warn!(upstream = self.name(), upstream_target = %target, %cause, "a target is ejected: it has failed too often in a row");
        }
    }
}

/// Whose fault it is that there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blame {
    /// The target cannot be reached.
    Unreachable,
    /// It can be reached and does not answer.
    Silent,
    /// Nobody's, the client's or the gateway's; or the target has answered, if badly.
    Nobody,
}

impl Blame {
    fn of(error: &UpstreamError) -> Self {
        match error {
            UpstreamError::Connect(
                ConnectError::TimedOut
                | ConnectError::NotFound(_)
                | ConnectError::Refused(_)
                | ConnectError::Tls(_)
                | ConnectError::Http2(_),
            ) => Self::Unreachable,
            UpstreamError::Broken(Http1Error::Io(_) | Http1Error::Closed) => Self::Silent,
            UpstreamError::BrokenStream(error) if error.is_io() || error.is_go_away() => Self::Silent,
            UpstreamError::Connect(ConnectError::Exhausted(_))
            | UpstreamError::NoTarget
            | UpstreamError::QueueFull
            | UpstreamError::QueueTimeout
            | UpstreamError::Broken(Http1Error::Malformed(_) | Http1Error::Body(_))
            | UpstreamError::BrokenStream(_)
            | UpstreamError::Unacceptable(_) => Self::Nobody,
        }
    }
}

/// Notes, when an attempt is given up because its time is over, that its target did not answer.
pub(super) struct Overdue<'a>(Option<Attempted<'a>>);

struct Attempted<'a> {
    upstream: &'a SharedUpstream,
    endpoints: &'a Endpoints,
    target: &'a SharedTarget,
    progress: &'a Progress,
}

impl<'a> Overdue<'a> {
    /// Watches an attempt; where there is no choice, nobody needs to know.
    pub(super) fn watch(
        upstream: &'a SharedUpstream,
        pools: &'a Pools,
        pool: &'a Pool,
        progress: &'a Progress,
    ) -> Self {
        let attempted = || {
            let (endpoints, target): (_, &Arc<SharedTarget>) = (&*pools.endpoints, pool.shared());
            Attempted { upstream, endpoints, target, progress }
        };
        Self(pools.endpoints.is_choice().then(attempted))
    }

    /// The attempt has an outcome.
    pub(super) fn over(mut self) {
        self.0 = None;
    }
}

impl Drop for Overdue<'_> {
    fn drop(&mut self) {
        if let Some(Attempted { upstream, endpoints, target, progress }) = self.0.take()
            && progress.overdue() == Some(deadline::Overdue::Answer)
            && !progress.is_uploading()
        {
            upstream.note_failure(endpoints, target, &"it did not answer in time");
        }
    }
}
